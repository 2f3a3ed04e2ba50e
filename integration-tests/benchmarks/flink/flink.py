"""Apache Flink on this machine: installs it, runs one standalone cluster, and measures the jobs submitted to it."""
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
import zipfile
from pathlib import Path

import processes

VERSION = "2.3.0"
HERE = Path(__file__).parent
START_TIMEOUT_S = 180
# What Flink needs of a Java whose packages are modules; its own scripts pass the same.
JAVA_OPTIONS = [
    *(f"--add-exports={name}=ALL-UNNAMED"
      for name in ("java.rmi/sun.rmi.registry", "java.security.jgss/sun.security.krb5")),
    *(f"--add-opens=java.base/{name}=ALL-UNNAMED" for name in (
        "java.lang", "java.net", "java.io", "java.nio", "sun.nio.ch", "java.lang.reflect", "java.text", "java.time",
        "java.util", "java.util.concurrent", "java.util.concurrent.atomic", "java.util.concurrent.locks")),
]
LOG4J = """rootLogger.level = INFO
rootLogger.appenderRef.file.ref = File
appender.file.name = File
appender.file.type = FILE
appender.file.append = false
appender.file.fileName = ${sys:log.file}
appender.file.layout.type = PatternLayout
appender.file.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %-60c %x - %m%n
"""


class Failed(Exception):
    """A job or a process of Flink failed; the message says why."""


