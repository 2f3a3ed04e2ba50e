//! Deletion of jobs: first their checkpoints except savepoints, then their names.
//!
//! The request is journalled first. From then on the job accepts no other request, and this coordinator or the next
//! one retries the deletion until it is complete.

use std::sync::Arc;
use std::time::Duration;

use crate::api::{self, Code};
use crate::coordinator::errors::{internal, storage_error};
use crate::coordinator::leader::{Leader, NameReservation};
use crate::coordinator::state::Request;

/// Pause between two tries.
const RETRY_INTERVAL: Duration = Duration::from_secs(5);
/// Pause between two tries to reserve the job's name.
const RESERVATION_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Deletes a job that has ended. Returns Ok once it is gone; an error says whether the deletion continues.
pub(super) async fn delete(leader: &Arc<Leader>, job: &str) -> Result<(), api::Error> {
    leader.change(Request::Delete { job: job.into() }).await?;
    let (leader, job) = (leader.clone(), job.to_string());
    // The deletion continues if the client does not wait for it.
    let deleting = tokio::spawn(async move {
        let Err(error) = complete(&leader, &job).await else {
            return Ok(());
        };
        retry_until_deleted(&leader, &job);
        let goes_on = match leader.has_ended() {
            true => "the present leader continues the deletion".to_string(),
            false => format!(
                "this is tried again every {} s (RETRY_INTERVAL)",
                RETRY_INTERVAL.as_secs()
            ),
        };
        // The request is in the journal, so the error must not say that nothing was changed.
        Err(api::Error::new(
            Code::Unavailable,
            format!(
                "`{job}` is being deleted, but is not gone yet: {}; {goes_on}",
                error.message
            ),
        ))
    });
    deleting.await.map_err(|error| internal(&error))?
}

/// Continues the deletions that an earlier coordinator has begun.
pub(super) fn resume(leader: &Arc<Leader>) {
    let begun: Vec<String> = leader.with(|inner| {
        let jobs = inner.state.jobs().iter().filter(|(_, job)| job.record.deleting);
        jobs.map(|(name, _)| name.clone()).collect()
    });
    begun.iter().for_each(|job| retry_until_deleted(leader, job));
}

/// Retries in the background until the job is gone.
fn retry_until_deleted(leader: &Arc<Leader>, job: &str) {
    if !leader.begin_deletion(job) {
        return;
    }
    let (leader, job) = (leader.clone(), job.to_string());
    tokio::spawn(async move {
        while !leader.has_ended()
            && let Err(error) = complete(&leader, &job).await
        {
            leader.log_line(&job, "warn", &format!("it could not be deleted yet: {}", error.message));
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        leader.end_deletion(&job);
    });
}

async fn complete(leader: &Arc<Leader>, job: &str) -> Result<(), api::Error> {
    let _reserved = wait_for_reservation(leader, job).await?;
    let found = leader.with(|inner| inner.state.job(job).map(|job| job.record.clone()));
    let record = match found {
        Ok(record) if record.deleting => record,
        // Another task has completed the deletion.
        Ok(_) | Err(_) => return Ok(()),
    };
    let history = leader.history(&record).await.map_err(storage_error)?;
    history.clear().await.map_err(storage_error)?;
    leader.change(Request::Forget { job: job.into() }).await?;
    leader.forget(job, true);
    Ok(())
}

/// Reserves the job's name, once it is free.
async fn wait_for_reservation(leader: &Arc<Leader>, job: &str) -> Result<NameReservation, api::Error> {
    loop {
        match leader.reserve(job) {
            Err(error) if error.code == Code::NameInUse && !leader.has_ended() => {
                tokio::time::sleep(RESERVATION_RETRY_INTERVAL).await;
            }
            reserved => return reserved,
        }
    }
}
