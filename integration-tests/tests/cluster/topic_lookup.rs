//! Topics of a pipeline are looked up when it is submitted.

use std::fs;

use millstream_integration_tests::kafka::KafkaBroker;

use crate::test_cluster::{TestCluster, until};

const PIPELINE: &str = r#"name: $NAME
sources:
  entries:
    connector: kafka
    options: { brokers: "$BROKERS", $READ }
    format: json
    columns: { booth: bigint }
sinks:
  stats:
    from: entries
    connector: kafka
    options: { brokers: "$BROKERS", topic: $WRITTEN }
    format: json
"#;

/// Writes the file of a pipeline with these topics.
fn pipeline(cluster: &TestCluster, name: &str, brokers: &str, read: &str, written: &str) -> String {
    let text = PIPELINE
        .replace("$NAME", name)
        .replace("$BROKERS", brokers)
        .replace("$READ", read)
        .replace("$WRITTEN", written);
    let file = format!("{name}.yaml");
    fs::write(cluster.path(&file), text).expect("a writable folder");
    file
}

#[test]
fn a_topic_that_does_not_exist_is_a_mistake_in_the_pipeline() {
    let broker = KafkaBroker::shared();
    for topic in ["looked-up-entries", "looked-up-stats"] {
        broker.create_topic(topic, 1).expect("a new topic");
    }
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let at = broker.address();

    let wrong = pipeline(&cluster, "wrong", at, "topic: looked-up-entires", "looked-up-stat");
    for more in [&[][..], &["--dry-run"]] {
        let (_, refused) = cluster.cli(&[&["jobs", "submit", wrong.as_str()], more].concat(), 2);
        for expected in [
            "error: wrong.yaml:5:".to_string(),
            format!("table `entries`: the topic `looked-up-entires` does not exist at the Kafka brokers `{at}`"),
            "did you mean `looked-up-entries`?".to_string(),
            "error: wrong.yaml:12:".to_string(),
            "did you mean `looked-up-stats`?".to_string(),
        ] {
            assert!(refused.contains(&expected), "{expected}: {refused}");
        }
    }
    cluster.cli(&["jobs", "describe", "wrong"], 3);

    let none_yet = pipeline(
        &cluster,
        "later",
        at,
        "topic-pattern: 'looked-up-not-.*'",
        "looked-up-stats",
    );
    cluster.cli(&["jobs", "submit", &none_yet], 0);
    cluster.cli(&["jobs", "cancel", "later", "--wait"], 0);
}

#[test]
fn a_topic_that_is_written_may_be_left_to_brokers_that_make_topics() {
    let broker = KafkaBroker::start_that_makes_topics().expect("a broker");
    broker.create_topic("entries", 1).expect("a new topic");
    let records = (0..10).map(|booth| format!("{{\"booth\":{booth}}}"));
    broker.produce("entries", 0, records).expect("records");
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let read = "topic: entries, 'scan.startup.mode': earliest-offset";
    for (name, delivery) in [("at-least", "at-least-once"), ("exactly", "exactly-once")] {
        let file = pipeline(&cluster, name, broker.address(), read, &format!("made-{name}"));
        let text = fs::read_to_string(cluster.path(&file)).expect("just written");
        let text = format!("{text}checkpoints: {{ interval: 200ms, delivery: {delivery} }}\n");
        fs::write(cluster.path(&file), text).expect("a writable folder");
        cluster.cli(&["jobs", "submit", &file, "--wait"], 0);
        until("all rows are written", || {
            // There is nothing to read before the topic is created.
            broker
                .records(&format!("made-{name}"))
                .is_ok_and(|records| records.len() == 10)
        });
        assert_eq!(cluster.job(name)["restarts"], 0);
    }
    // A topic that is read must exist.
    let wrong = pipeline(&cluster, "wrong", broker.address(), "topic: entires", "made-at-least");
    cluster.cli(&["jobs", "submit", &wrong], 2);
}

#[test]
fn brokers_that_do_not_answer_are_named_and_a_plan_does_not_need_them() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let offline = pipeline(&cluster, "offline", "127.0.0.1:1", "topic: entries", "stats");
    for more in [&[][..], &["--dry-run"]] {
        let (_, refused) = cluster.cli(&[&["jobs", "submit", offline.as_str(), "-o", "json"], more].concat(), 5);
        let refused: serde_json::Value = serde_json::from_str(&refused).expect("JSON");
        assert_eq!(refused["code"], "unavailable", "{refused}");
        let message = refused["message"].as_str().unwrap_or_default();
        assert!(
            message.contains("tables `entries`, `stats`: the Kafka brokers `127.0.0.1:1` do not answer"),
            "{message}"
        );
        assert!(message.contains("nothing was submitted"), "{message}");
    }
    for verb in ["validate", "explain"] {
        cluster.cli(&["jobs", verb, &offline], 0);
    }
}
