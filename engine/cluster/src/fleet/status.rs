//! Status of an attached worker.

/// Status of an attached worker.
#[derive(Debug, Clone)]
pub struct WorkerStatus {
    pub name: String,
    /// Random id of the worker's process.
    pub incarnation: String,
    pub address: String,
    pub version: String,
    pub slots: u32,
    pub memory_bytes: u64,
    /// Offset of its clock from this process's; positive if it is ahead.
    pub clock_offset_us: i64,
    /// Size of the state in its tasks' databases.
    pub state_bytes: u64,
    pub attached_us: i64,
    pub is_leaving: bool,
}
