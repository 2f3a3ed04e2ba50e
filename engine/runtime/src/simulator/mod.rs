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

mod test_connectors;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use millstream_connectors::{Committable, JobIdentity, Sink, Source, Split, TableDefinition};
use millstream_graph::{
    Calc, Edge, ErrorPolicy, Exchange, JobGraph, Node, NodeIndex, Operator, OperatorId, Parallelism, Port, Stream,
    Watermark,
};
use millstream_state::store::{Backend, BackendOptions};

use self::test_connectors::{CollectingSink, Gate, NumberSource, ids_of, schema};
use crate::chain::Chains;
use crate::command::{Command, TaskEvent};
use crate::deployment::{self, Deployment, Options};
use crate::subtask_state::{SplitState, SubtaskState};
use crate::task::{Step, Task};

/// SplitMix64, a small random generator that is the same on every platform.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const SPLITS: u64 = 3;
const ROWS: u64 = 300;
/// Upper limit of the `aligned_timeout` of unaligned checkpoints. A step takes one microsecond.
const ALIGNED_TIMEOUT_US_MAX: u64 = 60;
/// Number of seeds of [`every_schedule_ends_and_every_checkpoint_is_consistent`]; `RUNTIME_SEEDS=1000` runs more.
const SEEDS_DEFAULT: u64 = 24;
/// Number of restores from one run.
const RESTORES_MAX: usize = 3;

fn table(name: &str) -> Arc<TableDefinition> {
    Arc::new(TableDefinition {
        name: name.into(),
        schema: schema(),
        metadata: Vec::new(),
        options: BTreeMap::new(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    })
}

fn node(id: &str, operator: Operator) -> Node {
    Node {
        id: OperatorId(id.into()),
        operator,
        output: Stream {
            schema: schema(),
            event_time: Some(2),
            window: None,
        },
        parallelism: Parallelism::Job,
    }
}

fn source(id: &str) -> Node {
    node(
        id,
        Operator::Source(millstream_graph::Source {
            table: table(id),
            projection: vec![0, 1, 2],
            calc: Some(identity()),
            watermark: Some(Watermark {
                column: 2,
                expression: Arc::new(Column::new("ts", 2)),
                idle_timeout: Duration::from_secs(5),
                max_future: None,
            }),
            on_error: ErrorPolicy::Fail,
        }),
    )
}

fn identity() -> Calc {
    let projection = ["id", "key", "ts"]
        .iter()
        .enumerate()
        .map(|(index, name)| ProjectionExpr {
            expr: Arc::new(Column::new(name, index)),
            alias: (*name).into(),
        });
    Calc {
        filter: None,
        projection: projection.collect(),
        on_error: ErrorPolicy::Fail,
    }
}

fn calc(id: &str) -> Node {
    node(id, Operator::Calc(identity()))
}

fn sink(id: &str) -> Node {
    node(
        id,
        Operator::Sink(millstream_graph::Sink {
            table: table(id),
            on_error: ErrorPolicy::Fail,
        }),
    )
}

fn edge(from: NodeIndex, to: NodeIndex, exchange: Exchange) -> Edge {
    Edge {
        from,
        port: Port::Main,
        to,
        input: 0,
        exchange,
    }
}

/// Returns a graph of two sources: one is hashed by key, then the union of both by id. The result goes to the sink
/// `all`, and through another calc to the sink `both`, which the first calc also feeds directly.
fn graph() -> JobGraph {
    JobGraph {
        name: "simulated".into(),
        nodes: vec![
            source("left"),
            source("right"),
            calc("by_key"),
            calc("union"),
            sink("all"),
            calc("again"),
            sink("both"),
        ],
        edges: vec![
            edge(0, 2, Exchange::Hash(vec![1])),
            edge(1, 3, Exchange::Hash(vec![0])),
            edge(2, 3, Exchange::Hash(vec![0])),
            edge(3, 4, Exchange::Forward),
            edge(3, 5, Exchange::Rebalance),
            edge(5, 6, Exchange::Hash(vec![1])),
            edge(2, 6, Exchange::Forward),
        ],
        max_parallelism: 16,
        fingerprint: 0,
    }
}

const LEFT: NodeIndex = 0;
const RIGHT: NodeIndex = 1;

/// Returns the ids that a checkpoint covers, by sink, for the positions of its sources.
fn expected(positions: &BTreeMap<u64, u64>) -> BTreeMap<&'static str, Vec<i64>> {
    let ids = |splits: std::ops::Range<u64>| {
        splits.flat_map(|split| {
            let read = positions.get(&split).copied().unwrap_or(0);
            (0..read).map(move |row| (split * 1_000_000 + row) as i64)
        })
    };
    let left = || ids(0..SPLITS);
    let right = || ids(SPLITS..2 * SPLITS);
    let sorted = |ids: &mut dyn Iterator<Item = i64>| {
        let mut ids: Vec<i64> = ids.collect();
        ids.sort_unstable();
        ids
    };
    BTreeMap::from([
        ("all", sorted(&mut left().chain(right()))),
        ("both", sorted(&mut left().chain(right()).chain(left()))),
    ])
}

