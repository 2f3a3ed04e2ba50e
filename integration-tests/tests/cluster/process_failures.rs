//! Failures of single processes: the output is that of a run without failures.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::test_cluster::{CARS, TestCluster, expected, free_port, metric, text, until};

#[test]
fn a_job_survives_the_death_of_a_worker_and_of_the_coordinator() {
    let cluster = TestCluster::new();
    let mut coordinator = cluster.coordinator();
    let mut workers = [cluster.worker("a"), cluster.worker("b")];
    cluster.until_workers(2);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 2);

    workers[0].kill();
    cluster.until_checkpoints("cars", 2);
    workers[0] = cluster.worker("a");
    cluster.until_workers(2);

    coordinator.kill();
    coordinator = cluster.coordinator();
    cluster.until_workers(2);
    cluster.until_checkpoints("cars", 1);

    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
    drop(coordinator);
}

#[test]
fn files_that_stay_open_across_checkpoints_survive_the_death_of_a_worker_and_of_the_coordinator() {
    let cluster = TestCluster::new();
    let compacted = CARS.replace(
        r#"{ path: "${OUT}" }"#,
        r#"{ path: "${OUT}", auto-compaction: "true" }"#,
    );
    assert_ne!(compacted, CARS);
    std::fs::write(cluster.path("cars.yaml"), compacted).expect("a writable folder");
    let mut coordinator = cluster.coordinator();
    let mut workers = [cluster.worker("a"), cluster.worker("b")];
    cluster.until_workers(2);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 4);
    assert_eq!(cluster.lines("out"), [""; 0], "no file is old or large enough");

    // The restore publishes the rows of the checkpoint.
    workers[0].kill();
    cluster.until_checkpoints("cars", 2);
    assert!(!cluster.lines("out").is_empty());
    workers[0] = cluster.worker("a");
    cluster.until_workers(2);

    // The tasks go on with their open files.
    coordinator.kill();
    coordinator = cluster.coordinator();
    cluster.until_workers(2);
    cluster.until_checkpoints("cars", 1);

    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
    drop(coordinator);
}

#[test]
fn a_command_whose_coordinator_dies_before_it_answers_has_an_unknown_outcome() {
    let cluster = TestCluster::new();
    std::fs::write(cluster.path("cars.yaml"), CARS.replace("300ms", "1h")).expect("a writable folder");
    // The coordinator is killed by the first request for a checkpoint.
    cluster.set_next_fail_point("manifest");
    let mut coordinator = cluster.coordinator();
    let _worker = cluster.worker("a");
    cluster.until_workers(1);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    let (_, said) = cluster.cli(&["checkpoints", "create", "cars", "-o", "json"], 5);
    assert!(said.contains("\"code\":\"outcome-unknown\""), "{said}");
    assert!(said.contains("engine-cli checkpoints list cars"), "{said}");
    until("it has died", || coordinator.has_ended());
    // There is no coordinator: the request was never sent.
    let (_, said) = cluster.cli(&["checkpoints", "create", "cars", "-o", "json"], 5);
    assert!(said.contains("\"code\":\"unavailable\""), "{said}");
}

#[test]
fn a_standby_takes_over_and_the_client_finds_it() {
    let cluster = TestCluster::new();
    let mut first = cluster.coordinator();
    until("the first leads", || {
        cluster.cli_at(&cluster.url(), &["cluster", "info"]).status.code() == Some(0)
    });
    let second_port = free_port();
    let _second = cluster.coordinator_at(second_port);
    let standby = format!("http://127.0.0.1:{second_port}");
    let both = format!("{},{standby}", cluster.url());
    let _worker = cluster.worker_of("a", &both);
    cluster.until_workers(1);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 1);
    // A standby answers with the leader's address.
    until("the standby knows the leader", || {
        cluster.cli_at(&standby, &["jobs", "describe", "cars"]).status.code() == Some(0)
    });

    first.kill();
    let output = cluster.cli_at(&both, &["jobs", "wait", "cars", "--for", "finished"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(cluster.lines("out"), expected());
}

#[test]
fn a_worker_that_is_asked_to_leave_hands_its_tasks_over() {
    let cluster = TestCluster::new();
    let _coordinator = cluster.coordinator();
    let mut leaving = cluster.worker("a");
    cluster.until_workers(1);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 1);
    let _stays = cluster.worker("b");
    cluster.until_workers(2);
    leaving.signal("TERM");
    until("the worker has left", || leaving.has_ended());
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
}

