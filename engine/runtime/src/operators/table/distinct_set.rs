//! A set of distinct pairs of a group and a value, for `COUNT(DISTINCT)`.
//!
//! A pair is one integer. The hash table contains nothing but these integers and uses linear probing, so a look-up in a
//! table larger than the caches costs one cache miss. A list contains the pairs in the order of their insertion, in
//! chunks that are immutable once full: a snapshot shares the full chunks and copies the last one.

use std::sync::Arc;

/// An empty slot. No pair has this value, because there are fewer groups.
const EMPTY: u64 = u64::MAX;
const SLOTS_MIN: usize = 16;
/// Number of pairs of a full chunk of the list.
const CHUNK_PAIRS: usize = 16_384;

/// A set of pairs.
#[derive(Default)]
pub(super) struct DistinctSet {
    slots: Vec<u64>,
    list: DistinctList,
}

/// Pairs in the order of their insertion.
#[derive(Clone, Default)]
pub(super) struct DistinctList {
    chunks: Vec<Arc<Vec<u64>>>,
    last: Vec<u64>,
}

impl DistinctList {
    /// Returns the number of pairs.
    pub(super) fn len(&self) -> usize {
        self.chunks.len() * CHUNK_PAIRS + self.last.len()
    }

    /// Returns the pairs in the order of their insertion.
    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let chunks = self.chunks.iter().flat_map(|chunk| chunk.iter());
        chunks.chain(&self.last).copied()
    }

    fn push(&mut self, pair: u64) {
        self.last.push(pair);
        if self.last.len() == CHUNK_PAIRS {
            self.chunks.push(Arc::new(std::mem::take(&mut self.last)));
            self.last.reserve_exact(CHUNK_PAIRS);
        }
    }

    /// Returns the bytes of the list.
    pub(super) fn size(&self) -> usize {
        (self.chunks.len() * CHUNK_PAIRS + self.last.capacity()) * size_of::<u64>()
    }
}

impl DistinctSet {
    /// Reserves slots for `more` pairs, so that inserting them does not resize the table.
    pub(super) fn reserve(&mut self, more: usize) {
        let count = self.slots_for(more);
        if count == self.slots.len() {
            return;
        }
        let old = std::mem::replace(&mut self.slots, vec![EMPTY; count]);
        for pair in old.into_iter().filter(|pair| *pair != EMPTY) {
            let mut at = place_of(pair, count);
            while self.slots[at] != EMPTY {
                at = (at + 1) & (count - 1);
            }
            self.slots[at] = pair;
        }
    }

    /// Returns the number of slots for `more` additional pairs, at most two thirds full.
    fn slots_for(&self, more: usize) -> usize {
        let wanted = (self.list.len() + more) * 3 / 2;
        if wanted <= self.slots.len() {
            return self.slots.len();
        }
        wanted.next_power_of_two().max(SLOTS_MIN)
    }

    /// Inserts a pair, for which there must be a free slot. Returns true if it was not in the set.
    #[inline]
    pub(super) fn insert(&mut self, pair: u64) -> bool {
        let mask = self.slots.len() - 1;
        let mut at = place_of(pair, self.slots.len());
        loop {
            match self.slots[at & mask] {
                EMPTY => break,
                other if other == pair => return false,
                _ => at = (at & mask) + 1,
            }
        }
        self.slots[at & mask] = pair;
        self.list.push(pair);
        true
    }

    /// Returns the pairs.
    pub(super) fn list(&self) -> &DistinctList {
        &self.list
    }

    /// Returns the bytes of the set.
    pub(super) fn size(&self) -> usize {
        self.slots.capacity() * size_of::<u64>() + self.list.size()
    }

    /// Returns the bytes needed in addition for `more` pairs.
    pub(super) fn growth(&self, more: usize) -> usize {
        (self.slots_for(more) - self.slots.len() + more) * size_of::<u64>()
    }

    /// Removes all pairs.
    pub(super) fn clear(&mut self) {
        self.slots.fill(EMPTY);
        self.list.chunks.clear();
        self.list.last.clear();
    }
}

#[inline]
fn place_of(pair: u64, slots: usize) -> usize {
    // The top bits of the product depend on all bits of the pair.
    let mixed = (pair ^ (pair >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    (mixed >> (64 - slots.trailing_zeros())) as usize
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_pair_is_new_once_and_a_copy_keeps_what_it_had() {
        let mut pairs = DistinctSet::default();
        let mut known = HashSet::new();
        let mut copy = None;
        for step in 0..(3 * CHUNK_PAIRS as u64) {
            let pair = ((step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 33) % 40_000) << 20;
            pairs.reserve(1);
            assert_eq!(pairs.insert(pair), known.insert(pair));
            if step == 30_000 {
                copy = Some((pairs.list().clone(), known.len()));
            }
        }
        assert_eq!(pairs.list().len(), known.len());
        assert_eq!(pairs.list().iter().collect::<HashSet<_>>(), known);
        let (copy, count) = copy.expect("taken on the way");
        assert_eq!(copy.len(), count);
        assert!(copy.iter().eq(pairs.list().iter().take(count)));
        pairs.clear();
        pairs.reserve(1);
        assert!(pairs.insert(7));
        assert_eq!(pairs.list().len(), 1);
    }
}
