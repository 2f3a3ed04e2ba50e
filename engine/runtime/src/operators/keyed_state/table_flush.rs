//! Writing whole tables to the store, as blocks of rows.
//!
//! An evicted table is handed over as it is: nothing is copied on the slot thread, and its memory is released when it
//! is written. Its groups are ordered by key group and encoded as blocks, column by column, which cost a database a
//! fraction of what rows do. That suffices because no row of a block is looked up or replaced. Groups that a checkpoint
//! wrote as rows are written as rows again if they have changed since, to replace these.
//!
//! A table that stays in memory is written in the same way, as a copy of its columns, in *segments* of equally many
//! groups. When a segment is written again, its blocks replace the former ones: a table's groups keep their order and
//! only become more, so with the same number of rows per block each block has its former number. Segments without
//! changes stay as they are; where keys come and go, that is nearly all of them.
//!
//! Key of a block: `FF`, then the table's epoch, the segment, and the block's number within segment and key group (u32
//! BE each). No row's key begins with `FF`: a key column begins with `00` or `01`, and an epoch alone is below
//! `FF000000`.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::ArrayRef;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{FlushSource, KeyPrefix, WriteChunk};

use super::blocks::{CHUNK_BYTES, rows_by_key_group, rows_per_block, state_error};
use super::row_flush::{ENCODE_ROWS, FrozenRows, KeySuffix, encode_rows};
use super::row_format::RowFormat;
use crate::operators::table::{Select, StateSnapshots, Table};

const BLOCK: u8 = 0xff;
/// Groups whose keys are hashed at once.
const HASH_ROWS: usize = 65_536;
/// Bytes per group for ordering a table's groups by key group.
const ORDER_BYTES: usize = size_of::<u16>() + size_of::<u32>();

/// Returns true if a stored key is that of a block.
pub(crate) fn is_block(key: &[u8]) -> bool {
    key.first() == Some(&BLOCK)
}

/// A table, or a copy of parts of one, to be written under one namespace.
pub(crate) struct FrozenTable {
    /// Namespace of the groups.
    pub namespace: i64,
    /// The groups.
    pub contents: Contents,
    /// Epoch under which the groups are written.
    pub epoch: u32,
    /// Number of groups per block.
    pub block_rows: usize,
    /// Segments to be written as blocks.
    pub segments: Vec<Segment>,
    /// Other groups of a whole table, which have been written as rows and have changed since.
    pub changed: Vec<u32>,
}

/// Groups of a table that are written together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Number of the segment in its table.
    pub number: u32,
    /// Its groups.
    pub groups: Range<usize>,
}

/// Groups of a table.
pub(crate) enum Contents {
    Table(Table),
    /// A copy of each segment.
    Snapshots(Vec<SegmentSnapshot>),
}

/// The groups of a segment.
pub(crate) struct SegmentSnapshot {
    keys: Vec<ArrayRef>,
    states: StateSnapshots,
}

impl Contents {
    /// Copies some segments of a table.
    pub(crate) fn snapshot(table: &mut Table, segments: &[Segment]) -> Result<Self, crate::Error> {
        let snapshot = segments.iter().map(|segment| {
            let select = Select::Range(segment.groups.clone());
            Ok(SegmentSnapshot {
                keys: table.keys(&select)?,
                states: table.snapshot_states(&select)?,
            })
        });
        Ok(Self::Snapshots(snapshot.collect::<Result<_, crate::Error>>()?))
    }

    /// Returns the bytes held.
    pub(crate) fn size(&self) -> usize {
        match self {
            Self::Table(table) => table.size(),
            Self::Snapshots(snapshots) => {
                let bytes_of = |snapshot: &SegmentSnapshot| {
                    let keys = snapshot.keys.iter().map(|column| column.get_array_memory_size());
                    keys.sum::<usize>() + snapshot.states.size()
                };
                snapshots.iter().map(bytes_of).sum()
            }
        }
    }
}

impl FrozenTable {
    /// Returns the number of groups to be written as blocks.
    pub(crate) fn block_groups(&self) -> usize {
        self.segments.iter().map(|segment| segment.groups.len()).sum()
    }

    /// Returns the key columns of some groups of a segment, counted from its first.
    pub(crate) fn keys(&self, segment: usize, some: Range<usize>) -> Result<Vec<ArrayRef>, crate::Error> {
        match &self.contents {
            Contents::Snapshots(snapshots) => Select::Range(some).take(&snapshots[segment].keys),
            Contents::Table(table) => {
                let first = self.segments[segment].groups.start;
                table.keys(&Select::Range(first + some.start..first + some.end))
            }
        }
    }

    /// Returns keys and partial states of some groups of a segment, counted from its first.
    fn read(&mut self, segment: usize, mut some: Vec<u32>) -> Result<KeysAndStates, millstream_state::Error> {
        match &mut self.contents {
            Contents::Snapshots(snapshots) => {
                let SegmentSnapshot { keys, states } = &mut snapshots[segment];
                let select = Select::Indices(&some);
                let keys = select.take(keys).map_err(state_error)?;
                Ok((keys, states.read(&select).map_err(state_error)?))
            }
            Contents::Table(table) => {
                let first = self.segments[segment].groups.start as u32;
                some.iter_mut().for_each(|group| *group += first);
                read_table(table, &some)
            }
        }
    }
}

type KeysAndStates = (Vec<ArrayRef>, Vec<ArrayRef>);

fn read_table(table: &mut Table, groups: &[u32]) -> Result<KeysAndStates, millstream_state::Error> {
    let select = Select::Indices(groups);
    let keys = table.keys(&select).map_err(state_error)?;
    let states = table.states(&select).map_err(state_error)?;
    Ok((keys, states.into_iter().flatten().collect()))
}

