//! A collection with one row per key.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, Float64Type};
use arrow_array::{Array, ArrayRef};
use arrow_schema::DataType;

use super::cells::Cells;
use super::column_values::ColumnValues;
use super::flush::FrozenTable;
use super::layout::{Layout, TableCodec};
use super::slot_index::SlotIndex;
use crate::Error;
use crate::encoding::EncodedRows;
use crate::hash::hash_columns;
use crate::key_group::KeyGroup;
use crate::store::{KeyedPrefix, StoreKeys, StoredRows, StoredValues, key_after_prefix};

/// The slot has a key.
const OCCUPIED: u8 = 1;
/// The key has a row.
const PRESENT: u8 = 2;
/// The row differs from the one that was last written.
const DIRTY: u8 = 4;
/// The slot was used since the last eviction looked at it.
const REFERENCED: u8 = 8;
/// The slot is in [`Resolved::distinct`] of the present call.
const TOUCHED: u8 = 16;
/// The store has, or will have, a row of the key.
const STORED: u8 = 32;

/// Rows whose entries and cells are prefetched together.
const PREFETCH_ROWS: usize = 32;
const NONE: u32 = u32::MAX;
/// A table is sparse if fewer slots than one in this many have a key.
const SPARSE_SHARE: usize = 4;
/// Smaller tables are not shrunk.
const SPARSE_SLOTS_MIN: usize = 1_024;

/// Settings of a [`Table`].
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// Columns of the rows.
    pub layout: Arc<Layout>,
    /// Number of the collection in its operator's store.
    pub collection: u8,
    /// Number of key columns, from the first on, that decide the key group.
    pub hashed: usize,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// True if the rows with equal first `hashed` key columns are stored together, in the order of the other key
    /// columns, so that they can be read by prefix ([`Table::store_prefixes`]).
    pub is_ordered: bool,
    /// True if rows expire ([`Table::advance`]).
    pub is_expiring: bool,
}

/// Number of generations before the present one whose rows have not expired.
pub const FORMER_GENERATIONS: u32 = 4;

/// A map from keys to rows. See the [module](super).
pub struct Table {
    options: TableOptions,
    codec: TableCodec,
    index: SlotIndex,
    cells: Cells,
    /// Hash of each slot's key.
    hashes: Vec<u64>,
    groups: Vec<u16>,
    /// Hash of each slot's first `hashed` key columns, if the table is ordered.
    prefix_hashes: Vec<u64>,
    /// Generation of each slot's row, if rows expire.
    generations: Vec<u32>,
    /// Generation under which the store has each slot's row, if rows expire.
    stored_generations: Vec<u32>,
    /// The present generation.
    generation: u32,
    flags: Vec<u8>,
    /// Slots without a key.
    free: Vec<u32>,
    /// Slots with [`DIRTY`].
    dirty: Vec<u32>,
    /// Slot at which the next eviction begins.
    hand: usize,
    key_hashes: Vec<u64>,
    group_hashes: Vec<u64>,
}

/// The slots of some keys.
#[derive(Debug, Default)]
pub struct Resolved {
    /// Slot of each key, in the order of the keys.
    pub slots: Vec<u32>,
    /// The slots without repetitions, in the order of their first key.
    pub distinct: Vec<u32>,
    /// Those of the distinct slots that the table did not have. They have no row; the store may have one.
    pub unknown: Vec<u32>,
}

impl Table {
    /// Creates an empty table.
    pub fn new(options: TableOptions) -> Result<Self, Error> {
        let layout = &options.layout;
        debug_assert!(options.hashed <= layout.key_count());
        let codec = TableCodec::new(layout)?;
        Ok(Self {
            cells: Cells::new(Arc::clone(layout)),
            codec,
            options,
            index: SlotIndex::default(),
            hashes: Vec::new(),
            groups: Vec::new(),
            prefix_hashes: Vec::new(),
            generations: Vec::new(),
            stored_generations: Vec::new(),
            generation: 0,
            flags: Vec::new(),
            free: Vec::new(),
            dirty: Vec::new(),
            hand: 0,
            key_hashes: Vec::new(),
            group_hashes: Vec::new(),
        })
    }

