//! A collection with many rows per key.
//!
//! The rows of a key are a multiset. Each different row has an *entry*: its bytes, and its weight, the number of times
//! that it is present. Entries of a key are chained. Keys are in memory as a whole or not at all, with one exception:
//! rows can be added to a key whose other rows are only in the store. Such a key is incomplete; the caller completes it
//! by [`Rows::load`] before it reads the key's rows. Filters of the written keys tell most keys that have no rows in
//! the store.
//!
//! In the store, the key of an entry is followed by what identifies the row ([`Identity`]):
//!
//! ```text
//! Content:   key, the row (encoding of keys)      -> weight (i64 LE), mark (u8)
//! Sequence:  key, number of the first row (u64 BE) -> rows, each preceded by its length (u32 LE)
//! ```

mod entries;
mod generation_lists;
mod reading;
mod writing;

use arrow_array::ArrayRef;
use arrow_schema::DataType;

use self::entries::{DIRTY, Entries, Entry, MARK, NONE};
use self::generation_lists::GenerationLists;
pub use self::reading::{DecodedRows, MissingRows};
use super::generations::WrittenGenerations;
use super::layout::Layout;
use super::slot_index::SlotIndex;
use super::table::{Resolved, Table, TableOptions};
use crate::Error;
use crate::encoding::{Codec, EncodedRows};
use crate::hash::hash_of_bytes;
use crate::store::KeyedPrefix;

/// The property that distinguishes the rows of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Identity {
    /// The values of the row. Equal rows have one entry, whose weight may be negative. A key must be complete before
    /// its rows are changed.
    Content,
    /// A sequence number. Rows can only be added, and a key need not be complete for that.
    Sequence,
}

/// Settings of [`Rows`].
#[derive(Debug, Clone)]
pub struct RowsOptions {
    /// Types of the key columns.
    pub keys: Vec<DataType>,
    /// Types of the columns of a row, without the key.
    pub values: Vec<DataType>,
    /// Number of the collection in its operator's store.
    pub collection: u8,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// The property that distinguishes the rows of a key.
    pub identity: Identity,
    /// True if rows belong to generations.
    pub is_expiring: bool,
}

/// A map from keys to multisets of rows. See the [module](self).
pub struct Rows {
    options: RowsOptions,
    /// The keys in memory; its slots number them.
    keys: Table,
    states: Vec<KeyState>,
    entries: Entries,
    /// Entries with [`DIRTY`].
    dirty: Vec<u32>,
    /// Entries whose weight became zero in the present call.
    gone: Vec<u32>,
    /// Keys whose last entry has expired.
    emptied: Vec<u32>,
    /// `None` if rows do not expire.
    by_generation: Option<GenerationLists>,
    /// Entries by key and row, for [`Identity::Content`].
    index: SlotIndex,
    codec: Codec,
    next_sequence: u64,
    written: WrittenGenerations,
}

/// The rows of a key.
#[derive(Debug, Clone)]
struct KeyState {
    first: u32,
    /// Number of entries that are dirty.
    dirty: u32,
    /// Sum of the positive weights.
    visible: i64,
    /// The number that the next row had when the key came to memory: stored rows from it on are in memory.
    since: u64,
    is_complete: bool,
    /// False if entries came from the store, without the caller's numbers.
    has_counts: bool,
}

impl Rows {
    /// Creates an empty collection.
    pub fn new(options: RowsOptions) -> Result<Self, Error> {
        let codec = match options.identity {
            Identity::Content => Codec::keys(&options.values)?,
            Identity::Sequence => Codec::values(&options.values)?,
        };
        let keys = Table::new(TableOptions {
            layout: Layout::new(&options.keys, &[])?,
            collection: options.collection,
            hashed: options.keys.len(),
            max_parallelism: options.max_parallelism,
            is_ordered: false,
            is_expiring: false,
        })?;
        Ok(Self {
            by_generation: options.is_expiring.then(GenerationLists::default),
            options,
            keys,
            states: Vec::new(),
            entries: Entries::default(),
            dirty: Vec::new(),
            gone: Vec::new(),
            emptied: Vec::new(),
            index: SlotIndex::default(),
            codec,
            next_sequence: 0,
            written: WrittenGenerations::new(),
        })
    }

    /// Returns the number of the collection.
    pub fn collection(&self) -> u8 {
        self.options.collection
    }

