//! The operator against a computation from the definition, with random changes, small memory, checkpoints and restores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int8Array, Int64Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Field, Int8Type, Schema};
use arrow_array::RecordBatch;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::expressions::Column;
use millstream_graph::{ChangelogMode, RankFunction};
use proptest::prelude::*;

use super::*;
use crate::operators::testing::{
    Emitted, Subtasks, context, integers, on_own_thread, proptest_config, rows_of, settle,
};

/// Partition, order, and a number.
type Row = (i64, Option<i64>, i64);

const PARTITION: usize = 0;
const ORDER: usize = 1;
const NUMBER: usize = 2;
const RANK: usize = 3;

fn schema(is_changelog: bool, has_rank: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("k", DataType::Int64, false),
        Field::new("v", DataType::Int64, true),
        Field::new("id", DataType::Int64, false),
    ];
    if has_rank {
        fields.push(Field::new("rn", DataType::UInt64, true));
    }
    if is_changelog {
        fields.push(changelog::kind_field());
    }
    Arc::new(Schema::new(fields))
}

fn batch(changes: &[(Row, i8)], is_changelog: bool) -> RecordBatch {
    let mut columns = vec![
        integers(&changes.iter().map(|((key, ..), _)| Some(*key)).collect::<Vec<_>>()),
        integers(&changes.iter().map(|((_, value, _), _)| *value).collect::<Vec<_>>()),
        Arc::new(Int64Array::from_iter_values(changes.iter().map(|((.., id), _)| *id))),
    ];
    if is_changelog {
        columns.push(Arc::new(Int8Array::from_iter_values(
            changes.iter().map(|(_, kind)| *kind),
        )));
    }
    RecordBatch::try_new(schema(is_changelog, false), columns).unwrap()
}

/// A query.
#[derive(Debug, Clone)]
struct Query {
    function: RankFunction,
    from: u64,
    to: u64,
    options: SortOptions,
    prefers_last: bool,
    has_order: bool,
    emit_rank: bool,
    retracts: bool,
    mode: ChangelogMode,
    emission: Emission,
    state_ttl: Option<Duration>,
}

impl Query {
    fn node(&self) -> graph::TopN {
        let order = PhysicalSortExpr::new(Arc::new(Column::new("v", ORDER)), self.options);
        graph::TopN {
            partition: vec![PARTITION],
            order: if self.has_order { vec![order] } else { Vec::new() },
            function: self.function,
            from: self.from,
            to: self.to,
            prefers_last: self.prefers_last,
            is_by_arrival: false,
            emit_rank: self.emit_rank,
            emission: self.emission,
            state_ttl: self.state_ttl,
        }
    }

    fn make(&self, context: OperatorContext) -> Box<dyn Operator> {
        let upsert_keys = match &self.mode {
            ChangelogMode::Append => Vec::new(),
            ChangelogMode::Upsert(key) => vec![key.clone()],
            ChangelogMode::Retract if self.emit_rank => vec![vec![PARTITION, RANK]],
            ChangelogMode::Retract => vec![vec![PARTITION, NUMBER]],
        };
        let output = Stream {
            schema: schema(!self.mode.is_append(), self.emit_rank),
            event_time: None,
            window: None,
            changelog: self.mode.clone(),
            upsert_keys,
        };
        top_n("test", &self.node(), &schema(self.retracts, false), &output, context).unwrap()
    }

    /// Returns the result for the rows of one partition, in the order of their arrival, as lines.
    fn result(&self, rows: &[Row]) -> Vec<String> {
        let mut rows = rows.to_vec();
        if self.prefers_last {
            rows.reverse();
        }
        let order = |row: &Row| {
            let value = row.1.map(|value| if self.options.descending { -value } else { value });
            let value = value.filter(|_| self.has_order);
            (value.is_none() != self.options.nulls_first, value)
        };
        match self.retracts {
            true => rows.sort_by_key(|row| (order(row), row.1, row.2)),
            false => rows.sort_by_key(order),
        }
        let mut lines = Vec::new();
        for (at, row) in rows.iter().enumerate() {
            let before: Vec<_> = rows[..at]
                .iter()
                .map(order)
                .filter(|other| *other < order(row))
                .collect();
            let mut different = before.clone();
            different.dedup();
            let rank = 1 + match self.function {
                RankFunction::RowNumber => at,
                RankFunction::Rank => before.len(),
                RankFunction::DenseRank => different.len(),
            } as u64;
            if (self.from..=self.to).contains(&rank) {
                let value = row.1.map(|value| value.to_string()).unwrap_or_default();
                let rank = if self.emit_rank {
                    format!(",{rank}")
                } else {
                    String::new()
                };
                lines.push(format!("{},{value},{}{rank}", row.0, row.2));
            }
        }
        lines
    }

