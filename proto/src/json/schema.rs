//! The mapping of [`super`] as JSON Schema (2020-12), with the comments of the protocol's files as descriptions.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use prost_reflect::{FieldDescriptor, FileDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value, json};

/// Returns the schemas of the given messages and of all messages in them, by short name. References are
/// `#/PREFIX/NAME`.
///
/// # Panics
///
/// Panics if the protocol has no such message: names come from code, not from outside.
pub fn schemas<'a>(names: impl IntoIterator<Item = &'a str>, prefix: &str) -> BTreeMap<String, Value> {
    let comments = comments();
    let mut open: Vec<MessageDescriptor> = names
        .into_iter()
        .map(|name| {
            super::POOL
                .get_message_by_name(&format!("millstream.v1.{name}"))
                .expect("the protocol has this message")
        })
        .collect();
    let mut seen: BTreeSet<String> = BTreeSet::new();
    let mut out = BTreeMap::new();
    while let Some(message) = open.pop() {
        if seen.insert(message.full_name().to_string()) {
            let schema = message_schema(&message, prefix, &comments, &mut open);
            out.insert(short_name(&message), schema);
        }
    }
    out
}

fn short_name(message: &MessageDescriptor) -> String {
    match message.parent_message() {
        Some(parent) => format!("{}.{}", short_name(&parent), message.name()),
        None => message.name().to_string(),
    }
}

type Comments = HashMap<(String, Vec<i32>), String>;

fn comments() -> Comments {
    let mut comments = Comments::new();
    for file in super::POOL.files() {
        let Some(info) = &file.file_descriptor_proto().source_code_info else {
            continue;
        };
        for location in &info.location {
            let text = location.leading_comments().trim().replace('\n', " ");
            if !text.is_empty() {
                let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
                comments.insert((file.name().to_string(), location.path.clone()), text);
            }
        }
    }
    comments
}

fn describe(schema: &mut Map<String, Value>, comments: &Comments, file: &FileDescriptor, path: &[i32]) {
    if let Some(comment) = comments.get(&(file.name().to_string(), path.to_vec())) {
        schema.insert("description".into(), comment.clone().into());
    }
}

fn message_schema(
    message: &MessageDescriptor,
    prefix: &str,
    comments: &Comments,
    open: &mut Vec<MessageDescriptor>,
) -> Value {
    let mut schema = Map::new();
    schema.insert("type".into(), "object".into());
    describe(&mut schema, comments, &message.parent_file(), message.path());
    let mut properties = Map::new();
    for field in message.fields() {
        let mut property = field_schema(&field, prefix, open);
        describe(&mut property, comments, &field.parent_file(), field.path());
        properties.insert(field.name().to_string(), property.into());
        if let Some(name) = super::time_text_name(&field) {
            let same = format!(
                "The time of `{}` as RFC 3339 text; absent where it is not known.",
                field.name()
            );
            let text = json!({ "type": "string", "format": "date-time", "readOnly": true, "description": same });
            properties.insert(name, text);
        }
    }
    schema.insert("properties".into(), properties.into());
    schema.insert("additionalProperties".into(), false.into());
    schema.into()
}

fn field_schema(field: &FieldDescriptor, prefix: &str, open: &mut Vec<MessageDescriptor>) -> Map<String, Value> {
    let wrapped = if field.is_map() {
        let value = match field.kind() {
            Kind::Message(entry) => single_schema(&entry.map_entry_value_field(), prefix, open),
            _ => Value::Bool(true),
        };
        json!({ "type": "object", "additionalProperties": value })
    } else if field.is_list() {
        json!({ "type": "array", "items": single_schema(field, prefix, open) })
    } else {
        single_schema(field, prefix, open)
    };
    match wrapped {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn single_schema(field: &FieldDescriptor, prefix: &str, open: &mut Vec<MessageDescriptor>) -> Value {
    match field.kind() {
        Kind::Message(message) => {
            let reference = format!("#/{prefix}/{}", short_name(&message));
            open.push(message);
            json!({ "$ref": reference })
        }
        Kind::Enum(kind) => {
            let words: Vec<String> = super::words(&kind).into_iter().map(|(word, _)| word).collect();
            json!({ "type": "string", "enum": words })
        }
        Kind::String => json!({ "type": "string" }),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Uint32 => json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX }),
        Kind::Uint64 => json!({ "type": "integer", "format": "uint64", "minimum": 0 }),
        Kind::Int32 => json!({ "type": "integer", "format": "int32" }),
        Kind::Int64 => json!({ "type": "integer", "format": "int64" }),
        _ => json!({ "type": "number" }),
    }
}
