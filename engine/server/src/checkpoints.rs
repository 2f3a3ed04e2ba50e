//! `engine checkpoints`: lists and verifies the checkpoints of a job.

use millstream_cluster::verify;
use millstream_proto::report::{amount, count, time};
use millstream_proto::{json, v1};
use millstream_state::CheckpointStore;
use tokio::sync::mpsc;

use crate::arguments::StorageArguments;
use crate::{Failure, pipeline, print};

/// Returns a table of checkpoints, newest first.
pub fn list(job: &str, storage: &StorageArguments) -> Result<String, Failure> {
    let name = pipeline::job_name(job).map_err(Failure::Invalid)?;
    let url = storage.checkpoints(None).map_err(Failure::Invalid)?;
    if storage.checkpoint_storage.is_none() && !std::path::Path::new(&url).exists() {
        return Ok(none(&name));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
    let listed = runtime
        .block_on(millstream_cluster::list(&name, &url))
        .map_err(|error| Failure::Failed(format!("error: {error}\n")))?;
    if listed.is_empty() {
        return Ok(none(&name));
    }
    let mut out = String::from("CHECKPOINT  TAKEN                STATE       PARALLELISM  NOTE\n");
    for checkpoint in listed {
        let line = match checkpoint.detail {
            Ok(detail) => format!(
                "{:<10}  {}  {:<10}  {:<11}  {}",
                checkpoint.id,
                millstream_proto::report::time(checkpoint.taken_us),
                millstream_proto::report::amount(checkpoint.state_bytes),
                detail.parallelism,
                match (detail.finished, detail.in_flight_bytes) {
                    (true, _) => "all input processed",
                    (false, 0) => "",
                    (false, _) => "with rows in flight",
                }
            ),
            Err(damage) => format!("{:<10}  damaged: {damage}", checkpoint.id),
        };
        out.push_str(line.trim_end());
        out.push('\n');
    }
    Ok(out)
}

/// Verifies one checkpoint, or all, newest first; prints one line per finding.
pub fn verify(job: &str, checkpoint: Option<u64>, as_json: bool, storage: &StorageArguments) -> Result<(), Failure> {
    let name = pipeline::job_name(job).map_err(Failure::Invalid)?;
    let url = storage.checkpoints(None).map_err(Failure::Invalid)?;
    if storage.checkpoint_storage.is_none() && !std::path::Path::new(&url).exists() {
        return print(&none(&name));
    }
    let failed = |error: String| Failure::Failed(format!("error: {error}\n"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| failed(error.to_string()))?;
    let result = runtime.block_on(async {
        let store = CheckpointStore::open(&url, &name)
            .await
            .map_err(|error| failed(error.to_string()))?;
        let (events, mut found) = mpsc::channel(verify::EVENTS_MAX);
        tokio::spawn(verify::verify(store, checkpoint, events));
        while let Some(event) = found.recv().await {
            if as_json && event.progress.is_none() {
                print(&format!("{}\n", json::to_value(&event)))?;
            } else if !as_json {
                print(&line(&name, &event))?;
            }
            if let Some(result) = event.result {
                return Ok(result);
            }
        }
        Err(failed("the verification ended early".into()))
    })?;
    match (result.error.as_str(), result.is_whole) {
        ("", true) => Ok(()),
        ("", false) => Err(Failure::Damaged),
        (error, _) => Err(failed(format!("not everything could be read: {error}"))),
    }
}

fn line(job: &str, event: &v1::VerifyEvent) -> String {
    let mut out = String::new();
    if let Some(damage) = &event.damage {
        let whose = damage
            .checkpoint
            .map_or(String::new(), |checkpoint| format!("checkpoint {checkpoint}: "));
        out.push_str(&format!("damaged: {whose}{}: {}\n", damage.kind, damage.problem));
    }
    if let Some(checkpoint) = &event.checkpoint {
        let state = match checkpoint.damaged {
            0 => "whole".to_string(),
            damaged => format!("{} damaged objects", count(damaged)),
        };
        out.push_str(&format!(
            "{job}: checkpoint {} of {}: {state}, {} files, {}\n",
            checkpoint.checkpoint,
            time(checkpoint.taken_us),
            count(checkpoint.files),
            amount(checkpoint.bytes)
        ));
    }
    if let Some(result) = event.result.as_ref().filter(|result| !result.restore.is_empty()) {
        out.push_str(&format!("{}\n", result.restore));
    }
    out
}

fn none(name: &str) -> String {
    format!("no checkpoints of `{name}`\n")
}
