//! Group indexes: map key columns to dense group numbers, and back.
//!
//! [`GroupIndex::intern`] maps each row of key columns to a group number, and gives new keys the next number;
//! [`GroupIndex::keys`] reads keys without consuming them. There is one index per kind of key: no key at all, one
//! integer-like column, one string column, and all others through Arrow's row format. The row format is used in memory
//! only; the encoding on disk is that of the state crate.

use std::sync::Arc;

use ahash::RandomState;
use arrow::array::{Array, ArrayData, ArrayRef, AsArray, make_array};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, FieldRef};
use arrow_row::{RowConverter, SortField};
use hashbrown::HashTable;
use millstream_graph::float_equality;

use super::Select;
use crate::Error;

/// Stands for the group of a key that is not in an index.
pub const UNKNOWN: u32 = u32::MAX;

/// A dense numbering of distinct keys. Groups are numbered from 0 in the order of their first appearance.
pub trait GroupIndex: Send {
    /// Replaces `groups` by the group of each row, adding groups for new keys. All key columns have `rows` rows.
    fn intern(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error>;

    /// Replaces `groups` by the group of each row, or [`UNKNOWN`] for keys that have none.
    fn find(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error>;

    /// Returns the number of groups.
    fn len(&self) -> usize;

    /// Returns the key columns of some groups.
    fn keys(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error>;

    /// Reserves memory for about `groups` more groups.
    fn reserve(&mut self, _groups: usize) {}

    /// Returns the bytes of the index.
    fn size(&self) -> usize;

    /// Returns the bytes needed in addition for `groups` more groups.
    fn growth(&self, _groups: usize) -> usize {
        0
    }

    /// Releases the memory that only interning needs. Keys must only be read from now on.
    fn freeze(&mut self) {}

    /// Removes all groups and keeps the allocations.
    fn clear(&mut self);
}

/// Returns the bytes that a vector needs in addition when `more` elements are pushed one by one.
pub fn vec_growth<T>(vec: &Vec<T>, more: usize) -> usize {
    let needed = vec.len() + more;
    if needed <= vec.capacity() {
        return 0;
    }
    (needed.max(vec.capacity() * 2) - vec.capacity()) * size_of::<T>()
}

/// Makes the index for keys of these types.
pub fn new_group_index(fields: &[FieldRef]) -> Result<Box<dyn GroupIndex>, Error> {
    Ok(match fields {
        [] => Box::new(SingleGroup { used: false }),
        [field] if integer_width(field.data_type()).is_some() => Box::new(IntegerIndex::new(field.data_type())),
        [field] if field.data_type() == &DataType::Utf8 => Box::new(StringIndex::new()),
        _ => Box::new(RowIndex::new(fields)?),
    })
}

/// The index of no key: every row is in group 0.
struct SingleGroup {
    used: bool,
}

impl GroupIndex for SingleGroup {
    fn intern(&mut self, _keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        self.used |= rows > 0;
        groups.clear();
        groups.resize(rows, 0);
        Ok(())
    }

    fn find(&mut self, _keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        groups.clear();
        groups.resize(rows, if self.used { 0 } else { UNKNOWN });
        Ok(())
    }

    fn len(&self) -> usize {
        usize::from(self.used)
    }

    fn keys(&self, _select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        Ok(Vec::new())
    }

    fn size(&self) -> usize {
        0
    }

    fn clear(&mut self) {
        self.used = false;
    }
}

/// Returns the width in bytes of an integer-like type, or `None` for other types.
pub fn integer_width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Int64
        | DataType::UInt64
        | DataType::Timestamp(..)
        | DataType::Date64
        | DataType::Time64(_)
        | DataType::Duration(_) => Some(8),
        DataType::Int32 | DataType::UInt32 | DataType::Date32 | DataType::Time32(_) => Some(4),
        _ => None,
    }
}

/// Returns the values of an integer-like column as `i64`, borrowed if they are 8 bytes wide.
pub fn integer_values(array: &ArrayRef, width: usize) -> ScalarBuffer<i64> {
    let data = array.to_data();
    if width == 8 {
        ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
    } else {
        let narrow = ScalarBuffer::<i32>::new(data.buffers()[0].clone(), data.offset(), data.len());
        narrow.iter().map(|value| i64::from(*value)).collect()
    }
}

/// Makes a column of an integer-like type.
pub fn from_integers(data_type: &DataType, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef, Error> {
    let len = values.len();
    let buffer = match integer_width(data_type) {
        Some(4) => Buffer::from_vec(values.into_iter().map(|value| value as i32).collect::<Vec<i32>>()),
        _ => Buffer::from_vec(values),
    };
    let data = ArrayData::builder(data_type.clone())
        .len(len)
        .add_buffer(buffer)
        .nulls(nulls)
        .build()?;
    Ok(make_array(data))
}

/// The index of one integer-like key column: a hash table with linear probing. Key and group are in one slot, so a
/// look-up in a table larger than the caches costs one cache miss.
struct IntegerIndex {
    data_type: DataType,
    width: usize,
    slots: Vec<IntegerSlot>,
    /// 64 - log2(slots): the top bits of the hash select the slot.
    shift: u32,
    keys: Vec<i64>,
    null_group: Option<u32>,
}

#[derive(Clone, Copy)]
struct IntegerSlot {
    key: i64,
    group: u32,
}

const EMPTY: u32 = UNKNOWN;
const SLOTS_MIN: usize = 16;

impl IntegerIndex {
    fn new(data_type: &DataType) -> Self {
        Self {
            data_type: data_type.clone(),
            width: integer_width(data_type).expect("chosen by its width"),
            // Thousands of windows may be open with a few keys each, so nothing is allocated in advance.
            slots: Vec::new(),
            shift: u64::BITS - 1,
            keys: Vec::new(),
            null_group: None,
        }
    }

    #[inline]
    fn slot_of(key: i64, shift: u32) -> usize {
        let mixed = (key as u64 ^ (key as u64 >> 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        (mixed >> shift) as usize
    }

    /// Returns the number of slots for `more` additional groups.
    fn slots_for(&self, more: usize) -> usize {
        // At most two thirds full.
        let wanted = (self.keys.len() + more) * 3 / 2;
        if wanted <= self.slots.len() {
            return self.slots.len();
        }
        wanted.next_power_of_two().max(SLOTS_MIN)
    }

    fn reserve_slots(&mut self, more: usize) {
        let count = self.slots_for(more);
        if count == self.slots.len() {
            return;
        }
        let shift = 64 - count.trailing_zeros();
        let mut slots = vec![IntegerSlot { key: 0, group: EMPTY }; count];
        for (group, key) in self.keys.iter().enumerate() {
            if Some(group as u32) == self.null_group {
                continue;
            }
            let mut at = Self::slot_of(*key, shift);
            while slots[at].group != EMPTY {
                at = (at + 1) & (count - 1);
            }
            slots[at] = IntegerSlot {
                key: *key,
                group: group as u32,
            };
        }
        self.slots = slots;
        self.shift = shift;
    }

    #[inline]
    fn group_of(&mut self, key: i64) -> u32 {
        let mask = self.slots.len() - 1;
        let mut at = Self::slot_of(key, self.shift) & mask;
        loop {
            let slot = self.slots[at];
            if slot.group == EMPTY {
                let group = self.keys.len() as u32;
                self.slots[at] = IntegerSlot { key, group };
                self.keys.push(key);
                return group;
            }
            if slot.key == key {
                return slot.group;
            }
            at = (at + 1) & mask;
        }
    }

    #[inline]
    fn lookup(&self, key: i64) -> u32 {
        let Some(mask) = self.slots.len().checked_sub(1) else {
            return UNKNOWN;
        };
        let mut at = Self::slot_of(key, self.shift) & mask;
        loop {
            let slot = self.slots[at];
            if slot.group == EMPTY || slot.key == key {
                // The group of an empty slot is `UNKNOWN`.
                return slot.group;
            }
            at = (at + 1) & mask;
        }
    }
}

/// Number of rows between two reservations of slots, so that the table does not grow by a whole batch of equal keys.
const INTERN_STEP: usize = 1024;

impl GroupIndex for IntegerIndex {
    fn intern(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        groups.clear();
        groups.reserve(rows);
        let values = integer_values(&keys[0], self.width);
        let nulls = keys[0].nulls().filter(|nulls| nulls.null_count() > 0);
        let mut start = 0;
        while start < rows {
            let end = rows.min(start + INTERN_STEP);
            self.reserve_slots(end - start);
            match nulls {
                None => groups.extend(values[start..end].iter().map(|key| self.group_of(*key))),
                Some(nulls) => {
                    for row in start..end {
                        let group = if nulls.is_valid(row) {
                            self.group_of(values[row])
                        } else {
                            *self.null_group.get_or_insert_with(|| {
                                self.keys.push(0);
                                (self.keys.len() - 1) as u32
                            })
                        };
                        groups.push(group);
                    }
                }
            }
            start = end;
        }
        Ok(())
    }

    fn find(&mut self, keys: &[ArrayRef], _rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        let values = integer_values(&keys[0], self.width);
        groups.clear();
        groups.extend(values.iter().map(|key| self.lookup(*key)));
        if let Some(nulls) = keys[0].nulls().filter(|nulls| nulls.null_count() > 0) {
            let null_group = self.null_group.unwrap_or(UNKNOWN);
            let rows = groups.iter_mut().zip(nulls.iter());
            rows.filter(|(_, is_valid)| !is_valid)
                .for_each(|(group, _)| *group = null_group);
        }
        Ok(())
    }

    fn len(&self) -> usize {
        self.keys.len()
    }

    fn keys(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let values = select.gather(&self.keys);
        let nulls = self.null_group.and_then(|null| {
            let nulls: NullBuffer = select.iter().map(|group| group != null).collect();
            (nulls.null_count() > 0).then_some(nulls)
        });
        Ok(vec![from_integers(&self.data_type, values, nulls)?])
    }

    fn reserve(&mut self, groups: usize) {
        self.keys.reserve(groups);
        self.reserve_slots(groups);
    }

    fn size(&self) -> usize {
        self.slots.capacity() * size_of::<IntegerSlot>() + self.keys.capacity() * size_of::<i64>()
    }

    fn growth(&self, groups: usize) -> usize {
        let slots = self.slots_for(groups) - self.slots.len();
        slots * size_of::<IntegerSlot>() + vec_growth(&self.keys, groups)
    }

    fn freeze(&mut self) {
        self.slots = Vec::new();
    }

    fn clear(&mut self) {
        self.slots.fill(IntegerSlot { key: 0, group: EMPTY });
        self.keys.clear();
        self.null_group = None;
    }
}

/// Many byte strings in one buffer.
#[derive(Default)]
struct ByteKeys {
    bytes: Vec<u8>,
    /// End of each key in `bytes`.
    ends: Vec<usize>,
}

impl ByteKeys {
    #[inline]
    fn get(&self, group: u32) -> &[u8] {
        let group = group as usize;
        let start = if group == 0 { 0 } else { self.ends[group - 1] };
        &self.bytes[start..self.ends[group]]
    }

    /// Returns some keys, concatenated, and the end of each.
    fn gather(&self, select: &Select<'_>) -> (Vec<u8>, Vec<usize>) {
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

    fn push(&mut self, key: &[u8]) -> u32 {
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
        (self.ends.len() - 1) as u32
    }

    fn size(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * size_of::<usize>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
    }
}

/// An index of byte strings: a hash table of hash and group, with the bytes beside it.
struct ByteTable {
    table: HashTable<(u64, u32)>,
    hasher: RandomState,
    keys: ByteKeys,
}

impl ByteTable {
    fn new() -> Self {
        Self {
            table: HashTable::new(),
            // Fixed seeds for reproducible runs; group numbers do not depend on the hash.
            hasher: RandomState::with_seeds(0x6d69, 0x6c6c, 0x7374, 0x7265),
            keys: ByteKeys::default(),
        }
    }

    #[inline]
    fn group_of(&mut self, key: &[u8]) -> u32 {
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
    fn lookup(&self, key: &[u8]) -> u32 {
        let hash = self.hasher.hash_one(key);
        let is_same = |(other, group): &(u64, u32)| *other == hash && self.keys.get(*group) == key;
        self.table.find(hash, is_same).map_or(UNKNOWN, |(_, group)| *group)
    }

    fn reserve(&mut self, groups: usize) {
        self.table.reserve(groups, |(hash, _)| *hash);
        self.keys.ends.reserve(groups);
    }

    fn size(&self) -> usize {
        self.table.capacity() * (size_of::<(u64, u32)>() + 1) + self.keys.size()
    }

    fn growth(&self, groups: usize) -> usize {
        let held = self.keys.ends.len();
        let table = match held + groups <= self.table.capacity() {
            true => 0,
            false => self.table.capacity().max(groups) * (size_of::<(u64, u32)>() + 1),
        };
        // Assumes that new keys are as long as the present ones on average.
        let bytes = self.keys.bytes.len() / held.max(1) * groups;
        table + vec_growth(&self.keys.ends, groups) + vec_growth(&self.keys.bytes, bytes)
    }

    fn freeze(&mut self) {
        self.table = HashTable::new();
    }

    fn clear(&mut self) {
        self.table.clear();
        self.keys.clear();
    }
}

/// The index of one string key column.
struct StringIndex {
    table: ByteTable,
    null_group: Option<u32>,
}

impl StringIndex {
    fn new() -> Self {
        Self {
            table: ByteTable::new(),
            null_group: None,
        }
    }
}

impl GroupIndex for StringIndex {
    fn intern(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        groups.clear();
        groups.reserve(rows);
        let strings = keys[0].as_string::<i32>();
        let offsets = strings.value_offsets();
        let bytes = strings.value_data();
        let nulls = strings.nulls().filter(|nulls| nulls.null_count() > 0);
        for row in 0..rows {
            let group = if nulls.is_some_and(|nulls| nulls.is_null(row)) {
                match self.null_group {
                    Some(group) => group,
                    None => {
                        let group = self.table.keys.push(b"");
                        self.null_group = Some(group);
                        group
                    }
                }
            } else {
                self.table
                    .group_of(&bytes[offsets[row] as usize..offsets[row + 1] as usize])
            };
            groups.push(group);
        }
        Ok(())
    }

    fn find(&mut self, keys: &[ArrayRef], _rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        let null_group = self.null_group.unwrap_or(UNKNOWN);
        let strings = keys[0].as_string::<i32>().iter();
        groups.clear();
        groups.extend(strings.map(|key| key.map_or(null_group, |key| self.table.lookup(key.as_bytes()))));
        Ok(())
    }

    fn len(&self) -> usize {
        self.table.keys.ends.len()
    }

    fn keys(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let (bytes, ends) = self.table.keys.gather(select);
        i32::try_from(bytes.len())
            .map_err(|_| arrow::error::ArrowError::ComputeError("string keys of one batch exceed 2 GiB".to_owned()))?;
        let offsets: Vec<i32> = std::iter::once(0)
            .chain(ends.into_iter().map(|end| end as i32))
            .collect();
        let nulls = self
            .null_group
            .map(|null| select.iter().map(|group| group != null).collect::<NullBuffer>());
        Ok(vec![Arc::new(arrow::array::StringArray::try_new(
            OffsetBuffer::new(offsets.into()),
            Buffer::from_vec(bytes),
            nulls.filter(|nulls| nulls.null_count() > 0),
        )?)])
    }

    fn reserve(&mut self, groups: usize) {
        self.table.reserve(groups);
    }

    fn size(&self) -> usize {
        self.table.size()
    }

    fn growth(&self, groups: usize) -> usize {
        self.table.growth(groups)
    }

    fn freeze(&mut self) {
        self.table.freeze();
    }

    fn clear(&mut self) {
        self.table.clear();
        self.null_group = None;
    }
}

/// The index of any key columns, through Arrow's row format. Floats are compared as in SQL: both zeros are equal, and
/// so are all NaNs; the key encoding of the store agrees.
struct RowIndex {
    converter: RowConverter,
    table: ByteTable,
    rows: Option<arrow_row::Rows>,
}

impl RowIndex {
    fn new(fields: &[FieldRef]) -> Result<Self, Error> {
        let sort_fields = fields
            .iter()
            .map(|field| SortField::new(field.data_type().clone()))
            .collect();
        Ok(Self {
            converter: RowConverter::new(sort_fields)?,
            table: ByteTable::new(),
            rows: None,
        })
    }

    /// Encodes keys as rows. The caller puts the result into `rows`, to be reused.
    fn encode(&mut self, keys: &[ArrayRef], rows: usize) -> Result<arrow_row::Rows, Error> {
        let mut scratch = match self.rows.take() {
            Some(scratch) => scratch,
            None => self.converter.empty_rows(rows, 0),
        };
        scratch.clear();
        let keys = keys
            .iter()
            .map(float_equality::normalize)
            .collect::<Result<Vec<_>, _>>()?;
        self.converter.append(&mut scratch, &keys)?;
        Ok(scratch)
    }
}

impl GroupIndex for RowIndex {
    fn intern(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        let encoded = self.encode(keys, rows)?;
        groups.clear();
        groups.extend(encoded.iter().map(|row| self.table.group_of(row.data())));
        self.rows = Some(encoded);
        Ok(())
    }

    fn find(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        let encoded = self.encode(keys, rows)?;
        groups.clear();
        groups.extend(encoded.iter().map(|row| self.table.lookup(row.data())));
        self.rows = Some(encoded);
        Ok(())
    }

    fn len(&self) -> usize {
        self.table.keys.ends.len()
    }

    fn keys(&self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let parser = self.converter.parser();
        Ok(self
            .converter
            .convert_rows(select.iter().map(|group| parser.parse(self.table.keys.get(group))))?)
    }

    fn reserve(&mut self, groups: usize) {
        self.table.reserve(groups);
    }

    fn size(&self) -> usize {
        self.table.size() + self.rows.as_ref().map_or(0, arrow_row::Rows::size)
    }

    fn growth(&self, groups: usize) -> usize {
        self.table.growth(groups)
    }

    fn freeze(&mut self) {
        self.table.freeze();
        self.rows = None;
    }

    fn clear(&mut self) {
        self.table.clear();
    }
}

#[cfg(test)]
mod tests;
