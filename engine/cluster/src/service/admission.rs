//! Admission of requests: limits how many run at a time and how many wait.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::Failure;

/// Admission to one service.
pub(super) struct Admission {
    running: Semaphore,
    /// Requests that run or wait.
    in_progress: AtomicUsize,
    in_progress_max: usize,
    queue_max: usize,
}

/// A request that was admitted. Dropping it ends the request.
pub(super) struct Admitted<'a> {
    _permit: SemaphorePermit<'a>,
    _entry: Entry<'a>,
}

/// A request that runs or waits.
struct Entry<'a>(&'a AtomicUsize);

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    pub(super) fn new(concurrency_max: usize, queue_max: usize) -> Self {
        Self {
            running: Semaphore::new(concurrency_max),
            in_progress: AtomicUsize::new(0),
            in_progress_max: concurrency_max.saturating_add(queue_max),
            queue_max,
        }
    }

    /// Returns the number of requests that run or wait.
    pub(super) fn in_progress(&self) -> usize {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// Waits until the request may run. Refuses it if too many wait, or if its deadline passes meanwhile.
    pub(super) async fn admit(&self, deadline: Instant) -> Result<Admitted<'_>, Failure> {
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        let entry = Entry(&self.in_progress);
        if before >= self.in_progress_max {
            return Err(Failure::queue_full(self.queue_max));
        }
        if let Ok(permit) = self.running.try_acquire() {
            return Ok(Admitted {
                _permit: permit,
                _entry: entry,
            });
        }
        let permit = tokio::time::timeout_at(deadline.into(), self.running.acquire()).await;
        match permit {
            Ok(Ok(permit)) => Ok(Admitted {
                _permit: permit,
                _entry: entry,
            }),
            Ok(Err(_)) => Err(Failure::draining()),
            Err(_) => Err(Failure::deadline("the queue of requests")),
        }
    }
}
