//! A worker process: it attaches to the leading coordinator and runs the tasks that are deployed to it.
//!
//! One task owns the stream to the coordinator, the attempts that run here, and their reports. It tries each
//! coordinator address in turn until one admits it; a standby names the leader, whose address is tried as well. When
//! the stream breaks, the tasks keep running. Their reports are lost meanwhile, but a coordinator that adopts them
//! asks for their status and triggers a checkpoint. A worker that has been without a coordinator for the orphan
//! timeout cancels its tasks, which run elsewhere by then. Orders of an epoch older than the newest one seen are
//! rejected.

mod attempt;
mod data_dir;
mod log_buffer;
mod session;

use crate::clock::now_us as clock_us;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use millstream_proto::v1;
use millstream_runtime::command::Command;
use millstream_state::store::{Backend, BackendOptions};
use tokio::sync::{mpsc, oneshot, watch};

use data_dir::DataDir;
pub use log_buffer::LogBuffer;

use crate::access::OwnToken;
use crate::exchange::{Compression, Exchange};
use crate::network::Listener;
use crate::worker_protocol::{ORPHAN_TIMEOUT_DEFAULT, STANDBY_MESSAGE};
use crate::{Error, connect, encoding};

/// Reports of all attempts that may be queued.
const REPORTS_MAX: usize = 4_096;
/// Commands that may be queued for one attempt.
const COMMANDS_MAX: usize = 1_024;
/// Pause between two rounds over the coordinators' addresses.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// Shortest and longest interval between warnings that a coordinator cannot be reached.
const WARNING_INTERVAL_MIN: Duration = Duration::from_secs(5);
const WARNING_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// Coordinator addresses that are kept, including those learned from standbys.
const COORDINATORS_MAX: usize = 16;
/// Time for a leaving worker's tasks to be moved to other workers.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);
/// Flow-control window of one connection.
const WINDOW_BYTES: u32 = 16 << 20;
/// Size of an HTTP/2 frame. The minimum of 16 KB costs more system calls than the rows are worth.
const FRAME_BYTES: u32 = 1 << 20;
const STATE_THREADS: usize = 2;

/// Options of a worker.
#[derive(Debug, Clone)]
pub struct Options {
    /// Name, unique in the cluster and stable over restarts.
    pub name: String,
    /// Addresses of coordinators. The worker finds out which of them leads.
    pub coordinators: Vec<String>,
    /// Address at which other workers reach this one; `None`: the bound address.
    pub advertise: Option<String>,
    pub slots: u32,
    pub memory_bytes: usize,
    pub data_dir: PathBuf,
    /// Buffer to which the process's logger writes lines about jobs.
    pub log_buffer: LogBuffer,
    /// Compression of rows sent to other workers.
    pub compression: Compression,
    /// Token that coordinators with tokens require.
    pub token: OwnToken,
}

/// Status of a worker, for observers outside of it. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Status {
    attached: Arc<AtomicBool>,
    reached: Arc<AtomicBool>,
}

impl Status {
    /// Returns true if the worker is attached to a coordinator.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// Returns true if that coordinator has also connected to the worker's address, so that it takes tasks.
    pub fn is_reached(&self) -> bool {
        self.is_attached() && self.reached.load(Ordering::Relaxed)
    }
}

/// Runs until `leave` is set and the tasks have been moved, or until a coordinator rejects the worker. Other workers
/// connect to `listener`.
pub async fn run(
    options: Options,
    listener: Listener,
    status: Status,
    leave: watch::Receiver<bool>,
) -> Result<(), Error> {
    let bound = format!("http://{}", listener.address);
    let address = options.advertise.clone().unwrap_or(bound);
    let incarnation = uuid::Uuid::new_v4().simple().to_string();
    let exchange = Exchange::new(&options.name, &incarnation, options.compression);
    let server = tonic::transport::Server::builder()
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .add_service(exchange.service())
        .serve_with_incoming(listener.incoming);
    let server = tokio::spawn(server);
    let data_dir = DataDir::open(&options.data_dir)?;
    let (reports, reports_in) = mpsc::channel(REPORTS_MAX);
    tracing::info!(worker = options.name, address, slots = options.slots, "worker started");
    let mut worker = Worker {
        incarnation,
        options,
        address,
        exchange,
        data_dir,
        cluster: None,
        backend: None,
        attempts: BTreeMap::new(),
        reports,
        reports_in,
        epoch: 0,
        orphan_timeout: ORPHAN_TIMEOUT_DEFAULT,
        status,
        last_contact: Instant::now(),
        pinged: None,
        leave,
        leaving_since: None,
    };
    let result = worker.run().await;
    worker.cancel_all().await;
    server.abort();
    result
}

