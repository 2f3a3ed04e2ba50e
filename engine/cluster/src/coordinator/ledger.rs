//! State of the cluster that must survive its coordinators: the jobs, their desired states, and their histories.
//!
//! The ledger is the state of the cluster's journal ([`millstream_state::log`], folder `journal` of the data folder).
//! Its changes, as JSON:
//!
//! | change | meaning |
//! |---|---|
//! | `submitted` | a new job ([`Record`]); its first checkpoint, if it begins with one, exists already |
//! | `wanted` | a person changes the desired state: running, stopped, cancelled; includes the transition that follows |
//! | `parallelism` | number of subtasks, or `null`: as many as there are slots; a running job restarts |
//! | `update` | a person wants another pipeline; a running job restarts with it |
//! | `pipeline` | pipeline of the job and state of its update; written like a transition |
//! | `placed` | workers of the running attempt, or `null`: none runs; written like a transition |
//! | `ran` | totals of all ended runs; written like a transition |
//! | `so_far` | totals of the present run, written at intervals: the next coordinator continues from them |
//! | `transition` | a new state and its reason; written after the fact, several at a time |
//! | `deleting` | a person wants the job deleted: its checkpoints are being removed, and it accepts no requests |
//! | `deleted` | the job is gone and its name is free |
//! | `drained` | a person wants a worker to take no tasks, or to take them again |
//!
//! The base is the list of jobs; if there are drained workers, an object with `jobs` and `drained`.
//!
//! A resolved job is stored as its protobuf message in base64. The values of its variables, secrets among them, are
//! in the message, so the data folder must be protected like the secrets themselves.

mod record;
mod totals;
mod update;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_proto::v1;
use millstream_state::log;
use serde::{Deserialize, Serialize};

pub use self::record::{DesiredState, Placement, Record, Status, TRANSITIONS_MAX, Transition};
pub use self::totals::{LastCheckpoint, RunProgress, RunTotals};
pub use self::update::{LatestUpdate, Update};

/// A change of the ledger, as the journal stores it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    Submitted(Box<Record>),
    Wanted {
        job: String,
        wanted: DesiredState,
        #[serde(default)]
        allow_duplicates: bool,
        #[serde(default)]
        at_us: i64,
    },
    Parallelism {
        job: String,
        parallelism: Option<u32>,
        #[serde(default)]
        at_us: i64,
    },
    Update {
        job: String,
        update: Box<Update>,
        at_us: i64,
    },
    Pipeline {
        job: String,
        #[serde(with = "encoded")]
        resolved: Arc<v1::ResolvedJob>,
        parallelism: Option<u32>,
        max_parallelism: u32,
        #[serde(deserialize_with = "LatestUpdate::read")]
        update: LatestUpdate,
    },
    Placed {
        job: String,
        attempts: u32,
        placement: Option<Placement>,
    },
    #[serde(rename = "ran")]
    RunTotals {
        job: String,
        #[serde(rename = "ran")]
        run_totals: Box<RunTotals>,
    },
    #[serde(rename = "so_far")]
    RunProgress {
        job: String,
        #[serde(rename = "so_far")]
        run_progress: Box<RunProgress>,
    },
    Transition {
        job: String,
        transition: Transition,
    },
    Deleting {
        job: String,
    },
    Deleted {
        job: String,
    },
    Drained {
        worker: String,
        /// `false`: the worker takes tasks again.
        drained: bool,
    },
}

impl Change {
    /// Returns the change of a job's desired state.
    pub fn wanted(job: String, wanted: DesiredState, at_us: i64) -> Self {
        Self::Wanted {
            job,
            wanted,
            allow_duplicates: false,
            at_us,
        }
    }
}

/// State of the cluster's journal.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    pub jobs: BTreeMap<String, Record>,
    /// Workers that a person has drained.
    pub drained: BTreeSet<String>,
    /// Errors of journal records that could not be read.
    pub damaged: Vec<String>,
}

