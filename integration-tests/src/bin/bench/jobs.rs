//! Many small jobs in one process: the time to submit them, and their CPU and memory while idle and under light load.
//!
//! Each job watches a folder for files of rows, counts the rows in windows by key, and writes files; it takes a
//! checkpoint every ten seconds. First there is no input, then each job reads a row every second.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::measure::{cpu_seconds, resident_bytes, threads};

const JOBS: usize = 300;
/// Long enough for several checkpoints of every job.
const LOOK: Duration = Duration::from_secs(30);
const READY_DEADLINE: Duration = Duration::from_secs(60);

const IDLE: &str = r#"name: idle
parallelism: 1
sources:
  orders:
    connector: filesystem
    options: { path: "${IN}", source.monitor-interval: 5s }
    format: json
    columns: { id: bigint, item: string, at: timestamp }
    event_time: { column: at, out_of_orderness: 5s }
steps:
  per_item:
    sql: |
      SELECT item, window_start, count(*) AS orders
      FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1' MINUTE))
      GROUP BY item, window_start, window_end
sinks:
  counts: { from: per_item, connector: filesystem, options: { path: "${OUT}" }, format: json }
"#;

const TRICKLE: &str = r#"name: trickle
parallelism: 1
sources:
  orders:
    connector: datagen
    options: { rows-per-second: "1", fields.id.kind: sequence, fields.id.start: "0", fields.id.end: "1000000000" }
    columns: { id: bigint, at: { as: "TO_TIMESTAMP_LTZ(id * 1000, 3)" } }
    event_time: { column: at }
steps:
  per_item:
    sql: |
      SELECT MOD(id, 10) AS item, window_start, count(*) AS orders
      FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(at), INTERVAL '1' MINUTE))
      GROUP BY MOD(id, 10), window_start, window_end
sinks:
  counts: { from: per_item, connector: filesystem, options: { path: "${OUT}" }, format: json }
"#;

pub fn run() -> Result<Value> {
    let mut results = serde_json::Map::new();
    for (name, pipeline) in [("idle", IDLE), ("trickle", TRICKLE)] {
        let cluster = TestCluster::start(pipeline)?;
        let measured = cluster.measure();
        let log = fs::read_to_string(cluster.folder.path().join("log")).unwrap_or_default();
        let measured = measured.with_context(|| {
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(20)..].join("\n")
        })?;
        println!("{name}: {}", words(&measured));
        results.insert(name.to_owned(), measured);
    }
    Ok(Value::Object(results))
}

fn words(measured: &Value) -> String {
    let number = |name: &str| measured[name].as_f64().unwrap_or_default();
    format!(
        "{JOBS} jobs submitted in {:.1} s (CPU {:.1} s), running after {:.1} s; then {:.3} of a core, {:.0} MB resident, {} threads",
        number("submit_seconds"),
        number("submit_cpu_seconds"),
        number("running_seconds"),
        number("idle_cores"),
        number("rss_bytes") / 1e6,
        number("threads"),
    )
}

/// A standalone engine in a folder of its own.
struct TestCluster {
    folder: TempDir,
    server: String,
    engine: Child,
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        // The process may have ended by itself.
        self.engine.kill().ok();
        self.engine.wait().ok();
    }
}

impl TestCluster {
    fn start(pipeline: &str) -> Result<Self> {
        let folder = TempDir::new()?;
        fs::write(folder.path().join("job.yaml"), pipeline)?;
        fs::create_dir(folder.path().join("in"))?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let engine = Command::new(millstream_integration_tests::engine())
            .args(["standalone", "--data-dir", "data", "--listen", &address.to_string()])
            .args(["--http", "127.0.0.1:0"])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log"))?)
            .spawn()?;
        let cluster = Self {
            server: format!("http://{address}"),
            folder,
            engine,
        };
        cluster.until("a worker is ready", |cluster| {
            let workers = cluster.json(&["workers", "list"])?;
            Ok(workers["workers"][0]["state"] == "ready")
        })?;
        Ok(cluster)
    }

    fn measure(&self) -> Result<Value> {
        let pid = self.engine.id();
        let (start, cpu) = (Instant::now(), cpu_seconds(pid)?);
        let mut slowest = Duration::ZERO;
        for number in 0..JOBS {
            let name = format!("job-{number}");
            let since = Instant::now();
            self.cli(&["jobs", "submit", "job.yaml", "--name", &name], &name)?;
            slowest = slowest.max(since.elapsed());
        }
        let submit_seconds = start.elapsed().as_secs_f64();
        let submit_cpu_seconds = cpu_seconds(pid)? - cpu;
        self.until("all jobs run", |cluster| {
            let listed = cluster.json(&["jobs", "list"])?;
            let jobs = listed["jobs"].as_array().context("a list of jobs")?;
            if let Some(failed) = jobs.iter().find(|job| job["state"] == "failed") {
                bail!("{}: {}", failed["name"], failed["reason"]);
            }
            Ok(jobs.iter().filter(|job| job["state"] == "running").count() == JOBS)
        })?;
        let running_seconds = start.elapsed().as_secs_f64();
        // Every job has had its first checkpoint.
        thread::sleep(Duration::from_secs(15));
        let (since, before) = (Instant::now(), cpu_seconds(pid)?);
        thread::sleep(LOOK);
        let idle_cores = (cpu_seconds(pid)? - before) / since.elapsed().as_secs_f64();
        Ok(json!({
            "jobs": JOBS,
            "submit_seconds": submit_seconds,
            "submit_cpu_seconds": submit_cpu_seconds,
            "slowest_submit_seconds": slowest.as_secs_f64(),
            "running_seconds": running_seconds,
            "idle_cores": idle_cores,
            "rss_bytes": resident_bytes(pid)?,
            "threads": threads(pid)?,
        }))
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + READY_DEADLINE;
        loop {
            // The server may not have started yet.
            let answer = holds(self);
            match (answer, Instant::now() < deadline) {
                (Ok(true), _) => return Ok(()),
                (_, true) => thread::sleep(Duration::from_millis(100)),
                (Ok(false), false) => bail!("not within {READY_DEADLINE:?}: {what}"),
                (Err(error), false) => return Err(error.context(what.to_owned())),
            }
        }
    }

    fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.cli(&[arguments, &["-o", "json"]].concat(), "nobody")?;
        Ok(serde_json::from_str(&text)?)
    }

    fn cli(&self, arguments: &[&str], job: &str) -> Result<String> {
        let folder: &Path = self.folder.path();
        let output = Command::new(millstream_integration_tests::engine_cli())
            .args(["--server", &self.server])
            .args(arguments)
            .current_dir(folder)
            .env("IN", folder.join("in"))
            .env("OUT", folder.join("out").join(job))
            .stdin(Stdio::null())
            .output()?;
        if !output.status.success() {
            bail!("engine-cli {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(String::from_utf8(output.stdout)?)
    }
}
