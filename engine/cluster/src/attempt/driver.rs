//! The loop of an attempt whose tasks run.
//!
//! The driver waits for events and passes each to the part that it concerns: the checkpoints ([`Checkpoints`]), the
//! splits ([`Discovery`]), the failover of a region ([`RegionFailover`]) or the [`Monitor`]. It carries out their
//! answers with the tasks, the background work and the deployer.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use millstream_graph::OperatorId;
use millstream_runtime::command::{Command as TaskCommand, TaskEvent};
use millstream_runtime::element::BarrierNumber;
use millstream_store_errors::Retry;
use tokio::sync::watch;

use super::background::{Background, BackgroundResult};
use super::checkpoints::{Action, Checkpoints};
use super::completion::{self, Publication};
use super::connectors::Connectors;
use super::discovery::{Discovered, Discovery};
use super::monitor::Monitor;
use super::points::Points;
use super::prepare::Prepared;
use super::region_failover::{RegionFailover, relocation_result};
use super::{Attempt, AttemptResult, Failure, stop_requested};
use crate::checkpoint::{Completed, Event};
use crate::deployer::{Deployer, DeploymentEvent, RegionRestart, Tasks};
use crate::history::History;
use crate::job::{Job, Outcome, StopRequest};
use crate::outage::ConnectorMonitor;
use crate::progress::{Phase, Progress};
use crate::restart::RestartStrategy;
use crate::snapshot::Snapshot;
use crate::{Error, spans};

/// Limit of the time until all tasks have stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
/// Interval at which outages and absent columns are looked for.
const MONITOR_INTERVAL: Duration = Duration::from_secs(1);

/// Runs the deployed tasks of an attempt to their end.
pub(super) struct Driver<'a> {
    job: &'a Job,
    history: &'a History,
    base: Option<&'a Snapshot>,
    progress: &'a Progress,
    deployer: &'a dyn Deployer,
    restarts: &'a mut RestartStrategy,
    connectors: Connectors,
    tasks: Box<dyn Tasks>,
    parallelism: usize,
    /// True if the tasks were adopted.
    is_takeover: bool,
    checkpoints: Checkpoints<'a>,
    points: Points,
    discovery: Discovery,
    /// The region that does not run, if one has failed.
    failover: Option<RegionFailover<'a>>,
    monitor: Monitor,
    background: Background,
    /// The error that failed the attempt: the first one, as later ones are its consequences.
    failure: Option<(Error, Retry)>,
    /// True once another process has claimed the job's checkpoints.
    is_superseded: bool,
    outcome: Option<Outcome>,
}

impl<'a> Driver<'a> {
    /// Creates the driver of tasks that run. The first checkpoint gets the number `next_id`.
    pub(super) fn new(
        attempt: &Attempt<'a>,
        prepared: Prepared,
        next_id: u64,
        restarts: &'a mut RestartStrategy,
    ) -> Self {
        let job = attempt.job;
        let Prepared {
            connectors,
            assigners,
            tasks,
            parallelism,
            is_takeover,
            newest_checkpoint: _,
        } = prepared;
        let monitored = ConnectorMonitor::new(&job.graph, &connectors.sources, &connectors.sinks);
        let is_batch = job.options.batch;
        Self {
            job,
            history: attempt.history,
            base: attempt.base,
            progress: attempt.progress,
            deployer: attempt.deployer,
            restarts,
            tasks,
            parallelism,
            is_takeover,
            checkpoints: Checkpoints::new(job, attempt.progress, parallelism, next_id),
            points: Points::new(job.graph.consistency_interval, (!is_takeover).then_some(next_id - 1)),
            discovery: Discovery::new(&job.graph, is_batch, &connectors.sources, assigners, is_takeover),
            connectors,
            failover: None,
            monitor: Monitor::new(monitored),
            background: Background::new(),
            failure: None,
            is_superseded: false,
            outcome: None,
        }
    }

