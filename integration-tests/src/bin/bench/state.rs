//! State larger than memory: one window over ten million keys, in memory and with a quarter of the memory it needs.
//!
//! The size of the state is estimated as the peak resident memory of the run with enough memory: the window fires only
//! at the end, so nearly all of its memory is state.

use std::fs;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{self, Cost};

const KEYS: u64 = 10_000_000;
const ROWS: u64 = 30_000_000;
/// Memory budget that exceeds the state.
const PLENTY: &str = "8gb";

pub fn run() -> Result<Value> {
    let in_memory = run_with(PLENTY)?;
    let state_bytes = in_memory.peak_rss_bytes;
    let quarter = format!("{}mb", (state_bytes / 4 / (1 << 20)).max(64));
    let spilled = run_with(&quarter)?;
    let rate = |cost: &Cost| ROWS as f64 / cost.wall.as_secs_f64();
    let share = rate(&spilled) / rate(&in_memory);
    for (memory, cost) in [(PLENTY, &in_memory), (quarter.as_str(), &spilled)] {
        println!(
            "--memory {memory:<8}{:>12.0} rows/s, {:>6.1} CPU s, {:>6.0} MB resident",
            rate(cost),
            cost.cpu.as_secs_f64(),
            cost.peak_rss_bytes as f64 / 1e6
        );
    }
    println!(
        "state {:.0} MB; with a quarter of it {:.2} of the in-memory speed",
        state_bytes as f64 / 1e6,
        share
    );
    Ok(json!({
        "keys": KEYS, "rows": ROWS, "state_bytes": state_bytes, "in_memory_rows_per_second": rate(&in_memory),
        "quarter_rows_per_second": rate(&spilled), "share": share, "quarter_peak_rss_bytes": spilled.peak_rss_bytes,
    }))
}

fn run_with(memory: &str) -> Result<Cost> {
    let folder = TempDir::new()?;
    let file = folder.path().join("state.sql");
    let script = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/state.sql"))?;
    fs::write(
        &file,
        script
            .replace("${KEYS}", &KEYS.to_string())
            .replace("${ROWS}", &ROWS.to_string()),
    )?;
    let summary_file = folder.path().join("summary.json");
    let cost = measure::run(
        Command::new(millstream_integration_tests::engine())
            .arg("run")
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--summary")
            .arg(&summary_file)
            .args(["--memory", memory, "--parallelism", "2", "--checkpoint-interval", "10s"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    )?;
    if !cost.status.success() {
        bail!("with --memory {memory} the engine ended with {}", cost.status);
    }
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary_file)?)?;
    if summary["rows_out"].as_u64() != Some(KEYS) {
        bail!(
            "with --memory {memory}: {} result rows instead of {KEYS}",
            summary["rows_out"]
        );
    }
    Ok(cost)
}
