//! The operator against a computation from the definition, with random changes, small memory, checkpoints and restores.

use std::collections::BTreeMap;

use arrow::array::{Array, AsArray, Int8Array, Int64Array};
use arrow::datatypes::{Int8Type, Schema};
use datafusion::functions_aggregate::{
    array_agg, average, bool_and_or, count, first_last, median, min_max, stddev, string_agg, sum,
};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::PhysicalSortExpr;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, cast, lit};
use millstream_graph::{Aggregate, Emission};
use proptest::prelude::*;

use super::*;
use crate::operator::{Operator, Progress};
use crate::operators::testing::{Emitted, Subtasks, integers, on_own_thread, proptest_config, rows_of, settle};

/// Key, value.
type Row = (Option<i64>, Option<i64>);

fn input_schema(is_changelog: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ];
    if is_changelog {
        fields.push(changelog::kind_field());
    }
    Arc::new(Schema::new(fields))
}

fn batch(rows: &[(Row, i8)], is_changelog: bool) -> RecordBatch {
    let mut columns = vec![
        integers(&rows.iter().map(|((key, _), _)| *key).collect::<Vec<_>>()),
        integers(&rows.iter().map(|((_, value), _)| *value).collect::<Vec<_>>()),
    ];
    if is_changelog {
        columns.push(Arc::new(Int8Array::from_iter_values(
            rows.iter().map(|(_, kind)| *kind),
        )));
    }
    RecordBatch::try_new(input_schema(is_changelog), columns).unwrap()
}

/// The aggregates: those that can take rows back, then the others.
fn aggregates(schema: &SchemaRef, retracts: bool) -> Vec<Aggregate> {
    let value: PhysicalExprRef = Arc::new(Column::new("v", 1));
    let build = |udaf, argument: PhysicalExprRef, distinct: bool, filter: Option<PhysicalExprRef>| Aggregate {
        function: Arc::new(
            AggregateExprBuilder::new(udaf, vec![argument])
                .schema(Arc::clone(schema))
                .alias("a")
                .with_distinct(distinct)
                .build()
                .unwrap(),
        ),
        filter,
    };
    let positive: PhysicalExprRef = Arc::new(datafusion::physical_expr::expressions::BinaryExpr::new(
        Arc::clone(&value),
        datafusion::logical_expr::Operator::Gt,
        lit(0i64),
    ));
    let as_type = |data_type| cast(Arc::clone(&value), schema, data_type).unwrap();
    let mut aggregates = vec![
        build(count::count_udaf(), lit(1i64), false, None),
        build(
            count::count_udaf(),
            Arc::clone(&value),
            false,
            Some(Arc::clone(&positive)),
        ),
        build(sum::sum_udaf(), Arc::clone(&value), false, None),
        build(average::avg_udaf(), as_type(DataType::Float64), false, None),
        build(sum::sum_udaf(), as_type(DataType::Decimal128(10, 2)), false, None),
        build(count::count_udaf(), Arc::clone(&value), true, None),
        build(sum::sum_udaf(), Arc::clone(&value), true, Some(positive)),
        build(min_max::min_udaf(), Arc::clone(&value), false, None),
        build(min_max::max_udaf(), as_type(DataType::Utf8), false, None),
    ];
    aggregates.push(build(
        stddev::stddev_pop_udaf(),
        as_type(DataType::Float64),
        false,
        None,
    ));
    if retracts {
        aggregates.extend(ordered_aggregates(schema, &value));
    }
    aggregates
}

