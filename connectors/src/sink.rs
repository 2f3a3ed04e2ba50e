//! What a sink is: where rows go, and how they become visible exactly once.
//!
//! A [`Sink`] is made once per job; it makes one [`SinkWriter`] per subtask. The engine calls the writer from a slot
//! thread: `write` encodes and hands over, never waits. At a barrier, [`SinkWriter::prepare`] makes everything
//! written before it durable but not yet visible and returns [`Committable`]s, which travel in the checkpoint. Only
//! when the checkpoint is complete does the engine call [`Sink::commit`] with them, and again after every
//! recovery: a commit must be idempotent. A sink without transactions returns no committables; its `prepare` waits
//! until all rows are accepted outside (at-least-once).

use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;

use crate::Error;

/// What a commit needs to publish one epoch's output: the sink's own encoding (versioned by the sink).
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committable(pub Vec<u8>);

/// What a sink promises about each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

#[async_trait]
pub trait Sink: Send + Sync {
    fn delivery(&self) -> Delivery;

    /// Checks that the target can be written (the folder is writable, the topic exists), and cleans up what an earlier
    /// attempt of the same job left behind and no checkpoint names. Called once, before any writer is made and after
    /// the committables of the restored checkpoint were committed.
    async fn start(&self, job: &JobIdentity) -> Result<(), Error>;

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error>;

    /// Publishes what a completed checkpoint contains. Idempotent: it may be called again with the same committables.
    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error>;
}

/// Names that tell one run of one job from others, for temporary files and transactional ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobIdentity {
    pub job: String,
    /// Unique for each start of the job.
    pub attempt: String,
}

#[derive(Clone)]
pub struct WriterContext {
    pub job: JobIdentity,
    pub subtask: usize,
    pub parallelism: usize,
    /// Runs whatever must wait.
    pub runtime: tokio::runtime::Handle,
}

/// Writes the rows of one subtask, from its slot thread.
pub trait SinkWriter: Send {
    /// Whether the writer takes more now. `Pending`: the context's waker is called when it does. The engine calls this
    /// before each `write`; an error of earlier rows (a broker's refusal) surfaces here or in `prepare`.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Encodes the rows and hands them over. Never waits; one call may overdraw the writer's buffer by one batch.
    /// The batch has the table's columns in declared order. Returns the bytes encoded.
    ///
    /// [`Error::Data`] says that a row cannot be encoded; then nothing of the batch was written, and the engine gives the
    /// rows again in smaller batches to find the one. After any other error the writer is not used again.
    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error>;

    /// Makes all rows written before this call durable. The writer may be written to while the future runs; those
    /// rows belong to the next checkpoint. `last` says that no more rows will come.
    fn prepare(&mut self, checkpoint: u64, last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>>;
}
