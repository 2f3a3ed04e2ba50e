//! `PRINTF`: formats of Java's `Formatter`.
//!
//! The conversions are those of texts, booleans and numbers: `s S b B c C d o x X e E f g G n %`. As in Flink, an
//! invalid format, and a value that does not fit its conversion, give NULL.

use datafusion::arrow::array::{Array, ArrayRef, AsArray, StringBuilder};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, DecimalType, Float64Type, Int64Type};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::scalar::{Scalar, Texts, array, array_result, utf8};

mod conversion;
mod digits;
mod pieces;

use conversion::padded;
use pieces::{Piece, Place, pieces};

/// Returns all functions of this module.
pub(super) fn all() -> Vec<Scalar> {
    vec![Scalar::infallible("printf", format_and_values, utf8, printf)]
}

fn format_and_values(given: &[DataType]) -> Result<Vec<DataType>> {
    let [_, values @ ..] = given else {
        return plan_err!("takes a format and values");
    };
    let mut accepted = vec![DataType::Utf8];
    for value in values {
        accepted.push(match value {
            DataType::Null | DataType::Boolean | DataType::Decimal128(..) => value.clone(),
            text if text.is_string() => DataType::Utf8,
            number if number.is_integer() => number.clone(),
            number if number.is_floating() => DataType::Float64,
            other => {
                return plan_err!(
                    "formats texts, numbers and booleans, not {}: CAST the value to STRING",
                    sql_type::name(other)
                );
            }
        });
    }
    Ok(accepted)
}

/// A value to format.
#[derive(Clone, Debug)]
enum Value {
    Null,
    Text(String),
    Boolean(bool),
    /// A number and the number of bits of its type.
    Integer(i64, u32),
    Double(f64),
    /// The digits of a decimal.
    Decimal(String),
}

fn values_of(array: &ArrayRef) -> Result<Vec<Value>> {
    let bits = match array.data_type() {
        DataType::Int8 => 8,
        DataType::Int16 => 16,
        DataType::Int32 => 32,
        _ => 64,
    };
    let or_null = |value: Option<Value>| value.unwrap_or(Value::Null);
    Ok(match array.data_type() {
        DataType::Utf8 => {
            let texts = array.as_string::<i32>().iter();
            texts
                .map(|text| or_null(text.map(|text| Value::Text(text.into()))))
                .collect()
        }
        DataType::Boolean => array
            .as_boolean()
            .iter()
            .map(|value| or_null(value.map(Value::Boolean)))
            .collect(),
        DataType::Decimal128(precision, scale) => {
            let digits = |value| Value::Decimal(Decimal128Type::format_decimal(value, *precision, *scale));
            array
                .as_primitive::<Decimal128Type>()
                .iter()
                .map(|value| or_null(value.map(digits)))
                .collect()
        }
        number if number.is_integer() => {
            let numbers = cast(array, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>().iter();
            numbers
                .map(|value| or_null(value.map(|value| Value::Integer(value, bits))))
                .collect()
        }
        DataType::Float64 => {
            let numbers = array.as_primitive::<Float64Type>().iter();
            numbers.map(|value| or_null(value.map(Value::Double))).collect()
        }
        _ => vec![Value::Null; array.len()],
    })
}

/// `PRINTF(format, values...)`.
fn printf(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let formats = Texts::of(arguments, 0)?;
    let columns = (1..arguments.args.len()).map(|index| values_of(&array(arguments, index)?));
    let columns = columns.collect::<Result<Vec<_>>>()?;
    let mut result = StringBuilder::with_capacity(arguments.number_rows, 32 * arguments.number_rows);
    let mut last: Option<(&str, Option<Vec<Piece>>)> = None;
    for row in 0..arguments.number_rows {
        let Some(format) = formats.get(row) else {
            result.append_null();
            continue;
        };
        if last.as_ref().is_none_or(|(known, _)| *known != format) {
            last = Some((format, pieces(format)));
        }
        let values: Vec<&Value> = columns.iter().map(|column| &column[row]).collect();
        let pieces = last.as_ref().and_then(|(_, pieces)| pieces.as_ref());
        result.append_option(pieces.and_then(|pieces| formatted(pieces, &values)));
    }
    array_result(result.finish())
}

fn formatted(pieces: &[Piece], values: &[&Value]) -> Option<String> {
    let mut result = String::new();
    let mut next = 0;
    let mut previous = None;
    for piece in pieces {
        let conversion = match piece {
            Piece::Literal(text) => {
                result.push_str(text);
                continue;
            }
            Piece::Conversion(conversion) => conversion,
        };
        match conversion.letter {
            'n' => {
                result.push('\n');
                continue;
            }
            '%' => {
                result.push_str(&padded("%".into(), conversion)?);
                continue;
            }
            _ => {}
        }
        let index = match conversion.place {
            Place::Index(index) => index,
            Place::Previous => previous?,
            Place::Next => {
                next += 1;
                next - 1
            }
        };
        previous = Some(index);
        result.push_str(&conversion.apply(values.get(index)?)?);
    }
    Some(result)
}
