//! The group index of one string key column.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};

use super::byte_keys::ByteTable;
use super::{GroupIndex, UNKNOWN};
use crate::Error;
use crate::operators::table::Select;

/// The index of one string key column.
pub(super) struct StringIndex {
    table: ByteTable,
    null_group: Option<u32>,
}

impl StringIndex {
    pub(super) fn new() -> Self {
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
