//! One attached worker.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use millstream_proto::v1;
use millstream_proto::v1::worker_control_server::{WorkerControl, WorkerControlServer};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::tasks::{MessageBody, WorkerMessage};
use super::{Fleet, FleetEvent, Heartbeat, Inner, WorkerStatus, clock_us, reachability};
use crate::worker::data_dir;
use crate::{Error, clock};

/// Orders that may wait for one worker.
const ORDERS_MAX: usize = 4_096;
/// Restored state and splits travel in one message.
pub const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// Longest name of a worker.
const NAME_BYTES_MAX: usize = 200;
/// Slots of one worker, at most.
const SLOTS_MAX: u32 = 1_024;
/// How often silence is looked for.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);
/// If that look is so late, nobody is judged by it.
const STALL_TOLERANCE: Duration = Duration::from_secs(1);

/// A coordinator that did not run for so long has been left by its workers, which ping it (`KEEP_ALIVE_TIMEOUT`):
/// streams that are broken then say nothing about the workers.
const STALL_WORKERS_LEAVE: Duration = Duration::from_secs(4);
/// So long after it runs again what had broken meanwhile is noticed.
const STALL_AFTERMATH: Duration = Duration::from_secs(3);

/// The coordinator's end of a worker's stream.
pub struct Link {
    pub name: String,
    pub address: String,
    pub(super) incarnation: String,
    version: String,
    slots: u32,
    memory_bytes: u64,
    clock: Clock,
    state_bytes: AtomicU64,
    attached_us: i64,
    is_leaving: AtomicBool,
    /// It was told that it may go.
    pub(super) is_released: AtomicBool,
    epoch: u64,
    orders: mpsc::Sender<Result<v1::Order, Status>>,
    heartbeat: Heartbeat,
    pub(super) closed: CancellationToken,
}

impl Link {
    pub fn status(&self) -> WorkerStatus {
        WorkerStatus {
            name: self.name.clone(),
            incarnation: self.incarnation.clone(),
            address: self.address.clone(),
            version: self.version.clone(),
            slots: self.slots,
            memory_bytes: self.memory_bytes,
            clock_offset_us: self.clock.offset_us.load(Ordering::Relaxed),
            state_bytes: self.state_bytes.load(Ordering::Relaxed),
            attached_us: self.attached_us,
            is_leaving: self.is_leaving.load(Ordering::Relaxed),
        }
    }

    /// Tells the worker to end an attempt.
    pub fn cancel(&self, job: &str, attempt: &str) -> Result<(), Error> {
        self.order(v1::order::Order::Command(v1::TaskCommand {
            job: job.to_string(),
            attempt: attempt.to_string(),
            command: Some(v1::task_command::Command::Cancel(v1::CancelTasks {})),
        }))
    }

    /// Ends the stream: nothing more is ordered, not even what waits.
    pub fn close(&self) {
        self.closed.cancel();
    }

    /// Hands an order to the worker; an error says that it takes none.
    pub fn order(&self, order: v1::order::Order) -> Result<(), Error> {
        if self.closed.is_cancelled() {
            return Err(Error::Failed(format!("worker {}: it is no longer attached", self.name)));
        }
        let order = v1::Order {
            epoch: self.epoch,
            order: Some(order),
        };
        self.orders.try_send(Ok(order)).map_err(|error| {
            let why = match error {
                mpsc::error::TrySendError::Full(_) => "its queue of orders is full (ORDERS_MAX): it does not respond",
                mpsc::error::TrySendError::Closed(_) => "it is no longer attached",
            };
            Error::Failed(format!("worker {}: {why}", self.name))
        })
    }
}

/// A worker's clock, compared with this process's by pings: one is on its way at a time.
#[derive(Default)]
struct Clock {
    /// See [`clock::min_offset_us`].
    offset_us: AtomicI64,
    is_warned_of: AtomicBool,
    /// The last ping's number, and when it was sent; 0 before the first.
    ping: Mutex<Option<(u64, Instant)>>,
}

impl Clock {
    /// Takes what a heartbeat says. Answers with the ping to send now, unless the last one has not come back.
    fn compare(&self, heartbeat: &v1::Heartbeat, ours_us: i64) -> Option<u64> {
        let mut ping = self.ping.lock();
        let number = match *ping {
            None => 1,
            Some((number, sent)) if heartbeat.ping == number => {
                let round_trip = sent
                    .elapsed()
                    .saturating_sub(Duration::from_micros(heartbeat.ping_age_us));
                let offset_us = clock::min_offset_us(heartbeat.clock_us, ours_us, round_trip);
                self.offset_us.store(offset_us, Ordering::Relaxed);
                number + 1
            }
            Some(_) => return None,
        };
        *ping = Some((number, Instant::now()));
        Some(number)
    }
}

