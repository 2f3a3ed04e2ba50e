//! The operator against a join of multisets, with random changes, small memory, checkpoints and restores.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int8Array};
use arrow::datatypes::{DataType, Field, FieldRef, Int8Type, Schema, TimeUnit};
use datafusion::logical_expr::Operator as BinaryOperator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column};
use millstream_connectors::changelog;
use millstream_graph::{ChangelogMode, Stream, TimeBounds};
use proptest::prelude::*;

use super::*;
use crate::operator::{Operator, WATERMARK_MAX};
use crate::operators::testing::{Subtasks, integers, on_own_thread, proptest_config, rows_of, timestamps};

const TYPES: [JoinType; 6] = [
    JoinType::Inner,
    JoinType::Left,
    JoinType::Right,
    JoinType::Full,
    JoinType::LeftSemi,
    JoinType::LeftAnti,
];

/// A row: key and value.
type Row = (Option<i64>, i64);

/// Columns of an input: key, value.
fn input_schema(name: &str, is_changelog: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new(format!("{name}_key"), DataType::Int64, true),
        Field::new(format!("{name}_value"), DataType::Int64, true),
    ];
    if is_changelog {
        fields.push(changelog::kind_field());
    }
    Arc::new(Schema::new(fields))
}

fn batch(schema: &SchemaRef, rows: &[(Row, i8)]) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        integers(&rows.iter().map(|row| row.0.0).collect::<Vec<_>>()),
        integers(&rows.iter().map(|row| Some(row.0.1)).collect::<Vec<_>>()),
    ];
    if changelog::is_changelog(schema) {
        columns.push(Arc::new(Int8Array::from_iter_values(rows.iter().map(|row| row.1))));
    }
    RecordBatch::try_new(Arc::clone(schema), columns).unwrap()
}

/// A case: the type of join, and the settings that the output depends on.
#[derive(Debug, Clone, Copy)]
struct Case {
    join_type: JoinType,
    /// True if left values must be less than right ones.
    has_condition: bool,
    is_changelog: [bool; 2],
    nulls_are_equal: bool,
}

impl Case {
    fn node(&self, emission: Emission) -> graph::Join {
        let column = |name: &str, at: usize| Arc::new(Column::new(name, at));
        let condition = || -> Arc<dyn datafusion::physical_plan::PhysicalExpr> {
            Arc::new(BinaryExpr::new(
                column("left_value", 1),
                BinaryOperator::Lt,
                column("right_value", 3),
            ))
        };
        graph::Join {
            join_type: self.join_type,
            on: vec![(0, 0)],
            nulls_are_equal: self.nulls_are_equal,
            filter: self.has_condition.then(condition),
            bounds: None,
            emission,
            state_ttl: [None, None],
        }
    }

    fn has_both_sides(&self) -> bool {
        !matches!(self.join_type, JoinType::LeftSemi | JoinType::LeftAnti)
    }

    fn output(&self, mode: ChangelogMode) -> Stream {
        let left = input_schema("left", false);
        let right = input_schema("right", false);
        let mut fields: Vec<FieldRef> = left.fields().iter().cloned().collect();
        if self.has_both_sides() {
            fields.extend(right.fields().iter().cloned());
        }
        if !mode.is_append() {
            fields.push(Arc::new(changelog::kind_field()));
        }
        Stream {
            schema: Arc::new(Schema::new(fields)),
            event_time: None,
            window: None,
            changelog: mode,
            upsert_keys: Vec::new(),
        }
    }

    fn inputs(&self) -> [SchemaRef; 2] {
        [
            input_schema("left", self.is_changelog[0]),
            input_schema("right", self.is_changelog[1]),
        ]
    }

    fn make(&self, mode: &ChangelogMode, emission: Emission, context: OperatorContext) -> Box<dyn Operator> {
        let [left, right] = self.inputs();
        let node = self.node(emission);
        Box::new(join("test", &node, [&left, &right], &self.output(mode.clone()), context).unwrap())
    }

