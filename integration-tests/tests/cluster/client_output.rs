//! Output of the client as text and as JSON: waits, lists, times, terminals.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use millstream_integration_tests::{engine, engine_cli};

use crate::pseudo_terminal::Terminal;
use crate::test_cluster::{TestCluster, text, until};

/// Pipeline that fails at its first row.
const FAILS: &str = r#"name: fails
parallelism: 1
sources:
  numbers:
    connector: datagen
    options: { number-of-rows: "1", fields.n.kind: sequence, fields.n.start: "0", fields.n.end: "0" }
    columns: { n: bigint }
steps:
  divided: { sql: SELECT 1 / n AS n FROM numbers }
sinks:
  out: { from: divided, connector: blackhole }
"#;

#[test]
fn a_wait_tells_what_a_job_waits_for_while_it_does() {
    let cluster = TestCluster::new();
    let _coordinator = cluster.coordinator();
    cluster.until_workers(0);
    // There are no workers, so no slots.
    let output = cluster.cli_at(
        &cluster.url(),
        &["jobs", "submit", "cars.yaml", "--wait", "--timeout", "2s", "-o", "json"],
    );
    assert_eq!(output.status.code(), Some(6));
    let said = text(&output.stderr);
    let told: Vec<&str> = said
        .lines()
        .filter(|line| line.contains("  cars: deploying (waiting for "))
        .collect();
    assert_eq!(told.len(), 1, "once, as the reason stays: {said}");
    assert!(told[0].starts_with("20"), "with the time: {said}");

    let _worker = cluster.worker("worker");
    cluster.until_workers(1);
    cluster.cli(&["jobs", "wait", "cars", "--for", "running"], 0);
    let (stdout, said) = cluster.cli(
        &["jobs", "rescale", "cars", "--parallelism", "1", "--wait", "-o", "json"],
        0,
    );
    let job: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON document");
    assert_eq!(job["state"], "running", "{job}");
    assert!(said.contains("  cars: restarting"), "{said}");

    // Times are given as numbers and as text.
    let since_us = job["since_us"].as_i64().expect("a number");
    let since = chrono::DateTime::parse_from_rfc3339(job["since_at"].as_str().expect("text")).expect("RFC 3339");
    assert_eq!(since.timestamp_micros(), since_us);
    cluster.cli(&["jobs", "cancel", "cars", "--wait"], 0);
}

#[test]
fn a_list_says_that_jobs_have_failed_lately_and_a_job_without_slots_has_no_number() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    fs::write(cluster.path("fails.yaml"), FAILS).expect("a writable folder");
    cluster.cli(&["jobs", "submit", "fails.yaml"], 0);
    cluster.cli(&["jobs", "wait", "fails", "--for", "failed"], 0);
    let footer = "1 job failed in the last 24 h: engine-cli jobs list --all\n";
    let (listed, _) = cluster.cli(&["jobs", "list"], 0);
    assert!(listed.ends_with(footer), "{listed}");
    assert_eq!(cluster.json(&["jobs", "list"])["failed_last_day"], 1);
    let (names, _) = cluster.cli(&["jobs", "list", "-o", "name"], 0);
    assert_eq!(names, "");
    let (all, _) = cluster.cli(&["jobs", "list", "--all"], 0);
    assert!(all.contains("failed") && !all.contains(footer), "{all}");

    cluster.cli(&["jobs", "submit", "cars.yaml", "--parallelism", "auto", "--wait"], 0);
    let (running, _) = cluster.cli(&["jobs", "list"], 0);
    let slots = cluster.job("cars")["parallelism"].as_u64().expect("a number");
    assert!(slots > 0 && running.contains(&format!(" {slots} (auto) ")), "{running}");
    cluster.cli(&["jobs", "cancel", "cars", "--wait"], 0);
    let (ended, _) = cluster.cli(&["jobs", "list", "--all"], 0);
    assert!(ended.contains(" auto ") && !ended.contains("0 (auto)"), "{ended}");
}

