//! The threads that work beside the asynchronous ones: where they are started, and how a process does without them.
//!
//! RocksDB keeps static objects that a thread which has touched a database uses once more while it ends. A process that
//! returns from `main` destroys them, and a thread that is just ending then would abort it. So these threads are started
//! here, and [`join_all`] is called last: they end by themselves once their job or backend is gone.
//!
//! A simulator needs the opposite: everything in one thread, in an order that it decides. After [`do_without`] nothing
//! here or in the rooms above starts a thread any more. What one would have done is done by tasks of the asynchronous
//! runtime, each piece of it after a wait that the simulator chooses.

use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// How often a thread that still runs is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

static STARTED: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());
static PACE: OnceLock<Pace> = OnceLock::new();

/// What a simulator waits for before a piece of work that would have been done beside it.
pub type Pace = fn(Work) -> BoxFuture<'static, ()>;

/// Kinds of work that have threads of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Files, planning: what blocks for a while.
    Blocking,
    /// The queue of one state store.
    State,
    /// One round over the tasks of a slot.
    Slot,
}

/// From now on this process starts no thread. Only the first call counts.
pub fn do_without(pace: Pace) {
    PACE.get_or_init(|| pace);
}

/// How to wait before a piece of work; `None`: it has a thread.
pub fn pace() -> Option<Pace> {
    PACE.get().copied()
}

/// Does work that blocks, beside the threads that must not. It is done even if nobody waits for it any more. An error
/// says that it panicked, or that the runtime ends.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    start_blocking(&Handle::current(), work).await
}

/// As [`blocking`], begun at once.
pub fn start_blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    match pace() {
        None => runtime.spawn_blocking(work),
        Some(pace) => runtime.spawn(async move {
            pace(Work::Blocking).await;
            work()
        }),
    }
}

/// Starts a thread that is waited for at the end. `None`: with the usual stack.
pub fn spawn(
    name: String,
    stack_bytes: Option<usize>,
    run: impl FnOnce() + Send + 'static,
) -> Result<(), std::io::Error> {
    let mut builder = thread::Builder::new().name(name);
    if let Some(bytes) = stack_bytes {
        builder = builder.stack_size(bytes);
    }
    let mut started = STARTED.lock();
    // Those that have ended need no place in the list.
    for handle in started.extract_if(.., |handle| handle.is_finished()) {
        join(handle);
    }
    started.push(builder.spawn(run)?);
    Ok(())
}

/// Waits until all of them have ended, at most for `timeout`. Answers whether they have.
pub fn join_all(timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    loop {
        let mut started = STARTED.lock();
        for handle in started.extract_if(.., |handle| handle.is_finished()) {
            join(handle);
        }
        if started.is_empty() {
            return true;
        }
        drop(started);
        if Instant::now() >= deadline {
            return false;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn join(handle: JoinHandle<()>) {
    let name = handle.thread().name().unwrap_or_default().to_owned();
    if handle.join().is_err() {
        tracing::warn!(thread = name, "a thread ended with a panic");
    }
}
