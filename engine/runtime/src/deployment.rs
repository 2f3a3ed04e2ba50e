//! From a job graph to running slots: chains, channels, operators with their state, threads.

mod channel_state;
mod operators;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use crossbeam::channel::bounded;
use millstream_connectors::Split;
use millstream_connectors::sink::WriterContext;
use millstream_connectors::source::ReaderContext;
use millstream_graph::{self as graph, Exchange, JobGraph, NodeIndex, Operator};
use tokio::sync::mpsc;

pub(crate) use self::operators::restore;
use crate::Error;
use crate::chain::{Chains, parallelism_of};
use crate::channel::{Receiver, Sender, channel};
use crate::element::Element;
use crate::exchange::{OutputEdge, Partitioner, Routing};
use crate::inputs::{Input, Inputs};
use crate::job::{Deployment, Restored, RunningJob, SubtaskState};
use crate::progress::{JobCounters, Kind, OperatorCounters};
use crate::remote_channel::{ChannelId, IncomingChannel, LocalSlots, OutgoingChannel};
use crate::sink_files::SinkFiles;
use crate::sink_task::SinkStage;
use crate::slot::{self, COMMANDS_MAX, JobShared, SlotHandle, SlotParker, SlotTask, TaskWaker};
use crate::source_task::SourceStage;
use crate::stage::{Output, Stage, StageKind, Target};
use crate::task::Task;

/// Events that may wait for the caller.
const EVENTS_MAX: usize = 1_024;
/// How often counters are published as metrics.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

pub(crate) async fn deploy(deployment: Deployment, restored: Restored) -> Result<RunningJob, Error> {
    let local_slots = LocalSlots::of(&deployment);
    let parkers: Vec<SlotParker> = local_slots.slots.iter().map(|_| SlotParker::new()).collect();
    let chains = Chains::of(&deployment.graph, deployment.parallelism);
    let wakers = wakers(&deployment, &chains, |subtask| {
        let place = local_slots.position(subtask)?;
        Some(TaskWaker::new(parkers[place].waker()))
    });
    let counters = counters(&deployment, &local_slots);
    let as_wakers = |chain: usize, subtask: usize| match &wakers[chain][subtask] {
        Some(waker) => waker.waker(),
        None => std::task::Waker::noop().clone(),
    };
    let tasks = build(&deployment, restored, &local_slots, &chains, &as_wakers, &counters).await?;
    let mut by_slot: Vec<Vec<SlotTask>> = local_slots.slots.iter().map(|_| Vec::new()).collect();
    let task_count = tasks.len();
    for built in tasks {
        if let (Some(waker), Some(place)) = (&wakers[built.chain][built.subtask], local_slots.position(built.subtask)) {
            by_slot[place].push(SlotTask::new(built.task, Arc::clone(waker)));
        }
    }
    let (events_sender, events) = mpsc::channel(EVENTS_MAX);
    let slot_wakers = parkers.iter().map(SlotParker::waker).collect();
    let shared = Arc::new(JobShared::new(
        slot_wakers,
        task_count,
        events_sender,
        Arc::clone(&counters),
        deployment.runtime.clone(),
    ));
    let mut handles = Vec::with_capacity(by_slot.len());
    for (index, (tasks, parker)) in by_slot.into_iter().zip(parkers).enumerate() {
        let (commands, receiver) = bounded(COMMANDS_MAX);
        handles.push(SlotHandle {
            index,
            commands,
            shared: Arc::clone(&shared),
        });
        slot::start(index, tasks, receiver, parker, Arc::clone(&shared)).map_err(|error| {
            cancel_slots(&handles);
            Error::Operator {
                operator: format!("slot {index}"),
                message: format!("its thread cannot be started: {error}"),
            }
        })?;
    }
    deployment
        .runtime
        .spawn(publish(Arc::clone(&shared), Arc::clone(&counters)));
    Ok(RunningJob {
        slots: handles,
        events,
        counters,
        stopped: false,
    })
}

fn cancel_slots(handles: &[SlotHandle]) {
    if let Some(handle) = handles.first() {
        handle.cancel();
    }
}

