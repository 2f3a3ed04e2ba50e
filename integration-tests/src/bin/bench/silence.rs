//! Longest pause of the output of a job with little state while its parallelism is changed, and while the leading
//! coordinator is killed or frozen and a standby takes over. In steady state rows arrive every 50 ms.
//!
//! For failovers also measures the time until the successor answers clients, and until the next checkpoint is complete.

use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::test_cluster::TestCluster;

const JOB: &str = "silence";
const SLOTS: u32 = 2;
const RESCALES: [u32; 6] = [4, 2, 4, 2, 4, 2];
/// Time for which rows are observed before and after each action.
const MARGIN: Duration = Duration::from_secs(3);

pub fn run() -> Result<Value> {
    let storage = TempDir::new()?;
    let cluster = TestCluster::new(storage.path(), 2)?;
    let mut leader = cluster.coordinator(0)?;
    let (rows, rows_read) = mpsc::channel();
    let mut workers = Vec::new();
    for name in ["a", "b"] {
        let mut worker = cluster.worker(name, SLOTS)?;
        worker.lines_read(rows.clone())?;
        workers.push(worker);
    }
    drop(rows);
    cluster.submit("silence.yaml")?;
    let standby = cluster.coordinator(1)?;
    cluster.until("checkpoints are taken", || Ok(cluster.checkpoints(JOB)? >= 2))?;

    let steady = silence(&rows_read, || Ok(()))?;
    println!("steady    no row for {:.0} ms at most", steady * 1e3);
    let mut rescaled = Vec::new();
    for parallelism in RESCALES {
        let wish = parallelism.to_string();
        rescaled.push(silence(&rows_read, || {
            let output = cluster.cli(&["jobs", "rescale", JOB, "--parallelism", &wish, "--wait"])?;
            match output.status.success() {
                true => Ok(()),
                false => bail!("{}", String::from_utf8_lossy(&output.stderr)),
            }
        })?);
    }
    rescaled.sort_by(f64::total_cmp);
    let [least, .., most] = rescaled[..] else {
        bail!("there are several rescales");
    };
    println!("rescale   no row for {least:.2} to {most:.2} s");

    let killed = Loss::of_leader("killed", 1, &cluster, &rows_read, || leader.kill())?;
    // Index of the next leader.
    let _last = cluster.coordinator(0)?;
    thread::sleep(MARGIN);
    let frozen = Loss::of_leader("frozen", 0, &cluster, &rows_read, || standby.freeze())?;
    Ok(json!({
        "steady_seconds": steady, "rescale_seconds": rescaled,
        "leader_killed": killed.to_json(), "leader_frozen": frozen.to_json(),
    }))
}

/// Durations of a failover, in seconds.
struct Loss {
    silence: f64,
    answered: f64,
    checkpoint: f64,
}

impl Loss {
    /// Measures a failover to the coordinator `successor`.
    fn of_leader(
        how: &str,
        successor: usize,
        cluster: &TestCluster,
        rows_read: &Receiver<Instant>,
        mut lose: impl FnMut() -> Result<()>,
    ) -> Result<Self> {
        let before = cluster.newest_checkpoint(1 - successor, JOB)?.unwrap_or_default();
        let (mut answered, mut checkpoint) = (0.0, 0.0);
        let silence = silence(rows_read, || {
            let start = Instant::now();
            lose()?;
            cluster.until("a client is answered", || {
                Ok(cluster.newest_checkpoint(successor, JOB)?.is_some())
            })?;
            answered = start.elapsed().as_secs_f64();
            cluster.until("a checkpoint is taken", || {
                Ok(cluster.newest_checkpoint(successor, JOB)? > Some(before))
            })?;
            checkpoint = start.elapsed().as_secs_f64();
            Ok(())
        })?;
        println!(
            "leader {how}   no row for {:.0} ms at most; its successor answers after {answered:.1} s, the next checkpoint is \
             complete after {checkpoint:.1} s",
            silence * 1e3
        );
        Ok(Self {
            silence,
            answered,
            checkpoint,
        })
    }

    fn to_json(&self) -> Value {
        json!({
            "silence_seconds": self.silence, "answered_seconds": self.answered, "checkpoint_seconds": self.checkpoint,
        })
    }
}

/// Runs an action and returns the longest time in seconds without a row around it.
fn silence(rows_read: &Receiver<Instant>, mut act: impl FnMut() -> Result<()>) -> Result<f64> {
    // Rows from before the observation are ignored.
    rows_read.try_iter().for_each(drop);
    let mut last = Instant::now();
    thread::sleep(MARGIN);
    act()?;
    thread::sleep(MARGIN);
    let mut longest = Duration::ZERO;
    for read in rows_read.try_iter() {
        longest = longest.max(read.saturating_duration_since(last));
        last = last.max(read);
    }
    Ok(longest.max(last.elapsed()).as_secs_f64())
}
