//! The clocks of a task.
//!
//! Durations (idle splits, alignment, pauses of a source) are measured by the time that is passed to
//! [`Task::step`](super::Task::step), which is steady: it does not jump when the clock of the machine is set. Two other
//! clocks are derived from it:
//!
//! * the *wall clock*, for times that are compared with event time (`max_future`) or read by people. It may jump either
//!   way.
//! * *processing time*, for processing-time windows. It equals the wall clock as long as that advances. If the wall
//!   clock is set back, processing time does not follow, because windows that have fired would get rows again. It
//!   advances at half the speed then, so that windows still fire, until the wall clock has caught up. After a restore
//!   it begins no earlier than the processing time that the restored state had reached.

use crate::operator::{Timestamp, WATERMARK_MAX};

/// The clocks of one task.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: Timestamp,
    wall_ahead_us: i64,
    /// Steady time and processing time at the last moment at which processing time equalled the wall clock, or at the
    /// start.
    anchor: Option<(Timestamp, Timestamp)>,
    processing: Timestamp,
}

impl Clock {
    /// Sets the difference between the wall clock and steady time.
    pub(super) fn set_wall_ahead(&mut self, wall_ahead_us: i64) {
        self.wall_ahead_us = wall_ahead_us;
    }

    /// Advances steady time. `restored` is called once; it returns the processing time that the restored state had
    /// reached.
    pub(super) fn tick(&mut self, now: Timestamp, restored: impl FnOnce() -> Option<Timestamp>) {
        self.now = now;
        let wall = self.wall();
        let (since, then) = *self.anchor.get_or_insert_with(|| {
            let restored = restored().filter(|restored| *restored != WATERMARK_MAX);
            (now, restored.map_or(wall, |restored| restored.max(wall)))
        });
        self.processing = wall.max(then.saturating_add(now.saturating_sub(since) / 2));
        if self.processing == wall {
            self.anchor = Some((now, wall));
        }
    }

    /// Returns the time of the wall clock.
    pub(super) fn wall(&self) -> Timestamp {
        self.now.saturating_add(self.wall_ahead_us)
    }

    /// Returns the processing time.
    pub(super) fn processing(&self) -> Timestamp {
        self.processing
    }

    /// Returns the steady time at which processing time reaches `processing`, if the wall clock is not set.
    pub(super) fn due(&self, processing: Timestamp) -> Timestamp {
        let (since, then) = self.anchor.unwrap_or_default();
        let by_wall = self.now.saturating_add(processing.saturating_sub(self.wall()));
        let by_half = since.saturating_add(processing.saturating_sub(then).saturating_mul(2));
        by_wall.min(by_half).max(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3_600_000_000;

    fn at(clock: &mut Clock, now: Timestamp, wall: Timestamp) -> Timestamp {
        clock.set_wall_ahead(wall - now);
        clock.tick(now, || None);
        clock.processing()
    }

    #[test]
    fn processing_time_follows_the_wall_clock_forward() {
        let mut clock = Clock::default();
        assert_eq!(at(&mut clock, 0, 10), 10);
        assert_eq!(at(&mut clock, 5, 15), 15);
        assert_eq!(at(&mut clock, 6, 400 * 24 * HOUR), 400 * 24 * HOUR);
        assert_eq!(clock.due(400 * 24 * HOUR + 7), 13);
        assert_eq!(clock.due(3), 6, "it is due already");
    }

    #[test]
    fn processing_time_goes_on_when_the_wall_clock_is_set_back() {
        let mut clock = Clock::default();
        assert_eq!(at(&mut clock, 0, 5 * HOUR), 5 * HOUR);
        assert_eq!(at(&mut clock, 0, 4 * HOUR), 5 * HOUR);
        // Small steps are not lost.
        for us in 1..=1_000 {
            at(&mut clock, us, 4 * HOUR + us);
        }
        assert_eq!(clock.processing(), 5 * HOUR + 500);
        assert_eq!(clock.due(5 * HOUR + 600), 1_200);
        assert_eq!(at(&mut clock, HOUR, 5 * HOUR), 5 * HOUR + HOUR / 2);
        assert_eq!(clock.due(7 * HOUR), 3 * HOUR, "the wall clock is there before");
        assert_eq!(at(&mut clock, 2 * HOUR, 6 * HOUR), 6 * HOUR);
        assert_eq!(at(&mut clock, 3 * HOUR, 7 * HOUR), 7 * HOUR);
    }

    #[test]
    fn processing_time_does_not_begin_before_windows_that_have_fired() {
        let mut clock = Clock::default();
        clock.set_wall_ahead(4 * HOUR);
        clock.tick(0, || Some(5 * HOUR));
        assert_eq!(clock.processing(), 5 * HOUR);
        assert_eq!(at(&mut clock, HOUR, 5 * HOUR), 5 * HOUR + HOUR / 2);
        for began in [None, Some(3 * HOUR), Some(WATERMARK_MAX)] {
            let mut clock = Clock::default();
            clock.set_wall_ahead(4 * HOUR);
            clock.tick(0, || began);
            assert_eq!(clock.processing(), 4 * HOUR);
        }
    }
}
