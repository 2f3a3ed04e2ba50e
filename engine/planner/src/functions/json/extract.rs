//! `JSON_VALUE`, `JSON_QUERY`, `JSON_EXISTS` and `IS JSON`.
//!
//! Calls with clauses (`DEFAULT 'x' ON EMPTY`) are written as calls of functions whose name begins with `$`, with the
//! clauses as constant arguments.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, ListBuilder, StringArray, StringBuilder};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::path::{Mode, Path};
use super::reader;
use super::select::{Selected, select};
use super::write;
use crate::functions::scalar::{Texts, array, array_result};

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
fn for_each_outcome<T>(
    arguments: &ScalarFunctionArgs,
    outcome: impl for<'a> Fn(&'a str, &Path) -> Outcome<T>,
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

fn scalar(document: &str, path: &Path) -> Outcome<String> {
    let found = match find(document, path) {
        Outcome::Value(Found::One(value)) => scalar_text(value),
        Outcome::Value(Found::Many(_)) => None,
        Outcome::Empty => return Outcome::Empty,
        Outcome::Error(reason) => return Outcome::Error(reason),
    };
    match (found, path.mode) {
        (Some(text), _) => Outcome::Value(text.into_owned()),
        (None, Mode::Lax) => Outcome::Empty,
        (None, Mode::Strict) => Outcome::Error(NOT_SCALAR),
    }
}

/// `JSON_VALUE(text, path)`: NULL where there is no scalar.
pub(super) fn value(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    for_each_outcome(arguments, scalar, |outcome| {
        result.append_option(match outcome {
            Some(Outcome::Value(text)) => Some(text),
            _ => None,
        });
        Ok(())
    })?;
    array_result(result.finish())
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

/// Accepts a text, a path, two behaviours with their default values, and a value of the type of the result.
pub(super) fn value_arguments(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [_, _, _, empty, _, error, data_type] => Ok(vec![
            DataType::Utf8,
            DataType::Utf8,
            DataType::Utf8,
            empty.clone(),
            DataType::Utf8,
            error.clone(),
            data_type.clone(),
        ]),
        _ => plan_err!("takes a text and a path"),
    }
}

/// Returns the type of the last argument.
pub(super) fn last(given: &[DataType]) -> DataType {
    given.last().cloned().unwrap_or(DataType::Null)
}

/// `JSON_VALUE(text, path RETURNING type ... ON EMPTY ... ON ERROR)`. A scalar that is not a value of the type is an
/// error.
pub(super) fn value_or(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (on_empty, on_error) = (behaviour(arguments, 2)?, behaviour(arguments, 4)?);
    let data_type = arguments.arg_fields[6].data_type();
    let mut texts = StringBuilder::with_capacity(arguments.number_rows, 16 * arguments.number_rows);
    let (mut empty, mut failed) = (Vec::new(), Vec::new());
    for_each_outcome(arguments, scalar, |outcome| {
        empty.push(matches!(outcome, Some(Outcome::Empty)));
        failed.push(match &outcome {
            Some(Outcome::Error(reason)) => Some(*reason),
            _ => None,
        });
        texts.append_option(match outcome {
            Some(Outcome::Value(text)) => Some(text),
            _ => None,
        });
        Ok(())
    })?;
    let texts = texts.finish();
    let values = typed(&texts, data_type)?;
    for (row, failed) in failed.iter_mut().enumerate() {
        if texts.is_valid(row) && values.is_null(row) {
            *failed = Some("the value is not of the type of RETURNING");
        }
    }
    if on_empty == Behaviour::Error && empty.contains(&true) {
        return exec_err!("JSON_VALUE found nothing at the path (ERROR ON EMPTY)");
    }
    if on_error == Behaviour::Error
        && let Some(reason) = failed.iter().flatten().next()
    {
        return exec_err!("JSON_VALUE failed: {reason} (ERROR ON ERROR)");
    }
    let mut result = values;
    let failed: Vec<bool> = failed.iter().map(Option::is_some).collect();
    for (behaviour, rows, default) in [(on_empty, empty, 3), (on_error, failed, 5)] {
        if behaviour == Behaviour::Default && rows.contains(&true) {
            let default = cast(&array(arguments, default)?, data_type)?;
            result = zip(&BooleanArray::from(rows), &default, &result)?;
        }
    }
    Ok(ColumnarValue::Array(result))
}

/// Converts texts to a type; those that are not values of it become NULL.
fn typed(texts: &StringArray, data_type: &DataType) -> Result<ArrayRef> {
    if *data_type == DataType::Boolean {
        let booleans = texts.iter().map(|text| match text? {
            text if text.eq_ignore_ascii_case("true") => Some(true),
            text if text.eq_ignore_ascii_case("false") => Some(false),
            _ => None,
        });
        return Ok(Arc::new(booleans.collect::<BooleanArray>()));
    }
    Ok(cast_with_options(texts, data_type, &CastOptions::default())?)
}

/// Wrapping of the result of `JSON_QUERY` in an array.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wrapper {
    Without,
    Conditional,
    Unconditional,
}

fn wrapper(arguments: &ScalarFunctionArgs) -> Result<Wrapper> {
    Ok(match Texts::of(arguments, 2)?.constant() {
        Some("without") => Wrapper::Without,
        Some("conditional") => Wrapper::Conditional,
        Some("unconditional") => Wrapper::Unconditional,
        _ => return plan_err!("argument 3 must name a wrapper"),
    })
}

