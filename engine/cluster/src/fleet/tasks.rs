//! The tasks of one attempt on several workers, as one [`Tasks`].
//!
//! The tasks are in one or several regions ([`crate::region`]). Workers know the tasks of each region under an
//! attempt id of its own. A region that is restarted gets a new id, and messages under the old id are ignored.

mod control;
mod deployment;
mod events;
mod points;
mod publication;
mod region;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use millstream_proto::v1;
use millstream_proto::v1::task_command::Command as Wire;
use millstream_runtime::counters::JobCounters;
use millstream_store_errors::Retry;
use tokio::sync::mpsc;
use tracing::Span;

use self::deployment::Milestone;
use self::points::Point;
use self::publication::Publication;
use self::region::{InitialState, Region};
use super::Fleet;
use super::messages::WorkerMessage;
use crate::deployer::{AdoptedTasks, Allocation, DeployRequest, DeploymentEvent, Tasks};
use crate::region::{attempt_ids, divide, regions_of_attempts};
use crate::{Error, Job, encoding, spans};

/// Messages that may be queued for the driver of one attempt.
const MESSAGES_MAX: usize = 16_384;
/// Time for workers to report the status of an attempt that is adopted.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(5);

impl Fleet {
    /// Starts an attempt's tasks on the workers of its allocation. When this returns, either all tasks run or none
    /// does.
    pub async fn deploy(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        allocation: &Allocation,
        request: DeployRequest,
    ) -> Result<Box<dyn Tasks>, Error> {
        let slots = &allocation.slots;
        let regions = divide(&job.graph, slots);
        let attempts = attempt_ids(&request.identity.attempt, &regions, slots.len());
        let mut tasks = self.listen(job, resolved, &regions, &attempts, slots)?;
        let before_start = request.before_start;
        let initial = InitialState {
            splits: request.splits,
            splits_are_final: request.splits_are_final,
            restore: request.restore,
            epoch: request.epoch,
        };
        let deploy = tasks.deployment(initial)?;
        for region in &tasks.regions {
            region.deploy(&deploy, slots)?;
        }
        spans::in_span(spans::span!("restore state"), tasks.wait_for(Milestone::Restored)).await?;
        before_start.await?;
        // A worker that was lost in between fails this attempt, which is retried.
        for region in &tasks.regions {
            region
                .order(&tasks.job, &Wire::Start(v1::StartTasks {}))
                .map_err(|error| remote_error(error.to_string()))?;
        }
        spans::in_span(spans::span!("start tasks"), tasks.wait_for(Milestone::Deployed)).await?;
        Ok(Box::new(tasks))
    }

    /// Adopts the tasks of an attempt that another coordinator has started. `slots` has the worker of each slot,
    /// `attempts` the id under which the worker knows its tasks. If this fails, the tasks are cancelled.
    pub async fn adopt(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        attempts: &[String],
        slots: &[String],
    ) -> Result<AdoptedTasks, Error> {
        {
            let mut adoptable = self.inner.adoptable.lock();
            attempts.iter().for_each(|attempt| {
                adoptable.remove(attempt);
            });
        }
        let mut tasks = self.listen(job, resolved, &regions_of_attempts(attempts), attempts, slots)?;
        for region in &tasks.regions {
            for link in &region.links {
                let adopt = v1::Adopt {
                    job: tasks.job.clone(),
                    attempt: region.attempt.clone(),
                };
                link.order(v1::order::Order::Adopt(adopt))
                    .map_err(|error| remote_error(error.to_string()))?;
            }
        }
        let newest_checkpoint = tokio::time::timeout(ADOPT_TIMEOUT, tasks.wait_for_adoption())
            .await
            .map_err(|_| {
                remote_error(format!(
                    "the workers did not report the status of the tasks within {} s (ADOPT_TIMEOUT)",
                    ADOPT_TIMEOUT.as_secs()
                ))
            })??;
        Ok(AdoptedTasks {
            parallelism: slots.len(),
            tasks: Box::new(tasks),
            newest_checkpoint,
        })
    }