    /// Returns the output rows by definition.
    fn expected(&self, left: &[Row], right: &[Row]) -> Vec<String> {
        let meets = |l: &Row, r: &Row| {
            let is_equal = l.0 == r.0 && (self.nulls_are_equal || l.0.is_some());
            is_equal && (!self.has_condition || l.1 < r.1)
        };
        let text = |row: Option<&Row>| match row {
            None => ",".to_owned(),
            Some((key, value)) => format!("{},{value}", key.map(|key| key.to_string()).unwrap_or_default()),
        };
        let mut lines = Vec::new();
        for l in left {
            let matches: Vec<&Row> = right.iter().filter(|r| meets(l, r)).collect();
            match self.join_type {
                JoinType::LeftSemi if !matches.is_empty() => lines.push(text(Some(l))),
                JoinType::LeftAnti if matches.is_empty() => lines.push(text(Some(l))),
                JoinType::Left | JoinType::Full if matches.is_empty() => {
                    lines.push(format!("{},{}", text(Some(l)), text(None)));
                }
                JoinType::LeftSemi | JoinType::LeftAnti => {}
                _ => lines.extend(matches.iter().map(|r| format!("{},{}", text(Some(l)), text(Some(r))))),
            }
        }
        if matches!(self.join_type, JoinType::Right | JoinType::Full) {
            let unmatched = right.iter().filter(|r| !left.iter().any(|l| meets(l, r)));
            lines.extend(unmatched.map(|r| format!("{},{}", text(None), text(Some(r)))));
        }
        lines.sort();
        lines
    }
}

/// Rows of the table that a changelog describes, with their number; none is deleted that is absent.
#[derive(Default)]
struct Folded(BTreeMap<String, i64>);

impl Folded {
    fn apply(&mut self, batches: &[RecordBatch], mode: &ChangelogMode) {
        for batch in batches {
            let width = batch.num_columns() - usize::from(!mode.is_append());
            for row in 0..batch.num_rows() {
                let line = batch.slice(row, 1).project(&(0..width).collect::<Vec<_>>()).unwrap();
                let line = rows_of(&[line]).remove(0);
                let kind = match mode.is_append() {
                    true => 1,
                    false => batch.column(width).as_primitive::<Int8Type>().value(row),
                };
                let count = self.0.entry(line.clone()).or_default();
                *count += i64::from(kind.signum());
                assert!(*count >= 0, "{line} is deleted, but absent");
            }
        }
        self.0.retain(|_, count| *count > 0);
    }

    fn lines(&self) -> Vec<String> {
        let lines = self
            .0
            .iter()
            .flat_map(|(line, count)| (0..*count).map(move |_| line.clone()));
        lines.collect()
    }
}

/// A step: changes of one input (a row, and true for an insertion), and the parallelism to restore at (0: none).
type Step = (usize, Vec<(Row, bool)>, usize);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = prop_oneof![6 => (0..12i64).prop_map(Some), 2 => Just(Some(FREQUENT_KEY)), 1 => Just(None)];
    let rows = prop::collection::vec(((key, 0..6i64), prop::bool::weighted(0.6)), 1..40);
    let restore = prop_oneof![3 => Just(0usize), 1 => 1..=3usize];
    prop::collection::vec((0..2usize, rows, restore), 1..10)
}

fn cases() -> impl Strategy<Value = Case> {
    let join_type = prop::sample::select(TYPES.to_vec());
    (join_type, any::<bool>(), any::<[bool; 2]>(), any::<bool>()).prop_map(
        |(join_type, has_condition, is_changelog, nulls_are_equal)| Case {
            join_type,
            has_condition,
            is_changelog,
            nulls_are_equal,
        },
    )
}

fn mode_of(case: &Case) -> ChangelogMode {
    let is_monotonic = matches!(case.join_type, JoinType::Inner | JoinType::LeftSemi);
    match is_monotonic && case.is_changelog == [false; 2] {
        true => ChangelogMode::Append,
        false => ChangelogMode::Retract,
    }
}

/// A key that most steps have.
const FREQUENT_KEY: i64 = 3;
/// The value of rows that are deleted before they are inserted.
const ABSENT_VALUE: i64 = 3_000;

