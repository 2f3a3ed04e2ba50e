//! Operators and their state: first all of it is read, then each operator is made on its own.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use millstream_graph::{self as graph, NodeIndex};
use millstream_state::key_group::KeyGroupRange;
use millstream_state::store::{KeyedSnapshot, Store};
use millstream_state::threads;

use super::{channel_state, input_schemas, invalid};
use crate::Error;
use crate::chain::{Chains, parallelism_of};
use crate::job::{Deployment, Restored};
use crate::operator::Operator;
use crate::operators::{self, OperatorContext};
use crate::remote_channel::LocalSlots;

/// Stores of a job in one process that are restored at the same time.
const RESTORES_IN_FLIGHT_MAX: usize = 16;

pub(crate) async fn restore(deployment: &Deployment) -> Result<Restored, Error> {
    let local_slots = LocalSlots::of(deployment);
    let mut wanted = Vec::new();
    for (index, node) in deployment.graph.nodes.iter().enumerate() {
        let states = deployment.restore.get(&node.id).map_or(&[][..], Vec::as_slice);
        let keyed: Vec<KeyedSnapshot> = states.iter().filter_map(|state| state.keyed.clone()).collect();
        if keyed.is_empty() {
            continue;
        }
        let keyed = Arc::new(keyed);
        let subtasks = 0..parallelism_of(&deployment.graph, index, deployment.parallelism);
        let here = subtasks.filter(|subtask| local_slots.position(*subtask).is_some());
        wanted.extend(here.map(|subtask| (index, subtask, Arc::clone(&keyed))));
    }
    let stores = futures::stream::iter(wanted)
        .map(|(index, subtask, keyed)| async move {
            let (name, key_groups) = store_of(deployment, index, subtask);
            let store = deployment.backend.restore(&name, key_groups, &keyed).await?;
            Ok::<_, Error>(((index, subtask), store))
        })
        .buffer_unordered(RESTORES_IN_FLIGHT_MAX)
        .try_collect()
        .await?;
    let mut restored = Restored {
        stores,
        channel_state: HashMap::new(),
        rows: HashMap::new(),
    };
    channel_state::restore(deployment, &local_slots, &mut restored).await?;
    Ok(restored)
}

/// Name and key groups of a subtask's store.
fn store_of(deployment: &Deployment, index: NodeIndex, subtask: usize) -> (String, KeyGroupRange) {
    let graph = &deployment.graph;
    let parallelism = parallelism_of(graph, index, deployment.parallelism);
    let key_groups = KeyGroupRange::of_subtask(graph.max_parallelism, parallelism, subtask);
    (format!("{}-{subtask}", graph.nodes[index].id), key_groups)
}

pub(super) type Operators = HashMap<(NodeIndex, usize), Box<dyn Operator>>;

/// The operators of all subtasks that run here, on their state. Some read it back at first, so each is made on a thread
/// that may wait for the disk, and all at the same time.
pub(super) async fn make(
    deployment: &Deployment,
    mut stores: HashMap<(NodeIndex, usize), Store>,
    local_slots: &LocalSlots,
    chains: &Chains,
    wakers: &(dyn Fn(usize, usize) -> std::task::Waker + Sync),
) -> Result<Operators, Error> {
    let graph = &deployment.graph;
    let mut made = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        if matches!(node.operator, graph::Operator::Source(_) | graph::Operator::Sink(_)) {
            continue;
        }
        let parallelism = parallelism_of(graph, index, deployment.parallelism);
        for subtask in (0..parallelism).filter(|subtask| local_slots.position(*subtask).is_some()) {
            let (name, key_groups) = store_of(deployment, index, subtask);
            let store = stores.remove(&(index, subtask));
            let states = deployment.restore.get(&node.id).map_or(&[][..], Vec::as_slice);
            let inline = states.iter().map(|state| state.inline.clone());
            let context = OperatorContext {
                subtask,
                parallelism,
                max_parallelism: graph.max_parallelism,
                key_groups,
                store: store.unwrap_or_else(|| deployment.backend.store(&name, key_groups)),
                restored_inline: inline.filter(|inline| !inline.is_empty()).collect(),
                memory: deployment.backend.memory().clone(),
                waker: wakers(chains.positions[index].0, subtask),
            };
            let graph = Arc::clone(graph);
            let make = move || operators::build(&graph.nodes[index], &input_schemas(&graph, index), context);
            let making = threads::start_blocking(&deployment.runtime, make);
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
    Ok(operators)
}
