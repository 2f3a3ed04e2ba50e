//! Commands to the tasks of a running job, and the events that the tasks answer with.

use std::time::Duration;

use millstream_connectors::Split;
use millstream_graph::{NodeIndex, OperatorId};

use crate::Error;
use crate::subtask_state::SubtaskState;

/// What the caller tells a running job.
#[derive(Debug, Clone)]
pub enum Command {
    /// Cut a checkpoint: sources snapshot and inject the barrier. After one that is the `last`, sources read no
    /// further. A task that the barrier has not reached after `aligned_timeout` cuts its part without waiting for it;
    /// `None`: all wait for as long as it takes.
    Checkpoint {
        id: u64,
        last: bool,
        aligned_timeout: Option<Duration>,
    },
    /// More splits for a source node's subtask.
    AssignSplits {
        node: NodeIndex,
        subtask: usize,
        splits: Vec<Split>,
    },
    /// No further splits will come for this source node.
    NoMoreSplits { node: NodeIndex },
    /// A checkpoint is complete and published: sinks need not hand over again what they prepared for it.
    Confirm { checkpoint: u64 },
    /// Stop at once without emitting anything more.
    Cancel,
}

/// What a running job tells the caller.
#[derive(Debug)]
pub enum TaskEvent {
    /// One subtask of one operator has finished its part of a checkpoint, uploads included.
    Snapshot {
        checkpoint: u64,
        operator: OperatorId,
        state: SubtaskState,
    },
    /// A subtask's part failed (a full disk, an unreachable store); the job itself goes on.
    SnapshotFailed {
        checkpoint: u64,
        operator: OperatorId,
        subtask: usize,
        error: Error,
        /// What the sink had been given is neither written nor in the checkpoint.
        rows_lost: bool,
    },
    /// All subtasks of all tasks have processed the end of their input. Sinks hold what they were given: a last
    /// checkpoint (`Command::Checkpoint { last: true }`, which ended subtasks answer at once) makes it durable, then
    /// `Command::Cancel` ends the slots.
    Finished,
    /// A task failed (or panicked); all others are being stopped.
    Failed {
        operator: OperatorId,
        subtask: usize,
        error: Error,
    },
    /// All slot threads have ended after `Cancel`, failure or finish.
    Stopped,
}
