//! Commands that act on a healthy job.

use crate::test_cluster::{CARS, TestCluster, example, expected, until};

#[test]
fn a_job_is_stopped_with_a_savepoint_goes_on_and_is_replayed() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let (said, _) = cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    assert_eq!(said, "cars: running\n");
    let (listed, _) = cluster.cli(&["jobs", "list", "-o", "name"], 0);
    assert_eq!(listed, "cars\n");
    cluster.until_checkpoints("cars", 2);

    cluster.cli(&["savepoints", "create", "cars", "early"], 0);
    let (said, _) = cluster.cli(&["jobs", "stop", "cars", "--savepoint", "kept", "--wait"], 0);
    assert!(said.starts_with("cars: stopped"), "{said}");
    assert!(said.ends_with("savepoint `kept`\n"), "{said}");
    let savepoints = cluster.json(&["savepoints", "list", "cars"]);
    let names: Vec<&str> = savepoints["checkpoints"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|kept| kept["savepoint"].as_str().expect("a name"))
        .collect();
    assert_eq!(names, ["kept", "early"], "newest first");
    let detail = cluster.json(&["checkpoints", "inspect", "cars/kept"]);
    assert!(!detail["operators"].as_array().expect("a list").is_empty(), "{detail}");

    cluster.cli(&["jobs", "restart", "cars", "--wait"], 0);
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());

    // Restored from the middle under another name into another folder: the rest of the output, once.
    let replay = [
        "jobs",
        "submit",
        "cars.yaml",
        "--from-checkpoint",
        "cars/early",
        "--name",
        "replayed",
    ];
    cluster.cli_with(&[], "again", &replay, 0);
    cluster.cli(&["jobs", "wait", "replayed", "--for", "finished"], 0);
    let (again, whole) = (cluster.lines("again"), expected());
    assert!(!again.is_empty());
    assert!(again.iter().all(|row| whole.contains(row)));
    assert!(again.windows(2).all(|pair| pair[0] != pair[1]), "a row came twice");

    cluster.cli(&["jobs", "delete", "cars", "replayed"], 0);
    let (listed, _) = cluster.cli(&["jobs", "list", "--all", "-o", "name"], 0);
    assert_eq!(listed, "");
}

#[test]
fn a_job_is_rescaled_while_it_runs_and_says_how_it_is() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 1);
    cluster.cli(&["jobs", "rescale", "cars", "--parallelism", "3", "--wait"], 0);
    let job = cluster.job("cars");
    assert_eq!((&job["parallelism"], &job["state"]), (&3.into(), &"running".into()));
    until("operators report", || {
        !cluster.job("cars")["operators"].as_array().expect("a list").is_empty()
    });
    let (top, _) = cluster.cli(&["jobs", "top", "--once"], 0);
    assert!(top.contains("cars"), "{top}");
    let (why, _) = cluster.cli(&["jobs", "why", "cars"], 0);
    assert!(!why.trim().is_empty());
    let (logs, _) = cluster.cli(&["jobs", "logs", "cars"], 0);
    assert!(!logs.is_empty());
    let (doctor, _) = cluster.cli(&["doctor"], 0);
    assert!(!doctor.contains("!!"), "{doctor}");
    let info = cluster.json(&["cluster", "info"]);
    assert_eq!((&info["is_leader"], &info["workers"]), (&true.into(), &1.into()));
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
    let rows_in = &cluster.job("cars")["numbers"]["rows_in"];
    assert_eq!(*rows_in, 20_000, "both runs together, each row once");
}

#[test]
fn a_changed_meaning_is_told_apart_and_accepted_on_purpose() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 2);
    cluster.cli(&["jobs", "stop", "cars", "--wait"], 0);

    // Another rate, and a filter downstream of all state: the state's meaning is the same.
    let write = |text: &str| std::fs::write(cluster.path("cars.yaml"), text).expect("a writable folder");
    let kept = "  kept:\n    sql: SELECT booth, window_start, cars, total FROM per_booth WHERE total >= 0\nsinks:";
    let edited = CARS.replace("2500", "5000").replace("from: per_booth", "from: kept");
    write(&edited.replace("sinks:", kept));
    let (said, _) = cluster.cli(&["jobs", "diff", "cars.yaml"], 0);
    assert!(said.contains("per_booth/aggregate: same meaning"), "{said}");

    write(&CARS.replace("sum(n)", "sum(n * 2)"));
    let (said, _) = cluster.cli(&["jobs", "diff", "cars.yaml"], 4);
    assert!(said.contains("cars: same meaning"), "{said}");
    assert!(
        said.contains("per_booth/aggregate: same layout, other meaning"),
        "{said}"
    );
    let (json, _) = cluster.cli(&["jobs", "diff", "cars.yaml", "-o", "json"], 4);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["verdict"], "changed-meaning", "{json}");
    let submit = [
        "jobs",
        "submit",
        "cars.yaml",
        "--name",
        "doubled",
        "--from-checkpoint",
        "cars",
    ];
    let (_, said) = cluster.cli(&submit, 4);
    assert!(
        said.contains("would mean something else") && said.contains("edited: step `per_booth`"),
        "{said}"
    );
    let accepted = [&submit[..], &["--accept-changed-meaning"]].concat();
    let (_, said) = cluster.cli(&accepted, 0);
    assert!(
        said.contains("note: accepted: the state of `per_booth/aggregate`"),
        "{said}"
    );
    cluster.cli(&["jobs", "wait", "doubled", "--for", "finished"], 0);
}

#[test]
fn the_example_runs_until_it_is_stopped() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let file = example("toll-booth/stream.yaml");
    let file = file.to_str().expect("a path in UTF-8");
    cluster.cli(&["jobs", "validate", file], 0);
    cluster.cli(&["jobs", "submit", file, "--wait"], 0);
    cluster.until_checkpoints("toll-booth", 1);
    let (said, _) = cluster.cli(&["jobs", "diff", file], 0);
    assert!(said.contains("compatible"), "{said}");
    cluster.cli(&["jobs", "cancel", "toll-booth", "--wait"], 0);
    assert_eq!(cluster.job("toll-booth")["state"], "cancelled");
}
