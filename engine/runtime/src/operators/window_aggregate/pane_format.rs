//! The format of panes in the store: freezing and writing tables, and merging what is read.
//!
//! Layout of a row: namespace = slice end; key = the key columns in the store's key encoding, then the *epoch* (u32
//! BE); value = the partial states of all aggregates in the store's row encoding. Every table has an epoch, under which
//! it is written as long as it lives, so that a group's row replaces its former row. The table that follows it after an
//! eviction or a restore has a later epoch. So equal keys of different epochs are different partial states, and are
//! merged when they are read. Blocks of rows are in the same namespace, under keys of their own ([`TableFlush`]).

use std::sync::Arc;

use millstream_state::key_group::KeyGroupRange;

use super::Layout;
use super::pane_table::{DirtyGroups, PaneTable, StoredLayout};
use crate::Error;
use crate::operators::keyed_state::{
    Contents, FrozenRows, FrozenTable, KeySuffix, RowFlush, RowFormat, Segment, StoredRows, TableFlush, block_rows,
    is_block, rows_per_block,
};
use crate::operators::spill::Spill;
use crate::operators::table::{Select, Table, TableSpec};

/// Minimal number of groups of a segment, and minimal number for each key group, so that blocks are not small.
const SEGMENT_GROUPS_MIN: usize = 32_768;
const SEGMENT_GROUPS_PER_KEY_GROUP: usize = 256;
/// Groups per key group from which on a table is assumed to have groups in every key group.
const DENSE_GROUPS: usize = 4;

/// The format of panes in the store.
pub(super) struct PaneFormat {
    spec: Arc<TableSpec>,
    format: Arc<RowFormat>,
    key_groups: KeyGroupRange,
    segment_groups: usize,
}

/// Frozen parts of panes.
#[derive(Default)]
pub(super) struct FrozenPanes {
    /// Groups to be written as rows.
    pub rows: Vec<FrozenRows>,
    /// Groups to be written as blocks.
    pub tables: Vec<FrozenTable>,
}

impl PaneFormat {
    /// Creates the writer of a subtask that has these key groups.
    pub(super) fn new(layout: &Layout, max_parallelism: u16, key_groups: KeyGroupRange) -> Result<Self, Error> {
        let hashed = layout.keys.len() - usize::from(layout.output.start_is_key());
        Ok(Self {
            spec: Arc::clone(&layout.spec),
            format: Arc::new(RowFormat::new(
                &layout.spec.key_fields,
                hashed,
                &layout.spec.stored_schema().fields()[layout.keys.len()..],
                max_parallelism,
            )?),
            key_groups,
            segment_groups: SEGMENT_GROUPS_MIN.max(key_groups.count() * SEGMENT_GROUPS_PER_KEY_GROUP),
        })
    }

    /// Returns the number of groups of a segment.
    pub(super) fn segment_groups(&self) -> usize {
        self.segment_groups
    }

    /// Copies the dirty groups of a pane, to be written as rows.
    pub(super) fn freeze_rows(&self, slice_end: i64, pane: &mut PaneTable) -> Result<FrozenRows, Error> {
        let all = 0..pane.table.len();
        let select = match &pane.dirty {
            DirtyGroups::All => Select::Range(all),
            DirtyGroups::Listed { groups, .. } => Select::Indices(groups),
        };
        let keys = pane.table.keys(&select)?;
        let states = pane.table.snapshot_states(&select)?;
        let key_groups = self.format.key_groups(&keys, select.len())?;
        pane.layout = StoredLayout::Rows(pane.table.len());
        Ok(FrozenRows {
            namespace: slice_end,
            keys,
            key_groups,
            suffix: KeySuffix::Constant(pane.epoch),
            values: states,
        })
    }

    /// Copies the segments of a pane that have dirty groups, to be written as blocks.
    pub(super) fn freeze_blocks(&self, slice_end: i64, pane: &mut PaneTable) -> Result<FrozenTable, Error> {
        let segments = pane.dirty.segments(self.segment_groups, pane.table.len());
        let contents = Contents::snapshot(&mut pane.table, &segments)?;
        let mut frozen = FrozenTable {
            namespace: slice_end,
            contents,
            epoch: pane.epoch,
            block_rows: 0,
            segments,
            changed: Vec::new(),
        };
        frozen.block_rows = match pane.layout {
            StoredLayout::Blocks(rows) => rows,
            // By the bytes of the copy: the table may have allocated memory for many more groups.
            StoredLayout::Rows(_) => rows_per_block(frozen.contents.size(), frozen.block_groups()),
        };
        pane.layout = StoredLayout::Blocks(frozen.block_rows);
        Ok(frozen)
    }