/// A function that is computed from all values, aggregates whose results depend on an order, and `BOOL_OR`.
fn ordered_aggregates(schema: &SchemaRef, value: &PhysicalExprRef) -> Vec<Aggregate> {
    let binary = |operator, with: i64| -> PhysicalExprRef {
        Arc::new(datafusion::physical_expr::expressions::BinaryExpr::new(
            Arc::clone(value),
            operator,
            lit(with),
        ))
    };
    let digit = binary(datafusion::logical_expr::Operator::Modulo, 10);
    let is_large = binary(datafusion::logical_expr::Operator::Gt, 190);
    let text = cast(Arc::clone(value), schema, DataType::Utf8).unwrap();
    let double = cast(Arc::clone(value), schema, DataType::Float64).unwrap();
    let build = |udaf, arguments: Vec<PhysicalExprRef>, order: Option<PhysicalExprRef>, descending: bool| {
        let options = arrow::compute::SortOptions {
            descending,
            nulls_first: false,
        };
        let order = order.map(|expr| PhysicalSortExpr { expr, options });
        Aggregate {
            function: Arc::new(
                AggregateExprBuilder::new(udaf, arguments)
                    .schema(Arc::clone(schema))
                    .alias("a")
                    .order_by(order.into_iter().collect())
                    .build()
                    .unwrap(),
            ),
            filter: None,
        }
    };
    vec![
        build(median::median_udaf(), vec![double], None, false),
        build(
            first_last::first_value_udaf(),
            vec![Arc::clone(value)],
            Some(Arc::clone(&digit)),
            true,
        ),
        build(
            first_last::last_value_udaf(),
            vec![Arc::clone(value)],
            Some(digit),
            true,
        ),
        build(
            string_agg::string_agg_udaf(),
            vec![text, lit("-")],
            Some(Arc::clone(value)),
            true,
        ),
        build(bool_and_or::bool_or_udaf(), vec![is_large], None, false),
        build(
            array_agg::array_agg_udaf(),
            vec![Arc::clone(value)],
            Some(Arc::clone(value)),
            false,
        ),
    ]
}

/// Returns the cells of [`ordered_aggregates`], by definition.
fn ordered_cells(values: &[Option<i64>]) -> Vec<String> {
    let text = |value: Option<&Option<i64>>| {
        value
            .copied()
            .flatten()
            .map(|value| value.to_string())
            .unwrap_or_default()
    };
    // NULL is last, of equal digits the least value is first.
    let mut by_digit = values.to_vec();
    by_digit.sort_by_key(|value| (value.is_none(), value.map(|value| -(value % 10)), *value));
    let mut sorted = values.to_vec();
    sorted.sort_by_key(|value| (value.is_none(), *value));
    let known: Vec<String> = sorted.iter().rev().flatten().map(i64::to_string).collect();
    let elements: Vec<String> = sorted.iter().map(|value| text(Some(value))).collect();
    let half = known.len() / 2;
    let numbers: Vec<i64> = sorted.iter().flatten().copied().collect();
    let median = match numbers.as_slice() {
        [] => String::new(),
        numbers if numbers.len() % 2 == 1 => float(numbers[half] as f64),
        numbers => float((numbers[half - 1] + numbers[half]) as f64 / 2.0),
    };
    vec![
        median,
        text(by_digit.first()),
        text(by_digit.last()),
        known.join("-"),
        match known.is_empty() {
            true => String::new(),
            false => values.iter().flatten().any(|value| *value > 190).to_string(),
        },
        format!("[{}]", elements.join(", ")),
    ]
}

/// Returns the output row of a group with these values, by definition.
fn line(key: Option<i64>, values: &[Option<i64>], retracts: bool) -> String {
    let text = |value: Option<String>| value.unwrap_or_default();
    let known: Vec<i64> = values.iter().flatten().copied().collect();
    let sum = |values: &[i64]| (!values.is_empty()).then(|| values.iter().sum::<i64>().to_string());
    let mut distinct = known.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let positive: Vec<i64> = distinct.iter().copied().filter(|value| *value > 0).collect();
    let mean = known.iter().sum::<i64>() as f64 / known.len() as f64;
    let mut cells = vec![
        text(key.map(|key| key.to_string())),
        values.len().to_string(),
        known.iter().filter(|value| **value > 0).count().to_string(),
        text(sum(&known)),
        text((!known.is_empty()).then(|| float(mean))),
        text(sum(&known).map(|sum| format!("{sum}.00"))),
        distinct.len().to_string(),
        text(sum(&positive)),
        text(known.iter().min().map(i64::to_string)),
        text(known.iter().map(i64::to_string).max()),
    ];
    let variance = known.iter().map(|value| (*value as f64 - mean).powi(2)).sum::<f64>() / known.len() as f64;
    cells.push(text((!known.is_empty()).then(|| float(variance.sqrt()))));
    if retracts {
        cells.extend(ordered_cells(values));
    }
    cells.join(",")
}

