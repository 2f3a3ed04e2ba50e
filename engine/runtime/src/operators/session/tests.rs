use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::operators::testing::{Emitted, Subtasks, context, on_own_thread, rows_of, settle, settled};
use crate::operators::window_aggregate::tests::{
    Row, any_rows, batch, input_schema, line, node, output_schema, watermark,
};
use millstream_planner::graph::Phase;

/// The answer by definition: sort each key's rows, cut where the gap is exceeded.
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
    #![proptest_config(ProptestConfig::with_cases(64))]

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
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// However often they are snapshotted, restored at other parallelisms and put to sleep, all sessions are there, once.
    #[test]
    fn restores_and_sleep_keep_every_session(
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
