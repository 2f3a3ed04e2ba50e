//! The operators `+` and `-` of times that DataFusion lacks: a `TIME` and an interval, and the difference of two times.

use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, DurationMicrosecondArray, IntervalYearMonthArray, Time64MicrosecondArray,
};
use datafusion::arrow::datatypes::{
    DataType, DurationMicrosecondType, Int64Type, IntervalMonthDayNanoType, IntervalUnit, IntervalYearMonthType,
    TimeUnit,
};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type::{self, day_time, is_interval, year_month};

use super::super::civil::DAY_US;
use super::super::scalar::{Notation, Scalar, array, array_result};
use super::{arity, date_or_time, micros, value};

/// Name of the function that marks an interval of hours, minutes or seconds while a query is planned.
pub(crate) const CLOCK_INTERVAL: &str = "$clock_interval";
/// Name of the function that marks an interval that begins with days or a longer unit while a query is planned.
pub(crate) const DAY_INTERVAL: &str = "$day_interval";
/// Name of the function that stands for `-x` until types are known: DataFusion's operator takes fewer types.
pub(crate) const MINUS: &str = "$negative";
/// Name of the function of a literal of years and months.
pub(crate) const YEAR_MONTH: &str = "$year_month";
/// Name of the function of a literal of days and times.
pub(crate) const DAY_TIME: &str = "$day_time";

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

pub(super) fn all() -> Vec<Scalar> {
    let marked = |name| {
        let marked = Scalar::infallible(
            name,
            |given| {
                arity(given, &[1])?;
                Ok(given.to_vec())
            },
            |given| given[0].clone(),
            |arguments| Ok(arguments.args[0].clone()),
        );
        marked.notation(Notation::Argument)
    };
    vec![
        time_plus(false),
        time_plus(true),
        difference_of_times(),
        interval_times(),
        Scalar::fallible(
            MINUS,
            number_or_interval,
            |given| given[0].clone(),
            |_| exec_err!("a negative value was not planned"),
        ),
        marked(CLOCK_INTERVAL),
        marked(DAY_INTERVAL),
        Scalar::fallible(YEAR_MONTH, literal, |_| year_month(), in_months).notation(Notation::Argument),
        Scalar::fallible(DAY_TIME, literal, |_| day_time(), in_microseconds).notation(Notation::Argument),
    ]
}

/// Returns the function of `time + interval`, or of `time - interval` if `is_minus`.
pub(in crate::functions) fn time_plus(is_minus: bool) -> Scalar {
    let returns = |_: &[DataType]| DataType::Time64(TimeUnit::Microsecond);
    if is_minus {
        Scalar::fallible("$time_minus", time_interval, returns, |arguments| {
            shifted(arguments, -1)
        })
        .notation(Notation::Operator("-"))
    } else {
        Scalar::fallible("$time_plus", time_interval, returns, |arguments| shifted(arguments, 1))
            .notation(Notation::Operator("+"))
    }
}

/// Returns the function of the difference of two times, an interval.
pub(in crate::functions) fn difference_of_times() -> Scalar {
    Scalar::fallible("$time_difference", time_time, |_| day_time(), difference)
        .in_common_time()
        .notation(Notation::Operator("-"))
}

/// Returns the function of `interval * integer`.
pub(in crate::functions) fn interval_times() -> Scalar {
    let accepts = |given: &[DataType]| {
        arity(given, &[2])?;
        let interval = match &given[0] {
            DataType::Interval(IntervalUnit::YearMonth) => year_month(),
            _ => day_time(),
        };
        Ok(vec![interval, DataType::Int64])
    };
    Scalar::fallible("$interval_times", accepts, |given| given[0].clone(), multiple).notation(Notation::Operator("*"))
}

fn number_or_interval(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1])?;
    match &given[0] {
        found if found.is_numeric() || found.is_null() || is_interval(found) => Ok(given.to_vec()),
        _ => plan_err!("takes a number or an interval"),
    }
}

fn literal(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[1])?;
    Ok(match &given[0] {
        typed if *typed == year_month() || *typed == day_time() => given.to_vec(),
        _ => vec![INTERVAL],
    })
}

/// Returns a literal of years and months, which has no days and nanoseconds, as months.
fn in_months(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let intervals = array(arguments, 0)?;
    match intervals.as_primitive_opt::<IntervalMonthDayNanoType>() {
        Some(intervals) => array_result(intervals.unary::<_, IntervalYearMonthType>(|interval| interval.months)),
        None => Ok(ColumnarValue::Array(intervals)),
    }
}

