use std::collections::VecDeque;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millstream_graph::{Calc, ErrorPolicy, OperatorId, Parallelism, Stream, TimeAttribute, Window, WindowAggregate};

use super::*;
use crate::operators::testing::{Emitted, integers, timestamps};

/// An operator that emits what a test says: each call emits the batches of the next step and returns its progress.
#[derive(Default)]
struct Script {
    steps: VecDeque<(Vec<(Port, RecordBatch)>, Progress)>,
    watermark_delay: i64,
}

impl Script {
    fn next(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let Some((batches, progress)) = self.steps.pop_front() else {
            return Ok(Progress::Done);
        };
        batches.into_iter().for_each(|(port, batch)| out.emit(port, batch));
        Ok(progress)
    }
}

impl Operator for Script {
    fn process(&mut self, _: usize, _: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.next(out)
    }

    fn on_watermark(&mut self, _: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.next(out)
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        watermark - self.watermark_delay
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.next(out)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.next(out)
    }

    fn snapshot(&mut self, _: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }
}

/// Rows of a number and a time.
fn rows(times: &[i64]) -> RecordBatch {
    let some: Vec<_> = times.iter().copied().map(Some).collect();
    let columns = [("n", integers(&some)), ("t", timestamps(&some))];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn calc() -> graph::Operator {
    graph::Operator::Calc(Calc {
        filter: None,
        projection: Vec::new(),
        on_error: ErrorPolicy::Fail,
    })
}

fn window() -> graph::Operator {
    graph::Operator::WindowAggregate(WindowAggregate {
        window: Window::Tumble { size: 10, offset: 0 },
        time: TimeAttribute::Event(1),
        keys: Vec::new(),
        aggregates: Vec::new(),
        phase: Phase::Single,
        allowed_lateness: 0,
    })
}

fn checked(operator: graph::Operator, steps: Vec<(Vec<(Port, RecordBatch)>, Progress)>) -> CheckedOperator {
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("t", DataType::Timestamp(TimeUnit::Microsecond, None), true),
    ]));
    let node = Node {
        id: OperatorId("step".into()),
        operator,
        output: Stream {
            schema: Arc::clone(&schema),
            event_time: Some(1),
            window: None,
            changelog: millstream_graph::ChangelogMode::Append,
            upsert_keys: Vec::new(),
        },
        parallelism: Parallelism::Job,
    };
    let script = Script {
        steps: steps.into(),
        ..Script::default()
    };
    CheckedOperator::new(&node, &[schema], Box::new(script))
}

/// Steps of one call each that is done at once.
fn emits(batches: Vec<RecordBatch>) -> Vec<(Vec<(Port, RecordBatch)>, Progress)> {
    let batches = batches.into_iter().map(|batch| (Port::Main, batch)).collect();
    vec![(batches, Progress::Done)]
}

#[track_caller]
fn process(operator: &mut CheckedOperator, batch: RecordBatch, expected: Progress) {
    let progress = operator.process(0, batch, &mut Emitted::default()).unwrap();
    assert_eq!(progress, expected);
}

#[track_caller]
fn watermark(operator: &mut CheckedOperator, watermark: Timestamp) {
    let progress = operator.on_watermark(watermark, &mut Emitted::default()).unwrap();
    assert_eq!(progress, Progress::Done);
    operator.output_watermark(watermark);
}

#[test]
fn an_operator_that_keeps_its_contract_passes_unchanged() {
    let steps = vec![
        (
            vec![(Port::Main, rows(&[1])), (Port::Late(0), rows(&[2]))],
            Progress::More,
        ),
        (vec![(Port::Main, rows(&vec![3; 20_000]))], Progress::Done),
        (vec![(Port::Main, rows(&[12]))], Progress::Done),
        (vec![(Port::Main, rows(&[30]))], Progress::Done),
    ];
    let mut operator = checked(window(), steps);
    let mut out = Emitted::default();
    assert_eq!(operator.process(0, rows(&[1, 2]), &mut out).unwrap(), Progress::More);
    assert_eq!(operator.resume(&mut out).unwrap(), Progress::Done);
    assert_eq!(operator.on_watermark(11, &mut out).unwrap(), Progress::Done);
    assert_eq!(operator.output_watermark(11), 11);
    assert_eq!(operator.on_watermark(40, &mut out).unwrap(), Progress::Done);
    assert!(operator.snapshot(1).unwrap().inline.is_empty());
    assert_eq!(operator.finish(&mut out).unwrap(), Progress::Done);
    assert!(operator.snapshot(2).unwrap().keyed.is_none());
    let counts: Vec<usize> = out.main.iter().map(RecordBatch::num_rows).collect();
    assert_eq!((counts, out.late.len()), (vec![1, 20_000, 1, 1], 1));
}

