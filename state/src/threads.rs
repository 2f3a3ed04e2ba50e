//! Blocking work and long-running threads beside the asynchronous runtime, and their replacement by simulated tasks.
//!
//! RocksDB keeps static objects that a thread which has touched a database uses once more while it ends. A process that
//! returns from `main` destroys them, and a thread that is just ending then would abort it. So these threads are
//! started here, and [`join_all`] is called last: they end by themselves once their job or backend is gone.
//!
//! A simulator needs the opposite: everything in one thread, in an order that it decides. After [`simulate`] nothing in
//! the process starts a thread any more. The work runs as tasks of the asynchronous runtime instead, and each piece of
//! it first waits for the simulator's [`Scheduler`].

use std::sync::OnceLock;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::task::JoinError;

/// Interval at which [`join_all`] looks for threads that have ended.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Beginning of the names of threads that run tasks and must not wait for a disk.
pub const SLOT_THREAD_PREFIX: &str = "slot-";

static STARTED: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());
static SCHEDULER: OnceLock<Scheduler> = OnceLock::new();

/// The simulator's choice of when a piece of work runs: the work begins once the returned future completes.
pub type Scheduler = fn(WorkKind) -> BoxFuture<'static, ()>;

/// Kinds of work that have threads of their own outside a simulation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WorkKind {
    /// Work that blocks for a while: files, planning.
    Blocking,
    /// The queue of one state store.
    State,
    /// One round over the tasks of a slot.
    Slot,
}

/// Replaces all threads of this process by tasks that wait for `scheduler`. Only the first call counts.
pub fn simulate(scheduler: Scheduler) {
    SCHEDULER.get_or_init(|| scheduler);
}

/// Returns the scheduler of a simulated process, `None` in one with threads.
pub fn scheduler() -> Option<Scheduler> {
    SCHEDULER.get().copied()
}

/// Runs blocking work beside the asynchronous threads and returns its result. The work runs to its end even if the
/// returned future is dropped. The error says that the work panicked, or that the runtime is shutting down.
pub async fn run_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    spawn_blocking(&Handle::current(), work).await
}

/// Starts blocking work at once, as [`run_blocking`] does when it is first polled.
#[expect(clippy::disallowed_methods, reason = "this module starts the threads of the process")]
pub fn spawn_blocking<T: Send + 'static>(
    runtime: &Handle,
    work: impl FnOnce() -> T + Send + 'static,
) -> tokio::task::JoinHandle<T> {
    match scheduler() {
        None => runtime.spawn_blocking(work),
        Some(scheduler) => runtime.spawn(async move {
            scheduler(WorkKind::Blocking).await;
            work()
        }),
    }
}

/// Starts a thread that [`join_all`] waits for. `stack_bytes` of `None` is the standard library's default.
#[expect(clippy::disallowed_methods, reason = "this module starts the threads of the process")]
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
    for handle in started.extract_if(.., |handle| handle.is_finished()) {
        join(handle);
    }
    started.push(builder.spawn(run)?);
    Ok(())
}

/// Panics in debug builds if the present thread must not wait for a disk.
pub(crate) fn assert_may_block() {
    debug_assert!(
        !thread::current()
            .name()
            .is_some_and(|name| name.starts_with(SLOT_THREAD_PREFIX)),
        "a slot thread reads keyed state from the database"
    );
}

/// Waits until all threads that [`spawn`] started have ended, at most for `timeout`. Returns true if they have.
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
