//! Many deaths: processes are killed or frozen at random while a job runs, and its output must be what it would have
//! been.
//!
//! `KILLS` says how many (20 without it), `SEED` which ones; both are printed. `make chaos KILLS=1000` runs it by hand.

use std::time::{Duration, Instant};

use crate::place::{Place, Process, expected};

/// Between two deaths, at most.
const PAUSE_MS_MAX: u64 = 1500;
/// A frozen process thaws after so long at most: some are taken for dead, some are not.
const FROZEN_MS_MAX: u64 = 4000;
/// Rows per second: slow enough that the kills hit a running job.
const RATE: &str = "800";

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
    let mut left = kills;
    let mut round = 0;
    // A job lasts for some kills only; there are as many jobs as it takes.
    while left > 0 {
        round += 1;
        left -= one_job(&mut random, left, round, seed);
    }
}

/// Runs one job to its end; returns how many deaths it saw.
fn one_job(random: &mut Random, kills: u64, round: u32, seed: u64) -> u64 {
    let place = Place::new();
    let mut coordinator = place.coordinator();
    let mut workers: Vec<Process> = ["a", "b", "c"].map(|name| place.worker(name)).into();
    place.until_workers(3);
    place.cli_with(&[("RATE", RATE)], "out", &["jobs", "submit", "cars.yaml", "--wait"], 0);
    let mut done = 0;
    while done < kills && !finished(&place) {
        std::thread::sleep(Duration::from_millis(random.below(PAUSE_MS_MAX)));
        let victim = random.below(4) as usize;
        let freeze = random.below(4) == 0;
        let name = ["a", "b", "c", "coordinator"][victim];
        eprintln!("round {round}: {} {name}", if freeze { "freeze" } else { "kill" });
        let process = if victim < 3 {
            &mut workers[victim]
        } else {
            &mut coordinator
        };
        if freeze {
            process.signal("STOP");
            std::thread::sleep(Duration::from_millis(random.below(FROZEN_MS_MAX)));
            process.signal("CONT");
        } else {
            process.kill();
            *process = if victim < 3 {
                place.worker(name)
            } else {
                place.coordinator()
            };
        }
        // One that ended by itself, because it was taken for dead, is started again as a supervisor would.
        for (worker, name) in workers.iter_mut().zip(["a", "b", "c"]) {
            if worker.has_ended() {
                *worker = place.worker(name);
            }
        }
        if coordinator.has_ended() {
            coordinator = place.coordinator();
        }
        done += 1;
    }
    let deadline = Instant::now() + Duration::from_secs(300);
    while !finished(&place) {
        assert!(Instant::now() < deadline, "seed {seed}: the job does not finish");
        if coordinator.has_ended() {
            coordinator = place.coordinator();
        }
        for (worker, name) in workers.iter_mut().zip(["a", "b", "c"]) {
            if worker.has_ended() {
                *worker = place.worker(name);
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(place.lines("out"), expected(), "seed {seed}, round {round}");
    done.max(1)
}

fn finished(place: &Place) -> bool {
    let output = place.cli_at(&place.url(), &["jobs", "describe", "cars", "-o", "json"]);
    let job: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    assert_ne!(job["state"], "failed", "{}", job["reason"]);
    job["state"] == "finished"
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
