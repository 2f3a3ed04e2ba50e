//! `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS`, `IS_JSON`.
//!
//! Paths are SQL/JSON paths in lax mode, limited to those that select one value: `$`, `$.key`, `$['key']`, `$[0]`, and
//! `$[*]` for `JSON_QUERY`. An invalid text and a missing value give NULL (false for `JSON_EXISTS`).

use datafusion::arrow::array::{BooleanArray, StringBuilder};
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::scalar::{Scalar, Texts, array_result, boolean, strings, utf8};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("json_value", strings::<2>, utf8, |arguments| {
            texts(arguments, |value| match value {
                Value::String(text) => Some(text.clone()),
                Value::Number(number) => Some(number.to_string()),
                Value::Bool(value) => Some(value.to_string()),
                Value::Null | Value::Array(_) | Value::Object(_) => None,
            })
        }),
        Scalar::fallible("json_query", strings::<2>, utf8, |arguments| {
            texts(arguments, |value| match value {
                Value::Array(_) | Value::Object(_) => Some(value.to_string()),
                _ => None,
            })
        }),
        Scalar::fallible("json_exists", strings::<2>, boolean, exists),
        Scalar::fallible("is_json", strings::<1>, boolean, is_json),
    ]
}

/// A step of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
    All,
}

/// Parses a path. Returns `None` if it is invalid.
fn path(text: &str) -> Option<Vec<Step>> {
    let text = text.trim();
    let text = text.strip_prefix("lax ").unwrap_or(text).trim_start();
    let mut rest = text.strip_prefix('$')?;
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('.') {
            if let Some(quoted) = after.strip_prefix('"') {
                let end = quoted.find('"')?;
                steps.push(Step::Key(quoted[..end].to_owned()));
                rest = &quoted[end + 1..];
                continue;
            }
            let end = after.find(['.', '[']).unwrap_or(after.len());
            let key = &after[..end];
            match key {
                "" => return None,
                "*" => steps.push(Step::All),
                key => steps.push(Step::Key(key.to_owned())),
            }
            rest = &after[end..];
        } else {
            let inside = rest.strip_prefix('[')?;
            let quote = inside.chars().next().filter(|first| matches!(first, '\'' | '"'));
            if let Some(quote) = quote {
                let end = inside[1..].find(quote)? + 1;
                steps.push(Step::Key(inside[1..end].to_owned()));
                rest = inside[end + 1..].strip_prefix(']')?;
            } else {
                let end = inside.find(']')?;
                steps.push(match inside[..end].trim() {
                    "*" => Step::All,
                    index => Step::Index(index.parse().ok()?),
                });
                rest = &inside[end + 1..];
            }
        }
    }
    Some(steps)
}

/// Returns the value at a path. In lax mode a value that is not an array counts as an array of one element.
fn find(value: Value, steps: &[Step]) -> Option<Value> {
    let Some((step, rest)) = steps.split_first() else {
        return Some(value);
    };
    match (step, value) {
        (Step::Key(key), Value::Object(mut map)) => find(map.remove(key)?, rest),
        (Step::Key(_), Value::Array(items)) => {
            let mut found = items.into_iter().filter_map(|item| find(item, steps));
            let first = found.next()?;
            found.next().is_none().then_some(first)
        }
        (Step::Index(index), Value::Array(mut items)) => (*index < items.len())
            .then(|| items.swap_remove(*index))
            .and_then(|item| find(item, rest)),
        (Step::Index(0), value) => find(value, rest),
        (Step::All, Value::Array(items)) => {
            let found: Vec<Value> = items.into_iter().filter_map(|item| find(item, rest)).collect();
            (!found.is_empty()).then_some(Value::Array(found))
        }
        (Step::All, Value::Object(map)) => {
            let found: Vec<Value> = map.into_iter().filter_map(|(_, item)| find(item, rest)).collect();
            (!found.is_empty()).then_some(Value::Array(found))
        }
        _ => None,
    }
}

/// The result of a search in a text.
enum Found {
    Value(Value),
    Nothing,
    /// The path and the value do not correspond, such as a key and an array; [`find`] implements the rules of lax mode.
    Unusual,
}

