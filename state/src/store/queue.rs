//! The ordered queue of one store's background work, and the threads that carry it out.
//!
//! Jobs of one store run one after the other, in the order queued, on whichever thread is free; those of different
//! stores run side by side. A store is in the channel to the threads at most once, so the channel is bounded by the
//! number of stores. What a store queues is bounded by the memory its generations hold and by [`JOBS_MAX`].

use std::collections::VecDeque;
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use crossbeam::channel::{Receiver, RecvTimeoutError};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::database::Cut;
use super::{FlushSource, KeyPrefix, REPORT_INTERVAL, StoreInner};
use crate::Error;

/// Jobs one store may have queued.
const JOBS_MAX: usize = 65_536;

pub enum Job {
    Write {
        source: Box<dyn FlushSource>,
        done: Option<Waker>,
    },
    /// From the first prefix to the last, of one key group each.
    Delete(Vec<(KeyPrefix, KeyPrefix)>),
    /// Cut a hard-link copy; answers with its folder, or nothing if the store was never written.
    Cut {
        folder: PathBuf,
        reply: oneshot::Sender<Result<Option<Cut>, Error>>,
    },
}

#[derive(Default)]
pub struct Queue {
    state: Mutex<State>,
}

/// Why the store takes no more work.
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
    /// Whether the store is with the threads: in the channel, or being worked on.
    active: bool,
    failed: Option<Failure>,
    wakers: Vec<Waker>,
}

impl Queue {
    /// Queues a job; `true` if the store must now be handed to the threads.
    pub fn push(&self, job: Job) -> Result<bool, Error> {
        let mut state = self.state.lock();
        if let Some(failure) = &state.failed {
            return Err(failure.error());
        }
        match (state.jobs.back_mut(), job) {
            // Deletions next to each other become one batch.
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

    pub fn poll_idle(&self, waker: &Waker) -> Result<bool, Error> {
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

    /// Drops what is queued: its store is gone.
    pub fn abandon(&self) {
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
                Job::Cut { reply, .. } => answer(reply, Err(failure.error())),
            }
        }
    }
}

/// A thread of the backend: takes a store, does one of its jobs, puts it back. `report` is called now and then.
pub fn run_worker(stores: &Receiver<Arc<StoreInner>>, report: impl Fn()) {
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

/// Does some of a store's work. A job's panic (an operator's source that cannot be encoded) ends its store only.
pub fn run_store(store: &Arc<StoreInner>) {
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
            let what = panic.downcast_ref::<String>().map(String::as_str);
            let what = what.or(panic.downcast_ref::<&str>().copied()).unwrap_or("panicked");
            store.queue.fail(&Failure {
                reason: format!("background work of state store {} panicked: {what}", store.name),
                is_disk_full: false,
            });
        }
    }
}

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
                    database.delete_prefixes(&ranges)?;
                }
            }
            Job::Cut { folder, reply } => {
                // A cut that fails (a full disk) fails its checkpoint, not the store.
                let cut = match store.opened() {
                    Some(database) => database.cut(&folder).map(Some),
                    None => Ok(None),
                };
                answer(reply, cut);
            }
        }
        if store.queue.has_more() && store.schedule() {
            return Ok(());
        }
    }
    Ok(())
}

fn answer<T>(reply: oneshot::Sender<T>, value: T) {
    if reply.send(value).is_err() {
        tracing::debug!("nobody waits for this snapshot any more");
    }
}
