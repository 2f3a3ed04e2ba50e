//! The client API of a leading coordinator.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::{self, BoxStream, StreamExt};
use millstream_planner::{Mode, explain};
use millstream_proto::v1;
use millstream_state::threads;

use crate::api::{self, Api, Code};
use crate::compatibility::{self, Findings, Verdict};
use crate::coordinator::checkpoints::{self, LoadedCheckpoint};
use crate::coordinator::leader::Leader;
use crate::coordinator::ledger::{DesiredState, LatestUpdate, Record, Status, Transition};
use crate::coordinator::slots::{Reachability, WorkerState};
use crate::coordinator::state::Request;
use crate::coordinator::{deletion, job_view, now_us, transactions, update};
use crate::resolve::{self, Overrides, Resolved};
use crate::{Error, Start, attempt, stored_pipeline};

/// Changes that come faster than this are told together.
const WATCH_INTERVAL: Duration = Duration::from_millis(100);

const DAY_US: i64 = 24 * 3600 * 1_000_000;

/// A leader as clients see it.
#[derive(Clone)]
pub struct LeaderApi(pub Arc<Leader>);

#[async_trait]
impl Api for LeaderApi {
    async fn submit(&self, mut request: v1::SubmitRequest) -> Result<v1::SubmitResponse, api::Error> {
        let mode = request.mode.map(|_| mode(request.mode()));
        let resolved = resolve_pipeline(request.pipeline.take(), request.name.take(), mode).await?;
        let mut response = v1::SubmitResponse {
            plan: explain::explain(&resolved.graph),
            ..v1::SubmitResponse::default()
        };
        if request.parallelism_auto && request.parallelism.is_some() {
            return Err(invalid("a parallelism is a number or auto, not both"));
        }
        response.notes.clone_from(&resolved.notes);
        let record = self.record(&resolved, request.parallelism, request.parallelism_auto)?;
        check_connectors(&resolved, &record).await?;
        let from = match &request.from {
            None => None,
            Some(from) => Some(
                self.load_compatible(from, &resolved, &request, &mut response.notes)
                    .await?,
            ),
        };
        self.0.with(|inner| inner.state.check_submit(&record.name))?;
        resolve::look_up(&resolved).await.map_err(not_found)?;
        if request.dry_run {
            return Ok(response);
        }
        let name = record.name.clone();
        self.accept(record, from, &resolved).await?;
        response.job = Some(self.describe(&name)?);
        Ok(response)
    }

    async fn validate(&self, request: v1::ValidateRequest) -> Result<v1::ValidateResponse, api::Error> {
        let mode = request.mode.map(|_| mode(request.mode()));
        match resolve_pipeline(request.pipeline, request.name, mode).await {
            Ok(resolved) => Ok(v1::ValidateResponse {
                valid: true,
                mistakes: Vec::new(),
                plan: explain::explain(&resolved.graph),
                notes: resolved.notes,
            }),
            Err(error) if error.code == Code::InvalidPipeline => Ok(v1::ValidateResponse {
                valid: false,
                mistakes: error.mistakes,
                plan: String::new(),
                notes: Vec::new(),
            }),
            Err(error) => Err(error),
        }
    }

    async fn diff(&self, request: v1::DiffRequest) -> Result<v1::DiffResponse, api::Error> {
        let from = request
            .from
            .ok_or_else(|| invalid("say which job's checkpoint is meant (`from`)"))?;
        let resolved = resolve_pipeline(request.pipeline, None, None).await?;
        let found = checkpoints::load(&self.0, &from).await?;
        let findings = compare_with_checkpoint(&found, &resolved).await?;
        Ok(v1::DiffResponse {
            verdict: job_view::verdict(findings.verdict()) as i32,
            operators: findings.operators.iter().map(job_view::operator_diff).collect(),
            findings: findings.refusals(false).into_iter().chain(findings.notes).collect(),
            checkpoint: found.info.checkpoint,
        })
    }

    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, api::Error> {
        let response = self.0.with(|inner| {
            let jobs = inner.state.jobs().iter();
            let (wanted, left_out): (Vec<_>, Vec<_>) =
                jobs.partition(|(_, job)| request.all || !job.visible_transition().status.is_terminal());
            let described = wanted
                .into_iter()
                .map(|(name, job)| job_view::job(job, inner.runs.get(name), inner.state.slots(), false));
            let since_us = now_us() - DAY_US;
            let failed = left_out.iter().map(|(_, job)| job.visible_transition());
            let failed = failed.filter(|told| told.status == Status::Failed && told.at_us >= since_us);
            v1::ListJobsResponse {
                jobs: described.collect(),
                failed_last_day: failed.count() as u32,
                ended: left_out.len() as u32,
            }
        });
        Ok(response)
    }

