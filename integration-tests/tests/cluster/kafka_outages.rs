//! Reports of the cluster while Kafka is down.

use std::fs;

use millstream_integration_tests::kafka::KafkaBroker;
use serde_json::Value;

use crate::test_cluster::{TestCluster, text, until};

/// Exactly-once pipeline from Kafka to Kafka, so that a stop has output to publish.
const PIPELINE: &str = r#"name: cut-off
checkpoints: { interval: 1h, delivery: exactly-once }
sources:
  numbers: { connector: kafka, options: { brokers: "$BROKERS", topic: numbers-in }, format: json, columns: { n: bigint } }
sinks:
  out:
    from: numbers
    connector: kafka
    options: { brokers: "$BROKERS", topic: numbers-out }
    format: json
"#;

/// Returns the operators with outages, in order.
fn cut_off(job: &Value) -> Vec<&str> {
    let outages = job["outages"].as_array().map_or(&[][..], Vec::as_slice);
    outages
        .iter()
        .filter_map(|outage| outage["operator"].as_str())
        .collect()
}

#[test]
fn a_stop_that_waits_for_kafka_says_so_and_ends_when_it_is_back() {
    let broker = KafkaBroker::start().expect("a broker");
    for topic in ["numbers-in", "numbers-out"] {
        broker.create_topic(topic, 1).expect("a new topic");
    }
    let cluster = TestCluster::new();
    let pipeline = PIPELINE.replace("$BROKERS", broker.address());
    fs::write(cluster.path("cut-off.yaml"), pipeline).expect("a writable folder");
    let _coordinator = cluster.coordinator();
    let worker = cluster.worker("worker");
    cluster.until_workers(1);
    cluster.cli(&["jobs", "submit", "cut-off.yaml", "--parallelism", "1", "--wait"], 0);
    broker
        .produce("numbers-in", 0, (0..10).map(|n| format!("{{\"n\":{n}}}")))
        .expect("records");
    until("all rows are read", || {
        cluster.job("cut-off")["numbers"]["rows_out"] == 10
    });
    assert_eq!(cluster.job("cut-off")["numbers"]["lag_rows"], 0);

    broker.stop().expect("it can be stopped");
    until("the source is cut off", || {
        cut_off(&cluster.job("cut-off")).contains(&"numbers")
    });
    let job = cluster.job("cut-off");
    assert_eq!(job["state"], "running", "{job}");
    assert!(job["numbers"]["lag_rows"].is_null(), "{job}");
    assert!(job["operators"][0]["splits"][0]["lag_rows"].is_null(), "{job}");
    let address = broker.address().to_string();
    let words = format!("the source `numbers` cannot reach the Kafka brokers `{address}`");
    assert!(
        job["reason"].as_str().is_some_and(|reason| reason.contains(&words)),
        "{job}"
    );
    let (why, _) = cluster.cli(&["jobs", "why", "cut-off"], 0);
    assert!(why.contains(&words) && why.contains("refused"), "{why}");

    let mut late = cluster.start_command(
        &cluster.url(),
        &[
            "jobs",
            "stop",
            "cut-off",
            "--savepoint",
            "kept",
            "--wait",
            "--timeout",
            "12s",
        ],
    );
    let mut answer = None;
    until("the wait is over", || {
        answer = answer.take().or_else(|| late.answer());
        answer.is_some()
    });
    assert_eq!(answer.and_then(|answer| answer.status.code()), Some(6));
    let sink_words = format!("the sink `out/sink` cannot reach the Kafka brokers `{address}`");
    let (why, _) = cluster.cli(&["jobs", "why", "cut-off"], 0);
    assert!(
        why.contains("the job has been stopping") && why.contains(&sink_words),
        "{why}"
    );
    let output = cluster.cli_at(
        &cluster.url(),
        &["jobs", "wait", "cut-off", "--for", "stopped", "--timeout", "1s"],
    );
    let said = text(&output.stderr);
    assert!(said.contains("within 1s") && said.contains(&sink_words), "{said}");

    broker.start_again().expect("it can be started again");
    cluster.cli(&["jobs", "wait", "cut-off", "--for", "stopped"], 0);
    assert_eq!(cut_off(&cluster.job("cut-off")), Vec::<&str>::new());
    let (logs, _) = cluster.cli(&["jobs", "logs", "cut-off"], 0);
    let told = logs.matches(&format!("{words} since")).count();
    assert_eq!(told, 1, "{logs}");
    let mut rows: Vec<String> = broker
        .records("numbers-out")
        .expect("they can be read")
        .iter()
        .map(millstream_integration_tests::kafka::Record::text)
        .collect();
    rows.sort();
    let mut expected: Vec<String> = (0..10).map(|n| format!("{{\"n\":{n}}}")).collect();
    expected.sort();
    assert_eq!(rows, expected);
    drop(worker);
}

