//! Short-circuit evaluation of `AND` and `OR` whose right side can fail.
//!
//! DataFusion evaluates both sides over all rows unless the left side decides most of them, which it treats as an
//! optimisation. Here it is a matter of correctness: in `v <> 0 AND 10 / v > 2` an error of the right side fails the
//! row and by default the job. So a right side that can fail is evaluated only over the rows that the left side leaves
//! undecided. All other conjunctions and disjunctions are left to DataFusion.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::{and_kleene, or_kleene};
use arrow_schema::Schema;
use datafusion::common::cast::as_boolean_array;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Operator};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::BinaryExpr;

use super::fallibility::can_fail;
use super::masked_eval::MaskedExpr;
use super::specialized_expr::{Specialization, specialized};

/// A short-circuit `AND` or `OR`.
#[derive(Debug)]
struct ShortCircuit {
    is_and: bool,
    left: PhysicalExprRef,
    right: MaskedExpr,
}

/// Replaces every `AND` and `OR` in an expression whose right side can fail.
pub(super) fn rewrite(expr: PhysicalExprRef, input: &Schema) -> Result<PhysicalExprRef> {
    let replaced = expr.transform_up(|expr| {
        let Some(binary) = logical(&expr).filter(|binary| can_fail(binary.right(), input)) else {
            return Ok(Transformed::no(expr));
        };
        let short_circuit = ShortCircuit::new(binary)?;
        Ok(Transformed::yes(specialized(expr, short_circuit)))
    })?;
    Ok(replaced.data)
}

fn logical(expr: &PhysicalExprRef) -> Option<&BinaryExpr> {
    expr.downcast_ref::<BinaryExpr>()
        .filter(|binary| matches!(binary.op(), Operator::And | Operator::Or))
}

impl ShortCircuit {
    fn new(binary: &BinaryExpr) -> Result<Self> {
        Ok(Self {
            is_and: *binary.op() == Operator::And,
            left: Arc::clone(binary.left()),
            right: MaskedExpr::new(binary.right())?,
        })
    }
}

impl Specialization for ShortCircuit {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let rows = batch.num_rows();
        let left = self.left.evaluate(batch)?.into_array(rows)?;
        let left = as_boolean_array(&left)?;
        // False decides AND, true decides OR; NULL decides neither.
        let mut undecided = if self.is_and {
            left.values().clone()
        } else {
            !left.values()
        };
        if let Some(nulls) = left.nulls() {
            undecided = &undecided | &!nulls.inner();
        }
        if undecided.count_set_bits() == 0 {
            return Ok(ColumnarValue::Array(Arc::new(left.clone())));
        }
        let right = self.right.evaluate(batch, &undecided)?;
        let right = as_boolean_array(&right)?;
        let right = if right.len() == rows {
            right.clone()
        } else {
            let mut values = right.iter();
            let value = |is_undecided: bool| if is_undecided { values.next().flatten() } else { None };
            undecided.iter().map(value).collect::<BooleanArray>()
        };
        let result = if self.is_and {
            and_kleene(left, &right)?
        } else {
            or_kleene(left, &right)?
        };
        Ok(ColumnarValue::Array(Arc::new(result)))
    }

    fn rebuild(&self, original: &PhysicalExprRef) -> Result<Option<Self>> {
        logical(original).map(Self::new).transpose()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, AsArray, Int64Array, StringArray};
    use arrow_schema::DataType;
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::Expr;
    use datafusion::physical_expr::create_physical_expr;
    use datafusion::prelude::{cast, col, lit};

    use super::super::specialized_expr::is_specialized_by;
    use super::*;

    fn batch() -> RecordBatch {
        let numbers = [Some(0), Some(2), None, Some(9), Some(0)];
        let texts = [Some("x"), Some("1"), Some("7"), None, Some("3")];
        RecordBatch::try_from_iter_with_nullable([
            ("unused", Arc::new(StringArray::from_iter(texts)) as ArrayRef, true),
            ("v", Arc::new(Int64Array::from_iter(numbers)) as ArrayRef, true),
            ("k", Arc::new(StringArray::from_iter(texts)) as ArrayRef, true),
        ])
        .expect("columns of one length")
    }

    /// Checks the values of an expression, and that it is specialised as expected.
    #[track_caller]
    fn check(expr: Expr, is_specialized: bool, expected: [Option<bool>; 5]) {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let found = rewrite(plain.clone(), batch.schema_ref()).expect("replaced");
        assert_eq!(is_specialized_by::<ShortCircuit>(&found), is_specialized, "{expr}");
        assert_eq!(found.to_string(), plain.to_string());
        let values = found
            .evaluate(&batch)
            .and_then(|values| values.into_array(5))
            .expect("values");
        assert_eq!(values.as_boolean().iter().collect::<Vec<_>>(), expected, "{expr}");
        for (row, expected) in expected.into_iter().enumerate() {
            let one = batch.slice(row, 1);
            let value = found
                .evaluate(&one)
                .and_then(|value| value.into_array(1))
                .expect("a value");
            assert_eq!(value.as_boolean().iter().next(), Some(expected), "row {row} of {expr}");
        }
    }

    #[test]
    fn right_side_is_evaluated_only_where_the_left_side_does_not_decide() {
        let quotient = || (lit(10i64) / col("v")).gt(lit(2i64));
        let (no, yes) = (Some(false), Some(true));
        check(
            col("v").not_eq(lit(0i64)).and(quotient()),
            true,
            [no, yes, None, no, no],
        );
        check(col("v").eq(lit(0i64)).or(quotient()), true, [yes, yes, None, no, yes]);
        let number = || cast(col("k"), DataType::Int64).gt(lit(0i64));
        check(col("k").eq(lit("1")).and(number()), true, [no, yes, no, None, no]);
        check(
            col("v")
                .gt(lit(0i64))
                .and(quotient())
                .and(cast(col("k"), DataType::Int64).eq(lit(1i64))),
            true,
            [no, yes, no, no, no],
        );
        check(
            col("v").gt(lit(1i64)).and((col("v") % lit(3i64)).eq(lit(0i64))),
            false,
            [no, no, None, yes, no],
        );
    }
}
