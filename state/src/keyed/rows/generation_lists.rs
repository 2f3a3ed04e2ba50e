//! The entries of each generation, so that expiry visits no others.

use std::collections::BTreeMap;

use super::entries::Entries;

/// The lists are made anew when they have more numbers than this, and than twice the entries.
const NUMBERS_MIN: usize = 1_024;

/// Numbers of entries by generation. An entry that was removed, or that changed its generation, remains in its former
/// list, too.
#[derive(Debug, Default)]
pub(super) struct GenerationLists {
    lists: BTreeMap<u32, Vec<u32>>,
    /// Numbers in all lists.
    numbers: usize,
}

impl GenerationLists {
    /// Returns the bytes of the lists, about.
    pub(super) fn size(&self) -> usize {
        self.numbers * size_of::<u32>()
    }

    /// Lists an entry, which is among `entries`, under its generation.
    pub(super) fn add(&mut self, number: u32, generation: u32, entries: &Entries) {
        self.lists.entry(generation).or_default().push(number);
        self.numbers += 1;
        if self.numbers > NUMBERS_MIN && self.numbers > 2 * entries.end() as usize {
            self.renew(entries);
        }
    }

    /// Lists all entries anew.
    pub(super) fn renew(&mut self, entries: &Entries) {
        *self = Self::default();
        for number in 0..entries.end() {
            let entry = &entries[number];
            if entry.is_occupied() {
                self.lists.entry(entry.generation).or_default().push(number);
                self.numbers += 1;
            }
        }
    }

    /// Removes the lists of some generations. Returns each generation with its list.
    pub(super) fn remove_where(&mut self, is_removed: impl Fn(u32) -> bool) -> Vec<(u32, Vec<u32>)> {
        let generations = self.lists.keys().copied();
        let generations: Vec<u32> = generations.filter(|generation| is_removed(*generation)).collect();
        let lists = generations.into_iter().map(|generation| {
            let list = self.lists.remove(&generation).unwrap_or_default();
            (generation, list)
        });
        let removed: Vec<_> = lists.collect();
        self.numbers -= removed.iter().map(|(_, list)| list.len()).sum::<usize>();
        removed
    }
}