fn run(case: &Case, steps: &[Step], memory_bytes: usize, is_reversed: bool) {
    let mode = mode_of(case);
    let new = |context: OperatorContext| case.make(&mode, Emission::Changes, context);
    let mut subtasks = Subtasks::new(&new, &[0, 0], memory_bytes);
    let mut tables: [Vec<Row>; 2] = Default::default();
    let mut folded = Folded::default();
    // Rows whose deletion has arrived, but not their insertion.
    let mut deleted_early: [Option<Row>; 2] = [None; 2];
    for (input, changes, restore) in steps {
        let table = &mut tables[*input];
        let mut rows: Vec<(Row, i8)> = Vec::new();
        match deleted_early[*input].take() {
            Some(row) => rows.push((row, 1)),
            None if is_reversed && case.is_changelog[*input] => {
                let row = (Some(FREQUENT_KEY), ABSENT_VALUE);
                rows.push((row, -1));
                deleted_early[*input] = Some(row);
            }
            None => {}
        }
        for ((key, value), inserts) in changes {
            let of_key: Vec<usize> = (0..table.len()).filter(|row| table[*row].0 == *key).collect();
            match *inserts || !case.is_changelog[*input] || of_key.is_empty() {
                true => {
                    table.push((*key, *value));
                    rows.push(((*key, *value), 1));
                }
                false => rows.push((table.remove(of_key[*value as usize % of_key.len()]), -1)),
            }
        }
        if is_reversed {
            // Deletions before their insertions.
            rows.reverse();
        }
        subtasks.process(*input, &batch(&case.inputs()[*input], &rows));
        folded.apply(&std::mem::take(&mut subtasks.out.main), &mode);
        // Until the insertion arrives, the deletion may count against another match.
        if deleted_early == [None; 2] {
            assert_eq!(folded.lines(), case.expected(&tables[0], &tables[1]), "{case:?}");
        }
        subtasks.snapshot((*restore > 0).then_some(*restore));
    }
}

proptest! {
    #![proptest_config(proptest_config(60))]

    #[test]
    fn results_are_those_of_the_rows_so_far(
        case in cases(), steps in steps(), is_small: bool, is_reversed: bool
    ) {
        let memory_bytes = if is_small { 2 << 10 } else { 1 << 30 };
        on_own_thread(|| run(&case, &steps, memory_bytes, is_reversed));
    }
}

#[test]
fn the_final_result_is_emitted_once_from_memory_or_the_store() {
    let rows = |part: i64, side: i64| -> Vec<(Row, i8)> {
        let row = |number: i64| ((Some((number * 7 + part) % 900 + side * 300), number % 5), 1);
        (0..500).map(row).chain([((None, part), 1)]).collect()
    };
    for join_type in TYPES {
        for has_condition in [false, true] {
            let case = Case {
                join_type,
                has_condition,
                is_changelog: [false; 2],
                nulls_are_equal: false,
            };
            for memory_bytes in [16 << 10, 1 << 30] {
                on_own_thread(|| {
                    let context = crate::operators::testing::context(memory_bytes);
                    let mut operator = case.make(&ChangelogMode::Append, Emission::Final, context);
                    let mut out = crate::operators::testing::Emitted::default();
                    let mut tables: [Vec<Row>; 2] = Default::default();
                    for part in 0..6 {
                        for (side, table) in tables.iter_mut().enumerate() {
                            let rows = rows(part, side as i64);
                            table.extend(rows.iter().map(|row| row.0));
                            let batch = batch(&case.inputs()[side], &rows);
                            let progress = operator.process(side, batch, &mut out).unwrap();
                            crate::operators::testing::settle(operator.as_mut(), progress, &mut out).unwrap();
                        }
                    }
                    let progress = operator.finish(&mut out).unwrap();
                    crate::operators::testing::settle(operator.as_mut(), progress, &mut out).unwrap();
                    assert_eq!(rows_of(&out.main), case.expected(&tables[0], &tables[1]), "{case:?}");
                });
            }
        }
    }
}

const SECOND: i64 = 1_000_000;

