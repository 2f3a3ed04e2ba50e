//! Rows that a flush writes to the database.
//!
//! Keys have the layout of [`super::key`]. A value is the version byte 1 and the operator's bytes.

use super::key::{Family, KeyPrefix, KeyedPrefix};
use crate::Error;

const VALUE_VERSION: u8 = 1;
/// Marks a deletion in [`WriteChunk::value_ends`].
const DELETED: u32 = 1 << 31;

/// A source of the rows that one flush writes: dirty rows of an operator, frozen, and encoded chunk by chunk on a
/// background thread.
pub trait FlushSource: Send {
    /// Returns the next chunk, of about a megabyte; `None` after the last one. Chunks that continue in key order where
    /// the last one ended are written fastest. Dropping the source frees its memory.
    ///
    /// # Errors
    ///
    /// An error fails the store: every later call on it, and so its job, returns that error.
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error>;
}

/// Returns the operator's bytes of a stored value. `path` is the database's folder, for the error.
pub(crate) fn value_of<'a>(stored: &'a [u8], path: &std::path::Path) -> Result<&'a [u8], Error> {
    match stored.split_first() {
        Some((&VALUE_VERSION, value)) => Ok(value),
        Some((version, _)) => Err(Error::Corrupt(format!(
            "state database {}: a value of layout {version}; this engine reads {VALUE_VERSION}",
            path.display()
        ))),
        None => Err(Error::Corrupt(format!(
            "state database {}: an empty value",
            path.display()
        ))),
    }
}

/// Rows to write: one allocation for all keys, one for all values. Rows in ascending key order (key group, namespace,
/// key) are written fastest; of rows with the same key the last one counts.
#[derive(Debug, Default)]
pub struct WriteChunk {
    family: Family,
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    /// Version byte and value of each row.
    values: Vec<u8>,
    /// The top bit marks a deletion.
    value_ends: Vec<u32>,
}

impl WriteChunk {
    /// Creates an empty chunk for rows of keyed collections. A default chunk is for panes.
    pub fn keyed() -> Self {
        Self {
            family: Family::Keyed,
            ..Self::default()
        }
    }

    /// Returns the column family of the rows.
    pub(crate) fn family(&self) -> Family {
        self.family
    }

    /// Appends a row of a pane.
    pub fn put(&mut self, prefix: KeyPrefix, key: &[u8], value: &[u8]) {
        debug_assert_eq!(self.family, Family::Panes);
        self.push_key(&prefix.bytes(), key);
        self.push_value(value);
    }

    /// Appends the deletion of a row of a pane.
    pub fn delete(&mut self, prefix: KeyPrefix, key: &[u8]) {
        debug_assert_eq!(self.family, Family::Panes);
        self.push_key(&prefix.bytes(), key);
        self.push_deletion();
    }

    /// Appends a row of a keyed collection.
    pub fn put_keyed(&mut self, prefix: KeyedPrefix, key: &[u8], value: &[u8]) {
        debug_assert_eq!(self.family, Family::Keyed);
        self.push_key(&prefix.bytes(), key);
        self.push_value(value);
    }

    /// Appends the deletion of a row of a keyed collection.
    pub fn delete_keyed(&mut self, prefix: KeyedPrefix, key: &[u8]) {
        debug_assert_eq!(self.family, Family::Keyed);
        self.push_key(&prefix.bytes(), key);
        self.push_deletion();
    }

    fn push_value(&mut self, value: &[u8]) {
        self.values.push(VALUE_VERSION);
        self.values.extend_from_slice(value);
        let end = self.value_end();
        self.value_ends.push(end);
    }

    fn push_deletion(&mut self) {
        let end = self.value_end();
        self.value_ends.push(end | DELETED);
    }

    /// Returns the memory of the rows in bytes.
    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len() + 8 * self.key_ends.len()
    }

    /// Returns the number of rows, deletions included.
    pub fn len(&self) -> usize {
        self.key_ends.len()
    }

    /// Returns true if there are no rows.
    pub fn is_empty(&self) -> bool {
        self.key_ends.is_empty()
    }

    fn push_key(&mut self, prefix: &[u8], key: &[u8]) {
        self.keys.extend_from_slice(prefix);
        self.keys.extend_from_slice(key);
        // Offsets are 32 bits: a wrapped one would mix up rows.
        assert!(
            self.keys.len() < DELETED as usize,
            "a chunk of state has {} bytes of keys; it holds 2 GB at most",
            self.keys.len()
        );
        self.key_ends.push(self.keys.len() as u32);
    }

    fn value_end(&self) -> u32 {
        assert!(
            self.values.len() < DELETED as usize,
            "a chunk of state has {} bytes of values; it holds 2 GB at most",
            self.values.len()
        );
        self.values.len() as u32
    }

    /// Iterates over the rows as the database stores them: key, and value unless deleted.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
        debug_assert_eq!(
            self.key_ends.len(),
            self.value_ends.len(),
            "every row of a chunk has a key and a value"
        );
        let mut key_start = 0;
        let mut value_start = 0;
        self.key_ends
            .iter()
            .zip(&self.value_ends)
            .map(move |(&key_end, &value_end)| {
                let key = &self.keys[key_start..key_end as usize];
                key_start = key_end as usize;
                let end = (value_end & !DELETED) as usize;
                let value = (value_end & DELETED == 0).then(|| &self.values[value_start..end]);
                value_start = end;
                (key, value)
            })
    }

    pub(crate) fn last_key(&self) -> Option<&[u8]> {
        let start = match self.key_ends.len() {
            0 => return None,
            1 => 0,
            count => self.key_ends[count - 2] as usize,
        };
        Some(&self.keys[start..])
    }

    /// Returns true if the keys ascend strictly, the first of them after `last`.
    pub(crate) fn is_sorted_after(&self, last: Option<&[u8]>) -> bool {
        let mut last = last;
        self.rows().all(|(key, _)| {
            let ascends = last.is_none_or(|last| last < key);
            last = Some(key);
            ascends
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key_group::KeyGroup;

    #[test]
    fn rows_read_back_with_their_deletions() {
        let prefix = KeyPrefix {
            group: KeyGroup(1),
            namespace: 2,
        };
        let mut chunk = WriteChunk::default();
        chunk.put(prefix, b"a", b"x");
        chunk.delete(prefix, b"b");
        chunk.put(prefix, b"c", b"");
        let values: Vec<_> = chunk.rows().map(|(_, value)| value.map(<[u8]>::to_vec)).collect();
        assert_eq!(values, [Some(vec![1, b'x']), None, Some(vec![1])]);
        assert!(chunk.is_sorted_after(None));
        assert!(!chunk.is_sorted_after(Some(&prefix.key(b"a"))));
        assert_eq!(chunk.last_key().unwrap(), prefix.key(b"c"));
    }
}
