//! Key groups: the unit in which keyed state is divided among subtasks and moved when a job is rescaled.

/// One of the job's `max_parallelism` slices of the key space: `hash(key) % max_parallelism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyGroup(pub u16);

impl KeyGroup {
    /// The key group of a key with this hash (see [`crate::hash`]).
    #[inline]
    pub fn of_hash(hash: u64, max_parallelism: u16) -> Self {
        Self((hash % u64::from(max_parallelism)) as u16)
    }
}

/// The key groups `start..end` that one subtask owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct KeyGroupRange {
    pub start: u16,
    pub end: u16,
}

impl KeyGroupRange {
    /// The contiguous share of `subtask` out of `parallelism` (Flink's formula: shares differ by at most one).
    pub fn of_subtask(max_parallelism: u16, parallelism: usize, subtask: usize) -> Self {
        let (max, parallelism, subtask) = (max_parallelism as usize, parallelism, subtask);
        let start = (subtask * max).div_ceil(parallelism);
        let end = ((subtask + 1) * max).div_ceil(parallelism);
        Self {
            start: start as u16,
            end: end as u16,
        }
    }

    /// The subtask that owns a key group: the inverse of [`KeyGroupRange::of_subtask`].
    #[inline]
    pub fn owner(max_parallelism: u16, parallelism: usize, group: KeyGroup) -> usize {
        group.0 as usize * parallelism / max_parallelism as usize
    }

    /// How many key groups there are.
    pub fn count(self) -> usize {
        usize::from(self.end.saturating_sub(self.start))
    }

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
