//! Partitions a batch by key group: one pass to hash, one to sort row numbers by target, one `take` per target.

use arrow::array::UInt32Array;
use arrow_array::RecordBatch;
use arrow_select::take::take_record_batch;
use millstream_state::hash_columns;
use millstream_state::key_group::{KeyGroup, KeyGroupRange};

use crate::Error;
use crate::operators::row_kinds::cut_updates;

/// Partitions batches by the subtask that owns the key group of each row.
pub(crate) struct Partitioner {
    /// Columns that make up the key.
    keys: Vec<usize>,
    max_parallelism: u16,
    /// The subtask that owns each key group.
    owners: Vec<u16>,
    parallelism: usize,
    hashes: Vec<u64>,
    /// The owner of each row of the current batch.
    rows: Vec<u16>,
}

impl Partitioner {
    /// Makes a partitioner by the columns `keys`.
    pub(crate) fn new(keys: Vec<usize>, max_parallelism: u16, parallelism: usize) -> Self {
        let mut owners = vec![0; max_parallelism as usize];
        for subtask in 0..parallelism {
            let range = KeyGroupRange::of_subtask(max_parallelism, parallelism, subtask);
            owners[range.start as usize..range.end as usize].fill(subtask as u16);
        }
        Self {
            keys,
            max_parallelism,
            owners,
            parallelism,
            hashes: Vec::new(),
            rows: Vec::new(),
        }
    }

    /// Calls `send` for each target with its rows in their order. Targets without rows are left out; a target that gets
    /// all rows gets the batch itself.
    pub(crate) fn partition(
        &mut self,
        batch: RecordBatch,
        mut send: impl FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.keys.is_empty() {
            return send(self.owners[0] as usize, batch);
        }
        let columns: Vec<_> = self.keys.iter().map(|key| batch.column(*key).clone()).collect();
        hash_columns(&columns, &mut self.hashes)?;
        let mut counts = vec![0usize; self.parallelism];
        self.rows.clear();
        let mut count = |group: KeyGroup| {
            let owner = self.owners[group.0 as usize];
            counts[owner as usize] += 1;
            owner
        };
        if self.max_parallelism.is_power_of_two() {
            // A mask instead of a division per row.
            let mask = u64::from(self.max_parallelism) - 1;
            let owners = self.hashes.iter().map(|hash| count(KeyGroup((hash & mask) as u16)));
            self.rows.extend(owners);
        } else {
            let max = self.max_parallelism;
            self.rows
                .extend(self.hashes.iter().map(|hash| count(KeyGroup::of_hash(*hash, max))));
        }
        if let Some(target) = counts.iter().position(|count| *count == batch.num_rows()) {
            return send(
                target,
                cut_updates(&batch, |row| self.hashes[row] != self.hashes[row + 1])?,
            );
        }
        let mut indices: Vec<Vec<u32>> = counts.iter().map(|count| Vec::with_capacity(*count)).collect();
        for (row, owner) in self.rows.iter().enumerate() {
            indices[*owner as usize].push(row as u32);
        }
        // An update that changes the key is a deletion for one key and an insertion for another.
        let batch = cut_updates(&batch, |row| self.hashes[row] != self.hashes[row + 1])?;
        for (target, indices) in indices.into_iter().enumerate() {
            if !indices.is_empty() {
                send(target, take_record_batch(&batch, &UInt32Array::from(indices))?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array, StringArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn every_row_goes_to_the_owner_of_its_key_group_in_order() {
        let ids = Int64Array::from_iter_values(0..1_000);
        let keys = StringArray::from_iter_values((0..1_000).map(|row| format!("key {}", row % 37)));
        let batch = RecordBatch::try_from_iter([("id", Arc::new(ids) as _), ("key", Arc::new(keys) as _)])
            .expect("two columns");
        let mut hashes = Vec::new();
        hash_columns(&batch.columns()[1..], &mut hashes).expect("strings have a hash");
        let mut seen = 0;
        Partitioner::new(vec![1], 128, 3)
            .partition(batch, |target, fragment| {
                let range = KeyGroupRange::of_subtask(128, 3, target);
                let ids = fragment.column(0).as_primitive::<Int64Type>().values();
                assert!(ids.is_sorted());
                assert!(
                    ids.iter()
                        .all(|id| range.contains(KeyGroup::of_hash(hashes[*id as usize], 128)))
                );
                seen += ids.len();
                Ok(())
            })
            .expect("the batch is cut");
        assert_eq!(seen, 1_000);
    }

    #[test]
    fn a_batch_for_one_target_is_not_copied() {
        let keys = Arc::new(Int64Array::from(vec![5; 100])) as _;
        let batch = RecordBatch::try_from_iter([("key", keys)]).expect("one column");
        let buffer = batch.column(0).as_primitive::<Int64Type>().values().as_ptr();
        let mut count = 0;
        Partitioner::new(vec![0], 128, 4)
            .partition(batch, |_, fragment| {
                assert_eq!(fragment.column(0).as_primitive::<Int64Type>().values().as_ptr(), buffer);
                count += 1;
                Ok(())
            })
            .expect("the batch is cut");
        assert_eq!(count, 1);
    }
}
