//! The loop of an attempt whose tasks run: events in, commands of the checkpoint coordinator out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connectors::Split;
use millstream_fail_point as fail_point;
use millstream_graph::{NodeIndex, OperatorId};
use millstream_proto::v1::Outage;
use millstream_runtime::command::{Command as TaskCommand, TaskEvent};
use millstream_store_errors::Retry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tracing::Span;

use super::connectors::Connectors;
use super::prepare::Prepared;
use super::region_failover::{RegionFailover, relocation_result};
use super::{Attempt, AttemptResult, Failure, stop_requested};
use crate::checkpoint::{Command, Completed, Coordinator, Event};
use crate::deployer::{Deployer, DeploymentEvent, Tasks};
use crate::history::History;
use crate::input_fields;
use crate::job::{Job, Outcome, StopRequest, TakenCheckpoint, Waiter};
use crate::outage::{self, ConnectorMonitor};
use crate::progress::{Phase, Progress};
use crate::restart::RestartStrategy;
use crate::snapshot::Snapshot;
use crate::splits::SplitAssigner;
use crate::{Error, spans};

/// How long tasks may take to end after they were told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the driver looks what cannot be reached.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What comes back from work in the background.
pub(super) enum Background {
    Checkpoint(Event),
    /// A checkpoint could not be stored or published, and how long it is worth trying again.
    Failed(Event, Retry),
    /// Another process has taken the job over: this one must change nothing more.
    Superseded(Error),
}

/// The splits that a source has now.
pub(super) struct Discovered {
    pub node: NodeIndex,
    pub splits: Result<Vec<Split>, millstream_connectors::Error>,
}

/// Runs the deployed tasks and their checkpoints.
pub(super) struct Driver<'a> {
    pub(super) job: &'a Job,
    pub(super) history: &'a History,
    pub(super) base: Option<&'a Snapshot>,
    pub(super) progress: &'a Progress,
    pub(super) connectors: Connectors,
    pub(super) known: BTreeMap<OperatorId, SplitAssigner>,
    pub(super) deployer: &'a dyn Deployer,
    pub(super) restarts: &'a mut RestartStrategy,
    pub(super) tasks: Box<dyn Tasks>,
    /// A region that is to begin again, while the others run.
    pub(super) failover: Option<RegionFailover<'a>>,
    pub(super) parallelism: usize,
    /// The tasks were running before, and the first checkpoint is yet to tell what they read.
    pub(super) is_learning: bool,
    /// Whose splits are known: those of tasks that were running before are after a checkpoint of this attempt.
    pub(super) were_running: bool,
    pub(super) coordinator: Coordinator,
    pub(super) started: Instant,
    /// Work that must end before the attempt does.
    pub(super) background: JoinSet<()>,
    /// Discovery and notifications: cut off at the end.
    pub(super) watchers: JoinSet<()>,
    /// Holds a few results for each task of `background`, of which there is one or two for a checkpoint under way.
    pub(super) results: mpsc::UnboundedSender<Background>,
    /// Discovery waits until the driver takes what it found.
    pub(super) discoveries: mpsc::Sender<Discovered>,
    discoveries_in: mpsc::Receiver<Discovered>,
    /// The checkpoint under way, if somebody waits for it.
    waited_for: Option<(u64, Vec<Waiter>)>,
    /// Of checkpoints that are under way.
    spans: BTreeMap<u64, Span>,
    results_in: mpsc::UnboundedReceiver<Background>,
    last_checkpoint: Option<u64>,
    /// The checkpoint whose manifest is being written, and the last one whose manifest is.
    pub(super) storing: Option<Arc<Completed>>,
    pub(super) stored: Option<Arc<Completed>>,
    /// Why the attempt failed: the first error counts, later ones are its echo.
    pub(super) failure: Option<(Error, Retry)>,
    /// Somebody else has claimed the job's checkpoints.
    superseded: bool,
    outcome: Option<Outcome>,
    /// The newest complete checkpoint is one after the end of all input.
    pub(super) finished: bool,
    /// Sources whose absent columns were told.
    told_of_fields: BTreeSet<String>,
}

