//! Planning of `+` and `-` of dates, times and intervals, whose results have other types in Flink than in DataFusion.
//!
//! * A `DATE` plus an interval of hours, minutes or seconds is a `TIMESTAMP`; plus other intervals it is a `DATE`. The
//!   unit of an interval is not part of its Arrow type, so the parsed tree is [marked](mark).
//! * A `TIME` plus an interval is a `TIME`, past midnight that of the next day.
//! * The difference of two times is an interval, and so is a multiple of an interval.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::DFSchema;
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, cast};
use datafusion::sql::sqlparser::ast::{BinaryOperator, Expr as SqlExpr, Ident, UnaryOperator};
use millstream_graph::sql_type::timestamp;

use super::interval::is_within_day;
use crate::ast::{call, take};
use crate::functions::{CLOCK_INTERVAL, interval_times, time_difference, time_plus};

/// Marks operands of `+` and `-` that are intervals of hours, minutes or seconds.
pub(super) fn mark(expr: &mut SqlExpr) {
    let SqlExpr::BinaryOp {
        left,
        op: BinaryOperator::Plus | BinaryOperator::Minus,
        right,
    } = expr
    else {
        return;
    };
    for side in [left, right] {
        if interval_unit(side) == Some(Unit::WithinDay) {
            let interval = take(side);
            **side = call(Ident::new(CLOCK_INTERVAL), vec![interval]);
        }
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
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let operator = match expr.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let RawBinaryExpr { op, left, right } = expr;
        let ((left, is_left_marked), (right, is_right_marked)) = (unmarked(left), unmarked(right));
        // An operand without a type is reported elsewhere.
        let (Ok(left_type), Ok(right_type)) = (left.get_type(schema), right.get_type(schema)) else {
            return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
        };
        let is_minus = operator == Operator::Minus;
        let planned = match (&left_type, &right_type) {
            (DataType::Interval(_), number) if operator == Operator::Multiply && number.is_integer() => {
                interval_times().call(vec![left, right])
            }
            (number, DataType::Interval(_)) if operator == Operator::Multiply && number.is_integer() => {
                interval_times().call(vec![right, left])
            }
            _ if operator == Operator::Multiply => {
                return Ok(PlannerResult::Original(RawBinaryExpr { op, left, right }));
            }
            (DataType::Date32, DataType::Interval(_)) if is_right_marked => {
                binary_expr(cast(left, timestamp()), operator, right)
            }
            (DataType::Interval(_), DataType::Date32) if is_left_marked && !is_minus => {
                binary_expr(cast(right, timestamp()), operator, left)
            }
            (DataType::Time64(_), DataType::Interval(_)) => time_plus(is_minus).call(vec![left, right]),
            (DataType::Interval(_), DataType::Time64(_)) if !is_minus => time_plus(false).call(vec![right, left]),
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

/// Removes the mark of an operand. Also returns true if it had one.
fn unmarked(expr: Expr) -> (Expr, bool) {
    match expr {
        Expr::ScalarFunction(mut function) if function.func.name() == CLOCK_INTERVAL && function.args.len() == 1 => {
            (function.args.remove(0), true)
        }
        other => (other, false),
    }
}
