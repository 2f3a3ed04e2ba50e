//! Checkpoints and savepoints as a person takes, looks at and deletes them.

use std::fs;

use millstream_integration_tests::kafka::KafkaBroker;

use crate::place::{Place, until};

#[test]
fn a_checkpoint_is_taken_looked_into_and_deleted_when_nobody_needs_it() {
    let place = Place::new();
    let _standalone = place.standalone();
    // No checkpoint comes by itself.
    let cars = crate::place::CARS.replace("interval: 300ms", "interval: 1h");
    fs::write(place.path("cars.yaml"), cars).expect("a writable folder");
    // It still reads when the last checkpoint is taken, however slow the machine is.
    place.cli_with(&[("RATE", "300")], "out", &["jobs", "submit", "cars.yaml", "--wait"], 0);
    let (taken, _) = place.cli(&["checkpoints", "create", "cars"], 0);
    assert!(taken.starts_with("cars: checkpoint 1 ("), "{taken}");
    let second = place.json(&["checkpoints", "create", "cars"]);
    assert_eq!(second["checkpoint"], 2, "{second}");
    place.cli(&["savepoints", "create", "cars", "kept"], 0);
    let (names, _) = place.cli(&["checkpoints", "list", "cars", "-o", "name"], 0);
    assert_eq!(names, "cars/3\ncars/2\ncars/1\n");
    place.cli(&["checkpoints", "create", "cars"], 0);

    let (kept, _) = place.cli(&["savepoints", "inspect", "cars", "kept"], 0);
    assert!(kept.contains("window of 1s by BIGINT: count, sum"), "{kept}");
    assert!(kept.contains("rows-") && kept.contains(" rows "), "{kept}");
    let detail = place.json(&["savepoints", "inspect", "cars", "3"]);
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
        let (_, refused) = place.cli(&["checkpoints", "delete", checkpoint], code);
        assert!(refused.contains(expected), "{checkpoint}: {refused}");
    }
    let (deleted, _) = place.cli(&["checkpoints", "delete", "cars/1"], 0);
    assert_eq!(deleted, "checkpoint cars/1 deleted\n");
    let (names, _) = place.cli(&["checkpoints", "list", "cars", "-o", "name"], 0);
    assert_eq!(names, "cars/4\ncars/3\ncars/2\n");

    let (said, _) = place.cli(&["jobs", "stop", "cars", "--savepoint", "last", "--wait"], 0);
    let last = place.json(&["savepoints", "inspect", "cars", "last"])["checkpoint"]["checkpoint"].clone();
    assert!(said.contains(&format!("checkpoint {last}")), "{said} {last}");
    assert_eq!(place.job("cars")["last_checkpoint"]["checkpoint"], last);
    let (_, refused) = place.cli(&["checkpoints", "create", "cars"], 4);
    assert!(refused.contains("`cars` is stopped"), "{refused}");
}

#[test]
fn positions_are_offsets_and_a_checkpoint_with_nothing_new_is_the_last_one() {
    let broker = KafkaBroker::shared();
    for topic in ["inspected-in", "inspected-out"] {
        broker.create_topic(topic, 1).expect("a new topic");
    }
    let place = Place::new();
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
    fs::write(place.path("inspected.yaml"), pipeline).expect("a writable folder");
    let _standalone = place.standalone();
    place.cli(&["jobs", "submit", "inspected.yaml", "--wait"], 0);
    broker
        .produce("inspected-in", 0, (0..7).map(|n| format!("{{\"n\":{n}}}")))
        .expect("records");
    until("all is read", || place.job("inspected")["numbers"]["rows_out"] == 7);
    place.cli(&["checkpoints", "create", "inspected"], 0);
    let (inspected, _) = place.cli(&["checkpoints", "inspect", "inspected"], 0);
    assert!(inspected.contains("inspected-in[0] = 7"), "{inspected}");
    let (again, _) = place.cli(&["checkpoints", "create", "inspected"], 0);
    assert!(
        again.starts_with("inspected: nothing is new since checkpoint 1"),
        "{again}"
    );
}
