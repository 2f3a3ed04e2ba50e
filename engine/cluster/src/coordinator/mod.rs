//! The coordinator: accepts jobs, runs them on the workers attached to it, and records what must survive it.
//!
//! ```text
//! <data folder>/cluster                       identity of the cluster
//! <data folder>/journal/<epoch>/<seq>         the leader's journal ([`ledger`])
//! <data folder>/checkpoints/<job>/...         checkpoints of jobs that configure no other place
//! <data folder>/probe/<uuid>                  temporary objects of test writes ([`DataDir::probe_write`])
//! ```
//!
//! Any number of coordinators may share a data folder. The leader is the one that has claimed the newest epoch of the
//! journal. The others are standbys: they ping the leader's address, which is part of its claim, and claim the next
//! epoch when it has not answered for a while by their own clock ([`standby`]). A superseded leader cannot change
//! anything: its journal records are rejected, it ends its runs as soon as it notices, and becomes a standby. A
//! leader whose process was only paused finds that its workers have left. If no other coordinator leads by then, it
//! claims the next epoch at once and adopts the running tasks like any other leader.
//!
//! The leader's decisions are made by a state machine without I/O ([`state`]). The shell around it is [`leader`].
//! Each job is driven by a run ([`runs`]), which uses the same driver as a job in a single process.

mod active_run;
mod api;
mod checkpoints;
mod data_dir;
mod deletion;
mod errors;
mod executors;
mod gauges;
mod job_events;
mod job_view;
mod leader;
pub mod ledger;
mod logs;
mod pipeline_checks;
mod rates;
mod runs;
mod slots;
mod standby;
pub mod state;
mod submit;
mod totals;
mod transactions;
mod update;

mod worker_gateway;
mod worker_view;

#[cfg(test)]
mod tests;

use crate::clock::now_us;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use millstream_proto::v1;
use millstream_state::log::Log;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, watch};

use crate::Error;
use crate::api::{self as client, Api, Code};
use api::LeaderApi;
use ledger::Ledger;

pub use data_dir::DataDir;
pub use executors::TaskExecutors;
pub use leader::Leader;
pub use state::{Event, Limits};
pub use worker_gateway::WorkerGateway;

/// Time for jobs to take a last checkpoint when the coordinator is asked to end.
const SUSPEND_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause before a failed read of the data folder is repeated.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Options of a coordinator.
#[derive(Debug, Clone)]
pub struct Options {
    /// URL or path of the data folder.
    pub data_dir: String,
    /// Address at which clients, workers and other coordinators reach this one, such as `http://10.0.0.5:7070`.
    pub advertise: String,
    /// Id that the data folder must have, if one is required.
    pub cluster: Option<String>,
    /// The workers end with this process, so jobs take a last checkpoint first. Otherwise their tasks keep running.
    pub suspend_jobs_on_end: bool,
    pub limits: Limits,
}

/// Connects a leader with its workers. Takes the cluster's id, the epoch, and the attempts that can be adopted.
pub type ExecutorFactory =
    Box<dyn Fn(&str, u64, Vec<String>) -> (Arc<dyn TaskExecutors>, mpsc::Receiver<Event>) + Send + Sync>;

/// A coordinator, which leads or stands by. Cheap to clone.
#[derive(Clone)]
pub struct Coordinator {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    folder: DataDir,
    role: RwLock<Role>,
    /// Set when the coordinator is asked to end.
    ending: watch::Sender<bool>,
    executor_factory: ExecutorFactory,
    /// Error of the last use of the data folder, if it failed.
    storage_problem: Mutex<Option<String>>,
}

enum Role {
    Leader(Arc<Leader>),
    Standby {
        /// Address of the leader, if it is known.
        leader: Option<String>,
    },
}

/// Earlier leadership of this process.
#[derive(Debug, Default)]
struct Tenure {
    has_led: bool,
    /// Epoch of its last leadership, if that ended because the process stalled.
    ended: Option<u64>,
    timeout: standby::LeaderTimeout,
}

