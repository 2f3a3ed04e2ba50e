//! The wall clock, for what people and other machines read: durations are measured otherwise.

use std::time::{SystemTime, UNIX_EPOCH};

/// Clocks of a coordinator and a worker that differ more are warned of.
const SKEW_US_MAX: i64 = 30_000_000;

/// What is wrong with a clock that shows `theirs_us` while this one shows `ours_us`, if that is much.
pub fn skew(whose: &str, theirs_us: i64, ours_us: i64) -> Option<String> {
    let ahead_us = theirs_us.saturating_sub(ours_us);
    let (seconds, word) = match ahead_us {
        ahead if ahead > SKEW_US_MAX => (ahead / 1_000_000, "ahead of"),
        ahead if ahead < -SKEW_US_MAX => (ahead / -1_000_000, "behind"),
        _ => return None,
    };
    Some(format!(
        "the clock of {whose} is {seconds} s {word} this one: times of checkpoints, processing-time windows and idleness go \
         wrong; synchronise both (NTP)"
    ))
}

/// Microseconds since the epoch, UTC.
pub fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_are_far_apart_are_told() {
        #[track_caller]
        fn check(ahead_s: i64, expected: Option<&str>) {
            let told = skew("worker w", 1_000_000_000_000 + ahead_s * 1_000_000, 1_000_000_000_000);
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
}
