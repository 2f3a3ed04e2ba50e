//! Sets of key groups.

use millstream_state::key_group::KeyGroup;

/// A set of key groups. Operators keep the key groups that have rows of a namespace, to delete from no others.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyGroupSet {
    /// By key group, up to the greatest one in the set.
    contained: Vec<bool>,
}

impl Extend<u16> for KeyGroupSet {
    fn extend<T: IntoIterator<Item = u16>>(&mut self, groups: T) {
        groups.into_iter().for_each(|group| self.insert(group));
    }
}

impl KeyGroupSet {
    /// Adds a key group.
    pub(crate) fn insert(&mut self, group: u16) {
        let group = group as usize;
        if self.contained.len() <= group {
            self.contained.resize(group + 1, false);
        }
        self.contained[group] = true;
    }

    /// Returns true if the set has no key groups.
    pub(crate) fn is_empty(&self) -> bool {
        !self.contained.contains(&true)
    }

    /// Returns true if the set has this key group.
    pub(crate) fn contains(&self, group: u16) -> bool {
        self.contained.get(group as usize).copied().unwrap_or(false)
    }

    /// Returns all key groups, ascending.
    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = u16> {
        self.contained
            .iter()
            .enumerate()
            .filter(|(_, contained)| **contained)
            .map(|(group, _)| group as u16)
    }

    /// Returns all key groups, ascending.
    pub(crate) fn to_vec(&self) -> Vec<KeyGroup> {
        self.iter().map(KeyGroup).collect()
    }
}
