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

    /// Passes the next entries of the current slot to `visit`, in key order and at most `entries_max` of them. Returns
    /// true if the slot has no more entries; the scan is at the next slot then.
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

#[cfg(test)]
mod tests {
    use std::task::Waker;
    use std::time::{Duration, Instant};

    use millstream_state::key_group::KeyGroup;
    use millstream_state::store::{FlushSource, WriteChunk};

    use super::*;
    use crate::operators::testing::{context, on_own_thread};

    struct Entries(Vec<(Slot, Vec<u8>)>);

    impl FlushSource for Entries {
        fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
            let mut chunk = WriteChunk::default();
            for (slot, key) in std::mem::take(&mut self.0) {
                chunk.put(slot, &key, b"value");
            }
            Ok((!chunk.is_empty()).then_some(chunk))
        }
    }

    fn slot(group: u16, namespace: i64) -> Slot {
        Slot {
            group: KeyGroup(group),
            namespace,
        }
    }

    /// Returns a store that has the keys 0 to `keys` (one byte each) in every slot.
    fn store_of(slots: &[Slot], keys: u8) -> Store {
        let mut store = context(1 << 30).store;
        let entries = slots.iter().flat_map(|slot| (0..keys).map(|key| (*slot, vec![key])));
        store.write(Box::new(Entries(entries.collect())), None).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !store.is_settled(Waker::noop()).unwrap() {
            assert!(Instant::now() < deadline, "the store does not settle");
            std::thread::yield_now();
        }
        store
    }

    #[test]
    fn every_entry_of_every_slot_is_visited_once_in_order() {
        on_own_thread(|| {
            let slots = [slot(1, -5), slot(1, 7), slot(3, 2)];
            let store = store_of(&slots, 5);
            for entries_max in [1, 2, 5, 100] {
                // A slot without entries lies between the others.
                let scanned = [slots[0], slots[1], slot(2, 0), slots[2]];
                let mut scan = SlotScan::new(scanned.into_iter());
                let mut found = Vec::new();
                while let Some(current) = scan.slot() {
                    let is_end = scan
                        .step(&store, entries_max, &mut |key, _| found.push((current, key.to_vec())))
                        .unwrap();
                    assert_eq!(is_end, scan.slot() != Some(current));
                }
                let expected: Vec<_> = slots
                    .iter()
                    .flat_map(|slot| (0..5).map(|key| (*slot, vec![key])))
                    .collect();
                assert_eq!(found, expected, "{entries_max} entries at a time");
            }
        });
    }

    #[test]
    fn skipped_entries_are_not_visited() {
        on_own_thread(|| {
            let slots = [slot(1, 0), slot(2, 0)];
            let store = store_of(&slots, 6);
            let mut scan = SlotScan::new(slots.into_iter());
            let mut found = Vec::new();
            let mut step = |scan: &mut SlotScan| {
                let group = scan.slot().unwrap().group.0;
                scan.step(&store, 1, &mut |key, _| found.push((group, key[0]))).unwrap();
            };
            step(&mut scan);
            scan.skip_to(vec![3]);
            step(&mut scan);
            scan.skip_slot();
            step(&mut scan);
            assert_eq!(found, [(1, 0), (1, 4), (2, 0)]);
        });
    }
}
