//! The contract of an operator: synchronous, without I/O of its own, one bounded step per call.
//!
//! A task calls its operators from one thread. Elements come in by `process` (rows) and `on_watermark` (time); what an
//! operator has to say it pushes into its [`Collector`]. One call emits a bounded amount (about
//! [`EMIT_ROWS_MAX`] rows): an operator with more to say answers [`Progress::More`] and is called again by
//! [`Operator::resume`] when there is room downstream, and nothing else is delivered to it until it answers
//! [`Progress::Done`]. What it holds back in between (its cursor) is state.
//!
//! Snapshots: at a barrier the task calls [`Operator::snapshot`]; what must happen off the slot thread (writing the
//! frozen generation, cutting and uploading files) is in the [`Snapshot`] it returns.

use arrow_array::RecordBatch;
use millstream_graph::Port;

use crate::Error;

/// Event time or clock time, in microseconds since the epoch, UTC.
pub type Timestamp = i64;

/// The watermark before any row: nothing is known to be complete.
pub const WATERMARK_MIN: Timestamp = i64::MIN;
/// The watermark after the last row of bounded input: everything is complete.
pub const WATERMARK_MAX: Timestamp = i64::MAX;

/// Rows that one call of an operator may emit before it answers `More`. One call may overdraw by one batch.
pub const EMIT_ROWS_MAX: usize = 8192;

/// Whether an operator is through with what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    Done,
    /// More output is ready: call `resume` when there is room.
    More,
    /// Waits for its background work (a scan behind a write): call `resume` after its waker was called.
    Pending,
}

/// Takes what an operator emits. Implemented by the task: the next operator of the chain, or an edge.
pub trait Collector {
    fn emit(&mut self, port: Port, batch: RecordBatch);

    /// Counts rows that failed, whatever became of them.
    fn count_bad(&mut self, rows: u64);
}

/// One step of a chain.
pub trait Operator: Send {
    /// Rows of one input (0, or 1 for the right side of a join). Never an empty batch.
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error>;

    /// All inputs together have reached this event time: no later row is at or below it, unless late. The task forwards
    /// the watermark downstream after the operator answered `Done`; what it emits before is ahead of the watermark.
    fn on_watermark(&mut self, _watermark: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// The watermark to forward for a merged input watermark; the default forwards it as is. Operators that may still emit
    /// rows at or below it (session windows) hold it back by so much.
    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        watermark
    }

    /// Processing time, which never goes back. Called before rows are processed, when it has advanced, and at
    /// [`Operator::next_timer`].
    fn on_time(&mut self, _now: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// When the operator next needs `on_time`, if ever (processing-time windows).
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }

    /// Processing time as far as restored state has seen it, where that matters: what the machine's clock shows may be
    /// earlier.
    fn processing_time(&self) -> Option<Timestamp> {
        None
    }

    /// Goes on after `More` or `Pending`.
    fn resume(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// A barrier is about to pass, or no input waits: emit what is held back for batching only (local pre-aggregates).
    /// Not called before a watermark: an operator that holds rows back emits in `on_watermark` those that must be ahead
    /// of it.
    fn flush(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// The state as of all elements processed so far. Only called when the last call answered `Done`, after `flush`.
    /// Stateless operators return the default. An error ends the job's attempt: what was marked as changed may be marked
    /// no more, so later checkpoints could lack it.
    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error>;

    /// All inputs have ended and the final watermark was processed.
    fn finish(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }
}

/// What an operator contributes to a checkpoint.
#[derive(Default)]
pub struct Snapshot {
    /// Small state kept in the manifest itself, versioned by the operator: timers, cursors, offsets.
    pub inline: Vec<u8>,
    /// Keyed state: finishes off the slot thread with the files that hold it.
    pub keyed: Option<millstream_state::SnapshotTicket>,
}
