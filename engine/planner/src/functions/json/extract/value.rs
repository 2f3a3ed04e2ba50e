//! `JSON_VALUE`.

use std::borrow::Cow;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, BooleanArray, StringArray, StringBuilder};
use datafusion::arrow::compute::kernels::zip::zip;
use datafusion::arrow::compute::{CastOptions, cast, cast_with_options};
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::{Behaviour, Found, NOT_SCALAR, Outcome, behaviour, find, for_each_outcome, scalar_text};
use crate::functions::json::path::{Mode, Path};
use crate::functions::scalar::{array, array_result};

fn scalar<'a>(document: &'a str, path: &Path) -> Outcome<Cow<'a, str>> {
    let found = match find(document, path) {
        Outcome::Value(Found::One(value)) => scalar_text(value),
        Outcome::Value(Found::Many(_)) => None,
        Outcome::Empty => return Outcome::Empty,
        Outcome::Error(reason) => return Outcome::Error(reason),
    };
    match (found, path.mode) {
        (Some(text), _) => Outcome::Value(text),
        (None, Mode::Lax) => Outcome::Empty,
        (None, Mode::Strict) => Outcome::Error(NOT_SCALAR),
    }
}

/// `JSON_VALUE(text, path)`: NULL where there is no scalar.
pub(in crate::functions::json) fn value(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
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

/// Accepts a text, a path, two behaviours with their default values, and a value of the type of the result.
pub(in crate::functions::json) fn value_arguments(given: &[DataType]) -> Result<Vec<DataType>> {
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
pub(in crate::functions::json) fn last(given: &[DataType]) -> DataType {
    given.last().cloned().unwrap_or(DataType::Null)
}

/// `JSON_VALUE(text, path RETURNING type ... ON EMPTY ... ON ERROR)`. A scalar that is not a value of the type is an
/// error.
pub(in crate::functions::json) fn value_or(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
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
