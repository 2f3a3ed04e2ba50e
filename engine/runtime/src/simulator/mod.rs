//! A deterministic simulator of a job in one thread, driven by a seed.
//!
//! It builds the same tasks and channels that slots run, with wakers that only set a flag, and lets one random task
//! that may run make one step at a time. If no task may run although the job has not ended, a wake-up was lost or the
//! job is deadlocked, and the test fails with its seed. Channels are tiny, rows are hashed by several keys, streams are
//! united and shared, and checkpoints are requested at random steps.
//!
//! The committables of the sinks in an aligned checkpoint must be exactly the rows that the sources had read by it. A
//! run that resumes from a checkpoint, at any parallelism, must complete the output to exactly all rows. In an
//! unaligned checkpoint some rows are channel state, so its committables may be fewer. Sinks are blocked at random; an
//! unaligned checkpoint must complete even if they stay blocked.
//!
//! A second job updates aggregates, with consistency points at random steps ([`points`]).

mod job;
mod points;
mod random;
mod simulation;
mod slot_threads;
mod test_connectors;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use millstream_connectors::Committable;
use millstream_graph::OperatorId;
use tempfile::TempDir;

use self::job::{ROWS, SPLITS, deployment, expected, graph};
use self::random::Random;
use self::simulation::{ALIGNED_TIMEOUT_US_MAX, Checkpoint, Simulation};
use self::test_connectors::ids_of;
use crate::deployment::Deployment;

/// Number of seeds of [`every_schedule_ends_and_every_checkpoint_is_consistent`]; `RUNTIME_SEEDS=1000` runs more.
const SEEDS_DEFAULT: u64 = 24;
/// Number of restores from one run.
const RESTORES_MAX: usize = 3;

fn positions(checkpoint: &Checkpoint) -> BTreeMap<u64, u64> {
    let splits = checkpoint.values().flatten().flat_map(|state| &state.splits);
    splits
        .map(|split| {
            let position = split.position.clone().try_into().expect("eight bytes");
            (split.id.parse().expect("a number"), u64::from_le_bytes(position))
        })
        .collect()
}

/// The parameters of a simulated job.
struct Scenario {
    seed: u64,
    parallelism: usize,
    channel_bytes_max: usize,
    runtime: tokio::runtime::Runtime,
    folder: TempDir,
}

impl Scenario {
    fn new(seed: u64, parallelism: usize, channel_bytes_max: usize) -> Self {
        Self {
            seed,
            parallelism,
            channel_bytes_max,
            runtime: tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime"),
            folder: tempfile::tempdir().expect("a folder for the test"),
        }
    }

    fn deployment(&self, parallelism: usize, seed: u64, restore: &Checkpoint) -> Deployment {
        let handle = self.runtime.handle();
        deployment(
            graph(),
            parallelism,
            seed,
            handle,
            self.folder.path(),
            restore,
            self.channel_bytes_max,
        )
    }

    /// Checks the committables of each checkpoint of a run, and resumes from those checkpoints for which `resume_at`
    /// returns a parallelism. Returns the number of checkpoints with channel state.
    fn check(
        &self,
        start: &Deployment,
        run: &Simulation,
        mut resume_at: impl FnMut(u64, bool) -> Option<usize>,
    ) -> usize {
        let seed = self.seed;
        let mut committed = Committed::new();
        let mut unaligned = 0;
        for (id, checkpoint) in &run.checkpoints {
            collect(checkpoint, 0, &mut committed);
            let is_unaligned = has_channel_state(checkpoint);
            if is_unaligned {
                unaligned += 1;
                check_none_twice(seed, *id, &positions(checkpoint), &committed);
            } else {
                check(seed, *id, &positions(checkpoint), &committed);
            }
            let Some(other) = resume_at(*id, is_unaligned) else {
                continue;
            };
            let mut again = self.deployment(other, !seed, checkpoint);
            // The channel state is in the files of the first run.
            again.backend = again.backend.with_files(start.backend.files().clone());
            let mut second = Simulation::new(&mut again, !seed);
            second.run();
            let mut all = committed.clone();
            for checkpoint in second.checkpoints.values() {
                collect(checkpoint, 1, &mut all);
            }
            let whole = (0..2 * SPLITS).map(|split| (split, ROWS)).collect();
            check(seed, *id, &whole, &all);
        }
        unaligned
    }
}

