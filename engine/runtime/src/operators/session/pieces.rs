//! Pieces of sessions on their way into the store.
//!
//! Namespace: the stretch in which a piece ends, plus three unless negative (1 and 2 are the roll's, 0 was that of sessions
//! awake once; today those have [terms](super::versions) far above).
//! Key of a block: a number (u64 BE) that is never used twice. Value: a block of the key columns, first and last time
//! (`Int64`), and the partial states. Each piece is also entered in the [`roll`](super::roll).

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};
use millstream_state::{BlockCodec, Error};

use super::roll::{self, ROLL, WAITING};
use crate::operators::stored_rows::{
    BLOCK_ROWS_MAX, CHUNK_BYTES, RowFormat, rows_by_key_group, rows_per_block, take_rows,
};

/// What ordering pieces takes, per piece.
const ORDER_BYTES: usize = size_of::<u16>() + size_of::<u32>() + size_of::<i64>() + size_of::<bool>();

/// Where the pieces are that end in a stretch.
pub fn namespace_of(stretch: i64) -> i64 {
    if stretch >= 0 { stretch + 3 } else { stretch }
}

/// The stretch of a namespace of pieces.
pub fn stretch_of(namespace: i64) -> i64 {
    if namespace > WAITING { namespace - 3 } else { namespace }
}

/// Pieces, and what is derived from them.
pub struct Pieces {
    pub keys: Vec<ArrayRef>,
    /// First and last times, then partial states.
    pub values: Vec<ArrayRef>,
    pub key_groups: Vec<u16>,
    pub stretches: Vec<i64>,
    /// Which only wait for another.
    pub waits: Vec<bool>,
}

impl Pieces {
    pub fn len(&self) -> usize {
        self.key_groups.len()
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let columns = self.keys.iter().chain(&self.values);
        columns.map(|column| column.get_array_memory_size()).sum::<usize>() + self.len() * ORDER_BYTES
    }
}

/// Pieces being written.
pub struct FrozenPieces {
    pieces: Pieces,
    /// By key group, whether they wait, stretch and first time, once that is known.
    order: Vec<u32>,
    next: usize,
    block_rows: usize,
    /// The numbers of the next blocks.
    piece_number: u64,
    roll_number: u64,
    format: Arc<RowFormat>,
    roll: Arc<BlockCodec>,
    /// Held until everything is written.
    _reservation: Reservation,
}

impl FrozenPieces {
    /// Blocks are numbered from `number` on; they are not more than there are pieces.
    pub fn new(
        pieces: Pieces,
        number: u64,
        format: &Arc<RowFormat>,
        roll: &Arc<BlockCodec>,
        memory: &MemoryBudget,
    ) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(pieces.size());
        Self {
            order: Vec::new(),
            next: 0,
            block_rows: rows_per_block(pieces.size(), pieces.len()),
            piece_number: number,
            roll_number: number,
            format: Arc::clone(format),
            roll: Arc::clone(roll),
            _reservation: reservation,
            pieces,
        }
    }

    fn sort(&mut self) {
        let Pieces {
            values,
            key_groups,
            stretches,
            waits,
            ..
        } = &self.pieces;
        let firsts = values[0].as_primitive::<Int64Type>().values();
        self.order = rows_by_key_group(key_groups);
        for same in self
            .order
            .chunk_by_mut(|a, b| key_groups[*a as usize] == key_groups[*b as usize])
        {
            same.sort_unstable_by_key(|row| (waits[*row as usize], stretches[*row as usize], firsts[*row as usize]));
        }
    }

    /// Encodes the pieces of a key group.
    fn encode(&mut self, group: u16, rows: &[u32], chunk: &mut WriteChunk) -> Result<(), Error> {
        let pieces = &self.pieces;
        let stretch_of = |row: &u32| pieces.stretches[*row as usize];
        let firsts = pieces.values[0].as_primitive::<Int64Type>().values();
        let group = KeyGroup(group);
        let mut block = Vec::new();
        let place_of = |row: &u32| (pieces.waits[*row as usize], stretch_of(row));
        for same in rows.chunk_by(|a, b| place_of(a) == place_of(b)) {
            let namespace = if place_of(&same[0]).0 { WAITING } else { ROLL };
            for some in same.chunks(BLOCK_ROWS_MAX) {
                let mut columns = take_rows(&pieces.keys, some)?;
                columns.extend(take_rows(&pieces.values[..1], some)?);
                block.clear();
                self.roll.encode(&columns, some.len(), &mut block)?;
                let key = roll::block_key(stretch_of(&some[0]), firsts[some[0] as usize], self.roll_number);
                chunk.put(KeyPrefix { group, namespace }, &key, &block);
                self.roll_number += 1;
            }
        }
        // In the order of the store again.
        let mut rows = rows.to_vec();
        rows.sort_by_key(stretch_of);
        for same in rows.chunk_by(|a, b| stretch_of(a) == stretch_of(b)) {
            let namespace = namespace_of(stretch_of(&same[0]));
            for some in same.chunks(self.block_rows) {
                block.clear();
                let keys = take_rows(&pieces.keys, some)?;
                let values = take_rows(&pieces.values, some)?;
                self.format.encode_block(&keys, &values, some.len(), &mut block)?;
                chunk.put(KeyPrefix { group, namespace }, &self.piece_number.to_be_bytes(), &block);
                self.piece_number += 1;
            }
        }
        Ok(())
    }
}

impl FlushSource for FrozenPieces {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        if self.order.is_empty() {
            self.sort();
        }
        let mut chunk = WriteChunk::default();
        while self.next < self.order.len() && chunk.bytes() < CHUNK_BYTES {
            let rest = &self.order[self.next..];
            let group = self.pieces.key_groups[rest[0] as usize];
            let same = rest.partition_point(|row| self.pieces.key_groups[*row as usize] == group);
            let rows = rest[..same].to_vec();
            self.encode(group, &rows, &mut chunk)?;
            self.next += same;
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
