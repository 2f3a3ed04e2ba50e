//! The tasks of all subtasks that run here, connected by channels.

use std::sync::Arc;
use std::task::Waker;

use arrow::datatypes::SchemaRef;
use millstream_connectors::Split;
use millstream_connectors::sink::WriterContext;
use millstream_connectors::source::ReaderContext;
use millstream_graph::{self as graph, NodeIndex, Operator};

use super::channel_state::RestoredChannels;
use super::channels::Channels;
use super::restore::Restored;
use super::{Deployment, TaskWakers, invalid, operators};
use crate::Error;
use crate::chain::{Chains, parallelism_of};
use crate::counters::JobCounters;
use crate::element::Element;
use crate::inputs::Inputs;
use crate::remote_channel::LocalSlots;
use crate::sink_files::SinkFiles;
use crate::sink_stage::SinkStage;
use crate::source_stage::SourceStage;
use crate::stage::{HeldControl, Stage, StageKind};
use crate::subtask_state::SubtaskState;
use crate::task::Task;

/// A task, and the chain and subtask it runs.
pub(crate) struct BuiltTask {
    pub chain: usize,
    pub subtask: usize,
    pub task: Task,
}

/// Makes all tasks that run here, connected by channels. `wakers` returns the waker of a subtask of a chain.
pub(crate) async fn build(
    deployment: &Deployment,
    restored: Restored,
    local_slots: &LocalSlots,
    chains: &Chains,
    wakers: &TaskWakers<'_>,
    counters: &Arc<JobCounters>,
) -> Result<Vec<BuiltTask>, Error> {
    let graph = &*deployment.graph;
    let mut operators = operators::make(deployment, restored.stores, local_slots, chains, wakers).await?;
    let RestoredChannels {
        channels: restored_channels,
        rows: mut restored_rows,
    } = restored.channels;
    let mut channels = Channels::new(deployment, local_slots, chains, wakers, restored_channels);
    let mut built = Vec::new();
    for (chain_index, chain) in chains.chains.iter().enumerate() {
        let subtasks = 0..parallelism_of(graph, chain[0], deployment.parallelism);
        for subtask in subtasks.filter(|subtask| local_slots.position(*subtask).is_some()) {
            let waker = wakers(chain_index, subtask);
            let mut edges = Vec::new();
            let mut stages = Vec::with_capacity(chain.len());
            for node in chain {
                let outputs = channels.outputs(*node, subtask, &mut edges);
                let id = &graph.nodes[*node].id;
                let own = counters
                    .operators
                    .iter()
                    .find(|counters| counters.operator == *id && counters.subtask == subtask);
                let Some(own) = own.map(Arc::clone) else {
                    return Err(invalid(id.to_string(), "has no counters"));
                };
                let kind = match operators.remove(&(*node, subtask)) {
                    Some(operator) => StageKind::Operator(operator),
                    None => source_or_sink_stage(deployment, *node, subtask, &waker, counters)?,
                };
                let mut stage = Stage::new(id.clone(), subtask, kind, outputs, own);
                stage.emits_at_end = graph.nodes[*node].operator.emits_at_end();
                stage.held_back = deployment.holds_back(*node).then(HeldControl::default);
                for (input, batch) in restored_rows.remove(&(*node, subtask)).unwrap_or_default() {
                    stage.accept(input, Element::Batch(batch));
                }
                stages.push(stage);
            }
            let inputs = match graph.nodes[chain[0]].operator {
                Operator::Source(_) => None,
                _ => Some(Inputs::new(channels.inputs(chain[0], subtask))),
            };
            built.push(BuiltTask {
                chain: chain_index,
                subtask,
                task: Task::new(
                    chain[0],
                    stages,
                    edges,
                    inputs,
                    Arc::clone(counters),
                    deployment.parallelism,
                    deployment.backend.files().clone(),
                ),
            });
        }
    }
    let undelivered = channels.restored.keys().map(|(edge, _, _)| graph.edges[*edge].to);
    if let Some(node) = undelivered.chain(restored_rows.keys().map(|(node, _)| *node)).next() {
        let message = "the checkpoint has channel state for it that no subtask has restored";
        return Err(invalid(graph.nodes[node].id.to_string(), message));
    }
    Ok(built)
}

/// Makes the stage of a source or a sink.
fn source_or_sink_stage(
    deployment: &Deployment,
    index: NodeIndex,
    subtask: usize,
    waker: &Waker,
    counters: &JobCounters,
) -> Result<StageKind, Error> {
    let graph = &*deployment.graph;
    let node = &graph.nodes[index];
    let parallelism = parallelism_of(graph, index, deployment.parallelism);
    match &node.operator {
        Operator::Source(source) => {
            let restored = deployment.restore.get(&node.id).map_or(&[][..], Vec::as_slice);
            let stage = source_stage(
                deployment,
                index,
                source,
                subtask,
                parallelism,
                waker,
                restored,
                counters,
            )?;
            Ok(StageKind::Source(Box::new(stage)))
        }
        Operator::Sink(sink) => {
            let writers = deployment
                .sinks
                .get(&index)
                .ok_or_else(|| invalid(node.id.to_string(), "no sink was given for this node"))?;
            let writer = writers.writer(WriterContext {
                job: deployment.identity.clone(),
                subtask,
                parallelism,
                runtime: deployment.runtime.clone(),
                storage: Arc::new(SinkFiles::new(deployment.backend.files().clone())),
            })?;
            let stage = SinkStage::new(node.id.clone(), writer, sink.on_error, waker.clone());
            Ok(StageKind::Sink(Box::new(stage)))
        }
        _ => Err(invalid(node.id.to_string(), "was not made")),
    }
}

#[expect(clippy::too_many_arguments)]
fn source_stage(
    deployment: &Deployment,
    index: NodeIndex,
    source: &graph::Source,
    subtask: usize,
    parallelism: usize,
    waker: &Waker,
    restored: &[SubtaskState],
    counters: &JobCounters,
) -> Result<SourceStage, Error> {
    let node = &deployment.graph.nodes[index];
    let connector = deployment
        .sources
        .get(&index)
        .ok_or_else(|| invalid(node.id.to_string(), "no source was given for this node"))?;
    let schema = connector.schema();
    let is_whole = source.projection.iter().copied().eq(0..schema.fields().len());
    let reader = connector.reader(ReaderContext {
        projection: (!is_whole).then(|| source.projection.clone()),
        batch_rows_max: deployment.options.batch_rows_max,
        batch_bytes_max: deployment.options.batch_bytes_max,
        waker: waker.clone(),
        runtime: deployment.runtime.clone(),
        subtask,
        parallelism,
    })?;
    let input: SchemaRef = Arc::new(schema.project(&source.projection)?);
    let mut stage = SourceStage::new(
        node.id.clone(),
        node,
        source,
        &input,
        reader,
        connector.boundedness(),
        deployment.options.batch,
    )?;
    if connector.splits_are_ordered() {
        stage.set_ordered();
    }
    stage.restore(restored.iter().flat_map(|state| &state.splits).cloned());
    let splits: Vec<Split> = deployment
        .splits
        .get(&index)
        .and_then(|subtasks| subtasks.get(subtask))
        .cloned()
        .unwrap_or_default();
    stage.add_splits(splits, counters)?;
    if deployment.splits_are_final {
        stage.no_more_splits();
    }
    Ok(stage)
}
