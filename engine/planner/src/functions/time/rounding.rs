//! `FLOOR` and `CEIL` to a unit, and the precision of time types.

use datafusion::arrow::array::{AsArray, PrimitiveArray};
use datafusion::arrow::datatypes::{DataType, Int64Type, TimestampMicrosecondType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};

use super::super::civil::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, civil, days, iso_weekday};
use super::super::scalar::{Scalar, array};
use super::units::add_months;
use super::{arity, date_or_time, first, micros, of_type, unit};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::infallible("$floor_time", time_text, first, |arguments| {
            round_to_unit(arguments, false)
        })
        .in_local_time(),
        Scalar::fallible("$ceil_time", time_text, first, |arguments| {
            round_to_unit(arguments, true)
        })
        .in_local_time(),
        Scalar::fallible("$cut_time", time_number, first, truncate_fraction),
    ]
}

fn time_text(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    Ok(vec![date_or_time(&given[0])?, DataType::Utf8])
}

fn time_number(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    Ok(vec![date_or_time(&given[0])?, DataType::Int64])
}

/// Returns the start of the unit that contains a time.
fn floor(us: i64, unit: &str) -> Option<i64> {
    let day = us.div_euclid(DAY_US);
    let start_of_year = |year: i64| days(year, 1, 1).saturating_mul(DAY_US);
    Some(match unit {
        "NANOSECOND" | "MICROSECOND" => us,
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
        "YEAR" => start_of_year(civil(day).0),
        "DECADE" => start_of_year(civil(day).0.div_euclid(10) * 10),
        // The first century and the first millennium start with the year 1.
        "CENTURY" => start_of_year((civil(day).0 - 1).div_euclid(100) * 100 + 1),
        "MILLENNIUM" => start_of_year((civil(day).0 - 1).div_euclid(1000) * 1000 + 1),
        _ => return None,
    })
}

/// Returns the start of the next unit.
fn next(start: i64, unit: &str) -> i64 {
    let length = match unit {
        "MILLISECOND" => 1000,
        "SECOND" => SECOND_US,
        "MINUTE" => MINUTE_US,
        "HOUR" => HOUR_US,
        "DAY" => DAY_US,
        "WEEK" => 7 * DAY_US,
        "MONTH" => return add_months(start, 1),
        "QUARTER" => return add_months(start, 3),
        "YEAR" => return add_months(start, 12),
        "DECADE" => return add_months(start, 120),
        "CENTURY" => return add_months(start, 1_200),
        "MILLENNIUM" => return add_months(start, 12_000),
        _ => 0,
    };
    start.saturating_add(length)
}

/// `FLOOR(time TO unit)`, `CEIL(time TO unit)`.
fn round_to_unit(arguments: &ScalarFunctionArgs, up: bool) -> Result<ColumnarValue> {
    let times = micros(arguments, 0)?;
    let name = unit(arguments, 1)?;
    let data_type = arguments.arg_fields[0].data_type();
    let is_time = matches!(data_type, DataType::Time64(_));
    if floor(0, &name).is_none() {
        return plan_err!(
            "a time is rounded to MILLENNIUM, CENTURY, DECADE, YEAR, QUARTER, MONTH, WEEK, DAY, HOUR, MINUTE, SECOND or \
             MILLISECOND, not to `{name}`"
        );
    }
    if is_time && !matches!(name.as_str(), "HOUR" | "MINUTE" | "SECOND" | "MILLISECOND") {
        return plan_err!("a TIME is rounded to HOUR, MINUTE, SECOND or MILLISECOND, not to {name}");
    }
    let rounded: PrimitiveArray<TimestampMicrosecondType> = times.unary(|us| {
        let start = floor(us, &name).unwrap_or(us);
        if up && start != us { next(start, &name) } else { start }
    });
    of_type(rounded, data_type).map(ColumnarValue::Array)
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
    let cut: PrimitiveArray<TimestampMicrosecondType> = times.unary(|us| us - us.rem_euclid(step));
    of_type(cut, arguments.arg_fields[0].data_type()).map(ColumnarValue::Array)
}
