//! Runs under way as the leader sees them: requests go in, progress comes out.

use std::sync::Arc;

use tokio::sync::{oneshot, watch};
use tracing::Span;

use crate::coordinator::rates::Rates;
use crate::coordinator::slots::LeaseId;
use crate::coordinator::state::RunId;
use crate::job::{CheckpointRequests, StopRequest};
use crate::progress::Progress;
use crate::spans;

/// The leader's handle of a run that is under way.
pub struct ActiveRun {
    /// Number of the run.
    pub run: RunId,
    /// Requests the run to stop.
    pub stop: watch::Sender<StopRequest>,
    /// Progress of the run.
    pub progress: Progress,
    /// Requests for checkpoints and savepoints.
    pub checkpoint_requests: Arc<CheckpointRequests>,
    /// The newest complete checkpoint.
    pub checkpointed: watch::Sender<u64>,
    /// Receives the slots that the run waits for.
    pub granted: Option<oneshot::Sender<Grant>>,
    /// The outcome of waiting for tasks that an earlier coordinator started.
    pub adoption: watch::Sender<Option<AdoptionResult>>,
    /// Handle that aborts the run's task, once it has been started.
    pub task: Option<tokio::task::AbortHandle>,
    /// Rates, sampled at intervals.
    pub rates: Rates,
}

/// The slots of an attempt that can be adopted, or the reason why it cannot.
pub(super) type AdoptionResult = Result<LeaseId, String>;

/// Slots for an attempt.
#[derive(Debug)]
pub struct Grant {
    pub lease: LeaseId,
    /// Worker of each slot.
    pub slots: Vec<String>,
}

impl ActiveRun {
    /// Returns a run that has not been started. `checkpointed` gets the number of each complete checkpoint.
    pub fn new(run: RunId, progress: Progress, checkpointed: watch::Sender<u64>) -> Self {
        Self {
            run,
            stop: watch::Sender::new(StopRequest::None),
            progress,
            checkpoint_requests: Arc::default(),
            checkpointed,
            granted: None,
            adoption: watch::Sender::new(None),
            task: None,
            rates: Rates::default(),
        }
    }

    /// Returns the run's own ends. The entered span is recorded as the cause of the run.
    pub fn handles(&self) -> RunHandles {
        RunHandles {
            stop: self.stop.subscribe(),
            progress: self.progress.clone(),
            checkpoint_requests: self.checkpoint_requests.clone(),
            adoption: self.adoption.subscribe(),
            trace_parent: spans::trace_parent(&Span::current()),
        }
    }

    /// Returns true if the run has been asked to stop. It takes no other requests then.
    pub fn is_stop_requested(&self) -> bool {
        *self.stop.borrow() != StopRequest::None
    }
}

/// The run's ends of the channels that an [`ActiveRun`] holds.
pub struct RunHandles {
    pub stop: watch::Receiver<StopRequest>,
    pub progress: Progress,
    pub checkpoint_requests: Arc<CheckpointRequests>,
    pub adoption: watch::Receiver<Option<AdoptionResult>>,
    /// The span of the call that started the run; empty if no call did.
    pub trace_parent: String,
}
