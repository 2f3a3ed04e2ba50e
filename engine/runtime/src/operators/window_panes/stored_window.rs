//! Reading the rows that a window has in the store.

use millstream_state::key_group::KeyGroup;
use millstream_state::store::{KeyPrefix, Store};

use crate::Error;
use crate::operators::keyed_state::{KeyGroupSet, PrefixScan};

/// A scan of the rows of some panes, one key group after the other. Thus all rows of a key are read before those of a
/// key in another key group, and only one key group is in memory at a time.
pub(crate) struct StoredWindow {
    /// Ends of the panes, and the key groups that have rows of each.
    panes: Vec<(i64, KeyGroupSet)>,
    /// Key groups that have not been read, the next one last.
    key_groups: Vec<u16>,
    /// The current key group's rows in all panes.
    scan: PrefixScan,
}

/// The result of a step of a [`StoredWindow`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReadProgress {
    /// The current key group has more rows.
    More,
    /// The current key group has been read completely.
    KeyGroupComplete,
    /// Nothing was read: all key groups have been read before.
    End,
}

impl StoredWindow {
    /// Creates a scan of panes with these ends, which have rows in these key groups.
    pub(crate) fn new(panes: Vec<(i64, KeyGroupSet)>) -> Self {
        let mut key_groups = KeyGroupSet::default();
        for (_, groups) in &panes {
            key_groups.extend(groups.iter());
        }
        Self {
            key_groups: key_groups.iter().rev().collect(),
            panes,
            scan: PrefixScan::default(),
        }
    }

    /// Passes up to `entries_max` entries of the current key group to `visit`, pane by pane, in key order. Requires a
    /// settled store.
    pub(crate) fn read(
        &mut self,
        store: &Store,
        entries_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<ReadProgress, Error> {
        if self.scan.prefix().is_none() {
            let Some(group) = self.key_groups.pop() else {
                return Ok(ReadProgress::End);
            };
            let panes = self.panes.iter().filter(|(_, groups)| groups.contains(group));
            self.scan = PrefixScan::new(panes.map(|(end, _)| KeyPrefix {
                group: KeyGroup(group),
                namespace: *end,
            }));
        }
        self.scan.step(store, entries_max, visit)?;
        Ok(match self.scan.prefix() {
            Some(_) => ReadProgress::More,
            None => ReadProgress::KeyGroupComplete,
        })
    }
}
