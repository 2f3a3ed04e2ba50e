//! A cluster of real processes on this machine, in a temporary folder.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use millstream_integration_tests::{engine, engine_cli};
use serde_json::Value;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(100);

/// A process that is killed at the end of the benchmark.
pub struct Process(Child);

impl Process {
    pub fn kill(&mut self) -> Result<()> {
        self.0.kill()?;
        self.0.wait()?;
        Ok(())
    }

    /// Suspends the process (SIGSTOP); its connections stay open.
    pub fn freeze(&self) -> Result<()> {
        let pid = i32::try_from(self.0.id())?;
        // SAFETY: a signal to a child that has not been waited for cannot reach another process.
        match unsafe { libc::kill(pid, libc::SIGSTOP) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().into()),
        }
    }

    /// Sends the time at which each further line of its output is read, until it ends.
    pub fn lines_read(&mut self, read: mpsc::Sender<Instant>) -> Result<()> {
        let output = self.0.stdout.take().context("the output was taken before")?;
        thread::spawn(move || {
            for line in BufReader::new(output).lines() {
                if line.is_err() {
                    return;
                }
                // Read on without a receiver, so that the process is not blocked by a full pipe.
                read.send(Instant::now()).ok();
            }
        });
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended by itself.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

pub struct TestCluster {
    folder: TempDir,
    /// Folder of checkpoints: `${STORAGE}` in pipelines.
    storage: PathBuf,
    /// Addresses of the coordinators.
    addresses: Vec<String>,
}

impl TestCluster {
    /// Reserves ports for so many coordinators; starts nothing.
    pub fn new(storage: &Path, coordinators: usize) -> Result<Self> {
        // Bound together, so that the ports differ.
        let ports: Vec<TcpListener> = (0..coordinators)
            .map(|_| TcpListener::bind("127.0.0.1:0"))
            .collect::<std::io::Result<_>>()?;
        let address = |port: &TcpListener| Ok(port.local_addr()?.to_string());
        Ok(Self {
            folder: TempDir::new()?,
            storage: storage.to_path_buf(),
            addresses: ports.iter().map(address).collect::<Result<_>>()?,
        })
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn servers(&self) -> String {
        let urls: Vec<String> = self
            .addresses
            .iter()
            .map(|address| format!("http://{address}"))
            .collect();
        urls.join(",")
    }

    fn start(&self, name: &str, arguments: &[&str]) -> Result<Process> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.path(&format!("{name}.log")))?;
        let mut command = Command::new(engine());
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log);
        Ok(Process(command.spawn()?))
    }

    pub fn coordinator(&self, index: usize) -> Result<Process> {
        let arguments = ["coordinator", "--data-dir", "data", "--listen", &self.addresses[index]];
        let name = format!("coordinator-{index}");
        self.start(&name, &[&arguments[..], &["--http", "127.0.0.1:0"]].concat())
    }

    /// Starts a worker. Its output must be read ([`Process::lines_read`]), or a job that prints rows is blocked.
    pub fn worker(&self, name: &str, slots: u32) -> Result<Process> {
        let (servers, slots) = (self.servers(), slots.to_string());
        let arguments = ["worker", "--coordinator", &servers, "--name", name, "--slots", &slots];
        let more = ["--listen", "127.0.0.1:0", "--memory", "3gb", "--data-dir", name];
        self.start(name, &[&arguments[..], &more].concat())
    }

    pub fn cli(&self, arguments: &[&str]) -> Result<Output> {
        self.cli_at(&self.servers(), arguments)
    }

    fn cli_at(&self, servers: &str, arguments: &[&str]) -> Result<Output> {
        let output = Command::new(engine_cli())
            .args(["--server", servers])
            .args(arguments)
            .env("STORAGE", &self.storage)
            .env("MILLSTREAM_CONTEXTS", self.path("contexts.json"))
            .stdin(Stdio::null())
            .output()?;
        Ok(output)
    }

    /// Submits a pipeline of `benchmarks/` as soon as there is a leader.
    pub fn submit(&self, pipeline: &str) -> Result<()> {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks").join(pipeline);
        let path = path.to_string_lossy();
        let mut said = String::new();
        let accepted = self.until("the job is accepted", || {
            let output = self.cli(&["jobs", "submit", &path])?;
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            Ok(output.status.success())
        });
        accepted.with_context(|| said)
    }

    /// Returns the description of a job; empty without an answer.
    pub fn job(&self, name: &str) -> Result<Value> {
        let output = self.cli(&["jobs", "describe", name, "-o", "json"])?;
        Ok(serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    pub fn checkpoints(&self, job: &str) -> Result<u64> {
        Ok(self.job(job)?["checkpoints_completed"].as_u64().unwrap_or_default())
    }

    /// Returns the number of the newest checkpoint according to one coordinator; `None` if it is not the leader.
    pub fn newest_checkpoint(&self, coordinator: usize, job: &str) -> Result<Option<u64>> {
        let server = format!("http://{}", self.addresses[coordinator]);
        let output = self.cli_at(&server, &["jobs", "describe", job, "-o", "json"])?;
        if !output.status.success() {
            return Ok(None);
        }
        let job: Value = serde_json::from_slice(&output.stdout)?;
        Ok(Some(job["last_checkpoint"]["checkpoint"].as_u64().unwrap_or_default()))
    }

    /// Returns the size of the newest checkpoint's state.
    pub fn state_bytes(&self, job: &str) -> Result<u64> {
        let bytes = &self.job(job)?["last_checkpoint"]["state_bytes"];
        Ok(bytes.as_u64().unwrap_or_default())
    }

    pub fn until(&self, what: &str, mut condition: impl FnMut() -> Result<bool>) -> Result<()> {
        let deadline = Instant::now() + DEADLINE;
        while !condition()? {
            if Instant::now() > deadline {
                bail!("not within {} s: {what}", DEADLINE.as_secs());
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }
}
