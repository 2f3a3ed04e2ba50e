//! Shared parts of long-running commands: the I/O runtime, signals, log and HTTP port.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use millstream_cluster::worker::LogBuffer;
use tokio::sync::watch;

use crate::arguments::{Observability, Service};
use crate::traces::{self, Role};
use crate::{Failure, allocator, http, logging, recorder};

/// Threads of the Tokio runtime, which does all I/O: files, sockets, object storage.
const EDGE_THREADS: usize = 2;
/// Stack size of these threads; no deep recursion runs there.
const EDGE_STACK_BYTES: usize = 2 << 20;
/// Most threads for blocking file I/O, started on demand. A reader of a file occupies one until the file is read, also
/// while back pressure stops it, so the limit must exceed the number of such readers.
const BLOCKING_THREADS_MAX: usize = 2_048;
/// Most open files that the process requests from the system: connections and state files.
const OPEN_FILES_MAX: libc::rlim_t = 65_536;
/// Time after which planning and startup are complete.
const STARTUP_TIME: Duration = Duration::from_secs(3);
/// Longest wait for background work after the command has ended.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Raises the soft limit of open files to the lower of the hard limit and [`OPEN_FILES_MAX`]. Many systems start
/// processes with a soft limit of 1,024, for programs that use `select`.
fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is valid for writing the limit.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    let wanted = limit.rlim_max.min(OPEN_FILES_MAX);
    if wanted > limit.rlim_cur {
        limit.rlim_cur = wanted;
        // If refused, the process continues with the present limit.
        // SAFETY: the pointer is valid for reading the limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Runs a command's future on the I/O runtime.
pub fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    raise_open_files();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(EDGE_THREADS)
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .thread_stack_size(EDGE_STACK_BYTES)
        .thread_name("edge")
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("error: threads could not be started: {error}\n")))?;
    runtime.spawn(async {
        tokio::time::sleep(STARTUP_TIME).await;
        allocator::release_startup_memory();
    });
    let result = runtime.block_on(future);
    traces::flush();
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

/// Sends the next request with each Ctrl-C or SIGTERM, and logs its message.
pub async fn signals<T>(sender: watch::Sender<T>, requests: [(T, &str); 2]) {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("signal handlers cannot be installed, so Ctrl-C ends the process at once: {error}");
            return;
        }
    };
    for (request, message) in requests {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("{message}");
        if sender.send(request).is_err() {
            return;
        }
    }
}

/// Request to shut down a service, made by signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutdownRequest {
    /// No signal yet.
    None,
    /// Shut down in order: hand over tasks, stop jobs.
    Graceful,
    /// Exit at once.
    Immediate,
}

/// Starts the HTTP port of a service and the metrics recorder behind it.
pub async fn start_service(service: &Service, ready: http::Ready, routes: Router) -> Result<(), Failure> {
    if let Some(address) = service.http {
        let listener = http::bind(address).await.map_err(Failure::Failed)?;
        let metrics = recorder::install().map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
        let bound: SocketAddr = listener.local_addr().unwrap_or(address);
        tracing::info!("HTTP on http://{bound}");
        tokio::spawn(http::serve(listener, metrics, ready, routes));
    }
    Ok(())
}

/// Starts the log; lines about tasks are also stored in the buffer.
pub fn start_log(observability: &Observability, role: &Role<'_>, log_buffer: Option<LogBuffer>) -> Result<(), Failure> {
    logging::start(observability, role, &crate::status_line::StatusLine::none(), log_buffer)
}
