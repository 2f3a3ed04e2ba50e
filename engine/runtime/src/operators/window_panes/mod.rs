//! Panes: the state of open windows, or of slices that windows share, and the operations common to all window
//! operators.
//!
//! A [`Pane`] has a part in memory, of a type of the operator's own ([`PaneState`]), and perhaps a part in the store:
//! rows under the pane's end as namespace. [`WindowPanes`] keeps an operator's panes by their end, accounts for their
//! memory, restores them, chooses those to evict, and tracks which windows are complete and which have fired.
//! [`WindowOperator`] fires complete windows in bounded steps. A window whose panes have rows in the store is read from
//! there, one key group after the other ([`StoredWindow`]).
//!
//! A restore reads no rows: a restored pane is empty in memory, as it is after an eviction.

mod firing;
mod stored_window;

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut, RangeInclusive};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub(super) use self::firing::{FireBudget, WindowOperator};
pub(super) use self::stored_window::{ReadProgress, StoredWindow};
use super::keyed_state::KeyGroupSet;
use super::spill::{MemoryGrant, Spill};
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{Snapshot, WATERMARK_MIN};

/// The part of a pane that is in memory.
pub(super) trait PaneState {
    /// Returns the bytes held. Called several times per batch.
    fn size(&self) -> usize;

    /// Returns true if there is nothing to evict.
    fn is_empty(&self) -> bool;
}

/// The state of one window or slice.
pub(super) struct Pane<S> {
    /// The part in memory.
    pub state: S,
    /// True if the store has rows of the pane that are not in `state`.
    pub is_stored: bool,
    /// Key groups that have rows of the pane in the store.
    pub key_groups: KeyGroupSet,
}

/// The panes of an operator, by their end, and its store.
pub(super) struct WindowPanes<S> {
    panes: BTreeMap<i64, Pane<S>>,
    /// Sum of the sizes of all states.
    bytes: usize,
    /// All windows that end here or before have fired.
    fired: i64,
    /// All windows that end here or before are complete.
    complete: i64,
    /// The store and the memory reservation.
    pub spill: Spill,
}

/// The inline state: bincode of the time until which windows have fired, and of a number of the operator's that only
/// grows.
#[derive(Serialize, Deserialize)]
struct Inline<N> {
    fired: i64,
    number: N,
}

/// The answer to [`WindowPanes::request_memory`].
pub(super) enum PaneMemory {
    Granted,
    /// Queued writes will release memory; the waker is called when they are done.
    Wait,
    /// The panes of these ends must be evicted.
    Evict(Vec<i64>),
}

impl<S: PaneState> WindowPanes<S> {
    /// Creates the panes of an operator, and restores those of the checkpoint it resumes from. `new_state` creates an
    /// empty state, given the greatest number of the restored inline states. Returns that number as well, `None`
    /// without a checkpoint.
    pub(super) fn restore<N: DeserializeOwned + Ord + Copy>(
        context: OperatorContext,
        inline_version: u8,
        new_state: impl Fn(N) -> Result<S, Error>,
    ) -> Result<(Self, Option<N>), Error> {
        let mut restored: Option<Inline<N>> = None;
        for bytes in context.restored_inline.iter().filter(|bytes| !bytes.is_empty()) {
            let state: Inline<N> = inline::decode(bytes, inline_version)?;
            // The slowest of the old subtasks sets the time.
            restored = Some(match restored {
                None => state,
                Some(found) => Inline {
                    fired: found.fired.min(state.fired),
                    number: found.number.max(state.number),
                },
            });
        }
        let fired = restored.as_ref().map_or(WATERMARK_MIN, |restored| restored.fired);
        let mut panes = Self {
            panes: BTreeMap::new(),
            bytes: 0,
            fired,
            complete: fired,
            spill: Spill::new(context.store, context.memory, context.waker),
        };
        let Some(Inline { number, .. }) = restored else {
            return Ok((panes, None));
        };
        for prefix in panes.spill.store.namespaces()? {
            let mut pane = panes.get_or_insert_with(prefix.namespace, || new_state(number))?;
            pane.is_stored = true;
            pane.key_groups.insert(prefix.group.0);
        }
        Ok((panes, Some(number)))
    }

