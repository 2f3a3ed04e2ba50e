//! Assignment of splits to the subtasks of a source.
//!
//! Splits are assigned by weight: the heaviest first, each to the subtask with the least total weight so far. Splits
//! of ordered sources are assigned round-robin instead, so that all subtasks advance through time together. Splits
//! that a checkpoint lists keep their positions; new ones start at their beginning; those that are read to the end
//! are remembered, so that discovery never assigns them again.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use millstream_connectors::Split;
use millstream_graph::OperatorId;
use millstream_runtime::subtask_state::{SplitState, SubtaskState};

/// Assigns the splits of one source during one attempt.
#[derive(Debug, Default)]
pub struct SplitAssigner {
    /// Ids of all splits that are known.
    ids: BTreeSet<String>,
    /// Splits that were read to the end before this attempt, or before their subtask restarted. No subtask knows
    /// them, so the driver adds them to every checkpoint.
    finished: Vec<SplitState>,
    /// The assigned splits with their subtasks, in the order of assignment.
    assigned: Vec<(usize, Split)>,
    /// Assigned weight of each subtask.
    loads: Vec<u64>,
    /// The next subtask of the round-robin assignment.
    next_subtask: usize,
    ordered: bool,
}

impl SplitAssigner {
    /// Creates the assignment of a source without splits.
    pub fn new(subtasks: usize, ordered: bool) -> Self {
        Self {
            loads: vec![0; subtasks],
            ordered,
            ..Self::default()
        }
    }

    /// Takes over the splits of a checkpoint. Finished ones are remembered, the others are returned with their
    /// positions.
    pub fn restore(&mut self, states: &[SubtaskState]) -> Vec<Split> {
        let mut splits = Vec::new();
        for split in states.iter().flat_map(|state| &state.splits) {
            if !self.ids.insert(split.id.clone()) {
                continue;
            }
            if split.finished {
                self.finished.push(split.clone());
            } else {
                splits.push(open(split));
            }
        }
        splits
    }

    /// Takes over the splits that running subtasks read.
    pub fn add_running(&mut self, states: &[SubtaskState]) {
        for state in states {
            for split in &state.splits {
                self.ids.insert(split.id.clone());
                if !split.finished
                    && let Some(load) = self.loads.get_mut(state.subtask)
                {
                    *load += split.weight.max(1);
                    self.assigned.push((state.subtask, open(split)));
                }
            }
        }
        self.next_subtask = self.ids.len() % self.loads.len();
    }

    /// Returns the splits that are not known yet.
    pub fn take_new(&mut self, discovered: Vec<Split>) -> Vec<Split> {
        discovered
            .into_iter()
            .filter(|split| self.ids.insert(split.id.clone()))
            .collect()
    }

    /// Assigns splits to the subtasks; each subtask gets its splits in the given order.
    pub fn assign(&mut self, splits: Vec<Split>) -> Vec<Vec<Split>> {
        let mut owners = vec![0; splits.len()];
        let mut order: Vec<usize> = (0..splits.len()).collect();
        if !self.ordered {
            // A stable sort: equal weights stay in order.
            order.sort_by_key(|index| std::cmp::Reverse(splits[*index].weight));
        }
        for index in order {
            let subtask = if self.ordered {
                let subtask = self.next_subtask;
                self.next_subtask = (self.next_subtask + 1) % self.loads.len();
                subtask
            } else {
                (0..self.loads.len())
                    .min_by_key(|subtask| self.loads[*subtask])
                    .unwrap_or(0)
            };
            self.loads[subtask] += splits[index].weight.max(1);
            owners[index] = subtask;
        }
        let mut assigned = vec![Vec::new(); self.loads.len()];
        for (split, owner) in splits.into_iter().zip(owners) {
            self.assigned.push((owner, split.clone()));
            assigned[owner].push(split);
        }
        assigned
    }

    /// Returns the splits of the subtasks that restart from a checkpoint of this attempt, by subtask: at their
    /// positions in the checkpoint, or as they were assigned if the checkpoint does not list them. Splits that are
    /// finished in the checkpoint are remembered.
    pub fn reassign(&mut self, states: &[SubtaskState], is_restarted: impl Fn(usize) -> bool) -> Vec<Vec<Split>> {
        let listed = states.iter().flat_map(|state| &state.splits);
        let listed: HashMap<&str, &SplitState> = listed.map(|split| (split.id.as_str(), split)).collect();
        let mut assigned = vec![Vec::new(); self.loads.len()];
        let finished = &mut self.finished;
        self.assigned.retain(|(subtask, split)| {
            if !is_restarted(*subtask) {
                return true;
            }
            match listed.get(split.id.as_str()) {
                Some(known) if known.finished => {
                    finished.push((*known).clone());
                    return false;
                }
                Some(known) => assigned[*subtask].push(open(known)),
                None => assigned[*subtask].push(split.clone()),
            }
            true
        });
        assigned
    }
}

/// Returns a split that continues at its position.
pub fn open(split: &SplitState) -> Split {
    Split {
        id: split.id.clone(),
        position: split.position.clone(),
        weight: split.weight,
        finished: false,
    }
}

