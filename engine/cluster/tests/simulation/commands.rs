//! Commands of the client API while the leader fails.
//!
//! A client sends some commands, one after the other. The fault of the leader is drawn from the seed: it is killed or
//! paused at one of its next puts, before or after that takes effect, or some milliseconds later, or after some
//! turns. Then the answer to the client (done, refused, or not known) is compared with the state that the cluster
//! reaches by itself: within a bounded time it has to be the state after the command or, if the outcome is not known,
//! that before it. At the end the job runs to completion, with the rows of a run without faults.

use std::collections::BTreeSet;
use std::future::Future;
use std::time::Duration;

use millstream_cluster::connect;
use millstream_cluster::resolve::{self, Overrides};
use millstream_proto::v1::checkpoint_service_client::CheckpointServiceClient;
use millstream_proto::v1::job_service_client::JobServiceClient;
use millstream_proto::v1::worker_service_client::WorkerServiceClient;
use millstream_proto::{status, v1};
use tonic::transport::Channel;
use tonic::{Response, Status};

use crate::faults::LeaderFault;
use crate::job::{ClientPlan, sent_pipeline, submission};
use crate::kernel;
use crate::random::Random;
use crate::shapes::Variant;
use crate::world::{COORDINATORS, WORKERS, name_of, url_of, world};

/// Timeout of a call.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout of the search for the leader.
const LEADER_TIMEOUT_NS: u64 = 60_000_000_000;
const PAUSE: Duration = Duration::from_millis(300);
/// Time after the answer in which the leader may still fail.
const FAULT_AFTER_ANSWER: Duration = Duration::from_millis(1_000);
/// Time in which the cluster has to reach the requested state.
const CONVERGENCE_NS: u64 = 120_000_000_000;
/// Time for which the final state must last.
const STABLE_TIME: Duration = Duration::from_secs(5);
const END_NS: u64 = 300_000_000_000;
/// Largest number of commands that are needed at the end.
const FINAL_TRIES_MAX: u32 = 4;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Command {
    Submit,
    Stop(Option<String>),
    Cancel,
    Restart,
    Rescale(u32),
    Update {
        variant: Variant,
        savepoint: Option<String>,
    },
    Delete,
    CreateSavepoint(String),
    DeleteSavepoint(String),
    CreateCheckpoint,
    DeleteCheckpoint(u64),
    Drain(String),
    Undrain(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum JobStatus {
    Absent,
    Running,
    Stopped,
    Cancelled,
    /// An update of the job failed while it did not run.
    Failed,
}

/// The expected state of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Model {
    status: JobStatus,
    parallelism: u32,
    /// The job's pipeline.
    variant: Variant,
    /// The outcome of the latest update.
    update: Option<v1::job_update::State>,
    savepoints: BTreeSet<String>,
    /// Deleted checkpoints.
    deleted_checkpoints: BTreeSet<u64>,
    drained: BTreeSet<String>,
}

/// The answer to a command.
#[derive(Debug, Clone)]
enum Answer {
    /// The command was carried out; with the checkpoint that was created.
    Done(Option<u64>),
    Refused(String),
    Unknown(String),
}

impl std::fmt::Display for Answer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Done(None) => out.write_str("done"),
            Self::Done(Some(checkpoint)) => write!(out, "done, checkpoint {checkpoint}"),
            Self::Refused(why) => write!(out, "refused: {why}"),
            Self::Unknown(why) => write!(out, "not known: {why}"),
        }
    }
}

/// The observable state of the cluster.
#[derive(Debug)]
struct Observation {
    job: Option<v1::Job>,
    savepoints: BTreeSet<String>,
    checkpoints: Vec<u64>,
    /// Their states.
    workers: Vec<(String, String)>,
}

