//! Planning of arithmetic with decimals, whose results have other types in Flink than in DataFusion, and are rounded
//! and checked.
//!
//! Types must be right when an operation is planned, because the expressions around it are planned with its type.

use datafusion::arrow::datatypes::{DECIMAL128_MAX_PRECISION, DataType};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, cast};
use datafusion::sql::sqlparser::ast::BinaryOperator;

use crate::functions::{as_decimal, decimal_operator, result_digits};

#[derive(Debug)]
pub(crate) struct DecimalArithmetic;

impl ExprPlanner for DecimalArithmetic {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let operator = match expr.op {
            BinaryOperator::Plus => Operator::Plus,
            BinaryOperator::Minus => Operator::Minus,
            BinaryOperator::Multiply => Operator::Multiply,
            BinaryOperator::Divide => Operator::Divide,
            BinaryOperator::Modulo => Operator::Modulo,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        // An operand without a type is reported elsewhere.
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
        let is_exact = |data_type: &DataType| is_decimal(data_type) || data_type.is_integer();
        if !is_exact(&left) || !is_exact(&right) || !(is_decimal(&left) || is_decimal(&right)) {
            return Ok(PlannerResult::Original(expr));
        }
        let (left, right) = (as_int(expr.left), as_int(expr.right));
        let types = (
            as_decimal(&left.get_type(schema)?),
            as_decimal(&right.get_type(schema)?),
        );
        let digits = types
            .0
            .zip(types.1)
            .and_then(|(left, right)| result_digits(operator, left, right));
        // No value can be too large, and DataFusion has the same result type.
        let is_sound = |((precision, _), is_sound): &((i32, i32), bool)| {
            *is_sound && *precision <= i32::from(DECIMAL128_MAX_PRECISION)
        };
        if digits.as_ref().is_some_and(is_sound) {
            let (left, right) = (decimal(left, schema)?, decimal(right, schema)?);
            return Ok(PlannerResult::Planned(binary_expr(left, operator, right)));
        }
        let Some(function) = decimal_operator(operator) else {
            return datafusion::common::internal_err!("{operator} is no arithmetic");
        };
        Ok(PlannerResult::Planned(function.call(vec![left, right])))
    }
}

/// Casts an integer to the decimal of its type.
fn decimal(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let data_type = expr.get_type(schema)?;
    Ok(match as_decimal(&data_type) {
        Some((precision, scale)) if data_type.is_integer() => cast(expr, DataType::Decimal128(precision, scale)),
        _ => expr,
    })
}

/// Integer literals are INT in Flink, if they fit.
fn as_int(expr: Expr) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), metadata) => match i32::try_from(*number) {
            Ok(number) => Expr::Literal(ScalarValue::Int32(Some(number)), metadata.clone()),
            Err(_) => expr,
        },
        _ => expr,
    }
}
