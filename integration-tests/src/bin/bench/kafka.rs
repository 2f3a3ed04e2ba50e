//! JSON from Kafka to JSON in Kafka, with the broker on the same machine.
//!
//! First the engine fills a topic with Nexmark bids, then the measured job reads it to its end, filters, computes and
//! writes to another topic.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use millstream_integration_tests::kafka::KafkaBroker;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{self, Cost};

const EVENTS: u64 = 10_000_000;
pub const PARTITIONS: i32 = 4;
const INTERVAL: &str = "10s";

pub fn run() -> Result<Value> {
    let broker = KafkaBroker::start()?;
    broker.create_topic("bids", PARTITIONS)?;
    broker.create_topic("prices", PARTITIONS)?;
    let folder = TempDir::new()?;
    let (fill, _) = fill(folder.path(), broker.address(), EVENTS)?;
    let (cost, summary) = copy(folder.path(), broker.address(), "prices", "at-least-once", INTERVAL)?;
    let read = summary["rows_in"].as_u64().unwrap_or_default();
    let written = broker.count("prices")?;
    if written == 0 || summary["rows_out"].as_i64() != Some(written) {
        bail!(
            "the engine says it wrote {} rows; the topic has {written}",
            summary["rows_out"]
        );
    }
    let rate = read as f64 / cost.wall.as_secs_f64();
    println!(
        "filled the topic at {:.0} rows/s",
        read as f64 / fill.wall.as_secs_f64()
    );
    println!(
        "{rate:.0} rows/s from topic to topic ({read} read, {written} written), {:.2} CPU s/M rows, {:.0} MB resident",
        cost.cpu.as_secs_f64() / (read as f64 / 1e6),
        cost.peak_rss_bytes as f64 / 1e6
    );
    Ok(json!({
        "rows_per_second": rate, "rows_in": read, "rows_out": written,
        "fill_rows_per_second": read as f64 / fill.wall.as_secs_f64(),
        "cpu_seconds_per_million_rows": cost.cpu.as_secs_f64() / (read as f64 / 1e6),
        "peak_rss_bytes": cost.peak_rss_bytes,
    }))
}

/// Fills the topic `bids` with the bids among so many Nexmark events.
pub fn fill(folder: &Path, brokers: &str, events: u64) -> Result<(Cost, Value)> {
    let variables = [("${BROKERS}", brokers), ("${EVENTS}", &events.to_string())];
    step(folder, "kafka-fill.sql", &variables, INTERVAL)
}

/// Reads the topic `bids` to its end and writes to another.
pub fn copy(folder: &Path, brokers: &str, out: &str, delivery: &str, interval: &str) -> Result<(Cost, Value)> {
    let variables = [("${BROKERS}", brokers), ("${OUT}", out), ("${DELIVERY}", delivery)];
    step(folder, "kafka-to-kafka.sql", &variables, interval)
}

fn step(folder: &Path, script: &str, variables: &[(&str, &str)], interval: &str) -> Result<(Cost, Value)> {
    let summary_file = folder.join("summary.json");
    let cost = measure::run(
        engine(folder, script, variables, interval)?
            .arg("--fresh")
            .arg("--summary")
            .arg(&summary_file),
    )?;
    if !cost.status.success() {
        bail!("{script}: the engine ended with {}", cost.status);
    }
    Ok((cost, serde_json::from_str(&fs::read_to_string(&summary_file)?)?))
}

/// Runs the engine with a script of `benchmarks/`.
pub fn engine(folder: &Path, script: &str, variables: &[(&str, &str)], interval: &str) -> Result<Command> {
    let file = folder.join(script);
    let mut text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks").join(script))?;
    for (name, value) in variables {
        text = text.replace(name, value);
    }
    fs::write(&file, text)?;
    let mut command = Command::new(millstream_integration_tests::engine());
    command
        .arg("run")
        .arg(&file)
        .arg("--data-dir")
        .arg(folder.join("data"))
        .args(["--parallelism", "2", "--checkpoint-interval", interval])
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    Ok(command)
}
