//! Where an attempt's tasks run: in this process ([`Embedded`]), or on the workers of a cluster.
//!
//! The driver of an attempt decides about checkpoints and recovery and does not know which it is. It asks for an
//! [`Allocation`] first, because the parallelism decides which subtask reads which split, then has the tasks deployed
//! and talks to them through [`Tasks`].

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use futures::future::BoxFuture;
use millstream_connectors::{JobIdentity, Sink, Source, Split};
use millstream_graph::{NodeIndex, OperatorId};
use millstream_proto::v1::{InputFields, Outage};
use millstream_runtime::command::{Command, TaskEvent};
use millstream_runtime::counters::JobCounters;
use millstream_runtime::deployment::{self, Deployment};
use millstream_runtime::job::RunningJob;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_state::job_files::JobFiles;
use millstream_state::store::{Backend, BackendOptions};
use millstream_state::{DataFolderLock, threads};
use parking_lot::Mutex;
use tracing::Span;

use crate::publish::{Publishing, SubtaskOutput};
use crate::{Error, Job, spans};

/// Finds a place for the tasks of an attempt and starts them there.
#[async_trait]
pub trait Deployer: Send + Sync {
    /// Finds slots for one attempt; waits until there are some. The wait is given up by dropping the future.
    async fn allocate(&self, job: &Job) -> Result<Allocation, Error>;

    /// The tasks of an attempt of this job that has never stopped, if there is one: whoever looked after it is gone.
    /// Waits until it is known.
    async fn adopt(&self, _job: &Job) -> Result<Option<AdoptedTasks>, Error> {
        Ok(None)
    }

    /// The right to checkpoint the job is another's. Asked before the tasks are ended: they may be another's, too, and
    /// then this does not return.
    async fn on_superseded(&self) {}

    /// Brings and verifies the state of all tasks, does what is to be done before they start
    /// ([`DeployRequest::before_start`]), and starts them. When this returns they run, or none does. An error that [is
    /// damage](Error::is_damage) says that the checkpoint cannot be restored.
    async fn deploy(&self, job: &Job, allocation: &Allocation, request: DeployRequest)
    -> Result<Box<dyn Tasks>, Error>;

    /// Finds slots for a region of running tasks that is to begin again as this attempt, in place of those whose
    /// workers are gone; waits until there are some. Answers the worker of each of the job's slots, when whoever may
    /// come to look after the job knows where it runs.
    async fn relocate(&self, _region: Vec<usize>, _attempt: String) -> Result<Vec<String>, Error> {
        Err(Error::Failed("its tasks begin again together only".into()))
    }
}

/// The slots that one attempt has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    pub parallelism: usize,
    /// The worker of each slot, by name; subtask `i` of every node runs in slot `i` modulo their number.
    pub slots: Vec<String>,
}

/// Tasks of an attempt that were running before.
pub struct AdoptedTasks {
    pub tasks: Box<dyn Tasks>,
    pub parallelism: usize,
    /// The newest checkpoint that they were asked for: the next must have a higher number.
    pub newest_checkpoint: u64,
}

pub type BeforeStart = BoxFuture<'static, Result<(), Error>>;

/// What an attempt starts with.
pub struct DeployRequest {
    pub identity: JobIdentity,
    /// For tasks that run in this process; a worker makes its own.
    pub sources: HashMap<NodeIndex, Arc<dyn Source>>,
    pub sinks: HashMap<NodeIndex, Arc<dyn Sink>>,
    /// Of each source node, per subtask.
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    pub splits_are_final: bool,
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    /// To be done once all state is there and verified, and before any task is made: what the restored checkpoint holds
    /// is published, and sinks clean up.
    pub before_start: BeforeStart,
    /// The claim on the job's checkpoints, and where keyed state keeps its files under it.
    pub epoch: u64,
    pub files: JobFiles,
}

/// The running tasks of one attempt. Dropping them cancels the attempt.
///
/// Where they are in several regions ([`crate::region`]), one that has failed can be ended and begin again while the
/// others run on. What the tasks say that ran in it before is not heard any more.
#[async_trait]
pub trait Tasks: Send {
    /// Hands a command to every task it concerns. An error means that some do not respond: the attempt is to be failed.
    fn send(&mut self, command: Command) -> Result<(), Error>;

    /// Whether they run in other processes.
    fn are_remote(&self) -> bool;

    /// Has the processes that run them publish what their sinks have prepared for a complete checkpoint, as part of
    /// this span. The answer comes while events are asked for. To be called only if they are elsewhere.
    fn publish(&mut self, checkpoint: u64, outputs: Vec<SubtaskOutput>, span: &Span) -> Publishing;

    /// What happens next; `None` after [`TaskEvent::Stopped`].
    async fn next_event(&mut self) -> Option<DeploymentEvent>;

    fn counters(&self) -> Arc<JobCounters>;

    /// What processes elsewhere that run them say they cannot reach.
    fn outages(&self) -> Vec<Outage> {
        Vec::new()
    }

    /// The fields of what the sources of processes elsewhere have read.
    fn input_fields(&self) -> Vec<InputFields> {
        Vec::new()
    }

