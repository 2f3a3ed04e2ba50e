//! Panes and the store: writing what changed, giving memory back, firing from disk.
//!
//! At a barrier what changed in every pane is copied out as columns and queued as one generation, encoded and written
//! off the slot thread. Groups are in the order in which their keys came, and keys that come together mostly change
//! together: the segments of a pane in which something changed are written whole, as blocks that replace the former ones
//! ([`stored_tables`](crate::operators::stored_tables)), which costs a fraction of what rows do. Where only little of those
//! segments changed a pane is written as rows, each over what was written of it before, and not as blocks again after that.
//!
//! When the memory budget refuses, the largest panes leave memory: their tables are handed over whole, to be written as
//! blocks; rows that come for such a pane later gather in a fresh table, as further partial states, and are not merged with
//! the stored ones before the window fires. At a barrier under memory pressure tables leave in the same way: there is no
//! room for copies. A window with stored panes fires one key group after the other: what is still hot is written, then the
//! key group's rows of all its slices are scanned into one table and emitted.
//!
//! The budget is asked before a table grows: after each batch for what is held, and for what another batch like it may
//! take.
//!
//! Layout of a row: namespace = slice end; key = the key columns in the store's key encoding, then the *epoch* (u32
//! BE); value = the partial states of all aggregates in the store's row encoding. The epoch is the table's: a table is
//! written under one epoch for as long as it lives, each time over what was written before; the table that follows it
//! after an eviction or a restore has a later one. So equal keys of different epochs are different partial states, and
//! merge when they are read. Blocks of rows lie in the same namespace, under keys of their own.
//!
//! Inline state: version byte 1, then bincode of [`Inline`].

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_state::key_group::{KeyGroup, KeyGroupRange};
use millstream_state::store::KeyPrefix;

use super::firing::{Allowance, Firing};
use super::{Dirty, Form, Layout, Pane, WindowAggregate};
use crate::Error;
use crate::operator::{Progress, Snapshot, WATERMARK_MIN};
use crate::operators::OperatorContext;
use crate::operators::inline;
use crate::operators::spill::{MemoryGrant, Spill};
use crate::operators::stored_rows::{
    FrozenRows, KeyGroupSet, KeySuffix, RowFlush, RowFormat, StoredRows, rows_per_block,
};
use crate::operators::stored_tables::{Contents, FrozenTable, Segment, TableFlush, block_rows, is_block};
use crate::operators::table::{Select, Table};

/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;
/// Groups of a segment, at least, and at least how many for each key group: so that blocks are not small.
const SEGMENT_GROUPS_MIN: usize = 32_768;
const SEGMENT_GROUPS_PER_KEY_GROUP: usize = 256;
/// A pane is written as blocks where at least one in so many groups of the segments changed.
const BLOCKS_SHARE: usize = 4;
/// One that was, stays so unless this many checkpoints like the present one would cost more than all of it as rows, once.
const BLOCKS_PATIENCE: usize = 8;
/// Blocks of so many times the bytes that blocks should have are cut anew.
const BLOCK_GROWTH_MAX: usize = 4;
/// What a row of its own costs, as if it were so many bytes longer than in a block.
const ROW_BYTES: usize = 256;
/// From so many groups per key group on, a table is taken to have some in each.
const DENSE_GROUPS: usize = 4;

