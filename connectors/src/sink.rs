//! The contract of sinks, which write rows and make them visible exactly once.
//!
//! A [`Sink`] is created once per job; it creates one [`SinkWriter`] per subtask. The engine calls the writer on a slot
//! thread: `write` encodes rows and queues them, and never waits. At a barrier, [`SinkWriter::prepare`] makes all
//! earlier rows durable but not yet visible and returns [`Committable`]s, which are stored in the checkpoint. When the
//! checkpoint is complete, the engine calls [`Sink::commit`] with them, and again after every restore: a commit must be
//! idempotent. This is a two-phase commit. A sink without transactions returns no committables; its `prepare` waits
//! until the external system has accepted all rows (at-least-once delivery).
//!
//! A committable is small. A sink whose output itself is part of the checkpoint writes it to [`OutputStorage`] and
//! lists the files in the committable. They are retained as long as a checkpoint refers to them.

use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::RecordBatch;
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;

use crate::{Error, Outage};

/// Largest size of a committable or of a split's position. Decoders refuse encoded lengths above it, so that damaged
/// bytes cannot cause a large allocation.
pub(crate) const STORED_BYTES_MAX: usize = 64 << 20;

/// The record by which a commit publishes one writer's output of one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Committable {
    /// The sink's own encoding, with a version.
    pub content: Vec<u8>,
    /// Files of output in the checkpoint storage, in the sink's order.
    pub files: Vec<OutputFile>,
}

impl Committable {
    /// Creates a committable without files.
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
    /// Path below the job's folder.
    pub path: String,
    /// Size in bytes.
    pub length: u64,
    /// CRC-32 of the content.
    pub crc32: u32,
}

/// The job's checkpoint storage, for output that is too large for a committable.
#[async_trait]
pub trait OutputStorage: Send + Sync {
    /// Writes a new file, which is durable when this returns. It is retained if a committable of a complete checkpoint
    /// lists it.
    async fn write(&self, content: Bytes) -> Result<OutputFile, Error>;

    /// Reads a file and verifies its length and checksum.
    async fn read(&self, file: &OutputFile) -> Result<Bytes, Error>;
}

/// A storage that refuses every call, for tests of writers that need none.
pub struct NoStorage;

#[async_trait]
impl OutputStorage for NoStorage {
    async fn write(&self, _content: Bytes) -> Result<OutputFile, Error> {
        Err(Error::Invalid(
            "there is no checkpoint storage here to store output in".into(),
        ))
    }

    async fn read(&self, file: &OutputFile) -> Result<Bytes, Error> {
        Err(Error::Invalid(format!(
            "there is no checkpoint storage here that has {}",
            file.path
        )))
    }
}

/// Delivery guarantee of a sink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// After a failure rows may become visible again.
    AtLeastOnce,
    /// Each row becomes visible once.
    ExactlyOnce,
}

/// The transactions of a sink's external system, for a person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TransactionReport {
    /// Transactional ids of the sink.
    pub ids: Vec<TransactionalId>,
    /// Partitions with an open transaction.
    pub blocked: Vec<BlockedPartition>,
}

/// A transactional id and the last checkpoint that was published under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionalId {
    /// The id.
    pub id: String,
    /// Number of attempts of the job that published under this id, as far as markers are retained.
    pub attempts: usize,
    /// Id of the last published checkpoint.
    pub checkpoint: u64,
    /// Time at which that checkpoint was prepared, milliseconds since 1970.
    pub prepared_ms: i64,
}

/// A partition that `read_committed` consumers cannot read to its end, because a transaction is open in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockedPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
    /// Last stable offset: the first offset that `read_committed` consumers cannot read.
    pub stable_offset: i64,
    /// Offset of the next record to be written.
    pub end_offset: i64,
}