impl Link {
    fn compare_clocks(&self, heartbeat: &v1::Heartbeat) {
        if let Some(number) = self.clock.compare(heartbeat, clock_us())
            && let Err(error) = self.order(v1::order::Order::Ping(v1::Ping { number }))
        {
            tracing::debug!("{error}");
        }
        let offset_us = self.clock.offset_us.load(Ordering::Relaxed);
        let warning = clock::skew_warning(&format!("worker {}", self.name), offset_us);
        let was_warned_of = self.clock.is_warned_of.swap(warning.is_some(), Ordering::Relaxed);
        if let Some(warning) = warning.filter(|_| !was_warned_of) {
            tracing::warn!(worker = self.name, "{warning}");
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.closed.cancel();
    }
}

impl Fleet {
    /// The gRPC service that workers attach to.
    pub fn service(&self) -> WorkerControlServer<Fleet> {
        WorkerControlServer::new(self.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl WorkerControl for Fleet {
    type AttachStream = BoxStream<'static, Result<v1::Order, Status>>;

    async fn attach(&self, request: Request<Streaming<v1::Report>>) -> Result<Response<Self::AttachStream>, Status> {
        let mut reports = request.into_inner();
        let first = reports.message().await?.and_then(|report| report.report);
        let Some(v1::report::Report::Register(register)) = first else {
            return Err(Status::invalid_argument("a worker registers first"));
        };
        if let Some(reason) = self.inner.shutdown_reason.lock().clone() {
            return Err(Status::unavailable(reason));
        }
        let (orders, orders_in) = mpsc::channel(ORDERS_MAX);
        if let Some(reason) = self.inner.rejection_reason(&register) {
            return Ok(Response::new(rejection(self.inner.options.epoch, reason).boxed()));
        }
        let link = self.inner.attach(&register, orders)?;
        let (running, unwanted) = self.inner.partition_running(&register.running);
        let welcome = v1::Welcome {
            heartbeat_ms: self.inner.options.heartbeat.as_millis() as u64,
            orphan_timeout_ms: self.inner.options.orphan_timeout.as_millis() as u64,
            cancel_attempts: unwanted,
            clock_us: clock_us(),
            cluster: self.inner.options.cluster.clone(),
        };
        link.order(v1::order::Order::Welcome(welcome))
            .map_err(|error| Status::unavailable(error.to_string()))?;
        tracing::info!(
            worker = link.name,
            address = link.address,
            slots = link.slots,
            "worker attached"
        );
        self.inner
            .send_event(FleetEvent::Attached {
                worker: link.name.clone(),
                incarnation: link.incarnation.clone(),
                slots: link.slots,
                running,
            })
            .await;
        tokio::spawn(reachability::probe(Arc::clone(&self.inner), Arc::downgrade(&link)));
        let closed = link.closed.clone();
        tokio::spawn(listen(
            Arc::clone(&self.inner),
            Arc::downgrade(&link),
            link.name.clone(),
            link.incarnation.clone(),
            reports,
            closed.clone(),
        ));
        // Ends with the link, even while its sender lives in attempts.
        let orders = ReceiverStream::new(orders_in).take_until(closed.cancelled_owned());
        Ok(Response::new(orders.boxed()))
    }
}

fn rejection(epoch: u64, reason: String) -> impl Stream<Item = Result<v1::Order, Status>> {
    tracing::warn!("a worker was refused: {reason}");
    let order = v1::Order {
        epoch,
        order: Some(v1::order::Order::Refused(v1::Refused { reason })),
    };
    futures::stream::once(async { Ok(order) })
}

impl Inner {
    /// Why a worker cannot be let in, whatever it tries.
    fn rejection_reason(&self, register: &v1::Register) -> Option<String> {
        if register.version != self.options.version {
            return Some(format!(
                "worker {} is of version {}, this coordinator of {}; start the same version",
                register.name, register.version, self.options.version
            ));
        }
        if register.name.is_empty() || register.slots == 0 {
            return Some("a worker needs a name and at least one slot".into());
        }
        if register.name.len() > NAME_BYTES_MAX || register.name.chars().any(char::is_control) {
            return Some(format!(
                "a worker's name has at most {NAME_BYTES_MAX} bytes (NAME_BYTES_MAX) and no control characters; this one has \
                 {} (--name)",
                register.name.len()
            ));
        }
        if register.slots > SLOTS_MAX {
            return Some(format!(
                "worker {} offers {} slots, more than the {SLOTS_MAX} that one may have (SLOTS_MAX): a slot is a thread, so \
                 as many as there are cores suit it (--slots)",
                register.name, register.slots
            ));
        }
        let folder = (register.data_dir.as_str(), register.cluster.as_str());
        data_dir::check_cluster(&register.name, folder, &self.options.cluster)
    }

    /// Of what a worker runs when it attaches: what may be adopted, and what is to end. That includes what it ran for
    /// this coordinator before it was lost, as that has failed.
    fn partition_running(&self, running: &[v1::RunningAttempt]) -> (Vec<String>, Vec<String>) {
        let adoptable = self.adoptable.lock();
        let may_go_on = |running: &&v1::RunningAttempt| {
            running.is_deployed && !running.is_stopping && adoptable.contains(&running.attempt)
        };
        let (adoptable, unwanted): (Vec<_>, Vec<_>) = running.iter().partition(may_go_on);
        let attempts =
            |running: Vec<&v1::RunningAttempt>| running.iter().map(|running| running.attempt.clone()).collect();
        (attempts(adoptable), attempts(unwanted))
    }

    fn attach(
        &self,
        register: &v1::Register,
        orders: mpsc::Sender<Result<v1::Order, Status>>,
    ) -> Result<Arc<Link>, Status> {
        let link = Arc::new(Link {
            name: register.name.clone(),
            address: register.address.clone(),
            incarnation: register.incarnation.clone(),
            version: register.version.clone(),
            slots: register.slots,
            memory_bytes: register.memory_bytes,
            clock: Clock::default(),
            state_bytes: AtomicU64::new(0),
            attached_us: clock_us(),
            is_leaving: AtomicBool::new(false),
            is_released: AtomicBool::new(false),
            epoch: self.options.epoch,
            orders,
            heartbeat: Heartbeat::new(),
            closed: CancellationToken::new(),
        });
        let mut links = self.links.lock();
        // Looked at again with the list locked, which a shutdown empties after it has said why: a worker that came just
        // before would be told to end tasks that are to be taken over.
        if let Some(reason) = self.shutdown_reason.lock().clone() {
            return Err(Status::unavailable(reason));
        }
        if let Some(known) = links.get(&register.name) {
            return Err(Status::already_exists(format!(
                "a worker called `{}` is attached already, at {}; if that is another one, give this one another name \
                 (--name)",
                register.name, known.address
            )));
        }
        links.insert(register.name.clone(), Arc::clone(&link));
        Ok(link)
    }

    pub(super) async fn send_event(&self, event: FleetEvent) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("no coordinator listens any more");
        }
    }

    /// For how long this process did not run until just now, if that was long.
    fn stall(&self) -> Option<Duration> {
        let silence = self.process_heartbeat.silence();
        if silence > WATCH_INTERVAL + STALL_WORKERS_LEAVE {
            return Some(silence);
        }
        let (noticed, length) = (*self.stall.lock())?;
        (noticed.elapsed() < STALL_AFTERMATH).then_some(length)
    }

    /// A worker's stream broke. If that is because nobody kept it up here, the tasks there go on, and are left alone
    /// until they are taken over.
    async fn on_stream_broken(&self, worker: &str, incarnation: &str, reason: &str) {
        let Some(stall) = self.stall() else {
            return self.remove_worker(worker, incarnation, reason).await;
        };
        if self.shutdown_reason.lock().is_some() {
            return;
        }
        let reason = format!(
            "this coordinator did not run for {:.1} s, and workers have left it meanwhile",
            stall.as_secs_f64()
        );
        self.shut_down(&reason);
        self.send_event(FleetEvent::Stalled { reason }).await;
    }

    /// Takes a worker off the list and tells everyone whom it concerns.
    async fn remove_worker(&self, worker: &str, incarnation: &str, reason: &str) {
        let is_released = {
            let mut links = self.links.lock();
            if links.get(worker).is_none_or(|link| link.incarnation != incarnation) {
                return;
            }
            let link = links.remove(worker);
            link.is_some_and(|link| link.is_released.load(Ordering::Relaxed))
        };
        match is_released {
            true => tracing::info!(worker, "worker has left"),
            false => tracing::warn!(worker, "worker lost: {reason}"),
        }
        let mut listeners: Vec<mpsc::Sender<WorkerMessage>> = Vec::new();
        for entry in &self.attempts {
            // One may listen to several.
            if !listeners.iter().any(|known| known.same_channel(entry.value())) {
                listeners.push(entry.value().clone());
            }
        }
        for listener in listeners {
            let message = WorkerMessage {
                worker: worker.to_string(),
                body: MessageBody::Lost(reason.to_string()),
            };
            if listener.try_send(message).is_err() {
                tracing::debug!("an attempt that ends takes no news");
            }
        }
        self.send_event(FleetEvent::Lost {
            worker: worker.to_string(),
            incarnation: incarnation.to_string(),
            reason: reason.to_string(),
        })
        .await;
    }
}

/// Takes a worker's reports until its stream ends.
async fn listen(
    inner: Arc<Inner>,
    link: Weak<Link>,
    worker: String,
    incarnation: String,
    mut reports: Streaming<v1::Report>,
    closed: CancellationToken,
) {
    let reason = loop {
        let report = tokio::select! {
            () = closed.cancelled() => return,
            report = reports.message() => report,
        };
        let report = match report {
            Ok(Some(report)) => report,
            Ok(None) => break "it closed its stream".to_string(),
            Err(status) => break status.message().to_string(),
        };
        let Some(link) = link.upgrade() else { return };
        link.heartbeat.beat();
        match report.report {
            Some(v1::report::Report::Heartbeat(heartbeat)) => {
                link.compare_clocks(&heartbeat);
                link.state_bytes.store(heartbeat.state_bytes, Ordering::Relaxed);
                if !heartbeat.lines.is_empty() {
                    let (worker, lines) = (worker.clone(), heartbeat.lines);
                    inner.send_event(FleetEvent::Logged { worker, lines }).await;
                }
                for progress in heartbeat.progress {
                    forward(
                        &inner,
                        &worker,
                        progress.attempt.clone(),
                        MessageBody::Progress(progress),
                    );
                }
            }
            Some(v1::report::Report::Attempt(report)) => {
                forward(&inner, &worker, report.attempt.clone(), MessageBody::Report(report));
            }
            Some(v1::report::Report::Leaving(_)) => {
                link.is_leaving.store(true, Ordering::Relaxed);
                inner.send_event(FleetEvent::Leaving { worker: worker.clone() }).await;
            }
            Some(v1::report::Report::Register(_)) | None => {}
        }
    };
    inner.on_stream_broken(&worker, &incarnation, &reason).await;
}

/// To whoever runs the attempt. One that does not listen must not hold up the others: it is given up.
fn forward(inner: &Inner, worker: &str, attempt: String, body: MessageBody) {
    let Some(listener) = inner.attempts.get(&attempt).map(|entry| entry.value().clone()) else {
        return;
    };
    let is_progress = matches!(body, MessageBody::Progress(_));
    let message = WorkerMessage {
        worker: worker.to_string(),
        body,
    };
    if let Err(mpsc::error::TrySendError::Full(_)) = listener.try_send(message)
        && !is_progress
    {
        tracing::warn!(attempt, "its reports are not taken: the attempt is given up");
        inner.attempts.retain(|_, other| !other.same_channel(&listener));
    }
}

/// Looks for workers that say nothing.
pub async fn watch(inner: Weak<Inner>) {
    loop {
        let before = Instant::now();
        tokio::time::sleep(WATCH_INTERVAL).await;
        let Some(inner) = inner.upgrade() else { return };
        let links: Vec<_> = inner.links.lock().values().cloned().collect();
        // This process stood still: what workers said meanwhile is yet to be read.
        let has_stalled = before.elapsed() > WATCH_INTERVAL + STALL_TOLERANCE;
        if before.elapsed() > WATCH_INTERVAL + STALL_WORKERS_LEAVE {
            *inner.stall.lock() = Some((Instant::now(), before.elapsed()));
        }
        // Only now: in between, a standstill would be in neither.
        inner.process_heartbeat.beat();
        for link in links {
            if has_stalled {
                link.heartbeat.beat();
            }
            let silence = link.heartbeat.silence();
            if silence > inner.options.lost_after {
                let reason = format!("nothing was heard of it for {:.1} s", silence.as_secs_f64());
                inner.remove_worker(&link.name, &link.incarnation, &reason).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_connection_is_no_clock_error() {
        let clock = Clock::default();
        // The message was on its way for a while: the worker's clock seems to be 2 s behind.
        let heartbeat = |ping: u64, ping_age_us: u64| v1::Heartbeat {
            clock_us: 10_000_000,
            ping,
            ping_age_us,
            ..v1::Heartbeat::default()
        };
        assert_eq!(clock.compare(&heartbeat(0, 0), 12_000_000), Some(1));
        assert_eq!(clock.compare(&heartbeat(0, 0), 12_000_000), None, "one ping at a time");
        assert_eq!(
            clock.offset_us.load(Ordering::Relaxed),
            0,
            "nothing is known before a ping is back"
        );
        let ago = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds));
        *clock.ping.lock() = ago(4).map(|sent| (1, sent));
        assert_eq!(clock.compare(&heartbeat(1, 0), 12_000_000), Some(2));
        assert_eq!(clock.offset_us.load(Ordering::Relaxed), 0);

        // Of the 4 s the ping was at the worker for 3.5: the clock is behind for certain.
        *clock.ping.lock() = ago(4).map(|sent| (2, sent));
        assert_eq!(clock.compare(&heartbeat(2, 3_500_000), 12_000_000), Some(3));
        let offset_ms = clock.offset_us.load(Ordering::Relaxed) / 1_000;
        assert!((-1_500..-1_000).contains(&offset_ms), "{offset_ms}");
    }
}
