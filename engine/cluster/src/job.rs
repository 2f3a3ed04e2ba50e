//! A planned job, how it is to run, what is asked of it while it runs, and how it ended.

use std::sync::Arc;

use millstream_graph::{JobGraph, NodeIndex, Parallelism};
use millstream_proto::v1;
use millstream_runtime::deployment::Options;
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

use crate::{checkpoint, restart};

/// A planned job and everything about how it is to run.
#[derive(Clone)]
pub struct Job {
    pub graph: Arc<JobGraph>,
    /// The resolved job that the graph was planned from.
    pub resolved: Arc<v1::ResolvedJob>,
    /// The same as it stands in manifests ([`crate::stored_pipeline`]).
    pub stored_pipeline: Option<Arc<str>>,
    /// Subtasks per operator, as wished: where tasks run decides ([`crate::deployer::Allocation`]).
    pub parallelism: usize,
    /// URL or path of the folder for checkpoints.
    pub checkpoint_storage: String,
    pub options: Options,
    pub checkpoints: checkpoint::Config,
    /// Completed checkpoints to keep.
    pub retain: usize,
    /// Refuse sinks that cannot publish exactly once.
    pub exactly_once_required: bool,
    pub restart: restart::Config,
    pub start: Start,
    /// Fall back to an older checkpoint even where that publishes rows a second time.
    pub allow_duplicates: bool,
    /// State that has another meaning in this pipeline than in that of its checkpoint is used all the same.
    pub accept_changed_meaning: bool,
    /// State that no operator of this pipeline takes is dropped.
    pub allow_dropped_state: bool,
    /// A start from nothing first removes the output of earlier runs, where a sink can.
    pub remove_output: bool,
    /// It ran before: what fails at the start is an outage, not a wrong address, and is tried again.
    pub started_before: bool,
    pub checkpoint_requests: Arc<CheckpointRequests>,
    /// The span of what asked for this run ([`crate::spans::trace_parent`]); empty: nothing that is traced.
    pub trace_parent: String,
}

/// How a checkpoint is asked for while the job runs.
#[derive(Debug, Default)]
pub struct CheckpointRequests {
    requested: Notify,
    /// The name under which the next one is kept.
    savepoint: Mutex<Option<String>>,
    /// Who waits for one that is yet to be triggered.
    waiting: Mutex<Vec<Waiter>>,
}

/// Somebody who waits for a checkpoint; told which it is, or why there is none.
pub(crate) type Waiter = oneshot::Sender<Result<TakenCheckpoint, String>>;

/// A checkpoint that somebody has waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakenCheckpoint {
    pub checkpoint: u64,
    /// It was there before, and there was nothing new to say.
    pub is_unchanged: bool,
}

impl CheckpointRequests {
    /// Asks for one now, to be kept under this name.
    pub fn request_savepoint(&self, name: &str) {
        self.name_next(name);
        self.requested.notify_one();
    }

    /// Asks for one that is triggered from now on; the answer comes when it is complete, or has failed. None comes when
    /// the attempt ends before.
    pub fn request(&self) -> oneshot::Receiver<Result<TakenCheckpoint, String>> {
        let (answer, taken) = oneshot::channel();
        self.waiting.lock().push(answer);
        self.requested.notify_one();
        taken
    }

    /// Whether somebody waits for one that is yet to be triggered.
    pub(crate) fn has_waiters(&self) -> bool {
        !self.waiting.lock().is_empty()
    }

    /// Those who wait for the one that is triggered now.
    pub(crate) fn take_waiters(&self) -> Vec<Waiter> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// The next one, whenever it comes, is kept under this name.
    pub fn name_next(&self, name: &str) {
        *self.savepoint.lock() = Some(name.to_string());
    }

    /// Whether the next one is to be kept.
    pub fn has_savepoint_name(&self) -> bool {
        self.savepoint.lock().is_some()
    }

    /// The name under which the next one is to be kept, if nobody has taken it.
    pub fn take_savepoint_name(&self) -> Option<String> {
        self.savepoint.lock().take()
    }

    pub(crate) async fn requested(&self) {
        self.requested.notified().await;
    }
}

impl Job {
    /// How many subtasks a node has at this parallelism.
    pub fn subtasks(&self, node: NodeIndex, parallelism: usize) -> usize {
        match self.graph.nodes[node].parallelism {
            Parallelism::Job => parallelism,
            Parallelism::One => 1,
        }
    }
}

/// Where a run begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// At the latest checkpoint, if there is one.
    Resume,
    /// Anew; what there was is moved aside, not deleted.
    Fresh,
    FromCheckpoint(u64),
}

/// What the outside asks of a running job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum StopRequest {
    None,
    /// A last checkpoint, then end.
    Stop,
    /// End at once.
    Abort,
}

/// How a job ended, when it did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// All input is processed.
    Finished { checkpoint: u64 },
    /// It was finished before this run.
    AlreadyFinished {
        checkpoint: u64,
        /// Input that exists now and that the job has not read, one text for each source that has some.
        unread: Vec<String>,
    },
    /// Stopped after a last checkpoint.
    Stopped { checkpoint: u64 },
    /// Ended without a last checkpoint.
    Aborted {
        last_checkpoint: Option<u64>,
        /// Why the last checkpoint's output may not be published yet; the next start publishes it.
        unpublished: Option<String>,
    },
}

impl Outcome {
    /// Ended without a last checkpoint, whose output is published as far as is known.
    pub fn aborted(last_checkpoint: Option<u64>) -> Self {
        Self::Aborted {
            last_checkpoint,
            unpublished: None,
        }
    }
}
