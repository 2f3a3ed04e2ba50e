//! Text as times: `TO_TIMESTAMP`, `TO_TIMESTAMP_LTZ`, `TO_DATE`, `UNIX_TIMESTAMP`.
//!
//! Texts that are no time give NULL, except for `UNIX_TIMESTAMP`.

use datafusion::arrow::array::{Array, AsArray, Date32Array, Int64Array, PrimitiveArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Date32Type, Float64Type, Int64Type, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type::{timestamp, timestamp_ltz};

use super::super::civil::{DAY_US, SECOND_US, parse_date, parse_plain};
use super::super::scalar::{Scalar, Texts, array, array_result, bigint};
use super::arguments::{Patterns, Zones};
use super::date_pattern::Style;
use super::zone::Repeated;
use super::{arity, micros, texts, time};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::fallible("to_timestamp", one_or_two_texts, |_| timestamp(), to_timestamp),
        Scalar::fallible(
            "to_timestamp_ltz",
            number_or_texts,
            |_| timestamp_ltz(),
            to_timestamp_ltz,
        ),
        Scalar::fallible("to_date", one_or_two_texts, |_| DataType::Date32, to_date),
        Scalar::fallible("$unix_timestamp", time_or_texts, bigint, unix_timestamp),
        Scalar::fallible("$unix_timestamp_in", time_or_text_text_zone, bigint, unix_timestamp),
    ]
}

/// Digits of the fraction of a second that `TO_TIMESTAMP` and `TO_TIMESTAMP_LTZ` read without a longer pattern.
const FRACTION_DIGITS: usize = 3;
/// The years 0 to 9999, which `TO_TIMESTAMP_LTZ` is limited to, in microseconds since the epoch.
const LTZ_RANGE_US: std::ops::Range<i64> = -62_167_219_200 * SECOND_US..253_402_300_800 * SECOND_US;

fn one_or_two_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1, 2])?;
    texts(given)
}

fn time_or_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1, 2])?;
    match &given[0] {
        DataType::Timestamp(..) | DataType::Date32 if given.len() == 1 => Ok(vec![time(&given[0])?]),
        _ => texts(given),
    }
}

fn time_or_text_text_zone(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[3])?;
    match &given[0] {
        DataType::Timestamp(..) | DataType::Date32 => Ok(vec![time(&given[0])?, DataType::Utf8, DataType::Utf8]),
        _ => texts(given),
    }
}

fn number_or_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    match given.first() {
        Some(number) if number.is_numeric() => {
            arity(given, &[1, 2])?;
            let first = if number.is_floating() {
                DataType::Float64
            } else {
                DataType::Int64
            };
            Ok([vec![first], vec![DataType::Int64; given.len() - 1]].concat())
        }
        _ => {
            arity(given, &[1, 2, 3])?;
            texts(given)
        }
    }
}

/// Parses texts as local times with milliseconds, or with as many digits as the pattern has.
fn parsed(arguments: &ScalarFunctionArgs) -> Result<TimestampMicrosecondArray> {
    let texts = Texts::of(arguments, 0)?;
    let by_pattern = arguments.args.len() > 1;
    let mut patterns = Patterns::of(arguments, 1, Style::Formatter)?;
    let cut = |us: i64, digits: usize| us - us.rem_euclid(10_i64.pow(6 - digits.clamp(FRACTION_DIGITS, 6) as u32));
    Ok((0..arguments.number_rows)
        .map(|row| {
            let text = texts.get(row)?;
            if !by_pattern {
                return parse_plain(text).map(|us| cut(us, FRACTION_DIGITS));
            }
            let pattern = patterns.get(row)?;
            match pattern.parse(text) {
                Some(parsed) => Some(parsed.local_us),
                // As in Flink, `1999-9-10 05:20:10` is a time for every pattern.
                None => parse_plain(text).map(|us| cut(us, pattern.fraction_digits())),
            }
        })
        .collect())
}

fn to_timestamp(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    array_result(parsed(arguments)?)
}

fn to_date(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let texts = Texts::of(arguments, 0)?;
    let by_pattern = arguments.args.len() > 1;
    let mut patterns = Patterns::of(arguments, 1, Style::Simple)?;
    let result: Date32Array = (0..arguments.number_rows)
        .map(|row| {
            let text = texts.get(row)?;
            let day = match by_pattern {
                true => patterns.get(row)?.parse(text)?.local_us.div_euclid(DAY_US),
                false => parse_date(text)?,
            };
            i32::try_from(day).ok()
        })
        .collect::<PrimitiveArray<Date32Type>>();
    array_result(result)
}

