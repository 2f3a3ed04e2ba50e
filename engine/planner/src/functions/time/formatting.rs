//! Times as text: `DATE_FORMAT`, `FROM_UNIXTIME`, `CONVERT_TZ`, `CAST(time AS STRING)`.

use datafusion::arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray, StringArray, StringBuilder,
};
use datafusion::arrow::datatypes::{DataType, DurationMicrosecondType, Int64Type, IntervalUnit, IntervalYearMonthType};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::interval;
use millstream_graph::sql_type::day_time;

use super::super::civil::{SECOND_US, parse_timestamp};
use super::super::scalar::{Scalar, Texts, array, array_result, strings, utf8};
use super::arguments::{DEFAULT_PATTERN, Patterns, Zones};
use super::date_pattern::{Pattern, Style};
use super::zone::{Conversion, Repeated};
use super::{arity, micros, texts, time, value};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("date_format", time_or_text_text, utf8, date_format).in_local_time(),
        Scalar::fallible("from_unixtime", number_maybe_text, utf8, from_unixtime),
        Scalar::fallible("$from_unixtime_in", number_text_zone, utf8, from_unixtime),
        Scalar::fallible("convert_tz", strings::<3>, utf8, convert_tz),
        to_text(),
    ]
}

/// Returns the function of `CAST(x AS STRING)`.
pub(in crate::functions) fn to_text() -> Scalar {
    Scalar::infallible("$text", any_type, utf8, as_text).in_local_time()
}

fn time_or_text_text(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    let first = if given[0] == DataType::Utf8 {
        DataType::Utf8
    } else {
        time(&given[0])?
    };
    Ok(vec![first, DataType::Utf8])
}

fn number_maybe_text(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1, 2])?;
    let mut types = texts(&given[1..])?;
    types.insert(0, DataType::Int64);
    Ok(types)
}

fn number_text_zone(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[3])?;
    let mut types = texts(&given[1..])?;
    types.insert(0, DataType::Int64);
    Ok(types)
}

fn any_type(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1])?;
    Ok(match &given[0] {
        DataType::Timestamp(..) | DataType::Boolean | DataType::Date32 => given.to_vec(),
        DataType::Interval(IntervalUnit::YearMonth) => given.to_vec(),
        DataType::Interval(_) | DataType::Duration(_) => vec![day_time()],
        _ => vec![DataType::Utf8],
    })
}

/// Formats times by a pattern. `times` returns the local time of a row, and its offset from UTC.
fn formatted(
    rows: usize,
    mut times: impl FnMut(usize) -> Option<(i64, i64)>,
    mut patterns: Patterns<'_>,
) -> Result<ColumnarValue> {
    let mut result = StringBuilder::with_capacity(rows, 20 * rows);
    for row in 0..rows {
        match (times(row), patterns.get(row)) {
            (Some((local_us, offset_us)), Some(pattern)) => {
                if pattern.format(local_us, offset_us, &mut result).is_err() {
                    return exec_err!("a date cannot be written");
                }
                result.append_value("");
            }
            _ => result.append_null(),
        }
    }
    array_result(result.finish())
}

/// `DATE_FORMAT(time, pattern)`.
fn date_format(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let is_text = *arguments.arg_fields[0].data_type() == DataType::Utf8;
    let style = if is_text { Style::Simple } else { Style::Formatter };
    let patterns = Patterns::of(arguments, 1, style)?;
    if let Some(pattern) = patterns.constant()
        && !is_text
        && pattern.has_offset()
    {
        return plan_err!(
            "a time has no offset from UTC that DATE_FORMAT could write: leave the letters X, x and Z out, or write \
             'Z' in quotes if the time is in UTC"
        );
    }
    if is_text {
        let texts = Texts::of(arguments, 0)?;
        let times = |row| Some((parse_timestamp(texts.get(row)?)?, 0));
        return formatted(arguments.number_rows, times, patterns);
    }
    let times = micros(arguments, 0)?;
    formatted(arguments.number_rows, |row| Some((value(&times, row)?, 0)), patterns)
}