#[test]
#[should_panic(expected = "step emits rows of")]
fn another_schema_than_the_declared_one_is_noticed() {
    let other = RecordBatch::try_from_iter([("n", integers(&[Some(1)]))]).unwrap();
    process(&mut checked(calc(), emits(vec![other])), rows(&[1]), Progress::Done);
}

#[test]
#[should_panic(expected = "on Late(0), which declares")]
fn another_schema_of_late_rows_is_noticed() {
    let other = RecordBatch::try_from_iter([("n", integers(&[Some(1)]))]).unwrap();
    let steps = vec![(vec![(Port::Late(0), other)], Progress::Done)];
    process(&mut checked(calc(), steps), rows(&[1]), Progress::Done);
}

#[test]
#[should_panic(expected = "step emits more than 8193 rows in one call")]
fn too_many_rows_of_one_call_are_noticed() {
    let batches = vec![rows(&vec![1; EMIT_ROWS_MAX]), rows(&[1]), rows(&[1])];
    process(&mut checked(calc(), emits(batches)), rows(&[1]), Progress::Done);
}

#[test]
#[should_panic(expected = "step was given the watermark 4 after 5")]
fn a_watermark_that_goes_back_is_noticed() {
    let mut operator = checked(calc(), Vec::new());
    watermark(&mut operator, 5);
    watermark(&mut operator, 4);
}

#[test]
#[should_panic(expected = "step forwards the watermark 6 for 5")]
fn a_forwarded_watermark_that_is_ahead_is_noticed() {
    let mut operator = checked(calc(), Vec::new());
    operator.operator = Box::new(Script {
        watermark_delay: -1,
        ..Script::default()
    });
    watermark(&mut operator, 5);
}

#[test]
#[should_panic(expected = "step forwards the watermark 2 after 5")]
fn a_forwarded_watermark_that_goes_back_is_noticed() {
    let mut operator = checked(calc(), Vec::new());
    watermark(&mut operator, 5);
    operator.operator = Box::new(Script {
        watermark_delay: 4,
        ..Script::default()
    });
    watermark(&mut operator, 6);
}

#[test]
#[should_panic(expected = "step was given the processing time 8 after 9")]
fn processing_time_that_goes_back_is_noticed() {
    let mut operator = checked(calc(), Vec::new());
    for now in [9, 8] {
        assert_eq!(operator.on_time(now, &mut Emitted::default()).unwrap(), Progress::Done);
    }
}

#[test]
#[should_panic(expected = "step emits a row of the time 5 after the watermark 5")]
fn a_late_row_of_a_windowed_operator_is_noticed() {
    let steps = vec![
        (Vec::new(), Progress::Done),
        (vec![(Port::Main, rows(&[7, 5]))], Progress::Done),
    ];
    let mut operator = checked(window(), steps);
    watermark(&mut operator, 5);
    watermark(&mut operator, 9);
}

#[test]
fn a_late_row_of_a_stateless_operator_is_its_inputs() {
    let steps = vec![
        (Vec::new(), Progress::Done),
        (vec![(Port::Main, rows(&[5]))], Progress::Done),
    ];
    let mut operator = checked(calc(), steps);
    watermark(&mut operator, 5);
    process(&mut operator, rows(&[5]), Progress::Done);
}

#[test]
#[should_panic(expected = "step was not resumed after its last call")]
fn a_call_before_the_last_one_is_done_is_noticed() {
    let mut operator = checked(calc(), vec![(Vec::new(), Progress::More)]);
    process(&mut operator, rows(&[1]), Progress::More);
    process(&mut operator, rows(&[1]), Progress::Done);
}

#[test]
#[should_panic(expected = "step was not resumed after its last call")]
fn a_snapshot_before_the_last_call_is_done_is_noticed() {
    let mut operator = checked(calc(), vec![(Vec::new(), Progress::Pending)]);
    process(&mut operator, rows(&[1]), Progress::Pending);
    operator.snapshot(1).unwrap();
}

#[test]
#[should_panic(expected = "step was resumed although it was done")]
fn a_needless_resume_is_noticed() {
    let mut operator = checked(calc(), Vec::new());
    assert_eq!(operator.resume(&mut Emitted::default()).unwrap(), Progress::Done);
}

#[test]
#[should_panic(expected = "step was called after the end of its input")]
fn a_row_after_the_end_is_noticed() {
    let mut operator = checked(calc(), Vec::new());
    assert_eq!(operator.finish(&mut Emitted::default()).unwrap(), Progress::Done);
    process(&mut operator, rows(&[1]), Progress::Done);
}

#[test]
#[should_panic(expected = "step was given an empty batch")]
fn an_empty_batch_is_noticed() {
    process(&mut checked(calc(), Vec::new()), rows(&[]), Progress::Done);
}