    /// The slots of each region; empty where there is only one.
    fn regions(&self) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// Ends what runs of a region. [`DeploymentEvent::RegionStopped`] follows.
    fn stop_region(&mut self, _region: usize) {}

    /// Brings a region that has ended to its state again, and starts it. [`DeploymentEvent::RegionRunning`] follows, or
    /// [`DeploymentEvent::RegionFailed`].
    fn restart_region(&mut self, _restart: RegionRestart) -> Result<RestartedRegion, Error> {
        Err(Error::Failed("its tasks begin again together only".into()))
    }
}

/// What running tasks say.
#[derive(Debug)]
pub enum DeploymentEvent {
    Task(TaskEvent),
    /// Tasks of this region have failed; those of the others know nothing of it.
    RegionFailed {
        region: usize,
        operator: OperatorId,
        subtask: usize,
        error: millstream_runtime::Error,
    },
    /// Nothing of the region runs any more, as far as it can be reached.
    RegionStopped {
        region: usize,
    },
    RegionRunning {
        region: usize,
    },
}

/// How a region begins again.
pub struct RegionRestart {
    pub region: usize,
    /// Its new id.
    pub attempt: String,
    /// The worker of each of the job's slots.
    pub slots: Vec<String>,
    /// Of each source node, per subtask of the job.
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    pub splits_are_final: bool,
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    pub epoch: u64,
}

/// What was counted, when a region begins again.
pub struct RestartedRegion {
    /// Of the region's tasks so far.
    pub stopped: Arc<JobCounters>,
    /// Of all tasks from now on.
    pub counters: Arc<JobCounters>,
}

#[async_trait]
impl Tasks for RunningJob {
    fn send(&mut self, command: Command) -> Result<(), Error> {
        Ok(RunningJob::send(self, command)?)
    }

    fn are_remote(&self) -> bool {
        false
    }

    fn publish(&mut self, _checkpoint: u64, _outputs: Vec<SubtaskOutput>, _span: &Span) -> Publishing {
        let wrong = Error::Failed("the tasks run in this process: whoever asks can publish".into());
        Box::pin(std::future::ready(Err(wrong)))
    }

    async fn next_event(&mut self) -> Option<DeploymentEvent> {
        RunningJob::next_event(self).await.map(DeploymentEvent::Task)
    }

    fn counters(&self) -> Arc<JobCounters> {
        RunningJob::counters(self)
    }
}

/// Tasks run in this process, over a data folder that this process has to itself.
pub struct Embedded {
    folder: PathBuf,
    slots: usize,
    memory_bytes: usize,
    /// Made for the first attempt.
    backend: Mutex<Option<Backend>>,
    /// Held as long as anything of the run lives.
    _lock: DataFolderLock,
}

impl Embedded {
    /// Locks the job's folder below `data_dir`.
    pub async fn new(data_dir: PathBuf, job: &str, slots: usize, memory_bytes: usize) -> Result<Self, Error> {
        let folder = data_dir.join("jobs").join(job);
        let locked = folder.clone();
        let lock = threads::run_blocking(move || DataFolderLock::acquire(&locked))
            .await
            .map_err(|error| Error::Failed(format!("the data folder could not be locked: {error}")))??;
        Ok(Self {
            folder,
            slots,
            memory_bytes,
            backend: Mutex::new(None),
            _lock: lock,
        })
    }

    /// One for all attempts: it knows what it has kept of earlier ones.
    fn backend(&self) -> Result<Backend, Error> {
        let mut made = self.backend.lock();
        if let Some(backend) = &*made {
            return Ok(backend.clone());
        }
        let backend = Backend::new(BackendOptions {
            dir: self.folder.join("state"),
            memory_bytes: self.memory_bytes,
            process_gauge: Some(millstream_state::memory::process_bytes),
            background_threads: 2,
        })?;
        Ok(made.insert(backend).clone())
    }
}

#[async_trait]
impl Deployer for Embedded {
    async fn allocate(&self, job: &Job) -> Result<Allocation, Error> {
        Ok(Allocation {
            parallelism: job.parallelism,
            slots: vec!["here".into(); self.slots],
        })
    }

    async fn deploy(
        &self,
        job: &Job,
        allocation: &Allocation,
        request: DeployRequest,
    ) -> Result<Box<dyn Tasks>, Error> {
        let backend = self.backend()?.with_files(request.files);
        let deployment = Deployment {
            graph: job.graph.clone(),
            identity: request.identity,
            parallelism: allocation.parallelism,
            slots: self.slots,
            local_slots: None,
            sources: request.sources,
            sinks: request.sinks,
            splits: request.splits,
            splits_are_final: request.splits_are_final,
            restore: request.restore,
            backend,
            runtime: tokio::runtime::Handle::current(),
            options: job.options.clone(),
        };
        let restored = spans::in_span(spans::span!("restore state"), deployment::restore(&deployment)).await?;
        request.before_start.await?;
        Ok(Box::new(deployment::deploy(deployment, restored).await?))
    }
}
