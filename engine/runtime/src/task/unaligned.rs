//! Checkpoints that do not wait: a barrier that has been waited for long enough overtakes what it would wait behind.
//!
//! Every task looks after itself: a checkpoint asked for with a timeout is cut once that is over, wherever its barriers
//! are then (Chandy and Lamport, 1985). What they have overtaken is part of the checkpoint:
//!
//! * a source is cut although its rows find no room;
//! * a task with inputs is cut before the barriers come. [`crate::inputs`] records what is before them, and makes room for the
//!   senders to bring them;
//! * in a chain the barrier follows what one call has emitted, but it passes rows that a sink does not take.
//!
//! What is not passed is a call that has been begun (a window that fires goes on until it has emitted all), and the end of
//! the input. A checkpoint asked for without a timeout overtakes nothing.

use std::time::Duration;

use super::Task;
use crate::Error;
use crate::element::{Barrier, Element};
use crate::inputs::{OVERTAKEN_BYTES_MAX, RecordingResult};
use crate::operator::{Progress, Timestamp};
use crate::snapshot::{RecordedState, SnapshotPart};

/// Calls that may wait in front of a sink while a barrier comes through the chain to it.
const BYPASSED_CALLS_MAX: usize = 4_096;

/// A checkpoint that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct CheckpointRequest {
    barrier: Barrier,
    aligned_timeout: Option<Duration>,
    /// When its barriers are no longer waited for; known from the first step on.
    unaligned_at: Option<Timestamp>,
}

/// A checkpoint that was cut here before all of its barriers came.
pub(super) struct UnalignedCheckpoint {
    checkpoint: u64,
    /// `None`: its barriers have not come yet.
    record: Option<RecordingResult>,
    /// The head's part, once it is cut: it waits for the record.
    part: Option<SnapshotPart>,
}

impl Task {
    /// A checkpoint was asked for. Whoever asks has given up every earlier one that is not complete.
    pub(super) fn request(&mut self, barrier: Barrier, aligned_timeout: Option<Duration>) {
        if self
            .requested
            .is_some_and(|requested| requested.barrier.checkpoint >= barrier.checkpoint)
        {
            return;
        }
        self.requested = Some(CheckpointRequest {
            barrier,
            aligned_timeout,
            unaligned_at: None,
        });
        if let Some(inputs) = &mut self.inputs {
            inputs.abort_before(barrier.checkpoint);
        }
        if let Some(UnalignedCheckpoint { part: Some(part), .. }) = self.unaligned.take() {
            self.submit_part(0, part);
        }
    }

    /// The checkpoint that was asked for, if its barrier has not entered the chain.
    pub(super) fn pending_barrier(&self) -> Option<Barrier> {
        let barrier = self.requested?.barrier;
        (barrier.checkpoint > self.entered_checkpoint).then_some(barrier)
    }

    /// Cuts a checkpoint whose barriers have been waited for long enough, and takes what they have to pass out of their
    /// way. Answers when there will be something to do.
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
            let is_on_its_way = self.entered_checkpoint < barrier.checkpoint || self.has_barrier(barrier.checkpoint);
            return Ok(is_on_its_way.then_some(at));
        }
        if self.entered_checkpoint < barrier.checkpoint {
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
            // Behind the end of its input a barrier would come too late; the task answers once it has ended.
            None if self.stages[0].ended => {}
            None => self.cut_source(barrier)?,
            Some(inputs) if inputs.have_ended() => {}
            Some(inputs) => {
                if inputs.overtake(barrier, now) {
                    self.entered_checkpoint = barrier.checkpoint;
                    self.unaligned = Some(UnalignedCheckpoint {
                        checkpoint: barrier.checkpoint,
                        record: None,
                        part: None,
                    });
                    self.stages[0].accept(0, Element::Barrier(barrier));
                }
            }
        }
        Ok(())
    }

    fn has_barrier(&self, checkpoint: u64) -> bool {
        self.stages.iter().any(|stage| stage.has_barrier(checkpoint))
    }

    /// The deepest stage cannot go on. If it is a sink, and a barrier that has been waited for long enough is on its way
    /// to it, the stages before it go on until the barrier is there, and it passes the rows that the sink does not take.
    /// Answers whether there was something to do.
    pub(super) fn bypass_blocked_sinks(&mut self, now: Timestamp) -> Result<bool, Error> {
        let overdue = self
            .requested
            .filter(|requested| requested.unaligned_at.is_some_and(|at| at <= now));
        let Some(checkpoint) = overdue.map(|requested| requested.barrier.checkpoint) else {
            return Ok(false);
        };
        if !self.has_barrier(checkpoint) {
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
            if let Some((barrier, rows)) = self.stages[index].overtake_queued_rows(checkpoint) {
                self.snapshot_stage(index, barrier, rows)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// So much is in front of sinks that do not take it that no more must be added.
    fn exceeds_bypass_limits(&self) -> bool {
        let waiting = self.stages.iter().filter(|stage| stage.is_blocked_sink());
        let (calls, bytes) = waiting.fold((0, 0), |(calls, bytes), stage| {
            (calls + stage.calls.len(), bytes + stage.queued_bytes())
        });
        calls > BYPASSED_CALLS_MAX || bytes > OVERTAKEN_BYTES_MAX
    }

    fn on_recorded(&mut self, record: RecordingResult) {
        let Some(unaligned) = &mut self.unaligned else { return };
        unaligned.record = Some(record);
        if let Some(part) = unaligned.part.take() {
            self.submit_part(0, part);
        }
    }

    /// A stage's part of a checkpoint is finished by others from here on. The head's waits for the record of what was
    /// overtaken, if anything was.
    pub(super) fn submit_part(&mut self, index: usize, mut part: SnapshotPart) {
        let is_given_up = self
            .requested
            .is_some_and(|requested| requested.barrier.checkpoint > part.checkpoint);
        if is_given_up {
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