/// An interval join: left rows are joined with right rows of the same key up to 10 s later.
fn interval_join(join_type: JoinType, context: OperatorContext) -> Box<dyn Operator> {
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let schema = |name: &str| {
        Arc::new(Schema::new(vec![
            Field::new(format!("{name}_key"), DataType::Int64, true),
            Field::new(format!("{name}_time"), time(), true),
            Field::new(format!("{name}_expiry"), time(), true),
        ]))
    };
    let (left, right) = (schema("left"), schema("right"));
    let column =
        |name: &str, at: usize| -> Arc<dyn datafusion::physical_plan::PhysicalExpr> { Arc::new(Column::new(name, at)) };
    let compare = |left: Arc<dyn datafusion::physical_plan::PhysicalExpr>,
                   right|
     -> Arc<dyn datafusion::physical_plan::PhysicalExpr> {
        Arc::new(BinaryExpr::new(left, BinaryOperator::LtEq, right))
    };
    let filter = BinaryExpr::new(
        compare(column("left_time", 1), column("right_time", 4)),
        BinaryOperator::And,
        compare(column("right_time", 4), column("left_expiry", 2)),
    );
    let node = graph::Join {
        join_type,
        on: vec![(0, 0)],
        nulls_are_equal: false,
        filter: Some(Arc::new(filter)),
        bounds: Some(TimeBounds {
            time: [1, 1],
            expiry: [2, 2],
            retention: [Some(10 * SECOND), Some(0)],
            watermark_delay: 10 * SECOND,
        }),
        emission: Emission::Changes,
        state_ttl: [None, None],
    };
    let mut fields: Vec<FieldRef> = left.fields().iter().cloned().collect();
    if !matches!(join_type, JoinType::LeftSemi | JoinType::LeftAnti) {
        fields.extend(right.fields().iter().cloned());
    }
    let output = Stream {
        schema: Arc::new(Schema::new(fields)),
        event_time: None,
        window: None,
        changelog: ChangelogMode::Append,
        upsert_keys: Vec::new(),
    };
    Box::new(join("test", &node, [&left, &right], &output, context).unwrap())
}

/// Returns rows of an interval join's input: key, time in seconds. The expiry of left rows is 10 s later.
fn timed(side: usize, rows: &[(i64, i64)]) -> RecordBatch {
    let name = ["left", "right"][side];
    let time = || DataType::Timestamp(TimeUnit::Microsecond, None);
    let schema = Schema::new(vec![
        Field::new(format!("{name}_key"), DataType::Int64, true),
        Field::new(format!("{name}_time"), time(), true),
        Field::new(format!("{name}_expiry"), time(), true),
    ]);
    let life = if side == 0 { 10 } else { 0 };
    let times = |shift: i64| {
        timestamps(
            &rows
                .iter()
                .map(|row| Some((row.1 + shift) * SECOND))
                .collect::<Vec<_>>(),
        )
    };
    let keys = integers(&rows.iter().map(|row| Some(row.0)).collect::<Vec<_>>());
    RecordBatch::try_new(Arc::new(schema), vec![keys, times(0), times(life)]).unwrap()
}

#[test]
fn rows_of_an_interval_join_expire_and_unmatched_ones_are_output_once() {
    // A sequence of rows in random order within 5 s of one another, with the watermark 5 s behind.
    let mut seed = 7u64;
    let mut random = move |bound: i64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as i64 % bound
    };
    let mut inputs: Vec<[Vec<(i64, i64)>; 2]> = Vec::new();
    for second in 0..120 {
        let mut rows =
            |count: i64| -> Vec<(i64, i64)> { (0..count).map(|_| (random(9), second + random(5))).collect() };
        inputs.push([rows(4), rows(2)]);
    }
    // Rows of both inputs that expire at one watermark.
    inputs[119][0].push((100, 119));
    inputs[119][1].push((200, 119));
    for join_type in TYPES {
        for (memory_bytes, restores) in [(1 << 30, false), (1 << 30, true), (4 << 10, false), (4 << 10, true)] {
            on_own_thread(|| {
                let new = |context: OperatorContext| interval_join(join_type, context);
                let mut subtasks = Subtasks::new(&new, &[0, 0], memory_bytes);
                let mut tables: [Vec<(i64, i64)>; 2] = Default::default();
                for (second, rows) in inputs.iter().enumerate() {
                    for side in 0..2 {
                        tables[side].extend(&rows[side]);
                        subtasks.process(side, &timed(side, &rows[side]));
                    }
                    subtasks.watermark((second as i64) * SECOND - 1);
                    if second % 17 == 3 {
                        subtasks.snapshot(restores.then_some(second % 3 + 1));
                    }
                    if second == 60 {
                        // A late row has no effect.
                        subtasks.process(1, &timed(1, &[(3, 10)]));
                    }
                }
                subtasks.watermark(WATERMARK_MAX);
                assert_eq!(subtasks.out.late.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
                let meets = |l: &(i64, i64), r: &(i64, i64)| l.0 == r.0 && l.1 <= r.1 && r.1 <= l.1 + 10;
                let text =
                    |row: &(i64, i64), life: i64| format!("{},{},{}", row.0, row.1 * SECOND, (row.1 + life) * SECOND);
                let mut expected = Vec::new();
                for l in &tables[0] {
                    let matches: Vec<&(i64, i64)> = tables[1].iter().filter(|r| meets(l, r)).collect();
                    match (join_type, matches.is_empty()) {
                        (JoinType::LeftSemi, false) | (JoinType::LeftAnti, true) => expected.push(text(l, 10)),
                        (JoinType::LeftSemi | JoinType::LeftAnti, _) => {}
                        (JoinType::Left | JoinType::Full, true) => expected.push(format!("{},,,", text(l, 10))),
                        _ => expected.extend(matches.iter().map(|r| format!("{},{}", text(l, 10), text(r, 0)))),
                    }
                }
                if matches!(join_type, JoinType::Right | JoinType::Full) {
                    let unmatched = tables[1].iter().filter(|r| !tables[0].iter().any(|l| meets(l, r)));
                    expected.extend(unmatched.map(|r| format!(",,,{}", text(r, 0))));
                }
                expected.sort();
                assert_eq!(
                    rows_of(&subtasks.out.main),
                    expected,
                    "{join_type} {memory_bytes} {restores}"
                );
            });
        }
    }
}