    async fn job(&self, request: v1::GetJobRequest) -> Result<v1::Job, api::Error> {
        self.describe(&request.name)
    }

    async fn watch(&self, request: v1::WatchJobsRequest) -> Result<BoxStream<'static, v1::JobEvent>, api::Error> {
        for name in &request.names {
            self.describe(name)?;
        }
        let mut versions = self.0.versions();
        versions.mark_changed();
        let leader = Arc::downgrade(&self.0);
        let told: BTreeMap<String, u64> = BTreeMap::new();
        let changes = stream::unfold((versions, told, true), move |(mut versions, told, first)| {
            let (leader, names) = (leader.clone(), request.names.clone());
            async move {
                if !first {
                    tokio::time::sleep(WATCH_INTERVAL).await;
                }
                versions.changed().await.ok()?;
                versions.borrow_and_update();
                let (events, told) = changed_jobs(&*leader.upgrade()?, &names, told);
                Some((stream::iter(events), (versions, told, false)))
            }
        });
        let leader = self.0.clone();
        let over = async move { leader.ended().await };
        Ok(changes.flatten().take_until(Box::pin(over)).boxed())
    }

    async fn stop(&self, request: v1::StopJobRequest) -> Result<v1::Job, api::Error> {
        if let Some(savepoint) = &request.savepoint {
            let record = self
                .0
                .with(|inner| Ok::<_, api::Error>(inner.state.job(&request.name)?.record.clone()))?;
            let promised = DesiredState::Stopped {
                savepoint: request.savepoint.clone(),
            };
            // Asked for again, it may have been made.
            if record.wanted != promised {
                checkpoints::check_savepoint_free(&record, savepoint).await?;
            }
        }
        let stop = Request::Stop {
            job: request.name.clone(),
            savepoint: request.savepoint,
        };
        self.change(stop, &request.name).await
    }

    async fn cancel(&self, request: v1::CancelJobRequest) -> Result<v1::Job, api::Error> {
        let job = request.name.clone();
        self.change(Request::Cancel { job }, &request.name).await
    }

    async fn rescale(&self, request: v1::RescaleJobRequest) -> Result<v1::Job, api::Error> {
        let rescale = Request::Rescale {
            job: request.name.clone(),
            parallelism: request.parallelism,
        };
        self.change(rescale, &request.name).await
    }

    async fn update(&self, request: v1::UpdateJobRequest) -> Result<v1::UpdateJobResponse, api::Error> {
        update::update(self, request).await
    }

    async fn restart(&self, request: v1::RestartJobRequest) -> Result<v1::Job, api::Error> {
        let restart = Request::Restart {
            job: request.name.clone(),
            allow_duplicates: request.allow_duplicates,
        };
        self.change(restart, &request.name).await
    }

    async fn delete(&self, request: v1::DeleteJobRequest) -> Result<v1::DeleteJobResponse, api::Error> {
        deletion::delete(&self.0, &request.name).await?;
        Ok(v1::DeleteJobResponse {})
    }

    async fn logs(&self, request: v1::JobLogsRequest) -> Result<BoxStream<'static, v1::LogLine>, api::Error> {
        self.0.with(|inner| inner.state.job(&request.name).map(|_| ()))?;
        Ok(self.0.log(&request.name).read(request.tail as usize, request.follow))
    }

    async fn list_checkpoints(
        &self,
        request: v1::ListCheckpointsRequest,
    ) -> Result<v1::ListCheckpointsResponse, api::Error> {
        Ok(v1::ListCheckpointsResponse {
            checkpoints: checkpoints::list(&self.0, &request.job, request.savepoints_only).await?,
        })
    }

    async fn inspect_checkpoint(
        &self,
        request: v1::InspectCheckpointRequest,
    ) -> Result<v1::CheckpointDetail, api::Error> {
        let wanted = request
            .checkpoint
            .ok_or_else(|| invalid("say which job's checkpoint is meant (`checkpoint`)"))?;
        Ok(checkpoints::describe(
            &wanted.job,
            &checkpoints::load(&self.0, &wanted).await?,
        ))
    }

    async fn verify_checkpoints(
        &self,
        request: v1::VerifyCheckpointsRequest,
    ) -> Result<BoxStream<'static, v1::VerifyEvent>, api::Error> {
        checkpoints::verify(&self.0, &request.job, request.checkpoint).await
    }

    async fn create_checkpoint(&self, request: v1::CreateCheckpointRequest) -> Result<v1::Checkpoint, api::Error> {
        checkpoints::create(&self.0, &request.job).await
    }

    async fn delete_checkpoint(
        &self,
        request: v1::DeleteCheckpointRequest,
    ) -> Result<v1::DeleteCheckpointResponse, api::Error> {
        checkpoints::delete(&self.0, &request.job, request.checkpoint).await?;
        Ok(v1::DeleteCheckpointResponse {})
    }

    async fn create_savepoint(&self, request: v1::CreateSavepointRequest) -> Result<v1::Checkpoint, api::Error> {
        let name = request
            .name
            .unwrap_or_else(|| format!("savepoint-{}", now_us() / 1_000_000));
        checkpoints::create_savepoint(&self.0, &request.job, &name).await
    }

    async fn delete_savepoint(
        &self,
        request: v1::DeleteSavepointRequest,
    ) -> Result<v1::DeleteSavepointResponse, api::Error> {
        checkpoints::delete_savepoint(&self.0, &request.job, &request.name).await?;
        Ok(v1::DeleteSavepointResponse {})
    }

    async fn list_workers(&self, _request: v1::ListWorkersRequest) -> Result<v1::ListWorkersResponse, api::Error> {
        Ok(v1::ListWorkersResponse {
            workers: self.workers(),
        })
    }

    async fn drain_worker(&self, request: v1::DrainWorkerRequest) -> Result<v1::Worker, api::Error> {
        let drain = Request::Drain {
            worker: request.name.clone(),
            undo: request.undo,
        };
        self.0.change(drain).await?;
        let worker = self.workers().into_iter().find(|worker| worker.name == request.name);
        // One that is not attached has nothing else to say.
        Ok(worker.unwrap_or_else(|| v1::Worker {
            name: request.name,
            state: "lost".into(),
            ..v1::Worker::default()
        }))
    }

    async fn list_transactions(
        &self,
        request: v1::ListTransactionsRequest,
    ) -> Result<v1::ListTransactionsResponse, api::Error> {
        transactions::list(&self.0, request).await
    }

    async fn abort_transactions(
        &self,
        request: v1::AbortTransactionsRequest,
    ) -> Result<v1::AbortTransactionsResponse, api::Error> {
        transactions::abort(&self.0, request).await
    }

    async fn info(&self, _request: v1::ClusterInfoRequest) -> Result<v1::ClusterInfo, api::Error> {
        let mut info = v1::ClusterInfo {
            version: env!("CARGO_PKG_VERSION").into(),
            epoch: self.0.epoch,
            is_leader: true,
            clock_us: now_us(),
            leader_since_us: self.0.since_us,
            ..v1::ClusterInfo::default()
        };
        self.0.with(|inner| {
            let slots = inner.state.slots();
            let there = slots.workers().values().filter(|worker| !worker.state.is_gone());
            info.workers = there.count() as u32;
            info.slots = slots.offered() as u32;
            info.slots_used = slots.used_total() as u32;
            let jobs = inner.state.jobs().values();
            info.jobs_running = jobs
                .filter(|job| job.record.current().status == Status::Running)
                .count() as u32;
        });
        Ok(info)
    }
}

