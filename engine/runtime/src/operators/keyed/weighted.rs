//! The changes of an output whose rows have weights.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow_array::RecordBatch;
use arrow_select::take::take_arrays;
use millstream_connectors::RowKind;
use millstream_graph::{ChangelogMode, Stream};
use millstream_state::Codec;

use super::WeightedRows;
use super::changes::OutputForm;
use crate::Error;

impl OutputForm {
    /// Returns the form of an output whose changes are rows with weights.
    pub(in crate::operators) fn of_changes(output: &Stream) -> Self {
        let mut key: Vec<usize> = output.upsert_keys.concat();
        key.sort_unstable();
        key.dedup();
        Self {
            schema: Arc::clone(&output.schema),
            mode: output.changelog.clone(),
            upsert_key: Some(key).filter(|key| !key.is_empty()),
            order: None,
        }
    }

    /// Returns the changes that rows with weights describe: removed rows before added ones. A removed and an added row
    /// of equal upsert key are an update.
    pub(super) fn weighted(&self, rows: &WeightedRows) -> Result<RecordBatch, Error> {
        if self.mode.is_append() {
            debug_assert!(rows.weights.iter().all(|weight| *weight > 0));
            if rows.weights.iter().all(|weight| *weight == 1) {
                return self.with_kinds(rows.columns.clone(), rows.weights.len(), None);
            }
        }
        let mut changes: Vec<(u32, RowKind)> = Vec::with_capacity(rows.weights.len());
        let mut push = |row: usize, times: i64, kind: RowKind| {
            changes.extend((0..times).map(|_| (row as u32, kind)));
        };
        let has_former = self.mode == ChangelogMode::Retract;
        let updates = self.updates(rows)?;
        for (row, weight) in rows.weights.iter().enumerate().filter(|(_, weight)| **weight < 0) {
            if !updates.contains_key(&row) {
                push(row, -weight, RowKind::Delete);
            }
        }
        for (removed, added) in sorted(&updates) {
            if has_former {
                push(removed, 1, RowKind::UpdateBefore);
            }
            push(added, 1, RowKind::UpdateAfter);
        }
        let updated: HashSet<usize> = updates.values().copied().collect();
        for (row, weight) in rows.weights.iter().enumerate().filter(|(_, weight)| **weight > 0) {
            if !updated.contains(&row) {
                push(row, *weight, RowKind::Insert);
            }
        }
        let places = UInt32Array::from_iter_values(changes.iter().map(|(row, _)| *row));
        let columns = take_arrays(&rows.columns, &places, None)?;
        let kinds = changes.iter().map(|(_, kind)| *kind as i8).collect();
        self.with_kinds(columns, changes.len(), Some(kinds))
    }

    /// Returns the removed rows with the added row of equal upsert key, where there is one of each.
    fn updates(&self, rows: &WeightedRows) -> Result<HashMap<usize, usize>, Error> {
        let mut updates = HashMap::new();
        let Some(key) = self.upsert_key.as_ref().filter(|key| !key.is_empty()) else {
            return Ok(updates);
        };
        let has = |sign: i64| rows.weights.iter().any(|weight| weight.signum() == sign);
        if !has(-1) || !has(1) {
            return Ok(updates);
        }
        let columns: Vec<ArrayRef> = key.iter().map(|column| Arc::clone(&rows.columns[*column])).collect();
        let types: Vec<_> = columns.iter().map(|column| column.data_type().clone()).collect();
        let encoded = Codec::keys(&types)?.encode(&columns)?;
        let mut removed: HashMap<&[u8], usize> = HashMap::new();
        for (row, weight) in rows.weights.iter().enumerate() {
            if *weight == -1 {
                removed.insert(encoded.row(row), row);
            }
        }
        for (row, weight) in rows.weights.iter().enumerate() {
            if *weight == 1
                && let Some(former) = removed.remove(encoded.row(row))
            {
                updates.insert(former, row);
            }
        }
        Ok(updates)
    }
}

fn sorted(updates: &HashMap<usize, usize>) -> Vec<(usize, usize)> {
    let mut updates: Vec<(usize, usize)> = updates.iter().map(|(removed, added)| (*removed, *added)).collect();
    updates.sort_unstable();
    updates
}
