//! Functions of dates and timestamps.
//!
//! Timestamps are microseconds since the epoch; their parts are computed by vectorised arithmetic. The only time zone
//! is UTC, so `TIMESTAMP` and `TIMESTAMP_LTZ` differ in type only.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, PrimitiveArray, StringBuilder, TimestampMicrosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Date32Type, Int64Type, TimeUnit, TimestampMicrosecondType};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type::{self, timestamp, timestamp_ltz};

use super::civil::{
    DAY_US, HOUR_US, MINUTE_US, Pattern, SECOND_US, civil, days, days_in_month, iso_week, iso_weekday, parse_timestamp,
};
use super::scalar::{Scalar, Texts, array, array_result, bigint, strings, utf8};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("$part", text_time, bigint, part),
        Scalar::infallible("$floor_time", time_text, first, |arguments| {
            round_to_unit(arguments, false)
        }),
        Scalar::fallible("$ceil_time", time_text, first, |arguments| {
            round_to_unit(arguments, true)
        }),
        Scalar::infallible("date_format", time_or_text_text, utf8, date_format),
        Scalar::fallible("to_timestamp", texts, |_| timestamp(), to_timestamp),
        Scalar::fallible(
            "to_timestamp_ltz",
            number_or_texts,
            |_| timestamp_ltz(),
            to_timestamp_ltz,
        ),
        Scalar::fallible("to_date", texts, |_| DataType::Date32, to_date),
        Scalar::fallible("$unix_timestamp", time_or_texts, bigint, unix_timestamp),
        Scalar::fallible("from_unixtime", number_maybe_text, utf8, from_unixtime),
        Scalar::fallible("timestampdiff", text_time_time, |_| DataType::Int32, difference),
        Scalar::fallible("timestampadd", text_number_time, |given| given[2].clone(), addition),
        Scalar::fallible("$cut_time", time_number, first, truncate_fraction),
        Scalar::fallible("convert_tz", strings::<3>, utf8, convert_tz),
        to_text(),
    ]
}

/// Returns the function of `CAST(x AS STRING)`.
pub(super) fn to_text() -> Scalar {
    Scalar::infallible("$text", any_type, utf8, as_text)
}

const DEFAULT_PATTERN: &str = "yyyy-MM-dd HH:mm:ss";

fn first(given: &[DataType]) -> DataType {
    given[0].clone()
}

/// Returns the type that a time argument is cast to: strings are parsed as timestamps.
fn time(given: &DataType) -> Result<DataType> {
    match given {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Microsecond, zone.clone())),
        DataType::Date32 | DataType::Date64 | DataType::Null | DataType::Utf8 => Ok(timestamp()),
        other => plan_err!(
            "takes a TIMESTAMP or DATE, not {}; for milliseconds use TO_TIMESTAMP_LTZ(n, 3)",
            sql_type::name(other)
        ),
    }
}

fn arity(given: &[DataType], wanted: &[usize]) -> Result<()> {
    if wanted.contains(&given.len()) {
        return Ok(());
    }
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    plan_err!("takes {} arguments, not {}", wanted.join(" or "), given.len())
}

fn text_time(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    Ok(vec![DataType::Utf8, time(&given[1])?])
}

fn time_text(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    Ok(vec![time(&given[0])?, DataType::Utf8])
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

fn texts(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1, 2])?;
    if let Some(other) = given
        .iter()
        .find(|given| !matches!(given, DataType::Utf8 | DataType::Null))
    {
        return plan_err!("takes a STRING, not {}", sql_type::name(other));
    }
    Ok(vec![DataType::Utf8; given.len()])
}

fn time_or_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1, 2])?;
    match &given[0] {
        DataType::Timestamp(..) | DataType::Date32 if given.len() == 1 => Ok(vec![time(&given[0])?]),
        _ => texts(given),
    }
}

fn number_or_texts(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1, 2])?;
    if given[0].is_numeric() {
        return Ok(vec![DataType::Int64; given.len()]);
    }
    texts(given)
}

fn number_maybe_text(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1, 2])?;
    let mut types = vec![DataType::Utf8; given.len()];
    types[0] = DataType::Int64;
    Ok(types)
}

fn text_time_time(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[3])?;
    Ok(vec![DataType::Utf8, time(&given[1])?, time(&given[2])?])
}

fn text_number_time(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[3])?;
    Ok(vec![DataType::Utf8, DataType::Int64, time(&given[2])?])
}

