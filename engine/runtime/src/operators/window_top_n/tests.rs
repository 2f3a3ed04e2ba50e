use std::collections::BTreeMap;

use super::*;
use crate::operators::testing::{Subtasks, integers, on_own_thread, proptest_config, rows_of, timestamps};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use millstream_graph::{RankFunction, WindowColumns};
use proptest::prelude::*;

fn schema(rank: bool) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields = vec![
        Field::new("window_start", time.clone(), true),
        Field::new("window_end", time, true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ];
    if rank {
        fields.push(Field::new("rn", DataType::Int64, true));
    }
    Arc::new(Schema::new(fields))
}

/// Window end, key, value.
type Row = (i64, i64, i64);

/// Runs a top-N by descending value, per key. After each batch there may be a snapshot, and a restore from it.
fn run(
    function: RankFunction,
    from: u64,
    to: u64,
    batches: &[&[Row]],
    memory_bytes: usize,
    cuts: &[Option<Option<usize>>],
) -> Vec<String> {
    let node = graph::WindowTopN {
        window: WindowColumns { start: 0, end: 1 },
        partition: vec![2],
        order: vec![PhysicalSortExpr::new(
            Arc::new(Column::new("v", 3)),
            SortOptions::new(true, false),
        )],
        from,
        to,
        prefers_last: false,
        function,
        emit_rank: true,
    };
    run_node(&node, batches, memory_bytes, cuts)
}

fn run_node(
    node: &graph::WindowTopN,
    batches: &[&[Row]],
    memory_bytes: usize,
    cuts: &[Option<Option<usize>>],
) -> Vec<String> {
    let make = |context: OperatorContext| -> Box<dyn Operator> {
        Box::new(WindowTopN::new("top-n", node, &schema(false), &schema(true), context).unwrap())
    };
    let mut subtasks = Subtasks::new(&make, &[2], memory_bytes);
    for (at, rows) in batches.iter().enumerate() {
        let column = |value: fn(&Row) -> i64| rows.iter().map(|row| Some(value(row))).collect::<Vec<_>>();
        let columns = vec![
            timestamps(&column(|row| row.0 - 10)),
            timestamps(&column(|row| row.0)),
            integers(&column(|row| row.1)),
            integers(&column(|row| row.2)),
        ];
        let rows = RecordBatch::try_new(schema(false), columns).unwrap();
        subtasks.process(0, &rows);
        if let Some(restore_at) = cuts.get(at).copied().flatten() {
            subtasks.snapshot(restore_at);
        }
    }
    subtasks.watermark(9);
    subtasks.watermark(WATERMARK_MAX);
    rows_of(&subtasks.out.main)
}

#[track_caller]
fn check(from: u64, to: u64, batches: &[&[Row]], expected: &[&str]) {
    for memory_bytes in [1, usize::MAX] {
        let rows = run(
            RankFunction::RowNumber,
            from,
            to,
            batches,
            memory_bytes,
            &[Some(Some(2)), Some(Some(1))],
        );
        assert_eq!(rows, expected);
    }
}

/// Returns the output by definition.
fn expected(function: RankFunction, from: u64, to: u64, rows: &[Row]) -> Vec<String> {
    let mut partitions: BTreeMap<(i64, i64), Vec<i64>> = BTreeMap::new();
    for (end, key, value) in rows {
        partitions.entry((*end, *key)).or_default().push(*value);
    }
    let mut lines = Vec::new();
    for ((end, key), mut values) in partitions {
        values.sort_unstable_by(|a, b| b.cmp(a));
        for (number, value) in values.iter().enumerate() {
            let before: Vec<i64> = values.iter().copied().filter(|other| other > value).collect();
            let mut different = before.clone();
            different.dedup();
            let rank = 1 + match function {
                RankFunction::RowNumber => number,
                RankFunction::Rank => before.len(),
                RankFunction::DenseRank => different.len(),
            } as u64;
            if (from..=to).contains(&rank) {
                lines.push(format!("{},{end},{key},{value},{rank}", end - 10));
            }
        }
    }
    lines.sort();
    lines
}

proptest! {
    #![proptest_config(proptest_config(32))]

    /// The first rows are emitted once, after any number of snapshots, restores at other parallelisms and evictions.
    #[test]
    fn restores_and_evictions_keep_the_first_rows(
        rows in proptest::collection::vec((prop_oneof![Just(10i64), Just(20)], 0i64..4, 0i64..6), 1..60),
        step in 1usize..9,
        function in prop_oneof![
            Just(RankFunction::RowNumber), Just(RankFunction::Rank), Just(RankFunction::DenseRank)
        ],
        (from, to) in (1u64..3, 0u64..3).prop_map(|(from, more)| (from, from + more)),
        memory in prop_oneof![Just(1usize), Just(4_000), Just(usize::MAX)],
        cuts in proptest::collection::vec(proptest::option::weighted(0.4, proptest::option::weighted(0.5, 1usize..4)), 8),
    ) {
        let batches: Vec<&[Row]> = rows.chunks(step).collect();
        let found = on_own_thread(|| run(function, from, to, &batches, memory, &cuts));
        prop_assert_eq!(found, expected(function, from, to, &rows));
    }
}

#[test]
fn the_first_rows_of_each_partition_are_emitted_in_order() {
    on_own_thread(|| {
        check(
            1,
            2,
            &[
                &[(10, 1, 5), (10, 1, 7), (20, 1, 1)],
                &[(10, 1, 6), (10, 2, 0), (20, 1, 0)],
            ],
            &["0,10,1,6,2", "0,10,1,7,1", "0,10,2,0,1", "10,20,1,0,2", "10,20,1,1,1"],
        );
        check(2, 2, &[&[(10, 1, 5), (10, 1, 7), (10, 1, 9)]], &["0,10,1,7,2"]);
    });
}

#[test]
fn the_last_of_equal_rows_is_the_first_if_it_is_preferred() {
    let batches: &[&[Row]] = &[
        &[(10, 1, 5), (10, 1, 7), (20, 1, 1)],
        &[(10, 0, 9), (10, 1, 6), (20, 0, 2)],
        &[(20, 1, 4), (20, 1, 3)],
    ];
    for (prefers_last, expected) in [
        (true, ["0,10,1,6,1", "10,20,1,3,1"]),
        (false, ["0,10,1,5,1", "10,20,1,1,1"]),
    ] {
        let node = graph::WindowTopN {
            window: WindowColumns { start: 0, end: 1 },
            partition: Vec::new(),
            order: vec![PhysicalSortExpr::new(
                Arc::new(Column::new("k", 2)),
                SortOptions::new(true, false),
            )],
            from: 1,
            to: 1,
            prefers_last,
            function: RankFunction::RowNumber,
            emit_rank: true,
        };
        for memory_bytes in [1, usize::MAX] {
            let rows = on_own_thread(|| run_node(&node, batches, memory_bytes, &[Some(Some(1)), Some(Some(1))]));
            assert_eq!(rows, expected);
        }
    }
}

/// Compares windows that are restored and evicted with their definition.
pub(in crate::operators) fn check_restores_and_evictions() {
    restores_and_evictions_keep_the_first_rows();
}
