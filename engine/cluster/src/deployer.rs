//! Deployment of an attempt's tasks: in this process ([`Embedded`]) or on the workers of a cluster.
//!
//! The driver of an attempt decides about checkpoints and recovery and does not depend on the place. It asks for an
//! [`Allocation`] first, because the parallelism determines which subtask reads which split; then it has the tasks
//! deployed and talks to them through [`Tasks`].

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

/// Allocates slots for the tasks of an attempt and starts them there.
#[async_trait]
pub trait Deployer: Send + Sync {
    /// Allocates the slots of an attempt, and waits until there are enough. Dropping the future cancels the wait.
    async fn allocate(&self, job: &Job) -> Result<Allocation, Error>;

    /// Returns the tasks of an attempt of this job whose coordinator has failed, if there is one. Waits until that is
    /// known.
    async fn adopt(&self, _job: &Job) -> Result<Option<AdoptedTasks>, Error> {
        Ok(None)
    }

    /// Called before the tasks are stopped when another process has claimed the job's checkpoints. Does not return if
    /// the tasks belong to that process, too.
    async fn on_superseded(&self) {}

    /// Restores and verifies the state of all tasks, runs [`DeployRequest::before_start`], and starts the tasks. All
    /// tasks run when this returns, or none after an error. An error that [is damage](Error::is_damage) means that
    /// the checkpoint cannot be restored.
    async fn deploy(&self, job: &Job, allocation: &Allocation, request: DeployRequest)
    -> Result<Box<dyn Tasks>, Error>;

    /// Finds slots for the tasks of a region that restarts as this attempt, in place of those whose workers are gone,
    /// and waits until there are enough. Returns the worker of each of the job's slots, after the journal has
    /// recorded them.
    async fn relocate(&self, _region: Vec<usize>, _attempt: String) -> Result<Vec<String>, Error> {
        Err(Error::Failed("the tasks can only restart together".into()))
    }
}

/// The slots of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allocation {
    /// Subtasks of each operator.
    pub parallelism: usize,
    /// The name of the worker of each slot. Subtask `i` of every node runs in slot `i` modulo their number.
    pub slots: Vec<String>,
}

/// Running tasks of an attempt whose coordinator has failed.
pub struct AdoptedTasks {
    /// The tasks.
    pub tasks: Box<dyn Tasks>,
    /// Subtasks of each operator.
    pub parallelism: usize,
    /// Number of the newest checkpoint that was triggered at them. The next one must have a higher number.
    pub newest_checkpoint: u64,
}

/// Work between restoring state and starting tasks.
pub type BeforeStart = BoxFuture<'static, Result<(), Error>>;

/// The parameters of a deployment.
pub struct DeployRequest {
    /// The job and the attempt.
    pub identity: JobIdentity,
    /// The sources, for tasks in this process. Workers create their own.
    pub sources: HashMap<NodeIndex, Arc<dyn Source>>,
    /// The sinks, for tasks in this process.
    pub sinks: HashMap<NodeIndex, Arc<dyn Sink>>,
    /// The splits by source node and subtask.
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    /// True if no source will discover more splits.
    pub splits_are_final: bool,
    /// The state to restore, by operator.
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    /// Work to be done once all state is restored and verified, and before any task starts: the output of the
    /// restored checkpoint is published, and sinks clean up.
    pub before_start: BeforeStart,
    /// Epoch of the claim on the job's checkpoints.
    pub epoch: u64,
    /// Storage of keyed state under that claim.
    pub files: JobFiles,
}

/// The running tasks of one attempt. Dropping them cancels the attempt.
///
/// If the tasks form several regions ([`crate::region`]), a region that has failed can be stopped and restarted while
/// the others run on. Events of its old tasks are not delivered after that.
#[async_trait]
pub trait Tasks: Send {
    /// Sends a command to every task it concerns. An error means that some tasks do not respond: the attempt must
    /// fail.
    fn send(&mut self, command: Command) -> Result<(), Error>;

    /// Returns true if the tasks run in other processes.
    fn are_remote(&self) -> bool;

    /// Asks the processes that run the tasks to publish what their sinks have prepared for a complete checkpoint, as
    /// part of this span. The answer arrives while events are awaited. Only for remote tasks.
    fn publish(&mut self, checkpoint: u64, outputs: Vec<SubtaskOutput>, span: &Span) -> Publishing;

    /// Waits for the next event; `None` after [`TaskEvent::Stopped`].
    async fn next_event(&mut self) -> Option<DeploymentEvent>;

    /// Returns the counters of all tasks.
    fn counters(&self) -> Arc<JobCounters>;

    /// Returns the outages that remote processes report.
    fn outages(&self) -> Vec<Outage> {
        Vec::new()
    }

    /// Returns the fields of the records that sources in remote processes have read.
    fn input_fields(&self) -> Vec<InputFields> {
        Vec::new()
    }

    /// Returns the slots of each region; empty if there is only one.
    fn regions(&self) -> Vec<Vec<usize>> {
        Vec::new()
    }

    /// Stops the tasks of a region. [`DeploymentEvent::RegionStopped`] follows.
    fn stop_region(&mut self, _region: usize) {}

    /// Restores the state of a stopped region and starts it. [`DeploymentEvent::RegionRunning`] follows, or
    /// [`DeploymentEvent::RegionFailed`].
    fn restart_region(&mut self, _restart: RegionRestart) -> Result<RestartedRegion, Error> {
        Err(Error::Failed("the tasks can only restart together".into()))
    }
}

/// An event of running tasks.
#[derive(Debug)]
pub enum DeploymentEvent {
    /// An event of one task, or of all.
    Task(TaskEvent),
    /// Tasks of a region have failed; the others run on.
    RegionFailed {
        region: usize,
        operator: OperatorId,
        subtask: usize,
        error: millstream_runtime::Error,
    },
    /// The tasks of a region have stopped, as far as their workers can be reached.
    RegionStopped { region: usize },
    /// A restarted region runs.
    RegionRunning { region: usize },
}

/// The parameters of the restart of a region.
pub struct RegionRestart {
    /// Number of the region.
    pub region: usize,
    /// Its new attempt id.
    pub attempt: String,
    /// The name of the worker of each of the job's slots.
    pub slots: Vec<String>,
    /// The splits by source node and subtask of the job.
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    /// True if no source will discover more splits.
    pub splits_are_final: bool,
    /// The state to restore, by operator.
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    /// Epoch of the claim on the job's checkpoints.
    pub epoch: u64,
}

/// The counters after the restart of a region.
pub struct RestartedRegion {
    /// Counters of the region's stopped tasks.
    pub stopped: Arc<JobCounters>,
    /// Counters of all tasks from now on.
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
        let wrong = Error::Failed("the tasks run in this process, so the caller publishes".into());
        Box::pin(std::future::ready(Err(wrong)))
    }

    async fn next_event(&mut self) -> Option<DeploymentEvent> {
        RunningJob::next_event(self).await.map(DeploymentEvent::Task)
    }

    fn counters(&self) -> Arc<JobCounters> {
        RunningJob::counters(self)
    }
}

/// Deployment in this process, with a data folder of its own.
pub struct Embedded {
    folder: PathBuf,
    slots: usize,
    memory_bytes: usize,
    /// Created for the first attempt.
    backend: Mutex<Option<Backend>>,
    /// Held as long as the deployer exists.
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

    /// Returns the backend, the same for all attempts: it caches the files of earlier ones.
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
