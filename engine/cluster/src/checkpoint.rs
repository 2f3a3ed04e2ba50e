//! The checkpoint coordinator: decides when to trigger a checkpoint, when it is complete, and when sinks may publish.
//!
//! A pure state machine: events and the time go in, commands come out. One checkpoint is under way at a time:
//!
//! ```text
//! idle --trigger--> collecting --all acknowledged--> storing --manifest written--> publishing --sinks committed-->
//! idle
//!                       |  declined, timed out           |  not written
//!                       +--------> failed <--------------+      (idle again, until too many failed in a row)
//! ```
//!
//! A checkpoint with the same content as the one before is not stored ([`Event::Unchanged`]): the earlier one stands
//! for it.
//!
//! A sink includes in each checkpoint everything that it has prepared and that is not published, so the output of a
//! failed checkpoint is in the next one. A sink that cannot prepare has lost rows, which fails the attempt at once.
//!
//! While a region restarts ([`Event::Suspend`]) no checkpoint can complete: one that waits for acknowledgements is
//! aborted, which does not count as a failure, and none is triggered until [`Event::Resume`].
//!
//! The state machine stores nothing, calls nobody and reads no clock; the driver does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_graph::OperatorId;
use millstream_runtime::subtask_state::SubtaskState;

/// Configuration of checkpoints, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Interval between the triggers of two checkpoints.
    pub interval_ms: u64,
    /// Smallest pause between the end of a checkpoint and the next trigger.
    pub min_pause_ms: u64,
    /// A checkpoint that is not acknowledged within this time is aborted.
    pub timeout_ms: u64,
    /// Number of failed checkpoints in a row that the attempt survives.
    pub tolerable_failures: u32,
    /// Time after which barriers overtake rows (unaligned checkpoint); `None`: never.
    pub aligned_timeout_ms: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval_ms: 10_000,
            min_pause_ms: 0,
            timeout_ms: 600_000,
            tolerable_failures: 3,
            aligned_timeout_ms: Some(30_000),
        }
    }
}

/// One subtask of one operator.
pub type Participant = (OperatorId, usize);

/// An event of the attempt.
#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A client requests a checkpoint now.
    Requested,
    /// A subtask has finished its part of a checkpoint.
    Acknowledged {
        checkpoint: u64,
        operator: OperatorId,
        state: SubtaskState,
    },
    /// A subtask cannot take part in a checkpoint.
    Declined {
        checkpoint: u64,
        operator: OperatorId,
        subtask: usize,
        reason: String,
        /// True if a sink has lost rows.
        rows_lost: bool,
    },
    /// The manifest is written: the checkpoint is complete.
    Stored { checkpoint: u64 },
    /// The manifest could not be written.
    NotStored { checkpoint: u64, reason: String },
    /// The checkpoint has the same content as the one before, which stands for it.
    Unchanged { checkpoint: u64 },
    /// All sinks have published their output.
    Published { checkpoint: u64 },
    /// A sink could not publish.
    NotPublished { checkpoint: u64, reason: String },
    /// Some subtasks will not acknowledge until [`Event::Resume`].
    Suspend { reason: String },
    /// All subtasks run again.
    Resume,
    /// A client stops the job: take a last checkpoint, then end.
    Stop,
    /// All input is processed: take a last checkpoint, then end.
    InputEnded,
}

/// A command to the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Trigger a checkpoint at all sources.
    Trigger { checkpoint: u64, last: bool },
    /// Write the manifest.
    Store(Arc<Completed>),
    /// Let the sinks publish.
    Publish(Arc<Completed>),
    /// A checkpoint has failed; the job goes on.
    Warn { checkpoint: u64, reason: String },
    /// The attempt has failed.
    Fail { reason: String },
    /// The last checkpoint is complete and published.
    Done,
}

/// A checkpoint that all subtasks have acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    /// Its number.
    pub checkpoint: u64,
    /// True if it is the last one of this attempt.
    pub last: bool,
    /// True if all input was processed before it.
    pub finished: bool,
    /// The contributions of the subtasks, by operator.
    pub states: BTreeMap<OperatorId, Vec<SubtaskState>>,
    /// Time of the trigger.
    pub triggered_ms: u64,
    /// Time of the last acknowledgement.
    pub acknowledged_ms: u64,
}

impl Completed {
    /// Returns true if barriers have overtaken rows, which are part of it.
    pub fn has_rows_in_flight(&self) -> bool {
        self.states
            .values()
            .flatten()
            .any(|state| state.channel_state.is_some())
    }
}

/// The checkpoint coordinator of one attempt.
pub struct Coordinator {
    config: Config,
    participants: BTreeSet<Participant>,
    next_id: u64,
    phase: Phase,
    /// Time of the next periodic checkpoint.
    due_ms: u64,
    failures_in_row: u32,
    ending: Ending,
    is_suspended: bool,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Collecting(Collecting),
    Storing(Arc<Completed>),
    Publishing(Arc<Completed>),
    /// `Done` or `Fail` was returned.
    Ended,
}

