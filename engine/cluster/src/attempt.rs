//! One attempt at running a job: from a checkpoint (or nothing) until it ends, fails or is stopped.
//!
//! The order at the start matters: first the committables of the restored checkpoint are published (they are part of
//! it, whether or not the last attempt came to it), then sinks clean up what no checkpoint names, then splits are
//! found and tasks deployed. From there one loop turns what happens into events of the checkpoint coordinator and
//! carries out its commands. Whatever was begun in the background (a manifest being written, a sink committing) is
//! awaited before the attempt ends: a later attempt must not race it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connectors::{
    Boundedness, Committable, Delivery, JobIdentity, OutputStorage, Sink, Source, Split, fail_point, registry,
};
use millstream_planner::graph::{NodeIndex, Operator, OperatorId};
use millstream_runtime::job::{self as runtime, SubtaskState, TaskEvent};
use millstream_runtime::sink_files::SinkFiles;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::checkpoint::{Command, Completed, Coordinator, Event};
use crate::deployer::{Allocation, Deployer, Request, Tasks};
use crate::history::History;
use crate::job::{Job, Outcome, StopRequest};
use crate::manifest::Snapshot;
use crate::progress::{CheckpointReport, Phase, Progress};
use crate::splits::{self, Known};
use crate::{Error, compatibility, restart};

/// How long tasks may take to end after they were told to.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Commits of one checkpoint are tried this often before the attempt fails (and the next one commits).
const PUBLISH_TRIES: u32 = 5;

pub struct Attempt<'a> {
    pub job: &'a Job,
    pub deployer: &'a dyn Deployer,
    pub history: &'a History,
    pub base: Option<&'a Snapshot>,
    pub progress: &'a Progress,
    pub stop: watch::Receiver<StopRequest>,
}

pub enum Ended {
    With(Outcome),
    Failed(Failure),
}

pub struct Failure {
    pub error: Error,
    /// Trying again may help.
    pub may_pass: bool,
    /// The tasks were running.
    pub started: bool,
    /// The newest checkpoint of this attempt.
    pub last_checkpoint: Option<u64>,
}

/// The outside world of one attempt.
struct Ends {
    sources: HashMap<NodeIndex, Arc<dyn Source>>,
    sinks: HashMap<NodeIndex, Arc<dyn Sink>>,
}

pub async fn run(mut attempt: Attempt<'_>) -> Result<Ended, Error> {
    let prepared = tokio::select! {
        prepared = prepare(&attempt) => prepared,
        () = abort_requested(attempt.stop.clone(), StopRequest::Stop) => {
            return Ok(Ended::With(Outcome::Aborted { last_checkpoint: attempt.base.map(|base| base.checkpoint) }));
        }
    };
    let prepared = match prepared {
        Ok(Some(prepared)) => prepared,
        Ok(None) => {
            let checkpoint = attempt.base.map_or(0, |base| base.checkpoint);
            return Ok(Ended::With(Outcome::FinishedBefore { checkpoint }));
        }
        Err(error) => {
            return Ok(Ended::Failed(Failure {
                may_pass: restart::error_may_pass(&error),
                error,
                started: false,
                last_checkpoint: None,
            }));
        }
    };
    let counters = prepared.tasks.counters();
    attempt.progress.update(|report| report.counters.push(counters));
    let next_id = attempt.history.next_id().await;
    let mut driver = Driver::new(&attempt, prepared, next_id);
    driver.drive(&mut attempt.stop).await
}

/// Resolves when someone asks for at least this.
async fn abort_requested(mut stop: watch::Receiver<StopRequest>, wanted: StopRequest) {
    if stop.wait_for(|request| *request >= wanted).await.is_err() {
        // Nobody is left who could ask.
        std::future::pending::<()>().await;
    }
}

/// Tasks that run, and what the driver needs to know of them.
struct Prepared {
    ends: Ends,
    known: BTreeMap<OperatorId, Known>,
    tasks: Box<dyn Tasks>,
    parallelism: usize,
}

