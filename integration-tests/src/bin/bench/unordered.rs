//! Windows of rows in random order of event time: many windows are open, and each batch has rows of nearly all of them.
//! Compared with one open window, for few keys, whose rows are worth aggregating before they are exchanged, and for
//! many.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{self, Cost};

const ROWS: u64 = 10_000_000;
const SLICES: [u64; 2] = [1, 2_500];
const KEYS: [u64; 2] = [2, 100];

pub fn run() -> Result<Value> {
    let mut results = Vec::new();
    for keys in KEYS {
        for slices in SLICES {
            let (cost, windows) = run_with(keys, slices)?;
            let rate = ROWS as f64 / cost.wall.as_secs_f64();
            println!(
                "{keys:>4} keys, {slices:>5} open windows: {rate:>11.0} rows/s, {:>6.2} CPU s, {windows} rows out",
                cost.cpu.as_secs_f64()
            );
            results.push(json!({
                "keys": keys, "open_windows": slices, "rows": ROWS, "rows_out": windows, "rows_per_second": rate,
                "cpu_seconds": cost.cpu.as_secs_f64(), "peak_rss_bytes": cost.peak_rss_bytes,
            }));
        }
    }
    Ok(Value::Array(results))
}

fn run_with(keys: u64, slices: u64) -> Result<(Cost, u64)> {
    let folder = TempDir::new()?;
    let file = folder.path().join("unordered.sql");
    let summary_file = folder.path().join("summary.json");
    let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/unordered.sql"))?;
    let script = script
        .replace("${KEYS}", &keys.to_string())
        .replace("${SLICES}", &slices.to_string())
        .replace("${ROWS}", &ROWS.to_string());
    fs::write(&file, script)?;
    let mut command = Command::new(millstream_integration_tests::engine());
    command
        .arg("run")
        .arg(&file)
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .arg("--summary")
        .arg(&summary_file)
        .args(["--parallelism", "2", "--checkpoint-interval", "10s"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let cost = measure::run(&mut command)?;
    if !cost.status.success() {
        bail!(
            "with {keys} keys and {slices} windows the engine ended with {}",
            cost.status
        );
    }
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary_file)?)?;
    Ok((cost, summary["rows_out"].as_u64().unwrap_or_default()))
}