#[derive(Default)]
struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn deployment(
    graph: JobGraph,
    parallelism: usize,
    seed: u64,
    runtime: &tokio::runtime::Handle,
    restore: &HashMap<OperatorId, Vec<SubtaskState>>,
    channel_bytes_max: usize,
) -> Deployment {
    let mut splits = HashMap::new();
    let mut sources: HashMap<NodeIndex, Arc<dyn Source>> = HashMap::new();
    for (index, first_split) in [(LEFT, 0), (RIGHT, SPLITS)] {
        let numbers = NumberSource {
            first_split,
            splits: SPLITS,
            rows: ROWS,
            seed: seed ^ index as u64,
        };
        let restored: Option<Vec<Split>> = restore.get(&graph.nodes[index].id).map(|states| {
            let states = states.iter().flat_map(|state| &state.splits);
            states.filter(|split| !split.finished).map(split_of).collect()
        });
        let all = restored.unwrap_or_else(|| futures::executor::block_on(numbers.splits()).expect("splits"));
        let mut by_subtask = vec![Vec::new(); parallelism];
        for (turn, split) in all.into_iter().enumerate() {
            by_subtask[turn % parallelism].push(split);
        }
        splits.insert(index, by_subtask);
        sources.insert(index, Arc::new(numbers));
    }
    let mut sinks: HashMap<NodeIndex, Arc<dyn Sink>> = HashMap::new();
    for (index, _) in graph
        .nodes
        .iter()
        .enumerate()
        .filter(|(_, node)| matches!(node.operator, Operator::Sink(_)))
    {
        sinks.insert(
            index,
            Arc::new(CollectingSink {
                seed: seed ^ index as u64,
                ..CollectingSink::default()
            }),
        );
    }
    let dir = tempfile::tempdir().expect("a folder for the test");
    Deployment {
        local_slots: None,
        graph: Arc::new(graph),
        identity: JobIdentity {
            job: "simulated".into(),
            attempt: "1".into(),
        },
        parallelism,
        slots: parallelism,
        sources,
        sinks,
        splits,
        splits_are_final: true,
        restore: restore.clone(),
        backend: Backend::new(BackendOptions {
            dir: dir.keep(),
            memory_bytes: 64 << 20,
            process_gauge: None,
            background_threads: 1,
        })
        .expect("a backend for the test"),
        runtime: runtime.clone(),
        options: Options {
            channel_bytes_max,
            ..Options::default()
        },
    }
}

fn split_of(state: &SplitState) -> Split {
    Split {
        id: state.id.clone(),
        position: state.position.clone(),
        weight: state.weight,
        finished: state.finished,
    }
}