/// `TO_TIMESTAMP_LTZ(number[, precision])`: seconds for precision 0, milliseconds for 3 (the default), and so on;
/// `TO_TIMESTAMP_LTZ(text[, pattern[, zone]])`: a local time of the zone, by default UTC.
fn to_timestamp_ltz(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let times = match arguments.arg_fields[0].data_type() {
        DataType::Int64 | DataType::Float64 => from_number(arguments)?,
        _ => {
            let mut zones = Zones::of(arguments, 2)?;
            let local = parsed(arguments)?;
            (0..local.len())
                .map(|row| {
                    let zone = zones.get(row)?;
                    (!local.is_null(row)).then(|| zone.instant_of(local.value(row), Repeated::First))
                })
                .collect()
        }
    };
    let within: PrimitiveArray<TimestampMicrosecondType> =
        times.unary_opt(|us| LTZ_RANGE_US.contains(&us).then_some(us));
    array_result(within.with_timezone("UTC"))
}

fn from_number(arguments: &ScalarFunctionArgs) -> Result<TimestampMicrosecondArray> {
    let precision = match arguments.args.get(1) {
        None => 3,
        Some(argument) => {
            let precisions = argument.to_array(1)?;
            let precisions = precisions.as_primitive::<Int64Type>();
            match precisions.iter().next() {
                Some(None) => return Ok(TimestampMicrosecondArray::new_null(arguments.number_rows)),
                Some(Some(precision)) => precision,
                None => 3,
            }
        }
    };
    if !(0..=9).contains(&precision) {
        return plan_err!(
            "TO_TIMESTAMP_LTZ counts in seconds (0), milliseconds (3), microseconds (6) or nanoseconds (9), or any \
             precision between, not {precision}"
        );
    }
    let numbers = array(arguments, 0)?;
    if let Some(numbers) = numbers.as_primitive_opt::<Float64Type>() {
        let factor = 10_f64.powi(6 - precision as i32);
        // Precisions below milliseconds are computed in milliseconds, as in Flink.
        let step = if precision <= 3 { 1000 } else { 1 };
        return Ok(numbers.unary_opt(|number| {
            let us = number * factor;
            (us.abs() < i64::MAX as f64).then(|| us as i64 / step * step)
        }));
    }
    let numbers = numbers.as_primitive::<Int64Type>();
    Ok(match u32::try_from(6 - precision) {
        Ok(digits) => numbers.unary_opt(|number| number.checked_mul(10_i64.pow(digits))),
        Err(_) => numbers.unary(|number| number.div_euclid(10_i64.pow((precision - 6) as u32))),
    })
}

/// `UNIX_TIMESTAMP(text[, pattern])`: seconds since the epoch, of a local time of UTC or of the zone of a third
/// argument. As in Flink, a text that is no time gives the least BIGINT.
fn unix_timestamp(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let zone = Zones::of(arguments, 2)?.constant();
    let instants: Int64Array = match arguments.arg_fields[0].data_type() {
        DataType::Utf8 => {
            let texts = Texts::of(arguments, 0)?;
            let mut patterns = Patterns::of(arguments, 1, Style::Simple)?;
            let seconds = (0..arguments.number_rows).map(|row| {
                let text = texts.get(row)?;
                let pattern = match patterns.is_null(row) {
                    true => return None,
                    false => patterns.get(row),
                };
                let instant = pattern
                    .and_then(|pattern| pattern.parse(text))
                    .map(|parsed| match parsed.offset_us {
                        Some(offset) => parsed.local_us.saturating_sub(offset),
                        None => zone.instant_of(parsed.local_us, Repeated::Second),
                    });
                Some(instant.map_or(i64::MIN, |instant| instant / SECOND_US))
            });
            seconds.collect()
        }
        DataType::Timestamp(_, Some(_)) => micros(arguments, 0)?.unary::<_, Int64Type>(|us| us.div_euclid(SECOND_US)),
        _ => {
            micros(arguments, 0)?.unary::<_, Int64Type>(|us| zone.instant_of(us, Repeated::First).div_euclid(SECOND_US))
        }
    };
    array_result(instants)
}