/// The result of `JSON_QUERY`: one value, or a list of values.
type Queried = (String, Vec<Option<String>>);

/// Returns an object or array, as JSON or as its elements.
fn container(document: &str, path: &Path, wrapper: Wrapper, as_elements: bool) -> Outcome<Queried> {
    let found = match find(document, path) {
        Outcome::Value(found) => found,
        Outcome::Empty => return Outcome::Empty,
        Outcome::Error(reason) => return Outcome::Error(reason),
    };
    let is_container = match &found {
        Found::Many(_) => true,
        Found::One(value) => value.starts_with(['{', '[']),
    };
    let is_array = match &found {
        Found::Many(_) => true,
        Found::One(value) => value.starts_with('['),
    };
    let is_wrapped = wrapper == Wrapper::Unconditional || wrapper == Wrapper::Conditional && !is_array;
    if !is_container && !is_wrapped {
        return match path.mode {
            Mode::Lax => Outcome::Empty,
            Mode::Strict => Outcome::Error(NOT_CONTAINER),
        };
    }
    let text = |found: &Found<'_>| {
        let mut out = String::new();
        match found {
            Found::One(value) => write::value(value, &mut out),
            Found::Many(values) => {
                out.push('[');
                for (index, value) in values.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    write::value(value, &mut out);
                }
                out.push(']');
            }
        }
        out
    };
    let element = |value: &str| match value {
        "null" => None,
        value => Some(match scalar_text(value) {
            Some(scalar) => scalar.into_owned(),
            None => text(&Found::One(value)),
        }),
    };
    Outcome::Value(match (as_elements, is_wrapped, &found) {
        (false, false, found) => (text(found), Vec::new()),
        (false, true, found) => (format!("[{}]", text(found)), Vec::new()),
        (true, true, Found::One(value)) => (String::new(), vec![element(value)]),
        (true, true, found) => (String::new(), vec![Some(text(found))]),
        (true, false, Found::Many(values)) => (String::new(), values.iter().map(|value| element(value)).collect()),
        (true, false, Found::One(value)) if is_array => {
            let elements = reader::elements(value).into_iter().map(element);
            (String::new(), elements.collect())
        }
        (true, false, Found::One(_)) => return Outcome::Error(NOT_ARRAY),
    })
}

/// `JSON_QUERY(text, path)`: NULL where there is no object or array.
pub(super) fn query(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 32 * arguments.number_rows);
    let outcome = |document: &str, path: &Path| container(document, path, Wrapper::Without, false);
    for_each_outcome(arguments, outcome, |outcome| {
        result.append_option(match outcome {
            Some(Outcome::Value((text, _))) => Some(text),
            _ => None,
        });
        Ok(())
    })?;
    array_result(result.finish())
}

/// Returns the behaviour of a row without a value, or an error.
fn instead<T>(outcome: &Outcome<T>, on_empty: Behaviour, on_error: Behaviour) -> Result<Behaviour> {
    match (outcome, on_empty, on_error) {
        (Outcome::Error(reason), _, Behaviour::Error) => exec_err!("JSON_QUERY failed: {reason} (ERROR ON ERROR)"),
        (Outcome::Error(_), _, on_error) => Ok(on_error),
        (_, Behaviour::Error, _) => exec_err!("JSON_QUERY found nothing at the path (ERROR ON EMPTY)"),
        (_, on_empty, _) => Ok(on_empty),
    }
}

/// `JSON_QUERY(text, path ... WRAPPER ... ON EMPTY ... ON ERROR)`.
pub(super) fn query_or(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let wrapper = wrapper(arguments)?;
    let (on_empty, on_error) = (behaviour(arguments, 3)?, behaviour(arguments, 4)?);
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 32 * arguments.number_rows);
    let outcome = |document: &str, path: &Path| container(document, path, wrapper, false);
    for_each_outcome(arguments, outcome, |outcome| {
        match outcome {
            None => result.append_null(),
            Some(Outcome::Value((text, _))) => result.append_value(text),
            Some(other) => match instead(&other, on_empty, on_error)? {
                Behaviour::EmptyArray => result.append_value("[]"),
                Behaviour::EmptyObject => result.append_value("{}"),
                _ => result.append_null(),
            },
        }
        Ok(())
    })?;
    array_result(result.finish())
}

/// Returns the type `ARRAY<STRING>`.
pub(super) fn texts_type(_: &[DataType]) -> DataType {
    DataType::List(Field::new_list_field(DataType::Utf8, true).into())
}

/// `JSON_QUERY(text, path RETURNING ARRAY<STRING> ...)`.
pub(super) fn query_elements(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let wrapper = wrapper(arguments)?;
    let (on_empty, on_error) = (behaviour(arguments, 3)?, behaviour(arguments, 4)?);
    let mut result = ListBuilder::new(StringBuilder::new());
    let outcome = |document: &str, path: &Path| container(document, path, wrapper, true);
    for_each_outcome(arguments, outcome, |outcome| {
        match outcome {
            None => result.append_null(),
            Some(Outcome::Value((_, elements))) => {
                for element in elements {
                    result.values().append_option(element);
                }
                result.append(true);
            }
            Some(other) => result.append(instead(&other, on_empty, on_error)? == Behaviour::EmptyArray),
        }
        Ok(())
    })?;
    array_result(result.finish())
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
