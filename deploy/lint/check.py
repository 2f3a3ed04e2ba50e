#!/usr/bin/env python3
"""What no schema can say about deploy/: that its parts fit each other and the code.

Usage: check.py files                         the Dockerfile, compose.yaml, the dashboard, the adapter's rules
       check.py manifests RENDERED.yaml ...   the chart, as rendered

Every finding is printed; the exit code is 1 if there is any.
"""
import json
import pathlib
import re
import sys

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm/millstream"
DASHBOARD = CHART / "dashboards/millstream.json"

findings = []


def expect(truth, finding):
    if not truth:
        findings.append(finding)


def rust_sources():
    for room in ("connectors", "engine", "state", "proto"):
        for path in (ROOT / room).rglob("*.rs"):
            if "tests" not in path.parts and path.name != "tests.rs":
                yield path.read_text()


# ---- files ----------------------------------------------------------------------------------------------------------


def check_metrics():
    """The dashboard and the autoscaler ask only for what the code publishes."""
    published = set()
    for source in rust_sources():
        published |= set(re.findall(r'"(millstream_[a-z0-9_]+)"', source))

    def known(text, where):
        for name in re.findall(r"\bmillstream_[a-z0-9_]+", text):
            expect(name in published, f"{where}: no code publishes {name}")

    board = json.loads(DASHBOARD.read_text())
    variables = {variable["name"] for variable in board["templating"]["list"]} | {"__rate_interval"}
    panels = board["panels"]
    expect(len({panel["id"] for panel in panels}) == len(panels), "dashboard: two panels have one id")
    for variable in board["templating"]["list"]:
        known(variable.get("definition", ""), f"dashboard, variable {variable['name']}")
    taken = {}
    for panel in panels:
        where = f"dashboard, panel `{panel['title']}`"
        for target in panel.get("targets", []):
            known(target["expr"], where)
            for used in re.findall(r"\$\{?(\w+)", target["expr"]):
                expect(used in variables, f"{where}: the variable ${used} is not declared")
        grid = panel["gridPos"]
        for cell in ((x, y) for x in range(grid["x"], grid["x"] + grid["w"]) for y in range(grid["y"], grid["y"] + grid["h"])):
            expect(cell[0] < 24 and cell not in taken, f"{where}: lies over `{taken.get(cell, 'the right edge')}`")
            taken[cell] = panel["title"]

    rules = yaml.safe_load((DEPLOY / "prometheus-adapter.yaml").read_text())["rules"]["custom"]
    for rule in rules:
        known(rule["seriesQuery"], "prometheus-adapter.yaml")
    offered = {rule["name"]["as"] for rule in rules}
    scaling = yaml.safe_load((CHART / "values.yaml").read_text())["autoscaling"]
    for metric in ("busyMetric", "lagMetric"):
        expect(scaling[metric] in offered, f"values.yaml: {metric} {scaling[metric]} is not made by prometheus-adapter.yaml")


def check_dockerfile():
    """What is copied exists and is not ignored; what is built is a binary of ours."""
    text = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ")
    ignored = [line for line in (DEPLOY / "Dockerfile.dockerignore").read_text().split("\n") if line and line[0] != "#"]

    def in_context(path):
        verdict = True
        for rule in ignored:
            folder = rule.lstrip("!").removeprefix("**/")
            if path == folder or path.startswith(folder + "/"):
                verdict = rule.startswith("!")
        return verdict

    for arguments in re.findall(r"^COPY (.*)$", text, re.MULTILINE):
        *sources, _ = arguments.split()
        if sources[0].startswith("--from="):
            continue
        for source in sources:
            expect((ROOT / source).exists(), f"Dockerfile: COPY {source}: there is no such file")
            expect(in_context(source), f"Dockerfile: COPY {source}: Dockerfile.dockerignore leaves it out")
    workspace = (ROOT / "Cargo.toml").read_text()
    members = re.search(r"members = \[(.*?)\]", workspace, re.DOTALL)[1]
    for member in re.findall(r'"(.*?)"', members):
        expect(in_context(member), f"Dockerfile.dockerignore leaves out {member}, a crate of the workspace")
    binaries = set()
    for manifest in (ROOT / "engine").glob("*/Cargo.toml"):
        binaries |= set(re.findall(r'\[\[bin\]\]\s+name = "(.*?)"', manifest.read_text()))
    for binary in re.findall(r"--bin ([\w-]+)", text):
        expect(binary in binaries, f"Dockerfile: no crate has a binary {binary}; there are {', '.join(sorted(binaries))}")
    needed = re.search(r'^rust-version = "(.*)"', workspace, re.MULTILINE)[1]
    given = re.search(r"^ARG RUST_VERSION=(.*)$", text, re.MULTILINE)[1]
    expect(numbers(given) >= numbers(needed), f"Dockerfile: Rust {given} is older than {needed}, which Cargo.toml wants")


