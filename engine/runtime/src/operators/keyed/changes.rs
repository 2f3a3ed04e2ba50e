//! Changes of an output: the difference between the rows of some keys before and after a call.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Int8Array, UInt32Array, make_comparator};
use arrow::compute::SortOptions;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::SchemaRef;
use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_select::filter::FilterBuilder;
use arrow_select::interleave::interleave;
use arrow_select::take::take_arrays;
use millstream_connectors::RowKind;
use millstream_graph::ChangelogMode;

use super::Output;
use crate::Error;

const BEFORE: usize = 0;
const AFTER: usize = 1;

/// Changes as they are collected: the side and row that each takes its values from, and its kind.
#[derive(Default)]
struct Changes {
    rows: Vec<(usize, usize)>,
    kinds: Vec<i8>,
}

impl Changes {
    fn push(&mut self, side: usize, row: usize, kind: RowKind) {
        self.rows.push((side, row));
        self.kinds.push(kind as i8);
    }
}

/// The form of an operator's output.
pub(in crate::operators) struct OutputForm {
    pub schema: SchemaRef,
    pub mode: ChangelogMode,
    /// The columns of all upsert keys, where changes are rows with weights: a removed and an added row that are equal
    /// in them are an update.
    pub upsert_key: Option<Vec<usize>>,
    /// See [`KeyedLogic::output_order`](super::KeyedLogic::output_order).
    pub order: Option<Vec<usize>>,
}

impl OutputForm {
    /// Returns the changes between two outputs of the same keys. `keys` are the key columns.
    pub(super) fn changes(&self, keys: &[ArrayRef], before: &Output, after: &Output) -> Result<RecordBatch, Error> {
        let equal = equal_rows(&before.columns, &after.columns, before.present.len())?;
        let has_former = self.mode == ChangelogMode::Retract;
        let mut changes = Changes::default();
        for (row, is_equal) in equal.into_iter().enumerate() {
            match (before.present.value(row), after.present.value(row)) {
                (false, true) => changes.push(AFTER, row, RowKind::Insert),
                (true, false) => changes.push(BEFORE, row, RowKind::Delete),
                (true, true) if !is_equal => {
                    if has_former {
                        changes.push(BEFORE, row, RowKind::UpdateBefore);
                    }
                    changes.push(AFTER, row, RowKind::UpdateAfter);
                }
                (true, true) | (false, false) => {}
            }
        }
        let places = UInt32Array::from_iter_values(changes.rows.iter().map(|(_, row)| *row as u32));
        let mut columns = take_arrays(keys, &places, None)?;
        for (before, after) in before.columns.iter().zip(&after.columns) {
            columns.push(interleave(&[before.as_ref(), after.as_ref()], &changes.rows)?);
        }
        self.batch(columns, changes.rows.len(), Some(changes.kinds))
    }

    /// Returns output rows as insertions. `keys` are the key columns.
    pub(super) fn rows(&self, keys: &[ArrayRef], output: &Output) -> Result<RecordBatch, Error> {
        let columns: Vec<ArrayRef> = keys.iter().chain(&output.columns).cloned().collect();
        let rows = filter_columns(&columns, &output.present)?;
        self.batch(rows, output.present.true_count(), None)
    }

    /// Returns a batch of key columns and columns of output rows, with their kinds; without `kinds`, all are
    /// insertions.
    pub(in crate::operators) fn batch(
        &self,
        columns: Vec<ArrayRef>,
        rows: usize,
        kinds: Option<Vec<i8>>,
    ) -> Result<RecordBatch, Error> {
        let columns = match &self.order {
            None => columns,
            Some(order) => order.iter().map(|at| Arc::clone(&columns[*at])).collect(),
        };
        self.with_kinds(columns, rows, kinds)
    }

    /// Returns a batch of output columns, with the kinds of the rows unless the output is append-only. Without `kinds`,
    /// all are insertions.
    pub(super) fn with_kinds(
        &self,
        mut columns: Vec<ArrayRef>,
        rows: usize,
        kinds: Option<Vec<i8>>,
    ) -> Result<RecordBatch, Error> {
        if !self.mode.is_append() {
            let kinds = kinds.unwrap_or_else(|| vec![RowKind::Insert as i8; rows]);
            columns.push(Arc::new(Int8Array::from(kinds)));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

/// Returns the rows of columns for which `present` is true.
fn filter_columns(columns: &[ArrayRef], present: &BooleanArray) -> Result<Vec<ArrayRef>, Error> {
    let predicate = FilterBuilder::new(present).optimize().build();
    Ok(columns
        .iter()
        .map(|column| predicate.filter(column))
        .collect::<Result<_, _>>()?)
}

/// Returns true for each row that has equal values in all columns. NULL equals NULL.
pub(in crate::operators) fn equal_rows(
    before: &[ArrayRef],
    after: &[ArrayRef],
    rows: usize,
) -> Result<Vec<bool>, Error> {
    let mut equal = vec![true; rows];
    for (before, after) in before.iter().zip(after) {
        if before.data_type().is_nested() {
            let compare = make_comparator(before, after, SortOptions::default())?;
            for (row, equal) in equal.iter_mut().enumerate() {
                *equal &= compare(row, row).is_eq();
            }
            continue;
        }
        let same = not_distinct(before, after)?;
        for (equal, same) in equal.iter_mut().zip(same.values()) {
            *equal &= same;
        }
    }
    Ok(equal)
}
