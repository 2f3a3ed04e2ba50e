//! Functions that return the time.
//!
//! `PROCTIME()` marks the processing-time attribute. On a stream, `NOW()` and the like read the engine's [clock] once
//! per batch of rows. In a batch job they are the job's start, the same for all rows: the planner replaces the calls by
//! that time ([`batch_value`]). `CURRENT_WATERMARK` reads the context of its operator; a batch job has no watermark.

use datafusion::arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::{ScalarValue, plan_err};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use datafusion::sql::sqlparser::ast::{
    DataType as SqlType, Expr, Function, FunctionArguments, Ident, TimezoneInfo, Value, ValueWithSpan,
};
use millstream_graph::sql_type::{self, timestamp, timestamp_ltz};
use millstream_graph::{clock, evaluation};

use super::rewrites::cast;
use super::scalar::{Scalar, bigint};
use crate::ast::{call, call_parts};

/// Name of the function that marks the processing-time attribute.
pub(super) const PROCTIME: &str = "proctime";

/// Name of the function that returns the watermark of the operator that evaluates it.
const WATERMARK: &str = "current_watermark";

const DAY_US: i64 = 86_400_000_000;
const SECOND_US: i64 = 1_000_000;
const MILLISECOND_US: i64 = 1_000;

/// The declaration of a function that returns the time.
struct ClockFunction {
    /// Lower-case name under which queries call the function without arguments.
    called: &'static str,
    /// The function on a stream.
    scalar: Scalar,
    /// Returns the expression that stands for a call in a batch job that starts at a time in microseconds since the
    /// epoch; `None` if the function is the same in a batch job.
    batch_value: fn(i64) -> Option<Expr>,
}

impl ClockFunction {
    fn new(
        called: &'static str,
        returns: fn(&[DataType]) -> DataType,
        body: fn(&ScalarFunctionArgs) -> Result<ColumnarValue>,
        batch_value: fn(i64) -> Option<Expr>,
    ) -> Self {
        Self {
            called,
            scalar: Scalar::fallible(called, no_arguments, returns, body).volatile(),
            batch_value,
        }
    }
}

fn declarations() -> Vec<ClockFunction> {
    vec![
        ClockFunction::new(PROCTIME, instant_type, instant, |_| None),
        ClockFunction::new("now", instant_type, instant, |now_us| Some(instant_at(now_us))),
        ClockFunction::new("current_timestamp", instant_type, instant, |now_us| {
            Some(instant_at(now_us))
        }),
        ClockFunction::new("current_row_timestamp", instant_type, instant, |now_us| {
            Some(instant_at(now_us))
        }),
        ClockFunction::new(
            "localtimestamp",
            |_| timestamp(),
            |_| constant(ScalarValue::TimestampMicrosecond(Some(now_ms()?), None)),
            |now_us| local_value("localtimestamp", instant_at(now_us)),
        ),
        ClockFunction::new(
            "current_date",
            |_| DataType::Date32,
            |_| {
                let days = i32::try_from(clock::now_us()?.div_euclid(DAY_US)).unwrap_or(i32::MAX);
                constant(ScalarValue::Date32(Some(days)))
            },
            |now_us| local_value("current_date", instant_at(now_us)),
        ),
        ClockFunction::new("current_time", time_of_day_type, time_of_day, |now_us| {
            local_value("current_time", instant_at(now_us))
        }),
        ClockFunction::new("localtime", time_of_day_type, time_of_day, |now_us| {
            local_value("localtime", instant_at(now_us))
        }),
        // `UNIX_TIMESTAMP` with an argument is another function.
        ClockFunction {
            called: "unix_timestamp",
            scalar: Scalar::fallible("$unix_now", no_arguments, bigint, |_| {
                constant(ScalarValue::Int64(Some(clock::now_us()?.div_euclid(SECOND_US))))
            })
            .volatile(),
            batch_value: |now_us| Some(number(now_us.div_euclid(SECOND_US))),
        },
    ]
}

