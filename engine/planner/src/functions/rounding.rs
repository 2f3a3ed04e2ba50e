//! `ROUND` and `TRUNCATE` of numbers of any type, with Flink's types and values (`RoundTypeStrategy`,
//! `SqlFunctions.sround`).
//!
//! A floating-point number is rounded as the decimal that it is written as, so `ROUND(1.005, 2)` of a DOUBLE is 1.01
//! although the nearest DOUBLE of 1.005 is below it.

use std::sync::Arc;

use datafusion::arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, Float32Array, Float64Array, PrimitiveArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Decimal128Type, Float32Type, Float64Type, Int64Type,
};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::scalar::{Scalar, array};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("round", number_and_digits, rounded_type, |arguments| {
            round(arguments, Direction::HalfUp)
        })
        .returns_for(rounded_type_for),
        Scalar::infallible("trunc", number_and_digits, rounded_type, |arguments| {
            round(arguments, Direction::Down)
        })
        .returns_for(rounded_type_for)
        .aliases(&["truncate"]),
    ]
}

/// Direction of rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    /// To the nearest number, halves away from zero.
    HalfUp,
    /// Towards zero.
    Down,
}

fn number_and_digits(given: &[DataType]) -> Result<Vec<DataType>> {
    let (number, digits) = match given {
        [number] => (number, None),
        [number, digits] => (number, Some(digits)),
        _ => {
            return plan_err!(
                "takes a number and optionally a number of digits, not {} arguments",
                given.len()
            );
        }
    };
    let accepted = match number {
        DataType::Null => DataType::Float64,
        number if number.is_signed_integer() || number.is_floating() => number.clone(),
        DataType::Decimal128(..) => number.clone(),
        number if number.is_unsigned_integer() => DataType::Int64,
        other => return plan_err!("takes a number, not {}", sql_type::name(other)),
    };
    match digits {
        None => Ok(vec![accepted]),
        Some(digits) if digits.is_integer() || digits.is_null() => Ok(vec![accepted, DataType::Int64]),
        Some(other) => plan_err!(
            "takes an integer as its number of digits, not {}",
            sql_type::name(other)
        ),
    }
}

/// Returns the type of a result whose number of digits is not constant: that of the number.
fn rounded_type(given: &[DataType]) -> DataType {
    given.first().cloned().unwrap_or(DataType::Null)
}

/// `findRoundDecimalType`: one digit more before the point, and as many after it as are kept.
fn rounded_type_for(given: &[DataType], constants: &[Option<&ScalarValue>]) -> DataType {
    let digits = match (given.len(), constants.get(1).copied().flatten()) {
        (1, _) => Some(0),
        (_, Some(constant)) => match constant.cast_to(&DataType::Int64) {
            Ok(ScalarValue::Int64(digits)) => digits,
            _ => None,
        },
        _ => None,
    };
    match (&given[0], digits) {
        (DataType::Decimal128(precision, scale), Some(digits)) if digits < i64::from(*scale) => {
            let kept = i8::try_from(digits.max(0)).unwrap_or(*scale);
            let whole = i16::from(*precision) - i16::from(*scale) + 1;
            let precision = (whole + i16::from(kept)).min(i16::from(DECIMAL128_MAX_PRECISION));
            DataType::Decimal128(u8::try_from(precision).unwrap_or(DECIMAL128_MAX_PRECISION), kept)
        }
        (number, _) => number.clone(),
    }
}

