//! The checkpoints of an attempt whose tasks run.
//!
//! [`Checkpoints`] is a state machine around the checkpoint coordinator ([`Coordinator`]): it adds the callers that
//! wait for a checkpoint, the spans, and the newest checkpoint that is stored. Events go in; the actions that come out
//! are for the driver to carry out in their order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_fail_point as fail_point;
use millstream_runtime::command::Command as TaskCommand;
use millstream_store_errors::Retry;
use tracing::Span;

use super::background::BackgroundResult;
use crate::checkpoint::{Command, Completed, Coordinator, Event, Participant};
use crate::job::{Job, Outcome, TakenCheckpoint, Waiter};
use crate::progress::Progress;
use crate::{Error, spans};

/// An action that follows from an event.
#[derive(Debug)]
pub(super) enum Action {
    /// Send a command to the tasks.
    Command(TaskCommand),
    /// Write the manifest of a checkpoint.
    Store(Arc<Completed>),
    /// Let the sinks publish a stored checkpoint.
    Publish(Arc<Completed>),
    /// A checkpoint is stored: the count of restarts begins anew.
    Stored,
    /// Fail the attempt.
    Fail(Error, Retry),
    /// The job's checkpoints belong to another process: fail the attempt and change nothing more.
    Superseded(Error),
    /// End the attempt.
    End(Outcome),
}

/// The checkpoints of one attempt.
pub(super) struct Checkpoints<'a> {
    job: &'a Job,
    progress: &'a Progress,
    coordinator: Coordinator,
    started: Instant,
    /// Spans of the checkpoints under way.
    spans: BTreeMap<u64, Span>,
    /// A checkpoint under way and the callers that wait for it.
    waiters: Option<(u64, Vec<Waiter>)>,
    /// The checkpoint whose manifest is being written.
    storing: Option<Arc<Completed>>,
    /// The newest checkpoint whose manifest is written.
    stored: Option<Arc<Completed>>,
    /// Number of the newest checkpoint that is stored.
    newest: Option<u64>,
    /// True if the newest complete checkpoint follows the end of all input.
    input_has_ended: bool,
}

impl<'a> Checkpoints<'a> {
    /// Creates the state of an attempt whose first checkpoint gets the number `next_id`.
    pub(super) fn new(job: &'a Job, progress: &'a Progress, parallelism: usize, next_id: u64) -> Self {
        let mut participants = BTreeSet::<Participant>::new();
        for (index, node) in job.graph.nodes.iter().enumerate() {
            participants.extend((0..job.subtasks(index, parallelism)).map(|subtask| (node.id.clone(), subtask)));
        }
        Self {
            job,
            progress,
            coordinator: Coordinator::new(job.checkpoints.clone(), participants, next_id, 0),
            started: Instant::now(),
            spans: BTreeMap::new(),
            waiters: None,
            storing: None,
            stored: None,
            newest: None,
            input_has_ended: false,
        }
    }

    /// Returns the start of the attempt, from which checkpoints count their milliseconds.
    pub(super) fn started(&self) -> Instant {
        self.started
    }

    /// Returns the time of the next [`Event::Tick`].
    pub(super) fn next_tick(&self) -> Option<Instant> {
        let at_ms = self.coordinator.next_tick_ms()?;
        Some(self.started + Duration::from_millis(at_ms))
    }

