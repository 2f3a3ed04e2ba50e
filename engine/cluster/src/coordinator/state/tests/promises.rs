//! Promises to clients hold at the next coordinator, whichever record of the journal is the last.

use super::super::*;
use super::harness::Harness;

fn a() -> String {
    "a".into()
}

/// The coordinator is gone as soon as the journal has the request: what the next one does first.
fn gone_after(harness: &mut Harness, request: Request) -> (Harness, String) {
    let before = harness.journal.len();
    harness.request(request);
    harness.successor_as_of(before + 1)
}

#[test]
fn a_job_cancelled_by_the_last_coordinator_can_be_restarted() {
    let (mut harness, commanded) = gone_after(&mut Harness::running(), Request::Cancel { job: a() });
    assert_eq!(commanded, "run a#1, abort a");
    harness.is("a", Status::Stopping, "cancel requested");
    harness.attach_with("w", 2, &[]);
    assert_eq!(harness.ends("a", End::aborted(None)), "");
    harness.is("a", Status::Cancelled, "");
    assert_eq!(
        harness.request(Request::Restart {
            job: a(),
            allow_duplicates: false
        }),
        "run a#2"
    );
    // The run waits for slots, not for tasks of an earlier coordinator.
    assert_eq!(harness.state.jobs["a"].record.placement, None);
    assert_eq!(harness.wants("a"), "grant a w");
    harness.runs("a");
    harness.is("a", Status::Running, "");
}

#[test]
fn no_run_waits_for_tasks_that_no_coordinator_waits_for() {
    let mut harness = Harness::running();
    // As an earlier version left it.
    let placement = Placement {
        slots: vec!["w".into()],
        attempts: Vec::new(),
        is_ending: false,
    };
    harness.journal.push(Change::Placed {
        job: a(),
        attempts: 1,
        placement: Some(placement),
    });
    let (successor, commanded) = harness.successor();
    assert_eq!(commanded, "run a#1");
    assert_eq!(successor.state.jobs["a"].record.placement, None);
}

#[test]
fn an_ended_job_that_was_restarted_runs_under_the_next_coordinator() {
    let mut harness = Harness::running();
    harness.ends("a", End::Failed { reason: "x".into() });
    let (successor, commanded) = gone_after(
        &mut harness,
        Request::Restart {
            job: a(),
            allow_duplicates: false,
        },
    );
    assert_eq!(commanded, "run a#1");
    successor.is("a", Status::Deploying, "");
}

#[test]
fn a_restart_or_another_parallelism_is_not_forgotten_by_taking_the_tasks_over() {
    for (request, reason) in [
        (
            Request::Restart {
                job: a(),
                allow_duplicates: false,
            },
            "restart requested",
        ),
        (
            Request::Rescale {
                job: a(),
                parallelism: Some(2),
            },
            "rescaling to parallelism 2",
        ),
        (
            Request::Rescale {
                job: a(),
                parallelism: None,
            },
            "rescaling to parallelism auto",
        ),
    ] {
        let (mut harness, commanded) = gone_after(&mut Harness::running(), request);
        assert_eq!(commanded, "run a#1, stop a");
        assert_eq!(harness.attach_with("w", 2, &["x"]), "adopt a");
        harness.is("a", Status::Restarting, reason);
        assert_eq!(harness.ends("a", End::Stopped { checkpoint: 3 }), "run a#2");
        let granted = harness.wants("a");
        assert!(granted.starts_with("grant a w"), "{granted}");
        harness.places("a", "y");
        // It was done: the one after that takes over what runs.
        let (mut next, commanded) = harness.successor();
        assert_eq!(commanded, "run a#1");
        assert_eq!(next.attach_with("w", 2, &["y"]), "adopt a");
    }
}

#[test]
fn tasks_that_move_away_from_a_worker_move_under_the_next_coordinator_too() {
    let mut harness = Harness::running();
    assert_eq!(harness.event(Event::Leaving { worker: "w".into() }), "stop a");
    let (mut successor, commanded) = harness.successor();
    assert_eq!(commanded, "run a#1, stop a");
    assert_eq!(successor.attach_with("w", 2, &["x"]), "adopt a");
    assert_eq!(successor.ends("a", End::Stopped { checkpoint: 3 }), "run a#2");
}

