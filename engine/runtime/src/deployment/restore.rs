//! Restores the keyed state and the channel state of the subtasks that run here.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use millstream_graph::NodeIndex;
use millstream_state::store::{KeyedSnapshot, Store};

use super::Deployment;
use super::channel_state::{self, RestoredChannels};
use super::operators::store_of;
use crate::Error;
use crate::chain::parallelism_of;

/// Stores of a job in one process that are restored at the same time.
const RESTORES_IN_FLIGHT_MAX: usize = 16;

/// The keyed state and the channel state of the subtasks that run here.
pub struct Restored {
    /// By node and subtask; subtasks without keyed state have none.
    pub(super) stores: HashMap<(NodeIndex, usize), Store>,
    pub(super) channels: RestoredChannels,
}

/// Restores the keyed state and the channel state of every subtask that runs here, as the first half of a deployment.
/// When it returns, nothing runs yet and every file of the checkpoint that is needed here has been verified.
pub async fn restore(deployment: &Deployment) -> Result<Restored, Error> {
    let local_slots = deployment.local_slots();
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
    let channels = channel_state::restore(deployment, &local_slots).await?;
    Ok(Restored { stores, channels })
}