#[derive(Debug)]
struct Collecting {
    checkpoint: u64,
    last: bool,
    finished: bool,
    triggered_ms: u64,
    missing: BTreeSet<Participant>,
    states: BTreeMap<Participant, SubtaskState>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ending {
    Running,
    StopRequested,
    InputEnded,
}

impl Coordinator {
    /// Creates the coordinator of an attempt. `first_id` is larger than the id of every checkpoint that exists, so
    /// that no id is used twice.
    pub fn new(config: Config, participants: BTreeSet<Participant>, first_id: u64, now_ms: u64) -> Self {
        Self {
            due_ms: now_ms + config.interval_ms,
            config,
            participants,
            next_id: first_id,
            phase: Phase::Idle,
            failures_in_row: 0,
            ending: Ending::Running,
            is_suspended: false,
        }
    }

    /// Returns the time at which the next [`Event::Tick`] is needed.
    pub fn next_tick_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::Idle if self.is_suspended => None,
            Phase::Idle => Some(self.due_ms),
            Phase::Collecting(collecting) => Some(collecting.triggered_ms + self.config.timeout_ms),
            Phase::Storing(_) | Phase::Publishing(_) | Phase::Ended => None,
        }
    }

    /// Returns the number of failures since the last checkpoint that was stored.
    pub fn failures_in_row(&self) -> u32 {
        self.failures_in_row
    }

    /// Returns true if no checkpoint is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Returns true if a checkpoint waits for acknowledgements: its barriers may be under way.
    pub fn is_collecting(&self) -> bool {
        matches!(self.phase, Phase::Collecting(_))
    }

    /// Returns true if the last checkpoint is due or under way.
    pub fn is_ending(&self) -> bool {
        self.ending != Ending::Running
    }

    /// Handles an event. Returns the commands to carry out in order.
    pub fn on_event(&mut self, event: Event, now_ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Tick => self.check_timeout(now_ms, &mut commands),
            // A checkpoint under way satisfies the request.
            Event::Requested => self.due_ms = now_ms,
            Event::Acknowledged {
                checkpoint,
                operator,
                state,
            } => self.acknowledged(checkpoint, operator, state),
            Event::Declined {
                checkpoint,
                operator,
                subtask,
                reason,
                rows_lost,
            } => {
                let reason = format!("{operator} (subtask {subtask}): {reason}");
                self.declined(checkpoint, reason, rows_lost, now_ms, &mut commands);
            }
            Event::Stored { checkpoint } => {
                if let Phase::Storing(completed) = &self.phase
                    && completed.checkpoint == checkpoint
                {
                    let completed = completed.clone();
                    self.failures_in_row = 0;
                    self.phase = Phase::Publishing(completed.clone());
                    commands.push(Command::Publish(completed));
                }
            }
            Event::NotStored { checkpoint, reason } => {
                if let Phase::Storing(completed) = &self.phase
                    && completed.checkpoint == checkpoint
                {
                    let last = completed.last;
                    self.failed(checkpoint, last, reason, now_ms, &mut commands);
                }
            }
            Event::Unchanged { checkpoint } => {
                if let Phase::Storing(completed) = &self.phase
                    && completed.checkpoint == checkpoint
                {
                    self.failures_in_row = 0;
                    self.due_ms =
                        (completed.triggered_ms + self.config.interval_ms).max(now_ms + self.config.min_pause_ms);
                    self.phase = Phase::Idle;
                }
            }
            Event::Published { checkpoint } => {
                if let Phase::Publishing(completed) = &self.phase
                    && completed.checkpoint == checkpoint
                {
                    let last = completed.last;
                    self.due_ms =
                        (completed.triggered_ms + self.config.interval_ms).max(now_ms + self.config.min_pause_ms);
                    self.phase = if last { Phase::Ended } else { Phase::Idle };
                    if last {
                        commands.push(Command::Done);
                    }
                }
            }
            Event::NotPublished { checkpoint, reason } => {
                if matches!(&self.phase, Phase::Publishing(completed) if completed.checkpoint == checkpoint) {
                    let reason =
                        format!("checkpoint {checkpoint} is complete, but a sink could not publish it: {reason}");
                    self.fail(reason, &mut commands);
                }
            }
            Event::Suspend { reason } => {
                self.is_suspended = true;
                if let Phase::Collecting(collecting) = &self.phase {
                    let checkpoint = collecting.checkpoint;
                    self.phase = Phase::Idle;
                    commands.push(Command::Warn { checkpoint, reason });
                }
            }
            Event::Resume => self.is_suspended = false,
            Event::Stop => self.ending = self.ending.max(Ending::StopRequested),
            Event::InputEnded => self.ending = Ending::InputEnded,
        }
        self.complete_if_all_answered(now_ms, &mut commands);
        self.trigger_if_due(now_ms, &mut commands);
        commands
    }

    fn trigger_if_due(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let last = self.ending != Ending::Running;
        if !matches!(self.phase, Phase::Idle) || self.is_suspended || (!last && now_ms < self.due_ms) {
            return;
        }
        let checkpoint = self.next_id;
        self.next_id += 1;
        self.phase = Phase::Collecting(Collecting {
            checkpoint,
            last,
            finished: self.ending == Ending::InputEnded,
            triggered_ms: now_ms,
            missing: self.participants.clone(),
            states: BTreeMap::new(),
        });
        commands.push(Command::Trigger { checkpoint, last });
    }

    fn acknowledged(&mut self, checkpoint: u64, operator: OperatorId, state: SubtaskState) {
        let participant = (operator, state.subtask);
        if let Phase::Collecting(collecting) = &mut self.phase
            && collecting.checkpoint == checkpoint
            && collecting.missing.remove(&participant)
        {
            collecting.states.insert(participant, state);
        }
    }

    fn declined(&mut self, checkpoint: u64, reason: String, rows_lost: bool, now_ms: u64, commands: &mut Vec<Command>) {
        let is_current = matches!(&self.phase, Phase::Collecting(current) if current.checkpoint == checkpoint);
        if matches!(self.phase, Phase::Ended) || checkpoint >= self.next_id {
            return;
        }
        if rows_lost {
            let reason = format!("rows could not be written out for checkpoint {checkpoint}: {reason}");
            self.fail(reason, commands);
        } else if is_current {
            self.abort_collecting(reason, now_ms, commands);
        }
    }

    fn check_timeout(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let Phase::Collecting(collecting) = &self.phase else {
            return;
        };
        let taken_ms = now_ms.saturating_sub(collecting.triggered_ms);
        if taken_ms < self.config.timeout_ms {
            return;
        }
        let missing: Vec<_> = collecting
            .missing
            .iter()
            .take(3)
            .map(|(id, subtask)| format!("{id}[{subtask}]"))
            .collect();
        let reason = format!(
            "not acknowledged within {} ms by {} subtasks ({}{})",
            self.config.timeout_ms,
            collecting.missing.len(),
            missing.join(", "),
            if collecting.missing.len() > 3 { ", ..." } else { "" },
        );
        self.abort_collecting(reason, now_ms, commands);
    }

    fn abort_collecting(&mut self, reason: String, now_ms: u64, commands: &mut Vec<Command>) {
        let Phase::Collecting(collecting) = std::mem::replace(&mut self.phase, Phase::Idle) else {
            return;
        };
        self.failed(collecting.checkpoint, collecting.last, reason, now_ms, commands);
    }

    /// Counts a failed checkpoint. The last one of an attempt must not fail.
    fn failed(&mut self, checkpoint: u64, last: bool, reason: String, now_ms: u64, commands: &mut Vec<Command>) {
        self.phase = Phase::Idle;
        self.due_ms = now_ms + self.config.min_pause_ms.max(self.config.interval_ms);
        self.failures_in_row += 1;
        if last {
            self.fail(format!("the last checkpoint, {checkpoint}, failed: {reason}"), commands);
        } else if self.failures_in_row > self.config.tolerable_failures {
            let reason = format!(
                "checkpoint {checkpoint} failed, the {}. in a row (tolerable_failures is {}): {reason}",
                self.failures_in_row, self.config.tolerable_failures
            );
            self.fail(reason, commands);
        } else {
            commands.push(Command::Warn { checkpoint, reason });
        }
    }

    fn fail(&mut self, reason: String, commands: &mut Vec<Command>) {
        self.phase = Phase::Ended;
        commands.push(Command::Fail { reason });
    }

    fn complete_if_all_answered(&mut self, now_ms: u64, commands: &mut Vec<Command>) {
        let Phase::Collecting(collecting) = &mut self.phase else {
            return;
        };
        if !collecting.missing.is_empty() {
            return;
        }
        let mut states: BTreeMap<OperatorId, Vec<SubtaskState>> = BTreeMap::new();
        for ((operator, _), state) in std::mem::take(&mut collecting.states) {
            states.entry(operator).or_default().push(state);
        }
        let completed = Arc::new(Completed {
            checkpoint: collecting.checkpoint,
            last: collecting.last,
            finished: collecting.finished,
            states,
            triggered_ms: collecting.triggered_ms,
            acknowledged_ms: now_ms,
        });
        self.phase = Phase::Storing(completed.clone());
        commands.push(Command::Store(completed));
    }
}

#[cfg(test)]
mod tests;