/// Everything up to running tasks. `None`: the restored checkpoint says that the job is finished.
async fn prepare(attempt: &Attempt<'_>) -> Result<Option<Prepared>, Error> {
    let job = attempt.job;
    let ends = make_ends(job)?;
    let storage: Arc<dyn OutputStorage> = Arc::new(SinkFiles::new(attempt.history.files()));
    for sink in ends.sinks.values() {
        sink.use_storage(storage.clone());
    }
    let identity = JobIdentity {
        job: job.graph.name.clone(),
        attempt: uuid::Uuid::new_v4().simple().to_string(),
    };
    if let Some(base) = attempt.base {
        check_restore(attempt, base)?;
        for (node, sink) in &ends.sinks {
            let committables = committables_of(base.operators.get(&job.graph.nodes[*node].id));
            if !committables.is_empty() {
                sink.commit(committables).await?;
            }
        }
        if base.finished {
            return Ok(None);
        }
    }
    for sink in ends.sinks.values() {
        sink.start(&identity).await?;
    }
    let allocation = attempt.deployer.allocate(job).await?;
    let (known, splits) = find_splits(attempt, &allocation, &ends).await?;
    let discovers = |source: &Arc<dyn Source>| !job.options.batch && source.discovery_interval().is_some();
    let restore = attempt
        .base
        .map(|base| base.operators.clone().into_iter().collect())
        .unwrap_or_default();
    let request = Request {
        identity,
        sources: ends.sources.clone(),
        sinks: ends.sinks.clone(),
        splits,
        splits_are_final: !ends.sources.values().any(discovers),
        restore,
        epoch: attempt.history.epoch(),
        files: attempt.history.files(),
    };
    let tasks = attempt.deployer.deploy(job, &allocation, request).await?;
    Ok(Some(Prepared {
        ends,
        known,
        tasks,
        parallelism: allocation.parallelism,
    }))
}

/// Whether sources and sinks can be made as the job wants them.
pub fn check(job: &Job) -> Result<(), Error> {
    make_ends(job).map(|_| ())
}

fn make_ends(job: &Job) -> Result<Ends, Error> {
    let mut ends = Ends {
        sources: HashMap::new(),
        sinks: HashMap::new(),
    };
    for (index, node) in job.graph.nodes.iter().enumerate() {
        match &node.operator {
            Operator::Source(source) => {
                let source = registry::source(&source.table)?;
                if job.options.batch && source.boundedness() == Boundedness::Unbounded {
                    return Err(Error::Invalid(format!(
                        "{}: the source never ends, so it cannot be read as a batch; bound it (for Kafka: 'scan.bounded.mode') or run in stream mode",
                        node.id
                    )));
                }
                ends.sources.insert(index, source);
            }
            Operator::Sink(sink) => {
                let sink = registry::sink(&sink.table)?;
                if job.exactly_once_required && sink.delivery() == Delivery::AtLeastOnce {
                    return Err(Error::Invalid(format!(
                        "{}: the sink delivers at least once, but the job demands exactly-once delivery; choose a sink that offers it ('sink.delivery-guarantee'), or write `checkpoints: {{ delivery: at-least-once }}` to accept rows that occur twice after a failure",
                        node.id
                    )));
                }
                ends.sinks.insert(index, sink);
            }
            _ => {}
        }
    }
    Ok(ends)
}

fn check_restore(attempt: &Attempt<'_>, base: &Snapshot) -> Result<(), Error> {
    let findings = compatibility::check(
        &attempt.job.graph,
        base.max_parallelism,
        &base.operators,
        &base.signatures,
    );
    if findings.refusals.is_empty() {
        for note in findings.notes {
            attempt.progress.info(note);
        }
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "checkpoint {} does not fit the pipeline: {}; undo the change, or start anew with --fresh",
        base.checkpoint,
        findings.refusals.join("; ")
    )))
}

