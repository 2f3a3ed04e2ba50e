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
use crate::inputs::{OVERTAKEN_BYTES_MAX, Recorded};
use crate::operator::{Progress, Timestamp};
use crate::snapshot::{Overtaken, SnapshotPart};

/// Calls that may wait in front of a sink while a barrier comes through the chain to it.
const WAITING_CALLS_MAX: usize = 4_096;

/// A checkpoint that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Requested {
    barrier: Barrier,
    aligned_timeout: Option<Duration>,
    /// When its barriers are no longer waited for; known from the first step on.
    overtakes_at: Option<Timestamp>,
}

/// A checkpoint that was cut here before all of its barriers came.
pub(super) struct Overtaking {
    checkpoint: u64,
    /// `None`: its barriers have not come yet.
    record: Option<Recorded>,
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
        self.requested = Some(Requested {
            barrier,
            aligned_timeout,
            overtakes_at: None,
        });
        if let Some(inputs) = &mut self.inputs {
            inputs.give_up_before(barrier.checkpoint);
        }
        if let Some(Overtaking { part: Some(part), .. }) = self.overtaking.take() {
            self.hand_in(0, part);
        }
    }

    /// The checkpoint that was asked for, if its barrier has not entered the chain.
    pub(super) fn not_entered(&self) -> Option<Barrier> {
        let barrier = self.requested?.barrier;
        (barrier.checkpoint > self.entered).then_some(barrier)
    }

    /// Cuts a checkpoint whose barriers have been waited for long enough, and takes what they have to pass out of their
    /// way. Answers when there will be something to do.
    pub(super) fn overtake(&mut self, now: Timestamp) -> Result<Option<Timestamp>, Error> {
        let Some(requested) = &mut self.requested else {
            return Ok(None);
        };
        let Some(timeout) = requested.aligned_timeout else {
            return Ok(None);
        };
        let timeout_us = i64::try_from(timeout.as_micros()).unwrap_or(Timestamp::MAX);
        let at = *requested.overtakes_at.get_or_insert(now.saturating_add(timeout_us));
        let barrier = requested.barrier;
        if now < at {
            let is_on_its_way = self.entered < barrier.checkpoint || self.holds_barrier(barrier.checkpoint);
            return Ok(is_on_its_way.then_some(at));
        }
        if self.entered < barrier.checkpoint {
            self.enter_ahead(barrier, now)?;
        }
        if let Some(inputs) = &mut self.inputs {
            inputs.pull();
            if let Some(record) = inputs.take_record() {
                self.recorded(record);
            }
        }
        Ok(None)
    }

    fn enter_ahead(&mut self, barrier: Barrier, now: Timestamp) -> Result<(), Error> {
        match &mut self.inputs {
            // Behind the end of its input a barrier would come too late; the task answers once it has ended.
            None if self.stages[0].ended => {}
            None => self.cut_source(barrier)?,
            Some(inputs) if inputs.have_ended() => {}
            Some(inputs) => {
                if inputs.overtake(barrier, now) {
                    self.entered = barrier.checkpoint;
                    self.overtaking = Some(Overtaking {
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

    fn holds_barrier(&self, checkpoint: u64) -> bool {
        self.stages.iter().any(|stage| stage.holds_barrier(checkpoint))
    }

    /// The deepest stage cannot go on. If it is a sink, and a barrier that has been waited for long enough is on its way
    /// to it, the stages before it go on until the barrier is there, and it passes the rows that the sink does not take.
    /// Answers whether there was something to do.
    pub(super) fn pass_waiting_sinks(&mut self, now: Timestamp) -> Result<bool, Error> {
        let overdue = self
            .requested
            .filter(|requested| requested.overtakes_at.is_some_and(|at| at <= now));
        let Some(checkpoint) = overdue.map(|requested| requested.barrier.checkpoint) else {
            return Ok(false);
        };
        if !self.holds_barrier(checkpoint) {
            return Ok(false);
        }
        for index in (0..self.stages.len()).rev() {
            let stage = &self.stages[index];
            if !stage.has_work() {
                continue;
            }
            if !stage.is_waiting_sink() {
                if self.waits_too_much() {
                    return Ok(false);
                }
                self.run_stage(index)?;
                if self.stages[index].progress != Progress::Pending {
                    return Ok(true);
                }
                if !self.stages[index].is_waiting_sink() {
                    return Ok(false);
                }
            }
            if let Some((barrier, rows)) = self.stages[index].let_barrier_pass(checkpoint) {
                self.snapshot_stage(index, barrier, rows)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// So much is in front of sinks that do not take it that no more must be added.
    fn waits_too_much(&self) -> bool {
        let waiting = self.stages.iter().filter(|stage| stage.is_waiting_sink());
        let (calls, bytes) = waiting.fold((0, 0), |(calls, bytes), stage| {
            (calls + stage.calls.len(), bytes + stage.queued_bytes())
        });
        calls > WAITING_CALLS_MAX || bytes > OVERTAKEN_BYTES_MAX
    }

    fn recorded(&mut self, record: Recorded) {
        let Some(overtaking) = &mut self.overtaking else { return };
        overtaking.record = Some(record);
        if let Some(part) = overtaking.part.take() {
            self.hand_in(0, part);
        }
    }

    /// A stage's part of a checkpoint is finished by others from here on. The head's waits for the record of what was
    /// overtaken, if anything was.
    pub(super) fn hand_in(&mut self, index: usize, mut part: SnapshotPart) {
        let is_given_up = self
            .requested
            .is_some_and(|requested| requested.barrier.checkpoint > part.checkpoint);
        if is_given_up {
            part.overtaken = Overtaken::GivenUp;
        } else if let (0, Some(overtaking)) = (index, &mut self.overtaking)
            && overtaking.checkpoint == part.checkpoint
        {
            let Some(record) = overtaking.record.take() else {
                overtaking.part = Some(part);
                return;
            };
            match (record, &mut part.overtaken) {
                (Recorded::Whole(channels), Overtaken::Known(in_flight)) => in_flight.channels = channels,
                (_, overtaken) => *overtaken = Overtaken::TooMuch,
            }
            self.overtaking = None;
        }
        self.parts.push(part);
    }
}
