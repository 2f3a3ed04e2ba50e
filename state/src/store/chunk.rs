//! Rows on their way into the database, and the keys they get there.
//!
//! Key, version 1: `key_group (u16 BE) | namespace (i64 BE, sign bit flipped) | key`. Big-endian and the flipped sign
//! make byte order the order of (group, namespace, key). Value: version byte 1, then the operator's bytes.

use super::KeyPrefix;
use crate::Error;
use crate::key_group::KeyGroup;

/// Bytes before the operator's key.
pub const PREFIX_BYTES: usize = 10;
const VALUE_VERSION: u8 = 1;
const DELETED: u32 = 1 << 31;

impl KeyPrefix {
    pub(crate) fn bytes(self) -> [u8; PREFIX_BYTES] {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..2].copy_from_slice(&self.group.0.to_be_bytes());
        prefix[2..].copy_from_slice(&((self.namespace as u64) ^ (1 << 63)).to_be_bytes());
        prefix
    }

    /// The smallest key behind all keys of this prefix.
    pub(crate) fn end(self) -> [u8; PREFIX_BYTES] {
        match self.namespace.checked_add(1) {
            Some(namespace) => KeyPrefix { namespace, ..self }.bytes(),
            None => KeyPrefix {
                group: KeyGroup(self.group.0 + 1),
                namespace: i64::MIN,
            }
            .bytes(),
        }
    }

    pub(crate) fn key(self, key: &[u8]) -> Vec<u8> {
        [&self.bytes(), key].concat()
    }

    pub(crate) fn of_key(key: &[u8]) -> Option<KeyPrefix> {
        let group = u16::from_be_bytes(*key.first_chunk()?);
        let namespace = u64::from_be_bytes(*key.get(2..)?.first_chunk()?) ^ (1 << 63);
        Some(KeyPrefix {
            group: KeyGroup(group),
            namespace: namespace as i64,
        })
    }
}

/// The operator's bytes of a stored value.
pub(crate) fn value_of<'a>(stored: &'a [u8], place: &std::path::Path) -> Result<&'a [u8], Error> {
    match stored.split_first() {
        Some((&VALUE_VERSION, value)) => Ok(value),
        Some((version, _)) => Err(Error::Corrupt(format!(
            "state database {}: a value of layout {version}; this engine reads {VALUE_VERSION}",
            place.display()
        ))),
        None => Err(Error::Corrupt(format!(
            "state database {}: an empty value",
            place.display()
        ))),
    }
}

/// Rows to write, already in key order (group, namespace, key): one allocation for all keys, one for all values.
#[derive(Debug, Default)]
pub struct WriteChunk {
    keys: Vec<u8>,
    key_ends: Vec<u32>,
    /// Version byte and value of each row.
    values: Vec<u8>,
    /// The top bit marks a deletion.
    value_ends: Vec<u32>,
}

impl WriteChunk {
    pub fn put(&mut self, prefix: KeyPrefix, key: &[u8], value: &[u8]) {
        self.push_key(prefix, key);
        self.values.push(VALUE_VERSION);
        self.values.extend_from_slice(value);
        self.value_ends.push(self.values.len() as u32);
    }

    pub fn delete(&mut self, prefix: KeyPrefix, key: &[u8]) {
        self.push_key(prefix, key);
        self.value_ends.push(self.values.len() as u32 | DELETED);
    }

    pub fn bytes(&self) -> usize {
        self.keys.len() + self.values.len() + 8 * self.key_ends.len()
    }

    pub fn len(&self) -> usize {
        self.key_ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.key_ends.is_empty()
    }

    fn push_key(&mut self, prefix: KeyPrefix, key: &[u8]) {
        self.keys.extend_from_slice(&prefix.bytes());
        self.keys.extend_from_slice(key);
        // Chunks are about a megabyte; one row is far below the 2 GB that the ends can tell.
        assert!(self.keys.len() < DELETED as usize && self.values.len() < DELETED as usize);
        self.key_ends.push(self.keys.len() as u32);
    }

    /// Each row as the database takes it: key, and value unless deleted.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
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

    /// Whether the keys ascend strictly, beginning behind `after`.
    pub(crate) fn ascends_after(&self, after: Option<&[u8]>) -> bool {
        let mut last = after;
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

    fn prefix(group: u16, namespace: i64) -> KeyPrefix {
        KeyPrefix {
            group: KeyGroup(group),
            namespace,
        }
    }

    #[test]
    fn keys_are_golden() {
        assert_eq!(prefix(0x0102, 0).key(b"k"), [1, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, b'k']);
        assert_eq!(prefix(0, -1).key(b""), [0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(prefix(7, i64::MAX).end(), prefix(8, i64::MIN).bytes());
        assert_eq!(KeyPrefix::of_key(&prefix(9, -5).key(b"abc")), Some(prefix(9, -5)));
    }

    #[test]
    fn rows_read_back_with_their_deletions() {
        let mut chunk = WriteChunk::default();
        chunk.put(prefix(1, 2), b"a", b"x");
        chunk.delete(prefix(1, 2), b"b");
        chunk.put(prefix(1, 2), b"c", b"");
        let values: Vec<_> = chunk.rows().map(|(_, value)| value.map(<[u8]>::to_vec)).collect();
        assert_eq!(values, [Some(vec![1, b'x']), None, Some(vec![1])]);
        assert!(chunk.ascends_after(None));
        assert!(!chunk.ascends_after(Some(&prefix(1, 2).key(b"a"))));
        assert_eq!(chunk.last_key().unwrap(), prefix(1, 2).key(b"c"));
    }
}