impl Coordinator {
    /// Opens the data folder and makes it a cluster's if it has no owner. Waits while its disk is full.
    pub async fn open(options: Options, executor_factory: ExecutorFactory) -> Result<Self, Error> {
        let folder = loop {
            match DataDir::open(&options.data_dir, options.cluster.as_deref(), now_us()).await {
                Err(error) if error.retry().is_disk_full() => {
                    tracing::warn!("the data folder cannot be opened yet: {error}");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
                opened => break opened?,
            }
        };
        Ok(Self {
            inner: Arc::new(Inner {
                options,
                folder,
                role: RwLock::new(Role::Standby { leader: None }),
                ending: watch::Sender::new(false),
                executor_factory,
                storage_problem: Mutex::new(None),
            }),
        })
    }

    /// Leads or stands by until the coordinator is asked to end.
    pub async fn run(&self) -> Result<(), Error> {
        let mut ending = self.inner.ending.subscribe();
        let mut tenure = Tenure::default();
        while !*ending.borrow() {
            let turn = tokio::select! {
                turn = self.stand_by(&mut tenure) => turn,
                () = end_requested(&mut ending) => break,
            };
            let leader = match turn {
                Ok(leader) => leader,
                Err(error @ Error::Invalid(_)) => return Err(error),
                Err(error) => {
                    tracing::warn!("cannot lead now: {error}");
                    *self.inner.storage_problem.lock() = Some(error.to_string());
                    tokio::time::sleep(RETRY_INTERVAL).await;
                    continue;
                }
            };
            tenure.has_led = true;
            *self.inner.storage_problem.lock() = None;
            *self.inner.role.write() = Role::Leader(leader.clone());
            tracing::info!(epoch = leader.epoch, "leading");
            tokio::select! {
                _ = leader.ended() => {}
                () = end_requested(&mut ending) => {
                    if self.inner.options.suspend_jobs_on_end {
                        leader.suspend(SUSPEND_TIMEOUT).await;
                    }
                    leader.write_unwritten().await;
                    leader.end("the coordinator was asked to end");
                }
            }
            tenure.ended = leader.has_stalled().then_some(leader.epoch);
            *self.inner.role.write() = Role::Standby { leader: None };
        }
        Ok(())
    }

    /// Asks [`Coordinator::run`] to return. Jobs take a last checkpoint first if they end with this process.
    pub fn end(&self) {
        self.inner.ending.send_replace(true);
    }

    /// Returns the coordinator's role in words, or the reason why it cannot do its work.
    pub fn readiness(&self) -> Result<&'static str, String> {
        let problem = self.storage_problem();
        match (&*self.inner.role.read(), problem) {
            (Role::Leader(_), None) => Ok("leading"),
            (Role::Leader(_), Some(problem)) => Err(format!("leading, but the data folder cannot be used: {problem}")),
            (Role::Standby { leader: Some(_) }, None) => Ok("standing by"),
            (Role::Standby { leader: None }, None) => Err("no leader is known yet".to_string()),
            (Role::Standby { .. }, Some(problem)) => Err(format!("cannot lead now: {problem}")),
        }
    }

    fn storage_problem(&self) -> Option<String> {
        let of_journal = self.leader().and_then(|leader| leader.journal_problem());
        of_journal.or_else(|| self.inner.storage_problem.lock().clone())
    }

    /// Returns the leader, if this coordinator leads.
    pub fn leader(&self) -> Option<Arc<Leader>> {
        match &*self.inner.role.read() {
            Role::Leader(leader) => Some(leader.clone()),
            Role::Standby { .. } => None,
        }
    }

    /// Stands by until there is no leader, and claims the leadership.
    async fn stand_by(&self, tenure: &mut Tenure) -> Result<Arc<Leader>, Error> {
        let inner = &self.inner;
        let journal = inner.folder.journal();
        let is_gone = |epoch: u64, leader: &str| {
            // A claim with this process's address that it has not made is its predecessor's: two processes cannot
            // share an address.
            let is_predecessor = !tenure.has_led && leader == inner.options.advertise;
            is_predecessor || tenure.ended == Some(epoch)
        };
        let timeout = standby::wait_until_leaderless(&journal, tenure.timeout, is_gone, |leader| {
            *inner.storage_problem.lock() = None;
            *inner.role.write() = Role::Standby {
                leader: Some(leader.to_string()),
            };
        })
        .await?;
        tenure.timeout = timeout;
        let writer = journal.claim::<Ledger>(&inner.options.advertise).await?;
        let (executors, events) = (inner.executor_factory)(
            inner.folder.cluster(),
            writer.epoch(),
            writer.state().adoptable_attempts(),
        );
        let leader = Leader::start(
            inner.folder.cluster(),
            writer,
            executors,
            events,
            inner.options.limits.clone(),
            inner.folder.checkpoints(),
            runs::start,
        );
        deletion::resume(&leader);
        Ok(leader)
    }

    fn api(&self) -> Result<LeaderApi, client::Error> {
        match &*self.inner.role.read() {
            Role::Leader(leader) => Ok(LeaderApi(leader.clone())),
            Role::Standby { leader } => Err(client::Error {
                leader: leader.clone(),
                ..client::Error::new(
                    Code::NotLeader,
                    match leader {
                        Some(leader) => format!("this coordinator stands by; {leader} leads"),
                        None => "this coordinator stands by; the leader is not known yet".to_string(),
                    },
                )
            }),
        }
    }
}

