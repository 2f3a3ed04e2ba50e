//! Rules that are broken on purpose, to see that the simulation notices.
//!
//! A mutant lies to the engine, or lets the engine's connector do what it must not: if no seed fails then, the checks
//! are worth nothing.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The sink publishes what it prepares at once: before the checkpoint's manifest is recorded.
    PublishWhenPrepared,
    /// The store's conditional put is none: whoever was superseded can still write.
    UnconditionalPuts,
    /// The source's snapshot is one batch ahead of what it delivered.
    SnapshotAhead,
    /// A commit that is repeated publishes again.
    RepeatedCommitCounts,
}

impl Mutant {
    pub const ALL: [Self; 4] = [
        Self::PublishWhenPrepared,
        Self::UnconditionalPuts,
        Self::SnapshotAhead,
        Self::RepeatedCommitCounts,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::PublishWhenPrepared => "publish-when-prepared",
            Self::UnconditionalPuts => "unconditional-puts",
            Self::SnapshotAhead => "snapshot-ahead",
            Self::RepeatedCommitCounts => "repeated-commit-counts",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
