//! Restores channel state: delivers the rows that the barriers of the checkpoint had overtaken.
//!
//! Where a channel of the checkpoint exists again, its rows go into that channel. Where it does not (another
//! parallelism has other channels and other chains, and an edited pipeline may have other operators upstream), its rows
//! go straight to the receiving operator: to the owner of their key if the edge is hashed, else to any subtask. The
//! operator processes them before anything else, and the deepest operator of a chain goes first, so no row is overtaken
//! by a later row of the same path. Watermarks are not restored: the sources send them again.

use std::collections::HashMap;

use arrow::datatypes::SchemaRef;
use arrow_array::{RecordBatch, RecordBatchOptions};
use futures::{StreamExt, TryStreamExt};
use millstream_graph::{Exchange, JobGraph, NodeIndex, Port};
use millstream_state::job_files::FileReference;

use super::{Deployment, input_schemas, invalid};
use crate::Error;
use crate::chain::{Chains, parallelism_of};
use crate::channel_state::{ChannelState, Origin};
use crate::exchange::Partitioner;
use crate::remote_channel::LocalSlots;

/// Files that are read at the same time.
const READS_IN_FLIGHT_MAX: usize = 2;

/// Rows of a checkpoint's channel state, to be delivered to subtasks that run here.
#[derive(Default)]
pub(super) struct RestoredChannels {
    /// Rows of channels that exist again, by edge, sending and receiving subtask.
    pub channels: HashMap<(usize, usize, usize), Vec<RecordBatch>>,
    /// Rows for the inputs of an operator, by node and subtask; processed before the rows of all channels.
    pub rows: HashMap<(NodeIndex, usize), Vec<(usize, RecordBatch)>>,
}

/// Returns the identity of an edge's channels among those that lead to the same operator.
pub(super) fn origin(graph: &JobGraph, edge: usize, subtask: usize) -> Origin {
    let to = graph.edges[edge].to;
    let from = &graph.nodes[graph.edges[edge].from].id;
    let what = match graph.edges[edge].port {
        Port::Main => "",
        Port::Late(0) => " (late)",
        Port::Late(_) => " (late, right)",
        Port::DeadLetters => " (dead letters)",
    };
    Origin {
        from: format!("{from}{what}"),
        edge_position: graph.edges[..edge].iter().filter(|edge| edge.to == to).count(),
        columns: names(&input_schemas(graph, to)[graph.edges[edge].input]),
        subtask,
    }
}

fn names(schema: &SchemaRef) -> Vec<String> {
    schema.fields().iter().map(|field| field.name().clone()).collect()
}

/// Reads the channel state of the checkpoint as far as it concerns subtasks that run here.
pub(super) async fn restore(deployment: &Deployment, local_slots: &LocalSlots) -> Result<RestoredChannels, Error> {
    let wanted = wanted(deployment, local_slots);
    if wanted.is_empty() {
        return Ok(RestoredChannels::default());
    }
    let mut restore = ChannelStateRestore {
        deployment,
        local_slots,
        chains: Chains::of(&deployment.graph, deployment.parallelism),
        restored: RestoredChannels::default(),
    };
    let mut read = futures::stream::iter(wanted)
        .map(|(node, subtask, file)| async move {
            let files = deployment.backend.files();
            let content = files.read(&file.path, file.length, file.crc32).await?;
            Ok::<_, Error>((node, subtask, ChannelState::decode(&content)?))
        })
        .buffered(READS_IN_FLIGHT_MAX);
    while let Some((node, subtask, channel_state)) = read.try_next().await? {
        restore.deliver(node, subtask, channel_state)?;
    }
    Ok(restore.restored)
}

/// Returns the files with channel state for subtasks that run here. If an operator has as many subtasks as in the
/// checkpoint, each subtask reads its own file; otherwise every process reads the files of all subtasks.
fn wanted(deployment: &Deployment, local_slots: &LocalSlots) -> Vec<(NodeIndex, usize, FileReference)> {
    let graph = &deployment.graph;
    let mut wanted = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let states = deployment.restore.get(&node.id).map_or(&[][..], Vec::as_slice);
        let is_as_wide = states.len() == parallelism_of(graph, index, deployment.parallelism);
        let states = states
            .iter()
            .filter(|state| !is_as_wide || local_slots.position(state.subtask).is_some());
        wanted.extend(states.filter_map(|state| Some((index, state.subtask, state.channel_state.clone()?))));
    }
    wanted
}

struct ChannelStateRestore<'a> {
    deployment: &'a Deployment,
    local_slots: &'a LocalSlots,
    chains: Chains,
    restored: RestoredChannels,
}

