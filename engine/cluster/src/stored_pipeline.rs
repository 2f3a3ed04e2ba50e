//! The pipeline of a checkpoint as stored in its manifest, and its differences from a later one.
//!
//! The resolved job is stored, so that the engine that restores can plan it: the expressions of a plan change with
//! every version of the planner, and only two plans of one engine are comparable. The text in the manifest (property
//! `pipeline`) is `1:`, the version, then the job as a protobuf message ([`v1::ResolvedJob`]), compressed with zstd,
//! in base64.
//!
//! Secrets are not stored: the values of options that a connector or their name declares to be secret are masked, in
//! a script as in a spec; comments and the values of variables that only secrets use are left out. None of them
//! changes the meaning of a row.

use std::io::Read;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millstream_connectors::{options, registry};
use millstream_graph::JobGraph;
use millstream_planner::meaning::{self, Differences};
use millstream_proto::v1::{self, resolved_job};
use millstream_state::threads;
use prost::Message;

use crate::snapshot::Snapshot;
use crate::{Error, planning};

const VERSION: &str = "1:";
const COMPRESSION_LEVEL: i32 = 3;
/// Largest stored pipeline, above the limit of the text of a pipeline. Decoding refuses longer ones.
const BYTES_MAX: u64 = 64 << 20;

/// Returns the text for a manifest; `None` if the pipeline cannot be stored without its secrets.
pub(crate) fn encode(resolved: &v1::ResolvedJob) -> Option<String> {
    let bytes = without_secrets(resolved)?.encode_to_vec();
    let compressed = zstd::bulk::compress(&bytes, COMPRESSION_LEVEL).ok()?;
    Some(format!("{VERSION}{}", STANDARD.encode(compressed)))
}

/// Reads the text of a manifest.
pub(crate) fn decode(text: &str) -> Result<v1::ResolvedJob, String> {
    let damaged = |problem: &dyn std::fmt::Display| format!("it cannot be read: {problem}");
    let coded = text
        .strip_prefix(VERSION)
        .ok_or_else(|| "a newer engine wrote it".to_string())?;
    let compressed = STANDARD.decode(coded).map_err(|error| damaged(&error))?;
    let mut bytes = Vec::new();
    zstd::Decoder::new(compressed.as_slice())
        .and_then(|decoder| decoder.take(BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| damaged(&error))?;
    v1::ResolvedJob::decode(bytes.as_slice()).map_err(|error| damaged(&error))
}

/// The result of comparing the pipeline of a checkpoint with the one that is to resume from it.
#[derive(Debug)]
pub enum PipelineComparison {
    /// The differences.
    Known(Differences),
    /// The checkpoint has no pipeline: an older engine took it.
    NotStored,
    /// This engine cannot plan the pipeline of the checkpoint; the reason.
    NotPlannable(String),
}

/// Compares the pipeline of a checkpoint with the one that is to resume from it.
pub(crate) async fn compare(
    snapshot: &Snapshot,
    now: &Arc<v1::ResolvedJob>,
    now_stored: Option<&str>,
) -> Result<PipelineComparison, Error> {
    let Some(stored) = snapshot.pipeline.clone() else {
        return Ok(PipelineComparison::NotStored);
    };
    if now_stored == Some(stored.as_str()) {
        return Ok(PipelineComparison::Known(Differences::default()));
    }
    let now = now.clone();
    let compared = threads::run_blocking(move || differences(&stored, &now)).await;
    let compared =
        compared.map_err(|error| Error::Failed(format!("comparing two pipelines did not end well: {error}")))?;
    Ok(match compared {
        Ok(differences) => PipelineComparison::Known(differences),
        Err(reason) => PipelineComparison::NotPlannable(reason),
    })
}

/// Returns the differences in meaning between two pipelines; an error is the reason why they cannot be compared.
fn differences(stored: &str, now: &v1::ResolvedJob) -> Result<Differences, String> {
    let mut old = decode(stored)?;
    // `NOW()` is the start of the job, whichever it is.
    old.now_us = now.now_us;
    let now = without_secrets(now).ok_or("the pipeline cannot be read without its secrets")?;
    if is_same(&old, &now) {
        return Ok(Differences::default());
    }
    let plan = |job| planning::plan_to_compare(job).map_err(|error| error.to_string());
    let (old, new) = (plan(&old)?, plan(&now)?);
    Ok(meaning::compare(&old, &new))
}

/// Returns the job graph of a stored pipeline, in which secrets are masked; an error is the reason why this engine
/// cannot plan it.
pub(crate) fn plan(stored: &str) -> Result<JobGraph, String> {
    let planned = planning::plan_to_compare(&decode(stored)?).map_err(|error| error.to_string())?;
    Ok(planned.graph)
}

/// Returns true if two jobs have the same pipeline, whenever they were resolved.
pub(crate) fn is_same(old: &v1::ResolvedJob, now: &v1::ResolvedJob) -> bool {
    let planned = |job: &v1::ResolvedJob| (job.pipeline.clone(), job.environment.clone(), job.mode);
    planned(old) == planned(now)
}

/// Returns the job without its secrets.
fn without_secrets(resolved: &v1::ResolvedJob) -> Option<v1::ResolvedJob> {
    let mut stored = resolved.clone();
    match &mut stored.pipeline {
        Some(resolved_job::Pipeline::Spec(spec)) => {
            for step in &mut spec.steps {
                // A step has no options, but comments.
                step.sql = millstream_planner::sql::redacted(&step.sql, options::MASK, |_| false)?;
            }
            let sources = spec.sources.iter_mut().flat_map(|source| &mut source.options);
            let sinks = spec.sinks.iter_mut().flat_map(|sink| &mut sink.options);
            for property in sources.chain(sinks) {
                if registry::is_secret(&property.key) {
                    property.value = options::MASK.to_string();
                }
            }
        }
        Some(resolved_job::Pipeline::Sql(text)) => {
            *text = millstream_planner::sql::redacted(text, options::MASK, registry::is_secret)?;
            let text = text.clone();
            stored
                .environment
                .retain(|name, _| text.contains(&format!("${{{name}")));
        }
        None => return None,
    }
    stored.fingerprint = 0;
    Some(stored)
}
