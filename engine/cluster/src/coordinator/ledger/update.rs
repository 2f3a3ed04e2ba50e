//! Updates of a job's pipeline.

use std::sync::Arc;

use millstream_proto::v1;
use serde::{Deserialize, Deserializer, Serialize};

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

/// The update as earlier versions stored it: null, or an object that says whether the new pipeline is tried.
#[derive(Deserialize)]
struct EarlierUpdate {
    #[serde(flatten)]
    update: Box<Update>,
    is_tried: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Stored {
    Present(LatestUpdate),
    Earlier(Option<EarlierUpdate>),
}

impl LatestUpdate {
    /// Reads an update from a journal of this version or of an earlier one.
    pub fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Stored::deserialize(deserializer)? {
            Stored::Present(update) => update,
            Stored::Earlier(None) => Self::None,
            Stored::Earlier(Some(earlier)) if earlier.is_tried => Self::Tried(earlier.update),
            Stored::Earlier(Some(earlier)) => Self::Pending(earlier.update),
        })
    }
}