/// A sink of rows.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Returns the delivery guarantee.
    fn delivery(&self) -> Delivery;

    /// Sets the storage of the files that committables list. Called once, before all other methods, in every process
    /// that commits.
    fn use_storage(&self, _storage: Arc<dyn OutputStorage>) {}

    /// Checks that the target can be written to (the folder is writable, the topic exists), and removes unpublished
    /// output of earlier attempts of the same job. Called once, after the committables of the restored checkpoint were
    /// committed and before any writer is created.
    async fn start(&self, job: &JobIdentity) -> Result<(), Error>;

    /// Describes the output that earlier runs have published at the target, which readers read together with the new
    /// output: `3 files of earlier runs in out/`. `None` if there is none, or if it cannot be distinguished from other
    /// data.
    async fn earlier_output(&self) -> Result<Option<String>, Error> {
        Ok(None)
    }

    /// Removes the output that [`Sink::earlier_output`] describes.
    async fn remove_earlier_output(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Creates the writer of one subtask.
    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error>;

    /// Publishes the output of a completed checkpoint. Idempotent: it may be called again with the same committables.
    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error>;

    /// Returns true if writers keep output back from [`Sink::commit`] over several checkpoints, to publish it later.
    /// Each checkpoint's committables then describe all output that is kept back. It is published by
    /// [`Sink::recover`] when its writer does not go on, so all writers of the job start again together.
    fn keeps_output_back(&self) -> bool {
        false
    }

    /// Publishes what a restored checkpoint contains, output that is kept back included, when none of the writers that
    /// made it will go on. Idempotent.
    async fn recover(&self, committables: Vec<Committable>) -> Result<(), Error> {
        self.commit(committables).await
    }

    /// Returns true if [`Sink::commit`] transfers the output itself rather than publishing it by name. The committables
    /// of a subtask are then committed by the process whose writer prepared them, as long as that process is alive.
    /// After a failure any process may commit them, and two may do so at the same time. [`Sink::use_storage`] is called
    /// in each.
    fn commits_on_writer_process(&self) -> bool {
        false
    }

    /// Returns the outage of the external system, if this sink or one of its writers cannot reach it at present.
    fn outage(&self) -> Option<Outage> {
        None
    }

    /// Returns the transactions of a job in the external system; `None` if this sink uses none.
    async fn transactions(&self, _job: &str) -> Result<Option<TransactionReport>, Error> {
        Ok(None)
    }

    /// Aborts the open transactions of these transactional ids of a job; of all known ids if `ids` is empty. Returns
    /// the ids. No output is lost: a job that is running publishes it again.
    async fn abort_transactions(&self, _job: &str, _ids: &[String]) -> Result<Vec<String>, Error> {
        Ok(Vec::new())
    }
}

/// The identity of one attempt of a job, for names of temporary files and transactional ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobIdentity {
    /// Name of the job.
    pub job: String,
    /// Id that is unique for each start of the job.
    pub attempt: String,
}

/// The environment that the engine provides to a writer.
#[derive(Clone)]
pub struct WriterContext {
    /// The attempt that the writer belongs to.
    pub job: JobIdentity,
    /// Index of the subtask.
    pub subtask: usize,
    /// Number of subtasks.
    pub parallelism: usize,
    /// Runtime for I/O and blocking work.
    pub runtime: tokio::runtime::Handle,
    /// Storage for output that is too large for a committable.
    pub storage: Arc<dyn OutputStorage>,
}

/// Writes the rows of one subtask, on its slot thread.
pub trait SinkWriter: Send {
    /// Returns `Ready` if the writer accepts rows now; otherwise its waker is called once it does. The engine calls
    /// this before each `write`. An error of earlier rows (such as a broker's refusal) is returned here or by
    /// `prepare`.
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>>;

    /// Encodes the rows and queues them. Never waits; one call may exceed the writer's buffer by one batch. The batch
    /// has the table's columns in declared order, and as its last column [`KIND_COLUMN`](crate::KIND_COLUMN) if it
    /// contains changes that [`Connector::changelog`](crate::Connector::changelog) accepts; otherwise all rows are
    /// inserts. Returns the number of bytes encoded.
    ///
    /// # Errors
    ///
    /// [`Error::Data`] if a row cannot be encoded; no row of the batch was written, and the engine writes the rows
    /// again in smaller batches to find the row. After any other error the writer is not used again.
    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error>;

    /// Makes all rows written before this call durable. Rows written while the future runs belong to the next
    /// checkpoint. `last` is true if no more rows will be written.
    fn prepare(&mut self, checkpoint: u64, last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>>;
}
