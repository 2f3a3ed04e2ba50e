//! Scans over several slots of a store, a bounded number of entries at a time.

use millstream_state::store::{KeyPrefix, Store};

use crate::Error;

/// A scan over the entries of some slots, one slot after the other.
#[derive(Debug, Default)]
pub struct SlotScan {
    /// Slots that are not read completely, the current one last.
    slots: Vec<KeyPrefix>,
    /// Key after which the current slot is continued.
    after: Option<Vec<u8>>,
}

impl SlotScan {
    /// Creates a scan over these slots, in this order.
    pub fn new(slots: impl DoubleEndedIterator<Item = KeyPrefix>) -> Self {
        Self {
            slots: slots.rev().collect(),
            after: None,
        }
    }

    /// Returns the slot that is read next, or `None` at the end.
    pub fn slot(&self) -> Option<KeyPrefix> {
        self.slots.last().copied()
    }

    /// Passes the next entries of the current slot to `visit`, in key order and at most `entries_max` of them. Returns true
    /// if the slot has no more entries; the scan is at the next slot then.
    pub fn step(
        &mut self,
        store: &Store,
        entries_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Error> {
        let Some(slot) = self.slot() else {
            return Ok(true);
        };
        let mut last: Option<Vec<u8>> = None;
        let more = store.scan(slot, self.after.as_deref(), entries_max, &mut |key, value| {
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            visit(key, value);
        })?;
        if more && last.is_some() {
            self.after = last;
            return Ok(false);
        }
        self.skip_slot();
        Ok(true)
    }

    /// Continues the current slot after this key, which lies after all keys read so far.
    pub fn skip_to(&mut self, key: Vec<u8>) {
        debug_assert!(
            self.after.as_ref().is_none_or(|after| *after <= key),
            "a scan goes forward"
        );
        self.after = Some(key);
    }

    /// Leaves the rest of the current slot unread.
    pub fn skip_slot(&mut self) {
        self.slots.pop();
        self.after = None;
    }
}