/// Returns a literal of days and times, which has no months, in microseconds.
fn in_microseconds(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let intervals = array(arguments, 0)?;
    let Some(intervals) = intervals.as_primitive_opt::<IntervalMonthDayNanoType>() else {
        return Ok(ColumnarValue::Array(intervals));
    };
    let micros = |interval: datafusion::arrow::datatypes::IntervalMonthDayNano| {
        i64::from(interval.days) * DAY_US + interval.nanoseconds / 1000
    };
    array_result(intervals.unary::<_, DurationMicrosecondType>(micros))
}

fn multiple(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (intervals, counts) = (array(arguments, 0)?, array(arguments, 1)?);
    let counts = counts.as_primitive::<Int64Type>().iter();
    let mut is_too_long = false;
    let mut checked = |product: Option<i64>| {
        is_too_long |= product.is_none();
        product
    };
    let product: ArrayRef = match intervals.as_primitive_opt::<IntervalYearMonthType>() {
        Some(months) => {
            let pairs = months.iter().zip(counts);
            let products = pairs.map(|(months, count)| {
                let product = i64::from(months?).checked_mul(count?);
                checked(product.filter(|product| i32::try_from(*product).is_ok())).map(|product| product as i32)
            });
            Arc::new(products.collect::<IntervalYearMonthArray>())
        }
        None => {
            let pairs = intervals.as_primitive::<DurationMicrosecondType>().iter().zip(counts);
            let products = pairs.map(|(micros, count)| checked(micros?.checked_mul(count?)));
            Arc::new(products.collect::<DurationMicrosecondArray>())
        }
    };
    if is_too_long {
        return exec_err!(
            "an interval is too long: years and months end at 178,956,970 years, days and times at 106,751,991 days"
        );
    }
    Ok(ColumnarValue::Array(product))
}

fn time_interval(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    match (&given[0], &given[1]) {
        (DataType::Time64(_), interval) if is_interval(interval) || interval.is_null() => {
            let interval = if interval.is_null() {
                day_time()
            } else {
                interval.clone()
            };
            Ok(vec![DataType::Time64(TimeUnit::Microsecond), interval])
        }
        (time, other) => plan_err!(
            "a {} plus {} is not supported: add an INTERVAL to a TIME",
            sql_type::name(time),
            sql_type::name(other)
        ),
    }
}

fn time_time(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    Ok(vec![date_or_time(&given[0])?, date_or_time(&given[1])?])
}

/// A time of day plus an interval: days and beyond do not matter.
fn shifted(arguments: &ScalarFunctionArgs, sign: i64) -> Result<ColumnarValue> {
    let times = micros(arguments, 0)?;
    let intervals = array(arguments, 1)?;
    let (durations, literals) = (
        intervals.as_primitive_opt::<DurationMicrosecondType>(),
        intervals.as_primitive_opt::<IntervalMonthDayNanoType>(),
    );
    let mut has_months = false;
    let result: Time64MicrosecondArray = (0..arguments.number_rows)
        .map(|row| {
            let time = value(&times, row).filter(|_| !intervals.is_null(row))?;
            let us = match (durations, literals) {
                (Some(durations), _) => durations.value(row),
                (None, Some(literals)) => {
                    has_months |= literals.value(row).months != 0;
                    literals.value(row).nanoseconds / 1000
                }
                (None, None) => {
                    has_months = true;
                    0
                }
            };
            Some((time + sign * (us % DAY_US)).rem_euclid(DAY_US))
        })
        .collect();
    if has_months {
        return exec_err!("a TIME has no years and months: add an INTERVAL of hours, minutes or seconds");
    }
    array_result(result)
}

fn difference(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (left, right) = (micros(arguments, 0)?, micros(arguments, 1)?);
    let mut is_too_long = false;
    let result: DurationMicrosecondArray = (0..arguments.number_rows)
        .map(|row| {
            let us = value(&left, row)?.checked_sub(value(&right, row)?);
            is_too_long |= us.is_none();
            us
        })
        .collect();
    if is_too_long {
        return exec_err!("two times are more than 106,751,991 days apart: use TIMESTAMPDIFF(DAY, from, to)");
    }
    array_result(result)
}
