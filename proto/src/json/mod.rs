//! Messages as JSON, and back: one mapping for the REST API and for `engine-cli -o json`.
//!
//! The mapping follows the descriptors, so a new field needs no code here. Names are those of the protocol
//! (`rows_in_per_second`). A field without presence is always written; an `optional` field and a message only if set.
//! The value of an enum is its name without the prefix, in lower case with hyphens (`JOB_STATE_RUNNING` is `running`).
//! 64-bit integers are written as numbers (times in microseconds stay below 2^53 until the year 2255), and read as
//! numbers or as decimal text. [`schema`] describes the same mapping as JSON Schema.
//!
//! For each time, such as `submitted_us`, the same time is also written as RFC 3339 text (`submitted_at`), if it is set
//! and within the years 0 to 9999. Only the number is read; the text is not accepted without it.

pub mod schema;
mod yaml;

use std::sync::LazyLock;

use prost::{Message, Name};
use prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage,
};
use serde_json::{Map, Value};

use crate::report::rfc3339;
use crate::spec::closest;

pub use yaml::to_yaml;

/// Deepest nesting of objects that is read.
const DEPTH_MAX: usize = 32;

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(crate::DESCRIPTORS).expect("the build wrote these descriptors"));

/// An error of converting JSON to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Path of the invalid value (`pipeline.yaml.text`); empty for the whole.
    pub path: String,
    /// Description of the mistake and the remedy.
    pub message: String,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

fn descriptor<M: Name>() -> MessageDescriptor {
    POOL.get_message_by_name(&M::full_name())
        .expect("descriptors and messages come from the same files")
}

/// Converts a message to JSON.
pub fn to_value<M: Message + Name>(message: &M) -> Value {
    let mut dynamic = DynamicMessage::new(descriptor::<M>());
    dynamic
        .transcode_from(message)
        .expect("descriptors and messages come from the same files");
    message_to_value(&dynamic)
}

fn message_to_value(message: &DynamicMessage) -> Value {
    let mut map = Map::new();
    for field in message.descriptor().fields() {
        if field.supports_presence() && !message.has_field(&field) {
            continue;
        }
        let value = message.get_field(&field);
        map.insert(field.name().to_string(), field_to_value(&field, &value));
        if let Some(name) = time_text_name(&field)
            && let prost_reflect::Value::I64(us) = value.as_ref()
            && (field.supports_presence() || *us != 0)
            && let Some(text) = rfc3339(*us)
        {
            map.insert(name, text.into());
        }
    }
    Value::Object(map)
}

/// Returns the name of the RFC 3339 text for a time: `submitted_at` for `submitted_us`, `at` for `at_us`; `None` for
/// other fields.
fn time_text_name(field: &FieldDescriptor) -> Option<String> {
    let is_single = !field.is_list() && !field.is_map() && field.kind() == Kind::Int64;
    let stem = field.name().strip_suffix("_us").filter(|_| is_single)?;
    match stem {
        "at" => Some("at".to_string()),
        // A difference, not a time.
        stem if stem.ends_with("_offset") => None,
        stem => Some(format!("{stem}_at")),
    }
}