impl LeaderApi {
    pub(super) fn describe(&self, name: &str) -> Result<v1::Job, api::Error> {
        self.0.with(|inner| {
            let job = inner.state.job(name)?;
            Ok(job_view::job(job, inner.runs.get(name), inner.state.slots(), true))
        })
    }

    async fn change(&self, request: Request, name: &str) -> Result<v1::Job, api::Error> {
        self.0.change(request).await?;
        self.describe(name)
    }

    /// The job as it will stand in the journal.
    fn record(&self, resolved: &Resolved, parallelism: Option<u32>, auto: bool) -> Result<Box<Record>, api::Error> {
        let max_parallelism = u32::from(resolved.graph.max_parallelism);
        let of_pipeline = resolved.settings.parallelism.map(|parallelism| parallelism as u32);
        let parallelism = parallelism.or(of_pipeline).filter(|_| !auto);
        if parallelism.is_some_and(|parallelism| parallelism == 0 || parallelism > max_parallelism) {
            return Err(invalid(&format!(
                "the parallelism can be 1 to {max_parallelism} (max_parallelism)"
            )));
        }
        let now_us = now_us();
        Ok(Box::new(Record {
            name: resolved.resolved.name.clone(),
            resolved: Arc::new(resolved.resolved.clone()),
            parallelism,
            max_parallelism,
            storage: resolved
                .settings
                .storage
                .clone()
                .unwrap_or_else(|| self.0.checkpoints.clone()),
            submitted_us: now_us,
            wanted: DesiredState::Running,
            allow_duplicates: false,
            attempts: 0,
            placement: None,
            run_totals: None,
            run_progress: None,
            deleting: false,
            update: LatestUpdate::None,
            transitions: VecDeque::from([Transition::new(Status::Submitted, now_us, "")]),
        }))
    }

