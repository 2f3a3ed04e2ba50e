//! A job that updates aggregates, with consistency points at random steps.
//!
//! Each row of the source is a transfer: it debits one account and credits another by the same amount, in two
//! aggregates, and a third one adds up the balances of both. A credit is [`UNIT`] more than its debit, so a total that
//! was computed from some prefix of the input is a multiple of it, and any other total is not. One of the branches is
//! slower than the other by far.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::functions_aggregate::sum::sum_udaf;
use datafusion::logical_expr::Operator as Binary;
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, lit};
use datafusion::physical_expr::projection::ProjectionExpr;
use millstream_connectors::changelog;
use millstream_graph::{
    Aggregate, Calc, ChangelogMode, Emission, ErrorPolicy, Exchange, GroupAggregate, JobGraph, Node, Operator,
    Parallelism, Stream,
};

use super::job::{ROWS, SPLITS, deployment, edge, node, sink, source};
use super::random::Random;
use super::simulation::Simulation;
use super::test_connectors::ids_of;
use super::{Checkpoint, OperatorId};

/// Difference between a credit and its debit: more than the sum of all ids.
const UNIT: i64 = 1 << 40;
/// Number of seeds; `RUNTIME_SEEDS=1000` runs more.
const SEEDS_DEFAULT: u64 = 12;

fn fields(names: [&str; 2], mode: &ChangelogMode) -> SchemaRef {
    let mut fields: Vec<Field> = names.map(|name| Field::new(name, DataType::Int64, true)).into();
    if !mode.is_append() {
        fields.push(changelog::kind_field());
    }
    Arc::new(Schema::new(fields))
}

fn binary(left: PhysicalExprRef, operator: Binary, right: i64) -> PhysicalExprRef {
    Arc::new(BinaryExpr::new(left, operator, lit(right)))
}

/// Returns a node that makes accounts and amounts of the rows of the source.
fn side(id: &str, accounts: i64, amount: PhysicalExprRef) -> Node {
    let column = |name: &str, expr| ProjectionExpr {
        expr,
        alias: name.into(),
    };
    let account = binary(Arc::new(Column::new("id", 0)), Binary::Modulo, accounts);
    let calc = Calc {
        filter: None,
        projection: vec![column("account", account), column("amount", amount)],
        on_error: ErrorPolicy::Fail,
    };
    with_output(
        node(id, Operator::Calc(calc)),
        ["account", "amount"],
        ChangelogMode::Append,
    )
}

fn with_output(node: Node, names: [&str; 2], mode: ChangelogMode) -> Node {
    Node {
        output: Stream {
            schema: fields(names, &mode),
            event_time: None,
            window: None,
            changelog: mode,
            upsert_keys: Vec::new(),
        },
        ..node
    }
}

/// Returns a node with the sum of the second input column by `keys`.
fn total(id: &str, keys: Vec<usize>, input: &SchemaRef) -> Node {
    let function = AggregateExprBuilder::new(sum_udaf(), vec![Arc::new(Column::new(input.field(1).name(), 1))])
        .schema(Arc::clone(input))
        .alias("total")
        .build()
        .expect("a sum");
    let aggregate = Aggregate {
        function: Arc::new(function),
        filter: None,
    };
    let mut node = node(
        id,
        Operator::GroupAggregate(GroupAggregate {
            aggregates: vec![aggregate],
            emission: Emission::Changes,
            state_ttl: None,
            phase: millstream_graph::Phase::Single,
            retracts: false,
            keys: keys.clone(),
        }),
    );
    let mut fields: Vec<Arc<Field>> = keys.iter().map(|key| input.fields()[*key].clone()).collect();
    fields.push(Arc::new(Field::new("total", DataType::Int64, true)));
    fields.push(Arc::new(changelog::kind_field()));
    node.output.schema = Arc::new(Schema::new(fields));
    node.output.event_time = None;
    node.output.changelog = ChangelogMode::Retract;
    node.output.upsert_keys = vec![(0..keys.len()).collect()];
    node
}

/// Chain of the aggregate of debits: the source and both projections are in the first.
const DEBITS: usize = 1;

