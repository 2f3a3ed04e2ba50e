//! Scans over several key prefixes of a store, a bounded number of entries at a time.

use millstream_state::store::{KeyPrefix, Store};

use crate::Error;

/// A scan over the entries of some key prefixes, one after the other.
#[derive(Debug, Default)]
pub(crate) struct PrefixScan {
    /// Prefixes whose entries are not read completely, the current one last.
    prefixes: Vec<KeyPrefix>,
    /// Key after which the current prefix is continued.
    after: Option<Vec<u8>>,
}

impl PrefixScan {
    /// Creates a scan over these prefixes, in this order.
    pub(crate) fn new(prefixes: impl DoubleEndedIterator<Item = KeyPrefix>) -> Self {
        Self {
            prefixes: prefixes.rev().collect(),
            after: None,
        }
    }

    /// Returns the prefix that is read next, or `None` at the end.
    pub(crate) fn prefix(&self) -> Option<KeyPrefix> {
        self.prefixes.last().copied()
    }

    /// Passes the next entries of the current prefix to `visit`, in key order and at most `entries_max` of them.
    /// Returns true if the prefix has no more entries; the scan is at the next prefix then.
    pub(crate) fn step(
        &mut self,
        store: &Store,
        entries_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Error> {
        let Some(prefix) = self.prefix() else {
            return Ok(true);
        };
        let mut last: Option<Vec<u8>> = None;
        let more = store.scan(prefix, self.after.as_deref(), entries_max, &mut |key, value| {
            let last = last.get_or_insert_default();
            last.clear();
            last.extend_from_slice(key);
            visit(key, value);
        })?;
        if more && last.is_some() {
            self.after = last;
            return Ok(false);
        }
        self.skip_prefix();
        Ok(true)
    }

    /// Continues the current prefix after this key, which is after all keys read so far.
    pub(crate) fn skip_to(&mut self, key: Vec<u8>) {
        debug_assert!(
            self.after.as_ref().is_none_or(|after| *after <= key),
            "a scan goes forward"
        );
        self.after = Some(key);
    }

    /// Leaves the rest of the current prefix unread.
    pub(crate) fn skip_prefix(&mut self) {
        self.prefixes.pop();
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

    struct Entries(Vec<(KeyPrefix, Vec<u8>)>);

    impl FlushSource for Entries {
        fn next_chunk(&mut self) -> Result<Option<WriteChunk>, millstream_state::Error> {
            let mut chunk = WriteChunk::default();
            for (prefix, key) in std::mem::take(&mut self.0) {
                chunk.put(prefix, &key, b"value");
            }
            Ok((!chunk.is_empty()).then_some(chunk))
        }
    }

    fn prefix(group: u16, namespace: i64) -> KeyPrefix {
        KeyPrefix {
            group: KeyGroup(group),
            namespace,
        }
    }

    /// Returns a store that has the keys 0 to `keys` (one byte each) in every prefix.
    fn store_of(prefixes: &[KeyPrefix], keys: u8) -> Store {
        let mut store = context(1 << 30).store;
        let entries = prefixes
            .iter()
            .flat_map(|prefix| (0..keys).map(|key| (*prefix, vec![key])));
        store.write(Box::new(Entries(entries.collect())), None).unwrap();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !store.poll_idle(Waker::noop()).unwrap() {
            assert!(Instant::now() < deadline, "the store does not settle");
            std::thread::yield_now();
        }
        store
    }

    #[test]
    fn every_entry_of_every_prefix_is_visited_once_in_order() {
        on_own_thread(|| {
            let prefixes = [prefix(1, -5), prefix(1, 7), prefix(3, 2)];
            let store = store_of(&prefixes, 5);
            for entries_max in [1, 2, 5, 100] {
                // A prefix without entries lies between the others.
                let scanned = [prefixes[0], prefixes[1], prefix(2, 0), prefixes[2]];
                let mut scan = PrefixScan::new(scanned.into_iter());
                let mut found = Vec::new();
                while let Some(current) = scan.prefix() {
                    let is_end = scan
                        .step(&store, entries_max, &mut |key, _| found.push((current, key.to_vec())))
                        .unwrap();
                    assert_eq!(is_end, scan.prefix() != Some(current));
                }
                let expected: Vec<_> = prefixes
                    .iter()
                    .flat_map(|prefix| (0..5).map(|key| (*prefix, vec![key])))
                    .collect();
                assert_eq!(found, expected, "{entries_max} entries at a time");
            }
        });
    }

    #[test]
    fn skipped_entries_are_not_visited() {
        on_own_thread(|| {
            let prefixes = [prefix(1, 0), prefix(2, 0)];
            let store = store_of(&prefixes, 6);
            let mut scan = PrefixScan::new(prefixes.into_iter());
            let mut found = Vec::new();
            let mut step = |scan: &mut PrefixScan| {
                let group = scan.prefix().unwrap().group.0;
                scan.step(&store, 1, &mut |key, _| found.push((group, key[0]))).unwrap();
            };
            step(&mut scan);
            scan.skip_to(vec![3]);
            step(&mut scan);
            scan.skip_prefix();
            step(&mut scan);
            assert_eq!(found, [(1, 0), (1, 4), (2, 0)]);
        });
    }
}
