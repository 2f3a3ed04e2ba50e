//! Random faults and commands while a job runs from Kafka to Kafka: its output must be that of a batch run.
//!
//! Processes of the cluster are killed and frozen, the broker is killed and frozen (for less and for more than the
//! transaction timeout), and the job is stopped, drained, rescaled and resubmitted meanwhile. After all faults, the job
//! must finish by itself unless a command has stopped it.
//!
//! `KILLS` is the number of faults (default 20), `SEED` selects them; both are printed. `make chaos KILLS=1000` runs
//! more of them.

use std::process::Output;
use std::time::{Duration, Instant};

use millstream_integration_tests::windowed_job::WindowedJob;
use serde_json::Value;

use crate::test_cluster::{PendingCommand, Process, TestCluster, free_port};

/// Longest pause between two faults.
const PAUSE_MS_MAX: u64 = 1500;
/// Longest freeze of a process: longer and shorter than the time after which it counts as lost.
const FROZEN_MS_MAX: u64 = 4000;
/// Longest freeze of the broker. The job's transaction timeout is 10 s.
const BROKER_FROZEN_MS: [u64; 4] = [200, 2_000, 5_000, 13_000];
/// Rows per second: slow enough that the faults hit a running job.
const RATE: u32 = 1_500;
/// Longest wait for the cluster to reach a state by itself.
const TIMEOUT: Duration = Duration::from_secs(300);
const LOOK: Duration = Duration::from_millis(200);
/// Timeout of commands, which expires if the coordinator is frozen.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

#[test]
fn output_is_exact_whatever_happens() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("KILLS").unwrap_or(20);
    let seed = number("SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64)
    });
    println!("repeat with SEED={seed} KILLS={kills}");
    let mut chaos = Chaos::new(seed);
    let mut round = 0;
    // A job finishes after some faults, so several jobs run in turn.
    while chaos.faults < kills {
        round += 1;
        let output = format!("out{round}");
        chaos.windows.create_output(&output).expect("a new topic");
        let mut job = Job::new(&chaos, &output);
        chaos.submit(&job, None);
        while chaos.faults < kills && !chaos.is_finished(&job) {
            chaos.pause();
            chaos.random_action(&mut job);
        }
        chaos.eventually(&format!("{} finishes", job.name), |chaos| chaos.is_finished(&job));
        if let Err(error) = chaos.windows.check(&output) {
            panic!("seed {seed}, round {round}, job {}: {error}", job.name);
        }
    }
}

/// One output and the jobs that write it, each restored from a savepoint of the previous one.
struct Job {
    name: String,
    file: String,
    /// Number of savepoints and names used so far.
    moves: u32,
}

impl Job {
    fn new(chaos: &Chaos, output: &str) -> Self {
        let file = chaos.windows.pipeline(&chaos.cluster.path(""), output, RATE);
        let file = file.expect("a writable folder");
        Self {
            name: chaos.windows.topic(output),
            file: file.to_str().expect("a path in UTF-8").to_string(),
            moves: 0,
        }
    }
}

struct Chaos {
    cluster: TestCluster,
    windows: WindowedJob,
    servers: String,
    /// Processes of the cluster, which are restarted when they end.
    processes: Vec<(Role, Process)>,
    random: Random,
    faults: u64,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Coordinator(u16),
    Worker(&'static str),
}

const WORKERS: [&str; 3] = ["a", "b", "c"];

impl Chaos {
    fn new(seed: u64) -> Self {
        let cluster = TestCluster::new();
        let windows = WindowedJob::with_own_broker("chaos", &cluster.path("")).expect("an input and its answer");
        let ports = [cluster.port, free_port()];
        let mut chaos = Self {
            servers: ports.map(|port| format!("http://127.0.0.1:{port}")).join(","),
            cluster,
            windows,
            processes: Vec::new(),
            random: Random(seed),
            faults: 0,
        };
        let coordinators = ports.map(Role::Coordinator);
        for role in coordinators.into_iter().chain(WORKERS.map(Role::Worker)) {
            let process = chaos.start(role);
            chaos.processes.push((role, process));
        }
        chaos.cluster.until_workers(WORKERS.len());
        chaos
    }

