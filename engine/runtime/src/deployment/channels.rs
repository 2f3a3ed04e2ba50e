//! The channels between the tasks of a job.

use std::collections::HashMap;

use arrow_array::RecordBatch;
use millstream_graph::{Exchange, NodeIndex};

use super::{Deployment, TaskWakers, channel_state, input_schemas};
use crate::chain::{Chains, parallelism_of};
use crate::channel::{Receiver, Sender, channel};
use crate::exchange::{OutputEdge, Partitioner, Routing};
use crate::inputs::Input;
use crate::remote_channel::{ChannelId, IncomingChannel, LocalSlots, OutgoingChannel};
use crate::stage::{Output, Target};

/// The ends of all channels of tasks that run here, until the tasks take them.
pub(super) struct Channels<'a> {
    deployment: &'a Deployment,
    chains: &'a Chains,
    /// By edge and sending subtask: a channel to each receiving subtask.
    senders: HashMap<(usize, usize), Vec<Sender>>,
    /// By node and receiving subtask.
    receivers: HashMap<(NodeIndex, usize), Vec<Input>>,
    /// Rows of the restored channel state, by edge, sending and receiving subtask; taken out as channels are made.
    pub restored: HashMap<(usize, usize, usize), Vec<RecordBatch>>,
}

impl<'a> Channels<'a> {
    /// Makes all channels of tasks that run here. Every process numbers the channels of the plan in this order.
    pub(super) fn new(
        deployment: &'a Deployment,
        local_slots: &LocalSlots,
        chains: &'a Chains,
        wakers: &TaskWakers<'_>,
        restored: HashMap<(usize, usize, usize), Vec<RecordBatch>>,
    ) -> Self {
        let graph = &deployment.graph;
        let mut channels = Self {
            deployment,
            chains,
            senders: HashMap::new(),
            receivers: HashMap::new(),
            restored,
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
                    channels.connect(local_slots, id, index, from, to, wakers);
                    id += 1;
                }
            }
        }
        channels
    }

    /// Makes the channel from one subtask to another, or its local end if the other subtask runs in another process.
    fn connect(
        &mut self,
        local_slots: &LocalSlots,
        id: ChannelId,
        index: usize,
        from: usize,
        to: usize,
        wakers: &TaskWakers<'_>,
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
            let restored = self.restored.remove(&(index, from, to)).unwrap_or_default();
            let input = Input::new(channel_state::origin(graph, index, from), channel, edge.input, restored);
            self.receivers.entry((edge.to, to)).or_default().push(input);
        }
    }

    /// Takes the input channels of a subtask.
    pub(super) fn inputs(&mut self, node: NodeIndex, subtask: usize) -> Vec<Input> {
        self.receivers.remove(&(node, subtask)).unwrap_or_default()
    }

    /// Returns the targets of a node's output. Edges that leave the chain are added to `edges`.
    pub(super) fn outputs(&mut self, node: NodeIndex, subtask: usize, edges: &mut Vec<OutputEdge>) -> Vec<Output> {
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
