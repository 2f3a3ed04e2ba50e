use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::operators::testing::{Emitted, Subtasks, context, on_own_thread, proptest_config, rows_of, settle, settled};
use crate::operators::window_aggregate::tests::{
    Row, any_rows, batch, input_schema, line, node, output_schema, text, watermark,
};
use millstream_graph::Phase;

/// Returns the output by definition: each key's rows in order of time, divided where the gap is exceeded.
fn expected(gap: i64, rows: &[Row]) -> Vec<String> {
    let mut by_key: BTreeMap<Option<i64>, Vec<(i64, Option<i64>)>> = BTreeMap::new();
    for (time, key, value) in rows {
        by_key.entry(*key).or_default().push((*time, *value));
    }
    let mut lines = Vec::new();
    for (key, mut rows) in by_key {
        rows.sort_by_key(|(time, _)| *time);
        for session in rows.chunk_by(|before, after| after.0 - before.0 <= gap) {
            let values: Vec<Option<i64>> = session.iter().map(|(_, value)| *value).collect();
            let last = session[session.len() - 1].0;
            lines.push(line(key, &values, session[0].0, last + gap));
        }
    }
    lines.sort();
    lines
}

fn operator(gap: i64) -> SessionAggregate {
    let node = node(Window::Session { gap }, Phase::Single);
    SessionAggregate::new(
        "session",
        &node,
        &input_schema(),
        &output_schema(&node),
        context(usize::MAX),
    )
    .unwrap()
}

proptest! {
    #![proptest_config(proptest_config(64))]

    #[test]
    fn sessions_agree_with_the_definition(gap in 1i64..15, rows in any_rows(), step in 1usize..9) {
        let mut operator = operator(gap);
        let mut out = Emitted::default();
        for (at, chunk) in rows.chunks(step).enumerate() {
            let progress = operator.process(0, batch(chunk), &mut out).unwrap();
            settle(&mut operator, progress, &mut out).unwrap();
            let watermark = watermark(&rows[(at * step + chunk.len())..]);
            let progress = operator.on_watermark(watermark, &mut out).unwrap();
            settle(&mut operator, progress, &mut out).unwrap();
        }
        prop_assert!(out.late.is_empty());
        prop_assert_eq!(rows_of(&out.main), expected(gap, &rows));
    }
}

proptest! {
    #![proptest_config(proptest_config(16))]

    /// Every session is emitted once, after any number of snapshots, restores at other parallelisms and spills.
    #[test]
    fn restores_and_spills_keep_every_session(
        gap in 1i64..15,
        rows in any_rows(),
        step in 1usize..9,
        memory in prop_oneof![Just(1usize), Just(6_000), Just(usize::MAX)],
        cuts in proptest::collection::vec(proptest::option::weighted(0.3, proptest::option::weighted(0.5, 1usize..4)), 8),
    ) {
        on_own_thread(|| {
        let node = node(Window::Session { gap }, Phase::Single);
        let make = |context: OperatorContext| -> Box<dyn Operator> {
            Box::new(SessionAggregate::new("session", &node, &input_schema(), &output_schema(&node), context).unwrap())
        };
        let mut subtasks = Subtasks::new(&make, &[1], memory);
        for (at, chunk) in rows.chunks(step).enumerate() {
            subtasks.process(0, &batch(chunk));
            subtasks.watermark(watermark(&rows[(at * step + chunk.len())..]));
            if let Some(restore_at) = cuts.get(at).copied().flatten() {
                subtasks.snapshot(restore_at);
            }
        }
        prop_assert_eq!(rows_of(&subtasks.out.main), expected(gap, &rows));
        Ok(())
        })?;
    }
}

/// A simple model of the operator: all sessions are in memory, each with its rows.
#[derive(Default)]
struct Model {
    gap: i64,
    watermark: i64,
    open: Vec<(Option<i64>, Vec<Row>)>,
    main: Vec<String>,
    late: Vec<String>,
}

