//! A collection with many rows per key.
//!
//! The rows of a key are a multiset. Each different row has an *entry*: its bytes, and its weight, the number of times
//! that it is present. Entries of a key are chained. Keys are in memory as a whole or not at all, with one exception:
//! rows can be added to a key whose other rows are only in the store. Such a key is incomplete; the caller completes it
//! by [`Rows::load`] before it reads the key's rows.
//!
//! In the store, the key of an entry is followed by what identifies the row ([`Identity`]):
//!
//! ```text
//! Content:   key, the row (encoding of keys)      -> weight (i64 LE), mark (u8)
//! Sequence:  key, number of the first row (u64 BE) -> rows, each preceded by its length (u32 LE)
//! ```

use std::collections::BTreeSet;

use arrow_array::ArrayRef;
use arrow_schema::DataType;

use super::flush_rows::{FrozenRows, Item};
use super::layout::Layout;
use super::slot_index::SlotIndex;
use super::table::{Resolved, Table, TableOptions};
use crate::Error;
use crate::encoding::{Codec, EncodedRows};
use crate::hash::hash_of_bytes;
use crate::store::{KeyedPrefix, StoreKeys, StoredRows, key_after_prefix};

/// No entry.
const NONE: u32 = u32::MAX;
/// The heap is compacted when this many bytes of it, and half of all, are unused.
const HEAP_GARBAGE_BYTES_MIN: usize = 1 << 16;
/// Entries are renumbered when fewer than one in this many are in use.
const SPARSE_SHARE: usize = 4;
const SPARSE_ENTRIES_MIN: usize = 1_024;
/// Rows of one key that are stored together, if they have sequence numbers.
const CHUNK_ROWS_MAX: usize = 256;
const CHUNK_BYTES_MAX: usize = 16 << 10;

/// The entry is in use.
const OCCUPIED: u8 = 1;
/// The entry differs from what was last written.
const DIRTY: u8 = 2;
/// The store has, or will have, the entry.
const STORED: u8 = 4;
/// The mark of the entry ([`Rows::set_mark`]).
const MARK: u8 = 8;

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

/// Rows that were read from the store.
pub struct DecodedRows {
    /// The key columns.
    pub keys: Vec<ArrayRef>,
    /// The columns of the rows.
    pub values: Vec<ArrayRef>,
    /// The weight of each row.
    pub weights: Vec<i64>,
}

/// A map from keys to multisets of rows. See the [module](self).
pub struct Rows {
    options: RowsOptions,
    /// The keys in memory; its slots number them.
    keys: Table,
    states: Vec<KeyState>,
    entries: Vec<Entry>,
    /// Entries that are not in use.
    free: Vec<u32>,
    /// Entries with [`DIRTY`].
    dirty: Vec<u32>,
    /// Entries whose weight became zero in the present call.
    gone: Vec<u32>,
    /// Keys whose last entry has expired.
    emptied: Vec<u32>,
    /// Entries by key and row, for [`Identity::Content`].
    index: SlotIndex,
    heap: Vec<u8>,
    garbage: usize,
    codec: Codec,
    next_sequence: u64,
    /// Generations that the store may have rows of.
    live: BTreeSet<u32>,
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

#[derive(Debug, Clone)]
struct Entry {
    /// Hash of key and row, or the sequence number: that of the first row that is stored with this one.
    tag: u64,
    weight: i64,
    position: usize,
    length: u32,
    key: u32,
    next: u32,
    previous: u32,
    generation: u32,
    /// Generation under which the store has the entry.
    stored_generation: u32,
    /// A number of the caller's, not stored.
    count: u32,
    flags: u8,
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
            options,
            keys,
            states: Vec::new(),
            entries: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            gone: Vec::new(),
            emptied: Vec::new(),
            index: SlotIndex::default(),
            heap: Vec::new(),
            garbage: 0,
            codec,
            next_sequence: 0,
            live: BTreeSet::new(),
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
            + self.entries.capacity() * size_of::<Entry>()
            + (self.free.capacity() + self.dirty.capacity() + self.gone.capacity()) * size_of::<u32>()
            + self.index.size()
            + self.heap.capacity()
    }

