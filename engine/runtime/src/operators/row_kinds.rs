//! Kinds of the rows of a changelog where the two rows of an update may be separated.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int8Array};
use arrow::datatypes::Int8Type;
use arrow_array::RecordBatch;
use millstream_connectors::{RowKind, changelog};

use crate::Error;

const UPDATE_BEFORE: i8 = RowKind::UpdateBefore as i8;
const UPDATE_AFTER: i8 = RowKind::UpdateAfter as i8;

/// Returns the kinds of rows of which only those that `passed` are kept: an update of which one row is kept becomes a
/// deletion or an insertion.
pub(super) fn of_passed_rows(kinds: &ArrayRef, passed: &BooleanArray) -> ArrayRef {
    let is_passed = |row: usize| passed.is_valid(row) && passed.value(row);
    separated(kinds.as_primitive::<Int8Type>(), |row| {
        is_passed(row) != is_passed(row + 1)
    })
}

/// Returns the rows with deletions and insertions instead of updates.
pub(super) fn without_updates(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    cut_updates(batch, |_| true)
}

/// Returns the rows with a deletion and an insertion instead of each update whose rows `is_cut` separates; it is given
/// the number of the update's first row.
pub(crate) fn cut_updates(batch: &RecordBatch, is_cut: impl Fn(usize) -> bool) -> Result<RecordBatch, Error> {
    match changelog::kinds(batch) {
        None => Ok(batch.clone()),
        Some(kinds) => with_kinds(batch, separated(kinds, is_cut)),
    }
}

fn separated(kinds: &Int8Array, is_cut: impl Fn(usize) -> bool) -> ArrayRef {
    let mut values = kinds.values().to_vec();
    for row in 1..values.len() {
        if values[row - 1] == UPDATE_BEFORE && values[row] == UPDATE_AFTER && is_cut(row - 1) {
            values[row - 1] = RowKind::Delete as i8;
            values[row] = RowKind::Insert as i8;
        }
    }
    Arc::new(Int8Array::from(values))
}

fn with_kinds(batch: &RecordBatch, kinds: ArrayRef) -> Result<RecordBatch, Error> {
    let mut columns = batch.columns().to_vec();
    if let Some(last) = columns.last_mut() {
        *last = kinds;
    }
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_whose_rows_are_separated_is_a_deletion_and_an_insertion() {
        let kinds: ArrayRef = Arc::new(Int8Array::from(vec![-2, 2, -2, 2, 1, -1, -2, 2]));
        // Both rows of the first update pass, the first one of the second, none of the last.
        let passed = BooleanArray::from(vec![
            Some(true),
            Some(true),
            Some(true),
            Some(false),
            Some(true),
            None,
            None,
            Some(false),
        ]);
        let separated = of_passed_rows(&kinds, &passed);
        let separated = separated.as_primitive::<Int8Type>();
        assert_eq!(separated.values(), &[-2, 2, -1, 1, 1, -1, -2, 2]);
    }

    #[test]
    fn rows_without_kinds_are_not_changed() {
        let column: ArrayRef = Arc::new(Int8Array::from(vec![-2, 2]));
        let batch = RecordBatch::try_from_iter([("n", column)]).expect("one column");
        assert_eq!(without_updates(&batch).expect("nothing to do"), batch);
    }
}