impl Model {
    fn process(&mut self, row: Row) {
        let (time, key, _) = row;
        let is_near = |rows: &[Row]| rows.iter().any(|other| (other.0 - time).abs() <= self.gap);
        let (near, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(other, rows)| *other == key && is_near(rows));
        self.open = others;
        if near.is_empty() && time + self.gap - 1 <= self.watermark {
            self.late.push(format!("{time},{},{}", text(key), text(row.2)));
            return;
        }
        let mut rows: Vec<Row> = near.into_iter().flat_map(|(_, rows)| rows).collect();
        rows.push(row);
        self.open.push((key, rows));
    }

    fn fire(&mut self, watermark: i64) {
        self.watermark = self.watermark.max(watermark);
        let end = |rows: &[Row]| rows.iter().map(|row| row.0).max().unwrap() + self.gap;
        let (expired, open): (Vec<_>, Vec<_>) = std::mem::take(&mut self.open)
            .into_iter()
            .partition(|(_, rows)| end(rows) <= self.watermark);
        for (key, rows) in &expired {
            let values: Vec<Option<i64>> = rows.iter().map(|row| row.2).collect();
            let start = rows.iter().map(|row| row.0).min().unwrap();
            self.main.push(line(*key, &values, start, end(rows)));
        }
        self.open = open;
    }
}

/// Input of an operator, and events after it.
#[derive(Debug, Clone)]
struct Step {
    rows: Vec<(i64, Option<i64>, Option<i64>)>,
    watermark: i64,
    /// A snapshot, and perhaps a restore at another parallelism.
    cut: Option<Option<usize>>,
}

/// Returns rows around an advancing time, some of them far behind it, and a watermark close to that time.
fn any_steps() -> impl Strategy<Value = Vec<Step>> {
    let behind = prop_oneof![6 => 0i64..20, 2 => 0i64..120, 1 => 0i64..500];
    let key = proptest::option::weighted(0.95, 0i64..12);
    let row = (behind, key, proptest::option::weighted(0.8, -5i64..5));
    let cut = proptest::option::weighted(0.15, proptest::option::weighted(0.5, 1usize..4));
    let step = (0i64..40, proptest::collection::vec(row, 1..12), -10i64..30, cut);
    proptest::collection::vec(step, 1..30).prop_map(|steps| {
        let mut now = 0;
        let mut made = Vec::new();
        for (passed, rows, behind, cut) in steps {
            now += passed;
            let rows = rows.into_iter().map(|(back, key, value)| (now - back, key, value));
            made.push(Step {
                rows: rows.collect(),
                watermark: now - behind,
                cut,
            });
        }
        made
    })
}

proptest! {
    #![proptest_config(proptest_config(64))]

    /// Emitted and late rows are those of the model, with any memory budget and any lateness.
    #[test]
    fn spilling_changes_nothing_even_for_late_rows(
        gap in prop_oneof![1i64..30, 60i64..400],
        steps in any_steps(),
        memory in prop_oneof![Just(1usize), 3_000usize..30_000, Just(usize::MAX)],
    ) {
        on_own_thread(|| {
        let node = node(Window::Session { gap }, Phase::Single);
        let make = |context: OperatorContext| -> Box<dyn Operator> {
            Box::new(SessionAggregate::new("session", &node, &input_schema(), &output_schema(&node), context).unwrap())
        };
        let mut subtasks = Subtasks::new(&make, &[1], memory);
        let mut model = Model { gap, watermark: i64::MIN, ..Model::default() };
        for step in &steps {
            subtasks.process(0, &batch(&step.rows));
            step.rows.iter().for_each(|row| model.process(*row));
            subtasks.watermark(step.watermark);
            model.fire(step.watermark);
            model.main.sort();
            prop_assert_eq!(rows_of(&subtasks.out.main), model.main.clone());
            if let Some(restore_at) = step.cut {
                subtasks.snapshot(restore_at);
            }
        }
        subtasks.watermark(WATERMARK_MAX);
        model.fire(i64::MAX - 1_000);
        model.main.sort();
        model.late.sort();
        prop_assert_eq!(rows_of(&subtasks.out.main), model.main);
        prop_assert_eq!(rows_of(&subtasks.out.late), model.late);
        Ok(())
        })?;
    }
}

