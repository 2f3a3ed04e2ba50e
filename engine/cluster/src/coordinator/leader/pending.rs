//! Changes that the journal does not have yet, coalesced: the queue is bounded by the number of jobs, however long
//! the journal cannot be written.
//!
//! Of changes that state present facts (`Placed`, `RunTotals`, `RunProgress`, `Pipeline`), only the newest of each
//! job and kind is kept, at its own place in the queue: a later `RunTotals` clears an earlier `RunProgress`, but not
//! the other way round. Of a job's transitions the newest [`TRANSITIONS_MAX`] are kept, as in its record. Replaying
//! the queue gives the same [`Ledger`](crate::coordinator::ledger::Ledger) as replaying every change.
//!
//! Changes of a record that may or may not be in the journal ([`PendingChanges::begin_put`]) are not coalesced until
//! that is known.

use std::collections::{BTreeMap, HashMap, VecDeque};

use crate::coordinator::ledger::{Change, TRANSITIONS_MAX};

/// Changes in replay order.
#[derive(Debug, Default)]
pub(super) struct PendingChanges {
    /// By sequence number.
    changes: BTreeMap<u64, Change>,
    next_seq: u64,
    /// Changes with lower sequence numbers are in the record that was put last.
    put_end_seq: u64,
    /// Sequence numbers of the changes of each job that a newer one can replace.
    replaceable: HashMap<String, Replaceable>,
}

#[derive(Debug, Default)]
struct Replaceable {
    /// By kind of fact.
    facts: [Option<u64>; FACT_KINDS],
    /// Oldest first.
    transitions: VecDeque<u64>,
}

const FACT_KINDS: usize = 4;

/// Role of a change in coalescing.
enum Kind<'a> {
    /// Replaces the earlier change of the same job and kind.
    Fact {
        job: &'a str,
        kind: usize,
    },
    Transition {
        job: &'a str,
    },
    /// Its order relative to other changes matters.
    Other,
}

impl Kind<'_> {
    fn of(change: &Change) -> Kind<'_> {
        match change {
            Change::Pipeline { job, .. } => Kind::Fact { job, kind: 0 },
            Change::Placed { job, .. } => Kind::Fact { job, kind: 1 },
            Change::RunTotals { job, .. } => Kind::Fact { job, kind: 2 },
            Change::RunProgress { job, .. } => Kind::Fact { job, kind: 3 },
            Change::Transition { job, .. } => Kind::Transition { job },
            Change::Submitted(_)
            | Change::Wanted { .. }
            | Change::Parallelism { .. }
            | Change::Update { .. }
            | Change::Deleting { .. }
            | Change::Deleted { .. }
            | Change::Drained { .. } => Kind::Other,
        }
    }
}

impl PendingChanges {
    /// Appends a change and removes those that it makes redundant.
    pub(super) fn push(&mut self, change: Change) {
        let seq = self.next_seq;
        match Kind::of(&change) {
            Kind::Fact { job, kind } => {
                let earlier = self.replaceable(job).facts[kind].replace(seq);
                if let Some(earlier) = earlier {
                    self.changes.remove(&earlier);
                }
            }
            Kind::Transition { job } => {
                let last = self.replaceable(job).transitions.back().copied();
                if last.is_some_and(|last| is_same_transition(&self.changes[&last], &change)) {
                    return;
                }
                let transitions = &mut self.replaceable(job).transitions;
                transitions.push_back(seq);
                if transitions.len() > TRANSITIONS_MAX
                    && let Some(oldest) = transitions.pop_front()
                {
                    self.changes.remove(&oldest);
                }
            }
            Kind::Other => self.replaceable.clear(),
        }
        self.changes.insert(seq, change);
        self.next_seq += 1;
    }

    fn replaceable(&mut self, job: &str) -> &mut Replaceable {
        if !self.replaceable.contains_key(job) {
            self.replaceable.insert(job.to_string(), Replaceable::default());
        }
        self.replaceable
            .get_mut(job)
            .expect("it was inserted if it was missing")
    }

    /// Returns all changes, for a record that is put now. They are kept until [`PendingChanges::end_put`]. Changes of
    /// an earlier record without an answer are included.
    pub(super) fn begin_put(&mut self) -> Vec<Change> {
        self.end_put(false);
        self.put_end_seq = self.next_seq;
        self.replaceable.clear();
        self.changes.values().cloned().collect()
    }

    /// Removes the changes of the record that was put last if the journal has it. Otherwise they are pending as
    /// before.
    pub(super) fn end_put(&mut self, is_written: bool) {
        let put_end_seq = std::mem::take(&mut self.put_end_seq);
        if put_end_seq == 0 {
            return;
        }
        match is_written {
            true => self.changes = self.changes.split_off(&put_end_seq),
            false => {
                self.replaceable.clear();
                for change in std::mem::take(&mut self.changes).into_values() {
                    self.push(change);
                }
            }
        }
    }
}

fn is_same_transition(earlier: &Change, later: &Change) -> bool {
    match (earlier, later) {
        (
            Change::Transition {
                transition: earlier, ..
            },
            Change::Transition { transition: later, .. },
        ) => earlier == later,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