def command_line():
    """Commands, flags and environment variables that `engine` has, read off its argument structures."""
    commands, flags, variables = set(), set(), set()
    for path in (ROOT / "engine/server/src").rglob("*.rs"):
        text = path.read_text()
        for variants in re.findall(r"enum Command \{(.*?)^\}", text, re.DOTALL | re.MULTILINE):
            commands |= {name.lower() for name in re.findall(r"^    ([A-Z]\w+)", variants, re.MULTILINE)}
        for attributes, field in re.findall(r"#\[arg\((.*?)\)\]\s*(?:pub )?(\w+):", text, re.DOTALL):
            if "long" in attributes:
                named = re.search(r'long = "(.*?)"', attributes)
                flags.add("--" + (named[1] if named else field.replace("_", "-")))
    for source in rust_sources():
        variables |= set(re.findall(r'"(MILLSTREAM_[A-Z_]+)"', source))
    return commands, flags, variables


def check_command(arguments, variables, known, where):
    commands, flags, understood = known
    for variable in variables:
        if variable.startswith("MILLSTREAM_"):
            expect(variable in understood, f"{where}: no code reads {variable}")
    expect(arguments[0] in commands, f"{where}: `engine` has no command `{arguments[0]}`")
    for argument in arguments[1:]:
        if argument.startswith("--"):
            expect(argument.split("=")[0] in flags, f"{where}: `engine` has no {argument.split('=')[0]}")


def check_commands():
    """The image and compose.yaml start the engine with commands, flags and variables that it has."""
    known = command_line()
    text = (DEPLOY / "Dockerfile").read_text()
    variables = re.findall(r"(MILLSTREAM_\w+)=", text.split("\nFROM ")[-1])
    check_command(json.loads(re.search(r"^CMD (.*)$", text, re.MULTILINE)[1]), variables, known, "Dockerfile")
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    for name, service in compose["services"].items():
        if service["image"] == compose["x-engine"]["image"] and "entrypoint" not in service:
            check_command(service["command"], service["environment"], known, f"compose.yaml: {name}")


def numbers(version):
    return [int(part) for part in version.split(".")]


def check_chart_version():
    crates = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    expect(chart["appVersion"] == crates, f"Chart.yaml: appVersion is {chart['appVersion']}, the crates' version {crates}")


def check_compose():
    """Images have versions, ours and Kafka's are those of the code and the tests, and what is referred to exists."""
    crates = re.search(r'^version = "(.*)"', (ROOT / "Cargo.toml").read_text(), re.MULTILINE)[1]
    tested = re.search(r"<kafka.version>(.*)</kafka.version>", (ROOT / "scripts/kafka/pom.xml").read_text())[1]
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    expect(compose["x-engine"]["image"].endswith(f":-{crates}}}"), f"compose.yaml: the engine's image is not {crates}")
    for name, service in services.items():
        image = service["image"]
        expect(re.search(r":[^:]*\d", image), f"compose.yaml: {name}: the image {image} has no version")
        if "kafka" in image:
            expect(image.endswith(f":{tested}"), f"compose.yaml: {name}: {image}, but the tests run Kafka {tested}")
        for other in service.get("depends_on", []):
            expect(other in services, f"compose.yaml: {name} depends on {other}, which there is not")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("."):
                expect((DEPLOY / source).exists(), f"compose.yaml: {name}: there is no {source}")
            else:
                expect(source in compose["volumes"], f"compose.yaml: {name}: there is no volume {source}")


