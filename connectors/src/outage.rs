//! A system outside that does not answer: not an error, since whoever waits for it goes on by itself, but the reason why
//! nothing moves.

/// A system outside that cannot be reached at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outage {
    /// In a sentence, such as ``the Kafka brokers `a:9092` ``.
    pub system: String,
    /// Since when, microseconds since 1970.
    pub since_us: i64,
    /// What was said of it last.
    pub problem: String,
}