    fn start(&self, role: Role) -> Process {
        match role {
            Role::Coordinator(port) => self.cluster.coordinator_at(port),
            Role::Worker(name) => self.cluster.worker_of(name, &self.servers),
        }
    }

    /// Restarts processes that have ended, including those that were declared lost.
    fn supervise(&mut self) {
        for index in 0..self.processes.len() {
            let (role, process) = &mut self.processes[index];
            if process.has_ended() {
                let role = *role;
                self.processes[index].1 = self.start(role);
            }
        }
    }

    fn pause(&mut self) {
        std::thread::sleep(Duration::from_millis(self.random.below(PAUSE_MS_MAX)));
    }

    #[track_caller]
    fn eventually(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + TIMEOUT;
        while !is_so(self) {
            assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
            self.supervise();
            std::thread::sleep(LOOK);
        }
    }

    /// Injects a fault or gives a command.
    fn random_action(&mut self, job: &mut Job) {
        match self.random.below(20) {
            0 => self.resubmit(job),
            1 => self.stop_and_restart(job),
            2 => {
                let parallelism = (1 + self.random.below(4)).to_string();
                self.command(&["jobs", "rescale", &job.name, "--parallelism", &parallelism]);
            }
            3 => {
                self.command(&["savepoints", "create", &job.name]);
            }
            4 => self.drain_and_undrain(),
            _ => self.fault(),
        }
    }

    fn fault(&mut self) {
        self.faults += 1;
        match self.random.below(12) {
            0 => {
                let choice = self.random.below(BROKER_FROZEN_MS.len() as u64) as usize;
                eprintln!("freeze the broker for {} ms", BROKER_FROZEN_MS[choice]);
                self.windows.broker.freeze().expect("the broker's process");
                std::thread::sleep(Duration::from_millis(BROKER_FROZEN_MS[choice]));
                self.windows.broker.thaw().expect("the broker's process");
            }
            1 => {
                eprintln!("kill the broker");
                self.windows.broker.stop().expect("the broker can be stopped");
                self.windows
                    .broker
                    .start_again()
                    .expect("the broker can be started again");
            }
            choice => {
                let victim = self.random.below(self.processes.len() as u64) as usize;
                let (role, process) = &mut self.processes[victim];
                if choice < 5 {
                    let frozen_ms = self.random.below(FROZEN_MS_MAX);
                    eprintln!("freeze {role:?} for {frozen_ms} ms");
                    process.signal("STOP");
                    std::thread::sleep(Duration::from_millis(frozen_ms));
                    process.signal("CONT");
                } else {
                    eprintln!("kill {role:?}");
                    process.kill();
                }
            }
        }
        self.supervise();
    }

    /// Runs a command while faults occur; `None` without an answer in time.
    fn command(&mut self, arguments: &[&str]) -> Option<Output> {
        eprintln!("{}", arguments.join(" "));
        let mut question = self.cluster.start_command(&self.servers, arguments);
        if self.random.below(2) == 0 {
            self.fault();
        }
        let answer = self.answer(&mut question)?;
        let code = answer.status.code();
        eprintln!("  exit code {code:?}");
        let stderr = crate::test_cluster::text(&answer.stderr);
        // 4: the job is in another state. 5: the outcome is unknown. 6: timeout.
        assert!(matches!(code, Some(0 | 3..=6)), "{arguments:?}: {code:?} {stderr}");
        (code != Some(5)).then_some(answer)
    }

    fn answer(&mut self, question: &mut PendingCommand) -> Option<Output> {
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        while Instant::now() < deadline {
            if let Some(answer) = question.answer() {
                return Some(answer);
            }
            self.supervise();
            std::thread::sleep(LOOK);
        }
        None
    }