    /// Returns the number of the collection.
    pub fn collection(&self) -> u8 {
        self.options.collection
    }

    /// Returns the number of keys in memory.
    pub fn len(&self) -> usize {
        self.hashes.len() - self.free.len()
    }

    /// Returns true if no key is in memory.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the number of slots, with those that have no key.
    pub(super) fn slot_count(&self) -> usize {
        self.hashes.len()
    }

    /// Returns true if a slot has a key.
    pub(super) fn is_occupied(&self, slot: u32) -> bool {
        self.flags[slot as usize] & OCCUPIED != 0
    }

    /// Returns the hash of a slot's key.
    pub(super) fn hash_of(&self, slot: u32) -> u64 {
        self.hashes[slot as usize]
    }

    pub(super) fn codec(&self) -> &TableCodec {
        &self.codec
    }

    /// Returns the keys of some slots in the encoding of the store.
    pub(super) fn encoded_keys(&self, slots: &[u32]) -> Result<EncodedRows, Error> {
        self.codec.encode_keys(&self.keys(slots)?, slots.len())
    }

    /// Returns a copy of the rows of some slots.
    pub(super) fn copy_rows(&self, slots: &[u32]) -> Cells {
        self.cells.copy_rows(slots)
    }

    /// Returns the bytes of the table.
    pub fn size(&self) -> usize {
        const SLOT_BYTES: usize = size_of::<u64>() + size_of::<u16>() + size_of::<u8>();
        self.cells.size()
            + self.index.size()
            + self.prefix_hashes.capacity() * size_of::<u64>()
            + (self.generations.capacity() + self.stored_generations.capacity()) * size_of::<u32>()
            + self.hashes.capacity() * SLOT_BYTES
            + (self.free.capacity() + self.dirty.capacity()) * size_of::<u32>()
    }

    /// Returns the bytes needed in addition for `keys` more keys, without long strings.
    pub fn growth(&self, keys: usize) -> usize {
        let more = keys.saturating_sub(self.free.len());
        let slots = match self.hashes.len() + more <= self.hashes.capacity() {
            true => 0,
            false => (self.hashes.len() + more).max(self.hashes.capacity() * 2) - self.hashes.capacity(),
        };
        const SLOT_BYTES: usize = size_of::<u64>() + size_of::<u16>() + size_of::<u8>() + size_of::<u32>();
        self.cells.growth(more) + self.index.growth(keys) + slots * SLOT_BYTES
    }

    /// Returns the bytes of the changed rows, without long strings.
    pub fn dirty_bytes(&self) -> usize {
        match self.hashes.len() {
            0 => 0,
            slots => self.dirty.len() * (self.cells.size() / slots),
        }
    }

    /// Finds the slots of keys, and adds the keys that the table does not have. The caller ends the call by
    /// [`Table::release`].
    pub fn resolve(&mut self, keys: &[ArrayRef], rows: usize, resolved: &mut Resolved) -> Result<(), Error> {
        self.find(keys, rows, resolved, |_| true)
    }

