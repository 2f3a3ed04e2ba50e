//! New splits of sources, found while the job runs.

use millstream_connectors::Split;
use millstream_planner::graph::NodeIndex;
use millstream_runtime::job as runtime;

use super::driver::{Background, Driver, report};
use crate::restart;

impl Driver<'_> {
    /// Looks for new splits of sources that ask for it; tells the readers of all others that no more will come.
    pub(super) fn start_discovery(&mut self) {
        let discovers: Vec<_> = self
            .ends
            .sources
            .iter()
            .map(|(node, source)| {
                (
                    *node,
                    source.clone(),
                    source.discovery_interval().filter(|_| !self.job.options.batch),
                )
            })
            .collect();
        let any = discovers.iter().any(|(_, _, interval)| interval.is_some());
        for (node, source, interval) in discovers {
            let Some(interval) = interval else {
                if any {
                    self.command(runtime::Command::NoMoreSplits { node });
                }
                continue;
            };
            let results = self.results.clone();
            self.watchers.spawn(async move {
                loop {
                    tokio::time::sleep(interval).await;
                    let splits = source.splits().await;
                    report(&results, Background::Discovered { node, splits });
                }
            });
        }
    }

    pub(super) fn discovered(&mut self, node: NodeIndex, splits: Result<Vec<Split>, millstream_connectors::Error>) {
        let id = &self.job.graph.nodes[node].id;
        let splits = match splits {
            Ok(splits) => splits,
            Err(error) if restart::connector_error_may_pass(&error) => {
                self.progress
                    .warn(format!("{id}: new splits could not be looked for: {error}"));
                return;
            }
            Err(error) => return self.fail(error.into(), false),
        };
        let Some(known) = self.known.get_mut(id) else { return };
        let new = known.unknown(splits);
        if new.is_empty() {
            return;
        }
        for (subtask, splits) in known.assign(new).into_iter().enumerate() {
            if !splits.is_empty() {
                self.command(runtime::Command::AssignSplits { node, subtask, splits });
            }
        }
    }
}