    /// A checkpoint that a pipeline can begin with; from here on its state is that pipeline's.
    async fn load_compatible(
        &self,
        from: &v1::CheckpointRef,
        resolved: &Resolved,
        request: &v1::SubmitRequest,
        notes: &mut Vec<String>,
    ) -> Result<LoadedCheckpoint, api::Error> {
        let mut found = checkpoints::load(&self.0, from).await?;
        let mut findings = compare_with_checkpoint(&found, resolved).await?;
        if request.allow_dropped_state {
            for operator in findings.drop_lost() {
                found.snapshot.operators.remove(&operator);
                found.snapshot.signatures.remove(&operator);
            }
        }
        check_compatible(&findings, request.accept_changed_meaning, |problems| {
            let checkpoint = found.info.checkpoint;
            format!(
                "checkpoint {}/{checkpoint} does not fit the pipeline: {problems}",
                from.job
            )
        })?;
        notes.extend(findings.notes());
        found.snapshot.reassign_to(stored_pipeline::encode(&resolved.resolved));
        Ok(found)
    }

    /// Makes the job's first checkpoint, where it has one, then lets the journal say that there is such a job.
    async fn accept(
        &self,
        record: Box<Record>,
        from: Option<LoadedCheckpoint>,
        resolved: &Resolved,
    ) -> Result<(), api::Error> {
        let leader = &self.0;
        let _reserved = leader.reserve(&record.name)?;
        leader.with(|inner| inner.state.check_submit(&record.name))?;
        let prepared = prepare(leader, &record, from, resolved).await;
        if let Err(error) = prepared {
            leader.forget(&record.name, true);
            return Err(checkpoints::storage_error(error));
        }
        leader.change(Request::Submit(record)).await
    }