impl Model {
    /// Draws a command that is valid in this state.
    fn draw(&self, random: &mut Random, checkpoints: &[u64], number: u64) -> Command {
        let name = || format!("s{number}");
        let some_savepoint = self.savepoints.first().cloned();
        let some_drained = self.drained.first().cloned();
        let worker = |random: &mut Random| name_of(WORKERS[random.below(2) as usize]);
        if self.status == JobStatus::Absent {
            return Command::Submit;
        }
        loop {
            let drawn = match random.below(18) {
                0 => Some(Command::Stop(None)),
                1 | 2 => Some(Command::Stop(Some(name()))),
                3 => Some(Command::Cancel),
                4 | 5 => Some(Command::Restart),
                6 => Some(Command::Rescale(random.between(1, 2) as u32)),
                7 => Some(Command::Delete),
                8 => Some(Command::CreateSavepoint(name())),
                9 => some_savepoint.clone().map(Command::DeleteSavepoint),
                10 => Some(Command::CreateCheckpoint),
                11 => checkpoints.first().copied().map(Command::DeleteCheckpoint),
                12 if self.drained.is_empty() => Some(Command::Drain(worker(random))),
                14..=17 => Some(Command::Update {
                    variant: match random.per_mille(700) {
                        true => Variant::Working(number + 1),
                        false => Variant::Failing(number + 1),
                    },
                    savepoint: random.per_mille(400).then(name),
                }),
                _ => some_drained.clone().map(Command::Undrain),
            };
            let makes_sense = |command: &Command| match command {
                Command::Stop(_) | Command::Cancel | Command::CreateCheckpoint => self.status == JobStatus::Running,
                Command::Delete => self.status != JobStatus::Running,
                _ => true,
            };
            if let Some(command) = drawn.filter(makes_sense) {
                return command;
            }
        }
    }

    /// The state after a command that was carried out.
    fn after(&self, command: &Command) -> Self {
        let mut next = self.clone();
        match command {
            Command::Submit => {
                next.status = JobStatus::Running;
                next.variant = Variant::Working(0);
                next.update = None;
            }
            Command::Stop(savepoint) => {
                next.status = JobStatus::Stopped;
                next.savepoints.extend(savepoint.clone());
            }
            Command::Cancel => next.status = JobStatus::Cancelled,
            Command::Restart => next.status = JobStatus::Running,
            Command::Rescale(parallelism) => next.parallelism = *parallelism,
            Command::Update { variant, savepoint } => {
                next.savepoints.extend(savepoint.clone());
                match variant {
                    Variant::Working(_) => {
                        next.status = JobStatus::Running;
                        next.variant = *variant;
                        next.update = Some(v1::job_update::State::Confirmed);
                    }
                    Variant::Failing(_) => {
                        if self.status != JobStatus::Running {
                            next.status = JobStatus::Failed;
                        }
                        next.update = Some(v1::job_update::State::Reverted);
                    }
                }
            }
            Command::Delete => next.status = JobStatus::Absent,
            Command::CreateSavepoint(name) => drop(next.savepoints.insert(name.clone())),
            Command::DeleteSavepoint(name) => drop(next.savepoints.remove(name)),
            Command::CreateCheckpoint => {}
            Command::DeleteCheckpoint(checkpoint) => drop(next.deleted_checkpoints.insert(*checkpoint)),
            Command::Drain(worker) => drop(next.drained.insert(worker.clone())),
            Command::Undrain(worker) => drop(next.drained.remove(worker)),
        }
        next
    }

    /// Returns a command that is still needed until the job runs on all workers.
    fn missing(&self) -> Option<Command> {
        if let Some(worker) = self.drained.first() {
            return Some(Command::Undrain(worker.clone()));
        }
        match self.status {
            JobStatus::Absent => Some(Command::Submit),
            JobStatus::Stopped | JobStatus::Cancelled | JobStatus::Failed => Some(Command::Restart),
            JobStatus::Running => None,
        }
    }

