use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion::functions_aggregate::{average, count, min_max, sum};
use datafusion::physical_expr::PhysicalExprRef;
use datafusion::physical_expr::aggregate::AggregateExprBuilder;
use datafusion::physical_expr::expressions::{Column, lit};
use proptest::prelude::*;

use super::*;
use crate::operators::testing::{
    Emitted, Subtasks, integers, on_own_thread, proptest_config, rows_of, settle, settled, timestamps,
};
use millstream_graph::Aggregate;

/// Input columns: `t` timestamp, `k` bigint, `v` bigint.
pub(in crate::operators) fn input_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ]))
}

fn aggregates(schema: &SchemaRef) -> Vec<Aggregate> {
    let value: PhysicalExprRef = Arc::new(Column::new("v", 2));
    let build = |udaf, argument: PhysicalExprRef, distinct: bool, name: &str| Aggregate {
        function: Arc::new(
            AggregateExprBuilder::new(udaf, vec![argument])
                .schema(Arc::clone(schema))
                .alias(name)
                .with_distinct(distinct)
                .build()
                .unwrap(),
        ),
        filter: None,
    };
    let text = datafusion::physical_expr::expressions::cast(Arc::clone(&value), schema, DataType::Utf8).unwrap();
    let float = datafusion::physical_expr::expressions::cast(Arc::clone(&value), schema, DataType::Float64).unwrap();
    vec![
        build(count::count_udaf(), lit(1i64), false, "rows"),
        build(sum::sum_udaf(), Arc::clone(&value), false, "sum"),
        build(min_max::min_udaf(), Arc::clone(&value), false, "min"),
        build(average::avg_udaf(), float, false, "avg"),
        build(count::count_udaf(), value, true, "distinct"),
        build(min_max::max_udaf(), text, false, "text"),
    ]
}

pub(in crate::operators) fn node(window: Window, phase: Phase) -> graph::WindowAggregate {
    graph::WindowAggregate {
        window,
        time: TimeAttribute::Event(0),
        keys: vec![1],
        aggregates: aggregates(&input_schema()),
        phase,
        allowed_lateness: 0,
    }
}

pub(in crate::operators) fn output_schema(node: &graph::WindowAggregate) -> SchemaRef {
    let mut fields = vec![Arc::new(input_schema().field(1).clone())];
    for aggregate in &node.aggregates {
        match node.phase {
            Phase::Local => fields.extend(aggregate.function.state_fields().unwrap()),
            Phase::Single | Phase::Final => fields.push(aggregate.function.field()),
        }
    }
    for name in ["window_start", "window_end"] {
        fields.push(Arc::new(Field::new(
            name,
            DataType::Timestamp(TimeUnit::Microsecond, None),
            false,
        )));
    }
    Arc::new(Schema::new(fields))
}

pub(in crate::operators) fn batch(rows: &[Row]) -> RecordBatch {
    let column = |value: fn(&Row) -> Option<i64>| rows.iter().map(value).collect::<Vec<_>>();
    let columns: Vec<ArrayRef> = vec![
        timestamps(&column(|row| Some(row.0))),
        integers(&column(|row| row.1)),
        integers(&column(|row| row.2)),
    ];
    RecordBatch::try_new(input_schema(), columns).unwrap()
}

/// Returns changes: rows with their kinds.
fn changes(rows: &[(Row, i8)]) -> RecordBatch {
    let plain = batch(&rows.iter().map(|(row, _)| *row).collect::<Vec<_>>());
    let kinds = arrow::array::Int8Array::from_iter_values(rows.iter().map(|(_, kind)| *kind));
    let fields = plain.schema().fields().iter().cloned().collect::<Vec<_>>();
    let fields = fields.into_iter().chain([Arc::new(changelog::kind_field())]);
    let columns = plain.columns().iter().cloned().chain([Arc::new(kinds) as ArrayRef]);
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    RecordBatch::try_new(schema, columns.collect()).unwrap()
}

/// Time, key, value.
pub(in crate::operators) type Row = (i64, Option<i64>, Option<i64>);

