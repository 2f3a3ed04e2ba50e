//! The checkpoint coordinator: when to cut a checkpoint, who has answered, when it exists, when sinks may publish.
//!
//! A pure state machine: events and the time go in, commands come out. One checkpoint is under way at a time:
//!
//! ```text
//! idle --trigger--> collecting --all acknowledged--> storing --manifest written--> publishing --sinks committed--> idle
//!                       |  declined, timed out           |  not written
//!                       +--------> failed <--------------+      (idle again, until too many failed in a row)
//! ```
//!
//! A checkpoint that would say the same as the one before is not stored: that one is as good, and the machine is told so.
//!
//! A sink hands over with each checkpoint all that it has prepared and that is not published: what a failed checkpoint
//! held is in the next. A sink that cannot prepare has lost rows, so that fails the attempt at once.
//!
//! While a part of the job begins again ([`Event::Suspend`]) no checkpoint can be complete: one whose answers are waited for is
//! given up, which is no failure that counts, and none is triggered until it goes on.
//!
//! The machine stores nothing, calls nobody and reads no clock: the driver does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_graph::OperatorId;
use millstream_runtime::subtask_state::SubtaskState;

/// When checkpoints are taken. Times in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// From the start of one checkpoint to the start of the next.
    pub interval_ms: u64,
    /// At least this long from the end of one to the start of the next.
    pub min_pause_ms: u64,
    /// A checkpoint whose answers take longer is given up.
    pub timeout_ms: u64,
    /// Failures in a row that the attempt survives.
    pub tolerable_failures: u32,
    /// How long tasks wait for a checkpoint's barriers; `None`: as long as it takes.
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

#[derive(Debug)]
pub enum Event {
    /// Time has passed.
    Tick,
    /// Someone wants a checkpoint now.
    Requested,
    Acknowledged {
        checkpoint: u64,
        operator: OperatorId,
        state: SubtaskState,
    },
    Declined {
        checkpoint: u64,
        operator: OperatorId,
        subtask: usize,
        reason: String,
        /// A sink has lost what it was given.
        rows_lost: bool,
    },
    /// The manifest is written: the checkpoint exists.
    Stored {
        checkpoint: u64,
    },
    NotStored {
        checkpoint: u64,
        reason: String,
    },
    /// It would say the same as the checkpoint before, so that one stands for it.
    Unchanged {
        checkpoint: u64,
    },
    /// All sinks have published what the checkpoint contains.
    Published {
        checkpoint: u64,
    },
    NotPublished {
        checkpoint: u64,
        reason: String,
    },
    /// Some subtasks will not answer until [`Event::Resume`].
    Suspend {
        reason: String,
    },
    Resume,
    /// Someone asked the job to stop: one last checkpoint, then done.
    Stop,
    /// All input has been processed: one last checkpoint, then done.
    InputEnded,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Trigger {
        checkpoint: u64,
        last: bool,
    },
    /// Write the manifest.
    Store(Arc<Completed>),
    /// Let the sinks commit.
    Publish(Arc<Completed>),
    /// A checkpoint came to nothing; the job goes on.
    Warn {
        checkpoint: u64,
        reason: String,
    },
    /// The attempt cannot go on.
    Fail {
        reason: String,
    },
    /// The last checkpoint is complete and published.
    Done,
}

/// Everything that all subtasks contributed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completed {
    pub checkpoint: u64,
    /// No later checkpoint of this attempt will follow.
    pub last: bool,
    /// All input had ended before: the job has nothing left to do.
    pub finished: bool,
    pub states: BTreeMap<OperatorId, Vec<SubtaskState>>,
    pub triggered_ms: u64,
    pub acknowledged_ms: u64,
}

impl Completed {
    /// Whether barriers have overtaken rows, which are part of it.
    pub fn has_rows_in_flight(&self) -> bool {
        self.states
            .values()
            .flatten()
            .any(|state| state.channel_state.is_some())
    }
}

pub struct Coordinator {
    config: Config,
    participants: BTreeSet<Participant>,
    next_id: u64,
    phase: Phase,
    /// When the next periodic checkpoint is due.
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
    /// `Done` or `Fail` was said.
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
    StopAsked,
    InputEnded,
}

impl Coordinator {
    /// `first_id` is larger than the id of every checkpoint that exists, so that replays never reuse one.
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

    /// When `Event::Tick` is next of use.
    pub fn next_tick_ms(&self) -> Option<u64> {
        match &self.phase {
            Phase::Idle if self.is_suspended => None,
            Phase::Idle => Some(self.due_ms),
            Phase::Collecting(collecting) => Some(collecting.triggered_ms + self.config.timeout_ms),
            Phase::Storing(_) | Phase::Publishing(_) | Phase::Ended => None,
        }
    }

    /// Failures since the last checkpoint that was stored.
    pub fn failures_in_row(&self) -> u32 {
        self.failures_in_row
    }

    /// Whether no checkpoint is under way.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Whether the last checkpoint is due or under way.
    pub fn is_ending(&self) -> bool {
        self.ending != Ending::Running
    }

    pub fn on_event(&mut self, event: Event, now_ms: u64) -> Vec<Command> {
        let mut commands = Vec::new();
        match event {
            Event::Tick => self.check_timeout(now_ms, &mut commands),
            // One under way is as good.
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
            Event::Stop => self.ending = self.ending.max(Ending::StopAsked),
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

    /// Counts a failed checkpoint; the last one of an attempt must not fail.
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
