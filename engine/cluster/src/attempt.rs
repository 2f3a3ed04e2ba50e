//! One attempt at running a job: from a checkpoint (or from nothing) until it ends, fails or is stopped.
//!
//! The order of the steps at the start matters ([`prepare`]). Splits are listed, slots are allocated, and the state
//! is downloaded and verified. Then the committables of the restored checkpoint are published, even if the last
//! attempt published them already; none is if the checkpoint turns out to be damaged. Then sinks remove what no
//! checkpoint names, and the tasks start. From there one loop ([`driver`]) handles the events of the tasks. An
//! attempt whose tasks run already is taken over as it is ([`takeover`]).
//!
//! Work in the background (a manifest being written, a sink committing) is awaited before the attempt ends, because a
//! later attempt must not race it.

mod background;
mod checkpoints;
mod completion;
mod connectors;
mod discovery;
mod driver;
mod earlier_output;
mod monitor;
mod pending_output;
mod points;
mod prepare;
mod region_failover;
mod takeover;
mod unread_input;

use millstream_connectors::Committable;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_store_errors::Retry;
use tokio::sync::watch;

pub(crate) use self::connectors::{check_connectors, exactly_once_sinks};
use self::driver::Driver;
pub(crate) use self::earlier_output::earlier_output;
pub(crate) use self::pending_output::publish_latest;
use self::prepare::Start;
pub(crate) use self::prepare::check_compatibility;
use crate::deployer::{AdoptedTasks, Deployer};
use crate::history::History;
use crate::job::{Job, Outcome, StopRequest};
use crate::progress::Progress;
use crate::restart::RestartStrategy;
use crate::snapshot::Snapshot;
use crate::{Error, spans};

/// The parameters of an attempt.
pub(crate) struct Attempt<'a> {
    /// The job to run.
    pub job: &'a Job,
    /// Starts the tasks.
    pub deployer: &'a dyn Deployer,
    /// The checkpoints of the job.
    pub history: &'a History,
    /// The checkpoint to restore; `None`: the job starts without state.
    pub base: Option<&'a Snapshot>,
    /// Receiver of progress reports.
    pub progress: &'a Progress,
    /// The W3C trace parent of the request that started this attempt; empty if there was none.
    pub trace_parent: &'a str,
    /// Requests to stop.
    pub stop: watch::Receiver<StopRequest>,
}

/// The result of an attempt.
pub(crate) enum AttemptResult {
    /// The job has ended, or was stopped.
    Ended(Outcome),
    /// The attempt failed; another one may succeed.
    Failed(Failure),
}

/// The failure of an attempt.
pub(crate) struct Failure {
    /// The cause.
    pub error: Error,
    /// The retryability of the cause.
    pub retry: Retry,
    /// True if the restored checkpoint is damaged.
    pub is_damage: bool,
    /// True if the tasks had started.
    pub started: bool,
    /// Number of the newest checkpoint that this attempt stored.
    pub last_checkpoint: Option<u64>,
}

/// Runs an attempt to its end. `adopted`: its tasks, if they run already.
pub(crate) async fn run<'a>(
    mut attempt: Attempt<'a>,
    adopted: Option<AdoptedTasks>,
    restarts: &'a mut RestartStrategy,
) -> Result<AttemptResult, Error> {
    // Tasks that run take a last checkpoint when they are stopped. Before there are any, a stop ends the attempt at
    // once.
    let cut_off_by = match adopted {
        Some(_) => StopRequest::Abort,
        None => StopRequest::Stop,
    };
    let span = tracing::info_span!(
        target: spans::TARGET,
        parent: None,
        "deploy",
        job = attempt.job.graph.name,
        is_takeover = adopted.is_some(),
        from_checkpoint = attempt.base.map(|base| base.checkpoint),
    );
    spans::set_parent(&span, attempt.trace_parent);
    let prepared = spans::in_span(span, async {
        match adopted {
            Some(adopted) => takeover::prepare(&attempt, adopted).await,
            None => prepare::prepare(&attempt).await,
        }
    });
    let prepared = tokio::select! {
        prepared = prepared => prepared,
        () = stop_requested(attempt.stop.clone(), cut_off_by) => {
            return Ok(AttemptResult::Ended(Outcome::aborted(attempt.base.map(|base| base.checkpoint))));
        }
    };
    let prepared = match prepared {
        Ok(Start::Running(prepared)) => prepared,
        Ok(Start::AlreadyFinished { checkpoint, unread }) => {
            return Ok(AttemptResult::Ended(Outcome::AlreadyFinished { checkpoint, unread }));
        }
        Err(error) => {
            return Ok(AttemptResult::Failed(Failure {
                retry: error.retry(),
                is_damage: error.is_damage(),
                error,
                started: false,
                last_checkpoint: None,
            }));
        }
    };
    let counters = prepared.tasks.counters();
    attempt.progress.update(|report| report.counters.push(counters));
    let next_id = attempt.history.next_id().await.max(prepared.newest_checkpoint + 1);
    let mut driver = Driver::new(&attempt, prepared, next_id, restarts);
    driver.drive(&mut attempt.stop).await
}

/// Waits for a request that asks for at least `wanted`.
pub(crate) async fn stop_requested(mut stop: watch::Receiver<StopRequest>, wanted: StopRequest) {
    if stop.wait_for(|request| *request >= wanted).await.is_err() {
        // No sender is left.
        std::future::pending::<()>().await;
    }
}

/// Returns the committables of all subtasks of a sink.
fn committables_of(states: Option<&Vec<SubtaskState>>) -> Vec<Committable> {
    states
        .into_iter()
        .flatten()
        .flat_map(|state| state.committables.iter().cloned())
        .collect()
}
