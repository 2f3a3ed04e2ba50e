//! Writing panes to the store, at a barrier and when memory is short.
//!
//! At a barrier the changes of every pane are copied as columns, queued, and encoded and written off the slot thread.
//! Groups are in the order in which their keys came, and keys that come together mostly change together. Therefore a
//! pane is usually written by segments: all groups of the segments that have changes, as blocks that replace the former
//! ones. This costs a fraction of what rows do. If only a small part of these segments has changed, the changed groups
//! are written as rows, each of which replaces its former row; such a pane is not written as blocks again.
//!
//! When the memory budget refuses a request, the largest panes are evicted: their tables are passed to the flush
//! without a copy, and written as blocks. Later rows of such a pane are accumulated in an empty table, as additional
//! partial states, which are merged with the stored ones when the window fires. At a barrier under memory pressure
//! tables are evicted in the same way, because there is no memory for copies.

use super::pane_format::FrozenPanes;
use super::pane_table::{CheckpointAction, DirtyGroups, PaneTable, StoredLayout};
use super::{INLINE_VERSION, WindowAggregate};
use crate::Error;
use crate::operator::Snapshot;
use crate::operators::keyed_state::FrozenTable;
use crate::operators::window_panes::WindowOperator;

impl WindowAggregate {
    /// Queues all changes, and returns the operator's part of the checkpoint.
    pub(super) fn checkpoint(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        let mut frozen = FrozenPanes::default();
        let mut copies = self.panes.spill.memory.reservation();
        let slices: Vec<i64> = self.panes.ends().collect();
        for slice_end in slices {
            let segment_groups = self.format.segment_groups();
            let pane = self.panes.get(slice_end).expect("panes stay at a barrier");
            if !pane.is_stored && pane.state.has_outgrown_blocks() {
                self.panes.delete_stored(slice_end)?;
                let mut pane = self.panes.get_mut(slice_end).expect("panes stay at a barrier");
                pane.state.layout = StoredLayout::Rows(0);
                pane.state.dirty = DirtyGroups::All;
            }
            let pane = self.panes.get(slice_end).expect("panes stay at a barrier");
            let mut action = pane.state.checkpoint_action(pane.is_stored, segment_groups);
            // A pane that will have to be evicted soon is not copied first, and none is copied beyond the budget.
            let is_evicted = pane.is_stored && self.has_evicted;
            if action == CheckpointAction::Skip && !is_evicted {
                continue;
            }
            let copy_bytes = pane.state.copy_bytes(action, segment_groups);
            if is_evicted || !copies.try_resize(copies.bytes() + copy_bytes) {
                action = CheckpointAction::Evict;
            }
            match action {
                CheckpointAction::Skip => {}
                CheckpointAction::Evict => frozen.tables.extend(self.evict_pane(slice_end)?),
                CheckpointAction::WriteBlocks => frozen.tables.push(self.freeze_blocks(slice_end)?),
                CheckpointAction::WriteRows => self.freeze_rows(slice_end, &mut frozen)?,
            }
        }
        self.has_evicted = false;
        drop(copies);
        self.format.write(frozen, &mut self.panes.spill)?;
        self.panes.release_memory(self.other_bytes());
        self.panes.snapshot(checkpoint, self.epoch, INLINE_VERSION)
    }

    fn freeze_blocks(&mut self, slice_end: i64) -> Result<FrozenTable, Error> {
        let mut pane = self.panes.get_mut(slice_end).expect("panes stay at a barrier");
        let table = self.format.freeze_blocks(slice_end, &mut pane.state)?;
        pane.key_groups.extend(self.format.key_groups(&table)?);
        pane.state.dirty = DirtyGroups::none(pane.state.table.len());
        Ok(table)
    }

    fn freeze_rows(&mut self, slice_end: i64, frozen: &mut FrozenPanes) -> Result<(), Error> {
        let pane = self.panes.get(slice_end).expect("panes stay at a barrier");
        let had_blocks = matches!(pane.state.layout, StoredLayout::Blocks(_));
        if had_blocks {
            self.panes.delete_stored(slice_end)?;
        }
        let mut pane = self.panes.get_mut(slice_end).expect("panes stay at a barrier");
        if had_blocks {
            pane.state.dirty = DirtyGroups::All;
        }
        let rows = self.format.freeze_rows(slice_end, &mut pane.state)?;
        pane.key_groups.extend(rows.key_groups.iter().copied());
        pane.state.dirty = DirtyGroups::none(pane.state.table.len());
        frozen.rows.push(rows);
        Ok(())
    }

    /// Evicts panes and queues their tables.
    pub(super) fn evict_panes(&mut self, slices: &[i64]) -> Result<(), Error> {
        let mut frozen = FrozenPanes::default();
        for slice_end in slices {
            frozen.tables.extend(self.evict_pane(*slice_end)?);
        }
        let bytes = self.hot_bytes();
        self.panes.spill.reservation.force_resize(bytes);
        self.format.write(frozen, &mut self.panes.spill)
    }

    /// Removes a pane's table from memory, and returns it if any of it has to be written.
    fn evict_pane(&mut self, slice_end: i64) -> Result<Option<FrozenTable>, Error> {
        let next_epoch = self.epoch + 1;
        let spec = &self.layout.spec;
        let empty = || PaneTable::new(spec, next_epoch);
        let Some(pane) = self.panes.evict(slice_end, empty)? else {
            return Ok(None);
        };
        self.epoch = next_epoch;
        let frozen = self.format.freeze_evicted(slice_end, pane);
        self.panes.note_written(slice_end, self.format.key_groups(&frozen)?);
        let is_written = frozen.changed.is_empty() && frozen.segments.is_empty();
        Ok((!is_written).then_some(frozen))
    }

    fn hot_bytes(&self) -> usize {
        self.panes.size() + self.other_bytes()
    }

    /// Requests memory for `bytes` in addition to what is held. Returns false if the request is refused, unless the
    /// bytes are too few to matter.
    pub(super) fn may_hold(&mut self, bytes: usize) -> bool {
        let hot = self.hot_bytes();
        let spill = &mut self.panes.spill;
        bytes < spill.evict_bytes_min() || spill.reservation.try_resize(hot + bytes)
    }
}
