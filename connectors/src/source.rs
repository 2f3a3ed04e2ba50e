//! What a source is: where rows come from, in splits that can be read, positioned and resumed one by one.
//!
//! A [`Source`] is made once per job. It lists its [`Split`]s (a Kafka partition, a byte range of a file, a slice of a
//! generator's sequence) and makes one [`SourceReader`] per subtask. The engine assigns splits to readers, polls them
//! from its slot threads, keeps watermarks per split, and stores what [`SourceReader::snapshot`] returns in every
//! checkpoint. A reader never blocks in `poll`: what must wait for a socket or a disk runs on the runtime handle
//! that [`ReaderContext`] carries, and wakes the slot through its waker.
//!
//! A source knows nothing of watermarks, checkpoints' storage or the job around it.

use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use async_trait::async_trait;

use crate::{Error, InputFields, Outage};

/// Whether a source's input ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Boundedness {
    Bounded,
    Unbounded,
}

/// One independently readable part of a source, with the position to read it from.
///
/// `id` is stable over restarts and unique in its source (`topic-3`, `entries.json[0..1048576]`): watermarks, metrics
/// and checkpoints name it. `position` is the source's own encoding (versioned by the source) of what is read and
/// from where; the engine stores and returns it unread.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Split {
    pub id: String,
    pub position: Vec<u8>,
    /// A rough measure of the work in this split (bytes or rows), for balance between subtasks. 0 if unknown.
    pub weight: u64,
    /// Nothing is left to read. Kept in checkpoints so that discovery does not hand the split out again.
    pub finished: bool,
}

/// Where rows come from.
#[async_trait]
pub trait Source: Send + Sync {
    /// Columns of the batches that readers deliver when nothing is projected away: the table's physical columns, then
    /// its metadata columns, in declared order.
    fn schema(&self) -> SchemaRef;

    fn boundedness(&self) -> Boundedness;

    /// The job resumes from a checkpoint that this source has a part in. Called before [`Source::splits`], whose new
    /// splits then came to be after the job had begun.
    fn resume(&self) {}

    /// All splits that exist now, at their starting positions. Called when a job starts and, if
    /// [`Source::discovery_interval`] says so, again and again; ids that are known already are ignored by the engine.
    /// The order is the declared reading order for sources whose splits are ordered.
    async fn splits(&self) -> Result<Vec<Split>, Error>;

    /// How often to look for new splits while running; `None`: never.
    fn discovery_interval(&self) -> Option<Duration> {
        None
    }

    /// Whether splits follow one another in event time, so that one not yet started need not hold the watermark back.
    fn splits_are_ordered(&self) -> bool {
        false
    }

    /// Returns whether a split that was read to its end holds other input now. `found` is the split of the same id as
    /// [`Source::splits`] lists it now.
    fn has_changed(&self, _read: &Split, _found: &Split) -> bool {
        false
    }

    /// A reader for one subtask. It owns no split until [`SourceReader::add_splits`].
    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error>;

    /// The system that is read, if it cannot be reached at present: as this value and its readers notice it.
    fn outage(&self) -> Option<Outage> {
        None
    }

    /// The fields of the records that its readers have decoded, where the format has field names.
    fn input_fields(&self) -> Option<InputFields> {
        None
    }

    /// Tells the outside world how far a completed checkpoint has read (Kafka: commits group offsets). For lag tools
    /// only: recovery never reads it, and a failure is logged, not fatal.
    async fn checkpoint_completed(&self, _splits: &[Split]) -> Result<(), Error> {
        Ok(())
    }
}

/// What a reader gets from the engine.
#[derive(Clone)]
pub struct ReaderContext {
    /// Columns of [`Source::schema`] to deliver, in this order; `None`: all of them.
    pub projection: Option<Vec<usize>>,
    /// Rows per batch to aim for when enough input is there. A lone row is delivered at once.
    pub batch_rows_max: usize,
    /// Bytes per batch to aim for.
    pub batch_bytes_max: usize,
    /// To be woken whenever a poll that answered `Pending` could now answer something else.
    pub waker: Waker,
    /// Runs whatever must wait.
    pub runtime: tokio::runtime::Handle,
    pub subtask: usize,
    pub parallelism: usize,
}

/// Reads splits for one subtask, from its slot thread.
pub trait SourceReader: Send {
    /// Takes over splits, at their positions. May be called at any time. Finished ones are never passed.
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error>;

    /// No further call of `add_splits` will come: once all splits are read, answer [`SourceEvent::End`].
    fn no_more_splits(&mut self);

    /// The next thing that happened. Never blocks; bounded work per call (about one batch).
    fn poll(&mut self) -> Result<SourceEvent, Error>;

    /// After `Pending`: how long until it is worth polling again although nobody calls the waker, for readers that wait
    /// for nothing but the clock. `None`: only the waker counts.
    fn pending_for(&self) -> Option<Duration> {
        None
    }

    /// All splits this reader was given, each at the position just after the last batch `poll` returned.
    /// Restoring from them delivers every later row exactly once. After an error the checkpoint is given up and the
    /// reader goes on: it must be as it was before.
    fn snapshot(&mut self) -> Result<Vec<Split>, Error>;
}

/// What one call of [`SourceReader::poll`] found.
#[derive(Debug)]
pub enum SourceEvent {
    /// Rows of one split, in the split's order.
    Batch(SourceBatch),
    /// A split will deliver no more rows.
    SplitFinished { split: Arc<str> },
    /// The position of an unbounded split equals its end as of a successful fetch. Said once each time it happens;
    /// the next batch of the split revokes it. Only such a split may be declared idle.
    CaughtUp { split: Arc<str> },
    /// Nothing now; the waker will be called, or [`SourceReader::pending_for`] says when to ask again.
    Pending,
    /// All splits are read and no more will come.
    End,
}

/// Rows of one split.
#[derive(Debug)]
pub struct SourceBatch {
    pub split: Arc<str>,
    pub rows: RecordBatch,
    /// Records that could not be decoded, in order. They are not in `rows`.
    pub rejected: Vec<RejectedRecord>,
    /// Bytes read for this batch, before decoding.
    pub bytes: u64,
    /// How many records of this split wait behind this batch, where the source knows (Kafka: lag).
    pub lag: Option<u64>,
}

/// A record that did not decode. The source's error policy decides what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedRecord {
    /// The original bytes.
    pub payload: Vec<u8>,
    /// Where it was read, for a person: `topic-3@42`, `entries.json:17`.
    pub position: String,
    /// Why it did not decode, naming the column where possible.
    pub error: String,
}
