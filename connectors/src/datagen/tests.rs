use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_schema::{DataType, Field, Schema};
use futures::task::noop_waker;

use crate::registry;
use crate::{ReaderContext, Role, Source, SourceEvent, SourceReader, Split, TableDefinition};

fn table(options: &[(&str, &str)]) -> TableDefinition {
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("price", DataType::Int32, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("share", DataType::Float64, true),
        Field::new("cost", DataType::Decimal128(6, 2), true),
    ];
    let mut all = BTreeMap::from([("connector".to_string(), "datagen".to_string())]);
    all.extend(
        options
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string())),
    );
    TableDefinition {
        name: "made_up".into(),
        schema: Arc::new(Schema::new(fields)),
        metadata: Vec::new(),
        options: all,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

const SEQUENCE: [(&str, &str); 7] = [
    ("number-of-rows", "50000"),
    ("rows-per-second", "1000000000"),
    ("fields.n.kind", "sequence"),
    ("fields.n.start", "100"),
    ("fields.n.end", "99999999"),
    ("fields.price.min", "3"),
    ("fields.price.max", "5"),
];

#[track_caller]
fn check_wrong(options: &[(&str, &str)], expected: &str) {
    let errors = registry::validate(&table(options), Role::Source);
    let text = errors
        .iter()
        .map(|error| error.message.as_str())
        .collect::<Vec<_>>()
        .join("\n");
    assert!(text.contains(expected), "`{text}` does not say `{expected}`");
}

fn reader(source: &dyn Source, runtime: &tokio::runtime::Runtime, batch_rows_max: usize) -> Box<dyn SourceReader> {
    let context = ReaderContext {
        projection: None,
        batch_rows_max,
        batch_bytes_max: 1 << 20,
        waker: noop_waker(),
        runtime: runtime.handle().clone(),
        subtask: 0,
        parallelism: 1,
    };
    source.reader(context).expect("a reader")
}

/// Reads until `stop` rows were seen or the end.
fn read(reader: &mut dyn SourceReader, stop: usize) -> Vec<RecordBatch> {
    let (mut batches, mut rows) = (Vec::new(), 0);
    while rows < stop {
        match reader.poll().expect("datagen reads nothing that could fail") {
            SourceEvent::Batch(batch) => {
                rows += batch.rows.num_rows();
                batches.push(batch.rows);
            }
            SourceEvent::End => break,
            _ => {}
        }
    }
    batches
}

fn numbers(batches: &[RecordBatch]) -> Vec<i64> {
    batches
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

fn splits(source: &dyn Source, runtime: &tokio::runtime::Runtime) -> Vec<Split> {
    runtime.block_on(source.splits()).expect("splits")
}

#[test]
fn a_sequence_is_complete_and_resumes_at_its_position() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let source = registry::source(&table(&SEQUENCE)).expect("a valid table");
    let mut first = reader(source.as_ref(), &runtime, 1000);
    first
        .add_splits(splits(source.as_ref(), &runtime))
        .expect("fresh splits");
    first.no_more_splits();
    let mut seen = numbers(&read(first.as_mut(), 23_456));
    let saved = first.snapshot().expect("positions");

    let mut second = reader(source.as_ref(), &runtime, 777);
    second
        .add_splits(saved.into_iter().filter(|split| !split.finished).collect())
        .expect("saved splits");
    second.no_more_splits();
    seen.extend(numbers(&read(second.as_mut(), usize::MAX)));
    seen.sort_unstable();
    assert_eq!(seen, (100..50_100).collect::<Vec<_>>());
}

#[test]
fn the_same_seed_gives_the_same_rows_and_they_keep_their_bounds() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let source = registry::source(&table(&SEQUENCE)).expect("a valid table");
    let read_all = || {
        let mut reader = reader(source.as_ref(), &runtime, 5000);
        reader
            .add_splits(splits(source.as_ref(), &runtime))
            .expect("fresh splits");
        reader.no_more_splits();
        read(reader.as_mut(), usize::MAX)
    };
    let batches = read_all();
    assert_eq!(batches, read_all());
    for batch in &batches {
        let prices = batch.column(1).as_primitive::<arrow_array::types::Int32Type>();
        assert!(prices.values().iter().all(|price| (3..=5).contains(price)));
        assert!(
            batch
                .column(2)
                .as_string::<i32>()
                .iter()
                .flatten()
                .all(|name| name.len() == 100)
        );
    }
}

#[test]
fn mistakes_in_a_table_are_reported() {
    check_wrong(&[("fields.m.kind", "random")], "there is no column `m`");
    check_wrong(&[("fields.n.knd", "random")], "there is no option `knd`");
    check_wrong(&[("fields.n.kind", "sequence")], "needs `.start` and `.end`");
    check_wrong(&[("fields.price.max", "99999999999")], "does not fit INT");
    check_wrong(&[("fields.n.kind", "hashed")], "it is random or sequence");
    check_wrong(&[("rows-per-second", "0")], "at least 1");
}
