//! A worker process: attached to the coordinator that leads, it runs the parts of jobs that it is told to.
//!
//! One task owns everything: the stream to the coordinator, the attempts that run here, what they report. It asks each
//! coordinator address in turn until one lets it attach; one that stands by says who leads, which is then asked, too.
//! When the stream breaks, tasks go on; what they report meanwhile is lost, but a coordinator that takes them over asks
//! how they are and cuts a checkpoint, which says it all again. A worker that nobody leads for the orphan timeout ends
//! its tasks: by then they run elsewhere. Orders of an older epoch than the newest seen are refused.

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

use crate::exchange::{Compression, Exchange};
use crate::network::Listener;
use crate::worker_protocol::{ORPHAN_TIMEOUT_DEFAULT, STANDBY_MESSAGE};
use crate::{Error, connect, encoding};

/// Reports of all attempts that may wait to be taken.
const REPORTS_MAX: usize = 4_096;
/// Commands that may wait for one attempt.
const COMMANDS_MAX: usize = 1_024;
/// Between two rounds over the coordinators' addresses.
const RETRY_DELAY: Duration = Duration::from_millis(250);
/// Between two warnings that a coordinator cannot be reached: at first, and after many.
const WARNING_INTERVAL_MIN: Duration = Duration::from_secs(5);
const WARNING_INTERVAL_MAX: Duration = Duration::from_secs(300);
/// Addresses of coordinators that are kept, those included that others have named.
const COORDINATORS_MAX: usize = 16;
/// How long a worker that was asked to end waits for its tasks to be moved elsewhere.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(60);
/// What may be on its way on one connection.
const WINDOW_BYTES: u32 = 16 << 20;
/// Of one frame of HTTP/2; the smallest there is, 16 KB, costs more calls than the rows are worth.
const FRAME_BYTES: u32 = 1 << 20;
const STATE_THREADS: usize = 2;

#[derive(Debug, Clone)]
pub struct Options {
    /// Stable over restarts, unique in the cluster.
    pub name: String,
    /// Addresses of coordinators; whichever leads is found.
    pub coordinators: Vec<String>,
    /// How other workers reach its port; `None`: as it is bound.
    pub advertise: Option<String>,
    pub slots: u32,
    pub memory_bytes: usize,
    pub data_dir: PathBuf,
    /// Where the process's log writes what concerns a job.
    pub log_buffer: LogBuffer,
    /// Of rows that go to other workers.
    pub compression: Compression,
}

/// What an onlooker may know of a worker. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Status {
    attached: Arc<AtomicBool>,
    reached: Arc<AtomicBool>,
}

impl Status {
    /// A coordinator leads this worker now.
    pub fn is_attached(&self) -> bool {
        self.attached.load(Ordering::Relaxed)
    }

    /// That coordinator has also reached it where other workers would, so it gets tasks.
    pub fn is_reached(&self) -> bool {
        self.is_attached() && self.reached.load(Ordering::Relaxed)
    }
}

/// Runs until it is asked to leave (`true`) and its tasks have moved, or a coordinator refuses it for good. Other
/// workers connect to `listener`.
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
    /// New with every start of the process.
    incarnation: String,
    address: String,
    exchange: Exchange,
    data_dir: DataDir,
    /// The cluster of the coordinator that has let it in.
    cluster: Option<String>,
    /// Once a coordinator has let it in, and there was space for it: making it clears what an earlier process left in
    /// the folder.
    backend: Option<Backend>,
    /// By id.
    attempts: BTreeMap<String, RunningAttempt>,
    reports: mpsc::Sender<v1::AttemptReport>,
    reports_in: mpsc::Receiver<v1::AttemptReport>,
    /// The newest coordinator's.
    epoch: u64,
    orphan_timeout: Duration,
    status: Status,
    /// When a coordinator was last heard.
    last_contact: Instant,
    /// The last ping of this session, and when it came.
    pinged: Option<(u64, Instant)>,
    leave: watch::Receiver<bool>,
    leaving_since: Option<Instant>,
}

