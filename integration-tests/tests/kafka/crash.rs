//! `engine run` from Kafka to Kafka under exactly-once delivery, killed at random times and at fail points.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use millstream_integration_tests::windowed_job::WindowedJob;
use tempfile::TempDir;

const DEADLINE: Duration = Duration::from_secs(120);
/// Rows per second: slow enough that the kills hit a running job.
const RATE: u32 = 6_000;

struct Place {
    folder: TempDir,
    windows: WindowedJob,
}

impl Place {
    fn new(name: &'static str) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let windows = WindowedJob::new(name, folder.path()).expect("an input and its answer");
        windows.create_output("out").expect("a new topic");
        Self { folder, windows }
    }

    fn engine(&self, rate: u32, arguments: &[&str]) -> Command {
        let file = self.windows.pipeline(self.folder.path(), "out", rate);
        let mut command = Command::new(millstream_integration_tests::engine());
        command
            .arg("run")
            .arg(file.expect("a writable folder"))
            .arg("--data-dir")
            .arg(self.folder.path().join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end of the input and checks the output.
    #[track_caller]
    fn finish(&self) {
        let output = self.engine(1_000_000, &[]).output().expect("the engine starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.windows.check("out").expect("every row once");
    }
}

/// Xorshift generator of repeatable times.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Waits until the process ends by itself, or for this time.
fn ended_within(child: &mut Child, time: Duration) -> bool {
    let until = Instant::now() + time;
    while Instant::now() < until {
        if child.try_wait().expect("a child can be asked").is_some() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// Kills the process if it is running; returns its output.
fn kill(mut child: Child) -> String {
    child.kill().expect("it can be killed");
    let output = child.wait_with_output().expect("it is dead");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn random_kills_leave_every_row_once() {
    let seed = std::env::var("KAFKA_CRASH_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok());
    let seed: u64 = seed.unwrap_or_else(|| {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
        now.as_nanos() as u64 | 1
    });
    println!("KAFKA_CRASH_SEED={seed}");
    let kills: u32 = std::env::var("KILLS")
        .ok()
        .and_then(|kills| kills.parse().ok())
        .unwrap_or(8);
    let mut random = Random(seed);
    let place = Place::new("crash-random");
    for number in 0..kills {
        let parallelism = (1 + random.below(3)).to_string();
        let mut child = place
            .engine(RATE, &["--parallelism", &parallelism])
            .spawn()
            .expect("the engine starts");
        let lives = Duration::from_millis(400 + random.below(1_600));
        if ended_within(&mut child, lives) {
            let output = child.wait_with_output().expect("it has ended");
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "before kill {number}: {stderr}");
            break;
        }
        kill(child);
    }
    place.finish();
}

#[test]
fn kills_between_the_checkpoint_and_the_commit_leave_every_row_once() {
    let place = Place::new("crash-aimed");
    let points = [
        "after-manifest:3",
        "in-transaction:2",
        "after-manifest",
        "after-transaction:3",
        "in-transaction",
    ];
    for (number, point) in points.into_iter().enumerate() {
        let parallelism = (1 + number % 2).to_string();
        let mut child = place
            .engine(RATE, &["--parallelism", &parallelism])
            .env("MILLSTREAM_FAIL_POINT", point)
            .spawn()
            .expect("the engine starts");
        let ended = ended_within(&mut child, DEADLINE);
        let stderr = kill(child);
        assert!(ended && stderr.contains("killed at"), "{point}: {stderr}");
    }
    place.finish();
}