    /// Returns the pane that ends here.
    pub(super) fn get(&self, end: i64) -> Option<&Pane<S>> {
        self.panes.get(&end)
    }

    /// Returns the pane that ends here, for a change that is accounted for when the reference is dropped.
    pub(super) fn get_mut(&mut self, end: i64) -> Option<PaneMut<'_, S>> {
        let pane = self.panes.get_mut(&end)?;
        Some(PaneMut {
            bytes_before: pane.state.size(),
            pane,
            bytes: &mut self.bytes,
        })
    }

    /// Returns the pane that ends here, with the state of `new_state` if there was none, for a change that is accounted
    /// for when the reference is dropped.
    pub(super) fn get_or_insert_with(
        &mut self,
        end: i64,
        new_state: impl FnOnce() -> Result<S, Error>,
    ) -> Result<PaneMut<'_, S>, Error> {
        let (pane, bytes_before) = match self.panes.entry(end) {
            std::collections::btree_map::Entry::Occupied(entry) => {
                let pane = entry.into_mut();
                let bytes = pane.state.size();
                (pane, bytes)
            }
            std::collections::btree_map::Entry::Vacant(entry) => {
                let pane = Pane {
                    state: new_state()?,
                    is_stored: false,
                    key_groups: KeyGroupSet::default(),
                };
                (entry.insert(pane), 0)
            }
        };
        Ok(PaneMut {
            bytes_before,
            pane,
            bytes: &mut self.bytes,
        })
    }

    /// Returns the end of the first pane.
    pub(super) fn first_end(&self) -> Option<i64> {
        self.panes.keys().next().copied()
    }

    /// Returns the ends of all panes, ascending.
    pub(super) fn ends(&self) -> impl Iterator<Item = i64> {
        self.panes.keys().copied()
    }

    /// Returns the ends of the panes in a range, ascending.
    pub(super) fn ends_in(&self, range: RangeInclusive<i64>) -> impl Iterator<Item = i64> {
        self.panes.range(range).map(|(end, _)| *end)
    }

    /// Returns true if any of these panes has rows in the store that are not in memory.
    pub(super) fn any_stored(&self, ends: impl IntoIterator<Item = i64>) -> bool {
        ends.into_iter()
            .any(|end| self.get(end).is_some_and(|pane| pane.is_stored))
    }

    /// Removes a pane that no window needs any more. Its rows in the store are deleted later. Panes must be removed in
    /// ascending order.
    pub(super) fn remove(&mut self, end: i64) -> Option<Pane<S>> {
        let pane = self.panes.remove(&end)?;
        self.bytes -= pane.state.size();
        self.spill.mark_expired(end, &pane.key_groups);
        Some(pane)
    }

    /// Removes a pane's state from memory and returns it, for the caller to write. `empty` takes its place. Returns
    /// `None` if there is nothing in memory.
    pub(super) fn evict(&mut self, end: i64, empty: impl FnOnce() -> Result<S, Error>) -> Result<Option<S>, Error> {
        let mut pane = self.get_mut(end).expect("evicted panes are open");
        if pane.state.is_empty() {
            return Ok(None);
        }
        let state = std::mem::replace(&mut pane.state, empty()?);
        pane.is_stored = true;
        metrics::counter!("millstream_state_evictions_total").increment(1);
        Ok(Some(state))
    }

    /// Records key groups that have rows of a pane in the store from now on.
    pub(super) fn note_written(&mut self, end: i64, groups: impl IntoIterator<Item = u16>) {
        if let Some(pane) = self.panes.get_mut(&end) {
            pane.key_groups.extend(groups);
        }
    }

    /// Deletes the rows of a pane in the store, from the key groups that have some.
    pub(super) fn delete_stored(&mut self, end: i64) -> Result<(), Error> {
        let groups = self.get(end).map(|pane| pane.key_groups.to_vec()).unwrap_or_default();
        if !groups.is_empty() {
            self.spill.store.delete_namespace(end, &groups)?;
        }
        Ok(())
    }

    /// Returns a scan of the rows that these panes have in the store, which begins when all writes queued so far are
    /// done.
    pub(super) fn read_stored(&mut self, ends: &[i64]) -> StoredWindow {
        self.spill.wait_for_store();
        let key_groups = |end: &i64| self.get(*end).map(|pane| pane.key_groups.clone()).unwrap_or_default();
        StoredWindow::new(ends.iter().map(|end| (*end, key_groups(end))).collect())
    }

    /// Returns the bytes of all states.
    pub(super) fn size(&self) -> usize {
        debug_assert_eq!(
            self.bytes,
            self.panes.values().map(|pane| pane.state.size()).sum::<usize>(),
            "the accounted bytes are the sum of the panes'"
        );
        self.bytes
    }

    /// Requests memory for the panes, for `other_bytes` that the operator holds besides, and for `headroom` bytes that
    /// its next calls will need. If panes must be evicted, the largest ones are chosen, until half of the memory is
    /// released.
    pub(super) fn request_memory(&mut self, other_bytes: usize, headroom: usize) -> Result<PaneMemory, Error> {
        let held = self.size() + other_bytes;
        Ok(match self.spill.request_memory(held, headroom)? {
            MemoryGrant::Granted => PaneMemory::Granted,
            MemoryGrant::Wait => PaneMemory::Wait,
            MemoryGrant::Evict => {
                let in_memory = self.panes.iter().filter(|(_, pane)| !pane.state.is_empty());
                let sizes = in_memory.map(|(end, pane)| (pane.state.size(), *end));
                PaneMemory::Evict(Spill::windows_to_evict(sizes, held))
            }
        })
    }

    /// Shrinks the reservation to the bytes of all states and `other_bytes`.
    pub(super) fn release_memory(&mut self, other_bytes: usize) {
        let held = self.size() + other_bytes;
        self.spill.shrink_to(held);
    }

    /// Returns the time until which windows have fired: all windows that end here or before.
    pub(super) fn fired(&self) -> i64 {
        self.fired
    }

    /// Returns the time until which windows are complete: all windows that end here or before.
    pub(super) fn complete(&self) -> i64 {
        self.complete
    }

    /// Makes windows complete that end at `time` or before.
    pub(super) fn set_complete(&mut self, time: i64) {
        self.complete = self.complete.max(time);
    }

    /// Records that all windows that end here or before have fired.
    pub(super) fn set_fired(&mut self, end: i64) {
        debug_assert!(end >= self.fired, "windows fire in ascending order");
        self.fired = end;
    }

    /// Returns the operator's part of a checkpoint: everything queued so far, and the inline state with the operator's
    /// `number`.
    pub(super) fn snapshot<N: Serialize>(
        &mut self,
        checkpoint: u64,
        number: N,
        inline_version: u8,
    ) -> Result<Snapshot, Error> {
        let state = Inline {
            fired: self.fired,
            number,
        };
        self.spill.snapshot(checkpoint, &state, inline_version)
    }
}

/// A pane that may be changed. Its memory is accounted for when the reference is dropped.
pub(super) struct PaneMut<'a, S: PaneState> {
    pane: &'a mut Pane<S>,
    bytes_before: usize,
    bytes: &'a mut usize,
}

impl<S: PaneState> Deref for PaneMut<'_, S> {
    type Target = Pane<S>;

    fn deref(&self) -> &Pane<S> {
        self.pane
    }
}

impl<S: PaneState> DerefMut for PaneMut<'_, S> {
    fn deref_mut(&mut self) -> &mut Pane<S> {
        self.pane
    }
}

impl<S: PaneState> Drop for PaneMut<'_, S> {
    fn drop(&mut self) {
        *self.bytes = *self.bytes - self.bytes_before + self.pane.state.size();
    }
}

#[cfg(test)]
mod tests;
