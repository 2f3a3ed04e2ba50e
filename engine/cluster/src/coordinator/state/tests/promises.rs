//! Promises to clients hold at the next coordinator, whichever record of the journal is the last.

use super::super::*;
use super::bench::Bench;

fn a() -> String {
    "a".into()
}

/// The coordinator is gone as soon as the journal has the request: what the next one does first.
fn gone_after(bench: &mut Bench, request: Request) -> (Bench, String) {
    let before = bench.journal.len();
    bench.request(request);
    bench.successor_as_of(before + 1)
}

#[test]
fn a_job_cancelled_by_the_last_coordinator_can_be_restarted() {
    let (mut bench, commanded) = gone_after(&mut Bench::running(), Request::Cancel { job: a() });
    assert_eq!(commanded, "run a#1, abort a");
    bench.is("a", Status::Stopping, "cancel asked for");
    bench.attach_with("w", 2, &[]);
    assert_eq!(bench.ends("a", End::aborted(None)), "");
    bench.is("a", Status::Cancelled, "");
    assert_eq!(
        bench.request(Request::Restart {
            job: a(),
            allow_duplicates: false
        }),
        "run a#2"
    );
    // The run waits for slots, not for tasks of an earlier coordinator.
    assert_eq!(bench.state.jobs["a"].record.placement, None);
    assert_eq!(bench.wants("a"), "grant a w");
    bench.runs("a");
    bench.is("a", Status::Running, "");
}

#[test]
fn no_run_waits_for_tasks_that_no_coordinator_waits_for() {
    let mut bench = Bench::running();
    // As an earlier version left it.
    let placement = Placement {
        slots: vec!["w".into()],
        attempts: Vec::new(),
        is_ending: false,
    };
    bench.journal.push(Change::Placed {
        job: a(),
        attempts: 1,
        placement: Some(placement),
    });
    let (successor, commanded) = bench.successor();
    assert_eq!(commanded, "run a#1");
    assert_eq!(successor.state.jobs["a"].record.placement, None);
}

#[test]
fn an_ended_job_that_was_restarted_runs_under_the_next_coordinator() {
    let mut bench = Bench::running();
    bench.ends("a", End::Failed { reason: "x".into() });
    let (successor, commanded) = gone_after(
        &mut bench,
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
            "restart asked for",
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
        let (mut bench, commanded) = gone_after(&mut Bench::running(), request);
        assert_eq!(commanded, "run a#1, stop a");
        assert_eq!(bench.attach_with("w", 2, &["x"]), "adopt a");
        bench.is("a", Status::Restarting, reason);
        assert_eq!(bench.ends("a", End::Stopped { checkpoint: 3 }), "run a#2");
        let granted = bench.wants("a");
        assert!(granted.starts_with("grant a w"), "{granted}");
        bench.places("a", "y");
        // It was done: the one after that takes over what runs.
        let (mut next, commanded) = bench.successor();
        assert_eq!(commanded, "run a#1");
        assert_eq!(next.attach_with("w", 2, &["y"]), "adopt a");
    }
}

#[test]
fn tasks_that_move_away_from_a_worker_move_under_the_next_coordinator_too() {
    let mut bench = Bench::running();
    assert_eq!(bench.event(Event::Leaving { worker: "w".into() }), "stop a");
    let (mut successor, commanded) = bench.successor();
    assert_eq!(commanded, "run a#1, stop a");
    assert_eq!(successor.attach_with("w", 2, &["x"]), "adopt a");
    assert_eq!(successor.ends("a", End::Stopped { checkpoint: 3 }), "run a#2");
}

