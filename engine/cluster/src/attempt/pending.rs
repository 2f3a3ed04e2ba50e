//! Output that a complete checkpoint holds and that may not be published yet.
//!
//! A checkpoint's rows count as written from the moment the checkpoint exists, so its output must become visible,
//! whoever goes on from it: the next attempt, another parallelism, or another job that begins with a copy. Publishing
//! is idempotent (markers in Kafka, names of files), so nobody has to know whether it was published before.

use std::sync::Arc;

use millstream_connectors::{Committable, Sink};
use millstream_runtime::sink_files::SinkFiles;

use super::prepare::make_ends;
use super::{Ends, committables_of};
use crate::history::History;
use crate::job::Job;
use crate::manifest::Snapshot;
use crate::{Error, publish};

/// The output of one checkpoint, by the sink that publishes it.
#[derive(Default)]
pub(super) struct PendingOutput {
    outputs: Vec<(Arc<dyn Sink>, Vec<Committable>)>,
}

impl PendingOutput {
    /// What `base` holds for these sinks, which have been given the job's storage.
    pub(super) fn of(job: &Job, ends: &Ends, base: &Snapshot) -> Self {
        let outputs = ends.sinks.iter().filter_map(|(node, sink)| {
            let committables = committables_of(base.operators.get(&job.graph.nodes[*node].id));
            (!committables.is_empty()).then(|| (sink.clone(), committables))
        });
        Self {
            outputs: outputs.collect(),
        }
    }

    /// Publishes all of it.
    pub(super) async fn publish(self) -> Result<(), Error> {
        for (sink, committables) in self.outputs {
            publish::commit(&sink, committables).await?;
        }
        Ok(())
    }
}

/// Publishes what the latest checkpoint holds, while no task of the job runs.
pub(crate) async fn publish_latest(job: &Job, history: &History) -> Result<(), Error> {
    let latest = history.latest_for_running().await?.map_err(Error::Failed)?;
    let Some(latest) = latest else { return Ok(()) };
    let ends = make_ends(job)?;
    let storage = Arc::new(SinkFiles::new(history.files()));
    for sink in ends.sinks.values() {
        sink.use_storage(storage.clone());
    }
    PendingOutput::of(job, &ends, &latest).publish().await
}
