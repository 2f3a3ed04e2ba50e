//! Scenarios: what happens on the left, what is commanded on the right.

mod adoption;
mod harness;
mod promises;
mod updates;

use self::harness::Harness;
use super::*;

fn stopped() -> End {
    End::Stopped { checkpoint: 7 }
}

#[test]
fn a_job_waits_for_slots_runs_and_finishes() {
    let mut harness = Harness::new();
    assert_eq!(harness.submit("a", Some(2)), "run a#1");
    assert_eq!(harness.wants("a"), "");
    harness.is("a", Status::Deploying, "waiting for 2 slots: 0 workers");
    assert_eq!(harness.attach("w", 1), "");
    harness.is("a", Status::Deploying, "1 workers offer 1, 1 of them free; add workers");
    assert_eq!(harness.attach("v", 4), "grant a v w");
    harness.is("a", Status::Deploying, "starting tasks");
    assert_eq!(harness.runs("a"), "");
    harness.is("a", Status::Running, "");
    assert_eq!(harness.ends("a", End::Finished { checkpoint: 3 }), "");
    harness.is("a", Status::Finished, "checkpoint 3");
    assert_eq!(harness.state.slots().used_total(), 0);
    let statuses: Vec<Status> = (harness.state.jobs["a"].record.transitions.iter())
        .map(|transition| transition.status)
        .collect();
    assert_eq!(
        statuses,
        [Status::Submitted, Status::Deploying, Status::Running, Status::Finished]
    );
}

#[test]
fn a_worker_that_cannot_be_reached_gets_no_tasks_and_the_job_that_waits_says_so() {
    let mut harness = Harness::new();
    harness.submit("a", Some(1));
    assert_eq!(harness.wants("a"), "");
    let (worker, incarnation) = ("w".to_string(), "1".to_string());
    let attached = harness.event(Event::Attached {
        worker,
        incarnation,
        slots: 1,
        running: Vec::new(),
    });
    assert_eq!(attached, "");
    assert_eq!(harness.reach("w", Err("no such host".into())), "");
    let reason = "waiting for 1 slots: 0 workers offer 0, 0 of them free; worker w is attached but cannot be reached, see \
                  `engine-cli doctor`";
    harness.is("a", Status::Deploying, reason);
    assert_eq!(harness.reach("w", Ok(())), "grant a w");
}

#[test]
fn attempts_give_their_slots_back_and_get_new_ones() {
    let mut harness = Harness::new();
    harness.attach("w", 2);
    harness.submit("a", Some(2));
    assert_eq!(harness.wants("a"), "grant a w w");
    harness.runs("a");
    harness.lose("w");
    let run = harness.run_of("a");
    let reason = "worker w was lost".to_string();
    assert_eq!(
        harness.event(Event::Restarting {
            job: "a".into(),
            run,
            reason
        }),
        ""
    );
    harness.is("a", Status::Restarting, "worker w was lost");
    assert_eq!(harness.returns("a"), "");
    assert_eq!(harness.wants("a"), "");
    let waits =
        "worker w was lost; waiting for 2 slots: 0 workers offer 0, 0 of them free; no worker is attached; start one";
    harness.is("a", Status::Restarting, waits);
    assert_eq!(harness.attach("u", 1), "");
    let waits =
        "worker w was lost; waiting for 2 slots: 1 workers offer 1, 1 of them free; add workers, or rescale the job";
    harness.is("a", Status::Restarting, waits);
    assert_eq!(harness.attach("v", 1), "grant a u v");
    harness.is("a", Status::Restarting, "worker w was lost");
    harness.runs("a");
    harness.is("a", Status::Running, "");
    assert_eq!(harness.state.jobs["a"].record.attempts, 2);
}

#[test]
fn a_job_that_needs_too_much_does_not_hold_up_others() {
    let mut harness = Harness::new();
    harness.attach("w", 2);
    harness.submit("big", Some(3));
    harness.submit("small", Some(1));
    assert_eq!(harness.wants("big"), "");
    assert_eq!(harness.wants("small"), "grant small w");
    assert_eq!(harness.attach("v", 2), "grant big v v w");
}

