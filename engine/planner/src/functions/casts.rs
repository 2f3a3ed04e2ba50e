//! Casts whose values are not those of Arrow's: Flink's of text to numbers, of numbers to DECIMAL, and of arrays, maps
//! and rows.
//!
//! A text as an integer may have a fraction, which is cut off; a number with too many digits for a DECIMAL is NULL; the
//! fields of a ROW are cast by position. `sql/casts.rs` decides which casts are planned as these functions. The type of
//! the result is that of the last argument, a NULL.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryBuilder, BooleanArray, Decimal128Array, ListArray, MapArray,
    PrimitiveArray, StructArray,
};
use datafusion::arrow::compute::{CastOptions, can_cast_types, cast_with_options};
use datafusion::arrow::datatypes::{
    DataType, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalUnit, IntervalYearMonthType, TimeUnit,
};
use datafusion::arrow::util::display::FormatOptions;
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type::{self, is_interval};
use millstream_graph::{interval, multiset};

use super::scalar::{Notation, Scalar, array, array_result};
use super::value_text;

/// Names of the functions that stand for `CAST` and `TRY_CAST` of a query until types are coerced.
pub(crate) const EXPLICIT: [&str; 2] = ["$cast", "$try_cast"];

pub(super) fn all() -> Vec<Scalar> {
    vec![
        explicit(false),
        explicit(true),
        conversion(false),
        conversion(true),
        Scalar::infallible(
            "$binary",
            bytes_and_length,
            |_| DataType::Binary,
            |arguments| with_length(arguments, true),
        )
        .notation(Notation::Argument),
        Scalar::infallible(
            "$varbinary",
            bytes_and_length,
            |_| DataType::Binary,
            |arguments| with_length(arguments, false),
        )
        .notation(Notation::Argument),
    ]
}

/// Returns the function that stands for a cast of a query until types are coerced. It is never evaluated.
pub(super) fn explicit(is_try: bool) -> Scalar {
    Scalar::fallible(EXPLICIT[usize::from(is_try)], value_and_type, last, |_| {
        exec_err!("a cast was not planned")
    })
    .notation(Notation::Argument)
}

/// Returns the function of a cast that differs from Arrow's; `is_try` makes values that do not fit NULL. Its arguments
/// are the value, the name of the type (for plans and their comparison) and a NULL of the type.
pub(super) fn conversion(is_try: bool) -> Scalar {
    let scalar = if is_try {
        Scalar::infallible("$try_convert", value_and_type, last, |arguments| {
            convert_argument(arguments, true)
        })
    } else {
        Scalar::fallible("$convert", value_and_type, last, |arguments| {
            convert_argument(arguments, false)
        })
    };
    scalar.notation(Notation::Argument)
}

fn value_and_type(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [_, .., _] => Ok(given.to_vec()),
        _ => plan_err!("takes a value and a type, not {} arguments", given.len()),
    }
}

fn last(given: &[DataType]) -> DataType {
    given.last().cloned().unwrap_or(DataType::Null)
}

fn convert_argument(arguments: &ScalarFunctionArgs, is_try: bool) -> Result<ColumnarValue> {
    let values = array(arguments, 0)?;
    Ok(ColumnarValue::Array(convert(&values, arguments.return_type(), is_try)?))
}

/// Returns true if values of a type can be cast to another one.
pub(crate) fn can_convert(from: &DataType, to: &DataType) -> bool {
    match (from, to) {
        (DataType::Null, _) | (_, DataType::Utf8) => true,
        (from, to) if multiset::element(from).is_some() != multiset::element(to).is_some() => false,
        (DataType::List(from), DataType::List(to)) | (DataType::Map(from, _), DataType::Map(to, _)) => {
            can_convert(from.data_type(), to.data_type())
        }
        (DataType::Struct(from), DataType::Struct(to)) => {
            let fields = from.iter().zip(to);
            from.len() == to.len()
                && fields.fold(true, |can, (from, to)| {
                    can && can_convert(from.data_type(), to.data_type())
                })
        }
        (from, to) if is_interval(from) || is_interval(to) => from == to || *from == DataType::Utf8,
        (from, to) => from.is_nested() == to.is_nested() && can_cast_types(from, to),
    }
}

