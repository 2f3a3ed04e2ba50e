//! Multiplication of an integer by a decimal constant in one pass.
//!
//! DataFusion evaluates `0.908 * price` as a cast of the integer to a decimal, a multiplication checked for overflow,
//! and often a cast of the result: several passes over 128-bit numbers. If the types rule out an overflow, no check is
//! needed and each product is a multiplication of two 64-bit integers.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Decimal128Array, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::Int64Type;
use arrow_schema::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{BinaryExpr, CastExpr, Literal};

use super::specialized_expr::{Specialization, specialized};

/// The product of an integer and a decimal constant that cannot overflow its type.
#[derive(Debug)]
struct DecimalMultiply {
    integer: PhysicalExprRef,
    /// The unscaled value of the constant.
    coefficient: i64,
    /// Precision of the result.
    precision: u8,
    /// Scale of the constant and of the result.
    scale: i8,
}

/// Replaces every such product in an expression.
pub(super) fn rewrite(expr: PhysicalExprRef, input: &Schema) -> Result<PhysicalExprRef> {
    let replaced = expr.transform_down(|expr| {
        Ok(match DecimalMultiply::new(&expr, |expr| expr.data_type(input))? {
            Some(product) => Transformed::new(specialized(expr, product), true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

impl DecimalMultiply {
    fn new(original: &PhysicalExprRef, type_of: impl Fn(&PhysicalExprRef) -> Result<DataType>) -> Result<Option<Self>> {
        let product = match original.downcast_ref::<CastExpr>() {
            Some(cast) => cast.expr(),
            None => original,
        };
        let Some(product) = product.downcast_ref::<BinaryExpr>() else {
            return Ok(None);
        };
        let operands = constant(product.left())
            .zip(as_decimal(product.right()))
            .or_else(|| constant(product.right()).zip(as_decimal(product.left())));
        let (Operator::Multiply, Some(((coefficient, constant_scale), integer))) = (*product.op(), operands) else {
            return Ok(None);
        };
        let is_integer = matches!(
            type_of(integer)?,
            DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64
        );
        let DataType::Decimal128(precision, scale) = type_of(original)? else {
            return Ok(None);
        };
        if !is_integer || scale != constant_scale || !fits(coefficient, precision) {
            return Ok(None);
        }
        Ok(Some(Self {
            integer: Arc::clone(integer),
            coefficient,
            precision,
            scale,
        }))
    }
}

/// Returns true if the product with any 64-bit integer has at most `precision` digits.
fn fits(coefficient: i64, precision: u8) -> bool {
    let largest = u128::from(coefficient.unsigned_abs()) << 63;
    largest < 10_u128.pow(u32::from(precision))
}

/// Returns the unscaled value and the scale of a decimal constant.
fn constant(expr: &PhysicalExprRef) -> Option<(i64, i8)> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Decimal128(Some(value), _, scale) => Some((i64::try_from(*value).ok()?, *scale)),
        _ => None,
    }
}

/// Returns the operand of a cast to a decimal of scale 0 that holds any 64-bit integer.
fn as_decimal(expr: &PhysicalExprRef) -> Option<&PhysicalExprRef> {
    let cast = expr.downcast_ref::<CastExpr>()?;
    matches!(cast.cast_type(), DataType::Decimal128(19.., 0)).then(|| cast.expr())
}

impl Specialization for DecimalMultiply {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let integers: ArrayRef = self.integer.evaluate(batch)?.into_array(batch.num_rows())?;
        let integers = match integers.data_type() {
            DataType::Int64 => integers,
            _ => cast(&integers, &DataType::Int64)?,
        };
        let coefficient = i128::from(self.coefficient);
        let products: Decimal128Array = integers
            .as_primitive::<Int64Type>()
            .unary(|integer| i128::from(integer) * coefficient);
        let products = products.with_precision_and_scale(self.precision, self.scale)?;
        Ok(ColumnarValue::Array(Arc::new(products)))
    }

    fn rebuild(&self, original: &PhysicalExprRef) -> Result<Option<Self>> {
        let result = DataType::Decimal128(self.precision, self.scale);
        Self::new(original, |expr| {
            Ok(if Arc::ptr_eq(expr, original) {
                result.clone()
            } else {
                DataType::Int64
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int16Array, Int64Array};
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::{Expr, cast};
    use datafusion::physical_expr::create_physical_expr;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::prelude::{col, lit};

    use super::super::specialized_expr::is_specialized_by;
    use super::*;

    fn batch() -> RecordBatch {
        let long = [Some(0), None, Some(i64::MAX), Some(i64::MIN), Some(-7)];
        let short = [Some(1), Some(i16::MIN), None, Some(i16::MAX), Some(0)];
        RecordBatch::try_from_iter([
            ("long", Arc::new(Int64Array::from_iter(long)) as ArrayRef),
            ("short", Arc::new(Int16Array::from_iter(short)) as ArrayRef),
            ("unused", Arc::new(Int64Array::from_iter([Some(1); 5])) as ArrayRef),
        ])
        .expect("columns of one length")
    }

    fn decimal(value: i128, precision: u8, scale: i8) -> Expr {
        lit(ScalarValue::Decimal128(Some(value), precision, scale))
    }

    fn whole(column: &str) -> Expr {
        cast(col(column), DataType::Decimal128(20, 0))
    }

    fn values(expr: &PhysicalExprRef, batch: &RecordBatch) -> ArrayRef {
        let values = expr
            .evaluate(batch)
            .and_then(|value| value.into_array(batch.num_rows()));
        values.expect("values")
    }

    /// Checks that an expression is specialised or not, and has the values of the original.
    #[track_caller]
    fn check(expr: Expr, is_specialized: bool) {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let rewritten = rewrite(plain.clone(), batch.schema_ref()).expect("rewritten");
        assert_eq!(
            is_specialized_by::<DecimalMultiply>(&rewritten),
            is_specialized,
            "{expr}"
        );
        assert_eq!(rewritten.to_string(), plain.to_string());
        for rows in [0..5, 1..2, 3..5, 5..5] {
            let some = batch.slice(rows.start, rows.len());
            assert_eq!(&values(&rewritten, &some), &values(&plain, &some), "{rows:?} of {expr}");
        }
    }

    #[test]
    fn products_that_cannot_overflow_are_specialized() {
        check(decimal(908, 3, 3) * whole("long"), true);
        check(whole("short") * decimal(-5, 2, 1), true);
        check(
            cast(decimal(908, 3, 3) * whole("long"), DataType::Decimal128(23, 3)),
            true,
        );
    }

    #[test]
    fn products_that_may_overflow_or_are_rounded_are_left_alone() {
        let rounded = cast(decimal(908, 3, 3) * whole("long"), DataType::Decimal128(25, 2));
        check(rounded, false);
        check(decimal(908, 3, 3) + whole("long"), false);
        // No SMALLINT overflows the narrower result, but the check is for any BIGINT.
        let narrow = cast(decimal(908, 3, 3) * whole("short"), DataType::Decimal128(20, 3));
        check(narrow, false);
        check(
            decimal(908, 3, 3) * cast(col("short"), DataType::Decimal128(9, 2)),
            false,
        );
    }

    #[test]
    fn renumbered_columns_keep_the_specialization() {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let expr = decimal(25, 2, 1) * whole("short");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let rewritten = rewrite(plain, batch.schema_ref()).expect("rewritten");
        let moved = super::super::relation::substitute(&rewritten, &|_| {
            Some(Arc::new(Column::new("moved", 0)) as PhysicalExprRef)
        })
        .expect("moved");
        assert!(is_specialized_by::<DecimalMultiply>(&moved));
        let narrow = batch.project(&[1]).expect("columns");
        assert_eq!(&values(&moved, &narrow), &values(&rewritten, &batch));
    }
}