/// Puts a gate before each sink and returns the gates.
fn add_gates(deployment: &mut Deployment, seed: u64) -> Vec<Arc<Gate>> {
    let mut gates = Vec::new();
    for (index, sink) in &mut deployment.sinks {
        let gate = Arc::new(Gate::default());
        *sink = Arc::new(CollectingSink {
            seed: seed ^ *index as u64,
            gate: Arc::clone(&gate),
            ..CollectingSink::default()
        });
        gates.push((*index, gate));
    }
    gates.sort_by_key(|(index, _)| *index);
    gates.into_iter().map(|(_, gate)| gate).collect()
}

type Checkpoint = HashMap<OperatorId, Vec<SubtaskState>>;

struct Simulation {
    tasks: Vec<(Task, Arc<Flag>)>,
    gates: Vec<Arc<Gate>>,
    /// The newest checkpoint that was requested.
    requested: u64,
    random: Random,
    /// Time of the next timer of each task.
    timers: Vec<Option<i64>>,
    now: i64,
    checkpoints: BTreeMap<u64, Checkpoint>,
    subtasks: usize,
    seed: u64,
}

impl Simulation {
    fn new(deployment: &mut Deployment, seed: u64) -> Self {
        let gates = add_gates(deployment, seed);
        let chains = Chains::of(&deployment.graph, deployment.parallelism);
        let flags: Vec<Vec<Arc<Flag>>> = chains
            .chains
            .iter()
            .map(|_| {
                (0..deployment.parallelism)
                    .map(|_| Arc::new(Flag(AtomicBool::new(true))))
                    .collect()
            })
            .collect();
        let waker = |chain: usize, subtask: usize| Waker::from(Arc::clone(&flags[chain][subtask]));
        let local_slots = deployment.local_slots();
        let counters = deployment::counters(deployment, &local_slots);
        let restored = futures::executor::block_on(deployment::restore(deployment)).expect("its state is here");
        let built = deployment::build(deployment, restored, &local_slots, &chains, &waker, &counters);
        let built = futures::executor::block_on(built).expect("the job is built");
        Self {
            timers: vec![None; built.len()],
            tasks: built
                .into_iter()
                .map(|built| (built.task, Arc::clone(&flags[built.chain][built.subtask])))
                .collect(),
            random: Random(seed),
            gates,
            requested: 0,
            now: 0,
            checkpoints: BTreeMap::new(),
            subtasks: deployment.graph.nodes.len() * deployment.parallelism,
            seed,
        }
    }

    /// Runs to the end, with checkpoints at random steps and a last one.
    fn run(&mut self) {
        let mut steps = 0;
        while !self.has_ended() {
            let is_complete = self.is_complete(self.requested);
            // Sometimes an incomplete checkpoint is aborted by the next one.
            if self.random.below(60) == 0 && (is_complete || self.random.below(8) == 0) {
                if is_complete && self.random.below(2) == 0 {
                    self.confirm(self.requested);
                }
                let timeout_us = self.random.below(ALIGNED_TIMEOUT_US_MAX);
                let aligned_timeout = (self.random.below(2) == 0).then(|| Duration::from_micros(timeout_us));
                self.request_checkpoint(false, aligned_timeout);
            }
            match self.random.below(400) {
                0 => {
                    let gate = self.random.below(self.gates.len() as u64) as usize;
                    self.gates[gate].close();
                }
                1..4 => self.open(),
                _ => {}
            }
            self.step();
            steps += 1;
            assert!(steps < 1_000_000, "seed {}: the job does not end", self.seed);
        }
        // Ended tasks complete a checkpoint that was requested late.
        while !self.is_complete(self.requested) {
            self.step();
        }
        self.request_checkpoint(true, None);
        self.run_until_blocked();
        assert!(
            self.is_complete(self.requested),
            "seed {}: the last checkpoint is incomplete",
            self.seed
        );
        let complete: Vec<u64> = (1..=self.requested).filter(|id| self.is_complete(*id)).collect();
        self.checkpoints.retain(|id, _| complete.contains(id));
    }

