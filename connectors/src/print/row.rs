//! Formatting of rows as by Flink's `Row.toString`: the kind and the values, `+I[a, b]`, nested rows likewise, `null`
//! for NULL, times in ISO format, intervals as `CAST(... AS STRING)` writes them.

use std::fmt::Write;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, IntervalYearMonthType, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef};
use arrow_cast::display::{ArrayFormatter, FormatOptions};
use arrow_schema::{DataType, IntervalUnit, TimeUnit};
use chrono::{DateTime, Datelike, NaiveTime, Timelike};

use crate::{RowKind, interval};

/// Appends one row of these columns.
pub(crate) fn append(out: &mut String, kind: RowKind, columns: &[ArrayRef], row: usize) {
    out.push_str(kind.symbol());
    out.push('[');
    append_list(out, columns.iter().map(|column| (column.as_ref(), row)));
    out.push(']');
}

fn append_list<'a>(out: &mut String, values: impl Iterator<Item = (&'a dyn Array, usize)>) {
    for (index, (array, row)) in values.enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        append_value(out, array, row);
    }
}

fn append_value(out: &mut String, array: &dyn Array, row: usize) {
    if array.is_null(row) {
        out.push_str("null");
        return;
    }
    // Writing to a String cannot fail; the results are combined so that none is ignored.
    let result = match array.data_type() {
        DataType::Boolean => write!(out, "{}", array.as_boolean().value(row)),
        DataType::Int8 => write!(out, "{}", array.as_primitive::<Int8Type>().value(row)),
        DataType::Int16 => write!(out, "{}", array.as_primitive::<Int16Type>().value(row)),
        DataType::Int32 => write!(out, "{}", array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => write!(out, "{}", array.as_primitive::<Int64Type>().value(row)),
        DataType::UInt8 => write!(out, "{}", array.as_primitive::<UInt8Type>().value(row)),
        DataType::UInt16 => write!(out, "{}", array.as_primitive::<UInt16Type>().value(row)),
        DataType::UInt32 => write!(out, "{}", array.as_primitive::<UInt32Type>().value(row)),
        DataType::UInt64 => write!(out, "{}", array.as_primitive::<UInt64Type>().value(row)),
        DataType::Float32 => {
            let value = array.as_primitive::<Float32Type>().value(row);
            append_float(out, f64::from(value), &format!("{value:?}"), &format!("{value:E}"))
        }
        DataType::Float64 => {
            let value = array.as_primitive::<Float64Type>().value(row);
            append_float(out, value, &format!("{value:?}"), &format!("{value:E}"))
        }
        DataType::Utf8 => out.write_str(array.as_string::<i32>().value(row)),
        DataType::LargeUtf8 => out.write_str(array.as_string::<i64>().value(row)),
        DataType::Utf8View => out.write_str(array.as_string_view().value(row)),
        DataType::Decimal128(_, _) => out.write_str(&array.as_primitive::<Decimal128Type>().value_as_string(row)),
        DataType::Date32 => match array.as_primitive::<Date32Type>().value_as_date(row) {
            Some(date) => write!(out, "{date}"),
            None => out.write_str("<date out of range>"),
        },
        DataType::Time32(unit) => append_time_of_day(
            out,
            match unit {
                TimeUnit::Second => array.as_primitive::<Time32SecondType>().value_as_time(row),
                _ => array.as_primitive::<Time32MillisecondType>().value_as_time(row),
            },
        ),
        DataType::Time64(unit) => append_time_of_day(
            out,
            match unit {
                TimeUnit::Nanosecond => array.as_primitive::<Time64NanosecondType>().value_as_time(row),
                _ => array.as_primitive::<Time64MicrosecondType>().value_as_time(row),
            },
        ),
        DataType::Timestamp(unit, zone) => append_timestamp(out, array, row, *unit, zone.is_some()),
        DataType::Interval(IntervalUnit::YearMonth) => {
            interval::write_months(array.as_primitive::<IntervalYearMonthType>().value(row), out)
        }
        DataType::Duration(TimeUnit::Microsecond) => {
            interval::write_microseconds(array.as_primitive::<DurationMicrosecondType>().value(row), out)
        }
        DataType::Struct(_) => {
            append(out, RowKind::Insert, array.as_struct().columns(), row);
            Ok(())
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            out.push('[');
            append_list(out, (0..items.len()).map(|item| (items.as_ref(), item)));
            out.write_str("]")
        }
        DataType::Map(_, _) => {
            let entries = array.as_map().value(row);
            out.push('{');
            for entry in 0..entries.len() {
                if entry > 0 {
                    out.push_str(", ");
                }
                append_value(out, entries.column(0), entry);
                out.push('=');
                append_value(out, entries.column(1), entry);
            }
            out.write_str("}")
        }
        DataType::Binary => append_bytes(out, array.as_binary::<i32>().value(row)),
        DataType::LargeBinary => append_bytes(out, array.as_binary::<i64>().value(row)),
        _ => match ArrayFormatter::try_new(array, &FormatOptions::default()) {
            Ok(formatter) => write!(out, "{}", formatter.value(row)),
            Err(error) => write!(out, "<{error}>"),
        },
    };
    debug_assert!(result.is_ok());
}

/// Appends a number as in Java: plain between 0.001 and ten million, `1.0E10` otherwise.
fn append_float(out: &mut String, value: f64, plain: &str, scientific: &str) -> std::fmt::Result {
    if value.is_nan() {
        return out.write_str("NaN");
    }
    if value.is_infinite() {
        return out.write_str(if value > 0.0 { "Infinity" } else { "-Infinity" });
    }
    if value == 0.0 || (1e-3..1e7).contains(&value.abs()) {
        return out.write_str(plain);
    }
    match scientific.split_once('E') {
        Some((mantissa, exponent)) if !mantissa.contains('.') => write!(out, "{mantissa}.0E{exponent}"),
        _ => out.write_str(scientific),
    }
}

fn append_bytes(out: &mut String, bytes: &[u8]) -> std::fmt::Result {
    out.push('[');
    for (index, byte) in bytes.iter().enumerate() {
        if index > 0 {
            out.push_str(", ");
        }
        write!(out, "{}", byte.cast_signed())?;
    }
    out.write_str("]")
}

fn append_timestamp(
    out: &mut String,
    array: &dyn Array,
    row: usize,
    unit: TimeUnit,
    is_instant: bool,
) -> std::fmt::Result {
    use arrow_array::types::{
        TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
    };
    let moment = match unit {
        TimeUnit::Second => DateTime::from_timestamp(array.as_primitive::<TimestampSecondType>().value(row), 0),
        TimeUnit::Millisecond => {
            DateTime::from_timestamp_millis(array.as_primitive::<TimestampMillisecondType>().value(row))
        }
        TimeUnit::Microsecond => {
            DateTime::from_timestamp_micros(array.as_primitive::<TimestampMicrosecondType>().value(row))
        }
        TimeUnit::Nanosecond => Some(DateTime::from_timestamp_nanos(
            array.as_primitive::<TimestampNanosecondType>().value(row),
        )),
    };
    let Some(moment) = moment.map(|moment| moment.naive_utc()) else {
        return out.write_str("<time out of range>");
    };
    let date = moment.date();
    match u32::try_from(date.year()) {
        Ok(year) if year <= 9999 => {
            append_digits(out, year, 4);
            out.push('-');
            append_digits(out, date.month(), 2);
            out.push('-');
            append_digits(out, date.day(), 2);
        }
        _ => write!(out, "{date}")?,
    }
    out.push('T');
    append_time(out, moment.time(), is_instant);
    if is_instant {
        out.push('Z');
    }
    Ok(())
}

fn append_time_of_day(out: &mut String, time: Option<NaiveTime>) -> std::fmt::Result {
    match time {
        Some(time) => append_time(out, time, false),
        None => out.push_str("<time out of range>"),
    }
    Ok(())
}

/// Appends `10:15`, `10:15:30` or `10:15:30.123`: seconds and fractions only if they are not zero, fractions in groups
/// of three digits.
fn append_time(out: &mut String, time: NaiveTime, always_seconds: bool) {
    append_digits(out, time.hour(), 2);
    out.push(':');
    append_digits(out, time.minute(), 2);
    let nanos = time.nanosecond() % 1_000_000_000;
    if time.second() != 0 || nanos != 0 || always_seconds {
        out.push(':');
        append_digits(out, time.second(), 2);
    }
    if nanos == 0 {
        return;
    }
    out.push('.');
    match nanos {
        _ if nanos.is_multiple_of(1_000_000) => append_digits(out, nanos / 1_000_000, 3),
        _ if nanos.is_multiple_of(1_000) => append_digits(out, nanos / 1_000, 6),
        _ => append_digits(out, nanos, 9),
    }
}

/// Appends decimal digits with leading zeros. Much cheaper than `write!`.
fn append_digits(out: &mut String, mut value: u32, width: usize) {
    let mut digits = [b'0'; 10];
    for digit in digits[..width].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend(digits[..width].iter().map(|digit| char::from(*digit)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{
        BinaryArray, DurationMicrosecondArray, Float64Array, Int64Array, IntervalYearMonthArray, StructArray,
        TimestampMicrosecondArray,
    };
    use arrow_schema::Field;

    use super::*;

    #[track_caller]
    fn check(column: ArrayRef, expected: &[&str]) {
        let lines: Vec<String> = (0..column.len())
            .map(|row| {
                let mut line = String::new();
                append(&mut line, RowKind::Insert, std::slice::from_ref(&column), row);
                line
            })
            .collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn values_print_as_in_flink() {
        check(
            Arc::new(Float64Array::from(vec![1.0, 0.25, 1e7, 1.5e-9, f64::NAN])),
            &["+I[1.0]", "+I[0.25]", "+I[1.0E7]", "+I[1.5E-9]", "+I[NaN]"],
        );
        let times = vec![1_436_918_400_000_000, 1_436_918_401_000_000, 1_436_918_400_123_000];
        check(
            Arc::new(TimestampMicrosecondArray::from(times.clone())),
            &[
                "+I[2015-07-15T00:00]",
                "+I[2015-07-15T00:00:01]",
                "+I[2015-07-15T00:00:00.123]",
            ],
        );
        check(
            Arc::new(TimestampMicrosecondArray::from(times).with_timezone("UTC")),
            &[
                "+I[2015-07-15T00:00:00Z]",
                "+I[2015-07-15T00:00:01Z]",
                "+I[2015-07-15T00:00:00.123Z]",
            ],
        );
        check(Arc::new(BinaryArray::from(vec![&[1u8, 255][..]])), &["+I[[1, -1]]"]);
        check(
            Arc::new(IntervalYearMonthArray::from(vec![18, -1])),
            &["+I[+1-06]", "+I[-0-01]"],
        );
        check(
            Arc::new(DurationMicrosecondArray::from(vec![1_047_845_678_901])),
            &["+I[+12 03:04:05.678]"],
        );
    }

    #[test]
    fn nested_rows_print_like_rows() {
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let nested = StructArray::from(vec![(Arc::new(Field::new("n", DataType::Int64, true)), numbers)]);
        check(Arc::new(nested), &["+I[+I[1]]", "+I[+I[null]]"]);
    }
}
