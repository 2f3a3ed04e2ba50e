//! Fragments of sessions on their way into the store.
//!
//! Namespace: the bucket in which a fragment ends, plus three unless negative (1 and 2 belong to the
//! [`spill_index`](super::spill_index); 0 is unused since layout version 3). Key of a block: a number (u64 BE) that is
//! never used twice. Value: a block of the key columns, first and last time (`Int64`), and the partial states. Each
//! fragment is also entered in the spill index.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};
use millstream_state::{BlockCodec, Error};

use super::spill_index::{self, DEFERRED_INDEX, INDEX};
use crate::operators::keyed_state::{
    BLOCK_ROWS_MAX, CHUNK_BYTES, RowFormat, rows_by_key_group, rows_per_block, take_rows,
};

/// Bytes per fragment of everything but its columns.
const ORDER_BYTES: usize = size_of::<u16>() + size_of::<u32>() + size_of::<i64>() + size_of::<bool>();

/// Returns the namespace of the fragments that end in a bucket.
pub(super) fn namespace_of(bucket: i64) -> i64 {
    if bucket >= 0 { bucket + 3 } else { bucket }
}

/// Returns the bucket of a namespace of fragments.
pub(super) fn bucket_of(namespace: i64) -> i64 {
    if namespace > DEFERRED_INDEX {
        namespace - 3
    } else {
        namespace
    }
}

/// Fragments of sessions, by columns.
pub(super) struct Fragments {
    /// Key columns.
    pub keys: Vec<ArrayRef>,
    /// First and last times, then partial states.
    pub values: Vec<ArrayRef>,
    /// Key groups of the fragments.
    pub key_groups: Vec<u16>,
    /// Buckets in which the fragments end.
    pub buckets: Vec<i64>,
    /// True for fragments of deferred sessions.
    pub is_deferred: Vec<bool>,
}

impl Fragments {
    /// Returns the number of fragments.
    pub(super) fn len(&self) -> usize {
        self.key_groups.len()
    }

    /// Returns the bytes held.
    pub(super) fn size(&self) -> usize {
        let columns = self.keys.iter().chain(&self.values);
        columns.map(|column| column.get_array_memory_size()).sum::<usize>() + self.len() * ORDER_BYTES
    }
}

/// A flush of fragments and their index entries, encoded off the slot thread.
pub(super) struct FragmentFlush {
    fragments: Fragments,
    /// Fragments by key group, `is_deferred`, bucket and first time; empty until the first chunk.
    order: Vec<u32>,
    next: usize,
    block_rows: usize,
    /// Numbers of the next blocks.
    fragment_number: u64,
    index_number: u64,
    format: Arc<RowFormat>,
    index_codec: Arc<BlockCodec>,
    /// Released when everything is written.
    _reservation: Reservation,
}

impl FragmentFlush {
    /// Creates a flush whose blocks are numbered from `number` on. There are at most as many blocks as fragments.
    pub(super) fn new(
        fragments: Fragments,
        number: u64,
        format: &Arc<RowFormat>,
        index_codec: &Arc<BlockCodec>,
        memory: &MemoryBudget,
    ) -> Self {
        let mut reservation = memory.reservation();
        reservation.force_resize(fragments.size());
        Self {
            order: Vec::new(),
            next: 0,
            block_rows: rows_per_block(fragments.size(), fragments.len()),
            fragment_number: number,
            index_number: number,
            format: Arc::clone(format),
            index_codec: Arc::clone(index_codec),
            _reservation: reservation,
            fragments,
        }
    }

    fn sort(&mut self) {
        let Fragments {
            values,
            key_groups,
            buckets,
            is_deferred,
            ..
        } = &self.fragments;
        let firsts = values[0].as_primitive::<Int64Type>().values();
        self.order = rows_by_key_group(key_groups);
        for same in self
            .order
            .chunk_by_mut(|a, b| key_groups[*a as usize] == key_groups[*b as usize])
        {
            same.sort_unstable_by_key(|row| {
                (
                    is_deferred[*row as usize],
                    buckets[*row as usize],
                    firsts[*row as usize],
                )
            });
        }
    }

    /// Encodes the fragments of a key group and their index entries.
    fn encode(&mut self, group: u16, rows: &[u32], chunk: &mut WriteChunk) -> Result<(), Error> {
        let fragments = &self.fragments;
        let bucket_of = |row: &u32| fragments.buckets[*row as usize];
        let firsts = fragments.values[0].as_primitive::<Int64Type>().values();
        let group = KeyGroup(group);
        let mut block = Vec::new();
        let index_of = |row: &u32| (fragments.is_deferred[*row as usize], bucket_of(row));
        for same in rows.chunk_by(|a, b| index_of(a) == index_of(b)) {
            let (is_deferred, bucket) = index_of(&same[0]);
            let namespace = if is_deferred { DEFERRED_INDEX } else { INDEX };
            for some in same.chunks(BLOCK_ROWS_MAX) {
                let mut columns = take_rows(&fragments.keys, some)?;
                columns.extend(take_rows(&fragments.values[..1], some)?);
                block.clear();
                self.index_codec.encode(&columns, some.len(), &mut block)?;
                let key = spill_index::block_key(bucket, firsts[some[0] as usize], self.index_number);
                chunk.put(KeyPrefix { group, namespace }, &key, &block);
                self.index_number += 1;
            }
        }
        // By bucket alone, which is the order of the store.
        let mut rows = rows.to_vec();
        rows.sort_by_key(bucket_of);
        for same in rows.chunk_by(|a, b| bucket_of(a) == bucket_of(b)) {
            let namespace = namespace_of(bucket_of(&same[0]));
            for some in same.chunks(self.block_rows) {
                block.clear();
                let keys = take_rows(&fragments.keys, some)?;
                let values = take_rows(&fragments.values, some)?;
                self.format.encode_block(&keys, &values, some.len(), &mut block)?;
                chunk.put(
                    KeyPrefix { group, namespace },
                    &self.fragment_number.to_be_bytes(),
                    &block,
                );
                self.fragment_number += 1;
            }
        }
        Ok(())
    }
}

impl FlushSource for FragmentFlush {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        if self.order.is_empty() {
            self.sort();
        }
        let mut chunk = WriteChunk::default();
        while self.next < self.order.len() && chunk.bytes() < CHUNK_BYTES {
            let rest = &self.order[self.next..];
            let group = self.fragments.key_groups[rest[0] as usize];
            let same = rest.partition_point(|row| self.fragments.key_groups[*row as usize] == group);
            let rows = rest[..same].to_vec();
            self.encode(group, &rows, &mut chunk)?;
            self.next += same;
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
