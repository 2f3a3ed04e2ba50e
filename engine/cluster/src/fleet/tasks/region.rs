//! The workers of one region, and how far it has come.

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

/// The place of a worker that has nothing to do with the region.
pub const UNASSIGNED: u32 = u32::MAX;

/// What tasks start with.
pub struct InitialState {
    pub splits: HashMap<NodeIndex, Vec<Vec<Split>>>,
    pub splits_are_final: bool,
    pub restore: HashMap<OperatorId, Vec<SubtaskState>>,
    pub epoch: u64,
}

/// How far a region has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    Running,
    /// That was said, and it waits for being ended.
    Failed,
    Ending,
    /// Nothing runs.
    Ended,
    /// It begins again; these workers have yet to bring the state.
    Restoring(BTreeSet<String>),
    /// It begins again; these workers have yet to say that their tasks run.
    Starting(BTreeSet<String>),
}

pub struct Region {
    /// Under which its workers know it.
    pub attempt: String,
    pub slots: Vec<usize>,
    /// Its workers, each once.
    pub links: Vec<Arc<Link>>,
    /// Workers by name.
    pub finished: BTreeSet<String>,
    pub stopped: BTreeSet<String>,
    pub stage: Stage,
}

impl Fleet {
    /// The workers of these names, each once.
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
    pub fn new(attempt: String, slots: Vec<usize>, links: Vec<Arc<Link>>) -> Self {
        Self {
            attempt,
            slots,
            links,
            finished: BTreeSet::new(),
            stopped: BTreeSet::new(),
            stage: Stage::Running,
        }
    }

    pub fn is_on(&self, worker: &str) -> bool {
        self.links.iter().any(|link| link.name == worker)
    }

    /// One that is to begin again has not.
    pub fn has_finished(&self) -> bool {
        self.stage == Stage::Running && self.finished.len() == self.links.len()
    }

    pub fn has_stopped(&self) -> bool {
        self.stopped.len() == self.links.len()
    }

    /// Whether that is news.
    pub fn fail(&mut self) -> bool {
        let is_first = matches!(self.stage, Stage::Running | Stage::Restoring(_) | Stage::Starting(_));
        if is_first {
            self.stage = Stage::Failed;
        }
        is_first
    }

    /// A worker has brought the state of its tasks; whether all have.
    pub fn on_restored(&mut self, worker: &str) -> bool {
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

    /// A worker's tasks run; whether all do now.
    pub fn on_started(&mut self, worker: &str) -> bool {
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

    /// Has every worker make its part ready. `deploy` has what they all are told.
    pub fn deploy(&self, deploy: &v1::Deploy, slots: &[String]) -> Result<(), Error> {
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

    /// To all workers where something of it runs.
    pub fn order(&self, job: &str, command: &Wire) -> Result<(), Error> {
        let open = self.links.iter().filter(|link| !self.stopped.contains(&link.name));
        open.map(|link| self.order_one(job, &link.name, command.clone()))
            .fold(Ok(()), Result::and)
    }

    pub fn order_one(&self, job: &str, worker: &str, command: Wire) -> Result<(), Error> {
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