    /// Compares the model with an observation. Returns the difference.
    fn difference(&self, plan: &ClientPlan, seen: &Observation) -> Option<String> {
        let state = seen.job.as_ref().map(v1::Job::state);
        let wanted = match self.status {
            JobStatus::Absent => None,
            JobStatus::Running => Some(v1::JobState::Running),
            JobStatus::Stopped => Some(v1::JobState::Stopped),
            JobStatus::Cancelled => Some(v1::JobState::Cancelled),
            JobStatus::Failed => Some(v1::JobState::Failed),
        };
        if seen
            .job
            .as_ref()
            .is_some_and(|job| job.reason.starts_with("being deleted"))
        {
            return Some("the job is being deleted".into());
        }
        if state != wanted {
            return Some(format!("the job is {state:?}, not {wanted:?}"));
        }
        let parallelism = seen.job.as_ref().map_or(self.parallelism, |job| job.parallelism);
        if parallelism != self.parallelism {
            return Some(format!("its parallelism is {parallelism}, not {}", self.parallelism));
        }
        if let Some(job) = &seen.job {
            let update = job.update.as_ref().map(v1::JobUpdate::state);
            if update != self.update {
                return Some(format!("its update is {update:?}, not {:?}", self.update));
            }
            let fingerprint = fingerprint(plan, self.variant);
            if job.fingerprint != fingerprint {
                let (found, variant) = (&job.fingerprint, self.variant);
                return Some(format!("its pipeline is {found}, not {fingerprint} ({variant:?})"));
            }
        }
        if seen.savepoints != self.savepoints {
            return Some(format!(
                "its savepoints are {:?}, not {:?}",
                seen.savepoints, self.savepoints
            ));
        }
        if let Some(kept) = seen
            .checkpoints
            .iter()
            .find(|checkpoint| self.deleted_checkpoints.contains(checkpoint))
        {
            return Some(format!("checkpoint {kept} is still there"));
        }
        for (worker, state) in &seen.workers {
            let wanted = match self.drained.contains(worker) {
                true => "draining",
                false => "ready",
            };
            if state != wanted {
                return Some(format!("{worker} is {state}, not {wanted}"));
            }
        }
        None
    }
}

/// Returns the fingerprint of one of the job's pipelines, as the coordinator shows it.
fn fingerprint(plan: &ClientPlan, variant: Variant) -> String {
    let pipeline = sent_pipeline(&ClientPlan {
        variant,
        ..plan.clone()
    });
    let resolved = resolve::resolve(&pipeline, &Overrides::default(), 0).expect("the pipeline is valid");
    format!("{:016x}", resolved.resolved.fingerprint)
}

/// Runs a client that sends commands and checks their effects.
pub async fn client(plan: ClientPlan, seed: u64) {
    let mut random = Random(seed);
    if let Err(violation) = run_commands(&plan, &mut random).await {
        world().violated(violation);
    }
    world().unfinished = 0;
}

