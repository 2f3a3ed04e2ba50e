//! The generations of rows that were written.

use std::collections::BTreeMap;

use super::key_filter::KeyFilter;

/// The generations that the store may have rows of, with filters of their keys.
#[derive(Debug)]
pub(super) struct WrittenGenerations {
    /// `None`: all keys may have rows.
    filters: BTreeMap<u32, Option<KeyFilter>>,
    filter_bytes: usize,
    filter_bytes_max: usize,
}

impl WrittenGenerations {
    pub(super) fn new() -> Self {
        Self {
            filters: BTreeMap::new(),
            filter_bytes: 0,
            filter_bytes_max: usize::MAX,
        }
    }

    /// Returns the bytes of the filters.
    pub(super) fn size(&self) -> usize {
        self.filter_bytes
    }

    /// Bounds the bytes of the filters. The largest ones are given up first.
    pub(super) fn set_filter_bytes_max(&mut self, bytes: usize) {
        self.filter_bytes_max = bytes;
        self.bound();
    }

    /// Returns the numbers of the generations, in ascending order.
    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> + '_ {
        self.filters.keys().copied()
    }

    /// Returns true if the store may have rows of a generation.
    pub(super) fn contains(&self, generation: u32) -> bool {
        self.filters.contains_key(&generation)
    }

    /// Adds a generation whose keys are not known.
    pub(super) fn add_unknown(&mut self, generation: u32) {
        if let Some(filter) = self.filters.insert(generation, None).flatten() {
            self.filter_bytes -= filter.size();
        }
    }

    /// Notes that a row is about to be written. `hash` is that of its key.
    pub(super) fn add(&mut self, generation: u32, hash: u64) {
        let filter = self
            .filters
            .entry(generation)
            .or_insert_with(|| Some(KeyFilter::default()));
        if let Some(filter) = filter {
            self.filter_bytes += filter.add(hash);
            self.bound();
        }
    }

    fn bound(&mut self) {
        while self.filter_bytes > self.filter_bytes_max {
            let largest = self.filters.values_mut().max_by_key(|filter| size(filter));
            let Some(filter) = largest else { break };
            self.filter_bytes -= size(filter);
            *filter = None;
        }
    }

    /// Returns the generations that may have rows of a key.
    #[inline]
    pub(super) fn of_key(&self, hash: u64) -> impl Iterator<Item = u32> + '_ {
        let may_have = move |filter: &Option<KeyFilter>| filter.as_ref().is_none_or(|filter| filter.contains(hash));
        let found = self.filters.iter().filter(move |(_, filter)| may_have(filter));
        found.map(|(generation, _)| *generation)
    }

    /// Forgets generations.
    pub(super) fn remove_where(&mut self, is_removed: impl Fn(u32) -> bool) {
        let filter_bytes = &mut self.filter_bytes;
        self.filters.retain(|generation, filter| {
            let is_removed = is_removed(*generation);
            if is_removed {
                *filter_bytes -= size(filter);
            }
            !is_removed
        });
    }
}

fn size(filter: &Option<KeyFilter>) -> usize {
    filter.as_ref().map_or(0, KeyFilter::size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::hash_of_bytes;

    fn of(generations: &WrittenGenerations, key: u64) -> Vec<u32> {
        generations.of_key(hash_of_bytes(&key.to_le_bytes())).collect()
    }

    #[test]
    fn a_key_is_looked_for_where_it_was_written_and_in_unknown_generations() {
        let mut generations = WrittenGenerations::new();
        generations.add_unknown(7);
        for (generation, key) in [(3, 1), (4, 2), (5, 1), (7, 2)] {
            generations.add(generation, hash_of_bytes(&u64::to_le_bytes(key)));
        }
        assert_eq!(of(&generations, 1), [3, 5, 7]);
        assert_eq!(of(&generations, 2), [4, 7]);
        assert_eq!(of(&generations, 3), [7]);
        generations.remove_where(|generation| generation <= 3);
        assert_eq!(of(&generations, 1), [5, 7]);
    }

    #[test]
    fn filters_are_bounded() {
        let mut generations = WrittenGenerations::new();
        generations.set_filter_bytes_max(20_000);
        for key in 0..100_000u64 {
            generations.add((key % 100 / 99) as u32, hash_of_bytes(&key.to_le_bytes()));
        }
        assert!(generations.size() <= 20_000);
        assert!(generations.size() > 0, "the filter of the small generation is kept");
        let expected = |key: u64| if key % 100 == 99 { vec![0, 1] } else { vec![0] };
        let wrong = (0..1_000)
            .filter(|key| of(&generations, *key) != expected(*key))
            .count();
        assert!(wrong < 20, "{wrong} of 1,000 keys");
        generations.remove_where(|_| true);
        assert_eq!(generations.size(), 0);
    }
}
