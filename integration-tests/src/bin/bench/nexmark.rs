//! Nexmark: events per second, CPU per event and peak memory of each query, RocksDB and checkpoints on. The comparison
//! with Flink is another program, `integration-tests/benchmarks/flink/compare.py`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure;

/// Queries: stateless ones first, then windows ordered by the size of their state, then updating results, then joins.
/// `source` is the generator alone.
const QUERIES: [&str; 25] = [
    "source",
    "q0",
    "q1",
    "q2",
    "q14",
    "q21",
    "q22",
    "q10",
    "q5",
    "q7-window",
    "q8",
    "q11",
    "q12",
    "q16-window",
    "q15",
    "q16",
    "q17",
    "q18",
    "q19",
    "q3",
    "q4",
    "q7",
    "q9",
    "q20",
    "q23",
];

/// Runs `queries` (all of them if empty).
pub fn run(queries: &[String]) -> Result<Value> {
    let events: u64 = match std::env::var("BENCH_EVENTS") {
        Ok(text) => text.parse().context("BENCH_EVENTS is a number of events")?,
        Err(_) => 100_000_000,
    };
    let chosen: Vec<&str> = match queries {
        [] => QUERIES.to_vec(),
        named => named.iter().map(String::as_str).collect(),
    };
    let interval = std::env::var("BENCH_CHECKPOINT_INTERVAL").unwrap_or_else(|_| "10s".to_string());
    println!("{events} events a query, parallelism 2, a checkpoint each {interval}");
    println!(
        "{:<11}{:>14}{:>12}{:>16}{:>10}{:>13}{:>17}{:>14}{:>14}",
        "query",
        "events/s",
        "seconds",
        "CPU s/M events",
        "RSS MB",
        "checkpoints",
        "slowest ckpt ms",
        "pause max ms",
        "pause sum ms"
    );
    let mut rows = Vec::new();
    for query in chosen {
        rows.push(measure_query(query, events, &interval)?);
    }
    Ok(Value::Array(rows))
}

fn measure_query(query: &str, events: u64, interval: &str) -> Result<Value> {
    let folder = TempDir::new()?;
    let sql = |name: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("benchmarks/nexmark")
            .join(name);
        fs::read_to_string(&path).with_context(|| format!("no such query: {}", path.display()))
    };
    let script = (sql("ddl.sql")? + &sql(&format!("{query}.sql"))?)
        .replace("${EVENTS}", &events.to_string())
        .replace("${OUT}", &folder.path().join("out").display().to_string());
    let file = folder.path().join(format!("{query}.sql"));
    fs::write(&file, script)?;
    let summary_file = folder.path().join("summary.json");

    let cost = measure::run(
        Command::new(millstream_integration_tests::engine())
            .arg("run")
            .arg(&file)
            .arg("--data-dir")
            .arg(folder.path().join("data"))
            .arg("--summary")
            .arg(&summary_file)
            .args(["--parallelism", "2", "--checkpoint-interval", interval])
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .stdout(Stdio::null()),
    )?;
    if !cost.status.success() {
        bail!("{query}: the engine ended with {}", cost.status);
    }
    let summary: Value = serde_json::from_str(&fs::read_to_string(&summary_file)?)?;
    let read = summary["rows_in"].as_u64().unwrap_or_default();
    if read != events {
        bail!("{query}: {read} events were read instead of {events}");
    }
    let seconds = cost.wall.as_secs_f64();
    let row = json!({
        "query": query,
        "events": events,
        "events_per_second": events as f64 / seconds,
        "seconds": seconds,
        "cpu_seconds_per_million_events": cost.cpu.as_secs_f64() / (events as f64 / 1e6),
        "peak_rss_bytes": cost.peak_rss_bytes,
        "rows_out": summary["rows_out"],
        "checkpoints": summary["checkpoints"],
        "checkpoint_acknowledged_ms_max": summary["checkpoint_acknowledged_ms_max"],
        "checkpoint_pause_ms_max": summary["checkpoint_pause_ms_max"],
        "checkpoint_pause_ms_sum": summary["checkpoint_pause_ms_sum"],
    });
    println!(
        "{:<11}{:>14.0}{:>12.2}{:>16.3}{:>10.0}{:>13}{:>17}{:>14.2}{:>14.1}",
        query,
        row["events_per_second"].as_f64().unwrap_or_default(),
        seconds,
        row["cpu_seconds_per_million_events"].as_f64().unwrap_or_default(),
        cost.peak_rss_bytes as f64 / 1e6,
        summary["checkpoints"].to_string(),
        summary["checkpoint_acknowledged_ms_max"].to_string(),
        summary["checkpoint_pause_ms_max"].as_f64().unwrap_or_default(),
        summary["checkpoint_pause_ms_sum"].as_f64().unwrap_or_default(),
    );
    Ok(row)
}
