//! End-to-end latency of a hopping window: 10,000 keys, 200,000 events per second, checkpoints every second.
//!
//! The source's event times are the *scheduled* times of a fixed rate, and a window's result is due the moment its end
//! passes; so the latency of a result row is the time it is read here minus its window's end. A stall of the engine
//! delays rows but never their due times: nothing is hidden by coordinated omission.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use chrono::NaiveDateTime;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure;

/// Events per second; 46 of 50 are bids, so 200,000 bids.
const RATE: u64 = 217_400;
const SECONDS: u64 = 60;
/// Results of the first seconds, while caches warm and the first windows fill, are not counted.
const WARM_UP: Duration = Duration::from_secs(5);

pub fn run() -> Result<Value> {
    let folder = TempDir::new()?;
    let file = folder.path().join("latency.sql");
    let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/latency.sql"))?;
    let script = script
        .replace("${EVENTS}", &(RATE * SECONDS).to_string())
        .replace("${RATE}", &RATE.to_string());
    fs::write(&file, script)?;

    let start = Instant::now();
    let mut child = Command::new(millstream_integration_tests::engine())
        .arg("run")
        .arg(&file)
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .args(["--parallelism", "2", "--checkpoint-interval", "1s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let output = child.stdout.take().context("the engine's output")?;
    let mut microseconds = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3)?;
    let mut rows = 0u64;
    for line in BufReader::with_capacity(1 << 20, output).lines() {
        let line = line?;
        let Some(end) = window_end_us(&line) else { continue };
        rows += 1;
        if start.elapsed() > WARM_UP {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
            microseconds.saturating_record(now.saturating_sub(end).max(1) as u64);
        }
    }
    let cost = measure::wait(child, start)?;
    if !cost.status.success() {
        bail!("the engine ended with {}", cost.status);
    }
    let at = |quantile: f64| microseconds.value_at_quantile(quantile) as f64 / 1000.0;
    let row = json!({
        "events_per_second": RATE, "seconds": SECONDS, "rows": rows, "measured": microseconds.len(),
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "p999_ms": at(0.999), "p9999_ms": at(0.9999),
        "max_ms": microseconds.max() as f64 / 1000.0,
        "cpu_seconds": cost.cpu.as_secs_f64(), "peak_rss_bytes": cost.peak_rss_bytes,
    });
    println!("{rows} result rows, {} measured", microseconds.len());
    for name in ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "p9999_ms", "max_ms"] {
        println!("{name:<10}{:>10.2}", row[name].as_f64().unwrap_or_default());
    }
    println!(
        "CPU {:.1} s, RSS {:.0} MB",
        cost.cpu.as_secs_f64(),
        cost.peak_rss_bytes as f64 / 1e6
    );
    Ok(row)
}

/// The window's end in a row `+I[key, end, count]`.
fn window_end_us(line: &str) -> Option<i64> {
    let text = line.split(", ").nth(1)?.replace('T', " ");
    let end = NaiveDateTime::parse_from_str(&text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
    Some(end.and_utc().timestamp_micros())
}
