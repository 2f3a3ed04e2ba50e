//! Time from the start of the process to its first output row, and memory of an idle process.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{cpu_seconds, resident_bytes};

const RUNS: usize = 10;
/// A nearly idle job, which reads one row per second.
const SCRIPT: &str = "
CREATE TABLE ticks (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1', 'fields.n.kind' = 'sequence',
  'fields.n.start' = '0', 'fields.n.end' = '1000000');
CREATE TABLE result (n BIGINT) WITH ('connector' = 'print');
INSERT INTO result SELECT n FROM ticks;
";

pub fn run() -> Result<Value> {
    let mut first_row_ms = Vec::new();
    let (mut rss_bytes, mut idle_cpu_seconds) = (0, 0.0);
    for round in 0..RUNS {
        let folder = TempDir::new()?;
        let file = folder.path().join("ticks.sql");
        fs::write(&file, SCRIPT)?;
        let start = Instant::now();
        let mut child = Command::new(millstream_integration_tests::engine())
            .arg("run")
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("the engine's output")?).lines();
        lines.next().context("the engine ended without a row")??;
        first_row_ms.push(start.elapsed().as_secs_f64() * 1000.0);
        if round == 0 {
            let before = cpu_seconds(child.id())?;
            thread::sleep(Duration::from_secs(5));
            idle_cpu_seconds = (cpu_seconds(child.id())? - before) / 5.0;
            rss_bytes = resident_bytes(child.id())?;
        }
        child.kill()?;
        child.wait()?;
    }
    first_row_ms.sort_by(f64::total_cmp);
    let median = first_row_ms[RUNS / 2];
    println!(
        "first row after {median:.0} ms (median of {RUNS}; slowest {:.0} ms)",
        first_row_ms[RUNS - 1]
    );
    println!(
        "idle: {:.1} MB resident, {:.4} of a core",
        rss_bytes as f64 / 1e6,
        idle_cpu_seconds
    );
    Ok(json!({ "first_row_ms": median, "idle_rss_bytes": rss_bytes, "idle_cores": idle_cpu_seconds }))
}
