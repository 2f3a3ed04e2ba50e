//! The splits of an attempt's sources: their assignment to subtasks, and the discovery of new ones.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use millstream_connectors::{Source, Split};
use millstream_graph::{JobGraph, NodeIndex, OperatorId};
use millstream_runtime::command::Command;
use millstream_runtime::subtask_state::SubtaskState;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::checkpoint::Completed;
use crate::splits::{SplitAssigner, add_finished_splits};

type ConnectorError = millstream_connectors::Error;

/// The splits that a source has now.
pub(super) struct Discovered {
    /// The source.
    pub node: NodeIndex,
    /// Its splits, or the error of listing them.
    pub splits: Result<Vec<Split>, ConnectorError>,
}

/// A source node of the job.
struct SourceNode {
    node: NodeIndex,
    id: OperatorId,
    source: Arc<dyn Source>,
    /// Interval of discovery; `None` if the source has all its splits from the beginning.
    interval: Option<Duration>,
}

/// Assigns the splits of all sources, and looks for new ones at intervals.
pub(super) struct Discovery {
    sources: Vec<SourceNode>,
    assigners: BTreeMap<OperatorId, SplitAssigner>,
    /// True until the first checkpoint of adopted tasks lists the splits that they read.
    awaits_running_splits: bool,
    watchers: JoinSet<()>,
    /// Holds one result: watchers wait until it is taken.
    sender: mpsc::Sender<Discovered>,
    results: mpsc::Receiver<Discovered>,
}

impl Discovery {
    /// Creates the discovery for tasks that were given these splits or, with `awaits_running_splits`, that were
    /// adopted.
    pub(super) fn new(
        graph: &JobGraph,
        is_batch: bool,
        sources: &HashMap<NodeIndex, Arc<dyn Source>>,
        assigners: BTreeMap<OperatorId, SplitAssigner>,
        awaits_running_splits: bool,
    ) -> Self {
        let (sender, results) = mpsc::channel(1);
        let sources = sources.iter().map(|(node, source)| SourceNode {
            node: *node,
            id: graph.nodes[*node].id.clone(),
            source: source.clone(),
            interval: source.discovery_interval().filter(|_| !is_batch),
        });
        Self {
            sources: sources.collect(),
            assigners,
            awaits_running_splits,
            watchers: JoinSet::new(),
            sender,
            results,
        }
    }

    /// Returns true until the first checkpoint of adopted tasks.
    pub(super) fn awaits_running_splits(&self) -> bool {
        self.awaits_running_splits
    }

    /// Returns true if no source is looked at for new splits.
    pub(super) fn is_final(&self) -> bool {
        self.sources.iter().all(|source| source.interval.is_none())
    }

    /// Begins to look for new splits, and returns the commands of [`no_more_splits`](Self::no_more_splits).
    pub(super) fn start(&mut self) -> Vec<Command> {
        for source in &self.sources {
            let Some(interval) = source.interval else { continue };
            let (node, source, sender) = (source.node, source.source.clone(), self.sender.clone());
            self.watchers.spawn(async move {
                loop {
                    tokio::time::sleep(interval).await;
                    let splits = source.splits().await;
                    if sender.send(Discovered { node, splits }).await.is_err() {
                        return;
                    }
                }
            });
        }
        self.no_more_splits()
    }

    /// Returns the commands that tell readers of sources without discovery that no split will follow. There are none if
    /// no source has discovery: the deployment has said so then.
    pub(super) fn no_more_splits(&self) -> Vec<Command> {
        if self.is_final() {
            return Vec::new();
        }
        let complete = self.sources.iter().filter(|source| source.interval.is_none());
        complete
            .map(|source| Command::NoMoreSplits { node: source.node })
            .collect()
    }

    /// Waits for the next result of a source.
    pub(super) async fn next(&mut self) -> Discovered {
        match self.results.recv().await {
            Some(found) => found,
            // Not reached: this value has a sender.
            None => std::future::pending().await,
        }
    }

    /// Assigns the splits that are new, and returns the commands that hand them out.
    pub(super) fn assign_new(&mut self, node: NodeIndex, splits: Vec<Split>) -> Vec<Command> {
        let source = self.sources.iter().find(|source| source.node == node);
        let Some(assigner) = source.and_then(|source| self.assigners.get_mut(&source.id)) else {
            return Vec::new();
        };
        let new = assigner.take_new(splits);
        let assigned = assigner.assign(new).into_iter().enumerate();
        assigned
            .filter(|(_, splits)| !splits.is_empty())
            .map(|(subtask, splits)| Command::AssignSplits { node, subtask, splits })
            .collect()
    }

    /// Takes note of the splits that adopted tasks read, which their first checkpoint lists, and begins discovery: a
    /// split that was handed out just before the takeover must not be handed out again.
    pub(super) fn on_first_checkpoint(&mut self, completed: &Completed) -> Vec<Command> {
        self.awaits_running_splits = false;
        for (id, assigner) in &mut self.assigners {
            if let Some(states) = completed.states.get(id) {
                assigner.add_running(states);
            }
        }
        self.start()
    }

    /// Adds to a checkpoint's states the splits that were finished before the attempt began.
    pub(super) fn add_finished(&self, states: &mut BTreeMap<OperatorId, Vec<SubtaskState>>) {
        add_finished_splits(&self.assigners, states);
    }

    /// Returns the splits of the subtasks that restart from `states`, by source node and subtask.
    pub(super) fn reassign(
        &mut self,
        states: &BTreeMap<OperatorId, Vec<SubtaskState>>,
        is_restarted: impl Fn(usize) -> bool,
    ) -> HashMap<NodeIndex, Vec<Vec<Split>>> {
        let mut reassigned = HashMap::new();
        for source in &self.sources {
            if let Some(assigner) = self.assigners.get_mut(&source.id) {
                let states = states.get(&source.id).map_or(&[][..], Vec::as_slice);
                reassigned.insert(source.node, assigner.reassign(states, &is_restarted));
            }
        }
        reassigned
    }

    /// Ends discovery.
    pub(super) fn stop(&mut self) {
        self.watchers.abort_all();
    }
}
