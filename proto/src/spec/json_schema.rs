//! The JSON Schema of the spec, for editors. It is generated from the list of [`fields`], so it agrees with the reader.

use serde_json::{Map, Value, json};

use crate::spec::fields::{self, Field, Kind};

const DURATION: &str = r"^\s*([0-9]+\s*(ms|millis|milliseconds?|s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)|0)\s*$";

/// Returns the schema (draft 2020-12).
pub fn json_schema() -> Value {
    let mut schema = object(fields::JOB);
    let head = schema.as_object_mut().expect("object() makes an object");
    head.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    head.insert("title".into(), "Millstream pipeline".into());
    let options = json!({
        "type": "object",
        "additionalProperties": { "anyOf": [{ "type": ["string", "number", "boolean"] }, { "$ref": "#/$defs/options" }] },
    });
    head.insert("$defs".into(), json!({ "options": options }));
    schema
}

fn object(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut schema = kind(field.kind);
        if let Some(schema) = schema.as_object_mut() {
            schema.insert("description".into(), field.help.into());
        }
        properties.insert(field.name.into(), schema);
    }
    let required: Vec<_> = fields
        .iter()
        .filter(|field| field.required)
        .map(|field| field.name)
        .collect();
    json!({
        "type": "object",
        "additionalProperties": false,
        "required": required,
        "properties": properties,
    })
}

fn kind(kind: Kind) -> Value {
    let text = json!(["string", "number", "boolean"]);
    match kind {
        Kind::Text => json!({ "type": text }),
        Kind::Name => json!({ "type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_.-]*$", "maxLength": 200 }),
        Kind::Count(max) => json!({ "type": "integer", "minimum": 1, "maximum": max }),
        Kind::CountOrAuto(max) => {
            json!({ "anyOf": [{ "type": "integer", "minimum": 1, "maximum": max }, { "const": "auto" }] })
        }
        Kind::CountOrZero(max) => json!({ "type": "integer", "minimum": 0, "maximum": max }),
        Kind::Duration => json!({ "anyOf": [{ "type": "string", "pattern": DURATION }, { "const": 0 }] }),
        Kind::Boolean => json!({ "type": "boolean" }),
        Kind::OneOf(words) if words.contains(&"null") => {
            json!({ "enum": words.iter().map(|word| json!(word)).chain([Value::Null]).collect::<Vec<_>>() })
        }
        Kind::OneOf(words) => json!({ "enum": words }),
        Kind::Texts => json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] }),
        Kind::Options => json!({ "$ref": "#/$defs/options" }),
        Kind::Columns => json!({
            "type": "object",
            "additionalProperties": { "anyOf": [{ "type": "string" }, object(fields::COLUMN)] },
        }),
        Kind::Map(fields) => object(fields),
        Kind::Named(fields) => json!({
            "type": "object",
            "propertyNames": { "pattern": "^[A-Za-z_][A-Za-z0-9_]*$", "maxLength": 200 },
            "additionalProperties": object(fields),
        }),
    }
}
