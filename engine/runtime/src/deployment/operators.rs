//! The operators of all subtasks that run here, each on its restored state.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_graph::{self as graph, Node, NodeIndex};
use millstream_state::key_group::KeyGroupRange;
use millstream_state::store::Store;
use millstream_state::threads;

use super::{Deployment, TaskWakers, input_schemas, invalid};
use crate::Error;
use crate::chain::{Chains, parallelism_of};
use crate::operator::Operator;
use crate::operators::{self, Ended, OperatorContext};
use crate::remote_channel::LocalSlots;
use crate::subtask_state::SubtaskState;

/// Returns the name and the key groups of a subtask's store.
pub(super) fn store_of(deployment: &Deployment, index: NodeIndex, subtask: usize) -> (String, KeyGroupRange) {
    let graph = &deployment.graph;
    let parallelism = parallelism_of(graph, index, deployment.parallelism);
    let key_groups = KeyGroupRange::of_subtask(graph.max_parallelism, parallelism, subtask);
    (format!("{}-{subtask}", graph.nodes[index].id), key_groups)
}

pub(super) type Operators = HashMap<(NodeIndex, usize), Box<dyn Operator>>;

/// Makes the operators of all subtasks that run here. An operator may read its state back when it is made, so each is
/// made on a thread that may block on the disk, and all at the same time.
pub(super) async fn make(
    deployment: &Deployment,
    mut stores: HashMap<(NodeIndex, usize), Store>,
    local_slots: &LocalSlots,
    chains: &Chains,
    wakers: &TaskWakers<'_>,
) -> Result<Operators, Error> {
    let graph = &deployment.graph;
    let mut made = Vec::new();
    let mut ended = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.operator, graph::Operator::Source(_) | graph::Operator::Sink(_)) {
            continue;
        }
        let parallelism = parallelism_of(graph, index, deployment.parallelism);
        for subtask in (0..parallelism).filter(|subtask| local_slots.position(*subtask).is_some()) {
            let (name, key_groups) = store_of(deployment, index, subtask);
            let store = stores.remove(&(index, subtask));
            let states = deployment.restore.get(&node.id).map_or(&[][..], Vec::as_slice);
            if has_ended(node, states) {
                ended.push((index, subtask));
                continue;
            }
            let inline = states.iter().map(|state| state.inline.clone());
            let context = OperatorContext {
                max_parallelism: graph.max_parallelism,
                key_groups,
                store: store.unwrap_or_else(|| deployment.backend.store(&name, key_groups)),
                restored_inline: inline.filter(|inline| !inline.is_empty()).collect(),
                memory: deployment.backend.memory().clone(),
                waker: wakers(chains.positions[index].0, subtask),
                holds_back: deployment.holds_back(index),
            };
            let graph = Arc::clone(graph);
            let make = move || operators::build(&graph.nodes[index], &input_schemas(&graph, index), context);
            let making = threads::spawn_blocking(&deployment.runtime, make);
            made.push(((index, subtask), making));
        }
    }
    let mut operators = HashMap::new();
    for (place, making) in made {
        let operator = making.await.map_err(|error| {
            let id = graph.nodes[place.0].id.to_string();
            invalid(id, &format!("could not be made: {error}"))
        })?;
        operators.insert(place, operator?);
    }
    operators.extend(ended.into_iter().map(|place| {
        let id = graph.nodes[place.0].id.clone();
        (place, Box::new(Ended { id }) as Box<dyn Operator>)
    }));
    Ok(operators)
}

/// Returns true if the operator had emitted its result before the checkpoint.
fn has_ended(node: &Node, states: &[SubtaskState]) -> bool {
    node.operator.emits_at_end() && !states.is_empty() && states.iter().all(|state| state.finished)
}
