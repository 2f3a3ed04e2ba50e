//! A hash index of slots: an open-addressing table with linear probing.
//!
//! An entry is 8 bytes: the lower half of the key's hash, to compare, and the number of the slot. The position of an
//! entry depends on all bits of the hash, because a subtask owns only some values of its remainder by the number of key
//! groups.

/// Entries of the smallest table.
const ENTRIES_MIN: usize = 64;
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A table of slots by the hashes of their keys. Different slots may have equal hashes.
#[derive(Debug, Default)]
pub(crate) struct SlotIndex {
    /// Hash (upper half), and slot + 1 (lower half); 0 is free.
    entries: Vec<u64>,
    /// 64 - log2 of the number of entries.
    shift: u32,
    used: usize,
}

/// Asks the processor to load the cache line of an element, where it takes such requests.
#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
pub(crate) fn prefetch<T>(_elements: &[T], _at: usize) {}

/// Asks the processor to load the cache line of an element.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn prefetch<T>(elements: &[T], at: usize) {
    if at < elements.len() {
        // SAFETY: the address is that of an element; a prefetch has no effect on memory anyway.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(elements.as_ptr().add(at).cast());
        }
    }
}

impl SlotIndex {
    /// Returns the bytes of the index.
    pub(crate) fn size(&self) -> usize {
        self.entries.capacity() * size_of::<u64>()
    }

    /// Returns the bytes needed in addition for `more` slots, including the former table while it is being resized.
    pub(crate) fn growth(&self, more: usize) -> usize {
        match Self::entries_for(self.used + more) {
            entries if entries > self.entries.len() => entries * size_of::<u64>(),
            _ => 0,
        }
    }

    /// Returns the number of entries for `used` slots: at most 5/8 of them are in use.
    fn entries_for(used: usize) -> usize {
        (used * 8 / 5 + 1).next_power_of_two().max(ENTRIES_MIN)
    }

    #[inline(always)]
    fn position(&self, hash: u64) -> usize {
        (hash.wrapping_mul(MULTIPLIER) >> self.shift) as usize
    }

    #[inline(always)]
    fn mask(&self) -> usize {
        self.entries.len() - 1
    }

    /// Asks the processor to load the entry of a hash.
    #[inline(always)]
    pub(crate) fn prefetch(&self, hash: u64) {
        if !self.entries.is_empty() {
            prefetch(&self.entries, self.position(hash));
        }
    }

    /// Returns the first slot with this hash that `is_equal` accepts.
    #[inline(always)]
    pub(crate) fn find(&self, hash: u64, mut is_equal: impl FnMut(u32) -> bool) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        let mut at = self.position(hash);
        loop {
            let entry = self.entries[at];
            if entry == 0 {
                return None;
            }
            if (entry >> 32) as u32 == hash as u32 {
                let slot = entry as u32 - 1;
                if is_equal(slot) {
                    return Some(slot);
                }
            }
            at = (at + 1) & self.mask();
        }
    }

    /// Adds a slot. `hash_of` returns the hashes of the slots that are in the index.
    pub(crate) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let entries = Self::entries_for(self.used + 1);
        if entries > self.entries.len() {
            self.resize(entries, hash_of);
        }
        self.place(hash, slot);
        self.used += 1;
    }

    fn place(&mut self, hash: u64, slot: u32) {
        let mut at = self.position(hash);
        while self.entries[at] != 0 {
            at = (at + 1) & self.mask();
        }
        self.entries[at] = hash << 32 | u64::from(slot + 1);
    }

    fn resize(&mut self, entries: usize, hash_of: impl Fn(u32) -> u64) {
        let former = std::mem::replace(&mut self.entries, vec![0; entries]);
        self.shift = 64 - entries.trailing_zeros();
        for entry in former.into_iter().filter(|entry| *entry != 0) {
            let slot = entry as u32 - 1;
            self.place(hash_of(slot), slot);
        }
    }

    /// Removes a slot, which is in the index. `hash_of` returns the hashes of the slots that are in the index.
    pub(crate) fn remove(&mut self, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let mut hole = self.position(hash_of(slot));
        while self.entries[hole] as u32 != slot + 1 {
            debug_assert!(self.entries[hole] != 0, "slot {slot} is not in the index");
            hole = (hole + 1) & self.mask();
        }
        // Later entries of the same run move up, unless they would be before their position.
        let mut at = hole;
        loop {
            at = (at + 1) & self.mask();
            let entry = self.entries[at];
            if entry == 0 {
                break;
            }
            let home = self.position(hash_of(entry as u32 - 1));
            let distance = |from: usize, to: usize| to.wrapping_sub(from) & self.mask();
            if distance(home, at) >= distance(hole, at) {
                self.entries[hole] = entry;
                hole = at;
            }
        }
        self.entries[hole] = 0;
        self.used -= 1;
    }
}
