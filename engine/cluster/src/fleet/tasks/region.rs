//! Workers of one region, and its stage.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use millstream_connectors::Split;
use millstream_graph::{NodeIndex, OperatorId};
use millstream_proto::v1;
use millstream_proto::v1::task_command::Command as Wire;
use millstream_runtime::subtask_state::SubtaskState;

use super::remote_error;
use crate::Error;
use crate::fleet::Fleet;
use crate::fleet::link::Link;

/// Index of a worker that has no part in the region.
pub(super) const UNASSIGNED: u32 = u32::MAX;

/// Input and state that tasks start with.
pub(super) struct InitialState {
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    pub splits_are_final: bool,
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    pub epoch: u64,
}

/// Stage of a region.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Stage {
    Running,
    /// It has failed, the failure was reported, and the driver has not ended it yet.
    Failed,
    Ending,
    /// None of its tasks runs.
    Ended,
    /// It is being restarted, and these workers have not restored the state yet.
    Restoring(BTreeSet<String>),
    /// It is being restarted, and these workers have not reported yet that their tasks run.
    Starting(BTreeSet<String>),
}

/// A region of an attempt.
pub(super) struct Region {
    /// Id under which its workers know it.
    pub attempt: String,
    pub slots: Vec<usize>,
    /// Links to its workers, each once.
    pub links: Vec<Arc<Link>>,
    /// Names of the workers whose tasks have finished.
    pub finished: BTreeSet<String>,
    /// Names of the workers on which no task runs any more.
    pub stopped: BTreeSet<String>,
    pub stage: Stage,
}

impl Fleet {
    /// Returns the links to these workers, each once.
    pub(super) fn links<'a>(&self, names: impl Iterator<Item = &'a String>) -> Result<Vec<Arc<Link>>, Error> {
        let names: BTreeSet<&String> = names.collect();
        let known = self.inner.links.lock();
        let links = names.into_iter().map(|name| {
            let link = known.get(name).cloned();
            link.ok_or_else(|| remote_error(format!("worker {name} is no longer attached")))
        });
        links.collect()
    }
}

impl Region {
    /// Returns a region whose tasks run on these workers.
    pub(super) fn new(attempt: String, slots: Vec<usize>, links: Vec<Arc<Link>>) -> Self {
        Self {
            attempt,
            slots,
            links,
            finished: BTreeSet::new(),
            stopped: BTreeSet::new(),
            stage: Stage::Running,
        }
    }

    /// Returns true if the worker has a part in the region.
    pub(super) fn is_on(&self, worker: &str) -> bool {
        self.links.iter().any(|link| link.name == worker)
    }

    /// Returns true if all tasks have finished. A region that is being restarted has not.
    pub(super) fn has_finished(&self) -> bool {
        self.stage == Stage::Running && self.finished.len() == self.links.len()
    }

    /// Returns true if no task runs any more.
    pub(super) fn has_stopped(&self) -> bool {
        self.stopped.len() == self.links.len()
    }

    /// Marks the region as failed. Returns true if it was not marked before.
    pub(super) fn fail(&mut self) -> bool {
        let is_first = matches!(self.stage, Stage::Running | Stage::Restoring(_) | Stage::Starting(_));
        if is_first {
            self.stage = Stage::Failed;
        }
        is_first
    }

    /// Handles a worker that has restored the state of its tasks. Returns true if all workers have.
    pub(super) fn on_restored(&mut self, worker: &str) -> bool {
        let Stage::Restoring(missing) = &mut self.stage else {
            return false;
        };
        missing.remove(worker);
        let all = missing.is_empty();
        if all {
            self.stage = Stage::Starting(self.links.iter().map(|link| link.name.clone()).collect());
        }
        all
    }

    /// Handles a worker whose tasks run. Returns true if those of all workers do.
    pub(super) fn on_started(&mut self, worker: &str) -> bool {
        let Stage::Starting(missing) = &mut self.stage else {
            return false;
        };
        missing.remove(worker);
        let all = missing.is_empty();
        if all {
            self.stage = Stage::Running;
        }
        all
    }

    /// Has every worker prepare its part. `deploy` is the part of the order that is the same for all.
    pub(super) fn deploy(&self, deploy: &v1::Deploy, slots: &[String]) -> Result<(), Error> {
        let addresses = self.links.iter().map(|link| v1::WorkerAddress {
            name: link.name.clone(),
            address: link.address.clone(),
        });
        let place = |(slot, worker): (usize, &String)| {
            let place = self.links.iter().position(|link| link.name == *worker);
            match place.filter(|_| self.slots.contains(&slot)) {
                Some(place) => place as u32,
                None => UNASSIGNED,
            }
        };
        let deploy = v1::Deploy {
            attempt: self.attempt.clone(),
            slots: slots.iter().enumerate().map(place).collect(),
            workers: addresses.collect(),
            ..deploy.clone()
        };
        for (index, link) in self.links.iter().enumerate() {
            let mut deploy = deploy.clone();
            deploy.self_ = index as u32;
            link.order(v1::order::Order::Deploy(deploy))
                .map_err(|error| remote_error(error.to_string()))?;
        }
        Ok(())
    }

    /// Sends a command to all workers that still run tasks of the region.
    pub(super) fn order(&self, job: &str, command: &Wire) -> Result<(), Error> {
        let open = self.links.iter().filter(|link| !self.stopped.contains(&link.name));
        open.map(|link| self.order_one(job, &link.name, command.clone()))
            .fold(Ok(()), Result::and)
    }

    /// Sends a command to one worker of the region.
    pub(super) fn order_one(&self, job: &str, worker: &str, command: Wire) -> Result<(), Error> {
        let Some(link) = self.links.iter().find(|link| link.name == worker) else {
            return Ok(());
        };
        link.order(v1::order::Order::Command(v1::TaskCommand {
            job: job.to_string(),
            attempt: self.attempt.clone(),
            command: Some(command),
        }))
    }
}
