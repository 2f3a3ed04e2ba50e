//! Panes and the store: writing what changed, giving memory back, firing from disk.
//!
//! At a barrier the dirty groups of every pane are copied out as columns and queued as one generation, encoded and
//! written off the slot thread. When the memory budget refuses, the largest pane is written whole and dropped; rows
//! that come for it later gather in a fresh table, as further partial states, and are not merged with the stored ones
//! before the window fires. A window with stored panes fires one key group after the other: what is still hot is
//! written, then the key group's rows of all its slices are scanned into one table and emitted.
//!
//! Layout of a row: namespace = slice end; key = the key columns in the store's key encoding, then the *epoch* (u32
//! BE); value = the partial states of all aggregates in the store's row encoding. The epoch is the table's: a table is
//! written under one epoch for as long as it lives, each time over what was written before; the table that follows it
//! after an eviction or a restore has a later one. So equal keys of different epochs are different partial states, and
//! merge when they are read.
//!
//! Inline state: version byte 1, then bincode of [`Inline`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use arrow::array::ArrayRef;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{Slot, Store};

use super::firing::{Allowance, Firing};
use super::{Dirty, Layout, Pane, WindowAggregate};
use crate::Error;
use crate::operator::{Progress, Snapshot, WATERMARK_MIN};
use crate::operators::OperatorContext;
use crate::operators::inline;
use crate::operators::stored_rows::{Frozen, FrozenRows, RowFormat, StoredRows, Suffix, WrittenGroups};
use crate::operators::table::{Select, Table};

/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;
/// An operator that holds less than this share of the budget does not evict: others hold the memory.
const EVICT_SHARE_MIN: usize = 256;

