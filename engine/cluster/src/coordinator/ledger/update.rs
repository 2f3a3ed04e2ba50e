//! The update of a job's pipeline in its record: which pipeline the job has while the new one has not proved to work.

use std::sync::Arc;

use millstream_proto::v1;
use serde::{Deserialize, Serialize};

use super::{Change, DesiredState, Record, Status, encoded};

/// Another pipeline for a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// Once it is tried: the job's pipeline before, and its settings.
    #[serde(with = "encoded")]
    pub resolved: Arc<v1::ResolvedJob>,
    pub parallelism: Option<u32>,
    pub max_parallelism: u32,
    pub accept_changed_meaning: bool,
    pub allow_dropped_state: bool,
    /// The job was running: if the new pipeline fails, it is to run again.
    pub was_running: bool,
}

/// The latest update of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatestUpdate {
    /// There was none, or it was dropped by a stop.
    #[default]
    None,
    /// The job's tasks are those of its old pipeline, and end.
    Pending(Box<Update>),
    /// The record has the new pipeline, which has no checkpoint yet.
    Tried(Box<Update>),
    /// The new pipeline has a checkpoint.
    Confirmed,
    /// The new pipeline has failed, and the record has the old one again.
    Reverted { reason: String },
}

impl Record {
    /// A person wants it to have another pipeline. Repeated, nothing changes.
    pub fn update(&mut self, mut update: Update, at_us: i64) {
        match &self.update {
            LatestUpdate::Pending(earlier) if earlier.resolved == update.resolved => return,
            // Stopped before it had a checkpoint: there is nothing to go back to but the pipeline before it.
            LatestUpdate::Tried(_) => {
                self.restore_previous_pipeline();
            }
            _ => {}
        }
        let has_ended = self.current().status.is_terminal();
        update.was_running = !has_ended;
        self.update = LatestUpdate::Pending(Box::new(update));
        self.wanted = DesiredState::Running;
        let status = match has_ended {
            true => Status::Deploying,
            false => Status::Restarting,
        };
        self.end_placement(status);
        self.enter_unless_current(status, at_us, "updating the pipeline");
    }

    /// The update that waits for the job's present tasks to end.
    pub fn pending_update(&self) -> Option<&Update> {
        match &self.update {
            LatestUpdate::Pending(update) => Some(update),
            _ => None,
        }
    }

    /// The update whose pipeline is the job's, and has no checkpoint yet.
    pub fn tried_update(&self) -> Option<&Update> {
        match &self.update {
            LatestUpdate::Tried(update) => Some(update),
            _ => None,
        }
    }

    /// Makes the new pipeline of a pending update the job's. Returns whether there is one.
    pub fn try_update(&mut self) -> bool {
        match std::mem::take(&mut self.update) {
            LatestUpdate::Pending(update) => {
                self.update = LatestUpdate::Tried(self.swap_pipeline(update));
                true
            }
            other => {
                self.update = other;
                false
            }
        }
    }

    /// The new pipeline has a checkpoint.
    pub fn confirm_update(&mut self) {
        self.update = LatestUpdate::Confirmed;
    }

    /// The new pipeline has failed. Returns whether the job is to run with the old one.
    pub fn revert_update(&mut self, reason: &str) -> bool {
        let was_running = self
            .restore_previous_pipeline()
            .is_some_and(|update| update.was_running);
        self.update = LatestUpdate::Reverted {
            reason: reason.to_string(),
        };
        was_running
    }

    /// Gives the job the pipeline that it had before a tried update, which is returned.
    fn restore_previous_pipeline(&mut self) -> Option<Box<Update>> {
        match std::mem::take(&mut self.update) {
            LatestUpdate::Tried(update) => Some(self.swap_pipeline(update)),
            other => {
                self.update = other;
                None
            }
        }
    }

    fn swap_pipeline(&mut self, mut update: Box<Update>) -> Box<Update> {
        std::mem::swap(&mut self.resolved, &mut update.resolved);
        std::mem::swap(&mut self.parallelism, &mut update.parallelism);
        std::mem::swap(&mut self.max_parallelism, &mut update.max_parallelism);
        update
    }

    /// The change that tells the journal of its pipeline.
    pub fn pipeline_change(&self) -> Change {
        Change::Pipeline {
            job: self.name.clone(),
            resolved: self.resolved.clone(),
            parallelism: self.parallelism,
            max_parallelism: self.max_parallelism,
            update: self.update.clone(),
        }
    }
}