/// Returns true if the job was not disturbed: one attempt, no restart.
#[track_caller]
fn has_gone_on(cluster: &TestCluster) {
    let job = cluster.job("cars");
    assert_eq!((&job["attempt"], &job["restarts"]), (&1.into(), &0.into()), "{job}");
    let transitions = job["transitions"].as_array().expect("a list");
    let states: Vec<&str> = transitions.iter().filter_map(|one| one["state"].as_str()).collect();
    assert!(!states.contains(&"restarting"), "{states:?}");
}

#[test]
fn tasks_go_on_when_the_leader_is_killed_and_a_standby_takes_them_over() {
    let cluster = TestCluster::new();
    let mut first = cluster.coordinator();
    let second_port = free_port();
    until("the first leads", || {
        cluster.cli_at(&cluster.url(), &["cluster", "info"]).status.code() == Some(0)
    });
    let metrics = free_port();
    let (listen, http) = (format!("127.0.0.1:{second_port}"), format!("127.0.0.1:{metrics}"));
    let second = [
        "coordinator",
        "--data-dir",
        "data",
        "--listen",
        &listen,
        "--http",
        &http,
    ];
    let _second = cluster.start("second", &second);
    let standby = format!("http://127.0.0.1:{second_port}");
    let both = format!("{},{standby}", cluster.url());
    let _workers = [cluster.worker_of("a", &both), cluster.worker_of("b", &both)];
    cluster.until_workers(2);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 2);

    let before = cluster.checkpoints("cars");
    first.kill();
    let killed = Instant::now();
    let at_standby = cluster.at(second_port);
    until("the standby checkpoints the job", || {
        at_standby.checkpoints("cars") > before
    });
    println!(
        "a checkpoint {:.1} s after the leader was killed",
        killed.elapsed().as_secs_f64()
    );
    has_gone_on(&at_standby);
    // The second leader continues after the output published by the first.
    until("its metrics say so", || {
        metric(metrics, "millstream_leading") == 1.0 && metric(metrics, "millstream_workers") == 2.0
    });
    until("the job's, too", || {
        metric(metrics, "millstream_checkpoint_state_bytes") > 0.0
    });
    assert!(metric(metrics, "millstream_job_slots") > 0.0);
    at_standby.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    has_gone_on(&at_standby);
    assert_eq!(cluster.lines("out"), expected());
}

#[test]
fn tasks_go_on_while_the_only_coordinator_is_away() {
    let cluster = TestCluster::new();
    let mut coordinator = cluster.coordinator();
    let (metrics, worker) = cluster.worker_with_metrics("a");
    let _other = cluster.worker("b");
    cluster.until_workers(2);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 2);

    let checkpoints = cluster.checkpoints("cars");
    coordinator.kill();
    let rows = || metric(metrics, "millstream_rows_in_total");
    let before = rows();
    until("rows flow while nobody coordinates", || rows() > before + 1000.0);
    coordinator = cluster.coordinator();
    let killed = Instant::now();
    until("the job is checkpointed again", || {
        cluster.checkpoints("cars") > checkpoints
    });
    println!(
        "a checkpoint {:.1} s after the coordinator was started",
        killed.elapsed().as_secs_f64()
    );
    has_gone_on(&cluster);

    // A graceful shutdown leaves the tasks running, too.
    let checkpoints = cluster.checkpoints("cars");
    coordinator.signal("TERM");
    until("the coordinator has ended", || coordinator.has_ended());
    coordinator = cluster.coordinator();
    until("the job is checkpointed again", || {
        cluster.checkpoints("cars") > checkpoints
    });
    has_gone_on(&cluster);
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    has_gone_on(&cluster);
    assert_eq!(cluster.lines("out"), expected());
    drop((coordinator, worker));
}