/// Casts values, those inside of arrays, maps and rows too.
fn convert(values: &ArrayRef, to: &DataType, is_try: bool) -> Result<ArrayRef> {
    if values.data_type() == to {
        return Ok(values.clone());
    }
    Ok(match (values.data_type(), to) {
        (DataType::List(_), DataType::List(field)) => {
            let list = values.as_list::<i32>();
            let elements = convert(list.values(), field.data_type(), is_try)?;
            let (offsets, nulls) = (list.offsets().clone(), list.nulls().cloned());
            Arc::new(ListArray::try_new(field.clone(), offsets, elements, nulls)?)
        }
        (DataType::Map(..), DataType::Map(field, is_sorted)) => {
            let map = values.as_map();
            let entries: ArrayRef = Arc::new(map.entries().clone());
            let entries = convert(&entries, field.data_type(), is_try)?;
            let (offsets, nulls) = (map.offsets().clone(), map.nulls().cloned());
            let entries = entries.as_struct().clone();
            let maps = MapArray::try_new(field.clone(), offsets, entries, nulls, *is_sorted)?;
            // Elements that were different may be equal now.
            match multiset::element(to) {
                Some(_) => Arc::new(multiset::canonical(&maps)?),
                None => Arc::new(maps),
            }
        }
        (DataType::Struct(_), DataType::Struct(fields)) => {
            let row = values.as_struct();
            let columns = row.columns().iter().zip(fields);
            let columns = columns.map(|(column, field)| convert(column, field.data_type(), is_try));
            let columns = columns.collect::<Result<Vec<_>>>()?;
            Arc::new(StructArray::try_new_with_length(
                fields.clone(),
                columns,
                row.nulls().cloned(),
                row.len(),
            )?)
        }
        (_, DataType::Utf8) => Arc::new(value_text::texts(values)?),
        (DataType::Utf8, DataType::Int8) => integers::<Int8Type>(values, to, is_try)?,
        (DataType::Utf8, DataType::Int16) => integers::<Int16Type>(values, to, is_try)?,
        (DataType::Utf8, DataType::Int32) => integers::<Int32Type>(values, to, is_try)?,
        (DataType::Utf8, DataType::Int64) => integers::<Int64Type>(values, to, is_try)?,
        (DataType::Utf8, DataType::Boolean) => booleans(values, is_try)?,
        (DataType::Utf8, DataType::Interval(IntervalUnit::YearMonth)) => {
            intervals::<IntervalYearMonthType>(values, to, interval::parse_months, is_try)?
        }
        (DataType::Utf8, DataType::Duration(TimeUnit::Microsecond)) => {
            intervals::<DurationMicrosecondType>(values, to, interval::parse_microseconds, is_try)?
        }
        (from, DataType::Decimal128(precision, scale)) => match from {
            DataType::Utf8 => text_decimals(values, *precision, *scale, is_try)?,
            DataType::Float64 => {
                let floats = values.as_primitive::<Float64Type>().iter();
                float_decimals(
                    floats.map(|value| value.map(|value| format!("{value:e}"))),
                    *precision,
                    *scale,
                )?
            }
            DataType::Float32 => {
                let floats = values.as_primitive::<Float32Type>().iter();
                float_decimals(
                    floats.map(|value| value.map(|value| format!("{value:e}"))),
                    *precision,
                    *scale,
                )?
            }
            _ => arrow_cast(values, to, true)?,
        },
        _ => arrow_cast(values, to, is_try)?,
    })
}

fn arrow_cast(values: &ArrayRef, to: &DataType, is_safe: bool) -> Result<ArrayRef> {
    let options = CastOptions {
        safe: is_safe,
        format_options: FormatOptions::default(),
    };
    Ok(cast_with_options(values, to, &options)?)
}

/// Returns NULL for a text that is not a value of a type, if values may be NULL, else the error.
fn no_value<T>(text: &str, to: &DataType, is_try: bool) -> Result<Option<T>> {
    match is_try {
        true => Ok(None),
        false => exec_err!("cannot cast `{text}` to {}", sql_type::name(to)),
    }
}

/// Parses integers. A fraction is checked and cut off (`BinaryStringDataUtil.toLong`).
fn integers<T: ArrowPrimitiveType>(values: &ArrayRef, to: &DataType, is_try: bool) -> Result<ArrayRef>
where
    T::Native: std::str::FromStr,
{
    let texts = values.as_string::<i32>();
    let parsed = texts.iter().map(|text| {
        let Some(text) = text else { return Ok(None) };
        let digits = text.trim();
        let whole = match digits.split_once('.') {
            Some((whole, fraction)) if fraction.bytes().all(|digit| digit.is_ascii_digit()) => match whole {
                // A fraction alone is 0.
                "" | "-" | "+" if !fraction.is_empty() => "0",
                whole => whole,
            },
            _ => digits,
        };
        match whole.parse::<T::Native>() {
            Ok(number) => Ok(Some(number)),
            Err(_) => no_value(text, to, is_try),
        }
    });
    Ok(Arc::new(parsed.collect::<Result<PrimitiveArray<T>>>()?))
}

/// Parses intervals.
fn intervals<T: ArrowPrimitiveType>(
    values: &ArrayRef,
    to: &DataType,
    parse: fn(&str) -> Option<T::Native>,
    is_try: bool,
) -> Result<ArrayRef> {
    let parsed = values.as_string::<i32>().iter().map(|text| {
        let Some(text) = text else { return Ok(None) };
        match parse(text) {
            Some(interval) => Ok(Some(interval)),
            None => no_value(text, to, is_try),
        }
    });
    Ok(Arc::new(parsed.collect::<Result<PrimitiveArray<T>>>()?))
}

