//! The workers that are attached to this coordinator.
//!
//! Each worker keeps one stream open ([`link`]): reports come in, orders go out. A worker whose stream ends, or of which
//! nothing is heard for a while, is lost: its attempts fail, and what it says later is no longer listened to until it
//! attaches anew. Whether the others can reach it is looked at, too ([`reach`]). [`Fleet::deploy`] starts an attempt's tasks on several workers and gives them back as one
//! [`crate::deployer::Tasks`] ([`tasks`]); [`Fleet::adopt`] does so with tasks that another coordinator has started.
//! Whatever else a worker runs when it attaches is nobody's any more, and is ended.

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

/// Events that may wait for the coordinator.
const EVENTS_MAX: usize = 1_024;

#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// The coordinator's epoch, which every order carries.
    pub epoch: u64,
    /// Workers whose data folder is another cluster's are refused; empty: none are.
    pub cluster: String,
    /// Workers of another version are refused.
    pub version: String,
    /// How often workers say that they live.
    pub heartbeat: Duration,
    /// A worker that says nothing for so long is lost.
    pub lost_after: Duration,
    /// Workers that find no coordinator for so long end their tasks.
    pub orphan_timeout: Duration,
}

impl FleetOptions {
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

/// What happens to workers.
#[derive(Debug, Clone, PartialEq)]
pub enum FleetEvent {
    Attached {
        worker: String,
        incarnation: String,
        slots: u32,
        /// The attempts that it runs for an earlier coordinator and that are waited for.
        running: Vec<String>,
    },
    /// Whether the address that it gives leads to the worker, or why not. Told until it does.
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
    /// This process did not run for so long that workers have left it: it leads them no longer, and what runs there can be
    /// taken over by whoever leads next.
    Stalled { reason: String },
    /// Tasks on the worker logged something.
    Logged { worker: String, lines: Vec<v1::JobLine> },
    /// The worker asks for its tasks to be moved elsewhere.
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
    /// Who listens to an attempt's workers.
    attempts: DashMap<String, mpsc::Sender<WorkerMessage>>,
    /// Attempts of an earlier coordinator that may be adopted.
    adoptable: Mutex<BTreeSet<String>>,
    events: mpsc::Sender<FleetEvent>,
    /// This coordinator no longer leads, and why.
    shutdown_reason: Mutex<Option<String>>,
    /// Beats as long as this process runs.
    process_heartbeat: Heartbeat,
    /// When it was noticed that this process had not run, and for how long.
    stall: Mutex<Option<(Instant, Duration)>>,
}

impl Fleet {
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

    pub fn workers(&self) -> Vec<WorkerStatus> {
        self.inner.links.lock().values().map(|link| link.status()).collect()
    }

    /// Attempts of an earlier coordinator that may be adopted: workers keep them for now.
    pub fn expect_attempts(&self, attempts: impl IntoIterator<Item = String>) {
        self.inner.adoptable.lock().extend(attempts);
    }

    /// An attempt that was awaited is not wanted any more: it ends wherever it runs.
    pub fn abandon(&self, attempt: &str) {
        self.inner.adoptable.lock().remove(attempt);
        let links: Vec<_> = self.inner.links.lock().values().cloned().collect();
        for link in links {
            if let Err(error) = link.cancel("", attempt) {
                tracing::debug!(attempt, "{error}");
            }
        }
    }

    /// Tells a worker without tasks that it may go.
    pub fn release(&self, worker: &str) {
        let link = self.inner.links.lock().get(worker).cloned();
        if let Some(link) = link
            && !link.is_released.swap(true, Ordering::Relaxed)
            && let Err(error) = link.order(v1::order::Order::Leave(v1::Leave {}))
        {
            tracing::warn!(worker, "{error}");
        }
    }

    /// This coordinator no longer leads: every stream ends, and no worker is let in. Tasks go on: they are the next one's.
    pub fn shut_down(&self, reason: &str) {
        self.inner.shut_down(reason);
    }
}

impl Inner {
    pub(super) async fn send_event(&self, event: FleetEvent) {
        if self.events.send(event).await.is_err() {
            tracing::debug!("no coordinator listens any more");
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
