//! `engine run` with updating queries between Kafka topics: the tables in the topics are those of the input, also if
//! the engine is killed at random times.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use millstream_integration_tests::kafka::KafkaBroker;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::changelog::Random;

const EVENTS: i64 = 20_000;
const KEYS: i64 = 50;
const KILLS: u32 = 4;

/// A table in a topic: rows by the JSON text of their key, which for changes without a key is the row itself.
type Rows = BTreeMap<String, Value>;

/// Pipelines over the topics of one test, whose names begin with `name`.
struct Place {
    name: &'static str,
    folder: TempDir,
}

impl Place {
    /// Creates the topics, and fills `in`.
    fn new(name: &'static str) -> Self {
        let broker = KafkaBroker::shared();
        let topic = |suffix| format!("{name}-{suffix}");
        for suffix in ["in", "totals", "sizes", "summary"] {
            broker.create_topic(&topic(suffix), 3).expect("a new topic");
        }
        let events = (0..EVENTS).map(|id| {
            let event = format!("{{\"k\":{},\"v\":{id}}}", id * id % KEYS);
            ((id % 3) as i32, None::<Vec<u8>>, event)
        });
        broker.produce_records(&topic("in"), events).expect("records");
        let folder = TempDir::new().expect("a temporary folder");
        Self { name, folder }
    }

