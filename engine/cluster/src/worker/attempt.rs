//! One attempt in this worker, from its deployment until none of its tasks runs.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use millstream_connectors::{JobIdentity, Sink, Source, Split, registry};
use millstream_graph::{JobGraph, NodeIndex, Operator, OperatorId};
use millstream_proto::v1;
use millstream_proto::v1::attempt_report::Event;
use millstream_runtime::command::{Command as TaskCommand, TaskEvent};
use millstream_runtime::counters::JobCounters;
use millstream_runtime::deployment::{self, Deployment};
use millstream_runtime::job::RunningJob;
use millstream_runtime::remote_channel::{LocalSlots, RemoteTransport};
use millstream_runtime::sink_files::SinkFiles;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_state::checkpoint::CheckpointStore;
use millstream_state::store::Backend;
use millstream_state::threads;
use millstream_store_errors::Retry;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument;

use crate::exchange::{Attempt, BrokenStream, Exchange};
use crate::outage::ConnectorMonitor;
use crate::publish::{self, SubtaskOutput};
use crate::{Error, encoding, planning, spans};

/// Time for tasks to end after they were cancelled.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(30);

/// Time that an attempt which ends waits for publications under way. Restoring the checkpoint publishes them
/// otherwise.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);

/// An order of the coordinator to an attempt.
#[derive(Debug)]
pub(super) enum Command {
    Tasks(TaskCommand),
    Publish(v1::PublishOutput),
}

/// Status of an attempt whose tasks run.
pub(super) struct AttemptStatus {
    pub counters: Arc<JobCounters>,
    pub monitor: ConnectorMonitor,
}

/// The worker's resources that an attempt uses.
pub(super) struct WorkerContext {
    pub exchange: Exchange,
    pub backend: Backend,
    pub reports: mpsc::Sender<v1::AttemptReport>,
}

/// Restores the tasks, deploys them when `start` is signalled, and runs them. The last report is always `Stopped`.
pub(super) async fn run(
    context: WorkerContext,
    deploy: v1::Deploy,
    status: Arc<OnceLock<AttemptStatus>>,
    start: oneshot::Receiver<()>,
    mut commands: mpsc::Receiver<Command>,
) {
    let reporter = Reporter {
        reports: context.reports.clone(),
        job: deploy.job.clone(),
        attempt: deploy.attempt.clone(),
    };
    let workers = deploy
        .workers
        .iter()
        .map(|worker| (worker.name.clone(), worker.address.clone()));
    let slots = deploy.slots.iter().map(|worker| *worker as usize).collect();
    let own = deploy.self_ as usize;
    let (carrier, mut broken) = context
        .exchange
        .attempt(&deploy.job, &deploy.attempt, workers.collect(), slots, own);
    let deployed = tokio::select! {
        deployed = deploy_on_start(&context, &deploy, &carrier, &reporter, start) => deployed,
        () = wait_for_cancel(&mut commands) => Ok(None),
    };
    match deployed {
        Ok(None) => {}
        Err(error) => {
            reporter.deployment_failed(&error).await;
        }
        Ok(Some((mut running, sinks, monitor))) => {
            let counters = running.counters();
            if status.set(AttemptStatus { counters, monitor }).is_err() {
                tracing::debug!(job = deploy.job, "its status was set before");
            }
            context.exchange.open(&carrier);
            tracing::info!("tasks run in {} of {} slots", slots_here(&deploy), deploy.slots.len());
            reporter.send(Event::Deployed(v1::Deployed {})).await;
            let publisher = Publisher {
                sinks,
                reporter: reporter.clone(),
                order_lock: Arc::default(),
                in_progress: JoinSet::new(),
            };
            run_tasks(&reporter, &mut running, publisher, &mut commands, &mut broken).await;
        }
    }
    context.exchange.close(&carrier);
    tracing::info!("tasks have ended");
    reporter.send(Event::Stopped(v1::Stopped {})).await;
}

/// Reports that the worker cannot run an attempt.
pub(super) async fn refuse(reports: mpsc::Sender<v1::AttemptReport>, deploy: v1::Deploy, error: Error) {
    tracing::error!("tasks cannot run here: {error}");
    let reporter = Reporter {
        reports,
        job: deploy.job,
        attempt: deploy.attempt,
    };
    reporter.deployment_failed(&error).await;
    reporter.send(Event::Stopped(v1::Stopped {})).await;
}