    /// Registers for messages of these workers about the attempt.
    fn listen(
        &self,
        job: &Job,
        resolved: &v1::ResolvedJob,
        regions: &[Vec<usize>],
        attempts: &[String],
        slots: &[String],
    ) -> Result<RemoteTasks, Error> {
        let (listener, messages) = mpsc::channel(MESSAGES_MAX);
        let mut tasks = RemoteTasks {
            fleet: self.clone(),
            job: job.graph.name.clone(),
            resolved: resolved.clone(),
            checkpoint_storage: job.checkpoint_storage.clone(),
            slots: slots.to_vec(),
            regions: Vec::new(),
            listener: listener.downgrade(),
            messages,
            events: VecDeque::new(),
            counters: Arc::new(JobCounters::of_subtasks(
                job.graph.name.clone(),
                &job.graph,
                slots.len(),
                |_| true,
            )),
            outages: BTreeMap::new(),
            input_fields: BTreeMap::new(),
            had_finished: false,
            publication: None,
            point: None,
            is_terminated: false,
        };
        for region in regions {
            let attempt = attempts[region[0]].clone();
            self.inner.attempts.insert(attempt.clone(), listener.clone());
            let links = self.links(region.iter().map(|slot| &slots[*slot]));
            // The region is added even if a worker is missing, so that dropping `tasks` unregisters it.
            let found = links.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
            tasks.regions.push(Region::new(attempt, region.clone(), found));
            links?;
        }
        Ok(tasks)
    }
}

fn remote_error(message: String) -> Error {
    Error::Runtime(failure(message, Retry::Limited))
}

fn failure(message: String, retry: Retry) -> millstream_runtime::Error {
    millstream_runtime::Error::Remote {
        message,
        is_retryable: retry.is_retryable(),
        is_disk_full: retry.is_disk_full(),
    }
}

struct RemoteTasks {
    fleet: Fleet,
    job: String,
    resolved: v1::ResolvedJob,
    checkpoint_storage: String,
    /// Worker of each slot.
    slots: Vec<String>,
    /// Regions; each slot is in one.
    regions: Vec<Region>,
    /// Sender for the regions that may still report. The channel closes when all of them are unregistered.
    listener: mpsc::WeakSender<WorkerMessage>,
    messages: mpsc::Receiver<WorkerMessage>,
    /// Events that the driver has not read yet.
    events: VecDeque<DeploymentEvent>,
    counters: Arc<JobCounters>,
    /// Outages, by attempt and by the worker that reports them.
    outages: BTreeMap<(String, String), Vec<v1::Outage>>,
    /// Fields of the sources' input, by attempt and worker.
    input_fields: BTreeMap<(String, String), Vec<v1::InputFields>>,
    /// All tasks had finished before they were started or adopted; the event is still to be delivered.
    had_finished: bool,
    /// Publication that is under way.
    publication: Option<Publication>,
    /// Consistency point that is under way.
    point: Option<Point>,
    is_terminated: bool,
}

impl RemoteTasks {
    /// Returns the part of a deployment that is the same for all workers.
    fn deployment(&self, initial: InitialState) -> Result<v1::Deploy, Error> {
        let restore: Vec<_> = initial
            .restore
            .iter()
            .map(|(operator, states)| (&operator.0, states))
            .collect();
        Ok(v1::Deploy {
            job: self.job.clone(),
            resolved: Some(self.resolved.clone()),
            parallelism: self.slots.len() as u32,
            splits: encoding::encode(&initial.splits)?,
            splits_are_final: initial.splits_are_final,
            restore: encoding::encode(&restore)?,
            checkpoint_storage: self.checkpoint_storage.clone(),
            checkpoint_epoch: initial.epoch,
            trace_parent: spans::trace_parent(&Span::current()),
            // The region fills in the rest.
            ..v1::Deploy::default()
        })
    }

    fn have_all_finished(&self) -> bool {
        self.regions.iter().all(Region::has_finished)
    }

    fn region_of(&self, attempt: &str) -> Option<usize> {
        self.regions.iter().position(|region| region.attempt == attempt)
    }
}
