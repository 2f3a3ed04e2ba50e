//! Error messages of the client and of workers, with their exit codes.

use std::fs;

use crate::test_cluster::{TestCluster, free_port, text, until};

#[test]
fn invalid_requests_are_refused_with_place_and_exit_code() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    #[track_caller]
    fn check(cluster: &TestCluster, arguments: &[&str], code: i32, expected: &str) {
        let (_, stderr) = cluster.cli(arguments, code);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }

    // A pipeline with a mistake: file, line, column and the line itself.
    let wrong = crate::test_cluster::CARS.replace("sum(n) AS total", "sum(m) AS total");
    fs::write(cluster.path("wrong.yaml"), &wrong).expect("a writable folder");
    let at = wrong
        .lines()
        .position(|line| line.contains("sum(m)"))
        .expect("it is there")
        + 1;
    let column = wrong
        .lines()
        .nth(at - 1)
        .and_then(|line| line.find("sum(m)"))
        .expect("it is there")
        + 5;
    for verb in ["submit", "validate", "explain"] {
        check(
            &cluster,
            &["jobs", verb, "wrong.yaml"],
            2,
            &format!("error: wrong.yaml:{at}:{column}: "),
        );
    }
    check(&cluster, &["jobs", "submit", "wrong.yaml"], 2, "sum(m) AS total");
    let output = cluster.cli_at(&cluster.url(), &["jobs", "submit", "wrong.yaml", "-o", "json"]);
    let refused: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(refused["code"], "invalid-pipeline");
    assert_eq!(refused["mistakes"][0]["line"], at);

    let (dry, _) = cluster.cli(&["jobs", "submit", "cars.yaml", "--dry-run"], 0);
    assert!(dry.contains("nothing was submitted"), "{dry}");
    check(&cluster, &["jobs", "describe", "cars"], 3, "`cars`");
    check(&cluster, &["checkpoints", "list", "nobody"], 3, "`nobody`");
    check(&cluster, &["workers", "drain", "nobody"], 3, "`nobody`");
    check(
        &cluster,
        &["jobs", "submit", "cars.yaml", "--from-checkpoint", "nobody/3"],
        3,
        "nobody",
    );
    check(
        &cluster,
        &["jobs", "submit", "cars.yaml", "--name", "no/name"],
        2,
        "no/name",
    );

    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    check(&cluster, &["jobs", "submit", "cars.yaml"], 4, "`cars`");
    check(&cluster, &["jobs", "delete", "cars"], 4, "`cars`");
    check(
        &cluster,
        &["jobs", "wait", "cars", "--for", "cancelled", "--timeout", "100ms"],
        6,
        "it is running",
    );
    check(&cluster, &["jobs", "rescale", "cars", "--parallelism", "0"], 2, "auto");
    check(
        &cluster,
        &["jobs", "rescale", "cars", "--parallelism", "1000"],
        2,
        "128",
    );
    cluster.cli(&["jobs", "cancel", "cars", "--wait"], 0);
    check(
        &cluster,
        &["jobs", "wait", "cars", "--for", "running"],
        1,
        "`cars` is cancelled",
    );
    check(&cluster, &["jobs", "stop", "cars"], 4, "`cars`");

    check(&cluster, &["jobs", "fly"], 2, "unrecognized subcommand");
    check(
        &cluster,
        &["--context", "nowhere", "jobs", "list", "--server", ""],
        2,
        "address",
    );
    let nobody = format!("127.0.0.1:{}", free_port());
    let output = cluster.cli_at(&nobody, &["jobs", "list"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cannot be reached"));
}

#[test]
fn a_worker_that_asks_for_more_than_one_may_have_is_refused_and_ends() {
    let cluster = TestCluster::new();
    let _coordinator = cluster.coordinator();
    let long = "n".repeat(201);
    // Too many slots are refused before the worker connects.
    for (name, slots, why) in [(long.as_str(), "1", "(NAME_BYTES_MAX)"), ("greedy", "1025", "1..=1024")] {
        let mut worker = cluster.start(
            "worker",
            &[
                "worker",
                "--coordinator",
                &cluster.url(),
                "--name",
                name,
                "--slots",
                slots,
                "--listen",
                "127.0.0.1:0",
                "--data-dir",
                "worker",
            ],
        );
        until("it is refused", || worker.has_ended());
        assert!(worker.has_logged(why), "{}", worker.log());
    }
    let workers = cluster.json(&["workers", "list"]);
    assert_eq!(workers["workers"].as_array().map(Vec::len), Some(0), "{workers}");
}

#[test]
fn a_workers_port_is_identified() {
    let cluster = TestCluster::new();
    let _coordinator = cluster.coordinator();
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let arguments = [
        "worker",
        "--coordinator",
        &cluster.url(),
        "--name",
        "w",
        "--listen",
        &listen,
    ];
    let _worker = cluster.start("w", &arguments);
    cluster.until_workers(1);
    let output = cluster.cli_at(&format!("http://{listen}"), &["jobs", "list"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    let said = text(&output.stderr);
    assert!(said.contains("is the data port of worker `w`"), "{said}");
}

#[test]
fn a_pipeline_that_is_too_long_is_refused() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let long = format!("{}# {}\n", crate::test_cluster::CARS, "long".repeat(1 << 20));
    fs::write(cluster.path("long.yaml"), long).expect("a writable folder");
    let (_, refused) = cluster.cli(&["jobs", "submit", "long.yaml"], 2);
    assert!(
        refused.contains("more than 4194304 bytes (TEXT_BYTES_MAX)"),
        "{refused}"
    );
}
