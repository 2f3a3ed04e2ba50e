//! Updates of a job's pipeline, and the way back to the old pipeline until the new one has completed a checkpoint.

use super::{DesiredState, Record, Status};
use crate::coordinator::ledger::{Change, LatestUpdate, Update};

impl Record {
    /// Requests another pipeline. Repeating the request changes nothing.
    pub fn update(&mut self, mut update: Update, at_us: i64) {
        match &self.update {
            LatestUpdate::Pending(earlier) if earlier.resolved == update.resolved => return,
            // The tried pipeline was stopped before its first checkpoint, so the update replaces the one before it.
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

    /// Returns the update that waits for the job's tasks to stop.
    pub fn pending_update(&self) -> Option<&Update> {
        match &self.update {
            LatestUpdate::Pending(update) => Some(update),
            _ => None,
        }
    }

    /// Returns the update whose pipeline has not completed a checkpoint yet.
    pub fn tried_update(&self) -> Option<&Update> {
        match &self.update {
            LatestUpdate::Tried(update) => Some(update),
            _ => None,
        }
    }

    /// Gives the job the new pipeline of a pending update. Returns false if there is none.
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

    /// Completes the update after the new pipeline's first checkpoint.
    pub fn confirm_update(&mut self) {
        self.update = LatestUpdate::Confirmed;
    }

    /// Gives the job its old pipeline again after the new one has failed. Returns true if the job is to run.
    pub fn revert_update(&mut self, reason: &str) -> bool {
        let was_running = self
            .restore_previous_pipeline()
            .is_some_and(|update| update.was_running);
        self.update = LatestUpdate::Reverted {
            reason: reason.to_string(),
        };
        was_running
    }

    /// Gives the job the pipeline that it had before a tried update. Returns the update.
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

    /// Returns the change that journals the pipeline and the state of its update.
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
