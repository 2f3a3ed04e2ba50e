//! Rules of operators that tests break on purpose, to verify that the tests of the operators detect it.
//!
//! A mutant is active in one thread, and in those that [`on_own_thread`](super::testing::on_own_thread) starts from it.
//! Outside of tests none is, and the code of mutants is not compiled.

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A sum adds the values of rows that are taken back.
    RetractionsAdded,
    /// Aggregates count NULLs as values.
    NullsCounted,
    /// Aggregates of distinct values count every copy of a value.
    CopiesCounted,
    /// A group emits a row although none of its rows are left.
    EmptyGroupsEmitted,
    /// After its extreme was taken back, a group does not read the next one from the store.
    ExtremesNotReloaded,
    /// Changed groups are not marked, so they are not part of the next checkpoint.
    ChangesNotMarked,
    /// Rows of keys that were evicted are not read from the store.
    EvictedKeysForgotten,
    /// Rows of a join that were evicted are not read from the store.
    EvictedRowsForgotten,
    /// Rows that were deleted before their insertion have matches.
    InvisibleRowsJoined,
    /// NULL is equal to NULL in a join's key.
    NullKeysJoined,
    /// The condition of a join has no effect on rows without a match.
    ConditionIgnored,
    /// A row that was output without a match is not taken back at its first match.
    FirstMatchIgnored,
    /// The numbers of matches are not determined for rows that were read from the store.
    MatchesNotRecounted,
    /// Rows of an interval join are not marked as matched.
    MatchesNotMarked,
    /// Rows of an interval join expire a minute too early.
    RowsExpireEarly,
    /// An interval join does not emit the rows that expire without a match.
    ExpiredRowsNotEmitted,
    /// Rows of weight zero or less are combined with those of the other inputs.
    InvisibleRowsCombined,
    /// A version of a temporal join is valid after its begin only.
    BeginOfVersionExcluded,
    /// One rank more than wanted is kept.
    RankTooMany,
    /// Rows of equal order have ranks of their own.
    TiesSeparated,
    /// Rows behind the last known one are listed, although others may be before them.
    UnknownRowsSkipped,
    /// A list that has become too short is not filled from the store.
    ListsNotRefilled,
    /// The later of equal rows is before the earlier one.
    LaterTiesFirst,
    /// The end of a slice is part of it.
    WindowEndIncluded,
    /// Rows are added to windows that have fired.
    LateRowsAccepted,
    /// A window fires a microsecond before its end.
    WindowsFireEarly,
    /// The evicted part of a window is not read from the store.
    EvictedPanesForgotten,
    /// NULL is equal to NULL in the key of a window join.
    NullKeysJoinedInWindows,
    /// A row that has a match is output without one, too.
    WindowMatchesForgotten,
    /// One rank more than wanted is kept in a window.
    RankTooManyInWindows,
    /// The gap after a session is not part of it.
    GapExcluded,
    /// The deletion of a key has no effect.
    DeletionsIgnored,
    /// Deletions that are held back are forgotten.
    HeldDeletionsForgotten,
}

/// Returns true if the rule is broken in this thread.
#[cfg(not(test))]
#[inline(always)]
pub(super) fn is_active(_mutant: Mutant) -> bool {
    false
}

#[cfg(test)]
pub(super) use self::tests::{active, is_active, with};

#[cfg(test)]
mod tests;
