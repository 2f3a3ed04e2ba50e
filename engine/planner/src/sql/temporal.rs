//! Planning of `+` and `-` of dates, times and intervals, whose results have other types in Flink than in DataFusion.
//!
//! * A `DATE` plus an interval of hours, minutes or seconds is a `TIMESTAMP`; plus an interval that begins with a
//!   longer unit it is a `DATE`. The unit is not part of an Arrow type, so operands that show it are [marked](mark) in
//!   the parsed tree. Of others, such as columns, `INTERVAL DAY TO SECOND`s give a `TIMESTAMP`, which loses nothing.
//! * A `TIME` plus an interval is a `TIME`, past midnight that of the next day.
//! * The difference of two times is an interval, and so is a multiple of an interval.
//!
//! A literal is a call of [`YEAR_MONTH`] or [`DAY_TIME`] in the parsed tree, which gives it the type that columns have
//! ([`typed`]). Added to a time, it is DataFusion's literal of months, days and nanoseconds.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue, plan_err};
use datafusion::error::Result as PlanResult;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, cast};
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as SqlExpr, Ident, UnaryOperator};
use millstream_graph::sql_type::{day_time, is_interval as is_interval_type, timestamp};

use super::interval::{self, Span, is_within_day};
use crate::ast::{call, call_parts, take};
use crate::functions::{
    CLOCK_INTERVAL, DAY_INTERVAL, DAY_TIME, MINUS, YEAR_MONTH, interval_times, time_difference, time_plus,
};

/// Returns a literal of the type that columns have.
pub(super) fn typed(span: Span) -> SqlExpr {
    let function = match span {
        Span::Months(_) => YEAR_MONTH,
        Span::Microseconds(_) => DAY_TIME,
    };
    call(Ident::new(function), vec![interval::canonical(span)])
}

/// Returns the literal of a [typed] one; other expressions unchanged.
pub(super) fn literal(expr: SqlExpr) -> SqlExpr {
    if let SqlExpr::Function(function) = &expr
        && let Some((name, arguments)) = call_parts(function)
        && (name == YEAR_MONTH || name == DAY_TIME)
        && let [argument] = arguments.as_slice()
    {
        return argument.clone();
    }
    expr
}

/// Marks operands of `+` and `-` that are intervals by their form with their leading unit, and moves the sign of a
/// literal into it.
pub(super) fn mark(expr: &mut SqlExpr) {
    if let SqlExpr::UnaryOp {
        op: UnaryOperator::Minus,
        expr: inner,
    } = expr
        && let SqlExpr::Interval(literal) = inner.as_mut()
        && !matches!(literal.value.as_ref(), SqlExpr::UnaryOp { .. })
    {
        *literal.value = SqlExpr::UnaryOp {
            op: UnaryOperator::Minus,
            expr: Box::new(take(literal.value.as_mut())),
        };
        *expr = take(inner.as_mut());
        return;
    }
    if let SqlExpr::UnaryOp { op, expr: inner } = expr
        && (is_interval(inner) || is_sum(inner))
    {
        match op {
            UnaryOperator::Minus => *expr = call(Ident::new(MINUS), vec![take(inner.as_mut())]),
            UnaryOperator::Plus if is_interval(inner) => *expr = take(inner.as_mut()),
            _ => {}
        }
        return;
    }
    let SqlExpr::BinaryOp {
        left,
        op: BinaryOperator::Plus | BinaryOperator::Minus,
        right,
    } = expr
    else {
        return;
    };
    for side in [left, right] {
        let mark = match interval_unit(side) {
            Some(Unit::WithinDay) => CLOCK_INTERVAL,
            Some(Unit::DayOrLonger) => DAY_INTERVAL,
            None => continue,
        };
        let interval = take(side);
        **side = call(Ident::new(mark), vec![interval]);
    }
}

/// Returns true for a sum or difference, which may be one of times.
fn is_sum(expr: &SqlExpr) -> bool {
    match expr {
        SqlExpr::Nested(inner) => is_sum(inner),
        SqlExpr::BinaryOp { op, .. } => matches!(op, BinaryOperator::Plus | BinaryOperator::Minus),
        _ => false,
    }
}

/// Returns true for an expression that is an interval by its form.
pub(super) fn is_interval(expr: &SqlExpr) -> bool {
    interval_unit(expr).is_some()
}

/// The leading unit of an interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    WithinDay,
    DayOrLonger,
}

fn interval_unit(expr: &SqlExpr) -> Option<Unit> {
    match expr {
        SqlExpr::Interval(interval) => Some(match is_within_day(interval) {
            true => Unit::WithinDay,
            false => Unit::DayOrLonger,
        }),
        SqlExpr::Nested(inner) => interval_unit(inner),
        SqlExpr::UnaryOp {
            op: UnaryOperator::Minus | UnaryOperator::Plus,
            expr,
        } => interval_unit(expr),
        SqlExpr::BinaryOp {
            left,
            op: BinaryOperator::Plus | BinaryOperator::Minus,
            right,
        } => match (interval_unit(left)?, interval_unit(right)?) {
            (Unit::DayOrLonger, Unit::DayOrLonger) => Some(Unit::DayOrLonger),
            _ => Some(Unit::WithinDay),
        },
        SqlExpr::BinaryOp {
            left,
            op: BinaryOperator::Multiply,
            right,
        } => interval_unit(left).or_else(|| interval_unit(right)),
        _ => None,
    }
}