fn any_type(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1])?;
    Ok(match &given[0] {
        DataType::Timestamp(..) | DataType::Boolean | DataType::Date32 => given.to_vec(),
        _ => vec![DataType::Utf8],
    })
}

fn micros(arguments: &ScalarFunctionArgs, index: usize) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let array = array(arguments, index)?;
    match array.as_primitive_opt::<TimestampMicrosecondType>() {
        Some(times) => Ok(times.clone()),
        None => plan_err!("argument {} must be a TIMESTAMP", index + 1),
    }
}

/// Returns the unit, which must be the same for all rows.
fn unit(arguments: &ScalarFunctionArgs, index: usize) -> Result<&str> {
    match Texts::of(arguments, index)?.constant() {
        Some(unit) => Ok(unit.strip_prefix("SQL_TSI_").unwrap_or(unit)),
        None => plan_err!("the unit must be a word such as SECOND"),
    }
}

/// `EXTRACT(unit FROM time)`.
fn part(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let times = micros(arguments, 1)?;
    let of: fn(i64) -> i64 = match unit(arguments, 0)?.to_ascii_uppercase().trim_end_matches('S') {
        "MICROSECOND" => |us| us.rem_euclid(SECOND_US),
        "MILLISECOND" => |us| us.rem_euclid(SECOND_US) / 1000,
        "SECOND" => |us| us.rem_euclid(MINUTE_US) / SECOND_US,
        "MINUTE" => |us| us.rem_euclid(HOUR_US) / MINUTE_US,
        "HOUR" => |us| us.rem_euclid(DAY_US) / HOUR_US,
        "DAY" => |us| i64::from(civil(us.div_euclid(DAY_US)).2),
        "MONTH" => |us| i64::from(civil(us.div_euclid(DAY_US)).1),
        "QUARTER" => |us| i64::from((civil(us.div_euclid(DAY_US)).1 - 1) / 3 + 1),
        "YEAR" => |us| civil(us.div_euclid(DAY_US)).0,
        "DECADE" => |us| civil(us.div_euclid(DAY_US)).0.div_euclid(10),
        "CENTURY" => |us| (civil(us.div_euclid(DAY_US)).0 + 99).div_euclid(100),
        "MILLENNIUM" => |us| (civil(us.div_euclid(DAY_US)).0 + 999).div_euclid(1000),
        "WEEK" | "ISOWEEK" => |us| iso_week(us.div_euclid(DAY_US)).1,
        "ISOYEAR" => |us| iso_week(us.div_euclid(DAY_US)).0,
        "ISODOW" => |us| iso_weekday(us.div_euclid(DAY_US)),
        // Sunday is 1.
        "DOW" | "DAYOFWEEK" => |us| iso_weekday(us.div_euclid(DAY_US)) % 7 + 1,
        "DOY" | "DAYOFYEAR" => |us| {
            let day = us.div_euclid(DAY_US);
            day - days(civil(day).0, 1, 1) + 1
        },
        "EPOCH" => |us| us.div_euclid(SECOND_US),
        other => return plan_err!("`{other}` is not a part of a time; YEAR, MONTH, DAY, HOUR, MINUTE, SECOND are"),
    };
    array_result(times.unary::<_, Int64Type>(of))
}

/// Returns the start of the unit that contains a time.
fn floor(us: i64, unit: &str) -> Option<i64> {
    let day = us.div_euclid(DAY_US);
    Some(match unit {
        "MICROSECOND" => us,
        "MILLISECOND" => us - us.rem_euclid(1000),
        "SECOND" => us - us.rem_euclid(SECOND_US),
        "MINUTE" => us - us.rem_euclid(MINUTE_US),
        "HOUR" => us - us.rem_euclid(HOUR_US),
        "DAY" => day * DAY_US,
        // Weeks start on Sunday in Flink's FLOOR.
        "WEEK" => (day - iso_weekday(day) % 7) * DAY_US,
        "MONTH" => {
            let (year, month, _) = civil(day);
            days(year, month, 1) * DAY_US
        }
        "QUARTER" => {
            let (year, month, _) = civil(day);
            days(year, (month - 1) / 3 * 3 + 1, 1) * DAY_US
        }
        "YEAR" => days(civil(day).0, 1, 1) * DAY_US,
        _ => return None,
    })
}

