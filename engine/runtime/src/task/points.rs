//! Consistency points of a task.
//!
//! A point is a barrier at which tasks take no snapshot: operators that hold back changes emit them, and the newest
//! watermark follows. Its barrier is injected, aligned and superseded as that of a checkpoint is. A task that gives a
//! point up holds back until the next one.
//!
//! A point has passed once all tasks have forwarded its barrier whose output no other task reads. At the end of input,
//! operators emit what they hold back, so an ended task passes every point.

use std::sync::atomic::Ordering;

use super::Task;
use crate::element::BarrierNumber;
use crate::stage::StageKind;

/// The consistency points of a task, as its slot reports them.
#[derive(Debug, Default)]
pub(super) struct Points {
    /// The newest point that was reported as passed.
    reported: BarrierNumber,
    /// True if an operator needs a point, which is not reported yet.
    is_needed: bool,
    /// The newest barrier that had entered when a point was last requested: one request is enough until it passes.
    requested_after: Option<BarrierNumber>,
}

impl Task {
    /// Returns true if no other task reads the output of this one: the task reports the points that it has passed.
    pub(crate) fn is_terminal(&self) -> bool {
        self.edges.is_empty()
    }

    /// Returns the newest point that all stages of a terminal task have passed, unless it was returned before.
    pub(crate) fn take_passed_point(&mut self) -> Option<BarrierNumber> {
        let number = self.requested?.barrier_number();
        let is_new = !number.is_checkpoint() && number > self.points.reported && self.is_terminal();
        if !is_new || !self.stages.iter().all(|stage| stage.passed >= number) {
            return None;
        }
        self.points.reported = number;
        Some(number)
    }

    /// Returns true if an operator needs a consistency point. Returns it once until the next barrier has passed.
    pub(crate) fn take_point_request(&mut self) -> bool {
        std::mem::take(&mut self.points.is_needed)
    }

    /// Updates the numbers of changes that a stage holds back.
    pub(super) fn watch_held_back(&mut self, index: usize) {
        let stage = &self.stages[index];
        let (StageKind::Operator(operator), Some(_)) = (&stage.kind, &stage.held_back) else {
            return;
        };
        let held_back = operator.held_back();
        stage.counters.held_back_rows.store(held_back.total, Ordering::Relaxed);
        if held_back.exceeds_share && self.points.requested_after != Some(stage.passed) {
            self.points.requested_after = Some(stage.passed);
            self.points.is_needed = true;
        }
    }
}
