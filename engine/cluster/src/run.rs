//! Runs a job from start to end: attempts, one after another, each resuming from the latest complete checkpoint.

use std::time::Duration;

use millstream_state::checkpoint::DamagedCheckpoint;
use millstream_store_errors::Retry;
use tokio::sync::watch;

use crate::attempt::{self, Attempt, AttemptResult};
use crate::deployer::{AdoptedTasks, Deployer};
use crate::history::History;
use crate::job::{Job, Outcome, Start, StopRequest};
use crate::progress::{Phase, Progress};
use crate::restart::RestartStrategy;
use crate::snapshot::Snapshot;
use crate::{Error, fallback, restart};

/// Timeout for publishing the output of the latest checkpoint when a job is stopped whose tasks do not run.
const PUBLISH_AT_STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Claims the checkpoints of a job and runs it to its end.
pub async fn run(
    job: &Job,
    deployer: &dyn Deployer,
    stop: watch::Receiver<StopRequest>,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let open = || History::open(&job.checkpoint_storage, &job.graph.name, job.retain);
    let Some(history) = retry_while_disk_full(stop.clone(), progress, open).await? else {
        return Ok(Outcome::aborted(None));
    };
    run_claimed(job, &history, deployer, stop, progress).await
}

/// Runs a job to its end whose checkpoints are claimed already.
pub async fn run_claimed(
    job: &Job,
    history: &History,
    deployer: &dyn Deployer,
    stop: watch::Receiver<StopRequest>,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let asked = stop.clone();
    let mut outcome = run_attempts(job, history, deployer, stop, progress).await;
    let published = match &mut outcome {
        Ok(
            Outcome::Finished { checkpoint }
            | Outcome::AlreadyFinished { checkpoint, .. }
            | Outcome::Stopped { checkpoint },
        ) => Some(*checkpoint),
        Ok(Outcome::Aborted {
            last_checkpoint,
            unpublished,
        }) => {
            let newest = history.checkpoints().await.last().map(|info| info.checkpoint);
            *last_checkpoint = last_checkpoint.or(newest);
            // After a stop everything up to the last checkpoint is visible; without running tasks none was taken.
            if *asked.borrow() == StopRequest::Stop {
                *unpublished = publish_at_stop(job, history, asked).await;
                newest.filter(|_| unpublished.is_none())
            } else {
                None
            }
        }
        Err(_) => None,
    };
    if let Some(checkpoint) = published
        && let Err(error) = history.record_published(checkpoint).await
    {
        // The next restore of the checkpoint publishes its output again, which changes nothing.
        tracing::warn!(job = job.graph.name, checkpoint, "not recorded as published: {error}");
    }
    progress.update(|report| report.phase = Phase::Ended);
    outcome
}

/// Publishes the output of the latest checkpoint. Returns the reason if it may not be published.
async fn publish_at_stop(job: &Job, history: &History, stop: watch::Receiver<StopRequest>) -> Option<String> {
    let publishing = tokio::time::timeout(PUBLISH_AT_STOP_TIMEOUT, attempt::publish_latest(job, history));
    tokio::select! {
        published = publishing => match published {
            Ok(published) => published.err().map(|error| error.to_string()),
            Err(_) => Some(format!(
                "the sinks did not accept it within {} s (PUBLISH_AT_STOP_TIMEOUT)",
                PUBLISH_AT_STOP_TIMEOUT.as_secs()
            )),
        },
        () = attempt::stop_requested(stop, StopRequest::Abort) => Some("the job was ended at once".to_string()),
    }
}