async fn end_requested(ending: &mut watch::Receiver<bool>) {
    // The sender lives as long as the coordinator.
    if ending.wait_for(|ending| *ending).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Returns the journal of a data folder.
fn cluster_journal(storage: &millstream_state::Storage) -> Log {
    Log::new(storage.clone(), "journal", "the cluster")
}

#[async_trait]
impl Api for Coordinator {
    async fn submit(&self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, client::Error> {
        self.api()?.submit(request).await
    }

    async fn validate(&self, request: v1::ValidateRequest) -> Result<v1::ValidateResponse, client::Error> {
        self.api()?.validate(request).await
    }

    async fn diff(&self, request: v1::DiffRequest) -> Result<v1::DiffResponse, client::Error> {
        self.api()?.diff(request).await
    }

    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, client::Error> {
        self.api()?.list_jobs(request).await
    }

    async fn job(&self, request: v1::GetJobRequest) -> Result<v1::Job, client::Error> {
        self.api()?.job(request).await
    }

    async fn watch(&self, request: v1::WatchJobsRequest) -> Result<BoxStream<'static, v1::JobEvent>, client::Error> {
        self.api()?.watch(request).await
    }

    async fn stop(&self, request: v1::StopJobRequest) -> Result<v1::Job, client::Error> {
        self.api()?.stop(request).await
    }

    async fn cancel(&self, request: v1::CancelJobRequest) -> Result<v1::Job, client::Error> {
        self.api()?.cancel(request).await
    }

    async fn rescale(&self, request: v1::RescaleJobRequest) -> Result<v1::Job, client::Error> {
        self.api()?.rescale(request).await
    }

    async fn update(&self, request: v1::UpdateJobRequest) -> Result<v1::UpdateJobResponse, client::Error> {
        self.api()?.update(request).await
    }

    async fn restart(&self, request: v1::RestartJobRequest) -> Result<v1::Job, client::Error> {
        self.api()?.restart(request).await
    }

    async fn delete(&self, request: v1::DeleteJobRequest) -> Result<v1::DeleteJobResponse, client::Error> {
        self.api()?.delete(request).await
    }

    async fn logs(&self, request: v1::JobLogsRequest) -> Result<BoxStream<'static, v1::LogLine>, client::Error> {
        self.api()?.logs(request).await
    }

    async fn list_checkpoints(
        &self,
        request: v1::ListCheckpointsRequest,
    ) -> Result<v1::ListCheckpointsResponse, client::Error> {
        self.api()?.list_checkpoints(request).await
    }

    async fn inspect_checkpoint(
        &self,
        request: v1::InspectCheckpointRequest,
    ) -> Result<v1::CheckpointDetail, client::Error> {
        self.api()?.inspect_checkpoint(request).await
    }

    async fn verify_checkpoints(
        &self,
        request: v1::VerifyCheckpointsRequest,
    ) -> Result<BoxStream<'static, v1::VerifyEvent>, client::Error> {
        self.api()?.verify_checkpoints(request).await
    }

    async fn create_checkpoint(&self, request: v1::CreateCheckpointRequest) -> Result<v1::Checkpoint, client::Error> {
        self.api()?.create_checkpoint(request).await
    }

    async fn delete_checkpoint(
        &self,
        request: v1::DeleteCheckpointRequest,
    ) -> Result<v1::DeleteCheckpointResponse, client::Error> {
        self.api()?.delete_checkpoint(request).await
    }

    async fn create_savepoint(&self, request: v1::CreateSavepointRequest) -> Result<v1::Checkpoint, client::Error> {
        self.api()?.create_savepoint(request).await
    }

    async fn delete_savepoint(
        &self,
        request: v1::DeleteSavepointRequest,
    ) -> Result<v1::DeleteSavepointResponse, client::Error> {
        self.api()?.delete_savepoint(request).await
    }

    async fn list_workers(&self, request: v1::ListWorkersRequest) -> Result<v1::ListWorkersResponse, client::Error> {
        self.api()?.list_workers(request).await
    }

    async fn drain_worker(&self, request: v1::DrainWorkerRequest) -> Result<v1::Worker, client::Error> {
        self.api()?.drain_worker(request).await
    }

    async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, client::Error> {
        self.api()?.list_transactions(request).await
    }

    async fn abort_transactions(
        &self,
        request: v1::AbortTransactionsRequest,
    ) -> Result<v1::AbortTransactionsResponse, client::Error> {
        self.api()?.abort_transactions(request).await
    }

    /// Standbys answer as well: clients and workers ask them for the leader.
    async fn info(&self, request: v1::ClusterInfoRequest) -> Result<v1::ClusterInfo, client::Error> {
        let mut info = match self.api() {
            Ok(api) => {
                let mut info = api.info(request).await?;
                info.leader = self.inner.options.advertise.clone();
                info
            }
            Err(refusal) => v1::ClusterInfo {
                version: env!("CARGO_PKG_VERSION").into(),
                clock_us: now_us(),
                leader: refusal.leader.unwrap_or_default(),
                ..v1::ClusterInfo::default()
            },
        };
        if request.check_storage && info.is_leader {
            *self.inner.storage_problem.lock() = self.inner.folder.probe_write().await.err();
        }
        info.storage_problem = self.storage_problem().unwrap_or_default();
        info.cluster_id = self.inner.folder.cluster().to_string();
        info.storage = self.inner.folder.url();
        Ok(info)
    }
}
