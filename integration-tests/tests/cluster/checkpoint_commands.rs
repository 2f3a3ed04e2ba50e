//! Commands that create, inspect and delete checkpoints and savepoints.

use std::fs;

use millstream_integration_tests::kafka::KafkaBroker;

use crate::test_cluster::{TestCluster, until};

#[test]
fn a_checkpoint_is_taken_looked_into_and_deleted_when_nobody_needs_it() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    // No periodic checkpoint.
    let cars = crate::test_cluster::CARS.replace("interval: 300ms", "interval: 1h");
    fs::write(cluster.path("cars.yaml"), cars).expect("a writable folder");
    // Slow enough that the job is still reading when the last checkpoint is taken.
    cluster.cli_with(&[("RATE", "300")], "out", &["jobs", "submit", "cars.yaml", "--wait"], 0);
    let (taken, _) = cluster.cli(&["checkpoints", "create", "cars"], 0);
    assert!(taken.starts_with("cars: checkpoint 1 ("), "{taken}");
    let second = cluster.json(&["checkpoints", "create", "cars"]);
    assert_eq!(second["checkpoint"], 2, "{second}");
    cluster.cli(&["savepoints", "create", "cars", "kept"], 0);
    let (names, _) = cluster.cli(&["checkpoints", "list", "cars", "-o", "name"], 0);
    assert_eq!(names, "cars/3\ncars/2\ncars/1\n");
    cluster.cli(&["checkpoints", "create", "cars"], 0);

    let (kept, _) = cluster.cli(&["savepoints", "inspect", "cars", "kept"], 0);
    assert!(kept.contains("window of 1s by BIGINT: count, sum"), "{kept}");
    assert!(kept.contains("rows-") && kept.contains(" rows "), "{kept}");
    let detail = cluster.json(&["savepoints", "inspect", "cars", "3"]);
    let operators = detail["operators"].as_array().expect("a list").clone();
    let with_state = operators
        .iter()
        .find(|operator| operator["files"].as_u64().unwrap_or(0) > 0);
    let entries = with_state.and_then(|operator| operator["keyed_entries"].as_u64());
    assert!(entries.is_some_and(|entries| entries > 0), "{detail}");

    for (checkpoint, code, expected) in [
        ("cars/4", 4, "it is the newest"),
        ("cars/kept", 4, "it is the savepoint `kept`"),
        ("cars/3", 4, "it is the savepoint `kept`"),
        ("cars/9", 3, "`cars` has no checkpoint 9; it has 1, 2, 3, 4"),
        ("cars", 2, "write cars/NUMBER"),
    ] {
        let (_, refused) = cluster.cli(&["checkpoints", "delete", checkpoint], code);
        assert!(refused.contains(expected), "{checkpoint}: {refused}");
    }
    let (deleted, _) = cluster.cli(&["checkpoints", "delete", "cars/1"], 0);
    assert_eq!(deleted, "checkpoint cars/1 deleted\n");
    let (names, _) = cluster.cli(&["checkpoints", "list", "cars", "-o", "name"], 0);
    assert_eq!(names, "cars/4\ncars/3\ncars/2\n");

    let (said, _) = cluster.cli(&["jobs", "stop", "cars", "--savepoint", "last", "--wait"], 0);
    let last = cluster.json(&["savepoints", "inspect", "cars", "last"])["checkpoint"]["checkpoint"].clone();
    assert!(said.contains(&format!("checkpoint {last}")), "{said} {last}");
    assert_eq!(cluster.job("cars")["last_checkpoint"]["checkpoint"], last);
    let (_, refused) = cluster.cli(&["checkpoints", "create", "cars"], 4);
    assert!(refused.contains("`cars` is stopped"), "{refused}");
}

#[test]
fn positions_are_offsets_and_a_checkpoint_with_nothing_new_is_the_last_one() {
    let broker = KafkaBroker::shared();
    for topic in ["inspected-in", "inspected-out"] {
        broker.create_topic(topic, 1).expect("a new topic");
    }
    let cluster = TestCluster::new();
    let pipeline = format!(
        r#"name: inspected
checkpoints: {{ interval: 1h }}
sources:
  numbers:
    connector: kafka
    options: {{ brokers: "{0}", topic: inspected-in }}
    format: json
    columns: {{ n: bigint }}
sinks:
  out: {{ from: numbers, connector: kafka, options: {{ brokers: "{0}", topic: inspected-out }}, format: json }}
"#,
        broker.address()
    );
    fs::write(cluster.path("inspected.yaml"), pipeline).expect("a writable folder");
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "inspected.yaml", "--wait"], 0);
    broker
        .produce("inspected-in", 0, (0..7).map(|n| format!("{{\"n\":{n}}}")))
        .expect("records");
    until("all is read", || cluster.job("inspected")["numbers"]["rows_out"] == 7);
    cluster.cli(&["checkpoints", "create", "inspected"], 0);
    let (inspected, _) = cluster.cli(&["checkpoints", "inspect", "inspected"], 0);
    assert!(inspected.contains("inspected-in[0] = 7"), "{inspected}");
    let (again, _) = cluster.cli(&["checkpoints", "create", "inspected"], 0);
    assert!(
        again.starts_with("inspected: nothing is new since checkpoint 1"),
        "{again}"
    );
}
