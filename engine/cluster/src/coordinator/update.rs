//! Update of a job's pipeline: the checks, and the savepoint before it.
//!
//! The state machine does the rest: the job's tasks stop with a last checkpoint, tasks of the new pipeline start from
//! it, and if they fail before they have completed a checkpoint, the job returns to the old pipeline.

use std::sync::Arc;

use millstream_planner::explain;
use millstream_proto::v1;

use super::errors::{internal, invalid, not_found};
use super::leader::Leader;
use super::ledger::{Record, Update};
use super::pipeline_checks::{check_compatible, check_connectors, compare_with_checkpoint, resolve_pipeline};
use super::state::Request;
use super::{checkpoints, job_view};
use crate::api::{self, Code};
use crate::resolve::{self, Resolved};
use crate::{planning, stored_pipeline};

/// Updates a job's pipeline, or checks it only if the request is a dry run.
pub(super) async fn update(
    leader: &Arc<Leader>,
    request: v1::UpdateJobRequest,
) -> Result<v1::UpdateJobResponse, api::Error> {
    let mut resolved = resolve_pipeline(request.pipeline.clone(), request.name.clone(), None).await?;
    let name = resolved.resolved.name.clone();
    let record = leader.with(|inner| inner.state.job(&name).map(|job| job.record.clone()))?;
    let of_job = record.resolved.mode();
    if resolved.resolved.mode() != of_job {
        // The mode may have been chosen when the job was submitted.
        resolved = resolve_pipeline(
            request.pipeline.clone(),
            request.name.clone(),
            Some(planning::mode(of_job)),
        )
        .await?;
    }
    let mut response = v1::UpdateJobResponse {
        plan: explain::explain(&resolved.graph),
        notes: resolved.notes.clone(),
        ..v1::UpdateJobResponse::default()
    };
    let wanted = record
        .pending_update()
        .map_or(&record.resolved, |update| &update.resolved);
    if stored_pipeline::is_same(wanted, &resolved.resolved) && request.parallelism.is_none() {
        response.is_same = true;
        response.job = Some(job_view::describe(leader, &name)?);
        return Ok(response);
    }
    check_storage(leader, &record, &resolved)?;
    let update = new_update(&record, &resolved, &request)?;
    check_connectors(&resolved, &record).await?;
    resolve::look_up(&resolved).await.map_err(not_found)?;
    check_state(leader, &name, &resolved, &request, &mut response).await?;
    let asked = Request::Update {
        job: name.clone(),
        update: Box::new(update),
    };
    // Checked before a savepoint is taken needlessly.
    leader.with(|inner| inner.state.request(asked.clone(), 0).map(|_| ()))?;
    if request.dry_run {
        return Ok(response);
    }
    if let Some(savepoint) = request.savepoint.as_ref().filter(|_| response.verdict.is_some()) {
        checkpoints::check_savepoint_free(&record, savepoint).await?;
        let taken = checkpoints::create_savepoint(leader, &name, savepoint).await?;
        response.savepoint = Some(taken.checkpoint);
        let changed = leader.change(asked).await;
        changed.map_err(|error| after_savepoint(error, savepoint, taken.checkpoint))?;
    } else {
        leader.change(asked).await?;
    }
    response.job = Some(job_view::describe(leader, &name)?);
    Ok(response)
}

/// Adds to the error of an update that its savepoint exists. The request must not be repeated elsewhere as it is: the
/// next leader would refuse it, because the name of the savepoint is in use.
fn after_savepoint(error: api::Error, savepoint: &str, checkpoint: u64) -> api::Error {
    let code = match error.code {
        Code::NotLeader => Code::Unavailable,
        code => code,
    };
    let message = format!(
        "after the savepoint `{savepoint}` was taken as checkpoint {checkpoint}: {}",
        error.message
    );
    api::Error {
        mistakes: error.mistakes,
        ..api::Error::new(code, message)
    }
}

fn check_storage(leader: &Arc<Leader>, record: &Record, resolved: &Resolved) -> Result<(), api::Error> {
    let storage = resolved.settings.storage.as_ref().unwrap_or(&leader.checkpoints);
    if *storage == record.storage {
        return Ok(());
    }
    Err(invalid(&format!(
        "the checkpoints of `{}` are in {}, the new pipeline wants them in {storage}; an update leaves them where they are: \
         keep the place, or submit the pipeline under another name from a savepoint",
        record.name, record.storage
    )))
}

fn new_update(record: &Record, resolved: &Resolved, request: &v1::UpdateJobRequest) -> Result<Update, api::Error> {
    let before = resolve::settings(&record.resolved).map_err(|error| internal(&error))?;
    let of_pipeline = resolved.settings.parallelism.map(|parallelism| parallelism as u32);
    let max_parallelism = u32::from(resolved.graph.max_parallelism);
    let parallelism = match request.parallelism {
        Some(parallelism) => Some(parallelism),
        None if before.parallelism != resolved.settings.parallelism => of_pipeline,
        None => record.parallelism,
    };
    if parallelism.is_some_and(|parallelism| parallelism == 0 || parallelism > max_parallelism) {
        return Err(invalid(&format!(
            "the parallelism can be 1 to {max_parallelism} (max_parallelism)"
        )));
    }
    Ok(Update {
        resolved: Arc::new(resolved.resolved.clone()),
        parallelism,
        max_parallelism,
        accept_changed_meaning: request.accept_changed_meaning,
        allow_dropped_state: request.allow_dropped_state,
        // Set when the update takes effect.
        was_running: false,
    })
}

/// Fails if the job's latest checkpoint is not compatible with the pipeline. The last checkpoint of the old tasks
/// will have the same operators and layouts.
async fn check_state(
    leader: &Arc<Leader>,
    name: &str,
    resolved: &Resolved,
    request: &v1::UpdateJobRequest,
    response: &mut v1::UpdateJobResponse,
) -> Result<(), api::Error> {
    let latest = v1::CheckpointRef {
        job: name.to_string(),
        checkpoint: None,
    };
    let found = match checkpoints::load(leader, &latest).await {
        Ok(found) => found,
        Err(error) if error.code == Code::CheckpointNotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut findings = compare_with_checkpoint(&found, resolved).await?;
    response.verdict = Some(job_view::verdict(findings.verdict()) as i32);
    if request.allow_dropped_state {
        findings.drop_lost();
    }
    check_compatible(&findings, request.accept_changed_meaning, |problems| {
        let checkpoint = found.info.checkpoint;
        format!(
            "the state of `{name}` (checkpoint {checkpoint}) does not fit the new pipeline: {problems}; the job stays as it is"
        )
    })?;
    response.notes.extend(findings.notes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_that_fails_after_its_savepoint_is_not_repeated_elsewhere() {
        let ended = api::Error {
            leader: Some("http://b".into()),
            ..api::Error::new(Code::NotLeader, "another coordinator leads")
        };
        let error = after_savepoint(ended, "before", 7);
        assert_eq!((error.code, error.leader), (Code::Unavailable, None));
        assert_eq!(
            error.message,
            "after the savepoint `before` was taken as checkpoint 7: another coordinator leads"
        );
        let refused = after_savepoint(api::Error::new(Code::WrongState, "`a` has finished"), "before", 7);
        assert_eq!(refused.code, Code::WrongState);
    }
}