    fn expected(&self, rows: &BTreeMap<i64, Vec<Row>>) -> Vec<String> {
        let mut lines: Vec<String> = rows.values().flat_map(|rows| self.result(rows)).collect();
        lines.sort();
        lines
    }
}

/// The table that a changelog describes. A row that is removed must be there.
#[derive(Default)]
struct Folded {
    /// Lines with their number, by key.
    rows: BTreeMap<Vec<String>, BTreeMap<String, i64>>,
}

impl Folded {
    fn apply(&mut self, batch: &RecordBatch, query: &Query) {
        let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>();
        let is_one_row = query.emit_rank && query.function == RankFunction::RowNumber;
        let key = match &query.mode {
            ChangelogMode::Upsert(key) => key.clone(),
            ChangelogMode::Append | ChangelogMode::Retract if is_one_row => vec![PARTITION, RANK],
            ChangelogMode::Append | ChangelogMode::Retract => Vec::new(),
        };
        for row in 0..batch.num_rows() {
            let columns: Vec<usize> = (0..batch.num_columns() - 1).collect();
            let line = rows_of(&[batch.slice(row, 1).project(&columns).unwrap()]).remove(0);
            let cells: Vec<&str> = line.split(',').collect();
            let rows = self
                .rows
                .entry(key.iter().map(|column| cells[*column].to_owned()).collect())
                .or_default();
            match (&query.mode, kinds.value(row)) {
                (ChangelogMode::Upsert(_), 2) => {
                    assert_eq!(rows.len(), 1, "an update replaces a row: {line}");
                    *rows = BTreeMap::from([(line, 1)]);
                }
                (ChangelogMode::Upsert(_), -1) => {
                    assert_eq!(rows.len(), 1, "only present rows are deleted: {line}");
                    rows.clear();
                }
                (_, 1 | 2) => *rows.entry(line).or_default() += 1,
                (_, kind) => {
                    assert!(kind != -2 || kinds.value(row + 1) == 2, "an update is one pair");
                    let count = rows.get_mut(&line).expect("only present rows are deleted");
                    *count -= 1;
                    if *count == 0 {
                        rows.remove(&line);
                    }
                }
            }
            let count: i64 = rows.values().sum();
            assert!(key.is_empty() || count <= 1, "a key has one row: {rows:?}");
        }
    }

    fn lines(&self) -> Vec<String> {
        let counted = self.rows.values().flatten();
        let mut lines: Vec<String> = counted
            .flat_map(|(line, count)| std::iter::repeat_n(line.clone(), *count as usize))
            .collect();
        lines.sort();
        lines
    }
}

/// A step of a test: rows (partition, order, insertion), and the parallelism to restore at afterwards (0: none).
type Step = (Vec<(i64, Option<i64>, bool)>, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![1 => 0..20i64, 3 => Just(7i64)];
    let value = prop_oneof![8 => (-9..9i64).prop_map(Some), 1 => Just(None)];
    // Partitions become so large that their lists do not have all rows, and lose most of them.
    let inserts = prop::sample::select(vec![0.9, 0.4, 0.1]);
    let rows = inserts.prop_flat_map(move |inserts| {
        prop::collection::vec((key.clone(), value.clone(), prop::bool::weighted(inserts)), 1..300)
    });
    let restore = prop_oneof![3 => Just(0usize), 1 => 1..=3usize];
    prop::collection::vec((rows, restore), 1..8)
}

fn queries() -> impl Strategy<Value = Query> {
    let function = prop_oneof![
        2 => Just(RankFunction::RowNumber),
        1 => Just(RankFunction::Rank),
        1 => Just(RankFunction::DenseRank)
    ];
    let ranks = (1..4u64, 0..5u64).prop_map(|(from, more)| (from, from + more));
    let flags = any::<[bool; 7]>();
    (function, ranks, flags).prop_map(|(function, (from, to), flags)| {
        let [descending, nulls_first, last, has_order, emit_rank, retracts, upserts] = flags;
        let is_row_number = function == RankFunction::RowNumber;
        let prefers_last = last && !retracts && is_row_number;
        // Without an order, the first rows to come are not updated.
        let has_order = has_order || !retracts && !prefers_last || !is_row_number;
        let mode = match upserts {
            true if is_row_number && emit_rank => ChangelogMode::Upsert(vec![PARTITION, RANK]),
            true => ChangelogMode::Upsert(vec![PARTITION, NUMBER]),
            false => ChangelogMode::Retract,
        };
        Query {
            function,
            from,
            to,
            options: SortOptions {
                descending,
                nulls_first,
            },
            prefers_last,
            has_order,
            emit_rank,
            retracts,
            mode,
            emission: Emission::Changes,
            state_ttl: None,
        }
    })
}

