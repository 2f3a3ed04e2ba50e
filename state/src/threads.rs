//! The threads that may have touched a database, so that a process can wait for them before it ends.
//!
//! RocksDB keeps static objects that such a thread uses once more while it ends. A process that returns from `main`
//! destroys them, and a thread that is just ending then would abort it. So these threads are started here, and
//! [`join_all`] is called last: they end by themselves once their job or backend is gone.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How often a thread that still runs is looked at again.
const POLL_INTERVAL: Duration = Duration::from_millis(1);

static STARTED: Mutex<Vec<JoinHandle<()>>> = Mutex::new(Vec::new());

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
