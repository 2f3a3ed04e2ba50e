//! A planned job, how it is to run, what is asked of it while it runs, and how it ended.

use std::sync::Arc;

use millstream_graph::{JobGraph, NodeIndex, Parallelism};
use millstream_proto::v1;
use millstream_runtime::deployment::Options;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{checkpoint, restart};

/// A planned job and its settings.
#[derive(Clone)]
pub struct Job {
    /// The job graph.
    pub graph: Arc<JobGraph>,
    /// The resolved job that the graph was planned from.
    pub resolved: Arc<v1::ResolvedJob>,
    /// The resolved job as stored in manifests ([`crate::stored_pipeline`]).
    pub stored_pipeline: Option<Arc<str>>,
    /// Requested subtasks per operator; the deployer decides ([`crate::deployer::Allocation`]).
    pub parallelism: usize,
    /// URL or path of the folder for checkpoints.
    pub checkpoint_storage: String,
    /// Options of the runtime.
    pub options: Options,
    /// Configuration of checkpoints.
    pub checkpoints: checkpoint::Config,
    /// Number of completed checkpoints that retention keeps.
    pub retain: usize,
    /// True to refuse sinks that cannot deliver exactly once.
    pub exactly_once_required: bool,
    /// Configuration of restarts.
    pub restart: restart::Config,
    /// The checkpoint to start from.
    pub start: Start,
    /// True to fall back to an older checkpoint even if rows are published a second time.
    pub allow_duplicates: bool,
    /// True to restore state that has another meaning in this pipeline than in that of its checkpoint.
    pub accept_changed_meaning: bool,
    /// True to drop state that no operator of this pipeline restores.
    pub allow_dropped_state: bool,
    /// True to remove the output of earlier runs before a start without state, where a sink can.
    pub remove_output: bool,
    /// True if the job ran before: a failure at the start is then an outage, not a wrong address, and is retried.
    pub started_before: bool,
    /// Requests for checkpoints while the job runs.
    pub checkpoint_requests: Arc<CheckpointRequests>,
    /// The W3C trace parent of the request that started this run; empty if it is not traced.
    pub trace_parent: String,
}

/// Requests for checkpoints of a running job, from its clients to its driver.
#[derive(Debug, Default)]
pub struct CheckpointRequests {
    requested: Notify,
    /// Name of the savepoint that the next checkpoint becomes.
    savepoint: Mutex<Option<String>>,
    /// Callers that wait for a checkpoint that is not triggered yet.
    waiting: Mutex<Vec<Waiter>>,
}

/// A caller that waits for a checkpoint; gets the checkpoint, or the reason of its failure.
pub(crate) type Waiter = oneshot::Sender<Result<TakenCheckpoint, String>>;

/// The checkpoint that a caller has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenCheckpoint {
    /// Its number.
    pub checkpoint: u64,
    /// True if it is an earlier one, because nothing has changed since.
    pub is_unchanged: bool,
}

impl CheckpointRequests {
    /// Requests a checkpoint that becomes a savepoint of this name.
    pub fn request_savepoint(&self, name: &str) {
        self.name_next(name);
        self.requested.notify_one();
    }

    /// Requests a checkpoint that is triggered after this call. The receiver gets it when it is complete or has
    /// failed; the sender is dropped if the attempt ends before.
    pub fn request(&self) -> oneshot::Receiver<Result<TakenCheckpoint, String>> {
        let (answer, taken) = oneshot::channel();
        self.waiting.lock().push(answer);
        self.requested.notify_one();
        taken
    }

    /// Returns true if a caller waits for a checkpoint that is not triggered yet.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Takes the callers that wait for the checkpoint that is triggered now.
    pub(crate) fn take_waiters(&self) -> Vec<Waiter> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Makes the next checkpoint a savepoint of this name, without requesting one.
    pub fn name_next(&self, name: &str) {
        *self.savepoint.lock() = Some(name.to_string());
    }

    /// Returns true if the next checkpoint is to become a savepoint.
    pub fn has_savepoint_name(&self) -> bool {
        self.savepoint.lock().is_some()
    }

    /// Takes the name of the savepoint that the next checkpoint becomes.
    pub fn take_savepoint_name(&self) -> Option<String> {
        self.savepoint.lock().take()
    }

    /// Waits for a request.
    pub(crate) async fn requested(&self) {
        self.requested.notified().await;
    }
}

impl Job {
    /// Returns the number of subtasks of a node at this parallelism.
    pub fn subtasks(&self, node: NodeIndex, parallelism: usize) -> usize {
        match self.graph.nodes[node].parallelism {
            Parallelism::Job => parallelism,
            Parallelism::One => 1,
        }
    }
}

/// The checkpoint that a run starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// The latest checkpoint, if there is one.
    Resume,
    /// None: the job starts without state. Earlier checkpoints are retained for a while.
    Fresh,
    /// A certain checkpoint.
    FromCheckpoint(u64),
}

/// A request to stop a running job, from weak to strong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopRequest {
    /// No request.
    None,
    /// Take a last checkpoint, then end.
    Stop,
    /// End at once.
    Abort,
}

/// The result of a run that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All input is processed.
    Finished { checkpoint: u64 },
    /// All input was processed before this run.
    AlreadyFinished {
        checkpoint: u64,
        /// Input that the job has not read, one text for each source that has some.
        unread: Vec<String>,
    },
    /// Stopped after a last checkpoint.
    Stopped { checkpoint: u64 },
    /// Ended without a last checkpoint.
    Aborted {
        last_checkpoint: Option<u64>,
        /// Reason why the output of the last checkpoint may not be published yet; the next start publishes it.
        unpublished: Option<String>,
    },
}

impl Outcome {
    /// Returns the result of a run that ended without a last checkpoint and whose output is published as far as is
    /// known.
    pub fn aborted(last_checkpoint: Option<u64>) -> Self {
        Self::Aborted {
            last_checkpoint,
            unpublished: None,
        }
    }
}