    /// Finds the slots of keys. A key that the table does not have is added if `adds` returns true for its hash; the
    /// slot of others is `u32::MAX`. The caller ends the call by [`Table::release`].
    pub(super) fn find(
        &mut self,
        keys: &[ArrayRef],
        rows: usize,
        resolved: &mut Resolved,
        adds: impl Fn(u64) -> bool,
    ) -> Result<(), Error> {
        resolved.slots.clear();
        resolved.distinct.clear();
        resolved.unknown.clear();
        let keys: Vec<ArrayRef> = keys.iter().map(canonical).collect();
        self.hash(&keys, rows)?;
        let values = keys
            .iter()
            .enumerate()
            .map(|(column, key)| ColumnValues::new(self.cells.layout().kind(column), key))
            .collect::<Result<Vec<_>, _>>()?;
        let mut candidates = [NONE; PREFETCH_ROWS];
        let mut start = 0;
        while start < rows {
            let count = PREFETCH_ROWS.min(rows - start);
            for at in start..start + count {
                self.index.prefetch(self.key_hashes[at]);
            }
            for (candidate, at) in candidates.iter_mut().zip(start..start + count) {
                let hash = self.key_hashes[at];
                *candidate = self.index.find(hash, |_| true).unwrap_or(NONE);
                if *candidate != NONE {
                    self.cells.prefetch(*candidate as usize);
                }
            }
            for (candidate, at) in candidates.iter().zip(start..start + count) {
                let slot = match *candidate {
                    slot if slot != NONE && self.has_key(slot, &values, at) => slot,
                    // An equal key may be an earlier row of this call.
                    _ => self.find_or_insert(&values, at, resolved, &adds)?,
                };
                resolved.slots.push(slot);
                if slot == NONE {
                    continue;
                }
                let flags = &mut self.flags[slot as usize];
                if *flags & TOUCHED == 0 {
                    *flags |= TOUCHED | REFERENCED;
                    resolved.distinct.push(slot);
                }
            }
            start += count;
        }
        Ok(())
    }

    /// Sets the hashes that decide slots and key groups.
    fn hash(&mut self, keys: &[ArrayRef], rows: usize) -> Result<(), Error> {
        hash_columns(keys, &mut self.key_hashes)?;
        self.key_hashes.resize(rows, 0);
        if self.options.hashed < keys.len() {
            hash_columns(&keys[..self.options.hashed], &mut self.group_hashes)?;
            self.group_hashes.resize(rows, 0);
        }
        Ok(())
    }

    /// Returns the hash of the key columns that decide the key group.
    fn prefix_hash(&self, row: usize) -> u64 {
        match self.options.hashed < self.cells.layout().key_count() {
            true => self.group_hashes[row],
            false => self.key_hashes[row],
        }
    }

    fn key_group(&self, row: usize) -> KeyGroup {
        match self.options.hashed {
            0 => KeyGroup(0),
            _ => KeyGroup::of_hash(self.prefix_hash(row), self.options.max_parallelism),
        }
    }

    #[inline(always)]
    fn has_key(&self, slot: u32, keys: &[ColumnValues], row: usize) -> bool {
        keys.iter()
            .enumerate()
            .all(|(column, key)| self.cells.equals(slot as usize, column, key, row))
    }

