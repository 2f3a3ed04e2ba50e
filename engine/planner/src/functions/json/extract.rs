//! `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS` and `IS JSON`.
//!
//! Calls with clauses (`DEFAULT 'x' ON EMPTY`) are written as calls of functions whose name begins with `$`, with the
//! clauses as constant arguments.

use std::borrow::Cow;

use datafusion::arrow::array::BooleanArray;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::path::{Mode, Path};
use super::reader;
use super::select::{Selected, select};
use super::write;
use crate::functions::scalar::{Texts, array_result};

pub(super) mod query;
pub(super) mod value;

/// The result for a row, before the clauses `ON EMPTY` and `ON ERROR`.
enum Outcome<T> {
    Value(T),
    Empty,
    /// The reason why there is no value.
    Error(&'static str),
}

const MALFORMED: &str = "the text is not JSON";
const NOTHING: &str = "nothing is at the path, which is strict";
const NOT_SCALAR: &str = "an object or array is at the path; use JSON_QUERY";
const NOT_CONTAINER: &str = "no object or array is at the path; use JSON_VALUE, or WITH WRAPPER";
const NULL: &str = "null is at the path, which is strict";
const NOT_ARRAY: &str = "no array is at the path; use WITH WRAPPER";

/// The paths of an argument; a path is parsed again only when it changes.
struct Paths<'a> {
    texts: Texts<'a>,
    last: Option<(&'a str, std::result::Result<Path, String>)>,
}

impl<'a> Paths<'a> {
    fn of(arguments: &'a ScalarFunctionArgs) -> Result<Self> {
        let texts = Texts::of(arguments, 1)?;
        if let Some(constant) = texts.constant()
            && let Err(reason) = Path::parse(constant)
        {
            return exec_err!(
                "`{constant}` is not a JSON path: {reason}; write it as '$.key', '$.list[0].key' or '$.list[*].key'"
            );
        }
        Ok(Self { texts, last: None })
    }

    /// Returns the path of a row: `None` for NULL, an error for an invalid path.
    fn get(&mut self, row: usize) -> Option<std::result::Result<&Path, &'static str>> {
        let text = self.texts.get(row)?;
        if self.last.as_ref().is_none_or(|(last, _)| *last != text) {
            self.last = Some((text, Path::parse(text)));
        }
        let (_, path) = self.last.as_ref()?;
        Some(path.as_ref().map_err(|_| "the path is not a JSON path"))
    }
}

/// The values at a path: one value as it is written, or a list of values.
enum Found<'a> {
    One(&'a str),
    Many(Vec<&'a str>),
}

/// Selects the values of a row.
fn find<'a>(document: &'a str, path: &Path) -> Outcome<Found<'a>> {
    match (select(document, path), path.mode) {
        (Selected::One("null"), Mode::Strict) => Outcome::Error(NULL),
        (Selected::One("null"), Mode::Lax) => Outcome::Empty,
        (Selected::One(value), _) => Outcome::Value(Found::One(value)),
        (Selected::Many(values), _) => Outcome::Value(Found::Many(values)),
        (Selected::Nothing, Mode::Lax) if !path.is_definite() => Outcome::Value(Found::Many(Vec::new())),
        (Selected::Nothing | Selected::Malformed, Mode::Lax) => Outcome::Empty,
        (Selected::Nothing, Mode::Strict) => Outcome::Error(NOTHING),
        (Selected::Malformed, Mode::Strict) => Outcome::Error(MALFORMED),
    }
}

/// Applies `each` to the outcomes of all rows; `None` for a row whose text or path is NULL.
fn for_each_outcome<'a, T>(
    arguments: &'a ScalarFunctionArgs,
    outcome: impl Fn(&'a str, &Path) -> Outcome<T>,
    mut each: impl FnMut(Option<Outcome<T>>) -> Result<()>,
) -> Result<()> {
    let documents = Texts::of(arguments, 0)?;
    let mut paths = Paths::of(arguments)?;
    for row in 0..arguments.number_rows {
        each(match (documents.get(row), paths.get(row)) {
            (Some(document), Some(Ok(path))) => Some(outcome(document, path)),
            (Some(_), Some(Err(reason))) => Some(Outcome::Error(reason)),
            _ => None,
        })?;
    }
    Ok(())
}

/// Returns the text of a scalar: a string without quotes, a number or a boolean.
fn scalar_text(value: &str) -> Option<Cow<'_, str>> {
    match value.as_bytes().first() {
        Some(b'{' | b'[') => None,
        Some(b'"') => Some(reader::unescaped(&value[1..value.len() - 1])),
        Some(b'-' | b'0'..=b'9') => Some(write::number(value)),
        _ => Some(Cow::Borrowed(value)),
    }
}

/// Behaviour of a function without a value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Behaviour {
    Null,
    Error,
    Default,
    EmptyArray,
    EmptyObject,
    True,
    False,
}

/// Returns the behaviour that a constant argument names.
fn behaviour(arguments: &ScalarFunctionArgs, index: usize) -> Result<Behaviour> {
    Ok(match Texts::of(arguments, index)?.constant() {
        Some("null") => Behaviour::Null,
        Some("error") => Behaviour::Error,
        Some("default") => Behaviour::Default,
        Some("empty array") => Behaviour::EmptyArray,
        Some("empty object") => Behaviour::EmptyObject,
        Some("true") => Behaviour::True,
        Some("false") => Behaviour::False,
        _ => return plan_err!("argument {} must name a behaviour", index + 1),
    })
}

/// `JSON_EXISTS(text, path [... ON ERROR])`: without a clause, false on an error.
pub(super) fn exists(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let on_error = match arguments.args.len() {
        2 => Behaviour::False,
        _ => behaviour(arguments, 2)?,
    };
    let mut result = Vec::with_capacity(arguments.number_rows);
    let outcome = |document: &str, path: &Path| match find(document, path) {
        Outcome::Value(_) => Outcome::Value(()),
        Outcome::Empty => Outcome::Empty,
        Outcome::Error(reason) => Outcome::Error(reason),
    };
    for_each_outcome(arguments, outcome, |outcome| {
        result.push(match outcome {
            None => None,
            Some(Outcome::Value(())) => Some(true),
            Some(Outcome::Empty) => Some(false),
            Some(Outcome::Error(reason)) => match on_error {
                Behaviour::Error => return exec_err!("JSON_EXISTS failed: {reason} (ERROR ON ERROR)"),
                Behaviour::Null => None,
                other => Some(other == Behaviour::True),
            },
        });
        Ok(())
    })?;
    array_result(BooleanArray::from(result))
}

/// `text IS JSON [VALUE | SCALAR | ARRAY | OBJECT]`: false for NULL.
pub(super) fn is_json(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let documents = Texts::of(arguments, 0)?;
    let kind = match arguments.args.len() {
        1 => Some("value"),
        _ => Texts::of(arguments, 1)?.constant(),
    };
    let is_kind = |value: &str| match (kind, value.as_bytes().first()) {
        (Some("object"), first) => first == Some(&b'{'),
        (Some("array"), first) => first == Some(&b'['),
        (Some("scalar"), first) => !matches!(first, Some(b'{' | b'[')),
        _ => true,
    };
    let result: BooleanArray = (0..arguments.number_rows)
        .map(|row| {
            let value = documents.get(row).and_then(|text| reader::checked(text).ok());
            Some(value.is_some_and(is_kind))
        })
        .collect();
    array_result(result)
}
