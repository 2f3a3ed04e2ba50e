//! Runs: each is a task that drives one job through its attempts, on slots that the leader grants.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_proto::v1;
use millstream_runtime::command::Command;
use millstream_runtime::counters::JobCounters;
use millstream_state::checkpoint::CheckpointStore;
use millstream_state::threads;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tracing::Span;

use crate::coordinator::active_run::{AdoptionResult, Grant, RunHandles};
use crate::coordinator::leader::Leader;
use crate::coordinator::ledger::{DesiredState, Record};
use crate::coordinator::slots::LeaseId;
use crate::coordinator::state::{End, Event, RunId};
use crate::coordinator::totals;
use crate::deployer::{
    AdoptedTasks, Allocation, DeployRequest, Deployer, DeploymentEvent, RegionRestart, RestartedRegion, Tasks,
};
use crate::history::History;
use crate::job::{CheckpointRequests, Job, Outcome, Start, StopRequest};
use crate::publish::{Publishing, SubtaskOutput};
use crate::restart::{self, RestartStrategy};
use crate::{Error, planning, region, resolve, run};

/// Pause between two checks, or before a retry.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Starts a task that runs a job until this run ends. The handle aborts it.
pub(super) fn start(leader: Arc<Leader>, run: RunId, record: Box<Record>, handles: RunHandles) -> AbortHandle {
    tokio::spawn(run_job(leader, run, record, handles)).abort_handle()
}

async fn run_job(leader: Arc<Leader>, run: RunId, record: Box<Record>, handles: RunHandles) {
    let job = record.name.clone();
    let progress = handles.progress.clone();
    let end = match run_to_end(&leader, run, &record, handles).await {
        Ok(end) => end,
        Err(Error::State(millstream_state::Error::Superseded(reason))) => {
            // The next run claims the job's checkpoints again.
            leader.forget(&job, false);
            match resolve_superseded(&leader, &record, reason).await {
                Some(end) => end,
                None => return,
            }
        }
        Err(error) => End::Failed {
            reason: error.to_string(),
        },
    };
    let run_totals = progress.with(totals::run_totals).map(Box::new);
    leader.event(Event::Ended {
        job,
        run,
        end,
        run_totals,
    });
}