    /// Runs the tasks until the attempt ends.
    pub(super) async fn drive(&mut self, stop: &mut watch::Receiver<StopRequest>) -> Result<AttemptResult, Error> {
        let mut monitor_interval = tokio::time::interval(MONITOR_INTERVAL);
        monitor_interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.progress.update(|report| report.phase = Phase::Running);
        if self.discovery.awaits_running_splits() {
            self.checkpoint_event(Event::Requested);
        } else {
            let commands = self.discovery.start();
            self.send_all(commands);
        }
        let mut last_request = StopRequest::None;
        while self.failure.is_none() && self.outcome.is_none() {
            let tick = self.checkpoints.next_tick();
            let point_tick = self.next_point_tick();
            let failover_deadline = self.failover.as_ref().map(RegionFailover::deadline);
            tokio::select! {
                event = self.tasks.next_event() => match event {
                    Some(event) => self.deployment_event(event),
                    None => self.fail(Error::Failed("the tasks ended without an error".into()), Retry::Never),
                },
                result = self.background.next() => {
                    let actions = self.checkpoints.on_result(result);
                    self.carry_out(actions);
                }
                found = self.discovery.next() => self.discovered(found),
                () = sleep_until(tick) => self.checkpoint_event(Event::Tick),
                () = sleep_until(point_tick) => self.trigger_point(),
                _ = monitor_interval.tick() => {
                    self.monitor.report_outages(&*self.tasks, self.progress);
                    self.report_absent_columns(false);
                }
                result = relocation_result(&mut self.failover) => self.region_relocated(result),
                () = sleep_until(failover_deadline) => self.region_failover_timed_out(),
                () = self.job.checkpoint_requests.requested() => self.checkpoint_event(Event::Requested),
                () = stop_request_raised(stop, last_request) => {
                    last_request = *stop.borrow_and_update();
                    self.stop_requested(last_request);
                }
            }
            self.restart_region_if_ready();
        }
        self.shut_down(stop).await;
        self.report_absent_columns(true);
        // The result of the attempt says more.
        self.progress.update(|report| report.outages.clear());
        Ok(match (self.failure.take(), self.outcome.take()) {
            (Some((error, retry)), _) => AttemptResult::Failed(Failure {
                error,
                retry,
                is_damage: false,
                started: true,
                last_checkpoint: self.checkpoints.newest(),
            }),
            (None, Some(outcome)) => AttemptResult::Ended(outcome),
            (None, None) => unreachable!("the loop ends with one of them"),
        })
    }

    fn report_absent_columns(&mut self, is_final: bool) {
        let has_checkpoint = self.checkpoints.newest().is_some();
        self.monitor
            .report_absent_columns(&*self.tasks, self.progress, has_checkpoint, is_final);
    }

    fn stop_requested(&mut self, request: StopRequest) {
        // A last checkpoint would wait for a region that does not run.
        if request == StopRequest::Abort || self.failover.is_some() {
            let newest = self.checkpoints.newest();
            let last_checkpoint = newest.or(self.base.map(|base| base.checkpoint));
            self.outcome = Some(Outcome::aborted(last_checkpoint));
        } else {
            self.progress.update(|report| report.phase = Phase::Stopping);
            self.checkpoint_event(Event::Stop);
        }
    }

    /// Stops the tasks and waits for them and for the required background work.
    async fn shut_down(&mut self, stop: &mut watch::Receiver<StopRequest>) {
        self.discovery.stop();
        self.background.abort_optional();
        if self.is_superseded {
            self.deployer.on_superseded().await;
        }
        if let Err(error) = self.tasks.send(TaskCommand::Cancel) {
            self.progress.warn(format!("a slot could not be stopped: {error}"));
        }
        let stopped = async { while self.tasks.next_event().await.is_some() {} };
        if tokio::time::timeout(STOP_TIMEOUT, stopped).await.is_err() {
            self.progress.warn(format!(
                "tasks did not end within {} s (STOP_TIMEOUT)",
                STOP_TIMEOUT.as_secs()
            ));
        }
        tokio::select! {
            () = self.background.join_required() => {}
            () = stop_requested(stop.clone(), StopRequest::Abort) => {}
        }
        while let Some(result) = self.background.try_next() {
            if let BackgroundResult::Checkpoint(Event::Stored { checkpoint }) = result {
                let action = self.checkpoints.on_stored(checkpoint);
                self.carry_out(vec![action]);
            }
        }
    }