# ---- manifests ------------------------------------------------------------------------------------------------------


def check_manifests(file):
    path = file.name
    objects = [each for each in yaml.safe_load_all(file.read_text()) if each]
    by_kind = {}
    for each in objects:
        by_kind.setdefault(each["kind"], {})[each["metadata"]["name"]] = each
    expect(sum(map(len, by_kind.values())) == len(objects), f"{path}: two objects have one name")

    templates = {}  # name of a StatefulSet -> its pods' template
    for name, each in by_kind["StatefulSet"].items():
        templates[name] = each["spec"]["template"]
        where = f"{path}: StatefulSet {name}"
        check_pod(each["spec"]["template"]["spec"], by_kind, where, [
            claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])])
        selector = each["spec"]["selector"]["matchLabels"]
        expect(matches(selector, templates[name]), f"{where}: its selector does not match its own pods")
        service = by_kind["Service"].get(each["spec"]["serviceName"])
        expect(service and service["spec"].get("clusterIP") == "None", f"{where}: no headless service {each['spec']['serviceName']}")
    for name, pod in by_kind.get("Pod", {}).items():
        check_pod(pod["spec"], by_kind, f"{path}: Pod {name}", [], probes=False)

    def selected(selector):
        return [template for template in templates.values() if matches(selector.get("matchLabels", {}), template)]

    for name, each in by_kind["Service"].items():
        pods = selected({"matchLabels": each["spec"]["selector"]})
        expect(len(pods) == 1, f"{path}: Service {name} selects the pods of {len(pods)} StatefulSets, not of one")
        for port in each["spec"]["ports"]:
            offered = [given["name"] for pod in pods for given in ports_of(pod)]
            expect(port["targetPort"] in offered, f"{path}: Service {name}: its pods have no port {port['targetPort']}")
    for name, each in by_kind.get("PodDisruptionBudget", {}).items():
        expect(len(selected(each["spec"]["selector"])) == 1, f"{path}: PodDisruptionBudget {name} is not for one StatefulSet")
    for name, each in by_kind.get("NetworkPolicy", {}).items():
        pods = selected(each["spec"]["podSelector"])
        expect(pods, f"{path}: NetworkPolicy {name} selects no pods")
        for rule in each["spec"].get("ingress", []):
            for port in rule["ports"]:
                for pod in pods:
                    offered = [given["name"] for given in ports_of(pod)]
                    expect(port["port"] in offered, f"{path}: NetworkPolicy {name}: its pods have no port {port['port']}")
    for name, each in by_kind.get("HorizontalPodAutoscaler", {}).items():
        target = each["spec"]["scaleTargetRef"]["name"]
        expect(target in by_kind["StatefulSet"], f"{path}: HorizontalPodAutoscaler {name}: there is no {target}")
        expect("replicas" not in by_kind["StatefulSet"].get(target, {}).get("spec", {}),
               f"{path}: {target} sets its replicas, which the autoscaler would have to fight")
    for name, each in by_kind.get("ServiceMonitor", {}).items():
        scraped = [s for s in by_kind["Service"].values() if monitored(each["spec"]["selector"], s["metadata"]["labels"])]
        expect(len(scraped) == len(templates), f"{path}: ServiceMonitor {name} scrapes {len(scraped)} services, not each StatefulSet once")
        for endpoint in each["spec"]["endpoints"]:
            for service in scraped:
                expect(endpoint["port"] in [port["name"] for port in service["spec"]["ports"]],
                       f"{path}: ServiceMonitor {name}: {service['metadata']['name']} has no port {endpoint['port']}")
    for name, template in templates.items():
        arguments = [each for each in template["spec"]["containers"][0]["args"] if not each.startswith("--example=")]
        settings = by_kind["ConfigMap"][template["spec"]["containers"][0]["envFrom"][0]["configMapRef"]["name"]]["data"]
        check_command(arguments, settings, command_line(), f"{path}: {name}")
    check_coordinators(by_kind, path)