#[test]
fn rows_expire_after_their_time_to_live_and_unmatched_deletions_are_ignored() {
    let case = Case {
        join_type: JoinType::Left,
        has_condition: false,
        is_changelog: [true; 2],
        nulls_are_equal: false,
    };
    let new = |context: OperatorContext| -> Box<dyn Operator> {
        let [left, right] = case.inputs();
        let mut node = case.node(Emission::Changes);
        node.state_ttl = [Some(Duration::from_secs(400)), Some(Duration::from_secs(40))];
        let output = case.output(ChangelogMode::Retract);
        Box::new(join("test", &node, [&left, &right], &output, context).unwrap())
    };
    for (memory_bytes, restores) in [(1 << 30, false), (1 << 30, true), (1, false)] {
        on_own_thread(|| {
            let mut subtasks = Subtasks::new(&new, &[0, 0], memory_bytes);
            let mut check = |seconds: i64, input: usize, row: Row, kind: i8, expected: &[&str]| {
                subtasks.time(seconds * SECOND);
                subtasks.process(input, &batch(&case.inputs()[input], &[(row, kind)]));
                let found = rows_of(&std::mem::take(&mut subtasks.out.main));
                assert_eq!(
                    found, expected,
                    "at {seconds} s, {memory_bytes} bytes, restores {restores}"
                );
                subtasks.snapshot(restores.then_some(2));
            };
            check(1_000, 0, (Some(1), 5), 1, &["1,5,,,1"]);
            check(1_000, 1, (Some(1), 7), 1, &["1,5,,,-1", "1,5,1,7,1"]);
            // The right row has expired: it is not joined with new rows, and not taken back.
            check(1_060, 0, (Some(1), 6), 1, &["1,6,,,1"]);
            check(1_060, 1, (Some(1), 7), -1, &[]);
            // The first left row was output with a match, so it is not taken back as one without.
            check(1_070, 1, (Some(1), 8), 1, &["1,5,1,8,1", "1,6,,,-1", "1,6,1,8,1"]);
            check(
                1_071,
                1,
                (Some(1), 8),
                -1,
                &["1,5,,,1", "1,5,1,8,-1", "1,6,,,1", "1,6,1,8,-1"],
            );
            // The left rows have expired, too.
            check(1_500, 1, (Some(1), 9), 1, &[]);
        });
    }
}

/// Compares the results of random changes with their definition.
pub(in crate::operators) fn check_random_changes() {
    results_are_those_of_the_rows_so_far();
}

/// Checks the expiry of the rows of an interval join.
pub(in crate::operators) fn check_interval_join() {
    rows_of_an_interval_join_expire_and_unmatched_ones_are_output_once();
}
