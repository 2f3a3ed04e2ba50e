//! Tables of files and then a topic: each record once, also if the engine is killed, and errors for missing records.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millstream_integration_tests::kafka::KafkaBroker;
use serde_json::Value;
use tempfile::TempDir;

use super::changelog::Random;

/// Ids of records: those in the files, those in the topic, which overlap, and all.
const IN_FILES: i64 = 2_000;
const FIRST_IN_TOPIC: i64 = 1_000;
const RECORDS: i64 = 3_000;
/// Offset in each of the two partitions of the first record that is not in the files.
const OFFSET: i64 = (IN_FILES - FIRST_IN_TOPIC) / 2;
/// Records of a window of ten seconds.
const WINDOW_RECORDS: i64 = 100;
const KILLS: usize = 5;

struct Place {
    topic: &'static str,
    folder: TempDir,
}

impl Place {
    /// Creates the topic, without records, and the files.
    fn new(topic: &'static str) -> Self {
        KafkaBroker::shared().create_topic(topic, 2).expect("a new topic");
        let folder = TempDir::new().expect("a temporary folder");
        let place = Self { topic, folder };
        let files = place.path("in");
        fs::create_dir(&files).expect("a folder");
        for file in 0..4 {
            let ids = file * IN_FILES / 4..(file + 1) * IN_FILES / 4;
            let lines: String = ids.map(|id| record(id) + "\n").collect();
            fs::write(files.join(format!("{file}.json")), lines).expect("a file");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn produce(&self, ids: std::ops::Range<i64>) {
        let records = ids.map(|id| ((id % 2) as i32, None::<Vec<u8>>, record(id)));
        KafkaBroker::shared()
            .produce_records(self.topic, records)
            .expect("records");
    }

    /// Returns a command that runs the script to the end of the topic.
    fn engine(&self, startup: &str) -> Command {
        let path = |name: &str| self.path(name).display().to_string();
        let script = format!(
            "SET 'pipeline.name' = '{topic}';
             SET 'execution.checkpointing.interval' = '50ms';
             CREATE TABLE records (id BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND) WITH (
               'connector' = 'hybrid', 'format' = 'json', 'history.path' = '{input}', 'history.source.split-size' = '10kb',
               'topic' = '{topic}', 'properties.bootstrap.servers' = '{brokers}', {startup},
               'scan.bounded.mode' = 'latest-offset', 'scan.rate-limit' = '1500');
             CREATE TABLE ids (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{ids}', 'format' = 'json');
             CREATE TABLE windows (w TIMESTAMP(3), n BIGINT)
             WITH ('connector' = 'filesystem', 'path' = '{windows}', 'format' = 'json');
             INSERT INTO ids SELECT id FROM records;
             INSERT INTO windows SELECT window_start, COUNT(*)
             FROM TABLE(TUMBLE(TABLE records, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;",
            topic = self.topic,
            brokers = KafkaBroker::shared().address(),
            input = path("in"),
            ids = path("ids"),
            windows = path("windows"),
        );
        let file = self.path("script.sql");
        fs::write(&file, script).expect("a writable folder");
        let mut command = Command::new(millstream_integration_tests::engine());
        command
            .arg("run")
            .arg(file)
            .args(["--parallelism", "2", "--data-dir"])
            .arg(self.path("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    fn run(&self, startup: &str) -> Output {
        self.engine(startup).output().expect("the engine starts")
    }

    /// Returns the rows in a folder, each with the number of its occurrences.
    fn rows(&self, folder: &str) -> BTreeMap<String, usize> {
        let mut rows = BTreeMap::new();
        for file in fs::read_dir(self.path(folder)).expect("output") {
            let file = file.expect("a file").path();
            if file.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&file).expect("text");
                for line in text.lines() {
                    *rows.entry(line.to_owned()).or_default() += 1;
                }
            }
        }
        rows
    }

    /// Checks that each record was read once, and that no row was late.
    #[track_caller]
    fn check(&self) {
        let expected = (0..RECORDS).map(|id| (format!("{{\"id\":{id}}}"), 1)).collect();
        let ids = self.rows("ids");
        let wrong: Vec<_> = ids.iter().filter(|(_, count)| **count != 1).take(5).collect();
        assert!(ids == expected, "{} ids, repeated: {wrong:?}", ids.len());
        let windows = self.rows("windows");
        assert_eq!(windows.len() as i64, RECORDS / WINDOW_RECORDS, "{windows:?}");
        for (row, count) in &windows {
            let row: Value = serde_json::from_str(row).expect("JSON");
            assert_eq!((row["n"].as_i64(), *count), (Some(WINDOW_RECORDS), 1), "{row}");
        }
    }
}

fn record(id: i64) -> String {
    let (minute, second, tenth) = (id / 600, id / 10 % 60, id % 10);
    format!("{{\"id\":{id},\"ts\":\"2026-01-02 08:{minute:02}:{second:02}.{tenth}\"}}")
}

fn specific_offsets(offset: i64) -> String {
    format!(
        "'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = \
         'partition:0,offset:{offset};partition:1,offset:{offset}'"
    )
}

fn timestamp(milliseconds: u128) -> String {
    format!("'scan.startup.mode' = 'timestamp', 'scan.startup.timestamp-millis' = '{milliseconds}'")
}

fn now_ms() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("a clock")
        .as_millis()
}

fn error_of(output: Output) -> String {
    assert!(!output.status.success(), "the job must fail");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn each_record_is_read_once_if_the_engine_is_killed_before_during_and_after_the_switch() {
    let place = Place::new("hybrid-kills");
    place.produce(FIRST_IN_TOPIC..RECORDS);
    let startup = specific_offsets(OFFSET);
    let mut random = Random::new();
    for _ in 0..KILLS {
        let mut process = place
            .engine(&startup)
            .stderr(Stdio::null())
            .spawn()
            .expect("the engine starts");
        thread::sleep(Duration::from_millis(300 + random.below(700)));
        process.kill().expect("a running process");
        process.wait().expect("an ended process");
    }
    let output = place.run(&startup);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.check();
}

#[test]
fn a_topic_is_read_from_the_time_at_which_the_history_ends() {
    let place = Place::new("hybrid-time");
    place.produce(FIRST_IN_TOPIC..IN_FILES);
    thread::sleep(Duration::from_millis(20));
    let end = now_ms();
    thread::sleep(Duration::from_millis(20));
    place.produce(IN_FILES..RECORDS);
    let output = place.run(&timestamp(end));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place.check();
}

#[test]
fn records_that_are_missing_between_the_history_and_the_topic_are_an_error() {
    let place = Place::new("hybrid-gap");
    let end = now_ms() - 3_600_000;
    place.produce(FIRST_IN_TOPIC..RECORDS);
    KafkaBroker::shared()
        .delete_records_before(place.topic, 1, OFFSET + 200)
        .expect("deleted");
    let error = error_of(place.run(&specific_offsets(OFFSET)));
    assert!(
        error.contains("hybrid-gap-1, which begins at the offset 700: 200 records are missing"),
        "{error}"
    );
    let error = error_of(place.run(&timestamp(end)));
    assert!(
        error.contains("before hybrid-gap-1 begins (at the offset 700"),
        "{error}"
    );
    let one = "'scan.startup.mode' = 'specific-offsets', 'scan.startup.specific-offsets' = 'partition:0,offset:500'";
    let error = error_of(place.run(one));
    assert!(error.contains("has no offset for hybrid-gap-1"), "{error}");
}
