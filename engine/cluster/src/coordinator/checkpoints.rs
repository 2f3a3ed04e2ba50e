//! Checkpoints and savepoints of jobs, as the client API shows them.
//!
//! Reading needs no claim on the checkpoints of a job. It only supersedes the claim of an earlier leader first, so
//! that this leader completes no checkpoint after the answer. Changes go through the claim that this coordinator
//! holds for the job or, while the job runs, through its run.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use millstream_connectors::{Split, registry};
use millstream_proto::v1;
use millstream_runtime::subtask_state::{SplitState, SubtaskState};
use millstream_state::checkpoint::{CheckpointInfo, CheckpointStore, VerificationDepth};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::api::{self, Code};
use crate::coordinator::errors::{state_error, storage_error, uncertain_error};
use crate::coordinator::leader::Leader;
use crate::coordinator::ledger::{Record, Status};
use crate::coordinator::now_us;
use crate::history::{DeleteRefusal, History};
use crate::snapshot::{BODY_VERSION, Snapshot, in_flight_bytes};
use crate::{history, signature, verify};

/// Time for a checkpoint or savepoint of a running job.
const SAVEPOINT_TIMEOUT: Duration = Duration::from_secs(600);
/// A deleted job has nothing but savepoints, which retention never removes.
const RETAIN_NONE: usize = 1;
/// Longest name of a savepoint.
const NAME_CHARS_MAX: usize = 200;

/// A checkpoint, read from its store.
pub(super) struct LoadedCheckpoint {
    /// Store of the job's checkpoints.
    pub store: CheckpointStore,
    pub info: CheckpointInfo,
    pub snapshot: Snapshot,
    /// Version of the engine that took the checkpoint.
    pub engine_version: String,
}

/// Reads a checkpoint of a job; the latest if no number is given.
pub(super) async fn load(leader: &Arc<Leader>, wanted: &v1::CheckpointRef) -> Result<LoadedCheckpoint, api::Error> {
    let store = store_of(leader, &wanted.job).await?;
    let infos = store.list().await.map_err(state_error)?;
    let info = match wanted.checkpoint {
        Some(number) => infos.iter().find(|info| info.checkpoint == number),
        None => infos.last(),
    };
    let Some(info) = info.cloned() else {
        let known: Vec<u64> = infos.iter().map(|info| info.checkpoint).collect();
        return Err(checkpoint_not_found(&wanted.job, wanted.checkpoint, &known));
    };
    let manifest = store
        .load::<SubtaskState>(info.checkpoint, BODY_VERSION, VerificationDepth::Lengths)
        .await
        .map_err(state_error)?;
    let engine_version = manifest.header.properties.get("engine").cloned().unwrap_or_default();
    let snapshot = history::read(&store, manifest).await.map_err(storage_error)?;
    Ok(LoadedCheckpoint {
        store,
        info,
        snapshot,
        engine_version,
    })
}

fn checkpoint_not_found(job: &str, wanted: Option<u64>, known: &[u64]) -> api::Error {
    let what = match wanted {
        Some(number) => format!("`{job}` has no checkpoint {number}"),
        None => format!("`{job}` has no checkpoint"),
    };
    let known: Vec<String> = known.iter().map(u64::to_string).collect();
    let known = match known.is_empty() {
        true => " yet".to_string(),
        false => format!("; it has {}", known.join(", ")),
    };
    api::Error::new(Code::CheckpointNotFound, format!("{what}{known}"))
}

/// Supersedes the claim of an earlier leader, if there is one, so that it completes no checkpoint after this read.
async fn fence(leader: &Arc<Leader>, store: &CheckpointStore, record: Option<&Record>) -> Result<(), api::Error> {
    let job = store.job();
    if leader.known_history(job).is_some() {
        return Ok(());
    }
    let claimant = store.claimant().await.map_err(state_error)?;
    let is_earlier = claimant.and_then(|claimant| claimant.leader);
    if !is_earlier.is_some_and(|claimed_for| claimed_for.is_before(&leader.leadership())) {
        return Ok(());
    }
    match record {
        Some(record) => drop(leader.history(record).await.map_err(storage_error)?),
        // Submitting a job of this name claims its checkpoints, too.
        None => {
            if let Ok(_reserved) = leader.reserve(job) {
                let history = History::open_as_leader(leader.leadership(), &leader.checkpoints, job, RETAIN_NONE);
                history.await.map_err(storage_error)?;
            }
        }
    }
    Ok(())
}

