//! Writing changed rows of a [`Rows`] collection to the store, and removing rows from memory.

use super::entries::{DIRTY, Entry, MARK, NONE, STORED, renumbered};
use super::{Identity, Rows};
use crate::keyed::flush_rows::{FrozenRows, Item};

/// Rows of one key that are stored together, if they have sequence numbers.
const CHUNK_ROWS_MAX: usize = 256;
const CHUNK_BYTES_MAX: usize = 16 << 10;

impl Rows {
    /// Freezes changed rows, at most `rows_max`, to be written. They count as written from now on: the flush must be
    /// queued in the store before the collection is used again. `None` if nothing has changed.
    pub fn freeze(&mut self, rows_max: usize) -> Option<FrozenRows> {
        let mut dirty = self.dirty.split_off(self.dirty.len().saturating_sub(rows_max));
        dirty.retain(|entry| self.entries[*entry].flags & DIRTY != 0);
        // An entry that was removed and used again is in the list twice.
        dirty.sort_unstable_by_key(|entry| {
            let Entry { key, tag, .. } = self.entries[*entry];
            (key, tag, *entry)
        });
        dirty.dedup();
        let mut slots: Vec<u32> = dirty.iter().map(|entry| self.entries[*entry].key).collect();
        slots.dedup();
        let mut frozen = FrozenRows::new(self.keys.codec().clone(), self.keys.copy_rows(&slots));
        let mut at = 0;
        for (key, slot) in slots.iter().enumerate() {
            let end = at + dirty[at..].partition_point(|entry| self.entries[*entry].key == *slot);
            match self.options.identity {
                Identity::Content => dirty[at..end]
                    .iter()
                    .for_each(|entry| self.freeze_row(*entry, key, &mut frozen)),
                Identity::Sequence => self.freeze_chunks(&dirty[at..end], key, &mut frozen),
            }
            self.states[*slot as usize].dirty -= (end - at) as u32;
            at = end;
        }
        if self.dirty.is_empty() {
            self.dirty = Vec::new();
        }
        (!frozen.is_empty()).then_some(frozen)
    }

    fn freeze_row(&mut self, number: u32, key: usize, frozen: &mut FrozenRows) {
        let Entry {
            key: slot,
            weight,
            generation,
            stored_generation,
            flags,
            ..
        } = self.entries[number];
        let is_stored = flags & STORED != 0;
        self.entries[number].flags &= !DIRTY;
        if is_stored && (weight == 0 || generation != stored_generation) {
            let prefix = self.prefix(slot, stored_generation);
            frozen.push(Item::delete(key, prefix), self.bytes(number), &[]);
        }
        if weight == 0 {
            self.remove(number);
            return;
        }
        let mut value = weight.to_le_bytes().to_vec();
        value.push(u8::from(flags & MARK != 0));
        frozen.push(
            Item::put(key, self.prefix(slot, generation)),
            self.bytes(number),
            &value,
        );
        let entry = &mut self.entries[number];
        entry.flags |= STORED;
        entry.stored_generation = generation;
        self.written.add(generation, self.keys.hash_of(slot));
    }

    /// Freezes rows of one key, in the order of their numbers.
    fn freeze_chunks(&mut self, dirty: &[u32], key: usize, frozen: &mut FrozenRows) {
        let mut at = 0;
        while at < dirty.len() {
            let Entry {
                key: slot,
                tag,
                generation,
                ..
            } = self.entries[dirty[at]];
            let mut chunk = Vec::new();
            let mut rows = 0;
            while let Some(number) = dirty.get(at) {
                let is_alike = self.entries[*number].generation == generation;
                let length = self.entries[*number].length;
                let is_full = rows == CHUNK_ROWS_MAX || chunk.len() + length as usize > CHUNK_BYTES_MAX;
                if !is_alike || (rows > 0 && is_full) {
                    break;
                }
                chunk.extend_from_slice(&length.to_le_bytes());
                chunk.extend_from_slice(self.bytes(*number));
                let entry = &mut self.entries[*number];
                entry.flags = (entry.flags & !DIRTY) | STORED;
                entry.tag = tag;
                rows += 1;
                at += 1;
            }
            frozen.push(
                Item::put(key, self.prefix(slot, generation)),
                &tag.to_be_bytes(),
                &chunk,
            );
            self.written.add(generation, self.keys.hash_of(slot));
        }
    }

    /// Removes up to `keys_max` keys from memory whose rows are unchanged, those first that were not used for some
    /// time. All that was frozen must have been written. Returns the number of removed keys.
    pub fn evict(&mut self, keys_max: usize) -> usize {
        let states = &self.states;
        let slots = self.keys.evict_where(keys_max, |slot| states[slot as usize].dirty == 0);
        for slot in &slots {
            self.remove_rows(*slot);
        }
        self.entries.compact_heap();
        slots.len()
    }

    fn remove_rows(&mut self, slot: u32) {
        let entries: Vec<u32> = self.entries(slot).collect();
        entries.into_iter().for_each(|entry| self.remove(entry));
    }

    /// Returns memory if most keys or entries are not in use.
    pub fn shrink_if_sparse(&mut self) {
        if let Some(used) = self.keys.shrink() {
            self.states = used.iter().map(|slot| self.states[*slot as usize].clone()).collect();
            for (slot, state) in self.states.iter().enumerate() {
                let mut entry = state.first;
                while entry != NONE {
                    self.entries[entry].key = slot as u32;
                    entry = self.entries[entry].next;
                }
            }
        }
        if let Some(numbers) = self.entries.renumber_if_sparse() {
            for state in &mut self.states {
                state.first = renumbered(&numbers, state.first);
            }
            self.dirty = self.entries.dirty();
            if self.options.identity == Identity::Content {
                self.index = self.entries.index();
            }
            if let Some(lists) = &mut self.by_generation {
                lists.renew(&self.entries);
            }
        }
    }

    /// Removes the rows of expired generations from memory, and calls `visit` for each before. They are no longer
    /// looked for in the store. Keys remain until [`Rows::forget_empty_keys`]. Must not be called between
    /// [`Rows::resolve`] and [`Rows::release`].
    pub fn expire(&mut self, is_expired: impl Fn(u32) -> bool, mut visit: impl FnMut(&Self, u32)) {
        let lists = self.by_generation.as_mut();
        let expired = lists.map(|lists| lists.remove_where(&is_expired)).unwrap_or_default();
        for (generation, numbers) in expired {
            for number in numbers {
                let entry = &self.entries[number];
                let key = entry.key;
                if entry.is_occupied() && entry.generation == generation {
                    visit(self, number);
                    self.remove(number);
                    if self.states[key as usize].first == NONE {
                        self.emptied.push(key);
                    }
                }
            }
        }
        self.written.remove_where(is_expired);
        self.entries.compact_heap();
    }

    /// Removes keys from memory all of whose rows have expired. Must not be called between [`Rows::resolve`] and
    /// [`Rows::release`].
    pub fn forget_empty_keys(&mut self) {
        if self.emptied.is_empty() {
            return;
        }
        for slot in std::mem::take(&mut self.emptied) {
            if self.states[slot as usize].first == NONE && self.keys.is_occupied(slot) {
                self.keys.vacate(slot);
            }
        }
        self.shrink_if_sparse();
    }
}