pub(in crate::operators) fn text(value: Option<i64>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Returns the output by definition: every window of every row.
fn expected(window: &Window, rows: &[Row]) -> Vec<String> {
    let slices = Slices::new(window).unwrap();
    let mut groups: BTreeMap<(i64, Option<i64>), Vec<Option<i64>>> = BTreeMap::new();
    for (time, key, value) in rows {
        for end in slices.windows_of(*time) {
            groups.entry((end, *key)).or_default().push(*value);
        }
    }
    let mut lines: Vec<String> = groups
        .into_iter()
        .map(|((end, key), values)| line(key, &values, slices.window_start(end), end))
        .collect();
    lines.sort();
    lines
}

/// Returns the output row of a key's values in a window.
pub(in crate::operators) fn line(key: Option<i64>, values: &[Option<i64>], start: i64, end: i64) -> String {
    let some: Vec<i64> = values.iter().flatten().copied().collect();
    let sum = (!some.is_empty()).then(|| some.iter().sum::<i64>());
    let mean = sum.map(|sum| format!("{:?}", sum as f64 / some.len() as f64));
    format!(
        "{},{},{},{},{},{},{},{},{}",
        text(key),
        values.len(),
        text(sum),
        text(some.iter().min().copied()),
        mean.unwrap_or_default(),
        some.iter().collect::<BTreeSet<_>>().len(),
        some.iter().map(|value| value.to_string()).max().unwrap_or_default(),
        start,
        end
    )
}

fn any_window() -> impl Strategy<Value = Window> {
    let count = prop_oneof![3 => 1i64..5, 1 => 9i64..30];
    (1i64..20, count, -30i64..30, 0..3).prop_map(|(part, count, offset, kind)| match kind {
        0 => Window::Tumble { size: part, offset },
        1 => Window::Hop {
            size: part * count,
            slide: part,
            offset,
        },
        _ => Window::Cumulate {
            size: part * count,
            step: part,
            offset,
        },
    })
}

/// Returns rows slightly out of time order, with NULLs among keys and values.
pub(in crate::operators) fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    proptest::collection::vec(
        (
            0i64..120,
            proptest::option::weighted(0.9, -3i64..3),
            proptest::option::weighted(0.8, -5i64..5),
        ),
        0..60,
    )
    .prop_map(|mut rows: Vec<Row>| {
        rows.sort_by_key(|(time, ..)| time / 8);
        rows
    })
}

/// Returns the highest watermark for which none of the following rows is late.
pub(in crate::operators) fn watermark(rest: &[Row]) -> i64 {
    rest.iter().map(|(time, ..)| time - 1).min().unwrap_or(WATERMARK_MAX)
}