/// Returns the checkpoints of a job, or of a deleted job that has savepoints. Supersedes earlier leaders' claims
/// first.
async fn store_of(leader: &Arc<Leader>, job: &str) -> Result<CheckpointStore, api::Error> {
    let (store, record) = unfenced_store_of(leader, job).await?;
    fence(leader, &store, record.as_ref()).await?;
    Ok(store)
}

/// Returns the same without superseding claims, which fails on a damaged journal, and the record if the job exists.
async fn unfenced_store_of(leader: &Leader, job: &str) -> Result<(CheckpointStore, Option<Record>), api::Error> {
    let found = leader.with(|inner| inner.state.job(job).map(|job| job.record.clone()));
    let unknown = match found {
        Ok(record) => {
            let store = CheckpointStore::open(&record.storage, job).await.map_err(state_error)?;
            return Ok((store, Some(record)));
        }
        Err(error) => error,
    };
    let Ok(store) = CheckpointStore::open(&leader.checkpoints, job).await else {
        return Err(unknown);
    };
    match store.list().await {
        Ok(left) if !left.is_empty() => Ok((store, None)),
        _ => Err(unknown),
    }
}

/// Returns all complete checkpoints, newest first.
pub(super) async fn list(
    leader: &Arc<Leader>,
    job: &str,
    savepoints_only: bool,
) -> Result<Vec<v1::Checkpoint>, api::Error> {
    let store = store_of(leader, job).await?;
    let listed = history::list_in(&store).await.map_err(storage_error)?;
    let described = listed.into_iter().map(|listed| {
        let mut checkpoint = v1::Checkpoint {
            job: job.to_string(),
            checkpoint: listed.id,
            taken_us: listed.taken_us,
            state_bytes: listed.state_bytes,
            savepoint: listed.savepoint,
            ..v1::Checkpoint::default()
        };
        match listed.detail {
            Ok(detail) => {
                checkpoint.parallelism = detail.parallelism as u32;
                checkpoint.finished = detail.finished;
                checkpoint.origin = detail.origin.unwrap_or_default();
                checkpoint.duration_ms = detail.took_ms.unwrap_or_default();
                checkpoint.in_flight_bytes = detail.in_flight_bytes;
            }
            Err(damage) => checkpoint.damage = damage,
        }
        checkpoint
    });
    Ok(described
        .filter(|checkpoint| !savepoints_only || checkpoint.savepoint.is_some())
        .collect())
}

/// Verifies one or all checkpoints of a job while the stream is read.
pub(super) async fn verify(
    leader: &Leader,
    job: &str,
    wanted: Option<u64>,
) -> Result<BoxStream<'static, v1::VerifyEvent>, api::Error> {
    let (store, _) = unfenced_store_of(leader, job).await?;
    if let Some(number) = wanted {
        let infos = store.list().await.map_err(state_error)?;
        let known: Vec<u64> = infos.iter().map(|info| info.checkpoint).collect();
        if !known.contains(&number) {
            return Err(checkpoint_not_found(job, wanted, &known));
        }
    }
    let (events, answer) = mpsc::channel(verify::EVENTS_MAX);
    tokio::spawn(verify::verify(store, wanted, events));
    Ok(ReceiverStream::new(answer).boxed())
}

