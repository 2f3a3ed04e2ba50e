//! An index of byte strings, for keys that are not integer-like.

use ahash::RandomState;
use hashbrown::HashTable;

use super::{UNKNOWN, vec_growth};
use crate::operators::table::Select;

/// Many byte strings in one buffer.
#[derive(Default)]
pub(super) struct ByteKeys {
    bytes: Vec<u8>,
    /// End of each key in `bytes`.
    pub ends: Vec<usize>,
}

impl ByteKeys {
    #[inline]
    pub(super) fn get(&self, group: u32) -> &[u8] {
        let group = group as usize;
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        &self.bytes[start..self.ends[group]]
    }

    /// Returns some keys, concatenated, and the end of each.
    pub(super) fn gather(&self, select: &Select<'_>) -> (Vec<u8>, Vec<usize>) {
        if let Select::Range(range) = select {
            // Consecutive keys are already concatenated.
            let start = range.start.checked_sub(1).map_or(0, |before| self.ends[before]);
            let ends = &self.ends[range.clone()];
            let end = ends.last().copied().unwrap_or(start);
            return (
                self.bytes[start..end].to_vec(),
                ends.iter().map(|end| end - start).collect(),
            );
        }
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(select.len());
        for group in select.iter() {
            bytes.extend_from_slice(self.get(group));
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    #[inline]
    pub(super) fn push(&mut self, key: &[u8]) -> u32 {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        (self.ends.len() - 1) as u32
    }

    pub(super) fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// An index of byte strings: a hash table of hash and group, with the bytes beside it.
pub(super) struct ByteTable {
    table: HashTable<(u64, u32)>,
    hasher: RandomState,
    pub keys: ByteKeys,
}

impl ByteTable {
    pub(super) fn new() -> Self {
        Self {
            table: HashTable::new(),
            // Fixed seeds for reproducible runs; group numbers do not depend on the hash.
            hasher: RandomState::with_seeds(0x6d69, 0x6c6c, 0x7374, 0x7265),
            keys: ByteKeys::default(),
        }
    }

    #[inline]
    pub(super) fn group_of(&mut self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let keys = &mut self.keys;
        match self.table.entry(
            hash,
            |(other, group)| *other == hash && keys.get(*group) == key,
            |(hash, _)| *hash,
        ) {
            hashbrown::hash_table::Entry::Occupied(entry) => entry.get().1,
            hashbrown::hash_table::Entry::Vacant(entry) => {
                let group = keys.push(key);
                entry.insert((hash, group));
                group
            }
        }
    }

    #[inline]
    pub(super) fn lookup(&self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let is_same = |(other, group): &(u64, u32)| *other == hash && self.keys.get(*group) == key;
        self.table.find(hash, is_same).map_or(UNKNOWN, |(_, group)| *group)
    }

    pub(super) fn reserve(&mut self, groups: usize) {
        self.table.reserve(groups, |(hash, _)| *hash);
        self.keys.ends.reserve(groups);
    }

    pub(super) fn size(&self) -> usize {
        self.table.capacity() * (size_of::<(u64, u32)>() + 1) + self.keys.size()
    }

    pub(super) fn growth(&self, groups: usize) -> usize {
        let held = self.keys.ends.len();
        let table = match held + groups <= self.table.capacity() {
            true => 0,
            false => self.table.capacity().max(groups) * (size_of::<(u64, u32)>() + 1),
        };
        // Assumes that new keys are as long as the present ones on average.
        let bytes = self.keys.bytes.len() / held.max(1) * groups;
        table + vec_growth(&self.keys.ends, groups) + vec_growth(&self.keys.bytes, bytes)
    }

    pub(super) fn freeze(&mut self) {
        self.table = HashTable::new();
    }

    pub(super) fn clear(&mut self) {
        self.table.clear();
        self.keys.clear();
    }
}
