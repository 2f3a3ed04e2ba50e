//! Taking an attempt over as it runs, when whoever looked after it is gone.
//!
//! The tasks have gone on by themselves; what they reported meanwhile is lost. Nothing of it is needed: a first
//! checkpoint is cut at once. It holds all that sinks have prepared and have not been told is published (some of it may
//! be: publishing again changes nothing), whatever became of the checkpoint that was under way, and it says which
//! splits the tasks read. Only then are new splits looked for: one that was handed out just before must not be handed
//! out again. Sinks are not started: that would clean up behind an attempt that lives.

use std::collections::BTreeMap;

use super::Attempt;
use super::connectors::create_connectors;
use super::pending_output::PendingOutput;
use super::prepare::{Prepared, Start, check_restore, output_storage};
use crate::Error;
use crate::deployer::AdoptedTasks;
use crate::splits::SplitAssigner;

/// Everything up to tasks that are looked after.
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
                // It ran until just now: nobody has asked for newer input.
                unread: Vec::new(),
            });
        }
        for (id, known) in &mut known {
            if let Some(states) = base.operators.get(id) {
                // The open ones are being read; those that are finished are nobody's any more.
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