/// Returns the contents of a checkpoint.
pub(super) fn describe(job: &str, found: &LoadedCheckpoint) -> v1::CheckpointDetail {
    let snapshot = &found.snapshot;
    let operators = snapshot.operators.iter().map(|(id, states)| {
        let keyed = || states.iter().filter_map(|state| state.keyed.as_ref());
        v1::CheckpointOperator {
            id: id.0.clone(),
            subtasks: states.len() as u32,
            keyed_bytes: keyed().map(|keyed| keyed.bytes).sum(),
            files: keyed().map(|keyed| keyed.files.len() as u32).sum(),
            inline_bytes: states.iter().map(|state| state.inline.len() as u64).sum(),
            committables: states.iter().map(|state| state.committables.len() as u32).sum(),
            signature: snapshot.signatures.get(id).cloned().unwrap_or_default(),
            kind: snapshot
                .signatures
                .get(id)
                .map_or(String::new(), |kind| signature::describe(kind)),
            keyed_entries: snapshot.entries.get(id).copied(),
            splits: states
                .iter()
                .flat_map(|state| &state.splits)
                .map(|split| v1::CheckpointSplit {
                    id: split.id.clone(),
                    position: position(split),
                    watermark_us: split.watermark,
                    finished: split.finished,
                })
                .collect(),
            in_flight_bytes: in_flight_bytes(states),
        }
    });
    v1::CheckpointDetail {
        checkpoint: Some(summary(job, found)),
        fingerprint: snapshot.fingerprint.clone(),
        max_parallelism: u32::from(snapshot.max_parallelism),
        operators: operators.collect(),
        engine_version: found.engine_version.clone(),
    }
}

fn summary(job: &str, found: &LoadedCheckpoint) -> v1::Checkpoint {
    v1::Checkpoint {
        job: job.to_string(),
        checkpoint: found.info.checkpoint,
        taken_us: found.info.created_ms * 1000,
        state_bytes: found.info.state_bytes,
        savepoint: found.info.savepoint.clone(),
        parallelism: found.snapshot.parallelism as u32,
        finished: found.snapshot.finished,
        origin: found.snapshot.origin.clone().unwrap_or_default(),
        duration_ms: found.snapshot.took_ms.unwrap_or_default(),
        in_flight_bytes: in_flight_bytes(found.snapshot.operators.values().flatten()),
        ..v1::Checkpoint::default()
    }
}