/// Returns the end of a run whose claim on the job's checkpoints was superseded. `None`: the cluster has another
/// leader, and the job has not failed.
async fn resolve_superseded(leader: &Arc<Leader>, record: &Record, reason: String) -> Option<End> {
    loop {
        if !leader.still_leads().await {
            return None;
        }
        let store = CheckpointStore::open(&record.storage, &record.name).await;
        let claimant = match store {
            Ok(store) => store.claimant().await,
            Err(error) => Err(error),
        };
        let own = leader.leadership();
        match claimant.map(|claimant| claimant.and_then(|claimant| claimant.leader)) {
            Ok(Some(claimant)) if claimant.cluster == own.cluster && claimant.epoch <= own.epoch => {
                let reason = format!("claiming its checkpoints again: {reason}");
                return Some(End::Superseded { reason });
            }
            // This coordinator is about to notice that it was superseded.
            Ok(Some(claimant)) if own.is_before(&claimant) => {}
            // The job was started outside of this cluster.
            Ok(_) => return Some(End::Failed { reason }),
            Err(error) => tracing::warn!(
                job = record.name,
                "the claimant of the job's checkpoints cannot be read: {error}"
            ),
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}

async fn run_to_end(leader: &Arc<Leader>, run: RunId, record: &Record, handles: RunHandles) -> Result<End, Error> {
    let RunHandles {
        mut stop,
        progress,
        checkpoint_requests,
        adoption,
        trace_parent,
    } = handles;
    let Some(history) = claim_checkpoints(leader, run, record, &mut stop).await? else {
        return Ok(End::aborted(None));
    };
    let mut job = plan(record).await?;
    job.checkpoint_requests = checkpoint_requests;
    job.trace_parent = trace_parent;
    let deployer = LeasedDeployer {
        leader: leader.clone(),
        run,
        record,
        adoption,
        lease: Mutex::new(None),
    };
    let mut cancelled = stop.clone();
    let outcome = tokio::select! {
        outcome = run::run_claimed(&job, &history, &deployer, stop, &progress) => outcome?,
        never = confirm_update(leader, run, record, &job.checkpoint_requests) => match never {},
    };
    let mut end = match outcome {
        Outcome::Finished { checkpoint } => End::Finished { checkpoint },
        Outcome::AlreadyFinished { checkpoint, unread } => {
            for input in unread {
                let note = format!("all input was processed before; not read, because it is newer: {input}");
                leader.log_line(&record.name, "warn", &note);
            }
            End::Finished { checkpoint }
        }
        Outcome::Stopped { checkpoint } => End::Stopped { checkpoint },
        Outcome::Aborted {
            last_checkpoint,
            unpublished,
        } => End::Aborted {
            last_checkpoint,
            unpublished,
        },
    };
    if let Some(DesiredState::Stopped {
        savepoint: Some(name), ..
    }) = leader.wanted(&record.name)
    {
        let Some(savepoint_id) = create_savepoint(&history, &job, &name, &mut cancelled).await? else {
            return Ok(end);
        };
        leader.log_line(
            &record.name,
            "info",
            &format!("savepoint `{name}` is checkpoint {savepoint_id}"),
        );
        // The savepoint is a copy of the last checkpoint with a number of its own, from which the job resumes.
        match &mut end {
            End::Stopped { checkpoint } => *checkpoint = savepoint_id,
            End::Aborted { last_checkpoint, .. } => *last_checkpoint = Some(savepoint_id),
            End::Finished { .. } | End::Failed { .. } | End::Superseded { .. } => {}
        }
        progress.update(|report| {
            if let Some(last) = &mut report.last_checkpoint {
                last.id = savepoint_id;
            }
        });
    }
    Ok(end)
}

/// Requests a checkpoint as soon as the new pipeline of an update runs, and confirms the update once it is complete.
/// Until then, the update is reverted if the pipeline fails.
async fn confirm_update(
    leader: &Arc<Leader>,
    run: RunId,
    record: &Record,
    checkpoint_requests: &CheckpointRequests,
) -> Infallible {
    if record.tried_update().is_some() {
        // The attempt may end first, or the checkpoint may fail; the next one may succeed.
        while !matches!(checkpoint_requests.request().await, Ok(Ok(_))) {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        leader.event(Event::UpdateConfirmed {
            job: record.name.clone(),
            run,
        });
    }
    std::future::pending().await
}

/// Creates the savepoint that a job is stopped with. Retries while the storage fails. Returns `None` if the job is
/// cancelled meanwhile.
async fn create_savepoint(
    history: &History,
    job: &Job,
    name: &str,
    stop: &mut watch::Receiver<StopRequest>,
) -> Result<Option<u64>, Error> {
    let config = restart::Config::default();
    let mut restarts = RestartStrategy::new(config.clone());
    loop {
        let savepoint_id = match history.checkpoints().await.is_empty() {
            true => history.create_empty_savepoint(job, name).await,
            false => history.create_savepoint(name).await,
        };
        let error = match savepoint_id {
            Ok(savepoint_id) => return Ok(Some(savepoint_id)),
            Err(error) if error.retry().is_retryable() => error,
            Err(error) => return Err(error),
        };
        let delay = restarts.next_delay(error.retry()).unwrap_or(config.delay_max);
        tracing::warn!(job = job.graph.name, "savepoint `{name}`: {error}; trying again");
        let aborted = stop.wait_for(|request| *request == StopRequest::Abort);
        if tokio::time::timeout(delay, aborted).await.is_ok() {
            return Ok(None);
        }
    }
}

/// Plans a job, ready to run.
pub(super) async fn plan(record: &Record) -> Result<Job, Error> {
    let resolved = record.resolved.clone();
    let planned = threads::run_blocking(move || {
        let graph = planning::plan(&resolved)?;
        Ok::<_, Error>((graph, resolve::settings(&resolved)?))
    });
    let (graph, settings) = planned
        .await
        .map_err(|error| Error::Failed(format!("planning was aborted: {error}")))??;
    // The allocation decides the parallelism of jobs that follow the number of slots.
    let parallelism = record.parallelism.unwrap_or(1) as usize;
    let (graph, resolved) = (Arc::new(graph), record.resolved.clone());
    let mut job = settings.job(graph, resolved, parallelism, record.storage.clone(), Start::Resume);
    job.started_before = true;
    job.allow_duplicates = record.allow_duplicates;
    if let Some(update) = record.tried_update() {
        // A failure at the start is more likely the new pipeline's fault than an outage's, and the old pipeline still
        // works.
        job.started_before = false;
        job.accept_changed_meaning = update.accept_changed_meaning;
        job.allow_dropped_state = update.allow_dropped_state;
    }
    Ok(job)
}

/// Claims the job's checkpoints. Retries while the storage cannot be reached. Returns `None` if the job is not to run
/// any more.
async fn claim_checkpoints(
    leader: &Arc<Leader>,
    run: RunId,
    record: &Record,
    stop: &mut watch::Receiver<StopRequest>,
) -> Result<Option<History>, Error> {
    let config = restart::Config::default();
    let mut restarts = RestartStrategy::new(config.clone());
    loop {
        let error = match leader.history(record).await {
            Ok(history) => return Ok(Some(history)),
            Err(error) => error,
        };
        let retry = error.retry();
        if !retry.is_retryable() {
            return Err(error);
        }
        // The job has not failed, so the number of retries is not limited.
        let delay = restarts.next_delay(retry).unwrap_or(config.delay_max);
        leader.event(Event::Restarting {
            job: record.name.clone(),
            run,
            reason: format!("{error}; trying again in {:.1} s", delay.as_secs_f64()),
        });
        if wait_unless_stopped(leader, record, stop, delay).await {
            return Ok(None);
        }
    }
}

/// Waits for `delay`. Returns true at once if the job need not run any more. A stop with a savepoint still needs its
/// checkpoints.
async fn wait_unless_stopped(
    leader: &Arc<Leader>,
    record: &Record,
    stop: &mut watch::Receiver<StopRequest>,
    delay: Duration,
) -> bool {
    let is_promised = || {
        let wanted = leader.wanted(&record.name);
        matches!(wanted, Some(DesiredState::Stopped { savepoint: Some(_) }))
    };
    let asked = stop.wait_for(|request| match request {
        StopRequest::None => false,
        StopRequest::Stop => !is_promised(),
        StopRequest::Abort => true,
    });
    // A closed channel means that the coordinator has ended.
    tokio::time::timeout(delay, asked).await.is_ok()
}

/// Deploys attempts on slots that the leader grants.
struct LeasedDeployer<'a> {
    leader: Arc<Leader>,
    run: RunId,
    record: &'a Record,
    adoption: watch::Receiver<Option<AdoptionResult>>,
    /// Lease between allocation and deployment.
    lease: Mutex<Option<Lease>>,
}

/// Leased slots, returned when dropped.
struct Lease {
    leader: Arc<Leader>,
    job: String,
    run: RunId,
    lease: LeaseId,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.leader.event(Event::SlotsReturned {
            job: self.job.clone(),
            run: self.run,
            lease: self.lease,
        });
    }
}

impl LeasedDeployer<'_> {
    fn lease(&self, lease: LeaseId) -> Lease {
        Lease {
            leader: self.leader.clone(),
            job: self.record.name.clone(),
            run: self.run,
            lease,
        }
    }
}

