//! Key groups: the unit in which keyed state is divided among subtasks and moved when a job is rescaled.

/// One of the job's `max_parallelism` slices of the key space: `hash(key) % max_parallelism`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyGroup(pub u16);

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

    pub fn contains(self, group: KeyGroup) -> bool {
        (self.start..self.end).contains(&group.0)
    }
}
