//! Time since something was last heard from.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time at which something was last heard from. It is compared with durations only.
#[derive(Debug)]
pub(super) struct Heartbeat(Mutex<Instant>);

impl Heartbeat {
    /// Returns a heartbeat as of now.
    pub(super) fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    /// Sets the time to now.
    pub(super) fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    /// Returns the time since the last beat.
    pub(super) fn silence(&self) -> Duration {
        self.0.lock().elapsed()
    }
}
