//! The operators `+` and `-` of times that DataFusion lacks: a `TIME` and an interval, and the difference of two times.

use datafusion::arrow::array::{Array, AsArray, IntervalMonthDayNanoArray, Time64MicrosecondArray};
use datafusion::arrow::datatypes::{
    DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::common::{exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type;

use super::super::civil::DAY_US;
use super::super::scalar::{Notation, Scalar, array, array_result};
use super::{arity, date_or_time, micros, value};

/// Name of the function that marks an interval of hours, minutes or seconds while a query is planned.
pub(crate) const CLOCK_INTERVAL: &str = "$clock_interval";

const INTERVAL: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

pub(super) fn all() -> Vec<Scalar> {
    let clock_interval = Scalar::infallible(
        CLOCK_INTERVAL,
        |given| {
            arity(given, &[1])?;
            Ok(vec![INTERVAL])
        },
        |_| INTERVAL,
        |arguments| Ok(arguments.args[0].clone()),
    );
    vec![
        time_plus(false),
        time_plus(true),
        difference_of_times(),
        interval_times(),
        clock_interval.notation(Notation::Argument),
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
    Scalar::fallible("$time_difference", time_time, |_| INTERVAL, difference)
        .in_common_time()
        .notation(Notation::Operator("-"))
}

/// Returns the function of `interval * integer`.
pub(in crate::functions) fn interval_times() -> Scalar {
    let accepts = |given: &[DataType]| {
        arity(given, &[2])?;
        Ok(vec![INTERVAL, DataType::Int64])
    };
    Scalar::fallible("$interval_times", accepts, |_| INTERVAL, multiple).notation(Notation::Operator("*"))
}

fn multiple(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let (intervals, counts) = (array(arguments, 0)?, array(arguments, 1)?);
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let counts = counts.as_primitive::<Int64Type>();
    let times = |interval: IntervalMonthDayNano, count: i64| {
        Some(IntervalMonthDayNano::new(
            i32::try_from(i64::from(interval.months).checked_mul(count)?).ok()?,
            i32::try_from(i64::from(interval.days).checked_mul(count)?).ok()?,
            interval.nanoseconds.checked_mul(count)?,
        ))
    };
    let mut is_too_long = false;
    let result: IntervalMonthDayNanoArray = intervals
        .iter()
        .zip(counts.iter())
        .map(|(interval, count)| {
            let product = times(interval?, count?);
            is_too_long |= product.is_none();
            product
        })
        .collect();
    if is_too_long {
        return exec_err!("an interval is longer than 292 years: multiply it by a smaller number");
    }
    array_result(result)
}

fn time_interval(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    match (&given[0], &given[1]) {
        (DataType::Time64(_), DataType::Interval(_) | DataType::Null) => {
            Ok(vec![DataType::Time64(TimeUnit::Microsecond), INTERVAL])
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
    let intervals = intervals.as_primitive::<IntervalMonthDayNanoType>();
    let mut has_months = false;
    let result: Time64MicrosecondArray = (0..arguments.number_rows)
        .map(|row| {
            let time = value(&times, row)?;
            let interval = (!intervals.is_null(row)).then(|| intervals.value(row))?;
            has_months |= interval.months != 0;
            Some((time + sign * (interval.nanoseconds / 1000 % DAY_US)).rem_euclid(DAY_US))
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
    let result: IntervalMonthDayNanoArray = (0..arguments.number_rows)
        .map(|row| {
            let us = value(&left, row)?.checked_sub(value(&right, row)?);
            let nanoseconds = us.and_then(|us| us.checked_mul(1000));
            is_too_long |= nanoseconds.is_none();
            Some(IntervalMonthDayNano::new(0, 0, nanoseconds?))
        })
        .collect();
    if is_too_long {
        return exec_err!("two times are more than 292 years apart: use TIMESTAMPDIFF(DAY, from, to)");
    }
    array_result(result)
}