    /// Returns a command that runs a script; `$NAME` is the prefix of topics, and `KAFKA` the options of a connection.
    fn engine(&self, job: &str, script: &str, parallelism: u64) -> Command {
        let connection = format!(
            "'properties.bootstrap.servers' = '{}', 'scan.bounded.mode' = 'latest-offset', \
             'properties.isolation.level' = 'read_committed'",
            KafkaBroker::shared().address()
        );
        let settings = format!(
            "SET 'pipeline.name' = '{}-{job}';\nSET 'execution.checkpointing.interval' = '150ms';\n",
            self.name
        );
        let script = script.replace("KAFKA", &connection).replace("$NAME", self.name);
        let file = self.folder.path().join(format!("{job}.sql"));
        std::fs::write(&file, settings + &script).expect("a writable folder");
        let mut command = Command::new(millstream_integration_tests::engine());
        command
            .arg("run")
            .arg(file)
            .args(["--parallelism", &parallelism.to_string(), "--data-dir"])
            .arg(self.folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a script to its end.
    #[track_caller]
    fn run(&self, job: &str, script: &str) {
        let output = self.engine(job, script, 2).output().expect("the engine starts");
        assert!(
            output.status.success(),
            "{job}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Returns the rows of an upsert topic.
    fn upserts(&self, topic: &str) -> Rows {
        let mut rows = Rows::new();
        for record in self.records(topic) {
            let key: Value = serde_json::from_slice(&record.key.expect("a key")).expect("JSON");
            match record.is_tombstone {
                true => drop(rows.remove(&key.to_string())),
                false => drop(rows.insert(key.to_string(), serde_json::from_slice(&record.value).expect("JSON"))),
            }
        }
        rows
    }

    /// Returns the rows of a topic of changes with a positive weight, which is 1.
    fn changes(&self, topic: &str) -> Rows {
        let mut weights: BTreeMap<String, i64> = BTreeMap::new();
        for record in self.records(topic) {
            let change: Value = serde_json::from_slice(&record.value).expect("JSON");
            let (row, weight) = match change["op"].as_str() {
                Some("c") => (&change["after"], 1),
                Some("d") => (&change["before"], -1),
                other => panic!("op {other:?}"),
            };
            *weights.entry(row.to_string()).or_default() += weight;
        }
        weights.retain(|_, weight| *weight != 0);
        assert!(weights.values().all(|weight| *weight == 1), "{weights:?}");
        let rows = weights.into_keys();
        rows.map(|row| (row.clone(), serde_json::from_str(&row).expect("JSON")))
            .collect()
    }

    fn records(&self, topic: &str) -> Vec<millstream_integration_tests::kafka::Record> {
        let (broker, topic) = (KafkaBroker::shared(), format!("{}-{topic}", self.name));
        broker.until_settled(&topic).expect("no transaction is open");
        broker.records(&topic).expect("readable")
    }
}

/// Waits until the process ends by itself, or for this time.
fn ended_within(child: &mut Child, time: Duration) -> bool {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if child.try_wait().expect("a child can be asked").is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Number and sum of the events of each key.
fn totals() -> BTreeMap<i64, (i64, i64)> {
    let mut totals: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for id in 0..EVENTS {
        let total = totals.entry(id * id % KEYS).or_default();
        *total = (total.0 + 1, total.1 + id);
    }
    totals
}

fn rows(rows: impl Iterator<Item = (Value, Value)>) -> Rows {
    rows.map(|(key, row)| (key.to_string(), row)).collect()
}

fn expected_totals() -> Rows {
    let totals = totals().into_iter();
    rows(totals.map(|(k, (n, total))| (json!({ "k": k }), json!({ "k": k, "n": n, "total": total }))))
}

/// Counts and sums by key, into an upsert topic with this delivery guarantee.
fn count_by_key(delivery: &str, rate: u32) -> String {
    format!(
        "CREATE TABLE events (k BIGINT, v BIGINT)
         WITH ('connector' = 'kafka', 'topic' = '$NAME-in', 'format' = 'json', 'scan.rate-limit' = '{rate}', KAFKA);
         CREATE TABLE totals (k BIGINT, n BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = '$NAME-totals', 'key.format' = 'json', 'value.format' = 'json',
           'sink.delivery-guarantee' = '{delivery}', KAFKA);
         INSERT INTO totals SELECT k, COUNT(*), SUM(v) FROM events GROUP BY k;"
    )
}

#[test]
fn tables_pass_through_topics_of_upserts_and_of_changes() {
    let place = Place::new("updating-pass");
    place.run("count", &count_by_key("at-least-once", 1_000_000));
    assert_eq!(place.upserts("totals"), expected_totals());

    // Each update of `totals` moves its key from one size to another: rows appear and disappear.
    let sizes = "CREATE TABLE totals (k BIGINT, n BIGINT, total BIGINT, PRIMARY KEY (k) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = '$NAME-totals', 'key.format' = 'json', 'value.format' = 'json', KAFKA);
         CREATE TABLE sizes (n BIGINT, ks BIGINT, sum BIGINT)
         WITH ('connector' = 'kafka', 'topic' = '$NAME-sizes', 'format' = 'debezium-json', KAFKA);
         INSERT INTO sizes SELECT n, COUNT(*), SUM(total) FROM totals GROUP BY n;";
    place.run("sizes", sizes);
    let mut sizes: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (n, total) in totals().into_values() {
        let size = sizes.entry(n).or_default();
        *size = (size.0 + 1, size.1 + total);
    }
    let row = |(n, (ks, sum)): (i64, (i64, i64))| json!({ "n": n, "ks": ks, "sum": sum });
    let expected = rows(sizes.clone().into_iter().map(|size| (row(size), row(size))));
    assert_eq!(place.changes("sizes"), expected);

    let summary = "CREATE TABLE sizes (n BIGINT, ks BIGINT, sum BIGINT)
         WITH ('connector' = 'kafka', 'topic' = '$NAME-sizes', 'format' = 'debezium-json', KAFKA);
         CREATE TABLE summary (ks BIGINT, sizes BIGINT, n BIGINT, PRIMARY KEY (ks) NOT ENFORCED)
         WITH ('connector' = 'upsert-kafka', 'topic' = '$NAME-summary', 'key.format' = 'json', 'value.format' = 'json',
           'value.fields-include' = 'EXCEPT_KEY', KAFKA);
         INSERT INTO summary SELECT ks, COUNT(*), SUM(n) FROM sizes GROUP BY ks;";
    place.run("summary", summary);
    let mut summary: BTreeMap<i64, (i64, i64)> = BTreeMap::new();
    for (n, (ks, _)) in sizes {
        let row = summary.entry(ks).or_default();
        *row = (row.0 + 1, row.1 + n);
    }
    let row = |(ks, (sizes, n)): (i64, (i64, i64))| (json!({ "ks": ks }), json!({ "sizes": sizes, "n": n }));
    assert_eq!(place.upserts("summary"), rows(summary.into_iter().map(row)));
}

#[test]
fn random_kills_leave_the_table_of_an_upsert_topic() {
    let mut random = Random::new();
    for (name, delivery) in [
        ("updating-kills-1", "at-least-once"),
        ("updating-kills-2", "exactly-once"),
    ] {
        let place = Place::new(name);
        for number in 0..KILLS {
            let mut child = place
                .engine("count", &count_by_key(delivery, 4_000), 1 + random.below(3))
                .spawn()
                .expect("the engine starts");
            let has_ended = ended_within(&mut child, Duration::from_millis(400 + random.below(1_600)));
            if !has_ended {
                child.kill().expect("it can be killed");
            }
            let output = child.wait_with_output().expect("it is dead");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(!has_ended || output.status.success(), "before kill {number}: {stderr}");
        }
        place.run("count", &count_by_key(delivery, 1_000_000));
        assert_eq!(place.upserts("totals"), expected_totals(), "{delivery}");
    }
}
