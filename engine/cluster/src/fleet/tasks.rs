//! The tasks of one attempt on several workers, as one [`Tasks`].
//!
//! The tasks are in one or several regions ([`crate::region`]). Workers know the tasks of each region under an
//! attempt id of its own. A region that is restarted gets a new id, and messages under the old id are ignored.

mod deployment;
mod region;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_graph::OperatorId;
use millstream_proto::v1;
use millstream_proto::v1::attempt_report::Event;
use millstream_proto::v1::task_command::Command as Wire;
use millstream_runtime::command::{Command, TaskEvent};
use millstream_runtime::counters::JobCounters;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_store_errors::Retry;
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use self::deployment::Milestone;
use self::region::{InitialState, Region, Stage};
use super::Fleet;
use super::messages::{MessageBody, WorkerMessage};
use crate::deployer::{
    AdoptedTasks, Allocation, DeployRequest, DeploymentEvent, RegionRestart, RestartedRegion, Tasks,
};
use crate::publish::{Publishing, SubtaskOutput};
use crate::region::{attempt_ids, divide, regions_of_attempts};
use crate::{Error, Job, encoding, outage, spans};

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
    is_terminated: bool,
}

/// A checkpoint whose output the workers publish. Dropping it gives the publication up.
struct Publication {
    checkpoint: u64,
    /// Parts of regions, by worker, that have not been published yet.
    missing: BTreeSet<(usize, String)>,
    done: oneshot::Sender<Result<(), Error>>,
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

    fn order_all(&mut self, command: &Wire) -> Result<(), Error> {
        for index in 0..self.regions.len() {
            let ordered = self.regions[index].order(&self.job, command);
            self.after_order(index, ordered)?;
        }
        Ok(())
    }

    /// Handles the result of an order to a region. With several regions, a worker that takes no order fails only its
    /// own.
    fn after_order(&mut self, region: usize, ordered: Result<(), Error>) -> Result<(), Error> {
        match ordered {
            Err(error) if self.regions.len() > 1 => {
                self.fail(region, "worker", 0, error.to_string(), Retry::Limited);
                Ok(())
            }
            ordered => ordered,
        }
    }

    fn fail(&mut self, region: usize, operator: &str, subtask: usize, message: String, retry: Retry) {
        if self.regions.len() == 1 {
            self.events.push_back(task_failed(operator, subtask, message, retry));
        } else if self.regions[region].fail() {
            self.events.push_back(DeploymentEvent::RegionFailed {
                region,
                operator: OperatorId(operator.to_string()),
                subtask,
                error: failure(message, retry),
            });
        }
    }

    /// Handles a worker's message and queues the events that the driver needs.
    fn on_message(&mut self, message: WorkerMessage) -> Result<(), Error> {
        let worker = message.worker;
        match message.body {
            MessageBody::Progress(progress) => {
                if self.region_of(&progress.attempt).is_some() {
                    let sample = encoding::decode(&progress.operators, "a worker's progress")?;
                    self.counters.apply(&sample);
                    let from = (progress.attempt, worker);
                    self.input_fields.insert(from.clone(), progress.fields);
                    self.outages.insert(from, progress.outages);
                }
            }
            MessageBody::Lost(reason) => self.on_worker_lost(&worker, &reason),
            MessageBody::Report(report) => {
                if let (Some(region), Some(event)) = (self.region_of(&report.attempt), report.event) {
                    self.on_report(worker, region, event)?;
                }
            }
        }
        Ok(())
    }

    /// Handles the loss of a worker. If it ran several regions, the whole attempt fails.
    fn on_worker_lost(&mut self, worker: &str, reason: &str) {
        let hit: Vec<usize> = (0..self.regions.len())
            .filter(|index| {
                let region = &mut self.regions[*index];
                region.is_on(worker) && region.stopped.insert(worker.to_string())
            })
            .collect();
        hit.iter().for_each(|region| self.give_up_publication(*region, worker));
        let message = format!("worker {worker} was lost: {reason}");
        if hit.len() > 1 {
            self.events.push_back(task_failed("worker", 0, message, Retry::Limited));
            return;
        }
        for index in hit {
            self.fail(index, "worker", 0, message.clone(), Retry::Limited);
            self.notify_if_ended(index);
        }
    }