#[test]
fn tasks_go_on_when_the_only_coordinator_was_frozen() {
    let cluster = TestCluster::new();
    let coordinator = cluster.coordinator();
    let _workers = [cluster.worker("a"), cluster.worker("b")];
    cluster.until_workers(2);
    cluster.cli_with(
        &[("RATE", "1000")],
        "out",
        &["jobs", "submit", "cars.yaml", "--wait"],
        0,
    );
    cluster.until_checkpoints("cars", 2);

    // Longer than the workers' timeout.
    coordinator.signal("STOP");
    sleep(Duration::from_secs(8));
    coordinator.signal("CONT");
    until("it has taken over from itself", || {
        let job = cluster.cli_at(&cluster.url(), &["jobs", "describe", "cars"]);
        text(&job.stdout).contains("continued under a new coordinator")
    });
    has_gone_on(&cluster);
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    has_gone_on(&cluster);
    assert_eq!(cluster.lines("out"), expected());
}

#[test]
fn a_leader_that_was_frozen_finds_itself_superseded_and_leaves_the_tasks_alone() {
    let cluster = TestCluster::new();
    let mut first = cluster.coordinator();
    let second_port = free_port();
    until("the first leads", || {
        cluster.cli_at(&cluster.url(), &["cluster", "info"]).status.code() == Some(0)
    });
    let _second = cluster.coordinator_at(second_port);
    let both = format!("{},http://127.0.0.1:{second_port}", cluster.url());
    let _workers = [cluster.worker_of("a", &both), cluster.worker_of("b", &both)];
    cluster.until_workers(2);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 2);

    let before = cluster.checkpoints("cars");
    // The workers are still registered with it when it is resumed.
    first.signal("STOP");
    let at_standby = cluster.at(second_port);
    until("the standby leads", || {
        let output = at_standby.cli_at(&at_standby.url(), &["cluster", "info", "-o", "json"]);
        let info: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        info["is_leader"] == true
    });
    first.signal("CONT");
    until("the new leader checkpoints the job", || {
        at_standby.checkpoints("cars") > before
    });
    has_gone_on(&at_standby);
    at_standby.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    has_gone_on(&at_standby);
    assert_eq!(cluster.lines("out"), expected());
    assert!(!first.has_ended(), "it stands by");
}

/// Pipeline that filters booth 7 without an exchange, so that each worker is a region.
pub const KEPT: &str = r#"name: kept
parallelism: 2
checkpoints: { interval: 300ms, delivery: exactly-once }
sources:
  cars:
    connector: datagen
    options:
      number-of-rows: "20000"
      rows-per-second: "2000"
      fields.n.kind: sequence
      fields.n.start: "0"
      fields.n.end: "19999"
    columns: { n: bigint }
steps:
  others:
    sql: SELECT n, n + 1 AS next FROM cars WHERE MOD(n, 10) <> 7
sinks:
  kept: { from: others, connector: filesystem, options: { path: "${OUT}" }, format: csv }
"#;

#[test]
fn the_death_of_a_worker_restarts_only_the_region_that_ran_on_it() {
    let cluster = TestCluster::new();
    std::fs::write(cluster.path("kept.yaml"), KEPT).expect("a writable folder");
    let _coordinator = cluster.coordinator();
    let mut workers = [cluster.worker("a"), cluster.worker("b")];
    cluster.until_workers(2);
    cluster.cli(&["jobs", "submit", "kept.yaml", "--wait"], 0);
    cluster.until_checkpoints("kept", 2);
    let ended = "tasks have ended";
    assert_eq!(cluster.job("kept")["placement"], serde_json::json!(["a", "b"]));

    let runs_again = |restarts: u64| {
        let at = Instant::now();
        until("it runs again", || {
            let job = cluster.job("kept");
            job["restarts"] == restarts && job["state"] == "running"
        });
        println!("it runs again {:.1} s after the kill", at.elapsed().as_secs_f64());
    };

    workers[0].kill();
    runs_again(1);
    cluster.until_checkpoints("kept", 2);
    assert!(!workers[1].has_logged(ended), "what ran elsewhere was ended");
    let job = cluster.job("kept");
    assert_eq!(
        (&job["placement"], &job["attempt"]),
        (&serde_json::json!(["b", "b"]), &1.into())
    );

    // Both regions are on one worker now.
    workers[0] = cluster.worker("a");
    cluster.until_workers(2);
    workers[1].kill();
    runs_again(2);
    cluster.cli(&["jobs", "wait", "kept", "--for", "finished"], 0);
    let kept = (0..20_000).filter(|n| n % 10 != 7).map(|n| format!("{n},{}", n + 1));
    let mut kept: Vec<String> = kept.collect();
    kept.sort();
    assert_eq!(cluster.lines("out"), kept);
}