proptest! {
    #![proptest_config(proptest_config(48))]

    /// Local and final phases together give the output of the definition, for any batches and watermarks.
    #[test]
    fn two_phases_agree_with_the_definition(
        window in any_window(),
        rows in any_rows(),
        step in 1usize..9,
        scattered_slices_min in 1usize..4,
    ) {
        let local_node = node(window, Phase::Local);
        let middle = output_schema(&local_node);
        let mut local = LocalAggregate::new(&local_node, &input_schema(), &middle).unwrap();
        local.scattered_slices_min = scattered_slices_min;
        let final_node = node(window, Phase::Final);
        let mut last = testing_aggregate(&final_node, &middle);
        let mut out = Emitted::default();
        for (at, chunk) in rows.chunks(step).enumerate() {
            let mut states = Emitted::default();
            let progress = local.process(0, batch(chunk), &mut states).unwrap();
            settle(&mut local, progress, &mut states).unwrap();
            let watermark = watermark(&rows[(at * step + chunk.len())..]);
            let progress = local.on_watermark(watermark, &mut states).unwrap();
            settle(&mut local, progress, &mut states).unwrap();
            for states in states.main {
                let progress = last.process(0, states, &mut out).unwrap();
                settle(&mut last, progress, &mut out).unwrap();
            }
            let progress = last.on_watermark(watermark, &mut out).unwrap();
            settle(&mut last, progress, &mut out).unwrap();
        }
        prop_assert_eq!(rows_of(&out.main), expected(&window, &rows));
    }

    #[test]
    fn one_table_of_scattered_slices_agrees_with_tables_of_slices(
        window in any_window(),
        batches in proptest::collection::vec((any_rows(), 0i64..130), 1..6),
        scattered_slices_min in 1usize..4,
    ) {
        // Watermarks may make rows late, and slices that have been emitted get further rows.
        let run = |scattered_slices_min: usize| {
            let local_node = node(window, Phase::Local);
            let middle = output_schema(&local_node);
            let mut local = LocalAggregate::new(&local_node, &input_schema(), &middle).unwrap();
            local.scattered_slices_min = scattered_slices_min;
            let mut last = testing_aggregate(&node(window, Phase::Final), &middle);
            let (mut out, mut watermark) = (Emitted::default(), WATERMARK_MIN);
            for (rows, next) in &batches {
                watermark = watermark.max(*next);
                let mut states = Emitted::default();
                let progress = local.process(0, batch(rows), &mut states).unwrap();
                settle(&mut local, progress, &mut states).unwrap();
                let progress = local.on_watermark(watermark, &mut states).unwrap();
                settle(&mut local, progress, &mut states).unwrap();
                for states in states.main {
                    let progress = last.process(0, states, &mut out).unwrap();
                    settle(&mut last, progress, &mut out).unwrap();
                }
                let progress = last.on_watermark(watermark, &mut out).unwrap();
                settle(&mut last, progress, &mut out).unwrap();
            }
            let mut states = Emitted::default();
            let progress = local.finish(&mut states).unwrap();
            settle(&mut local, progress, &mut states).unwrap();
            for states in states.main {
                let progress = last.process(0, states, &mut out).unwrap();
                settle(&mut last, progress, &mut out).unwrap();
            }
            let progress = last.finish(&mut out).unwrap();
            settle(&mut last, progress, &mut out).unwrap();
            rows_of(&out.main)
        };
        prop_assert_eq!(run(scattered_slices_min), run(usize::MAX));
    }

    #[test]
    fn one_phase_agrees_with_the_definition(window in any_window(), rows in any_rows(), step in 1usize..9) {
        let mut operator = testing_aggregate(&node(window, Phase::Single), &input_schema());
        let mut out = Emitted::default();
        for (at, chunk) in rows.chunks(step).enumerate() {
            let progress = operator.process(0, batch(chunk), &mut out).unwrap();
            settle(&mut operator, progress, &mut out).unwrap();
            let watermark = watermark(&rows[(at * step + chunk.len())..]);
            let progress = operator.on_watermark(watermark, &mut out).unwrap();
            settle(&mut operator, progress, &mut out).unwrap();
        }
        prop_assert_eq!(rows_of(&out.main), expected(&window, &rows));
    }
}