fn graph(has_points: bool) -> JobGraph {
    let id = || Arc::new(Column::new("id", 0)) as PhysicalExprRef;
    let minus = binary(id(), Binary::Multiply, -1);
    let debits = side("debits", 5, minus);
    let credits = side("credits", 7, binary(id(), Binary::Plus, UNIT));
    let debit_totals = total("debit_totals", vec![0], &debits.output.schema);
    let credit_totals = total("credit_totals", vec![0], &credits.output.schema);
    let all = |node: Node| Node {
        parallelism: Parallelism::One,
        ..node
    };
    let sum = all(total("sum", Vec::new(), &debit_totals.output.schema));
    let written = sum.output.clone();
    let sink = Node {
        output: written,
        ..all(sink("totals"))
    };
    JobGraph {
        name: "simulated".into(),
        nodes: vec![
            source("transfers"),
            debits,
            credits,
            debit_totals,
            credit_totals,
            sum,
            sink,
        ],
        edges: vec![
            edge(0, 1, Exchange::Forward),
            edge(0, 2, Exchange::Forward),
            edge(1, 3, Exchange::Hash(vec![0])),
            edge(2, 4, Exchange::Hash(vec![0])),
            edge(3, 5, Exchange::Rebalance),
            edge(4, 5, Exchange::Rebalance),
            edge(5, 6, Exchange::Forward),
        ],
        max_parallelism: 16,
        consistency_interval: has_points.then_some(Duration::from_millis(1)),
        fingerprint: 0,
    }
}

/// Returns all totals that the sink has written.
fn totals(checkpoints: impl Iterator<Item = Checkpoint>) -> Vec<i64> {
    let mut totals = Vec::new();
    for checkpoint in checkpoints {
        let states = checkpoint.get(&OperatorId("totals".into())).into_iter().flatten();
        let new = states.filter_map(|state| state.committables.last());
        totals.extend(new.flat_map(ids_of));
    }
    totals
}

struct Ran {
    points: u64,
    /// Totals that no prefix of the input has.
    wrong: usize,
}

/// Runs a job, ends it at some checkpoint, and runs the rest from there at another parallelism.
fn simulate(seed: u64, has_points: bool) -> Ran {
    let mut random = Random(seed);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let _entered = runtime.enter();
    let channel_bytes_max = 1 + random.below(3_000) as usize;
    let handle = runtime.handle();
    let folder = tempfile::tempdir().expect("a folder for the test");
    let folder = folder.path();
    let mut start = deployment(
        graph(has_points),
        2,
        seed,
        handle,
        folder,
        &HashMap::new(),
        channel_bytes_max,
    );
    let run = |deployment: &mut _, seed| {
        let mut run = Simulation::new(deployment, seed);
        run.has_points = true;
        run.delayed_chain = Some(DEBITS);
        run.run();
        run
    };
    let first = run(&mut start, seed);
    let chosen = *first
        .checkpoints
        .keys()
        .nth(random.below(first.checkpoints.len() as u64) as usize)
        .expect("one");
    let restored = &first.checkpoints[&chosen];
    let parallelism = 1 + random.below(3) as usize;
    let mut again = deployment(
        graph(has_points),
        parallelism,
        !seed,
        handle,
        folder,
        restored,
        channel_bytes_max,
    );
    again.backend = again.backend.with_files(start.backend.files().clone());
    let second = run(&mut again, !seed);
    let whole = (SPLITS * ROWS) as i64;
    let first_totals = totals(first.checkpoints.values().cloned());
    let second_totals = totals(second.checkpoints.values().cloned());
    for (name, totals) in [("first", &first_totals), ("second", &second_totals)] {
        if let Some(last) = totals.last() {
            assert_eq!(*last, whole * UNIT, "seed {seed}: the last total of the {name} run");
        }
    }
    let all = first_totals.iter().chain(&second_totals);
    Ran {
        points: first.points + second.points,
        wrong: all.filter(|total| *total % UNIT != 0).count(),
    }
}

#[test]
fn every_total_is_computed_from_one_prefix_of_the_input() {
    let seeds = std::env::var("RUNTIME_SEEDS").ok();
    let seeds = seeds.map_or(SEEDS_DEFAULT, |seeds| seeds.parse().expect("a number of seeds"));
    let mut points = 0;
    for seed in 0..seeds {
        let ran = simulate(seed, true);
        assert_eq!(ran.wrong, 0, "seed {seed}");
        points += ran.points;
    }
    assert!(points > seeds, "only {points} points passed");
}

#[test]
fn without_consistency_points_totals_mix_prefixes() {
    assert!(simulate(1, false).wrong > 0);
}