/// Runs the steps. With `retracts`, every row that is not an insertion deletes an earlier row of its partition, if
/// there is one, and is delivered before it in half of the cases.
fn run(query: &Query, steps: &[Step], memory_bytes: usize) {
    let new = |context: OperatorContext| query.make(context);
    let mut subtasks = Subtasks::new(&new, &[PARTITION], memory_bytes);
    let mut table: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
    let mut folded = Folded::default();
    let mut number = 0;
    let is_keyed = matches!(query.mode, ChangelogMode::Upsert(_));
    for (rows, restore) in steps {
        let mut changes: Vec<(Row, i8)> = Vec::new();
        for (key, value, inserts) in rows {
            let partition = table.entry(*key).or_default();
            match *inserts || !query.retracts || partition.is_empty() {
                true => {
                    number += 1;
                    // Where nothing identifies a row, some rows are equal.
                    let row = (*key, *value, if is_keyed { number } else { number % 7 });
                    partition.push(row);
                    changes.push((row, 1));
                }
                false => {
                    // Mostly the first or the last row, so that lists become too short.
                    let place = value.unwrap_or_default().unsigned_abs() as usize;
                    let rows = partition.iter().enumerate().map(|(at, row)| (row.1, at));
                    let at = match (place % 4, restore % 2) {
                        (0, _) => Some(place % partition.len()),
                        (_, 0) => rows.min().map(|(_, at)| at),
                        (_, _) => rows.max().map(|(_, at)| at),
                    };
                    changes.push((partition.swap_remove(at.unwrap_or_default()), -1));
                }
            }
        }
        if query.retracts && restore % 2 == 1 {
            changes.reverse();
        }
        subtasks.process(0, &batch(&changes, query.retracts));
        for batch in std::mem::take(&mut subtasks.out.main) {
            folded.apply(&batch, query);
        }
        assert_eq!(folded.lines(), query.expected(&table));
        subtasks.snapshot(Some(*restore).filter(|parallelism| *parallelism > 0));
    }
}

proptest! {
    #![proptest_config(proptest_config(48))]

    #[test]
    fn results_are_the_first_rows_so_far(query in queries(), steps in steps(), is_small: bool) {
        let memory_bytes = if is_small { 4 << 10 } else { 1 << 30 };
        on_own_thread(|| run(&query, &steps, memory_bytes));
    }
}

fn query() -> Query {
    Query {
        function: RankFunction::RowNumber,
        from: 1,
        to: 2,
        options: SortOptions {
            descending: false,
            nulls_first: true,
        },
        prefers_last: false,
        has_order: true,
        emit_rank: false,
        retracts: false,
        mode: ChangelogMode::Retract,
        emission: Emission::Changes,
        state_ttl: None,
    }
}

/// Returns what an operator emits for changes.
fn emitted(operator: &mut dyn Operator, changes: &[(Row, i8)], is_changelog: bool) -> Vec<String> {
    let mut out = Emitted::default();
    let progress = operator.process(0, batch(changes, is_changelog), &mut out).unwrap();
    settle(operator, progress, &mut out).unwrap();
    let rows = |batch: &RecordBatch| {
        (0..batch.num_rows())
            .flat_map(|row| rows_of(&[batch.slice(row, 1)]))
            .collect::<Vec<_>>()
    };
    out.main.iter().flat_map(rows).collect()
}

