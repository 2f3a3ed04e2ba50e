//! The text of values, as `CAST(x AS STRING)` gives it in Flink.
//!
//! Floating-point numbers are those of Java's `Double.toString` (`1.0E20`, `Infinity`), an array is `[1, 2]`, a map
//! `{k=v}`, a row `(a, b)`, and a NULL inside one of these is `NULL`. Bytes are decoded as UTF-8.

use std::fmt::Write;
use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Float32Type, Float64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl};
use millstream_graph::sql_type::is_interval;

use super::scalar::{Notation, Scalar, array, array_result, utf8};
use super::time;

/// Returns the function of `CAST(x AS STRING)`.
pub(super) fn function() -> Scalar {
    Scalar::infallible("$value_text", any, utf8, |arguments| {
        let values = array(arguments, 0)?;
        array_result(texts(&values)?)
    })
    .notation(Notation::Argument)
}

fn any(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [_] => Ok(given.to_vec()),
        _ => plan_err!("takes one argument, not {}", given.len()),
    }
}

/// Returns true if the text of a type's values is not that of Arrow's cast.
pub(crate) fn has_own_text(data_type: &DataType) -> bool {
    matches!(
        data_type,
        DataType::Boolean
            | DataType::Float32
            | DataType::Float64
            | DataType::Binary
            | DataType::List(_)
            | DataType::Struct(_)
            | DataType::Map(..)
    )
}

/// Returns the text of each value; NULL for NULL.
pub(super) fn texts(values: &ArrayRef) -> Result<StringArray> {
    let writer = writer(values)?;
    let mut result = StringBuilder::with_capacity(values.len(), values.len() * 16);
    for row in 0..values.len() {
        if values.is_null(row) {
            result.append_null();
        } else {
            writer(row, &mut result);
            result.append_value("");
        }
    }
    Ok(result.finish())
}

/// Writes the text of the value at an index, which is not NULL.
type Writer<'a> = Box<dyn Fn(usize, &mut StringBuilder) + 'a>;

/// Appends to the value that is being built, which cannot fail.
fn put(out: &mut impl Write, text: &str) {
    let written = out.write_str(text);
    debug_assert!(written.is_ok(), "a builder in memory accepts any text");
}

fn writer(values: &ArrayRef) -> Result<Writer<'_>> {
    Ok(match values.data_type() {
        DataType::Boolean => {
            let values = values.as_boolean();
            Box::new(move |row, out| put(out, if values.value(row) { "TRUE" } else { "FALSE" }))
        }
        DataType::Float64 => {
            let values = values.as_primitive::<Float64Type>();
            Box::new(move |row, out| {
                let value = values.value(row);
                java_float(value, &format!("{value:e}"), out);
            })
        }
        DataType::Float32 => {
            let values = values.as_primitive::<Float32Type>();
            Box::new(move |row, out| {
                let value = values.value(row);
                java_float(f64::from(value), &format!("{value:e}"), out);
            })
        }
        DataType::Binary => {
            let values = values.as_binary::<i32>();
            Box::new(move |row, out| put(out, &String::from_utf8_lossy(values.value(row))))
        }
        DataType::List(_) => {
            let list = values.as_list::<i32>();
            let elements = element_writer(list.values())?;
            let offsets = list.value_offsets();
            Box::new(move |row, out| {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                put(out, "[");
                for (position, index) in range.enumerate() {
                    put(out, if position > 0 { ", " } else { "" });
                    elements(index, out);
                }
                put(out, "]");
            })
        }
        DataType::Map(..) => {
            let map = values.as_map();
            let (keys, entries) = (element_writer(map.keys())?, element_writer(map.values())?);
            let offsets = map.value_offsets();
            Box::new(move |row, out| {
                let range = offsets[row] as usize..offsets[row + 1] as usize;
                put(out, "{");
                for (position, index) in range.enumerate() {
                    put(out, if position > 0 { ", " } else { "" });
                    keys(index, out);
                    put(out, "=");
                    entries(index, out);
                }
                put(out, "}");
            })
        }
        DataType::Struct(_) => {
            let fields = values.as_struct().columns().iter().map(element_writer);
            let fields = fields.collect::<Result<Vec<_>>>()?;
            Box::new(move |row, out| {
                put(out, "(");
                for (position, field) in fields.iter().enumerate() {
                    put(out, if position > 0 { ", " } else { "" });
                    field(row, out);
                }
                put(out, ")");
            })
        }
        DataType::Null => Box::new(|_, out| put(out, "NULL")),
        DataType::Utf8 => {
            let values = values.as_string::<i32>();
            Box::new(move |row, out| put(out, values.value(row)))
        }
        _ => {
            let texts = plain_texts(values)?;
            Box::new(move |row, out| put(out, texts.as_string::<i32>().value(row)))
        }
    })
}

/// Returns a writer of values inside an array, map or row, of which some may be NULL.
fn element_writer(values: &ArrayRef) -> Result<Writer<'_>> {
    let some = writer(values)?;
    Ok(Box::new(move |index, out| match values.is_null(index) {
        true => put(out, "NULL"),
        false => some(index, out),
    }))
}

/// Returns the texts of times, intervals, integers and decimals.
fn plain_texts(values: &ArrayRef) -> Result<ArrayRef> {
    if !matches!(values.data_type(), DataType::Timestamp(..)) && !is_interval(values.data_type()) {
        return Ok(cast(values, &DataType::Utf8)?);
    }
    let arguments = ScalarFunctionArgs {
        args: vec![ColumnarValue::Array(values.clone())],
        arg_fields: vec![Arc::new(Field::new("", values.data_type().clone(), true))],
        number_rows: values.len(),
        return_field: Arc::new(Field::new("", DataType::Utf8, true)),
        config_options: Arc::default(),
    };
    time::to_text().invoke_with_args(arguments)?.into_array(values.len())
}

/// Returns digits, and 0 instead of none.
fn or_zero(digits: &str) -> &str {
    if digits.is_empty() { "0" } else { digits }
}

/// Returns a DOUBLE as Java's `Double.toString` writes it.
pub(super) fn double_text(value: f64) -> String {
    let mut text = String::new();
    java_float(value, &format!("{value:e}"), &mut text);
    text
}

/// Writes a number as Java's `Double.toString` does, given its shortest digits in the form `1.25e-7`: with an exponent
/// below 0.001 and from ten millions.
fn java_float(value: f64, scientific: &str, out: &mut impl Write) {
    if !value.is_finite() {
        return put(
            out,
            match value {
                value if value.is_nan() => "NaN",
                value if value > 0.0 => "Infinity",
                _ => "-Infinity",
            },
        );
    }
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let (first, rest) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    put(out, sign);
    match exponent.parse::<i32>().unwrap_or(0) {
        before @ 0..7 => {
            let before = before as usize;
            put(out, first);
            let whole = rest.len().min(before);
            put(out, &rest[..whole]);
            put(out, &"000000"[..before - whole]);
            put(out, ".");
            put(out, or_zero(&rest[whole..]));
        }
        zeros @ -3..0 => {
            put(out, "0.");
            put(out, &"00"[..(-zeros - 1) as usize]);
            put(out, first);
            put(out, rest);
        }
        _ => {
            put(out, first);
            put(out, ".");
            put(out, or_zero(rest));
            put(out, "E");
            put(out, exponent);
        }
    }
}
