//! The wall clock, for what people and other machines read: durations are measured otherwise.

use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since the epoch, UTC.
pub fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_micros() as i64)
}