#[test]
fn a_row_that_enters_moves_only_the_ranks_after_it() {
    on_own_thread(|| {
        let query = Query {
            to: 3,
            emit_rank: true,
            ..query()
        };
        let mut operator = query.make(context(1 << 30));
        let mut check = |rows: &[Row], expected: &[&str]| {
            let changes: Vec<(Row, i8)> = rows.iter().map(|row| (*row, 1)).collect();
            assert_eq!(emitted(operator.as_mut(), &changes, false), expected);
        };
        check(&[(1, Some(5), 1), (1, Some(3), 2)], &["1,3,2,1,1", "1,5,1,2,1"]);
        // The row that was there is before one of equal order.
        check(&[(1, Some(5), 3)], &["1,5,3,3,1"]);
        check(
            &[(1, Some(4), 4)],
            &["1,5,1,2,-2", "1,4,4,2,2", "1,5,3,3,-2", "1,5,1,3,2"],
        );
        check(&[(1, Some(5), 5), (1, Some(9), 6)], &[]);
    });
}

#[test]
fn the_first_rows_to_come_are_emitted_once() {
    on_own_thread(|| {
        let query = Query {
            from: 2,
            has_order: false,
            emit_rank: true,
            mode: ChangelogMode::Append,
            ..query()
        };
        let new = |context: OperatorContext| query.make(context);
        for memory_bytes in [1, 1 << 30] {
            let mut subtasks = Subtasks::new(&new, &[PARTITION], memory_bytes);
            let mut check = |rows: &[Row], expected: &[&str]| {
                let changes: Vec<(Row, i8)> = rows.iter().map(|row| (*row, 1)).collect();
                subtasks.process(0, &batch(&changes, false));
                assert_eq!(rows_of(&std::mem::take(&mut subtasks.out.main)), expected);
                subtasks.snapshot(Some(2));
            };
            check(&[(1, Some(5), 1), (2, Some(3), 2)], &[]);
            check(&[(2, Some(4), 3), (2, Some(1), 4)], &["2,4,3,2"]);
            check(&[(2, Some(1), 5), (1, Some(7), 6)], &["1,7,6,2"]);
            check(&[(1, Some(0), 7)], &[]);
        }
    });
}

#[test]
fn the_final_rows_are_emitted_once_from_memory_or_the_store() {
    for memory_bytes in [8 << 10, 1 << 30] {
        on_own_thread(|| {
            let query = Query {
                emission: Emission::Final,
                mode: ChangelogMode::Append,
                ..query()
            };
            let mut operator = query.make(context(memory_bytes));
            let mut out = Emitted::default();
            let mut table: BTreeMap<i64, Vec<Row>> = BTreeMap::new();
            for part in 0..10i64 {
                let rows: Vec<(Row, i8)> = (0..1_000)
                    .map(|number| {
                        (
                            ((number * 7 + part) % 3_000, Some(number % 13), part * 1_000 + number),
                            1,
                        )
                    })
                    .collect();
                for (row, _) in &rows {
                    table.entry(row.0).or_default().push(*row);
                }
                let progress = operator.process(0, batch(&rows, false), &mut out).unwrap();
                settle(operator.as_mut(), progress, &mut out).unwrap();
            }
            assert!(out.main.is_empty());
            let progress = operator.finish(&mut out).unwrap();
            settle(operator.as_mut(), progress, &mut out).unwrap();
            assert_eq!(rows_of(&out.main), query.expected(&table));
        });
    }
}

#[test]
fn partitions_expire_after_their_time_to_live() {
    const SECOND: i64 = 1_000_000;
    for retracts in [false, true] {
        on_own_thread(|| {
            let query = Query {
                to: 1,
                retracts,
                state_ttl: Some(Duration::from_secs(8)),
                ..query()
            };
            let new = |context: OperatorContext| query.make(context);
            let mut subtasks = Subtasks::new(&new, &[PARTITION], 1 << 30);
            let mut check = |now: i64, changes: &[(Row, i8)], expected: &[&str]| {
                subtasks.time(now * SECOND);
                subtasks.process(0, &batch(changes, retracts));
                let found = rows_of(&std::mem::take(&mut subtasks.out.main));
                assert_eq!(found, expected, "after {now} s, {retracts}");
                subtasks.snapshot(Some(2));
            };
            check(100, &[((1, Some(5), 1), 1)], &["1,5,1,1"]);
            check(104, &[((1, Some(3), 2), 1)], &["1,3,2,2", "1,5,1,-2"]);
            // The state is new, so nothing is known of the former row.
            check(116, &[((1, Some(7), 3), 1)], &["1,7,3,1"]);
            if retracts {
                // The rows that these take back have expired.
                check(117, &[((1, Some(3), 2), -1), ((2, Some(3), 2), -1)], &[]);
            }
        });
    }
}

/// Compares the first rows of random changes with their definition.
pub(in crate::operators) fn check_random_changes() {
    results_are_the_first_rows_so_far();
}