pub(super) fn all() -> Vec<Scalar> {
    let watermark = Scalar::fallible(WATERMARK, one_time, |given| given[0].clone(), watermark)
        .volatile()
        .in_local_time();
    let declared = declarations().into_iter().map(|function| function.scalar);
    declared.chain([watermark]).collect()
}

/// Returns the expression that stands for a call of a lower-case name in a batch job that starts at `now_us`; `None` if
/// the call does not read the clock.
pub(crate) fn batch_value(name: &str, function: &Function, now_us: i64) -> Option<Expr> {
    let has_arguments = match &function.args {
        FunctionArguments::None => false,
        FunctionArguments::List(list) => !list.args.is_empty(),
        FunctionArguments::Subquery(_) => true,
    };
    if has_arguments {
        let (_, arguments) = call_parts(function).filter(|_| name == WATERMARK)?;
        let [time] = arguments.as_slice() else {
            return None;
        };
        // NULL, in the type of the column.
        return Some(call(Ident::new("nullif"), vec![time.clone(), time.clone()]));
    }
    let function = declarations().into_iter().find(|function| function.called == name)?;
    (function.batch_value)(now_us)
}

fn no_arguments(given: &[DataType]) -> Result<Vec<DataType>> {
    if given.is_empty() {
        Ok(Vec::new())
    } else {
        plan_err!("takes no arguments")
    }
}

fn one_time(given: &[DataType]) -> Result<Vec<DataType>> {
    match given {
        [DataType::Timestamp(TimeUnit::Microsecond, _)] => Ok(given.to_vec()),
        [other] => plan_err!(
            "takes the event-time column of a table, which is a TIMESTAMP, not {}",
            sql_type::name(other)
        ),
        _ => plan_err!("takes the event-time column of a table"),
    }
}

/// `CURRENT_WATERMARK(rowtime)`: NULL before the first watermark.
fn watermark(arguments: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    match arguments.return_field.data_type() {
        DataType::Timestamp(_, zone) => {
            constant(ScalarValue::TimestampMicrosecond(evaluation::watermark(), zone.clone()))
        }
        other => plan_err!("CURRENT_WATERMARK is no {}", sql_type::name(other)),
    }
}

fn constant(value: ScalarValue) -> Result<ColumnarValue> {
    Ok(ColumnarValue::Scalar(value))
}

fn number(number: i64) -> Expr {
    Expr::Value(ValueWithSpan::from(Value::Number(number.to_string(), false)))
}

fn instant_type(_: &[DataType]) -> DataType {
    timestamp_ltz()
}

/// Returns the time in microseconds, with milliseconds, which are the precision of Flink's clock.
fn now_ms() -> Result<i64> {
    clock::now_us().map(|now_us| now_us - now_us.rem_euclid(MILLISECOND_US))
}

fn instant(_: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    constant(ScalarValue::TimestampMicrosecond(Some(now_ms()?), Some("UTC".into())))
}

fn instant_at(now_us: i64) -> Expr {
    let now_us = now_us - now_us.rem_euclid(MILLISECOND_US);
    call(Ident::new("to_timestamp_ltz"), vec![number(now_us), number(6)])
}

/// Returns the local time of an instant that a function of this lower-case name returns; `None` if the function returns
/// no local time.
pub(crate) fn local_value(name: &str, instant: Expr) -> Option<Expr> {
    match name {
        "localtimestamp" => Some(cast(instant, SqlType::Timestamp(None, TimezoneInfo::None))),
        "current_date" => Some(cast(instant, SqlType::Date)),
        // Whole seconds.
        "current_time" | "localtime" => {
            let time = cast(instant, SqlType::Time(None, TimezoneInfo::None));
            Some(call(Ident::new("$cut_time"), vec![time, number(0)]))
        }
        _ => None,
    }
}

fn time_of_day_type(_: &[DataType]) -> DataType {
    DataType::Time64(TimeUnit::Microsecond)
}

fn time_of_day(_: &ScalarFunctionArgs) -> Result<ColumnarValue> {
    let time = clock::now_us()?.rem_euclid(DAY_US);
    constant(ScalarValue::Time64Microsecond(Some(time - time.rem_euclid(SECOND_US))))
}
