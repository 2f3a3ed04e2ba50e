//! The contract of an operator: synchronous, without I/O of its own, one bounded step per call.
//!
//! A task calls its operators from one thread. Rows arrive by [`Operator::process`], event time by
//! [`Operator::on_watermark`]; an operator pushes its output into the [`Collector`] it is given. One call emits a
//! bounded number of rows (about [`EMIT_ROWS_MAX`]): an operator with more output returns [`Progress::More`] and is
//! called again by [`Operator::resume`] once its consumer has credit. Until it returns [`Progress::Done`], nothing else
//! is delivered to it. Whatever it needs to continue (its cursor) is part of its state.
//!
//! At a barrier the task calls [`Operator::snapshot`]. The work that must happen off the slot thread (writing the
//! frozen generation, uploading files) is in the [`Snapshot`] that it returns.
//!
//! In debug builds every operator runs inside checks of this contract ([`crate::operators`], `checked.rs`).

use arrow_array::RecordBatch;
use millstream_graph::Port;

use crate::Error;

/// Event time or processing time, in microseconds since the epoch, UTC.
pub type Timestamp = i64;

/// The watermark before any row: no event time is complete.
pub const WATERMARK_MIN: Timestamp = i64::MIN;
/// The watermark after the last row of bounded input: all event times are complete.
pub const WATERMARK_MAX: Timestamp = i64::MAX;

/// Number of rows that one call of an operator may emit before it returns [`Progress::More`]. The last batch of a call
/// may exceed it.
pub const EMIT_ROWS_MAX: usize = 8192;

/// The progress of an operator with the call it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Progress {
    /// The call is complete; the operator takes the next one.
    Done,
    /// More output is ready: call [`Operator::resume`] once the consumer has credit.
    More,
    /// The operator waits for background work of its own, such as reading state: call [`Operator::resume`] after its
    /// waker was called.
    Pending,
}

/// Takes the rows that an operator emits. Implemented by the task, which passes them to the next operator of the chain
/// or to an output edge.
pub trait Collector {
    /// Takes a batch for all consumers of a port. Empty batches are ignored.
    fn emit(&mut self, port: Port, batch: RecordBatch);

    /// Counts rows that an expression failed for, independently of the error policy.
    fn count_bad(&mut self, rows: u64);
}

/// One step of a chain that processes rows.
pub trait Operator: Send {
    /// Processes rows of one input: 0, or 1 for the right side of a join. The batch is never empty.
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error>;

    /// Advances event time: no later row of any input is at or below the watermark, except late events. The task
    /// forwards the watermark downstream after the operator has returned [`Progress::Done`], so rows that the call
    /// emits are ahead of it.
    fn on_watermark(&mut self, _watermark: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// Returns the watermark to forward for a watermark of the merged inputs; by default the same. An operator that may
    /// still emit rows at or below the watermark (session windows) returns a lower one.
    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        watermark
    }

    /// Advances processing time, which never goes back. Called before rows are processed, if it has advanced, and at
    /// [`Operator::next_timer`].
    fn on_time(&mut self, _now: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// Returns the processing time of the next [`Operator::on_time`] call that the operator needs, if any.
    fn next_timer(&self) -> Option<Timestamp> {
        None
    }

    /// Returns the processing time that the restored state had reached, for operators whose state depends on it: the
    /// clock of this machine may be behind it.
    fn processing_time(&self) -> Option<Timestamp> {
        None
    }

    /// Continues the call that returned [`Progress::More`] or [`Progress::Pending`].
    fn resume(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// Emits rows that are buffered for batching only, such as local pre-aggregates. Called before a barrier, and when
    /// no input waits. Not called before a watermark: `on_watermark` emits the buffered rows that must be ahead of it.
    fn flush(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// Emits the changes that the operator holds back until a consistency point. Called after `flush`, before a
    /// barrier, if the operator was made to hold back changes. At the end of input, [`Operator::finish`] emits them.
    fn on_point(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// Returns the extent of the changes that the operator holds back until the next consistency point.
    fn held_back(&self) -> HeldBack {
        HeldBack::default()
    }

    /// Returns the state as of all elements processed so far. Called only after `flush`, when the last call has
    /// returned [`Progress::Done`]. Stateless operators return the default.
    ///
    /// An error ends the attempt of the job: parts of the state may no longer be marked as changed, so later
    /// checkpoints could lack them.
    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error>;

    /// Processes the end of one input, after its last row; others may continue. After a restore it may be called again.
    fn on_input_end(&mut self, _input: usize, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }

    /// Emits the remaining rows at the end of all inputs, after the final watermark was processed.
    fn finish(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        Ok(Progress::Done)
    }
}

/// Changes that an operator holds back until the next consistency point.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HeldBack {
    /// Number of changes that were held back so far, those included that were emitted at earlier points.
    pub total: u64,
    /// True if the changes exceed the operator's share of the memory budget: the next point should be triggered now.
    pub exceeds_share: bool,
}

/// The state of an operator in a checkpoint.
#[derive(Default)]
pub struct Snapshot {
    /// Small state (timers, cursors, offsets), stored in the manifest itself. The operator versions its encoding.
    pub inline: Vec<u8>,
    /// Keyed state; its files are written and uploaded off the slot thread.
    pub keyed: Option<millstream_state::SnapshotTicket>,
}