fn committables_of(states: Option<&Vec<SubtaskState>>) -> Vec<Committable> {
    states
        .into_iter()
        .flatten()
        .flat_map(|state| state.committables.iter().cloned())
        .collect()
}

type Assigned = HashMap<NodeIndex, Vec<Vec<Split>>>;

async fn find_splits(
    attempt: &Attempt<'_>,
    allocation: &Allocation,
    ends: &Ends,
) -> Result<(BTreeMap<OperatorId, Known>, Assigned), Error> {
    let mut known_by_source = BTreeMap::new();
    let mut assigned = HashMap::new();
    for (node, source) in &ends.sources {
        let id = &attempt.job.graph.nodes[*node].id;
        let mut known = Known::new(
            attempt.job.subtasks(*node, allocation.parallelism),
            source.splits_are_ordered(),
        );
        let restored = attempt.base.and_then(|base| base.operators.get(id));
        let mut splits = restored.map(|states| known.restore(states)).unwrap_or_default();
        splits.extend(known.unknown(source.splits().await?));
        assigned.insert(*node, known.assign(splits));
        known_by_source.insert(id.clone(), known);
    }
    Ok((known_by_source, assigned))
}

/// What comes back from work in the background.
enum Background {
    Checkpoint(Event),
    /// Another process has taken the job over: this one must change nothing more.
    Superseded(Error),
    Discovered {
        node: NodeIndex,
        splits: Result<Vec<Split>, millstream_connectors::Error>,
    },
}

/// Runs the deployed tasks and their checkpoints.
struct Driver<'a> {
    job: &'a Job,
    history: &'a History,
    base: Option<&'a Snapshot>,
    progress: &'a Progress,
    ends: Ends,
    known: BTreeMap<OperatorId, Known>,
    tasks: Box<dyn Tasks>,
    parallelism: usize,
    coordinator: Coordinator,
    started: Instant,
    /// Work that must end before the attempt does.
    background: JoinSet<()>,
    /// Discovery and notifications: cut off at the end.
    watchers: JoinSet<()>,
    results: mpsc::UnboundedSender<Background>,
    results_in: mpsc::UnboundedReceiver<Background>,
    last_checkpoint: Option<u64>,
    /// Why the attempt failed: the first error counts, later ones are its echo.
    failure: Option<(Error, bool)>,
    outcome: Option<Outcome>,
    /// The newest complete checkpoint is one after the end of all input.
    finished: bool,
}

impl<'a> Driver<'a> {
    fn new(attempt: &Attempt<'a>, prepared: Prepared, next_id: u64) -> Self {
        let job = attempt.job;
        let Prepared {
            ends,
            known,
            tasks,
            parallelism,
        } = prepared;
        let mut participants = BTreeSet::new();
        for (index, node) in job.graph.nodes.iter().enumerate() {
            participants.extend((0..job.subtasks(index, parallelism)).map(|subtask| (node.id.clone(), subtask)));
        }
        let sinks = ends
            .sinks
            .keys()
            .map(|node| job.graph.nodes[*node].id.clone())
            .collect();
        let coordinator = Coordinator::new(job.checkpoints.clone(), participants, sinks, next_id, 0);
        let (results, results_in) = mpsc::unbounded_channel();
        Self {
            job,
            history: attempt.history,
            base: attempt.base,
            progress: attempt.progress,
            ends,
            known,
            tasks,
            parallelism,
            coordinator,
            started: Instant::now(),
            background: JoinSet::new(),
            watchers: JoinSet::new(),
            results,
            results_in,
            last_checkpoint: None,
            failure: None,
            outcome: None,
            finished: false,
        }
    }

