//! Recovery time of a job with a gigabyte of window state after a worker is killed: until the new process of that
//! worker emits its first row, once with its local folder intact, once with an empty one.
//!
//! The time includes detecting the loss, ending the surviving tasks, starting the process, restoring its state and the
//! first rows. If possible, checkpoints are on another file system than the workers' folders (`BENCH_STORAGE`, default
//! `/dev/shm`), so that files are copied, as from object storage, and not linked.

use std::fs;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::test_cluster::TestCluster;

const STATE_BYTES_MIN: u64 = 1 << 30;
const ROUNDS: usize = 3;
const ROWS_DEADLINE: Duration = Duration::from_secs(120);
const JOB: &str = "recovery";
/// The worker that is killed.
const VICTIM: &str = "b";

pub fn run() -> Result<Value> {
    let storage = std::env::var_os("BENCH_STORAGE").map_or(PathBuf::from("/dev/shm"), PathBuf::from);
    let storage = match storage.is_dir() {
        true => TempDir::new_in(&storage)?,
        false => TempDir::new()?,
    };
    let cluster = TestCluster::new(storage.path(), 1)?;
    let _coordinator = cluster.coordinator(0)?;
    let (rows, _rows_read) = mpsc::channel();
    let mut survivor = cluster.worker("a", 1)?;
    survivor.lines_read(rows.clone())?;
    let mut victim = cluster.worker(VICTIM, 1)?;
    victim.lines_read(rows)?;
    cluster.submit("recovery.yaml")?;
    cluster.until("the state is large enough", || {
        Ok(cluster.state_bytes(JOB)? >= STATE_BYTES_MIN)
    })?;
    let mut results = serde_json::Map::new();
    for (name, keeps_folder) in [("local", true), ("fetched", false)] {
        let mut seconds = Vec::new();
        for _ in 0..ROUNDS {
            // Each has completed a checkpoint of its newest attempt.
            let before = cluster.checkpoints(JOB)?;
            cluster.until("checkpoints go on", || Ok(cluster.checkpoints(JOB)? >= before + 2))?;
            let killed = Instant::now();
            victim.kill()?;
            if !keeps_folder {
                fs::remove_dir_all(cluster.path(VICTIM))?;
            }
            victim = cluster.worker(VICTIM, 1)?;
            let (rows, rows_read) = mpsc::channel();
            victim.lines_read(rows)?;
            let first = rows_read
                .recv_timeout(ROWS_DEADLINE)
                .context("the worker came back and has no rows")?;
            seconds.push((first - killed).as_secs_f64());
        }
        let state_bytes = cluster.state_bytes(JOB)?;
        seconds.sort_by(f64::total_cmp);
        println!(
            "{name:<8} rows again after {:.2} s (median of {ROUNDS}; {:.2} to {:.2} s), {:.0} MB of state",
            seconds[ROUNDS / 2],
            seconds[0],
            seconds[ROUNDS - 1],
            state_bytes as f64 / 1e6
        );
        results.insert(name.into(), json!({ "seconds": seconds, "state_bytes": state_bytes }));
    }
    Ok(Value::Object(results))
}