/// The aggregate's side of its store.
pub(super) struct PaneStore {
    store: Store,
    format: Arc<RowFormat>,
    memory: MemoryBudget,
    reservation: Reservation,
    waker: Waker,
    /// The epoch of tables made from now on.
    epoch: u32,
    /// Whether nothing may go on before the store has carried out what was queued.
    waiting: bool,
    /// Whether the memory of rows that were taken is not granted yet.
    pressed: bool,
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
    pub panes: BTreeMap<i64, WrittenGroups>,
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
        let mut panes: BTreeMap<i64, WrittenGroups> = BTreeMap::new();
        if fired.is_some() {
            for slot in context.store.namespaces()? {
                panes.entry(slot.namespace).or_default().insert(slot.group.0);
            }
        }
        let hashed = layout.keys.len() - usize::from(layout.output.start_is_key());
        let store = Self {
            store: context.store,
            format: Arc::new(RowFormat::new(
                &layout.spec.key_fields,
                hashed,
                &layout.spec.stored_schema().fields()[layout.keys.len()..],
                context.max_parallelism,
            )?),
            reservation: context.memory.reservation(),
            memory: context.memory,
            waker: context.waker,
            epoch,
            waiting: false,
            pressed: false,
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

    /// Whether rows that were taken wait for memory.
    pub(super) fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Whether work may go on; otherwise the waker is called when it may.
    pub(super) fn is_ready(&mut self) -> Result<bool, Error> {
        if self.waiting {
            self.waiting = !self.store.is_settled(&self.waker)?;
        }
        Ok(!self.waiting)
    }

    /// Deletes a slice from the key groups that have rows of it.
    pub(super) fn delete(&mut self, slice_end: i64, written: &WrittenGroups) -> Result<(), Error> {
        let groups = written.to_vec();
        if !groups.is_empty() {
            self.store.delete_namespace(slice_end, &groups)?;
        }
        Ok(())
    }

    /// Copies a pane's dirty groups out, to be written.
    fn freeze(&self, slice_end: i64, pane: &mut Pane) -> Result<Option<FrozenRows>, Error> {
        let all = 0..pane.table.len();
        let select = match &pane.dirty {
            Dirty::All => Select::Range(all),
            Dirty::Listed { groups, .. } => Select::Indices(groups),
        };
        if select.len() == 0 {
            return Ok(None);
        }
        let keys = pane.table.keys(&select)?;
        let states: Vec<ArrayRef> = pane.table.states(&select)?.into_iter().flatten().collect();
        let key_groups = self.format.key_groups(&keys, select.len())?;
        for group in &key_groups {
            pane.written.insert(*group);
        }
        Ok(Some(FrozenRows {
            namespace: slice_end,
            keys,
            key_groups,
            suffix: Suffix::Same(pane.epoch),
            values: Some(states),
        }))
    }

    /// Queues frozen panes.
    fn write(&mut self, panes: Vec<FrozenRows>) -> Result<(), Error> {
        let frozen = Frozen::new(panes, &self.format, &self.memory);
        self.store.write(Box::new(frozen), None)?;
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

impl WindowAggregate {
    /// The state as of now: what is dirty is queued, and the cut behind it.
    pub(super) fn freeze(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        let mut frozen = Vec::new();
        for (slice_end, pane) in &mut self.panes {
            if let Some(pane) = self.store.freeze(*slice_end, pane)? {
                frozen.push(pane);
            }
            pane.dirty = Dirty::none(pane.table.len());
        }
        if !frozen.is_empty() {
            self.store.write(frozen)?;
        }
        let state = Inline {
            fired: self.fired,
            epoch: self.store.epoch,
        };
        Ok(Snapshot {
            inline: inline::encode(&state, INLINE_VERSION)?,
            keyed: Some(self.store.store.snapshot(checkpoint)?),
        })
    }

    fn hot_bytes(&self) -> usize {
        self.pane_bytes + self.running.as_ref().map_or(0, |running| running.table.size())
    }

    /// After firing: what is not held any more.
    pub(super) fn give_back_memory(&mut self) {
        self.pane_bytes = self.panes.values().map(Pane::size).sum();
        let bytes = self.hot_bytes();
        if bytes < self.store.reservation.bytes() {
            self.store.reservation.force_resize(bytes);
        }
    }

    /// Keeps the hot set within the budget, by evicting the largest panes.
    ///
    /// What was evicted holds memory until it is written. So while writes of ours are under way, a refusal means to
    /// wait for them: evicting at once would only cut ever smaller pieces.
    pub(super) fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let size = self.hot_bytes();
        if self.store.reservation.try_resize(size) {
            self.store.pressed = false;
            return Ok(Progress::Done);
        }
        if self.running.take().is_some() {
            return self.relieve_memory();
        }
        self.store.pressed = true;
        self.store.waiting = true;
        if !self.store.is_ready()? {
            return Ok(Progress::Pending);
        }
        if self.store.reservation.try_resize(size) {
            self.store.pressed = false;
            return Ok(Progress::Done);
        }
        self.store.pressed = false;
        let worth = self.store.memory.limit_bytes() / EVICT_SHARE_MIN;
        if size < worth.max(1) {
            // Others hold the memory.
            self.store.reservation.force_resize(size);
            return Ok(Progress::Done);
        }
        // The largest panes, until half of what is held is given back.
        let mut panes: Vec<(usize, i64)> = self
            .panes
            .iter()
            .filter(|(_, pane)| !pane.table.is_empty())
            .map(|(slice_end, pane)| (pane.size(), *slice_end))
            .collect();
        panes.sort_unstable();
        let mut frozen = Vec::new();
        let mut freed = 0;
        while let Some((bytes, slice_end)) = panes.pop().filter(|_| freed * 2 <= size) {
            frozen.extend(self.evict(slice_end)?);
            freed += bytes;
        }
        self.groups_expected = 0;
        if !frozen.is_empty() {
            frozen.sort_by_key(|rows| rows.namespace);
            self.store.write(frozen)?;
        }
        self.store.reservation.force_resize(self.hot_bytes());
        Ok(Progress::Done)
    }

    /// Drops a pane's table; what of it is dirty is returned, to be written.
    fn evict(&mut self, slice_end: i64) -> Result<Option<FrozenRows>, Error> {
        let pane = self.panes.get_mut(&slice_end).expect("evicted panes are open");
        let frozen = self.store.freeze(slice_end, pane)?;
        self.pane_bytes = self.pane_bytes.saturating_sub(pane.size());
        pane.table = Table::new(&self.layout.spec)?;
        pane.dirty = Dirty::All;
        pane.stored = true;
        self.pane_bytes += pane.size();
        self.store.epoch += 1;
        pane.epoch = self.store.epoch;
        metrics::counter!("millstream_state_evictions_total").increment(1);
        Ok(frozen)
    }

    /// Starts to fire a window of which some panes are stored.
    pub(super) fn begin_stored(&mut self, end: i64, slices: Vec<i64>) -> Result<StoredFiring, Error> {
        let mut frozen = Vec::new();
        for slice in &slices {
            if !self.panes[slice].table.is_empty() {
                frozen.extend(self.evict(*slice)?);
            }
        }
        if !frozen.is_empty() {
            self.store.write(frozen)?;
        }
        self.store.waiting = true;
        let mut written = WrittenGroups::default();
        for slice in &slices {
            self.panes[slice].written.iter().for_each(|group| written.insert(group));
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
        if !self.store.is_ready()? {
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
        let slot = Slot {
            group: KeyGroup(group),
            namespace: slice,
        };
        let mut keys = StoredRows::default();
        let mut values = StoredRows::default();
        let mut last = Vec::new();
        let written = self.panes[&slice].written.contains(group);
        let more = written
            && self
                .store
                .store
                .scan(slot, firing.after.as_deref(), SCAN_ROWS, &mut |key, value| {
                    last.clear();
                    last.extend_from_slice(key);
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
        if more && !last.is_empty() {
            firing.after = Some(last);
        } else {
            firing.after = None;
            firing.slice += 1;
        }
        Ok(())
    }
}