#[test]
fn a_worker_stays_drained_under_the_next_coordinator_and_as_another_process() {
    let mut harness = Harness::running();
    harness.attach("v", 1);
    let (mut harness, commanded) = gone_after(
        &mut harness,
        Request::Drain {
            worker: "w".into(),
            undo: false,
        },
    );
    assert_eq!(commanded, "run a#1");
    harness.attach("v", 1);
    assert_eq!(harness.attach_with("w", 2, &["x"]), "adopt a, stop a");
    harness.is("a", Status::Restarting, "moving away from worker w");
    assert_eq!(harness.ends("a", End::Stopped { checkpoint: 3 }), "run a#2");
    assert_eq!(harness.wants("a"), "grant a v");
    harness.lose("w");
    let restarted = harness.event(Event::Attached {
        worker: "w".into(),
        incarnation: "2".into(),
        slots: 2,
        running: Vec::new(),
    });
    assert_eq!(restarted, "");
    assert_eq!(harness.state.slots().workers()["w"].state, WorkerState::Draining);
    assert_eq!(harness.drain("w", true), "");
    assert_eq!(harness.state.slots().workers()["w"].state, WorkerState::Ready);
    // A worker that does not come back is not drained for ever.
    assert_eq!(harness.drain("v", false), "stop a");
    harness.lose("v");
    assert_eq!(harness.drain("v", true), "");
    assert!(harness.drain("v", true).starts_with("worker-not-found"));
}

#[test]
fn an_end_is_told_when_the_journal_has_it() {
    let mut harness = Harness::running();
    harness.request(Request::Stop {
        job: a(),
        savepoint: None,
    });
    harness.ends("a", End::Stopped { checkpoint: 3 });
    let told = |harness: &Harness| harness.state.jobs["a"].visible_transition().status;
    assert_eq!(told(&harness), Status::Stopping);
    let version = harness.state.version();
    harness.journalled();
    assert_eq!(told(&harness), Status::Stopped);
    assert!(harness.state.version() > version, "watchers are told");
    harness.request(Request::Restart {
        job: a(),
        allow_duplicates: false,
    });
    assert_eq!(told(&harness), Status::Deploying);
}

#[test]
fn what_was_promised_with_a_stop_is_not_taken_back_by_another() {
    let stop = |savepoint: Option<&str>| Request::Stop {
        job: a(),
        savepoint: savepoint.map(String::from),
    };
    let mut harness = Harness::running();
    assert_eq!(harness.request(stop(Some("s"))), "stop a");
    assert_eq!(harness.request(stop(None)), "");
    assert_eq!(harness.request(stop(Some("s"))), "");
    let refused = harness.request(stop(Some("t")));
    assert!(
        refused.starts_with("wrong-state: `a` is being stopped with the savepoint `s`;"),
        "{refused}"
    );
    let savepoint = Some("s".to_string());
    assert_eq!(
        harness.state.jobs["a"].record.wanted,
        DesiredState::Stopped { savepoint }
    );
}

#[test]
fn a_job_whose_claim_was_superseded_for_this_cluster_claims_again() {
    let superseded = || End::Superseded {
        reason: "another process".into(),
    };
    let mut harness = Harness::running();
    assert_eq!(harness.ends("a", superseded()), "run a#2");
    harness.is("a", Status::Deploying, "another process");
    harness.request(Request::Stop {
        job: a(),
        savepoint: None,
    });
    assert_eq!(harness.ends("a", superseded()), "run a#3, stop a");
    harness.request(Request::Cancel { job: a() });
    assert_eq!(harness.ends("a", superseded()), "");
    harness.is("a", Status::Cancelled, "");
}

#[test]
fn a_job_that_is_being_deleted_is_not_run_by_the_next_coordinator() {
    let mut harness = Harness::running();
    harness.ends("a", End::Finished { checkpoint: 1 });
    let (mut successor, commanded) = gone_after(&mut harness, Request::Delete { job: a() });
    assert_eq!(commanded, "");
    assert!(successor.state.jobs["a"].record.deleting);
    let again = successor.request(Request::Delete { job: a() });
    assert_eq!(again, "", "asked for again it is no mistake");
    assert_eq!(successor.request(Request::Forget { job: a() }), "");
    assert!(successor.state.jobs.is_empty());
}
