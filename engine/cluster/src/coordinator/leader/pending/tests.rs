//! Coalesced changes replay to the ledger that every change replays to.

use millstream_state::log::State;

use super::*;
use crate::coordinator::ledger::tests::{record, transition};
use crate::coordinator::ledger::{
    DesiredState, LatestUpdate, Ledger, Placement, RunProgress, RunTotals, Status, Update,
};

/// Xorshift: the same sequence for a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn placed(job: &str, attempts: u32) -> Change {
    Change::Placed {
        job: job.into(),
        attempts,
        placement: (!attempts.is_multiple_of(3)).then(|| Placement {
            slots: vec![format!("worker-{attempts}")],
            attempts: vec![format!("attempt-{attempts}")],
            is_ending: false,
        }),
    }
}

fn run_progress(job: &str, rows_in: u64) -> Change {
    let attempt = RunTotals {
        rows_in,
        ..RunTotals::default()
    };
    let settled = RunTotals::default();
    Change::RunProgress {
        job: job.into(),
        run_progress: Box::new(RunProgress { settled, attempt }),
    }
}

fn run_totals(job: &str, rows_in: u64) -> Change {
    let run_totals = RunTotals {
        rows_in,
        ..RunTotals::default()
    };
    Change::RunTotals {
        job: job.into(),
        run_totals: Box::new(run_totals),
    }
}

fn update(number: u32) -> Box<Update> {
    Box::new(Update {
        resolved: record("update").resolved,
        parallelism: Some(number),
        max_parallelism: 128,
        accept_changed_meaning: false,
        allow_dropped_state: false,
        was_running: true,
    })
}

fn pipeline(job: &str, number: u32) -> Change {
    Change::Pipeline {
        job: job.into(),
        resolved: record(job).resolved,
        parallelism: Some(number),
        max_parallelism: number + 1,
        update: match number % 4 {
            0 => LatestUpdate::Pending(update(number)),
            1 => LatestUpdate::Tried(update(number)),
            2 => LatestUpdate::Confirmed,
            _ => LatestUpdate::Reverted {
                reason: number.to_string(),
            },
        },
    }
}

/// A change that the leader makes by itself.
fn fact(random: &mut Random, job: &str) -> Change {
    const STATUS: [Status; 3] = [Status::Deploying, Status::Running, Status::Restarting];
    match random.below(6) {
        0 => placed(job, random.below(100) as u32),
        1 => run_totals(job, random.below(100)),
        2 => run_progress(job, random.below(100)),
        3 => pipeline(job, random.below(100) as u32),
        // Mostly different, now and then the same again.
        _ => transition(job, STATUS[random.below(3) as usize], random.below(4) as i64),
    }
}

/// A change that somebody asks for.
fn request(random: &mut Random, job: &str) -> Change {
    let job = job.to_string();
    let at_us = random.below(100) as i64;
    match random.below(8) {
        0 => Change::Submitted(Box::new(record(&job))),
        1 => Change::wanted(job, DesiredState::Running, at_us),
        2 => Change::wanted(job, DesiredState::Stopped { savepoint: None }, at_us),
        3 => Change::Parallelism {
            job,
            parallelism: Some(random.below(9) as u32),
            at_us,
        },
        4 => Change::Update {
            job,
            update: update(random.below(9) as u32),
            at_us,
        },
        5 => Change::Deleting { job },
        6 => Change::Deleted { job },
        _ => Change::Drained {
            worker: job,
            drained: random.below(2) == 0,
        },
    }
}

fn submitted(jobs: &[String]) -> Ledger {
    let mut ledger = Ledger::default();
    for job in jobs {
        ledger.apply(&Change::Submitted(Box::new(record(job))));
    }
    ledger
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("job-{number}")).collect()
}

#[track_caller]
fn assert_same(what: &str, coalesced: &Ledger, direct: &Ledger) {
    let text = |ledger: &Ledger| serde_json::to_string(&ledger.base()).expect("a base is JSON");
    assert_eq!(text(coalesced), text(direct), "{what}");
}

#[test]
fn coalesced_changes_replay_to_the_same_ledger() {
    let jobs = names(3);
    for seed in 1..=2_000 {
        let mut random = Random(seed);
        let mut direct = submitted(&jobs);
        let mut coalesced = direct.clone();
        let mut pending = PendingChanges::default();
        let changes = random.below(400);
        for _ in 0..changes {
            let job = &jobs[random.below(3) as usize];
            let change = match random.below(40) {
                0 => request(&mut random, job),
                _ => fact(&mut random, job),
            };
            direct.apply(&change);
            pending.push(change);
        }
        pending.begin_put().iter().for_each(|change| coalesced.apply(change));
        assert_same(&format!("seed {seed}"), &coalesced, &direct);
    }
}

#[test]
fn a_put_without_an_answer_loses_and_repeats_nothing() {
    let jobs = names(3);
    for seed in 1..=2_000 {
        let mut random = Random(seed);
        let mut direct = submitted(&jobs);
        let mut journal = direct.clone();
        let mut pending = PendingChanges::default();
        for _ in 0..10 {
            // The record is put; what happens before the answer must not be taken for a part of it.
            let record = pending.begin_put();
            for _ in 0..random.below(80) {
                let job = &jobs[random.below(3) as usize];
                let change = fact(&mut random, job);
                direct.apply(&change);
                pending.push(change);
            }
            match random.below(3) {
                0 => {
                    record.iter().for_each(|change| journal.apply(change));
                    pending.end_put(true);
                }
                1 => pending.end_put(false),
                // The next record is put without an answer to this one, which did not arrive.
                _ => {}
            }
        }
        pending.begin_put().iter().for_each(|change| journal.apply(change));
        pending.end_put(true);
        assert_same(&format!("seed {seed}"), &journal, &direct);
        assert!(pending.begin_put().is_empty(), "seed {seed}");
    }
}

#[test]
fn a_long_outage_with_1000_jobs_takes_bounded_memory_and_drops_nothing() {
    let jobs = names(1_000);
    let mut direct = submitted(&jobs);
    let mut coalesced = direct.clone();
    let mut pending = PendingChanges::default();
    let mut push = |change: Change| {
        direct.apply(&change);
        pending.push(change);
    };
    for job in &jobs {
        push(placed(job, 1));
        push(transition(job, Status::Running, 1));
    }
    // An hour of counters, and restarts of every tenth job each minute.
    for round in 0..720 {
        for (number, job) in jobs.iter().enumerate() {
            push(run_progress(job, round));
            if round % 12 == 0 && number % 10 == 0 {
                push(transition(job, Status::Restarting, round as i64));
                push(transition(job, Status::Running, round as i64));
            }
        }
    }
    let record = pending.begin_put();
    assert_eq!(record.len(), 900 * 3 + 100 * (2 + TRANSITIONS_MAX));
    record.iter().for_each(|change| coalesced.apply(change));
    assert_same("1,000 jobs", &coalesced, &direct);
}
