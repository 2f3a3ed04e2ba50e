//! Failures at each step of a checkpoint: a process is killed there, or frozen there and resumed after its replacement
//! has taken over.
//!
//! Two coordinators, a leader and a standby, and two workers run a keyed window from Kafka to Kafka. Each role has a
//! list of fail points (listed in `CONTRIBUTING.md`). A process is started with the next fail point of its role, fails
//! there, and is started again with the following one. A killed coordinator is restarted only after the other has taken
//! over. A frozen process is resumed once others have replaced it, runs for a moment with its outdated state, and is
//! killed. A coordinator without fail points left is restarted only after the other one has reached its last fail
//! point: as a permanent leader it would keep the other from reaching it. The output must be that of a batch run.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use millstream_integration_tests::windowed_job::WindowedJob;

use crate::test_cluster::{Process, TestCluster, free_port, is_finished_job};

/// Rows per second: a job outlasts most failures; the remaining ones happen to another job.
const RATE: u32 = 2_000;
/// Longer than the timeout after which a frozen process counts as lost.
const FROZEN: Duration = Duration::from_secs(4);
/// Time for which a resumed process runs with its outdated state.
const HAUNTS: Duration = Duration::from_secs(1);
/// Delay of a coordinator's restart: without it the same coordinator would lead again each time.
const AWAY: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(50);
/// Interval between two requests for the job's state, each of which starts a process.
const ASK: Duration = Duration::from_millis(500);
/// Timeout of the whole test.
const TIMEOUT: Duration = Duration::from_secs(300);

#[test]
fn output_is_exact_whichever_step_of_a_checkpoint_a_process_dies_at() {
    run(
        "aimed-kills",
        &[
            "trigger:3",
            "acknowledged:3",
            "manifest:3",
            "after-manifest:3",
            "published:3",
        ],
        &[
            "barrier:3",
            "snapshot:3",
            "upload:5",
            "prepared:7",
            "in-transaction:3",
            "after-transaction:3",
            "confirm:3",
        ],
    );
}

#[test]
fn output_is_exact_whichever_step_of_a_checkpoint_a_process_freezes_at() {
    run(
        "aimed-freezes",
        &[
            "stop@acknowledged:3",
            "stop@manifest:3",
            "stop@after-manifest:3",
            "stop@published:3",
        ],
        &[
            "stop@barrier:3",
            "stop@upload:5",
            "stop@prepared:7",
            "stop@in-transaction:3",
        ],
    );
}

