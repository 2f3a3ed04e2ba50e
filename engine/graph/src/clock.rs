//! The clock that expressions read, such as `NOW()` and `PROCTIME()` on a stream.
//!
//! The runtime provides the clock before it evaluates any row. Planning reads no clock: volatile functions are not
//! constant-folded, and reading the clock before it is provided is an error.

use std::cell::Cell;
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

thread_local! {
    /// The time of the request that this thread answers.
    static OF_REQUEST: Cell<Option<i64>> = const { Cell::new(None) };
}

/// Calls a function during which the time is `now_us` on this thread: all expressions of a request see its arrival.
pub fn with_now<T>(now_us: i64, call: impl FnOnce() -> T) -> T {
    struct Reset(Option<i64>);
    impl Drop for Reset {
        fn drop(&mut self) {
            OF_REQUEST.set(self.0);
        }
    }
    let _reset = Reset(OF_REQUEST.replace(Some(now_us)));
    call()
}

/// Returns the time in microseconds since the epoch. Fails if no clock was [provided](provide).
pub fn now_us() -> Result<i64> {
    if let Some(now_us) = OF_REQUEST.get() {
        return Ok(now_us);
    }
    match CLOCK.get() {
        Some(clock) => Ok(clock()),
        None => exec_err!("the time is known only while a job runs"),
    }
}
