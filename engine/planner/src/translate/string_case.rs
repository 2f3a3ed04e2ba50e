//! `CASE` over strings with fewer copies.
//!
//! DataFusion evaluates the conditions of a `CASE` one after the other, each over the rows that no earlier condition
//! selected, and for that copies the remaining rows of every column that any branch reads. This is necessary where a
//! condition can fail for rows that an earlier one selects. Comparisons of columns and constants cannot fail: here they
//! are evaluated over all rows, without copies. Copies remain for computed results only: each copies, once, its own
//! rows of the columns that it reads. Constant results are appended to the output directly.
//!
//! A result is evaluated for its own rows only, as in DataFusion. Values of types other than strings are cheap to copy
//! and left to DataFusion.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch, StringArray, StringBuilder};
use arrow::buffer::BooleanBuffer;
use arrow_schema::{DataType, Schema};
use datafusion::common::ScalarValue;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::{BinaryExpr, CaseExpr, Literal};

use super::fallibility::{is_comparison, is_plain};
use super::masked_eval::MaskedExpr;
use super::specialized_expr::{Specialization, specialized};

/// Maximum number of branches: the branch of a row is stored in one byte.
const BRANCHES_MAX: usize = u8::MAX as usize;

/// A `CASE` whose conditions cannot fail and whose value is a string.
#[derive(Debug)]
pub(super) struct StringCase {
    conditions: Vec<PhysicalExprRef>,
    /// One result per condition, then the result of `ELSE`.
    results: Vec<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    Constant(Option<String>),
    Computed(MaskedExpr),
}

