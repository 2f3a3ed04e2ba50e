//! Status of an attached worker.

/// What is known of an attached worker.
#[derive(Debug, Clone)]
pub struct WorkerStatus {
    pub name: String,
    pub incarnation: String,
    pub address: String,
    pub version: String,
    pub slots: u32,
    pub memory_bytes: u64,
    /// How far its clock is ahead of this one.
    pub clock_offset_us: i64,
    /// In the databases of its tasks.
    pub state_bytes: u64,
    pub attached_us: i64,
    pub is_leaving: bool,
}