fn run(name: &'static str, of_coordinators: &[&'static str], of_workers: &[&'static str]) {
    let cluster = TestCluster::new();
    let windows = WindowedJob::new(name, &cluster.path("")).expect("an input and its answer");
    let ports = [cluster.port, free_port()];
    let servers = ports.map(|port| format!("http://127.0.0.1:{port}")).join(",");
    let mut lists = [of_coordinators, of_workers].map(|points| points.iter().copied().collect::<VecDeque<_>>());
    let roles = [
        Role::Coordinator(ports[0]),
        Role::Coordinator(ports[1]),
        Role::Worker("a"),
        Role::Worker("b"),
    ];
    let mut processes = roles.map(|role| TestProcess::new(role, &cluster, &servers, &mut lists[role.list()]));
    let start = Instant::now();
    let mut job = 0;
    // A finished job takes no checkpoints: the remaining failures happen to another one.
    while job == 0 || processes.iter().any(|process| process.point.is_some()) {
        job += 1;
        let output = format!("out{job}");
        windows.create_output(&output).expect("a new topic");
        let file = windows.pipeline(&cluster.path(""), &output, RATE);
        let file = file.expect("a writable folder");
        let file = file.to_str().expect("a path in UTF-8");
        let topic = windows.topic(&output);
        let (submit, describe) = (
            ["jobs", "submit", file].to_vec(),
            ["jobs", "describe", &topic, "-o", "json"].to_vec(),
        );
        let mut is_submitted = false;
        let mut question = cluster.start_command(&servers, &submit);
        let mut answered = Instant::now();
        loop {
            let points: Vec<_> = processes.iter().filter_map(|process| process.point).collect();
            assert!(
                start.elapsed() < TIMEOUT,
                "{topic} does not finish; armed are {points:?}, left {lists:?}"
            );
            for index in 0..processes.len() {
                let is_awaited = processes.iter().any(TestProcess::is_coordinator_with_fail_point);
                let process = &mut processes[index];
                process.advance(&cluster, &servers, &mut lists[process.role.list()], is_awaited, start);
            }
            if let Some(answer) = question.answer() {
                answered = Instant::now();
                if is_submitted && is_finished_job(&answer) {
                    break;
                }
                // 4: the name is in use, as an earlier answer was lost.
                is_submitted |= matches!(answer.status.code(), Some(0 | 4));
            } else if !question.is_open() && answered.elapsed() >= ASK {
                question = cluster.start_command(&servers, if is_submitted { &describe } else { &submit });
            }
            std::thread::sleep(LOOK);
        }
        windows.check(&output).expect("every row once");
    }
    println!("{name}: {job} jobs, {:?}", start.elapsed());
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Coordinator(u16),
    Worker(&'static str),
}

impl Role {
    /// Index of the role's list of fail points.
    fn list(self) -> usize {
        match self {
            Self::Coordinator(_) => 0,
            Self::Worker(_) => 1,
        }
    }

    fn start(self, cluster: &TestCluster, servers: &str, point: Option<&str>) -> Process {
        if let Some(point) = point {
            cluster.set_next_fail_point(point);
        }
        match self {
            Self::Coordinator(port) => cluster.coordinator_at(port),
            Self::Worker(name) => cluster.worker_of(name, servers),
        }
    }
}

/// A process that fails repeatedly.
struct TestProcess {
    role: Role,
    process: Process,
    /// Next fail point.
    point: Option<&'static str>,
    /// Time at which it was observed at the fail point.
    reached: Option<Instant>,
}

impl TestProcess {
    fn new(role: Role, cluster: &TestCluster, servers: &str, points: &mut VecDeque<&'static str>) -> Self {
        let point = points.pop_front();
        Self {
            role,
            process: role.start(cluster, servers, point),
            point,
            reached: None,
        }
    }

    fn is_coordinator_with_fail_point(&self) -> bool {
        matches!(self.role, Role::Coordinator(_)) && self.point.is_some() && self.reached.is_none()
    }

    /// Advances the process through its failures. `is_awaited` is true while a coordinator has yet to lead and fail.
    fn advance(
        &mut self,
        cluster: &TestCluster,
        servers: &str,
        points: &mut VecDeque<&'static str>,
        is_awaited: bool,
        start: Instant,
    ) {
        if self.reached.is_none() && self.point.is_some_and(|point| self.has_reached(point)) {
            eprintln!("{:>6.1?} {:?}: {:?}", start.elapsed(), self.role, self.point);
            self.reached = Some(Instant::now());
        }
        let since = self.reached.map(|at| at.elapsed());
        match (self.process.has_ended(), since) {
            (false, None) => return,
            (false, Some(since)) if since < FROZEN => return,
            (false, Some(since)) => {
                self.process.signal("CONT");
                if since < FROZEN + HAUNTS {
                    return;
                }
                self.process.kill();
                return;
            }
            // It ended because it was declared lost; restart it as a supervisor would.
            (true, None) => {
                eprintln!("{:>6.1?} {:?}: ended", start.elapsed(), self.role);
                self.process = self.role.start(cluster, servers, self.point);
                return;
            }
            (true, Some(since)) if matches!(self.role, Role::Coordinator(_)) => {
                if since < AWAY || (points.is_empty() && is_awaited) {
                    return;
                }
            }
            (true, Some(_)) => {}
        }
        *self = Self::new(self.role, cluster, servers, points);
    }

    fn has_reached(&self, point: &str) -> bool {
        let name = point.rsplit('@').next().unwrap_or(point);
        let name = name.split(':').next().unwrap_or(name);
        let said = |word: &str| {
            self.process
                .has_logged(&format!("MILLSTREAM_FAIL_POINT: {word} at {name}"))
        };
        said("killed") || said("stopped")
    }
}
