//! Publication of a checkpoint's output by the workers that wrote it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_proto::v1;
use millstream_proto::v1::task_command::Command as Wire;
use millstream_store_errors::Retry;
use tokio::sync::oneshot;
use tracing::Span;

use super::{RemoteTasks, failure, remote_error};
use crate::publish::{Publishing, SubtaskOutput};
use crate::{Error, encoding, spans};

/// A checkpoint whose output the workers publish. Dropping it gives the publication up.
pub(super) struct Publication {
    checkpoint: u64,
    /// Parts of regions, by worker, that have not been published yet.
    missing: BTreeSet<(usize, String)>,
    done: oneshot::Sender<Result<(), Error>>,
}

impl RemoteTasks {
    /// Orders the workers to publish their parts.
    pub(super) fn start_publication(
        &mut self,
        checkpoint: u64,
        outputs: Vec<SubtaskOutput>,
        span: &Span,
    ) -> Publishing {
        let mut parts: BTreeMap<(usize, String), Vec<SubtaskOutput>> = BTreeMap::new();
        for output in outputs {
            let slot = output.subtask % self.slots.len();
            if let Some(region) = self.regions.iter().position(|region| region.slots.contains(&slot)) {
                parts
                    .entry((region, self.slots[slot].clone()))
                    .or_default()
                    .push(output);
            }
        }
        let ordered = parts.iter().try_for_each(|((region, worker), outputs)| {
            let publish = Wire::Publish(v1::PublishOutput {
                checkpoint,
                outputs: encoding::encode(outputs)?,
                trace_parent: spans::trace_parent(span),
            });
            self.regions[*region].order_one(&self.job, worker, publish)
        });
        if let Err(error) = ordered {
            return Box::pin(std::future::ready(Err(error)));
        }
        let (done, result) = oneshot::channel();
        self.publication = Some(Publication {
            checkpoint,
            missing: parts.into_keys().collect(),
            done,
        });
        Box::pin(async move {
            result.await.unwrap_or_else(|_| {
                Err(remote_error(
                    "the workers that were to publish the output were lost".into(),
                ))
            })
        })
    }

    /// Handles the result of publishing a worker's part of a region.
    pub(super) fn on_published(&mut self, region: usize, worker: String, answer: v1::OutputPublished) {
        let Some(mut publication) = self.publication.take_if(|it| it.checkpoint == answer.checkpoint) else {
            return;
        };
        let result = match answer.reason.as_str() {
            "" => Ok(()),
            reason => Err(Error::Runtime(failure(
                format!("worker {worker}: {reason}"),
                Retry::from_report(true, answer.is_disk_full),
            ))),
        };
        publication.missing.remove(&(region, worker));
        if result.is_ok() && !publication.missing.is_empty() {
            self.publication = Some(publication);
            return;
        }
        if publication.done.send(result).is_err() {
            tracing::debug!(job = self.job, "the result of a publication is no longer awaited");
        }
    }

    /// Gives up the publication if it needs a worker that cannot publish any more.
    pub(super) fn give_up_publication(&mut self, region: usize, worker: &str) {
        self.publication
            .take_if(|it| it.missing.contains(&(region, worker.to_string())));
    }
}
