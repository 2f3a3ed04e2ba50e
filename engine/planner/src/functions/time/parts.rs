//! `EXTRACT`: the parts of a time.

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, DurationMicrosecondType, Int64Type, IntervalUnit, IntervalYearMonthType};
use datafusion::common::plan_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type::{day_time, year_month};

use super::super::civil::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, civil, days, iso_week, iso_weekday};
use super::super::scalar::{Scalar, array, array_result, bigint};
use super::{arity, date_or_time, micros, unit};

pub(super) fn all() -> Vec<Scalar> {
    vec![Scalar::infallible("$part", text_time, bigint, part).in_local_time()]
}

fn text_time(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[2])?;
    let of = match &given[1] {
        DataType::Interval(IntervalUnit::YearMonth) => year_month(),
        DataType::Interval(_) | DataType::Duration(_) => day_time(),
        other => date_or_time(other)?,
    };
    Ok(vec![DataType::Utf8, of])
}

/// Returns the part of an interval of months, or of microseconds. A negative interval has negative parts.
fn of_interval(unit: &str) -> Option<fn(i64, i64) -> i64> {
    Some(match unit {
        "MILLENNIUM" => |months, _| months / 12_000,
        "CENTURY" => |months, _| months / 1_200,
        "DECADE" => |months, _| months / 120,
        "YEAR" => |months, _| months / 12,
        "QUARTER" => |months, _| months % 12 / 3 + 1,
        "MONTH" => |months, _| months % 12,
        "DAY" => |_, us| us / DAY_US,
        "HOUR" => |_, us| us % DAY_US / HOUR_US,
        "MINUTE" => |_, us| us % HOUR_US / MINUTE_US,
        "SECOND" => |_, us| us % MINUTE_US / SECOND_US,
        "MILLISECOND" => |_, us| us % SECOND_US / 1000,
        "MICROSECOND" => |_, us| us % SECOND_US,
        "EPOCH" => |months, us| months * 30 * (DAY_US / SECOND_US) + us / SECOND_US,
        _ => return None,
    })
}

/// Returns the parts of a time of day.
fn of_time(unit: &str) -> Option<fn(i64) -> i64> {
    Some(match unit {
        "NANOSECOND" => |us| us.rem_euclid(SECOND_US) * 1000,
        "MICROSECOND" => |us| us.rem_euclid(SECOND_US),
        "MILLISECOND" => |us| us.rem_euclid(SECOND_US) / 1000,
        "SECOND" => |us| us.rem_euclid(MINUTE_US) / SECOND_US,
        "MINUTE" => |us| us.rem_euclid(HOUR_US) / MINUTE_US,
        "HOUR" => |us| us.rem_euclid(DAY_US) / HOUR_US,
        "EPOCH" => |us| us.div_euclid(SECOND_US),
        _ => return None,
    })
}

/// Returns the parts of a date.
fn of_date(unit: &str) -> Option<fn(i64) -> i64> {
    Some(match unit {
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
        _ => return None,
    })
}

/// `EXTRACT(unit FROM time)`.
fn part(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    if let DataType::Interval(_) | DataType::Duration(_) = arguments.arg_fields[1].data_type() {
        return interval_part(arguments);
    }
    let times = micros(arguments, 1)?;
    let unit = unit(arguments, 0)?;
    let is_time = matches!(arguments.arg_fields[1].data_type(), DataType::Time64(_));
    let of = match of_time(&unit).or_else(|| of_date(&unit).filter(|_| !is_time)) {
        Some(of) => of,
        None if is_time && of_date(&unit).is_some() => {
            return plan_err!("a TIME has no {unit}: HOUR, MINUTE, SECOND and MILLISECOND are its parts");
        }
        None => return plan_err!("`{unit}` is not a part of a time; YEAR, MONTH, DAY, HOUR, MINUTE, SECOND are"),
    };
    array_result(times.unary::<_, Int64Type>(of))
}

/// `EXTRACT(unit FROM interval)`.
fn interval_part(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let unit = unit(arguments, 0)?;
    let Some(of) = of_interval(&unit) else {
        return plan_err!("`{unit}` is not a part of an interval; YEAR, MONTH, DAY, HOUR, MINUTE, SECOND are");
    };
    let intervals = array(arguments, 1)?;
    if let Some(durations) = intervals.as_primitive_opt::<DurationMicrosecondType>() {
        return array_result(durations.unary::<_, Int64Type>(|us| of(0, us)));
    }
    let months = intervals.as_primitive::<IntervalYearMonthType>();
    array_result(months.unary::<_, Int64Type>(|months| of(i64::from(months), 0)))
}
