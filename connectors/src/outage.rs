//! An external system that does not answer. It is not an error, because connectors retry by themselves, but it is the
//! reason why a job makes no progress.

/// An external system that cannot be reached at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// Name of the system as part of a sentence: ``the Kafka brokers `a:9092` ``.
    pub system: String,
    /// Time at which the outage began, microseconds since 1970.
    pub since_us: i64,
    /// Latest error of the attempts to connect.
    pub problem: String,
}