/// Replaces every `CASE` in an expression that qualifies.
pub(super) fn rewrite(expr: PhysicalExprRef, input: &Schema) -> Result<PhysicalExprRef> {
    let replaced = expr.transform_up(|expr| {
        Ok(match StringCase::new(&expr, |expr| expr.data_type(input))? {
            Some(case) => Transformed::yes(specialized(expr, case)),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

impl StringCase {
    fn new(original: &PhysicalExprRef, type_of: impl Fn(&PhysicalExprRef) -> Result<DataType>) -> Result<Option<Self>> {
        let Some(case) = original.downcast_ref::<CaseExpr>() else {
            return Ok(None);
        };
        let branches = case.when_then_expr();
        let is_eligible = case.expr().is_none()
            && branches.len() < BRANCHES_MAX
            && branches.iter().all(|(condition, _)| is_cheap_and_infallible(condition));
        if !is_eligible || type_of(original)? != DataType::Utf8 {
            return Ok(None);
        }
        let mut results = Vec::with_capacity(branches.len() + 1);
        for result in branches
            .iter()
            .map(|(_, result)| Some(result))
            .chain([case.else_expr()])
        {
            let Some(result) = result else {
                results.push(Outcome::Constant(None));
                continue;
            };
            results.push(match result.downcast_ref::<Literal>().map(Literal::value) {
                Some(ScalarValue::Utf8(text)) => Outcome::Constant(text.clone()),
                Some(value) if value.is_null() => Outcome::Constant(None),
                _ if type_of(result)? == DataType::Utf8 => Outcome::Computed(MaskedExpr::new(result)?),
                _ => return Ok(None),
            });
        }
        Ok(Some(Self {
            conditions: branches.iter().map(|(condition, _)| Arc::clone(condition)).collect(),
            results,
        }))
    }

    /// Returns the mask of each branch, and the branch of each row.
    fn branches(&self, batch: &RecordBatch) -> Result<(Vec<BooleanBuffer>, Vec<u8>)> {
        let rows = batch.num_rows();
        let mut branch_of_row = vec![self.conditions.len() as u8; rows];
        let mut remaining = BooleanBuffer::new_set(rows);
        let mut masks = Vec::with_capacity(self.results.len());
        for (branch, condition) in self.conditions.iter().enumerate() {
            let holds = condition.evaluate(batch)?.into_array(rows)?;
            let holds = holds.as_boolean();
            let mask = match holds.nulls() {
                Some(nulls) => &(holds.values() & nulls.inner()) & &remaining,
                None => holds.values() & &remaining,
            };
            for (from, to) in mask.set_slices() {
                branch_of_row[from..to].fill(branch as u8);
            }
            remaining = &remaining & &!&mask;
            masks.push(mask);
        }
        masks.push(remaining);
        Ok((masks, branch_of_row))
    }
}

impl Outcome {
    /// Returns the strings of the rows that `mask` selects.
    fn texts(&self, batch: &RecordBatch, mask: &BooleanBuffer) -> Result<Texts<'_>> {
        let expr = match self {
            Self::Constant(text) => return Ok(Texts::Constant(text.as_deref())),
            Self::Computed(expr) => expr,
        };
        if mask.count_set_bits() == 0 {
            return Ok(Texts::Constant(None));
        }
        let texts = expr.evaluate(batch, mask)?;
        Ok(Texts::Rows {
            texts: texts.as_string::<i32>().clone(),
            next: 0,
        })
    }
}

/// An iterator over the strings of one branch, one per row of the branch.
enum Texts<'a> {
    Constant(Option<&'a str>),
    Rows { texts: StringArray, next: usize },
}

impl Texts<'_> {
    #[inline]
    fn next(&mut self) -> Option<&str> {
        match self {
            Self::Constant(text) => *text,
            Self::Rows { texts, next } => {
                let row = *next;
                *next += 1;
                texts.is_valid(row).then(|| texts.value(row))
            }
        }
    }
}

/// Returns true if an expression can be evaluated over all rows: it is cheap and, for operands of any type, cannot
/// fail.
fn is_cheap_and_infallible(expr: &PhysicalExprRef) -> bool {
    let is_infallible = match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => is_comparison(*binary.op()),
        None => is_plain(expr),
    };
    is_infallible && expr.children().into_iter().all(is_cheap_and_infallible)
}

impl Specialization for StringCase {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (masks, branch_of_row) = self.branches(batch)?;
        let texts: Result<Vec<Texts<'_>>> = self
            .results
            .iter()
            .zip(&masks)
            .map(|(result, mask)| result.texts(batch, mask))
            .collect();
        let mut texts = texts?;
        let mut result = StringBuilder::with_capacity(branch_of_row.len(), 8 * branch_of_row.len());
        for branch in branch_of_row {
            result.append_option(texts[usize::from(branch)].next());
        }
        Ok(ColumnarValue::Array(Arc::new(result.finish())))
    }

    fn rebuild(&self, original: &PhysicalExprRef) -> Result<Option<Self>> {
        Self::new(original, |_| Ok(DataType::Utf8))
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array};
    use datafusion::common::DFSchema;
    use datafusion::logical_expr::Expr;
    use datafusion::physical_expr::create_physical_expr;
    use datafusion::physical_expr::expressions::Column;
    use datafusion::physical_expr::utils::collect_columns;
    use datafusion::prelude::{cast, col, lit, when};

    use super::super::specialized_expr::is_specialized_by;
    use super::*;

    fn batch() -> RecordBatch {
        let texts = |texts: [Option<&str>; 5]| Arc::new(StringArray::from_iter(texts)) as ArrayRef;
        let numbers = [Some(1), Some(2), None, Some(4), Some(0)];
        RecordBatch::try_from_iter_with_nullable([
            (
                "name",
                texts([Some("a"), Some("b"), None, Some("ccc"), Some("a")]),
                true,
            ),
            ("unused", texts([None; 5]), true),
            ("n", Arc::new(Int64Array::from_iter(numbers)) as ArrayRef, true),
            ("other", texts([Some("x"), Some(""), Some("z"), None, Some("ö")]), true),
        ])
        .expect("columns of one length")
    }

    /// Checks that a specialised expression has the values of the original; `None` if it must not be specialised.
    #[track_caller]
    fn check(expr: Expr, expected: Option<[Option<&str>; 5]>) {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let rewritten = rewrite(plain.clone(), batch.schema_ref()).expect("replaced");
        assert_eq!(is_specialized_by::<StringCase>(&rewritten), expected.is_some());
        assert_eq!(rewritten.to_string(), plain.to_string());
        assert_eq!(collect_columns(&rewritten), collect_columns(&plain));
        let value = |expr: &PhysicalExprRef, batch: &RecordBatch| {
            let value = expr
                .evaluate(batch)
                .and_then(|value| value.into_array(batch.num_rows()));
            value.expect("a value")
        };
        for rows in [0..5, 0..1, 2..4, 5..5] {
            let some = batch.slice(rows.start, rows.len());
            assert_eq!(&value(&rewritten, &some), &value(&plain, &some), "{rows:?} of {expr}");
        }
        if let Some(expected) = expected {
            let found = value(&rewritten, &batch);
            assert_eq!(found.as_string::<i32>().iter().collect::<Vec<_>>(), expected, "{expr}");
        }
    }

    #[test]
    fn values_equal_those_of_the_original_case() {
        check(
            when(col("name").eq(lit("a")), lit("0"))
                .when(col("name").eq(lit("b")), lit("1"))
                .otherwise(col("other"))
                .expect("a case"),
            Some([Some("0"), Some("1"), Some("z"), None, Some("0")]),
        );
        check(
            when(col("n").gt(lit(1i64)), col("other"))
                .when(col("n").is_null(), lit("none"))
                .end()
                .expect("a case"),
            Some([None, Some(""), Some("none"), None, None]),
        );
        check(
            when(col("n").not_eq(lit(0i64)), cast(lit(8i64) / col("n"), DataType::Utf8))
                .otherwise(lit(ScalarValue::Utf8(None)))
                .expect("a case"),
            Some([Some("8"), Some("4"), None, Some("2"), None]),
        );
    }

    #[test]
    fn fallible_conditions_and_other_types_are_left_alone() {
        check(
            when(col("n").eq(lit(0i64)), lit("0"))
                .when((lit(8i64) / col("n")).gt(lit(2i64)), lit("1"))
                .otherwise(col("other"))
                .expect("a case"),
            None,
        );
        check(
            when(col("n").eq(lit(0i64)), lit(1i64))
                .otherwise(lit(2i64))
                .expect("a case"),
            None,
        );
    }

    #[test]
    fn renumbered_columns_keep_the_specialization() {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let case = when(col("name").eq(lit("a")), lit("0"))
            .otherwise(col("other"))
            .expect("a case");
        let plain = create_physical_expr(&case, &schema, &Default::default(), &Default::default()).expect("planned");
        let rewritten = rewrite(plain, batch.schema_ref()).expect("replaced");
        let moved = super::super::relation::substitute(&rewritten, &|index| {
            Some(Arc::new(Column::new("moved", usize::from(index > 0))) as PhysicalExprRef)
        })
        .expect("moved");
        assert!(is_specialized_by::<StringCase>(&moved));
        let narrow = batch.project(&[0, 3]).expect("columns");
        let values = moved
            .evaluate(&narrow)
            .and_then(|value| value.into_array(5))
            .expect("values");
        let expected = [Some("0"), Some(""), Some("z"), None, Some("0")];
        assert_eq!(values.as_string::<i32>().iter().collect::<Vec<_>>(), expected);
    }
}