proptest! {
    #![proptest_config(proptest_config(12))]

    /// Every window is emitted once, after any number of snapshots, restores at other parallelisms and evictions.
    #[test]
    fn restores_and_evictions_keep_every_window(
        window in any_window(),
        rows in any_rows(),
        step in 1usize..9,
        memory in prop_oneof![Just(1usize), Just(6_000), Just(usize::MAX)],
        cuts in proptest::collection::vec(proptest::option::weighted(0.3, proptest::option::weighted(0.5, 1usize..4)), 8),
    ) {
        on_own_thread(|| {
        let node = node(window, Phase::Single);
        let make = |context: OperatorContext| -> Box<dyn Operator> {
            Box::new(WindowAggregate::new("aggregate", &node, &input_schema(), &output_schema(&node), context).unwrap())
        };
        let mut subtasks = Subtasks::new(&make, &[1], memory);
        for (at, chunk) in rows.chunks(step).enumerate() {
            subtasks.process(0, &batch(chunk));
            subtasks.watermark(watermark(&rows[(at * step + chunk.len())..]));
            if let Some(restore_at) = cuts.get(at).copied().flatten() {
                subtasks.snapshot(restore_at);
            }
        }
        subtasks.watermark(WATERMARK_MAX);
        prop_assert!(subtasks.out.late.is_empty());
        prop_assert_eq!(rows_of(&subtasks.out.main), expected(&window, &rows));
        Ok(())
        })?;
    }

    /// Rows are taken back, some before they arrive; what is left of each window is emitted.
    #[test]
    fn windows_of_changes_have_the_rows_that_are_left(
        window in any_window(),
        rows in any_rows(),
        taken_back in proptest::collection::vec(0..4u8, 60),
        step in 1usize..9,
        memory in prop_oneof![Just(1usize), Just(6_000), Just(usize::MAX)],
        cuts in proptest::collection::vec(proptest::option::weighted(0.3, proptest::option::weighted(0.5, 1usize..4)), 8),
    ) {
        on_own_thread(|| {
        let node = node(window, Phase::Single);
        let make = |context: OperatorContext| -> Box<dyn Operator> {
            let input = changes(&[]).schema();
            Box::new(WindowAggregate::new("aggregate", &node, &input, &output_schema(&node), context).unwrap())
        };
        let mut subtasks = Subtasks::new(&make, &[1], memory);
        let mut all: Vec<(Row, i8)> = Vec::new();
        let mut left = Vec::new();
        for (row, taken_back) in rows.iter().zip(&taken_back) {
            match taken_back {
                0 => all.extend([(*row, 1), (*row, -1)]),
                1 => all.extend([(*row, -1), (*row, 1)]),
                _ => {
                    all.push((*row, 1));
                    left.push(*row);
                }
            }
        }
        for (at, chunk) in all.chunks(step).enumerate() {
            subtasks.process(0, &changes(chunk));
            let rest: Vec<Row> = all[(at * step + chunk.len())..].iter().map(|(row, _)| *row).collect();
            subtasks.watermark(watermark(&rest));
            if let Some(restore_at) = cuts.get(at).copied().flatten() {
                subtasks.snapshot(restore_at);
            }
        }
        subtasks.watermark(WATERMARK_MAX);
        prop_assert!(subtasks.out.late.is_empty());
        prop_assert_eq!(rows_of(&subtasks.out.main), expected(&window, &left));
        Ok(())
        })?;
    }

    /// Blocks replace blocks, rows replace blocks, and tables are evicted: each step changes all, many or few of a
    /// pane's groups, adds some, and ends in a checkpoint or a restore.
    #[test]
    fn checkpoints_of_much_and_of_little_change_keep_every_group(
        steps in proptest::collection::vec((0i64..400, 1i64..200, proptest::option::weighted(0.3, 1usize..4)), 1..8),
    ) {
        on_own_thread(|| {
        let window = Window::Tumble { size: 1_000, offset: 0 };
        let node = node(window, Phase::Single);
        let make = |context: OperatorContext| -> Box<dyn Operator> {
            Box::new(WindowAggregate::new("aggregate", &node, &input_schema(), &output_schema(&node), context).unwrap())
        };
        let mut subtasks = Subtasks::new(&make, &[1], usize::MAX);
        let mut all: Vec<Row> = Vec::new();
        for (at, (first, stride, restore_at)) in steps.iter().enumerate() {
            let keys = (*first..400 + at as i64 * 50).step_by(*stride as usize);
            let rows: Vec<Row> = keys.map(|key| (at as i64, Some(key), Some(key % 7))).collect();
            subtasks.process(0, &batch(&rows));
            all.extend(rows);
            subtasks.snapshot(*restore_at);
        }
        subtasks.watermark(WATERMARK_MAX);
        prop_assert_eq!(rows_of(&subtasks.out.main), expected(&window, &all));
        Ok(())
        })?;
    }
}

