//! The operator against the definition, with small memory, checkpoints and restores.

use arrow::array::Int8Array;
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream_connectors::changelog;

use super::*;
use crate::operator::{Operator, WATERMARK_MAX};
use crate::operators::testing::{Subtasks, integers, on_own_thread, rows_of, timestamps};

const MILLISECOND: i64 = 1_000;

/// Columns: key, time, value; for the right input, the kind.
fn schema(name: &str, is_changelog: bool) -> SchemaRef {
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    let mut fields = vec![
        Field::new(format!("{name}_key"), DataType::Int64, true),
        Field::new(format!("{name}_time"), time, true),
        Field::new(format!("{name}_value"), DataType::Int64, true),
    ];
    if is_changelog {
        fields.push(changelog::kind_field());
    }
    Arc::new(Schema::new(fields))
}

/// A row: key, time in milliseconds, value, kind.
type Row = (Option<i64>, i64, i64, i8);

fn batch(name: &str, rows: &[Row]) -> RecordBatch {
    let is_changelog = name == "right";
    let mut columns: Vec<ArrayRef> = vec![
        integers(&rows.iter().map(|row| row.0).collect::<Vec<_>>()),
        timestamps(&rows.iter().map(|row| Some(row.1 * MILLISECOND)).collect::<Vec<_>>()),
        integers(&rows.iter().map(|row| Some(row.2)).collect::<Vec<_>>()),
    ];
    if is_changelog {
        columns.push(Arc::new(Int8Array::from_iter_values(rows.iter().map(|row| row.3))));
    }
    RecordBatch::try_new(schema(name, is_changelog), columns).unwrap()
}

fn make(is_outer: bool, time: VersionTime, emission: Emission, context: OperatorContext) -> Box<dyn Operator> {
    let (left, right) = (schema("left", false), schema("right", true));
    let node = graph::TemporalJoin {
        is_outer,
        on: vec![(0, 0)],
        filter: None,
        time,
        emission,
    };
    let fields = left.fields().iter().chain(&right.fields()[..3]).cloned();
    let output = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Box::new(temporal_join(&node, [&left, &right], &output, context).unwrap())
}

const EVENT: VersionTime = VersionTime::Event { left: 1, right: 1 };

/// Returns the output of a left row, by definition. `versions` are right rows in the order of their arrival.
fn expected(row: &Row, versions: &[Row], is_outer: bool) -> Option<String> {
    let text = |row: &Row| {
        let key = row.0.map(|key| key.to_string()).unwrap_or_default();
        format!("{key},{},{}", row.1 * MILLISECOND, row.2)
    };
    let of_key = versions
        .iter()
        .filter(|version| version.0 == row.0 && row.0.is_some() && version.3 != -2);
    let valid = of_key
        .filter(|version| version.1 <= row.1)
        .max_by_key(|version| version.1);
    match valid.filter(|version| version.3 > 0) {
        Some(version) => Some(format!("{},{}", text(row), text(version))),
        None => is_outer.then(|| format!("{},,,", text(row))),
    }
}

#[test]
fn rows_are_joined_with_the_version_at_their_time() {
    let mut seed = 11u64;
    let mut random = move |bound: i64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as i64 % bound
    };
    // Rows within 5 s of one another, with the watermark behind; times of one key's versions are different.
    let mut inputs: Vec<(Vec<Row>, Vec<Row>)> = Vec::new();
    for second in 0..100 {
        let left = (0..6).map(|_| {
            (
                Some(random(7)).filter(|key| *key < 6),
                second * 1_000 + random(5_000),
                random(100),
                1,
            )
        });
        let left = left.collect();
        let right = (0..2).map(|nth| {
            (
                Some((second * 2 + nth) % 6),
                second * 1_000 + nth * 500 + random(400),
                random(100),
                [1, 2, -2, -1, 2][random(5) as usize],
            )
        });
        inputs.push((left, right.collect()));
    }
    for is_outer in [false, true] {
        for (memory_bytes, restores) in [(1 << 30, false), (1 << 30, true), (4 << 10, false), (4 << 10, true)] {
            on_own_thread(|| {
                let new = |context: OperatorContext| make(is_outer, EVENT, Emission::Changes, context);
                let mut subtasks = Subtasks::new(&new, &[0, 0], memory_bytes);
                let (mut lefts, mut rights): (Vec<Row>, Vec<Row>) = Default::default();
                for (second, (left, right)) in inputs.iter().enumerate() {
                    subtasks.process(0, &batch("left", left));
                    subtasks.process(1, &batch("right", right));
                    lefts.extend(left);
                    rights.extend(right);
                    subtasks.watermark(second as i64 * 1_000 * MILLISECOND - 1);
                    if second % 13 == 3 {
                        subtasks.snapshot(restores.then_some(second % 3 + 1));
                    }
                }
                subtasks.process(0, &batch("left", &[(Some(1), 5, 0, 1)]));
                subtasks.watermark(WATERMARK_MAX);
                assert_eq!(subtasks.out.late.iter().map(RecordBatch::num_rows).sum::<usize>(), 1);
                let lines = lefts.iter().filter_map(|row| expected(row, &rights, is_outer));
                let mut lines: Vec<String> = lines.collect();
                lines.sort();
                assert_eq!(
                    rows_of(&subtasks.out.main),
                    lines,
                    "{is_outer} {memory_bytes} {restores}"
                );
            });
        }
    }
}