impl<'a> Driver<'a> {
    pub(super) fn new(
        attempt: &Attempt<'a>,
        prepared: Prepared,
        next_id: u64,
        restarts: &'a mut RestartStrategy,
    ) -> Self {
        let job = attempt.job;
        let Prepared {
            connectors,
            known,
            tasks,
            parallelism,
            were_running,
            newest_checkpoint: _,
        } = prepared;
        let mut participants = BTreeSet::new();
        for (index, node) in job.graph.nodes.iter().enumerate() {
            participants.extend((0..job.subtasks(index, parallelism)).map(|subtask| (node.id.clone(), subtask)));
        }
        let coordinator = Coordinator::new(job.checkpoints.clone(), participants, next_id, 0);
        let (results, results_in) = mpsc::unbounded_channel();
        let (discoveries, discoveries_in) = mpsc::channel(1);
        Self {
            job,
            history: attempt.history,
            base: attempt.base,
            progress: attempt.progress,
            connectors,
            known,
            deployer: attempt.deployer,
            restarts,
            tasks,
            failover: None,
            parallelism,
            is_learning: were_running,
            were_running,
            coordinator,
            started: Instant::now(),
            background: JoinSet::new(),
            watchers: JoinSet::new(),
            results,
            discoveries,
            discoveries_in,
            waited_for: None,
            spans: BTreeMap::new(),
            results_in,
            last_checkpoint: None,
            storing: None,
            stored: None,
            failure: None,
            superseded: false,
            outcome: None,
            finished: false,
            told_of_fields: BTreeSet::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    pub(super) async fn drive(&mut self, stop: &mut watch::Receiver<StopRequest>) -> Result<AttemptResult, Error> {
        let monitor = ConnectorMonitor::new(&self.job.graph, &self.connectors.sources, &self.connectors.sinks);
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.progress.update(|report| report.phase = Phase::Running);
        match self.is_learning {
            true => self.go_on(),
            false => self.start_discovery(),
        }
        let mut heard = StopRequest::None;
        while self.failure.is_none() && self.outcome.is_none() {
            let tick = self
                .coordinator
                .next_tick_ms()
                .map(|at_ms| self.started + Duration::from_millis(at_ms));
            let failover_deadline = self.failover.as_ref().and_then(|failover| failover.until);
            tokio::select! {
                news = self.tasks.next_event() => match news {
                    Some(DeploymentEvent::Task(event)) => self.task_event(event),
                    Some(news) => self.region_event(news),
                    None => self.fail(Error::Failed("the tasks ended without saying why".into()), Retry::Never),
                },
                Some(result) = self.results_in.recv() => self.background_result(result),
                Some(found) = self.discoveries_in.recv() => self.discovered(found.node, found.splits),
                () = sleep_until(tick) => self.checkpoint_event(Event::Tick),
                _ = look.tick() => {
                    self.look_outside(&monitor);
                    self.look_at_fields(&monitor, false);
                }
                found = relocation_result(&mut self.failover) => self.region_relocated(found),
                () = sleep_until(failover_deadline) => self.region_failover_timed_out(),
                () = self.job.checkpoint_requests.requested() => self.checkpoint_event(Event::Requested),
                () = stop_request_raised(stop, heard) => {
                    heard = *stop.borrow_and_update();
                    // A last checkpoint would wait for a region that does not run.
                    if heard == StopRequest::Abort || self.failover.is_some() {
                        let last_checkpoint = self.last_checkpoint.or(self.base.map(|base| base.checkpoint));
                        self.outcome = Some(Outcome::aborted(last_checkpoint));
                    } else {
                        self.progress.update(|report| report.phase = Phase::Stopping);
                        self.checkpoint_event(Event::Stop);
                    }
                }
            }
            self.restart_region_when_ready();
        }
        self.shut_down(stop).await;
        self.look_at_fields(&monitor, true);
        // What it ended with says more.
        self.progress.update(|report| report.outages.clear());
        Ok(match (self.failure.take(), self.outcome.take()) {
            (Some((error, retry)), _) => AttemptResult::Failed(Failure {
                error,
                retry,
                is_damage: false,
                started: true,
                last_checkpoint: self.last_checkpoint,
            }),
            (None, Some(outcome)) => AttemptResult::Ended(outcome),
            (None, None) => unreachable!("the loop ends with one of them"),
        })
    }

    /// Tells what can no longer be reached, once, and what can be again.
    fn look_outside(&mut self, monitor: &ConnectorMonitor) {
        let now = outage::merge(monitor.outages().into_iter().chain(self.tasks.outages()));
        let before = self.progress.with(|report| report.outages.clone());
        if now == before {
            return;
        }
        let is_among =
            |outage: &Outage, others: &[Outage]| others.iter().any(|other| other.operator == outage.operator);
        for outage in now.iter().filter(|outage| !is_among(outage, &before)) {
            self.progress.warn(outage::describe(outage));
        }
        for outage in before.iter().filter(|outage| !is_among(outage, &now)) {
            let Outage {
                kind, operator, system, ..
            } = outage;
            self.progress
                .warn(format!("the {kind} `{operator}` reaches {system} again"));
        }
        self.progress.update(|report| report.outages = now);
    }

    /// Takes note of the fields of what was read so far, and tells of columns that no record has: once for each source,
    /// after records enough, or at the first checkpoint where a column is probably misspelt. What `is_over` in this
    /// process is in the summary of the run.
    fn look_at_fields(&mut self, monitor: &ConnectorMonitor, is_over: bool) {
        let found = monitor.input_fields().into_iter().chain(self.tasks.input_fields());
        let now = input_fields::merge(found);
        let has_checkpoint = self.last_checkpoint.is_some();
        for fields in &now {
            let is_due = fields.records >= input_fields::WARN_RECORDS_MIN
                || has_checkpoint && input_fields::is_probably_misspelt(fields)
                || is_over && self.tasks.are_remote();
            if is_due && !fields.absent_columns.is_empty() && self.told_of_fields.insert(fields.operator.clone()) {
                input_fields::warnings(fields)
                    .into_iter()
                    .for_each(|sentence| self.progress.warn(sentence));
            }
        }
        self.progress.update(|report| report.input_fields = now);
    }

    /// Stops the tasks and waits for everything that runs.
    async fn shut_down(&mut self, stop: &mut watch::Receiver<StopRequest>) {
        self.watchers.abort_all();
        if self.superseded {
            self.deployer.superseded().await;
        }
        if let Err(error) = self.tasks.send(TaskCommand::Cancel) {
            self.progress.warn(format!("a slot could not be told to end: {error}"));
        }
        // What tasks still say no longer counts.
        let stopped = async { while self.tasks.next_event().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_err() {
            self.progress.warn(format!(
                "tasks did not end within {} s (STOP_TIMEOUT)",
                STOP_TIMEOUT.as_secs()
            ));
        }
        let background = async { while self.background.join_next().await.is_some() {} };
        tokio::select! {
            () = background => {}
            () = stop_requested(stop.clone(), StopRequest::Abort) => {}
        }
        // What was stored meanwhile counts.
        while let Ok(result) = self.results_in.try_recv() {
            if let Background::Checkpoint(Event::Stored { checkpoint }) = result {
                self.has_stored(checkpoint);
            }
        }
    }

    /// A slot that does not take commands any more would lose splits or barriers: the attempt fails, another may do.
    pub(super) fn command(&mut self, command: TaskCommand) {
        if let Err(error) = self.tasks.send(command) {
            self.fail(error, Retry::Limited);
        }
    }

    pub(super) fn fail(&mut self, error: Error, retry: Retry) {
        if let Some(failover) = &self.failover {
            failover.has_failed(&error);
        }
        self.failure.get_or_insert((error, retry));
    }

    /// How long tasks wait for the barriers of the next checkpoint.
    fn aligned_timeout(&self, last: bool) -> Option<Duration> {
        // The last one and savepoints are for another pipeline, too, which may have no place for rows in flight. After
        // one that failed because too much was in flight another would: every other one waits.
        let must_align =
            last || self.job.checkpoint_requests.has_savepoint_name() || self.coordinator.failures_in_row() % 2 == 1;
        let timeout_ms = self.job.checkpoints.aligned_timeout_ms.filter(|_| !must_align);
        timeout_ms.map(Duration::from_millis)
    }

    fn task_event(&mut self, event: TaskEvent) {
        match event {
            TaskEvent::Snapshot {
                checkpoint,
                operator,
                state,
            } => self.checkpoint_event(Event::Acknowledged {
                checkpoint,
                operator,
                state,
            }),
            TaskEvent::SnapshotFailed {
                checkpoint,
                operator,
                subtask,
                error,
                rows_lost,
            } => {
                // Without a complete checkpoint another attempt may do better, whatever it was.
                let retry = error.retry().max(Retry::Limited);
                let declined = Event::Declined {
                    checkpoint,
                    operator,
                    subtask,
                    reason: error.to_string(),
                    rows_lost,
                };
                self.checkpoint_failure(declined, retry);
            }
            TaskEvent::Finished => self.checkpoint_event(Event::InputEnded),
            TaskEvent::Failed {
                operator,
                subtask,
                error,
            } => {
                let retry = error.retry();
                self.fail(failure_of(&operator, subtask, &error), retry);
            }
            TaskEvent::Stopped => self.fail(Error::Failed("the tasks stopped by themselves".into()), Retry::Never),
        }
    }

    fn has_stored(&mut self, checkpoint: u64) {
        self.last_checkpoint = Some(checkpoint);
        self.restarts.reset();
    }

    fn background_result(&mut self, result: Background) {
        match result {
            Background::Checkpoint(event) => {
                let is_over = matches!(event, Event::Published { .. } | Event::Unchanged { .. });
                match &event {
                    Event::Stored { checkpoint } => {
                        self.has_stored(*checkpoint);
                        self.stored = self.storing.take();
                    }
                    Event::Published { checkpoint } | Event::Unchanged { checkpoint } => {
                        self.command(TaskCommand::Confirm {
                            checkpoint: *checkpoint,
                        })
                    }
                    _ => {}
                }
                match &event {
                    Event::Published { checkpoint } => self.answer(*checkpoint, &Ok((*checkpoint, false))),
                    Event::Unchanged { checkpoint } => {
                        let stands_for_it = self.stored.as_ref().map_or(*checkpoint, |stored| stored.checkpoint);
                        self.answer(*checkpoint, &Ok((stands_for_it, true)));
                    }
                    _ => {}
                }
                self.checkpoint_event(event);
                // What was asked for while one with rows in flight, or an earlier one, was under way.
                if is_over {
                    self.again_if_asked();
                }
            }
            Background::Failed(event, retry) => self.checkpoint_failure(event, retry),
            Background::Superseded(error) => {
                self.superseded = true;
                self.fail(error, Retry::Never);
            }
        }
    }

    /// Tells those who wait for this checkpoint which one stands for it and whether that was there before, or why none
    /// does.
    fn answer(&mut self, checkpoint: u64, result: &Result<(u64, bool), String>) {
        let Some((_, waiting)) = self.waited_for.take_if(|(of, _)| *of == checkpoint) else {
            return;
        };
        for answer in waiting {
            let taken = result.clone().map(|(checkpoint, is_unchanged)| TakenCheckpoint {
                checkpoint,
                is_unchanged,
            });
            if answer.send(taken).is_err() {
                tracing::debug!(checkpoint, "nobody waits for it any more");
            }
        }
    }

    fn again_if_asked(&mut self) {
        if self.job.checkpoint_requests.has_savepoint_name() || self.job.checkpoint_requests.has_waiters() {
            self.checkpoint_event(Event::Requested);
        }
    }

    /// Of this checkpoint, if it is under way.
    pub(super) fn span(&self, checkpoint: u64) -> Span {
        self.spans.get(&checkpoint).cloned().unwrap_or_else(Span::none)
    }

    pub(super) fn checkpoint_event(&mut self, event: Event) {
        // What fails a checkpoint without an error of its own (a timeout) is of the outside world.
        self.checkpoint_failure(event, Retry::Limited);
    }

    /// An event that may be why the attempt cannot go on, and how long it is worth trying again if it is.
    fn checkpoint_failure(&mut self, event: Event, retry: Retry) {
        let published = match &event {
            Event::Published { checkpoint } => Some(*checkpoint),
            _ => None,
        };
        match &event {
            Event::Acknowledged {
                checkpoint,
                operator,
                state,
            } => tracing::info!(
                target: spans::TARGET,
                parent: &self.span(*checkpoint),
                operator = operator.0,
                subtask = state.subtask,
                state_bytes = state.keyed.as_ref().map(|keyed| keyed.bytes),
                "acknowledged"
            ),
            Event::Published { checkpoint } | Event::Unchanged { checkpoint } => {
                self.spans.remove(checkpoint);
            }
            _ => {}
        }
        for command in self.coordinator.on_event(event, self.now_ms()) {
            match command {
                Command::Trigger { checkpoint, last } => {
                    fail_point::reach("trigger");
                    let aligned_timeout = self.aligned_timeout(last);
                    let span = tracing::info_span!(
                        target: spans::TARGET,
                        parent: None,
                        "checkpoint",
                        job = self.job.graph.name,
                        checkpoint,
                        is_last = last,
                    );
                    self.spans.insert(checkpoint, span);
                    let waiting = self.job.checkpoint_requests.take_waiters();
                    if !waiting.is_empty() {
                        self.waited_for = Some((checkpoint, waiting));
                    }
                    self.command(TaskCommand::Checkpoint {
                        id: checkpoint,
                        last,
                        aligned_timeout,
                    });
                }
                Command::Store(completed) => self.store(completed),
                Command::Publish(completed) => self.publish(completed),
                Command::Warn { checkpoint, reason } => {
                    if let Some(span) = self.spans.remove(&checkpoint) {
                        spans::set_error(&span, &reason);
                    }
                    self.progress.update(|report| report.checkpoints_failed += 1);
                    self.progress.warn(format!("checkpoint {checkpoint} failed: {reason}"));
                    self.answer(checkpoint, &Err(reason));
                    self.again_if_asked();
                }
                Command::Fail { reason } => self.fail(Error::Failed(reason), retry),
                Command::Done => {
                    let checkpoint = published.or(self.last_checkpoint).unwrap_or_default();
                    self.outcome = Some(match self.finished {
                        true => Outcome::Finished { checkpoint },
                        false => Outcome::Stopped { checkpoint },
                    });
                }
            }
        }
    }
}

/// What a task says of its failure, with its name.
pub(super) fn failure_of(operator: &OperatorId, subtask: usize, error: &millstream_runtime::Error) -> Error {
    let message = error.to_string();
    Error::Failed(match message.starts_with(&operator.0) {
        true => message,
        false => format!("{operator} (subtask {subtask}): {message}"),
    })
}

/// A closed channel means that the attempt is over and nobody needs the result.
pub(super) fn report(results: &mpsc::UnboundedSender<Background>, result: Background) {
    if results.send(result).is_err() {
        tracing::debug!("a result came after the attempt had ended");
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Resolves when more is asked for than before.
async fn stop_request_raised(stop: &mut watch::Receiver<StopRequest>, before: StopRequest) {
    if stop.wait_for(|request| *request > before).await.is_err() {
        std::future::pending::<()>().await;
    }
}
