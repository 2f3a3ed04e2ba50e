//! Updates of a job's pipeline.

use std::sync::Arc;

use millstream_proto::v1;
use serde::{Deserialize, Serialize};

use super::encoded;

/// An update of a job's pipeline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Update {
    /// The new pipeline while the update is pending; the old one while it is tried.
    #[serde(with = "encoded")]
    pub resolved: Arc<v1::ResolvedJob>,
    pub parallelism: Option<u32>,
    pub max_parallelism: u32,
    pub accept_changed_meaning: bool,
    pub allow_dropped_state: bool,
    /// The job was running, so it runs again with the old pipeline if the new one fails.
    pub was_running: bool,
}

/// State of the latest update of a job.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LatestUpdate {
    /// There was no update, or a stop dropped it.
    #[default]
    None,
    /// The tasks of the old pipeline are being stopped.
    Pending(Box<Update>),
    /// The job has the new pipeline, which has not completed a checkpoint yet.
    Tried(Box<Update>),
    /// The new pipeline has completed a checkpoint.
    Confirmed,
    /// The new pipeline has failed, and the job has the old one again.
    Reverted { reason: String },
}