#[test]
fn stopping_cancelling_and_failing_end_a_job_in_their_own_way() {
    for (request, asked, end, status) in [
        ("stop", "stop a", stopped(), Status::Stopped),
        ("stop", "stop a", End::aborted(None), Status::Stopped),
        ("stop", "stop a", End::Finished { checkpoint: 1 }, Status::Finished),
        ("stop", "stop a", End::Failed { reason: "x".into() }, Status::Failed),
        ("cancel", "abort a", End::aborted(Some(1)), Status::Cancelled),
        (
            "cancel",
            "abort a",
            End::Failed { reason: "x".into() },
            Status::Cancelled,
        ),
        ("", "", End::Failed { reason: "x".into() }, Status::Failed),
    ] {
        let mut harness = Harness::new();
        harness.attach("w", 2);
        harness.submit("a", Some(1));
        harness.wants("a");
        harness.runs("a");
        let job = "a".to_string();
        let commanded = match request {
            "stop" => harness.request(Request::Stop { job, savepoint: None }),
            "cancel" => harness.request(Request::Cancel { job }),
            _ => String::new(),
        };
        assert_eq!(commanded, asked);
        if !request.is_empty() {
            harness.is("a", Status::Stopping, request);
        }
        assert_eq!(harness.ends("a", end), "");
        harness.is("a", status, "");
        let (successor, commanded) = harness.successor();
        successor.is("a", status, "");
        assert_eq!(commanded, "");
    }
}

#[test]
fn a_stop_can_become_a_cancel_but_not_the_other_way() {
    let mut harness = Harness::new();
    harness.submit("a", Some(1));
    let job = || "a".to_string();
    let savepoint = Some("s".to_string());
    assert_eq!(harness.request(Request::Stop { job: job(), savepoint }), "stop a");
    assert_eq!(harness.request(Request::Cancel { job: job() }), "abort a");
    assert_eq!(
        harness.request(Request::Stop {
            job: job(),
            savepoint: None
        }),
        ""
    );
    assert_eq!(harness.state.jobs["a"].record.wanted, DesiredState::Cancelled);
    let savepoint = Some("s".to_string());
    let refused = harness.request(Request::Stop { job: job(), savepoint });
    assert!(
        refused.starts_with("wrong-state: `a` is being cancelled, without a last checkpoint;"),
        "{refused}"
    );
    let refused = harness.request(Request::Rescale {
        job: job(),
        parallelism: Some(2),
    });
    assert!(refused.starts_with("wrong-state: `a` is being stopped"), "{refused}");
}

#[test]
fn rescaling_and_restarting_stop_with_a_checkpoint_and_run_again() {
    let mut harness = Harness::new();
    harness.attach("w", 4);
    harness.submit("a", Some(1));
    harness.wants("a");
    harness.runs("a");
    let (job, parallelism) = ("a".to_string(), Some(4));
    assert_eq!(harness.request(Request::Rescale { job, parallelism }), "stop a");
    harness.is("a", Status::Restarting, "rescaling to parallelism 4");
    assert_eq!(harness.ends("a", stopped()), "run a#2");
    assert_eq!(harness.wants("a"), "grant a w w w w");
    harness.runs("a");
    assert_eq!(
        harness.request(Request::Restart {
            job: "a".into(),
            allow_duplicates: false
        }),
        "stop a"
    );
    assert_eq!(harness.ends("a", End::aborted(None)), "run a#3");
    // What the old run still says is not heard.
    let stale = Event::Ended {
        job: "a".into(),
        run: 2,
        end: stopped(),
        run_totals: None,
    };
    assert_eq!(harness.event(stale), "");
    harness.is("a", Status::Deploying, "restart requested");
    assert_eq!(harness.ends("a", End::Failed { reason: "x".into() }), "");
    assert_eq!(
        harness.request(Request::Restart {
            job: "a".into(),
            allow_duplicates: false
        }),
        "run a#4"
    );
}

