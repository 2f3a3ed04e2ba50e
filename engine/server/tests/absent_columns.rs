//! Columns that are absent from the input: they are NULL, and the job reports them.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;

use crate::test_folder::{TestFolder, signal, text};

/// Creates a folder with 3,000 clicks in two files; the table declares a field in another spelling.
fn folder(options: &str) -> TestFolder {
    let folder = TestFolder::new();
    for file in 0..2 {
        let lines: String = (0..1500)
            .map(|row| format!("{{\"userId\": {row}, \"url\": \"/{file}\", \"at\": {row}}}\n"))
            .collect();
        folder.write(&format!("in/{file}.json"), &lines);
    }
    folder.write(
        "clicks.sql",
        &format!(
            "SET 'parallelism.default' = '2';
CREATE TABLE clicks (userid BIGINT, url STRING) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json'{options});
CREATE TABLE kept (userid BIGINT, url STRING) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'parquet');
INSERT INTO kept SELECT userid, url FROM clicks;"
        ),
    );
    folder
}

const MISSPELT: &str = "source `clicks`: column `userid` was absent from all 3,000 records; they have the field `userId` \
                        (names are case-sensitive)";

#[test]
fn a_misspelt_json_name_is_in_the_summary() {
    let folder = folder("");
    let output = folder.run(&["run", "clicks.sql", "--summary", "summary.json"], 0);
    let stderr = text(&output.stderr);
    assert!(stderr.contains(&format!("  warning      {MISSPELT}\n")), "{stderr}");
    let summary = fs::read_to_string(folder.path("summary.json")).unwrap();
    let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
    assert_eq!(summary["absent_columns"], serde_json::json!([MISSPELT]));

    // The same for a Parquet file without the column.
    folder.write(
        "again.sql",
        "CREATE TABLE kept (userid BIGINT, link STRING) WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'parquet');
CREATE TABLE away (userid BIGINT, link STRING) WITH ('connector' = 'blackhole');
INSERT INTO away SELECT userid, link FROM kept;",
    );
    let output = folder.run(&["run", "again.sql"], 0);
    let stderr = text(&output.stderr);
    let expected =
        "source `kept`: column `link` was absent from all 3,000 records; their fields without a column are `url`";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn columns_that_a_query_does_not_read_and_those_that_some_record_has_are_not_told() {
    let folder = folder("");
    for file in ["in/0.json", "in/1.json"] {
        let clicks = fs::read_to_string(folder.path(file)).unwrap();
        folder.write(file, &format!("{{\"userid\": 7}}\n{clicks}"));
    }
    let output = folder.run(&["run", "clicks.sql"], 0);
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("absent"), "{stderr}");

    let folder = self::folder("");
    let script = fs::read_to_string(folder.path("clicks.sql")).unwrap();
    folder.write(
        "urls.sql",
        &script.replace("SELECT userid, url", "SELECT CAST(NULL AS BIGINT), url"),
    );
    let output = folder.run(&["run", "urls.sql"], 0);
    let stderr = text(&output.stderr);
    assert!(!stderr.contains("absent"), "{stderr}");
}

#[test]
fn a_stream_without_an_end_is_warned_of_while_it_runs() {
    let folder = folder(", 'source.monitor-interval' = '1 s'");
    let log = folder.path("log");
    let mut child = folder
        .command(&["run", "clicks.sql"])
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let read = || fs::read_to_string(&log).unwrap_or_default();
    folder.wait(&mut child, "the warning", || {
        // The files may not have been read to their end yet.
        read().lines().any(|line| {
            line.contains("WARN source `clicks`: column `userid` was absent from all")
                && line.ends_with("they have the field `userId` (names are case-sensitive)")
        })
    });
    signal(&child, libc::SIGTERM);
    assert!(child.wait().unwrap().success());
    let warnings = read()
        .lines()
        .filter(|line| line.contains("WARN") && line.contains("absent"))
        .count();
    assert_eq!(warnings, 1, "{}", read());
}
