//! The example `vehicles.yaml` in its three modes, compared with the rows that `vehicles_expected.py` computes.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use millstream_integration_tests::http::post_json;
use millstream_integration_tests::kafka::KafkaBroker;
use serde_json::{Value, json};
use tempfile::TempDir;

const DATE: &str = "2026-01-02";
/// Time of records that end all windows.
const LATER: &str = "2026-01-03 12:00:00";
const TIMEOUT: Duration = Duration::from_secs(120);
/// The sinks of the stream, by the end of their topics' names.
const SINKS: [(&str, &str); 5] = [
    ("statistics", "statistics"),
    ("total_times", "total-times"),
    ("expired", "expired"),
    ("diagnostics", "diagnostics"),
    ("rejected", "rejected"),
];

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/toll-booth")
}

fn python(script: &str, arguments: &[&str]) -> String {
    let output = Command::new("python3")
        .arg(example().join(script))
        .args(arguments)
        .output();
    let output = output.expect("python3");
    assert!(
        output.status.success(),
        "{script}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A folder with the records of the day.
struct Day {
    folder: TempDir,
}

impl Day {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        python("vehicles_data.py", &[&folder.path().join("in").to_string_lossy()]);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn records(&self, name: &str) -> Vec<String> {
        let file = self.path("in").join(DATE).join(format!("{name}.jsonl"));
        let text = fs::read_to_string(file).expect("a file of the generator");
        text.lines().map(str::to_owned).collect()
    }

    /// Returns the rows of all sinks in a mode.
    fn expected(&self, mode: &str) -> Vec<String> {
        let day = self.path("in").join(DATE);
        let rows = python("vehicles_expected.py", &[&day.to_string_lossy(), mode]);
        let mut rows: Vec<String> = rows.lines().map(|line| comparable(None, parsed(line))).collect();
        rows.sort();
        rows
    }

    /// Writes the pipeline with changes of its text, and returns a command of the engine.
    fn engine(&self, command: &str, change: impl Fn(String) -> String) -> Command {
        let text = fs::read_to_string(example().join("vehicles.yaml")).expect("the example");
        let file = self.path("vehicles.yaml");
        fs::write(&file, change(text)).expect("a writable folder");
        let mut engine = Command::new(millstream_integration_tests::engine());
        engine
            .arg(command)
            .arg(file)
            .arg("--data-dir")
            .arg(self.path("state"))
            .env("TOLL_DATA", self.path("in"))
            .env("TOLL_OUT", self.path("out"))
            .stdin(Stdio::null());
        engine
    }

    /// Returns the rows that were written to files.
    fn written(&self) -> Vec<String> {
        let mut rows = Vec::new();
        for sink in fs::read_dir(self.path("out")).expect("output") {
            let sink = sink.expect("a folder").path();
            let name = sink.file_name().expect("a name").to_string_lossy().into_owned();
            for file in fs::read_dir(&sink).expect("files") {
                let file = file.expect("a file").path();
                if file.extension().is_some_and(|extension| extension == "json") {
                    let text = fs::read_to_string(file).expect("text");
                    rows.extend(text.lines().map(|line| comparable(Some(&name), parsed(line))));
                }
            }
        }
        rows.sort();
        rows
    }
}

fn parsed(line: &str) -> Value {
    serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Returns a row as text: its members sorted by name, its numbers by value, and of a payload the plate alone.
fn comparable(sink: Option<&str>, row: Value) -> String {
    let Value::Object(members) = row else {
        panic!("not an object: {row}")
    };
    let mut sorted: BTreeMap<String, Value> = members.into_iter().collect();
    if let Some(sink) = sink {
        sorted.insert("sink".into(), sink.into());
    }
    if let Some(payload) = sorted.remove("payload") {
        let plate = parsed(payload.as_str().expect("text"))["license_plate"].clone();
        sorted.insert("license_plate".into(), plate);
    }
    for value in sorted.values_mut() {
        if let Some(number) = value.as_f64() {
            *value = number.into();
        }
    }
    json!(sorted).to_string()
}

#[track_caller]
fn check(mut rows: Vec<String>, expected: &[String]) {
    rows.sort();
    let missing: Vec<&String> = expected.iter().filter(|row| !rows.contains(row)).collect();
    let surplus: Vec<&String> = rows.iter().filter(|row| !expected.contains(row)).collect();
    assert!(
        missing.is_empty() && surplus.is_empty(),
        "missing {missing:#?}\nsurplus {surplus:#?}"
    );
    assert_eq!(rows, expected, "how often rows occur");
}

/// Removes the section of a mode, so that the mode has the sources and sinks of the file.
fn without_stream_section(text: String) -> String {
    let (start, end) = (
        text.find("\n  stream:\n").expect("a section"),
        text.find("\n  serve:\n").expect("a section"),
    );
    format!("{}{}", &text[..start], &text[end..])
}

#[test]
fn a_batch_and_a_stream_of_files_have_the_expected_rows() {
    let day = Day::new();
    for (mode, expected) in [("batch", "batch"), ("stream", "stream-of-files")] {
        let output = day
            .engine("run", without_stream_section)
            .args(["--fresh", "--parallelism", "2", "--mode", mode])
            .output()
            .expect("the engine starts");
        assert!(
            output.status.success(),
            "{mode}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        check(day.written(), &day.expected(expected));
        fs::remove_dir_all(day.path("out")).expect("output");
    }
}

#[test]
fn a_batch_fails_on_a_record_that_is_not_json() {
    let day = Day::new();
    let file = day.path("in").join(DATE).join("exits.jsonl");
    let mut lines = day.records("exits");
    lines.insert(17, "not JSON".into());
    fs::write(&file, lines.join("\n")).expect("a writable folder");
    let output = day.engine("run", |text| text).args(["--mode", "batch"]).output();
    let output = output.expect("the engine starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{error}");
    assert!(error.contains("exits.jsonl:18"), "{error}");
}

/// A process that is killed when it is dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn a_service_has_the_rows_of_a_batch() {
    let day = Day::new();
    let mut command = day.engine("serve", |text| text);
    let child = command.args(["--http", "127.0.0.1:0"]).stderr(Stdio::piped()).spawn();
    let mut server = Process(child.expect("the engine starts"));
    let log = BufReader::new(server.0.stderr.take().expect("a pipe"));
    let mut seen = Vec::new();
    let mut lines = log.lines().map_while(Result::ok);
    let port = lines.by_ref().find_map(|line| {
        let port = line.split_once("http://127.0.0.1:").map(|(_, rest)| {
            let digits = rest.chars().take_while(char::is_ascii_digit);
            digits.collect::<String>().parse::<u16>().expect("a port")
        });
        seen.push(line);
        port
    });
    let port = port.unwrap_or_else(|| panic!("no address: {}", seen.join("\n")));
    thread::spawn(move || lines.for_each(drop));
    let rows = |name: &str| day.records(name).iter().map(|line| parsed(line)).collect::<Vec<_>>();
    let body = json!({"entry_records": rows("entries"), "exit_records": rows("exits")}).to_string();
    let path = "/v1/pipelines/vehicles/invoke";
    let response = post_json(port, path, &body).expect("a response");
    assert_eq!(response.status, 200, "{}", response.body);
    let Value::Object(sinks) = parsed(&response.body) else {
        panic!("{}", response.body)
    };
    let rows = sinks.into_iter().flat_map(|(sink, rows)| {
        let Value::Array(rows) = rows else { panic!("{rows}") };
        rows.into_iter().map(move |row| comparable(Some(&sink), row))
    });
    check(rows.collect(), &day.expected("batch"));
    let refused = post_json(port, path, "{\"entry_records\": [{\"id\": ").expect("a response");
    assert_eq!(refused.status, 400, "{}", refused.body);
}

/// The pipeline over topics.
struct Stream<'d> {
    day: &'d Day,
    broker: &'static KafkaBroker,
    name: &'static str,
}

impl Stream<'_> {
    fn start(&self) -> Process {
        let mut command = self.day.engine("run", |text| {
            let text = text.replace(
                "unreadable: { default: \"INTERVAL '10' MINUTE\" }",
                "unreadable: { default: \"INTERVAL '1' SECOND\" }",
            );
            text.replace("interval: 2s", "interval: 200ms")
        });
        command.args(["--mode", "stream", "--parallelism", "2"]);
        command
            .env("KAFKA_BROKERS", self.broker.address())
            .env("TOPICS", self.name);
        Process(command.stderr(Stdio::null()).spawn().expect("the engine starts"))
    }

    fn topic(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    fn produce(&self, topic: &str, records: &[String]) {
        let records = records.iter().enumerate();
        let records = records.map(|(index, record)| ((index % 2) as i32, None::<Vec<u8>>, record));
        self.broker
            .produce_records(&self.topic(topic), records)
            .expect("records");
    }

    /// Writes registrations, whose event time is in a header.
    fn produce_registrations(&self, records: &[String]) {
        let records = records.iter().enumerate().map(|(index, record)| {
            let time = parsed(record)["registered"].as_str().expect("a time").to_owned();
            ((index % 2) as i32, time, record)
        });
        let topic = self.topic("registrations");
        self.broker
            .produce_with_header(&topic, "event-time", records)
            .expect("records");
    }

    fn rows(&self, topic: &str) -> Vec<Value> {
        let records = self.broker.records(&self.topic(topic)).expect("readable");
        records.iter().map(|record| parsed(&record.text())).collect()
    }

    /// Waits until a topic has a row with a value from `least` on in a column.
    #[track_caller]
    fn wait_for(&self, topic: &str, column: &str, least: &str) {
        let is_there = |row: &Value| row[column].as_str().is_some_and(|value| value >= least);
        self.wait(&format!("{topic}.{column} >= {least}"), || {
            self.rows(topic).iter().any(is_there)
        });
    }

    #[track_caller]
    fn wait(&self, condition: &str, is_met: impl Fn() -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !is_met() {
            assert!(Instant::now() < deadline, "not in time: {condition}");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

#[test]
fn a_stream_of_topics_has_the_expected_rows_and_a_row_for_each_late_entry() {
    let day = Day::new();
    let stream = Stream {
        day: &day,
        broker: KafkaBroker::shared(),
        name: "toll",
    };
    let inputs = ["entries", "exits", "registrations"];
    for topic in inputs
        .into_iter()
        .chain(SINKS.map(|(_, topic)| topic))
        .chain(["unreadable"])
    {
        stream
            .broker
            .create_topic(&stream.topic(topic), 2)
            .expect("a new topic");
    }
    let process = stream.start();
    stream.produce("entries", &day.records("entries"));
    stream.produce("exits", &day.records("exits"));
    stream.produce_registrations(&day.records("registrations"));
    // The windows of the late entries have ended in each operator.
    stream.wait_for("statistics", "window_start", "2026-01-02 09:00:00");
    stream.wait_for("total-times", "entered", "2026-01-02 09:00:00");
    stream.wait_for("expired", "entered", "2026-01-02 09:00:00");
    drop(process);
    let _process = stream.start();
    stream.produce("entries", &day.records("late"));
    stream.produce("entries", &day.records("unreadable"));
    let late = day.records("late").len();
    let is_late = |row: &Value| row["is_late"] == json!(true);
    stream.wait("late rows", || {
        stream.rows("statistics").into_iter().filter(is_late).count() == late
    });

    // Records that end all windows, and have windows of their own that do not end.
    let entry = json!({"id": "9", "entry_time": LATER, "license_plate": "Z", "toll": 1}).to_string();
    let exit = json!({"id": "9", "exit_time": LATER, "license_plate": "Z"}).to_string();
    let registration = json!({"id": "9", "license_plate": "Z", "expired": 0, "registered": LATER}).to_string();
    stream.produce("entries", &[entry.clone(), entry]);
    stream.produce("exits", &[exit.clone(), exit]);
    stream.produce_registrations(&[registration.clone(), registration]);
    let expected = day.expected("stream");
    let found = || -> Vec<String> {
        let rows = SINKS.iter().flat_map(|(sink, topic)| {
            let rows = stream.rows(topic).into_iter();
            rows.map(move |row| comparable(Some(sink), row))
        });
        rows.collect()
    };
    let deadline = Instant::now() + TIMEOUT;
    while found().len() < expected.len() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(200));
    }
    check(found(), &expected);
    let count = |row: &Value| row["records"].as_i64().expect("a number");
    let unreadable = day.records("unreadable").len() as i64;
    stream.wait("records that are not JSON", || {
        stream.rows("unreadable").iter().map(count).sum::<i64>() == unreadable
    });
    assert!(
        stream
            .rows("unreadable")
            .iter()
            .all(|row| row["input"] == json!("entry_records"))
    );
}
