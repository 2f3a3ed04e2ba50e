//! Conversion between instants (`TIMESTAMP_LTZ`) and local times (`TIMESTAMP`) of the session's time zone.
//!
//! Queries do not call these functions: planning inserts them if `table.local-time-zone` is not UTC, where both are the
//! same numbers.

use datafusion::arrow::array::{Array, PrimitiveArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::ScalarFunctionArgs;
use millstream_graph::sql_type::{self, timestamp, timestamp_ltz};

use super::super::scalar::{Scalar, Texts, array_result};
use super::zone::{Conversion, Zone};
use super::{micros, time};

pub(super) fn all() -> Vec<Scalar> {
    vec![to_local(), to_instant(), to_watermark()]
}

/// Returns the function of the local time of an instant in a zone.
pub(in crate::functions) fn to_local() -> Scalar {
    Scalar::infallible(
        "$local",
        time_zone,
        |_| timestamp(),
        |arguments| {
            let (times, zone) = (micros(arguments, 0)?, zone(arguments, 1)?);
            let mut conversion = Conversion::new(&zone);
            let local: TimestampMicrosecondArray = map(&times, |instant| conversion.local(instant));
            array_result(local)
        },
    )
}

/// Returns the function of the instant of a local time in a zone.
pub(in crate::functions) fn to_instant() -> Scalar {
    Scalar::infallible(
        "$instant",
        time_zone,
        |_| timestamp_ltz(),
        |arguments| {
            let (times, zone) = (micros(arguments, 0)?, zone(arguments, 1)?);
            let mut conversion = Conversion::new(&zone);
            let instants: TimestampMicrosecondArray = map(&times, |local| conversion.instant(local));
            array_result(instants.with_timezone("UTC"))
        },
    )
}

/// Returns the function of the local time that no later instant is before: the watermark of local times.
pub(in crate::functions) fn to_watermark() -> Scalar {
    Scalar::infallible(
        millstream_graph::LOCAL_WATERMARK,
        time_zone,
        |_| timestamp(),
        |arguments| {
            let (times, zone) = (micros(arguments, 0)?, zone(arguments, 1)?);
            let mut conversion = Conversion::new(&zone);
            let local: TimestampMicrosecondArray = map(&times, |instant| conversion.least_local_from(instant));
            array_result(local)
        },
    )
}

fn map(
    times: &PrimitiveArray<TimestampMicrosecondType>,
    mut of: impl FnMut(i64) -> i64,
) -> PrimitiveArray<TimestampMicrosecondType> {
    let values = times.values().iter().map(|time| of(*time)).collect();
    TimestampMicrosecondArray::new(values, times.nulls().cloned())
}

fn time_zone(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [DataType::Timestamp(..) | DataType::Null, DataType::Utf8] => Ok(vec![time(&given[0])?, DataType::Utf8]),
        _ => {
            let names: Vec<String> = given.iter().map(sql_type::name).collect();
            plan_err!("takes a time and a time zone, not {}", names.join(", "))
        }
    }
}

fn zone(arguments: &ScalarFunctionArgs, index: usize) -> Result<Zone> {
    match Texts::of(arguments, index)?.constant().map(Zone::new) {
        Some(Ok(zone)) => Ok(zone),
        Some(Err(message)) => plan_err!("{message}"),
        None => plan_err!("the time zone must be the same for all rows"),
    }
}