/// Runs once, and resumes from a random checkpoint and from some with channel state. Returns the number of checkpoints
/// with channel state.
fn simulate(seed: u64) -> usize {
    let mut random = Random(seed);
    let channel_bytes_max = 1 + random.below(3_000) as usize;
    let scenario = Scenario::new(seed, 1 + random.below(3) as usize, channel_bytes_max);
    // Channel state is written to files.
    let _entered = scenario.runtime.enter();
    let mut start = scenario.deployment(scenario.parallelism, seed, &HashMap::new());
    let mut first = Simulation::new(&mut start, seed);
    first.run();
    let chosen = random.below(first.checkpoints.len() as u64) as usize;
    let chosen = *first.checkpoints.keys().nth(chosen).expect("one of them");
    let mut restored = 0;
    scenario.check(&start, &first, |id, is_unaligned| {
        let is_chosen = id == chosen || (is_unaligned && restored < RESTORES_MAX);
        restored += usize::from(is_chosen);
        // Channel state is restored to the same channels, or to others.
        is_chosen.then(|| match is_unaligned {
            true => 1 + random.below(4) as usize,
            false => 1 + scenario.parallelism % 3,
        })
    })
}

fn has_channel_state(checkpoint: &Checkpoint) -> bool {
    checkpoint.values().flatten().any(|state| state.channel_state.is_some())
}

/// Checks that the committables of a checkpoint with channel state have no row that the sources had not read, and none
/// too often.
fn check_none_twice(seed: u64, id: u64, positions: &BTreeMap<u64, u64>, committed: &Committed) {
    for (sink, ids) in expected(positions) {
        let mut allowed: BTreeMap<i64, usize> = BTreeMap::new();
        ids.into_iter().for_each(|id| *allowed.entry(id).or_default() += 1);
        for (_, _, bytes) in &committed[sink] {
            for row in ids_of(&Committable::new(bytes.clone())) {
                let left = allowed.get_mut(&row).filter(|left| **left > 0);
                let left =
                    left.unwrap_or_else(|| panic!("seed {seed}: checkpoint {id}: sink {sink} has {row} too often"));
                *left -= 1;
            }
        }
    }
}

/// The committables so far, by run and subtask. Committing the same twice makes no difference.
type Committed = BTreeMap<String, BTreeSet<(usize, usize, Vec<u8>)>>;

fn collect(checkpoint: &Checkpoint, run: usize, committed: &mut Committed) {
    for sink in ["all", "both"] {
        let kept = committed.entry(sink.into()).or_default();
        for state in checkpoint.get(&OperatorId(sink.into())).into_iter().flatten() {
            let handed_over = state.committables.iter().map(|committable| committable.content.clone());
            kept.extend(handed_over.map(|committable| (run, state.subtask, committable)));
        }
    }
}

fn check(seed: u64, id: u64, positions: &BTreeMap<u64, u64>, committed: &Committed) {
    for (sink, ids) in expected(positions) {
        let committables = committed[sink]
            .iter()
            .map(|(_, _, bytes)| Committable::new(bytes.clone()));
        let mut rows: Vec<i64> = committables.flat_map(|committable| ids_of(&committable)).collect();
        rows.sort_unstable();
        assert!(
            rows == ids,
            "seed {seed}: checkpoint {id}: sink {sink} has {} rows, its sources had read {}",
            rows.len(),
            ids.len()
        );
    }
}

#[test]
fn every_schedule_ends_and_every_checkpoint_is_consistent() {
    let seeds = std::env::var("RUNTIME_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS_DEFAULT, |seeds| seeds.parse().expect("a number of seeds"));
    let unaligned: u64 = (0..seeds).map(|seed| simulate(seed) as u64).sum();
    assert!(unaligned > seeds, "only {unaligned} checkpoints had channel state");
}

/// All sinks are blocked and all channels are full: an aligned checkpoint cannot complete, and an unaligned one does.
#[test]
fn an_unaligned_checkpoint_is_complete_although_no_sink_accepts_a_row() {
    for seed in 0..16 {
        let mut random = Random(seed);
        let channel_bytes_max = 1 + random.below(60) as usize;
        let scenario = Scenario::new(seed, 1 + random.below(2) as usize, channel_bytes_max);
        let _entered = scenario.runtime.enter();
        let mut start = scenario.deployment(scenario.parallelism, seed, &HashMap::new());
        let mut run = Simulation::new(&mut start, seed);
        for _ in 0..random.below(80) {
            run.step();
        }
        run.gates.iter().for_each(|gate| gate.close());
        run.run_until_blocked();
        run.request_checkpoint(false, None);
        run.run_until_blocked();
        assert!(
            !run.is_complete(1),
            "seed {seed}: the sinks did not block the checkpoint"
        );
        run.request_checkpoint(false, Some(Duration::from_micros(random.below(ALIGNED_TIMEOUT_US_MAX))));
        run.run_until_blocked();
        assert!(run.gates.iter().all(|gate| gate.is_closed()));
        assert!(run.is_complete(2), "seed {seed}: the sinks blocked the checkpoint");
        assert!(has_channel_state(&run.checkpoints[&2]));
        run.open();
        run.run();
        for parallelism in 1..4 {
            scenario.check(&start, &run, |id, _| (id == 2).then_some(parallelism));
        }
    }
}