    /// Converts an evicted pane to a table to be written. It has neither segments nor changed groups if everything is
    /// in the store already.
    pub(super) fn freeze_evicted(&self, slice_end: i64, pane: PaneTable) -> FrozenTable {
        let groups = pane.table.len();
        // New groups of a table that was written as rows are one segment.
        let new_groups = |written: usize| {
            let segment = Segment {
                number: 0,
                groups: written..groups,
            };
            if written < groups { vec![segment] } else { Vec::new() }
        };
        let (block_rows, segments, changed) = match (pane.layout, pane.dirty) {
            (
                StoredLayout::Rows(written),
                DirtyGroups::Listed {
                    groups: mut changed, ..
                },
            ) => {
                changed.retain(|group| (*group as usize) < written);
                (block_rows(&pane.table), new_groups(written), changed)
            }
            (StoredLayout::Rows(written), DirtyGroups::All) => (
                block_rows(&pane.table),
                new_groups(written),
                (0..written as u32).collect(),
            ),
            (StoredLayout::Blocks(rows), dirty) => (rows, dirty.segments(self.segment_groups, groups), Vec::new()),
        };
        FrozenTable {
            namespace: slice_end,
            contents: Contents::Table(pane.table),
            epoch: pane.epoch,
            block_rows,
            segments,
            changed,
        }
    }

    /// Returns the key groups that have groups among the blocks of a table, and perhaps more.
    pub(super) fn key_groups(&self, frozen: &FrozenTable) -> Result<Vec<u16>, Error> {
        if frozen.block_groups() >= self.key_groups.count() * DENSE_GROUPS {
            return Ok((self.key_groups.start..self.key_groups.end).collect());
        }
        let mut key_groups = Vec::new();
        for (index, segment) in frozen.segments.iter().enumerate() {
            let groups = segment.groups.len();
            let keys = frozen.keys(index, 0..groups)?;
            key_groups.extend(self.format.key_groups(&keys, groups)?);
        }
        Ok(key_groups)
    }

    /// Queues frozen panes, in the order of their slices.
    pub(super) fn write(&self, frozen: FrozenPanes, spill: &mut Spill) -> Result<(), Error> {
        let FrozenPanes { mut rows, mut tables } = frozen;
        if !rows.is_empty() {
            rows.sort_by_key(|rows| rows.namespace);
            let flush = RowFlush::new(rows, &self.format, &spill.memory);
            spill.store.write(Box::new(flush), None)?;
        }
        if !tables.is_empty() {
            tables.sort_by_key(|table| table.namespace);
            let flush = TableFlush::new(tables, &self.format, &spill.memory);
            spill.store.write(Box::new(flush), None)?;
        }
        Ok(())
    }

    /// Merges the partial states of entries into a table. `groups` is scratch.
    pub(super) fn merge_stored(
        &self,
        stored: &StoredPanes,
        table: &mut Table,
        groups: &mut Vec<u32>,
    ) -> Result<(), Error> {
        if !stored.keys.is_empty() {
            let rows = stored.keys.len();
            let keys = self.format.decode_keys(&stored.keys)?;
            let states = self.format.decode_values(&stored.values)?;
            table.merge(&keys, &self.spec.split_states(&states), rows, groups)?;
        }
        for block in stored.blocks.iter() {
            let (keys, states, rows) = self.format.decode_block(block)?;
            table.merge(&keys, &self.spec.split_states(&states), rows, groups)?;
        }
        Ok(())
    }
}

/// Entries of panes read from the store.
#[derive(Default)]
pub(super) struct StoredPanes {
    keys: StoredRows,
    values: StoredRows,
    blocks: StoredRows,
}

impl StoredPanes {
    /// Adds an entry.
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        if is_block(key) {
            self.blocks.push(value);
            return;
        }
        self.keys.push(&key[..key.len().saturating_sub(size_of::<u32>())]);
        self.values.push(value);
    }
}
