//! Pending output: output of a complete checkpoint that was not published is published by any job that is restored from
//! it.

use millstream_integration_tests::windowed_job::WindowedJob;
use serde_json::Value;

use crate::test_cluster::{CARS, Process, TestCluster, expected, until};

/// Rows per second: slow enough that the job is far from its end when its worker is killed.
const RATE: u32 = 4_000;

/// A job from Kafka to Kafka whose only worker was killed between the checkpoint and the commit of its transaction.
struct InterruptedJob {
    cluster: TestCluster,
    windows: WindowedJob,
    job: String,
    file: String,
    _coordinator: Process,
}

impl InterruptedJob {
    fn new(name: &'static str, own_broker: bool) -> Self {
        let cluster = TestCluster::new();
        let windows = match own_broker {
            true => WindowedJob::with_own_broker(name, &cluster.path("")),
            false => WindowedJob::new(name, &cluster.path("")),
        };
        let windows = windows.expect("an input and its answer");
        windows.create_output("out").expect("a new topic");
        let file = windows
            .pipeline(&cluster.path(""), "out", RATE)
            .expect("a writable folder");
        let file = file.to_str().expect("a path in UTF-8").to_string();
        let job = windows.topic("out");
        let coordinator = cluster.coordinator();
        cluster.set_next_fail_point("in-transaction:3");
        let mut worker = cluster.worker("first");
        cluster.until_workers(1);
        cluster.cli(&["jobs", "submit", &file, "--parallelism", "2"], 0);
        until("the worker dies in a transaction", || worker.has_ended());
        Self {
            cluster,
            windows,
            job,
            file,
            _coordinator: coordinator,
        }
    }

    fn reason(&self) -> String {
        let job = self.cluster.job(&self.job);
        job["reason"].as_str().unwrap_or_default().to_string()
    }
}

#[test]
fn a_stop_publishes_what_the_last_checkpoint_holds_though_no_task_runs() {
    let InterruptedJob {
        cluster, windows, job, ..
    } = &InterruptedJob::new("pending-stop", false);
    let before = windows.broker.records(job).expect("they can be read").len();
    cluster.cli(&["jobs", "stop", job, "--savepoint", "kept", "--wait"], 0);
    let reason = cluster.job(job)["reason"].to_string();
    assert!(
        reason.contains("while it was not running") && !reason.contains("not published"),
        "{reason}"
    );
    let after = windows.broker.records(job).expect("they can be read").len();
    assert!(after > before, "{before} rows before the stop, {after} after it");
    let _worker = cluster.worker("second");
    cluster.until_workers(1);
    cluster.cli(&["jobs", "restart", job], 0);
    cluster.cli(&["jobs", "wait", job, "--for", "finished"], 0);
    windows.check("out").expect("every row once");
}

#[test]
fn a_savepoint_restored_under_another_name_publishes_what_was_pending() {
    let interrupted = InterruptedJob::new("pending-savepoint", true);
    let InterruptedJob {
        cluster,
        windows,
        job,
        file,
        ..
    } = &interrupted;
    windows.broker.freeze().expect("the broker's process");
    cluster.cli(&["jobs", "stop", job, "--savepoint", "kept", "--wait"], 0);
    let reason = interrupted.reason();
    windows.broker.thaw().expect("the broker's process");
    assert!(reason.contains("not published yet"), "{reason}");
    cluster.cli(&["jobs", "delete", job], 0);
    let _worker = cluster.worker("second");
    cluster.until_workers(1);
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
    cluster.cli(&submit, 0);
    cluster.cli(&["jobs", "wait", "again", "--for", "finished"], 0);
    windows.check("out").expect("every row once");
}

/// Creates a cluster with a cancelled job that writes files. The last checkpoint, whose number is returned, has pending
/// output.
fn with_pending_files() -> (TestCluster, [Process; 2], u64) {
    let cluster = TestCluster::new();
    cluster.set_next_fail_point("after-manifest:3");
    let mut coordinator = cluster.coordinator();
    let mut worker = cluster.worker("first");
    cluster.until_workers(1);
    cluster.cli(&["jobs", "submit", "cars.yaml"], 0);
    until("the coordinator dies with a checkpoint recorded", || {
        coordinator.has_ended()
    });
    worker.kill();
    let coordinator = cluster.coordinator();
    until("it leads", || {
        cluster.cli_at(&cluster.url(), &["cluster", "info"]).status.success()
    });
    cluster.cli(&["jobs", "cancel", "cars", "--wait"], 0);
    let listed: Value = cluster.json(&["checkpoints", "list", "cars"]);
    let newest = listed["checkpoints"][0]["checkpoint"].as_u64().expect("a checkpoint");
    let worker = cluster.worker("second");
    cluster.until_workers(1);
    (cluster, [coordinator, worker], newest)
}

#[test]
fn files_that_were_pending_are_published_by_a_job_that_starts_from_the_checkpoint() {
    let (cluster, _processes, newest) = with_pending_files();
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
    cluster.cli(&submit, 0);
    cluster.cli(&["jobs", "wait", "again", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
}

#[test]
fn output_of_a_sink_that_is_gone_is_published_to_where_it_was_written_for() {
    let (cluster, _processes, newest) = with_pending_files();
    let edited = CARS.replace("stats: {", "statistics: {");
    std::fs::write(cluster.path("edited.yaml"), edited).expect("a writable folder");
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
    cluster.cli_with(&[], "other", &submit, 0);
    cluster.cli(&["jobs", "wait", "again", "--for", "finished"], 0);
    let (before, after) = (cluster.lines("out"), cluster.lines("other"));
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