    /// What the leader decides about workers, and what they said of themselves.
    fn workers(&self) -> Vec<v1::Worker> {
        let attached = self.0.executors().workers();
        self.0.with(|inner| {
            let slots = inner.state.slots();
            let workers = slots.workers().iter().map(|(name, worker)| {
                let known = attached.iter().find(|attached| attached.name == *name).cloned();
                v1::Worker {
                    name: name.clone(),
                    slots: worker.slots,
                    slots_used: slots.used(name) as u32,
                    state: match (worker.state, &worker.reachability) {
                        (WorkerState::Ready, Reachability::Reached) => "ready",
                        (WorkerState::Ready, Reachability::Unknown) => "attaching",
                        (WorkerState::Ready, Reachability::Unreachable(_)) => "unreachable",
                        (WorkerState::Draining | WorkerState::Leaving, _) => "draining",
                        (WorkerState::Lost, _) => "lost",
                        (WorkerState::Left, _) => "left",
                    }
                    .into(),
                    reason: match (worker.state, &worker.reachability) {
                        (WorkerState::Ready | WorkerState::Draining, Reachability::Unreachable(reason)) => {
                            reason.clone()
                        }
                        _ => String::new(),
                    },
                    since_us: worker.since_us,
                    jobs: slots.jobs_on(name),
                    ..known.unwrap_or_default()
                }
            });
            workers.collect()
        })
    }
}

/// Refuses a pipeline whose sources and sinks cannot be made.
pub(super) async fn check_connectors(resolved: &Resolved, record: &Record) -> Result<(), api::Error> {
    let parallelism = record.parallelism.unwrap_or(1) as usize;
    let job = resolved.job(parallelism, record.storage.clone(), Start::Resume);
    // Making them may read files.
    let checked = threads::blocking(move || attempt::check_connectors(&job)).await;
    checked
        .map_err(|error| internal(&error))?
        .map_err(|error| invalid_pipeline(&error.to_string()))
}

/// Refuses a checkpoint that does not fit a pipeline. `message` puts the problems into a sentence.
pub(super) fn check_compatible(
    findings: &Findings,
    accept_changed_meaning: bool,
    message: impl FnOnce(&str) -> String,
) -> Result<(), api::Error> {
    let refusals = findings.refusals(accept_changed_meaning);
    if refusals.is_empty() {
        return Ok(());
    }
    let has = |verdict: Verdict| findings.operators.iter().any(|finding| finding.verdict == verdict);
    let mut problems = refusals.join("; ");
    if has(Verdict::LosesState) || has(Verdict::NeedsMigration) {
        problems.push_str(
            "; --allow-dropped-state of engine-cli (allow_dropped_state of the API) drops state that no operator takes",
        );
    }
    if has(Verdict::ChangedMeaning) {
        problems.push_str("; in the API, the flag is accept_changed_meaning");
    }
    Err(api::Error::new(Code::CheckpointDoesNotFit, message(&problems)))
}

/// A job begins with nothing or with a copy, whatever an earlier one of its name left.
async fn prepare(
    leader: &Leader,
    record: &Record,
    from: Option<LoadedCheckpoint>,
    resolved: &Resolved,
) -> Result<(), Error> {
    let history = leader.history(record).await?;
    let Some(found) = from else {
        let parallelism = record.parallelism.unwrap_or(1) as usize;
        let job = resolved.job(parallelism, record.storage.clone(), Start::Fresh);
        return history.start_fresh(&job, &crate::Progress::default()).await;
    };
    // Where the origin runs here, its retention waits.
    let origin = leader.known_history(found.store.job());
    let _pin = origin.map(|origin| origin.pin(found.info.checkpoint));
    history.adopt(&found.store, found.snapshot).await.map(|_| ())
}

