//! The ordered queue of one store's background work, and the threads that carry it out.
//!
//! Jobs of one store run one after the other, in the order queued, on any free thread; jobs of different stores run in
//! parallel. A store is in the channel to the threads at most once, so the channel is bounded by the number of stores.
//! The queue of a store is bounded by the memory that its flushes hold and by [`JOBS_MAX`].

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::database::LocalSnapshot;
use super::key::KeyRange;
use super::{FlushSource, StoreInner};
use crate::Error;

/// Interval at which a background thread publishes the sizes of all stores as metrics.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);
/// Jobs that one store may have queued.
const JOBS_MAX: usize = 65_536;

/// Queued work of a store.
pub(crate) enum Job {
    /// A flush. `done` is woken when it has been written or has failed.
    Write {
        source: Box<dyn FlushSource>,
        done: Option<Waker>,
    },
    /// Range deletions.
    Delete(Vec<KeyRange>),
    /// A snapshot into a new folder. The reply is `None` if the store was never written.
    Snapshot {
        folder: PathBuf,
        reply: oneshot::Sender<Result<Option<LocalSnapshot>, Error>>,
    },
}

/// The jobs of one store that have not begun.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
}

/// The failure of a job, after which the store accepts no more work.
#[derive(Clone)]
struct Failure {
    reason: String,
    is_disk_full: bool,
}

impl Failure {
    fn error(&self) -> Error {
        match self.is_disk_full {
            true => Error::DiskFull(self.reason.clone()),
            false => Error::Background(self.reason.clone()),
        }
    }
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// True while the store is in the channel to the threads, or a thread runs its jobs.
    active: bool,
    failed: Option<Failure>,
    wakers: Vec<Waker>,
}

impl Queue {
    /// Queues a job. Returns true if the caller must schedule the store.
    pub(crate) fn push(&self, job: Job) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if let Some(failure) = &state.failed {
            return Err(failure.error());
        }
        match (state.jobs.back_mut(), job) {
            // Adjacent deletions become one batch.
            (Some(Job::Delete(ranges)), Job::Delete(more)) => ranges.extend(more),
            (_, job) => {
                if state.jobs.len() == JOBS_MAX {
                    return Err(Error::Limit(format!(
                        "background work of a state store: {JOBS_MAX} jobs (JOBS_MAX) are waiting; the disk is too slow"
                    )));
                }
                state.jobs.push_back(job);
            }
        }
        Ok(!std::mem::replace(&mut state.active, true))
    }

    /// Returns true if all jobs are done; otherwise wakes `waker` when they are.
    pub(crate) fn poll_idle(&self, waker: &Waker) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if let Some(failure) = &state.failed {
            return Err(failure.error());
        }
        if !state.active {
            return Ok(true);
        }
        if !state.wakers.iter().any(|known| known.will_wake(waker)) {
            state.wakers.push(waker.clone());
        }
        Ok(false)
    }

    /// Discards the queued jobs.
    pub(crate) fn clear(&self) {
        // Dropped after the lock: a flush may have much to drop.
        let jobs = std::mem::take(&mut self.state.lock().jobs);
        drop(jobs);
    }

    fn next(&self) -> Option<Job> {
        let mut state = self.state.lock();
        let job = state.jobs.pop_front();
        if job.is_none() {
            state.active = false;
            let wakers = std::mem::take(&mut state.wakers);
            drop(state);
            wakers.into_iter().for_each(Waker::wake);
        }
        job
    }

    fn has_more(&self) -> bool {
        !self.state.lock().jobs.is_empty()
    }

    fn fail(&self, failure: &Failure) {
        let mut state = self.state.lock();
        let jobs = std::mem::take(&mut state.jobs);
        let wakers = std::mem::take(&mut state.wakers);
        state.failed = Some(failure.clone());
        drop(state);
        wakers.into_iter().for_each(Waker::wake);
        for job in jobs {
            match job {
                Job::Write { done: Some(waker), .. } => waker.wake(),
                Job::Write { .. } | Job::Delete(_) => {}
                Job::Snapshot { reply, .. } => send_reply(reply, Err(failure.error())),
            }
        }
    }
}

/// Runs a thread of the backend until the backend is dropped. Calls `report` every [`REPORT_INTERVAL`].
pub(crate) fn run_worker(stores: &Receiver<Arc<StoreInner>>, report: impl Fn()) {
    let mut next_report = Instant::now() + REPORT_INTERVAL;
    loop {
        if Instant::now() >= next_report {
            report();
            next_report = Instant::now() + REPORT_INTERVAL;
        }
        let store = match stores.recv_deadline(next_report) {
            Ok(store) => store,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        run_store(&store);
    }
}

/// Runs jobs of a store, and fails the store if one fails or panics (such as a flush source that cannot encode a row).
pub(crate) fn run_store(store: &Arc<StoreInner>) {
    let done = std::panic::catch_unwind(AssertUnwindSafe(|| run_jobs(store)));
    match done {
        Ok(Ok(())) => {}
        Ok(Err(Error::DiskFull(reason))) => store.queue.fail(&Failure {
            reason,
            is_disk_full: true,
        }),
        Ok(Err(error)) => store.queue.fail(&Failure {
            reason: format!("background work of state store {}: {error}", store.name),
            is_disk_full: false,
        }),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().map(String::as_str);
            let message = message
                .or(panic.downcast_ref::<&str>().copied())
                .unwrap_or("no message");
            store.queue.fail(&Failure {
                reason: format!("background work of state store {} panicked: {message}", store.name),
                is_disk_full: false,
            });
        }
    }
}

/// Runs queued jobs until the store has been scheduled again or its queue is empty.
fn run_jobs(store: &Arc<StoreInner>) -> Result<(), Error> {
    while let Some(job) = store.queue.next() {
        match job {
            Job::Write { mut source, done } => {
                store.database()?.write(source.as_mut(), &store.scratch()?)?;
                drop(source);
                if let Some(waker) = done {
                    waker.wake();
                }
            }
            Job::Delete(ranges) => {
                if let Some(database) = store.opened() {
                    database.delete_ranges(&ranges)?;
                }
            }
            Job::Snapshot { folder, reply } => {
                // A failure, such as a full disk, fails the checkpoint but not the store.
                let local = match store.opened() {
                    Some(database) => database.snapshot(&folder).map(Some),
                    None => Ok(None),
                };
                send_reply(reply, local);
            }
        }
        if store.queue.has_more() && store.schedule() {
            return Ok(());
        }
    }
    Ok(())
}

fn send_reply<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::debug!("the checkpoint of this snapshot was abandoned");
    }
}
