//! The operator against the definition, with small memory, checkpoints and restores.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Int8Array};
use arrow::datatypes::{Field, Int8Type, Int64Type, Schema};
use millstream_graph::Emission;

use super::*;
use crate::operator::{Operator, Progress};
use crate::operators::testing::{Emitted, Subtasks, context, integers, on_own_thread, rows_of};

/// Columns: the primary key, a value, the kind.
fn schema(is_changelog: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new("k", DataType::Int64, true),
        Field::new("v", DataType::Int64, true),
    ];
    if is_changelog {
        fields.push(changelog::kind_field());
    }
    Arc::new(Schema::new(fields))
}

/// A change: key, value, kind.
type Change = (i64, i64, i8);

fn batch(changes: &[Change], is_changelog: bool) -> RecordBatch {
    let mut columns: Vec<ArrayRef> = vec![
        integers(&changes.iter().map(|change| Some(change.0)).collect::<Vec<_>>()),
        integers(&changes.iter().map(|change| Some(change.1)).collect::<Vec<_>>()),
    ];
    if is_changelog {
        let kinds = changes.iter().map(|change| change.2);
        columns.push(Arc::new(Int8Array::from_iter_values(kinds)));
    }
    RecordBatch::try_new(schema(is_changelog), columns).unwrap()
}

fn make(strategy: ConflictStrategy, input: bool, emission: Emission, context: OperatorContext) -> Box<dyn Operator> {
    let node = graph::SinkMaterialize {
        keys: vec![0],
        strategy,
        emission,
        state_ttl: None,
    };
    let mode = match emission {
        Emission::Changes => ChangelogMode::Upsert(vec![0]),
        Emission::Final => ChangelogMode::Append,
    };
    let output = schema(emission == Emission::Changes);
    Box::new(sink_materialize("out/materialize", &node, &schema(input), &output, &mode, context).unwrap())
}

/// Applies the changes that were emitted to a table: value by key.
fn fold(table: &mut BTreeMap<i64, i64>, batches: &[RecordBatch]) {
    for batch in batches {
        let column = |at: usize| batch.column(at).as_primitive::<Int64Type>();
        let kinds = batch.column(2).as_primitive::<Int8Type>();
        for row in 0..batch.num_rows() {
            let (key, value) = (column(0).value(row), column(1).value(row));
            match kinds.value(row) {
                kind if kind == RowKind::Delete as i8 => assert!(table.remove(&key).is_some(), "absent {key}"),
                kind if kind == RowKind::Insert as i8 => assert_eq!(table.insert(key, value), None, "present {key}"),
                _ => assert!(table.insert(key, value).is_some(), "absent {key}"),
            }
        }
    }
}