/// Deserializes only the value at a path; other values are skipped, not built.
struct Seek<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Found, D::Error> {
        if self.0.is_empty() {
            return Value::deserialize(deserializer).map(Found::Value);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Found, A::Error> {
        let wanted = match self.0 {
            [Step::Key(key), ..] => Some(key),
            _ => None,
        };
        let mut found = if wanted.is_some() {
            Found::Nothing
        } else {
            Found::Unusual
        };
        while let Some(is_wanted) = map.next_key_seed(Is(wanted.map(String::as_str)))? {
            if is_wanted {
                // Of several members of one name the last one counts.
                found = map.next_value_seed(Seek(&self.0[1..]))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> std::result::Result<Found, A::Error> {
        let mut found = Found::Unusual;
        let mut rest = usize::MAX;
        if let [Step::Index(index), ..] = self.0 {
            found = Found::Nothing;
            rest = *index;
        }
        loop {
            if rest == 0 {
                match items.next_element_seed(Seek(&self.0[1..]))? {
                    Some(value) => found = value,
                    None => return Ok(found),
                }
            } else if items.next_element::<IgnoredAny>()?.is_none() {
                return Ok(found);
            }
            rest = rest.wrapping_sub(1);
        }
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Found, E> {
        Ok(self.scalar())
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Found, E> {
        Ok(self.scalar())
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Found, E> {
        Ok(self.scalar())
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Found, E> {
        Ok(self.scalar())
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Found, E> {
        Ok(self.scalar())
    }

    fn visit_unit<E>(self) -> std::result::Result<Found, E> {
        Ok(self.scalar())
    }
}

impl Seek<'_> {
    fn scalar(&self) -> Found {
        match self.0 {
            [Step::Key(_), ..] => Found::Nothing,
            _ => Found::Unusual,
        }
    }
}

/// Compares the name of a member without storing it.
struct Is<'a>(Option<&'a str>);

impl<'de> DeserializeSeed<'de> for Is<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Is<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> std::result::Result<bool, E> {
        Ok(self.0 == Some(name))
    }
}

/// Returns the value at a path of a text.
fn seek(document: &str, steps: &[Step]) -> Option<Value> {
    let mut deserializer = serde_json::Deserializer::from_str(document);
    let found = Seek(steps).deserialize(&mut deserializer).ok()?;
    deserializer.end().ok()?;
    match found {
        Found::Value(value) => Some(value),
        Found::Nothing => None,
        Found::Unusual => find(serde_json::from_str(document).ok()?, steps),
    }
}

/// The paths of an argument; a path is parsed again only when it changes.
struct Paths<'a> {
    texts: Texts<'a>,
    last: Option<(&'a str, Option<Vec<Step>>)>,
}

impl<'a> Paths<'a> {
    fn of(arguments: &'a ScalarFunctionArgs) -> Result<Self> {
        let texts = Texts::of(arguments, 1)?;
        if let Some(constant) = texts.constant()
            && path(constant).is_none()
        {
            return exec_err!("`{constant}` is not a JSON path; write it as '$.key' or '$.list[0].key'");
        }
        Ok(Self { texts, last: None })
    }

    fn get(&mut self, row: usize) -> Option<&[Step]> {
        let text = self.texts.get(row)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != text) {
            self.last = Some((text, path(text)));
        }
        self.last.as_ref()?.1.as_deref()
    }
}

fn texts(arguments: &ScalarFunctionArgs, show: fn(&Value) -> Option<String>) -> Result<ColumnarValue> {
    let documents = Texts::of(arguments, 0)?;
    let mut paths = Paths::of(arguments)?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for row in 0..arguments.number_rows {
        let found = match (documents.get(row), paths.get(row)) {
            (Some(document), Some(steps)) => seek(document, steps).and_then(|value| show(&value)),
            _ => None,
        };
        result.append_option(found);
    }
    array_result(result.finish())
}

fn exists(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let documents = Texts::of(arguments, 0)?;
    let mut paths = Paths::of(arguments)?;
    let result: BooleanArray = (0..arguments.number_rows)
        .map(|row| {
            let document = documents.get(row)?;
            let steps = paths.get(row)?;
            Some(seek(document, steps).is_some())
        })
        .collect();
    array_result(result)
}

fn is_json(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let documents = Texts::of(arguments, 0)?;
    let result: BooleanArray = (0..arguments.number_rows)
        .map(|row| {
            Some(
                documents
                    .get(row)
                    .is_some_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok()),
            )
        })
        .collect();
    array_result(result)
}
