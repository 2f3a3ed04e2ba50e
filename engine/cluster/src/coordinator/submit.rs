//! Submission of a job: checks its pipeline, creates its first checkpoint, and journals the job.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_planner::explain;
use millstream_proto::v1;

use crate::api;
use crate::coordinator::checkpoints::{self, LoadedCheckpoint};
use crate::coordinator::errors::{invalid, not_found, storage_error};
use crate::coordinator::leader::Leader;
use crate::coordinator::ledger::{DesiredState, LatestUpdate, Record, Status, Transition};
use crate::coordinator::pipeline_checks::{
    check_compatible, check_connectors, compare_with_checkpoint, resolve_pipeline,
};
use crate::coordinator::state::Request;
use crate::coordinator::{job_view, now_us};
use crate::resolve::{self, Resolved};
use crate::{Error, Start, planning, stored_pipeline};

/// Submits a job, or checks it only if the request is a dry run.
pub(super) async fn submit(
    leader: &Arc<Leader>,
    mut request: v1::SubmitRequest,
) -> Result<v1::SubmitResponse, api::Error> {
    let mode = request.mode.map(|_| planning::mode(request.mode()));
    let resolved = resolve_pipeline(request.pipeline.take(), request.name.take(), mode).await?;
    let mut response = v1::SubmitResponse {
        plan: explain::explain(&resolved.graph),
        ..v1::SubmitResponse::default()
    };
    if request.parallelism_auto && request.parallelism.is_some() {
        return Err(invalid("a parallelism is a number or auto, not both"));
    }
    response.notes.clone_from(&resolved.notes);
    let record = new_record(leader, &resolved, request.parallelism, request.parallelism_auto)?;
    check_connectors(&resolved, &record).await?;
    let from = match &request.from {
        None => None,
        Some(from) => Some(load_compatible(leader, from, &resolved, &request, &mut response.notes).await?),
    };
    leader.with(|inner| inner.state.check_submit(&record.name))?;
    resolve::look_up(&resolved).await.map_err(not_found)?;
    if request.dry_run {
        return Ok(response);
    }
    let name = record.name.clone();
    accept(leader, record, from, &resolved).await?;
    response.job = Some(job_view::describe(leader, &name)?);
    Ok(response)
}

/// Returns the job's record.
fn new_record(
    leader: &Leader,
    resolved: &Resolved,
    parallelism: Option<u32>,
    auto: bool,
) -> Result<Box<Record>, api::Error> {
    let max_parallelism = u32::from(resolved.graph.max_parallelism);
    let of_pipeline = resolved.settings.parallelism.map(|parallelism| parallelism as u32);
    let parallelism = parallelism.or(of_pipeline).filter(|_| !auto);
    if parallelism.is_some_and(|parallelism| parallelism == 0 || parallelism > max_parallelism) {
        return Err(invalid(&format!(
            "the parallelism can be 1 to {max_parallelism} (max_parallelism)"
        )));
    }
    let now_us = now_us();
    Ok(Box::new(Record {
        name: resolved.resolved.name.clone(),
        resolved: Arc::new(resolved.resolved.clone()),
        parallelism,
        max_parallelism,
        storage: resolved
            .settings
            .storage
            .clone()
            .unwrap_or_else(|| leader.checkpoints.clone()),
        submitted_us: now_us,
        wanted: DesiredState::Running,
        allow_duplicates: false,
        attempts: 0,
        placement: None,
        run_totals: None,
        run_progress: None,
        deleting: false,
        update: LatestUpdate::None,
        transitions: VecDeque::from([Transition::new(Status::Submitted, now_us, "")]),
    }))
}

/// Loads a checkpoint that a pipeline can begin with, and assigns its state to that pipeline.
async fn load_compatible(
    leader: &Arc<Leader>,
    from: &v1::CheckpointRef,
    resolved: &Resolved,
    request: &v1::SubmitRequest,
    notes: &mut Vec<String>,
) -> Result<LoadedCheckpoint, api::Error> {
    let mut found = checkpoints::load(leader, from).await?;
    let mut findings = compare_with_checkpoint(&found, resolved).await?;
    if request.allow_dropped_state {
        for operator in findings.drop_lost() {
            found.snapshot.operators.remove(&operator);
            found.snapshot.signatures.remove(&operator);
        }
    }
    check_compatible(&findings, request.accept_changed_meaning, |problems| {
        let checkpoint = found.info.checkpoint;
        format!(
            "checkpoint {}/{checkpoint} does not fit the pipeline: {problems}",
            from.job
        )
    })?;
    notes.extend(findings.notes());
    found.snapshot.reassign_to(stored_pipeline::encode(&resolved.resolved));
    Ok(found)
}

/// Creates the job's first checkpoint, if it begins with one, then journals the job.
async fn accept(
    leader: &Arc<Leader>,
    record: Box<Record>,
    from: Option<LoadedCheckpoint>,
    resolved: &Resolved,
) -> Result<(), api::Error> {
    let _reserved = leader.reserve(&record.name)?;
    leader.with(|inner| inner.state.check_submit(&record.name))?;
    let prepared = create_history(leader, &record, from, resolved).await;
    if let Err(error) = prepared {
        leader.forget(&record.name, true);
        return Err(storage_error(error));
    }
    leader.change(Request::Submit(record)).await
}

/// Creates an empty history, or one that begins with a copy of a checkpoint. Replaces the history of an earlier job
/// of this name.
async fn create_history(
    leader: &Leader,
    record: &Record,
    from: Option<LoadedCheckpoint>,
    resolved: &Resolved,
) -> Result<(), Error> {
    let history = leader.history(record).await?;
    let Some(found) = from else {
        let parallelism = record.parallelism.unwrap_or(1) as usize;
        let job = resolved.job(parallelism, record.storage.clone(), Start::Fresh);
        return history.start_fresh(&job, &crate::Progress::default()).await;
    };
    // Retention of the original job must not delete the checkpoint meanwhile.
    let origin = leader.known_history(found.store.job());
    let _pin = origin.map(|origin| origin.pin(found.info.checkpoint));
    history.adopt(&found.store, found.snapshot).await.map(|_| ())
}