/// Returns a number with the digits that do not depend on the order of additions.
fn float(value: f64) -> String {
    format!("{value:.6}")
}

fn output_schema(aggregates: &[Aggregate], mode: &ChangelogMode) -> SchemaRef {
    let mut fields = vec![Arc::new(input_schema(false).field(0).clone())];
    fields.extend(aggregates.iter().map(|aggregate| aggregate.function.field()));
    if !mode.is_append() {
        fields.push(Arc::new(changelog::kind_field()));
    }
    Arc::new(Schema::new(fields))
}

fn make(context: OperatorContext, retracts: bool, mode: &ChangelogMode, emission: Emission) -> Box<dyn Operator> {
    let input = input_schema(retracts);
    let node = graph::GroupAggregate {
        keys: vec![0],
        aggregates: aggregates(&input, retracts),
        emission,
        state_ttl: None,
        phase: Phase::Single,
        retracts: false,
    };
    let output = output_schema(&node.aggregates, mode);
    Box::new(group_aggregate("test", &node, &input, &output, mode, context).unwrap())
}

/// Rows of the table that a changelog describes, with their number; none is deleted that is absent.
#[derive(Default)]
struct Folded {
    rows: BTreeMap<String, i64>,
    /// By key, in upsert mode.
    upserted: BTreeMap<String, String>,
}