async fn publish(shared: Arc<JobShared>, counters: Arc<JobCounters>) {
    while !shared.has_stopped() {
        counters.publish();
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
}

/// A waker for each subtask of each chain.
fn wakers<T>(deployment: &Deployment, chains: &Chains, make: impl Fn(usize) -> T) -> Vec<Vec<T>> {
    chains
        .chains
        .iter()
        .map(|chain| {
            let subtasks = parallelism_of(&deployment.graph, chain[0], deployment.parallelism);
            (0..subtasks).map(&make).collect()
        })
        .collect()
}

/// Counters of every subtask that runs here, by node.
pub(crate) fn counters(deployment: &Deployment, local_slots: &LocalSlots) -> Arc<JobCounters> {
    let is_here = |subtask| local_slots.position(subtask).is_some();
    let job = deployment.identity.job.clone();
    counters_of(&deployment.graph, job, deployment.parallelism, is_here)
}

pub(crate) fn counters_of(
    graph: &JobGraph,
    job: String,
    parallelism: usize,
    is_wanted: impl Fn(usize) -> bool,
) -> Arc<JobCounters> {
    let mut all = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let kind = match node.operator {
            Operator::Source(_) => Kind::Source,
            Operator::Sink(_) => Kind::Sink,
            _ => Kind::Operator,
        };
        for subtask in (0..parallelism_of(graph, index, parallelism)).filter(|subtask| is_wanted(*subtask)) {
            all.push(Arc::new(OperatorCounters::new(node.id.clone(), subtask, kind)));
        }
    }
    Arc::new(JobCounters::new(job, all))
}

/// A task and where it belongs.
pub(crate) struct BuiltTask {
    pub chain: usize,
    pub subtask: usize,
    pub task: Task,
}

