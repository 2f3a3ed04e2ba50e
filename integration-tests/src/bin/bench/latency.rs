//! End-to-end latency of a hopping window: 10,000 keys, 200,000 events per second, checkpoints every second.
//!
//! The source's event times are the *scheduled* times of a fixed rate, and a window's result is due the moment its end
//! passes; so the latency of a result row is the time it is read here minus its window's end. A stall of the engine
//! delays rows but never their due times: nothing is hidden by coordinated omission.
//!
//! A window's 10,000 rows arrive together. A row counts as read when the chunk of output that completes its line has
//! been read from the pipe. The reader then only splits lines and parses the time in each, about a millisecond of work
//! for all of them, so that the measurement itself does not delay rows.

use std::fs;
use std::io::Read;
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
/// Warm-up time, in which caches and the first windows fill; its results are not counted.
const WARM_UP: Duration = Duration::from_secs(5);
/// Most output that is read at once: the capacity of a pipe.
const PIECE_BYTES: usize = 1 << 16;

pub fn run() -> Result<Value> {
    let folder = TempDir::new()?;
    let file = folder.path().join("latency.sql");
    let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/latency.sql"))?;
    let script = script
        .replace("${EVENTS}", &(RATE * SECONDS).to_string())
        .replace("${RATE}", &RATE.to_string());
    fs::write(&file, script)?;

    let summary_file = folder.path().join("summary.json");
    let start = Instant::now();
    let mut child = Command::new(millstream_integration_tests::engine())
        .arg("run")
        .arg(&file)
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .arg("--summary")
        .arg(&summary_file)
        .args(["--parallelism", "2", "--checkpoint-interval", "1s"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut output = child.stdout.take().context("the engine's output")?;
    let mut microseconds = Histogram::<u64>::new_with_bounds(1, 3_600_000_000, 3)?;
    let mut lines = Lines::default();
    let mut rows = 0u64;
    let mut piece = vec![0; PIECE_BYTES];
    let mut cutting = Duration::ZERO;
    loop {
        let bytes = output.read(&mut piece)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
        if bytes == 0 {
            break;
        }
        let came = Instant::now();
        let is_measured = start.elapsed() > WARM_UP;
        lines.add(&piece[..bytes], |end| {
            rows += 1;
            if is_measured {
                microseconds.saturating_record(now.saturating_sub(end).max(1) as u64);
            }
        });
        cutting += came.elapsed();
    }
    let cost = measure::wait(child, start)?;
    if !cost.status.success() {
        bail!("the engine ended with {}", cost.status);
    }
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary_file)?)?;
    let at = |quantile: f64| microseconds.value_at_quantile(quantile) as f64 / 1000.0;
    let row = json!({
        "events_per_second": RATE, "seconds": SECONDS, "rows": rows, "measured": microseconds.len(),
        "p50_ms": at(0.5), "p90_ms": at(0.9), "p99_ms": at(0.99), "p999_ms": at(0.999), "p9999_ms": at(0.9999),
        "max_ms": microseconds.max() as f64 / 1000.0,
        "reader_ms_per_window": cutting.as_secs_f64() * 1e7 / rows.max(1) as f64,
        "checkpoints": summary["checkpoints"],
        "checkpoint_pause_ms_max": summary["checkpoint_pause_ms_max"],
        "checkpoint_pause_ms_sum": summary["checkpoint_pause_ms_sum"],
        "cpu_seconds": cost.cpu.as_secs_f64(), "peak_rss_bytes": cost.peak_rss_bytes,
    });
    println!("{rows} result rows, {} measured", microseconds.len());
    println!(
        "the reader took {:.2} ms for a window's 10,000 rows",
        cutting.as_secs_f64() * 1e7 / rows.max(1) as f64
    );
    for name in [
        "p50_ms",
        "p90_ms",
        "p99_ms",
        "p999_ms",
        "p9999_ms",
        "max_ms",
        "checkpoint_pause_ms_max",
    ] {
        println!("{name:<24}{:>10.2}", row[name].as_f64().unwrap_or_default());
    }
    println!(
        "CPU {:.1} s, RSS {:.0} MB",
        cost.cpu.as_secs_f64(),
        cost.peak_rss_bytes as f64 / 1e6
    );
    Ok(row)
}

/// Splits output into lines and parses each row's window end.
#[derive(Default)]
struct Lines {
    /// Beginning of a line whose rest has not been read yet.
    rest: Vec<u8>,
    /// Window end of the last row, which neighbouring rows mostly share.
    text: Vec<u8>,
    end_us: i64,
}

impl Lines {
    fn add(&mut self, piece: &[u8], mut row: impl FnMut(i64)) {
        let mut lines = piece.split_inclusive(|byte| *byte == b'\n');
        if !self.rest.is_empty()
            && let Some(first) = lines.next()
        {
            let mut line = std::mem::take(&mut self.rest);
            line.extend_from_slice(first);
            self.line(&line, &mut row);
        }
        for line in lines {
            self.line(line, &mut row);
        }
    }

    /// A row is `+I[key, end, count]`.
    fn line(&mut self, line: &[u8], row: &mut impl FnMut(i64)) {
        if line.last() != Some(&b'\n') {
            self.rest = line.to_vec();
            return;
        }
        let comma = |from: usize| Some(from + line.get(from..)?.iter().position(|byte| *byte == b',')?);
        let Some(text) = comma(0).and_then(|key| line.get(key + 2..comma(key + 1)?)) else {
            return;
        };
        if self.text != text {
            let Some(end_us) = window_end_us(text) else { return };
            self.text = text.to_vec();
            self.end_us = end_us;
        }
        row(self.end_us);
    }
}

fn window_end_us(text: &[u8]) -> Option<i64> {
    let text = str::from_utf8(text).ok()?;
    // Seconds are omitted if they are zero.
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|end| end.and_utc().timestamp_micros())
}