fn slots_here(deploy: &v1::Deploy) -> usize {
    deploy.slots.iter().filter(|worker| **worker == deploy.self_).count()
}

/// Waits until the attempt is cancelled. Other commands have no effect before its tasks run.
async fn wait_for_cancel(commands: &mut mpsc::Receiver<Command>) {
    while let Some(command) = commands.recv().await {
        if matches!(command, Command::Tasks(TaskCommand::Cancel)) {
            return;
        }
    }
}

/// Restores the tasks, waits for `start` and deploys them. Returns `None` if the sender of `start` is gone.
async fn deploy_on_start(
    context: &WorkerContext,
    deploy: &v1::Deploy,
    carrier: &Arc<Attempt>,
    reporter: &Reporter,
    start: oneshot::Receiver<()>,
) -> Result<Option<(RunningJob, SinksById, ConnectorMonitor)>, Error> {
    let span = tracing::info_span!(
        target: spans::TARGET,
        "restore tasks",
        job = deploy.job,
        attempt = deploy.attempt,
        slots = slots_here(deploy),
    );
    spans::set_parent(&span, &deploy.trace_parent);
    let restored = spans::in_span(span, async {
        let deployment = prepare_deployment(context, deploy, carrier).await?;
        let restored = deployment::restore(&deployment).await?;
        Ok::<_, Error>((deployment, restored))
    });
    let (deployment, restored) = restored.await?;
    reporter.send(Event::Restored(v1::Restored {})).await;
    if start.await.is_err() {
        return Ok(None);
    }
    let by_id = |(node, sink): (&NodeIndex, &Arc<dyn Sink>)| (deployment.graph.nodes[*node].id.0.clone(), sink.clone());
    let sinks = deployment.sinks.iter().map(by_id).collect();
    let monitor = ConnectorMonitor::new(&deployment.graph, &deployment.sources, &deployment.sinks);
    Ok(Some((deployment::deploy(deployment, restored).await?, sinks, monitor)))
}

async fn prepare_deployment(
    context: &WorkerContext,
    deploy: &v1::Deploy,
    carrier: &Arc<Attempt>,
) -> Result<Deployment, Error> {
    let resolved = deploy
        .resolved
        .clone()
        .ok_or_else(|| Error::Failed("the deployment has no job".into()))?;
    let graph = threads::run_blocking(move || planning::plan(&resolved))
        .await
        .map_err(|error| Error::Failed(format!("planning ended: {error}")))??;
    let store = CheckpointStore::open(&deploy.checkpoint_storage, &deploy.job).await?;
    let slots = deploy.slots.iter().enumerate();
    let local_slots = LocalSlots {
        slots: slots
            .filter(|(_, worker)| **worker == deploy.self_)
            .map(|(slot, _)| slot)
            .collect(),
        slots_total: deploy.slots.len(),
        transport: Some(Arc::clone(carrier) as Arc<dyn RemoteTransport>),
    };
    let splits: HashMap<NodeIndex, Vec<Vec<Split>>> = encoding::decode(&deploy.splits, "the list of splits")?;
    let restore: Vec<(String, Vec<SubtaskState>)> = encoding::decode(&deploy.restore, "the state to restore")?;
    let (sources, sinks) = create_connectors(&graph)?;
    let files = store.files(deploy.checkpoint_epoch);
    for sink in sinks.values() {
        sink.use_storage(Arc::new(SinkFiles::new(files.clone())));
    }
    let options = deployment::Options {
        batch: deploy
            .resolved
            .as_ref()
            .is_some_and(|job| job.mode() == v1::Mode::Batch),
        ..deployment::Options::default()
    };
    Ok(Deployment {
        graph: Arc::new(graph),
        identity: JobIdentity {
            job: deploy.job.clone(),
            attempt: deploy.attempt.clone(),
        },
        parallelism: deploy.parallelism as usize,
        slots: deploy.slots.len(),
        local_slots: Some(local_slots),
        sources,
        sinks,
        splits,
        splits_are_final: deploy.splits_are_final,
        restore: restore
            .into_iter()
            .map(|(operator, states)| (OperatorId(operator), states))
            .collect(),
        backend: context.backend.with_files(files),
        runtime: tokio::runtime::Handle::current(),
        options,
    })
}

