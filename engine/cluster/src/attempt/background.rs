//! Work that an attempt does beside its loop.

use millstream_store_errors::Retry;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::Error;
use crate::checkpoint::Event;

/// The result of work in the background.
#[derive(Debug)]
pub(super) enum BackgroundResult {
    /// A checkpoint has advanced.
    Checkpoint(Event),
    /// A checkpoint could not be stored or published, with the retryability of the cause.
    Failed(Event, Retry),
    /// Another process has claimed the job's checkpoints: this one must change nothing more.
    Superseded(Error),
}

/// The tasks in the background, and their results.
pub(super) struct Background {
    /// Work that must end before the attempt does: a later attempt must not race it.
    required: JoinSet<()>,
    /// Work that is aborted when the attempt ends.
    optional: JoinSet<()>,
    /// Bounded by the work: one or two results for each task, of which there are two for the checkpoint under way.
    sender: mpsc::UnboundedSender<BackgroundResult>,
    results: mpsc::UnboundedReceiver<BackgroundResult>,
}

impl Background {
    /// Creates an empty set of tasks.
    pub(super) fn new() -> Self {
        let (sender, results) = mpsc::unbounded_channel();
        Self {
            required: JoinSet::new(),
            optional: JoinSet::new(),
            sender,
            results,
        }
    }

    /// Runs work that must end before the attempt does.
    pub(super) fn spawn(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.required.spawn(work);
    }

    /// Runs work that must end before the attempt does, and queues its result.
    pub(super) fn spawn_with_result(&mut self, work: impl Future<Output = BackgroundResult> + Send + 'static) {
        let report = self.result_sender();
        self.required.spawn(async move { report(work.await) });
    }

    /// Runs work that is aborted when the attempt ends.
    pub(super) fn spawn_optional(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        while self.optional.try_join_next().is_some() {}
        self.optional.spawn(work);
    }

    /// Returns a function that queues one result.
    pub(super) fn result_sender(&self) -> impl FnOnce(BackgroundResult) + Send + use<> {
        let sender = self.sender.clone();
        move |result| {
            if sender.send(result).is_err() {
                tracing::debug!("a background task ended after its attempt");
            }
        }
    }

    /// Waits for the next result.
    pub(super) async fn next(&mut self) -> BackgroundResult {
        match self.results.recv().await {
            Some(result) => result,
            // Not reached: this value has a sender.
            None => std::future::pending().await,
        }
    }

    /// Returns the next result if there is one.
    pub(super) fn try_next(&mut self) -> Option<BackgroundResult> {
        self.results.try_recv().ok()
    }

    /// Aborts the optional work.
    pub(super) fn abort_optional(&mut self) {
        self.optional.abort_all();
    }

    /// Waits for the required work.
    pub(super) async fn join_required(&mut self) {
        while self.required.join_next().await.is_some() {}
    }
}
