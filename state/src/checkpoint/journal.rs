//! What the journal of a job's checkpoints says: which exist, and what is to be deleted. How it is stored is in
//! [`crate::log`]; its changes are the records `belongs`, `completed`, `published` and `deleting`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CheckpointInfo, DamagedCheckpoint};
use crate::log;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Whose journal it is: the first change of a journal.
    Belongs { job: String },
    /// A checkpoint is complete.
    Completed(CheckpointInfo),
    /// The output of all checkpoints up to this one is published.
    Published { checkpoint: u64 },
    /// These checkpoints exist no more, and these objects (paths below the job's folder) are to be deleted.
    Deleting {
        checkpoints: Vec<u64>,
        objects: Vec<String>,
    },
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    #[serde(default)]
    pub job: String,
    pub checkpoints: Vec<CheckpointInfo>,
    pub deleting: Vec<String>,
    pub checkpoint_max: u64,
    #[serde(default)]
    pub published_to: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<DamagedCheckpoint>,
}

/// What the records add up to.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// Whose journal it is; empty: no record says so.
    pub job: String,
    pub checkpoints: BTreeMap<u64, CheckpointInfo>,
    /// Objects whose deletion was decided and may not have happened yet.
    pub deleting: Vec<String>,
    /// The highest number any checkpoint ever had.
    pub checkpoint_max: u64,
    /// The output of all checkpoints up to this one is known to be published; of later ones it may be.
    pub published_to: u64,
    /// Records that could not be read: the checkpoints they speak of are not known. Forgotten once a later checkpoint
    /// is complete, so not by whoever claims the journal and repeats its state.
    pub damaged: Vec<DamagedCheckpoint>,
}

impl log::State for State {
    type Change = Change;
    type Base = Base;

    fn apply(&mut self, change: &Change) {
        match change {
            Change::Belongs { job } => self.job.clone_from(job),
            Change::Completed(info) => {
                self.damaged.retain(|damaged| damaged.checkpoint > info.checkpoint);
                self.checkpoint_max = self.checkpoint_max.max(info.checkpoint);
                self.checkpoints.insert(info.checkpoint, info.clone());
            }
            Change::Published { checkpoint } => self.published_to = self.published_to.max(*checkpoint),
            Change::Deleting { checkpoints, objects } => {
                for checkpoint in checkpoints {
                    self.checkpoints.remove(checkpoint);
                }
                self.deleting.extend(objects.iter().cloned());
            }
        }
    }

    fn base(&self) -> Base {
        Base {
            job: self.job.clone(),
            checkpoints: self.checkpoints.values().cloned().collect(),
            deleting: self.deleting.clone(),
            checkpoint_max: self.checkpoint_max,
            published_to: self.published_to,
            damaged: self.damaged.clone(),
        }
    }

    fn restore(base: Base) -> Self {
        let checkpoints = base.checkpoints.into_iter();
        Self {
            job: base.job,
            checkpoints: checkpoints.map(|info| (info.checkpoint, info)).collect(),
            deleting: base.deleting,
            checkpoint_max: base.checkpoint_max,
            published_to: base.published_to,
            damaged: base.damaged,
        }
    }

    fn damaged(&mut self, reason: String) {
        self.damaged.push(DamagedCheckpoint {
            checkpoint: self.checkpoint_max + 1,
            reason,
        });
    }
}
