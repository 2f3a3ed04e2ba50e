//! One attempt at running a job: from a checkpoint (or nothing) until it ends, fails or is stopped.
//!
//! The order at the start matters ([`prepare`]): splits are found, slots too, and the state is brought there and
//! verified; then the committables of the restored checkpoint are published (they are part of it, whether or not the
//! last attempt came to it; but nothing of a checkpoint is, that turns out to be damaged), then sinks clean up what no
//! checkpoint names, then tasks start. From there one loop ([`driver`]) turns what happens into events of the
//! checkpoint coordinator and carries out its commands; a region that fails alone begins again alone ([`region_failover`]);
//! what follows a checkpoint that all have answered is in [`completion`]. Tasks that run already are looked after from
//! where they are ([`takeover`]). Whatever was begun in the background (a manifest being written, a sink committing) is
//! awaited before the attempt ends: a later attempt must not race it.

mod background;
mod checkpoints;
mod completion;
mod connectors;
mod discovery;
mod driver;
mod earlier_output;
mod monitor;
mod pending_output;
mod prepare;
mod region_failover;
mod takeover;
mod unread_input;

use millstream_connectors::Committable;
use millstream_runtime::subtask_state::SubtaskState;
use millstream_store_errors::Retry;
use tokio::sync::watch;

pub use self::connectors::{check_connectors, exactly_once_sinks};
use self::driver::Driver;
pub(crate) use self::earlier_output::earlier_output;
pub(crate) use self::pending_output::publish_latest;
use self::prepare::Start;
pub use self::prepare::check_compatibility;
use crate::deployer::{AdoptedTasks, Deployer};
use crate::history::History;
use crate::job::{Job, Outcome, StopRequest};
use crate::progress::Progress;
use crate::restart::RestartStrategy;
use crate::snapshot::Snapshot;
use crate::{Error, spans};

pub struct Attempt<'a> {
    pub job: &'a Job,
    pub deployer: &'a dyn Deployer,
    pub history: &'a History,
    pub base: Option<&'a Snapshot>,
    pub progress: &'a Progress,
    /// The span of what asked for this attempt, if it was asked for.
    pub trace_parent: &'a str,
    pub stop: watch::Receiver<StopRequest>,
}

pub enum AttemptResult {
    Ended(Outcome),
    Failed(Failure),
}

pub struct Failure {
    pub error: Error,
    pub retry: Retry,
    /// The checkpoint to start from is not as it was written.
    pub is_damage: bool,
    /// The tasks were running.
    pub started: bool,
    /// The newest checkpoint of this attempt.
    pub last_checkpoint: Option<u64>,
}

/// `adopted`: its tasks run already.
pub async fn run<'a>(
    mut attempt: Attempt<'a>,
    adopted: Option<AdoptedTasks>,
    restarts: &'a mut RestartStrategy,
) -> Result<AttemptResult, Error> {
    // Tasks that run take a last checkpoint when they are to stop; where none do there is nothing to wait for.
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

/// Resolves when someone asks for at least this.
pub async fn stop_requested(mut stop: watch::Receiver<StopRequest>, wanted: StopRequest) {
    if stop.wait_for(|request| *request >= wanted).await.is_err() {
        // Nobody is left who could ask.
        std::future::pending::<()>().await;
    }
}

fn committables_of(states: Option<&Vec<SubtaskState>>) -> Vec<Committable> {
    states
        .into_iter()
        .flatten()
        .flat_map(|state| state.committables.iter().cloned())
        .collect()
}
