//! Session windows larger than memory: every key has an open session. Runs with enough memory, and with a half and a
//! tenth of it.
//!
//! In one variant keys recur within the gap, so that each key has one session that ends with the input; in the other
//! they do not, so that each row is a session of its own. Keys recur in cyclic order, the worst case for a cache. Also
//! measures the time to stop a run, which takes a last checkpoint.

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{self, Cost};

const KEYS: u64 = 4_000_000;
const ROWS: u64 = 12_000_000;
/// Memory budget that exceeds the state.
const PLENTY: &str = "8gb";
/// Time for a run to fill its memory before it is stopped.
const STOP_AFTER: Duration = Duration::from_secs(5);

/// Variants with their session gaps: a key has a row every four seconds of event time.
const PATTERNS: [(&str, u64, u64); 2] = [("coming back", 6, KEYS), ("apart", 2, ROWS)];

pub fn run() -> Result<Value> {
    let mut results = Vec::new();
    for (name, gap_seconds, sessions) in PATTERNS {
        let in_memory = run_with(PLENTY, gap_seconds, sessions)?;
        let state_bytes = in_memory.peak_rss_bytes;
        print(name, PLENTY, &in_memory);
        let mut rates = vec![rate(&in_memory)];
        for share in [2, 10] {
            let memory = format!("{}mb", (state_bytes / share / (1 << 20)).max(1));
            let cost = run_with(&memory, gap_seconds, sessions)?;
            print(name, &memory, &cost);
            rates.push(rate(&cost));
        }
        let tenth = format!("{}mb", (state_bytes / 10 / (1 << 20)).max(1));
        let stop = stop_with(&tenth, gap_seconds)?;
        println!(
            "{name}: state {:.0} MB; {:.2} of the speed with half of it, {:.2} with a tenth, which stops in {:.1} s",
            state_bytes as f64 / 1e6,
            rates[1] / rates[0],
            rates[2] / rates[0],
            stop.as_secs_f64()
        );
        results.push(json!({
            "pattern": name, "keys": KEYS, "rows": ROWS, "state_bytes": state_bytes,
            "in_memory_rows_per_second": rates[0], "half_rows_per_second": rates[1],
            "tenth_rows_per_second": rates[2], "tenth_stop_seconds": stop.as_secs_f64(),
        }));
    }
    Ok(Value::Array(results))
}

fn rate(cost: &Cost) -> f64 {
    ROWS as f64 / cost.wall.as_secs_f64()
}

fn print(name: &str, memory: &str, cost: &Cost) {
    println!(
        "{name:<12} --memory {memory:<8}{:>12.0} rows/s, {:>6.1} CPU s, {:>6.0} MB resident",
        rate(cost),
        cost.cpu.as_secs_f64(),
        cost.peak_rss_bytes as f64 / 1e6
    );
}

fn command(folder: &TempDir, memory: &str, gap_seconds: u64, rows: u64) -> Result<Command> {
    let file = folder.path().join("sessions.sql");
    let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/sessions.sql"))?;
    fs::write(
        &file,
        script
            .replace("${KEYS}", &KEYS.to_string())
            .replace("${ROWS}", &rows.to_string())
            .replace("${GAP}", &gap_seconds.to_string()),
    )?;
    let mut command = Command::new(millstream_integration_tests::engine());
    command
        .arg("run")
        .arg(&file)
        .arg("--data-dir")
        .arg(folder.path().join("data"))
        .arg("--summary")
        .arg(folder.path().join("summary.json"))
        .args(["--memory", memory, "--parallelism", "2", "--checkpoint-interval", "10s"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

fn run_with(memory: &str, gap_seconds: u64, sessions: u64) -> Result<Cost> {
    let folder = TempDir::new()?;
    let cost = measure::run(&mut command(&folder, memory, gap_seconds, ROWS)?)?;
    if !cost.status.success() {
        bail!("with --memory {memory} the engine ended with {}", cost.status);
    }
    let summary: Value = serde_json::from_str(&fs::read_to_string(folder.path().join("summary.json"))?)?;
    if summary["rows_out"].as_u64() != Some(sessions) {
        bail!(
            "with --memory {memory}: {} sessions instead of {sessions}",
            summary["rows_out"]
        );
    }
    Ok(cost)
}

/// Returns the time from the signal to the end of the process, for a run with much input left.
fn stop_with(memory: &str, gap_seconds: u64) -> Result<Duration> {
    let folder = TempDir::new()?;
    let started = Instant::now();
    let child = command(&folder, memory, gap_seconds, ROWS * 1_000)?.spawn()?;
    let pid = libc::pid_t::try_from(child.id()).context("the process's number")?;
    std::thread::sleep(STOP_AFTER);
    // SAFETY: the child is ours, and has not been waited for.
    if unsafe { libc::kill(pid, libc::SIGTERM) } != 0 {
        bail!("the engine cannot be stopped: {}", std::io::Error::last_os_error());
    }
    let signalled = Instant::now();
    let cost = measure::wait(child, started)?;
    if !cost.status.success() {
        bail!("stopped with --memory {memory}, the engine ended with {}", cost.status);
    }
    Ok(signalled.elapsed())
}