/// Makes all tasks that run here, connected. `wakers` gives the waker of a chain's subtask.
pub(crate) async fn build(
    deployment: &Deployment,
    restored: Restored,
    local_slots: &LocalSlots,
    chains: &Chains,
    wakers: &(dyn Fn(usize, usize) -> std::task::Waker + Sync),
    counters: &Arc<JobCounters>,
) -> Result<Vec<BuiltTask>, Error> {
    let graph = &*deployment.graph;
    let mut operators = operators::make(deployment, restored.stores, local_slots, chains, wakers).await?;
    let mut restored_rows = restored.rows;
    let mut wiring = Wiring::new(deployment, local_slots, chains, wakers, restored.channel_state);
    let mut built = Vec::new();
    for (chain_index, chain) in chains.chains.iter().enumerate() {
        let subtasks = 0..parallelism_of(graph, chain[0], deployment.parallelism);
        for subtask in subtasks.filter(|subtask| local_slots.position(*subtask).is_some()) {
            let waker = wakers(chain_index, subtask);
            let mut edges = Vec::new();
            let mut stages = Vec::with_capacity(chain.len());
            for node in chain {
                let outputs = wiring.outputs(*node, subtask, &mut edges);
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
                for (input, batch) in restored_rows.remove(&(*node, subtask)).unwrap_or_default() {
                    stage.accept(input, Element::Batch(batch));
                }
                stages.push(stage);
            }
            let inputs = match graph.nodes[chain[0]].operator {
                Operator::Source(_) => None,
                _ => Some(Inputs::new(wiring.inputs(chain[0], subtask))),
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
    let undelivered = wiring.channel_state.keys().map(|(edge, _, _)| graph.edges[*edge].to);
    if let Some(node) = undelivered.chain(restored_rows.keys().map(|(node, _)| *node)).next() {
        let message = "the checkpoint has rows in flight for it that none of its subtasks has taken";
        return Err(invalid(graph.nodes[node].id.to_string(), message));
    }
    Ok(built)
}

fn invalid(operator: String, message: &str) -> Error {
    Error::Operator {
        operator,
        message: message.to_owned(),
    }
}

/// The channels between tasks, until they are handed to them.
struct Wiring<'a> {
    deployment: &'a Deployment,
    chains: &'a Chains,
    /// By edge and sending subtask: a channel to each receiving subtask.
    senders: HashMap<(usize, usize), Vec<Sender>>,
    /// By node and receiving subtask.
    receivers: HashMap<(NodeIndex, usize), Vec<Input>>,
    /// What the restored checkpoint had in flight: by edge, sending and receiving subtask.
    channel_state: HashMap<(usize, usize, usize), Vec<RecordBatch>>,
}

impl<'a> Wiring<'a> {
    fn new(
        deployment: &'a Deployment,
        local_slots: &LocalSlots,
        chains: &'a Chains,
        wakers: &(dyn Fn(usize, usize) -> std::task::Waker + Sync),
        channel_state: HashMap<(usize, usize, usize), Vec<RecordBatch>>,
    ) -> Self {
        let graph = &deployment.graph;
        let mut wiring = Self {
            deployment,
            chains,
            senders: HashMap::new(),
            receivers: HashMap::new(),
            channel_state,
        };
        let mut id: ChannelId = 0;
        for (index, edge) in graph
            .edges
            .iter()
            .enumerate()
            .filter(|(index, _)| !chains.is_chained[*index])
        {
            let from_count = parallelism_of(graph, edge.from, deployment.parallelism);
            let to_count = parallelism_of(graph, edge.to, deployment.parallelism);
            let is_forward = edge.exchange == Exchange::Forward && from_count == to_count;
            for from in 0..from_count {
                for to in 0..to_count {
                    if is_forward && from != to {
                        continue;
                    }
                    wiring.connect(local_slots, id, index, from, to, wakers);
                    id += 1;
                }
            }
        }
        wiring
    }

    /// Makes the channel from one subtask to another, or the end of it that is here.
    fn connect(
        &mut self,
        local_slots: &LocalSlots,
        id: ChannelId,
        index: usize,
        from: usize,
        to: usize,
        wakers: &(dyn Fn(usize, usize) -> std::task::Waker + Sync),
    ) {
        let graph = &self.deployment.graph;
        let edge = &graph.edges[index];
        let from_waker = || wakers(self.chains.positions[edge.from].0, from);
        let to_waker = || wakers(self.chains.positions[edge.to].0, to);
        let bytes_max = self.deployment.options.channel_bytes_max;
        let (from_here, to_here) = (local_slots.position(from).is_some(), local_slots.position(to).is_some());
        let schema = || input_schemas(graph, edge.to).swap_remove(edge.input);
        let transport = local_slots.transport.as_deref();
        let (sender, receiver): (Option<Sender>, Option<Receiver>) = match (from_here, to_here, transport) {
            (true, true, _) => {
                let (sender, receiver) = channel(bytes_max, from_waker(), to_waker());
                (Some(sender), Some(receiver))
            }
            (true, false, Some(transport)) => {
                let (sender, receiver) = channel(bytes_max, from_waker(), transport.waker(id));
                transport.outgoing(OutgoingChannel {
                    id,
                    slot: local_slots.slot(to),
                    schema: schema(),
                    bytes_max,
                    receiver,
                });
                (Some(sender), None)
            }
            (false, true, Some(transport)) => {
                let (sender, receiver) = channel(bytes_max, transport.waker(id), to_waker());
                transport.incoming(IncomingChannel {
                    id,
                    slot: local_slots.slot(from),
                    schema: schema(),
                    bytes_max,
                    sender,
                });
                (None, Some(receiver))
            }
            _ => (None, None),
        };
        if let Some(sender) = sender {
            self.senders.entry((index, from)).or_default().push(sender);
        }
        if let Some(channel) = receiver {
            let channel_state = self.channel_state.remove(&(index, from, to)).unwrap_or_default();
            let input = Input::new(
                channel_state::origin(graph, index, from),
                channel,
                edge.input,
                channel_state,
            );
            self.receivers.entry((edge.to, to)).or_default().push(input);
        }
    }

    fn inputs(&mut self, node: NodeIndex, subtask: usize) -> Vec<Input> {
        self.receivers.remove(&(node, subtask)).unwrap_or_default()
    }

    /// Where a node's output goes; edges that leave the chain are added to `edges`.
    fn outputs(&mut self, node: NodeIndex, subtask: usize, edges: &mut Vec<OutputEdge>) -> Vec<Output> {
        let graph = &self.deployment.graph;
        let mut outputs = Vec::new();
        for (index, edge) in graph.edges.iter().enumerate().filter(|(_, edge)| edge.from == node) {
            let target = if self.chains.is_chained[index] {
                Target::Stage(self.chains.positions[edge.to].1)
            } else {
                let senders = self.senders.remove(&(index, subtask)).unwrap_or_default();
                let routing = match &edge.exchange {
                    Exchange::Hash(keys) => {
                        Routing::Hash(Partitioner::new(keys.clone(), graph.max_parallelism, senders.len()))
                    }
                    Exchange::Broadcast => Routing::Broadcast,
                    // Subtasks start with different targets, so that few batches spread, too.
                    Exchange::Forward | Exchange::Rebalance => Routing::Rebalance(subtask % senders.len().max(1)),
                };
                edges.push(OutputEdge::new(routing, senders));
                Target::Edge(edges.len() - 1)
            };
            outputs.push(Output {
                port: edge.port,
                target,
            });
        }
        outputs
    }
}

/// A source or a sink.
fn source_or_sink_stage(
    deployment: &Deployment,
    index: NodeIndex,
    subtask: usize,
    waker: &std::task::Waker,
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
                .ok_or_else(|| invalid(node.id.to_string(), "no sink was restored_rows for this node"))?;
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
    waker: &std::task::Waker,
    restored: &[SubtaskState],
    counters: &JobCounters,
) -> Result<SourceStage, Error> {
    let node = &deployment.graph.nodes[index];
    let connector = deployment
        .sources
        .get(&index)
        .ok_or_else(|| invalid(node.id.to_string(), "no source was restored_rows for this node"))?;
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

/// Schemas of a node's inputs, by input.
fn input_schemas(graph: &JobGraph, node: NodeIndex) -> Vec<SchemaRef> {
    (0..).map_while(|input| graph.input_schema(node, input)).collect()
}
