//! How long a job with a gigabyte of window state stands still when a worker is killed: until the new process of that
//! worker puts out its first row, once with its local folder as it was, once with an empty one.
//!
//! The time contains everything: that the loss is noticed, the surviving tasks' end, the new process, its state, the
//! first rows. Checkpoints go to another file system than the workers' folders where there is one (`BENCH_STORAGE`,
//! default `/dev/shm`), so that what is fetched is copied, as it would be from object storage, and not linked.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millstream_integration_tests::{engine, engine_cli};
use serde_json::{Value, json};
use tempfile::TempDir;

const STATE_BYTES_MIN: u64 = 1 << 30;
const ROUNDS: usize = 3;
const DEADLINE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);
const JOB: &str = "recovery";
/// The worker that is killed.
const VICTIM: &str = "b";

pub fn run() -> Result<Value> {
    let storage = std::env::var_os("BENCH_STORAGE").map_or(PathBuf::from("/dev/shm"), PathBuf::from);
    let storage = match storage.is_dir() {
        true => TempDir::new_in(&storage)?,
        false => TempDir::new()?,
    };
    let place = Place::new(storage.path())?;
    let _coordinator = place.coordinator()?;
    let _survivor = place.worker("a")?;
    let mut victim = place.worker(VICTIM)?;
    place.submit()?;
    place.until("the state is large enough", || {
        Ok(place.state_bytes()? >= STATE_BYTES_MIN)
    })?;
    let mut results = serde_json::Map::new();
    for (name, keeps_folder) in [("local", true), ("fetched", false)] {
        let mut seconds = Vec::new();
        for _ in 0..ROUNDS {
            // Both have a checkpoint of their newest attempt behind them.
            let before = place.checkpoints()?;
            place.until("checkpoints go on", || Ok(place.checkpoints()? >= before + 2))?;
            let killed = Instant::now();
            victim.0.kill()?;
            victim.0.wait()?;
            if !keeps_folder {
                fs::remove_dir_all(place.folder.path().join(VICTIM))?;
            }
            victim = place.worker(VICTIM)?;
            let rows = victim.0.stdout.take().context("the worker's output")?;
            let mut lines = BufReader::new(rows).lines();
            lines.next().context("the worker ended without a row")??;
            seconds.push(killed.elapsed().as_secs_f64());
            // The rest must not fill the pipe.
            thread::spawn(move || lines.for_each(drop));
        }
        let state_bytes = place.state_bytes()?;
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

/// A process that ends with the benchmark.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody left to tell.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

struct Place<'a> {
    folder: TempDir,
    storage: &'a Path,
    url: String,
    listen: String,
}

impl<'a> Place<'a> {
    fn new(storage: &'a Path) -> Result<Self> {
        let listen = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        Ok(Self {
            folder: TempDir::new()?,
            storage,
            url: format!("http://{listen}"),
            listen,
        })
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.folder.path().join(format!("{name}.log")))?;
        let mut command = Command::new(engine());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stderr(log);
        command.stdout(if name == VICTIM { Stdio::piped() } else { Stdio::null() });
        Ok(Process(command.spawn()?))
    }

    fn coordinator(&self) -> Result<Process> {
        let arguments = ["coordinator", "--data-dir", "data", "--listen", &self.listen];
        self.start("coordinator", &[&arguments[..], &["--http", "127.0.0.1:0"]].concat())
    }

    fn worker(&self, name: &str) -> Result<Process> {
        let arguments = ["worker", "--coordinator", &self.url, "--name", name, "--slots", "1"];
        let more = ["--listen", "127.0.0.1:0", "--memory", "3gb", "--data-dir", name];
        self.start(name, &[&arguments[..], &more].concat())
    }

    fn cli(&self, arguments: &[&str]) -> Result<std::process::Output> {
        let output = Command::new(engine_cli())
            .args(["--server", &self.url])
            .args(arguments)
            .env("STORAGE", self.storage)
            .env("MILLSTREAM_CONTEXTS", self.folder.path().join("contexts.json"))
            .stdin(Stdio::null())
            .output()?;
        Ok(output)
    }

    fn submit(&self) -> Result<()> {
        let pipeline = concat!(env!("CARGO_MANIFEST_DIR"), "/benchmarks/recovery.yaml");
        let mut said = String::new();
        self.until("the job is accepted", || {
            let output = self.cli(&["jobs", "submit", pipeline])?;
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(output.status.success())
        })
        .with_context(|| said)
    }

    fn job(&self) -> Result<Value> {
        let output = self.cli(&["jobs", "describe", JOB, "-o", "json"])?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    fn checkpoints(&self) -> Result<u64> {
        Ok(self.job()?["checkpoints_completed"].as_u64().unwrap_or_default())
    }

    /// Of the newest checkpoint.
    fn state_bytes(&self) -> Result<u64> {
        let output = self.cli(&["checkpoints", "list", JOB, "-o", "json"])?;
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let checkpoints = listed["checkpoints"].as_array().or(listed.as_array());
        let sizes = checkpoints.into_iter().flatten().filter_map(|checkpoint| {
            let bytes = &checkpoint["state_bytes"];
            bytes.as_u64().or(bytes.as_str()?.parse().ok())
        });
        Ok(sizes.max().unwrap_or_default())
    }

    fn until(&self, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !condition()? {
            if Instant::now() > deadline {
                bail!("not within {} s: {what}; job: {}", DEADLINE.as_secs(), self.job()?);
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}
