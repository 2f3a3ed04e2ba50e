//! Admission of requests: limits how many run at a time, how many wait, and the memory of their bodies.
//!
//! A request is counted when its head has arrived ([`Admission::enter`]), and runs once its body has
//! ([`Entry::run`]): a client that sends slowly does not keep others from running.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Failure;

/// Most bytes of the bodies of one service's requests, all together.
const BODIES_BYTES_MAX: usize = 512 << 20;

/// Admission to one service.
pub(super) struct Admission {
    running: Arc<Semaphore>,
    /// Requests that run or wait.
    in_progress: AtomicUsize,
    in_progress_max: usize,
    queue_max: usize,
    /// Bytes of the bodies of these requests.
    body_bytes: AtomicUsize,
}

/// A request that runs or waits, until it is dropped.
pub(super) struct Entry<'a> {
    admission: &'a Admission,
    body_bytes: usize,
}

impl Admission {
    pub(super) fn new(concurrency_max: usize, queue_max: usize) -> Self {
        Self {
            running: Arc::new(Semaphore::new(concurrency_max)),
            in_progress: AtomicUsize::new(0),
            in_progress_max: concurrency_max.saturating_add(queue_max),
            queue_max,
            body_bytes: AtomicUsize::new(0),
        }
    }

    /// Returns the number of requests that run or wait.
    pub(super) fn in_progress(&self) -> usize {
        self.in_progress.load(Ordering::Relaxed)
    }

    /// Returns a permit to run, if there is one.
    pub(super) fn try_run(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.running).try_acquire_owned().ok()
    }

    /// Waits for a permit to run. `None` if the process ends.
    pub(super) async fn run(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.running).acquire_owned().await.ok()
    }

    /// Counts a request, or refuses it if too many wait.
    pub(super) fn enter(&self) -> Result<Entry<'_>, Failure> {
        let before = self.in_progress.fetch_add(1, Ordering::Relaxed);
        let entry = Entry {
            admission: self,
            body_bytes: 0,
        };
        match before < self.in_progress_max {
            true => Ok(entry),
            false => Err(Failure::queue_full(self.queue_max)),
        }
    }
}

impl Entry<'_> {
    /// Counts bytes of the body, or refuses them if those of all requests are too many.
    pub(super) fn add_body(&mut self, bytes: usize) -> Result<(), Failure> {
        self.body_bytes += bytes;
        let before = self.admission.body_bytes.fetch_add(bytes, Ordering::Relaxed);
        match before + bytes <= BODIES_BYTES_MAX {
            true => Ok(()),
            false => Err(Failure::bodies_full(BODIES_BYTES_MAX)),
        }
    }

    /// Waits until the request may run, and returns the permit for that. The error tells that its deadline has passed
    /// meanwhile.
    pub(super) async fn run(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Failure> {
        if let Some(permit) = self.admission.try_run() {
            return Ok(permit);
        }
        match tokio::time::timeout_at(deadline.into(), self.admission.run()).await {
            Ok(Some(permit)) => Ok(permit),
            Ok(None) => Err(Failure::draining()),
            Err(_) => Err(Failure::deadline("the queue of requests")),
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        self.admission.in_progress.fetch_sub(1, Ordering::Relaxed);
        self.admission.body_bytes.fetch_sub(self.body_bytes, Ordering::Relaxed);
    }
}