#[test]
fn the_chosen_row_is_the_first_or_last_of_those_that_are_left() {
    for strategy in [ConflictStrategy::Nothing, ConflictStrategy::Deduplicate] {
        for (memory_bytes, restores) in [(1 << 30, false), (1 << 30, true), (4 << 10, false), (4 << 10, true)] {
            on_own_thread(|| {
                let mut seed = 5u64;
                let mut random = move |bound: u64| {
                    seed = seed
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    (seed >> 33) % bound
                };
                let new = |context: OperatorContext| make(strategy, true, Emission::Changes, context);
                let mut subtasks = Subtasks::new(&new, &[0], memory_bytes);
                // By key: the rows in the order of their arrival, and rows that are deleted before they arrive.
                let mut model: BTreeMap<i64, Vec<i64>> = BTreeMap::new();
                let mut owed: Vec<(i64, i64)> = Vec::new();
                let mut table = BTreeMap::new();
                for round in 0..60 {
                    let mut changes: Vec<Change> = Vec::new();
                    // Values are new, so that rows differ.
                    for nth in 0..40 {
                        let (key, value) = (random(50) as i64, round * 1_000 + nth);
                        let rows = model.entry(key).or_default();
                        match random(5) {
                            0 | 1 => {
                                rows.push(value);
                                changes.push((key, value, 1));
                            }
                            2 if !rows.is_empty() => {
                                let place = random(rows.len() as u64) as usize;
                                changes.push((key, rows[place], -2));
                                changes.push((key, value, 2));
                                rows[place] = value;
                            }
                            3 if !rows.is_empty() => {
                                let place = random(rows.len() as u64) as usize;
                                changes.push((key, rows.remove(place), -1));
                            }
                            _ if owed.len() < 5 => {
                                owed.push((key, -value));
                                changes.push((key, -value, -1));
                            }
                            _ => changes.extend(owed.pop().map(|(key, value)| (key, value, 1))),
                        }
                    }
                    subtasks.process(0, &batch(&changes, true));
                    fold(&mut table, &std::mem::take(&mut subtasks.out.main));
                    let chosen = |rows: &Vec<i64>| match strategy {
                        ConflictStrategy::Nothing => rows.first().copied(),
                        _ => rows.last().copied(),
                    };
                    let expected: BTreeMap<i64, i64> = model
                        .iter()
                        .filter_map(|(key, rows)| Some((*key, chosen(rows)?)))
                        .collect();
                    assert_eq!(table, expected, "{strategy:?} {memory_bytes} {restores} round {round}");
                    if round % 7 == 3 {
                        subtasks.snapshot(restores.then_some(round as usize % 3 + 1));
                    }
                }
            });
        }
    }
}

/// Returns the error of a checkpoint after some changes.
fn checkpoint_after(changes: &[Change], is_changelog: bool) -> Result<(), String> {
    on_own_thread(|| {
        let mut operator = make(
            ConflictStrategy::Error,
            is_changelog,
            Emission::Changes,
            context(1 << 20),
        );
        let mut out = Emitted::default();
        for change in changes {
            let batch = batch(&[*change], is_changelog);
            assert_eq!(operator.process(0, batch, &mut out).unwrap(), Progress::Done);
        }
        operator.snapshot(1).map(drop).map_err(|error| error.to_string())
    })
}

#[test]
fn two_rows_of_one_key_are_an_error_when_no_change_is_under_way() {
    assert_eq!(
        checkpoint_after(&[(1, 10, 1), (1, 11, 1), (2, 5, 1), (1, 10, -1)], true),
        Ok(())
    );
    assert_eq!(checkpoint_after(&[(1, 11, -1), (1, 10, 1), (1, 11, 1)], true), Ok(()));
    let error = checkpoint_after(&[(1, 10, 1), (2, 5, 1), (1, 11, 1)], true).unwrap_err();
    let expected = "out/materialize: several rows of the query have one primary key of the table (number of such \
                    keys: 1): (k = 1) is the primary key of (v = 10) and (v = 11).";
    assert!(error.starts_with(expected), "{error}");
    // Equal rows are two rows, too.
    let error = checkpoint_after(&[(1, 10, 1), (1, 10, 1), (1, 12, 1)], false).unwrap_err();
    assert!(
        error.contains("(k = 1) is the primary key of (v = 10) and (v = 10)"),
        "{error}"
    );
}

#[test]
fn in_a_batch_rows_are_emitted_at_the_end() {
    for (strategy, expected) in [
        (ConflictStrategy::Nothing, ["1,10", "2,5"]),
        (ConflictStrategy::Deduplicate, ["1,12", "2,5"]),
    ] {
        on_own_thread(|| {
            let mut operator = make(strategy, false, Emission::Final, context(1 << 20));
            let mut out = Emitted::default();
            for change in [(1, 10, 1), (2, 5, 1), (1, 11, 1), (1, 12, 1)] {
                assert_eq!(
                    operator.process(0, batch(&[change], false), &mut out).unwrap(),
                    Progress::Done
                );
            }
            assert!(out.main.is_empty());
            let mut progress = operator.finish(&mut out).unwrap();
            while progress == Progress::More {
                progress = operator.resume(&mut out).unwrap();
            }
            assert_eq!(rows_of(&out.main), expected);
        });
    }
}