    fn on_report(&mut self, worker: String, index: usize, event: Event) -> Result<(), Error> {
        let region = &mut self.regions[index];
        match event {
            Event::Snapshot(done) => {
                let mut state: SubtaskState = encoding::decode(&done.state, "a subtask's snapshot")?;
                if let Some(keyed) = &mut state.keyed {
                    keyed.entries = done.keyed_entries;
                }
                self.events.push_back(DeploymentEvent::Task(TaskEvent::Snapshot {
                    checkpoint: done.checkpoint,
                    operator: OperatorId(done.operator),
                    state,
                }));
            }
            Event::SnapshotFailed(failed) => self.events.push_back(DeploymentEvent::Task(TaskEvent::SnapshotFailed {
                checkpoint: failed.checkpoint,
                operator: OperatorId(failed.operator),
                subtask: failed.subtask as usize,
                error: failure(
                    format!("worker {worker}: {}", failed.reason),
                    Retry::from_report(true, failed.is_disk_full),
                ),
                rows_lost: failed.rows_lost,
            })),
            Event::Finished(_) => {
                region.finished.insert(worker);
                self.notify_if_finished();
            }
            // Only the whole job can recover from a damaged checkpoint: it restores an earlier one.
            Event::Failed(task) if task.is_damage => {
                let message = format!("worker {worker}: {}", task.message);
                self.events.push_back(task_failed("worker", 0, message, Retry::Limited));
            }
            Event::Failed(task) => {
                let (operator, message) = match task.operator.is_empty() {
                    true => ("worker", format!("worker {worker}: {}", task.message)),
                    // The worker whose disk is full matters more than the operator that noticed it.
                    false if task.is_disk_full => {
                        (task.operator.as_str(), format!("worker {worker}: {}", task.message))
                    }
                    false => (task.operator.as_str(), task.message.clone()),
                };
                let retry = Retry::from_report(task.may_pass, task.is_disk_full);
                self.fail(index, operator, task.subtask as usize, message, retry);
            }
            Event::Published(answer) => self.on_published(index, worker, answer),
            Event::Stopped(_) => {
                region.stopped.insert(worker.clone());
                self.give_up_publication(index, &worker);
                if self.regions.len() > 1 {
                    let message = format!("worker {worker} stopped its tasks");
                    self.fail(index, "worker", 0, message, Retry::Limited);
                    self.notify_if_ended(index);
                }
            }
            Event::Restored(_) => {
                if region.on_restored(&worker) {
                    let ordered = region.order(&self.job, &Wire::Start(v1::StartTasks {}));
                    self.after_order(index, ordered)?;
                }
            }
            Event::Deployed(_) => {
                if region.on_started(&worker) {
                    self.events.push_back(DeploymentEvent::RegionRunning { region: index });
                    // Its tasks may have finished before all workers had reported that they run.
                    self.notify_if_finished();
                }
            }
            Event::Adopted(_) => {}
        }
        Ok(())
    }

    /// Handles the result of publishing a worker's part of a region.
    fn on_published(&mut self, region: usize, worker: String, answer: v1::OutputPublished) {
        let Some(mut publication) = self.publication.take_if(|it| it.checkpoint == answer.checkpoint) else {
            return;
        };
        let result = match answer.reason.as_str() {
            "" => Ok(()),
            reason => Err(Error::Runtime(failure(
                format!("worker {worker}: {reason}"),
                Retry::from_report(true, answer.is_disk_full),
            ))),
        };
        publication.missing.remove(&(region, worker));
        if result.is_ok() && !publication.missing.is_empty() {
            self.publication = Some(publication);
            return;
        }
        if publication.done.send(result).is_err() {
            tracing::debug!(job = self.job, "the result of a publication is no longer awaited");
        }
    }