def install(cache):
    """Installs Flink's libraries from PyPI below `cache`, and compiles our two classes, unless they are there."""
    home = cache / "flink" / VERSION
    if not (home / "lib").is_dir():
        for tool in ("java", "javac"):
            if shutil.which(tool) is None:
                sys.exit(f"error: {tool} is missing (17 or newer); run: apt-get install default-jdk-headless")
        print(f"installing Apache Flink {VERSION} from PyPI into {home}", file=sys.stderr)
        home.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home.parent) as folder:
            wheel = f"apache-flink-libraries=={VERSION}"
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, wheel]
            subprocess.run(pip, check=True)
            (archive,) = Path(folder).glob("*.whl")
            with zipfile.ZipFile(archive) as files:
                wanted = [name for name in files.namelist() if re.match(r"pyflink/(lib|bin)/", name)]
                files.extractall(folder, wanted)
            # The folder `lib` says that all is there, so it comes last.
            unpacked = Path(folder) / "pyflink"
            home.mkdir(exist_ok=True)
            for name in ("bin", "lib"):
                if not (home / name).exists():
                    (unpacked / name).rename(home / name)
    classes = home / "lib" / "millstream-benchmark.jar"
    sources = [HERE / "CountChar.java", HERE / "Submit.java"]
    if not classes.exists() or classes.stat().st_mtime < max(source.stat().st_mtime for source in sources):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run(["javac", "-cp", f"{home}/lib/*", "-d", folder, *sources], check=True)
            with zipfile.ZipFile(classes, "w") as jar:
                for file in Path(folder).glob("*.class"):
                    jar.write(file, file.name)
    return home


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """A JobManager and a TaskManager, in a folder of their own. Leaving the context ends both."""

    def __init__(self, home, folder, settings):
        self.home, self.folder, self.processes = home, folder, {}
        self.rest_port = free_port()
        values = {"FOLDER": folder, "REST_PORT": self.rest_port, "RPC_PORT": free_port(), **settings}
        for name in ("conf", "logs", "tmp", "rocksdb", "checkpoints"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        text = (HERE / "config.yaml").read_text()
        (folder / "conf" / "config.yaml").write_text(re.sub(r"\$\{(\w+)}", lambda match: str(values[match[1]]), text))
        (folder / "conf" / "log4j.properties").write_text(LOG4J)

    def __enter__(self):
        try:
            entrypoint = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
            self.start("jobmanager", "JM", entrypoint, ["--executionMode", "cluster"])
            self.start("taskmanager", "TM", "org.apache.flink.runtime.taskexecutor.TaskManagerRunner", [])
            self.wait_for("a TaskManager", lambda: self.get("/taskmanagers")["taskmanagers"])
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def java(self, log, classpath, main, options=()):
        log_options = [f"-Dlog.file={self.folder}/logs/{log}.log",
                       f"-Dlog4j.configurationFile=file:{self.folder}/conf/log4j.properties"]
        return ["java", *options, *log_options, *JAVA_OPTIONS, "-cp", classpath, main]

    def start(self, name, kind, main, arguments):
        # Flink computes the sizes of heap and off-heap memory from the configuration.
        utility = self.java(f"{name}-memory", f"{self.home}/bin/bash-java-utils.jar:{self.home}/lib/*",
                            "org.apache.flink.runtime.util.bash.BashJavaUtils")
        configuration = ["--configDir", str(self.folder / "conf")]
        output = subprocess.run([*utility, f"GET_{kind}_RESOURCE_PARAMS", *configuration], check=True,
                                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
        results = re.findall(r"BASH_JAVA_UTILS_EXEC_RESULT:(.*)", output)
        options, dynamic = results[0].split(), results[1].split()
        command = [*self.java(name, f"{self.home}/lib/*", main, ["-XX:+UseG1GC", *options]), *configuration, *arguments,
                   *dynamic]
        with open(self.folder / "logs" / f"{name}.out", "w") as output:
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def wait_for(self, what, condition):
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            for name, process in self.processes.items():
                if process.poll() is not None:
                    raise Failed(f"the {name} of Flink ended: {self.end_of_log(name)}")
            try:
                if found := condition():
                    return found
            except OSError:
                pass
            time.sleep(0.1)
        raise Failed(f"{what} of Flink did not appear in {START_TIMEOUT_S} s: {self.end_of_log('taskmanager')}")

    def end_of_log(self, name):
        files = [self.folder / "logs" / f"{name}.{kind}" for kind in ("log", "out")]
        return "\n".join(file.read_text()[-1000:] for file in files if file.exists())

    def get(self, path):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.rest_port}{path}", timeout=10) as answer:
            return json.load(answer)

    def submit(self, script):
        """Submits the statements of a file; returns the id of the job."""
        command = self.java("client", f"{self.home}/lib/*", "Submit", ["-XX:TieredStopAtLevel=1"])
        client = subprocess.run([*command, self.folder / "conf", script], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if job := re.search(r"Job ID: (\w+)", client.stdout):
            return job[1]
        errors = re.findall(r"^(?:Caused by: )?[\w.$]*(?:Exception|Error)\b.*", client.stdout, re.M)
        raise Failed(errors[-1] if errors else client.stdout[-2000:])

    def run(self, script):
        """Runs a script to its end. Returns the time from the first running task to the end of the job, the CPU
        seconds of both processes for the whole job (the client, which plans, is not counted), and their peak memory."""
        pids = [process.pid for process in self.processes.values()]
        for pid in pids:
            processes.reset_peak(pid)
        cpu_before = sum(map(processes.cpu_seconds, pids))
        job = self.submit(script)
        while (details := self.get(f"/jobs/{job}"))["state"] not in ("FINISHED", "FAILED", "CANCELED"):
            time.sleep(0.05)
        cpu = sum(map(processes.cpu_seconds, pids)) - cpu_before
        if details["state"] != "FINISHED":
            cause = self.get(f"/jobs/{job}/exceptions")["exceptionHistory"]["entries"]
            raise Failed(f"the job {details['state']}: {cause[0]['stacktrace'][:2000] if cause else 'no cause'}")
        running = [subtask["timestamps"]["RUNNING"] for vertex in details["vertices"]
                   for subtask in self.get(f"/jobs/{job}/vertices/{vertex['id']}/subtasktimes")["subtasks"]]
        peaks = {name: processes.peak_bytes(process.pid) for name, process in self.processes.items()}
        return {
            "seconds": (details["timestamps"]["FINISHED"] - min(running)) / 1000,
            "cpu_seconds": cpu,
            "peak_bytes": sum(peaks.values()),
            "peak_bytes_taskmanager": peaks["taskmanager"],
            "checkpoints": self.get(f"/jobs/{job}/checkpoints")["counts"]["completed"],
        }
