//! The entries of a collection in memory, and the bytes of their rows.

use std::ops::{Index, IndexMut};

use super::super::slot_index::SlotIndex;
use crate::Error;

/// No entry.
pub(super) const NONE: u32 = u32::MAX;
/// The heap is compacted when this many bytes of it, and half of all, are unused.
const HEAP_GARBAGE_BYTES_MIN: usize = 1 << 16;
/// Entries are renumbered when fewer than one in this many are in use.
const SPARSE_SHARE: usize = 4;
const SPARSE_ENTRIES_MIN: usize = 1_024;

/// The entry is in use.
const OCCUPIED: u8 = 1;
/// The entry differs from what was last written.
pub(super) const DIRTY: u8 = 2;
/// The store has, or will have, the entry.
pub(super) const STORED: u8 = 4;
/// The mark of the entry ([`super::Rows::set_mark`]).
pub(super) const MARK: u8 = 8;

/// A row of a key, and its weight.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Hash of key and row, or the sequence number: that of the first row that is stored with this one.
    pub tag: u64,
    pub weight: i64,
    position: usize,
    pub length: u32,
    pub key: u32,
    pub next: u32,
    pub previous: u32,
    pub generation: u32,
    /// Generation under which the store has the entry.
    pub stored_generation: u32,
    /// A number of the caller's, not stored.
    pub count: u32,
    pub flags: u8,
}

impl Entry {
    /// Returns an entry without weight of the key in a slot.
    pub(super) fn new(slot: u32, tag: u64, generation: u32) -> Self {
        Self {
            tag,
            weight: 0,
            position: 0,
            length: 0,
            key: slot,
            next: NONE,
            previous: NONE,
            generation,
            stored_generation: generation,
            count: 0,
            flags: OCCUPIED,
        }
    }

    /// Returns true if the entry is in use.
    pub(super) fn is_occupied(&self) -> bool {
        self.flags & OCCUPIED != 0
    }

    /// Returns true if the entry differs from what was last written.
    pub(super) fn is_dirty(&self) -> bool {
        self.flags & DIRTY != 0
    }

    /// Returns true if the store has, or will have, the entry.
    pub(super) fn is_stored(&self) -> bool {
        self.flags & STORED != 0
    }
}

/// Numbered entries, and a heap of their rows.
#[derive(Default)]
pub(super) struct Entries {
    entries: Vec<Entry>,
    /// Numbers that are not in use.
    free: Vec<u32>,
    heap: Vec<u8>,
    /// Bytes of the heap that are not in use.
    garbage: usize,
}

impl Index<u32> for Entries {
    type Output = Entry;

    #[inline(always)]
    fn index(&self, number: u32) -> &Entry {
        &self.entries[number as usize]
    }
}

impl IndexMut<u32> for Entries {
    #[inline(always)]
    fn index_mut(&mut self, number: u32) -> &mut Entry {
        &mut self.entries[number as usize]
    }
}

impl Entries {
    /// Returns the bytes of the entries and their rows.
    pub(super) fn size(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>() + self.free.capacity() * size_of::<u32>() + self.heap.capacity()
    }

    /// Returns the bytes needed in addition for some more entries, without their rows.
    pub(super) fn growth(&self, more: usize) -> usize {
        let capacity = self.entries.capacity();
        match self.used() + more {
            needed if needed <= capacity => 0,
            needed => (needed.max(2 * capacity) - capacity) * size_of::<Entry>(),
        }
    }

    /// Returns the bytes of an entry and its row, on average.
    pub(super) fn mean_size(&self) -> usize {
        size_of::<Entry>() + self.heap.len() / self.entries.len().max(1)
    }

    /// Returns the number of entries in use.
    fn used(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    /// Returns the first number that was never used.
    pub(super) fn end(&self) -> u32 {
        self.entries.len() as u32
    }

    /// Returns the row of an entry.
    #[inline(always)]
    pub(super) fn bytes(&self, number: u32) -> &[u8] {
        let entry = &self.entries[number as usize];
        &self.heap[entry.position..entry.position + entry.length as usize]
    }

    /// Adds an entry with its row. Returns its number.
    pub(super) fn push(&mut self, entry: Entry, row: &[u8]) -> Result<u32, Error> {
        let entry = Entry {
            position: self.heap.len(),
            length: u32::try_from(row.len())
                .map_err(|_| Error::Limit(format!("a row of state has {} bytes; it has 4 GB at most", row.len())))?,
            ..entry
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.entries[number as usize] = entry;
                number
            }
            None => {
                let number = u32::try_from(self.entries.len()).ok().filter(|number| *number != NONE);
                let number = number.ok_or_else(|| {
                    Error::Limit("a collection has 2^32 - 1 rows in memory; use a greater parallelism".into())
                })?;
                self.entries.push(entry);
                number
            }
        };
        self.heap.extend_from_slice(row);
        Ok(number)
    }

    /// Gives up the number and the row of an entry.
    pub(super) fn free(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        self.garbage += entry.length as usize;
        entry.flags = 0;
        self.free.push(number);
    }

    /// Returns the memory of rows that were given up if they are most of all.
    pub(super) fn compact_heap(&mut self) {
        if self.garbage < HEAP_GARBAGE_BYTES_MIN || self.garbage * 2 < self.heap.len() {
            return;
        }
        let mut heap = Vec::with_capacity(self.heap.len() - self.garbage);
        for entry in self.entries.iter_mut().filter(|entry| entry.is_occupied()) {
            let position = heap.len();
            heap.extend_from_slice(&self.heap[entry.position..entry.position + entry.length as usize]);
            entry.position = position;
        }
        self.heap = heap;
        self.garbage = 0;
    }

    /// Renumbers the entries if most numbers are not in use. Returns the new number of each former one.
    pub(super) fn renumber_if_sparse(&mut self) -> Option<Vec<u32>> {
        if self.used() >= self.entries.len() / SPARSE_SHARE || self.entries.len() < SPARSE_ENTRIES_MIN {
            return None;
        }
        let mut numbers = vec![NONE; self.entries.len()];
        let mut entries = Vec::with_capacity(self.used());
        for (number, entry) in self.entries.iter().enumerate() {
            if entry.is_occupied() {
                numbers[number] = entries.len() as u32;
                entries.push(entry.clone());
            }
        }
        for entry in &mut entries {
            entry.next = renumbered(&numbers, entry.next);
            entry.previous = renumbered(&numbers, entry.previous);
        }
        self.entries = entries;
        self.free = Vec::new();
        Some(numbers)
    }

    /// Returns an index of the entries by their tags.
    pub(super) fn index(&self) -> SlotIndex {
        let mut index = SlotIndex::default();
        for (number, entry) in self.entries.iter().enumerate().filter(|(_, entry)| entry.is_occupied()) {
            index.insert(entry.tag, number as u32, |other| self[other].tag);
        }
        index
    }

    /// Returns the entries that differ from what was last written.
    pub(super) fn dirty(&self) -> Vec<u32> {
        let numbers = (0..self.end()).filter(|number| self[*number].is_dirty());
        numbers.collect()
    }
}

/// Returns the new number of an entry, or [`NONE`] for none.
pub(super) fn renumbered(numbers: &[u32], number: u32) -> u32 {
    match number {
        NONE => NONE,
        number => numbers[number as usize],
    }
}