    /// Returns the description of a job; `None` without an answer, or if there is no such job.
    fn describe_job(&self, name: &str) -> Option<Value> {
        let output = self
            .cluster
            .cli_at(&self.servers, &["jobs", "describe", name, "-o", "json"]);
        serde_json::from_slice(&output.stdout).ok()
    }

    #[track_caller]
    fn state(&self, name: &str) -> String {
        let job = self.describe_job(name).unwrap_or_default();
        assert_ne!(job["state"], "failed", "{name}: {}", job["reason"]);
        job["state"].as_str().unwrap_or_default().to_string()
    }

    #[track_caller]
    fn is_finished(&self, job: &Job) -> bool {
        self.state(&job.name) == "finished"
    }

    /// Submits a job until it exists.
    #[track_caller]
    fn submit(&mut self, job: &Job, from: Option<&str>) {
        let parallelism = (1 + self.random.below(3)).to_string();
        let mut arguments = vec![
            "jobs",
            "submit",
            &job.file,
            "--name",
            &job.name,
            "--parallelism",
            &parallelism,
        ];
        arguments.extend(from.iter().flat_map(|from| ["--from-checkpoint", from]));
        self.eventually(&format!("{} is submitted", job.name), |chaos| {
            chaos
                .describe_job(&job.name)
                .is_some_and(|job| job["state"].is_string())
                || {
                    // 4: the name is in use, as an earlier answer was lost.
                    let answer = chaos.command(&arguments);
                    answer.is_some_and(|answer| matches!(answer.status.code(), Some(0 | 4)))
                }
        });
    }

    /// Stops the job with a savepoint; returns its name, `None` if the job has finished.
    #[track_caller]
    fn stop(&mut self, job: &mut Job) -> Option<String> {
        job.moves += 1;
        let savepoint = format!("sp{}", job.moves);
        let mut state = String::new();
        self.eventually(&format!("{} ends", job.name), |chaos| {
            state = chaos.state(&job.name);
            match state.as_str() {
                "finished" | "stopped" => return true,
                "" | "stopping" => {
                    if chaos.random.below(10) == 0 {
                        chaos.fault();
                    }
                }
                _ => {
                    chaos.command(&["jobs", "stop", &job.name, "--savepoint", &savepoint]);
                }
            }
            false
        });
        (state == "stopped").then_some(savepoint)
    }

    #[track_caller]
    fn stop_and_restart(&mut self, job: &mut Job) {
        if self.stop(job).is_none() {
            return;
        }
        self.eventually(&format!("{} is restarted", job.name), |chaos| {
            chaos.command(&["jobs", "restart", &job.name]);
            !matches!(chaos.state(&job.name).as_str(), "" | "stopped")
        });
    }

    /// Continues the job under another name from a savepoint.
    #[track_caller]
    fn resubmit(&mut self, job: &mut Job) {
        let Some(savepoint) = self.stop(job) else { return };
        let origin = job.name.clone();
        let from = format!("{origin}/{savepoint}");
        if self.random.below(2) == 0 {
            self.eventually(&format!("{origin} is deleted"), |chaos| {
                let answer = chaos.command(&["jobs", "delete", &origin]);
                answer.is_some_and(|answer| matches!(answer.status.code(), Some(0 | 3)))
            });
        }
        job.name = format!("{origin}-{}", job.moves);
        self.submit(job, Some(&from));
    }

    fn drain_and_undrain(&mut self) {
        let worker = WORKERS[self.random.below(WORKERS.len() as u64) as usize];
        self.command(&["workers", "drain", worker]);
        self.pause();
        self.fault();
        self.eventually(&format!("{worker} is undrained"), |chaos| {
            let answer = chaos.command(&["workers", "undrain", worker]);
            answer.is_some_and(|answer| matches!(answer.status.code(), Some(0)))
        });
    }
}

/// SplitMix64 generator: a seed determines all faults.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}