impl ChannelStateRestore<'_> {
    /// Delivers the channel state of one subtask of the checkpoint.
    fn deliver(&mut self, node: NodeIndex, subtask: usize, channel_state: ChannelState) -> Result<(), Error> {
        for batch in channel_state.queued {
            let batch = self.fit(node, 0, None, batch)?;
            self.route(node, 0, subtask, &Exchange::Rebalance, batch)?;
        }
        for channel in channel_state.channels {
            let columns = Some(channel.origin.columns.as_slice());
            let rows = channel.rows.into_iter();
            let rows = rows.map(|batch| self.fit(node, channel.input, columns, batch));
            let rows = rows.collect::<Result<Vec<_>, Error>>()?;
            if let Some(edge) = self.same_edge(node, subtask, channel_state.parallelism, &channel.origin) {
                let channel = (edge, channel.origin.subtask, subtask);
                self.restored.channels.insert(channel, rows);
                continue;
            }
            let exchange = self.exchange(node, channel.input)?;
            for batch in rows {
                self.route(node, channel.input, subtask, &exchange, batch)?;
            }
        }
        Ok(())
    }

    /// Returns the edge that has the same channel now, if any.
    fn same_edge(&self, node: NodeIndex, subtask: usize, parallelism: usize, was: &Origin) -> Option<usize> {
        let graph = &self.deployment.graph;
        let is_it = |edge: &usize| graph.edges[*edge].to == node && origin(graph, *edge, was.subtask) == *was;
        let edge = (0..graph.edges.len()).find(is_it)?;
        let from_count = parallelism_of(graph, graph.edges[edge].from, parallelism);
        let is_there = graph.edges[edge].exchange != Exchange::Forward
            || was.subtask == subtask
            || from_count != parallelism_of(graph, node, parallelism);
        let is_same = parallelism == self.deployment.parallelism
            && was.subtask < from_count
            && !self.chains.is_chained[edge]
            && is_there;
        is_same.then_some(edge)
    }

    /// Returns the exchange of the edge that feeds this input now.
    fn exchange(&self, node: NodeIndex, input: usize) -> Result<Exchange, Error> {
        let graph = &self.deployment.graph;
        match graph.inputs(node).find(|edge| edge.input == input) {
            // Broadcast rows are in the channel state of some subtasks, and may have been processed by others.
            Some(edge) if edge.exchange == Exchange::Broadcast => Err(self.refused(
                node,
                "they were sent to all subtasks, so they fit its own parallelism only",
            )),
            Some(edge) => Ok(edge.exchange.clone()),
            None => Err(self.refused(node, &format!("it has no input {input} any more"))),
        }
    }

    /// Adds rows to those of the subtasks that run here, by the exchange.
    fn route(
        &mut self,
        node: NodeIndex,
        input: usize,
        subtask: usize,
        exchange: &Exchange,
        batch: RecordBatch,
    ) -> Result<(), Error> {
        let graph = &self.deployment.graph;
        let count = parallelism_of(graph, node, self.deployment.parallelism);
        let (local_slots, restored_rows): (_, &mut HashMap<_, Vec<_>>) = (self.local_slots, &mut self.restored.rows);
        let mut give = |subtask: usize, batch: RecordBatch| {
            if local_slots.position(subtask).is_some() {
                restored_rows.entry((node, subtask)).or_default().push((input, batch));
            }
            Ok(())
        };
        match exchange {
            Exchange::Hash(keys) => Partitioner::new(keys.clone(), graph.max_parallelism, count).partition(batch, give),
            _ => give(subtask % count, batch),
        }
    }

    /// Returns the batch with the schema that the operator expects. `columns` are the names of its columns in the
    /// checkpoint, which must be the same; rows from the queue of a sink have none.
    fn fit(
        &self,
        node: NodeIndex,
        input: usize,
        columns: Option<&[String]>,
        batch: RecordBatch,
    ) -> Result<RecordBatch, Error> {
        let schema = input_schemas(&self.deployment.graph, node).into_iter().nth(input);
        let schema = schema.ok_or_else(|| self.refused(node, &format!("it has no input {input} any more")))?;
        let expected = names(&schema);
        if columns.is_some_and(|columns| columns != expected) {
            let columns = columns.unwrap_or_default().join(", ");
            let message = format!(
                "they have the columns [{columns}], and it takes [{}]",
                expected.join(", ")
            );
            return Err(self.refused(node, &message));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(schema, batch.columns().to_vec(), &options)
            .map_err(|error| self.refused(node, &error.to_string()))
    }

    fn refused(&self, node: NodeIndex, why: &str) -> Error {
        let message = format!(
            "the checkpoint has rows in flight to it (`aligned_timeout`), and {why}; undo the change, let the job go on, and \
             change it behind a savepoint, which has none"
        );
        invalid(self.deployment.graph.nodes[node].id.to_string(), &message)
    }
}
