//! Lossless conversions between column types.
//!
//! Some conversions preserve every value, by their types alone. Others preserve some values only (`DOUBLE` to `INT`):
//! they are applied and reversed, and a value that differs afterwards is an error. Numbers and times are never
//! converted into one another, because a number does not define its unit.

use arrow_array::{Array, ArrayRef};
use arrow_cast::{CastOptions, can_cast_types, cast_with_options};
use arrow_schema::{ArrowError, DataType, TimeUnit};

/// Returns true if a conversion may be attempted.
pub fn is_possible(from: &DataType, to: &DataType) -> bool {
    let mixes = |a: &DataType, b: &DataType| a.is_numeric() && b.is_temporal();
    can_cast_types(from, to) && !mixes(from, to) && !mixes(to, from)
}

/// Returns true if a conversion preserves every value of the type.
pub fn preserves_every_value(from: &DataType, to: &DataType) -> bool {
    use DataType::{
        Binary, BinaryView, Date32, Date64, Decimal128, Float16, Float32, Float64, LargeBinary, LargeUtf8, Timestamp,
        Utf8, Utf8View,
    };
    match (from, to) {
        _ if from == to => true,
        (DataType::Null, _) => true,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => true,
        (Binary | LargeBinary | BinaryView, Binary | LargeBinary | BinaryView) => true,
        (Float16, Float32 | Float64) | (Float32, Float64) => true,
        (Timestamp(from, _), Timestamp(to, _)) => ticks(to) >= ticks(from),
        (Date32 | Date64, Timestamp(..)) => true,
        (Decimal128(precision, scale), Decimal128(wider, finer)) => {
            finer >= scale && i16::from(*wider) - i16::from(*finer) >= i16::from(*precision) - i16::from(*scale)
        }
        (from, Float64) if from.is_integer() => integer_bits(from) <= 32,
        (from, Float32) if from.is_integer() => integer_bits(from) <= 16,
        (from, to) if from.is_integer() && to.is_integer() => {
            match (from.is_signed_integer(), to.is_signed_integer()) {
                (true, true) | (false, false) => integer_bits(to) >= integer_bits(from),
                (false, true) => integer_bits(to) > integer_bits(from),
                (true, false) => false,
            }
        }
        _ => false,
    }
}

/// Converts a column to another type. The error names the first value that would change.
pub fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, String> {
    let from = column.data_type();
    if from == to {
        return Ok(column.clone());
    }
    let converted = strictly(column, to).map_err(|error| error.to_string())?;
    // A parsed number or time may be formatted in another spelling than the text had, so the reverse does not compare.
    if preserves_every_value(from, to) || from.is_string() || !can_cast_types(to, from) {
        return Ok(converted);
    }
    let back = strictly(&converted, from).map_err(|error| error.to_string())?;
    if back.to_data() == column.to_data() {
        return Ok(converted);
    }
    let differs = (0..column.len()).find(|row| back.slice(*row, 1).to_data() != column.slice(*row, 1).to_data());
    let value = strictly(&column.slice(differs.unwrap_or(0), 1), &DataType::Utf8)
        .ok()
        .and_then(|text| {
            let text = text.as_any().downcast_ref::<arrow_array::StringArray>()?;
            text.is_valid(0).then(|| text.value(0).to_owned())
        })
        .unwrap_or_else(|| "a value".to_owned());
    Err(format!(
        "{value} is {from} in the file and cannot be the declared {to} without loss"
    ))
}

fn strictly(column: &ArrayRef, to: &DataType) -> Result<ArrayRef, ArrowError> {
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(column, to, &strict)
}

fn integer_bits(integer: &DataType) -> usize {
    integer.primitive_width().unwrap_or(0) * 8
}

fn ticks(unit: &TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Decimal128Array, Float64Array, Int64Array, StringArray, TimestampNanosecondArray};

    use super::*;

    #[track_caller]
    fn check(column: impl Array + 'static, to: DataType, lost: Option<&str>) {
        let column: ArrayRef = Arc::new(column);
        match (convert(&column, &to), lost) {
            (Ok(converted), None) => assert_eq!(converted.data_type(), &to),
            (Err(error), Some(value)) => assert!(error.starts_with(value), "{error}"),
            (found, _) => panic!("{found:?}"),
        }
    }

    #[test]
    fn a_value_that_would_be_lost_is_named() {
        check(Float64Array::from(vec![Some(2.0), None]), DataType::Int32, None);
        check(Float64Array::from(vec![2.0, 1.75]), DataType::Int32, Some("1.75"));
        check(
            Int64Array::from(vec![1, 9_007_199_254_740_993]),
            DataType::Float64,
            Some("9007199254740993"),
        );
        check(Int64Array::from(vec![1, 5]), DataType::Boolean, Some("5"));
        check(
            Int64Array::from(vec![1, 1 << 40]),
            DataType::Int32,
            Some("Cast error: Can't cast value 1099511627776"),
        );
        let cents = |cents| {
            Decimal128Array::from(vec![cents])
                .with_precision_and_scale(9, 3)
                .unwrap()
        };
        check(cents(1_230), DataType::Decimal128(5, 1), Some("1.230"));
        check(cents(1_200), DataType::Decimal128(5, 1), None);
        let times = |ns| TimestampNanosecondArray::from(vec![Some(ns), None]);
        check(times(1_000), DataType::Timestamp(TimeUnit::Microsecond, None), None);
        check(
            times(1_001),
            DataType::Timestamp(TimeUnit::Microsecond, None),
            Some("1970-01-01T00:00:00.000001001"),
        );
        check(times(1_000), DataType::Date32, Some("1970-01-01T00:00:00.000001"));
        check(StringArray::from(vec!["007"]), DataType::Int32, None);
    }

    #[test]
    fn numbers_are_not_converted_to_times() {
        assert!(!is_possible(&DataType::Int32, &DataType::Date32));
        assert!(!is_possible(
            &DataType::Timestamp(TimeUnit::Microsecond, None),
            &DataType::Int64
        ));
        assert!(is_possible(
            &DataType::Date32,
            &DataType::Timestamp(TimeUnit::Microsecond, None)
        ));
    }
}