#[async_trait]
impl Deployer for LeasedDeployer<'_> {
    async fn adopt(&self, job: &Job) -> Result<Option<AdoptedTasks>, Error> {
        let Some(placement) = &self.record.placement else {
            return Ok(None);
        };
        let mut adoption = self.adoption.clone();
        let verdict = match adoption.wait_for(Option::is_some).await {
            Ok(verdict) => verdict.clone(),
            Err(_) => return Err(Error::Failed("the coordinator leads no longer".into())),
        };
        let Some(verdict) = verdict else { return Ok(None) };
        let lease = self.lease(verdict.map_err(Error::Failed)?);
        let executors = self.leader.executors();
        let resolved = &self.record.resolved;
        let adopted = executors
            .adopt(job, resolved, &placement.attempts, &placement.slots)
            .await?;
        Ok(Some(AdoptedTasks {
            tasks: Box::new(LeasedTasks {
                tasks: adopted.tasks,
                _lease: Some(lease),
            }),
            ..adopted
        }))
    }

    async fn on_superseded(&self) {
        self.leader.check_leadership().await;
        if self.leader.has_ended() {
            // The task is aborted while it waits here.
            std::future::pending::<()>().await;
        }
    }

    async fn allocate(&self, _job: &Job) -> Result<Allocation, Error> {
        // The lease of an attempt that failed before it was deployed.
        drop(self.lease.lock().take());
        let granted = self.leader.request_slots(&self.record.name, self.run);
        let Ok(Grant { lease, slots }) = granted.await else {
            return Err(Error::Failed("the coordinator grants no more slots".into()));
        };
        *self.lease.lock() = Some(self.lease(lease));
        Ok(Allocation {
            parallelism: slots.len(),
            slots,
        })
    }

    async fn deploy(
        &self,
        job: &Job,
        allocation: &Allocation,
        mut request: DeployRequest,
    ) -> Result<Box<dyn Tasks>, Error> {
        let (leader, before_start) = (self.leader.clone(), request.before_start);
        // Sinks delete what no attempt needs any more, which must not coincide with an attempt of the next leader.
        request.before_start = Box::pin(async move {
            leader.verify_leadership().await?;
            before_start.await
        });
        // The journal must not name the previous attempt any more: a checkpoint may soon be ahead of it.
        self.leader.flush_journal(&self.record.name, self.run).await;
        let executors = self.leader.executors();
        let regions = region::divide(&job.graph, &allocation.slots);
        let attempts = region::attempt_ids(&request.identity.attempt, &regions, allocation.slots.len());
        let tasks = executors
            .deploy(job, &self.record.resolved, allocation, request)
            .await?;
        self.leader.event(Event::Placed {
            job: self.record.name.clone(),
            run: self.run,
            attempts,
        });
        let lease = self.lease.lock().take();
        Ok(Box::new(LeasedTasks { tasks, _lease: lease }))
    }

    async fn relocate(&self, region: Vec<usize>, attempt: String) -> Result<Vec<String>, Error> {
        let granted = self.leader.request_relocation(&self.record.name, self.run, &region);
        let Ok(Grant { slots, .. }) = granted.await else {
            return Err(Error::Failed("there are no other slots for its tasks".into()));
        };
        self.leader.event(Event::Relocated {
            job: self.record.name.clone(),
            run: self.run,
            region,
            attempt,
        });
        // The journal must not name the previous attempt any more: a checkpoint may soon be ahead of it.
        self.leader.flush_journal(&self.record.name, self.run).await;
        Ok(slots)
    }
}

