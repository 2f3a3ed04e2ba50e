//! The division of decimals, which Flink rounds, and to other digits than DataFusion keeps.
//!
//! It has to be known where a division is planned: what stands above it is planned with its type.

use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::error::Result;
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable};
use datafusion::sql::sqlparser::ast::BinaryOperator;

#[derive(Debug)]
pub(crate) struct DecimalDivision;

impl ExprPlanner for DecimalDivision {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        if expr.op != BinaryOperator::Divide {
            return Ok(PlannerResult::Original(expr));
        }
        // A side without a type is a mistake that is reported by who looks for it.
        let (Ok(left), Ok(right)) = (expr.left.get_type(schema), expr.right.get_type(schema)) else {
            return Ok(PlannerResult::Original(expr));
        };
        let is_decimal = |data_type: &DataType| matches!(data_type, DataType::Decimal128(..));
        let is_exact = |data_type: &DataType| is_decimal(data_type) || data_type.is_integer();
        if !is_exact(&left) || !is_exact(&right) || !(is_decimal(&left) || is_decimal(&right)) {
            return Ok(PlannerResult::Original(expr));
        }
        let arguments = vec![as_int(expr.left), as_int(expr.right)];
        Ok(PlannerResult::Planned(crate::functions::quotient().call(arguments)))
    }
}

/// Whole numbers that are written out are INT in Flink, if they fit.
fn as_int(expr: Expr) -> Expr {
    match &expr {
        Expr::Literal(ScalarValue::Int64(Some(number)), metadata) => match i32::try_from(*number) {
            Ok(number) => Expr::Literal(ScalarValue::Int32(Some(number)), metadata.clone()),
            Err(_) => expr,
        },
        _ => expr,
    }
}
