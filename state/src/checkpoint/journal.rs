//! The state of a job's journal: the checkpoints that exist, and the objects to be deleted.
//!
//! The journal is a [`crate::log`] with the records `belongs`, `completed`, `published` and `deleting`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CheckpointInfo, DamagedCheckpoint};
use crate::log;

/// A record of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    /// The journal belongs to this job. It is the first change of a journal.
    Belongs { job: String },
    /// A checkpoint is complete.
    Completed(CheckpointInfo),
    /// The output of all checkpoints up to this one is published.
    Published { checkpoint: u64 },
    /// These checkpoints are deleted, and these objects (paths below the job's folder) are no longer needed.
    Deleting {
        checkpoints: Vec<u64>,
        objects: Vec<String>,
    },
}

/// The whole [`State`], as a record of the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Base {
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

/// The state that the records add up to.
#[derive(Debug, Clone, Default)]
pub(crate) struct State {
    /// The job that the journal belongs to; empty if no record names it.
    pub job: String,
    pub checkpoints: BTreeMap<u64, CheckpointInfo>,
    /// Objects that are to be deleted, and may have been already.
    pub deleting: Vec<String>,
    /// Highest number of all checkpoints, deleted ones included.
    pub checkpoint_max: u64,
    /// Checkpoint up to which all output is known to be published. Output of later ones may be published, too.
    pub published_to: u64,
    /// Records that could not be read, so that their checkpoints are unknown. They are dropped only when a later
    /// checkpoint is complete; a base that a new claim writes repeats them.
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
