//! Evaluation of an expression over the rows that a mask selects.
//!
//! Only the columns that the expression reads are filtered; all other columns are never copied.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::FilterBuilder;
use arrow_schema::ArrowError;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

/// An expression together with the columns that it reads.
#[derive(Debug)]
pub(super) struct MaskedExpr {
    /// The expression, over the input projected to `columns`.
    expr: PhysicalExprRef,
    /// Indices of the input columns that the expression reads, ascending.
    columns: Vec<usize>,
}

impl MaskedExpr {
    pub(super) fn new(expr: &PhysicalExprRef) -> Result<Self> {
        let columns: BTreeSet<usize> = collect_columns(expr).iter().map(Column::index).collect();
        let columns: Vec<usize> = columns.into_iter().collect();
        let narrowed = Arc::clone(expr).transform(|expr| {
            let Some(column) = expr.downcast_ref::<Column>() else {
                return Ok(Transformed::no(expr));
            };
            let index = columns.partition_point(|known| *known < column.index());
            let moved: PhysicalExprRef = Arc::new(Column::new(column.name(), index));
            Ok(Transformed::yes(moved))
        })?;
        Ok(Self {
            expr: narrowed.data,
            columns,
        })
    }

    /// Returns the values of the rows that `mask` selects, in the order of the batch.
    pub(super) fn evaluate(&self, batch: &RecordBatch, mask: &BooleanBuffer) -> Result<ArrayRef> {
        let count = mask.count_set_bits();
        let mut narrow = batch.project(&self.columns)?;
        if count < batch.num_rows() {
            let mask = BooleanArray::new(mask.clone(), None);
            let filter = FilterBuilder::new(&mask).optimize().build();
            let columns: std::result::Result<Vec<ArrayRef>, ArrowError> =
                narrow.columns().iter().map(|column| filter.filter(column)).collect();
            let options = RecordBatchOptions::new().with_row_count(Some(count));
            narrow = RecordBatch::try_new_with_options(narrow.schema(), columns?, &options)?;
        }
        self.expr.evaluate(&narrow)?.into_array(count)
    }
}