impl Folded {
    fn apply(&mut self, batch: &RecordBatch, mode: &ChangelogMode) {
        let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>();
        for row in 0..batch.num_rows() {
            let values = batch
                .slice(row, 1)
                .project(&(0..batch.num_columns() - 1).collect::<Vec<_>>())
                .unwrap();
            let text = rounded(&rows_of(&[values])[0]);
            let key = text.split(',').next().unwrap_or_default().to_owned();
            match (mode, kinds.value(row)) {
                (ChangelogMode::Upsert(_), 1 | 2) => {
                    self.upserted.insert(key, text);
                }
                (ChangelogMode::Upsert(_), -1) => {
                    self.upserted.remove(&key).expect("only present rows are deleted");
                }
                (ChangelogMode::Upsert(_), kind) => panic!("kind {kind} in upsert mode"),
                (_, 1 | 2) => *self.rows.entry(text).or_default() += 1,
                (_, kind) => {
                    if kind == -2 {
                        assert_eq!(kinds.value(row + 1), 2, "an update is one pair");
                    }
                    let count = self.rows.get_mut(&text).expect("only present rows are deleted");
                    *count -= 1;
                    if *count == 0 {
                        self.rows.remove(&text);
                    }
                }
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        assert!(self.rows.values().all(|count| *count == 1), "a group has one row");
        self.rows.keys().chain(self.upserted.values()).cloned().collect()
    }
}

/// Rounds the floating-point numbers of a line as [`float`] does.
fn rounded(line: &str) -> String {
    let cells = line.split(',').enumerate().map(|(at, cell)| match at {
        4 | 10 | 11 => cell.parse().map(float).unwrap_or_default(),
        _ => cell.to_owned(),
    });
    cells.collect::<Vec<_>>().join(",")
}

fn expected(groups: &BTreeMap<Option<i64>, Vec<Option<i64>>>, retracts: bool) -> Vec<String> {
    let mut lines: Vec<String> = groups
        .iter()
        .map(|(key, values)| line(*key, values, retracts))
        .collect();
    lines.sort();
    lines
}

/// A step of a test: rows, and the parallelism to restore at afterwards (0: none).
fn steps() -> impl Strategy<Value = Vec<(Vec<(Row, bool)>, usize)>> {
    // Some groups have more values than a group knows in its cells.
    let key = prop_oneof![3 => (0..40i64).prop_map(Some), 8 => Just(Some(7)), 1 => Just(None)];
    let value = prop_oneof![8 => (-50..200i64).prop_map(Some), 1 => Just(None)];
    // Groups become so large that they do not know all of their values, and lose most of them.
    let inserts = prop::sample::select(vec![0.9, 0.5, 0.1]);
    let rows = inserts.prop_flat_map(move |inserts| {
        prop::collection::vec(((key.clone(), value.clone()), prop::bool::weighted(inserts)), 1..200)
    });
    let restore = prop_oneof![3 => Just(0usize), 1 => 1..=3usize];
    prop::collection::vec((rows, restore), 1..8)
}

/// Runs the steps. With `retracts`, every row that is not an insertion deletes an earlier row of its key, if there is
/// one, and is delivered before it in half of the cases.
fn run(steps: &[(Vec<(Row, bool)>, usize)], retracts: bool, mode: &ChangelogMode, memory_bytes: usize) {
    let new = |context: OperatorContext| make(context, retracts, mode, Emission::Changes);
    let mut subtasks = Subtasks::new(&new, &[0], memory_bytes);
    let mut groups: BTreeMap<Option<i64>, Vec<Option<i64>>> = BTreeMap::new();
    let mut folded = Folded::default();
    for (rows, restore) in steps {
        let mut changes: Vec<(Row, i8)> = Vec::new();
        for ((key, value), inserts) in rows {
            let group = groups.entry(*key).or_default();
            match *inserts || !retracts || group.is_empty() {
                true => {
                    group.push(*value);
                    changes.push(((*key, *value), 1));
                }
                false => {
                    // Mostly the least or the greatest value, whose successors are read from the store at last.
                    let place = value.unwrap_or_default().unsigned_abs() as usize;
                    let values = group.iter().enumerate().map(|(at, value)| (*value, at));
                    let at = match (place % 4, restore % 2) {
                        (0, _) => Some(place % group.len()),
                        (_, 0) => values.min().map(|(_, at)| at),
                        (_, _) => values.max().map(|(_, at)| at),
                    };
                    let gone = group.swap_remove(at.unwrap_or_default());
                    changes.push(((*key, gone), -1));
                }
            }
            if group.is_empty() {
                groups.remove(key);
            }
        }
        if retracts && restore % 2 == 1 {
            changes.reverse();
        }
        subtasks.process(0, &batch(&changes, retracts));
        for batch in std::mem::take(&mut subtasks.out.main) {
            folded.apply(&batch, mode);
        }
        assert_eq!(folded.lines(), expected(&groups, retracts));
        if *restore > 0 {
            subtasks.snapshot(Some(*restore));
        } else {
            subtasks.snapshot(None);
        }
    }
}

proptest! {
    #![proptest_config(proptest_config(24))]

    #[test]
    fn results_are_those_of_the_rows_so_far(steps in steps(), retracts: bool, upserts: bool, is_small: bool) {
        let mode = if upserts { ChangelogMode::Upsert(vec![0]) } else { ChangelogMode::Retract };
        let memory_bytes = if is_small { 4 << 10 } else { 1 << 30 };
        on_own_thread(|| run(&steps, retracts, &mode, memory_bytes));
    }
}

#[test]
fn a_group_whose_rows_are_all_taken_back_is_deleted_with_its_state() {
    on_own_thread(|| {
        let mut operator = make(
            crate::operators::testing::context(1 << 30),
            true,
            &ChangelogMode::Retract,
            Emission::Changes,
        );
        let mut out = Emitted::default();
        for (rows, kinds) in [
            (vec![((Some(1), Some(5)), 1)], "1"),
            (vec![((Some(1), Some(7)), 1)], "-2 2"),
            // Within one call only the net change is emitted, and none if nothing has changed.
            (vec![((Some(1), Some(9)), 1), ((Some(1), Some(9)), -1)], ""),
            (vec![((Some(1), Some(5)), -1), ((Some(1), Some(7)), -1)], "-1"),
            // A deletion before its insertion.
            (vec![((Some(2), Some(5)), -1)], ""),
            (vec![((Some(2), Some(6)), 1)], ""),
            (vec![((Some(2), Some(5)), 1)], "1"),
        ] {
            let progress = operator.process(0, batch(&rows, true), &mut out).unwrap();
            settle(operator.as_mut(), progress, &mut out).unwrap();
            let found: Vec<String> = std::mem::take(&mut out.main)
                .iter()
                .flat_map(|batch| {
                    let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>();
                    kinds.values().iter().map(i8::to_string).collect::<Vec<_>>()
                })
                .collect();
            assert_eq!(found.join(" "), kinds, "{rows:?}");
        }
    });
}

#[test]
fn the_final_result_is_emitted_once_from_memory_or_the_store() {
    for memory_bytes in [8 << 10, 1 << 30] {
        on_own_thread(|| {
            let context = crate::operators::testing::context(memory_bytes);
            let mut operator = make(context, false, &ChangelogMode::Append, Emission::Final);
            let mut out = Emitted::default();
            let mut groups: BTreeMap<Option<i64>, Vec<Option<i64>>> = BTreeMap::new();
            for part in 0..20i64 {
                let rows: Vec<(Row, i8)> = (0..1_000)
                    .map(|number| ((Some((number * 7 + part) % 3_000), Some(number % 13)), 1))
                    .collect();
                for ((key, value), _) in &rows {
                    groups.entry(*key).or_default().push(*value);
                }
                let progress = operator.process(0, batch(&rows, false), &mut out).unwrap();
                settle(operator.as_mut(), progress, &mut out).unwrap();
            }
            assert!(out.main.is_empty());
            let progress = operator.finish(&mut out).unwrap();
            settle(operator.as_mut(), progress, &mut out).unwrap();
            let mut found: Vec<String> = rows_of(&out.main).iter().map(|line| rounded(line)).collect();
            found.sort();
            assert_eq!(found, expected(&groups, false));
        });
    }
}

#[test]
fn an_aggregate_without_keys_has_one_row_even_without_input() {
    on_own_thread(|| {
        let input = input_schema(false);
        for emission in [Emission::Changes, Emission::Final] {
            let node = graph::GroupAggregate {
                keys: Vec::new(),
                aggregates: aggregates(&input, false)[..3].to_vec(),
                emission,
                state_ttl: None,
                phase: Phase::Single,
                retracts: false,
            };
            let fields: Vec<_> = node
                .aggregates
                .iter()
                .map(|aggregate| aggregate.function.field())
                .collect();
            let context = crate::operators::testing::context(1 << 30);
            let mode = ChangelogMode::Append;
            let output = Arc::new(Schema::new(fields));
            let mut operator = group_aggregate("test", &node, &input, &output, &mode, context).unwrap();
            let mut out = Emitted::default();
            let progress = operator.finish(&mut out).unwrap();
            settle(&mut operator, progress, &mut out).unwrap();
            assert_eq!(rows_of(&out.main), ["0,0,"]);
            assert_eq!(operator.resume(&mut out).unwrap(), Progress::Done);
            assert_eq!(out.main.len(), 1);
            assert!(out.main[0].column(0).as_any().is::<Int64Array>());
        }
    });
}

#[test]
fn groups_expire_after_their_time_to_live_in_memory_and_in_the_store() {
    const SECOND: i64 = 1_000_000;
    let new = |context: OperatorContext| -> Box<dyn Operator> {
        let input = input_schema(true);
        let mode = ChangelogMode::Retract;
        let node = graph::GroupAggregate {
            keys: vec![0],
            aggregates: aggregates(&input, true)[..3].to_vec(),
            emission: Emission::Changes,
            state_ttl: Some(std::time::Duration::from_secs(40)),
            phase: Phase::Single,
            retracts: false,
        };
        let output = output_schema(&node.aggregates, &mode);
        Box::new(group_aggregate("test", &node, &input, &output, &mode, context).unwrap())
    };
    for (memory_bytes, restores) in [(1 << 30, false), (1 << 30, true), (1, false)] {
        on_own_thread(|| {
            let mut subtasks = Subtasks::new(&new, &[0], memory_bytes);
            let mut check = |seconds: i64, key: i64, kind: i8, expected: &[&str]| {
                subtasks.time(seconds * SECOND);
                subtasks.process(0, &batch(&[((Some(key), Some(5)), kind)], true));
                let found = rows_of(&std::mem::take(&mut subtasks.out.main));
                assert_eq!(
                    found, expected,
                    "at {seconds} s, {memory_bytes} bytes, restores {restores}"
                );
                subtasks.snapshot(restores.then_some(2));
            };
            check(1_000, 1, 1, &["1,1,1,5,1"]);
            check(1_000, 2, 1, &["2,1,1,5,1"]);
            // A change prolongs the life of a group.
            check(1_035, 1, 1, &["1,1,1,5,-2", "1,2,2,10,2"]);
            check(1_049, 1, 1, &["1,2,2,10,-2", "1,3,3,15,2"]);
            // Nothing is left of the other one; what it would have to take back is ignored.
            check(1_051, 2, -1, &[]);
            check(1_051, 2, 1, &["2,1,1,5,1"]);
            check(1_080, 1, -1, &["1,2,2,10,2", "1,3,3,15,-2"]);
            check(1_131, 1, 1, &["1,1,1,5,1"]);
        });
    }
}

#[test]
fn the_first_and_last_values_follow_arrival_and_the_earliest_of_equal_values_is_taken_back() {
    on_own_thread(|| {
        let input = input_schema(true);
        let value: PhysicalExprRef = Arc::new(Column::new("v", 1));
        let build = |udaf| Aggregate {
            function: Arc::new(
                AggregateExprBuilder::new(udaf, vec![Arc::clone(&value)])
                    .schema(Arc::clone(&input))
                    .alias("a")
                    .with_ignore_nulls(true)
                    .build()
                    .unwrap(),
            ),
            filter: None,
        };
        let node = graph::GroupAggregate {
            keys: vec![0],
            aggregates: vec![
                build(first_last::first_value_udaf()),
                build(first_last::last_value_udaf()),
            ],
            emission: Emission::Changes,
            state_ttl: None,
            phase: Phase::Single,
            retracts: false,
        };
        let mode = ChangelogMode::Upsert(vec![0]);
        let output = output_schema(&node.aggregates, &mode);
        let context = crate::operators::testing::context(1 << 30);
        let mut operator = group_aggregate("test", &node, &input, &output, &mode, context).unwrap();
        let mut out = Emitted::default();
        for (values, expected) in [
            (vec![(Some(5), 1), (Some(6), 1), (Some(5), 1)], "1,5,5,1"),
            // The first of the two is gone.
            (vec![(Some(5), -1)], "1,6,5,2"),
            (vec![(None, 1)], ""),
            // Taken back before it arrives.
            (vec![(Some(9), -1)], ""),
            (vec![(Some(9), 1)], ""),
            (vec![(Some(5), -1)], "1,6,6,2"),
            (vec![(Some(6), -1)], "1,,,2"),
            (vec![(None, -1)], "1,,,-1"),
        ] {
            let rows: Vec<(Row, i8)> = values.iter().map(|(value, kind)| ((Some(1), *value), *kind)).collect();
            let progress = operator.process(0, batch(&rows, true), &mut out).unwrap();
            settle(&mut operator, progress, &mut out).unwrap();
            assert_eq!(
                rows_of(&std::mem::take(&mut out.main)).join(" "),
                expected,
                "{values:?}"
            );
        }
    });
}

/// Runs rows through the local and the final phase, with restores of the latter.
fn run_two_phases(steps: &[(Vec<(Row, bool)>, usize)], retracts: bool, memory_bytes: usize) {
    let input = input_schema(retracts);
    let all = aggregates(&input, retracts);
    let places: Vec<usize> = (0..all.len())
        .filter(|place| graph::partial_state(&all[*place], retracts).is_some())
        .collect();
    assert_eq!(places.len(), if retracts { 5 } else { 6 });
    let node = graph::GroupAggregate {
        keys: vec![0],
        aggregates: places.iter().map(|place| all[*place].clone()).collect(),
        emission: Emission::Changes,
        state_ttl: None,
        phase: Phase::Local,
        retracts,
    };
    let mut fields = vec![input.field(0).clone()];
    let states = node
        .aggregates
        .iter()
        .filter_map(|call| graph::partial_state(call, retracts))
        .flatten();
    for (at, of) in states.chain([DataType::Int64]).enumerate() {
        fields.push(Field::new(format!("state_{at}"), of, true));
    }
    let middle = Arc::new(Schema::new(fields));
    let mut local = LocalGroupAggregate::new(&node, &input, &middle).unwrap();
    let mode = ChangelogMode::Retract;
    let new = |context: OperatorContext| -> Box<dyn Operator> {
        let node = graph::GroupAggregate {
            phase: Phase::Final,
            ..node.clone()
        };
        let output = output_schema(&node.aggregates, &mode);
        Box::new(group_aggregate("test", &node, &middle, &output, &mode, context).unwrap())
    };
    let mut subtasks = Subtasks::new(&new, &[0], memory_bytes);
    let mut groups: BTreeMap<Option<i64>, Vec<Option<i64>>> = BTreeMap::new();
    let mut folded = Folded::default();
    for (rows, restore) in steps {
        let mut changes: Vec<(Row, i8)> = Vec::new();
        for ((key, value), inserts) in rows {
            let group = groups.entry(*key).or_default();
            match *inserts || !retracts || group.is_empty() {
                true => {
                    group.push(*value);
                    changes.push(((*key, *value), 1));
                }
                false => changes.push(((*key, group.swap_remove(0)), -1)),
            }
            if group.is_empty() {
                groups.remove(key);
            }
        }
        let mut states = Emitted::default();
        let progress = local.process(0, batch(&changes, retracts), &mut states).unwrap();
        settle(&mut local, progress, &mut states).unwrap();
        for states in states.main {
            subtasks.process(0, &states);
        }
        for batch in std::mem::take(&mut subtasks.out.main) {
            folded.apply(&batch, &mode);
        }
        let expected = expected(&groups, retracts).into_iter().map(|line| {
            let cells: Vec<&str> = line.split(',').collect();
            let kept = places.iter().map(|place| cells[place + 1]);
            std::iter::once(cells[0]).chain(kept).collect::<Vec<_>>().join(",")
        });
        let mut expected: Vec<String> = expected.collect();
        expected.sort();
        assert_eq!(folded.lines(), expected);
        subtasks.snapshot((*restore > 0).then_some(*restore));
    }
}

proptest! {
    #![proptest_config(proptest_config(12))]

    #[test]
    fn two_phases_give_the_results_of_one(steps in steps(), retracts: bool, is_small: bool) {
        let memory_bytes = if is_small { 4 << 10 } else { 1 << 30 };
        on_own_thread(|| run_two_phases(&steps, retracts, memory_bytes));
    }
}

/// Compares the results of random changes with their definition.
pub(in crate::operators) fn check_random_changes() {
    results_are_those_of_the_rows_so_far();
}

/// Checks the output of groups whose rows are taken back.
pub(in crate::operators) fn check_emptied_groups() {
    a_group_whose_rows_are_all_taken_back_is_deleted_with_its_state();
}