/// A part of a job that runs here.
struct RunningAttempt {
    job: String,
    commands: mpsc::Sender<attempt::Command>,
    /// Until its tasks were told to start.
    start: Option<oneshot::Sender<()>>,
    /// Known once its tasks run.
    status: Arc<OnceLock<attempt::AttemptStatus>>,
    /// What the coordinator was told last: while nothing happens it need not be told again.
    last_progress: Option<v1::AttemptProgress>,
    /// The newest checkpoint it was asked for.
    newest_checkpoint: u64,
    is_finished: bool,
    /// A last checkpoint was asked for: its sources read no further.
    is_stopping: bool,
}

/// Why a session with a coordinator ended.
enum SessionEnd {
    /// Try again, here or elsewhere.
    Broken(String),
    /// The coordinator stands by.
    StandsBy,
    /// Trying again changes nothing.
    Refused(String),
    /// Its own folder cannot be used.
    Failed(Error),
    /// This process is no longer needed.
    Left,
}

/// What was said of coordinators that cannot be reached: the same again only after a while, each time a longer one.
#[derive(Default)]
struct WarningThrottle {
    /// By address: the reason, when it was said, and when it may be said again.
    said: BTreeMap<String, (String, Instant, Duration)>,
}

impl WarningThrottle {
    fn warn(&mut self, address: &str, reason: String) {
        let mut pause = WARNING_INTERVAL_MIN;
        if let Some((said, at, suppressed_for)) = self.said.get(address) {
            // One that was silent for long enough has been well meanwhile.
            let is_old = at.elapsed() > *suppressed_for * 2;
            let has_changed = *said != reason && at.elapsed() > WARNING_INTERVAL_MIN;
            if at.elapsed() < *suppressed_for && !has_changed {
                return;
            }
            if !is_old {
                pause = (*suppressed_for * 2).min(WARNING_INTERVAL_MAX);
            }
        }
        tracing::warn!(coordinator = address, "{reason}");
        self.said.insert(address.to_string(), (reason, Instant::now(), pause));
    }
}

impl Worker {
    async fn run(&mut self) -> Result<(), Error> {
        let mut warnings = WarningThrottle::default();
        loop {
            let mut next = 0;
            // Grows by those that are named on the way.
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
                    "no coordinator for {} s: the tasks here are ended, they run elsewhere by now or will",
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

    /// Makes the data folder that of the cluster that has let it in, unless it is, and its state ready for use.
    fn open_backend(&mut self) -> Result<Backend, Error> {
        let Some(cluster) = &self.cluster else {
            return Err(Error::Failed("no coordinator has let this worker in yet".into()));
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

    /// Asks a coordinator that stands by who leads.
    async fn learn_leader(&mut self, address: &str) {
        let leader = match connect::coordinator_info(address, connect::PING_TIMEOUT).await {
            Ok(info) => info.leader,
            Err(reason) => {
                tracing::debug!(coordinator = address, "does not say who leads: {reason}");
                return;
            }
        };
        let known = &mut self.options.coordinators;
        if connect::check_address(&leader).is_ok() && !known.contains(&leader) && known.len() < COORDINATORS_MAX {
            tracing::info!(leader, "{address} stands by, and says who leads");
            known.push(leader);
        }
    }

    /// Keeps what attempts report while nobody listens.
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

    /// Takes note of what an attempt says. False: nobody knows it any more.
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

    /// Has an attempt publish output. Answers at once only if that cannot be.
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

    /// Lets an attempt's tasks run that are ready to.
    fn start(&mut self, attempt: &str) {
        let start = self.attempts.get_mut(attempt).and_then(|running| running.start.take());
        if start.is_none_or(|start| start.send(()).is_err()) {
            tracing::debug!(attempt, "had ended, or was started before");
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
                tracing::debug!(job = running.job, "had ended before");
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
