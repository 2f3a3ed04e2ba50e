//! The product of an integer and a decimal constant, in one pass.
//!
//! `0.908 * price` is planned as a cast of the integer to a decimal, a product that is checked for overflow, and often a
//! cast of the result, each a pass over numbers of 128 bits. The types alone tell whether a product can be out of range;
//! where none can, there is nothing to check, and the product of two machine words is the answer.

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

use super::instead::{Way, instead};

#[derive(Debug)]
struct Product {
    integer: PhysicalExprRef,
    /// The constant without its point.
    coefficient: i64,
    /// Of the result.
    precision: u8,
    scale: i8,
}

/// The expression with every such product in it replaced.
pub(super) fn fused(expr: PhysicalExprRef, input: &Schema) -> Result<PhysicalExprRef> {
    let replaced = expr.transform_down(|expr| {
        Ok(match Product::of(&expr, |expr| expr.data_type(input))? {
            Some(product) => Transformed::new(instead(expr, product), true, TreeNodeRecursion::Jump),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

impl Product {
    fn of(original: &PhysicalExprRef, type_of: impl Fn(&PhysicalExprRef) -> Result<DataType>) -> Result<Option<Self>> {
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

/// Whether the product with any 64-bit integer has at most so many digits.
fn fits(coefficient: i64, precision: u8) -> bool {
    let largest = u128::from(coefficient.unsigned_abs()) << 63;
    largest < 10_u128.pow(u32::from(precision))
}

/// A decimal constant without its point, and its scale.
fn constant(expr: &PhysicalExprRef) -> Option<(i64, i8)> {
    match expr.downcast_ref::<Literal>()?.value() {
        ScalarValue::Decimal128(Some(value), _, scale) => Some((i64::try_from(*value).ok()?, *scale)),
        _ => None,
    }
}

/// What is made a decimal without fraction, of as many digits as any 64-bit integer has.
fn as_decimal(expr: &PhysicalExprRef) -> Option<&PhysicalExprRef> {
    let cast = expr.downcast_ref::<CastExpr>()?;
    matches!(cast.cast_type(), DataType::Decimal128(19.., 0)).then(|| cast.expr())
}

impl Way for Product {
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

    fn again(&self, original: &PhysicalExprRef) -> Result<Option<Self>> {
        let result = DataType::Decimal128(self.precision, self.scale);
        Self::of(original, |expr| {
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

    use super::super::instead::is_computed_by;
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

    /// That the expression is computed here or is not, and has the same values either way.
    #[track_caller]
    fn check(expr: Expr, is_fused: bool) {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let fused = fused(plain.clone(), batch.schema_ref()).expect("replaced");
        assert_eq!(is_computed_by::<Product>(&fused), is_fused, "{expr}");
        assert_eq!(fused.to_string(), plain.to_string());
        for rows in [0..5, 1..2, 3..5, 5..5] {
            let some = batch.slice(rows.start, rows.len());
            assert_eq!(&values(&fused, &some), &values(&plain, &some), "{rows:?} of {expr}");
        }
    }

    #[test]
    fn a_product_is_what_three_steps_give() {
        check(decimal(908, 3, 3) * whole("long"), true);
        check(whole("short") * decimal(-5, 2, 1), true);
        check(
            cast(decimal(908, 3, 3) * whole("long"), DataType::Decimal128(23, 3)),
            true,
        );
    }

    #[test]
    fn what_may_be_out_of_range_or_is_rounded_is_left_as_it_is() {
        let rounded = cast(decimal(908, 3, 3) * whole("long"), DataType::Decimal128(25, 2));
        check(rounded, false);
        check(decimal(908, 3, 3) + whole("long"), false);
        // The narrower result holds those of the small column, which the types do not tell.
        let narrow = cast(decimal(908, 3, 3) * whole("short"), DataType::Decimal128(20, 3));
        check(narrow, false);
        check(
            decimal(908, 3, 3) * cast(col("short"), DataType::Decimal128(9, 2)),
            false,
        );
    }

    #[test]
    fn a_product_over_a_column_that_moved_is_still_one() {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let expr = decimal(25, 2, 1) * whole("short");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let fused = fused(plain, batch.schema_ref()).expect("replaced");
        let moved =
            super::super::relation::substitute(&fused, &|_| Some(Arc::new(Column::new("moved", 0)) as PhysicalExprRef))
                .expect("moved");
        assert!(is_computed_by::<Product>(&moved));
        let narrow = batch.project(&[1]).expect("columns");
        assert_eq!(&values(&moved, &narrow), &values(&fused, &batch));
    }
}