struct Worker {
    options: Options,
    /// Random id of this process.
    incarnation: String,
    address: String,
    exchange: Exchange,
    data_dir: DataDir,
    /// Cluster of the coordinator that has admitted the worker.
    cluster: Option<String>,
    /// Opened once a coordinator has admitted the worker and the disk has space. Opening it clears the state that an
    /// earlier process left in the folder.
    backend: Option<Backend>,
    /// Attempts by id.
    attempts: BTreeMap<String, RunningAttempt>,
    reports: mpsc::Sender<v1::AttemptReport>,
    reports_in: mpsc::Receiver<v1::AttemptReport>,
    /// Newest coordinator epoch seen.
    epoch: u64,
    orphan_timeout: Duration,
    status: Status,
    /// Time of the last message from a coordinator.
    last_contact: Instant,
    /// Number of the last ping of this session, and the time at which it arrived.
    pinged: Option<(u64, Instant)>,
    leave: watch::Receiver<bool>,
    leaving_since: Option<Instant>,
}

/// An attempt that runs here.
struct RunningAttempt {
    job: String,
    commands: mpsc::Sender<attempt::Command>,
    /// Signals the tasks to start; `None` once it has.
    start: Option<oneshot::Sender<()>>,
    /// Set once the tasks run.
    status: Arc<OnceLock<attempt::AttemptStatus>>,
    /// Progress that was sent last. It is not sent again while it is unchanged.
    last_progress: Option<v1::AttemptProgress>,
    /// Newest checkpoint that was triggered.
    newest_checkpoint: u64,
    is_finished: bool,
    /// A last checkpoint was triggered: sources read no further.
    is_stopping: bool,
}

/// The reason why a session with a coordinator ended.
enum SessionEnd {
    /// The connection failed. The worker tries again, here or at another address.
    Broken(String),
    /// The coordinator is a standby.
    StandsBy,
    /// The coordinator rejected the worker for good.
    Refused(String),
    /// The worker's data folder cannot be used.
    Failed(Error),
    /// The worker was released.
    Left,
}

/// Warnings about coordinators that cannot be reached. An unchanged warning is repeated at increasing intervals.
#[derive(Default)]
struct WarningThrottle {
    /// By address: the last reason, when it was logged, and the interval before it is repeated.
    logged: BTreeMap<String, (String, Instant, Duration)>,
}

impl WarningThrottle {
    fn warn(&mut self, address: &str, reason: String) {
        let mut pause = WARNING_INTERVAL_MIN;
        if let Some((logged, at, suppressed_for)) = self.logged.get(address) {
            // An address without failures for twice the interval has recovered meanwhile.
            let is_old = at.elapsed() > *suppressed_for * 2;
            let has_changed = *logged != reason && at.elapsed() > WARNING_INTERVAL_MIN;
            if at.elapsed() < *suppressed_for && !has_changed {
                return;
            }
            if !is_old {
                pause = (*suppressed_for * 2).min(WARNING_INTERVAL_MAX);
            }
        }
        tracing::warn!(coordinator = address, "{reason}");
        self.logged.insert(address.to_string(), (reason, Instant::now(), pause));
    }
}

impl Worker {
    async fn run(&mut self) -> Result<(), Error> {
        let mut warnings = WarningThrottle::default();
        loop {
            let mut next = 0;
            // The list grows by the leaders that standbys name.
            while let Some(address) = self.options.coordinators.get(next).cloned() {
                next += 1;
                let end = self.session(&address).await;
                self.status.attached.store(false, Ordering::Relaxed);
                self.status.reached.store(false, Ordering::Relaxed);
                match end {
                    SessionEnd::Left => return Ok(()),
                    SessionEnd::Refused(reason) => {
                        return Err(Error::Invalid(format!("the coordinator refused this worker: {reason}")));
                    }
                    SessionEnd::Failed(error) => return Err(error),
                    SessionEnd::Broken(reason) => warnings.warn(&address, reason),
                    SessionEnd::StandsBy => {
                        warnings.warn(&address, STANDBY_MESSAGE.to_string());
                        self.learn_leader(&address).await;
                    }
                }
            }
            if self.last_contact.elapsed() > self.orphan_timeout && !self.attempts.is_empty() {
                tracing::warn!(
                    "no coordinator for {} s: cancelling the tasks, which run elsewhere by now or will",
                    self.orphan_timeout.as_secs()
                );
                self.cancel_all().await;
            }
            if *self.leave.borrow() && (self.attempts.is_empty() || self.leave_timed_out()) {
                return Ok(());
            }
            self.wait_before_retry().await;
        }
    }

    /// Returns the state backend. Opens it first if necessary, and makes the data folder the cluster's.
    fn open_backend(&mut self) -> Result<Backend, Error> {
        let Some(cluster) = &self.cluster else {
            return Err(Error::Failed("no coordinator has admitted this worker yet".into()));
        };
        self.data_dir.claim_for(cluster)?;
        if let Some(backend) = &self.backend {
            return Ok(backend.clone());
        }
        let backend = Backend::new(BackendOptions {
            dir: self.options.data_dir.join("state"),
            memory_bytes: self.options.memory_bytes,
            process_gauge: Some(millstream_state::memory::process_bytes),
            background_threads: STATE_THREADS,
        })?;
        Ok(self.backend.insert(backend).clone())
    }