/// Tasks and their slots.
struct LeasedTasks {
    /// Dropped first: the slots are free only when no task runs in them.
    tasks: Box<dyn Tasks>,
    _lease: Option<Lease>,
}

#[async_trait]
impl Tasks for LeasedTasks {
    fn send(&mut self, command: Command) -> Result<(), Error> {
        self.tasks.send(command)
    }

    fn are_remote(&self) -> bool {
        self.tasks.are_remote()
    }

    fn publish(&mut self, checkpoint: u64, outputs: Vec<SubtaskOutput>, span: &Span) -> Publishing {
        self.tasks.publish(checkpoint, outputs, span)
    }

    async fn next_event(&mut self) -> Option<DeploymentEvent> {
        self.tasks.next_event().await
    }

    fn counters(&self) -> Arc<JobCounters> {
        self.tasks.counters()
    }

    fn outages(&self) -> Vec<v1::Outage> {
        self.tasks.outages()
    }

    fn input_fields(&self) -> Vec<v1::InputFields> {
        self.tasks.input_fields()
    }

    fn regions(&self) -> Vec<Vec<usize>> {
        self.tasks.regions()
    }

    fn stop_region(&mut self, region: usize) {
        self.tasks.stop_region(region);
    }

    fn restart_region(&mut self, restart: RegionRestart) -> Result<RestartedRegion, Error> {
        self.tasks.restart_region(restart)
    }
}