/// `FLOOR(time TO unit)`, `CEIL(time TO unit)`.
fn round_to_unit(arguments: &ScalarFunctionArgs, up: bool) -> Result<ColumnarValue> {
    let times = micros(arguments, 0)?;
    let name = unit(arguments, 1)?.to_ascii_uppercase();
    let name = name.trim_end_matches('S');
    if floor(0, name).is_none() {
        return plan_err!(
            "a time is rounded to YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE or SECOND, not to `{name}`"
        );
    }
    let result: PrimitiveArray<TimestampMicrosecondType> = times.unary(|us| {
        let start = floor(us, name).unwrap_or(us);
        if up && start != us { next(start, name) } else { start }
    });
    let zone = times.timezone().map(Arc::from);
    array_result(result.with_timezone_opt::<Arc<str>>(zone))
}

fn time_number(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    Ok(vec![time(&given[0])?, DataType::Int64])
}

/// `CAST(time AS TIMESTAMP(digits))`: truncates the fraction of a second to this many digits.
fn truncate_fraction(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let times = micros(arguments, 0)?;
    let digits = array(arguments, 1)?;
    let digits = digits.as_primitive::<Int64Type>();
    let digits = digits
        .iter()
        .next()
        .flatten()
        .and_then(|digits| u32::try_from(digits).ok());
    let step = 10_i64.pow(6 - digits.unwrap_or(6).min(6));
    let result: PrimitiveArray<TimestampMicrosecondType> = times.unary(|us| us - us.rem_euclid(step));
    let zone = times.timezone().map(Arc::from);
    array_result(result.with_timezone_opt::<Arc<str>>(zone))
}

/// Returns the start of the next unit.
fn next(start: i64, unit: &str) -> i64 {
    match unit {
        "MILLISECOND" => start + 1000,
        "SECOND" => start + SECOND_US,
        "MINUTE" => start + MINUTE_US,
        "HOUR" => start + HOUR_US,
        "DAY" => start + DAY_US,
        "WEEK" => start + 7 * DAY_US,
        "MONTH" => add_months(start, 1),
        "QUARTER" => add_months(start, 3),
        "YEAR" => add_months(start, 12),
        _ => start,
    }
}

/// Adds months; the day becomes the last of the month if it does not exist there.
fn add_months(us: i64, months: i64) -> i64 {
    let (year, month, day) = civil(us.div_euclid(DAY_US));
    let total = year
        .saturating_mul(12)
        .saturating_add(i64::from(month) - 1)
        .saturating_add(months);
    let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
    let day = day.min(days_in_month(year, month));
    days(year, month, day)
        .saturating_mul(DAY_US)
        .saturating_add(us.rem_euclid(DAY_US))
}

/// The patterns of an argument; a pattern is compiled again only when it changes.
struct Patterns<'a> {
    texts: Option<Texts<'a>>,
    last: Option<(&'a str, Option<Pattern>)>,
}

impl<'a> Patterns<'a> {
    fn of(arguments: &'a ScalarFunctionArgs, index: usize) -> Result<Self> {
        if index >= arguments.args.len() {
            let default = Pattern::new(DEFAULT_PATTERN).ok();
            return Ok(Self {
                texts: None,
                last: Some((DEFAULT_PATTERN, default)),
            });
        }
        let texts = Texts::of(arguments, index)?;
        if let Some(constant) = texts.constant()
            && let Err(message) = Pattern::new(constant)
        {
            return exec_err!("{message}");
        }
        Ok(Self {
            texts: Some(texts),
            last: None,
        })
    }

    fn get(&mut self, row: usize) -> Option<&Pattern> {
        if let Some(texts) = &self.texts {
            let text = texts.get(row)?;
            if self.last.as_ref().is_none_or(|(last, _)| *last != text) {
                self.last = Some((text, Pattern::new(text).ok()));
            }
        }
        self.last.as_ref()?.1.as_ref()
    }
}

