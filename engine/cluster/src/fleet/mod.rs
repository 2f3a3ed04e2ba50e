//! The workers that are attached to this coordinator.
//!
//! Each worker keeps one stream open ([`link`]): reports come in, orders go out. A worker is lost when its stream
//! ends or when it has been silent for too long ([`loss`]). Its attempts then fail, and its messages are ignored
//! until it attaches again. A worker takes no tasks until the coordinator has reached it under its address
//! ([`reachability`]).
//!
//! [`Fleet::deploy`] starts the tasks of an attempt on several workers and returns them as one
//! [`crate::deployer::Tasks`] ([`tasks`]). [`Fleet::adopt`] does so with tasks that an earlier coordinator has
//! started. All other tasks that a worker runs when it attaches are ended.

mod attach;
mod heartbeat;
mod link;
mod loss;
mod messages;
mod reachability;
mod reports;
mod status;
mod tasks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use dashmap::DashMap;
use millstream_proto::v1;
use parking_lot::Mutex;
use tokio::sync::mpsc;

use self::heartbeat::Heartbeat;
use self::link::Link;
use self::messages::WorkerMessage;
pub use self::status::WorkerStatus;
use crate::worker_protocol::ORPHAN_TIMEOUT_DEFAULT;

/// Events that may be queued for the coordinator.
const EVENTS_MAX: usize = 1_024;

/// Options of a fleet.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Epoch of the coordinator. Every order carries it.
    pub epoch: u64,
    /// Id of the cluster. Workers whose data folder belongs to another cluster are rejected; empty: none are.
    pub cluster: String,
    /// Version of the engine. Workers of other versions are rejected.
    pub version: String,
    /// Interval of the workers' heartbeats.
    pub heartbeat: Duration,
    /// Silence after which a worker is lost.
    pub lost_after: Duration,
    /// Time after which workers without a coordinator end their tasks.
    pub orphan_timeout: Duration,
}

impl FleetOptions {
    /// Returns the default options of a leader.
    pub fn new(cluster: &str, epoch: u64) -> Self {
        Self {
            epoch,
            cluster: cluster.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            heartbeat: Duration::from_secs(1),
            lost_after: Duration::from_secs(5),
            orphan_timeout: ORPHAN_TIMEOUT_DEFAULT,
        }
    }
}

/// A change of the workers.
#[derive(Debug, Clone, PartialEq)]
pub enum FleetEvent {
    Attached {
        worker: String,
        incarnation: String,
        slots: u32,
        /// Attempts of an earlier coordinator that it runs and that can be adopted.
        running: Vec<String>,
    },
    /// Result of connecting to the worker's address. Repeated until it succeeds.
    Reached {
        worker: String,
        incarnation: String,
        found: Result<(), String>,
    },
    Lost {
        worker: String,
        incarnation: String,
        reason: String,
    },
    /// This process did not run for so long that its workers have left it. It leads no longer; the next leader can
    /// adopt the tasks.
    Stalled { reason: String },
    /// Tasks on the worker logged something.
    Logged { worker: String, lines: Vec<v1::JobLine> },
    /// The worker asks for its tasks to be moved to other workers.
    Leaving { worker: String },
}

/// The workers that are attached to this coordinator. Cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    inner: Arc<Inner>,
}

struct Inner {
    options: FleetOptions,
    links: Mutex<BTreeMap<String, Arc<Link>>>,
    /// Channel to the driver of each attempt.
    attempts: DashMap<String, mpsc::Sender<WorkerMessage>>,
    /// Attempts of an earlier coordinator that can be adopted.
    adoptable: Mutex<BTreeSet<String>>,
    events: mpsc::Sender<FleetEvent>,
    /// The reason why this coordinator no longer leads, once it does not.
    shutdown_reason: Mutex<Option<String>>,
    /// Updated as long as this process runs.
    process_heartbeat: Heartbeat,
    /// Time at which the last stall of this process was noticed, and its length.
    stall: Mutex<Option<(Instant, Duration)>>,
}

impl Fleet {
    /// Returns a fleet without workers, and the receiver of its events.
    pub fn new(options: FleetOptions) -> (Self, mpsc::Receiver<FleetEvent>) {
        let (events, events_in) = mpsc::channel(EVENTS_MAX);
        let fleet = Self {
            inner: Arc::new(Inner {
                options,
                links: Mutex::default(),
                attempts: DashMap::new(),
                adoptable: Mutex::default(),
                events,
                shutdown_reason: Mutex::new(None),
                process_heartbeat: Heartbeat::new(),
                stall: Mutex::default(),
            }),
        };
        tokio::spawn(loss::watch(Arc::downgrade(&fleet.inner)));
        (fleet, events_in)
    }

    /// Returns the status of every attached worker.
    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.inner.links.lock().values().map(|link| link.status()).collect()
    }

    /// Sets the attempts of an earlier coordinator that can be adopted. Workers keep them running for now.
    pub fn expect_attempts(&self, attempts: impl IntoIterator<Item = String>) {
        self.inner.adoptable.lock().extend(attempts);
    }

    /// Cancels an attempt that will not be adopted, on all workers that run it.
    pub fn abandon(&self, attempt: &str) {
        self.inner.adoptable.lock().remove(attempt);
        let links: Vec<_> = self.inner.links.lock().values().cloned().collect();
        for link in links {
            if let Err(error) = link.cancel("", attempt) {
                tracing::debug!(attempt, "{error}");
            }
        }
    }

    /// Tells a worker without tasks that it may leave.
    pub fn release(&self, worker: &str) {
        let link = self.inner.links.lock().get(worker).cloned();
        if let Some(link) = link
            && !link.is_released.swap(true, Ordering::Relaxed)
            && let Err(error) = link.order(v1::order::Order::Leave(v1::Leave {}))
        {
            tracing::warn!(worker, "{error}");
        }
    }

    /// Ends every stream and admits no worker any more, because this coordinator no longer leads. Tasks keep running
    /// for the next leader.
    pub fn shut_down(&self, reason: &str) {
        self.inner.shut_down(reason);
    }
}

impl Inner {
    /// Sends an event to the coordinator. Waits while its queue is full.
    pub(super) async fn send_event(&self, event: FleetEvent) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("the coordinator no longer receives events of workers");
        }
    }

    fn shut_down(&self, reason: &str) {
        *self.shutdown_reason.lock() = Some(reason.to_string());
        for (_, link) in std::mem::take(&mut *self.links.lock()) {
            link.close();
        }
    }
}

#[cfg(test)]
mod tests;