/// Returns the number of a table's groups per block.
pub(crate) fn block_rows(table: &Table) -> usize {
    rows_per_block(table.size(), table.len())
}

/// A flush of tables, one after the other.
pub(crate) struct TableFlush {
    /// Tables to be written, the next one last.
    tables: Vec<FrozenTable>,
    blocks: Option<Blocks>,
    format: Arc<RowFormat>,
    /// Released as tables are written.
    reservation: Reservation,
}

/// The blocks of a table, and the next one.
struct Blocks {
    /// Number of groups in the segments before each segment.
    starts: Vec<usize>,
    /// Groups of all segments ordered by key group, and the key group of each.
    order: Vec<u32>,
    key_groups: Vec<u16>,
    next: usize,
    /// Key group and segment of the last block, and its number within them.
    last: Option<(u16, usize)>,
    number: u32,
}

impl TableFlush {
    /// Creates a flush of tables, which are written in this order.
    pub(crate) fn new(mut tables: Vec<FrozenTable>, format: &Arc<RowFormat>, memory: &MemoryBudget) -> Self {
        for frozen in &mut tables {
            if let Contents::Table(table) = &mut frozen.contents {
                table.freeze();
            }
        }
        tables.reverse();
        let mut frozen = Self {
            tables,
            blocks: None,
            format: Arc::clone(format),
            reservation: memory.reservation(),
        };
        frozen.account();
        frozen
    }

    fn account(&mut self) {
        let size = |frozen: &FrozenTable| {
            let order_bytes = frozen.block_groups() * ORDER_BYTES;
            frozen.contents.size() + order_bytes + frozen.changed.capacity() * size_of::<u32>()
        };
        self.reservation.force_resize(self.tables.iter().map(size).sum());
    }

    fn encode_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        loop {
            let Some(frozen) = self.tables.last_mut() else {
                return Ok(None);
            };
            if !frozen.changed.is_empty() {
                return changed_rows(frozen, &self.format).map(Some);
            }
            let blocks = match &mut self.blocks {
                Some(blocks) => blocks,
                None => self.blocks.insert(Blocks::of(frozen, &self.format)?),
            };
            if let Some(chunk) = blocks.next_chunk(frozen, &self.format)? {
                return Ok(Some(chunk));
            }
            self.blocks = None;
            self.tables.pop();
            self.account();
        }
    }
}

impl FlushSource for TableFlush {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
        self.encode_chunk()
    }
}

/// Encodes some of the changed groups, in the order of their keys.
fn changed_rows(frozen: &mut FrozenTable, format: &RowFormat) -> Result<WriteChunk, millstream_state::Error> {
    let groups = frozen
        .changed
        .split_off(frozen.changed.len().saturating_sub(ENCODE_ROWS));
    let Contents::Table(table) = &mut frozen.contents else {
        let wrong = "rows of a table of which only parts are there";
        return Err(millstream_state::Error::Invalid(wrong.into()));
    };
    let (keys, states) = read_table(table, &groups)?;
    let mut part = FrozenRows {
        namespace: frozen.namespace,
        key_groups: format.key_groups(&keys, groups.len()).map_err(state_error)?,
        keys,
        suffix: KeySuffix::Constant(frozen.epoch),
        values: states.into(),
    };
    let rows: Vec<u32> = (0..groups.len() as u32).collect();
    encode_rows(format, &mut part, &rows)
}

impl Blocks {
    fn of(frozen: &FrozenTable, format: &RowFormat) -> Result<Self, millstream_state::Error> {
        let mut starts = Vec::with_capacity(frozen.segments.len());
        let mut key_groups = Vec::new();
        for (index, segment) in frozen.segments.iter().enumerate() {
            starts.push(key_groups.len());
            let groups = segment.groups.len();
            for start in (0..groups).step_by(HASH_ROWS) {
                let some = start..groups.min(start + HASH_ROWS);
                let rows = some.len();
                let keys = frozen.keys(index, some).map_err(state_error)?;
                key_groups.extend(format.key_groups(&keys, rows).map_err(state_error)?);
            }
        }
        Ok(Self {
            starts,
            order: rows_by_key_group(&key_groups),
            key_groups,
            next: 0,
            last: None,
            number: 0,
        })
    }

    fn next_chunk(
        &mut self,
        frozen: &mut FrozenTable,
        format: &RowFormat,
    ) -> Result<Option<WriteChunk>, millstream_state::Error> {
        let mut chunk = WriteChunk::default();
        let mut block = Vec::new();
        while self.next < self.order.len() && chunk.bytes() < CHUNK_BYTES {
            let rest = &self.order[self.next..];
            let group = self.key_groups[rest[0] as usize];
            let index = self.starts.partition_point(|start| *start <= rest[0] as usize) - 1;
            let Segment { number, groups } = &frozen.segments[index];
            let (number, start) = (*number, self.starts[index]);
            let end = start + groups.len();
            let some = &rest[..rest.len().min(frozen.block_rows)];
            let same = some.partition_point(|row| self.key_groups[*row as usize] == group && (*row as usize) < end);
            let groups = some[..same].iter().map(|row| row - start as u32).collect();
            let (keys, states) = frozen.read(index, groups)?;
            block.clear();
            format.encode_block(&keys, &states, same, &mut block)?;
            self.number = match self.last.replace((group, index)) == Some((group, index)) {
                true => self.number + 1,
                false => 0,
            };
            let mut key = vec![BLOCK];
            for part in [frozen.epoch, number, self.number] {
                key.extend_from_slice(&part.to_be_bytes());
            }
            let prefix = KeyPrefix {
                group: KeyGroup(group),
                namespace: frozen.namespace,
            };
            chunk.put(prefix, &key, &block);
            self.next += same;
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}
