//! Memory of keyed collections: writing changed rows, and evicting unchanged ones.

use millstream_state::keyed::{Rows, Table};
use millstream_state::memory::MemoryBudget;
use millstream_state::store::FlushSource;

use super::CALL_ROWS_MAX;
use crate::Error;
use crate::operators::spill::{MemoryGrant, Spill};

/// Changed rows are written before the next checkpoint once they have this share (one in this many bytes) of the
/// memory budget, so that there is memory for the copy.
const DIRTY_SHARE_MAX: usize = 8;
/// The share of the keys (one in this many) that one eviction removes.
const EVICT_SHARE: usize = 4;
/// The share of the memory budget (one in this many bytes) that the filters of a collection's written keys may take.
pub(super) const FILTER_SHARE: usize = 32;
/// Rows that are written at once before an eviction.
const EVICT_WRITE_ROWS: usize = 65_536;

/// A keyed collection as far as its memory is concerned.
pub(super) trait Collection {
    /// Returns the number of keys in memory.
    fn keys(&self) -> usize;
    /// Returns the bytes of the collection.
    fn bytes(&self) -> usize;
    /// Returns the bytes that some more keys need.
    fn growth_bytes(&self, keys: usize) -> usize;
    /// Returns the bytes of the changed rows.
    fn changed_bytes(&self) -> usize;
    /// Removes unchanged keys from memory, and returns their number.
    fn evict_keys(&mut self, keys_max: usize) -> usize;
    /// Returns changed rows, at most about `rows_max`, to be written.
    fn freeze_rows(&mut self, rows_max: usize, memory: &MemoryBudget) -> Option<Box<dyn FlushSource>>;
}

impl Collection for Table {
    fn keys(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.size()
    }

    fn growth_bytes(&self, keys: usize) -> usize {
        self.growth(keys)
    }

    fn changed_bytes(&self) -> usize {
        self.dirty_bytes()
    }

    fn evict_keys(&mut self, keys_max: usize) -> usize {
        let evicted = self.evict(keys_max);
        self.shrink_if_sparse();
        evicted
    }

    fn freeze_rows(&mut self, rows_max: usize, memory: &MemoryBudget) -> Option<Box<dyn FlushSource>> {
        Some(Box::new(self.freeze(rows_max)?.charged_to(memory)))
    }
}

impl Collection for Rows {
    fn keys(&self) -> usize {
        self.len()
    }

    fn bytes(&self) -> usize {
        self.size()
    }

    fn growth_bytes(&self, keys: usize) -> usize {
        self.growth(keys)
    }

    fn changed_bytes(&self) -> usize {
        self.dirty_bytes()
    }

    fn evict_keys(&mut self, keys_max: usize) -> usize {
        let evicted = self.evict(keys_max);
        self.shrink_if_sparse();
        evicted
    }

    fn freeze_rows(&mut self, rows_max: usize, memory: &MemoryBudget) -> Option<Box<dyn FlushSource>> {
        Some(Box::new(self.freeze(rows_max)?.charged_to(memory)))
    }
}

/// Returns true if there is memory for the next batch. Otherwise the waker of `spill` is called when this is to be
/// called again.
pub(super) fn ensure_memory<C: Collection>(collections: &mut [C], spill: &mut Spill) -> Result<bool, Error> {
    if !spill.is_ready()? {
        return Ok(false);
    }
    loop {
        let held = collections.iter().map(Collection::bytes).sum();
        let headroom = collections.iter().map(|held| held.growth_bytes(CALL_ROWS_MAX)).sum();
        match spill.request_memory(held, headroom)? {
            MemoryGrant::Granted => break,
            MemoryGrant::Wait => return Ok(false),
            MemoryGrant::Evict => {}
        }
        let evicted: usize = collections
            .iter_mut()
            .map(|collection| collection.evict_keys((collection.keys() / EVICT_SHARE).max(CALL_ROWS_MAX)))
            .sum();
        if evicted > 0 {
            metrics::counter!("millstream_state_evictions_total").increment(1);
            continue;
        }
        if !write_changes(collections, spill, EVICT_WRITE_ROWS)? {
            // Nothing can be evicted.
            let held = collections.iter().map(Collection::bytes).sum();
            spill.reservation.force_resize(held);
            break;
        }
        spill.wait_for_store();
        if !spill.is_ready()? {
            return Ok(false);
        }
    }
    let changed: usize = collections.iter().map(Collection::changed_bytes).sum();
    if changed > spill.memory.limit_bytes() / DIRTY_SHARE_MAX {
        write_changes(collections, spill, usize::MAX)?;
    }
    Ok(true)
}

/// Queues the writing of changed rows, at most about `rows_max` of each collection. Returns false if there are none.
pub(super) fn write_changes<C: Collection>(
    collections: &mut [C],
    spill: &mut Spill,
    rows_max: usize,
) -> Result<bool, Error> {
    let mut is_changed = false;
    for collection in collections {
        if let Some(frozen) = collection.freeze_rows(rows_max, &spill.memory) {
            spill.store.write(frozen, None)?;
            is_changed = true;
        }
    }
    Ok(is_changed)
}