#[test]
fn a_late_version_is_that_of_the_rows_to_come() {
    on_own_thread(|| {
        let new = |context: OperatorContext| make(true, EVENT, Emission::Changes, context);
        let mut subtasks = Subtasks::new(&new, &[0, 0], 1 << 30);
        subtasks.process(1, &batch("right", &[(Some(1), 2_000, 7, 1)]));
        subtasks.process(0, &batch("left", &[(Some(1), 5_000, 0, 1)]));
        subtasks.watermark(10_000 * MILLISECOND);
        assert_eq!(
            rows_of(&std::mem::take(&mut subtasks.out.main)),
            ["1,5000000,0,1,2000000,7"]
        );
        subtasks.process(1, &batch("right", &[(Some(1), 4_000, 8, 2), (Some(1), 3_000, 9, 2)]));
        subtasks.process(0, &batch("left", &[(Some(1), 11_000, 0, 1)]));
        subtasks.watermark(WATERMARK_MAX);
        assert_eq!(rows_of(&subtasks.out.main), ["1,11000000,0,1,4000000,8"]);
        assert!(subtasks.out.late.is_empty());
    });
}

#[test]
fn in_a_batch_the_order_of_arrival_does_not_matter() {
    for memory_bytes in [1 << 30, 4 << 10] {
        on_own_thread(|| {
            let new = |context: OperatorContext| make(true, EVENT, Emission::Final, context);
            let mut subtasks = Subtasks::new(&new, &[0, 0], memory_bytes);
            let left: Vec<Row> = (0..2_000).map(|n| (Some(n % 5), n * 86_400, n, 1)).collect();
            let right: Vec<Row> = (0..300).map(|n| (Some(n % 4), (299 - n) * 500_000, n, 1)).collect();
            for part in left.chunks(100) {
                subtasks.process(0, &batch("left", part));
            }
            for part in right.chunks(100) {
                subtasks.process(1, &batch("right", part));
            }
            assert!(subtasks.out.main.is_empty());
            subtasks.watermark(WATERMARK_MAX);
            let mut lines: Vec<String> = left.iter().filter_map(|row| expected(row, &right, true)).collect();
            lines.sort();
            assert_eq!(rows_of(&subtasks.out.main), lines);
        });
    }
}

#[test]
fn in_processing_time_rows_are_joined_with_what_there_is() {
    let time = |waits_for_end: bool| VersionTime::Processing { waits_for_end };
    for restores in [false, true] {
        on_own_thread(|| {
            let new = |context: OperatorContext| make(true, time(false), Emission::Changes, context);
            let mut subtasks = Subtasks::new(&new, &[0, 0], 1 << 30);
            let mut check = |input: usize, row: Row, expected: &[&str]| {
                subtasks.process(input, &batch(["left", "right"][input], &[row]));
                assert_eq!(rows_of(&std::mem::take(&mut subtasks.out.main)), expected);
                subtasks.snapshot(restores.then_some(2));
            };
            check(0, (Some(1), 0, 7, 1), &["1,0,7,,,"]);
            check(1, (Some(1), 0, 8, 1), &[]);
            check(0, (Some(1), 0, 7, 1), &["1,0,7,1,0,8"]);
            // Another row of the same key, as the key need not be unique.
            check(1, (Some(1), 0, 9, 1), &[]);
            check(0, (Some(1), 0, 7, 1), &["1,0,7,1,0,8", "1,0,7,1,0,9"]);
            check(1, (Some(1), 0, 8, -1), &[]);
            check(0, (Some(1), 0, 7, 1), &["1,0,7,1,0,9"]);
            check(0, (None, 0, 7, 1), &[",0,7,,,"]);
        });
    }
    for (memory_bytes, restores) in [(1 << 30, false), (1 << 30, true), (1, true)] {
        on_own_thread(|| {
            let new = |context: OperatorContext| make(true, time(true), Emission::Changes, context);
            let mut subtasks = Subtasks::new(&new, &[0, 0], memory_bytes);
            subtasks.process(0, &batch("left", &[(Some(1), 0, 5, 1), (Some(2), 0, 6, 1)]));
            subtasks.snapshot(restores.then_some(3));
            subtasks.process(0, &batch("left", &[(Some(1), 0, 7, 1)]));
            subtasks.process(1, &batch("right", &[(Some(1), 0, 8, 1)]));
            subtasks.watermark(WATERMARK_MAX - 1);
            assert!(subtasks.out.main.is_empty());
            subtasks.input_end(1);
            let expected = ["1,0,5,1,0,8", "1,0,7,1,0,8", "2,0,6,,,"];
            assert_eq!(rows_of(&std::mem::take(&mut subtasks.out.main)), expected);
            // After a restore, the end comes again.
            subtasks.snapshot(restores.then_some(2));
            subtasks.input_end(1);
            assert!(subtasks.out.main.is_empty());
            subtasks.process(0, &batch("left", &[(Some(1), 0, 9, 1)]));
            assert_eq!(rows_of(&subtasks.out.main), ["1,0,9,1,0,8"]);
        });
    }
}

/// Checks which version rows are joined with.
pub(in crate::operators) fn check_versions() {
    rows_are_joined_with_the_version_at_their_time();
}
