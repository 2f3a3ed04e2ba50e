//! Workers in the messages of the client API.

use millstream_proto::v1;

use crate::coordinator::leader::Leader;
use crate::coordinator::slots::{Reachability, WorkerState};

/// Returns all workers: their state from the leader, the rest as they reported it.
pub(super) fn workers(leader: &Leader) -> Vec<v1::Worker> {
    let attached = leader.executors().workers();
    leader.with(|inner| {
        let slots = inner.state.slots();
        let workers = slots.workers().iter().map(|(name, worker)| {
            let known = attached.iter().find(|attached| attached.name == *name).cloned();
            v1::Worker {
                name: name.clone(),
                slots: worker.slots,
                slots_used: slots.used(name) as u32,
                state: match (worker.state, &worker.reachability) {
                    (WorkerState::Ready, Reachability::Reached) => "ready",
                    (WorkerState::Ready, Reachability::Unknown) => "attaching",
                    (WorkerState::Ready, Reachability::Unreachable(_)) => "unreachable",
                    (WorkerState::Draining | WorkerState::Leaving, _) => "draining",
                    (WorkerState::Lost, _) => "lost",
                    (WorkerState::Left, _) => "left",
                }
                .into(),
                reason: match (worker.state, &worker.reachability) {
                    (WorkerState::Ready | WorkerState::Draining, Reachability::Unreachable(reason)) => reason.clone(),
                    _ => String::new(),
                },
                since_us: worker.since_us,
                jobs: slots.jobs_on(name),
                ..known.unwrap_or_default()
            }
        });
        workers.collect()
    })
}
