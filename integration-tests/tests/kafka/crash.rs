//! `engine run` from topic to topic under exactly-once delivery, killed at random moments and at chosen ones.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream_integration_tests::kafka::KafkaBroker;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(120);
const EVENTS: i64 = 40_000;
const PARTITIONS: i32 = 3;

/// Counts and sums by key and second. Deterministic: no row is late, since each partition is in order.
const PIPELINE: &str = r#"
name: $NAME
checkpoints: { interval: 150ms, delivery: exactly-once }
sources:
  events:
    connector: kafka
    options: { brokers: "$BROKERS", topic: $IN, scan.bounded.mode: latest-offset, scan.rate-limit: "$RATE" }
    format: json
    columns: { key: bigint, value: bigint, at: timestamp }
    event_time: { column: at, out_of_orderness: 100ms }
steps:
  per_key:
    sql: |
      SELECT key, window_start, count(*) AS events, sum(value) AS total
      FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(at), INTERVAL '1' SECOND))
      GROUP BY key, window_start, window_end
sinks:
  results:
    from: per_key
    connector: kafka
    options: { brokers: "$BROKERS", topic: $OUT, key.format: json, key.fields: key }
    format: json
"#;

struct Place {
    folder: TempDir,
    broker: &'static KafkaBroker,
    topic: &'static str,
}

impl Place {
    /// Topics `<topic>-in`, filled, and `<topic>-out`.
    fn new(topic: &'static str) -> Self {
        let broker = KafkaBroker::shared();
        let place = Self {
            folder: TempDir::new().expect("a temporary folder"),
            broker,
            topic,
        };
        broker
            .create_topic(&place.topic("in"), PARTITIONS)
            .expect("a new topic");
        let events = (0..EVENTS).map(|id| {
            let at_ms = id * 2;
            let (second, ms) = (at_ms / 1000, at_ms % 1000);
            let (minute, second) = (second / 60, second % 60);
            let event = format!(
                "{{\"key\":{},\"value\":{id},\"at\":\"2026-01-01 00:{minute:02}:{second:02}.{ms:03}\"}}",
                id % 37
            );
            ((id % i64::from(PARTITIONS)) as i32, None::<Vec<u8>>, event)
        });
        broker.produce_records(&place.topic("in"), events).expect("records");
        place
    }

    fn topic(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.topic)
    }

    /// The engine over a pipeline that writes to `<topic>-<output>`.
    fn engine(&self, output: &str, rate: u32, arguments: &[&str]) -> Command {
        let file = self.folder.path().join(format!("{output}.yaml"));
        let text = PIPELINE
            .replace("$NAME", &self.topic(output))
            .replace("$BROKERS", self.broker.address())
            .replace("$IN", &self.topic("in"))
            .replace("$OUT", &self.topic(output))
            .replace("$RATE", &rate.to_string());
        fs::write(&file, text).expect("a writable folder");
        let mut command = Command::new(millstream_integration_tests::engine());
        command
            .arg("run")
            .arg(file)
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end of the input.
    fn finish(&self, output: &str, arguments: &[&str]) {
        let output = self
            .engine(output, 1_000_000, arguments)
            .output()
            .expect("the engine starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn rows(&self, output: &str) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for record in self.broker.records(&self.topic(output)).expect("readable") {
            *rows.entry(record.text()).or_default() += 1;
        }
        rows
    }

    #[track_caller]
    fn check_against_batch(&self) {
        self.broker.create_topic(&self.topic("batch"), 1).expect("a new topic");
        self.finish("batch", &["--mode", "batch"]);
        let (batch, stream) = (self.rows("batch"), self.rows("out"));
        assert!(batch.len() > 1000 && batch.values().all(|count| *count == 1));
        let differing: Vec<_> = batch
            .keys()
            .chain(stream.keys())
            .filter(|row| batch.get(*row) != stream.get(*row))
            .map(|row| (row, batch.get(row), stream.get(row)))
            .take(5)
            .collect();
        assert!(
            differing.is_empty(),
            "row, times in the batch, in the stream: {differing:?}"
        );
    }
}

/// Xorshift: enough to pick moments, and repeatable.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Waits until the process ends by itself or its time is up.
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

/// Ends it if it lives; what it said.
fn kill(mut child: Child) -> String {
    child.kill().expect("it can be killed");
    let output = child.wait_with_output().expect("it is dead");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn random_kills_leave_every_row_once() {
    let seed = std::env::var("KAFKA_CRASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_nanos() as u64 | 1
    });
    println!("KAFKA_CRASH_SEED={seed}");
    let kills: u32 = std::env::var("KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(8);
    let mut random = Random(seed);
    let place = Place::new("crash-random");
    place.broker.create_topic(&place.topic("out"), 4).expect("a new topic");
    for number in 0..kills {
        let parallelism = (1 + random.below(3)).to_string();
        let mut child = place
            .engine("out", 6_000, &["--parallelism", &parallelism])
            .spawn()
            .expect("the engine starts");
        let lives = Duration::from_millis(400 + random.below(1_600));
        if ended_within(&mut child, lives) {
            let output = child.wait_with_output().expect("it has ended");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "before kill {number}: {stderr}");
            break;
        }
        kill(child);
    }
    place.finish("out", &[]);
    place.check_against_batch();
}

#[test]
fn kills_between_the_checkpoint_and_the_commit_leave_every_row_once() {
    let place = Place::new("crash-aimed");
    place.broker.create_topic(&place.topic("out"), 4).expect("a new topic");
    let points = [
        "after-manifest:3",
        "in-transaction:2",
        "after-manifest",
        "after-transaction:3",
        "in-transaction",
    ];
    for (number, point) in points.into_iter().enumerate() {
        let parallelism = (1 + number % 2).to_string();
        let mut child = place
            .engine("out", 6_000, &["--parallelism", &parallelism])
            .env("MILLSTREAM_FAIL_POINT", point)
            .spawn()
            .expect("the engine starts");
        let ended = ended_within(&mut child, DEADLINE);
        let stderr = kill(child);
        assert!(ended && stderr.contains("aborting at"), "{point}: {stderr}");
    }
    place.finish("out", &[]);
    place.check_against_batch();
}