/// The aggregate's side of its store.
pub(super) struct PaneStore {
    pub(super) spill: Spill,
    format: Arc<RowFormat>,
    key_groups: KeyGroupRange,
    segment_groups: usize,
    /// The epoch of tables made from now on.
    epoch: u32,
    /// Whether panes had to leave since the last barrier.
    evicted: bool,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Inline {
    fired: i64,
    epoch: u32,
}

const INLINE_VERSION: u8 = 1;

/// What a restore finds.
pub(super) struct Restored {
    pub fired: i64,
    /// Slices with rows in the store, and their key groups.
    pub panes: BTreeMap<i64, KeyGroupSet>,
}

impl PaneStore {
    pub(super) fn open(context: OperatorContext, layout: &Layout) -> Result<(Self, Restored), Error> {
        let mut fired: Option<i64> = None;
        let mut epoch = 0;
        for bytes in context.restored_inline.iter().filter(|bytes| !bytes.is_empty()) {
            let state: Inline = inline::decode(bytes, INLINE_VERSION)?;
            fired = Some(fired.map_or(state.fired, |fired| fired.min(state.fired)));
            epoch = epoch.max(state.epoch + 1);
        }
        let mut panes: BTreeMap<i64, KeyGroupSet> = BTreeMap::new();
        if fired.is_some() {
            for slot in context.store.namespaces()? {
                panes.entry(slot.namespace).or_default().insert(slot.group.0);
            }
        }
        let hashed = layout.keys.len() - usize::from(layout.output.start_is_key());
        let store = Self {
            format: Arc::new(RowFormat::new(
                &layout.spec.key_fields,
                hashed,
                &layout.spec.stored_schema().fields()[layout.keys.len()..],
                context.max_parallelism,
            )?),
            spill: Spill::new(context.store, context.memory, context.waker),
            key_groups: context.key_groups,
            segment_groups: SEGMENT_GROUPS_MIN.max(context.key_groups.count() * SEGMENT_GROUPS_PER_KEY_GROUP),
            epoch,
            evicted: false,
        };
        let restored = Restored {
            fired: fired.unwrap_or(WATERMARK_MIN),
            panes,
        };
        Ok((store, restored))
    }

    pub(super) fn epoch(&self) -> u32 {
        self.epoch
    }

    /// Deletes a slice from the key groups that have rows of it.
    pub(super) fn delete(&mut self, slice_end: i64, written: &KeyGroupSet) -> Result<(), Error> {
        let groups = written.to_vec();
        if !groups.is_empty() {
            self.spill.store.delete_namespace(slice_end, &groups)?;
        }
        Ok(())
    }

    /// Copies a pane's dirty groups out, to be written as rows.
    fn freeze_rows(&self, slice_end: i64, pane: &mut Pane) -> Result<FrozenRows, Error> {
        let all = 0..pane.table.len();
        let select = match &pane.dirty {
            Dirty::All => Select::Range(all),
            Dirty::Listed { groups, .. } => Select::Indices(groups),
        };
        let keys = pane.table.keys(&select)?;
        let states = pane.table.snapshot_states(&select)?;
        let key_groups = self.format.key_groups(&keys, select.len())?;
        for group in &key_groups {
            pane.written.insert(*group);
        }
        pane.form = Form::Rows(pane.table.len());
        Ok(FrozenRows {
            namespace: slice_end,
            keys,
            key_groups,
            suffix: KeySuffix::Constant(pane.epoch),
            values: states,
        })
    }

    /// Copies the segments of a pane out in which something changed, to be written as blocks.
    fn freeze_blocks(&self, slice_end: i64, pane: &mut Pane) -> Result<FrozenTable, Error> {
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
        frozen.block_rows = match pane.form {
            Form::Blocks(rows) => rows,
            // By what they take themselves: a table may have taken memory for many more groups.
            Form::Rows(_) => rows_per_block(frozen.contents.size(), frozen.block_groups()),
        };
        pane.form = Form::Blocks(frozen.block_rows);
        self.note_written(&frozen, &mut pane.written)?;
        Ok(frozen)
    }

    /// Notes which key groups have groups among the blocks of this table.
    fn note_written(&self, frozen: &FrozenTable, written: &mut KeyGroupSet) -> Result<(), Error> {
        if frozen.block_groups() >= self.key_groups.count() * DENSE_GROUPS {
            written.insert_all(self.key_groups);
            return Ok(());
        }
        for (index, segment) in frozen.segments.iter().enumerate() {
            let groups = segment.groups.len();
            let keys = frozen.keys(index, 0..groups)?;
            for group in self.format.key_groups(&keys, groups)? {
                written.insert(group);
            }
        }
        Ok(())
    }