/// The whole state of a ledger.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Base {
    Jobs(Vec<Record>),
    JobsAndWorkers {
        jobs: Vec<Record>,
        drained: BTreeSet<String>,
    },
}

impl log::State for Ledger {
    type Change = Change;
    type Base = Base;

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Submitted(record) => {
                self.jobs.insert(record.name.clone(), (**record).clone());
            }
            Change::Deleted { job } => {
                self.jobs.remove(job);
            }
            Change::Wanted {
                job,
                wanted,
                allow_duplicates,
                at_us,
            } => self.change(job, |record| {
                record.allow_duplicates = *allow_duplicates;
                record.set_desired(wanted.clone(), *at_us);
            }),
            Change::Parallelism {
                job,
                parallelism,
                at_us,
            } => self.change(job, |record| record.rescale(*parallelism, *at_us)),
            Change::Update { job, update, at_us } => self.change(job, |record| {
                record.update((**update).clone(), *at_us);
            }),
            Change::Pipeline {
                job,
                resolved,
                parallelism,
                max_parallelism,
                update,
            } => self.change(job, |record| {
                record.resolved = resolved.clone();
                record.parallelism = *parallelism;
                record.max_parallelism = *max_parallelism;
                record.update.clone_from(update);
            }),
            Change::Deleting { job } => self.change(job, |record| record.deleting = true),
            Change::Drained { worker, drained } => {
                match drained {
                    true => self.drained.insert(worker.clone()),
                    false => self.drained.remove(worker),
                };
            }
            Change::Placed {
                job,
                attempts,
                placement,
            } => self.change(job, |record| {
                record.attempts = *attempts;
                record.placement.clone_from(placement);
            }),
            // The totals include the progress of the run.
            Change::RunTotals { job, run_totals } => self.change(job, |record| {
                record.run_totals = Some((**run_totals).clone());
                record.run_progress = None;
            }),
            Change::RunProgress { job, run_progress } => {
                self.change(job, |record| record.run_progress = Some(run_progress.clone()))
            }
            Change::Transition { job, transition } => self.change(job, |record| record.enter(transition.clone())),
        }
    }

    fn base(&self) -> Base {
        let jobs = self.jobs.values().cloned().collect();
        match self.drained.is_empty() {
            true => Base::Jobs(jobs),
            false => Base::JobsAndWorkers {
                jobs,
                drained: self.drained.clone(),
            },
        }
    }

    fn restore(base: Base) -> Self {
        let (jobs, drained) = match base {
            Base::Jobs(jobs) => (jobs, BTreeSet::new()),
            Base::JobsAndWorkers { jobs, drained } => (jobs, drained),
        };
        Self {
            // A record without transitions has no state; no version has written one.
            jobs: jobs
                .into_iter()
                .filter(|record| !record.transitions.is_empty())
                .map(|record| (record.name.clone(), record))
                .collect(),
            drained,
            damaged: Vec::new(),
        }
    }

    fn damaged(&mut self, reason: String) {
        self.damaged.push(reason);
    }
}

impl Ledger {
    /// Returns the attempts that can be adopted.
    pub fn adoptable_attempts(&self) -> Vec<String> {
        let placements = self.jobs.values().filter_map(Record::adoptable_placement);
        let attempts: BTreeSet<&String> = placements.flat_map(|placement| &placement.attempts).collect();
        attempts.into_iter().cloned().collect()
    }

    /// Changes a record. Does nothing if the job was deleted meanwhile.
    fn change(&mut self, job: &str, change: impl FnOnce(&mut Record)) {
        if let Some(record) = self.jobs.get_mut(job) {
            change(record);
        }
    }
}

/// Encoding of a protobuf message inside JSON.
mod encoded {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use millstream_proto::v1;
    use prost::Message;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(resolved: &v1::ResolvedJob, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(resolved.encode_to_vec()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Arc<v1::ResolvedJob>, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        Ok(Arc::new(v1::ResolvedJob::decode(&*bytes).map_err(D::Error::custom)?))
    }
}

#[cfg(test)]
pub(super) mod tests;
