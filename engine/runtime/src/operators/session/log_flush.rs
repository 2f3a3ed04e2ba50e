//! Writing blocks of the [`session_log`](super::session_log).
//!
//! Layout: namespace 2^62 plus the segment. Key of a block of versions: a number (u64 BE) that grows with each block
//! and is never used twice; value: a block of the key columns, the session's number, its first and last time (`Int64`),
//! and the partial states. Key of a block of tombstones: such a number and a zero byte; value: a block of session
//! numbers (`Int64`).

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use millstream_state::BlockCodec;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::Reservation;
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};

use crate::Error;
use crate::operators::keyed_state::{CHUNK_BYTES, RowFormat, rows_by_key_group, rows_per_block, take_rows};

/// Namespace of segment 0, far above those of fragments.
pub(super) const LOG_NAMESPACES: i64 = 1 << 62;
/// Last byte of the key of a block of tombstones.
const TOMBSTONE: u8 = 0;
/// Bytes per entry of everything but its columns.
const ORDER_BYTES: usize = size_of::<i64>() + size_of::<u32>() + size_of::<u16>();

/// Returns true if the namespace is that of a segment.
pub(super) fn is_log_namespace(namespace: i64) -> bool {
    namespace >= LOG_NAMESPACES / 2
}

/// Returns the number of a block, and true if it is one of tombstones.
pub(super) fn read_key(key: &[u8]) -> Result<(u64, bool), Error> {
    let read = key
        .split_first_chunk()
        .map(|(number, rest)| (u64::from_be_bytes(*number), rest));
    match read {
        Some((number, [])) => Ok((number, false)),
        Some((number, [TOMBSTONE])) => Ok((number, true)),
        _ => Err(millstream_state::Error::Corrupt(format!("a key of {} bytes in the session log", key.len())).into()),
    }
}

/// A flush of versions or tombstones, by key group, then by segment.
pub(super) struct LogFlush {
    encoding: Encoding,
    columns: Vec<ArrayRef>,
    key_groups: Vec<u16>,
    segments: Vec<i64>,
    /// Rows by key group and segment; empty until the first chunk.
    order: Vec<u32>,
    next: usize,
    block_rows: usize,
    /// Number of the next block.
    number: u64,
    /// Released when everything is written.
    _reservation: Reservation,
}

enum Encoding {
    Versions { format: Arc<RowFormat>, key_columns: usize },
    Tombstones(Arc<BlockCodec>),
}

impl LogFlush {
    /// Creates a flush of versions whose blocks are numbered from `number` on.
    pub(super) fn versions(
        format: &Arc<RowFormat>,
        keys: Vec<ArrayRef>,
        values: Vec<ArrayRef>,
        key_groups: Vec<u16>,
        segments: Vec<i64>,
        number: u64,
        reservation: Reservation,
    ) -> Self {
        let encoding = Encoding::Versions {
            format: Arc::clone(format),
            key_columns: keys.len(),
        };
        let columns = keys.into_iter().chain(values).collect();
        Self::new(encoding, columns, key_groups, segments, number, reservation)
    }

    /// Creates a flush of tombstones for the sessions of these numbers, whose blocks are numbered from `number` on.
    pub(super) fn tombstones(
        codec: &Arc<BlockCodec>,
        sessions: Arc<Int64Array>,
        key_groups: Vec<u16>,
        segments: Vec<i64>,
        number: u64,
        reservation: Reservation,
    ) -> Self {
        let encoding = Encoding::Tombstones(Arc::clone(codec));
        Self::new(encoding, vec![sessions], key_groups, segments, number, reservation)
    }

    fn new(
        encoding: Encoding,
        columns: Vec<ArrayRef>,
        key_groups: Vec<u16>,
        segments: Vec<i64>,
        number: u64,
        mut reservation: Reservation,
    ) -> Self {
        let bytes: usize = columns.iter().map(|column| column.get_array_memory_size()).sum();
        reservation.force_resize(bytes + segments.len() * ORDER_BYTES);
        Self {
            encoding,
            block_rows: rows_per_block(bytes, segments.len()),
            columns,
            key_groups,
            segments,
            order: Vec::new(),
            next: 0,
            number,
            _reservation: reservation,
        }
    }

    fn sort(&mut self) {
        let (key_groups, segments) = (&self.key_groups, &self.segments);
        self.order = rows_by_key_group(key_groups);
        let same_group = |a: &u32, b: &u32| key_groups[*a as usize] == key_groups[*b as usize];
        for same in self.order.chunk_by_mut(same_group) {
            same.sort_by_key(|row| segments[*row as usize]);
        }
    }

    fn encode(&self, rows: &[u32], block: &mut Vec<u8>) -> Result<(), millstream_state::Error> {
        let columns = take_rows(&self.columns, rows)?;
        match &self.encoding {
            Encoding::Tombstones(codec) => codec.encode(&columns, rows.len(), block),
            Encoding::Versions { format, key_columns } => {
                let (keys, values) = columns.split_at(*key_columns);
                format.encode_block(keys, values, rows.len(), block)
            }
        }
    }
}

impl FlushSource for LogFlush {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        if self.order.is_empty() {
            self.sort();
        }
        let mut chunk = WriteChunk::default();
        let mut block = Vec::new();
        while self.next < self.order.len() && chunk.bytes() < CHUNK_BYTES {
            let prefix_of = |row: u32| (self.key_groups[row as usize], self.segments[row as usize]);
            let rest = &self.order[self.next..];
            let (group, segment) = prefix_of(rest[0]);
            let same = rest
                .iter()
                .take(self.block_rows)
                .take_while(|row| prefix_of(**row) == (group, segment));
            let rows = &rest[..same.count()];
            block.clear();
            self.encode(rows, &mut block)?;
            let mut key = self.number.to_be_bytes().to_vec();
            if matches!(self.encoding, Encoding::Tombstones(_)) {
                key.push(TOMBSTONE);
            }
            let prefix = KeyPrefix {
                group: KeyGroup(group),
                namespace: LOG_NAMESPACES + segment,
            };
            chunk.put(prefix, &key, &block);
            self.next += rows.len();
            self.number += 1;
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
