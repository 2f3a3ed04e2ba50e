//! `JSON_QUERY`.

use datafusion::arrow::array::{ListBuilder, StringBuilder};
use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::{Behaviour, Found, NOT_ARRAY, NOT_CONTAINER, Outcome, behaviour, find, for_each_outcome, scalar_text};
use crate::functions::json::path::{Mode, Path};
use crate::functions::json::{reader, write};
use crate::functions::scalar::{Texts, array_result};

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
pub(in crate::functions::json) fn query(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
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
pub(in crate::functions::json) fn query_or(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
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
pub(in crate::functions::json) fn texts_type(_: &[DataType]) -> DataType {
    DataType::List(Field::new_list_field(DataType::Utf8, true).into())
}

/// `JSON_QUERY(text, path RETURNING ARRAY<STRING> ...)`.
pub(in crate::functions::json) fn query_elements(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
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