    /// Returns true if no checkpoint is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.coordinator.is_idle()
    }

    /// Returns the milliseconds since the start of the attempt.
    pub(super) fn elapsed_ms(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// Returns true if the barriers of a checkpoint may be under way.
    pub(super) fn is_collecting(&self) -> bool {
        self.coordinator.is_collecting()
    }

    /// Returns true if the last checkpoint is due or under way.
    pub(super) fn is_ending(&self) -> bool {
        self.coordinator.is_ending()
    }

    /// Returns the number of the newest checkpoint that this attempt has stored.
    pub(super) fn newest(&self) -> Option<u64> {
        self.newest
    }

    /// Returns the newest checkpoint whose manifest this attempt has written.
    pub(super) fn stored(&self) -> Option<&Arc<Completed>> {
        self.stored.as_ref()
    }

    /// Returns the span of a checkpoint under way.
    pub(super) fn span(&self, checkpoint: u64) -> Span {
        self.spans.get(&checkpoint).cloned().unwrap_or_else(Span::none)
    }

    /// Returns true if a checkpoint would have the same content as the newest one stored: nothing was read, no
    /// watermark has moved, and no sink has anything to publish.
    pub(super) fn is_unchanged(&self, completed: &Completed) -> bool {
        let Some(stored) = &self.stored else { return false };
        let mut states = completed.states.values().flatten();
        !completed.last && states.all(|state| state.committables.is_empty()) && stored.states == completed.states
    }

    /// Takes note of the checkpoint whose manifest is being written.
    pub(super) fn begin_storing(&mut self, completed: Arc<Completed>) {
        self.storing = Some(completed);
    }

    /// Handles an event. If it fails the attempt without an error of its own (a timeout), the cause is an outage.
    pub(super) fn on_event(&mut self, event: Event) -> Vec<Action> {
        self.on_event_with(event, Retry::Limited)
    }

    /// Handles an event whose cause has this retryability, in case it fails the attempt.
    pub(super) fn on_event_with(&mut self, event: Event, retry: Retry) -> Vec<Action> {
        let mut actions = Vec::new();
        self.handle(event, retry, &mut actions);
        actions
    }

    /// Handles the result of work in the background.
    pub(super) fn on_result(&mut self, result: BackgroundResult) -> Vec<Action> {
        let mut actions = Vec::new();
        match result {
            BackgroundResult::Checkpoint(event) => {
                let is_over = matches!(event, Event::Published { .. } | Event::Unchanged { .. });
                match &event {
                    Event::Stored { checkpoint } => {
                        actions.push(self.on_stored(*checkpoint));
                        self.stored = self.storing.take();
                    }
                    Event::Published { checkpoint } => {
                        let checkpoint = *checkpoint;
                        actions.push(Action::Command(TaskCommand::Confirm { checkpoint }));
                        let taken = TakenCheckpoint {
                            checkpoint,
                            is_unchanged: false,
                        };
                        self.answer_waiters(checkpoint, &Ok(taken));
                    }
                    Event::Unchanged { checkpoint } => {
                        let checkpoint = *checkpoint;
                        actions.push(Action::Command(TaskCommand::Confirm { checkpoint }));
                        let taken = TakenCheckpoint {
                            checkpoint: self.stored.as_ref().map_or(checkpoint, |stored| stored.checkpoint),
                            is_unchanged: true,
                        };
                        self.answer_waiters(checkpoint, &Ok(taken));
                    }
                    _ => {}
                }
                self.handle(event, Retry::Limited, &mut actions);
                if is_over {
                    self.trigger_if_requested(&mut actions);
                }
            }
            BackgroundResult::Failed(event, retry) => self.handle(event, retry, &mut actions),
            BackgroundResult::Superseded(error) => actions.push(Action::Superseded(error)),
        }
        actions
    }

    /// Takes note of a checkpoint whose manifest is written.
    pub(super) fn on_stored(&mut self, checkpoint: u64) -> Action {
        self.newest = Some(checkpoint);
        Action::Stored
    }

    fn handle(&mut self, event: Event, retry: Retry, actions: &mut Vec<Action>) {
        let published = match &event {
            Event::Published { checkpoint } => Some(*checkpoint),
            _ => None,
        };
        self.trace(&event);
        let now_ms = self.elapsed_ms();
        for command in self.coordinator.on_event(event, now_ms) {
            match command {
                Command::Trigger { checkpoint, last } => actions.push(self.trigger(checkpoint, last)),
                Command::Store(completed) => actions.push(Action::Store(completed)),
                Command::Publish(completed) => {
                    self.input_has_ended = completed.finished;
                    actions.push(Action::Publish(completed));
                }
                Command::Warn { checkpoint, reason } => {
                    if let Some(span) = self.spans.remove(&checkpoint) {
                        spans::set_error(&span, &reason);
                    }
                    self.progress.update(|report| report.checkpoints_failed += 1);
                    self.progress.warn(format!("checkpoint {checkpoint} failed: {reason}"));
                    self.answer_waiters(checkpoint, &Err(reason));
                    self.trigger_if_requested(actions);
                }
                Command::Fail { reason } => actions.push(Action::Fail(Error::Failed(reason), retry)),
                Command::Done => {
                    let checkpoint = published.or(self.newest).unwrap_or_default();
                    actions.push(Action::End(match self.input_has_ended {
                        true => Outcome::Finished { checkpoint },
                        false => Outcome::Stopped { checkpoint },
                    }));
                }
            }
        }
    }

    fn trace(&mut self, event: &Event) {
        match event {
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
    }

    fn trigger(&mut self, checkpoint: u64, last: bool) -> Action {
        fail_point::reach("trigger");
        let requests = &self.job.checkpoint_requests;
        // Changes that operators hold back are no state, so the barriers of a job with consistency points never
        // overtake rows.
        let must_align = self.job.graph.consistency_interval.is_some()
            || self.job.graph.needs_aligned_checkpoints()
            || must_align(last, requests.has_savepoint_name(), self.coordinator.failures_in_row());
        let aligned_timeout_ms = self.job.checkpoints.aligned_timeout_ms.filter(|_| !must_align);
        let span = tracing::info_span!(
            target: spans::TARGET,
            parent: None,
            "checkpoint",
            job = self.job.graph.name,
            checkpoint,
            is_last = last,
        );
        self.spans.insert(checkpoint, span);
        let waiters = requests.take_waiters();
        if !waiters.is_empty() {
            self.waiters = Some((checkpoint, waiters));
        }
        Action::Command(TaskCommand::Checkpoint {
            id: checkpoint,
            last,
            aligned_timeout: aligned_timeout_ms.map(Duration::from_millis),
        })
    }

    /// Triggers a checkpoint that was requested while another one was under way.
    fn trigger_if_requested(&mut self, actions: &mut Vec<Action>) {
        let requests = &self.job.checkpoint_requests;
        if requests.has_savepoint_name() || requests.has_waiters() {
            self.handle(Event::Requested, Retry::Limited, actions);
        }
    }

    /// Answers the callers that wait for this checkpoint with the one that was taken, or with the reason for a failure.
    fn answer_waiters(&mut self, checkpoint: u64, result: &Result<TakenCheckpoint, String>) {
        let Some((_, waiters)) = self.waiters.take_if(|(of, _)| *of == checkpoint) else {
            return;
        };
        for waiter in waiters {
            if waiter.send(result.clone()).is_err() {
                tracing::debug!(checkpoint, "nobody waits for it any more");
            }
        }
    }
}

/// Returns true if the tasks must wait for all barriers of a checkpoint. The last one and savepoints may be restored by
/// another pipeline, which may not have the channels of rows in flight. After a checkpoint that failed because too many
/// bytes were in flight the next one would fail, too: every other one aligns.
fn must_align(last: bool, is_savepoint: bool, failures_in_row: u32) -> bool {
    last || is_savepoint || failures_in_row % 2 == 1
}

#[cfg(test)]
mod tests;
