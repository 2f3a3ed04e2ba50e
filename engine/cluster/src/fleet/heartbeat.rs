//! Time since something was last heard from.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Time at which something was last heard from. It is compared with durations only.
#[derive(Debug)]
pub struct Heartbeat(Mutex<Instant>);

impl Heartbeat {
    pub fn new() -> Self {
        Self(Mutex::new(Instant::now()))
    }

    pub fn beat(&self) {
        *self.0.lock() = Instant::now();
    }

    pub fn silence(&self) -> Duration {
        self.0.lock().elapsed()
    }
}