#[test]
fn a_job_that_runs_is_not_stopped_for_more_slots_than_there_are() {
    let mut harness = Harness::new();
    harness.attach("w", 4);
    harness.submit("a", Some(2));
    harness.wants("a");
    harness.runs("a");
    let rescale = |harness: &mut Harness, parallelism| {
        let job = "a".to_string();
        harness.request(Request::Rescale { job, parallelism })
    };
    assert_eq!(
        rescale(&mut harness, Some(10)),
        "wrong-state: `a` was not rescaled: 1 workers offer 4 slots, too few for parallelism 10; add workers first, or \
         rescale to auto, which takes as many as there are"
    );
    harness.is("a", Status::Running, "");
    harness.submit("b", Some(1));
    harness.wants("b");
    harness.submit("follows", None);
    harness.wants("follows");
    assert!(rescale(&mut harness, Some(3)).contains("4 slots, other jobs need 2 of them"));
    assert_eq!(rescale(&mut harness, Some(1)), "stop a");
    let mut finished = Harness::new();
    finished.attach("w", 4);
    finished.submit("a", Some(1));
    finished.wants("a");
    finished.ends("a", End::Finished { checkpoint: 1 });
    assert_eq!(
        rescale(&mut finished, Some(2)),
        "wrong-state: `a` has finished: all its input is processed, there is nothing to rescale"
    );
}

#[test]
fn auto_follows_the_slots_that_there_are() {
    let mut harness = Harness::new();
    harness.attach("w", 2);
    harness.submit("a", None);
    assert_eq!(harness.wants("a"), "grant a w w");
    harness.runs("a");
    // More slots: it spreads, a while after the last change.
    harness.attach("v", 2);
    let due = harness.state.next_tick_us().unwrap();
    assert!(due > harness.now_us);
    assert_eq!(harness.event(Event::Tick), "");
    assert_eq!(harness.tick(), "stop a");
    assert_eq!(harness.ends("a", stopped()), "run a#2");
    assert_eq!(harness.wants("a"), "grant a v v w w");
    harness.runs("a");
    assert_eq!(harness.tick(), "");
    // Fewer: the attempt fails by itself, and the next one takes what there is.
    harness.lose("v");
    harness.returns("a");
    assert_eq!(harness.wants("a"), "grant a w w");
}

#[test]
fn jobs_of_parallelism_auto_share() {
    let mut harness = Harness::new();
    harness.attach("w", 4);
    harness.submit("a", None);
    assert_eq!(harness.wants("a"), "grant a w w w w");
    harness.runs("a");
    harness.submit("b", None);
    assert_eq!(harness.wants("b"), "");
    harness.state.rebalance_at_us = Some(0);
    assert_eq!(harness.tick(), "stop a");
    harness.is("a", Status::Restarting, "rescaling from 4 to 2 slots");
    // The waiting one is served as soon as the slots are free.
    assert_eq!(harness.returns("a"), "grant b w w");
    assert_eq!(harness.ends("a", stopped()), "run a#3");
    assert_eq!(harness.wants("a"), "grant a w w");
    harness.runs("a");
    harness.runs("b");
    assert_eq!(harness.tick(), "");
    // A limit on each.
    let mut harness = Harness::with(Limits {
        auto_parallelism_max: 2,
        ..Limits::default()
    });
    harness.attach("w", 8);
    harness.submit("a", None);
    assert_eq!(harness.wants("a"), "grant a w w");
}

#[test]
fn a_waiting_job_makes_the_greedy_ones_give_way_by_itself() {
    let mut harness = Harness::new();
    harness.attach("w", 4);
    harness.submit("a", None);
    harness.wants("a");
    harness.runs("a");
    harness.tick();
    assert_eq!(harness.state.next_tick_us(), None);
    harness.submit("b", Some(2));
    assert_eq!(harness.wants("b"), "");
    assert_eq!(harness.tick(), "stop a");
    assert_eq!(harness.returns("a"), "grant b w w");
}

#[test]
fn drained_workers_are_left_and_may_go() {
    let mut harness = Harness::new();
    harness.attach("w", 2);
    harness.attach("v", 2);
    harness.submit("a", Some(2));
    assert_eq!(harness.wants("a"), "grant a v w");
    harness.runs("a");
    assert_eq!(harness.event(Event::Leaving { worker: "w".into() }), "stop a");
    harness.is("a", Status::Restarting, "moving away from worker w");
    assert_eq!(harness.returns("a"), "leave w");
    assert_eq!(harness.ends("a", stopped()), "run a#2");
    assert_eq!(harness.wants("a"), "grant a v v");
    assert_eq!(
        harness.drain("nobody", false),
        "worker-not-found: there is no worker `nobody` attached"
    );
    assert_eq!(harness.event(Event::Leaving { worker: "w".into() }), "leave w");
}

