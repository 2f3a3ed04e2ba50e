//! Held-back changes against the tables that they describe: random changes, emitted at random points.

use std::collections::BTreeMap;

use arrow::array::{AsArray, Int64Array, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use millstream_connectors::RowKind;
use millstream_connectors::changelog::{self, Kinds};
use millstream_graph::{Calc, ErrorPolicy, OperatorId, Parallelism, Stream};
use proptest::prelude::*;

use super::*;
use crate::operators::testing::{Emitted, proptest_config, settle};

/// Emits what it is given, and at the end the rows that it was made with.
struct Through(Option<RecordBatch>);

impl Operator for Through {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        out.emit(Port::Main, batch);
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if let Some(batch) = self.0.take() {
            out.emit(Port::Main, batch);
        }
        Ok(Progress::Done)
    }
}

/// Key, text, amount.
type Row = (i64, String, Option<i64>);

/// Returns the schema of the text, the key and the amount.
fn schema(mode: &ChangelogMode) -> SchemaRef {
    let mut fields = vec![
        Field::new("text", DataType::Utf8, false),
        Field::new("key", DataType::Int64, false),
        Field::new("amount", DataType::Int64, true),
    ];
    if !mode.is_append() {
        fields.push(changelog::kind_field());
    }
    Arc::new(Schema::new(fields))
}

const KEY: usize = 1;

fn batch(mode: &ChangelogMode, changes: &[(RowKind, Row)]) -> RecordBatch {
    let rows = || changes.iter().map(|(_, row)| row);
    let mut columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows().map(|row| &row.1))),
        Arc::new(Int64Array::from_iter_values(rows().map(|row| row.0))),
        Arc::new(rows().map(|row| row.2).collect::<Int64Array>()),
    ];
    if !mode.is_append() {
        columns.push(Arc::new(Int8Array::from_iter_values(
            changes.iter().map(|(kind, _)| *kind as i8),
        )));
    }
    RecordBatch::try_new(schema(mode), columns).unwrap()
}

fn hold_back(mode: &ChangelogMode, upsert_keys: Vec<Vec<usize>>, last: Option<RecordBatch>) -> HoldBack {
    let node = Node {
        id: OperatorId("test".into()),
        operator: millstream_graph::Operator::Calc(Calc {
            filter: None,
            projection: Vec::new(),
            on_error: ErrorPolicy::Fail,
        }),
        output: Stream {
            schema: schema(mode),
            event_time: None,
            window: None,
            changelog: mode.clone(),
            upsert_keys,
        },
        parallelism: Parallelism::Job,
    };
    HoldBack::new(&node, Box::new(Through(last)), MemoryBudget::new(1 << 20)).unwrap()
}

/// Returns the emitted changes, and clears them.
fn take(out: &mut Emitted) -> Vec<(RowKind, Row)> {
    let mut changes = Vec::new();
    for batch in out.main.drain(..) {
        let kinds = Kinds::of(&batch).unwrap();
        let (texts, keys) = (batch.column(0).as_string::<i32>(), batch.column(KEY));
        let (keys, amounts) = (
            keys.as_primitive::<Int64Type>(),
            batch.column(2).as_primitive::<Int64Type>(),
        );
        for row in 0..batch.num_rows() {
            let amount = amounts.iter().nth(row).unwrap();
            changes.push((kinds.kind(row), (keys.value(row), texts.value(row).to_owned(), amount)));
        }
    }
    changes
}

fn point(operator: &mut HoldBack, out: &mut Emitted) -> Vec<(RowKind, Row)> {
    let progress = operator.on_point(out).unwrap();
    settle(operator, progress, out).unwrap();
    assert_eq!(operator.reservation.bytes(), operator.changes.size());
    assert_eq!(operator.changes.len(), 0);
    take(out)
}

fn process(operator: &mut HoldBack, batch: RecordBatch, out: &mut Emitted) {
    assert_eq!(operator.process(0, batch, out).unwrap(), Progress::Done);
    assert!(out.main.is_empty(), "changes leave at points only");
}

