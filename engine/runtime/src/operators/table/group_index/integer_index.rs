//! The group index of one integer-like key column.

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;

use super::{GroupIndex, UNKNOWN, vec_growth};
use crate::Error;
use crate::operators::table::Select;
use crate::operators::table::integers::{from_integers, integer_values, integer_width};

/// The index of one integer-like key column: a hash table with linear probing. Key and group are in one slot, so a
/// look-up in a table larger than the caches costs one cache miss.
pub(super) struct IntegerIndex {
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
    pub(super) fn new(data_type: &DataType) -> Self {
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
