//! A deterministic simulator: a whole job in one thread, every choice drawn from a seed.
//!
//! It builds the same tasks and channels that slots run, with wakers that only put up a flag, and at each turn lets one
//! task that may run make one step. When no task may run although the job has not ended, a wake-up was lost or the job
//! is deadlocked, and the test fails with its seed. Channels are tiny, rows are shuffled both ways, streams are united
//! and shared, and checkpoints are asked for at random moments. What the sinks hand over with each checkpoint must be
//! exactly the rows that the sources had read by it; a run that resumes from any of them, at another parallelism, must
//! complete it to exactly all rows.

mod ends;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use millstream_connectors::{Committable, JobIdentity, Sink, Source, Split, TableDefinition};
use millstream_planner::graph::{
    self, Calc, Edge, ErrorPolicy, Exchange, JobGraph, Node, NodeIndex, Operator, OperatorId, Parallelism, Port,
    Stream, Watermark,
};
use millstream_state::store::{Backend, BackendOptions};

use self::ends::{Kept, Numbers, ids_of, schema};
use crate::chain::Chains;
use crate::deployment;
use crate::elsewhere::Part;
use crate::job::{Command, Deployment, Options, SplitState, SubtaskState, TaskEvent};
use crate::task::{Step, Task};

/// SplitMix64: enough randomness for choices, the same everywhere.
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
        Operator::Source(graph::Source {
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
        Operator::Sink(graph::Sink {
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

/// Two sources; one is shuffled by key, the union of both by id, and the result is shared by two sinks, one of them
/// behind another shuffle, the other also fed by the first shuffle directly.
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

/// Ids a checkpoint covers, by sink, from the positions its sources had reached.
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
        let numbers = Numbers {
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
            Arc::new(Kept {
                seed: seed ^ index as u64,
                ..Kept::default()
            }),
        );
    }
    let dir = tempfile::tempdir().expect("a folder for the test");
    Deployment {
        part: None,
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

type Checkpoint = HashMap<OperatorId, Vec<SubtaskState>>;

struct Simulation {
    tasks: Vec<(Task, Arc<Flag>)>,
    random: Random,
    now: i64,
    checkpoints: BTreeMap<u64, Checkpoint>,
    subtasks: usize,
    seed: u64,
}

impl Simulation {
    fn new(deployment: &Deployment, seed: u64) -> Self {
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
        let part = Part::of(deployment);
        let counters = deployment::counters(deployment, &part);
        let restored = futures::executor::block_on(deployment::restore(deployment)).expect("its state is here");
        let built = deployment::build(deployment, restored, &part, &chains, &waker, &counters);
        let built = futures::executor::block_on(built).expect("the job is built");
        Self {
            tasks: built
                .into_iter()
                .map(|built| (built.task, Arc::clone(&flags[built.chain][built.subtask])))
                .collect(),
            random: Random(seed),
            now: 0,
            checkpoints: BTreeMap::new(),
            subtasks: deployment.graph.nodes.len() * deployment.parallelism,
            seed,
        }
    }

    /// Runs to the end, with a checkpoint asked for now and then, and a last one at the end.
    fn run(&mut self) {
        let mut asked = 0;
        let mut steps = 0;
        while !self.tasks.iter().all(|(task, _)| task.has_ended()) {
            if self.random.below(60) == 0 && self.is_complete(asked) {
                if self.random.below(2) == 0 {
                    self.confirm(asked);
                }
                asked += 1;
                self.ask(asked, false);
            }
            self.step();
            steps += 1;
            assert!(steps < 1_000_000, "seed {}: the job does not end", self.seed);
        }
        // One that was asked for late is answered by ended tasks.
        while !self.is_complete(asked) {
            self.step();
        }
        asked += 1;
        self.ask(asked, true);
        while self.tasks.iter().any(|(_, flag)| flag.0.load(Ordering::Relaxed)) {
            self.step();
        }
        assert!(
            self.is_complete(asked),
            "seed {}: the last checkpoint is incomplete",
            self.seed
        );
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

    fn ask(&mut self, id: u64, last: bool) {
        for (task, flag) in &mut self.tasks {
            task.on_command(&Command::Checkpoint { id, last })
                .expect("a command is taken");
            flag.0.store(true, Ordering::Relaxed);
        }
    }

    fn step(&mut self) {
        self.now += 1;
        let ready: Vec<usize> = (0..self.tasks.len())
            .filter(|index| self.tasks[*index].1.0.load(Ordering::Relaxed))
            .collect();
        assert!(
            !ready.is_empty(),
            "seed {}: no task may run, but the job has not ended",
            self.seed
        );
        let (task, flag) = &mut self.tasks[ready[self.random.below(ready.len() as u64) as usize]];
        flag.0.store(false, Ordering::Relaxed);
        match task.step(self.now) {
            Ok(Step::Worked) => flag.0.store(true, Ordering::Relaxed),
            Ok(Step::Waiting { .. }) => {}
            Err(failure) => panic!("seed {}: {}: {}", self.seed, failure.operator, failure.error),
        }
        for part in task.take_parts() {
            match futures::executor::block_on(part.complete()) {
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
                        parts.iter().all(|part| part.subtask != state.subtask),
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

/// Runs once and resumes once from a random checkpoint at another parallelism.
fn simulate(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime");
    let mut random = Random(seed);
    let channel_bytes_max = 1 + random.below(3_000) as usize;
    let parallelism = 1 + random.below(3) as usize;
    let start = deployment(
        graph(),
        parallelism,
        seed,
        runtime.handle(),
        &HashMap::new(),
        channel_bytes_max,
    );
    let mut first = Simulation::new(&start, seed);
    first.run();
    let mut committed = Committed::new();
    let chosen = 1 + random.below(first.checkpoints.len() as u64);
    for (id, checkpoint) in &first.checkpoints {
        collect(checkpoint, 0, &mut committed);
        check(seed, *id, &positions(checkpoint), &committed);
        if *id == chosen {
            let other = 1 + parallelism % 3;
            let again = deployment(graph(), other, !seed, runtime.handle(), checkpoint, channel_bytes_max);
            let mut second = Simulation::new(&again, !seed);
            second.run();
            let mut all = committed.clone();
            for checkpoint in second.checkpoints.values() {
                collect(checkpoint, 1, &mut all);
            }
            let whole = (0..2 * SPLITS).map(|split| (split, ROWS)).collect();
            check(seed, *id, &whole, &all);
        }
    }
}

/// What the sinks have handed over so far, by run and subtask: publishing the same twice makes no difference.
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
    for seed in 0..24 {
        simulate(seed);
    }
}

mod threads;
