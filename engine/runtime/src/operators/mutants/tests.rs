//! Activation of mutants, and the tests that detect them.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::Mutant;
use crate::operators::{
    changelog_normalize, group_aggregate, hold_back, join, multi_join, session, temporal_join, top_n, window_aggregate,
    window_join, window_top_n,
};

thread_local! {
    static ACTIVE: Cell<Option<Mutant>> = const { Cell::new(None) };
}

/// Returns the mutant that is active in this thread.
pub(in crate::operators) fn active() -> Option<Mutant> {
    ACTIVE.get()
}

pub(in crate::operators) fn is_active(mutant: Mutant) -> bool {
    ACTIVE.get() == Some(mutant)
}

/// Runs a test in this thread with a mutant.
pub(in crate::operators) fn with<T>(mutant: Option<Mutant>, test: impl FnOnce() -> T) -> T {
    let before = ACTIVE.replace(mutant);
    let result = catch_unwind(AssertUnwindSafe(test));
    ACTIVE.set(before);
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Prints no panic of a thread with a mutant: it is expected, and its backtrace takes long.
fn silence_mutants() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if active().is_none() {
            print(panic);
        }
    }));
}

/// Returns the test that detects a mutant.
fn detector(mutant: Mutant) -> fn() {
    match mutant {
        Mutant::RetractionsAdded
        | Mutant::NullsCounted
        | Mutant::CopiesCounted
        | Mutant::ExtremesNotReloaded
        | Mutant::ChangesNotMarked
        | Mutant::EvictedKeysForgotten => group_aggregate::tests::check_random_changes,
        Mutant::EmptyGroupsEmitted => group_aggregate::tests::check_emptied_groups,
        Mutant::EvictedRowsForgotten
        | Mutant::InvisibleRowsJoined
        | Mutant::NullKeysJoined
        | Mutant::ConditionIgnored
        | Mutant::FirstMatchIgnored
        | Mutant::MatchesNotRecounted => join::tests::check_random_changes,
        Mutant::MatchesNotMarked | Mutant::RowsExpireEarly | Mutant::ExpiredRowsNotEmitted => {
            join::tests::check_interval_join
        }
        Mutant::InvisibleRowsCombined => multi_join::tests::check_random_changes,
        Mutant::BeginOfVersionExcluded => temporal_join::tests::check_versions,
        Mutant::RankTooMany
        | Mutant::TiesSeparated
        | Mutant::UnknownRowsSkipped
        | Mutant::ListsNotRefilled
        | Mutant::LaterTiesFirst => top_n::tests::check_random_changes,
        Mutant::WindowEndIncluded | Mutant::WindowsFireEarly | Mutant::EvictedPanesForgotten => {
            window_aggregate::tests::check_restores_and_evictions
        }
        Mutant::LateRowsAccepted => window_aggregate::tests::check_late_rows,
        Mutant::NullKeysJoinedInWindows | Mutant::WindowMatchesForgotten => window_join::tests::check_all_types,
        Mutant::RankTooManyInWindows => window_top_n::tests::check_restores_and_evictions,
        Mutant::GapExcluded => session::tests::check_definition,
        Mutant::DeletionsIgnored => changelog_normalize::tests::check_changes,
        Mutant::HeldDeletionsForgotten => hold_back::tests::check_net_weights,
    }
}

/// All mutants.
const ALL: [Mutant; 33] = [
    Mutant::RetractionsAdded,
    Mutant::NullsCounted,
    Mutant::CopiesCounted,
    Mutant::EmptyGroupsEmitted,
    Mutant::ExtremesNotReloaded,
    Mutant::ChangesNotMarked,
    Mutant::EvictedKeysForgotten,
    Mutant::EvictedRowsForgotten,
    Mutant::InvisibleRowsJoined,
    Mutant::NullKeysJoined,
    Mutant::ConditionIgnored,
    Mutant::FirstMatchIgnored,
    Mutant::MatchesNotRecounted,
    Mutant::MatchesNotMarked,
    Mutant::RowsExpireEarly,
    Mutant::ExpiredRowsNotEmitted,
    Mutant::InvisibleRowsCombined,
    Mutant::BeginOfVersionExcluded,
    Mutant::RankTooMany,
    Mutant::TiesSeparated,
    Mutant::UnknownRowsSkipped,
    Mutant::ListsNotRefilled,
    Mutant::LaterTiesFirst,
    Mutant::WindowEndIncluded,
    Mutant::LateRowsAccepted,
    Mutant::WindowsFireEarly,
    Mutant::EvictedPanesForgotten,
    Mutant::NullKeysJoinedInWindows,
    Mutant::WindowMatchesForgotten,
    Mutant::RankTooManyInWindows,
    Mutant::GapExcluded,
    Mutant::DeletionsIgnored,
    Mutant::HeldDeletionsForgotten,
];

/// Threads that run mutants.
const THREADS: usize = 2;

#[test]
fn every_mutant_is_detected() {
    silence_mutants();
    let next = AtomicUsize::new(0);
    let survivors = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(mutant) = ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if catch_unwind(|| with(Some(*mutant), detector(*mutant))).is_ok() {
                        survivors.lock().push(*mutant);
                    }
                }
            });
        }
    });
    let survivors = survivors.into_inner();
    assert!(survivors.is_empty(), "not detected: {survivors:?}");
}