#[test]
fn a_worker_stays_drained_under_the_next_coordinator_and_as_another_process() {
    let mut bench = Bench::running();
    bench.attach("v", 1);
    let (mut bench, commanded) = gone_after(
        &mut bench,
        Request::Drain {
            worker: "w".into(),
            undo: false,
        },
    );
    assert_eq!(commanded, "run a#1");
    bench.attach("v", 1);
    assert_eq!(bench.attach_with("w", 2, &["x"]), "adopt a, stop a");
    bench.is("a", Status::Restarting, "moving away from worker w");
    assert_eq!(bench.ends("a", End::Stopped { checkpoint: 3 }), "run a#2");
    assert_eq!(bench.wants("a"), "grant a v");
    bench.lose("w");
    let restarted = bench.event(Event::Attached {
        worker: "w".into(),
        incarnation: "2".into(),
        slots: 2,
        running: Vec::new(),
    });
    assert_eq!(restarted, "");
    assert_eq!(bench.state.slots().workers()["w"].presence, Presence::Draining);
    assert_eq!(bench.drain("w", true), "");
    assert_eq!(bench.state.slots().workers()["w"].presence, Presence::Ready);
    // A worker that does not come back is not drained for ever.
    assert_eq!(bench.drain("v", false), "stop a");
    bench.lose("v");
    assert_eq!(bench.drain("v", true), "");
    assert!(bench.drain("v", true).starts_with("worker-not-found"));
}

#[test]
fn an_end_is_told_when_the_journal_has_it() {
    let mut bench = Bench::running();
    bench.request(Request::Stop {
        job: a(),
        savepoint: None,
    });
    bench.ends("a", End::Stopped { checkpoint: 3 });
    let told = |bench: &Bench| bench.state.jobs["a"].told().status;
    assert_eq!(told(&bench), Status::Stopping);
    let version = bench.state.version();
    bench.journalled();
    assert_eq!(told(&bench), Status::Stopped);
    assert!(bench.state.version() > version, "watchers are told");
    bench.request(Request::Restart {
        job: a(),
        allow_duplicates: false,
    });
    assert_eq!(told(&bench), Status::Deploying);
}

#[test]
fn what_was_promised_with_a_stop_is_not_taken_back_by_another() {
    let stop = |savepoint: Option<&str>| Request::Stop {
        job: a(),
        savepoint: savepoint.map(String::from),
    };
    let mut bench = Bench::running();
    assert_eq!(bench.request(stop(Some("s"))), "stop a");
    assert_eq!(bench.request(stop(None)), "");
    assert_eq!(bench.request(stop(Some("s"))), "");
    let refused = bench.request(stop(Some("t")));
    assert!(
        refused.starts_with("wrong-state: `a` is being stopped with the savepoint `s`;"),
        "{refused}"
    );
    let savepoint = Some("s".to_string());
    assert_eq!(bench.state.jobs["a"].record.wanted, Wanted::Stopped { savepoint });
}

#[test]
fn a_job_whose_claim_was_superseded_for_this_cluster_claims_again() {
    let superseded = || End::Superseded {
        reason: "another process".into(),
    };
    let mut bench = Bench::running();
    assert_eq!(bench.ends("a", superseded()), "run a#2");
    bench.is("a", Status::Deploying, "another process");
    bench.request(Request::Stop {
        job: a(),
        savepoint: None,
    });
    assert_eq!(bench.ends("a", superseded()), "run a#3, stop a");
    bench.request(Request::Cancel { job: a() });
    assert_eq!(bench.ends("a", superseded()), "");
    bench.is("a", Status::Cancelled, "");
}

#[test]
fn a_job_that_is_being_deleted_is_not_run_by_the_next_coordinator() {
    let mut bench = Bench::running();
    bench.ends("a", End::Finished { checkpoint: 1 });
    let (mut successor, commanded) = gone_after(&mut bench, Request::Delete { job: a() });
    assert_eq!(commanded, "");
    assert!(successor.state.jobs["a"].record.deleting);
    let again = successor.request(Request::Delete { job: a() });
    assert_eq!(again, "", "asked for again it is no mistake");
    assert_eq!(successor.request(Request::Forget { job: a() }), "");
    assert!(successor.state.jobs.is_empty());
}
