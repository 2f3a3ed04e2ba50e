//! `ORDER BY` in a batch: one output in the order of the query.
#![allow(clippy::unwrap_used, reason = "a panic is a failed test")]

use std::fs;

use crate::test_folder::{TestFolder, text};

const TABLE: &str = "CREATE TABLE passages (booth BIGINT, cents BIGINT, plate STRING)
WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv');
";

fn folder() -> TestFolder {
    let folder = TestFolder::new();
    for file in 0..4 {
        let rows = (0..500).map(|row| match row % 50 {
            0 => format!("{},,P{row}-{file}\n", row % 7),
            _ => format!("{},{},P{row}-{file}\n", row % 7, (row * 7_919 + file * 31) % 1_009),
        });
        folder.write(&format!("in/{file}.csv"), &rows.collect::<String>());
    }
    folder
}

/// Returns the key of a row of the output: NULLs last, in descending order.
fn key(line: &str) -> (i64, i64, String) {
    let cells: Vec<&str> = line.split(',').collect();
    let cents: i64 = cells[1].parse().unwrap_or(-1);
    (cells[0].parse().unwrap(), -cents, cells[2].to_owned())
}

fn expected(folder: &TestFolder) -> Vec<String> {
    let mut rows = folder.lines("in");
    rows.sort_by_key(|line| key(line));
    rows
}

#[test]
fn files_have_the_order_of_the_query() {
    let folder = folder();
    folder.write(
        "job.sql",
        &format!(
            "{TABLE}CREATE TABLE result (booth BIGINT, cents BIGINT, plate STRING)
WITH ('connector' = 'filesystem', 'path' = 'out', 'format' = 'csv');
INSERT INTO result SELECT booth, cents, plate FROM passages ORDER BY booth, cents DESC NULLS LAST, plate;"
        ),
    );
    folder.run(&["run", "job.sql", "--mode", "batch", "--parallelism", "3"], 0);
    let files = fs::read_dir(folder.path("out")).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = files
        .filter(|file| {
            file.file_type().unwrap().is_file() && !file.file_name().to_string_lossy().starts_with(['.', '_'])
        })
        .map(|file| file.path())
        .collect();
    files.sort();
    let texts: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    assert_eq!(texts.lines().collect::<Vec<_>>(), expected(&folder));
}

#[test]
fn printed_rows_have_the_order_of_the_query() {
    let folder = folder();
    folder.write(
        "job.sql",
        &format!(
            "{TABLE}SELECT plate, booth FROM passages WHERE booth > 3 ORDER BY cents DESC NULLS LAST, booth, plate;"
        ),
    );
    let output = folder.run(&["run", "job.sql", "--mode", "batch", "--parallelism", "2"], 0);
    let mut rows = folder.lines("in");
    rows.retain(|line| key(line).0 > 3);
    rows.sort_by_key(|line| {
        let (booth, cents, plate) = key(line);
        (cents, booth, plate)
    });
    let rows: Vec<String> = rows
        .iter()
        .map(|line| {
            let (booth, _, plate) = key(line);
            format!("+I[{plate}, {booth}]")
        })
        .collect();
    let printed: Vec<String> = text(&output.stdout).lines().map(str::to_owned).collect();
    assert_eq!(printed, rows);
}

#[test]
fn a_stream_has_no_order() {
    let folder = folder();
    folder.write("job.sql", &format!("{TABLE}SELECT plate FROM passages ORDER BY plate;"));
    let output = folder.run(&["run", "job.sql"], 2);
    assert!(
        text(&output.stderr).contains("or run a batch"),
        "{}",
        text(&output.stderr)
    );
}
