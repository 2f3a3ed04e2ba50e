//! A new coordinator, tasks that run on, and regions that begin anew.

use super::super::*;
use super::harness::Harness;

/// A job that runs on two workers as attempt `x`, and what a new coordinator makes of it.
fn taken_over() -> Harness {
    let mut harness = Harness::new();
    harness.attach("w", 1);
    harness.attach("v", 1);
    harness.submit("a", Some(2));
    harness.wants("a");
    harness.places("a", "x");
    harness.runs("a");
    let (successor, commanded) = harness.successor();
    assert_eq!(commanded, "run a#1");
    successor
}

#[test]
fn tasks_that_come_back_with_all_their_workers_go_on() {
    let mut harness = taken_over();
    harness.is("a", Status::Running, "the new coordinator waits for workers v, w");
    assert_eq!(harness.attach_with("w", 2, &["x"]), "");
    harness.is("a", Status::Running, "waits for worker v");
    // Their slots are theirs meanwhile.
    harness.submit("b", Some(2));
    assert_eq!(harness.wants("b"), "");
    assert_eq!(harness.attach_with("v", 1, &["x"]), "adopt a");
    harness.is("a", Status::Running, "its tasks continued");
    let transitions = harness.state.jobs["a"].record.transitions.len();
    assert_eq!(harness.runs("a"), "");
    let record = &harness.state.jobs["a"].record;
    assert_eq!((record.transitions.len(), record.attempts), (transitions, 1));
}

#[test]
fn tasks_that_do_not_all_come_back_are_given_up() {
    let mut harness = taken_over();
    assert_eq!(harness.attach_with("w", 1, &["x"]), "");
    let abandoned = "abandon a x: worker v attached without its tasks";
    assert_eq!(harness.attach_with("v", 1, &["y"]), abandoned);
    assert_eq!(harness.wants("a"), "grant a v w");

    let mut harness = taken_over();
    assert_eq!(harness.attach_with("w", 1, &["x"]), "");
    harness.lose("w");
    let mut commanded = String::new();
    while commanded.is_empty() {
        commanded = harness.tick();
    }
    let abandoned = "abandon a x: workers v, w did not attach to the new coordinator within 10 s";
    assert!(commanded.starts_with(abandoned), "{commanded}");
    assert_eq!(harness.wants("a"), "");
    assert_eq!(harness.state.jobs["a"].record.placement, None);
}

#[test]
fn a_clock_that_is_set_changes_no_deadline() {
    let hour_us = 3_600_000_000;
    for step_us in [-hour_us, hour_us, 400 * 24 * hour_us] {
        let mut harness = taken_over();
        let wait_us = harness.state.next_tick_us().unwrap() - harness.now_us;
        harness.now_us += step_us;
        harness.state.on_clock_step(step_us);
        assert_eq!(harness.state.next_tick_us().unwrap() - harness.now_us, wait_us);
        // The tasks have the same time to come back, no less and no more.
        harness.now_us += wait_us - 2;
        assert_eq!(harness.event(Event::Tick), "");
        let commanded = harness.event(Event::Tick);
        assert!(commanded.starts_with("abandon a x"), "{commanded}");
    }
}

#[test]
fn a_region_waits_for_a_place_while_the_others_run_and_the_journal_knows_its_new_id() {
    let mut harness = Harness::new();
    harness.attach("v", 1);
    harness.attach("w", 1);
    harness.submit("a", Some(2));
    assert_eq!(harness.wants("a"), "grant a v w");
    harness.places_each("a", &["x-0", "x-1"]);
    harness.runs("a");
    // Its tasks failed, its worker is there.
    assert_eq!(harness.displaces("a", &[1]), "grant a v w");
    harness.lose("w");
    assert_eq!(harness.displaces("a", &[1]), "");
    harness.is("a", Status::Running, "waiting for 1 slots");
    assert_eq!(harness.attach("u", 1), "grant a v u");
    assert_eq!(harness.relocates("a", &[1], "y-1"), "");

    let (mut successor, commanded) = harness.successor();
    assert_eq!(commanded, "run a#1");
    assert_eq!(successor.attach_with("w", 1, &["x-1"]), "");
    assert_eq!(successor.attach_with("u", 1, &["y-1"]), "");
    assert_eq!(successor.attach_with("v", 1, &["x-0"]), "adopt a");

    let (mut successor, _) = harness.successor();
    successor.attach_with("v", 1, &["x-0"]);
    let abandoned = "abandon a x-0 y-1: worker u attached without its tasks";
    assert_eq!(successor.attach_with("u", 1, &["x-1"]), abandoned);
}

#[test]
fn a_region_of_a_job_that_follows_the_slots_waits_for_none_and_what_has_ended_waits_for_nothing() {
    let mut harness = Harness::new();
    harness.attach("v", 1);
    harness.attach("w", 1);
    harness.submit("a", None);
    assert_eq!(harness.wants("a"), "grant a v w");
    harness.lose("w");
    assert_eq!(harness.displaces("a", &[1]), "refuse a");

    let mut harness = Harness::new();
    harness.attach("v", 1);
    harness.attach("w", 1);
    harness.submit("a", Some(2));
    harness.wants("a");
    harness.lose("w");
    assert_eq!(harness.displaces("a", &[1]), "");
    assert_eq!(harness.returns("a"), "");
    assert_eq!(harness.attach("u", 2), "");
    assert_eq!(harness.wants("a"), "grant a u v");
}

#[test]
fn what_is_stopped_or_over_is_not_taken_over_as_if_it_were_not() {
    let mut harness = Harness::new();
    harness.attach("w", 3);
    for name in ["stopped", "cancelled", "over"] {
        harness.submit(name, Some(1));
        harness.wants(name);
        harness.places(name, name);
        harness.runs(name);
    }
    let (job, savepoint) = ("stopped".to_string(), None);
    harness.request(Request::Stop { job, savepoint });
    harness.request(Request::Cancel {
        job: "cancelled".into(),
    });
    harness.ends("over", End::Finished { checkpoint: 1 });
    let (mut successor, commanded) = harness.successor();
    assert_eq!(
        commanded,
        "run cancelled#1, abort cancelled, run stopped#2, stop stopped"
    );
    assert_eq!(successor.attach_with("w", 3, &["stopped"]), "adopt stopped");
    successor.is("stopped", Status::Stopping, "");
}
