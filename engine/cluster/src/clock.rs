//! The wall clock, for times that people and other machines read. Durations are measured with the monotonic clock.
//!
//! Clocks of two processes are compared by the time that one states in a message. The message travels for an unknown
//! part of the round trip, so that much of a difference is not attributed to the clocks ([`min_offset_us`]).

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Difference of the clocks of a coordinator and a worker above which a warning is logged.
const SKEW_US_MAX: i64 = 30_000_000;

/// Smallest step of the wall clock that is reported; smaller ones are slewing and measurement errors.
const STEP_US_MIN: i64 = 500_000;

/// Detects that the wall clock of this machine was set: it has advanced differently than the monotonic clock.
#[derive(Debug)]
pub(crate) struct StepDetector {
    /// The monotonic clock at the start.
    began: Instant,
    /// The wall clock at `began`, corrected by the steps that were reported.
    began_us: i64,
}

impl StepDetector {
    /// Starts at these times of the monotonic and the wall clock.
    pub(crate) fn new(began: Instant, began_us: i64) -> Self {
        Self { began, began_us }
    }

    /// Returns the microseconds by which the wall clock, which shows `now_us`, was set since the last call; 0: it was
    /// not.
    pub(crate) fn take(&mut self, now: Instant, now_us: i64) -> i64 {
        let elapsed_us = i64::try_from(now.duration_since(self.began).as_micros()).unwrap_or(i64::MAX);
        let step_us = now_us.saturating_sub(self.began_us.saturating_add(elapsed_us));
        if step_us.abs() < STEP_US_MIN {
            return 0;
        }
        self.began_us = self.began_us.saturating_add(step_us);
        step_us
    }
}

/// Returns the smallest difference in microseconds by which another clock must be ahead of this one (negative:
/// behind). It showed `theirs_us` at some moment of a round trip that ended here at `ours_us`.
pub(crate) fn min_offset_us(theirs_us: i64, ours_us: i64, round_trip: Duration) -> i64 {
    let round_trip_us = i64::try_from(round_trip.as_micros()).unwrap_or(i64::MAX);
    let least_us = theirs_us.saturating_sub(ours_us);
    let most_us = least_us.saturating_add(round_trip_us);
    match (least_us > 0, most_us < 0) {
        (true, _) => least_us,
        (_, true) => most_us,
        _ => 0,
    }
}

/// Returns a warning if a clock is too far ahead of this one, or behind.
pub(crate) fn skew_warning(whose: &str, ahead_us: i64) -> Option<String> {
    let (seconds, word) = match ahead_us {
        ahead if ahead > SKEW_US_MAX => (ahead / 1_000_000, "ahead of"),
        ahead if ahead < -SKEW_US_MAX => (ahead / -1_000_000, "behind"),
        _ => return None,
    };
    Some(format!(
        "the clock of {whose} is {seconds} s {word} this one: times of checkpoints and processing-time windows are wrong, \
         and rows may seem too far in the future; synchronise both (NTP)"
    ))
}

/// Returns the microseconds since the epoch, UTC.
#[expect(clippy::disallowed_methods, reason = "this is the clock of the crate")]
pub(crate) fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_difference_of_clocks_is_warned_of() {
        #[track_caller]
        fn check(ahead_s: i64, expected: Option<&str>) {
            let told = skew_warning("worker w", ahead_s * 1_000_000);
            match (told, expected) {
                (Some(told), Some(expected)) => assert!(told.starts_with(expected), "{told}"),
                (told, expected) => assert_eq!(told.as_deref(), expected),
            }
        }
        check(30, None);
        check(-30, None);
        check(3600, Some("the clock of worker w is 3600 s ahead of this one"));
        check(-31, Some("the clock of worker w is 31 s behind this one"));
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once() {
        let began = Instant::now();
        let mut steps = StepDetector::new(began, 1_000_000_000);
        let mut take =
            |after_s: u64, shown_s: i64| steps.take(began + Duration::from_secs(after_s), shown_s * 1_000_000);
        assert_eq!(take(1, 1_001), 0);
        assert_eq!(take(2, 1_002 - 3_600), -3_600_000_000);
        assert_eq!(take(3, 1_003 - 3_600), 0);
        assert_eq!(take(10, 1_010 + 400 * 86_400), (400 * 86_400 + 3_600) * 1_000_000);
        assert_eq!(take(10, 1_010 + 400 * 86_400), 0);
    }

    #[test]
    fn a_round_trip_is_no_clock_error() {
        /// Their clock is `ahead` of ours; the message is on its way for `back` of a round trip of 4 s.
        #[track_caller]
        fn check(ahead: i64, back: i64, expected: i64) {
            let (sent_us, second) = (1_000_000_000_000, 1_000_000);
            let found = min_offset_us(
                sent_us + ahead * second,
                sent_us + back * second,
                Duration::from_secs(4),
            );
            assert_eq!(found, expected * second, "{ahead} s ahead, {back} s on its way");
        }
        for back in 0..=4 {
            check(0, back, 0);
        }
        // The certain part is never more than the truth.
        check(10, 0, 10);
        check(10, 2, 8);
        check(10, 4, 6);
        check(-10, 0, -6);
        check(-10, 2, -8);
        check(-10, 4, -10);
        check(3, 4, 0);
        // Without a round trip that was measured nothing says that the other clock is behind.
        assert_eq!(min_offset_us(0, 5, Duration::MAX), 0);
        assert_eq!(min_offset_us(5, 0, Duration::MAX), 5);
    }
}