/// Applies changes to a table by key. `has_former`: deleted and former rows must be those of the table.
fn apply(table: &mut BTreeMap<i64, Row>, changes: &[(RowKind, Row)], has_former: bool) {
    for (place, (kind, row)) in changes.iter().enumerate() {
        match kind {
            RowKind::Insert => assert_eq!(table.insert(row.0, row.clone()), None),
            RowKind::UpdateAfter if has_former => {
                assert_eq!(
                    (changes[place - 1].0, changes[place - 1].1.0),
                    (RowKind::UpdateBefore, row.0)
                );
                assert_eq!(table.insert(row.0, row.clone()), None);
            }
            RowKind::UpdateAfter => assert!(table.insert(row.0, row.clone()).is_some()),
            RowKind::UpdateBefore | RowKind::Delete => {
                let removed = table.remove(&row.0);
                assert!(removed.is_some(), "{row:?} is absent");
                assert!(!has_former || removed.as_ref() == Some(row));
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    /// New row of a key, or none.
    Set(i64, Option<(String, Option<i64>)>),
    Batch,
    Point,
}

fn event() -> impl Strategy<Value = Event> {
    let row = ("[ab]{1,2}|[a-b]{30}", proptest::option::of(0i64..3));
    prop_oneof![
        12 => (0i64..6, proptest::option::weighted(0.7, row)).prop_map(|(key, row)| Event::Set(key, row)),
        3 => Just(Event::Batch),
        2 => Just(Event::Point),
    ]
}

proptest! {
    #![proptest_config(proptest_config(200))]

    #[test]
    fn at_each_point_the_net_changes_of_keys_leave(events in prop::collection::vec(event(), 0..80), upserts: bool) {
        let mode = match upserts {
            true => ChangelogMode::Upsert(vec![KEY]),
            false => ChangelogMode::Retract,
        };
        let mut operator = hold_back(&mode, vec![vec![0, KEY], vec![KEY]], None);
        let mut out = Emitted::default();
        let (mut table, mut emitted) = (BTreeMap::new(), BTreeMap::new());
        let mut changes: Vec<(RowKind, Row)> = Vec::new();
        for event in events.into_iter().chain([Event::Batch, Event::Point]) {
            match event {
                Event::Set(key, row) => {
                    let row = row.map(|(text, amount)| (key, text, amount));
                    let before = table.remove(&key);
                    table.extend(row.clone().map(|row| (key, row)));
                    match (before, row) {
                        (None, None) => {}
                        (None, Some(row)) => changes.push((RowKind::Insert, row)),
                        // Only the key of a deletion is valid in upsert mode.
                        (Some(_), None) if upserts => changes.push((RowKind::Delete, (key, String::new(), None))),
                        (Some(before), None) => changes.push((RowKind::Delete, before)),
                        (Some(before), Some(row)) => {
                            if !upserts {
                                changes.push((RowKind::UpdateBefore, before));
                            }
                            changes.push((RowKind::UpdateAfter, row));
                        }
                    }
                }
                Event::Batch if changes.is_empty() => {}
                Event::Batch => process(&mut operator, batch(&mode, &std::mem::take(&mut changes)), &mut out),
                Event::Point => {
                    if !changes.is_empty() {
                        process(&mut operator, batch(&mode, &std::mem::take(&mut changes)), &mut out);
                    }
                    let net = point(&mut operator, &mut out);
                    if !upserts {
                        let pairs = net.windows(2).filter(|pair| pair[0].0 == RowKind::UpdateBefore);
                        prop_assert!(pairs.into_iter().all(|pair| pair[0].1 != pair[1].1), "an update without effect");
                    }
                    let mut keys: Vec<i64> = net
                        .iter()
                        .filter(|(kind, _)| *kind != RowKind::UpdateBefore)
                        .map(|(_, row)| row.0)
                        .collect();
                    let count = keys.len();
                    keys.sort_unstable();
                    keys.dedup();
                    prop_assert_eq!(keys.len(), count, "one net change per key");
                    apply(&mut emitted, &net, !upserts);
                    prop_assert_eq!(&emitted, &table);
                }
            }
        }
    }

    #[test]
    fn at_each_point_the_net_weights_of_rows_leave(
        events in prop::collection::vec((0i64..4, -2i64..4, 0u8..10), 0..60),
    ) {
        let mode = ChangelogMode::Retract;
        let mut operator = hold_back(&mode, Vec::new(), None);
        let mut out = Emitted::default();
        let mut weights: BTreeMap<i64, i64> = BTreeMap::new();
        for (key, weight, then) in events.into_iter().chain([(0, 0, 0)]) {
            let row = (key, "x".repeat(key as usize * 10), None);
            let kind = if weight < 0 { RowKind::Delete } else { RowKind::Insert };
            let changes = vec![(kind, row); weight.unsigned_abs() as usize];
            *weights.entry(key).or_default() += weight;
            if !changes.is_empty() {
                process(&mut operator, batch(&mode, &changes), &mut out);
            }
            if then == 0 {
                let mut found: BTreeMap<i64, i64> = BTreeMap::new();
                let net = point(&mut operator, &mut out);
                prop_assert!(net.is_sorted_by_key(|(kind, _)| !kind.is_removal()), "removals leave first");
                for (kind, row) in net {
                    prop_assert_eq!(row.1.len() as i64, row.0 * 10);
                    *found.entry(row.0).or_default() += if kind.is_removal() { -1 } else { 1 };
                }
                weights.retain(|_, weight| *weight != 0);
                prop_assert_eq!(found, std::mem::take(&mut weights));
            }
        }
    }
}

#[test]
fn a_call_emits_a_bounded_number_of_changes() {
    let mode = ChangelogMode::Retract;
    for keys in [vec![vec![KEY]], Vec::new()] {
        let mut operator = hold_back(&mode, keys, None);
        let mut out = Emitted::default();
        let rows: Vec<_> = (0..10_000i64)
            .map(|key| (RowKind::Insert, (key / 2, "t".into(), Some(key % 2))))
            .collect();
        for rows in rows.chunks(1_000) {
            let distinct: Vec<_> = rows.iter().filter(|(_, row)| row.2 == Some(0)).cloned().collect();
            process(&mut operator, batch(&mode, &distinct), &mut out);
            process(&mut operator, batch(&mode, &vec![distinct[0].clone(); 3_000]), &mut out);
        }
        let progress = operator.on_point(&mut out).unwrap();
        assert_eq!(progress, Progress::More);
        settle(&mut operator, progress, &mut out).unwrap();
        assert!(out.main.iter().all(|batch| batch.num_rows() <= EMIT_KEYS_MAX));
    }
}

#[test]
fn the_end_of_input_is_the_last_point() {
    let mode = ChangelogMode::Retract;
    let row = |amount| (1, "t".to_owned(), Some(amount));
    let last = batch(
        &mode,
        &[(RowKind::UpdateBefore, row(1)), (RowKind::UpdateAfter, row(2))],
    );
    let mut operator = hold_back(&mode, vec![vec![KEY]], Some(last));
    let mut out = Emitted::default();
    process(&mut operator, batch(&mode, &[(RowKind::Insert, row(1))]), &mut out);
    let progress = operator.finish(&mut out).unwrap();
    settle(&mut operator, progress, &mut out).unwrap();
    assert_eq!(take(&mut out), [(RowKind::Insert, row(2))]);
}

#[test]
fn rows_of_an_append_only_output_are_held_back_too() {
    let mode = ChangelogMode::Append;
    let mut operator = hold_back(&mode, Vec::new(), None);
    let mut out = Emitted::default();
    let row = (1, "t".to_owned(), None);
    process(&mut operator, batch(&mode, &vec![(RowKind::Insert, row); 2]), &mut out);
    let progress = operator.on_point(&mut out).unwrap();
    settle(&mut operator, progress, &mut out).unwrap();
    assert_eq!(out.main.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
}

#[test]
fn an_operator_above_its_share_of_memory_asks_for_a_point() {
    let mode = ChangelogMode::Retract;
    let mut operator = hold_back(&mode, vec![vec![KEY]], None);
    let mut out = Emitted::default();
    let rows: Vec<_> = (0..3_000)
        .map(|key| (RowKind::Insert, (key, "t".into(), None)))
        .collect();
    process(&mut operator, batch(&mode, &rows[..10]), &mut out);
    assert_eq!(
        (operator.held_back().total, operator.held_back().exceeds_share),
        (10, false)
    );
    process(&mut operator, batch(&mode, &rows), &mut out);
    assert_eq!(
        (operator.held_back().total, operator.held_back().exceeds_share),
        (3_000, true)
    );
    point(&mut operator, &mut out);
    assert_eq!(
        (operator.held_back().total, operator.held_back().exceeds_share),
        (3_000, false)
    );
}

/// Compares the changes at points with the net weights of rows.
pub(in crate::operators) fn check_net_weights() {
    at_each_point_the_net_weights_of_rows_leave();
}
