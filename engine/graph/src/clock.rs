//! The clock that expressions read, such as `NOW()` and `PROCTIME()` on a stream.
//!
//! The runtime provides the clock before it evaluates any row. Planning reads no clock: volatile functions are not
//! constant-folded, and reading the clock before it is provided is an error.

use std::sync::OnceLock;

use datafusion::common::exec_err;
use datafusion::error::Result;

/// A function that returns microseconds since the epoch.
pub type Clock = fn() -> i64;

static CLOCK: OnceLock<Clock> = OnceLock::new();

/// Sets the clock of this process. Later calls have no effect.
pub fn provide(clock: Clock) {
    CLOCK.get_or_init(|| clock);
}

/// Returns the time in microseconds since the epoch. Fails if no clock was [provided](provide).
pub fn now_us() -> Result<i64> {
    match CLOCK.get() {
        Some(clock) => Ok(clock()),
        None => exec_err!("the time is known only while a job runs"),
    }
}
