//! Commands to the tasks of a running job, and the events that the tasks answer with.

use std::time::Duration;

use millstream_connectors::Split;
use millstream_graph::{NodeIndex, OperatorId};

use crate::Error;
use crate::element::BarrierNumber;
use crate::subtask_state::SubtaskState;

/// A command to the tasks of a running job.
#[derive(Debug, Clone)]
pub enum Command {
    /// Takes a checkpoint: sources snapshot their positions and inject the barrier.
    Checkpoint {
        /// Id of the checkpoint. A checkpoint with a lower id that is still incomplete is aborted.
        id: u64,
        /// True for the last checkpoint of this run: sources read nothing after it.
        last: bool,
        /// Duration after which a task that the barrier has not reached takes its part of the checkpoint without
        /// waiting for it (unaligned). `None`: the checkpoint is aligned, however long that takes.
        aligned_timeout: Option<Duration>,
    },
    /// Passes a consistency point: sources inject its barrier, and operators emit the changes that they hold back.
    Point {
        /// Number of its barrier. An earlier checkpoint or point that is still incomplete is aborted.
        number: BarrierNumber,
    },
    /// Assigns more splits to a subtask of a source.
    AssignSplits {
        /// The source.
        node: NodeIndex,
        /// The subtask that reads them.
        subtask: usize,
        /// The splits.
        splits: Vec<Split>,
    },
    /// Announces that no further splits will be assigned to a source.
    NoMoreSplits {
        /// The source.
        node: NodeIndex,
    },
    /// Announces that a checkpoint is complete and published: sinks need not hand over again what they prepared for it.
    Confirm {
        /// Id of the checkpoint.
        checkpoint: u64,
    },
    /// Stops the tasks at once; they emit nothing more.
    Cancel,
}

/// An event of a running job.
#[derive(Debug)]
pub enum TaskEvent {
    /// One subtask of one operator has finished its part of a checkpoint, uploads included.
    Snapshot {
        /// Id of the checkpoint.
        checkpoint: u64,
        /// The operator.
        operator: OperatorId,
        /// Its state in the checkpoint.
        state: SubtaskState,
    },
    /// One subtask's part of a checkpoint failed (a full disk, an unreachable store). The job itself goes on.
    SnapshotFailed {
        /// Id of the checkpoint.
        checkpoint: u64,
        /// The operator.
        operator: OperatorId,
        /// Its subtask.
        subtask: usize,
        /// The cause.
        error: Error,
        /// True if rows that a sink was given are neither written nor part of any checkpoint.
        rows_lost: bool,
    },
    /// All tasks of this process whose output no other task reads have passed the barrier of a consistency point.
    PointPassed {
        /// Number of the barrier.
        number: BarrierNumber,
    },
    /// An operator holds back more changes than its share of the memory budget: it needs a consistency point.
    PointRequested,
    /// All subtasks of all tasks have processed the end of their input. Sinks still hold what they were given: a last
    /// checkpoint (`Command::Checkpoint { last: true, .. }`, which ended subtasks answer at once) makes it durable,
    /// then [`Command::Cancel`] ends the slots.
    Finished,
    /// A task failed or panicked; all others are being stopped.
    Failed {
        /// The operator.
        operator: OperatorId,
        /// Its subtask.
        subtask: usize,
        /// The cause.
        error: Error,
    },
    /// All slot threads have ended after [`Command::Cancel`], a failure or [`TaskEvent::Finished`].
    Stopped,
}