/// Adds to the states of a checkpoint the splits that were finished before the attempt began.
pub fn add_finished_splits(
    known: &BTreeMap<OperatorId, SplitAssigner>,
    states: &mut BTreeMap<OperatorId, Vec<SubtaskState>>,
) {
    for (operator, known) in known {
        let Some(states) = states.get_mut(operator) else {
            continue;
        };
        let listed: BTreeSet<String> = states
            .iter()
            .flat_map(|state| state.splits.iter().map(|split| split.id.clone()))
            .collect();
        let missing = known
            .finished
            .iter()
            .filter(|split| !listed.contains(&split.id))
            .cloned();
        if let Some(first) = states.first_mut() {
            first.splits.extend(missing);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(id: &str, weight: u64) -> Split {
        Split {
            id: id.into(),
            position: vec![],
            weight,
            finished: false,
        }
    }

    #[track_caller]
    fn check(ordered: bool, weights: &[(&str, u64)], expected: &[&[&str]]) {
        let mut known = SplitAssigner::new(expected.len(), ordered);
        let assigned = known.assign(weights.iter().map(|(id, weight)| split(id, *weight)).collect());
        let ids: Vec<Vec<_>> = assigned
            .iter()
            .map(|splits| splits.iter().map(|split| split.id.as_str()).collect())
            .collect();
        assert_eq!(ids, expected);
    }

    #[test]
    fn splits_are_divided_by_weight_or_dealt_out_in_order() {
        check(
            false,
            &[("a", 1), ("b", 9), ("c", 5), ("d", 5)],
            &[&["a", "b"], &["c", "d"]],
        );
        check(false, &[("a", 0), ("b", 0), ("c", 0)], &[&["a", "c"], &["b"]]);
        check(true, &[("a", 1), ("b", 9), ("c", 5)], &[&["a", "c"], &["b"]]);
        check(false, &[], &[&[], &[]]);
    }

    #[test]
    fn splits_that_running_tasks_read_are_never_handed_out_and_count_as_load() {
        let reads = |subtask, id: &str, weight| SubtaskState {
            subtask,
            splits: vec![SplitState {
                id: id.into(),
                position: vec![],
                weight,
                finished: false,
                watermark: None,
            }],
            ..SubtaskState::default()
        };
        let mut known = SplitAssigner::new(2, false);
        known.add_running(&[reads(0, "a", 9), reads(1, "b", 2)]);
        let new = known.take_new(vec![split("a", 9), split("b", 2), split("c", 5), split("d", 1)]);
        let assigned = known.assign(new);
        let ids: Vec<Vec<_>> = assigned
            .iter()
            .map(|splits| splits.iter().map(|split| split.id.as_str()).collect())
            .collect();
        assert_eq!(ids, [vec![], vec!["c", "d"]]);
    }

    fn state(id: &str, finished: bool) -> SplitState {
        SplitState {
            id: id.into(),
            position: vec![7],
            weight: 1,
            finished,
            watermark: None,
        }
    }

    #[test]
    fn subtasks_that_begin_again_get_their_own_splits_as_of_the_checkpoint() {
        let mut known = SplitAssigner::new(2, true);
        known.assign(["a", "b", "c", "d", "e"].map(|id| split(id, 1)).into());
        let states = [SubtaskState {
            splits: vec![state("a", false), state("b", false), state("c", true)],
            ..SubtaskState::default()
        }];
        let again = known.reassign(&states, |subtask| subtask == 0);
        let given: Vec<Vec<_>> = again
            .iter()
            .map(|splits| {
                splits
                    .iter()
                    .map(|split| (split.id.as_str(), split.position.len()))
                    .collect()
            })
            .collect();
        assert_eq!(given, [vec![("a", 1), ("e", 0)], vec![]]);
        // The finished one is assigned to no subtask, and is remembered over several restarts.
        known.reassign(&states, |subtask| subtask == 0);
        let source = OperatorId("s".into());
        let mut states = BTreeMap::from([(source.clone(), vec![SubtaskState::default()])]);
        add_finished_splits(&BTreeMap::from([(source.clone(), known)]), &mut states);
        let kept: Vec<_> = states[&source][0]
            .splits
            .iter()
            .map(|split| split.id.as_str())
            .collect();
        assert_eq!(kept, ["c"]);
    }

    #[test]
    fn finished_splits_are_never_handed_out_again_and_never_forgotten() {
        let restored = SubtaskState {
            splits: vec![state("a", true), state("b", false)],
            ..SubtaskState::default()
        };
        let mut known = SplitAssigner::new(1, false);
        let open = known.restore(&[restored]);
        assert_eq!(open.iter().map(|split| split.id.as_str()).collect::<Vec<_>>(), ["b"]);
        assert_eq!(open[0].position, [7]);
        let new = known.take_new(vec![split("a", 1), split("b", 1), split("c", 1)]);
        assert_eq!(new.iter().map(|split| split.id.as_str()).collect::<Vec<_>>(), ["c"]);

        let source = OperatorId("s".into());
        let mut states = BTreeMap::from([(source.clone(), vec![SubtaskState::default()])]);
        add_finished_splits(&BTreeMap::from([(source.clone(), known)]), &mut states);
        assert_eq!(states[&source][0].splits[0].id, "a");
    }
}