async fn run_commands(plan: &ClientPlan, random: &mut Random) -> Result<(), String> {
    let mut model = Model {
        status: JobStatus::Absent,
        parallelism: plan.parallelism as u32,
        variant: plan.variant,
        update: None,
        savepoints: BTreeSet::new(),
        deleted_checkpoints: BTreeSet::new(),
        drained: BTreeSet::new(),
    };
    let mut checkpoints = Vec::new();
    for number in 0..random.between(2, 6) {
        let command = model.draw(random, &checkpoints, number);
        (model, checkpoints) = step(
            plan,
            model,
            &command,
            Some((LeaderFault::draw(random), LeaderFault::draw_next(random))),
        )
        .await?;
    }
    // There are no more faults, and the client has nothing to repair before its commands succeed.
    world().clear_faults();
    let mut tries = 0;
    while let Some(command) = model.missing() {
        tries += 1;
        if tries > FINAL_TRIES_MAX {
            return Err(format!(
                "{command:?} was in vain {FINAL_TRIES_MAX} times, although nothing happens any more"
            ));
        }
        (model, _) = step(plan, model, &command, None).await?;
    }
    world().is_endless = false;
    let end_ns = kernel::now_ns() + END_NS;
    loop {
        match observe(plan).await {
            Some(Observation { job: Some(job), .. }) if job.state() == v1::JobState::Finished => return Ok(()),
            seen if kernel::now_ns() > end_ns => return Err(format!("the job has not finished: {seen:?}")),
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Sends a command, and returns the state that the cluster reaches.
async fn step(
    plan: &ClientPlan,
    model: Model,
    command: &Command,
    leader_fault: Option<(LeaderFault, Option<LeaderFault>)>,
) -> Result<(Model, Vec<u64>), String> {
    let struck = match &leader_fault {
        Some((leader_fault, None)) => format!("{leader_fault:?}"),
        Some((leader_fault, Some(next))) => format!("{leader_fault:?}, then {next:?}"),
        None => "nothing".into(),
    };
    world().note(&format!("client: {command:?}, while {struck} happens to the leader"));
    if let Some((leader_fault, next)) = leader_fault {
        world().schedule_leader_fault(leader_fault, next);
    }
    let answer = send(plan, command).await;
    world().note(&format!("client: {command:?}: {answer}"));
    tokio::time::sleep(FAULT_AFTER_ANSWER).await;
    world().clear_leader_fault();
    let mut done = model.after(command);
    if *command == Command::Submit {
        done.parallelism = plan.parallelism as u32;
    }
    let with_savepoint = match command {
        Command::Update {
            savepoint: Some(savepoint),
            ..
        } => {
            let mut with_savepoint = model.clone();
            with_savepoint.savepoints.insert(savepoint.clone());
            Some(with_savepoint)
        }
        _ => None,
    };
    let possible: Vec<Model> = match &answer {
        Answer::Done(_) => vec![done],
        Answer::Refused(why) if why.contains("was taken as checkpoint") => with_savepoint.into_iter().collect(),
        Answer::Refused(_) => vec![model.clone()],
        // The savepoint comes before the update.
        Answer::Unknown(_) => [done, model.clone()].into_iter().chain(with_savepoint).collect(),
    };
    if *command == Command::Submit && possible.iter().any(|model| model.status == JobStatus::Running) {
        world().submissions += 1;
    }
    let during = format!("{command:?} ({answer}; {struck})");
    let found = wait_for_model(plan, &possible).await;
    let found = found.map_err(|why| format!("after {during}: {why}; before it was {model:?}"))?;
    tokio::time::sleep(STABLE_TIME).await;
    let lasts = wait_for_model(plan, &[found]).await;
    let model = lasts.map_err(|why| format!("some time after {during}: {why}"))?;
    let mut checkpoints = Vec::new();
    if let Some(seen) = observe(plan).await {
        if let Answer::Done(Some(made)) = answer
            && seen.checkpoints.first().is_some_and(|newest| *newest < made)
        {
            return Err(format!(
                "checkpoint {made} was made, but there are {:?}",
                seen.checkpoints
            ));
        }
        // Checkpoints that may be deleted: neither savepoints nor the newest.
        checkpoints = seen.checkpoints.iter().rev().copied().collect();
        checkpoints.truncate(checkpoints.len().saturating_sub(1));
    }
    Ok((model, checkpoints))
}

/// Waits until the cluster is in one of these states, and returns it.
async fn wait_for_model(plan: &ClientPlan, possible: &[Model]) -> Result<Model, String> {
    let end_ns = kernel::now_ns() + CONVERGENCE_NS;
    let mut why = String::new();
    while kernel::now_ns() < end_ns {
        if let Some(seen) = observe(plan).await {
            for model in possible {
                match model.difference(plan, &seen) {
                    None => return Ok(model.clone()),
                    Some(differs) => why = differs,
                }
            }
            let reason = seen.job.map(|job| job.reason).unwrap_or_default();
            why = format!("{why} ({reason})");
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(format!("{why}, {} s later", CONVERGENCE_NS / 1_000_000_000))
}

/// Sends a command to the leader, as `engine-cli` does: a call that another coordinator refuses has no effect.
async fn send(plan: &ClientPlan, command: &Command) -> Answer {
    let end_ns = kernel::now_ns() + LEADER_TIMEOUT_NS;
    while kernel::now_ns() < end_ns {
        for coordinator in COORDINATORS {
            let Some(channel) = reach(&url_of(coordinator)).await else {
                continue;
            };
            let refused = match tokio::time::timeout(CALL_TIMEOUT, call(plan, command, channel)).await {
                Err(_) => return Answer::Unknown("no answer".into()),
                Ok(Ok(made)) => return Answer::Done(made),
                Ok(Err(refused)) => refused,
            };
            let message = refused.message().to_string();
            match status::detail(&refused).map(|detail| detail.code).as_deref() {
                Some("not-leader") => {}
                // An internal error is a violation: faults of a leader are no bugs.
                Some("internal") => world().violated(format!("{command:?}: {message}")),
                Some("unavailable") if !message.contains("so nothing was changed") => return Answer::Unknown(message),
                Some(_) => return Answer::Refused(message),
                None => return Answer::Unknown(message),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
    Answer::Refused("nobody leads".into())
}

async fn reach(address: &str) -> Option<Channel> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect::coordinator(address));
    connected.await.ok()?.ok()
}

async fn call(plan: &ClientPlan, command: &Command, channel: Channel) -> Result<Option<u64>, Status> {
    let mut jobs = JobServiceClient::new(channel.clone());
    let mut checkpoints = CheckpointServiceClient::new(channel.clone());
    let mut workers = WorkerServiceClient::new(channel);
    let name = plan.workload.job();
    let job = name.clone();
    fn none<T>(_: Response<T>) -> Option<u64> {
        None
    }
    fn made(made: Response<v1::Checkpoint>) -> Option<u64> {
        Some(made.into_inner().checkpoint)
    }
    match command.clone() {
        Command::Submit => jobs.submit(submission(plan)).await.map(none),
        Command::Stop(savepoint) => jobs.stop(v1::StopJobRequest { name, savepoint }).await.map(none),
        Command::Cancel => jobs.cancel(v1::CancelJobRequest { name }).await.map(none),
        Command::Restart => jobs
            .restart(v1::RestartJobRequest {
                name,
                allow_duplicates: false,
            })
            .await
            .map(none),
        Command::Rescale(parallelism) => {
            let parallelism = Some(parallelism);
            jobs.rescale(v1::RescaleJobRequest { name, parallelism })
                .await
                .map(none)
        }
        Command::Update { variant, savepoint } => {
            let pipeline = Some(sent_pipeline(&ClientPlan {
                variant,
                ..plan.clone()
            }));
            let request = v1::UpdateJobRequest {
                pipeline,
                savepoint,
                ..v1::UpdateJobRequest::default()
            };
            jobs.update(request).await.map(none)
        }
        Command::Delete => jobs.delete(v1::DeleteJobRequest { name }).await.map(none),
        Command::CreateSavepoint(savepoint) => {
            let name = Some(savepoint);
            let request = v1::CreateSavepointRequest { job, name };
            checkpoints.create_savepoint(request).await.map(made)
        }
        Command::DeleteSavepoint(name) => {
            let request = v1::DeleteSavepointRequest { job, name };
            checkpoints.delete_savepoint(request).await.map(none)
        }
        Command::CreateCheckpoint => {
            let request = v1::CreateCheckpointRequest { job };
            checkpoints.create(request).await.map(made)
        }
        Command::DeleteCheckpoint(checkpoint) => {
            let request = v1::DeleteCheckpointRequest { job, checkpoint };
            checkpoints.delete(request).await.map(none)
        }
        Command::Drain(name) => {
            let request = v1::DrainWorkerRequest { name, undo: false };
            workers.drain(request).await.map(none)
        }
        Command::Undrain(name) => {
            let request = v1::DrainWorkerRequest { name, undo: true };
            workers.drain(request).await.map(none)
        }
    }
}

/// Observes the cluster through the leader; `None`: no leader answers.
async fn observe(plan: &ClientPlan) -> Option<Observation> {
    for coordinator in COORDINATORS {
        let Some(channel) = reach(&url_of(coordinator)).await else {
            continue;
        };
        if let Ok(Ok(seen)) = tokio::time::timeout(CALL_TIMEOUT, observe_at(plan, channel)).await {
            return Some(seen);
        }
    }
    None
}

async fn observe_at(plan: &ClientPlan, channel: Channel) -> Result<Observation, Status> {
    let name = plan.workload.job();
    let job = found(JobServiceClient::new(channel.clone()).get(v1::GetJobRequest { name: name.clone() })).await?;
    let listed = v1::ListCheckpointsRequest {
        job: name,
        savepoints_only: false,
    };
    let listed = found(CheckpointServiceClient::new(channel.clone()).list(listed)).await?;
    let checkpoints = listed.map(|listed| listed.checkpoints).unwrap_or_default();
    let workers = WorkerServiceClient::new(channel)
        .list(v1::ListWorkersRequest {})
        .await?;
    let savepoints = checkpoints
        .iter()
        .filter_map(|listed| listed.savepoint.clone())
        .collect();
    let workers = workers.into_inner().workers.into_iter();
    Ok(Observation {
        job,
        savepoints,
        checkpoints: checkpoints.iter().map(|listed| listed.checkpoint).collect(),
        workers: workers.map(|worker| (worker.name, worker.state)).collect(),
    })
}

/// Awaits a call; `None` if the object does not exist.
async fn found<T>(asked: impl Future<Output = Result<Response<T>, Status>>) -> Result<Option<T>, Status> {
    match asked.await {
        Ok(answer) => Ok(Some(answer.into_inner())),
        Err(refused) if refused.code() == tonic::Code::NotFound => Ok(None),
        Err(refused) => Err(refused),
    }
}
