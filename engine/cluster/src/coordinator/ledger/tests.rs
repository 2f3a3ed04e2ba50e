//! The ledger as the sum of the journal's records.

use std::collections::VecDeque;

use millstream_state::log::State;

use super::record::REASON_CHARS_MAX;
use super::*;

pub(crate) fn record(name: &str) -> Record {
    Record {
        name: name.into(),
        resolved: Arc::new(v1::ResolvedJob {
            name: name.into(),
            now_us: 7,
            ..v1::ResolvedJob::default()
        }),
        parallelism: Some(2),
        max_parallelism: 128,
        storage: "/tmp/checkpoints".into(),
        submitted_us: 1,
        wanted: DesiredState::Running,
        allow_duplicates: false,
        attempts: 0,
        placement: None,
        run_totals: None,
        run_progress: None,
        deleting: false,
        update: LatestUpdate::None,
        transitions: VecDeque::from([Transition::new(Status::Submitted, 1, "")]),
    }
}

pub(crate) fn transition(job: &str, status: Status, at_us: i64) -> Change {
    Change::Transition {
        job: job.into(),
        transition: Transition::new(status, at_us, "because"),
    }
}

#[test]
fn a_ledger_is_the_sum_of_its_changes_and_reads_back_from_its_base() {
    let mut ledger = Ledger::default();
    let changes = [
        Change::Submitted(Box::new(record("a"))),
        Change::Submitted(Box::new(record("b"))),
        transition("a", Status::Running, 2),
        transition("a", Status::Running, 2),
        transition("nobody", Status::Running, 2),
        Change::Parallelism {
            job: "a".into(),
            parallelism: None,
            at_us: 3,
        },
        Change::wanted(
            "a".into(),
            DesiredState::Stopped {
                savepoint: Some("s".into()),
            },
            4,
        ),
        Change::Placed {
            job: "a".into(),
            attempts: 3,
            placement: Some(Placement {
                slots: vec!["w".into(), "w".into()],
                attempts: vec!["x".into(), "x".into()],
                is_ending: false,
            }),
        },
        Change::Drained {
            worker: "v".into(),
            drained: true,
        },
        Change::Drained {
            worker: "w".into(),
            drained: true,
        },
        Change::Drained {
            worker: "v".into(),
            drained: false,
        },
        Change::RunTotals {
            job: "a".into(),
            run_totals: Box::new(RunTotals {
                rows_in: 5,
                ..RunTotals::default()
            }),
        },
        Change::Deleted { job: "b".into() },
    ];
    for change in &changes {
        let json = serde_json::to_string(change).unwrap();
        ledger.apply(&serde_json::from_str(&json).unwrap());
    }
    let json = serde_json::to_string(&ledger.base()).unwrap();
    let ledger = Ledger::restore(serde_json::from_str(&json).unwrap());
    assert_eq!(ledger.jobs.keys().collect::<Vec<_>>(), ["a"]);
    let a = &ledger.jobs["a"];
    assert_eq!(
        (a.parallelism, a.current().status, a.transitions.len()),
        (None, Status::Stopping, 4)
    );
    assert_eq!(ledger.drained.iter().collect::<Vec<_>>(), ["w"]);
    assert_eq!(a.resolved.now_us, 7);
    assert_eq!(a.run_totals.as_ref().map(|run_totals| run_totals.rows_in), Some(5));
    assert_eq!((a.attempts, ledger.adoptable_attempts()), (3, vec!["x".to_string()]));
    assert!(matches!(&a.wanted, DesiredState::Stopped { savepoint: Some(name) } if name == "s"));
}

