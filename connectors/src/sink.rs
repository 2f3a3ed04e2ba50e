//! What a sink is: where rows go, and how they become visible exactly once.
//!
//! A [`Sink`] is made once per job; it makes one [`SinkWriter`] per subtask. The engine calls the writer from a slot
//! thread: `write` encodes and hands over, never waits. At a barrier, [`SinkWriter::prepare`] makes everything
//! written before it durable but not yet visible and returns [`Committable`]s, which travel in the checkpoint. Only
//! when the checkpoint is complete does the engine call [`Sink::commit`] with them, and again after every
//! recovery: a commit must be idempotent. A sink without transactions returns no committables; its `prepare` waits
//! until all rows are accepted outside (at-least-once).
//!
//! A committable is small. A sink whose output itself must travel in the checkpoint writes it to [`OutputStorage`] and
//! names the files in the committable: they live as long as a checkpoint does that names them.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Error, Outage};

/// A committable or a split's position is no longer than this; a length in it that says otherwise is not believed.
pub(crate) const STORED_BYTES_MAX: usize = 64 << 20;

/// What a commit needs to publish one epoch's output.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committable {
    /// The sink's own encoding, versioned by the sink.
    pub content: Vec<u8>,
    /// Output beside it, in the sink's order.
    pub files: Vec<OutputFile>,
}

impl Committable {
    pub fn new(content: Vec<u8>) -> Self {
        Self {
            content,
            files: Vec::new(),
        }
    }
}

/// A file of output in the job's checkpoint storage.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct OutputFile {
    /// Where the storage keeps it, below the job's folder.
    pub path: String,
    pub length: u64,
    pub crc32: u32,
}

/// The job's checkpoint storage, for output that is too large for a committable.
#[async_trait]
pub trait OutputStorage: Send + Sync {
    /// Makes a new file, durable when this returns. It stays if a committable of a complete checkpoint names it.
    async fn write(&self, content: Bytes) -> Result<OutputFile, Error>;

    /// The content of a file, verified.
    async fn read(&self, file: &OutputFile) -> Result<Bytes, Error>;
}

/// For writers that need none, in tests.
pub struct NoStorage;

#[async_trait]
impl OutputStorage for NoStorage {
    async fn write(&self, _content: Bytes) -> Result<OutputFile, Error> {
        Err(Error::Invalid(
            "there is no checkpoint storage here to keep output in".into(),
        ))
    }

    async fn read(&self, file: &OutputFile) -> Result<Bytes, Error> {
        Err(Error::Invalid(format!(
            "there is no checkpoint storage here that has {}",
            file.path
        )))
    }
}

/// What a sink promises about each row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    AtLeastOnce,
    ExactlyOnce,
}

/// What a sink's outside system knows of the transactions it was written with, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionReport {
    pub ids: Vec<TransactionalId>,
    pub blocked: Vec<BlockedPartition>,
}

/// A transactional id and the newest of what is known to be published under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionalId {
    pub id: String,
    /// Attempts of the job that published something, as far as they are remembered.
    pub attempts: usize,
    /// The last checkpoint published, and when it was prepared (milliseconds since 1970).
    pub checkpoint: u64,
    pub prepared_ms: i64,
}

/// A partition that readers of committed records cannot read to its end, because a transaction is open in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedPartition {
    pub topic: String,
    pub partition: i32,
    /// The first offset that is not readable.
    pub stable_offset: i64,
    pub end_offset: i64,
}

#[async_trait]
pub trait Sink: Send + Sync {
    fn delivery(&self) -> Delivery;

    /// Where the files are that committables name. Called once, before anything else, wherever commits are made.
    fn use_storage(&self, _storage: Arc<dyn OutputStorage>) {}

    /// Checks that the target can be written (the folder is writable, the topic exists), and cleans up what an earlier
    /// attempt of the same job left behind and no checkpoint names. Called once, before any writer is made and after
    /// the committables of the restored checkpoint were committed.
    async fn start(&self, job: &JobIdentity) -> Result<(), Error>;

    /// Names the output that earlier runs have published here and that is read together with what is written now, such
    /// as `3 files of earlier runs in out/`. `None`: there is none, or it cannot be told apart from other data.
    async fn earlier_output(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Removes the output that [`Sink::earlier_output`] names.
    async fn remove_earlier_output(&self) -> Result<(), Error> {
        Ok(())
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error>;

    /// Publishes what a completed checkpoint contains. Idempotent: it may be called again with the same committables.
    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error>;

    /// Whether [`Sink::commit`] moves output, not only names: then it is called for each subtask's committables by the
    /// process whose writer has prepared them, as long as that process lives. After a failure any process may be asked,
    /// and two at once. [`Sink::use_storage`] is called in each.
    fn is_published_where_written(&self) -> bool {
        false
    }

    /// The system that is written to, if it cannot be reached at present: as this value and its writers notice it.
    fn outage(&self) -> Option<Outage> {
        None
    }

    /// What is known outside of the job's transactions; `None`: this sink uses none.
    async fn transactions(&self, _job: &str) -> Result<Option<TransactionReport>, Error> {
        Ok(None)
    }

    /// Ends what these transactional ids of the job hold open (none given: all that are known). The ids that it did
    /// this for. Nothing is lost by it: a job that runs publishes again.
    async fn abort_transactions(&self, _job: &str, _ids: &[String]) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
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
    /// For output that is too large for a committable.
    pub storage: Arc<dyn OutputStorage>,
}

/// Writes the rows of one subtask, from its slot thread.
pub trait SinkWriter: Send {
    /// Whether the writer takes more now. `Pending`: the context's waker is called when it does. The engine calls this
    /// before each `write`; an error of earlier rows (a broker's refusal) surfaces here or in `prepare`.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Encodes the rows and hands them over. Never waits; one call may overdraw the writer's buffer by one batch.
    /// The batch has the table's columns in declared order. Returns the bytes encoded.
    ///
    /// [`Error::Data`] says that a row cannot be encoded; then nothing of the batch was written, and the engine gives
    /// the rows again in smaller batches to find the one. After any other error the writer is not used again.
    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error>;

    /// Makes all rows written before this call durable. The writer may be written to while the future runs; those
    /// rows belong to the next checkpoint. `last` says that no more rows will come.
    fn prepare(&mut self, checkpoint: u64, last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>>;
}
