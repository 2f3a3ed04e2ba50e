//! A new coordinator, tasks that run on, and regions that begin anew.

use super::super::*;
use super::bench::Bench;

/// A job that runs on two workers as attempt `x`, and what a new coordinator makes of it.
fn taken_over() -> Bench {
    let mut bench = Bench::new();
    bench.attach("w", 1);
    bench.attach("v", 1);
    bench.submit("a", Some(2));
    bench.wants("a");
    bench.places("a", "x");
    bench.runs("a");
    let (successor, commanded) = bench.successor();
    assert_eq!(commanded, "run a#1");
    successor
}

#[test]
fn tasks_that_come_back_with_all_their_workers_go_on() {
    let mut bench = taken_over();
    bench.is("a", Status::Running, "the new coordinator waits for workers v, w");
    assert_eq!(bench.attach_with("w", 2, &["x"]), "");
    bench.is("a", Status::Running, "waits for worker v");
    // Their slots are theirs meanwhile.
    bench.submit("b", Some(2));
    assert_eq!(bench.wants("b"), "");
    assert_eq!(bench.attach_with("v", 1, &["x"]), "adopt a");
    bench.is("a", Status::Running, "its tasks went on");
    let transitions = bench.state.jobs["a"].record.transitions.len();
    assert_eq!(bench.runs("a"), "");
    let record = &bench.state.jobs["a"].record;
    assert_eq!((record.transitions.len(), record.attempts), (transitions, 1));
}

#[test]
fn tasks_that_do_not_all_come_back_are_given_up() {
    let mut bench = taken_over();
    assert_eq!(bench.attach_with("w", 1, &["x"]), "");
    let abandoned = "abandon a x: worker v has come back without its tasks";
    assert_eq!(bench.attach_with("v", 1, &["y"]), abandoned);
    assert_eq!(bench.wants("a"), "grant a v w");

    let mut bench = taken_over();
    assert_eq!(bench.attach_with("w", 1, &["x"]), "");
    bench.lose("w");
    let mut commanded = String::new();
    while commanded.is_empty() {
        commanded = bench.tick();
    }
    let abandoned = "abandon a x: workers v, w did not come back within 10 s";
    assert!(commanded.starts_with(abandoned), "{commanded}");
    assert_eq!(bench.wants("a"), "");
    assert_eq!(bench.state.jobs["a"].record.placement, None);
}

#[test]
fn a_clock_that_is_set_changes_no_deadline() {
    let hour_us = 3_600_000_000;
    for step_us in [-hour_us, hour_us, 400 * 24 * hour_us] {
        let mut bench = taken_over();
        let wait_us = bench.state.next_tick_us().unwrap() - bench.now_us;
        bench.now_us += step_us;
        bench.state.on_clock_step(step_us);
        assert_eq!(bench.state.next_tick_us().unwrap() - bench.now_us, wait_us);
        // The tasks have the same time to come back, no less and no more.
        bench.now_us += wait_us - 2;
        assert_eq!(bench.event(Event::Tick), "");
        let commanded = bench.event(Event::Tick);
        assert!(commanded.starts_with("abandon a x"), "{commanded}");
    }
}

#[test]
fn a_region_waits_for_a_place_while_the_others_run_and_the_journal_knows_its_new_id() {
    let mut bench = Bench::new();
    bench.attach("v", 1);
    bench.attach("w", 1);
    bench.submit("a", Some(2));
    assert_eq!(bench.wants("a"), "grant a v w");
    bench.places_each("a", &["x-0", "x-1"]);
    bench.runs("a");
    // Its tasks failed, its worker is there.
    assert_eq!(bench.displaces("a", &[1]), "grant a v w");
    bench.lose("w");
    assert_eq!(bench.displaces("a", &[1]), "");
    bench.is("a", Status::Running, "waiting for 1 slots");
    assert_eq!(bench.attach("u", 1), "grant a v u");
    assert_eq!(bench.relocates("a", &[1], "y-1"), "");

    let (mut successor, commanded) = bench.successor();
    assert_eq!(commanded, "run a#1");
    assert_eq!(successor.attach_with("w", 1, &["x-1"]), "");
    assert_eq!(successor.attach_with("u", 1, &["y-1"]), "");
    assert_eq!(successor.attach_with("v", 1, &["x-0"]), "adopt a");

    let (mut successor, _) = bench.successor();
    successor.attach_with("v", 1, &["x-0"]);
    let abandoned = "abandon a x-0 y-1: worker u has come back without its tasks";
    assert_eq!(successor.attach_with("u", 1, &["x-1"]), abandoned);
}

#[test]
fn a_region_of_a_job_that_follows_the_slots_waits_for_none_and_what_has_ended_waits_for_nothing() {
    let mut bench = Bench::new();
    bench.attach("v", 1);
    bench.attach("w", 1);
    bench.submit("a", None);
    assert_eq!(bench.wants("a"), "grant a v w");
    bench.lose("w");
    assert_eq!(bench.displaces("a", &[1]), "refuse a");

    let mut bench = Bench::new();
    bench.attach("v", 1);
    bench.attach("w", 1);
    bench.submit("a", Some(2));
    bench.wants("a");
    bench.lose("w");
    assert_eq!(bench.displaces("a", &[1]), "");
    assert_eq!(bench.returns("a"), "");
    assert_eq!(bench.attach("u", 2), "");
    assert_eq!(bench.wants("a"), "grant a u v");
}

#[test]
fn what_is_stopped_or_over_is_not_taken_over_as_if_it_were_not() {
    let mut bench = Bench::new();
    bench.attach("w", 3);
    for name in ["stopped", "cancelled", "over"] {
        bench.submit(name, Some(1));
        bench.wants(name);
        bench.places(name, name);
        bench.runs(name);
    }
    let (job, savepoint) = ("stopped".to_string(), None);
    bench.request(Request::Stop { job, savepoint });
    bench.request(Request::Cancel {
        job: "cancelled".into(),
    });
    bench.ends("over", End::Finished { checkpoint: 1 });
    let (mut successor, commanded) = bench.successor();
    assert_eq!(
        commanded,
        "run cancelled#1, abort cancelled, run stopped#2, stop stopped"
    );
    assert_eq!(successor.attach_with("w", 3, &["stopped"]), "adopt stopped");
    successor.is("stopped", Status::Stopping, "");
}
