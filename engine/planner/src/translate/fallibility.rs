//! Analysis of physical expressions: which can fail when they are evaluated.

use arrow_schema::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal, NegativeExpr,
    NotExpr, TryCastExpr,
};
use datafusion::physical_expr::{PhysicalExprRef, ScalarFunctionExpr};

use crate::functions::{Fallibility, Functions};

/// Returns true if an expression can fail for some row.
pub(super) fn can_fail(expr: &PhysicalExprRef, input: &Schema) -> bool {
    !is_infallible(expr, input) || expr.children().into_iter().any(|child| can_fail(child, input))
}

/// Returns true if an expression cannot fail, provided that its operands do not.
fn is_infallible(expr: &PhysicalExprRef, input: &Schema) -> bool {
    let type_of = |expr: &PhysicalExprRef| expr.data_type(input).unwrap_or(DataType::Null);
    if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
        use Operator::{Divide, Minus, Modulo, Multiply, Plus, StringConcat};
        let data_type = type_of(binary.left());
        return match binary.op() {
            StringConcat => true,
            operator if is_comparison(*operator) => true,
            // Integers wrap.
            Plus | Minus | Multiply => data_type.is_integer() || data_type.is_floating(),
            Divide | Modulo => {
                data_type.is_floating() || (data_type.is_integer() && is_infallible_divisor(binary.right()))
            }
            _ => false,
        };
    }
    if let Some(cast) = expr.downcast_ref::<CastExpr>() {
        return is_infallible_cast(&type_of(cast.expr()), cast.cast_type());
    }
    if let Some(function) = expr.downcast_ref::<ScalarFunctionExpr>() {
        let properties = Functions::all().scalar_properties(function.name());
        return properties.fallibility == Fallibility::Infallible;
    }
    is_plain(expr)
        || expr.downcast_ref::<LikeExpr>().is_some()
        || expr.downcast_ref::<NegativeExpr>().is_some()
        || expr.downcast_ref::<CaseExpr>().is_some()
        || expr.downcast_ref::<TryCastExpr>().is_some()
}

/// Returns true for comparison operators, and for `AND` and `OR`.
pub(super) fn is_comparison(operator: Operator) -> bool {
    use Operator::{And, Eq, Gt, GtEq, IsDistinctFrom, IsNotDistinctFrom, Lt, LtEq, NotEq, Or};
    matches!(
        operator,
        And | Or | Eq | NotEq | Lt | LtEq | Gt | GtEq | IsDistinctFrom | IsNotDistinctFrom
    )
}

/// Returns true for columns, constants and tests that cannot fail for any type.
pub(super) fn is_plain(expr: &PhysicalExprRef) -> bool {
    expr.downcast_ref::<Column>().is_some()
        || expr.downcast_ref::<Literal>().is_some()
        || expr.downcast_ref::<InListExpr>().is_some()
        || expr.downcast_ref::<IsNullExpr>().is_some()
        || expr.downcast_ref::<IsNotNullExpr>().is_some()
        || expr.downcast_ref::<NotExpr>().is_some()
        || expr
            .downcast_ref::<ScalarFunctionExpr>()
            .is_some_and(|function| function.name() == crate::functions::COMPARABLE)
}

/// Returns true for a constant other than 0 and -1. The smallest integer divided by -1 overflows.
fn is_infallible_divisor(expr: &PhysicalExprRef) -> bool {
    let value = expr.downcast_ref::<Literal>().map(Literal::value);
    let number = value.and_then(|value| value.cast_to(&DataType::Int64).ok());
    matches!(number, Some(ScalarValue::Int64(Some(number))) if !matches!(number, 0 | -1))
}

/// Returns true if every value of a type can be cast to another type.
fn is_infallible_cast(from: &DataType, to: &DataType) -> bool {
    use DataType::{Boolean, Date32, Decimal128, Float32, Float64, Int8, Int16, Int32, Int64, Null, Utf8};
    let digits = |data_type: &DataType| match data_type {
        Int8 => Some(3),
        Int16 => Some(5),
        Int32 => Some(10),
        Int64 => Some(19),
        _ => None,
    };
    match (from, to) {
        (from, to) if from == to => true,
        (Null, _) => true,
        (Boolean | Date32 | Decimal128(..), Utf8) => true,
        (from, Utf8) => from.is_numeric(),
        (from, Float64) => from.is_numeric(),
        (from, Float32) => from.is_integer(),
        (from, Decimal128(precision, scale)) => {
            digits(from).is_some_and(|digits| digits + i16::from(*scale) <= i16::from(*precision))
        }
        (from, to) => digits(from).zip(digits(to)).is_some_and(|(from, to)| from <= to),
    }
}