    fn now_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    async fn drive(&mut self, stop: &mut watch::Receiver<StopRequest>) -> Result<Ended, Error> {
        self.progress.update(|report| report.phase = Phase::Running);
        self.start_discovery();
        let mut asked = StopRequest::None;
        while self.failure.is_none() && self.outcome.is_none() {
            let tick = self
                .coordinator
                .next_tick_ms()
                .map(|at_ms| self.started + Duration::from_millis(at_ms));
            tokio::select! {
                event = self.tasks.next_event() => match event {
                    Some(event) => self.task_event(event),
                    None => self.fail(Error::Failed("the tasks ended without saying why".into()), false),
                },
                Some(result) = self.results_in.recv() => self.background_result(result),
                () = sleep_until(tick) => self.checkpoint_event(Event::Tick),
                () = self.job.checkpoint_now.asked() => self.checkpoint_event(Event::Now),
                () = requested(stop, asked) => {
                    asked = *stop.borrow_and_update();
                    if asked == StopRequest::Abort {
                        self.outcome = Some(Outcome::Aborted {
                            last_checkpoint: self.last_checkpoint.or(self.base.map(|base| base.checkpoint)),
                        });
                    } else {
                        self.progress.update(|report| report.phase = Phase::Stopping);
                        self.checkpoint_event(Event::Stop);
                    }
                }
            }
        }
        self.shut_down(stop).await;
        Ok(match (self.failure.take(), self.outcome.take()) {
            (Some((error, may_pass)), _) => Ended::Failed(Failure {
                error,
                may_pass,
                started: true,
                last_checkpoint: self.last_checkpoint,
            }),
            (None, Some(outcome)) => Ended::With(outcome),
            (None, None) => unreachable!("the loop ends with one of them"),
        })
    }

    /// Stops the tasks and waits for everything that runs.
    async fn shut_down(&mut self, stop: &mut watch::Receiver<StopRequest>) {
        self.watchers.abort_all();
        if let Err(error) = self.tasks.send(runtime::Command::Cancel) {
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
            () = abort_requested(stop.clone(), StopRequest::Abort) => {}
        }
        // What was stored meanwhile counts.
        while let Ok(result) = self.results_in.try_recv() {
            if let Background::Checkpoint(Event::Stored { checkpoint }) = result {
                self.last_checkpoint = Some(checkpoint);
            }
        }
    }

    /// A slot that does not take commands any more would lose splits or barriers: the attempt fails, another may do.
    fn command(&mut self, command: runtime::Command) {
        if let Err(error) = self.tasks.send(command) {
            self.fail(error, true);
        }
    }

