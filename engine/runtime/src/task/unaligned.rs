//! Unaligned checkpoints: barriers overtake rows once the `aligned_timeout` of their checkpoint has passed.
//!
//! Every task decides by itself: once the timeout has passed since it was requested to checkpoint, it takes its
//! snapshot, wherever the barriers are then (Chandy and Lamport, 1985). The rows that they have overtaken are channel
//! state:
//!
//! * a source takes its snapshot although its output channels have no credit;
//! * a task with inputs takes its snapshot before all barriers have arrived. [`crate::inputs`] records the rows before
//!   them and empties the channels, so that the senders have credit to send the barriers;
//! * inside a chain the barrier follows the output of the last call, but overtakes rows that a sink does not accept.
//!
//! A barrier does not overtake a call that has begun (a window that fires emits all of its rows first), nor the end of
//! input. A checkpoint that was requested without a timeout is aligned.

use std::time::Duration;

use super::Task;
use crate::Error;
use crate::element::{Barrier, BarrierNumber, Element};
use crate::inputs::{OVERTAKEN_BYTES_MAX, RecordingResult};
use crate::operator::{Progress, Timestamp};
use crate::snapshot::{RecordedState, SnapshotPart};

/// Number of calls that may be queued at blocked sinks while a barrier passes through the chain.
const BYPASSED_CALLS_MAX: usize = 4_096;

/// A checkpoint that was requested of this task.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckpointRequest {
    barrier: Barrier,
    aligned_timeout: Option<Duration>,
    /// Time at which the checkpoint becomes unaligned; set by the first step after the request.
    unaligned_at: Option<Timestamp>,
}

/// An unaligned checkpoint of this task.
pub(super) struct UnalignedCheckpoint {
    checkpoint: u64,
    /// The recorded channel state; `None` until all barriers have arrived.
    record: Option<RecordingResult>,
    /// The part of the first stage, which is completed by the channel state.
    part: Option<SnapshotPart>,
}

impl CheckpointRequest {
    /// Returns the number of the requested barrier.
    pub(super) fn barrier_number(&self) -> BarrierNumber {
        self.barrier.number
    }
}

impl Task {
    /// Requests a checkpoint or a consistency point. All earlier ones that are incomplete are aborted.
    pub(super) fn request(&mut self, barrier: Barrier, aligned_timeout: Option<Duration>) {
        if self
            .requested
            .is_some_and(|requested| requested.barrier.number >= barrier.number)
        {
            return;
        }
        self.requested = Some(CheckpointRequest {
            barrier,
            aligned_timeout,
            unaligned_at: None,
        });
        if let Some(inputs) = &mut self.inputs {
            inputs.abort_before(barrier.number);
        }
        if let Some(UnalignedCheckpoint { part: Some(part), .. }) = self.unaligned.take() {
            self.submit_part(0, part);
        }
    }

    /// Returns the barrier that was requested last, if it has not entered the chain yet.
    pub(super) fn pending_barrier(&self) -> Option<Barrier> {
        let barrier = self.requested?.barrier;
        (barrier.number > self.entered).then_some(barrier)
    }

    /// Starts an unaligned checkpoint if the timeout of the requested one has passed, and drains the channels of one
    /// that was started. Returns the time at which the requested checkpoint becomes unaligned, if that is still to
    /// come.
    pub(super) fn start_unaligned_if_due(&mut self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let Some(requested) = &mut self.requested else {
            return Ok(None);
        };
        let Some(timeout) = requested.aligned_timeout else {
            return Ok(None);
        };
        let timeout_us = i64::try_from(timeout.as_micros()).unwrap_or(Timestamp::MAX);
        let at = *requested.unaligned_at.get_or_insert(now.saturating_add(timeout_us));
        let barrier = requested.barrier;
        if now < at {
            let is_incomplete = self.entered < barrier.number || self.has_barrier(barrier.number);
            return Ok(is_incomplete.then_some(at));
        }
        if self.entered < barrier.number {
            self.start_unaligned(barrier, now)?;
        }
        if let Some(inputs) = &mut self.inputs {
            inputs.drain();
            if let Some(record) = inputs.take_record() {
                self.on_recorded(record);
            }
        }
        Ok(None)
    }

