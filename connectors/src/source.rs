//! The contract of sources, which deliver rows in splits that are read, positioned and resumed one by one.
//!
//! A [`Source`] is created once per job. It lists its [`Split`]s (a Kafka partition, a byte range of a file, a slice of
//! a generator's sequence) and creates one [`SourceReader`] per subtask. The engine assigns splits to readers, polls
//! them from its slot threads, keeps watermarks per split, and stores the result of [`SourceReader::snapshot`] in every
//! checkpoint. A reader never blocks in `poll`: I/O runs on the runtime handle in [`ReaderContext`] and wakes the slot
//! through the waker.
//!
//! A source knows nothing of watermarks, of checkpoint storage or of the job around it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;

use crate::{Error, InputFields, Outage};

/// Boundedness of a source's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundedness {
    /// The input ends by itself.
    Bounded,
    /// The input never ends.
    Unbounded,
}

/// One independently readable part of a source, with the position to read it from.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Split {
    /// Id that is unique in the source and stable over restarts: `topic-3`, `entries.json[0..1048576]`. Watermarks,
    /// metrics and checkpoints refer to it.
    pub id: String,
    /// The source's own encoding of the position, with a version. The engine stores and returns it without reading it.
    pub position: Vec<u8>,
    /// Estimate of the work in this split (bytes or rows), for balance between subtasks. 0 if unknown.
    pub weight: u64,
    /// True if the split was read to its end. It stays in checkpoints so that discovery does not assign it again.
    pub finished: bool,
}

/// A source of rows.
#[async_trait]
pub trait Source: Send + Sync {
    /// Returns the columns that readers deliver without a projection: the table's physical columns, then its metadata
    /// columns, in declared order. Batches of a source of changes have [`KIND_COLUMN`](crate::KIND_COLUMN) after the
    /// delivered columns.
    fn schema(&self) -> SchemaRef;

    /// Returns the boundedness of the input.
    fn boundedness(&self) -> Boundedness;

    /// Announces that the job was restored from a checkpoint with splits of this source. Called before
    /// [`Source::splits`]; splits that are new there were created after the job first started.
    fn resume(&self) {}

    /// Lists all splits that exist now, at their starting positions. Called when a job starts and then once per
    /// [`Source::discovery_interval`]; the engine ignores ids that it knows. Sources with ordered splits return them in
    /// reading order.
    async fn splits(&self) -> Result<Vec<Split>, Error>;

    /// Returns the interval of the discovery of new splits; `None` if splits are listed only once.
    fn discovery_interval(&self) -> Option<Duration> {
        None
    }

    /// Returns true if splits follow one another in event time, so that a split that has not been started does not hold
    /// the watermark back.
    fn splits_are_ordered(&self) -> bool {
        false
    }

    /// Returns true if a split that was read to its end has different input now. `found` is the split of the same id as
    /// [`Source::splits`] lists it now.
    fn has_changed(&self, _read: &Split, _found: &Split) -> bool {
        false
    }

    /// Creates the reader of one subtask, without splits.
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error>;

    /// Returns the outage of the external system, if this source or one of its readers cannot reach it at present.
    fn outage(&self) -> Option<Outage> {
        None
    }

    /// Returns the fields of the records decoded so far; `None` if the format has no field names.
    fn input_fields(&self) -> Option<InputFields> {
        None
    }

    /// Reports the positions of a completed checkpoint to the external system (Kafka: commits group offsets), for
    /// monitoring of the lag. A restore never reads them, and an error is only logged.
    async fn checkpoint_completed(&self, _splits: &[Split]) -> Result<(), Error> {
        Ok(())
    }
}

/// The environment that the engine provides to a reader.
#[derive(Clone)]
pub struct ReaderContext {
    /// Columns of [`Source::schema`] to deliver, in this order; `None` for all of them. The kinds of changes are always
    /// delivered.
    pub projection: Option<Vec<usize>>,
    /// Rows of a batch when enough input is available. A single available row is delivered at once.
    pub batch_rows_max: usize,
    /// Bytes of a batch when enough input is available.
    pub batch_bytes_max: usize,
    /// Waker to call when a poll that returned `Pending` could now return another event.
    pub waker: Waker,
    /// Runtime for I/O and blocking work.
    pub runtime: tokio::runtime::Handle,
    /// Index of the subtask.
    pub subtask: usize,
    /// Number of subtasks.
    pub parallelism: usize,
}

/// Reads splits for one subtask, on its slot thread.
pub trait SourceReader: Send {
    /// Adds splits to read from their positions. May be called at any time, never with finished splits.
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error>;

    /// Announces that `add_splits` will not be called again: [`SourceReader::poll`] returns [`SourceEvent::End`] once
    /// all splits are read.
    fn no_more_splits(&mut self);

    /// Returns the next event. Never blocks; the work of a call is bounded (about one batch).
    fn poll(&mut self) -> Result<SourceEvent, Error>;

    /// Returns the time after which a reader that returned `Pending` is to be polled again without its waker being
    /// called, for readers that wait for the clock. `None` if the reader always calls its waker.
    fn pending_for(&self) -> Option<Duration> {
        None
    }

    /// Returns true if the reader begins a split only after all of its splits that are not deferred, so that it does
    /// not hold the watermark back before.
    fn is_deferred(&self, _split: &str) -> bool {
        false
    }

    /// Returns all splits of this reader, each at the position just after the last batch that `poll` returned. A
    /// restore from these positions delivers every later row exactly once. An error fails the checkpoint, not the
    /// reader, and so must leave the reader unchanged.
    fn snapshot(&mut self) -> Result<Vec<Split>, Error>;
}

/// An event of [`SourceReader::poll`].
#[derive(Debug)]
pub enum SourceEvent {
    /// Rows of one split, in the split's order.
    Batch(SourceBatch),
    /// A split was read to its end.
    SplitFinished {
        /// Id of the split.
        split: Arc<str>,
    },
    /// An unbounded split was read up to its end as of a successful fetch. Reported once each time; the next batch of
    /// the split revokes it. Only such a split may become idle.
    CaughtUp {
        /// Id of the split.
        split: Arc<str>,
    },
    /// No event yet: the waker will be called, or [`SourceReader::pending_for`] returns the time to wait.
    Pending,
    /// All splits are read and no more will come.
    End,
}

/// Rows of one split.
#[derive(Debug)]
pub struct SourceBatch {
    /// Id of the split.
    pub split: Arc<str>,
    /// The rows, in the split's order. If [`Connector::changelog`](crate::Connector::changelog) of the table is not
    /// `Append`, they are changes, with [`KIND_COLUMN`](crate::KIND_COLUMN) as their last column.
    pub rows: RecordBatch,
    /// Records that could not be decoded, in order. They are not in `rows`.
    pub rejected: Vec<RejectedRecord>,
    /// Bytes read for this batch, before decoding.
    pub bytes: u64,
    /// Number of records of this split after this batch; `None` if the source does not know.
    pub lag: Option<u64>,
}

/// A record that could not be decoded. The source's error policy applies to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The original bytes.
    pub payload: Vec<u8>,
    /// Position for a person: `topic-3@42`, `entries.json:17`.
    pub position: String,
    /// Error of the decoder, with the column where possible.
    pub error: String,
}
