//! Exclusive rights of the leader to jobs: reservations of their names, deletions, and claims on their checkpoints.

use std::sync::Arc;

use millstream_state::log::Leadership;

use super::Leader;
use crate::api::{self, Code};
use crate::coordinator::ledger::Record;
use crate::history::History;
use crate::{Error, resolve};

/// Exclusive use of a job's name. Dropping it frees the name.
pub struct NameReservation {
    leader: Arc<Leader>,
    name: String,
}

impl Drop for NameReservation {
    fn drop(&mut self) {
        self.leader.inner.lock().reserved.remove(&self.name);
    }
}

impl Leader {
    /// Reserves a job's name until the reservation is dropped.
    pub fn reserve(self: &Arc<Self>, name: &str) -> Result<NameReservation, api::Error> {
        if !self.inner.lock().reserved.insert(name.to_string()) {
            return Err(api::Error::new(
                Code::NameInUse,
                format!("the job `{name}` is being submitted or deleted; try again"),
            ));
        }
        Ok(NameReservation {
            leader: self.clone(),
            name: name.to_string(),
        })
    }

    /// Registers the deletion of this job. Returns false if it is under way already.
    pub fn begin_deletion(&self, job: &str) -> bool {
        self.inner.lock().deletions.insert(job.to_string())
    }

    /// Ends what [`Leader::begin_deletion`] began.
    pub fn end_deletion(&self, job: &str) {
        self.inner.lock().deletions.remove(job);
    }

    /// Returns the leadership for claims on jobs' checkpoints. After such a claim, earlier leaders of this cluster
    /// are rejected.
    pub fn leadership(&self) -> Leadership {
        Leadership {
            cluster: self.cluster.clone(),
            epoch: self.epoch,
        }
    }

    /// Returns the claim on a job's checkpoints, made at the first call.
    pub async fn history(&self, record: &Record) -> Result<History, Error> {
        let history = self
            .inner
            .lock()
            .histories
            .entry(record.name.clone())
            .or_default()
            .clone();
        let claimed = history.get_or_try_init(async || {
            let retain = resolve::settings(&record.resolved)?.retain;
            History::open_as_leader(self.leadership(), &record.storage, &record.name, retain).await
        });
        claimed.await.cloned()
    }

    /// Returns the claim on a job's checkpoints if it was made.
    pub fn known_history(&self, job: &str) -> Option<History> {
        self.inner.lock().histories.get(job)?.get().cloned()
    }

    /// Drops the claim on a job's checkpoints, and its log if the job is gone.
    pub fn forget(&self, job: &str, with_log: bool) {
        let mut inner = self.inner.lock();
        inner.histories.remove(job);
        if with_log {
            inner.logs.remove(job);
        }
    }
}
