//! Keys of the database.
//!
//! Layout, version 1: `key_group (u16 BE) | namespace (i64 BE, sign bit flipped) | key`. Big-endian and the flipped
//! sign make byte order the order of (group, namespace, key).

use crate::key_group::KeyGroup;

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
}
