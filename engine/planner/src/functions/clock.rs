//! Functions that tell the time.
//!
//! `PROCTIME()` marks the processing-time attribute. `NOW()` and its like ask the engine's clock for each batch of
//! rows on a stream; in a batch job they are the job's start, the same for all rows: then the planner puts that time in
//! their place before they get here (see [`super::rewrites`]).
//!
//! The clock is the runtime's, which hands it in ([`provide_clock`]) before it computes any row. Here there is none:
//! volatile functions are not folded, and where no clock was handed in they fail.

use std::sync::OnceLock;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::Scalar;
use crate::sql::types::{timestamp, timestamp_ltz};

pub(super) const PROCTIME: &str = "proctime";

const DAY_US: i64 = 86_400_000_000;

pub(super) fn all() -> Vec<Scalar> {
    let ltz = |_: &[DataType]| timestamp_ltz();
    vec![
        Scalar::new(PROCTIME, nothing, ltz, |_| instant()).volatile(),
        Scalar::new("now", nothing, ltz, |_| instant()).volatile(),
        Scalar::new("current_timestamp", nothing, ltz, |_| instant()).volatile(),
        Scalar::new("current_row_timestamp", nothing, ltz, |_| instant()).volatile(),
        Scalar::new(
            "localtimestamp",
            nothing,
            |_| timestamp(),
            |_| {
                Ok(ColumnarValue::Scalar(ScalarValue::TimestampMicrosecond(
                    Some(clock_us()?),
                    None,
                )))
            },
        )
        .volatile(),
        Scalar::new(
            "current_date",
            nothing,
            |_| DataType::Date32,
            |_| {
                let days = i32::try_from(clock_us()?.div_euclid(DAY_US)).unwrap_or(i32::MAX);
                Ok(ColumnarValue::Scalar(ScalarValue::Date32(Some(days))))
            },
        )
        .volatile(),
        Scalar::new("current_time", nothing, time_of_day, now_time).volatile(),
        Scalar::new("localtime", nothing, time_of_day, now_time).volatile(),
        Scalar::new("$unix_now", nothing, super::bigint, |_| {
            Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(
                clock_us()?.div_euclid(1_000_000),
            ))))
        })
        .volatile(),
    ]
}

fn nothing(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.is_empty() {
        Ok(Vec::new())
    } else {
        plan_err!("takes no arguments")
    }
}

fn instant() -> Result<ColumnarValue> {
    let now = ScalarValue::TimestampMicrosecond(Some(clock_us()?), Some("UTC".into()));
    Ok(ColumnarValue::Scalar(now))
}

fn time_of_day(_: &[DataType]) -> DataType {
    DataType::Time64(datafusion::arrow::datatypes::TimeUnit::Microsecond)
}

fn now_time(_: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let time = clock_us()?.rem_euclid(DAY_US);
    Ok(ColumnarValue::Scalar(ScalarValue::Time64Microsecond(Some(time))))
}

/// Microseconds since the epoch.
type Clock = fn() -> i64;

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// Hands in the clock that functions of the time ask while rows are computed. The first one stays.
pub fn provide_clock(clock: Clock) {
    CLOCK.get_or_init(|| clock);
}

fn clock_us() -> Result<i64> {
    match CLOCK.get() {
        Some(clock) => Ok(clock()),
        None => exec_err!("the time is known only while a job runs"),
    }
}