def check_pod(spec, by_kind, where, claims, probes=True):
    pod_security = spec["securityContext"]
    expect(pod_security.get("runAsNonRoot") and pod_security.get("runAsUser"), f"{where}: may run as root")
    expect(pod_security.get("seccompProfile", {}).get("type") == "RuntimeDefault", f"{where}: has no seccomp profile")
    expect(spec.get("automountServiceAccountToken") is False, f"{where}: is given a token for the API server")
    account = spec["serviceAccountName"]
    expect(account == "default" or account in by_kind.get("ServiceAccount", {}), f"{where}: there is no ServiceAccount {account}")
    volumes = {volume["name"] for volume in spec.get("volumes", [])} | set(claims)
    for volume in spec.get("volumes", []):
        expect("hostPath" not in volume, f"{where}: mounts a path of the node")
    for container in spec["containers"]:
        inside = f"{where}, container {container['name']}"
        security = container["securityContext"]
        expect(security.get("readOnlyRootFilesystem") is True, f"{inside}: may write to its image")
        expect(security.get("allowPrivilegeEscalation") is False, f"{inside}: may gain rights")
        expect(security.get("capabilities", {}).get("drop") == ["ALL"], f"{inside}: keeps capabilities")
        expect(re.search(r":[^:/]+$", container["image"]), f"{inside}: the image {container['image']} has no version")
        for amount in ("requests", "limits"):
            expect("memory" in container["resources"].get(amount, {}), f"{inside}: no memory in resources.{amount}")
        for mount in container["volumeMounts"]:
            expect(mount["name"] in volumes, f"{inside}: there is no volume {mount['name']}")
        for source in container.get("envFrom", []):
            if "configMapRef" in source:
                name = source["configMapRef"]["name"]
                expect(name in by_kind.get("ConfigMap", {}), f"{inside}: there is no ConfigMap {name}")
        if probes:
            named = {port["name"] for port in container["ports"]}
            for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
                asked = container.get(probe, {}).get("httpGet", {})
                expect(asked.get("path") == path and asked.get("port") in named, f"{inside}: its {probe} is not {path}")


def check_coordinators(by_kind, path):
    """Workers and clients are given the address of every coordinator there will be, and of no other."""
    (name, each), = [pair for pair in by_kind["StatefulSet"].items() if pair[0].endswith("-coordinator")]
    pods = {f"{name}-{n}.{each['spec']['serviceName']}" for n in range(each["spec"]["replicas"])}

    def hosts(addresses):
        return {re.sub(r"^http://([^.]+\.[^.]+)\..*:7070$", r"\1", address) for address in addresses.split(",")}

    for argument in each["spec"]["template"]["spec"]["containers"][0]["args"]:
        if argument.startswith("--advertise="):
            address = argument.split("=", 1)[1].replace("$(POD_NAME)", f"{name}-0")
            expect(hosts(address) <= pods, f"{path}: coordinators advertise {address}, the pods are {pods}")
    for other in by_kind["StatefulSet"].values():
        for argument in other["spec"]["template"]["spec"]["containers"][0]["args"]:
            if argument.startswith("--coordinator="):
                expect(hosts(argument.split("=", 1)[1]) == pods, f"{path}: workers are given {argument}, the pods are {pods}")
    for settings in by_kind["ConfigMap"].values():
        if "MILLSTREAM_SERVER" in settings["data"]:
            expect(hosts(settings["data"]["MILLSTREAM_SERVER"]) == pods, f"{path}: MILLSTREAM_SERVER is not {pods}")


def ports_of(template):
    return template["spec"]["containers"][0]["ports"]


def matches(labels, template):
    given = template["metadata"]["labels"]
    return all(given.get(name) == value for name, value in labels.items())


def monitored(selector, labels):
    exact = all(labels.get(name) == value for name, value in selector.get("matchLabels", {}).items())
    return exact and all(labels.get(each["key"]) in each["values"] for each in selector.get("matchExpressions", []))


def main():
    what, *paths = sys.argv[1:]
    if what == "files":
        check_metrics()
        check_dockerfile()
        check_chart_version()
        check_compose()
        check_commands()
    else:
        for path in paths:
            check_manifests(pathlib.Path(path))
    for finding in findings:
        print(f"error: {finding}", file=sys.stderr)
    sys.exit(1 if findings else 0)


if __name__ == "__main__":
    main()