    /// Asks a standby for the leader's address and adds it to the list.
    async fn learn_leader(&mut self, address: &str) {
        let leader = match connect::coordinator_info(address, connect::PING_TIMEOUT).await {
            Ok(info) => info.leader,
            Err(reason) => {
                tracing::debug!(coordinator = address, "the leader's address is not known: {reason}");
                return;
            }
        };
        let known = &mut self.options.coordinators;
        if connect::check_address(&leader).is_ok() && !known.contains(&leader) && known.len() < COORDINATORS_MAX {
            tracing::info!(leader, "{address} stands by and names the leader");
            known.push(leader);
        }
    }

    /// Waits before the next round. Reports of attempts are processed meanwhile.
    async fn wait_before_retry(&mut self) {
        let until = tokio::time::Instant::now() + RETRY_DELAY;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(until) => return,
                Some(report) = self.reports_in.recv() => {
                    self.on_report(&report);
                }
            }
        }
    }

    fn leave_timed_out(&self) -> bool {
        self.leaving_since.is_some_and(|since| since.elapsed() > LEAVE_TIMEOUT)
    }

    /// Updates an attempt by its report. Returns false if the attempt is unknown.
    fn on_report(&mut self, report: &v1::AttemptReport) -> bool {
        use v1::attempt_report::Event;
        let Some(running) = self.attempts.get_mut(&report.attempt) else {
            return false;
        };
        match report.event {
            Some(Event::Finished(_)) => running.is_finished = true,
            Some(Event::Stopped(_)) => {
                self.attempts.remove(&report.attempt);
            }
            _ => {}
        }
        true
    }

    fn command(&mut self, attempt: &str, command: Command) {
        let Some(running) = self.attempts.get_mut(attempt) else {
            return;
        };
        if let Command::Checkpoint { id, last, .. } = &command {
            running.newest_checkpoint = running.newest_checkpoint.max(*id);
            running.is_stopping |= last;
        }
        if let Err(error) = running.commands.try_send(attempt::Command::Tasks(command)) {
            tracing::warn!(job = running.job, attempt, "a command could not be delivered: {error}");
        }
    }

    /// Orders an attempt to publish output. Returns a report only if that fails at once.
    fn publish(&mut self, attempt: &str, publish: v1::PublishOutput) -> Option<v1::AttemptReport> {
        let running = self.attempts.get_mut(attempt)?;
        let checkpoint = publish.checkpoint;
        let error = running.commands.try_send(attempt::Command::Publish(publish)).err()?;
        Some(v1::AttemptReport {
            job: running.job.clone(),
            attempt: attempt.to_string(),
            event: Some(v1::attempt_report::Event::Published(v1::OutputPublished {
                checkpoint,
                reason: format!("the order to publish could not be delivered: {error}"),
                is_disk_full: false,
            })),
        })
    }

    /// Starts the tasks of an attempt that has been restored.
    fn start(&mut self, attempt: &str) {
        let start = self.attempts.get_mut(attempt).and_then(|running| running.start.take());
        if start.is_none_or(|start| start.send(()).is_err()) {
            tracing::debug!(attempt, "the attempt has ended or was started before");
        }
    }

    async fn cancel_all(&mut self) {
        for running in self.attempts.values() {
            if running
                .commands
                .send(attempt::Command::Tasks(Command::Cancel))
                .await
                .is_err()
            {
                tracing::debug!(job = running.job, "the attempt has ended");
            }
        }
        let ended = async {
            while !self.attempts.is_empty() {
                match self.reports_in.recv().await {
                    Some(report) => self.on_report(&report),
                    None => break,
                };
            }
        };
        if tokio::time::timeout(attempt::STOP_TIMEOUT, ended).await.is_err() {
            tracing::warn!("some tasks did not end within {} s", attempt::STOP_TIMEOUT.as_secs());
        }
    }

    fn progress(&mut self) -> Vec<v1::AttemptProgress> {
        let running = self.attempts.iter_mut().filter_map(|(attempt, running)| {
            let status = running.status.get()?;
            match encoding::encode(&status.counters.sample()) {
                Ok(operators) => {
                    let progress = v1::AttemptProgress {
                        job: running.job.clone(),
                        attempt: attempt.clone(),
                        operators,
                        outages: status.monitor.outages(),
                        fields: status.monitor.input_fields(),
                    };
                    let has_changed = running.last_progress.as_ref() != Some(&progress);
                    has_changed.then(|| running.last_progress.insert(progress).clone())
                }
                Err(error) => {
                    tracing::warn!(job = running.job, "{error}");
                    None
                }
            }
        });
        running.collect()
    }
}