    /// Sends a command. A slot that takes none would lose splits or barriers, so the attempt fails; another may
    /// succeed.
    fn send(&mut self, command: TaskCommand) {
        if let Err(error) = self.tasks.send(command) {
            self.fail(error, Retry::Limited);
        }
    }

    fn send_all(&mut self, commands: Vec<TaskCommand>) {
        commands.into_iter().for_each(|command| self.send(command));
    }

    fn fail(&mut self, error: Error, retry: Retry) {
        if let Some(failover) = &self.failover {
            failover.set_error(&error);
        }
        self.failure.get_or_insert((error, retry));
    }

    fn checkpoint_event(&mut self, event: Event) {
        let actions = self.checkpoints.on_event(event);
        self.carry_out(actions);
    }

    fn carry_out(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Command(command) => {
                    if let TaskCommand::Checkpoint { id, .. } = &command {
                        self.points.on_checkpoint_triggered(*id, self.checkpoints.elapsed_ms());
                    }
                    self.send(command);
                }
                Action::Store(completed) => self.store(completed),
                Action::Publish(completed) => self.publish(completed),
                Action::Stored => self.restarts.reset(),
                Action::Fail(error, retry) => self.fail(error, retry),
                Action::Superseded(error) => {
                    self.is_superseded = true;
                    self.fail(error, Retry::Never);
                }
                Action::End(outcome) => self.outcome = Some(outcome),
            }
        }
    }

    /// Returns the time at which the next consistency point is triggered, unless something else must happen first.
    fn next_point_tick(&self) -> Option<Instant> {
        if self.checkpoints.is_collecting() || self.checkpoints.is_ending() {
            return None;
        }
        let at_ms = self.points.next_tick_ms()?;
        Some(self.checkpoints.started() + Duration::from_millis(at_ms))
    }

    fn trigger_point(&mut self) {
        if let Some(number) = self.points.trigger_if_due(self.checkpoints.elapsed_ms()) {
            self.send(TaskCommand::Point { number });
        }
    }

    fn point_passed(&mut self, number: BarrierNumber) {
        let Some(duration_ms) = self.points.on_passed(number, self.checkpoints.elapsed_ms()) else {
            return;
        };
        self.progress.update(|report| report.consistency_points += 1);
        let job = &self.job.graph.name;
        metrics::counter!("millstream_consistency_points_total", "job" => job.clone()).increment(1);
        metrics::gauge!("millstream_consistency_point_duration_seconds", "job" => job.clone())
            .set(duration_ms as f64 / 1e3);
    }

    /// Writes the manifest of a checkpoint in the background, unless nothing has changed since the one before.
    fn store(&mut self, completed: Arc<Completed>) {
        let mut snapshot = Snapshot::new(self.job, self.parallelism, &completed);
        self.discovery.add_finished(&mut snapshot.operators);
        if self.discovery.awaits_running_splits() {
            let commands = self.discovery.on_first_checkpoint(&completed);
            self.send_all(commands);
        }
        // A savepoint requested while an unaligned checkpoint was under way is the next one, which aligns.
        if !completed.has_rows_in_flight() {
            snapshot.savepoint = self.job.checkpoint_requests.take_savepoint_name();
        }
        let checkpoint = completed.checkpoint;
        if snapshot.savepoint.is_none() && self.checkpoints.is_unchanged(&completed) {
            completion::report_unchanged(self.progress, &self.job.graph.name);
            let report = self.background.result_sender();
            return report(BackgroundResult::Checkpoint(Event::Unchanged { checkpoint }));
        }
        self.checkpoints.begin_storing(completed);
        let parent = self.checkpoints.span(checkpoint);
        let span = tracing::info_span!(target: spans::TARGET, parent: &parent, "write manifest");
        let requests = self.job.checkpoint_requests.clone();
        self.background.spawn_with_result(completion::write_manifest(
            self.history.clone(),
            snapshot,
            requests,
            span,
        ));
    }

    /// Publishes the output of a stored checkpoint and notifies the sources, in the background.
    fn publish(&mut self, completed: Arc<Completed>) {
        let span = self.checkpoints.span(completed.checkpoint);
        let graph = &self.job.graph;
        let publication = Publication::begin(graph, &self.connectors, &mut *self.tasks, completed.clone(), span);
        for (node, source) in &self.connectors.sources {
            let id = graph.nodes[*node].id.clone();
            let splits = completion::splits_of(&completed, &id);
            let notification = completion::notify_source(source.clone(), id, splits, self.progress.clone());
            // The last one must arrive before the process ends.
            match completed.last {
                true => self.background.spawn(notification),
                false => self.background.spawn_optional(notification),
            }
        }
        let published = publication.run(
            graph.name.clone(),
            self.history.clone(),
            self.progress.clone(),
            self.checkpoints.started(),
            self.background.result_sender(),
        );
        self.background.spawn(published);
    }

    fn discovered(&mut self, found: Discovered) {
        // A region that restarts takes no new splits; they are discovered again.
        if self.failover.is_some() {
            return;
        }
        match found.splits {
            Ok(splits) => {
                let commands = self.discovery.assign_new(found.node, splits);
                self.send_all(commands);
            }
            Err(error) if error.retry().is_retryable() => {
                let id = &self.job.graph.nodes[found.node].id;
                self.progress
                    .warn(format!("{id}: new splits could not be listed: {error}"));
            }
            Err(error) => self.fail(error.into(), Retry::Never),
        }
    }

    fn deployment_event(&mut self, event: DeploymentEvent) {
        match event {
            DeploymentEvent::Task(event) => self.task_event(event),
            DeploymentEvent::RegionFailed {
                region,
                operator,
                subtask,
                error,
            } => {
                let retry = error.retry();
                self.region_failed(region, task_error(&operator, subtask, &error), retry);
            }
            DeploymentEvent::RegionStopped { region } => {
                if let Some(failover) = self.failover.as_mut().filter(|failover| failover.region() == region) {
                    failover.on_stopped(Instant::now());
                }
            }
            DeploymentEvent::RegionRunning { region } => self.region_running(region),
        }
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
                // The job ran, so another attempt may complete the checkpoint, whatever the error.
                let retry = error.retry().max(Retry::Limited);
                let declined = Event::Declined {
                    checkpoint,
                    operator,
                    subtask,
                    reason: error.to_string(),
                    rows_lost,
                };
                let actions = self.checkpoints.on_event_with(declined, retry);
                self.carry_out(actions);
            }
            TaskEvent::PointPassed { number } => self.point_passed(number),
            TaskEvent::PointRequested => self.points.on_requested(self.checkpoints.elapsed_ms()),
            TaskEvent::Finished => self.checkpoint_event(Event::InputEnded),
            TaskEvent::Failed {
                operator,
                subtask,
                error,
            } => {
                let retry = error.retry();
                self.fail(task_error(&operator, subtask, &error), retry);
            }
            TaskEvent::Stopped => self.fail(Error::Failed("the tasks stopped by themselves".into()), Retry::Never),
        }
    }

    /// Begins the failover of a region, or fails the attempt if the region cannot restart alone.
    fn region_failed(&mut self, region: usize, error: Error, retry: Retry) {
        if let Some(failover) = &self.failover {
            failover.set_error(&error);
        }
        let another_is_down = self
            .failover
            .as_ref()
            .is_some_and(|failover| failover.region() != region);
        let splits_unknown = self.is_takeover && self.checkpoints.stored().is_none();
        let is_ending = self.checkpoints.is_ending() || self.failure.is_some();
        // New writers of the region would not go on with what the old ones kept back; a restore of the job publishes
        // it.
        let keeps_output_back = self.connectors.sinks.values().any(|sink| sink.keeps_output_back());
        if another_is_down || splits_unknown || is_ending || keeps_output_back {
            return self.fail(error, retry);
        }
        let Some(delay) = self.restarts.next_delay(retry) else {
            return self.fail(error, retry);
        };
        let regions = self.tasks.regions();
        let slots = regions[region].clone();
        let reason = error.to_string();
        let described = format!(
            "{reason}; {} of {} slots restart, the others go on",
            slots.len(),
            regions.iter().map(Vec::len).sum::<usize>()
        );
        self.progress
            .warn(format!("{described}; restarting in {:.1} s", delay.as_secs_f64()));
        self.progress.update(|report| {
            report.phase = Phase::Restarting;
            report.reason = described;
            report.restarts += 1;
        });
        self.checkpoint_event(Event::Suspend {
            reason: format!("aborted: {reason}"),
        });
        let attempt = format!("{}-{region}", uuid::Uuid::new_v4().simple());
        let span = tracing::info_span!(
            target: spans::TARGET,
            parent: None,
            "restart region",
            job = self.job.graph.name,
            region,
            slots = slots.len(),
            reason,
        );
        let search = span.in_scope(|| spans::span!("wait for slots"));
        let relocation = {
            let (deployer, attempt) = (self.deployer, attempt.clone());
            async move {
                tokio::time::sleep(delay).await;
                spans::in_span(search, deployer.relocate(slots, attempt)).await
            }
        };
        let relocation = relocation.boxed();
        self.failover = Some(RegionFailover::new(region, attempt, reason, delay, relocation, span));
        self.tasks.stop_region(region);
    }

    fn region_relocated(&mut self, result: Result<Vec<String>, Error>) {
        if let Some(failover) = &mut self.failover
            && let Err(error) = failover.on_relocated(result)
        {
            self.fail(error, Retry::Limited);
        }
    }

    fn region_failover_timed_out(&mut self) {
        if let Some(failover) = &self.failover {
            let error = failover.timeout_error();
            self.fail(error, Retry::Limited);
        }
    }

    /// Restarts the failed region once its old tasks have stopped, there are slots, and no checkpoint is under way.
    fn restart_region_if_ready(&mut self) {
        if self.failure.is_some() || !self.checkpoints.is_idle() {
            return;
        }
        let Some(failover) = &mut self.failover else { return };
        let Some(place) = failover.start_if_ready(Instant::now()) else {
            return;
        };
        let (region, attempt) = (failover.region(), failover.attempt().to_string());
        let span = failover.span().clone();
        let slots = self.tasks.regions().swap_remove(region);
        let (checkpoint, states) = match (self.checkpoints.stored(), self.base) {
            (Some(stored), _) => {
                let mut snapshot = Snapshot::new(self.job, self.parallelism, stored);
                self.discovery.add_finished(&mut snapshot.operators);
                (Some(stored.checkpoint), snapshot.operators)
            }
            (None, Some(base)) => (Some(base.checkpoint), base.operators.clone()),
            (None, None) => (None, Default::default()),
        };
        let is_restarted = |subtask| slots.contains(&(subtask % self.parallelism));
        let restart = RegionRestart {
            region,
            attempt,
            slots: place,
            splits: self.discovery.reassign(&states, is_restarted),
            splits_are_final: self.discovery.is_final(),
            restore: states.into_iter().collect(),
            epoch: self.history.epoch(),
        };
        let restarted = span.in_scope(|| self.tasks.restart_region(restart));
        match restarted {
            Ok(restarted) => self.progress.update(|report| {
                report.counters.pop();
                report.counters.extend([restarted.stopped, restarted.counters]);
                report.restored_from = checkpoint.or(report.restored_from);
            }),
            // Its worker may just have gone.
            Err(error) => {
                let retry = error.retry();
                self.region_failed(region, error, retry);
            }
        }
    }

    fn region_running(&mut self, region: usize) {
        if self
            .failover
            .as_ref()
            .is_none_or(|failover| failover.region() != region)
        {
            return;
        }
        self.failover = None;
        let commands = self.discovery.no_more_splits();
        self.send_all(commands);
        self.progress.update(|report| report.phase = Phase::Running);
        self.checkpoint_event(Event::Resume);
    }
}

/// Returns the error of a task with the task's name.
fn task_error(operator: &OperatorId, subtask: usize, error: &millstream_runtime::Error) -> Error {
    let message = error.to_string();
    Error::Failed(match message.starts_with(&operator.0) {
        true => message,
        false => format!("{operator} (subtask {subtask}): {message}"),
    })
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// Waits for a request that asks for more than `before`.
async fn stop_request_raised(stop: &mut watch::Receiver<StopRequest>, before: StopRequest) {
    if stop.wait_for(|request| *request > before).await.is_err() {
        std::future::pending::<()>().await;
    }
}
