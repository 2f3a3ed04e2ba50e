//! Spilling: an operator's store, its share of the memory budget, and the decision to evict state from memory.
//!
//! After each batch an operator requests memory for what it holds ([`Spill::request_memory`]). If the request is
//! refused while writes of the operator are queued, the operator waits for them, because the memory of what they write
//! is about to be released: evicting at once would only write ever smaller pieces. If it is refused and no write is
//! queued, the operator evicts, unless it holds so little that evicting would not help.
//!
//! Expired namespaces are range-deleted together, at the next snapshot or eviction: a database pays for every range
//! deletion, whatever it covers, at each flush.

use std::task::Waker;

use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::Store;
use serde::Serialize;

use super::inline;
use super::keyed_state::KeyGroupSet;
use crate::Error;
use crate::operator::Snapshot;

/// An operator that holds less than this fraction (1/n) of the budget does not evict: others hold the memory.
const EVICT_SHARE_MIN: usize = 256;

/// The answer to a request for memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MemoryGrant {
    Granted,
    /// Queued writes will release memory; the waker is called when they are done.
    Wait,
    /// Nothing will release memory: the operator must evict some of its state.
    Evict,
}

/// The store and the memory reservation of one operator.
pub(super) struct Spill {
    pub store: Store,
    pub memory: MemoryBudget,
    pub reservation: Reservation,
    waker: Waker,
    /// True while the operator waits for the store to carry out what is queued.
    waits_for_store: bool,
    /// True while rows that were processed have no memory granted.
    waits_for_memory: bool,
    expired: Option<ExpiredNamespaces>,
}

/// Consecutive namespaces that will neither be read nor written again.
struct ExpiredNamespaces {
    first: i64,
    last: i64,
    groups: KeyGroupSet,
}

impl Spill {
    pub(super) fn new(store: Store, memory: MemoryBudget, waker: Waker) -> Self {
        Self {
            store,
            reservation: memory.reservation(),
            memory,
            waker,
            waits_for_store: false,
            waits_for_memory: false,
            expired: None,
        }
    }

    /// Marks a namespace, which has rows in the `written` key groups, as expired, together with all namespaces between
    /// it and those marked before. Must be called in ascending order of namespaces.
    pub(super) fn mark_expired(&mut self, namespace: i64, written: &KeyGroupSet) {
        if written.is_empty() {
            return;
        }
        let expired = self.expired.get_or_insert_with(|| ExpiredNamespaces {
            first: namespace,
            last: namespace,
            groups: KeyGroupSet::default(),
        });
        expired.last = namespace;
        expired.groups.extend(written.iter());
    }

    fn delete_expired(&mut self) -> Result<(), Error> {
        if let Some(expired) = self.expired.take() {
            self.store
                .delete_namespaces(expired.first, expired.last, &expired.groups.to_vec())?;
        }
        Ok(())
    }

    /// Returns true while rows that were processed have no memory granted: the last request was answered with
    /// [`MemoryGrant::Wait`].
    pub(super) fn is_waiting_for_memory(&self) -> bool {
        self.waits_for_memory
    }

    /// Makes [`Spill::is_ready`] return false until the store has carried out everything queued so far. To be called
    /// before reading what was just written.
    pub(super) fn wait_for_store(&mut self) {
        self.waits_for_store = true;
    }

    /// Returns true if the operator may go on; otherwise the waker is called once it may.
    pub(super) fn is_ready(&mut self) -> Result<bool, Error> {
        if self.waits_for_store {
            self.waits_for_store = !self.store.poll_idle(&self.waker)?;
        }
        Ok(!self.waits_for_store)
    }

    /// Returns the number of bytes below which evicting is not worthwhile.
    pub(super) fn evict_bytes_min(&self) -> usize {
        (self.memory.limit_bytes() / EVICT_SHARE_MIN).max(1)
    }

    /// Requests memory for `held` bytes of state and `headroom` bytes that the next calls will need.
    pub(super) fn request_memory(&mut self, held: usize, headroom: usize) -> Result<MemoryGrant, Error> {
        self.waits_for_memory = false;
        if self.reservation.try_resize(held + headroom) {
            return Ok(MemoryGrant::Granted);
        }
        self.waits_for_store = true;
        if !self.is_ready()? {
            self.waits_for_memory = true;
            return Ok(MemoryGrant::Wait);
        }
        if self.reservation.try_resize(held + headroom) {
            return Ok(MemoryGrant::Granted);
        }
        if held < self.evict_bytes_min() {
            self.reservation.force_resize(held);
            return Ok(MemoryGrant::Granted);
        }
        self.delete_expired()?;
        Ok(MemoryGrant::Evict)
    }

    /// Returns the operator's part of a checkpoint: its inline state, and the store as of everything queued so far.
    pub(super) fn snapshot<T: Serialize>(
        &mut self,
        checkpoint: u64,
        state: &T,
        version: u8,
    ) -> Result<Snapshot, Error> {
        self.delete_expired()?;
        Ok(Snapshot {
            inline: inline::encode(state, version)?,
            keyed: Some(self.store.snapshot(checkpoint)?),
        })
    }

    /// Returns the ends of the windows to evict: the largest first, until half of the `held` bytes are released.
    /// `windows` are the bytes and the end of each window in memory.
    pub(super) fn windows_to_evict(windows: impl Iterator<Item = (usize, i64)>, held: usize) -> Vec<i64> {
        let mut windows: Vec<(usize, i64)> = windows.collect();
        windows.sort_unstable();
        let mut freed = 0;
        let enough = windows.iter().rev().take_while(|(bytes, _)| {
            let is_evicted = freed * 2 <= held;
            freed += bytes;
            is_evicted
        });
        enough.map(|(_, end)| *end).collect()
    }

    /// Shrinks the reservation to `bytes`, after the operator released memory.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.reservation.bytes() {
            self.reservation.force_resize(bytes);
        }
    }
}