    /// Returns the number of keys in memory.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Returns true if no key is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the bytes of the collection.
    pub fn size(&self) -> usize {
        self.keys.size()
            + self.states.capacity() * size_of::<KeyState>()
            + self.entries.size()
            + (self.dirty.capacity() + self.gone.capacity()) * size_of::<u32>()
            + self.index.size()
            + self.by_generation.as_ref().map_or(0, GenerationLists::size)
            + self.written.size()
    }

    /// Returns the bytes needed in addition for `rows` more rows of new keys, without the rows' own bytes.
    pub fn growth(&self, rows: usize) -> usize {
        let states = match self.states.len() + rows <= self.states.capacity() {
            true => 0,
            false => (self.states.len() + rows).max(2 * self.states.capacity()) - self.states.capacity(),
        };
        self.keys.growth(rows) + states * size_of::<KeyState>() + self.entries.growth(rows) + self.index.growth(rows)
    }

    /// Returns the bytes of the changed rows, about.
    pub fn dirty_bytes(&self) -> usize {
        self.dirty.len() * self.entries.mean_size()
    }

    /// Bounds the memory of the filters that tell keys that the store does not have. Without a filter, the store is
    /// searched.
    pub fn set_filter_bytes_max(&mut self, bytes: usize) {
        self.written.set_filter_bytes_max(bytes);
    }