#[test]
fn a_new_coordinator_goes_on_where_the_journal_ends() {
    let mut harness = Harness::new();
    harness.attach("w", 9);
    for name in ["cancelled", "new", "running", "stopping"] {
        harness.submit(name, Some(1));
    }
    for name in ["cancelled", "running", "stopping"] {
        harness.wants(name);
        harness.runs(name);
    }
    let (job, savepoint) = ("stopping".to_string(), Some("s".to_string()));
    harness.request(Request::Stop { job, savepoint });
    harness.request(Request::Cancel {
        job: "cancelled".into(),
    });
    let (mut successor, commanded) = harness.successor();
    assert_eq!(
        commanded,
        "run cancelled#1, abort cancelled, run new#2, run running#3, run stopping#4, stop stopping"
    );
    successor.is("cancelled", Status::Stopping, "cancel requested");
    successor.is("stopping", Status::Stopping, "stop requested");
    assert_eq!(successor.ends("cancelled", End::aborted(None)), "");
    successor.is("cancelled", Status::Cancelled, "");
    successor.is("running", Status::Deploying, "resumed by a new coordinator");
    assert!(successor.state.version() > harness.state.version());
    assert_eq!(successor.ends("stopping", End::aborted(Some(4))), "");
    successor.is("stopping", Status::Stopped, "at checkpoint 4");
    assert!(matches!(
        &successor.state.jobs["stopping"].record.wanted,
        DesiredState::Stopped { savepoint: Some(name) } if name == "s"
    ));
}

#[test]
fn shutting_down_suspends_jobs_and_accepts_nothing() {
    let mut harness = Harness::new();
    harness.attach("w", 2);
    harness.submit("a", Some(1));
    harness.wants("a");
    harness.runs("a");
    assert_eq!(harness.event(Event::ShutDown), "stop a");
    assert!(harness.submit("b", None).starts_with("unavailable: "));
    assert_eq!(harness.ends("a", stopped()), "");
    harness.is("a", Status::Running, "");
    assert_eq!(harness.state.runs(), 0);
    let (_, commanded) = harness.successor();
    assert_eq!(commanded, "run a#1");
}

#[test]
fn requests_that_make_no_sense_are_refused_by_name() {
    let mut harness = Harness::with(Limits {
        jobs_max: 2,
        ..Limits::default()
    });
    harness.submit("tolls", Some(1));
    harness.submit("b", Some(1));
    harness.ends("b", End::Finished { checkpoint: 1 });
    let tolls = || "tolls".to_string();
    let cases = [
        (
            Request::Submit(Harness::record("tolls", None)),
            "name-in-use: there is a job `tolls` already (deploying)",
        ),
        (
            Request::Submit(Harness::record("c", None)),
            "limit-reached: there are 2 jobs, as many as this cluster keeps (jobs_max)",
        ),
        (
            Request::Cancel { job: "toll".into() },
            "job-not-found: there is no job `toll`; did you mean `tolls`?",
        ),
        (
            Request::Stop {
                job: "b".into(),
                savepoint: None,
            },
            "wrong-state: `b` has ended (finished); there is nothing to stop",
        ),
        (
            Request::Rescale {
                job: tolls(),
                parallelism: Some(0),
            },
            "invalid-request: the parallelism of `tolls` can be 1 to 128",
        ),
        (
            Request::Rescale {
                job: tolls(),
                parallelism: Some(129),
            },
            "invalid-request: ",
        ),
        (
            Request::Delete { job: tolls() },
            "wrong-state: `tolls` is deploying; stop or cancel it first",
        ),
    ];
    for (request, expected) in cases {
        let answer = harness.request(request);
        assert!(answer.starts_with(expected), "{answer}");
    }
    assert_eq!(harness.request(Request::Delete { job: "b".into() }), "");
    let refused = harness.request(Request::Restart {
        job: "b".into(),
        allow_duplicates: false,
    });
    assert!(refused.starts_with("wrong-state: `b` is being deleted"), "{refused}");
    assert_eq!(harness.request(Request::Forget { job: "b".into() }), "");
    assert_eq!(harness.submit("c", None), "run c#3");
}