    /// Queues frozen rows and tables, in the order of their slices.
    fn write(&mut self, mut rows: Vec<FrozenRows>, mut tables: Vec<FrozenTable>) -> Result<(), Error> {
        if !rows.is_empty() {
            rows.sort_by_key(|rows| rows.namespace);
            let frozen = RowFlush::new(rows, &self.format, &self.spill.memory);
            self.spill.store.write(Box::new(frozen), None)?;
        }
        if !tables.is_empty() {
            tables.sort_by_key(|table| table.namespace);
            let frozen = TableFlush::new(tables, &self.format, &self.spill.memory);
            self.spill.store.write(Box::new(frozen), None)?;
        }
        Ok(())
    }
}

/// A window that is fired from the store.
pub(super) struct StoredFiring {
    end: i64,
    slices: Vec<i64>,
    /// Key groups with rows of the window, the next one last.
    key_groups: Vec<u16>,
    /// The slice being scanned, and the last key that was.
    slice: usize,
    after: Option<Vec<u8>>,
    /// The key group's groups, and the first that is not emitted once all its slices are scanned.
    table: Table,
    next: usize,
}

impl StoredFiring {
    pub(super) fn size(&self) -> usize {
        self.table.size()
    }
}

/// What becomes of a pane at a barrier.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// Nothing changed.
    Stays,
    Rows,
    Blocks,
    /// Its table leaves memory.
    Leaves,
}

impl Pane {
    fn fate(&self, segment_groups: usize) -> Fate {
        let groups = self.table.len();
        let dirty = self.dirty.count(groups);
        let segments = self.dirty.segments(segment_groups, groups);
        let rewritten: usize = segments.iter().map(|segment| segment.groups.len()).sum();
        // Where groups are large, blocks of all of them would cost more than rows of some.
        let group_bytes = self.table.size() / groups.max(1);
        let is_cheaper = rewritten * group_bytes <= dirty * (group_bytes + ROW_BYTES);
        let is_much = dirty * BLOCKS_SHARE >= rewritten && is_cheaper;
        let is_patient = rewritten * group_bytes * BLOCKS_PATIENCE <= groups * (group_bytes + ROW_BYTES);
        match self.form {
            _ if dirty == 0 => Fate::Stays,
            Form::Rows(0) | Form::Blocks(_) if is_much => Fate::Blocks,
            Form::Blocks(_) if is_patient => Fate::Blocks,
            // Its blocks would have to be deleted, among others of the slice. It will fire from the store anyway.
            Form::Blocks(_) if self.stored => Fate::Leaves,
            Form::Rows(_) | Form::Blocks(_) => Fate::Rows,
        }
    }

    /// Whether its groups have become much larger since their blocks were laid out.
    fn has_outgrown_blocks(&self) -> bool {
        let Form::Blocks(rows) = self.form else { return false };
        !self.stored && block_rows(&self.table) * BLOCK_GROWTH_MAX < rows
    }

    /// Bytes of the copy that is made.
    fn copy_bytes(&self, fate: Fate, segment_groups: usize) -> usize {
        let groups = self.table.len();
        let copied = match (fate, self.form) {
            (Fate::Rows, Form::Rows(_)) => self.dirty.count(groups),
            (Fate::Blocks, _) => {
                let segments = self.dirty.segments(segment_groups, groups);
                segments.iter().map(|segment| segment.groups.len()).sum()
            }
            _ => groups,
        };
        (self.table.size() / groups.max(1)) * copied
    }
}

impl WindowAggregate {
    /// The state as of now: what is dirty is queued, and the cut behind it.
    pub(super) fn freeze(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        let mut rows = Vec::new();
        let mut tables = Vec::new();
        let mut room = self.store.spill.memory.reservation();
        let slices: Vec<i64> = self.panes.keys().copied().collect();
        for slice_end in slices {
            let pane = self.panes.get_mut(&slice_end).expect("panes stay at a barrier");
            let segment_groups = self.store.segment_groups;
            if pane.has_outgrown_blocks() {
                self.store.delete(slice_end, &pane.written)?;
                pane.form = Form::Rows(0);
                pane.dirty = Dirty::All;
            }
            let mut fate = pane.fate(segment_groups);
            // A pane that will have to leave soon is not copied first, and none is beyond the budget.
            let leaves = pane.stored && self.store.evicted;
            if fate == Fate::Stays && !leaves {
                continue;
            }
            if leaves || !room.try_resize(room.bytes() + pane.copy_bytes(fate, segment_groups)) {
                fate = Fate::Leaves;
            }
            if fate == Fate::Leaves {
                tables.extend(self.evict(slice_end)?);
                continue;
            }
            if fate == Fate::Blocks {
                tables.push(self.store.freeze_blocks(slice_end, pane)?);
            } else {
                if matches!(pane.form, Form::Blocks(_)) {
                    self.store.delete(slice_end, &pane.written)?;
                    pane.dirty = Dirty::All;
                }
                rows.push(self.store.freeze_rows(slice_end, pane)?);
            }
            pane.dirty = Dirty::none(pane.table.len());
        }
        self.store.evicted = false;
        drop(room);
        self.store.write(rows, tables)?;
        self.give_back_memory();
        let state = Inline {
            fired: self.fired,
            epoch: self.store.epoch,
        };
        self.store.spill.snapshot(checkpoint, &state, INLINE_VERSION)
    }

