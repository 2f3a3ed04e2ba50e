//! Functions of dates, times, timestamps and intervals.
//!
//! Timestamps are microseconds since the epoch; their parts are computed by vectorised arithmetic. Functions compute
//! with local times: if the session's time zone is not UTC, planning converts `TIMESTAMP_LTZ` arguments ([`local`]).

use datafusion::arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Date32Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::ScalarFunctionArgs;
use millstream_graph::sql_type::{self, timestamp};

use super::civil::DAY_US;
use super::scalar::{Scalar, Texts, array};

mod arguments;
mod arithmetic;
mod date_pattern;
mod formatting;
mod local;
mod parsing;
mod parts;
mod rounding;
mod units;
mod zone;

pub(crate) use arithmetic::{CLOCK_INTERVAL, DAY_INTERVAL, DAY_TIME, MINUS, YEAR_MONTH};
pub(super) use arithmetic::{difference_of_times, interval_times, time_plus};
pub(super) use formatting::to_text;
pub(super) use local::{to_instant, to_local, to_watermark};
pub(crate) use zone::Zone;

pub(super) fn all() -> Vec<Scalar> {
    [
        parts::all(),
        rounding::all(),
        units::all(),
        arithmetic::all(),
        formatting::all(),
        parsing::all(),
        local::all(),
    ]
    .concat()
}

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

/// Returns the type that a time argument is cast to, if the function also takes a `DATE` or a `TIME`.
fn date_or_time(given: &DataType) -> Result<DataType> {
    match given {
        DataType::Date32 | DataType::Date64 => Ok(DataType::Date32),
        DataType::Time32(_) | DataType::Time64(_) => Ok(DataType::Time64(TimeUnit::Microsecond)),
        other => time(other),
    }
}

fn arity(given: &[DataType], wanted: &[usize]) -> Result<()> {
    if wanted.contains(&given.len()) {
        return Ok(());
    }
    let wanted: Vec<String> = wanted.iter().map(ToString::to_string).collect();
    plan_err!("takes {} arguments, not {}", wanted.join(" or "), given.len())
}

fn texts(given: &[DataType]) -> Result<Vec<DataType>> {
    if let Some(other) = given
        .iter()
        .find(|given| !matches!(given, DataType::Utf8 | DataType::Null))
    {
        return plan_err!("takes a STRING, not {}", sql_type::name(other));
    }
    Ok(vec![DataType::Utf8; given.len()])
}

/// Returns a `TIMESTAMP`, `DATE` or `TIME` argument in microseconds since the epoch, or since midnight.
fn micros(arguments: &ScalarFunctionArgs, index: usize) -> Result<PrimitiveArray<TimestampMicrosecondType>> {
    let array = array(arguments, index)?;
    if let Some(times) = array.as_primitive_opt::<TimestampMicrosecondType>() {
        return Ok(times.clone());
    }
    if let Some(times) = array.as_primitive_opt::<Time64MicrosecondType>() {
        return Ok(times.reinterpret_cast());
    }
    match array.as_primitive_opt::<Date32Type>() {
        Some(dates) => Ok(dates.unary(|day| i64::from(day).saturating_mul(DAY_US))),
        None => plan_err!("argument {} must be a TIMESTAMP, DATE or TIME", index + 1),
    }
}

/// Returns microseconds as an array of a time type. Dates and times of day that do not exist are NULL.
fn of_type(times: PrimitiveArray<TimestampMicrosecondType>, data_type: &DataType) -> Result<ArrayRef> {
    Ok(match data_type {
        DataType::Date32 => {
            std::sync::Arc::new(times.unary_opt::<_, Date32Type>(|us| i32::try_from(us.div_euclid(DAY_US)).ok()))
        }
        DataType::Time64(_) => std::sync::Arc::new(times.unary::<_, Time64MicrosecondType>(|us| us.rem_euclid(DAY_US))),
        DataType::Timestamp(_, zone) => std::sync::Arc::new(times.with_timezone_opt(zone.clone())),
        other => return plan_err!("{} is no type of a time", sql_type::name(other)),
    })
}

fn value(times: &PrimitiveArray<TimestampMicrosecondType>, row: usize) -> Option<i64> {
    (!times.is_null(row)).then(|| times.value(row))
}

/// Returns the unit, which must be the same for all rows, in upper case and the singular.
fn unit(arguments: &ScalarFunctionArgs, index: usize) -> Result<String> {
    match Texts::of(arguments, index)?.constant() {
        Some(unit) => Ok(unit_name(unit)),
        None => plan_err!("the unit must be a word such as SECOND"),
    }
}

/// Returns the name of a unit in upper case and the singular: `SQL_TSI_HOURS` is `HOUR`.
fn unit_name(word: &str) -> String {
    let word = word.to_ascii_uppercase();
    let word = word.strip_prefix("SQL_TSI_").unwrap_or(&word);
    match word {
        "CENTURIES" => "CENTURY".to_owned(),
        "MILLENNIA" => "MILLENNIUM".to_owned(),
        other => other.trim_end_matches('S').to_owned(),
    }
}