/// Formats times by a pattern.
fn formatted(rows: usize, times: impl Fn(usize) -> Option<i64>, mut patterns: Patterns<'_>) -> Result<ColumnarValue> {
    let mut result = StringBuilder::with_capacity(rows, 20 * rows);
    for row in 0..rows {
        match (times(row), patterns.get(row)) {
            (Some(us), Some(pattern)) => {
                if pattern.format(us, &mut result).is_err() {
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
    let patterns = Patterns::of(arguments, 1)?;
    if *arguments.arg_fields[0].data_type() == DataType::Utf8 {
        let texts = Texts::of(arguments, 0)?;
        return formatted(arguments.number_rows, |row| parse_timestamp(texts.get(row)?), patterns);
    }
    let times = micros(arguments, 0)?;
    formatted(arguments.number_rows, |row| value(&times, row), patterns)
}

fn value(times: &PrimitiveArray<TimestampMicrosecondType>, row: usize) -> Option<i64> {
    (!times.is_null(row)).then(|| times.value(row))
}

/// Parses texts as times; those that do not match are NULL.
fn parsed(arguments: &ScalarFunctionArgs) -> Result<TimestampMicrosecondArray> {
    let texts = Texts::of(arguments, 0)?;
    let by_pattern = arguments.args.len() > 1;
    let mut patterns = Patterns::of(arguments, 1)?;
    Ok((0..arguments.number_rows)
        .map(|row| {
            let text = texts.get(row)?;
            if by_pattern {
                patterns.get(row)?.parse(text)
            } else {
                parse_timestamp(text)
            }
        })
        .collect())
}

fn to_timestamp(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    array_result(parsed(arguments)?)
}

fn to_date(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let result: Date32Array =
        parsed(arguments)?.unary_opt::<_, Date32Type>(|us| i32::try_from(us.div_euclid(DAY_US)).ok());
    array_result(result)
}

/// `TO_TIMESTAMP_LTZ(number, precision)`: seconds for 0, milliseconds for 3 (the default).
fn to_timestamp_ltz(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if *arguments.arg_fields[0].data_type() != DataType::Int64 {
        return array_result(parsed(arguments)?.with_timezone("UTC"));
    }
    let numbers = array(arguments, 0)?;
    let numbers = numbers.as_primitive::<Int64Type>();
    let precision = match arguments.args.get(1) {
        None => 3,
        Some(argument) => {
            let precisions = argument.to_array(1)?;
            let precisions = precisions.as_primitive::<Int64Type>();
            if precisions.is_empty() || precisions.is_null(0) {
                3
            } else {
                precisions.value(0)
            }
        }
    };
    let result: PrimitiveArray<TimestampMicrosecondType> = match precision {
        0 => numbers.unary_opt(|number| number.checked_mul(SECOND_US)),
        3 => numbers.unary_opt(|number| number.checked_mul(1000)),
        6 => numbers.unary(|number| number),
        9 => numbers.unary(|number| number.div_euclid(1000)),
        other => {
            return plan_err!(
                "TO_TIMESTAMP_LTZ counts in seconds (0), milliseconds (3), microseconds (6) or nanoseconds (9), not {other}"
            );
        }
    };
    array_result(result.with_timezone("UTC"))
}

/// `UNIX_TIMESTAMP(text[, pattern])`: seconds since the epoch.
fn unix_timestamp(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let times = if *arguments.arg_fields[0].data_type() == DataType::Utf8 {
        parsed(arguments)?
    } else {
        micros(arguments, 0)?
    };
    array_result(times.unary::<_, Int64Type>(|us| us.div_euclid(SECOND_US)))
}

/// `FROM_UNIXTIME(seconds[, pattern])`.
fn from_unixtime(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let seconds = array(arguments, 0)?;
    let seconds = seconds.as_primitive::<Int64Type>();
    let time = |row: usize| {
        (!seconds.is_null(row))
            .then(|| seconds.value(row).checked_mul(SECOND_US))
            .flatten()
    };
    formatted(arguments.number_rows, time, Patterns::of(arguments, 1)?)
}

/// Returns the length of a unit in microseconds, if it is fixed.
fn fixed(unit: &str) -> Option<i64> {
    Some(match unit {
        "MICROSECOND" => 1,
        "MILLISECOND" => 1000,
        "SECOND" => SECOND_US,
        "MINUTE" => MINUTE_US,
        "HOUR" => HOUR_US,
        "DAY" => DAY_US,
        "WEEK" => 7 * DAY_US,
        _ => return None,
    })
}

fn months(unit: &str) -> Option<i64> {
    Some(match unit {
        "MONTH" => 1,
        "QUARTER" => 3,
        "YEAR" => 12,
        _ => return None,
    })
}

fn unknown_unit<T>(unit: &str) -> Result<T> {
    plan_err!("`{unit}` is not a unit of time; SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR are")
}

/// `TIMESTAMPDIFF(unit, from, to)`: number of whole units.
fn difference(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let name = unit(arguments, 0)?.to_ascii_uppercase();
    let (from, to) = (micros(arguments, 1)?, micros(arguments, 2)?);
    let difference: Box<dyn Fn(i64, i64) -> i64> = match (fixed(&name), months(&name)) {
        (Some(length), _) => Box::new(move |from, to| to.saturating_sub(from) / length),
        (None, Some(length)) => Box::new(move |from, to| whole_months(from, to) / length),
        (None, None) => return unknown_unit(&name),
    };
    let result: PrimitiveArray<datafusion::arrow::datatypes::Int32Type> = (0..arguments.number_rows)
        .map(|row| i32::try_from(difference(value(&from, row)?, value(&to, row)?)).ok())
        .collect();
    array_result(result)
}

fn whole_months(from: i64, to: i64) -> i64 {
    let months_of = |us: i64| {
        let (year, month, _) = civil(us.div_euclid(DAY_US));
        year * 12 + i64::from(month)
    };
    let mut count = months_of(to) - months_of(from);
    if count > 0 && add_months(from, count) > to {
        count -= 1;
    } else if count < 0 && add_months(from, count) < to {
        count += 1;
    }
    count
}

/// `TIMESTAMPADD(unit, count, time)`.
fn addition(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let name = unit(arguments, 0)?.to_ascii_uppercase();
    let counts = array(arguments, 1)?;
    let counts = counts.as_primitive::<Int64Type>();
    let times = micros(arguments, 2)?;
    let add: Box<dyn Fn(i64, i64) -> Option<i64>> = match (fixed(&name), months(&name)) {
        (Some(length), _) => Box::new(move |us, count| us.checked_add(count.checked_mul(length)?)),
        (None, Some(length)) => Box::new(move |us, count| Some(add_months(us, count.checked_mul(length)?))),
        (None, None) => return unknown_unit(&name),
    };
    let result: TimestampMicrosecondArray = (0..arguments.number_rows)
        .map(|row| {
            let count = (!counts.is_null(row)).then(|| counts.value(row))?;
            add(value(&times, row)?, count)
        })
        .collect();
    let zone = times.timezone().map(Arc::from);
    array_result(result.with_timezone_opt::<Arc<str>>(zone))
}

/// `CONVERT_TZ(text, from, to)`: converts a local time from one zone to another.
fn convert_tz(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    use chrono::{DateTime, TimeZone, offset::LocalResult};
    let (texts, from, to) = (
        Texts::of(arguments, 0)?,
        Texts::of(arguments, 1)?,
        Texts::of(arguments, 2)?,
    );
    let convert = |row: usize| -> Option<i64> {
        let local = DateTime::from_timestamp_micros(parse_timestamp(texts.get(row)?)?)?.naive_utc();
        let from: chrono_tz::Tz = from.get(row)?.parse().ok()?;
        let to: chrono_tz::Tz = to.get(row)?.parse().ok()?;
        let instant = match from.from_local_datetime(&local) {
            LocalResult::Single(instant) | LocalResult::Ambiguous(instant, _) => instant,
            LocalResult::None => return None,
        };
        Some(instant.with_timezone(&to).naive_local().and_utc().timestamp_micros())
    };
    formatted(arguments.number_rows, convert, Patterns::of(arguments, usize::MAX)?)
}

/// Returns Flink's text of a timestamp, date or boolean; other types were cast already.
fn as_text(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    match arguments.arg_fields[0].data_type() {
        DataType::Timestamp(..) => {
            let times = micros(arguments, 0)?;
            let millis = Pattern::new("yyyy-MM-dd HH:mm:ss.SSS");
            let micros = Pattern::new("yyyy-MM-dd HH:mm:ss.SSSSSS");
            let (Ok(millis), Ok(micros)) = (millis, micros) else {
                return exec_err!("a date cannot be written");
            };
            let mut result = StringBuilder::with_capacity(times.len(), 24 * times.len());
            for row in 0..times.len() {
                match value(&times, row) {
                    Some(us) => {
                        let pattern = if us % 1000 == 0 { &millis } else { &micros };
                        if pattern.format(us, &mut result).is_err() {
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
            array_result(texts.collect::<datafusion::arrow::array::StringArray>())
        }
        DataType::Date32 => {
            let cast: ArrayRef = datafusion::arrow::compute::cast(&array(arguments, 0)?, &DataType::Utf8)?;
            Ok(ColumnarValue::Array(cast))
        }
        _ => Ok(arguments.args[0].clone()),
    }
}
