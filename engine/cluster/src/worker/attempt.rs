//! A part of a job in this worker, from its deployment until nothing of it runs.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_connectors::{JobIdentity, Split, registry};
use millstream_planner::graph::{JobGraph, NodeIndex, Operator, OperatorId};
use millstream_proto::v1;
use millstream_proto::v1::attempt_report::Event;
use millstream_runtime::elsewhere::{Elsewhere, Part};
use millstream_runtime::job::{self as runtime, Command, Deployment, RunningJob, SubtaskState, TaskEvent};
use millstream_runtime::progress::JobCounters;
use millstream_state::checkpoint::CheckpointStore;
use millstream_state::store::Backend;
use millstream_state::threads;
use tokio::sync::{mpsc, oneshot};

use crate::exchange::{Attempt, Broken, Exchange};
use crate::{Error, control, encoding, resolve, restart};

/// How long tasks may take to end after they were told to.
pub const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// What an attempt needs of the worker.
pub struct Ground {
    pub exchange: Exchange,
    pub backend: Backend,
    pub reports: mpsc::Sender<v1::AttemptReport>,
}

/// Restores, deploys when it is told to start, runs, reports. The last report is always that it has stopped.
pub async fn run(
    ground: Ground,
    deploy: v1::Deploy,
    counters: Arc<OnceLock<Arc<JobCounters>>>,
    start: oneshot::Receiver<()>,
    mut commands: mpsc::Receiver<Command>,
) {
    let says = Says {
        reports: ground.reports.clone(),
        job: deploy.job.clone(),
        attempt: deploy.attempt.clone(),
    };
    let workers = deploy
        .workers
        .iter()
        .map(|worker| (worker.name.clone(), worker.address.clone()));
    let slots = deploy.slots.iter().map(|worker| *worker as usize).collect();
    let own = deploy.self_ as usize;
    let (carrier, mut broken) = ground
        .exchange
        .attempt(&deploy.job, &deploy.attempt, workers.collect(), slots, own);
    let deployed = tokio::select! {
        deployed = deployed(&ground, &deploy, &carrier, &says, start) => deployed,
        () = cancelled(&mut commands) => Ok(None),
    };
    match deployed {
        Ok(None) => {}
        Err(error) => {
            says.say(Event::Failed(v1::TaskFailed {
                may_pass: restart::error_may_pass(&error),
                is_damage: error.is_damage(),
                message: error.to_string(),
                ..v1::TaskFailed::default()
            }))
            .await;
        }
        Ok(Some(mut running)) => {
            if counters.set(running.counters()).is_err() {
                tracing::debug!(job = deploy.job, "its counters were known");
            }
            ground.exchange.open(&carrier);
            tracing::info!("tasks run in {} of {} slots", slots_here(&deploy), deploy.slots.len());
            says.say(Event::Deployed(v1::Deployed {})).await;
            go_on(&says, &mut running, &mut commands, &mut broken).await;
        }
    }
    ground.exchange.close(&carrier);
    tracing::info!("tasks have ended");
    says.say(Event::Stopped(v1::Stopped {})).await;
}

fn slots_here(deploy: &v1::Deploy) -> usize {
    deploy.slots.iter().filter(|worker| **worker == deploy.self_).count()
}

/// Resolves when the attempt is cancelled; other commands make no sense before it runs.
async fn cancelled(commands: &mut mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        if matches!(command, Command::Cancel) {
            return;
        }
    }
}

/// Tasks that run; `None`: nobody is left who could tell them to start.
async fn deployed(
    ground: &Ground,
    deploy: &v1::Deploy,
    carrier: &Arc<Attempt>,
    says: &Says,
    start: oneshot::Receiver<()>,
) -> Result<Option<RunningJob>, Error> {
    let span = tracing::info_span!(
        target: control::TARGET,
        "restore tasks",
        job = deploy.job,
        attempt = deploy.attempt,
        slots = slots_here(deploy),
    );
    control::follow(&span, &deploy.trace_parent);
    let restored = control::step(span, async {
        let deployment = deployment(ground, deploy, carrier).await?;
        let restored = runtime::restore(&deployment).await?;
        Ok::<_, Error>((deployment, restored))
    });
    let (deployment, restored) = restored.await?;
    says.say(Event::Restored(v1::Restored {})).await;
    if start.await.is_err() {
        return Ok(None);
    }
    Ok(Some(runtime::deploy(deployment, restored).await?))
}

