use std::collections::BTreeMap;
use std::task::Waker;

use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Fields, TimeUnit};
use arrow_select::concat::concat_batches;

use super::*;
use crate::nexmark::Nexmark;
use crate::nexmark::schema::{AUCTION, BID, Leaf, PERSON};
use crate::{Connector, Role, TableDefinition};

fn row_type(known: &[(&str, Leaf)]) -> DataType {
    let fields: Vec<Field> = known
        .iter()
        .map(|(name, leaf)| {
            let data_type = match leaf {
                Leaf::BigInt => DataType::Int64,
                Leaf::Text => DataType::Utf8,
                Leaf::Time => DataType::Timestamp(TimeUnit::Microsecond, None),
            };
            Field::new(*name, data_type, true)
        })
        .collect();
    DataType::Struct(Fields::from(fields))
}

fn table(options: &[(&str, &str)]) -> TableDefinition {
    let schema = Schema::new(vec![
        Field::new("event_type", DataType::Int32, true),
        Field::new("person", row_type(&PERSON), true),
        Field::new("auction", row_type(&AUCTION), true),
        Field::new("bid", row_type(&BID), true),
    ]);
    let mut all: BTreeMap<String, String> = options
        .iter()
        .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
        .collect();
    all.insert("connector".into(), "nexmark".into());
    TableDefinition {
        name: "nexmark".into(),
        schema: Arc::new(schema),
        metadata: Vec::new(),
        options: all,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

fn reader(source: &dyn Source, rows: usize, projection: Option<Vec<usize>>) -> Box<dyn SourceReader> {
    source
        .reader(ReaderContext {
            projection,
            batch_rows_max: rows,
            batch_bytes_max: 1 << 20,
            waker: Waker::noop().clone(),
            runtime: tokio::runtime::Handle::current(),
            subtask: 0,
            parallelism: 1,
        })
        .expect("the table is right")
}

fn read(reader: &mut dyn SourceReader, batches_max: usize) -> Vec<RecordBatch> {
    let mut batches = Vec::new();
    while batches.len() < batches_max {
        match reader.poll().expect("a generator does not fail") {
            SourceEvent::Batch(batch) => batches.push(batch.rows),
            SourceEvent::End => break,
            SourceEvent::SplitFinished { .. } => {}
            other => panic!("unexpected: {other:?}"),
        }
    }
    batches
}

/// All rows as text, sorted: a multiset.
fn lines(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        for row in 0..batch.num_rows() {
            let mut line = String::new();
            crate::print::row::append(&mut line, crate::RowKind::Insert, batch.columns(), row);
            lines.push(line);
        }
    }
    lines.sort();
    lines
}

async fn all_rows(options: &[(&str, &str)], parallelism: usize, rows: usize) -> Vec<RecordBatch> {
    let source = Nexmark.source(&table(options)).expect("the table is right");
    let splits = source.splits().await.expect("splits need nothing");
    let mut batches = Vec::new();
    for subtask in 0..parallelism {
        let mut reader = reader(source.as_ref(), rows, None);
        reader
            .add_splits(splits.iter().skip(subtask).step_by(parallelism).cloned().collect())
            .expect("own splits");
        reader.no_more_splits();
        batches.extend(read(reader.as_mut(), usize::MAX));
    }
    batches
}

#[tokio::test]
async fn same_seed_gives_the_same_events_at_any_parallelism_and_batch_size() {
    let options = [("events.num", "1234"), ("seed", "7")];
    let expected = lines(&all_rows(&options, 1, 8192).await);
    assert_eq!(expected.len(), 1234);
    assert_eq!(lines(&all_rows(&options, 3, 7).await), expected);
    assert_ne!(
        lines(&all_rows(&[("events.num", "1234"), ("seed", "8")], 1, 100).await),
        expected
    );
}

#[tokio::test]
async fn a_restored_reader_goes_on_exactly_where_it_was() {
    let options = [("events.num", "1000"), ("nexmark.splits", "3")];
    let source = Nexmark.source(&table(&options)).expect("the table is right");
    let mut first = reader(source.as_ref(), 33, None);
    first
        .add_splits(source.splits().await.expect("splits"))
        .expect("own splits");
    first.no_more_splits();
    let mut batches = read(first.as_mut(), 11);
    let mut second = reader(source.as_ref(), 64, None);
    second
        .add_splits(first.snapshot().expect("positions"))
        .expect("own splits");
    second.no_more_splits();
    batches.extend(read(second.as_mut(), usize::MAX));
    assert_eq!(lines(&batches), lines(&all_rows(&options, 1, 8192).await));
}

#[tokio::test]
async fn events_have_the_benchmarks_shape() {
    let batches = all_rows(&[("events.num", "100000"), ("first-event.rate", "100000")], 1, 4096).await;
    let all = concat_batches(&batches[0].schema(), &batches).expect("one schema");
    let kinds = all.column(0).as_primitive::<Int32Type>();
    let count = |kind: i32| kinds.values().iter().filter(|value| **value == kind).count();
    assert_eq!((count(0), count(1), count(2)), (2000, 6000, 92000));
    for column in 1..4 {
        assert_eq!(
            all.column(column).len() - all.column(column).null_count(),
            [2000, 6000, 92000][column - 1]
        );
    }
    let bid = all.column(3).as_struct();
    let times = bid
        .column_by_name("dateTime")
        .expect("declared")
        .as_primitive::<TimestampMicrosecondType>();
    let (first, last) = (times.iter().flatten().min(), times.iter().flatten().max());
    assert_eq!(
        (first, last),
        (Some(1_436_918_400_000_000), Some(1_436_918_400_999_000))
    );
    // Half of the bids go to the hot auction of their epoch, whose id is a multiple of 100 (and few others' are).
    let auctions = bid
        .column_by_name("auction")
        .expect("declared")
        .as_primitive::<Int64Type>();
    let hot = auctions.iter().flatten().filter(|id| id % 100 == 0).count();
    assert!((44_000..49_000).contains(&hot), "{hot} hot bids");
    let urls = bid.column_by_name("url").expect("declared").as_string::<i32>();
    let with_id = urls.iter().flatten().filter(|url| url.contains("&channel_id=")).count();
    assert!(
        (38_000..45_000).contains(&with_id),
        "{with_id} addresses with a channel"
    );
    assert!(
        urls.iter()
            .flatten()
            .all(|url| url.starts_with("https://www.nexmark.com/"))
    );
    let sizes: usize = ["channel", "url", "extra"]
        .iter()
        .map(|name| {
            bid.column_by_name(name)
                .expect("declared")
                .as_string::<i32>()
                .value_data()
                .len()
        })
        .sum();
    assert!(
        (110..160).contains(&(sizes / 92_000)),
        "{} bytes of text in a bid",
        sizes / 92_000
    );
}

#[tokio::test]
async fn projection_delivers_the_columns_asked_for() {
    let source = Nexmark
        .source(&table(&[("events.num", "100"), ("nexmark.pruning", "true")]))
        .expect("right");
    let mut reader = reader(source.as_ref(), 100, Some(vec![3, 0]));
    reader
        .add_splits(source.splits().await.expect("splits"))
        .expect("own splits");
    let batch = &read(reader.as_mut(), 1)[0];
    assert_eq!(
        batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.name().as_str())
            .collect::<Vec<_>>(),
        ["bid", "event_type"]
    );
}

