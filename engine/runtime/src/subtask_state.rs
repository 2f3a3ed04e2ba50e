//! The parts of a checkpoint that single subtasks contribute.
//!
//! Both types are stored in manifests with bincode: the order of their fields is part of the format.

use millstream_connectors::Committable;
use millstream_state::job_files::FileReference;
use millstream_state::store::KeyedSnapshot;

use crate::operator::Timestamp;

/// The state of one subtask of one operator in a checkpoint.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubtaskState {
    /// Number of the subtask.
    pub subtask: usize,
    /// Small state of the operator, in its own versioned encoding.
    pub inline: Vec<u8>,
    /// Files of the operator's keyed state.
    pub keyed: Option<KeyedSnapshot>,
    /// Splits of a source, with their positions.
    pub splits: Vec<SplitState>,
    /// Output of a sink, to be committed once the checkpoint is complete.
    pub committables: Vec<Committable>,
    /// True if the subtask had ended before the barrier.
    pub finished: bool,
    /// File with the rows that the barrier overtook on its way to this subtask
    /// (channel state).
    pub channel_state: Option<FileReference>,
}

/// A split in a checkpoint: a [`Split`](millstream_connectors::Split) with the watermark it had reached.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SplitState {
    /// Id of the split.
    pub id: String,
    /// Position from which to continue, in the connector's encoding.
    pub position: Vec<u8>,
    /// Relative size, for balancing splits among subtasks.
    pub weight: u64,
    /// True if the split was read to its end.
    pub finished: bool,
    /// Watermark of the split; `None` before its first row.
    pub watermark: Option<Timestamp>,
}