type Connectors = (HashMap<NodeIndex, Arc<dyn Source>>, HashMap<NodeIndex, Arc<dyn Sink>>);
/// Sinks by operator id.
type SinksById = HashMap<String, Arc<dyn Sink>>;

fn create_connectors(graph: &JobGraph) -> Result<Connectors, Error> {
    let (mut sources, mut sinks): Connectors = Default::default();
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

/// Runs the tasks until they have ended.
async fn run_tasks(
    reporter: &Reporter,
    running: &mut RunningJob,
    mut publisher: Publisher,
    commands: &mut mpsc::Receiver<Command>,
    broken: &mut mpsc::Receiver<BrokenStream>,
) {
    let mut commands_end = false;
    // A stop was ordered. Other workers may end sooner, so a broken stream is not an error then.
    let mut is_ending = false;
    loop {
        tokio::select! {
            event = running.next_event() => match event {
                Some(TaskEvent::Stopped) | None => break,
                Some(event) => reporter.event(event).await,
            },
            command = commands.recv(), if !commands_end => {
                commands_end = command.is_none();
                // A closed channel means that the worker has given the attempt up.
                let sent = match command.unwrap_or(Command::Tasks(TaskCommand::Cancel)) {
                    Command::Tasks(command) => {
                        is_ending |= ends_tasks(&command);
                        running.send(command)
                    }
                    Command::Publish(publish) => {
                        publisher.publish(publish);
                        Ok(())
                    }
                };
                if let Err(error) = sent {
                    reporter.task_failed("", 0, error.to_string(), Retry::Limited, "").await;
                }
            }
            Some(_) = publisher.in_progress.join_next() => {}
            Some(broken) = broken.recv() => {
                let message = format!("the connection with worker {} broke: {}", broken.peer, broken.reason);
                match is_ending || broken.is_orderly() {
                    true => tracing::info!("{message}; the attempt ends"),
                    false => tracing::error!("{message}"),
                }
                reporter.send_failed("", 0, message, Retry::Limited, &broken.peer).await;
                if let Err(error) = running.send(TaskCommand::Cancel) {
                    tracing::warn!(job = reporter.job, "{error}");
                }
            }
        }
    }
    publisher.finish().await;
}

/// Returns true if the command makes the tasks end.
fn ends_tasks(command: &TaskCommand) -> bool {
    matches!(
        command,
        TaskCommand::Cancel | TaskCommand::Checkpoint { last: true, .. }
    )
}

/// Publishes the prepared output of this worker's sinks.
struct Publisher {
    sinks: SinksById,
    reporter: Reporter,
    /// Held by the publication under way: checkpoints are published in order.
    order_lock: Arc<tokio::sync::Mutex<()>>,
    in_progress: JoinSet<()>,
}

impl Publisher {
    fn publish(&mut self, order: v1::PublishOutput) {
        let (sinks, reporter, order_lock) = (self.sinks.clone(), self.reporter.clone(), self.order_lock.clone());
        let checkpoint = order.checkpoint;
        let span = tracing::info_span!(target: spans::TARGET, parent: None, "publish", job = reporter.job, checkpoint);
        spans::set_parent(&span, &order.trace_parent);
        let work = async move {
            let _guard = order_lock.lock().await;
            let outputs: Vec<SubtaskOutput> = encoding::decode(&order.outputs, "the output to publish")?;
            for output in outputs {
                let unknown = || Error::Failed(format!("{}: there is no such sink here", output.operator));
                let sink = sinks.get(&output.operator).ok_or_else(unknown)?;
                let committed = publish::commit_with_retries(sink, output.committables).await;
                committed.map_err(|error| {
                    let retry = error.retry();
                    Error::Runtime(millstream_runtime::Error::Remote {
                        message: format!("{}: {error}", output.operator),
                        is_retryable: retry.is_retryable(),
                        is_disk_full: retry.is_disk_full(),
                    })
                })?;
            }
            Ok::<_, Error>(())
        };
        let work = async move {
            let (reason, is_disk_full) = match spans::in_span(span, work).await {
                Ok(()) => (String::new(), false),
                Err(error) => (error.to_string(), error.retry().is_disk_full()),
            };
            reporter
                .send(Event::Published(v1::OutputPublished {
                    checkpoint,
                    reason,
                    is_disk_full,
                }))
                .await;
        };
        // In the span of the tasks, so that log lines are attributed to this job.
        self.in_progress.spawn(work.in_current_span());
    }

    async fn finish(mut self) {
        let ended = async { while self.in_progress.join_next().await.is_some() {} };
        if tokio::time::timeout(PUBLISH_TIMEOUT, ended).await.is_err() {
            tracing::warn!("output that was being published is left to the next attempt");
        }
    }
}

/// Sends the attempt's reports to the coordinator.
#[derive(Clone)]
struct Reporter {
    reports: mpsc::Sender<v1::AttemptReport>,
    job: String,
    attempt: String,
}

impl Reporter {
    async fn send(&self, event: Event) {
        let report = v1::AttemptReport {
            job: self.job.clone(),
            attempt: self.attempt.clone(),
            event: Some(event),
        };
        if self.reports.send(report).await.is_err() {
            tracing::debug!(job = self.job, "the worker has ended");
        }
    }

    /// Reports a failure before any of the tasks runs.
    async fn deployment_failed(&self, error: &Error) {
        let retry = error.retry();
        self.send(Event::Failed(v1::TaskFailed {
            may_pass: retry.is_retryable(),
            is_damage: error.is_damage(),
            is_disk_full: retry.is_disk_full(),
            message: error.to_string(),
            ..v1::TaskFailed::default()
        }))
        .await;
    }

    async fn task_failed(&self, operator: &str, subtask: usize, message: String, retry: Retry, peer: &str) {
        tracing::error!(operator, subtask, "{message}");
        self.send_failed(operator, subtask, message, retry, peer).await;
    }

    async fn send_failed(&self, operator: &str, subtask: usize, message: String, retry: Retry, peer: &str) {
        self.send(Event::Failed(v1::TaskFailed {
            operator: operator.to_string(),
            subtask: subtask as u32,
            message,
            may_pass: retry.is_retryable(),
            peer: peer.to_string(),
            is_damage: false,
            is_disk_full: retry.is_disk_full(),
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
                Ok(encoded) => {
                    self.send(Event::Snapshot(v1::SnapshotDone {
                        checkpoint,
                        operator: operator.0,
                        state: encoded,
                        keyed_entries: state.keyed.as_ref().and_then(|keyed| keyed.entries),
                    }))
                    .await;
                }
                Err(error) => {
                    self.task_failed(&operator.0, state.subtask, error.to_string(), Retry::Never, "")
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
                self.send(Event::SnapshotFailed(v1::SnapshotFailed {
                    checkpoint,
                    operator: operator.0,
                    subtask: subtask as u32,
                    reason: error.to_string(),
                    rows_lost,
                    is_disk_full: error.retry().is_disk_full(),
                }))
                .await;
            }
            TaskEvent::PointPassed { number } => {
                let number = Some(encoding::barrier_number_message(number));
                self.send(Event::PointPassed(v1::PointPassed { number })).await;
            }
            TaskEvent::PointRequested => self.send(Event::PointRequested(v1::PointRequested {})).await,
            TaskEvent::Finished => self.send(Event::Finished(v1::Finished {})).await,
            TaskEvent::Failed {
                operator,
                subtask,
                error,
            } => {
                let retry = error.retry();
                self.task_failed(&operator.0, subtask, error.to_string(), retry, "")
                    .await;
            }
            TaskEvent::Stopped => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_and_a_cancel_end_tasks_and_a_checkpoint_does_not() {
        let checkpoint = |last| TaskCommand::Checkpoint {
            id: 1,
            last,
            aligned_timeout: None,
        };
        assert!(ends_tasks(&TaskCommand::Cancel) && ends_tasks(&checkpoint(true)));
        assert!(!ends_tasks(&checkpoint(false)) && !ends_tasks(&TaskCommand::Confirm { checkpoint: 1 }));
    }
}
