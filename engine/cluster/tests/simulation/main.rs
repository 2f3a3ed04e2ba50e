//! Whole clusters in one thread: the real coordinators, workers, planner, tasks and state, with a simulated network,
//! clock and object store. Every choice is drawn from a seed.
//!
//! Each seed runs in a process of its own, so that no state of an earlier one remains, and one that hangs can be
//! killed. The run of a seed:
//!
//! 1. Two coordinators and two or three workers start; a client submits a job ([`job`]) of one of several shapes
//!    ([`shapes`]), whose sinks deliver exactly once; with some seeds another client submits another job. With some
//!    seeds sinks halt, and barriers overtake rows.
//! 2. Faults drawn from the seed occur ([`faults`]), at random times or at a certain put.
//! 3. The faults end, and the job has to complete within a bounded time.
//! 4. Meanwhile and at the end the invariants are checked ([`checks`]).
//!
//! With some seeds the only fault is the loss of one worker, while a job runs whose rows never change their subtask:
//! tasks on other workers must not be restarted. With some others the only faults are clocks that are set back: the
//! job must not take longer for it.
//!
//! `make simulate SEEDS=1000` runs many seeds, `make simulate SEED=17` one again, with a log of all events.

#![cfg(target_os = "linux")]

mod checks;
mod cluster;
mod commands;
mod faults;
mod job;
mod kernel;
mod mutants;
mod network;
mod objects;
mod published;
mod random;
mod seeds;
mod shapes;
mod test_connectors;
mod world;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_connectors::registry;
use millstream_state::{storage, threads};
use object_store::memory::InMemory;

use crate::cluster::{Client, Cluster};
use crate::job::ClientPlan;
use crate::mutants::Mutant;
use crate::network::SimulatedNetwork;
use crate::objects::SimulatedStore;
use crate::random::Random;
use crate::shapes::{Shape, Variant, Workload};
use crate::test_connectors::SimulatedConnector;
use crate::world::{World, world};

const SECOND: u64 = 1_000_000_000;
/// Time by which jobs have completed.
const FINISH_NS: u64 = faults::END_NS + 240 * SECOND;

/// Time by which a client has sent its commands and seen their effects.
const COMMANDS_END_NS: u64 = 3_600 * SECOND;

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Time by which jobs have completed if only clocks are set: the one reader of [`draw_clocks`](faults::draw_clocks)
/// runs takes about 28 s for its rows, and more than twice as long if it is read only when there is a checkpoint.
const FINISH_DESPITE_CLOCKS_NS: u64 = 55 * SECOND;

/// The result of a seed.
#[derive(Debug)]
pub struct Report {
    pub violations: Vec<String>,
    pub trace: u64,
    pub events: u64,
    pub simulated_s: u64,
}

/// The kind of run that a seed is drawn for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scenario {
    /// Jobs and faults of all kinds.
    Faults,
    /// A job and commands, while leaders fail ([`commands`]).
    Commands,
}

/// Runs one seed in this thread. Only once in a process, because what it installs remains.
pub fn run(seed: u64, scenario: Scenario, mutant: Option<Mutant>, folder: PathBuf, print: bool) -> Report {
    let mut random = Random(seed);
    let step_ns = [20, 100, 1_000, 10_000][random.below(4) as usize];
    kernel::enter(random.next(), step_ns);
    World::begin(random.next(), mutant, print);
    let store = Arc::new(InMemory::new());
    storage::register_scheme("sim", Arc::new(SimulatedStore(store.clone())));
    millstream_cluster::network::replace(Box::new(SimulatedNetwork));
    registry::register(Box::leak(Box::new(SimulatedConnector(store.clone()))));
    threads::simulate(cluster::schedule);
    watch_panics();
    if print && std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        // The simulated time is in the surrounding notes.
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .without_time();
        log.with_writer(std::io::stderr).init();
    }

    let (cluster, end_ns) = match scenario {
        Scenario::Faults => fault_scenario(seed, &mut random, folder),
        Scenario::Commands => (command_scenario(seed, &mut random, folder), COMMANDS_END_NS),
    };
    finish(cluster, end_ns, &store)
}

