//! Rules that are broken on purpose, to verify that the simulation detects it.
//!
//! A mutant makes the environment violate its contract with the engine, or the connector its contract: if no seed
//! fails then, the checks are useless.

use crate::Scenario;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutant {
    /// The sink publishes prepared output at once, before the manifest of the checkpoint is written.
    PublishWhenPrepared,
    /// Conditional puts of the store are unconditional: a superseded process can still write.
    UnconditionalPuts,
    /// The source's snapshot is one batch ahead of what it delivered.
    SnapshotAhead,
    /// A repeated commit publishes again.
    RepeatedCommitCounts,
    /// Claims of a job's checkpoints do not name their leader: one of a deposed leader is not refused.
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

    /// Returns the scenario that detects it.
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
