//! Consistency points: the settings that ask for them, and the operators that hold back changes.

use std::time::Duration;

use super::plan;
use crate::{Mode, explain};

const COUNTS: &str = "CREATE TABLE out (n BIGINT) WITH ('connector' = 'cdc');
    INSERT INTO out SELECT count(*) FROM clicks GROUP BY k";

/// Checks the interval of a script with these settings, in milliseconds.
#[track_caller]
fn check(settings: &str, query: &str, mode: Mode, expected: Result<Option<u64>, &str>) {
    let graph = plan(&format!("{settings}{query};"), mode);
    let interval = graph.map(|graph| graph.consistency_interval);
    let interval = interval.map_err(|errors| errors.to_string());
    match expected {
        Ok(expected) => assert_eq!(interval, Ok(expected.map(Duration::from_millis)), "{settings}"),
        Err(expected) => {
            let error = interval.expect_err("a refusal");
            assert!(error.contains(expected), "{error}");
        }
    }
}

#[test]
fn the_interval_is_set_by_its_own_key_or_by_those_of_mini_batches() {
    const ENABLED: &str = "SET 'table.exec.mini-batch.enabled' = 'true';";
    const LATENCY: &str = "SET 'table.exec.mini-batch.allow-latency' = '5 s';";
    const INTERVAL: &str = "SET 'consistency.interval' = '200 ms';";
    let stream = |settings: &[&str], expected| check(&settings.concat(), COUNTS, Mode::Stream, expected);
    stream(&[], Ok(None));
    stream(&[INTERVAL], Ok(Some(200)));
    stream(&[LATENCY], Ok(None));
    stream(&[LATENCY, ENABLED], Ok(Some(5_000)));
    stream(&[LATENCY, ENABLED, INTERVAL], Ok(Some(200)));
    stream(&[INTERVAL, "RESET 'consistency.interval';"], Ok(None));
    stream(&[ENABLED], Err("SET 'table.exec.mini-batch.allow-latency' = '1 s'"));
    stream(
        &["SET 'consistency.interval' = '0 s';"],
        Err("'consistency.interval' must be at least '1 ms'"),
    );
    stream(
        &["SET 'table.exec.mini-batch.enabled' = 'yes';"],
        Err("must be 'true' or 'false', not 'yes'"),
    );
}

#[test]
fn a_batch_and_a_query_without_updates_have_no_points() {
    const INTERVAL: &str = "SET 'consistency.interval' = '1 s';";
    check(INTERVAL, COUNTS, Mode::Batch, Ok(None));
    let appended = "CREATE TABLE out (n BIGINT) WITH ('connector' = 'append'); INSERT INTO out SELECT k FROM clicks";
    check(INTERVAL, appended, Mode::Stream, Ok(None));
}

#[test]
fn the_plan_shows_the_interval_and_what_is_held_back() {
    let script = "SET 'consistency.interval' = '1 s';
        CREATE TABLE out (region STRING, n BIGINT) WITH ('connector' = 'cdc');
        INSERT INTO out SELECT region, count(*) FROM users GROUP BY region;";
    let text = explain::explain(&plan(script, Mode::Stream).expect("a plan"));
    assert!(
        text.starts_with("job job (128 key groups, consistency points every 1s)\n"),
        "{text}"
    );
    let held_back = text
        .lines()
        .filter(|line| line.ends_with(", held back until consistency points"));
    let names = held_back.map(|line| line.trim_start().split(": ").next().unwrap_or_default());
    let names: Vec<&str> = names.map(|name| name.rsplit(' ').next().unwrap_or_default()).collect();
    assert_eq!(names, ["out/aggregate", "users/normalize"], "{text}");
}

#[test]
fn the_plan_tells_of_tables_that_read_the_same_input() {
    let notes_of = |settings: &str| {
        let table = |name: &str, path: &str| {
            format!(
                "CREATE TABLE {name} (k BIGINT) WITH ('connector' = 'filesystem', 'path' = '{path}', 'format' = 'json');"
            )
        };
        let tables = table("a", "in") + &table("b", "elsewhere") + &table("c", "in");
        let script = format!(
            "{settings}{tables} CREATE TABLE out (k BIGINT, n BIGINT) WITH ('connector' = 'cdc');
             INSERT INTO out SELECT k, count(*) FROM
               (SELECT k FROM a UNION ALL SELECT k FROM b UNION ALL SELECT k FROM c) GROUP BY k;"
        );
        let text = explain::explain(&plan(&script, Mode::Stream).expect("a plan"));
        let notes = text.lines().filter(|line| line.starts_with("note: "));
        notes.map(str::to_owned).collect::<Vec<_>>()
    };
    let notes = notes_of("SET 'consistency.interval' = '1 s';");
    assert_eq!(notes.len(), 1, "{notes:?}");
    assert!(
        notes[0].starts_with("note: the tables a and c read the same path independently"),
        "{notes:?}"
    );
    assert!(notes_of("").is_empty());
}

#[test]
fn the_interval_is_part_of_the_fingerprint() {
    let fingerprint =
        |settings: &str| plan(&format!("{settings}{COUNTS};"), Mode::Stream).map(|graph| graph.fingerprint);
    let fingerprints = [
        "",
        "SET 'consistency.interval' = '1 s';",
        "SET 'consistency.interval' = '2 s';",
    ]
    .map(fingerprint);
    assert!(fingerprints[0] != fingerprints[1] && fingerprints[1] != fingerprints[2]);
}
