//! `CASE` of texts that copies only what it must.
//!
//! DataFusion's `CASE` evaluates one condition after the other, each over the rows that are left, and so copies, after
//! each, those rows of every column that any branch reads. That is right where a condition may fail for rows which an
//! earlier one took. Comparisons of columns and constants cannot fail: they are evaluated over all rows here, which copies
//! nothing. What remains to be copied are the rows of results that are computed, once, and of the columns that the one
//! result reads. Constant results are written straight into the output.
//!
//! Results are still computed for no other rows than theirs. Values of other types than texts are cheap to copy, and left
//! to DataFusion.

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

use super::decided::{is_comparison, is_plain};
use super::instead::{Way, instead};
use super::some_rows::OverSomeRows;

/// Branches of a `CASE` that is evaluated here, at most: a row's branch is noted in one byte.
const BRANCHES_MAX: usize = u8::MAX as usize;

/// A `CASE` whose conditions cannot fail and whose value is a text.
#[derive(Debug)]
pub(super) struct Choice {
    conditions: Vec<PhysicalExprRef>,
    /// By condition, then what is otherwise.
    results: Vec<Outcome>,
}

#[derive(Debug)]
enum Outcome {
    Constant(Option<String>),
    Computed(OverSomeRows),
}

/// The expression with every `CASE` in it replaced that is cheaper so.
pub(super) fn cheaper(expr: PhysicalExprRef, input: &Schema) -> Result<PhysicalExprRef> {
    let replaced = expr.transform_up(|expr| {
        Ok(match Choice::of(&expr, |expr| expr.data_type(input))? {
            Some(choice) => Transformed::yes(instead(expr, choice)),
            None => Transformed::no(expr),
        })
    })?;
    Ok(replaced.data)
}

impl Choice {
    fn of(original: &PhysicalExprRef, type_of: impl Fn(&PhysicalExprRef) -> Result<DataType>) -> Result<Option<Self>> {
        let Some(case) = original.downcast_ref::<CaseExpr>() else {
            return Ok(None);
        };
        let branches = case.when_then_expr();
        let is_ours = case.expr().is_none()
            && branches.len() < BRANCHES_MAX
            && branches.iter().all(|(condition, _)| cannot_fail(condition));
        if !is_ours || type_of(original)? != DataType::Utf8 {
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
                _ if type_of(result)? == DataType::Utf8 => Outcome::Computed(OverSomeRows::of(result)?),
                _ => return Ok(None),
            });
        }
        Ok(Some(Self {
            conditions: branches.iter().map(|(condition, _)| Arc::clone(condition)).collect(),
            results,
        }))
    }

    /// The rows of each branch, and each row's branch.
    fn branches(&self, batch: &RecordBatch) -> Result<(Vec<BooleanBuffer>, Vec<u8>)> {
        let rows = batch.num_rows();
        let mut chosen = vec![self.conditions.len() as u8; rows];
        let mut left = BooleanBuffer::new_set(rows);
        let mut masks = Vec::with_capacity(self.results.len());
        for (branch, condition) in self.conditions.iter().enumerate() {
            let holds = condition.evaluate(batch)?.into_array(rows)?;
            let holds = holds.as_boolean();
            let mask = match holds.nulls() {
                Some(nulls) => &(holds.values() & nulls.inner()) & &left,
                None => holds.values() & &left,
            };
            for (from, to) in mask.set_slices() {
                chosen[from..to].fill(branch as u8);
            }
            left = &left & &!&mask;
            masks.push(mask);
        }
        masks.push(left);
        Ok((masks, chosen))
    }
}

impl Outcome {
    /// The texts of the rows of `mask`.
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

/// What a branch gives to its rows, one after the other.
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

/// Whether an expression is so plain, whatever its types, that it has a value for every row, and costs little for all.
fn cannot_fail(expr: &PhysicalExprRef) -> bool {
    let is_harmless = match expr.downcast_ref::<BinaryExpr>() {
        Some(binary) => is_comparison(*binary.op()),
        None => is_plain(expr),
    };
    is_harmless && expr.children().into_iter().all(cannot_fail)
}

impl Way for Choice {
    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let (masks, chosen) = self.branches(batch)?;
        let texts: Result<Vec<Texts<'_>>> = self
            .results
            .iter()
            .zip(&masks)
            .map(|(result, mask)| result.texts(batch, mask))
            .collect();
        let mut texts = texts?;
        let mut result = StringBuilder::with_capacity(chosen.len(), 8 * chosen.len());
        for branch in chosen {
            result.append_option(texts[usize::from(branch)].next());
        }
        Ok(ColumnarValue::Array(Arc::new(result.finish())))
    }

    fn again(&self, original: &PhysicalExprRef) -> Result<Option<Self>> {
        Self::of(original, |_| Ok(DataType::Utf8))
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

    use super::super::instead::is_computed_by;
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

    /// The values, after it was seen that DataFusion's own are the same; nothing if this is left to it.
    #[track_caller]
    fn check(expr: Expr, expected: Option<[Option<&str>; 5]>) {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let plain = create_physical_expr(&expr, &schema, &Default::default(), &Default::default()).expect("planned");
        let chosen = cheaper(plain.clone(), batch.schema_ref()).expect("replaced");
        assert_eq!(is_computed_by::<Choice>(&chosen), expected.is_some());
        assert_eq!(chosen.to_string(), plain.to_string());
        assert_eq!(collect_columns(&chosen), collect_columns(&plain));
        let value = |expr: &PhysicalExprRef, batch: &RecordBatch| {
            let value = expr
                .evaluate(batch)
                .and_then(|value| value.into_array(batch.num_rows()));
            value.expect("a value")
        };
        for rows in [0..5, 0..1, 2..4, 5..5] {
            let some = batch.slice(rows.start, rows.len());
            assert_eq!(&value(&chosen, &some), &value(&plain, &some), "{rows:?} of {expr}");
        }
        if let Some(expected) = expected {
            let found = value(&chosen, &batch);
            assert_eq!(found.as_string::<i32>().iter().collect::<Vec<_>>(), expected, "{expr}");
        }
    }

    #[test]
    fn a_choice_gives_what_a_case_gives() {
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
    fn what_may_fail_and_what_is_no_text_is_left_as_it_is() {
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
    fn a_choice_over_columns_that_moved_is_still_one() {
        let batch = batch();
        let schema = DFSchema::try_from(batch.schema().as_ref().clone()).expect("a schema");
        let case = when(col("name").eq(lit("a")), lit("0"))
            .otherwise(col("other"))
            .expect("a case");
        let plain = create_physical_expr(&case, &schema, &Default::default(), &Default::default()).expect("planned");
        let chosen = cheaper(plain, batch.schema_ref()).expect("replaced");
        let moved = super::super::relation::substitute(&chosen, &|index| {
            Some(Arc::new(Column::new("moved", usize::from(index > 0))) as PhysicalExprRef)
        })
        .expect("moved");
        assert!(is_computed_by::<Choice>(&moved));
        let narrow = batch.project(&[0, 3]).expect("columns");
        let values = moved
            .evaluate(&narrow)
            .and_then(|value| value.into_array(5))
            .expect("values");
        let expected = [Some("0"), Some(""), Some("z"), None, Some("0")];
        assert_eq!(values.as_string::<i32>().iter().collect::<Vec<_>>(), expected);
    }
}
