//! Prepares an attempt: from a restored checkpoint to running tasks.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use millstream_connectors::{JobIdentity, OutputStorage, Source, Split};
use millstream_graph::{NodeIndex, OperatorId};
use millstream_runtime::sink_files::SinkFiles;

use super::connectors::{Connectors, create_connectors};
use super::pending_output::PendingOutput;
use super::{Attempt, unread_input};
use crate::deployer::{Allocation, DeployRequest, Tasks};
use crate::job::Job;
use crate::snapshot::Snapshot;
use crate::splits::SplitAssigner;
use crate::{Error, compatibility, spans, stored_pipeline};

/// Tasks that run, for the driver.
pub(super) struct Prepared {
    /// The sources and sinks.
    pub connectors: Connectors,
    /// The splits of each source.
    pub assigners: BTreeMap<OperatorId, SplitAssigner>,
    /// The tasks.
    pub tasks: Box<dyn Tasks>,
    /// Subtasks of each operator.
    pub parallelism: usize,
    /// True if the tasks were adopted: the splits that they read are not known yet.
    pub is_takeover: bool,
    /// The newest checkpoint that was triggered at these tasks.
    pub newest_checkpoint: u64,
}

/// The result of the preparation.
pub(super) enum Start {
    Running(Prepared),
    /// All input was processed when the restored checkpoint was taken.
    AlreadyFinished {
        checkpoint: u64,
        /// Input that the job has not read, one text for each source that has some.
        unread: Vec<String>,
    },
}

/// Deploys the tasks of an attempt.
pub(super) async fn prepare(attempt: &Attempt<'_>) -> Result<Start, Error> {
    let job = attempt.job;
    let connectors = create_connectors(job)?;
    let storage = output_storage(attempt);
    for sink in connectors.sinks.values() {
        sink.use_storage(storage.clone());
    }
    let identity = JobIdentity {
        job: job.graph.name.clone(),
        attempt: uuid::Uuid::new_v4().simple().to_string(),
    };
    let mut pending = PendingOutput::default();
    if let Some(base) = attempt.base {
        check_restore(attempt, base).await?;
        pending = PendingOutput::of(job, &connectors, &storage, base).await?;
        if base.finished {
            pending.publish().await?;
            return Ok(Start::AlreadyFinished {
                checkpoint: base.checkpoint,
                unread: unread_input::unread_input(attempt, &connectors, base).await,
            });
        }
    }
    let sinks: Vec<_> = connectors.sinks.values().cloned().collect();
    let before_start = {
        let identity = identity.clone();
        async move {
            pending.publish().await?;
            for sink in sinks {
                sink.start(&identity).await?;
            }
            Ok::<_, Error>(())
        }
    };
    let before_start = spans::in_span(spans::span!("publish what was restored"), before_start);
    let allocation = spans::in_span(spans::span!("wait for slots"), attempt.deployer.allocate(job)).await?;
    let finding = find_splits(attempt, &allocation, &connectors);
    let (assigners, splits) = spans::in_span(spans::span!("find splits"), finding).await?;
    let discovers = |source: &Arc<dyn Source>| !job.options.batch && source.discovery_interval().is_some();
    let restore = attempt
        .base
        .map(|base| base.operators.clone().into_iter().collect())
        .unwrap_or_default();
    let request = DeployRequest {
        identity,
        sources: connectors.sources.clone(),
        sinks: connectors.sinks.clone(),
        splits,
        splits_are_final: !connectors.sources.values().any(discovers),
        restore,
        before_start: Box::pin(before_start),
        epoch: attempt.history.epoch(),
        files: attempt.history.files(),
    };
    let tasks = attempt.deployer.deploy(job, &allocation, request).await?;
    Ok(Start::Running(Prepared {
        connectors,
        assigners,
        tasks,
        parallelism: allocation.parallelism,
        is_takeover: false,
        newest_checkpoint: 0,
    }))
}

/// Returns the storage of output that is part of checkpoints.
pub(super) fn output_storage(attempt: &Attempt<'_>) -> Arc<dyn OutputStorage> {
    Arc::new(SinkFiles::new(attempt.history.files()))
}

/// Checks that the job can restore a checkpoint, and reports the notes.
pub(super) async fn check_restore(attempt: &Attempt<'_>, base: &Snapshot) -> Result<(), Error> {
    for note in check_compatibility(attempt.job, base).await? {
        attempt.progress.info(note);
    }
    Ok(())
}

/// Checks that a job can restore a checkpoint. Returns notes for the user; an error lists what does not fit.
pub(crate) async fn check_compatibility(job: &Job, base: &Snapshot) -> Result<Vec<String>, Error> {
    let compared = stored_pipeline::compare(base, &job.resolved, job.stored_pipeline.as_deref()).await?;
    let mut findings = compatibility::check(&job.graph, base, &compared);
    if job.allow_dropped_state {
        findings.drop_lost();
    }
    let refusals = findings.refusals(job.accept_changed_meaning);
    if refusals.is_empty() {
        return Ok(findings.notes());
    }
    Err(Error::Invalid(format!(
        "checkpoint {} does not fit the pipeline: {}; or start anew with --fresh",
        base.checkpoint,
        refusals.join("; ")
    )))
}

/// Splits by source node and subtask.
type Assigned = HashMap<NodeIndex, Vec<Vec<Split>>>;

async fn find_splits(
    attempt: &Attempt<'_>,
    allocation: &Allocation,
    connectors: &Connectors,
) -> Result<(BTreeMap<OperatorId, SplitAssigner>, Assigned), Error> {
    let mut known_by_source = BTreeMap::new();
    let mut assigned = HashMap::new();
    for (node, source) in &connectors.sources {
        let id = &attempt.job.graph.nodes[*node].id;
        let mut known = SplitAssigner::new(
            attempt.job.subtasks(*node, allocation.parallelism),
            source.splits_are_ordered(),
        );
        let restored = attempt.base.and_then(|base| base.operators.get(id));
        if restored.is_some() {
            source.resume();
        }
        let mut splits = restored.map(|states| known.restore(states)).unwrap_or_default();
        splits.extend(known.take_new(source.splits().await?));
        assigned.insert(*node, known.assign(splits));
        known_by_source.insert(id.clone(), known);
    }
    Ok((known_by_source, assigned))
}
