//! Rules that are broken on purpose, to see that the simulation notices.
//!
//! A mutant lies to the engine, or lets the engine's connector do what it must not: if no seed fails then, the checks
//! are worth nothing.

use crate::Scenario;

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
    /// Claims of a job's checkpoints do not say for which leader they are made: one that was deposed is not refused.
    LeaderlessClaims,
    /// Journal records lose the pipeline that a job has after an update: the next leader does not know of it.
    ForgottenPipelines,
}

impl Mutant {
    pub const ALL: [Self; 6] = [
        Self::PublishWhenPrepared,
        Self::UnconditionalPuts,
        Self::SnapshotAhead,
        Self::RepeatedCommitCounts,
        Self::LeaderlessClaims,
        Self::ForgottenPipelines,
    ];

    /// In which it shows.
    pub fn scenario(self) -> Scenario {
        match self {
            Self::LeaderlessClaims | Self::ForgottenPipelines => Scenario::Commands,
            _ => Scenario::Faults,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::PublishWhenPrepared => "publish-when-prepared",
            Self::UnconditionalPuts => "unconditional-puts",
            Self::SnapshotAhead => "snapshot-ahead",
            Self::RepeatedCommitCounts => "repeated-commit-counts",
            Self::LeaderlessClaims => "leaderless-claims",
            Self::ForgottenPipelines => "forgotten-pipelines",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mutant| mutant.name() == name)
    }
}
