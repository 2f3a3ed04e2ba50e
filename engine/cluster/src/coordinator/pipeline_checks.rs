//! Checks of a pipeline before a job gets it: planning, creation of its connectors, and compatibility of a
//! checkpoint.

use std::sync::Arc;

use millstream_planner::Mode;
use millstream_proto::v1;
use millstream_state::threads;

use crate::api::{self, Code};
use crate::compatibility::{self, Findings, Verdict};
use crate::coordinator::checkpoints::LoadedCheckpoint;
use crate::coordinator::errors::{internal, invalid, invalid_pipeline, mistakes_error};
use crate::coordinator::ledger::Record;
use crate::coordinator::now_us;
use crate::resolve::{self, Overrides, Resolved};
use crate::{Start, attempt, stored_pipeline};

/// Fails if a source or sink of a pipeline cannot be created.
pub(super) async fn check_connectors(resolved: &Resolved, record: &Record) -> Result<(), api::Error> {
    let parallelism = record.parallelism.unwrap_or(1) as usize;
    let job = resolved.job(parallelism, record.storage.clone(), Start::Resume);
    // Creating connectors may read files.
    let checked = threads::run_blocking(move || attempt::check_connectors(&job)).await;
    checked
        .map_err(|error| internal(&error))?
        .map_err(|error| invalid_pipeline(&error.to_string()))
}

/// Fails if a checkpoint is not compatible with a pipeline. `message` turns the problems into a sentence.
pub(super) fn check_compatible(
    findings: &Findings,
    accept_changed_meaning: bool,
    message: impl FnOnce(&str) -> String,
) -> Result<(), api::Error> {
    let refusals = findings.refusals(accept_changed_meaning);
    if refusals.is_empty() {
        return Ok(());
    }
    let has = |verdict: Verdict| findings.operators.iter().any(|finding| finding.verdict == verdict);
    let mut problems = refusals.join("; ");
    if has(Verdict::LosesState) || has(Verdict::NeedsMigration) {
        problems.push_str(
            "; --allow-dropped-state of engine-cli (allow_dropped_state of the API) drops state that no operator takes",
        );
    }
    if has(Verdict::ChangedMeaning) {
        problems.push_str("; in the API, the flag is accept_changed_meaning");
    }
    Err(api::Error::new(Code::CheckpointDoesNotFit, message(&problems)))
}

/// Plans a pipeline, on a thread for blocking work.
pub(super) async fn resolve_pipeline(
    pipeline: Option<v1::Pipeline>,
    name: Option<String>,
    mode: Option<Mode>,
) -> Result<Resolved, api::Error> {
    let pipeline = pipeline.ok_or_else(|| invalid("there is no pipeline in the request"))?;
    let overrides = Overrides { name, mode };
    let resolved = threads::run_blocking(move || resolve::resolve(&pipeline, &overrides, now_us())).await;
    let mut resolved = resolved.map_err(|error| internal(&error))?.map_err(mistakes_error)?;
    if resolved.settings.mode == Mode::Serve {
        return Err(invalid_pipeline(
            "a pipeline in the mode `serve` answers requests and is not a job; run it with `engine serve FILE`",
        ));
    }
    if resolved.settings.only_lists {
        return Err(invalid_pipeline(
            "the script only shows tables, columns or functions; there is nothing to run on a cluster: `engine run` prints \
             them",
        ));
    }
    if !resolved.listings.is_empty() {
        let note = "SHOW and DESCRIBE print nothing on a cluster: `engine run` prints their rows";
        resolved.notes.push(note.to_owned());
    }
    if resolved.settings.explain {
        return Err(invalid_pipeline(
            "the script consists of EXPLAIN; there is nothing to run (validate shows its plan)",
        ));
    }
    if resolved.settings.prints {
        return Err(invalid_pipeline(
            "the script contains a query without a target, whose rows are printed to standard output; a cluster has none: \
             write `INSERT INTO table SELECT ...`, or run the script with `engine run`",
        ));
    }
    Ok(resolved)
}

/// Compares the state in a checkpoint with the operators of a pipeline.
pub(super) async fn compare_with_checkpoint(
    found: &LoadedCheckpoint,
    resolved: &Resolved,
) -> Result<Findings, api::Error> {
    let snapshot = &found.snapshot;
    let now = Arc::new(resolved.resolved.clone());
    let compared = stored_pipeline::compare(snapshot, &now, None).await;
    let compared = compared.map_err(|error| internal(&error))?;
    let mut findings = compatibility::check(&resolved.graph, snapshot, &compared);
    // The columns that they need are known only when they are read.
    for (operator, states) in &snapshot.operators {
        if states.iter().any(|state| state.channel_state.is_some()) {
            findings.notes.push(format!(
                "rows were on their way to `{operator}` when the checkpoint was cut: if the pipeline no longer gives it a \
                 column that it took then, the restore is refused; a savepoint has no rows in flight"
            ));
        }
    }
    Ok(findings)
}
