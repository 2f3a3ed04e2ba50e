//! Many deaths: processes are killed or frozen at random while a job runs from topic to topic, and its output must be the
//! batch's answer.
//!
//! `KILLS` says how many (20 without it), `SEED` which ones; both are printed. `make chaos KILLS=1000` runs it by hand.

use std::time::{Duration, Instant};

use millstream_integration_tests::windows::Windows;

use crate::place::{Place, Process, free_port};

/// Between two deaths, at most.
const PAUSE_MS_MAX: u64 = 1500;
/// A frozen process thaws after so long at most: some are taken for dead, some are not.
const FROZEN_MS_MAX: u64 = 4000;
/// Rows per second: slow enough that the kills hit a running job.
const RATE: u32 = 1_500;
const FINISH_TIMEOUT: Duration = Duration::from_secs(300);

#[test]
fn output_is_exact_whatever_is_killed() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let kills = number("KILLS").unwrap_or(20);
    let seed = number("SEED").unwrap_or_else(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map_or(1, |since| since.as_nanos() as u64)
    });
    println!("repeat with SEED={seed} KILLS={kills}");
    let mut random = Random(seed);
    let mut cluster = Cluster::new();
    let windows = Windows::new("chaos", &cluster.place.path("")).expect("an input and its answer");
    let mut left = kills;
    let mut round = 0;
    // A job lasts for some kills only; there are as many jobs as it takes.
    while left > 0 {
        round += 1;
        let job = format!("out{round}");
        windows.create_output(&job).expect("a new topic");
        let file = windows.pipeline(&cluster.place.path(""), &job, RATE);
        let name = windows.topic(&job);
        cluster.submit(file.expect("a writable folder").to_str().expect("a path in UTF-8"));
        left -= cluster.suffer(&mut random, left, &name).max(1);
        let deadline = Instant::now() + FINISH_TIMEOUT;
        while !cluster.place.is_finished(&cluster.servers, &name) {
            assert!(Instant::now() < deadline, "seed {seed}: {name} does not finish");
            cluster.supervise();
            std::thread::sleep(Duration::from_millis(200));
        }
        if let Err(error) = windows.check(&job) {
            panic!("seed {seed}, round {round}: {error}");
        }
    }
}

/// What runs of a cluster, started again whenever it ends.
struct Cluster {
    place: Place,
    servers: String,
    processes: Vec<(Role, Process)>,
}

#[derive(Debug, Clone, Copy)]
enum Role {
    Coordinator(u16),
    Worker(&'static str),
}

impl Cluster {
    fn new() -> Self {
        let place = Place::new();
        let ports = [place.port, free_port()];
        let mut cluster = Self {
            servers: ports.map(|port| format!("http://127.0.0.1:{port}")).join(","),
            place,
            processes: Vec::new(),
        };
        let coordinators = ports.map(Role::Coordinator);
        for role in coordinators.into_iter().chain(["a", "b", "c"].map(Role::Worker)) {
            let process = cluster.start(role);
            cluster.processes.push((role, process));
        }
        cluster.place.until_workers(3);
        cluster
    }

    fn start(&self, role: Role) -> Process {
        match role {
            Role::Coordinator(port) => self.place.coordinator_at(port),
            Role::Worker(name) => self.place.worker_of(name, &self.servers),
        }
    }

    fn submit(&self, file: &str) {
        crate::place::until("the job is submitted", || {
            let said = self
                .place
                .cli_at(&self.servers, &["jobs", "submit", file, "--parallelism", "2"]);
            // 4: the name is in use, since an answer was lost.
            matches!(said.status.code(), Some(0 | 4))
        });
    }

    /// Kills and freezes until the job is finished or there were enough; how many.
    fn suffer(&mut self, random: &mut Random, kills: u64, job: &str) -> u64 {
        for done in 0..kills {
            if self.place.is_finished(&self.servers, job) {
                return done;
            }
            std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS_MAX)));
            let victim = random.below(self.processes.len() as u64) as usize;
            let freeze = random.below(4) == 0;
            let (role, process) = &mut self.processes[victim];
            eprintln!("{job}: {} {role:?}", if freeze { "freeze" } else { "kill" });
            if freeze {
                process.signal("STOP");
                std::thread::sleep(Duration::from_millis(random.below(FROZEN_MS_MAX)));
                process.signal("CONT");
            } else {
                process.kill();
            }
            self.supervise();
        }
        kills
    }

    /// Starts again what has ended, be it because it was taken for dead.
    fn supervise(&mut self) {
        for index in 0..self.processes.len() {
            let (role, process) = &mut self.processes[index];
            if process.has_ended() {
                let role = *role;
                self.processes[index].1 = self.start(role);
            }
        }
    }
}

/// SplitMix64: the same seed, the same deaths.
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