    fn fail(&mut self, error: Error, may_pass: bool) {
        self.failure.get_or_insert((error, may_pass));
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
            } => self.checkpoint_event(Event::Declined {
                checkpoint,
                operator,
                subtask,
                reason: error.to_string(),
            }),
            TaskEvent::Finished => self.checkpoint_event(Event::Ended),
            TaskEvent::Failed {
                operator,
                subtask,
                error,
            } => {
                let may_pass = restart::may_pass(&error);
                let message = error.to_string();
                let message = match message.starts_with(&operator.0) {
                    true => message,
                    false => format!("{operator} (subtask {subtask}): {message}"),
                };
                self.fail(Error::Failed(message), may_pass);
            }
            TaskEvent::Stopped => self.fail(Error::Failed("the tasks stopped by themselves".into()), false),
        }
    }

    fn background_result(&mut self, result: Background) {
        match result {
            Background::Checkpoint(event) => {
                match &event {
                    Event::Stored { checkpoint } => self.last_checkpoint = Some(*checkpoint),
                    Event::Published { checkpoint } => self.command(runtime::Command::Confirm {
                        checkpoint: *checkpoint,
                    }),
                    _ => {}
                }
                self.checkpoint_event(event);
            }
            Background::Superseded(error) => self.fail(error, false),
            Background::Discovered { node, splits } => self.discovered(node, splits),
        }
    }

    fn checkpoint_event(&mut self, event: Event) {
        let published = match &event {
            Event::Published { checkpoint } => Some(*checkpoint),
            _ => None,
        };
        for command in self.coordinator.on_event(event, self.now_ms()) {
            match command {
                Command::Trigger { checkpoint, last } => {
                    self.command(runtime::Command::Checkpoint { id: checkpoint, last });
                }
                Command::Store(completed) => self.store(completed),
                Command::Publish(completed) => self.publish(completed),
                Command::Warn { checkpoint, reason } => {
                    self.progress.update(|report| report.checkpoints_failed += 1);
                    self.progress.warn(format!("checkpoint {checkpoint} failed: {reason}"));
                }
                // Storing and preparing fail because of the outside world.
                Command::Fail { reason } => self.fail(Error::Failed(reason), true),
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

    /// Writes the manifest, in the background.
    fn store(&mut self, completed: Arc<Completed>) {
        let mut snapshot = Snapshot::new(self.job, self.parallelism, &completed);
        splits::keep_finished(&self.known, &mut snapshot.operators);
        snapshot.savepoint = self.job.checkpoint_now.take_name();
        let checkpoint_now = self.job.checkpoint_now.clone();
        let history = self.history.clone();
        let results = self.results.clone();
        self.background.spawn(async move {
            let checkpoint = completed.checkpoint;
            let event = match history.save(&snapshot).await {
                Ok(()) => Event::Stored { checkpoint },
                Err(error @ Error::State(millstream_state::Error::Superseded(_))) => {
                    report(&results, Background::Superseded(error));
                    return;
                }
                Err(error) => {
                    if let Some(name) = &snapshot.savepoint {
                        checkpoint_now.keep_next(name);
                    }
                    Event::NotStored {
                        checkpoint,
                        reason: error.to_string(),
                    }
                }
            };
            report(&results, Background::Checkpoint(event));
        });
    }

    /// Lets all sinks commit, in the background; then old checkpoints may go.
    fn publish(&mut self, completed: Arc<Completed>) {
        self.finished = completed.finished;
        let nodes = &self.job.graph.nodes;
        let mut commits = Vec::new();
        for (node, sink) in &self.ends.sinks {
            let committables = committables_of(completed.states.get(&nodes[*node].id));
            if !committables.is_empty() {
                commits.push((nodes[*node].id.clone(), sink.clone(), committables));
            }
        }
        self.notify_sources(&completed);
        let results = self.results.clone();
        let history = self.history.clone();
        let progress = self.progress.clone();
        let started = self.started;
        self.background.spawn(async move {
            let checkpoint = completed.checkpoint;
            fail_point::reach("after-manifest");
            for (operator, sink, committables) in commits {
                if let Err(error) = commit(&sink, committables).await {
                    let reason = format!("{operator}: {error}");
                    report(
                        &results,
                        Background::Checkpoint(Event::NotPublished { checkpoint, reason }),
                    );
                    return;
                }
            }
            record(&progress, &completed, started);
            report(&results, Background::Checkpoint(Event::Published { checkpoint }));
            if let Err(error) = history.retire().await {
                progress.warn(format!("old checkpoints could not be removed: {error}"));
            }
        });
    }

    fn notify_sources(&mut self, completed: &Completed) {
        for (node, source) in &self.ends.sources {
            let id = &self.job.graph.nodes[*node].id;
            let states = completed.states.get(id);
            let splits: Vec<Split> = states
                .into_iter()
                .flatten()
                .flat_map(|state| &state.splits)
                .map(|split| Split {
                    id: split.id.clone(),
                    position: split.position.clone(),
                    weight: split.weight,
                    finished: split.finished,
                })
                .collect();
            let (source, id, progress) = (source.clone(), id.clone(), self.progress.clone());
            let notify = async move {
                if let Err(error) = source.checkpoint_completed(&splits).await {
                    progress.warn(format!(
                        "{id}: the outside world could not be told how far was read: {error}"
                    ));
                }
            };
            // The last one must arrive before the process ends.
            if completed.last {
                self.background.spawn(notify);
            } else {
                self.watchers.spawn(notify);
            }
        }
        while self.watchers.try_join_next().is_some() {}
    }

    /// Looks for new splits of sources that ask for it; tells the readers of all others that no more will come.
    fn start_discovery(&mut self) {
        let discovers: Vec<_> = self
            .ends
            .sources
            .iter()
            .map(|(node, source)| {
                (
                    *node,
                    source.clone(),
                    source.discovery_interval().filter(|_| !self.job.options.batch),
                )
            })
            .collect();
        let any = discovers.iter().any(|(_, _, interval)| interval.is_some());
        for (node, source, interval) in discovers {
            let Some(interval) = interval else {
                if any {
                    self.command(runtime::Command::NoMoreSplits { node });
                }
                continue;
            };
            let results = self.results.clone();
            self.watchers.spawn(async move {
                loop {
                    tokio::time::sleep(interval).await;
                    let splits = source.splits().await;
                    report(&results, Background::Discovered { node, splits });
                }
            });
        }
    }

    fn discovered(&mut self, node: NodeIndex, splits: Result<Vec<Split>, millstream_connectors::Error>) {
        let id = &self.job.graph.nodes[node].id;
        let splits = match splits {
            Ok(splits) => splits,
            Err(error) if restart::connector_error_may_pass(&error) => {
                self.progress
                    .warn(format!("{id}: new splits could not be looked for: {error}"));
                return;
            }
            Err(error) => return self.fail(error.into(), false),
        };
        let Some(known) = self.known.get_mut(id) else { return };
        let new = known.unknown(splits);
        if new.is_empty() {
            return;
        }
        for (subtask, splits) in known.assign(new).into_iter().enumerate() {
            if !splits.is_empty() {
                self.command(runtime::Command::AssignSplits { node, subtask, splits });
            }
        }
    }
}

/// A closed channel means that the attempt is over and nobody needs the result.
fn report(results: &mpsc::UnboundedSender<Background>, result: Background) {
    if results.send(result).is_err() {
        tracing::debug!("a result came after the attempt had ended");
    }
}

async fn commit(sink: &Arc<dyn Sink>, committables: Vec<Committable>) -> Result<(), millstream_connectors::Error> {
    let mut tries = 1;
    loop {
        match sink.commit(committables.clone()).await {
            Ok(()) => return Ok(()),
            Err(error) if tries < PUBLISH_TRIES && restart::connector_error_may_pass(&error) => {
                tokio::time::sleep(Duration::from_millis(100 << tries)).await;
                tries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn record(progress: &Progress, completed: &Completed, started: Instant) {
    let state_bytes: u64 = completed
        .states
        .values()
        .flatten()
        .filter_map(|state| state.keyed.as_ref())
        .map(|keyed| keyed.bytes)
        .sum();
    let acknowledged_in = Duration::from_millis(completed.acknowledged_ms - completed.triggered_ms);
    let took = started
        .elapsed()
        .saturating_sub(Duration::from_millis(completed.triggered_ms));
    metrics::counter!("millstream_checkpoints_total").increment(1);
    metrics::gauge!("millstream_checkpoint_duration_seconds").set(took.as_secs_f64());
    metrics::gauge!("millstream_checkpoint_state_bytes").set(state_bytes as f64);
    progress.update(|report| {
        report.checkpoints += 1;
        report.acknowledged_in_max = report.acknowledged_in_max.max(acknowledged_in);
        report.state_bytes_max = report.state_bytes_max.max(state_bytes);
        report.last_checkpoint = Some(CheckpointReport {
            id: completed.checkpoint,
            acknowledged_in,
            took,
            state_bytes,
            at: Instant::now(),
        });
    });
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Resolves when more is asked for than before.
async fn requested(stop: &mut watch::Receiver<StopRequest>, before: StopRequest) {
    if stop.wait_for(|request| *request > before).await.is_err() {
        std::future::pending::<()>().await;
    }
}
