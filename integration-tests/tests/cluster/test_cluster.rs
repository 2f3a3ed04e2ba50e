//! A cluster of real processes in a temporary folder on free ports.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::rc::Rc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use millstream_integration_tests::{engine, engine_cli};
use serde_json::Value;
use tempfile::TempDir;

pub const DEADLINE: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(50);

/// Pipeline that counts 20,000 cars over 200 seconds of event time.
pub const CARS: &str = r#"name: cars
parallelism: 2
checkpoints: { interval: 300ms, delivery: exactly-once }
sources:
  cars:
    connector: datagen
    options:
      number-of-rows: "20000"
      rows-per-second: "${RATE:-2500}"
      fields.n.kind: sequence
      fields.n.start: "0"
      fields.n.end: "19999"
    columns: { n: bigint, passed: { as: "TO_TIMESTAMP_LTZ(1577836800000 + n * 10, 3)" } }
    event_time: { column: passed }
steps:
  per_booth:
    sql: |
      SELECT MOD(n, 10) AS booth, window_start, count(*) AS cars, sum(n) AS total
      FROM TABLE(TUMBLE(TABLE cars, DESCRIPTOR(passed), INTERVAL '1' SECOND))
      GROUP BY MOD(n, 10), window_start, window_end
sinks:
  stats: { from: per_booth, connector: filesystem, options: { path: "${OUT}" }, format: csv }
"#;

/// A process that is killed when the test ends.
pub struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub fn kill(&mut self) {
        self.child.kill().expect("it has not been waited for");
        self.child.wait().expect("it has ended");
    }

    pub fn signal(&self, name: &str) {
        let signal = match name {
            "TERM" => libc::SIGTERM,
            "STOP" => libc::SIGSTOP,
            "CONT" => libc::SIGCONT,
            other => panic!("no signal {other} here"),
        };
        let pid = self.pid();
        // SAFETY: a signal to a child that has not been waited for cannot reach another process.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_some()
    }

    /// Returns true if the process has logged this text.
    pub fn has_logged(&self, words: &str) -> bool {
        fs::read_to_string(&self.log).is_ok_and(|text| text.contains(words))
    }

    /// Returns the last lines of the log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended by itself.
        self.child.kill().ok();
        self.child.wait().ok();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// A command of the client that runs in the background.
pub struct PendingCommand(Option<Child>);

impl PendingCommand {
    /// Returns true while the command is running.
    pub fn is_open(&self) -> bool {
        self.0.is_some()
    }

    /// Returns the output once the command has ended; `None` before, and after the first time.
    pub fn answer(&mut self) -> Option<Output> {
        let has_ended = self.0.as_mut()?.try_wait().expect("a child can be asked").is_some();
        let child = self.0.take_if(|_| has_ended)?;
        Some(child.wait_with_output().expect("it has ended"))
    }
}

impl Drop for PendingCommand {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // The process may have ended by itself.
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// Returns true if `jobs describe` reports a finished job; panics if the job has failed.
#[track_caller]
pub fn is_finished_job(output: &Output) -> bool {
    let job: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_ne!(job["state"], "failed", "{}", job["reason"]);
    job["state"] == "finished"
}

pub struct TestCluster {
    folder: Rc<TempDir>,
    pub port: u16,
    started: Cell<u32>,
    /// Fail point of the next process.
    fail_point: RefCell<Option<String>>,
}

impl TestCluster {
    pub fn new() -> Self {
        let cluster = Self {
            folder: Rc::new(TempDir::new().expect("a temporary folder")),
            port: free_port(),
            started: Cell::default(),
            fail_point: RefCell::default(),
        };
        fs::write(cluster.path("cars.yaml"), CARS).expect("a writable folder");
        cluster
    }

