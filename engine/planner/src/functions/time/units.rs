//! `TIMESTAMPADD` and `TIMESTAMPDIFF`: arithmetic in units of time.

use datafusion::arrow::array::{Array, AsArray, PrimitiveArray, TimestampMicrosecondArray};
use datafusion::arrow::datatypes::{DataType, Int32Type, Int64Type};
use datafusion::common::{ScalarValue, exec_err, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use millstream_graph::sql_type::{self, timestamp};

use super::super::civil::{DAY_US, HOUR_US, MINUTE_US, SECOND_US, civil, days, days_in_month};
use super::super::scalar::{Scalar, array, array_result};
use super::{arity, date_or_time, micros, of_type, unit, unit_name, value};

pub(super) fn all() -> Vec<Scalar> {
    vec![
        Scalar::fallible("timestampdiff", text_time_time, |_| DataType::Int32, difference).in_common_time(),
        Scalar::fallible("timestampadd", text_number_time, |given| given[2].clone(), addition).returns_for(
            |given, constants| match constants.first() {
                Some(Some(ScalarValue::Utf8(Some(unit)))) => sum_type(unit, given),
                _ => given[2].clone(),
            },
        ),
    ]
}

fn text_time_time(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[3])?;
    let (from, to) = (date_or_time(&given[1])?, date_or_time(&given[2])?);
    let is_time = |given: &DataType| matches!(given, DataType::Time64(_));
    if is_time(&from) != is_time(&to) {
        return plan_err!(
            "takes two times of one kind, not {} and {}",
            sql_type::name(&given[1]),
            sql_type::name(&given[2])
        );
    }
    Ok(vec![DataType::Utf8, from, to])
}

fn text_number_time(given: &[DataType]) -> Result<Vec<DataType>> {
    arity(given, &[3])?;
    Ok(vec![DataType::Utf8, DataType::Int64, date_or_time(&given[2])?])
}

/// Returns the type of the sum: a `DATE` plus units of its day is a `TIMESTAMP`, as in Flink.
fn sum_type(unit: &str, given: &[DataType]) -> DataType {
    let is_within_day = fixed(&unit_name(unit)).is_some_and(|length| length < DAY_US);
    match &given[2] {
        DataType::Date32 if is_within_day => timestamp(),
        other => other.clone(),
    }
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
        "DECADE" => 120,
        "CENTURY" => 1_200,
        "MILLENNIUM" => 12_000,
        _ => return None,
    })
}

fn unknown_unit<T>(unit: &str) -> Result<T> {
    plan_err!("`{unit}` is not a unit of time; SECOND, MINUTE, HOUR, DAY, WEEK, MONTH, QUARTER and YEAR are")
}

/// Adds months; the day becomes the last of the month if it does not exist there.
pub(super) fn add_months(us: i64, months: i64) -> i64 {
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

/// `TIMESTAMPDIFF(unit, from, to)`: number of whole units.
fn difference(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let name = unit(arguments, 0)?;
    let (from, to) = (micros(arguments, 1)?, micros(arguments, 2)?);
    let difference: Box<dyn Fn(i64, i64) -> i64> = match (fixed(&name), months(&name)) {
        (Some(length), _) => Box::new(move |from, to| to.saturating_sub(from) / length),
        (None, Some(length)) => Box::new(move |from, to| whole_months(from, to) / length),
        (None, None) => return unknown_unit(&name),
    };
    let result: PrimitiveArray<Int32Type> = (0..arguments.number_rows)
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
    let name = unit(arguments, 0)?;
    let counts = array(arguments, 1)?;
    let counts = counts.as_primitive::<Int64Type>();
    let times = micros(arguments, 2)?;
    let given = arguments.arg_fields[2].data_type();
    let add: Box<dyn Fn(i64, i64) -> Option<i64>> = match (fixed(&name), months(&name)) {
        (Some(length), _) => Box::new(move |us, count| us.checked_add(count.checked_mul(length)?)),
        (None, Some(_)) if matches!(given, DataType::Time64(_)) => {
            return exec_err!("a TIME has no {name}: add HOUR, MINUTE or SECOND");
        }
        (None, Some(length)) => Box::new(move |us, count| Some(add_months(us, count.checked_mul(length)?))),
        (None, None) => return unknown_unit(&name),
    };
    let result: TimestampMicrosecondArray = (0..arguments.number_rows)
        .map(|row| {
            let count = (!counts.is_null(row)).then(|| counts.value(row))?;
            add(value(&times, row)?, count)
        })
        .collect();
    let types: Vec<DataType> = arguments
        .arg_fields
        .iter()
        .map(|field| field.data_type().clone())
        .collect();
    of_type(result, &sum_type(&name, &types)).map(ColumnarValue::Array)
}
