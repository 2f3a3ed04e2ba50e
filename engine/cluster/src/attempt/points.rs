//! The consistency points of an attempt: when the next one is triggered.
//!
//! [`Points`] is a state machine without a clock. One point is under way at a time. The next one is due once it has
//! passed and the interval since its trigger is over, or at once if an operator asks for it. A checkpoint is a point,
//! too: it supersedes one under way, and none is triggered while its barriers may be under way. A point has the number
//! of the newest checkpoint and its own number since then, so that every barrier has a greater number than all before
//! it.

use std::time::Duration;

use millstream_runtime::element::BarrierNumber;

/// The consistency points of one attempt. Times are milliseconds since its start.
#[derive(Debug)]
pub(super) struct Points {
    /// Least time between the triggers of two points; `None`: the job has no points.
    interval_ms: Option<u64>,
    /// Number of the newest barrier that was triggered. `None` until the first checkpoint, if the tasks were adopted:
    /// they may have been given numbers that this process does not know.
    newest: Option<BarrierNumber>,
    /// The point under way, and the time of its trigger.
    under_way: Option<(BarrierNumber, u64)>,
    /// Time at which the next point is due.
    due_ms: u64,
}

impl Points {
    /// Creates the state of an attempt. `checkpoint` is the number of the newest checkpoint; `None` if tasks were
    /// adopted.
    pub(super) fn new(interval: Option<Duration>, checkpoint: Option<u64>) -> Self {
        let interval_ms = interval.map(|interval| u64::try_from(interval.as_millis()).unwrap_or(u64::MAX));
        Self {
            interval_ms,
            newest: checkpoint.map(BarrierNumber::of_checkpoint),
            under_way: None,
            due_ms: interval_ms.unwrap_or_default(),
        }
    }

    /// Returns the time at which the next point is to be triggered. `None` as long as something else must happen first.
    pub(super) fn next_tick_ms(&self) -> Option<u64> {
        match (self.interval_ms, self.newest, self.under_way) {
            (Some(_), Some(_), None) => Some(self.due_ms),
            _ => None,
        }
    }

    /// Triggers a point if one is due. Returns its number.
    pub(super) fn trigger_if_due(&mut self, now_ms: u64) -> Option<BarrierNumber> {
        let (interval_ms, newest) = (self.interval_ms?, self.newest?);
        if self.under_way.is_some() || now_ms < self.due_ms {
            return None;
        }
        let number = newest.next();
        self.newest = Some(number);
        self.under_way = Some((number, now_ms));
        self.due_ms = now_ms.saturating_add(interval_ms);
        Some(number)
    }

    /// Takes note of a checkpoint that is triggered: it supersedes the point under way, and is a point itself.
    pub(super) fn on_checkpoint_triggered(&mut self, checkpoint: u64, now_ms: u64) {
        self.newest = Some(BarrierNumber::of_checkpoint(checkpoint));
        self.under_way = None;
        self.due_ms = now_ms.saturating_add(self.interval_ms.unwrap_or_default());
    }

    /// Takes note of a point that has passed. Returns the milliseconds since its trigger, unless it was superseded.
    pub(super) fn on_passed(&mut self, number: BarrierNumber, now_ms: u64) -> Option<u64> {
        let (_, triggered_ms) = self.under_way.take_if(|(under_way, _)| *under_way == number)?;
        Some(now_ms.saturating_sub(triggered_ms))
    }

    /// Takes note of an operator that needs a point: it is due at once.
    pub(super) fn on_requested(&mut self, now_ms: u64) {
        self.due_ms = self.due_ms.min(now_ms);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(checkpoint: Option<u64>) -> Points {
        Points::new(Some(Duration::from_millis(100)), checkpoint)
    }

    fn number(checkpoint: u64, point: u64) -> BarrierNumber {
        BarrierNumber { checkpoint, point }
    }

    #[test]
    fn the_next_point_waits_for_the_last_one_and_for_the_interval() {
        let mut points = points(Some(0));
        assert_eq!(points.next_tick_ms(), Some(100));
        assert_eq!(points.trigger_if_due(99), None);
        assert_eq!(points.trigger_if_due(100), Some(number(0, 1)));
        assert_eq!((points.next_tick_ms(), points.trigger_if_due(500)), (None, None));
        assert_eq!(points.on_passed(number(0, 1), 130), Some(30));
        assert_eq!(points.next_tick_ms(), Some(200));
        assert_eq!(points.trigger_if_due(200), Some(number(0, 2)));
        assert_eq!(points.on_passed(number(0, 2), 900), Some(700));
        assert_eq!(points.trigger_if_due(900), Some(number(0, 3)));
    }

    #[test]
    fn a_checkpoint_supersedes_a_point_and_counts_as_one() {
        let mut points = points(Some(4));
        assert_eq!(points.trigger_if_due(100), Some(number(4, 1)));
        points.on_checkpoint_triggered(5, 150);
        assert_eq!(points.on_passed(number(4, 1), 160), None);
        assert_eq!(points.next_tick_ms(), Some(250));
        assert_eq!(points.trigger_if_due(250), Some(number(5, 1)));
    }

    #[test]
    fn an_operator_that_needs_a_point_does_not_wait_for_the_interval() {
        let mut points = points(Some(1));
        points.on_requested(20);
        assert_eq!(points.trigger_if_due(20), Some(number(1, 1)));
        points.on_requested(30);
        assert_eq!(points.next_tick_ms(), None, "one is under way");
        assert_eq!(points.on_passed(number(1, 1), 40), Some(20));
        assert_eq!(points.trigger_if_due(40), Some(number(1, 2)));
    }

    #[test]
    fn adopted_tasks_get_a_checkpoint_before_their_first_point() {
        let mut points = points(None);
        assert_eq!((points.next_tick_ms(), points.trigger_if_due(1_000)), (None, None));
        points.on_checkpoint_triggered(9, 1_000);
        assert_eq!(points.trigger_if_due(1_100), Some(number(9, 1)));
    }

    #[test]
    fn a_job_without_points_has_none() {
        let mut points = Points::new(None, Some(1));
        points.on_requested(0);
        points.on_checkpoint_triggered(2, 0);
        assert_eq!((points.next_tick_ms(), points.trigger_if_due(u64::MAX)), (None, None));
    }
}