#[derive(Debug)]
pub(crate) struct TemporalArithmetic;

impl ExprPlanner for TemporalArithmetic {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> PlanResult<PlannerResult<RawBinaryExpr>> {
        let operator = match expr.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let RawBinaryExpr { op, left, right } = expr;
        let ((left, left_unit), (right, right_unit)) = (unmarked(left), unmarked(right));
        let is_time = |expr: &Expr| {
            let data_type = expr.get_type(schema);
            data_type.is_ok_and(|found| found.is_temporal() && !is_interval_type(&found))
        };
        let (left, right) = match (is_time(&left), is_time(&right)) {
            (true, false) => (left, untyped(right)),
            (false, true) => (untyped(left), right),
            _ => (left, right),
        };
        // An operand without a type is reported elsewhere.
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let is_minus = operator == Operator::Minus;
        let is_product = operator == Operator::Multiply;
        let is_clock = |unit| unit == Some(Unit::WithinDay);
        let is_days = |unit| unit == Some(Unit::DayOrLonger);
        let planned = match (&left_type, &right_type) {
            (interval, number) if is_product && is_interval_type(interval) && number.is_integer() => {
                interval_times().call(vec![left, right])
            }
            (number, interval) if is_product && is_interval_type(interval) && number.is_integer() => {
                interval_times().call(vec![right, left])
            }
            _ if is_product => {
                return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
            }
            (DataType::Date32, DataType::Interval(_)) if is_clock(right_unit) => {
                binary_expr(cast(left, timestamp()), operator, right)
            }
            (DataType::Interval(_), DataType::Date32) if is_clock(left_unit) && !is_minus => {
                binary_expr(cast(right, timestamp()), operator, left)
            }
            (DataType::Date32, DataType::Duration(_)) => {
                let sum = binary_expr(cast(left, timestamp()), operator, right);
                if is_days(right_unit) {
                    cast(sum, DataType::Date32)
                } else {
                    sum
                }
            }
            (DataType::Duration(_), DataType::Date32) if !is_minus => {
                let sum = binary_expr(cast(right, timestamp()), operator, left);
                if is_days(left_unit) {
                    cast(sum, DataType::Date32)
                } else {
                    sum
                }
            }
            (DataType::Time64(_), interval) if is_interval_type(interval) => {
                time_plus(is_minus).call(vec![left, right])
            }
            (interval, DataType::Time64(_)) if is_interval_type(interval) && !is_minus => {
                time_plus(false).call(vec![right, left])
            }
            (DataType::Interval(_), DataType::Duration(_)) | (DataType::Duration(_), DataType::Interval(_)) => {
                return plan_err!(
                    "`{operator}` of intervals takes two of years and months, or two of days and times: add them to a \
                     TIMESTAMP one after the other"
                );
            }
            (DataType::Interval(_), DataType::Date32) if !is_minus => binary_expr(right, operator, left),
            (DataType::Time64(_), DataType::Time64(_)) if is_minus => time_difference().call(vec![left, right]),
            (DataType::Date32 | DataType::Timestamp(..), DataType::Date32 | DataType::Timestamp(..)) if is_minus => {
                time_difference().call(vec![left, right])
            }
            _ => return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right })),
        };
        Ok(PlannerResult::Planned(planned))
    }
}

/// Removes the mark of an operand. Also returns its unit if it had one.
fn unmarked(expr: Expr) -> (Expr, Option<Unit>) {
    match argument_of(expr, CLOCK_INTERVAL) {
        Ok(interval) => (interval, Some(Unit::WithinDay)),
        Err(expr) => match argument_of(expr, DAY_INTERVAL) {
            Ok(interval) => (interval, Some(Unit::DayOrLonger)),
            Err(expr) => (expr, None),
        },
    }
}

/// Returns DataFusion's literal of a [typed] one; other expressions unchanged.
fn untyped(expr: Expr) -> Expr {
    argument_of(expr, YEAR_MONTH)
        .or_else(|expr| argument_of(expr, DAY_TIME))
        .unwrap_or_else(|expr| expr)
}

/// Returns the argument of a call of a function with one argument; an error with the expression if it is not one.
fn argument_of(expr: Expr, name: &str) -> Result<Expr, Expr> {
    match expr {
        Expr::ScalarFunction(mut function) if function.func.name() == name && function.args.len() == 1 => {
            Ok(function.args.remove(0))
        }
        other => Err(other),
    }
}

/// Returns the expression that a call of [`MINUS`] stands for; an error with the expression if it is not one.
pub(super) fn negated(expr: Expr, schema: &DFSchema) -> Result<Expr, Expr> {
    let inner = argument_of(expr, MINUS)?;
    Ok(match inner.get_type(schema) {
        Ok(data_type) if data_type == day_time() => {
            let minus_one = Expr::Literal(ScalarValue::Int64(Some(-1)), None);
            interval_times().call(vec![inner, minus_one])
        }
        _ => Expr::Negative(Box::new(inner)),
    })
}