/// Returns a split's position in the connector's notation. Unknown positions are shown as text if they are printable,
/// otherwise in hexadecimal.
fn position(split: &SplitState) -> String {
    let known = registry::describe_position(&Split {
        id: split.id.clone(),
        position: split.position.clone(),
        weight: split.weight,
        finished: split.finished,
    });
    known.unwrap_or_else(|| match std::str::from_utf8(&split.position) {
        Ok(text) if !text.chars().any(char::is_control) => text.to_string(),
        _ => split.position.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// Checks the name of a savepoint. Names are displayed, typed, and listed.
pub(super) fn check_name(name: &str) -> Result<(), api::Error> {
    let good = !name.trim().is_empty()
        && name.chars().count() <= NAME_CHARS_MAX
        && !name.chars().any(|c| c.is_control() || c == '/');
    if good {
        return Ok(());
    }
    Err(api::Error::new(
        Code::InvalidRequest,
        format!("`{name}` cannot name a savepoint: use up to {NAME_CHARS_MAX} characters, no `/` among them"),
    ))
}

/// Fails if the job has a savepoint of this name.
pub(super) async fn check_savepoint_free(record: &Record, name: &str) -> Result<(), api::Error> {
    check_name(name)?;
    let store = CheckpointStore::open(&record.storage, &record.name)
        .await
        .map_err(state_error)?;
    let infos = store.list().await.map_err(state_error)?;
    match infos.iter().find(|info| info.savepoint.as_deref() == Some(name)) {
        None => Ok(()),
        Some(taken) => Err(api::Error::new(
            Code::NameInUse,
            format!(
                "`{}` has a savepoint `{name}` already, checkpoint {}; choose another name, or delete that one first",
                record.name, taken.checkpoint
            ),
        )),
    }
}

/// Takes a checkpoint of a running job now.
pub(super) async fn create(leader: &Arc<Leader>, job: &str) -> Result<v1::Checkpoint, api::Error> {
    let status = leader.with(|inner| Ok::<_, api::Error>(inner.state.job(job)?.record.current().status))?;
    if status != Status::Running {
        return Err(api::Error::new(
            Code::WrongState,
            format!(
                "`{job}` is {}; a checkpoint can be taken while it runs",
                status.as_str()
            ),
        ));
    }
    let run_ended = || {
        api::Error::new(
            Code::WrongState,
            format!("`{job}` ended or was restarted before the checkpoint was complete; try again"),
        )
    };
    let mut requested = None;
    leader.with_run(job, |running| {
        if !running.is_stop_requested() {
            requested = Some(running.checkpoint_requests.request());
        }
    });
    let requested = requested.ok_or_else(run_ended)?;
    let taken = match tokio::time::timeout(SAVEPOINT_TIMEOUT, requested).await {
        Ok(Ok(Ok(taken))) => taken,
        Ok(Ok(Err(reason))) => {
            return Err(api::Error::new(
                Code::Unavailable,
                format!("the checkpoint of `{job}` failed: {reason}"),
            ));
        }
        Ok(Err(_)) if leader.has_ended() => return Err(outcome_unknown("checkpoint", job)),
        Ok(Err(_)) => return Err(run_ended()),
        Err(_) => return Err(timed_out("checkpoint")),
    };
    let wanted = v1::CheckpointRef {
        job: job.to_string(),
        checkpoint: Some(taken.checkpoint),
    };
    let mut checkpoint = summary(job, &load(leader, &wanted).await?);
    if taken.is_unchanged {
        checkpoint.current_us = now_us();
    }
    Ok(checkpoint)
}

fn timed_out(what: &str) -> api::Error {
    api::Error::new(
        Code::Unavailable,
        format!(
            "the {what} was not complete within {} s (SAVEPOINT_TIMEOUT); does the job make progress?",
            SAVEPOINT_TIMEOUT.as_secs()
        ),
    )
}

/// Deletes a checkpoint that is not needed.
pub(super) async fn delete(leader: &Arc<Leader>, job: &str, checkpoint: u64) -> Result<(), api::Error> {
    let record = leader.with(|inner| Ok::<_, api::Error>(inner.state.job(job)?.record.clone()))?;
    let history = leader.history(&record).await.map_err(storage_error)?;
    let known: Vec<u64> = history.checkpoints().await.iter().map(|info| info.checkpoint).collect();
    if !known.contains(&checkpoint) {
        return Err(checkpoint_not_found(job, Some(checkpoint), &known));
    }
    let refusal = match history.delete(checkpoint).await.map_err(uncertain_error)? {
        Ok(()) => return Ok(()),
        Err(refusal) => refusal,
    };
    let why = match refusal {
        DeleteRefusal::Newest => {
            format!("the newest, from which `{job}` resumes; `jobs delete` removes all of an ended job")
        }
        DeleteRefusal::Savepoint(name) => format!("the savepoint `{name}`; `savepoints delete` removes it"),
        DeleteRefusal::Read => "being copied for another job; try again later".to_string(),
    };
    Err(api::Error::new(
        Code::WrongState,
        format!("checkpoint {job}/{checkpoint} is kept: it is {why}"),
    ))
}

/// Takes a savepoint now: a checkpoint of a running job, or a copy of the latest checkpoint of an ended one.
pub(super) async fn create_savepoint(
    leader: &Arc<Leader>,
    job: &str,
    name: &str,
) -> Result<v1::Checkpoint, api::Error> {
    let (record, status) = leader.with(|inner| {
        let job = inner.state.job(job)?;
        Ok::<_, api::Error>((job.record.clone(), job.record.current().status))
    })?;
    check_savepoint_free(&record, name).await?;
    let checkpoint = match status {
        Status::Running => savepoint_of_running(leader, job, name).await?,
        status if status.is_terminal() => {
            let _reserved = leader.reserve(job)?;
            let history = leader.history(&record).await.map_err(storage_error)?;
            history.create_savepoint(name).await.map_err(uncertain_error)?
        }
        status => {
            return Err(api::Error::new(
                Code::WrongState,
                format!(
                    "`{job}` is {}; a savepoint can be taken when it runs or has ended",
                    status.as_str()
                ),
            ));
        }
    };
    let wanted = v1::CheckpointRef {
        job: job.to_string(),
        checkpoint: Some(checkpoint),
    };
    Ok(summary(job, &load(leader, &wanted).await?))
}

async fn savepoint_of_running(leader: &Arc<Leader>, job: &str, name: &str) -> Result<u64, api::Error> {
    let stopped = || {
        api::Error::new(
            Code::WrongState,
            format!("`{job}` ended or was restarted before the savepoint was complete; try again"),
        )
    };
    let mut completed = None;
    leader.with_run(job, |running| {
        if !running.is_stop_requested() {
            completed = Some(running.checkpointed.subscribe());
            running.checkpoint_requests.request_savepoint(name);
        }
    });
    let mut completed = completed.ok_or_else(stopped)?;
    let named = async {
        loop {
            completed.changed().await.map_err(|_| stopped())?;
            let checkpoint = *completed.borrow_and_update();
            let history = leader.known_history(job).ok_or_else(stopped)?;
            let checkpoints = history.checkpoints().await;
            let found = checkpoints.iter().find(|info| info.savepoint.as_deref() == Some(name));
            match found {
                Some(found) => return Ok(found.checkpoint),
                None => tracing::debug!(job, checkpoint, "not the savepoint yet"),
            }
        }
    };
    match tokio::time::timeout(SAVEPOINT_TIMEOUT, named).await {
        // The savepoint may have been complete before the run ended.
        Ok(Err(refused)) => savepoint_made_meanwhile(leader, job, name, refused).await,
        Ok(done) => done,
        Err(_) => Err(timed_out("savepoint")),
    }
}

/// Returns the savepoint if it exists by now, otherwise the error `refused`.
async fn savepoint_made_meanwhile(
    leader: &Arc<Leader>,
    job: &str,
    name: &str,
    refused: api::Error,
) -> Result<u64, api::Error> {
    let infos = store_of(leader, job).await?.list().await.map_err(state_error)?;
    match infos.iter().find(|info| info.savepoint.as_deref() == Some(name)) {
        Some(made) => Ok(made.checkpoint),
        None if leader.has_ended() => Err(outcome_unknown("savepoint", job)),
        None => Err(refused),
    }
}

/// Returns the error for a request that was under way when this coordinator stopped leading: the next leader may find
/// it complete.
fn outcome_unknown(what: &str, job: &str) -> api::Error {
    api::Error::new(
        Code::Unavailable,
        format!(
            "it is not known whether the {what} of `{job}` was completed: another coordinator has taken over meanwhile; check the \
             present state before trying again"
        ),
    )
}

/// Deletes a savepoint of a job, or one that a deleted job has left.
pub(super) async fn delete_savepoint(leader: &Arc<Leader>, job: &str, name: &str) -> Result<(), api::Error> {
    let record = leader.with(|inner| inner.state.job(job).map(|job| job.record.clone()));
    let history = match &record {
        Ok(record) => leader.history(record).await.map_err(storage_error)?,
        // The job was deleted, so no run writes its checkpoints. The reservation keeps the name from being submitted
        // meanwhile.
        Err(_) => {
            store_of(leader, job).await?;
            let _reserved = leader.reserve(job)?;
            let history = History::open_as_leader(leader.leadership(), &leader.checkpoints, job, RETAIN_NONE)
                .await
                .map_err(storage_error)?;
            return delete_in(&history, job, name).await;
        }
    };
    delete_in(&history, job, name).await
}

/// Deletes a savepoint by its name or by its checkpoint's number.
async fn delete_in(history: &History, job: &str, name: &str) -> Result<(), api::Error> {
    if history.delete_savepoint(name).await.map_err(uncertain_error)? {
        return Ok(());
    }
    let savepoints: Vec<(u64, String)> = history
        .checkpoints()
        .await
        .into_iter()
        .filter_map(|info| Some((info.checkpoint, info.savepoint?)))
        .collect();
    let numbered = name.parse::<u64>().ok();
    let named = savepoints.iter().find(|(number, _)| Some(*number) == numbered);
    if let Some((_, named)) = named
        && history.delete_savepoint(named).await.map_err(uncertain_error)?
    {
        return Ok(());
    }
    let existing = match savepoints.is_empty() {
        true => "it has none".to_string(),
        false => {
            let names: Vec<&str> = savepoints.iter().map(|(_, name)| name.as_str()).collect();
            format!("there are {}", names.join(", "))
        }
    };
    Err(api::Error::new(
        Code::CheckpointNotFound,
        format!("`{job}` has no savepoint `{name}`; {existing}"),
    ))
}
