//! What every long-running command shares: the edge threads, the signals, the service's log and HTTP port.

use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::Router;
use millstream_cluster::worker::LogBuffer;
use tokio::sync::watch;

use crate::arguments::{Service, Telling};
use crate::traces::{self, Role};
use crate::{Failure, allocator, http, logging, measure};

/// Threads for everything that waits: files, sockets, object storage.
const EDGE_THREADS: usize = 2;
/// Their stacks are small: nothing deep runs there.
const EDGE_STACK_BYTES: usize = 2 << 20;
/// Threads for blocking file work, at most; they come and go with the work. Whoever reads a file holds one until it is
/// read, however long rows are not taken meanwhile, so there must be more than a process may have such readers.
const BLOCKING_THREADS_MAX: usize = 2_048;
/// Files that a process may have open, if the system lets it: connections and state files.
const OPEN_FILES_MAX: libc::rlim_t = 65_536;
/// By then planning and starting are over.
const START_TAKES: Duration = Duration::from_secs(3);
/// How long background work may take to end after the command did.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);

/// Raises the soft limit of open files to the hard one, or to [`OPEN_FILES_MAX`] if that is less: many systems start
/// processes with 1,024, for the sake of programs that use `select`.
fn raise_open_files() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the pointer is to a place for the answer.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return;
    }
    let wanted = limit.rlim_max.min(OPEN_FILES_MAX);
    if wanted > limit.rlim_cur {
        limit.rlim_cur = wanted;
        // If it is refused, the process goes on with what it has.
        // SAFETY: the pointer is to a limit.
        unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    }
}

/// Runs a command's future on the edge threads.
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
        tokio::time::sleep(START_TAKES).await;
        allocator::let_go_of_the_start();
    });
    let result = runtime.block_on(future);
    traces::flush();
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    result
}

/// Hands on each request in turn with every Ctrl-C or SIGTERM, and says its words.
pub async fn signals<T>(ask: watch::Sender<T>, requests: [(T, &str); 2]) {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = match (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!("signals cannot be heard, so Ctrl-C ends the process at once: {error}");
            return;
        }
    };
    for (request, words) in requests {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        tracing::info!("{words}");
        if ask.send(request).is_err() {
            return;
        }
    }
}

/// What a service is asked to do by signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    GoOn,
    Leave,
    EndAtOnce,
}

/// The log and the HTTP port of a service. The metrics recorder is there only if somebody can read it.
pub async fn start_service(service: &Service, ready: http::Ready, routes: Router) -> Result<(), Failure> {
    if let Some(address) = service.http {
        let listener = http::bind(address).await.map_err(Failure::Failed)?;
        let metrics = measure::install().map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
        let bound: SocketAddr = listener.local_addr().unwrap_or(address);
        tracing::info!("HTTP on http://{bound}");
        tokio::spawn(http::serve(listener, metrics, ready, routes));
    }
    Ok(())
}

/// `log_buffer`: where lines about tasks go, too.
pub fn start_log(telling: &Telling, role: &Role<'_>, log_buffer: Option<LogBuffer>) -> Result<(), Failure> {
    logging::start(telling, role, &crate::status::StatusLine::none(), log_buffer)
}