/// What changed since it was last told, and what is known by now.
fn changed_jobs(
    leader: &Leader,
    names: &[String],
    mut told: BTreeMap<String, u64>,
) -> (Vec<v1::JobEvent>, BTreeMap<String, u64>) {
    let events = leader.with(|inner| {
        let jobs = inner.state.jobs();
        let mut events = Vec::new();
        told.retain(|name, _| {
            let exists = jobs.contains_key(name);
            if !exists {
                events.push(v1::JobEvent {
                    job: Some(v1::Job {
                        name: name.clone(),
                        ..v1::Job::default()
                    }),
                    deleted: true,
                });
            }
            exists
        });
        for (name, job) in jobs {
            if (names.is_empty() || names.contains(name)) && told.get(name) != Some(&job.version) {
                told.insert(name.clone(), job.version);
                events.push(v1::JobEvent {
                    job: Some(job_view::job(job, inner.runs.get(name), inner.state.slots(), true)),
                    deleted: false,
                });
            }
        }
        events
    });
    (events, told)
}

/// Planning is work for a while: not on a thread that serves others.
pub async fn resolve_pipeline(
    pipeline: Option<v1::Pipeline>,
    name: Option<String>,
    mode: Option<Mode>,
) -> Result<Resolved, api::Error> {
    let pipeline = pipeline.ok_or_else(|| invalid("there is no pipeline in the request"))?;
    let overrides = Overrides { name, mode };
    let resolved = threads::blocking(move || resolve::resolve(&pipeline, &overrides, now_us())).await;
    let resolved = resolved.map_err(|error| internal(&error))?.map_err(mistakes_error)?;
    if resolved.settings.explain {
        return Err(invalid_pipeline(
            "the script consists of EXPLAIN; there is nothing to run (validate shows its plan)",
        ));
    }
    Ok(resolved)
}

pub(super) async fn compare_with_checkpoint(
    found: &LoadedCheckpoint,
    resolved: &Resolved,
) -> Result<Findings, api::Error> {
    let snapshot = &found.snapshot;
    let now = Arc::new(resolved.resolved.clone());
    let compared = stored_pipeline::compare(snapshot, &now, None).await;
    let compared = compared.map_err(|error| internal(&error))?;
    let mut findings = compatibility::check(&resolved.graph, snapshot, &compared);
    // What they need shows when they are read.
    for (operator, states) in &snapshot.operators {
        if states.iter().any(|state| state.channel_state.is_some()) {
            findings.notes.push(format!(
                "rows were on their way to `{operator}` when the checkpoint was cut: if the pipeline no longer gives it a \
                 column that it took then, the restore is refused; a savepoint has no rows in flight"
            ));
        }
    }
    Ok(findings)
}

pub(super) fn mode(mode: v1::Mode) -> Mode {
    match mode {
        v1::Mode::Stream => Mode::Stream,
        v1::Mode::Batch => Mode::Batch,
    }
}

pub fn invalid(message: &str) -> api::Error {
    api::Error::new(Code::InvalidRequest, message)
}

pub(super) fn invalid_pipeline(message: &str) -> api::Error {
    api::Error {
        mistakes: vec![v1::Mistake {
            message: message.to_string(),
            ..v1::Mistake::default()
        }],
        ..api::Error::new(Code::InvalidPipeline, message)
    }
}

fn mistakes_error(mistakes: Vec<v1::Mistake>) -> api::Error {
    let count = mistakes.len();
    let first = mistakes
        .first()
        .map(|mistake| mistake.message.clone())
        .unwrap_or_default();
    let message = match count {
        1 => first,
        _ => format!("{first} (and {} more mistakes)", count - 1),
    };
    api::Error {
        mistakes,
        ..api::Error::new(Code::InvalidPipeline, message)
    }
}

/// What the pipeline reads or writes is not there.
pub(super) fn not_found(found: resolve::NotFound) -> api::Error {
    match found {
        resolve::NotFound::Mistakes(mistakes) => mistakes_error(mistakes),
        resolve::NotFound::Unavailable(reason) => api::Error::new(
            Code::Unavailable,
            format!("{reason}; nothing was submitted: try again once they answer"),
        ),
    }
}

pub fn internal(error: &dyn std::fmt::Display) -> api::Error {
    api::Error::new(Code::Internal, format!("the request did not end well: {error}"))
}