    /// Returns the cluster with a client of the coordinator at another port.
    pub fn at(&self, port: u16) -> Self {
        Self {
            folder: Rc::clone(&self.folder),
            port,
            started: Cell::new(1000),
            fail_point: RefCell::default(),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Sets the fail point of the next process (see `CONTRIBUTING.md`).
    pub fn set_next_fail_point(&self, fail_point: &str) {
        self.fail_point.replace(Some(fail_point.to_string()));
    }

    pub fn start(&self, name: &str, arguments: &[&str]) -> Process {
        self.started.set(self.started.get() + 1);
        let log = self.path(&format!("{}-{name}.log", self.started.get()));
        let file = File::create(&log).expect("a writable folder");
        let mut command = Command::new(engine());
        if let Some(fail_point) = self.fail_point.take() {
            command.env("MILLSTREAM_FAIL_POINT", fail_point);
        }
        let child = command
            .args(arguments)
            .current_dir(self.folder.path())
            .env_remove("MILLSTREAM_DATA_DIR")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file)
            .spawn()
            .expect("the engine is built beside this test");
        Process { child, log }
    }

    pub fn standalone(&self) -> Process {
        self.standalone_with(&[])
    }

    pub fn standalone_with(&self, more: &[&str]) -> Process {
        let process = self.start_role("standalone", self.port, more);
        self.until_workers(1);
        process
    }

    pub fn coordinator(&self) -> Process {
        self.coordinator_at(self.port)
    }

    pub fn coordinator_at(&self, port: u16) -> Process {
        self.start_role("coordinator", port, &[])
    }

    /// Starts a coordinator or standalone process.
    pub fn start_role(&self, role: &str, port: u16, more: &[&str]) -> Process {
        let listen = format!("127.0.0.1:{port}");
        let arguments = [role, "--data-dir", "data", "--listen", &listen, "--http", "127.0.0.1:0"];
        self.start(role, &[&arguments, more].concat())
    }

    pub fn worker(&self, name: &str) -> Process {
        self.worker_of(name, &self.url())
    }

    pub fn worker_of(&self, name: &str, coordinators: &str) -> Process {
        self.worker_with(name, coordinators, &[])
    }

    /// Starts a worker; returns the port of its metrics, too.
    pub fn worker_with_metrics(&self, name: &str) -> (u16, Process) {
        let port = free_port();
        let address = format!("127.0.0.1:{port}");
        (port, self.worker_with(name, &self.url(), &["--http", &address]))
    }

    pub fn worker_with(&self, name: &str, coordinators: &str, more: &[&str]) -> Process {
        let arguments = [
            "worker",
            "--coordinator",
            coordinators,
            "--name",
            name,
            "--slots",
            "2",
            "--listen",
            "127.0.0.1:0",
            "--memory",
            "128mb",
            "--data-dir",
            name,
        ];
        self.start(name, &[&arguments, more].concat())
    }

    pub fn command(&self, server: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(engine_cli());
        command
            .args(["--server", server])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("OUT", self.path("out"))
            .env("MILLSTREAM_CONTEXTS", self.path("contexts.json"))
            .stdin(Stdio::null());
        command
    }

    /// Starts a command without waiting for it; a frozen coordinator delays its end.
    pub fn start_command(&self, server: &str, arguments: &[&str]) -> PendingCommand {
        let child = self
            .command(server, arguments)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("engine-cli is built beside this test");
        PendingCommand(Some(child))
    }

    pub fn cli_at(&self, server: &str, arguments: &[&str]) -> Output {
        let output = self.command(server, arguments).output();
        output.expect("engine-cli is built beside this test")
    }

    /// Runs the client to its end and checks the exit code; returns both outputs.
    #[track_caller]
    pub fn cli(&self, arguments: &[&str], code: i32) -> (String, String) {
        self.cli_with(&[], "out", arguments, code)
    }

    /// Runs the client with environment variables and an output folder for the pipeline.
    #[track_caller]
    pub fn cli_with(&self, variables: &[(&str, &str)], out: &str, arguments: &[&str], code: i32) -> (String, String) {
        let mut command = self.command(&self.url(), arguments);
        command.envs(variables.iter().copied()).env("OUT", self.path(out));
        let output = command.output().expect("engine-cli is built beside this test");
        let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(
            output.status.code(),
            Some(code),
            "engine-cli {arguments:?}\nstdout: {stdout}\nstderr: {stderr}"
        );
        (stdout, stderr)
    }

    #[track_caller]
    pub fn json(&self, arguments: &[&str]) -> Value {
        let (stdout, _) = self.cli(&[arguments, &["-o", "json"]].concat(), 0);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}"))
    }

    #[track_caller]
    pub fn job(&self, name: &str) -> Value {
        self.json(&["jobs", "describe", name])
    }

    #[track_caller]
    pub fn until_workers(&self, count: usize) {
        until(&format!("{count} workers are ready"), || {
            let output = self.cli_at(&self.url(), &["workers", "list", "-o", "json"]);
            let listed: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
            let workers = listed["workers"].as_array();
            workers.is_some_and(|workers| workers.iter().filter(|worker| worker["state"] == "ready").count() >= count)
        });
    }

    #[track_caller]
    pub fn until_checkpoints(&self, job: &str, more: u64) {
        let before = self.checkpoints(job);
        until(&format!("{more} checkpoints of {job}"), || {
            self.checkpoints(job) >= before + more
        });
    }

    /// Returns the number of checkpoints that this leader has completed; 0 without an answer.
    pub fn checkpoints(&self, job: &str) -> u64 {
        let output = self.cli_at(&self.url(), &["jobs", "describe", job, "-o", "json"]);
        let job: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        job["checkpoints_completed"].as_u64().unwrap_or_default()
    }

    /// Returns all lines of the visible files of a folder, sorted.
    pub fn lines(&self, folder: &str) -> Vec<String> {
        let mut lines = Vec::new();
        let mut open = vec![self.path(folder)];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(['.', '_']) {
                    continue;
                }
                if entry.path().is_dir() {
                    open.push(entry.path());
                } else {
                    let content = fs::read_to_string(entry.path()).expect("a text file");
                    lines.extend(content.lines().map(str::to_string));
                }
            }
        }
        lines.sort();
        lines
    }
}

/// Returns the sum of all series of a metric, from the process with this HTTP port.
pub fn metric(port: u16, name: &str) -> f64 {
    let mut text = String::new();
    let read = TcpStream::connect(("127.0.0.1", port)).and_then(|mut stream| {
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: here\r\n\r\n")?;
        stream.read_to_string(&mut text)
    });
    read.expect("the process serves its metrics");
    let series = text
        .lines()
        .filter(|line| line.starts_with(&format!("{name}{{")) || line.starts_with(&format!("{name} ")));
    let values = series.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    values.sum()
}

/// Returns the expected output of [`CARS`], computed here.
pub fn expected() -> Vec<String> {
    let mut lines = Vec::new();
    for window in 0..200_u64 {
        for booth in 0..10 {
            let cars = (window * 100..(window + 1) * 100).filter(|n| n % 10 == booth);
            let (count, total) = cars.fold((0, 0), |(count, total), n| (count + 1, total + n));
            let (minute, second) = (window / 60, window % 60);
            lines.push(format!("{booth},2020-01-01 00:{minute:02}:{second:02},{count},{total}"));
        }
    }
    lines.sort();
    lines
}

pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        sleep(LOOK);
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples").join(name)
}
