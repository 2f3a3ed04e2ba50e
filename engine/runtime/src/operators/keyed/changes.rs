//! Changes of an output: the difference between the rows of some keys before and after a call.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int8Array, UInt32Array, make_comparator};
use arrow::compute::SortOptions;
use arrow::compute::kernels::cmp::not_distinct;
use arrow::datatypes::SchemaRef;
use arrow_array::{RecordBatch, RecordBatchOptions};
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

/// Returns the changes between two outputs of the same keys, as a batch of a changelog in this mode. `keys` are the key
/// columns. An update without effect is a change only if `keeps_equal` is true.
pub(super) fn changes(
    keys: &[ArrayRef],
    before: &Output,
    after: &Output,
    keeps_equal: bool,
    mode: &ChangelogMode,
    schema: &SchemaRef,
) -> Result<RecordBatch, Error> {
    let equal = match keeps_equal {
        true => vec![false; before.present.len()],
        false => equal_rows(&before.columns, &after.columns, before.present.len())?,
    };
    let has_former = *mode == ChangelogMode::Retract;
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
    if !mode.is_append() {
        columns.push(Arc::new(Int8Array::from(changes.kinds)));
    }
    let options = RecordBatchOptions::new().with_row_count(Some(changes.rows.len()));
    Ok(RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns,
        &options,
    )?)
}

/// Returns true for each row that has equal values in all columns. NULL equals NULL.
fn equal_rows(before: &[ArrayRef], after: &[ArrayRef], rows: usize) -> Result<Vec<bool>, Error> {
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
