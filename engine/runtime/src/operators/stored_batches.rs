//! Whole batches on their way into the store, as blocks of rows.
//!
//! For rows that are written once, read whole and never replaced: those of a window that is joined when it is over.
//! Batches are put together until there are enough rows, ordered by key group, and encoded column by column, off the slot
//! thread.
//!
//! Key of a block: its number (u64 BE), which its writer never uses twice.

use std::sync::Arc;

use arrow::array::UInt32Array;
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_arrays;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{Generation, Slot, WriteChunk};
use millstream_state::{BlockCodec, Error};

use super::stored_rows::by_key_group;

/// Rows that are ordered at once, unless one batch has more: so many that blocks are large, and their copy is small.
const ORDER_ROWS: usize = 32_768;
/// Rows of a block, at most.
const BLOCK_ROWS_MAX: usize = 4_096;

/// A batch, and each row's key group.
pub struct GroupedBatch {
    pub rows: RecordBatch,
    pub key_groups: Vec<u16>,
}

/// Batches being written, one stretch after the other.
pub struct FrozenBatches {
    namespace: i64,
    /// The next one last.
    batches: Vec<GroupedBatch>,
    /// The number of the next block.
    number: u64,
    codec: Arc<BlockCodec>,
    /// Held until everything is written.
    _reservation: Reservation,
}

impl FrozenBatches {
    /// Blocks are numbered from `number` on; they are not more than there are rows.
    pub fn new(
        namespace: i64,
        mut batches: Vec<GroupedBatch>,
        number: u64,
        codec: &Arc<BlockCodec>,
        memory: &MemoryBudget,
    ) -> Self {
        let mut reservation = memory.reservation();
        let size =
            |batch: &GroupedBatch| batch.rows.get_array_memory_size() + batch.key_groups.len() * size_of::<u16>();
        reservation.force_resize(batches.iter().map(size).sum());
        batches.reverse();
        Self {
            namespace,
            batches,
            number,
            codec: Arc::clone(codec),
            _reservation: reservation,
        }
    }

    /// The next batches that are put together.
    fn next_stretch(&mut self) -> Result<Option<GroupedBatch>, Error> {
        let Some(first) = self.batches.pop() else {
            return Ok(None);
        };
        let GroupedBatch { rows, mut key_groups } = first;
        let mut some = vec![rows];
        while let Some(batch) = self
            .batches
            .pop_if(|batch| key_groups.len() + batch.key_groups.len() <= ORDER_ROWS)
        {
            key_groups.extend(batch.key_groups);
            some.push(batch.rows);
        }
        let rows = concat_batches(&some[0].schema(), &some).map_err(unreadable)?;
        Ok(Some(GroupedBatch { rows, key_groups }))
    }
}

fn unreadable(error: impl std::fmt::Display) -> Error {
    Error::Invalid(format!("rows of state: {error}"))
}

impl Generation for FrozenBatches {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        let Some(GroupedBatch { rows, key_groups }) = self.next_stretch()? else {
            return Ok(None);
        };
        let order = by_key_group(&key_groups);
        let group_of = |row: &u32| key_groups[*row as usize];
        let mut chunk = WriteChunk::default();
        let mut block = Vec::new();
        for same in order.chunk_by(|a, b| group_of(a) == group_of(b)) {
            for some in same.chunks(BLOCK_ROWS_MAX) {
                let columns =
                    take_arrays(rows.columns(), &UInt32Array::from(some.to_vec()), None).map_err(unreadable)?;
                block.clear();
                self.codec.encode(&columns, some.len(), &mut block)?;
                let slot = Slot {
                    group: KeyGroup(group_of(&some[0])),
                    namespace: self.namespace,
                };
                chunk.put(slot, &self.number.to_be_bytes(), &block);
                self.number += 1;
            }
        }
        Ok(Some(chunk))
    }
}
