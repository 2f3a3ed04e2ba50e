//! The parts of a checkpoint that single subtasks contribute.

use millstream_connectors::Committable;
use millstream_state::job_files::FileReference;
use millstream_state::store::KeyedSnapshot;

use crate::operator::Timestamp;

/// What one subtask of one operator contributes to a checkpoint, and gets back at a restore.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubtaskState {
    pub subtask: usize,
    /// The operator's small state.
    pub inline: Vec<u8>,
    pub keyed: Option<KeyedSnapshot>,
    /// Sources: their splits with positions, and (in `inline`) watermarks.
    pub splits: Vec<SplitState>,
    /// Sinks: what to commit once the checkpoint is complete.
    pub committables: Vec<Committable>,
    /// The subtask had ended before the barrier.
    pub finished: bool,
    /// What the barrier had overtaken on its way to this subtask (`channel_state.rs`).
    pub channel_state: Option<FileReference>,
}

/// A split in a checkpoint: [`Split`] with the watermark it had reached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SplitState {
    pub id: String,
    pub position: Vec<u8>,
    pub weight: u64,
    pub finished: bool,
    pub watermark: Option<Timestamp>,
}
