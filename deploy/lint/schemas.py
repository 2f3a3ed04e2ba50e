#!/usr/bin/env python3
"""Turns Kubernetes' OpenAPI description, or a CRD, into the JSON schemas that kubeconform reads.

Usage: schemas.py OUT_DIR swagger.json | crd.json ...

One file per kind, `statefulset-apps-v1.json`, all of them referring to `_definitions.json`. The schemas are strict: a
field that the description does not have is an error, which is how a misspelt one is found. What the description cannot
say is put right here: integer-or-string fields, and quantities, which may be written as numbers.
"""
import json
import pathlib
import sys

DRAFT = "http://json-schema.org/draft-07/schema#"
QUANTITY = "io.k8s.apimachinery.pkg.api.resource.Quantity"


def strict(schema):
    """The schema with unknown fields refused, throughout."""
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return {"$ref": schema["$ref"].replace("#/definitions/", "_definitions.json#/definitions/")}
    if schema.get("format") == "int-or-string":
        return {"oneOf": [{"type": "string"}, {"type": "integer"}]}
    schema = dict(schema)
    for name in ("items", "additionalProperties", "not"):
        if name in schema:
            schema[name] = strict(schema[name])
    for name in ("allOf", "anyOf", "oneOf"):
        if name in schema:
            schema[name] = [strict(each) for each in schema[name]]
    if "properties" in schema:
        schema["properties"] = strict_all(schema["properties"])
        if not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema.setdefault("additionalProperties", False)
    return schema


def strict_all(schemas):
    return {name: strict(schema) for name, schema in schemas.items()}


def file_name(kind, group, version):
    """As kubeconform's template {{.ResourceKind}}{{.KindSuffix}} names it."""
    return "-".join(part for part in (kind, group.split(".")[0], version) if part).lower() + ".json"


def of_swagger(swagger, out):
    definitions = swagger["definitions"]
    definitions[QUANTITY] = {"oneOf": [{"type": "string"}, {"type": "number"}]}
    for name, definition in definitions.items():
        kinds = definition.get("x-kubernetes-group-version-kind", [])
        # Kinds that every group has, such as DeleteOptions, are never in a manifest.
        if len(kinds) != 1:
            continue
        group, version, kind = (kinds[0][part] for part in ("group", "version", "kind"))
        reference = {"$schema": DRAFT, "$ref": f"_definitions.json#/definitions/{name}"}
        (out / file_name(kind, group, version)).write_text(json.dumps(reference))
    (out / "_definitions.json").write_text(json.dumps({"$schema": DRAFT, "definitions": strict_all(definitions)}))


def of_crd(crd, out):
    spec = crd["spec"]
    for version in spec["versions"]:
        schema = version["schema"]["openAPIV3Schema"]
        schema["properties"]["metadata"] = {"type": "object"}
        schema["properties"].setdefault("status", {})
        name = file_name(spec["names"]["kind"], spec["group"], version["name"])
        (out / name).write_text(json.dumps({"$schema": DRAFT, **strict(schema)}))


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    for path in sys.argv[2:]:
        description = json.loads(pathlib.Path(path).read_text())
        if "definitions" in description:
            of_swagger(description, out)
        else:
            of_crd(description, out)


if __name__ == "__main__":
    main()
