//! Output that a complete checkpoint holds when nobody is left to publish it: whoever goes on from it publishes it.

use millstream_integration_tests::windows::Windows;
use serde_json::Value;

use crate::place::{CARS, Place, Process, expected, until};

/// Rows per second: the job is far from its end when its worker dies.
const RATE: u32 = 4_000;

/// A job from topic to topic whose only worker died between the checkpoint and its transaction's commit.
struct Interrupted {
    place: Place,
    windows: Windows,
    job: String,
    file: String,
    _coordinator: Process,
}

impl Interrupted {
    fn new(name: &'static str, own_broker: bool) -> Self {
        let place = Place::new();
        let windows = match own_broker {
            true => Windows::with_own_broker(name, &place.path("")),
            false => Windows::new(name, &place.path("")),
        };
        let windows = windows.expect("an input and its answer");
        windows.create_output("out").expect("a new topic");
        let file = windows
            .pipeline(&place.path(""), "out", RATE)
            .expect("a writable folder");
        let file = file.to_str().expect("a path in UTF-8").to_string();
        let job = windows.topic("out");
        let coordinator = place.coordinator();
        place.arm_next("in-transaction:3");
        let mut worker = place.worker("first");
        place.until_workers(1);
        place.cli(&["jobs", "submit", &file, "--parallelism", "2"], 0);
        until("the worker dies in a transaction", || worker.has_ended());
        Self {
            place,
            windows,
            job,
            file,
            _coordinator: coordinator,
        }
    }

    fn reason(&self) -> String {
        let job = self.place.job(&self.job);
        job["reason"].as_str().unwrap_or_default().to_string()
    }
}

#[test]
fn a_stop_publishes_what_the_last_checkpoint_holds_though_no_task_runs() {
    let Interrupted {
        place, windows, job, ..
    } = &Interrupted::new("pending-stop", false);
    let before = windows.broker.records(job).expect("they can be read").len();
    place.cli(&["jobs", "stop", job, "--savepoint", "kept", "--wait"], 0);
    let reason = place.job(job)["reason"].to_string();
    assert!(
        reason.contains("while it did not run") && !reason.contains("not published"),
        "{reason}"
    );
    let after = windows.broker.records(job).expect("they can be read").len();
    assert!(after > before, "{before} rows before the stop, {after} after it");
    let _worker = place.worker("second");
    place.until_workers(1);
    place.cli(&["jobs", "restart", job], 0);
    place.cli(&["jobs", "wait", job, "--for", "finished"], 0);
    windows.check("out").expect("every row once");
}

#[test]
fn a_savepoint_restored_under_another_name_publishes_what_was_pending() {
    let interrupted = Interrupted::new("pending-savepoint", true);
    let Interrupted {
        place,
        windows,
        job,
        file,
        ..
    } = &interrupted;
    windows.broker.freeze().expect("the broker's process");
    place.cli(&["jobs", "stop", job, "--savepoint", "kept", "--wait"], 0);
    let reason = interrupted.reason();
    windows.broker.thaw().expect("the broker's process");
    assert!(reason.contains("not published yet"), "{reason}");
    place.cli(&["jobs", "delete", job], 0);
    let _worker = place.worker("second");
    place.until_workers(1);
    let from = format!("{job}/kept");
    let submit = [
        "jobs",
        "submit",
        file,
        "--name",
        "again",
        "--from-checkpoint",
        &from,
        "--parallelism",
        "1",
    ];
    place.cli(&submit, 0);
    place.cli(&["jobs", "wait", "again", "--for", "finished"], 0);
    windows.check("out").expect("every row once");
}

/// A cluster whose job of files was ended at once, with output in its last checkpoint (whose number it is) that
/// nobody has published.
fn with_pending_files() -> (Place, [Process; 2], u64) {
    let place = Place::new();
    place.arm_next("after-manifest:3");
    let mut coordinator = place.coordinator();
    let mut worker = place.worker("first");
    place.until_workers(1);
    place.cli(&["jobs", "submit", "cars.yaml"], 0);
    until("the coordinator dies with a checkpoint recorded", || {
        coordinator.has_ended()
    });
    worker.kill();
    let coordinator = place.coordinator();
    until("it leads", || {
        place.cli_at(&place.url(), &["cluster", "info"]).status.success()
    });
    place.cli(&["jobs", "cancel", "cars", "--wait"], 0);
    let listed: Value = place.json(&["checkpoints", "list", "cars"]);
    let newest = listed["checkpoints"][0]["checkpoint"].as_u64().expect("a checkpoint");
    let worker = place.worker("second");
    place.until_workers(1);
    (place, [coordinator, worker], newest)
}

#[test]
fn files_that_were_pending_are_published_by_a_job_that_starts_from_the_checkpoint() {
    let (place, _processes, newest) = with_pending_files();
    let from = format!("cars/{newest}");
    let submit = [
        "jobs",
        "submit",
        "cars.yaml",
        "--name",
        "again",
        "--from-checkpoint",
        &from,
    ];
    place.cli(&submit, 0);
    place.cli(&["jobs", "wait", "again", "--for", "finished"], 0);
    assert_eq!(place.lines("out"), expected());
}

#[test]
fn output_of_a_sink_that_is_gone_is_published_to_where_it_was_written_for() {
    let (place, _processes, newest) = with_pending_files();
    let edited = CARS.replace("stats: {", "statistics: {");
    std::fs::write(place.path("edited.yaml"), edited).expect("a writable folder");
    let from = format!("cars/{newest}");
    let submit = [
        "jobs",
        "submit",
        "edited.yaml",
        "--name",
        "again",
        "--from-checkpoint",
        &from,
    ];
    place.cli_with(&[], "other", &submit, 0);
    place.cli(&["jobs", "wait", "again", "--for", "finished"], 0);
    let (before, after) = (place.lines("out"), place.lines("other"));
    assert!(
        !before.is_empty() && !after.is_empty(),
        "{} {}",
        before.len(),
        after.len()
    );
    let mut all = [before, after].concat();
    all.sort();
    assert_eq!(all, expected());
}