#[test]
fn what_a_person_wants_is_one_record_with_the_state_that_it_puts_the_job_into() {
    let wanted = |wanted, at_us| Change::wanted("a".into(), wanted, at_us);
    let placed = Change::Placed {
        job: "a".into(),
        attempts: 1,
        placement: Some(Placement {
            slots: vec!["w".into()],
            attempts: vec!["x".into()],
            is_ending: false,
        }),
    };
    #[track_caller]
    fn check(changes: &[Change], status: Status, reason: &str, is_ending: Option<bool>) {
        let mut ledger = Ledger::default();
        ledger.apply(&Change::Submitted(Box::new(record("a"))));
        changes.iter().for_each(|change| ledger.apply(change));
        let a = &ledger.jobs["a"];
        assert_eq!((a.current().status, a.current().reason.as_str()), (status, reason));
        let placement = a.placement.as_ref();
        assert_eq!(placement.map(|placement| placement.is_ending), is_ending);
    }
    let cancelled = transition("a", Status::Cancelled, 5);
    let again = [cancelled.clone(), wanted(DesiredState::Running, 6)];
    check(&again, Status::Deploying, "requested", None);
    let restarted = [placed.clone(), wanted(DesiredState::Running, 6)];
    check(&restarted, Status::Restarting, "restart requested", Some(true));
    let stopped = [placed.clone(), wanted(DesiredState::Stopped { savepoint: None }, 6)];
    check(&stopped, Status::Stopping, "stop requested", Some(false));
    let too_late = [cancelled, wanted(DesiredState::Cancelled, 6)];
    check(&too_late, Status::Cancelled, "because", None);
    let rescaled = Change::Parallelism {
        job: "a".into(),
        parallelism: Some(3),
        at_us: 6,
    };
    let moved = [placed.clone(), rescaled.clone()];
    check(&moved, Status::Restarting, "rescaling to parallelism 3", Some(true));
    let followed = [placed.clone(), rescaled, placed];
    check(&followed, Status::Restarting, "rescaling to parallelism 3", Some(false));
    // As earlier versions wrote it.
    let old: Change = serde_json::from_str(r#"{"wanted":{"job":"a","wanted":"cancelled"}}"#).unwrap();
    check(&[old], Status::Stopping, "cancel requested", None);
    let old: Base = serde_json::from_str("[]").unwrap();
    assert!(matches!(old, Base::Jobs(_)));
}

#[test]
fn a_run_whose_coordinator_is_gone_counts_once() {
    let rows = |rows_in, checkpoints| RunTotals {
        rows_in,
        checkpoints,
        ..RunTotals::default()
    };
    let mut record = record("a");
    record.run_totals = Some(rows(100, 10));
    record.run_progress = Some(Box::new(RunProgress {
        settled: rows(20, 2),
        attempt: rows(3, 0),
    }));
    let mut taken_over = record.clone();
    taken_over.settle(true);
    // The attempt will report its rows, 5 by then.
    assert_eq!(taken_over.run_totals, Some(rows(120, 12)));
    let known = taken_over.run_progress.as_ref().unwrap().attempt.clone();
    assert_eq!(RunTotals::default().at_least(&known), rows(3, 0));
    assert_eq!(rows(5, 1).at_least(&known).after(&rows(120, 12)), rows(125, 13));
    record.settle(false);
    assert_eq!((record.run_totals, record.run_progress), (Some(rows(123, 12)), None));
    assert_eq!(rows(25, 2).without(&rows(5, 9)), rows(20, 2));
}

#[test]
fn only_the_newest_transitions_and_the_start_of_a_long_reason_are_kept() {
    let mut record = record("a");
    for at_us in 0..1000 {
        record.enter(Transition::new(Status::Restarting, at_us, &"é".repeat(5000)));
    }
    assert_eq!(record.transitions.len(), TRANSITIONS_MAX);
    assert_eq!(record.current().at_us, 999);
    assert_eq!(record.current().reason.chars().count(), REASON_CHARS_MAX + 1);
}

#[test]
fn updates_that_earlier_versions_wrote_are_read() {
    let update = Update {
        resolved: Arc::new(v1::ResolvedJob {
            name: "a".into(),
            ..v1::ResolvedJob::default()
        }),
        parallelism: Some(2),
        max_parallelism: 128,
        accept_changed_meaning: false,
        allow_dropped_state: true,
        was_running: true,
    };
    #[track_caller]
    fn check(stored: Option<serde_json::Value>, expected: LatestUpdate) {
        let mut json = serde_json::to_value(record("a")).unwrap();
        let fields = json.as_object_mut().unwrap();
        fields.remove("update");
        fields.extend(stored.map(|stored| ("update".to_string(), stored)));
        let read: Record = serde_json::from_value(json).unwrap();
        assert_eq!(read.update, expected);
        // As this version writes it.
        let again: Record = serde_json::from_str(&serde_json::to_string(&read).unwrap()).unwrap();
        assert_eq!(again.update, expected);
    }
    let earlier = |is_tried: bool| {
        let mut stored = serde_json::to_value(&update).unwrap();
        stored["is_tried"] = is_tried.into();
        Some(stored)
    };
    check(None, LatestUpdate::None);
    check(Some(serde_json::Value::Null), LatestUpdate::None);
    check(earlier(false), LatestUpdate::Pending(Box::new(update.clone())));
    check(earlier(true), LatestUpdate::Tried(Box::new(update.clone())));
    check(Some("confirmed".into()), LatestUpdate::Confirmed);
    let reverted = serde_json::json!({ "reverted": { "reason": "it failed" } });
    let reason = "it failed".to_string();
    check(Some(reverted), LatestUpdate::Reverted { reason });
}
