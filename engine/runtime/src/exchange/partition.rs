//! Cutting a batch by key group: one pass to hash, one to sort row numbers by target, one `take` per target.

use arrow::array::UInt32Array;
use arrow_array::RecordBatch;
use arrow_select::take::take_record_batch;
use millstream_state::key_group::KeyGroupRange;

use super::hash::hash_rows;
use crate::Error;

/// Divides batches among the subtasks that own their rows' key groups.
pub struct Partitioner {
    /// Columns that make up the key.
    keys: Vec<usize>,
    max_parallelism: u16,
    /// The subtask that owns each key group.
    owners: Vec<u16>,
    parallelism: usize,
    hashes: Vec<u64>,
    /// The owner of each row of the batch at hand.
    rows: Vec<u16>,
}

impl Partitioner {
    pub fn new(keys: Vec<usize>, max_parallelism: u16, parallelism: usize) -> Self {
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

    /// Hands each target its rows, in order; nothing to targets without rows, and the batch itself, uncopied, to one
    /// that gets all of them.
    pub fn partition(
        &mut self,
        batch: RecordBatch,
        mut send: impl FnMut(usize, RecordBatch) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let columns: Vec<_> = self.keys.iter().map(|key| batch.column(*key).clone()).collect();
        hash_rows(&columns, batch.num_rows(), &mut self.hashes)?;
        let mut counts = vec![0usize; self.parallelism];
        self.rows.clear();
        self.rows.extend(self.hashes.iter().map(|hash| {
            let owner = self.owners[(*hash % u64::from(self.max_parallelism)) as usize];
            counts[owner as usize] += 1;
            owner
        }));
        if let Some(target) = counts.iter().position(|count| *count == batch.num_rows()) {
            return send(target, batch);
        }
        let mut indices: Vec<Vec<u32>> = counts.iter().map(|count| Vec::with_capacity(*count)).collect();
        for (row, owner) in self.rows.iter().enumerate() {
            indices[*owner as usize].push(row as u32);
        }
        for (target, indices) in indices.into_iter().enumerate() {
            if !indices.is_empty() {
                send(target, take_record_batch(&batch, &UInt32Array::from(indices))?)?;
            }
        }
        Ok(())
    }
}