    /// Returns the bytes needed in addition for `rows` more rows of new keys, without the rows' own bytes.
    pub fn growth(&self, rows: usize) -> usize {
        let grown = |used: usize, capacity: usize, size: usize| match used + rows <= capacity {
            true => 0,
            false => (used + rows).max(2 * capacity).saturating_sub(capacity) * size,
        };
        let used = self.entries.len() - self.free.len().min(self.entries.len());
        self.keys.growth(rows)
            + grown(self.states.len(), self.states.capacity(), size_of::<KeyState>())
            + grown(used, self.entries.capacity(), size_of::<Entry>())
            + self.index.growth(rows)
    }

    /// Returns the bytes of the changed rows, about.
    pub fn dirty_bytes(&self) -> usize {
        match self.entries.len() {
            0 => 0,
            entries => self.dirty.len() * (size_of::<Entry>() + self.heap.len() / entries),
        }
    }

    /// Returns the number that the next row gets, which a restored collection continues with.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Returns the generations that the store may have rows of.
    pub fn live_generations(&self) -> &BTreeSet<u32> {
        &self.live
    }

    /// Continues with the sequence number and the generations of a checkpoint. May be called several times, for the
    /// states of several subtasks.
    pub fn restore(&mut self, next_sequence: u64, live: impl IntoIterator<Item = u32>) {
        self.next_sequence = self.next_sequence.max(next_sequence);
        self.live.extend(live);
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
            self.states[*slot as usize] = new.clone();
        }
        Ok(())
    }

    /// Returns those of the resolved keys whose rows must be read from the store before they are used.
    pub fn incomplete(&self, resolved: &Resolved) -> Vec<u32> {
        let slots = resolved.distinct.iter().copied();
        slots.filter(|slot| !self.states[*slot as usize].is_complete).collect()
    }

    /// Returns the prefixes of the rows of some keys in the store: one per key and generation.
    pub fn store_prefixes(&self, slots: &[u32]) -> Result<StoreKeys, Error> {
        let encoded = self.keys.encoded_keys(slots)?;
        let mut prefixes = StoreKeys::default();
        for (slot, key) in slots.iter().zip(encoded.iter()) {
            for generation in self.stored_generations() {
                prefixes.push(self.prefix(*slot, generation), key);
            }
        }
        Ok(prefixes)
    }

    fn stored_generations(&self) -> Vec<u32> {
        match self.options.is_expiring {
            true => self.live.iter().copied().collect(),
            false => vec![0],
        }
    }

    fn prefix(&self, slot: u32, generation: u32) -> KeyedPrefix {
        KeyedPrefix {
            generation,
            ..self.keys.prefix(slot, 0)
        }
    }

    /// Completes keys: adds the rows that the store has under their [prefixes](Rows::store_prefixes), those of
    /// `generations` per key.
    pub fn load(&mut self, slots: &[u32], found: &[StoredRows]) -> Result<(), Error> {
        let generations = self.stored_generations();
        debug_assert_eq!(slots.len() * generations.len(), found.len());
        for (nth, slot) in slots.iter().enumerate() {
            let parts = &found[nth * generations.len()..(nth + 1) * generations.len()];
            for (rows, generation) in parts.iter().zip(&generations) {
                for at in 0..rows.keys.len() {
                    if let (Some(suffix), Some(value)) = (rows.keys.get(at), rows.values.get(at)) {
                        self.load_entry(*slot, suffix, value, *generation)?;
                    }
                }
            }
            self.states[*slot as usize].is_complete = true;
        }
        Ok(())
    }

    fn load_entry(&mut self, slot: u32, suffix: &[u8], value: &[u8], generation: u32) -> Result<(), Error> {
        match self.options.identity {
            Identity::Content => {
                let (weight, is_marked) = decode_weight(value)?;
                let tag = self.tag(slot, suffix);
                if self.find(slot, tag, suffix).is_none() {
                    let entry = self.push(slot, tag, suffix, generation)?;
                    self.set_weight(entry, weight);
                    self.entries[entry as usize].flags |= STORED | if is_marked { MARK } else { 0 };
                    self.states[slot as usize].has_counts = false;
                }
            }
            Identity::Sequence => {
                let first = u64::from_be_bytes(suffix.try_into().map_err(|_| corrupt())?);
                if first >= self.states[slot as usize].since {
                    return Ok(());
                }
                for row in chunk_rows(value)? {
                    let entry = self.push(slot, first, row, generation)?;
                    self.set_weight(entry, 1);
                    self.entries[entry as usize].flags |= STORED;
                    self.states[slot as usize].has_counts = false;
                }
            }
        }
        Ok(())
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

    /// Returns the columns of rows as the store has them ([`Identity::Content`]): the part of a row's key after the key
    /// of the collection.
    pub fn decode_stored<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>, Error> {
        self.codec.decode(rows)
    }

    /// Returns the key columns of some keys.
    pub fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        self.keys.keys(slots)
    }

    /// Returns the key of an entry.
    #[inline(always)]
    pub fn key_of(&self, entry: u32) -> u32 {
        self.entries[entry as usize].key
    }

    /// Returns the encoded row of an entry.
    pub fn bytes(&self, entry: u32) -> &[u8] {
        let entry = &self.entries[entry as usize];
        &self.heap[entry.position..entry.position + entry.length as usize]
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
        let before = self.entries[entry as usize].weight;
        self.set_weight(entry, before + weight);
        self.entries[entry as usize].generation = generation;
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
        self.index.find(tag, |entry| {
            self.entries[entry as usize].key == slot && self.bytes(entry) == row
        })
    }

    fn push(&mut self, slot: u32, tag: u64, row: &[u8], generation: u32) -> Result<u32, Error> {
        let entry = Entry {
            tag,
            weight: 0,
            position: self.heap.len(),
            length: u32::try_from(row.len())
                .map_err(|_| Error::Limit(format!("a row of state has {} bytes; it has 4 GB at most", row.len())))?,
            key: slot,
            next: self.states[slot as usize].first,
            previous: NONE,
            generation,
            stored_generation: generation,
            count: 0,
            flags: OCCUPIED,
        };
        self.heap.extend_from_slice(row);
        let next = entry.next;
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
        if next != NONE {
            self.entries[next as usize].previous = number;
        }
        self.states[slot as usize].first = number;
        if self.options.identity == Identity::Content {
            let entries = &self.entries;
            self.index.insert(tag, number, |entry| entries[entry as usize].tag);
        }
        Ok(number)
    }

    fn set_weight(&mut self, entry: u32, weight: i64) {
        let entry = &mut self.entries[entry as usize];
        self.states[entry.key as usize].visible += weight.max(0) - entry.weight.max(0);
        entry.weight = weight;
    }

    fn set_dirty(&mut self, number: u32) {
        let entry = &mut self.entries[number as usize];
        if entry.flags & DIRTY == 0 {
            entry.flags |= DIRTY;
            self.states[entry.key as usize].dirty += 1;
            self.dirty.push(number);
        }
    }

    /// Returns the weight of an entry.
    #[inline(always)]
    pub fn weight(&self, entry: u32) -> i64 {
        self.entries[entry as usize].weight
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

    /// Returns the first entry of a complete key; `u32::MAX` if there is none.
    pub fn first_entry(&self, slot: u32) -> u32 {
        self.states[slot as usize].first
    }

    /// Returns the entry of the same key after an entry; `u32::MAX` if there is none.
    #[inline(always)]
    pub fn next_entry(&self, entry: u32) -> u32 {
        self.entries[entry as usize].next
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
        self.entries[entry as usize].count
    }

    /// Sets the caller's number of an entry.
    pub fn set_count(&mut self, entry: u32, count: u32) {
        self.entries[entry as usize].count = count;
    }

    /// Returns the mark of an entry.
    pub fn is_marked(&self, entry: u32) -> bool {
        self.entries[entry as usize].flags & MARK != 0
    }

    /// Sets the mark of an entry, which is part of the state ([`Identity::Content`]).
    pub fn set_mark(&mut self, entry: u32, is_marked: bool) {
        debug_assert_eq!(self.options.identity, Identity::Content);
        if self.is_marked(entry) != is_marked {
            self.entries[entry as usize].flags ^= MARK;
            self.set_dirty(entry);
        }
    }

    /// Ends the call that resolved these keys. Entries without weight are no longer valid.
    pub fn release(&mut self, resolved: &Resolved) {
        for entry in std::mem::take(&mut self.gone) {
            let Entry { weight, flags, .. } = self.entries[entry as usize];
            if weight == 0 && flags & OCCUPIED != 0 && flags & STORED == 0 {
                self.remove(entry);
            }
        }
        self.keys.release(resolved);
        self.compact_heap();
    }

    /// Removes an entry from memory.
    fn remove(&mut self, number: u32) {
        let Entry {
            key,
            next,
            previous,
            weight,
            length,
            flags,
            ..
        } = self.entries[number as usize];
        if self.options.identity == Identity::Content {
            let entries = &self.entries;
            self.index.remove(number, |entry| entries[entry as usize].tag);
        }
        let state = &mut self.states[key as usize];
        state.visible -= weight.max(0);
        state.dirty -= u32::from(flags & DIRTY != 0);
        match previous {
            NONE => state.first = next,
            previous => self.entries[previous as usize].next = next,
        }
        if next != NONE {
            self.entries[next as usize].previous = previous;
        }
        self.garbage += length as usize;
        // A dirty entry stays in the list of dirty ones, which is looked through at the next freeze.
        self.entries[number as usize].flags = 0;
        self.free.push(number);
    }

    fn compact_heap(&mut self) {
        if self.garbage < HEAP_GARBAGE_BYTES_MIN || self.garbage * 2 < self.heap.len() {
            return;
        }
        let mut heap = Vec::with_capacity(self.heap.len() - self.garbage);
        for entry in self.entries.iter_mut().filter(|entry| entry.flags & OCCUPIED != 0) {
            let position = heap.len();
            heap.extend_from_slice(&self.heap[entry.position..entry.position + entry.length as usize]);
            entry.position = position;
        }
        self.heap = heap;
        self.garbage = 0;
    }

    /// Freezes changed rows, at most `rows_max`, to be written. They count as written from now on: the flush must be
    /// queued in the store before the collection is used again. `None` if nothing has changed.
    pub fn freeze(&mut self, rows_max: usize) -> Option<FrozenRows> {
        let mut dirty = self.dirty.split_off(self.dirty.len().saturating_sub(rows_max));
        dirty.retain(|entry| self.entries[*entry as usize].flags & DIRTY != 0);
        // An entry that was removed and used again is in the list twice.
        dirty.sort_unstable_by_key(|entry| {
            let Entry { key, tag, .. } = self.entries[*entry as usize];
            (key, tag, *entry)
        });
        dirty.dedup();
        let mut slots: Vec<u32> = dirty.iter().map(|entry| self.entries[*entry as usize].key).collect();
        slots.dedup();
        let mut frozen = FrozenRows::new(self.keys.codec().clone(), self.keys.copy_rows(&slots));
        let mut at = 0;
        for (key, slot) in slots.iter().enumerate() {
            let end = at + dirty[at..].partition_point(|entry| self.entries[*entry as usize].key == *slot);
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
        } = self.entries[number as usize];
        let is_stored = flags & STORED != 0;
        self.entries[number as usize].flags &= !DIRTY;
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
        let entry = &mut self.entries[number as usize];
        entry.flags |= STORED;
        entry.stored_generation = generation;
        self.live.insert(generation);
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
            } = self.entries[dirty[at] as usize];
            let mut chunk = Vec::new();
            let mut rows = 0;
            while let Some(number) = dirty.get(at) {
                let is_alike = self.entries[*number as usize].generation == generation;
                let length = self.entries[*number as usize].length;
                let is_full = rows == CHUNK_ROWS_MAX || chunk.len() + length as usize > CHUNK_BYTES_MAX;
                if !is_alike || (rows > 0 && is_full) {
                    break;
                }
                chunk.extend_from_slice(&length.to_le_bytes());
                chunk.extend_from_slice(self.bytes(*number));
                let entry = &mut self.entries[*number as usize];
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
            self.live.insert(generation);
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
        self.compact_heap();
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
                    self.entries[entry as usize].key = slot as u32;
                    entry = self.entries[entry as usize].next;
                }
            }
        }
        let used = self.entries.len() - self.free.len();
        if used < self.entries.len() / SPARSE_SHARE && self.entries.len() >= SPARSE_ENTRIES_MIN {
            self.renumber(used);
        }
    }

    fn renumber(&mut self, used: usize) {
        let mut numbers = vec![NONE; self.entries.len()];
        let mut entries = Vec::with_capacity(used);
        for (number, entry) in self.entries.iter().enumerate() {
            if entry.flags & OCCUPIED != 0 {
                numbers[number] = entries.len() as u32;
                entries.push(entry.clone());
            }
        }
        let renumbered = |number: u32| match number {
            NONE => NONE,
            number => numbers[number as usize],
        };
        for entry in &mut entries {
            entry.next = renumbered(entry.next);
            entry.previous = renumbered(entry.previous);
        }
        for state in &mut self.states {
            state.first = renumbered(state.first);
        }
        self.free = Vec::new();
        self.index = SlotIndex::default();
        self.dirty = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            if self.options.identity == Identity::Content {
                self.index
                    .insert(entry.tag, number as u32, |other| entries[other as usize].tag);
            }
            if entry.flags & DIRTY != 0 {
                self.dirty.push(number as u32);
            }
        }
        self.entries = entries;
    }

    /// Removes the rows of expired generations from memory, and calls `visit` for each before. They are no longer
    /// looked for in the store. Keys remain until [`Rows::forget_empty_keys`]. Must not be called between
    /// [`Rows::resolve`] and [`Rows::release`].
    pub fn expire(&mut self, is_expired: impl Fn(u32) -> bool, mut visit: impl FnMut(&Self, u32)) {
        for number in 0..self.entries.len() as u32 {
            let Entry { flags, generation, .. } = self.entries[number as usize];
            if flags & OCCUPIED != 0 && is_expired(generation) {
                visit(self, number);
                self.remove(number);
                let key = self.entries[number as usize].key;
                if self.states[key as usize].first == NONE {
                    self.emptied.push(key);
                }
            }
        }
        self.live.retain(|generation| !is_expired(*generation));
        self.compact_heap();
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

    /// Returns true if the store has, or will have, an entry.
    pub fn is_stored(&self, entry: u32) -> bool {
        self.entries[entry as usize].flags & STORED != 0
    }

    /// Returns the database key under which an entry is stored.
    pub fn stored_key(&self, entry: u32) -> Result<Vec<u8>, Error> {
        let Entry {
            tag,
            key,
            stored_generation,
            ..
        } = self.entries[entry as usize];
        let encoded = self.keys.encoded_keys(&[key])?;
        let mut stored = StoreKeys::default();
        stored.push(self.prefix(key, stored_generation), encoded.row(0));
        Ok(match self.options.identity {
            Identity::Content => [stored.key(0), self.bytes(entry)].concat(),
            Identity::Sequence => [stored.key(0), &tag.to_be_bytes()].concat(),
        })
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
        self.entries = Vec::new();
        self.free = Vec::new();
        self.dirty = Vec::new();
        self.gone = Vec::new();
        self.emptied = Vec::new();
        self.index = SlotIndex::default();
        self.heap = Vec::new();
        self.garbage = 0;
    }

    /// Returns the key columns of rows that a scan of the collection in the store returned, and their number.
    /// Consecutive rows of one key count once, and those of the key `last` not at all; `last` becomes the last key.
    pub fn scanned_keys(&self, rows: &StoredRows, last: &mut Vec<u8>) -> Result<(Vec<ArrayRef>, usize), Error> {
        let rows: Vec<&[u8]> = (0..rows.keys.len())
            .filter_map(|at| rows.keys.get(at))
            .map(key_after_prefix)
            .collect();
        let mut suffixes = rows.clone();
        self.keys.codec().decode_first_keys(&mut suffixes)?;
        let keys = rows.iter().zip(&suffixes);
        let mut keys: Vec<&[u8]> = keys.map(|(row, suffix)| &row[..row.len() - suffix.len()]).collect();
        keys.dedup();
        keys.retain(|key| *key != last.as_slice() || last.is_empty());
        if let Some(key) = keys.last() {
            *last = key.to_vec();
        }
        let count = keys.len();
        Ok((self.keys.codec().decode_keys(keys)?, count))
    }

    /// Returns those of some stored rows ([`Identity::Content`]) that are visible and not marked: their key columns,
    /// their columns, and their weights. Rows are given as whole database keys with values.
    pub fn decode_unmarked(&self, stored: &[(&[u8], &[u8])]) -> Result<DecodedRows, Error> {
        let mut rows = Vec::new();
        let mut weights = Vec::new();
        for (key, value) in stored {
            let (weight, is_marked) = decode_weight(value)?;
            if weight > 0 && !is_marked {
                rows.push(key_after_prefix(key));
                weights.push(weight);
            }
        }
        let keys = self.keys.codec().decode_first_keys(&mut rows)?;
        Ok(DecodedRows {
            keys,
            values: self.codec.decode(rows)?,
            weights,
        })
    }

    /// Returns stored rows ([`Identity::Sequence`]): their key columns, and their columns. They are given as whole
    /// database keys with values.
    pub fn decode_chunks(&self, stored: &[(&[u8], &[u8])]) -> Result<(Vec<ArrayRef>, Vec<ArrayRef>), Error> {
        let mut keys = Vec::new();
        let mut rows = Vec::new();
        for (key, chunk) in stored {
            for row in chunk_rows(chunk)? {
                keys.push(key_after_prefix(key));
                rows.push(row);
            }
        }
        let keys = self.keys.codec().decode_first_keys(&mut keys)?;
        Ok((keys, self.codec.decode(rows)?))
    }
}

/// Returns the rows that are stored together.
fn chunk_rows(mut chunk: &[u8]) -> Result<Vec<&[u8]>, Error> {
    let mut rows = Vec::new();
    while !chunk.is_empty() {
        let (length, rest) = chunk.split_first_chunk::<4>().ok_or_else(corrupt)?;
        let (row, rest) = rest
            .split_at_checked(u32::from_le_bytes(*length) as usize)
            .ok_or_else(corrupt)?;
        rows.push(row);
        chunk = rest;
    }
    Ok(rows)
}

fn decode_weight(value: &[u8]) -> Result<(i64, bool), Error> {
    match value.split_first_chunk::<8>() {
        Some((weight, [mark])) => Ok((i64::from_le_bytes(*weight), *mark != 0)),
        _ => Err(corrupt()),
    }
}

fn corrupt() -> Error {
    Error::Corrupt("a row of a keyed collection is not in its layout".into())
}