fn round(arguments: &ScalarFunctionArgs, direction: Direction) -> Result<ColumnarValue> {
    let numbers = array(arguments, 0)?;
    let digits = match arguments.args.len() {
        1 => None,
        _ => Some(array(arguments, 1)?),
    };
    let digits = digits.as_ref().map(|digits| digits.as_primitive::<Int64Type>());
    // Digits beyond those of any number change nothing.
    let digits = |row: usize| match digits {
        None => Some(0),
        Some(digits) => digits.is_valid(row).then(|| digits.value(row).clamp(-400, 400) as i32),
    };
    let result: ArrayRef = match arguments.return_type() {
        DataType::Float64 => {
            let numbers = numbers.as_primitive::<Float64Type>().iter().enumerate();
            let rounded: Float64Array = numbers
                .map(|(row, number)| Some(round_double(number?, digits(row)?, direction)))
                .collect();
            Arc::new(rounded)
        }
        DataType::Float32 => {
            let numbers = numbers.as_primitive::<Float32Type>().iter().enumerate();
            let rounded: Float32Array = numbers
                .map(|(row, number)| {
                    let (number, digits) = (number?, digits(row)?);
                    let rounded = round_text(&format!("{number:e}"), digits, direction);
                    Some(rounded.and_then(|rounded| rounded.parse().ok()).unwrap_or(number))
                })
                .collect();
            Arc::new(rounded)
        }
        DataType::Decimal128(precision, scale) => {
            let numbers = numbers.as_primitive::<Decimal128Type>();
            let (from_scale, to_scale) = (i32::from(numbers.scale()), i32::from(*scale));
            let largest = 10_u128.pow(u32::from(*precision));
            let rounded: Decimal128Array = numbers
                .iter()
                .enumerate()
                .map(|(row, number)| {
                    let (number, digits) = (number?, digits(row)?);
                    let whole = round_integer(number, from_scale - digits, direction);
                    // The digits that the result has no room for are zeros now.
                    let rescaled = match from_scale - to_scale {
                        0 => Some(whole),
                        fewer => 10_i128.checked_pow(fewer.unsigned_abs()).map(|unit| whole / unit),
                    };
                    rescaled.filter(|value| value.unsigned_abs() < largest)
                })
                .collect();
            Arc::new(rounded.with_precision_and_scale(*precision, *scale)?)
        }
        integer => {
            let numbers = cast(&numbers, &DataType::Int64)?;
            let numbers = numbers.as_primitive::<Int64Type>().iter().enumerate();
            let rounded: PrimitiveArray<Int64Type> = numbers
                .map(|(row, number)| {
                    let rounded = round_integer(i128::from(number?), -digits(row)?, direction);
                    i64::try_from(rounded).ok()
                })
                .collect();
            // A number that is rounded up beyond its type is NULL.
            cast(&rounded, integer)?
        }
    };
    Ok(ColumnarValue::Array(result))
}

/// Replaces the last `zeros` digits of a number by zeros.
fn round_integer(number: i128, zeros: i32, direction: Direction) -> i128 {
    let Ok(zeros) = u32::try_from(zeros) else {
        return number;
    };
    let Some(unit) = 10_i128.checked_pow(zeros) else {
        return 0;
    };
    let rest = number % unit;
    let down = number - rest;
    match direction {
        Direction::HalfUp if rest.unsigned_abs() >= unit.unsigned_abs() - rest.unsigned_abs() => {
            down.saturating_add(unit * rest.signum())
        }
        _ => down,
    }
}

fn round_double(number: f64, digits: i32, direction: Direction) -> f64 {
    if let Some(rounded) = round_clear_case(number, digits, direction) {
        return rounded;
    }
    let rounded = round_text(&format!("{number:e}"), digits, direction);
    rounded.and_then(|rounded| rounded.parse().ok()).unwrap_or(number)
}

/// Rounds a number whose scaled value is exact enough to see to which side it is rounded.
fn round_clear_case(number: f64, digits: i32, direction: Direction) -> Option<f64> {
    const SCALED_MAX: f64 = (1_u64 << 40) as f64;
    const MARGIN: f64 = 1e-3;
    if !(0..=15).contains(&digits) {
        return None;
    }
    let unit = 10_f64.powi(digits);
    let scaled = number * unit;
    let fraction = scaled.fract().abs();
    let boundary = match direction {
        Direction::HalfUp => 0.5,
        Direction::Down => 0.0,
    };
    let is_clear = (fraction - boundary).abs() > MARGIN && (fraction < 1.0 - MARGIN || direction == Direction::HalfUp);
    if !is_clear || scaled.abs() >= SCALED_MAX {
        return None;
    }
    let whole = match direction {
        Direction::HalfUp => scaled.round(),
        Direction::Down => scaled.trunc(),
    };
    // Both operands are exact, so the quotient is the nearest number to the decimal. Zero has no sign, as in Java.
    Some(whole / unit + 0.0)
}

/// Rounds a number in the form `-1.25e-7`; `None` if it is not finite or has no more digits.
fn round_text(scientific: &str, digits: i32, direction: Direction) -> Option<String> {
    let (mantissa, exponent) = scientific.split_once('e')?;
    let exponent: i32 = exponent.parse().ok()?;
    let (sign, mantissa) = match mantissa.strip_prefix('-') {
        Some(mantissa) => ("-", mantissa),
        None => ("", mantissa),
    };
    let written: Vec<u8> = mantissa.bytes().filter(u8::is_ascii_digit).collect();
    // The number of written digits that are kept.
    let kept = exponent + 1 + digits;
    let Ok(kept) = usize::try_from(kept) else {
        return Some("0".into());
    };
    if kept >= written.len() {
        return None;
    }
    let number = written[..kept]
        .iter()
        .fold(0_u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let is_up = direction == Direction::HalfUp && written[kept] >= b'5';
    match number + u64::from(is_up) {
        0 => Some("0".into()),
        number => Some(format!("{sign}{number}e{}", -digits)),
    }
}
