//! The steps after all subtasks have acknowledged a checkpoint: its manifest is written, then sinks publish and sources
//! are notified, then retention removes old checkpoints.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millstream_connectors::{Committable, Sink, Source, Split};
use millstream_fail_point as fail_point;
use millstream_graph::{JobGraph, OperatorId};
use millstream_runtime::subtask_state::SubtaskState;
use millstream_store_errors::Retry;
use tracing::Span;

use super::background::BackgroundResult;
use super::committables_of;
use super::connectors::Connectors;
use crate::checkpoint::{Completed, Event};
use crate::deployer::Tasks;
use crate::history::History;
use crate::job::CheckpointRequests;
use crate::progress::{CheckpointReport, Progress};
use crate::publish::{self, Publishing, SubtaskOutput};
use crate::snapshot::{Snapshot, in_flight_bytes};
use crate::{Error, spans};

/// Writes the manifest of a checkpoint. If that fails, the name of the savepoint is left for the next checkpoint.
pub(super) async fn write_manifest(
    history: History,
    snapshot: Snapshot,
    requests: Arc<CheckpointRequests>,
    span: Span,
) -> BackgroundResult {
    let checkpoint = snapshot.checkpoint;
    fail_point::reach("acknowledged");
    match spans::in_span(span, history.save(&snapshot)).await {
        Ok(()) => BackgroundResult::Checkpoint(Event::Stored { checkpoint }),
        Err(error @ Error::State(millstream_state::Error::Superseded(_))) => BackgroundResult::Superseded(error),
        Err(error) => {
            if let Some(name) = &snapshot.savepoint {
                requests.name_next(name);
            }
            let retry = error.retry().max(Retry::Limited);
            let reason = error.to_string();
            BackgroundResult::Failed(Event::NotStored { checkpoint, reason }, retry)
        }
    }
}

/// Output of one sink.
type SinkOutput = (OperatorId, Arc<dyn Sink>, Vec<Committable>);

/// The publication of a stored checkpoint's output.
pub(super) struct Publication {
    completed: Arc<Completed>,
    /// Output that this process publishes.
    local: Vec<SinkOutput>,
    /// Publication by the workers that wrote the output.
    remote: Option<Publishing>,
    /// Output that this process publishes if the workers do not. Only for tasks in several regions: a region that fails
    /// must not fail the others because it cannot publish a complete checkpoint.
    remote_fallback: Vec<SinkOutput>,
    span: Span,
}

impl Publication {
    /// Divides the output of a checkpoint between this process and the workers, and asks these to publish.
    pub(super) fn begin(
        graph: &JobGraph,
        connectors: &Connectors,
        tasks: &mut dyn Tasks,
        completed: Arc<Completed>,
        span: Span,
    ) -> Self {
        let (mut local, mut outputs, mut remote_fallback) = (Vec::new(), Vec::new(), Vec::new());
        let has_regions = !tasks.regions().is_empty();
        for (node, sink) in &connectors.sinks {
            let operator = &graph.nodes[*node].id;
            let states = completed.states.get(operator);
            if sink.commits_on_writer_process() && tasks.are_remote() {
                outputs.extend(subtask_outputs(operator, states));
                if has_regions {
                    remote_fallback.push((operator.clone(), sink.clone(), committables_of(states)));
                }
                continue;
            }
            let committables = committables_of(states);
            if !committables.is_empty() {
                local.push((operator.clone(), sink.clone(), committables));
            }
        }
        let remote = match outputs.is_empty() {
            true => None,
            false => Some(tasks.publish(completed.checkpoint, outputs, &span)),
        };
        Self {
            completed,
            local,
            remote,
            remote_fallback,
            span,
        }
    }

    /// Publishes, reports the checkpoint, and applies retention. `started`: the start of the attempt. The event is
    /// passed to `report` before retention is applied.
    pub(super) async fn run(
        self,
        job: String,
        history: History,
        progress: Progress,
        started: Instant,
        report: impl FnOnce(BackgroundResult),
    ) {
        let completed = self.completed.clone();
        let checkpoint = completed.checkpoint;
        fail_point::reach("after-manifest");
        if let Err((reason, retry)) = self.publish(&job).await {
            let event = Event::NotPublished { checkpoint, reason };
            return report(BackgroundResult::Failed(event, retry.max(Retry::Limited)));
        }
        fail_point::reach("published");
        report_checkpoint(&progress, &completed, started);
        metrics::counter!("millstream_checkpoints_total", "job" => job).increment(1);
        report(BackgroundResult::Checkpoint(Event::Published { checkpoint }));
        if let Err(error) = history.apply_retention().await {
            progress.warn(format!("old checkpoints could not be removed: {error}"));
        }
    }

    async fn publish(self, job: &str) -> Result<(), (String, Retry)> {
        let Self {
            completed,
            local,
            remote,
            remote_fallback,
            span,
        } = self;
        let checkpoint = completed.checkpoint;
        let remote = async {
            let Some(publishing) = remote else { return Ok(()) };
            match publishing.await {
                Err(error) if !remote_fallback.is_empty() => {
                    tracing::warn!(job, checkpoint, "the workers' output is published here: {error}");
                    commit_all(remote_fallback, &span).await
                }
                published => published.map_err(|error| (error.to_string(), error.retry())),
            }
        };
        futures::try_join!(commit_all(local, &span), remote).map(|((), ())| ())
    }
}

async fn commit_all(outputs: Vec<SinkOutput>, span: &Span) -> Result<(), (String, Retry)> {
    for (operator, sink, committables) in outputs {
        let span = tracing::info_span!(target: spans::TARGET, parent: span, "publish", sink = operator.0);
        let committed = spans::in_span(span, publish::commit_with_retries(&sink, committables)).await;
        committed.map_err(|error| (format!("{operator}: {error}"), error.retry()))?;
    }
    Ok(())
}

fn subtask_outputs(operator: &OperatorId, states: Option<&Vec<SubtaskState>>) -> impl Iterator<Item = SubtaskOutput> {
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

/// Notifies a source of the positions in a stored checkpoint.
pub(super) async fn notify_source(source: Arc<dyn Source>, id: OperatorId, splits: Vec<Split>, progress: Progress) {
    if let Err(error) = source.checkpoint_completed(&splits).await {
        progress.warn(format!(
            "{id}: the read positions could not be committed to the source: {error}"
        ));
    }
}

/// Returns the splits of a source in a checkpoint.
pub(super) fn splits_of(completed: &Completed, source: &OperatorId) -> Vec<Split> {
    let states = completed.states.get(source).into_iter().flatten();
    let splits = states.flat_map(|state| &state.splits).map(|split| Split {
        id: split.id.clone(),
        position: split.position.clone(),
        weight: split.weight,
        finished: split.finished,
    });
    splits.collect()
}

/// Reports a checkpoint that was not stored because nothing has changed.
pub(super) fn report_unchanged(progress: &Progress, job: &str) {
    progress.update(|report| {
        report.checkpoints_unchanged += 1;
        if let Some(last) = &mut report.last_checkpoint {
            last.current_at = Instant::now();
        }
    });
    metrics::counter!("millstream_checkpoints_unchanged_total", "job" => job.to_string()).increment(1);
}

/// Reports a published checkpoint.
fn report_checkpoint(progress: &Progress, completed: &Completed, started: Instant) {
    let keyed = completed.states.values().flatten();
    let state_bytes: u64 = keyed
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