#[test]
fn rows_that_wait_for_brokers_are_told_and_leave_when_these_are_back() {
    let broker = KafkaBroker::start().expect("a broker");
    broker.create_topic("numbers-out", 1).expect("a new topic");
    let cluster = TestCluster::new();
    let pipeline = format!(
        r#"name: cut-off
checkpoints: {{ interval: 1h, delivery: at-least-once }}
sources:
  numbers:
    connector: datagen
    options: {{ rows-per-second: "20" }}
    columns: {{ n: bigint }}
sinks:
  out: {{ from: numbers, connector: kafka, options: {{ brokers: "{}", topic: numbers-out }}, format: json }}
"#,
        broker.address()
    );
    fs::write(cluster.path("cut-off.yaml"), pipeline).expect("a writable folder");
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "cut-off.yaml", "--parallelism", "1", "--wait"], 0);
    until("rows leave", || {
        broker.count("numbers-out").is_ok_and(|count| count > 0)
    });
    broker.stop().expect("it can be stopped");
    until("the sink is cut off", || {
        cut_off(&cluster.job("cut-off")) == ["out/sink"]
    });
    let (_, late) = cluster.cli(&["jobs", "stop", "cut-off", "--wait", "--timeout", "3s"], 6);
    let words = "the sink `out/sink` cannot reach the Kafka brokers";
    assert!(late.contains("within 3s") && late.contains(words), "{late}");
    let (_, early) = cluster.cli(&["jobs", "wait", "cut-off", "--for", "stopped", "--timeout", "0s"], 6);
    assert!(early.contains("within 0s"), "{early}");
    broker.start_again().expect("it can be started again");
    cluster.cli(&["jobs", "wait", "cut-off", "--for", "stopped"], 0);
    let out = cluster.job("cut-off")["numbers"]["rows_out"].as_i64();
    let written = broker.count("numbers-out").expect("it can be counted");
    assert!(out.is_some_and(|out| out <= written), "{out:?} {written}");
}

#[test]
fn a_source_says_once_that_its_brokers_are_gone_and_once_that_they_are_back() {
    let broker = KafkaBroker::start().expect("a broker");
    broker.create_topic("numbers-in", 1).expect("a new topic");
    let cluster = TestCluster::new();
    let pipeline = format!(
        r#"name: cut-off
sources:
  numbers:
    connector: kafka
    options: {{ brokers: "{}", topic: numbers-in }}
    format: json
    columns: {{ n: bigint }}
sinks:
  out: {{ from: numbers, connector: blackhole }}
"#,
        broker.address()
    );
    fs::write(cluster.path("cut-off.yaml"), pipeline).expect("a writable folder");
    let standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "cut-off.yaml", "--wait"], 0);
    broker.stop().expect("it can be stopped");
    until("the outage is told", || {
        standalone.has_logged("cannot reach the Kafka brokers")
    });
    until("the outage is seen", || !cut_off(&cluster.job("cut-off")).is_empty());
    broker.start_again().expect("it can be started again");
    until("the end of it is told", || {
        standalone.has_logged("reaches the Kafka brokers")
    });
    until("the end of it is seen", || cut_off(&cluster.job("cut-off")).is_empty());
    assert_eq!(cluster.job("cut-off")["reason"], "");
    broker.produce("numbers-in", 0, ["{\"n\":1}"]).expect("records");
    until("it reads on", || cluster.job("cut-off")["numbers"]["rows_in"] == 1);
}