    /// Runs until no task may run, now or at a timer.
    fn run_until_blocked(&mut self) {
        let mut steps = 0;
        while self.timers.iter().any(Option::is_some)
            || self.tasks.iter().any(|(_, flag)| flag.0.load(Ordering::Relaxed))
        {
            self.step();
            steps += 1;
            assert!(steps < 100_000, "seed {}: tasks do not come to rest", self.seed);
        }
    }

    fn has_ended(&self) -> bool {
        self.tasks.iter().all(|(task, _)| task.has_ended())
    }

    fn open(&self) {
        self.gates.iter().for_each(|gate| gate.open());
    }

    fn is_complete(&self, checkpoint: u64) -> bool {
        checkpoint == 0
            || self
                .checkpoints
                .get(&checkpoint)
                .is_some_and(|parts| parts.values().map(Vec::len).sum::<usize>() == self.subtasks)
    }

    fn confirm(&mut self, checkpoint: u64) {
        for (task, _) in &mut self.tasks {
            task.on_command(&Command::Confirm { checkpoint })
                .expect("a command is taken");
        }
    }

    fn request_checkpoint(&mut self, last: bool, aligned_timeout: Option<Duration>) {
        self.requested += 1;
        let command = Command::Checkpoint {
            id: self.requested,
            last,
            aligned_timeout,
        };
        for (task, flag) in &mut self.tasks {
            task.on_command(&command).expect("a command is taken");
            flag.0.store(true, Ordering::Relaxed);
        }
    }

    fn step(&mut self) {
        self.now += 1;
        for (index, (_, flag)) in self.tasks.iter().enumerate() {
            if self.timers[index].is_some_and(|at| at <= self.now) {
                flag.0.store(true, Ordering::Relaxed);
            }
        }
        if let Some(soonest) = self.timers.iter().flatten().min()
            && !self.tasks.iter().any(|(_, flag)| flag.0.load(Ordering::Relaxed))
        {
            // No task may run before the next timer.
            self.now = (*soonest).max(self.now);
            return;
        }
        let ready: Vec<usize> = (0..self.tasks.len())
            .filter(|index| self.tasks[*index].1.0.load(Ordering::Relaxed))
            .collect();
        if ready.is_empty() && self.gates.iter().any(|gate| gate.is_closed()) {
            self.open();
            return;
        }
        assert!(
            !ready.is_empty(),
            "seed {}: no task may run, but the job has not ended",
            self.seed
        );
        let index = ready[self.random.below(ready.len() as u64) as usize];
        let (task, flag) = &mut self.tasks[index];
        flag.0.store(false, Ordering::Relaxed);
        self.timers[index] = None;
        match task.step(self.now) {
            Ok(Step::Worked) => flag.0.store(true, Ordering::Relaxed),
            // Later timers are ignored, because they could hide a lost wake-up.
            Ok(Step::Waiting { until }) => {
                self.timers[index] = until.filter(|at| *at <= self.now + ALIGNED_TIMEOUT_US_MAX as i64);
            }
            Err(failure) => panic!("seed {}: {}: {}", self.seed, failure.operator, failure.error),
        }
        for local_slots in task.take_parts() {
            let Some(event) = futures::executor::block_on(local_slots.complete()) else {
                continue;
            };
            match event {
                TaskEvent::Snapshot {
                    checkpoint,
                    operator,
                    state,
                } => {
                    let parts = self
                        .checkpoints
                        .entry(checkpoint)
                        .or_default()
                        .entry(operator)
                        .or_default();
                    assert!(
                        parts.iter().all(|local_slots| local_slots.subtask != state.subtask),
                        "seed {}: a subtask answered checkpoint {checkpoint} twice",
                        self.seed
                    );
                    parts.push(state);
                }
                event => panic!("seed {}: {event:?}", self.seed),
            }
        }
    }
}

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
        }
    }

    fn deployment(&self, parallelism: usize, seed: u64, restore: &Checkpoint) -> Deployment {
        let handle = self.runtime.handle();
        deployment(graph(), parallelism, seed, handle, restore, self.channel_bytes_max)
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

mod slot_threads;
