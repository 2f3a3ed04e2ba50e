//! New splits of sources, found while the job runs.

use std::sync::Arc;
use std::time::Duration;

use millstream_connectors::{Source, Split};
use millstream_graph::NodeIndex;
use millstream_runtime::command::Command;
use millstream_store_errors::Retry;

use super::driver::{Discovered, Driver};

impl Driver<'_> {
    /// Looks for new splits of sources that ask for it; tells the readers of all others that no more will come.
    pub(super) fn start_discovery(&mut self) {
        self.end_discovery_elsewhere();
        for (node, source, interval) in self.discovery() {
            let Some(interval) = interval else { continue };
            let discoveries = self.discoveries.clone();
            self.watchers.spawn(async move {
                loop {
                    tokio::time::sleep(interval).await;
                    let splits = source.splits().await;
                    if discoveries.send(Discovered { node, splits }).await.is_err() {
                        // The attempt is over.
                        return;
                    }
                }
            });
        }
    }

    /// Where some sources are looked for new splits, the readers of the others are told that no more will come.
    pub(super) fn end_discovery_elsewhere(&mut self) {
        let discovery = self.discovery();
        if discovery.iter().any(|(_, _, interval)| interval.is_some()) {
            for (node, ..) in discovery.into_iter().filter(|(_, _, interval)| interval.is_none()) {
                self.command(Command::NoMoreSplits { node });
            }
        }
    }

    /// Every source, and how often it is looked for new splits.
    fn discovery(&self) -> Vec<(NodeIndex, Arc<dyn Source>, Option<Duration>)> {
        let sources = self.connectors.sources.iter();
        let interval = |source: &Arc<dyn Source>| source.discovery_interval().filter(|_| !self.job.options.batch);
        sources
            .map(|(node, source)| (*node, source.clone(), interval(source)))
            .collect()
    }

    pub(super) fn discovered(&mut self, node: NodeIndex, splits: Result<Vec<Split>, millstream_connectors::Error>) {
        // A region that begins again takes no new splits meanwhile; they are found again.
        if self.failover.is_some() {
            return;
        }
        let id = &self.job.graph.nodes[node].id;
        let splits = match splits {
            Ok(splits) => splits,
            Err(error) if error.retry().is_retryable() => {
                self.progress
                    .warn(format!("{id}: new splits could not be looked for: {error}"));
                return;
            }
            Err(error) => return self.fail(error.into(), Retry::Never),
        };
        let Some(known) = self.known.get_mut(id) else { return };
        let new = known.take_new(splits);
        if new.is_empty() {
            return;
        }
        for (subtask, splits) in known.assign(new).into_iter().enumerate() {
            if !splits.is_empty() {
                self.command(Command::AssignSplits { node, subtask, splits });
            }
        }
    }
}
