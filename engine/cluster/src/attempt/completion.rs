//! What follows a checkpoint that all subtasks have answered: its manifest, then the sinks' commits and the word to
//! sources, then retention. One that says the same as the last one stored needs none of it: nothing was read, no
//! watermark moved, no sink has anything to publish.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connectors::{Committable, Sink, Split};
use millstream_fail_point as fail_point;
use millstream_graph::OperatorId;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_store_errors::Retry;
use tracing::Span;

use super::committables_of;
use super::driver::{Background, Driver, report};
use crate::checkpoint::{Completed, Event};
use crate::progress::{CheckpointReport, Progress};
use crate::publish::{self, SubtaskOutput};
use crate::snapshot::{Snapshot, in_flight_bytes};
use crate::{Error, spans, splits};

impl Driver<'_> {
    /// Writes the manifest, in the background.
    pub(super) fn store(&mut self, completed: Arc<Completed>) {
        let mut snapshot = Snapshot::new(self.job, self.parallelism, &completed);
        splits::add_finished_splits(&self.known, &mut snapshot.operators);
        if std::mem::take(&mut self.is_learning) {
            self.running_splits_known(&completed);
        }
        // One that was asked for while this was under way is the next, which aligns.
        if !completed.has_rows_in_flight() {
            snapshot.savepoint = self.job.checkpoint_requests.take_savepoint_name();
        }
        let checkpoint = completed.checkpoint;
        if snapshot.savepoint.is_none() && self.is_unchanged(&completed) {
            self.progress.update(|report| {
                report.checkpoints_unchanged += 1;
                if let Some(last) = &mut report.last_checkpoint {
                    last.current_at = Instant::now();
                }
            });
            metrics::counter!("millstream_checkpoints_unchanged_total", "job" => self.job.graph.name.clone())
                .increment(1);
            report(&self.results, Background::Checkpoint(Event::Unchanged { checkpoint }));
            return;
        }
        self.storing = Some(completed.clone());
        let checkpoint_requests = self.job.checkpoint_requests.clone();
        let history = self.history.clone();
        let results = self.results.clone();
        let span = tracing::info_span!(target: spans::TARGET, parent: &self.span(checkpoint), "write manifest");
        self.background.spawn(async move {
            let checkpoint = completed.checkpoint;
            fail_point::reach("acknowledged");
            let event = match spans::in_span(span, history.save(&snapshot)).await {
                Ok(()) => Event::Stored { checkpoint },
                Err(error @ Error::State(millstream_state::Error::Superseded(_))) => {
                    report(&results, Background::Superseded(error));
                    return;
                }
                Err(error) => {
                    if let Some(name) = &snapshot.savepoint {
                        checkpoint_requests.name_next(name);
                    }
                    let event = Event::NotStored {
                        checkpoint,
                        reason: error.to_string(),
                    };
                    let retry = error.retry().max(Retry::Limited);
                    report(&results, Background::Failed(event, retry));
                    return;
                }
            };
            report(&results, Background::Checkpoint(event));
        });
    }

    /// Whether the last checkpoint stored says all that this one would.
    fn is_unchanged(&self, completed: &Completed) -> bool {
        let Some(stored) = &self.stored else { return false };
        let mut states = completed.states.values().flatten();
        !completed.last && states.all(|state| state.committables.is_empty()) && stored.states == completed.states
    }

    /// Lets all sinks commit, in the background; then old checkpoints may go.
    pub(super) fn publish(&mut self, completed: Arc<Completed>) {
        self.finished = completed.finished;
        let (mut commits, mut outputs, mut instead) = (Vec::new(), Vec::new(), Vec::new());
        // One that fails must not end the others only because it cannot publish what is complete: that is done here.
        let has_regions = !self.tasks.regions().is_empty();
        for (node, sink) in &self.connectors.sinks {
            let operator = &self.job.graph.nodes[*node].id;
            let states = completed.states.get(operator);
            if sink.commits_on_writer_process() && self.tasks.are_remote() {
                outputs.extend(outputs_of(operator, states));
                if has_regions {
                    instead.push((operator.clone(), sink.clone(), committables_of(states)));
                }
                continue;
            }
            let committables = committables_of(states);
            if !committables.is_empty() {
                commits.push((operator.clone(), sink.clone(), committables));
            }
        }
        let span = self.span(completed.checkpoint);
        let elsewhere = match outputs.is_empty() {
            true => None,
            false => Some(self.tasks.publish(completed.checkpoint, outputs, &span)),
        };
        self.notify_sources(&completed);
        let results = self.results.clone();
        let history = self.history.clone();
        let progress = self.progress.clone();
        let started = self.started;
        let job = self.job.graph.name.clone();
        self.background.spawn(async move {
            let checkpoint = completed.checkpoint;
            fail_point::reach("after-manifest");
            let elsewhere = async {
                let Some(publishing) = elsewhere else { return Ok(()) };
                match publishing.await {
                    Err(error) if !instead.is_empty() => {
                        tracing::warn!(job, checkpoint, "the workers' output is published here: {error}");
                        commit_all(instead, &span).await
                    }
                    published => published.map_err(|error| (error.to_string(), error.retry())),
                }
            };
            if let Err((reason, retry)) = futures::try_join!(commit_all(commits, &span), elsewhere) {
                let event = Event::NotPublished { checkpoint, reason };
                report(&results, Background::Failed(event, retry.max(Retry::Limited)));
                return;
            }
            fail_point::reach("published");
            record(&progress, &completed, started);
            metrics::counter!("millstream_checkpoints_total", "job" => job).increment(1);
            report(&results, Background::Checkpoint(Event::Published { checkpoint }));
            if let Err(error) = history.apply_retention().await {
                progress.warn(format!("old checkpoints could not be removed: {error}"));
            }
        });
    }

    fn notify_sources(&mut self, completed: &Completed) {
        for (node, source) in &self.connectors.sources {
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
}

type Commit = (OperatorId, Arc<dyn Sink>, Vec<Committable>);

async fn commit_all(commits: Vec<Commit>, span: &Span) -> Result<(), (String, Retry)> {
    for (operator, sink, committables) in commits {
        let span = tracing::info_span!(target: spans::TARGET, parent: span, "publish", sink = operator.0);
        let committed = spans::in_span(span, publish::commit_with_retries(&sink, committables)).await;
        committed.map_err(|error| (format!("{operator}: {error}"), error.retry()))?;
    }
    Ok(())
}

fn outputs_of(operator: &OperatorId, states: Option<&Vec<SubtaskState>>) -> impl Iterator<Item = SubtaskOutput> {
    let with_output = states
        .into_iter()
        .flatten()
        .filter(|state| !state.committables.is_empty());
    with_output.map(|state| SubtaskOutput {
        operator: operator.0.clone(),
        subtask: state.subtask,
        committables: state.committables.clone(),
    })
}

fn record(progress: &Progress, completed: &Completed, started: Instant) {
    let state_bytes: u64 = completed
        .states
        .values()
        .flatten()
        .filter_map(|state| state.keyed.as_ref())
        .map(|keyed| keyed.bytes)
        .sum();
    let in_flight_bytes = in_flight_bytes(completed.states.values().flatten());
    let acknowledged_in = Duration::from_millis(completed.acknowledged_ms - completed.triggered_ms);
    let took = started
        .elapsed()
        .saturating_sub(Duration::from_millis(completed.triggered_ms));
    progress.update(|report| {
        report.checkpoints += 1;
        report.checkpoints_unaligned += u64::from(in_flight_bytes > 0);
        report.acknowledged_in_max = report.acknowledged_in_max.max(acknowledged_in);
        report.state_bytes_max = report.state_bytes_max.max(state_bytes);
        report.last_checkpoint = Some(CheckpointReport {
            id: completed.checkpoint,
            acknowledged_in,
            took,
            state_bytes,
            in_flight_bytes,
            at: Instant::now(),
            current_at: Instant::now(),
        });
    });
}
