//! Key groups: the units by which keyed state is partitioned among subtasks, and redistributed by a rescale.

/// A key group, one of the `max_parallelism` partitions of a job's keys: `hash(key) % max_parallelism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// Returns the key group of a key with this hash ([`crate::hash`]). `max_parallelism` must not be 0.
    #[inline]
    pub fn of_hash(hash: u64, max_parallelism: u16) -> Self {
        Self((hash % u64::from(max_parallelism)) as u16)
    }
}

/// The key groups `start..end` that one subtask owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct KeyGroupRange {
    /// First key group.
    pub start: u16,
    /// Key group after the last one.
    pub end: u16,
}

impl KeyGroupRange {
    /// Returns the contiguous range of `subtask` out of `parallelism` (Flink's formula: sizes differ by at most one).
    pub fn of_subtask(max_parallelism: u16, parallelism: usize, subtask: usize) -> Self {
        debug_assert!(
            subtask < parallelism && parallelism <= usize::from(max_parallelism),
            "subtask {subtask} of {parallelism}, with {max_parallelism} key groups"
        );
        let max = usize::from(max_parallelism);
        let start = (subtask * max).div_ceil(parallelism);
        let end = ((subtask + 1) * max).div_ceil(parallelism);
        Self {
            start: start as u16,
            end: end as u16,
        }
    }

    /// Returns the subtask that owns a key group: the inverse of [`KeyGroupRange::of_subtask`].
    #[inline]
    pub fn owner(max_parallelism: u16, parallelism: usize, group: KeyGroup) -> usize {
        group.0 as usize * parallelism / max_parallelism as usize
    }

    /// Returns the number of key groups.
    pub fn count(self) -> usize {
        usize::from(self.end.saturating_sub(self.start))
    }

    /// Returns true if the range contains `group`.
    pub fn contains(self, group: KeyGroup) -> bool {
        (self.start..self.end).contains(&group.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_group_has_exactly_the_owner_that_says_so() {
        for max in [1u16, 7, 128, 1000] {
            for parallelism in 1..=usize::from(max.min(40)) {
                for group in (0..max).map(KeyGroup) {
                    let owners: Vec<usize> = (0..parallelism)
                        .filter(|subtask| KeyGroupRange::of_subtask(max, parallelism, *subtask).contains(group))
                        .collect();
                    assert_eq!(owners, [KeyGroupRange::owner(max, parallelism, group)]);
                }
            }
        }
    }
}