#[track_caller]
fn check_error(options: &[(&str, &str)], expected: &str) {
    let errors = Nexmark.validate(&table(options), Role::Source);
    assert!(
        errors.iter().any(|error| error.message.contains(expected)),
        "{errors:?}"
    );
}

#[test]
fn wrong_options_name_the_remedy() {
    check_error(
        &[("first-event.rate", "10"), ("next-event.rate", "20")],
        "write the same number for both",
    );
    check_error(&[("person.proportion", "0")], "must be between 1");
    check_error(&[("nexmark.start-time", "yesterday")], "'2015-07-15T00:00:00Z'");
    let mut wrong = table(&[]);
    wrong.schema = Arc::new(Schema::new(vec![Field::new("bids", DataType::Int32, true)]));
    assert!(
        Nexmark.validate(&wrong, Role::Source)[0]
            .message
            .contains("did you mean `bid`?")
    );
}

#[test]
fn a_paced_reader_starts_with_due_events_up_to_a_limit() {
    let minute = 60_000_000;
    let config = |start: &str| {
        let options = table(&[
            ("nexmark.pace", "true"),
            ("nexmark.start-time", start),
            ("nexmark.splits", "1"),
        ]);
        Config::of(&options).expect("right")
    };
    let following = config("now");
    // An epoch is 50 events.
    let next = Position {
        stride: 1,
        epoch: following.rate * 60 / 50,
        offset: 0,
        start_us: 1_000 * minute,
    };
    let due_us = following.elapsed(next.event(&following)).0;
    assert_eq!(due_us, minute);
    #[track_caller]
    fn check(config: &Config, next: &Position, now_us: i64, expected: i64) {
        assert_eq!(begins_after(config, next, now_us), expected);
    }
    check(&following, &next, 1_001 * minute, minute);
    check(&following, &next, 1_004 * minute, 4 * minute);
    // Clocks that were set: by an hour back, by 400 days ahead.
    check(&following, &next, 941 * minute, minute);
    check(
        &following,
        &next,
        (1_001 + 400 * 24 * 60) * minute,
        minute + CATCH_UP_US_MAX,
    );
    check(&config("2020-01-01T00:00:00Z"), &next, 941 * minute, minute);
}