/// Sessions that stay open leave versions in the log, those that end leave tombstones. Both are so many here that the
/// log is compacted and segments are deleted. Every checkpoint restores all sessions.
#[test]
fn many_checkpoints_of_long_and_of_short_sessions() {
    const STEPS: i64 = 100;
    const BUSY: i64 = 4_000;
    for memory in [usize::MAX, 3 << 20, 1 << 20] {
        on_own_thread(|| {
            let gap = 2_000;
            let node = node(Window::Session { gap }, Phase::Single);
            let make = |context: OperatorContext| -> Box<dyn Operator> {
                Box::new(
                    SessionAggregate::new("session", &node, &input_schema(), &output_schema(&node), context).unwrap(),
                )
            };
            let mut subtasks = Subtasks::new(&make, &[1], memory);
            let mut all: Vec<Row> = Vec::new();
            for step in 0..STEPS {
                let now = step * 50;
                let busy = (0..BUSY).map(|key| (now, Some(key), Some(key % 7)));
                // Each of these keys has a row once in a while, just after its former session has expired.
                let passing = (0..300).map(|key| (now + 1, Some(BUSY + step % 41 * 300 + key), Some(step)));
                let rows: Vec<Row> = busy.chain(passing).collect();
                subtasks.process(0, &batch(&rows));
                all.extend(rows);
                subtasks.watermark(now);
                subtasks.snapshot((step % 17 == 16).then_some((step % 3 + 1) as usize));
            }
            subtasks.watermark(WATERMARK_MAX);
            assert!(
                rows_of(&subtasks.out.main) == expected(gap, &all),
                "with {memory} bytes"
            );
        });
    }
}

#[test]
fn state_of_another_layout_is_refused() {
    let node = node(Window::Session { gap: 10 }, Phase::Single);
    let mut context = context(usize::MAX);
    context.restored_inline = vec![vec![1, 0, 0]];
    let made = SessionAggregate::new("session", &node, &input_schema(), &output_schema(&node), context);
    let message = made.err().unwrap().to_string();
    assert!(
        message.contains("has version 1, this engine reads version 3"),
        "{message}"
    );
}

#[test]
fn a_late_row_joins_an_open_session_or_is_late() {
    let mut operator = operator(10);
    let mut out = Emitted::default();
    let rows = batch(&[(100, Some(1), Some(1))]);
    settled(operator.process(0, rows, &mut out));
    settled(operator.on_watermark(105, &mut out));
    let rows = batch(&[(95, Some(1), Some(1)), (95, Some(2), Some(1)), (97, Some(2), Some(1))]);
    settled(operator.process(0, rows, &mut out));
    settled(operator.finish(&mut out));
    assert_eq!(rows_of(&out.main), ["1,2,2,1,1.0,1,1,95,110", "2,1,1,1,1.0,1,1,97,107"]);
    assert_eq!(rows_of(&out.late), ["95,2,1"]);
}

#[test]
fn rows_after_a_restore_are_not_late_although_the_clock_was_set_back() {
    let node = graph::WindowAggregate {
        time: TimeAttribute::Processing,
        ..node(Window::Session { gap: 10 }, Phase::Single)
    };
    let make =
        |context| SessionAggregate::new("session", &node, &input_schema(), &output_schema(&node), context).unwrap();
    let row = || batch(&[(0, Some(1), Some(1))]);
    let mut out = Emitted::default();
    let mut before = make(context(usize::MAX));
    assert_eq!(before.processing_time(), None);
    settled(before.on_time(1_000, &mut out));
    settled(before.process(0, row(), &mut out));
    settled(before.on_time(1_100, &mut out));
    let mut context = context(usize::MAX);
    context.restored_inline = vec![before.snapshot(1).unwrap().inline];
    let mut after = make(context);
    // The task begins at this time, even if the clock shows an earlier one.
    assert_eq!(after.processing_time(), Some(1_100));
    settled(after.on_time(1_100, &mut out));
    settled(after.process(0, row(), &mut out));
    settled(after.on_time(1_200, &mut out));
    assert_eq!(rows_of(&out.late), Vec::<String>::new());
    let sessions = ["1,1,1,1,1.0,1,1,1000,1010", "1,1,1,1,1.0,1,1,1100,1110"];
    assert_eq!(rows_of(&out.main), sessions);
}

/// Compares sessions with their definition.
pub(in crate::operators) fn check_definition() {
    sessions_agree_with_the_definition();
}