/// `FROM_UNIXTIME(seconds[, pattern])`, in UTC or in the zone of a third argument.
fn from_unixtime(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let seconds = array(arguments, 0)?;
    let seconds = seconds.as_primitive::<Int64Type>();
    let zones = Zones::of(arguments, 2)?;
    let zone = zones.constant();
    let mut conversion = Conversion::new(&zone);
    let time = |row: usize| {
        let instant = (!seconds.is_null(row)).then(|| seconds.value(row).checked_mul(SECOND_US))??;
        let local = conversion.local(instant);
        Some((local, local.saturating_sub(instant)))
    };
    formatted(arguments.number_rows, time, Patterns::of(arguments, 1, Style::Simple)?)
}

/// `CONVERT_TZ(text, from, to)`: converts a local time from one zone to another.
fn convert_tz(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let (mut from, mut to) = (Zones::of(arguments, 1)?, Zones::of(arguments, 2)?);
    let Ok(pattern) = Pattern::new(Style::Simple, DEFAULT_PATTERN) else {
        return exec_err!("a date cannot be read");
    };
    let convert = |row: usize| -> Option<(i64, i64)> {
        let local = pattern.parse(texts.get(row)?)?.local_us;
        let (from, to) = (from.get(row)?, to.get(row)?);
        let instant = from.instant_of(local, Repeated::Second);
        let offset = to.offset_at(instant);
        Some((instant.checked_add(offset)?, offset))
    };
    let patterns = Patterns::of(arguments, usize::MAX, Style::Simple)?;
    formatted(arguments.number_rows, convert, patterns)
}

/// Returns Flink's text of a timestamp, date, boolean or interval; other types were cast already.
fn as_text(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    match arguments.arg_fields[0].data_type() {
        DataType::Timestamp(..) => {
            let times = micros(arguments, 0)?;
            let millis = Pattern::new(Style::Formatter, "yyyy-MM-dd HH:mm:ss.SSS");
            let micros = Pattern::new(Style::Formatter, "yyyy-MM-dd HH:mm:ss.SSSSSS");
            let (Ok(millis), Ok(micros)) = (millis, micros) else {
                return exec_err!("a date cannot be written");
            };
            let mut result = StringBuilder::with_capacity(times.len(), 24 * times.len());
            for row in 0..times.len() {
                match value(&times, row) {
                    Some(us) => {
                        let pattern = if us % 1000 == 0 { &millis } else { &micros };
                        if pattern.format(us, 0, &mut result).is_err() {
                            return exec_err!("a date cannot be written");
                        }
                        result.append_value("");
                    }
                    None => result.append_null(),
                }
            }
            array_result(result.finish())
        }
        DataType::Boolean => {
            let values = array(arguments, 0)?;
            let values = values.as_boolean();
            let texts = values
                .iter()
                .map(|value| value.map(|value| if value { "TRUE" } else { "FALSE" }));
            array_result(texts.collect::<StringArray>())
        }
        DataType::Interval(IntervalUnit::YearMonth) => {
            let values = array(arguments, 0)?;
            written(values.as_primitive::<IntervalYearMonthType>(), interval::write_months)
        }
        DataType::Duration(_) => {
            let values = array(arguments, 0)?;
            written(
                values.as_primitive::<DurationMicrosecondType>(),
                interval::write_microseconds,
            )
        }
        DataType::Date32 => {
            let cast: ArrayRef = datafusion::arrow::compute::cast(&array(arguments, 0)?, &DataType::Utf8)?;
            Ok(ColumnarValue::Array(cast))
        }
        _ => Ok(arguments.args[0].clone()),
    }
}

/// Returns the texts of intervals.
fn written<T: ArrowPrimitiveType>(
    intervals: &PrimitiveArray<T>,
    write: impl Fn(T::Native, &mut StringBuilder) -> std::fmt::Result,
) -> Result<ColumnarValue> {
    let mut result = StringBuilder::with_capacity(intervals.len(), 16 * intervals.len());
    for interval in intervals.iter() {
        match interval {
            Some(interval) if write(interval, &mut result).is_ok() => result.append_value(""),
            _ => result.append_null(),
        }
    }
    array_result(result.finish())
}