    /// Gives up the publication if it needs a worker that cannot publish any more.
    fn give_up_publication(&mut self, region: usize, worker: &str) {
        self.publication
            .take_if(|it| it.missing.contains(&(region, worker.to_string())));
    }

    fn notify_if_finished(&mut self) {
        if self.have_all_finished() {
            self.events.push_back(DeploymentEvent::Task(TaskEvent::Finished));
        }
    }

    fn notify_if_ended(&mut self, index: usize) {
        let region = &mut self.regions[index];
        if region.stage == Stage::Ending && region.has_stopped() {
            region.stage = Stage::Ended;
            self.fleet.inner.attempts.remove(&region.attempt);
            self.events.push_back(DeploymentEvent::RegionStopped { region: index });
        }
    }
}

fn task_failed(operator: &str, subtask: usize, message: String, retry: Retry) -> DeploymentEvent {
    DeploymentEvent::Task(TaskEvent::Failed {
        operator: OperatorId(operator.to_string()),
        subtask,
        error: failure(message, retry),
    })
}

#[async_trait]
impl Tasks for RemoteTasks {
    fn send(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Checkpoint {
                id,
                last,
                aligned_timeout,
            } => self.order_all(&Wire::Checkpoint(v1::TriggerCheckpoint {
                checkpoint: id,
                last,
                aligned_timeout_ms: aligned_timeout.map(|timeout| timeout.as_millis() as u64),
            })),
            Command::NoMoreSplits { node } => {
                self.order_all(&Wire::NoMoreSplits(v1::NoMoreSplits { node: node as u32 }))
            }
            Command::Confirm { checkpoint } => self.order_all(&Wire::Confirm(v1::ConfirmCheckpoint { checkpoint })),
            Command::Cancel => {
                self.publication = None;
                self.order_all(&Wire::Cancel(v1::CancelTasks {}))
            }
            Command::AssignSplits { node, subtask, splits } => {
                let slot = subtask % self.slots.len();
                let assign = Wire::AssignSplits(v1::AssignSplits {
                    node: node as u32,
                    subtask: subtask as u32,
                    splits: encoding::encode(&splits)?,
                });
                let Some(region) = self.regions.iter().position(|region| region.slots.contains(&slot)) else {
                    return Ok(());
                };
                let ordered = self.regions[region].order_one(&self.job, &self.slots[slot], assign);
                self.after_order(region, ordered)
            }
        }
    }

    fn are_remote(&self) -> bool {
        true
    }

    fn publish(&mut self, checkpoint: u64, outputs: Vec<SubtaskOutput>, span: &Span) -> Publishing {
        let mut parts: BTreeMap<(usize, String), Vec<SubtaskOutput>> = BTreeMap::new();
        for output in outputs {
            let slot = output.subtask % self.slots.len();
            if let Some(region) = self.regions.iter().position(|region| region.slots.contains(&slot)) {
                parts
                    .entry((region, self.slots[slot].clone()))
                    .or_default()
                    .push(output);
            }
        }
        let ordered = parts.iter().try_for_each(|((region, worker), outputs)| {
            let publish = Wire::Publish(v1::PublishOutput {
                checkpoint,
                outputs: encoding::encode(outputs)?,
                trace_parent: spans::trace_parent(span),
            });
            self.regions[*region].order_one(&self.job, worker, publish)
        });
        if let Err(error) = ordered {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (done, result) = oneshot::channel();
        self.publication = Some(Publication {
            checkpoint,
            missing: parts.into_keys().collect(),
            done,
        });
        Box::pin(async move {
            result.await.unwrap_or_else(|_| {
                Err(remote_error(
                    "the workers that were to publish the output were lost".into(),
                ))
            })
        })
    }

    async fn next_event(&mut self) -> Option<DeploymentEvent> {
        loop {
            if let Some(events) = self.events.pop_front() {
                return Some(events);
            }
            if self.is_terminated {
                return None;
            }
            if std::mem::take(&mut self.had_finished) {
                return Some(DeploymentEvent::Task(TaskEvent::Finished));
            }
            if self.regions.iter().all(Region::has_stopped) {
                self.is_terminated = true;
                return Some(DeploymentEvent::Task(TaskEvent::Stopped));
            }
            let taken = match self.messages.recv().await {
                Some(message) => self.on_message(message),
                None => {
                    self.is_terminated = true;
                    return Some(task_failed(
                        "worker",
                        0,
                        "messages of the workers no longer arrive".into(),
                        Retry::Limited,
                    ));
                }
            };
            if let Err(error) = taken {
                return Some(task_failed("worker", 0, error.to_string(), Retry::Never));
            }
        }
    }

    fn counters(&self) -> Arc<JobCounters> {
        Arc::clone(&self.counters)
    }

    fn outages(&self) -> Vec<v1::Outage> {
        let is_current = |attempt: &str, worker: &str| {
            let region = self.regions.iter().find(|region| region.attempt == attempt);
            region.is_some_and(|region| !region.stopped.contains(worker))
        };
        let reported = self.outages.iter();
        let current = reported.filter(|((attempt, worker), _)| is_current(attempt, worker));
        outage::merge(current.flat_map(|(_, outages)| outages.clone()))
    }

    fn input_fields(&self) -> Vec<v1::InputFields> {
        // A region that is restarted reads again, so only its present attempt counts.
        let is_present = |attempt: &str| self.regions.iter().any(|region| region.attempt == attempt);
        let told = self.input_fields.iter().filter(|((attempt, _), _)| is_present(attempt));
        told.flat_map(|(_, fields)| fields.clone()).collect()
    }

    fn regions(&self) -> Vec<Vec<usize>> {
        match self.regions.as_slice() {
            [_] => Vec::new(),
            several => several.iter().map(|region| region.slots.clone()).collect(),
        }
    }

    fn stop_region(&mut self, index: usize) {
        let region = &mut self.regions[index];
        region.stage = Stage::Ending;
        // A worker that takes no order is lost, which is reported separately.
        if let Err(error) = region.order(&self.job, &Wire::Cancel(v1::CancelTasks {})) {
            tracing::debug!(job = self.job, "{error}");
        }
        self.notify_if_ended(index);
    }

    fn restart_region(&mut self, restart: RegionRestart) -> Result<RestartedRegion, Error> {
        let slots = self.regions[restart.region].slots.clone();
        let Some(listener) = self.listener.upgrade() else {
            return Err(remote_error("messages of the workers no longer arrive".into()));
        };
        self.fleet.inner.attempts.insert(restart.attempt.clone(), listener);
        self.slots = restart.slots;
        let mut region = Region::new(restart.attempt, slots.clone(), Vec::new());
        region.stage = Stage::Ended;
        let links = self.fleet.links(slots.iter().map(|slot| &self.slots[*slot]));
        self.regions[restart.region] = region;
        let region = &mut self.regions[restart.region];
        region.links = links?;
        region.stage = Stage::Restoring(region.links.iter().map(|link| link.name.clone()).collect());
        let deploy = self.deployment(InitialState {
            splits: restart.splits,
            splits_are_final: restart.splits_are_final,
            restore: restart.restore,
            epoch: restart.epoch,
        })?;
        self.regions[restart.region].deploy(&deploy, &self.slots)?;
        let (before, counters) = self
            .counters
            .restart_subtasks(|subtask| slots.contains(&(subtask % self.slots.len())));
        self.counters = Arc::new(counters);
        Ok(RestartedRegion {
            stopped: Arc::new(before),
            counters: self.counters(),
        })
    }
}

impl Drop for RemoteTasks {
    fn drop(&mut self) {
        for region in &self.regions {
            self.fleet.inner.attempts.remove(&region.attempt);
        }
        if self.fleet.inner.shutdown_reason.lock().is_some() {
            // The next coordinator adopts the tasks.
            return;
        }
        for region in &self.regions {
            if let Err(error) = region.order(&self.job, &Wire::Cancel(v1::CancelTasks {})) {
                tracing::debug!(job = self.job, "{error}");
            }
        }
    }
}
