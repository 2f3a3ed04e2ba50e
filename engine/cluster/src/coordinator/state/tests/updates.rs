//! Another pipeline for a job: tried, confirmed or undone, whoever leads.

use super::super::*;
use super::harness::Harness;
use crate::coordinator::ledger::Update;

fn a() -> String {
    "a".into()
}

fn update(pipeline: &str) -> Request {
    let resolved = millstream_proto::v1::ResolvedJob {
        name: pipeline.into(),
        ..Default::default()
    };
    Request::Update {
        job: a(),
        update: Box::new(Update {
            resolved: std::sync::Arc::new(resolved),
            parallelism: Some(2),
            max_parallelism: 128,
            accept_changed_meaning: false,
            allow_dropped_state: false,
            was_running: false,
        }),
    }
}

/// The pipeline of the job, and whether it is that of an update without a checkpoint.
fn pipeline(harness: &Harness) -> (&str, Option<u32>, bool) {
    let record = &harness.state.jobs["a"].record;
    (
        &record.resolved.name,
        record.parallelism,
        record.tried_update().is_some(),
    )
}

fn failed() -> End {
    End::Failed {
        reason: "the sink refuses it".into(),
    }
}

#[test]
fn the_old_pipeline_is_the_jobs_until_its_tasks_have_ended() {
    let mut harness = Harness::running();
    assert_eq!(harness.request(update("new")), "stop a");
    harness.is("a", Status::Restarting, "updating the pipeline");
    assert_eq!(pipeline(&harness), ("", Some(1), false));
    assert_eq!(harness.request(update("new")), "", "asked for again it is no mistake");
    let other = harness.request(update("third"));
    assert!(other.starts_with("wrong-state: `a` is being updated"), "{other}");

    // Whoever takes the tasks over now takes over those of the old pipeline, and goes on with the update.
    let (mut next, commanded) = harness.successor();
    assert_eq!(commanded, "run a#1, stop a");
    assert_eq!(pipeline(&next), ("", Some(1), false));
    assert_eq!(next.attach_with("w", 2, &["x"]), "adopt a");

    for mut harness in [harness, next] {
        let run = harness.ends("a", End::Stopped { checkpoint: 3 });
        assert!(run.starts_with("run a#"), "{run}");
        assert_eq!(pipeline(&harness), ("new", Some(2), true));
        let (next, commanded) = harness.successor();
        assert_eq!(commanded, "run a#1");
        assert_eq!(pipeline(&next), ("new", Some(2), true));
    }
}

/// A job whose new pipeline runs, without a checkpoint.
fn tried() -> Harness {
    let mut harness = Harness::running();
    harness.request(update("new"));
    harness.ends("a", End::Stopped { checkpoint: 3 });
    harness.wants("a");
    harness.places("a", "y");
    harness.runs("a");
    harness
}

#[test]
fn a_new_pipeline_that_fails_before_its_first_checkpoint_is_undone() {
    let mut harness = tried();
    assert_eq!(harness.ends("a", failed()), "run a#3");
    let reason = "the new pipeline failed: the sink refuses it; the job has its old pipeline again";
    harness.is("a", Status::Deploying, reason);
    assert_eq!(pipeline(&harness), ("", Some(1), false));
    let (next, commanded) = harness.successor();
    assert_eq!(commanded, "run a#1");
    assert_eq!(pipeline(&next), ("", Some(1), false));
    // The old one has no other to go back to.
    assert_eq!(harness.ends("a", failed()), "");
    harness.is("a", Status::Failed, "the sink refuses it");
    // A job that did not run before stays as it was.
    assert_eq!(harness.request(update("new")), "run a#4");
    assert_eq!(harness.ends("a", failed()), "");
    harness.is("a", Status::Failed, reason);
    assert_eq!(pipeline(&harness), ("", Some(1), false));
}

#[test]
fn a_new_pipeline_with_a_checkpoint_is_the_jobs() {
    let mut harness = tried();
    let run = harness.run_of("a");
    assert_eq!(harness.event(Event::UpdateConfirmed { job: a(), run }), "");
    assert_eq!(pipeline(&harness), ("new", Some(2), false));
    assert_eq!(harness.ends("a", failed()), "");
    harness.is("a", Status::Failed, "the sink refuses it");
    assert_eq!(pipeline(&harness), ("new", Some(2), false));

    let mut stopped = tried();
    stopped.request(Request::Stop {
        job: a(),
        savepoint: None,
    });
    stopped.ends("a", End::Stopped { checkpoint: 4 });
    assert_eq!(
        pipeline(&stopped),
        ("new", Some(2), false),
        "its last checkpoint is the new one's"
    );
}

#[test]
fn a_job_that_is_stopped_during_an_update_keeps_its_pipeline() {
    let mut harness = Harness::running();
    harness.request(update("new"));
    harness.request(Request::Stop {
        job: a(),
        savepoint: None,
    });
    harness.ends("a", End::Stopped { checkpoint: 3 });
    harness.is("a", Status::Stopped, "");
    let restart = Request::Restart {
        job: a(),
        allow_duplicates: false,
    };
    harness.request(restart);
    assert_eq!(pipeline(&harness), ("", Some(1), false));

    // Cancelled while it was tried: nothing says that it works.
    let mut harness = tried();
    harness.request(Request::Cancel { job: a() });
    harness.ends("a", End::aborted(Some(3)));
    harness.is("a", Status::Cancelled, "");
    assert_eq!(pipeline(&harness), ("new", Some(2), true));
    assert_eq!(harness.request(update("third")), "run a#3");
    assert_eq!(pipeline(&harness), ("third", Some(2), true));
    harness.ends("a", failed());
    assert_eq!(pipeline(&harness).0, "", "the last one that had a checkpoint");
}

#[test]
fn a_finished_job_has_nothing_to_update() {
    let mut harness = Harness::running();
    harness.ends("a", End::Finished { checkpoint: 3 });
    let refused = harness.request(update("new"));
    assert!(refused.starts_with("wrong-state: `a` has finished"), "{refused}");
}
