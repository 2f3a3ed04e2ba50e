//! Functions that return the time.
//!
//! `PROCTIME()` marks the processing-time attribute. On a stream, `NOW()` and the like read the engine's
//! [clock](millstream_graph::clock) once per batch of rows. In a batch job they are the job's start, the same for all rows:
//! the planner replaces the calls by that time (see [`super::rewrites`]).

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::Scalar;
use millstream_graph::clock::now_us;
use millstream_graph::sql_type::{timestamp, timestamp_ltz};

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
                    Some(now_us()?),
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
                let days = i32::try_from(now_us()?.div_euclid(DAY_US)).unwrap_or(i32::MAX);
                Ok(ColumnarValue::Scalar(ScalarValue::Date32(Some(days))))
            },
        )
        .volatile(),
        Scalar::new("current_time", nothing, time_of_day, now_time).volatile(),
        Scalar::new("localtime", nothing, time_of_day, now_time).volatile(),
        Scalar::new("$unix_now", nothing, super::bigint, |_| {
            Ok(ColumnarValue::Scalar(ScalarValue::Int64(Some(
                now_us()?.div_euclid(1_000_000),
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
    let now = ScalarValue::TimestampMicrosecond(Some(now_us()?), Some("UTC".into()));
    Ok(ColumnarValue::Scalar(now))
}

fn time_of_day(_: &[DataType]) -> DataType {
    DataType::Time64(datafusion::arrow::datatypes::TimeUnit::Microsecond)
}

fn now_time(_: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let time = now_us()?.rem_euclid(DAY_US);
    Ok(ColumnarValue::Scalar(ScalarValue::Time64Microsecond(Some(time))))
}