    fn start_unaligned(&mut self, barrier: Barrier, now: Timestamp) -> Result<(), Error> {
        match &mut self.inputs {
            // A barrier must not follow the end of input. The task takes its parts once all stages have ended.
            None if self.stages[0].ended => {}
            None => self.inject_barrier(barrier)?,
            Some(inputs) if inputs.have_ended() => {}
            Some(inputs) => {
                if inputs.overtake(barrier, now) {
                    self.entered = barrier.number;
                    self.unaligned = Some(UnalignedCheckpoint {
                        checkpoint: barrier.number.checkpoint,
                        record: None,
                        part: None,
                    });
                    self.stages[0].accept(0, Element::Barrier(barrier));
                }
            }
        }
        Ok(())
    }

    fn has_barrier(&self, number: BarrierNumber) -> bool {
        self.stages.iter().any(|stage| stage.has_barrier(number))
    }

    /// Moves the barrier of an overdue checkpoint towards a blocked sink: the stages before the sink run until the
    /// barrier is in its queue, where it overtakes the rows that the sink does not accept. Returns false if nothing
    /// could be done.
    pub(super) fn bypass_blocked_sinks(&mut self, now: Timestamp) -> Result<bool, Error> {
        let overdue = self
            .requested
            .filter(|requested| requested.unaligned_at.is_some_and(|at| at <= now));
        let Some(number) = overdue.map(|requested| requested.barrier.number) else {
            return Ok(false);
        };
        if !self.has_barrier(number) {
            return Ok(false);
        }
        for index in (0..self.stages.len()).rev() {
            let stage = &self.stages[index];
            if !stage.has_work() {
                continue;
            }
            if !stage.is_blocked_sink() {
                if self.exceeds_bypass_limits() {
                    return Ok(false);
                }
                self.run_stage(index)?;
                if self.stages[index].progress != Progress::Pending {
                    return Ok(true);
                }
                if !self.stages[index].is_blocked_sink() {
                    return Ok(false);
                }
            }
            if let Some((barrier, rows)) = self.stages[index].overtake_queued_rows(number) {
                self.snapshot_stage(index, barrier, rows)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Returns true if no more rows may be queued at blocked sinks.
    fn exceeds_bypass_limits(&self) -> bool {
        let waiting = self.stages.iter().filter(|stage| stage.is_blocked_sink());
        let (calls, bytes) = waiting.fold((0, 0), |(calls, bytes), stage| {
            (calls + stage.calls.len(), bytes + stage.queued_bytes())
        });
        calls > BYPASSED_CALLS_MAX || bytes > OVERTAKEN_BYTES_MAX
    }

    /// Completes the part of the first stage with the recorded channel state.
    fn on_recorded(&mut self, record: RecordingResult) {
        let Some(unaligned) = &mut self.unaligned else { return };
        unaligned.record = Some(record);
        if let Some(part) = unaligned.part.take() {
            self.submit_part(0, part);
        }
    }

    /// Submits a stage's part of a checkpoint for completion. The part of the first stage waits for the recorded
    /// channel state, if the checkpoint is unaligned.
    pub(super) fn submit_part(&mut self, index: usize, mut part: SnapshotPart) {
        let is_aborted = self
            .requested
            .is_some_and(|requested| requested.barrier.number > BarrierNumber::of_checkpoint(part.checkpoint));
        if is_aborted {
            part.channel_state = RecordedState::Aborted;
        } else if let (0, Some(unaligned)) = (index, &mut self.unaligned)
            && unaligned.checkpoint == part.checkpoint
        {
            let Some(record) = unaligned.record.take() else {
                unaligned.part = Some(part);
                return;
            };
            match (record, &mut part.channel_state) {
                (RecordingResult::Complete(channels), RecordedState::Complete(channel_state)) => {
                    channel_state.channels = channels
                }
                (_, recorded) => *recorded = RecordedState::TooLarge,
            }
            self.unaligned = None;
        }
        self.parts.push(part);
    }
}