async fn deployment(ground: &Ground, deploy: &v1::Deploy, carrier: &Arc<Attempt>) -> Result<Deployment, Error> {
    let resolved = deploy
        .resolved
        .clone()
        .ok_or_else(|| Error::Failed("the deployment has no job".into()))?;
    let graph = threads::blocking(move || resolve::plan(&resolved))
        .await
        .map_err(|error| Error::Failed(format!("planning ended: {error}")))??;
    let store = CheckpointStore::open(&deploy.checkpoint_storage, &deploy.job).await?;
    let slots = deploy.slots.iter().enumerate();
    let part = Part {
        slots: slots
            .filter(|(_, worker)| **worker == deploy.self_)
            .map(|(slot, _)| slot)
            .collect(),
        slots_total: deploy.slots.len(),
        elsewhere: Some(Arc::clone(carrier) as Arc<dyn Elsewhere>),
    };
    let splits: HashMap<NodeIndex, Vec<Vec<Split>>> = encoding::decode(&deploy.splits, "the list of splits")?;
    let restore: Vec<(String, Vec<SubtaskState>)> = encoding::decode(&deploy.restore, "the state to restore")?;
    let (sources, sinks) = ends(&graph)?;
    let options = runtime::Options {
        batch: deploy
            .resolved
            .as_ref()
            .is_some_and(|job| job.mode() == v1::Mode::Batch),
        ..runtime::Options::default()
    };
    Ok(Deployment {
        graph: Arc::new(graph),
        identity: JobIdentity {
            job: deploy.job.clone(),
            attempt: deploy.attempt.clone(),
        },
        parallelism: deploy.parallelism as usize,
        slots: deploy.slots.len(),
        part: Some(part),
        sources,
        sinks,
        splits,
        splits_are_final: deploy.splits_are_final,
        restore: restore
            .into_iter()
            .map(|(operator, states)| (OperatorId(operator), states))
            .collect(),
        backend: ground.backend.with_files(store.files(deploy.checkpoint_epoch)),
        runtime: tokio::runtime::Handle::current(),
        options,
    })
}

type Ends = (
    HashMap<NodeIndex, Arc<dyn millstream_connectors::Source>>,
    HashMap<NodeIndex, Arc<dyn millstream_connectors::Sink>>,
);

fn ends(graph: &JobGraph) -> Result<Ends, Error> {
    let (mut sources, mut sinks): Ends = Default::default();
    for (index, node) in graph.nodes.iter().enumerate() {
        match &node.operator {
            Operator::Source(source) => {
                sources.insert(index, registry::source(&source.table)?);
            }
            Operator::Sink(sink) => {
                sinks.insert(index, registry::sink(&sink.table)?);
            }
            _ => {}
        }
    }
    Ok((sources, sinks))
}

/// Until nothing runs any more.
async fn go_on(
    says: &Says,
    running: &mut RunningJob,
    commands: &mut mpsc::Receiver<Command>,
    broken: &mut mpsc::Receiver<Broken>,
) {
    let mut commands_end = false;
    loop {
        tokio::select! {
            event = running.next_event() => match event {
                Some(TaskEvent::Stopped) | None => return,
                Some(event) => says.event(event).await,
            },
            command = commands.recv(), if !commands_end => {
                commands_end = command.is_none();
                // Nobody is left who could say more.
                let command = command.unwrap_or(Command::Cancel);
                if let Err(error) = running.send(command) {
                    says.failed("", 0, error.to_string(), true, "").await;
                }
            }
            Some(broken) = broken.recv() => {
                let message = format!("the connection with worker {} broke: {}", broken.peer, broken.reason);
                says.failed("", 0, message, true, &broken.peer).await;
                if let Err(error) = running.send(Command::Cancel) {
                    tracing::warn!(job = says.job, "{error}");
                }
            }
        }
    }
}

/// The attempt's voice.
struct Says {
    reports: mpsc::Sender<v1::AttemptReport>,
    job: String,
    attempt: String,
}

impl Says {
    async fn say(&self, event: Event) {
        let report = v1::AttemptReport {
            job: self.job.clone(),
            attempt: self.attempt.clone(),
            event: Some(event),
        };
        if self.reports.send(report).await.is_err() {
            tracing::debug!(job = self.job, "the worker has ended");
        }
    }

    async fn failed(&self, operator: &str, subtask: usize, message: String, may_pass: bool, peer: &str) {
        tracing::error!(operator, subtask, "{message}");
        self.say(Event::Failed(v1::TaskFailed {
            operator: operator.to_string(),
            subtask: subtask as u32,
            message,
            may_pass,
            peer: peer.to_string(),
            is_damage: false,
        }))
        .await;
    }

    async fn event(&self, event: TaskEvent) {
        match event {
            TaskEvent::Snapshot {
                checkpoint,
                operator,
                state,
            } => match encoding::encode(&state) {
                Ok(state) => {
                    self.say(Event::Snapshot(v1::SnapshotDone {
                        checkpoint,
                        operator: operator.0,
                        state,
                    }))
                    .await;
                }
                Err(error) => {
                    self.failed(&operator.0, state.subtask, error.to_string(), false, "")
                        .await
                }
            },
            TaskEvent::SnapshotFailed {
                checkpoint,
                operator,
                subtask,
                error,
                rows_lost,
            } => {
                self.say(Event::SnapshotFailed(v1::SnapshotFailed {
                    checkpoint,
                    operator: operator.0,
                    subtask: subtask as u32,
                    reason: error.to_string(),
                    rows_lost,
                }))
                .await;
            }
            TaskEvent::Finished => self.say(Event::Finished(v1::Finished {})).await,
            TaskEvent::Failed {
                operator,
                subtask,
                error,
            } => {
                let may_pass = restart::may_pass(&error);
                self.failed(&operator.0, subtask, error.to_string(), may_pass, "").await;
            }
            TaskEvent::Stopped => {}
        }
    }
}