/// Creates a cluster with one job and a client that sends commands.
fn command_scenario(seed: u64, random: &mut Random, folder: PathBuf) -> Cluster {
    let shape = Shape::ALL[random.below(Shape::ALL.len() as u64) as usize];
    let plan = ClientPlan {
        workload: Workload {
            number: 1,
            shape,
            times: 3,
        },
        variant: Variant::Working(0),
        parallelism: random.between(1, 2),
        rescale: None,
        aligned_timeout_ms: None,
    };
    {
        let mut world = world();
        world.published_by_workers = random.per_mille(500);
        world.is_endless = true;
        world.workloads = vec![plan.workload];
        world.unfinished = 1;
        world.note(&format!("seed {seed}: commands about {plan:?}"));
    }
    Cluster::new(folder, 2, 2, vec![Client::Commands(plan, random.next())])
}

/// Creates a cluster with jobs and faults. Returns it with the time by which the jobs have completed.
fn fault_scenario(seed: u64, random: &mut Random, folder: PathBuf) -> (Cluster, u64) {
    let workers = random.between(2, 3) as usize;
    // Some runs show that the loss of one worker affects only tasks that exchange rows with it.
    let one_loss = seed > 0 && random.per_mille(100);
    let only_clocks = seed > 0 && !one_loss && random.per_mille(50);
    let shape = match one_loss || only_clocks {
        true => Shape::Filtered,
        false => Shape::ALL[random.below(Shape::ALL.len() as u64) as usize],
    };
    world().expects_one_loss = one_loss;
    let plan = ClientPlan {
        workload: Workload {
            number: 1,
            shape,
            times: 1,
        },
        variant: Variant::Working(0),
        parallelism: match only_clocks {
            true => 1,
            false => random.between(if one_loss { 2 } else { 1 }, 3),
        },
        rescale: random
            .per_mille(if one_loss || only_clocks { 0 } else { 250 })
            .then(|| (random.between(2, 12) as u32, random.between(1, 3) as u32)),
        aligned_timeout_ms: None,
    };
    let faults = match seed {
        0 => Vec::new(),
        _ if one_loss => faults::draw_loss(random, workers),
        _ if only_clocks => faults::draw_clocks(random, workers),
        _ => faults::draw(random),
    };
    // Barriers that overtake rows, mostly if there are some because the sink halts.
    let plan = ClientPlan {
        aligned_timeout_ms: random.per_mille(500).then(|| random.between(0, 400)),
        ..plan
    };
    world().halting_sink = random.per_mille(if plan.aligned_timeout_ms.is_some() { 800 } else { 200 }) && !only_clocks;
    world().published_by_workers = random.per_mille(500);
    let mut plans = vec![plan];
    if seed > 0 && !one_loss && !only_clocks && random.per_mille(200) {
        let shape = Shape::ALL[random.below(Shape::ALL.len() as u64) as usize];
        plans.push(ClientPlan {
            workload: Workload {
                number: 2,
                shape,
                times: 1,
            },
            variant: Variant::Working(0),
            parallelism: random.between(1, 2),
            rescale: None,
            aligned_timeout_ms: None,
        });
    }
    world().workloads = plans.iter().map(|plan| plan.workload).collect();
    world().unfinished = plans.len();
    world().note(&format!("seed {seed}: {workers} workers, {plans:?}"));
    for (at_ns, fault) in faults {
        world().note(&format!("planned at {:.3} s: {fault}", at_ns as f64 / SECOND as f64));
        world().at(at_ns, move |world| world.faults.push(fault));
    }
    let end_ns = match only_clocks {
        true => FINISH_DESPITE_CLOCKS_NS,
        false => FINISH_NS,
    };
    let clients = plans.into_iter().map(Client::Job).collect();
    (Cluster::new(folder, workers, 2, clients), end_ns)
}

fn finish(mut cluster: Cluster, end_ns: u64, store: &InMemory) -> Report {
    cluster.start_all();
    cluster.run_until(end_ns);
    let (unfinished, is_fine) = {
        let world = world();
        (world.unfinished, world.violations.is_empty())
    };
    match unfinished {
        0 if is_fine => checks::at_the_end(store),
        0 => {}
        _ => world().violated("a job has not finished, long after the last fault".into()),
    }
    drop(cluster);
    let mut world = world();
    if PANICKED.load(Ordering::Relaxed) {
        world.violated("something panicked".into());
    }
    Report {
        violations: world.violations.clone(),
        trace: world.trace.hash,
        events: world.trace.events,
        simulated_s: kernel::now_ns() / SECOND,
    }
}

/// Records panics: no fault may make the engine panic.
fn watch_panics() {
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("{panic}");
        if kernel::is_simulated() {
            eprintln!("{}", std::backtrace::Backtrace::force_capture());
            PANICKED.store(true, Ordering::Relaxed);
        }
    }));
}