    fn find_or_insert(
        &mut self,
        keys: &[ColumnValues],
        row: usize,
        resolved: &mut Resolved,
        adds: &impl Fn(u64) -> bool,
    ) -> Result<u32, Error> {
        let hash = self.key_hashes[row];
        if let Some(slot) = self.index.find(hash, |slot| self.has_key(slot, keys, row)) {
            return Ok(slot);
        }
        if !adds(hash) {
            return Ok(NONE);
        }
        let group = self.key_group(row).0;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.hashes[slot as usize] = hash;
                self.groups[slot as usize] = group;
                if self.options.is_ordered {
                    self.prefix_hashes[slot as usize] = self.prefix_hash(row);
                }
                slot
            }
            None => {
                let slot = u32::try_from(self.hashes.len())
                    .ok()
                    .filter(|slot| *slot != NONE)
                    .ok_or_else(|| {
                        Error::Limit("a table of state has 2^32 - 1 keys in memory; use a greater parallelism".into())
                    })?;
                self.cells.push_row();
                self.hashes.push(hash);
                self.groups.push(group);
                if self.options.is_ordered {
                    let hash = self.prefix_hash(row);
                    self.prefix_hashes.push(hash);
                }
                if self.options.is_expiring {
                    self.generations.push(0);
                    self.stored_generations.push(0);
                }
                self.flags.push(0);
                slot
            }
        };
        self.flags[slot as usize] = OCCUPIED;
        for (column, key) in keys.iter().enumerate() {
            self.cells.set(slot as usize, column, key, row);
        }
        let hashes = &self.hashes;
        self.index.insert(hash, slot, |slot| hashes[slot as usize]);
        resolved.unknown.push(slot);
        Ok(slot)
    }

    /// Ends the call that resolved these slots.
    pub fn release(&mut self, resolved: &Resolved) {
        for slot in &resolved.distinct {
            self.flags[*slot as usize] &= !TOUCHED;
        }
        self.cells.compact_heap();
    }

    /// Returns the keys in the store of some slots.
    pub fn store_keys(&self, slots: &[u32]) -> Result<StoreKeys, Error> {
        let encoded = self.encoded_keys(slots)?;
        let mut keys = StoreKeys::default();
        for (slot, key) in slots.iter().zip(encoded.iter()) {
            for generation in self.live_generations() {
                keys.push(self.prefix(*slot, generation), key);
            }
        }
        Ok(keys)
    }

    /// Returns the generations whose rows have not expired, the present one first.
    fn live_generations(&self) -> impl Iterator<Item = u32> + use<> {
        let former = if self.options.is_expiring {
            FORMER_GENERATIONS
        } else {
            0
        };
        (self.generation.saturating_sub(former)..=self.generation).rev()
    }

    pub(super) fn prefix(&self, slot: u32, generation: u32) -> KeyedPrefix {
        KeyedPrefix {
            group: KeyGroup(self.groups[slot as usize]),
            collection: self.options.collection,
            generation,
            hash: match self.options.is_ordered {
                true => self.prefix_hashes[slot as usize],
                false => self.hashes[slot as usize],
            },
        }
    }

    /// Returns the prefixes, in the ordered collection `of`, of the rows whose first key columns are the keys of some
    /// slots of this table: one per slot, or, if rows expire, one per slot and generation ([`Table::prefix_count`]).
    pub fn store_prefixes(&self, slots: &[u32], of: &Self) -> Result<StoreKeys, Error> {
        debug_assert!(of.options.is_ordered && of.options.hashed == self.cells.layout().key_count());
        let encoded = self.encoded_keys(slots)?;
        let mut prefixes = StoreKeys::default();
        for (slot, key) in slots.iter().zip(encoded.iter()) {
            for generation in of.live_generations() {
                let prefix = KeyedPrefix {
                    collection: of.options.collection,
                    ..self.prefix(*slot, generation)
                };
                prefixes.push(prefix, key);
            }
        }
        Ok(prefixes)
    }

    /// Returns the number of prefixes, or of keys, that the store may have for a key: one per generation.
    pub fn prefix_count(&self) -> usize {
        self.live_generations().count()
    }

    /// Sets the rows that the store has for some slots, which had no row: `values` are those of the slots'
    /// [keys](Table::store_keys).
    pub fn load(&mut self, slots: &[u32], values: &StoredValues) -> Result<(), Error> {
        let generations: Vec<u32> = self.live_generations().collect();
        debug_assert_eq!(slots.len() * generations.len(), values.len());
        let mut found = Vec::new();
        let mut rows = Vec::new();
        for (at, slot) in slots.iter().enumerate() {
            let first = at * generations.len();
            let stored = generations.iter().enumerate();
            let stored = stored.filter_map(|(nth, generation)| Some((values.get(first + nth)?, *generation)));
            for (row, generation) in stored.take(1) {
                self.flags[*slot as usize] |= PRESENT | STORED;
                if self.options.is_expiring {
                    self.generations[*slot as usize] = generation;
                    self.stored_generations[*slot as usize] = generation;
                }
                found.push(*slot);
                rows.push(row);
            }
        }
        for (value, column) in self.codec.decode_values(rows)?.iter().enumerate() {
            self.scatter(value, &found, column)?;
        }
        Ok(())
    }

    /// Returns true if the key of a slot has a row.
    #[inline(always)]
    pub fn is_present(&self, slot: u32) -> bool {
        self.flags[slot as usize] & PRESENT != 0
    }

    /// Marks the row of a slot as changed. It has a row afterwards.
    #[inline(always)]
    pub fn set_changed(&mut self, slot: u32) {
        if self.options.is_expiring {
            self.generations[slot as usize] = self.generation;
        }
        let flags = &mut self.flags[slot as usize];
        *flags |= PRESENT;
        if *flags & DIRTY == 0 {
            *flags |= DIRTY;
            self.dirty.push(slot);
        }
    }

    /// Removes the row of a slot. The slot remains valid until the end of the call.
    pub fn remove(&mut self, slot: u32) {
        self.set_changed(slot);
        self.flags[slot as usize] &= !PRESENT;
        let keys = self.cells.layout().key_count();
        for column in keys..self.cells.layout().column_count() {
            self.cells.reset(slot as usize, column);
        }
    }

    /// Returns the key columns of some slots.
    pub fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        (0..self.cells.layout().key_count())
            .map(|column| self.cells.gather(column, slots))
            .collect()
    }

    /// Returns a value column of some slots. Slots without a row have NULL.
    pub fn values(&self, value: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        self.cells.gather(self.column(value), slots)
    }

    /// Sets a value column of some slots.
    pub fn scatter(&mut self, value: usize, slots: &[u32], values: &ArrayRef) -> Result<(), Error> {
        let column = self.column(value);
        let values = ColumnValues::new(self.cells.layout().kind(column), values)?;
        for (at, slot) in slots.iter().enumerate() {
            self.cells.set(*slot as usize, column, &values, at);
        }
        Ok(())
    }

    #[inline(always)]
    fn column(&self, value: usize) -> usize {
        self.cells.layout().key_count() + value
    }

    /// Returns true if a value is NULL.
    #[inline(always)]
    pub fn is_null(&self, slot: u32, value: usize) -> bool {
        self.cells.is_null(slot as usize, self.column(value))
    }

    /// Returns a value of a string or binary column; empty for NULL.
    pub fn bytes(&self, slot: u32, value: usize) -> &[u8] {
        self.cells.bytes(slot as usize, self.column(value))
    }

    /// Sets a value of a string or binary column.
    pub fn set_bytes(&mut self, slot: u32, value: usize, bytes: &[u8]) {
        let column = self.column(value);
        self.cells.set_bytes(slot as usize, column, bytes);
    }

    /// Returns the bytes of a fixed-width value; zeros for NULL. `WIDTH` is the width of the column's type.
    #[inline(always)]
    pub fn fixed<const WIDTH: usize>(&self, slot: u32, value: usize) -> [u8; WIDTH] {
        self.cells.fixed(slot as usize, self.column(value))
    }

    /// Sets the bytes of a fixed-width value.
    #[inline(always)]
    pub fn set_fixed<const WIDTH: usize>(&mut self, slot: u32, value: usize, bytes: [u8; WIDTH]) {
        let column = self.column(value);
        self.cells.set_fixed(slot as usize, column, bytes);
    }

    /// Sets a fixed-width value to NULL.
    #[inline(always)]
    pub fn set_null<const WIDTH: usize>(&mut self, slot: u32, value: usize) {
        let column = self.column(value);
        self.cells.set_null::<WIDTH>(slot as usize, column);
    }

    /// Returns up to `slots_max` slots that have a row, from the slot `from` on, and the slot after the last one that
    /// was looked at; `None` at the end.
    pub fn present_slots(&self, from: u32, slots_max: usize) -> (Vec<u32>, Option<u32>) {
        let mut slots = Vec::new();
        for slot in from..self.flags.len() as u32 {
            if slots.len() == slots_max {
                return (slots, Some(slot));
            }
            if self.is_present(slot) {
                slots.push(slot);
            }
        }
        (slots, None)
    }

    /// Freezes changed rows, at most `rows_max`, to be written. They count as written from now on: the flush must be
    /// queued in the store before the table is used again. `None` if nothing has changed.
    pub fn freeze(&mut self, rows_max: usize) -> Option<FrozenTable> {
        let keep = self.dirty.len().saturating_sub(rows_max);
        let frozen = self.dirty.split_off(keep);
        let mut changed = Vec::with_capacity(frozen.len());
        // Rows that the store has under another generation.
        let mut moved: Vec<(u32, u32)> = Vec::new();
        for slot in frozen {
            let flags = self.flags[slot as usize] & !DIRTY;
            self.flags[slot as usize] = flags;
            match (flags & PRESENT != 0, flags & STORED != 0) {
                (false, false) => self.vacate(slot),
                (true, is_stored) => {
                    self.flags[slot as usize] |= STORED;
                    if self.options.is_expiring {
                        let at = slot as usize;
                        if is_stored && self.stored_generations[at] != self.generations[at] {
                            moved.push((slot, self.stored_generations[at]));
                        }
                        self.stored_generations[at] = self.generations[at];
                    }
                    changed.push(slot);
                }
                (false, true) => {
                    self.flags[slot as usize] &= !STORED;
                    changed.push(slot);
                }
            }
        }
        if keep == 0 {
            self.dirty = Vec::new();
        }
        if changed.is_empty() {
            return None;
        }
        let stored = |slot: u32| match self.options.is_expiring {
            true => self.stored_generations[slot as usize],
            false => 0,
        };
        let mut prefixes: Vec<_> = changed.iter().map(|slot| self.prefix(*slot, stored(*slot))).collect();
        let mut present: Vec<_> = changed.iter().map(|slot| self.is_present(*slot)).collect();
        for (slot, generation) in moved {
            changed.push(slot);
            prefixes.push(self.prefix(slot, generation));
            present.push(false);
        }
        Some(FrozenTable::new(
            self.codec.clone(),
            self.cells.copy_rows(&changed),
            prefixes,
            present,
        ))
    }

    /// Begins a generation. Rows that were last changed more than [`FORMER_GENERATIONS`] before it expire: they are
    /// removed from memory, and are not found in the store any more. Must not be called between [`Table::resolve`] and
    /// [`Table::release`].
    pub fn advance(&mut self, generation: u32) {
        debug_assert!(self.options.is_expiring && generation >= self.generation);
        self.generation = generation;
        let oldest = generation.saturating_sub(FORMER_GENERATIONS);
        let mut dirty = std::mem::take(&mut self.dirty);
        for slot in 0..self.flags.len() {
            if self.flags[slot] & PRESENT != 0 && self.generations[slot] < oldest {
                self.vacate(slot as u32);
            }
        }
        dirty.retain(|slot| self.flags[*slot as usize] & DIRTY != 0);
        self.dirty = dirty;
        self.cells.compact_heap();
    }

    /// Returns true if rows expire.
    pub fn is_expiring(&self) -> bool {
        self.options.is_expiring
    }

    /// Removes up to `slots_max` unchanged keys from memory, those first that were not used for some time. All that was
    /// frozen must have been written. Returns the number of removed keys.
    pub fn evict(&mut self, slots_max: usize) -> usize {
        self.evict_where(slots_max, |_| true).len()
    }

    /// Evicts keys of which `may_evict` is true, as [`Table::evict`] does. Returns their slots.
    pub(super) fn evict_where(&mut self, slots_max: usize, may_evict: impl Fn(u32) -> bool) -> Vec<u32> {
        let slots = self.flags.len();
        let mut evicted = Vec::new();
        // Two rounds: the first one may only clear the marks.
        for _ in 0..2 * slots {
            if evicted.len() == slots_max {
                break;
            }
            let slot = self.hand;
            self.hand = (self.hand + 1) % slots;
            let flags = self.flags[slot];
            if flags & OCCUPIED == 0 || flags & (DIRTY | TOUCHED) != 0 || !may_evict(slot as u32) {
                continue;
            }
            if flags & REFERENCED != 0 {
                self.flags[slot] &= !REFERENCED;
                continue;
            }
            self.vacate(slot as u32);
            evicted.push(slot as u32);
        }
        self.cells.compact_heap();
        evicted
    }

    /// Returns the memory of overwritten strings if they are most of all.
    pub fn compact_strings(&mut self) {
        self.cells.compact_heap();
    }

    /// Returns memory if most slots have no key.
    pub fn shrink_if_sparse(&mut self) {
        self.shrink();
    }

    /// Returns memory if most slots have no key: renumbers the slots, and returns the former numbers in the order of
    /// the new ones.
    pub(super) fn shrink(&mut self) -> Option<Vec<u32>> {
        if self.len() >= self.hashes.len() / SPARSE_SHARE || self.hashes.len() < SPARSE_SLOTS_MIN {
            return None;
        }
        let used: Vec<u32> = (0..self.flags.len() as u32)
            .filter(|slot| self.is_occupied(*slot))
            .collect();
        let of = |values: &[u32]| used.iter().map(|slot| values[*slot as usize]).collect();
        let hashes_of = |values: &[u64]| used.iter().map(|slot| values[*slot as usize]).collect();
        self.cells = self.cells.copy_rows(&used);
        self.hashes = hashes_of(&self.hashes);
        self.groups = used.iter().map(|slot| self.groups[*slot as usize]).collect();
        if self.options.is_ordered {
            self.prefix_hashes = hashes_of(&self.prefix_hashes);
        }
        if self.options.is_expiring {
            self.generations = of(&self.generations);
            self.stored_generations = of(&self.stored_generations);
        }
        self.flags = used.iter().map(|slot| self.flags[*slot as usize]).collect();
        self.free = Vec::new();
        self.dirty = Vec::new();
        self.hand = 0;
        self.index = SlotIndex::default();
        for (slot, hash) in self.hashes.iter().enumerate() {
            self.index.insert(*hash, slot as u32, |slot| self.hashes[slot as usize]);
            if self.flags[slot] & DIRTY != 0 {
                self.dirty.push(slot as u32);
            }
        }
        Some(used)
    }

    /// Removes a key from memory.
    pub(super) fn vacate(&mut self, slot: u32) {
        let hashes = &self.hashes;
        self.index.remove(slot, |slot| hashes[slot as usize]);
        self.cells.clear_row(slot as usize);
        self.flags[slot as usize] = 0;
        self.free.push(slot);
    }

    /// Removes all keys from memory, whether they were written or not.
    pub fn clear(&mut self) {
        self.index = SlotIndex::default();
        self.cells = Cells::new(Arc::clone(&self.options.layout));
        self.hashes.clear();
        self.groups.clear();
        self.prefix_hashes.clear();
        self.generations.clear();
        self.stored_generations.clear();
        self.flags.clear();
        self.free.clear();
        self.dirty.clear();
        self.hand = 0;
    }

    /// Adds rows that a scan of the store returned. Returns their slots. Only for a table that is never frozen.
    pub fn load_scanned(&mut self, rows: &StoredRows) -> Result<Vec<u32>, Error> {
        let count = rows.keys.len();
        let keys = (0..count).filter_map(|at| rows.keys.get(at)).map(key_after_prefix);
        let columns = self.codec.decode_keys(keys)?;
        let mut resolved = Resolved::default();
        self.resolve(&columns, count, &mut resolved)?;
        self.load(&resolved.slots, &rows.values)?;
        self.release(&resolved);
        Ok(resolved.slots)
    }
}

/// Returns a key column with equal bytes for equal floats.
fn canonical(column: &ArrayRef) -> ArrayRef {
    match column.data_type() {
        DataType::Float32 => Arc::new(column.as_primitive::<Float32Type>().unary::<_, Float32Type>(
            |value| match value {
                0.0 => 0.0,
                value if value.is_nan() => f32::NAN,
                value => value,
            },
        )),
        DataType::Float64 => Arc::new(column.as_primitive::<Float64Type>().unary::<_, Float64Type>(
            |value| match value {
                0.0 => 0.0,
                value if value.is_nan() => f64::NAN,
                value => value,
            },
        )),
        _ => Arc::clone(column),
    }
}