/// A pane of several segments: the last one grows and others follow, then only the first and the last ones change, and
/// at last only few groups of each. With little memory tables are evicted meanwhile.
#[test]
fn segments_are_replaced_and_become_more() {
    let all_of = |keys: std::ops::Range<i64>| keys.collect::<Vec<i64>>();
    let keys = [
        all_of(0..80_000),
        all_of(0..90_000),
        all_of(0..140_000),
        [all_of(0..20_000), all_of(125_000..180_000)].concat(),
        (0..180_000).step_by(2_000).collect(),
        (0..180_000).step_by(3_000).collect(),
    ];
    on_own_thread(|| {
        let window = Window::Tumble { size: 1_000, offset: 0 };
        let node = node(window, Phase::Single);
        let make = |context: OperatorContext| -> Box<dyn Operator> {
            Box::new(WindowAggregate::new("aggregate", &node, &input_schema(), &output_schema(&node), context).unwrap())
        };
        for (restored_after, restore_at, memory) in [
            (usize::MAX, None, usize::MAX),
            (3, Some(3), usize::MAX),
            (5, Some(2), usize::MAX),
            (3, Some(1), 8 << 20),
            (5, Some(3), 32 << 20),
            (5, Some(3), 48 << 20),
        ] {
            let mut subtasks = Subtasks::new(&make, &[1], memory);
            let mut all: Vec<Row> = Vec::new();
            for (at, keys) in keys.iter().enumerate() {
                let rows: Vec<Row> = keys.iter().map(|key| (at as i64, Some(*key), Some(*key % 7))).collect();
                for some in rows.chunks(10_000) {
                    subtasks.process(0, &batch(some));
                }
                all.extend(rows);
                subtasks.snapshot(restore_at.filter(|_| at == restored_after));
            }
            // What comes for blocks that are only in the store, and must be merged with each of them.
            let rows: Vec<Row> = (0..1_000).map(|key| (5, Some(key * 7), Some(key))).collect();
            subtasks.process(0, &batch(&rows));
            all.extend(rows);
            subtasks.watermark(WATERMARK_MAX);
            assert!(
                rows_of(&subtasks.out.main) == expected(&window, &all),
                "restored at {restore_at:?} after {restored_after}"
            );
        }
    });
}

fn testing_aggregate(node: &graph::WindowAggregate, input: &SchemaRef) -> WindowAggregate {
    let context = crate::operators::testing::context(usize::MAX);
    WindowAggregate::new("aggregate", node, input, &output_schema(node), context).unwrap()
}

#[test]
fn late_rows_are_emitted_at_their_own_port() {
    let window = Window::Tumble { size: 10, offset: 0 };
    let mut operator = testing_aggregate(&node(window, Phase::Single), &input_schema());
    let mut out = Emitted::default();
    settled(operator.process(0, batch(&[(1, Some(1), None)]), &mut out));
    settled(operator.on_watermark(9, &mut out));
    settled(operator.process(0, batch(&[(9, Some(2), None), (10, Some(2), None)]), &mut out));
    settled(operator.finish(&mut out));
    assert_eq!(rows_of(&out.main), ["1,1,,,,0,,0,10", "2,1,,,,0,,10,20"]);
    assert_eq!(rows_of(&out.late), ["9,2,"]);
}

#[test]
fn fired_processing_time_windows_get_no_rows_after_a_restore_with_an_earlier_clock() {
    let node = graph::WindowAggregate {
        time: TimeAttribute::Processing,
        ..node(Window::Tumble { size: 10, offset: 0 }, Phase::Single)
    };
    let row = || batch(&[(0, Some(1), None)]);
    let mut out = Emitted::default();
    let mut before = testing_aggregate(&node, &input_schema());
    assert_eq!(before.processing_time(), None);
    settled(before.on_time(1_001, &mut out));
    settled(before.process(0, row(), &mut out));
    settled(before.on_time(1_012, &mut out));
    let mut context = crate::operators::testing::context(usize::MAX);
    context.restored_inline = vec![before.snapshot(1).unwrap().inline];
    let mut after = WindowAggregate::new("aggregate", &node, &input_schema(), &output_schema(&node), context).unwrap();
    // The task does not begin before that, whatever the clock shows.
    let began = after.processing_time().unwrap();
    assert!((1_010..=1_012).contains(&began), "{began}");
    settled(after.on_time(began, &mut out));
    settled(after.process(0, row(), &mut out));
    settled(after.on_time(1_020, &mut out));
    assert_eq!(rows_of(&out.main), ["1,1,,,,0,,1000,1010", "1,1,,,,0,,1010,1020"]);
}

/// Compares windows that are restored and evicted with their definition.
pub(in crate::operators) fn check_restores_and_evictions() {
    restores_and_evictions_keep_every_window();
}

/// Checks that late rows are no part of windows.
pub(in crate::operators) fn check_late_rows() {
    late_rows_are_emitted_at_their_own_port();
}