/// Parses booleans (`BinaryStringDataUtil.toBoolean`).
fn booleans(values: &ArrayRef, is_try: bool) -> Result<ArrayRef> {
    let parsed = values.as_string::<i32>().iter().map(|text| {
        let Some(text) = text else { return Ok(None) };
        let is = |words: &[&str]| words.iter().any(|word| text.trim().eq_ignore_ascii_case(word));
        match (is(&["t", "true", "y", "yes", "1"]), is(&["f", "false", "n", "no", "0"])) {
            (true, _) => Ok(Some(true)),
            (_, true) => Ok(Some(false)),
            _ => no_value(text, &DataType::Boolean, is_try),
        }
    });
    Ok(Arc::new(parsed.collect::<Result<BooleanArray>>()?))
}

/// Parses decimals. One with too many digits is NULL, other texts are errors.
fn text_decimals(values: &ArrayRef, precision: u8, scale: i8, is_try: bool) -> Result<ArrayRef> {
    let texts = values.as_string::<i32>();
    let parsed = texts.iter().map(|text| {
        let Some(text) = text else { return Ok(None) };
        match decimal(text.trim(), scale) {
            Some(value) => Ok(value.filter(|value| fits(*value, precision))),
            None => no_value(text, &DataType::Decimal128(precision, scale), is_try),
        }
    });
    let decimals = parsed.collect::<Result<Decimal128Array>>()?;
    Ok(Arc::new(decimals.with_precision_and_scale(precision, scale)?))
}

/// Rounds floating-point numbers, given by their shortest digits; NULL for those that are not finite or too large.
fn float_decimals(texts: impl Iterator<Item = Option<String>>, precision: u8, scale: i8) -> Result<ArrayRef> {
    let decimals: PrimitiveArray<Decimal128Type> = texts
        .map(|text| {
            decimal(text?.as_str(), scale)
                .flatten()
                .filter(|value| fits(*value, precision))
        })
        .collect();
    Ok(Arc::new(decimals.with_precision_and_scale(precision, scale)?))
}

fn fits(value: i128, precision: u8) -> bool {
    value.unsigned_abs() < 10_u128.pow(u32::from(precision))
}

/// Parses a number such as `-12.5e3` as the unscaled value of a decimal, rounded half up. `None` if it is not a number,
/// `Some(None)` if it is too large.
fn decimal(text: &str, scale: i8) -> Option<Option<i128>> {
    let (is_negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    if digits().next().is_none() || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // The number of digits of the mantissa that belong to the unscaled value.
    let kept = i64::try_from(whole.len())
        .unwrap_or(i64::MAX)
        .saturating_add(exponent)
        .saturating_add(i64::from(scale));
    let mut value: i128 = 0;
    let mut is_up = false;
    let mut read: i64 = 0;
    for digit in digits() {
        if read >= kept {
            is_up = read == kept && digit >= b'5';
            break;
        }
        let next = value
            .checked_mul(10)
            .and_then(|value| value.checked_add(i128::from(digit - b'0')));
        let Some(next) = next else { return Some(None) };
        value = next;
        read += 1;
    }
    if value != 0 && read < kept {
        let zeros = u32::try_from(kept - read).unwrap_or(u32::MAX);
        let shifted = 10_i128.checked_pow(zeros).and_then(|unit| value.checked_mul(unit));
        let Some(shifted) = shifted else { return Some(None) };
        value = shifted;
    }
    let value = value.checked_add(i128::from(is_up));
    Some(value.map(|value| if is_negative { -value } else { value }))
}

fn bytes_and_length(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [_, _] => Ok(vec![DataType::Binary, DataType::Int64]),
        _ => plan_err!("takes bytes and a length, not {} arguments", given.len()),
    }
}

/// Cuts bytes to a length; shorter ones are filled with zeros if `is_padded`.
fn with_length(arguments: &ScalarFunctionArgs, is_padded: bool) -> Result<ColumnarValue> {
    let (values, lengths) = (array(arguments, 0)?, array(arguments, 1)?);
    let (values, lengths) = (values.as_binary::<i32>(), lengths.as_primitive::<Int64Type>());
    let mut result = BinaryBuilder::new();
    for (value, length) in values.iter().zip(lengths) {
        let Some((value, length)) = value.zip(length) else {
            result.append_null();
            continue;
        };
        let length = usize::try_from(length).unwrap_or(0);
        let kept = &value[..value.len().min(length)];
        if is_padded && kept.len() < length {
            let mut padded = kept.to_vec();
            padded.resize(length, 0);
            result.append_value(padded);
        } else {
            result.append_value(kept);
        }
    }
    array_result(result.finish())
}
