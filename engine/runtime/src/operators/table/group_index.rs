//! Group indexes: map key columns to dense group numbers, and back.
//!
//! [`GroupIndex::intern`] maps each row of key columns to a group number, and gives new keys the next number;
//! [`GroupIndex::keys`] reads keys without consuming them. There is one index per kind of key: no key at all, one
//! integer-like column, one string column, and all others through Arrow's row format. The row format is used in memory
//! only; the encoding on disk is that of the state crate.

mod byte_keys;
mod integer_index;
mod row_index;
mod string_index;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, FieldRef};

use self::integer_index::IntegerIndex;
use self::row_index::RowIndex;
use self::string_index::StringIndex;
use super::Select;
use super::integers::integer_width;
use crate::Error;

/// Stands for the group of a key that is not in an index.
pub(crate) const UNKNOWN: u32 = u32::MAX;

/// A dense numbering of distinct keys. Groups are numbered from 0 in the order of their first appearance.
pub(crate) trait GroupIndex: Send {
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
pub(super) fn vec_growth<T>(vec: &Vec<T>, more: usize) -> usize {
    let needed = vec.len() + more;
    if needed <= vec.capacity() {
        return 0;
    }
    (needed.max(vec.capacity() * 2) - vec.capacity()) * size_of::<T>()
}

/// Makes the index for keys of these types.
pub(crate) fn new_group_index(fields: &[FieldRef]) -> Result<Box<dyn GroupIndex>, Error> {
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

#[cfg(test)]
mod tests;