    /// Returns the number that the next row gets, which a restored collection continues with.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Returns the generations that the store may have rows of, in ascending order.
    pub fn live_generations(&self) -> impl Iterator<Item = u32> + '_ {
        self.written.numbers()
    }

    /// Returns true if the store may have rows of a generation.
    pub fn is_live(&self, generation: u32) -> bool {
        self.written.contains(generation)
    }

    /// Continues with the sequence number and the generations of a checkpoint. May be called several times, for the
    /// states of several subtasks.
    pub fn restore(&mut self, next_sequence: u64, live: impl IntoIterator<Item = u32>) {
        self.next_sequence = self.next_sequence.max(next_sequence);
        let unbounded = (!self.options.is_expiring).then_some(0);
        live.into_iter()
            .chain(unbounded)
            .for_each(|generation| self.written.add_unknown(generation));
    }

    /// Finds the slots of keys, and adds the keys that are not in memory. Without a store that may have their rows,
    /// these are complete. The caller ends the call by [`Rows::release`].
    pub fn resolve(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        resolved: &mut Resolved,
        store_may_have_rows: bool,
    ) -> Result<(), Error> {
        self.keys.resolve(keys, rows, resolved)?;
        self.add_states(resolved, store_may_have_rows);
        Ok(())
    }

    /// Finds the slots of keys, as [`Rows::resolve`], but adds only those keys that are not in memory and may have rows
    /// in the store. Other keys have no rows; their slot is `u32::MAX`.
    pub fn look_up(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        resolved: &mut Resolved,
        store_may_have_rows: bool,
    ) -> Result<(), Error> {
        let written = &self.written;
        let may_have_rows = |hash: u64| store_may_have_rows && written.of_key(hash).next().is_some();
        self.keys.find(keys, rows, resolved, may_have_rows)?;
        self.add_states(resolved, store_may_have_rows);
        Ok(())
    }

    /// Adds the states of keys that were added.
    fn add_states(&mut self, resolved: &Resolved, store_may_have_rows: bool) {
        let new = KeyState {
            first: NONE,
            dirty: 0,
            visible: 0,
            since: self.next_sequence,
            is_complete: !store_may_have_rows,
            has_counts: true,
        };
        self.states.resize(self.keys.slot_count(), new.clone());
        for slot in &resolved.unknown {
            let is_written = || self.written.of_key(self.keys.hash_of(*slot)).next().is_some();
            self.states[*slot as usize] = KeyState {
                is_complete: !store_may_have_rows || !is_written(),
                ..new.clone()
            };
        }
    }

    fn prefix(&self, slot: u32, generation: u32) -> KeyedPrefix {
        KeyedPrefix {
            generation,
            ..self.keys.prefix(slot, 0)
        }
    }

    /// Encodes rows for [`Rows::insert`] and [`Rows::add`].
    pub fn encode(&self, columns: &[ArrayRef], rows: usize) -> Result<EncodedRows, Error> {
        match columns.is_empty() {
            true => Ok(EncodedRows::empty_rows(rows)),
            false => self.codec.encode(columns),
        }
    }

    /// Returns the columns of some entries.
    pub fn decode(&self, entries: impl IntoIterator<Item = u32>) -> Result<Vec<ArrayRef>, Error> {
        self.codec.decode(entries.into_iter().map(|entry| self.bytes(entry)))
    }

    /// Returns some columns of some entries: those with the numbers `wanted`, which ascend.
    pub fn decode_some(
        &self,
        entries: impl IntoIterator<Item = u32>,
        wanted: &[usize],
    ) -> Result<Vec<ArrayRef>, Error> {
        let rows = entries.into_iter().map(|entry| self.bytes(entry));
        self.codec.decode_some(rows, wanted)
    }

    /// Returns the key columns of some keys.
    pub fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        self.keys.keys(slots)
    }

    /// Returns the key of an entry.
    #[inline(always)]
    pub fn key_of(&self, entry: u32) -> u32 {
        self.entries[entry].key
    }

    /// Returns the encoded row of an entry.
    pub fn bytes(&self, entry: u32) -> &[u8] {
        self.entries.bytes(entry)
    }

    /// Adds a row to a key ([`Identity::Sequence`]).
    pub fn insert(&mut self, slot: u32, row: &[u8], generation: u32) -> Result<u32, Error> {
        debug_assert_eq!(self.options.identity, Identity::Sequence);
        let tag = self.next_sequence;
        self.next_sequence += 1;
        let entry = self.push(slot, tag, row, generation)?;
        self.set_weight(entry, 1);
        self.set_dirty(entry);
        Ok(entry)
    }

    /// Changes the weight of a row of a complete key ([`Identity::Content`]). Returns its entry, and the weight before.
    pub fn add(&mut self, slot: u32, row: &[u8], weight: i64, generation: u32) -> Result<(u32, i64), Error> {
        debug_assert_eq!(self.options.identity, Identity::Content);
        debug_assert!(self.states[slot as usize].is_complete);
        let tag = self.tag(slot, row);
        let entry = match self.find(slot, tag, row) {
            Some(entry) => entry,
            None => self.push(slot, tag, row, generation)?,
        };
        let before = self.entries[entry].weight;
        self.set_weight(entry, before + weight);
        if self.entries[entry].generation != generation {
            self.entries[entry].generation = generation;
            self.list(entry, generation);
        }
        if before + weight == 0 {
            self.gone.push(entry);
        }
        self.set_dirty(entry);
        Ok((entry, before))
    }

    /// Removes a row of a complete key ([`Identity::Content`]).
    pub fn remove_row(&mut self, entry: u32) {
        debug_assert_eq!(self.options.identity, Identity::Content);
        self.set_weight(entry, 0);
        self.gone.push(entry);
        self.set_dirty(entry);
    }

    fn tag(&self, slot: u32, row: &[u8]) -> u64 {
        hash_of_bytes(row) ^ self.keys.hash_of(slot).rotate_left(32)
    }

    fn find(&self, slot: u32, tag: u64, row: &[u8]) -> Option<u32> {
        self.index
            .find(tag, |entry| self.entries[entry].key == slot && self.bytes(entry) == row)
    }

    fn push(&mut self, slot: u32, tag: u64, row: &[u8], generation: u32) -> Result<u32, Error> {
        let next = self.states[slot as usize].first;
        let mut entry = Entry::new(slot, tag, generation);
        entry.next = next;
        let number = self.entries.push(entry, row)?;
        if next != NONE {
            self.entries[next].previous = number;
        }
        self.states[slot as usize].first = number;
        if self.options.identity == Identity::Content {
            let entries = &self.entries;
            self.index.insert(tag, number, |entry| entries[entry].tag);
        }
        self.list(number, generation);
        Ok(number)
    }

    /// Lists an entry under its generation.
    fn list(&mut self, number: u32, generation: u32) {
        if let Some(lists) = &mut self.by_generation {
            lists.add(number, generation, &self.entries);
        }
    }

    fn set_weight(&mut self, entry: u32, weight: i64) {
        let entry = &mut self.entries[entry];
        self.states[entry.key as usize].visible += weight.max(0) - entry.weight.max(0);
        entry.weight = weight;
    }

    fn set_dirty(&mut self, number: u32) {
        let entry = &mut self.entries[number];
        if entry.flags & DIRTY == 0 {
            entry.flags |= DIRTY;
            self.states[entry.key as usize].dirty += 1;
            self.dirty.push(number);
        }
    }

    /// Returns the weight of an entry.
    #[inline(always)]
    pub fn weight(&self, entry: u32) -> i64 {
        self.entries[entry].weight
    }

    /// Returns the sum of the positive weights of a complete key's rows.
    #[inline(always)]
    pub fn visible(&self, slot: u32) -> i64 {
        self.states[slot as usize].visible
    }

    /// Returns the entries of a complete key, in no order; weights may be zero or negative.
    pub fn entries(&self, slot: u32) -> impl Iterator<Item = u32> + '_ {
        let known = |entry: u32| (entry != NONE).then_some(entry);
        std::iter::successors(known(self.first_entry(slot)), move |entry| {
            known(self.next_entry(*entry))
        })
    }

    /// Returns the first entry of a complete key; `u32::MAX` if there is none, or no such key.
    pub fn first_entry(&self, slot: u32) -> u32 {
        self.states.get(slot as usize).map_or(NONE, |state| state.first)
    }

    /// Returns the entry of the same key after an entry; `u32::MAX` if there is none.
    #[inline(always)]
    pub fn next_entry(&self, entry: u32) -> u32 {
        self.entries[entry].next
    }

    /// Returns true if the caller has given all entries of a key their numbers ([`Rows::set_count`]).
    pub fn has_counts(&self, slot: u32) -> bool {
        self.states[slot as usize].has_counts
    }

    /// Notes that all entries of a key have their numbers.
    pub fn set_has_counts(&mut self, slot: u32) {
        self.states[slot as usize].has_counts = true;
    }

    /// Returns the number that the caller gave an entry while it was in memory; 0 if none.
    pub fn count(&self, entry: u32) -> u32 {
        self.entries[entry].count
    }

    /// Sets the caller's number of an entry.
    pub fn set_count(&mut self, entry: u32, count: u32) {
        self.entries[entry].count = count;
    }

    /// Returns the mark of an entry.
    pub fn is_marked(&self, entry: u32) -> bool {
        self.entries[entry].flags & MARK != 0
    }

    /// Sets the mark of an entry, which is part of the state ([`Identity::Content`]).
    pub fn set_mark(&mut self, entry: u32, is_marked: bool) {
        debug_assert_eq!(self.options.identity, Identity::Content);
        if self.is_marked(entry) != is_marked {
            self.entries[entry].flags ^= MARK;
            self.set_dirty(entry);
        }
    }

    /// Ends the call that resolved these keys. Entries without weight are no longer valid.
    pub fn release(&mut self, resolved: &Resolved) {
        for number in std::mem::take(&mut self.gone) {
            let entry = &self.entries[number];
            if entry.weight == 0 && entry.is_occupied() && !entry.is_stored() {
                self.remove(number);
            }
        }
        self.keys.release(resolved);
        self.entries.compact_heap();
    }

    /// Removes an entry from memory. A dirty one stays in the list of dirty ones, which is looked through at the next
    /// freeze.
    fn remove(&mut self, number: u32) {
        if self.options.identity == Identity::Content {
            let entries = &self.entries;
            self.index.remove(number, |entry| entries[entry].tag);
        }
        let entry = &self.entries[number];
        let (next, previous) = (entry.next, entry.previous);
        let state = &mut self.states[entry.key as usize];
        state.visible -= entry.weight.max(0);
        state.dirty -= u32::from(entry.is_dirty());
        match previous {
            NONE => state.first = next,
            previous => self.entries[previous].next = next,
        }
        if next != NONE {
            self.entries[next].previous = previous;
        }
        self.entries.free(number);
    }

    /// Returns up to `keys_max` keys in memory, from the slot `from` on, and the slot after the last one that was
    /// looked at; `None` at the end.
    pub fn slots(&self, from: u32, keys_max: usize) -> (Vec<u32>, Option<u32>) {
        let mut slots = Vec::new();
        for slot in from..self.keys.slot_count() as u32 {
            if slots.len() == keys_max {
                return (slots, Some(slot));
            }
            if self.keys.is_occupied(slot) {
                slots.push(slot);
            }
        }
        (slots, None)
    }

    /// Removes all keys from memory, whether they were written or not.
    pub fn clear(&mut self) {
        self.keys.clear();
        self.states.clear();
        self.entries = Entries::default();
        self.dirty = Vec::new();
        self.gone = Vec::new();
        self.emptied = Vec::new();
        self.by_generation = self.options.is_expiring.then(GenerationLists::default);
        self.index = SlotIndex::default();
    }
}