    fn hot_bytes(&self) -> usize {
        self.pane_bytes
            + self.runs.size()
            + self.running.as_ref().map_or(0, |running| running.table.size())
            + self.firing.as_ref().map_or(0, Firing::size)
    }

    /// After firing: what is not held any more.
    pub(super) fn give_back_memory(&mut self) {
        self.pane_bytes = self.panes.values().map(Pane::size).sum();
        let bytes = self.hot_bytes();
        self.store.spill.shrink_to(bytes);
    }

    /// Asks for the memory of something besides panes; `false` if it is not there and is worth going without.
    pub(super) fn may_hold(&mut self, bytes: usize) -> bool {
        let hot = self.hot_bytes();
        let spill = &mut self.store.spill;
        bytes < spill.evict_bytes_min() || spill.reservation.try_resize(hot + bytes)
    }

    /// Keeps the hot set within the budget, by evicting the largest panes.
    pub(super) fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let mut size = self.hot_bytes();
        if !self.store.spill.reservation.try_resize(size + self.growth_bytes) {
            // What is derived goes first.
            self.running = None;
            self.runs.clear();
            size = self.hot_bytes();
        }
        match self.store.spill.request_memory(size, self.growth_bytes)? {
            MemoryGrant::Granted => return Ok(Progress::Done),
            MemoryGrant::Wait => return Ok(Progress::Pending),
            MemoryGrant::Evict => {}
        }
        let held = self.panes.iter().filter(|(_, pane)| !pane.table.is_empty());
        let mut frozen = Vec::new();
        for slice_end in Spill::windows_to_evict(held.map(|(slice_end, pane)| (pane.size(), *slice_end)), size) {
            frozen.extend(self.evict(slice_end)?);
        }
        self.groups_expected = 0;
        self.store.evicted = true;
        let bytes = self.hot_bytes();
        self.store.spill.reservation.force_resize(bytes);
        self.store.write(Vec::new(), frozen)?;
        Ok(Progress::Done)
    }

    /// Takes a pane's table away; it is returned if anything of it is to be written.
    fn evict(&mut self, slice_end: i64) -> Result<Option<FrozenTable>, Error> {
        let pane = self.panes.get_mut(&slice_end).expect("evicted panes are open");
        if pane.table.is_empty() {
            return Ok(None);
        }
        self.pane_bytes = self.pane_bytes.saturating_sub(pane.size());
        let groups = pane.table.len();
        let dirty = std::mem::replace(&mut pane.dirty, Dirty::All);
        // What is new to a table of rows is one segment.
        let new = |written: usize| {
            let segment = Segment {
                number: 0,
                groups: written..groups,
            };
            if written < groups { vec![segment] } else { Vec::new() }
        };
        let (block_rows, segments, changed) = match (std::mem::replace(&mut pane.form, Form::Rows(0)), dirty) {
            (
                Form::Rows(written),
                Dirty::Listed {
                    groups: mut changed, ..
                },
            ) => {
                changed.retain(|group| (*group as usize) < written);
                (block_rows(&pane.table), new(written), changed)
            }
            (Form::Rows(written), Dirty::All) => (block_rows(&pane.table), new(written), (0..written as u32).collect()),
            (Form::Blocks(rows), dirty) => (rows, dirty.segments(self.store.segment_groups, groups), Vec::new()),
        };
        let frozen = FrozenTable {
            namespace: slice_end,
            contents: Contents::Table(std::mem::replace(&mut pane.table, Table::new(&self.layout.spec)?)),
            epoch: pane.epoch,
            block_rows,
            segments,
            changed,
        };
        self.store.note_written(&frozen, &mut pane.written)?;
        pane.stored = true;
        self.pane_bytes += pane.size();
        self.store.epoch += 1;
        pane.epoch = self.store.epoch;
        metrics::counter!("millstream_state_evictions_total").increment(1);
        let is_written = frozen.changed.is_empty() && frozen.segments.is_empty();
        Ok((!is_written).then_some(frozen))
    }

    /// Starts to fire a window of which some panes are stored.
    pub(super) fn begin_stored(&mut self, end: i64, slices: Vec<i64>) -> Result<StoredFiring, Error> {
        self.running = None;
        self.runs.clear();
        let mut frozen = Vec::new();
        for slice in &slices {
            frozen.extend(self.evict(*slice)?);
        }
        let bytes = self.hot_bytes();
        self.store.spill.reservation.force_resize(bytes);
        self.store.write(Vec::new(), frozen)?;
        self.store.spill.wait_for_store();
        let mut written = KeyGroupSet::default();
        for slice in &slices {
            written.extend(self.panes[slice].written.iter());
        }
        let key_groups = written.iter().rev().collect();
        Ok(StoredFiring {
            end,
            slices,
            key_groups,
            slice: 0,
            after: None,
            table: Table::new(&self.layout.spec)?,
            next: 0,
        })
    }

    /// One step: a scan, or an emission.
    pub(super) fn step_stored(
        &mut self,
        mut firing: StoredFiring,
        allowance: &mut Allowance,
    ) -> Result<(Option<Firing>, bool), Error> {
        if !self.store.spill.is_ready()? {
            return Ok((Some(Firing::Stored(firing)), false));
        }
        let Some(group) = firing.key_groups.last().copied() else {
            self.end_window(firing.end)?;
            return Ok((None, true));
        };
        if let Some(slice) = firing.slices.get(firing.slice).copied() {
            self.scan(&mut firing, group, slice)?;
            allowance.groups = allowance.groups.saturating_sub(SCAN_ROWS);
            return Ok((Some(Firing::Stored(firing)), true));
        }
        let table = &mut firing.table;
        let to = table.len().min(firing.next + allowance.rows);
        if to > firing.next {
            let select = Select::Range(firing.next..to);
            let keys = table.keys(&select)?;
            let results = table.results(&select)?;
            let start = self.layout.slices.window_start(firing.end);
            let rows = to - firing.next;
            allowance.emit(self.layout.output.batch(keys, results, start, firing.end, rows)?);
        }
        firing.next = to;
        if to == table.len() {
            table.clear()?;
            firing.key_groups.pop();
            firing.slice = 0;
            firing.next = 0;
        }
        Ok((Some(Firing::Stored(firing)), true))
    }

    /// Merges some more rows of a slice and key group.
    fn scan(&mut self, firing: &mut StoredFiring, group: u16, slice: i64) -> Result<(), Error> {
        let slot = KeyPrefix {
            group: KeyGroup(group),
            namespace: slice,
        };
        let mut keys = StoredRows::default();
        let mut values = StoredRows::default();
        let mut blocks = StoredRows::default();
        let mut last = Vec::new();
        let written = self.panes[&slice].written.contains(group);
        let more = written
            && self
                .store
                .spill
                .store
                .scan(slot, firing.after.as_deref(), SCAN_ROWS, &mut |key, value| {
                    last.clear();
                    last.extend_from_slice(key);
                    if is_block(key) {
                        blocks.push(value);
                        return;
                    }
                    keys.push(&key[..key.len().saturating_sub(size_of::<u32>())]);
                    values.push(value);
                })?;
        if !keys.is_empty() {
            let rows = keys.len();
            let keys = self.store.format.decode_keys(&keys)?;
            let states = self
                .layout
                .spec
                .split_states(&self.store.format.decode_values(&values)?);
            firing.table.merge(&keys, &states, rows, &mut self.groups)?;
        }
        for block in blocks.iter() {
            let (keys, states, rows) = self.store.format.decode_block(block)?;
            let states = self.layout.spec.split_states(&states);
            firing.table.merge(&keys, &states, rows, &mut self.groups)?;
        }
        if more && !last.is_empty() {
            firing.after = Some(last);
        } else {
            firing.after = None;
            firing.slice += 1;
        }
        Ok(())
    }
}
