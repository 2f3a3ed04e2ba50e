//! Running a job graph in this process: deploy it over slots, feed it commands, hear its events.
//!
//! [`restore`] brings the state of every subtask, [`deploy`] builds their tasks, spreads them over slot threads and
//! starts them. The caller (the
//! cluster crate's driver) triggers checkpoints, hands out newly discovered splits, and asks the job to stop; it hears
//! [`TaskEvent`]s. This module decides nothing about checkpoints or recovery.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow_array::RecordBatch;
use crossbeam::channel::TrySendError;
use millstream_connectors::{Committable, JobIdentity, Sink, Source, Split};
use millstream_graph::{JobGraph, NodeIndex, OperatorId};
use millstream_state::store::{Backend, FileReference, KeyedSnapshot, Store};

use tokio::sync::mpsc;

use crate::Error;
use crate::deployment;
use crate::operator::Timestamp;
use crate::progress::{JobCounters, Progress};
use crate::remote_channel::LocalSlots;
use crate::slot::SlotHandle;

/// Brings the keyed state of every subtask that runs here, verified, as the first half of a deployment: when this
/// returns, nothing runs, and nothing of the checkpoint is damaged.
pub async fn restore(deployment: &Deployment) -> Result<Restored, Error> {
    deployment::restore(deployment).await
}

/// Builds the tasks of every subtask on their state and starts the slot threads.
pub async fn deploy(deployment: Deployment, restored: Restored) -> Result<RunningJob, Error> {
    deployment::deploy(deployment, restored).await
}

/// The keyed state of the subtasks that run here, and what was in flight to them.
pub struct Restored {
    /// By node and subtask, of those that had any.
    pub(crate) stores: HashMap<(NodeIndex, usize), Store>,
    /// By edge, sending and receiving subtask.
    pub(crate) channel_state: HashMap<(usize, usize, usize), Vec<RecordBatch>>,
    /// By node and subtask: rows for its inputs that come before all that is in channels.
    pub(crate) rows: HashMap<(NodeIndex, usize), Vec<(usize, RecordBatch)>>,
}

/// Counters for all subtasks of a job, wherever they run: for whoever hears of them from afar.
pub fn counters(graph: &JobGraph, parallelism: usize) -> Arc<JobCounters> {
    deployment::counters_of(graph, graph.name.clone(), parallelism, |_| true)
}

/// A job whose slot threads run. Dropping it cancels the job.
pub struct RunningJob {
    pub(crate) slots: Vec<SlotHandle>,
    pub(crate) events: mpsc::Receiver<TaskEvent>,
    pub(crate) counters: Arc<JobCounters>,
    pub(crate) stopped: bool,
}

impl RunningJob {
    /// Hands a command to the slots it concerns. An error means that a slot is so far behind that its bounded command
    /// queue is full; the command then reached no further slot and should be given up (a checkpoint) or repeated.
    pub fn send(&self, command: Command) -> Result<(), Error> {
        for slot in &self.slots {
            match slot.send(command.clone()) {
                // A slot that has ended needs no command.
                Ok(()) | Err(TrySendError::Disconnected(_)) => {}
                Err(TrySendError::Full(_)) => {
                    return Err(Error::Operator {
                        operator: format!("slot {}", slot.index),
                        message: "the queue of unprocessed commands is full: the slot does not respond".into(),
                    });
                }
            }
        }
        Ok(())
    }

    /// What happens next; `None` after [`TaskEvent::Stopped`].
    pub async fn next_event(&mut self) -> Option<TaskEvent> {
        if self.stopped {
            return None;
        }
        let event = self.events.recv().await;
        self.stopped = matches!(event, Some(TaskEvent::Stopped) | None);
        event
    }

    /// Rows, watermark and lag as of now. Cheap: reads plain atomics.
    pub fn progress(&self) -> Progress {
        self.counters.progress()
    }

    /// The counters behind [`RunningJob::progress`], which stay readable after the job has ended.
    pub fn counters(&self) -> Arc<JobCounters> {
        Arc::clone(&self.counters)
    }
}

impl Drop for RunningJob {
    fn drop(&mut self) {
        for slot in &self.slots {
            slot.cancel();
        }
    }
}

/// Everything a job needs to start.
pub struct Deployment {
    pub graph: Arc<JobGraph>,
    pub identity: JobIdentity,
    pub parallelism: usize,
    /// Slot threads. Subtask `i` of every node runs in slot `i % slots`.
    pub slots: usize,
    /// Absent: all slots run in this process.
    pub local_slots: Option<LocalSlots>,
    /// One per source node.
    pub sources: HashMap<NodeIndex, Arc<dyn Source>>,
    /// One per sink node.
    pub sinks: HashMap<NodeIndex, Arc<dyn Sink>>,
    /// Splits of each source node, per subtask.
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    /// Source nodes for which no further splits will ever be assigned.
    pub splits_are_final: bool,
    /// State of the checkpoint to resume from, by operator; every old subtask's part.
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    pub backend: Backend,
    pub runtime: tokio::runtime::Handle,
    pub options: Options,
}

/// Limits and modes of a run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Batch mode: no watermark before the end of input; clock-driven features are off.
    pub batch: bool,
    /// Capacity of one channel between two subtasks.
    pub channel_bytes_max: usize,
    pub batch_rows_max: usize,
    pub batch_bytes_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            batch: false,
            channel_bytes_max: 4 << 20,
            batch_rows_max: 8192,
            batch_bytes_max: 2 << 20,
        }
    }
}

/// What one subtask of one operator contributes to a checkpoint, and gets back at a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubtaskState {
    pub subtask: usize,
    /// The operator's small state.
    pub inline: Vec<u8>,
    pub keyed: Option<KeyedSnapshot>,
    /// Sources: their splits with positions, and (in `inline`) watermarks.
    pub splits: Vec<SplitState>,
    /// Sinks: what to commit once the checkpoint is complete.
    pub committables: Vec<Committable>,
    /// The subtask had ended before the barrier.
    pub finished: bool,
    /// What the barrier had overtaken on its way to this subtask (`channel_state.rs`).
    pub channel_state: Option<FileReference>,
}

/// A split in a checkpoint: [`Split`] with the watermark it had reached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SplitState {
    pub id: String,
    pub position: Vec<u8>,
    pub weight: u64,
    pub finished: bool,
    pub watermark: Option<Timestamp>,
}

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