#[test]
fn settings_without_effect_are_told_by_submit_and_validate() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let script = "SET 'parallelism.defualt' = '3';
SET 'table.exec.mini-batch.size' = '100';
CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '1');
CREATE TABLE gone (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO gone SELECT n FROM numbers;
";
    fs::write(cluster.path("notes.sql"), script).expect("a writable folder");
    for arguments in [
        &["jobs", "validate", "notes.sql"][..],
        &["jobs", "submit", "notes.sql", "--dry-run"],
    ] {
        let (_, said) = cluster.cli(arguments, 0);
        let expected =
            "note: notes.sql:1:1: the setting 'parallelism.defualt' is unknown and has no effect; did you mean \
                        `parallelism.default`?
note: notes.sql:2:1: 'table.exec.mini-batch.size' is a setting of Flink that has no meaning here: it has no effect
";
        assert_eq!(said, expected);
    }
}

#[test]
fn top_ends_with_q_and_gives_the_terminal_back() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    // Ctrl-C ends it as a signal.
    for (key, code, signal) in [(b'q', Some(0), None), (3, None, Some(libc::SIGINT))] {
        let mut terminal = Terminal::run(cluster.command(&cluster.url(), &["jobs", "top", "cars"]), 60);
        until("top shows the job", || terminal.shown().contains("q: end"));
        assert!(terminal.is_raw());
        terminal.press(b'x');
        terminal.press(key);
        let status = terminal.ended();
        assert_eq!((status.code(), status.signal()), (code, signal), "{}", terminal.shown());
        assert!(!terminal.is_raw(), "the settings are as they were");
        let shown = terminal.shown();
        assert!(shown.contains("hidden; --output wide|json)"), "{shown}");
        assert!(!shown.contains("WATERMARK  BEHIND"), "{shown}");
    }
}

#[test]
fn a_table_fits_the_terminal_and_is_whole_elsewhere() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    let name = "a-job-with-a-rather-long-name";
    cluster.cli(&["jobs", "submit", "cars.yaml", "--name", name, "--wait"], 0);
    let list = &["jobs", "list"][..];
    let (whole, said) = cluster.cli(list, 0);
    assert_eq!(said, "");
    assert!(whole.contains("PARALLELISM") && whole.contains("RESTARTS"), "{whole}");

    let mut terminal = Terminal::run(cluster.command(&cluster.url(), list), 70);
    assert!(terminal.ended().success());
    until("the note comes", || {
        terminal.shown().contains("hidden; --output wide|json)")
    });
    let shown = terminal.shown();
    let (table, _) = shown.split_once("(columns").expect("there is a note");
    assert!(table.contains(name) && !table.contains("ROWS OUT"), "{shown}");
    for line in table.lines() {
        let plain = line
            .replace("\x1b[0m", "")
            .replace("\x1b[1m", "")
            .replace("\x1b[32m", "");
        assert!(plain.trim_end().chars().count() <= 70, "{plain:?}");
    }
    let wide = [list, &["-o", "wide"]].concat();
    let mut terminal = Terminal::run(cluster.command(&cluster.url(), &wide), 70);
    assert!(terminal.ended().success());
    until("all columns are shown", || terminal.shown().contains("REASON"));
    assert!(!terminal.shown().contains("hidden"));
}

#[test]
fn both_binaries_name_their_commit() {
    for (binary, name) in [(engine(), "engine"), (engine_cli(), "engine-cli")] {
        let output = Command::new(binary).arg("--version").output().expect("it is built");
        let said = text(&output.stdout);
        let version = said
            .trim_end()
            .strip_prefix(&format!("{name} {}", env!("CARGO_PKG_VERSION")));
        let commit = version.unwrap_or_else(|| panic!("{said}"));
        // A checkout without git history has no commit.
        let hash = commit
            .trim_start_matches(" (")
            .trim_end_matches(')')
            .trim_end_matches("-dirty");
        assert!(hash.chars().all(|c| c.is_ascii_hexdigit()), "{said}");
    }
}
