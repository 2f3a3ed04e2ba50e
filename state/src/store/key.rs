//! Keys of the database.
//!
//! There are two column families, each with a layout of its own. Panes of windows: `key_group (u16 BE) | namespace (i64
//! BE, sign bit flipped) | key` (layout 1). Keyed collections: `key_group (u16 BE) | collection (u8) | generation (u32
//! BE) | hash (u64 BE) | key` (layout 2). Big-endian and the flipped sign make byte order the order of these fields.

use crate::key_group::KeyGroup;

/// The column families of a database.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// Rows of windows: written, read whole once, and deleted.
    #[default]
    Panes,
    /// Rows of keyed collections: read and replaced by key.
    Keyed,
}

impl Family {
    pub(crate) const ALL: [Self; 2] = [Self::Panes, Self::Keyed];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Panes => "default",
            Self::Keyed => "keyed",
        }
    }
}

/// Returns the smallest byte string after all that begin with `prefix`, which is not all `FF`: no key group is `FFFF`.
pub(crate) fn successor(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while end.pop_if(|byte| *byte == u8::MAX).is_some() {}
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end
}

/// Bytes before the operator's key.
pub(crate) const PREFIX_BYTES: usize = 10;

/// The part of a database key before the operator's key: key group and namespace. It sorts by group, then namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrefix {
    /// The key group of the row's key.
    pub group: KeyGroup,
    /// Separates the windows, or the kinds of state, of one key. For windows it is the end of the window or slice.
    pub namespace: i64,
}

impl KeyPrefix {
    pub(crate) fn bytes(self) -> [u8; PREFIX_BYTES] {
        let mut prefix = [0; PREFIX_BYTES];
        prefix[..2].copy_from_slice(&self.group.0.to_be_bytes());
        prefix[2..].copy_from_slice(&((self.namespace as u64) ^ (1 << 63)).to_be_bytes());
        prefix
    }

    /// Returns the smallest key after all keys of this prefix.
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

    /// Returns the whole database key of an operator's key.
    pub(crate) fn key(self, key: &[u8]) -> Vec<u8> {
        [&self.bytes(), key].concat()
    }

    /// Parses the prefix of a database key; `None` if the key is too short.
    pub(crate) fn of_key(key: &[u8]) -> Option<KeyPrefix> {
        let group = u16::from_be_bytes(*key.first_chunk()?);
        let namespace = u64::from_be_bytes(*key.get(2..)?.first_chunk()?) ^ (1 << 63);
        Some(KeyPrefix {
            group: KeyGroup(group),
            namespace: namespace as i64,
        })
    }
}

/// Bytes up to the end of the generation in the layout of keyed collections.
const GENERATION_END: usize = 7;
/// Bytes before the operator's key in the layout of keyed collections. The database has a Bloom filter of them.
pub(crate) const KEYED_PREFIX_BYTES: usize = 15;

/// The part of the key of a keyed collection before the operator's key. It sorts by the fields in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyedPrefix {
    /// The key group of the row's key.
    pub group: KeyGroup,
    /// Number of the collection in its operator's store.
    pub collection: u8,
    /// Generation of the row; rows of a generation are deleted together.
    pub generation: u32,
    /// Hash of the key.
    pub hash: u64,
}

/// Keys of one family from the first to before the last. Both are in the same key group, or the last is its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyRange {
    pub family: Family,
    pub from: Vec<u8>,
    pub to: Vec<u8>,
}

impl KeyRange {
    /// Returns the keys of panes from one prefix to another, inclusive.
    pub(crate) fn panes(first: KeyPrefix, last: KeyPrefix) -> Self {
        debug_assert!(first <= last, "the range from {first:?} to {last:?}");
        Self {
            family: Family::Panes,
            from: first.bytes().to_vec(),
            to: last.end().to_vec(),
        }
    }

    /// Returns the keys of some generations of a collection in a key group.
    pub(crate) fn generations(group: KeyGroup, collection: u8, generations: std::ops::Range<u32>) -> Self {
        let prefix = |generation: u32| {
            let prefix = KeyedPrefix {
                group,
                collection,
                generation,
                hash: 0,
            };
            prefix.bytes()[..GENERATION_END].to_vec()
        };
        Self {
            family: Family::Keyed,
            from: prefix(generations.start),
            to: prefix(generations.end),
        }
    }
}

impl KeyedPrefix {
    pub(crate) fn bytes(self) -> [u8; KEYED_PREFIX_BYTES] {
        let mut prefix = [0; KEYED_PREFIX_BYTES];
        prefix[..2].copy_from_slice(&self.group.0.to_be_bytes());
        prefix[2] = self.collection;
        prefix[3..7].copy_from_slice(&self.generation.to_be_bytes());
        prefix[7..].copy_from_slice(&self.hash.to_be_bytes());
        prefix
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_golden() {
        let prefix = |group: u16, namespace: i64| KeyPrefix {
            group: KeyGroup(group),
            namespace,
        };
        assert_eq!(prefix(0x0102, 0).key(b"k"), [1, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, b'k']);
        assert_eq!(prefix(0, -1).key(b""), [0, 0, 0x7f, 255, 255, 255, 255, 255, 255, 255]);
        assert_eq!(prefix(7, i64::MAX).end(), prefix(8, i64::MIN).bytes());
        assert_eq!(KeyPrefix::of_key(&prefix(9, -5).key(b"abc")), Some(prefix(9, -5)));
    }

    #[test]
    fn prefixes_of_collections_are_golden() {
        let prefix = KeyedPrefix {
            group: KeyGroup(0x0102),
            collection: 3,
            generation: 0x0405_0607,
            hash: 0x0809_0a0b_0c0d_0e0f,
        };
        assert_eq!(prefix.bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
    }
}