fn field_to_value(field: &FieldDescriptor, value: &prost_reflect::Value) -> Value {
    use prost_reflect::Value as Proto;
    match value {
        Proto::Bool(value) => (*value).into(),
        Proto::I32(value) => (*value).into(),
        Proto::I64(value) => (*value).into(),
        Proto::U32(value) => (*value).into(),
        Proto::U64(value) => (*value).into(),
        Proto::F32(value) => f64::from(*value).into(),
        Proto::F64(value) => (*value).into(),
        Proto::String(value) => value.clone().into(),
        Proto::Bytes(value) => value.iter().copied().collect::<Vec<u8>>().into(),
        Proto::EnumNumber(number) => match field.kind() {
            Kind::Enum(kind) => word(&kind, *number),
            _ => (*number).into(),
        },
        Proto::Message(message) => message_to_value(message),
        Proto::List(values) => values.iter().map(|value| field_to_value(field, value)).collect(),
        Proto::Map(entries) => {
            let Kind::Message(entry) = field.kind() else {
                return Value::Null;
            };
            let of_value = entry.map_entry_value_field();
            let mut sorted: Vec<_> = entries.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            let pairs = sorted
                .into_iter()
                .map(|(key, value)| (key_text(key), field_to_value(&of_value, value)));
            Value::Object(pairs.collect())
        }
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

/// Converts the value of an enum to its word, or to its number if it is of a newer protocol.
fn word(kind: &EnumDescriptor, number: i32) -> Value {
    match words(kind).into_iter().find(|(_, known)| *known == number) {
        Some((word, _)) => word.into(),
        None => number.into(),
    }
}

/// Returns the words of an enum: its names without the prefix that protobuf requires.
fn words(kind: &EnumDescriptor) -> Vec<(String, i32)> {
    let mut prefix = String::new();
    for c in kind.name().chars() {
        if c.is_ascii_uppercase() && !prefix.is_empty() {
            prefix.push('_');
        }
        prefix.push(c.to_ascii_uppercase());
    }
    prefix.push('_');
    kind.values()
        .map(|value| {
            let word = value.name().strip_prefix(&prefix).unwrap_or(value.name());
            (word.to_lowercase().replace('_', "-"), value.number())
        })
        .collect()
}

/// Converts JSON to a message.
pub fn from_value<M: Message + Name + Default>(value: &Value) -> Result<M, Error> {
    let dynamic = message_from_value(&descriptor::<M>(), value, "", DEPTH_MAX)?;
    dynamic.transcode_to().map_err(|error| Error {
        path: String::new(),
        message: error.to_string(),
    })
}

fn fail<T>(path: &str, message: impl Into<String>) -> Result<T, Error> {
    Err(Error {
        path: path.to_string(),
        message: message.into(),
    })
}

fn message_from_value(
    kind: &MessageDescriptor,
    value: &Value,
    path: &str,
    depth: usize,
) -> Result<DynamicMessage, Error> {
    let Value::Object(entries) = value else {
        return fail(path, format!("expected an object, found {}", kind_of(value)));
    };
    if depth == 0 {
        return fail(path, format!("nested deeper than {DEPTH_MAX} levels (DEPTH_MAX)"));
    }
    let mut message = DynamicMessage::new(kind.clone());
    for (name, value) in entries {
        let at = join(path, name);
        let Some(field) = kind.get_field_by_name(name) else {
            let of_time = kind.fields().find(|field| time_text_name(field).as_ref() == Some(name));
            match of_time {
                Some(field) if entries.contains_key(field.name()) => continue,
                Some(field) => {
                    let message = format!("is only written; give `{}`, microseconds since the epoch", field.name());
                    return fail(&at, message);
                }
                None => return fail(&at, unknown_field(kind, name)),
            }
        };
        if value.is_null() {
            continue;
        }
        if let Some(oneof) = field.containing_oneof().filter(|oneof| !oneof.is_synthetic())
            && let Some(other) = oneof.fields().find(|other| message.has_field(other))
        {
            return fail(&at, format!("`{}` is given too; give one of the two", other.name()));
        }
        let value = field_from_value(&field, value, &at, depth)?;
        message.set_field(&field, value);
    }
    Ok(message)
}

fn unknown_field(kind: &MessageDescriptor, name: &str) -> String {
    let known: Vec<String> = kind.fields().map(|field| field.name().to_string()).collect();
    match closest(name, known.iter().map(String::as_str)) {
        Some(meant) => format!("unknown field; did you mean `{meant}`?"),
        None if known.is_empty() => "unknown field; there are none here".to_string(),
        None => format!("unknown field; there are {}", known.join(", ")),
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_string()
    } else {
        format!("{path}.{name}")
    }
}

fn field_from_value(
    field: &FieldDescriptor,
    value: &Value,
    path: &str,
    depth: usize,
) -> Result<prost_reflect::Value, Error> {
    if field.is_map() {
        let (Value::Object(entries), Kind::Message(entry)) = (value, field.kind()) else {
            return fail(path, format!("expected an object, found {}", kind_of(value)));
        };
        let of_value = entry.map_entry_value_field();
        let mut map = std::collections::HashMap::new();
        for (key, value) in entries {
            let value = single_from_value(&of_value, value, &join(path, key), depth)?;
            map.insert(MapKey::String(key.clone()), value);
        }
        return Ok(prost_reflect::Value::Map(map));
    }
    if field.is_list() {
        let Value::Array(values) = value else {
            return fail(path, format!("expected a list, found {}", kind_of(value)));
        };
        let values = values.iter().enumerate();
        let values = values.map(|(index, value)| single_from_value(field, value, &format!("{path}[{index}]"), depth));
        return Ok(prost_reflect::Value::List(values.collect::<Result<_, _>>()?));
    }
    single_from_value(field, value, path, depth)
}

fn single_from_value(
    field: &FieldDescriptor,
    value: &Value,
    path: &str,
    depth: usize,
) -> Result<prost_reflect::Value, Error> {
    use prost_reflect::Value as Proto;
    let found = || kind_of(value);
    Ok(match field.kind() {
        Kind::Message(kind) => Proto::Message(message_from_value(&kind, value, path, depth - 1)?),
        Kind::Enum(kind) => {
            let words = words(&kind);
            let known = || {
                words
                    .iter()
                    .map(|(word, _)| word.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            let Some(text) = value.as_str() else {
                return fail(path, format!("expected one of {}, found {}", known(), found()));
            };
            match words.iter().find(|(word, _)| word == text) {
                Some((_, number)) => Proto::EnumNumber(*number),
                None => return fail(path, format!("`{text}` is none of {}", known())),
            }
        }
        Kind::String => match value {
            Value::String(text) => Proto::String(text.clone()),
            _ => return fail(path, format!("expected text, found {}", found())),
        },
        Kind::Bool => match (value, value.as_str()) {
            (Value::Bool(value), _) => Proto::Bool(*value),
            (_, Some("true")) => Proto::Bool(true),
            (_, Some("false")) => Proto::Bool(false),
            _ => return fail(path, format!("expected true or false, found {}", found())),
        },
        Kind::Uint32 => Proto::U32(integer(value, path)?),
        Kind::Uint64 => Proto::U64(integer(value, path)?),
        Kind::Int32 => Proto::I32(integer(value, path)?),
        Kind::Int64 => Proto::I64(integer(value, path)?),
        Kind::Double => match value.as_f64() {
            Some(number) => Proto::F64(number),
            None => return fail(path, format!("expected a number, found {}", found())),
        },
        other => return fail(path, format!("a value of {other:?} has no JSON spelling")),
    })
}

fn integer<T: TryFrom<i128>>(value: &Value, path: &str) -> Result<T, Error> {
    let whole = match value {
        Value::Number(number) => number
            .as_i64()
            .map(i128::from)
            .or_else(|| number.as_u64().map(i128::from)),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let Some(whole) = whole else {
        return fail(path, format!("expected a whole number, found {}", kind_of(value)));
    };
    T::try_from(whole).or_else(|_| fail(path, format!("{whole} is out of range")))
}

fn kind_of(value: &Value) -> String {
    match value {
        Value::Null => "null".to_string(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => format!("`{}`", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "a list".to_string(),
        Value::Object(_) => "an object".to_string(),
    }
}

#[cfg(test)]
mod tests;
