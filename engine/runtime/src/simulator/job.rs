//! The simulated job: its graph, its connectors, and its expected output.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExpr;
use millstream_connectors::{JobIdentity, Sink, Source, Split, TableDefinition};
use millstream_graph::{
    Calc, Edge, ErrorPolicy, Exchange, JobGraph, Node, NodeIndex, Operator, OperatorId, Parallelism, Port, Stream,
    Watermark,
};
use millstream_state::store::{Backend, BackendOptions};

use super::test_connectors::{CollectingSink, Gate, NumberSource, schema};
use crate::deployment::{Deployment, Options};
use crate::subtask_state::{SplitState, SubtaskState};

/// Number of splits of each source.
pub(super) const SPLITS: u64 = 3;
/// Number of rows of each split.
pub(super) const ROWS: u64 = 300;

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

pub(super) fn node(id: &str, operator: Operator) -> Node {
    Node {
        id: OperatorId(id.into()),
        operator,
        output: Stream {
            schema: schema(),
            event_time: Some(2),
            window: None,
            changelog: millstream_graph::ChangelogMode::Append,
            upsert_keys: Vec::new(),
        },
        parallelism: Parallelism::Job,
    }
}

pub(super) fn source(id: &str) -> Node {
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

pub(super) fn sink(id: &str) -> Node {
    node(
        id,
        Operator::Sink(millstream_graph::Sink {
            table: table(id),
            on_error: ErrorPolicy::Fail,
        }),
    )
}

pub(super) fn edge(from: NodeIndex, to: NodeIndex, exchange: Exchange) -> Edge {
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
pub(super) fn graph() -> JobGraph {
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
        consistency_interval: None,
        fingerprint: 0,
    }
}

/// Returns the ids that a checkpoint covers, by sink, for the positions of its sources.
pub(super) fn expected(positions: &BTreeMap<u64, u64>) -> BTreeMap<&'static str, Vec<i64>> {
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

/// Makes a deployment whose backend has a folder of its own below `folder`.
pub(super) fn deployment(
    graph: JobGraph,
    parallelism: usize,
    seed: u64,
    runtime: &tokio::runtime::Handle,
    folder: &Path,
    restore: &HashMap<OperatorId, Vec<SubtaskState>>,
    channel_bytes_max: usize,
) -> Deployment {
    let mut splits = HashMap::new();
    let mut sources: HashMap<NodeIndex, Arc<dyn Source>> = HashMap::new();
    let is_source = |index: &NodeIndex| matches!(graph.nodes[*index].operator, Operator::Source(_));
    for (number, index) in (0..graph.nodes.len()).filter(is_source).enumerate() {
        let first_split = number as u64 * SPLITS;
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
    let dir = tempfile::tempdir_in(folder).expect("a folder for the deployment");
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

pub(super) fn split_of(state: &SplitState) -> Split {
    Split {
        id: state.id.clone(),
        position: state.position.clone(),
        weight: state.weight,
        finished: state.finished,
    }
}

/// Puts a gate before each sink and returns the gates.
pub(super) fn add_gates(deployment: &mut Deployment, seed: u64) -> Vec<Arc<Gate>> {
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