async fn run_attempts(
    job: &Job,
    history: &History,
    deployer: &dyn Deployer,
    mut stop: watch::Receiver<StopRequest>,
    progress: &Progress,
) -> Result<Outcome, Error> {
    let mut restarts = RestartStrategy::new(job.restart.clone());
    let mut policy = fallback::Policy {
        exactly_once_sinks: attempt::exactly_once_sinks(job)?,
        duplicates_allowed_to: 0,
    };
    let found = match job.start {
        Start::Resume => tokio::select! {
            found = adopt_running_tasks(job, history, deployer, progress) => found,
            () = attempt::stop_requested(stop.clone(), StopRequest::Abort) => {
                let last_checkpoint = history.checkpoints().await.last().map(|info| info.checkpoint);
                return Ok(Outcome::aborted(last_checkpoint));
            }
        },
        Start::Fresh | Start::FromCheckpoint(_) => None,
    };
    let (mut base, mut adopted) = match found {
        Some((adopted, base)) => (base, Some(adopted)),
        None => {
            if job.allow_duplicates {
                // Duplicates are accepted for present damage, not for damage that occurs later.
                policy.duplicates_allowed_to = history.next_id().await;
            }
            let begin = || async {
                history.sweep_once().await?;
                initial_checkpoint(job, history, progress, &policy).await
            };
            match retry_with_backoff(
                &mut restarts,
                &mut stop,
                progress,
                retry_threshold(job.started_before),
                begin,
            )
            .await?
            {
                Some(base) => (base, None),
                None => return Ok(Outcome::aborted(None)),
            }
        }
    };
    progress.update(|report| report.start_is_known = true);
    // Checkpoints that could not be restored.
    let mut damaged = Vec::new();
    // A checkpoint that the user has chosen is not replaced by an older one.
    let chosen = match job.start {
        Start::FromCheckpoint(_) => base.as_ref().map(|snapshot| snapshot.checkpoint),
        Start::Fresh | Start::Resume => None,
    };
    let mut ever_started = job.started_before;
    let mut trace_parent = job.trace_parent.as_str();
    loop {
        if let Some(snapshot) = &base
            && adopted.is_none()
        {
            progress.update(|report| report.restored_from = Some(snapshot.checkpoint));
        }
        let attempt = Attempt {
            job,
            deployer,
            history,
            base: base.as_ref(),
            progress,
            trace_parent: std::mem::take(&mut trace_parent),
            stop: stop.clone(),
        };
        let failure = match attempt::run(attempt, adopted.take(), &mut restarts).await? {
            AttemptResult::Ended(outcome) => return Ok(outcome),
            AttemptResult::Failed(failure) => failure,
        };
        ever_started |= failure.started;
        if failure.last_checkpoint.is_some() {
            let latest = || history.latest(progress, &damaged, &policy);
            let Some(latest) = retry_with_backoff(&mut restarts, &mut stop, progress, Retry::Limited, latest).await?
            else {
                let last_checkpoint = failure.last_checkpoint;
                return Ok(Outcome::aborted(last_checkpoint));
            };
            base = latest;
        }
        if let Some(snapshot) = &base
            && failure.is_damage
            && chosen != Some(snapshot.checkpoint)
        {
            progress.warn(format!(
                "checkpoint {} is damaged and skipped: {}",
                snapshot.checkpoint, failure.error
            ));
            damaged.push(DamagedCheckpoint {
                checkpoint: snapshot.checkpoint,
                reason: failure.error.to_string(),
            });
            let latest = || history.latest(progress, &damaged, &policy);
            let Some(latest) = retry_with_backoff(&mut restarts, &mut stop, progress, Retry::Limited, latest).await?
            else {
                let last_checkpoint = failure.last_checkpoint;
                return Ok(Outcome::aborted(last_checkpoint));
            };
            base = latest;
            continue;
        }
        let resume = match &base {
            Some(snapshot) => format!("checkpoint {}", snapshot.checkpoint),
            None => "the beginning".to_string(),
        };
        if !failure.retry.is_retryable() || failure.retry < retry_threshold(ever_started) {
            return Err(failure.error);
        }
        let Some(delay) = restarts.next_delay(failure.retry) else {
            return Err(Error::Failed(format!(
                "{} (gave up after {} restarts in a row; run the same command again to resume from {resume})",
                failure.error,
                restarts.attempts_max()
            )));
        };
        progress.warn(format!(
            "{}; restarting from {resume} in {:.1} s",
            failure.error,
            delay.as_secs_f64()
        ));
        progress.update(|report| {
            report.phase = Phase::Restarting;
            report.reason = failure.error.to_string();
            report.restarts += 1;
        });
        if stop_requested_within(&mut stop, delay).await {
            return Ok(Outcome::aborted(base.map(|snapshot| snapshot.checkpoint)));
        }
    }
}

/// Returns the checkpoint that a run without running tasks starts from.
async fn initial_checkpoint(
    job: &Job,
    history: &History,
    progress: &Progress,
    policy: &fallback::Policy,
) -> Result<Option<Snapshot>, Error> {
    match job.start {
        Start::Fresh => {
            history.start_fresh(job, progress).await?;
            attempt::earlier_output(job, progress).await?;
            Ok(None)
        }
        Start::Resume => history.latest(progress, &[], policy).await,
        Start::FromCheckpoint(id) => {
            let chosen = history.load(id).await?;
            // A refusal must leave the job as it was.
            attempt::check_compatibility(job, &chosen).await?;
            history.replay(chosen).await.map(Some)
        }
    }
}

