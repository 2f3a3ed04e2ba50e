//! OpenAPI 3.1 description of the REST calls, generated from the table that serves them and from the protocol's
//! messages.

use std::collections::{BTreeMap, BTreeSet};

use millstream_proto::json::schema::schemas;
use serde_json::{Map, Value, json};

use super::routes::{Method, PREFIX, Route, Run};

const SCHEMAS: &str = "components/schemas";

/// Returns the OpenAPI description of these calls.
pub(super) fn description(table: &[Route]) -> Value {
    let mut schemas = schemas(
        table
            .iter()
            .flat_map(|route| [route.request, route.answer])
            .chain(["Mistake"]),
        SCHEMAS,
    );
    schemas.insert("Error".to_string(), error());
    let mut paths: Map<String, Value> = Map::new();
    for route in table {
        let path = paths
            .entry(format!("{PREFIX}{}", route.path))
            .or_insert_with(|| Map::new().into());
        path[method(route.method)] = operation(route, &schemas);
    }
    drop_unused(&mut schemas, &paths);
    json!({
        "openapi": "3.1.1",
        "info": {
            "title": "Millstream",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Client API of a Millstream cluster. The same calls exist as gRPC services. Times are microseconds since the epoch, UTC.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": { "schemas": schemas }
    })
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "get",
        Method::Post => "post",
        Method::Delete => "delete",
    }
}

fn error() -> Value {
    json!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {
                "type": "string",
                "description": "Stable, for programs: invalid-request, invalid-pipeline, job-not-found, checkpoint-not-found, worker-not-found, name-in-use, checkpoint-does-not-fit, wrong-state, limit-reached, not-leader, unavailable, internal."
            },
            "message": { "type": "string", "description": "For people." },
            "mistakes": {
                "type": "array",
                "items": { "$ref": format!("#/{SCHEMAS}/Mistake") },
                "description": "Mistakes of a pipeline, if there are any."
            },
            "leader": { "type": "string", "description": "Address of the leader, for not-leader; otherwise empty." }
        }
    })
}

fn operation(route: &Route, schemas: &BTreeMap<String, Value>) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    for name in route.path_names() {
        let schema = property(schemas, route.request, route.field(name));
        parameters.push(json!({ "name": name, "in": "path", "required": true, "schema": schema }));
    }
    let path_fields: Vec<&str> = route
        .path_names()
        .map(|name| route.field(name).split('.').next().unwrap_or(name))
        .collect();
    let rest: Map<String, Value> = properties(schemas, route.request)
        .into_iter()
        .filter(|(name, _)| !path_fields.contains(&name.as_str()))
        .collect();
    let mut operation = json!({ "operationId": route.name, "summary": route.summary });
    if route.method == Method::Post {
        if !rest.is_empty() {
            let schema = match path_fields.is_empty() {
                true => json!({ "$ref": format!("#/{SCHEMAS}/{}", route.request) }),
                false => json!({ "type": "object", "properties": rest, "additionalProperties": false }),
            };
            operation["requestBody"] = json!({ "content": { "application/json": { "schema": schema } } });
        }
    } else {
        for (name, schema) in rest {
            // The values of a list are separated by commas.
            let mut parameter = json!({ "name": name, "in": "query", "schema": schema });
            if parameter["schema"]["type"] == "array" {
                parameter["explode"] = false.into();
                parameter["style"] = "form".into();
            }
            parameters.push(parameter);
        }
    }
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    let answer = json!({ "$ref": format!("#/{SCHEMAS}/{}", route.answer) });
    let (kind, schema, description) = match route.run {
        Run::Once(_) => ("application/json", answer, "The answer".to_string()),
        Run::Stream(_) => (
            "text/event-stream",
            json!({ "type": "string" }),
            format!("Server-sent events; the data of each is one {} as JSON", route.answer),
        ),
    };
    operation["responses"] = json!({
        "200": { "description": description, "content": { kind: { "schema": schema } } },
        "default": {
            "description": "Refused",
            "content": { "application/json": { "schema": { "$ref": format!("#/{SCHEMAS}/Error") } } }
        }
    });
    operation
}

fn properties(schemas: &BTreeMap<String, Value>, message: &str) -> Map<String, Value> {
    schemas[message]["properties"].as_object().cloned().unwrap_or_default()
}

/// Returns the schema of a field, given by its path in the message.
fn property(schemas: &BTreeMap<String, Value>, message: &str, field: &str) -> Value {
    let properties = properties(schemas, message);
    match field.split_once('.') {
        None => properties[field].clone(),
        Some((outer, inner)) => {
            let reference = properties[outer]["$ref"].as_str().unwrap_or_default();
            let message = reference.rsplit('/').next().unwrap_or_default();
            property(schemas, message, inner)
        }
    }
}

/// Removes schemas of requests whose fields are all in the path or the query.
fn drop_unused(schemas: &mut BTreeMap<String, Value>, paths: &Map<String, Value>) {
    let mut open = references(&Value::Object(paths.clone()));
    let mut used = BTreeSet::new();
    while let Some(name) = open.pop() {
        if used.insert(name.clone())
            && let Some(schema) = schemas.get(&name)
        {
            open.extend(references(schema));
        }
    }
    schemas.retain(|name, _| used.contains(name));
}

/// Returns the names of the schemas that a value refers to.
pub(super) fn references(value: &Value) -> Vec<String> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value.as_str()) {
                ("$ref", Some(reference)) => {
                    vec![reference.rsplit('/').next().unwrap_or_default().to_string()]
                }
                _ => references(value),
            })
            .collect(),
        Value::Array(values) => values.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
