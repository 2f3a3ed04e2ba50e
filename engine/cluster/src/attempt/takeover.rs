//! Takes an attempt over whose tasks run, after its coordinator has failed.
//!
//! Snapshots that the tasks reported meanwhile are lost, and none of them is needed: a first checkpoint is triggered
//! at once. It contains everything that sinks have prepared and that was not confirmed as published (publishing again
//! changes nothing), and it lists the splits that the tasks read. Discovery starts only after it: a split that was
//! handed out just before the failure must not be handed out again. Sinks are not started, since that would remove
//! output of the running attempt.

use std::collections::BTreeMap;

use super::Attempt;
use super::connectors::create_connectors;
use super::pending_output::PendingOutput;
use super::prepare::{Prepared, Start, check_restore, output_storage};
use crate::Error;
use crate::deployer::AdoptedTasks;
use crate::splits::SplitAssigner;

/// Prepares the driver of adopted tasks.
pub(super) async fn prepare(attempt: &Attempt<'_>, adopted: AdoptedTasks) -> Result<Start, Error> {
    let job = attempt.job;
    let connectors = create_connectors(job)?;
    let storage = output_storage(attempt);
    for sink in connectors.sinks.values() {
        sink.use_storage(storage.clone());
    }
    let mut known = BTreeMap::new();
    for (node, source) in &connectors.sources {
        let subtasks = job.subtasks(*node, adopted.parallelism);
        known.insert(
            job.graph.nodes[*node].id.clone(),
            SplitAssigner::new(subtasks, source.splits_are_ordered()),
        );
    }
    if let Some(base) = attempt.base {
        check_restore(attempt, base).await?;
        if base.finished {
            let pending = PendingOutput::of(job, &connectors, &storage, base).await?;
            pending.publish().await?;
            return Ok(Start::AlreadyFinished {
                checkpoint: base.checkpoint,
                // The job ran until now, so newer input is not looked for.
                unread: Vec::new(),
            });
        }
        for (id, known) in &mut known {
            if let Some(states) = base.operators.get(id) {
                // Open splits are being read; finished ones are remembered.
                known.restore(states);
            }
        }
    }
    Ok(Start::Running(Prepared {
        connectors,
        assigners: known,
        tasks: adopted.tasks,
        parallelism: adopted.parallelism,
        is_takeover: true,
        newest_checkpoint: adopted.newest_checkpoint,
    }))
}