/// Returns running tasks of the job, with the latest checkpoint. If they cannot be adopted, the job restarts.
async fn adopt_running_tasks(
    job: &Job,
    history: &History,
    deployer: &dyn Deployer,
    progress: &Progress,
) -> Option<(AdoptedTasks, Option<Snapshot>)> {
    let found = async {
        let Some(adopted) = deployer.adopt(job).await? else {
            return Ok(None);
        };
        match history.latest_for_running_tasks().await? {
            Ok(latest) => Ok(Some((adopted, latest))),
            Err(damage) => Err(Error::Failed(damage)),
        }
    };
    match found.await {
        Ok(found) => found,
        Err(error) => {
            let error: Error = error;
            progress.warn(format!(
                "the tasks that were running cannot be taken over: {error}; restarting"
            ));
            progress.update(|report| {
                report.phase = Phase::Restarting;
                report.reason = error.to_string();
                report.restarts += 1;
            });
            None
        }
    }
}

/// Returns the least retryability that leads to another try: a failure before the job ever started is more likely a
/// wrong address than an outage, unless a disk is full.
fn retry_threshold(ever_started: bool) -> Retry {
    match ever_started {
        true => Retry::Limited,
        false => Retry::Unlimited,
    }
}

/// Runs an operation on a local disk, and retries it while the disk is full. Returns `None` after a request to stop.
pub async fn retry_while_disk_full<T, Doing: Future<Output = Result<T, Error>>>(
    mut stop: watch::Receiver<StopRequest>,
    progress: &Progress,
    doing: impl Fn() -> Doing,
) -> Result<Option<T>, Error> {
    let mut restarts = RestartStrategy::new(restart::Config::default());
    retry_with_backoff(&mut restarts, &mut stop, progress, Retry::Unlimited, doing).await
}

/// Runs an operation on the checkpoint storage and retries it during outages, which must not end the job. Errors
/// below `retry_threshold` are final. Returns `None` after a request to stop.
async fn retry_with_backoff<T, Reading: Future<Output = Result<T, Error>>>(
    restarts: &mut RestartStrategy,
    stop: &mut watch::Receiver<StopRequest>,
    progress: &Progress,
    retry_threshold: Retry,
    read: impl Fn() -> Reading,
) -> Result<Option<T>, Error> {
    loop {
        let error = match read().await {
            Ok(found) => return Ok(Some(found)),
            Err(error) => error,
        };
        let retry = error.retry();
        if retry < retry_threshold {
            return Err(error);
        }
        let Some(delay) = restarts.next_delay(retry) else {
            return Err(error);
        };
        progress.warn(format!("{error}; trying again in {:.1} s", delay.as_secs_f64()));
        if retry.is_disk_full() {
            progress.update(|report| {
                report.phase = Phase::Restarting;
                report.reason = error.to_string();
            });
        }
        if stop_requested_within(stop, delay).await {
            return Ok(None);
        }
    }
}

/// Waits for this time. Returns true if a request to stop came meanwhile.
async fn stop_requested_within(stop: &mut watch::Receiver<StopRequest>, delay: Duration) -> bool {
    let asked = async {
        if stop.wait_for(|request| *request != StopRequest::None).await.is_err() {
            // No sender is left.
            std::future::pending::<()>().await;
        }
    };
    tokio::time::timeout(delay, asked).await.is_ok()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn unreachable() -> Error {
        Error::State(millstream_state::Error::Unreachable(
            "the bucket does not answer".into(),
        ))
    }

    async fn read(failures: u32, error: fn() -> Error, asked: StopRequest) -> Result<Option<u32>, String> {
        let mut restarts = RestartStrategy::new(restart::Config {
            delay_first: Duration::from_millis(1),
            delay_max: Duration::from_millis(1),
            attempts_max: 3,
        });
        let (_ask, mut stop) = watch::channel(asked);
        let tries = AtomicU32::new(0);
        let read = || async {
            match tries.fetch_add(1, Ordering::Relaxed) {
                turn if turn < failures => Err(error()),
                turn => Ok(turn),
            }
        };
        let found = retry_with_backoff(&mut restarts, &mut stop, &Progress::default(), Retry::Limited, read).await;
        found.map_err(|error| error.to_string())
    }

    #[tokio::test]
    async fn an_outage_while_a_checkpoint_is_read_does_not_end_the_job() {
        let wrong = || Error::Invalid("another job's".into());
        let full = || Error::State(millstream_state::Error::DiskFull("no space left on /d".into()));
        assert_eq!(read(2, unreachable, StopRequest::None).await, Ok(Some(2)));
        assert_eq!(read(9, unreachable, StopRequest::Stop).await, Ok(None));
        assert!(
            read(9, unreachable, StopRequest::None).await.is_err(),
            "there is a limit"
        );
        assert_eq!(read(20, full, StopRequest::None).await, Ok(Some(20)));
        assert!(
            read(1, wrong, StopRequest::None).await.is_err(),
            "trying again changes nothing"
        );
    }
}
