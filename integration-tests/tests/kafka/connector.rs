//! The Kafka connector against a real broker: written rows are read back, positions are exact, errors are reported.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use arrow_array::builder::{BinaryBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use millstream_connectors::registry;
use millstream_connectors::sink::NoStorage;
use millstream_connectors::{
    Error, JobIdentity, MetadataColumn, ReaderContext, Role, SinkWriter, Source, SourceEvent, SourceReader, Split,
    TableDefinition, WriterContext,
};
use millstream_integration_tests::kafka::KafkaBroker;
use tokio::runtime::Runtime;

pub(super) const DEADLINE: Duration = Duration::from_secs(30);

fn headers_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// Returns a table with the columns `id`, `word` and this metadata.
fn table(topic: &str, metadata: &[(&str, DataType)], options: &[(&str, &str)]) -> TableDefinition {
    let mut fields = vec![
        Field::new("id", DataType::Int64, true),
        Field::new("word", DataType::Utf8, true),
    ];
    fields.extend(
        metadata
            .iter()
            .map(|(key, data_type)| Field::new(format!("m_{key}"), data_type.clone(), true)),
    );
    let mut all: BTreeMap<String, String> = [
        ("connector", "kafka"),
        ("properties.bootstrap.servers", KafkaBroker::shared().address()),
        ("topic", topic),
        ("format", "json"),
    ]
    .iter()
    .chain(options)
    .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
    .collect();
    all.retain(|_, value| value != "(none)");
    TableDefinition {
        name: "t".into(),
        schema: Arc::new(Schema::new(fields)),
        metadata: metadata
            .iter()
            .map(|(key, _)| MetadataColumn {
                column: format!("m_{key}"),
                key: (*key).into(),
                is_virtual: false,
            })
            .collect(),
        options: all,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    }
}

pub(super) fn source(table: &TableDefinition) -> Arc<dyn Source> {
    let errors = registry::validate(table, Role::Source);
    assert!(errors.is_empty(), "{errors:?}");
    registry::source(table).expect("a checked table")
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

fn waker() -> Waker {
    Arc::new(Unpark(thread::current())).into()
}

pub(super) fn reader(source: &dyn Source, runtime: &Runtime, splits: Vec<Split>, rows: usize) -> Box<dyn SourceReader> {
    let mut reader = source
        .reader(ReaderContext {
            projection: None,
            batch_rows_max: rows,
            batch_bytes_max: 16 << 20,
            waker: waker(),
            runtime: runtime.handle().clone(),
            subtask: 0,
            parallelism: 1,
        })
        .expect("a reader");
    reader.add_splits(splits).expect("the source's own splits");
    reader.no_more_splits();
    reader
}

/// Polls until `until` returns true or the input ends; fails after a timeout.
pub(super) fn poll_until(
    reader: &mut dyn SourceReader,
    mut until: impl FnMut(&SourceEvent) -> bool,
) -> Result<Vec<SourceEvent>, Error> {
    let deadline = Instant::now() + DEADLINE;
    let mut events = Vec::new();
    loop {
        match reader.poll()? {
            SourceEvent::Pending => {
                let left = deadline.saturating_duration_since(Instant::now());
                assert!(!left.is_zero(), "nothing more after {events:?}");
                thread::park_timeout(left);
            }
            event => {
                let is_last = until(&event) || matches!(event, SourceEvent::End);
                events.push(event);
                if is_last {
                    return Ok(events);
                }
            }
        }
    }
}

pub(super) fn batches(events: &[SourceEvent]) -> Vec<RecordBatch> {
    events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Batch(batch) => Some(batch.rows.clone()),
            _ => None,
        })
        .collect()
}

fn ids(events: &[SourceEvent]) -> Vec<i64> {
    batches(events)
        .iter()
        .flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec())
        .collect()
}

fn sorted(mut ids: Vec<i64>) -> Vec<i64> {
    ids.sort_unstable();
    ids
}

fn json(range: std::ops::Range<i64>) -> impl Iterator<Item = String> {
    range.map(|id| format!("{{\"id\":{id},\"word\":\"w{id}\"}}"))
}

fn write(runtime: &Runtime, table: &TableDefinition, batches: &[RecordBatch]) -> Result<(), Error> {
    let errors = registry::validate(table, Role::Sink);
    assert!(errors.is_empty(), "{errors:?}");
    let sink = registry::find("kafka").expect("compiled in").sink(table)?;
    let job = JobIdentity {
        job: "test".into(),
        attempt: "1".into(),
    };
    runtime.block_on(sink.start(&job))?;
    let context = WriterContext {
        job,
        subtask: 0,
        parallelism: 1,
        runtime: runtime.handle().clone(),
        storage: Arc::new(NoStorage),
    };
    let mut writer: Box<dyn SinkWriter> = sink.writer(context)?;
    runtime.block_on(async {
        for batch in batches {
            futures::future::poll_fn(|context| writer.poll_ready(context)).await?;
            writer.write(batch)?;
        }
        let committables = writer.prepare(1, true).await?;
        assert!(committables.is_empty());
        Ok(())
    })
}

#[test]
fn rows_with_keys_headers_and_times_come_back_as_they_were_written() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("round-trip", 3).expect("a new topic");
    let time = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
    let keyed = [
        ("key.format", "raw"),
        ("key.fields", "word"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    let written = table(
        "round-trip",
        &[("timestamp", time.clone()), ("headers", headers_type())],
        &keyed,
    );
    let ids_written = Int64Array::from_iter_values(0..3000);
    let words = StringArray::from_iter_values((0..3000).map(|id| format!("word {}", id % 50)));
    let times = TimestampMicrosecondArray::from_iter_values((0..3000).map(|id| 1_600_000_000_000_000 + id * 1000))
        .with_timezone("UTC");
    let names = MapFieldNames {
        entry: "entries".into(),
        key: "key".into(),
        value: "value".into(),
    };
    let mut headers = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for id in 0..3000 {
        if id % 2 == 0 {
            headers.keys().append_value("trace");
            headers.values().append_value(format!("t{id}"));
        }
        headers.append(true).expect("keys and values alike");
    }
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids_written),
        Arc::new(words),
        Arc::new(times),
        Arc::new(headers.finish()),
    ];
    let rows = RecordBatch::try_new(written.schema.clone(), columns).expect("the table's columns");
    write(&runtime, &written, &[rows.slice(0, 1000), rows.slice(1000, 2000)]).expect("the broker takes all");

    // Read by another client.
    let records = broker.records("round-trip").expect("records");
    assert_eq!(records.len(), 3000);
    let by_key: BTreeMap<_, std::collections::BTreeSet<i32>> =
        records.iter().fold(BTreeMap::new(), |mut map, record| {
            map.entry(record.key.clone()).or_default().insert(record.partition);
            map
        });
    assert_eq!(by_key.len(), 50);
    assert!(
        by_key.values().all(|partitions| partitions.len() == 1),
        "one partition for each key"
    );
    assert!(
        records.iter().all(|record| !record.text().contains("word")),
        "the key is not in the value"
    );

    // Read by the source.
    let metadata = [
        ("topic", DataType::Utf8),
        ("partition", DataType::Int32),
        ("offset", DataType::Int64),
        ("timestamp", time),
        ("timestamp-type", DataType::Utf8),
        ("headers", headers_type()),
        ("key", DataType::Binary),
    ];
    let options: Vec<_> = keyed
        .into_iter()
        .chain([("scan.bounded.mode", "latest-offset")])
        .collect();
    let read = table("round-trip", &metadata, &options);
    let source = source(&read);
    let splits = runtime.block_on(source.splits()).expect("partitions");
    let mut reader = reader(source.as_ref(), &runtime, splits, 500);
    let events = poll_until(reader.as_mut(), |_| false).expect("nothing is wrong");
    assert_eq!(sorted(ids(&events)), (0..3000).collect::<Vec<_>>());
    for batch in batches(&events) {
        for row in 0..batch.num_rows() {
            let id = batch.column(0).as_primitive::<Int64Type>().value(row);
            let word = format!("word {}", id % 50);
            assert_eq!(batch.column(1).as_string::<i32>().value(row), word);
            assert_eq!(batch.column(2).as_string::<i32>().value(row), "round-trip");
            let partition = batch.column(3).as_primitive::<Int32Type>().value(row);
            let offset = batch.column(4).as_primitive::<Int64Type>().value(row);
            assert!(
                records
                    .iter()
                    .any(|record| record.partition == partition && record.offset == offset)
            );
            let time = batch.column(5).as_primitive::<TimestampMicrosecondType>().value(row);
            assert_eq!(time, 1_600_000_000_000_000 + id * 1000);
            assert_eq!(batch.column(6).as_string::<i32>().value(row), "CreateTime");
            let headers = batch.column(7).as_map().value(row);
            assert_eq!(headers.len(), usize::from(id % 2 == 0));
            if id % 2 == 0 {
                assert_eq!(
                    headers.column(1).as_binary::<i32>().value(0),
                    format!("t{id}").as_bytes()
                );
            }
            assert_eq!(batch.column(8).as_binary::<i32>().value(row), word.as_bytes());
        }
    }
}

#[test]
fn a_restored_reader_delivers_every_later_record_once() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("restored", 2).expect("a new topic");
    broker.produce("restored", 0, json(0..1000)).expect("records");
    broker.produce("restored", 1, json(1000..2000)).expect("records");
    let table = table("restored", &[], &[("scan.bounded.mode", "latest-offset")]);
    let source = source(&table);
    let splits = runtime.block_on(source.splits()).expect("partitions");
    assert_eq!(
        splits.iter().map(|split| split.id.as_str()).collect::<Vec<_>>(),
        ["restored-0", "restored-1"]
    );
    let mut first = reader(source.as_ref(), &runtime, splits, 70);
    let mut seen = 0;
    let before = poll_until(first.as_mut(), |_| {
        seen += 1;
        seen == 9
    })
    .expect("nothing is wrong");
    let snapshot = first.snapshot().expect("positions");
    // Records that the first reader has prefetched must not be lost; records after the end are not read.
    drop(first);
    broker.produce("restored", 0, json(5000..5010)).expect("records");
    let mut second = reader(source.as_ref(), &runtime, snapshot, 8192);
    let after = poll_until(second.as_mut(), |_| false).expect("nothing is wrong");
    let all = sorted(ids(&before).into_iter().chain(ids(&after)).collect());
    assert_eq!(all, (0..2000).collect::<Vec<_>>());
    assert!(second.snapshot().expect("positions").iter().all(|split| split.finished));
}

#[test]
fn an_unbounded_reader_says_when_it_is_caught_up_and_wakes_for_more() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("unbounded", 1).expect("a new topic");
    let source = source(&table("unbounded", &[], &[]));
    let splits = runtime.block_on(source.splits()).expect("partitions");
    let mut reader = reader(source.as_ref(), &runtime, splits, 100);
    let is_caught_up =
        |event: &SourceEvent| matches!(event, SourceEvent::CaughtUp { split } if &**split == "unbounded-0");
    let events = poll_until(reader.as_mut(), is_caught_up).expect("nothing is wrong");
    assert_eq!(events.len(), 1);
    for round in 0..3 {
        broker
            .produce("unbounded", 0, json(round * 10..round * 10 + 10))
            .expect("records");
        let mut count = 0;
        let events = poll_until(reader.as_mut(), |event| {
            count += match event {
                SourceEvent::Batch(batch) => batch.rows.num_rows(),
                _ => 0,
            };
            count == 10 && is_caught_up(event)
        })
        .expect("nothing is wrong");
        assert_eq!(ids(&events), (round * 10..round * 10 + 10).collect::<Vec<_>>());
        let lag = events.iter().rev().find_map(|event| match event {
            SourceEvent::Batch(batch) => batch.lag,
            _ => None,
        });
        assert_eq!(lag, Some(0));
    }
}

#[test]
fn every_way_to_begin_begins_there() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("begin", 1).expect("a new topic");
    broker.produce("begin", 0, json(0..10)).expect("records");
    // Only times after those of the first ten records.
    let between = broker
        .records("begin")
        .expect("records")
        .iter()
        .filter_map(|r| r.timestamp_ms)
        .max()
        .expect("ten")
        + 1;
    while std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("after 1970")
        .as_millis()
        <= between as u128
    {
        thread::yield_now();
    }
    broker.produce("begin", 0, json(10..20)).expect("records");
    let timestamp = between.to_string();
    let check = |options: &[(&str, &str)], expected: std::ops::Range<i64>| {
        let options: Vec<_> = options
            .iter()
            .copied()
            .chain([("scan.bounded.mode", "latest-offset")])
            .collect();
        let source = source(&table("begin", &[], &options));
        let splits = runtime.block_on(source.splits()).expect("partitions");
        let mut reader = reader(source.as_ref(), &runtime, splits, 100);
        let events = poll_until(reader.as_mut(), |_| false).expect("nothing is wrong");
        assert_eq!(ids(&events), expected.collect::<Vec<_>>(), "{options:?}");
        (source, reader)
    };
    check(&[], 0..20);
    check(&[("scan.startup.mode", "latest-offset")], 20..20);
    check(
        &[
            ("scan.startup.mode", "timestamp"),
            ("scan.startup.timestamp-millis", &timestamp),
        ],
        10..20,
    );
    check(
        &[
            ("scan.startup.mode", "specific-offsets"),
            ("scan.startup.specific-offsets", "partition:0,offset:7"),
        ],
        7..20,
    );
    let group = [
        ("properties.group.id", "begin-group"),
        ("scan.startup.mode", "group-offsets"),
    ];
    let (source, mut reader) = check(&group, 0..20);
    let positions = reader.snapshot().expect("positions");
    runtime
        .block_on(source.checkpoint_completed(&positions))
        .expect("the group's offsets are taken");
    check(&group, 20..20);
}

#[test]
fn partitions_without_a_specific_offset_start_at_their_earliest_record() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("specific", 2).expect("a new topic");
    broker.produce("specific", 0, json(0..10)).expect("records");
    broker.produce("specific", 1, json(10..20)).expect("records");
    broker.delete_records_before("specific", 1, 4).expect("fewer records");
    let options = |offsets: &'static str| {
        [
            ("scan.startup.mode", "specific-offsets"),
            ("scan.startup.specific-offsets", offsets),
            ("scan.bounded.mode", "latest-offset"),
        ]
    };
    let known = source(&table("specific", &[], &options("partition:0,offset:7")));
    let splits = runtime.block_on(known.splits()).expect("partitions");
    let mut reader = reader(known.as_ref(), &runtime, splits, 100);
    let mut found = ids(&poll_until(reader.as_mut(), |_| false).expect("nothing is wrong"));
    found.sort_unstable();
    assert_eq!(found, [7, 8, 9, 14, 15, 16, 17, 18, 19]);

    let unknown = source(&table(
        "specific",
        &[],
        &options("partition:0,offset:7;partition:5,offset:0"),
    ));
    let error = runtime
        .block_on(unknown.splits())
        .expect_err("there is no such partition");
    let expected =
        "option 'scan.startup.specific-offsets' names the partition 5, which the topic does not have; it has 0, 1";
    assert_eq!(error.to_string(), expected);
    assert!(!error.retry().is_retryable());
}

#[test]
fn new_partitions_are_read_from_their_beginning() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("grows", 1).expect("a new topic");
    let source = source(&table("grows", &[], &[("scan.startup.mode", "latest-offset")]));
    assert_eq!(runtime.block_on(source.splits()).expect("partitions").len(), 1);
    broker.add_partitions("grows", 2).expect("another partition");
    broker.produce("grows", 1, json(0..5)).expect("records");
    let splits = runtime.block_on(source.splits()).expect("partitions");
    let new: Vec<_> = splits.into_iter().filter(|split| split.id == "grows-1").collect();
    let mut reader = reader(source.as_ref(), &runtime, new, 100);
    let events = poll_until(reader.as_mut(), |event| matches!(event, SourceEvent::CaughtUp { .. })).expect("readable");
    assert_eq!(ids(&events), [0, 1, 2, 3, 4]);
}

#[test]
fn partitions_made_while_the_job_was_down_are_read_from_their_beginning() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("grew", 1).expect("a new topic");
    broker.produce("grew", 0, json(0..5)).expect("records");
    let table = table("grew", &[], &[("scan.startup.mode", "latest-offset")]);
    for (resumes, expected) in [(true, 5), (false, 0)] {
        let source = source(&table);
        if resumes {
            broker.add_partitions("grew", 2).expect("another partition");
            broker.produce("grew", 1, json(0..5)).expect("records");
            source.resume();
        }
        let splits = runtime.block_on(source.splits()).expect("partitions");
        let new: Vec<_> = splits.into_iter().filter(|split| split.id == "grew-1").collect();
        let mut reader = reader(source.as_ref(), &runtime, new, 100);
        let is_caught_up = |event: &SourceEvent| matches!(event, SourceEvent::CaughtUp { .. });
        let events = poll_until(reader.as_mut(), is_caught_up).expect("readable");
        assert_eq!(ids(&events).len(), expected);
    }
}

#[test]
fn tombstones_hold_no_row_but_under_raw() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("tombstones", 1).expect("a new topic");
    let values = [Some("{\"id\":1}"), None, Some("{\"id\":2}"), None];
    let records = values.map(|value| (None, value));
    broker.produce_optional("tombstones", records).expect("records");
    let bounded = ("scan.bounded.mode", "latest-offset");
    let read = |table: &TableDefinition| {
        let source = source(table);
        let splits = runtime.block_on(source.splits()).expect("partitions");
        let mut reader = reader(source.as_ref(), &runtime, splits, 100);
        poll_until(reader.as_mut(), |_| false).expect("nothing is wrong")
    };
    assert_eq!(ids(&read(&table("tombstones", &[], &[bounded]))), [1, 2]);

    let mut raw = table(
        "tombstones",
        &[("offset", DataType::Int64)],
        &[bounded, ("format", "raw")],
    );
    raw.schema = Arc::new(Schema::new(vec![
        Field::new("word", DataType::Utf8, true),
        Field::new("m_offset", DataType::Int64, true),
    ]));
    let rows: Vec<(Option<String>, i64)> = batches(&read(&raw))
        .iter()
        .flat_map(|batch| {
            let words = batch.column(0).as_string::<i32>();
            let words: Vec<_> = words.iter().map(|word| word.map(str::to_string)).collect();
            let offsets = batch.column(1).as_primitive::<Int64Type>().values().to_vec();
            words.into_iter().zip(offsets).collect::<Vec<_>>()
        })
        .collect();
    let expected = values.map(|value| value.map(str::to_string)).into_iter().zip(0..4);
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

#[test]
fn records_that_do_not_decode_are_given_back_whole() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("garbage", 1).expect("a new topic");
    let large = format!("{{\"id\":4,\"word\":\"{}\"}}", "x".repeat(10_000_000));
    let values = [
        "{\"id\":1,\"word\":\"a\"}",
        "no json",
        "{\"id\":\"x\"}",
        "{\"id\":null}",
        &large,
    ];
    broker.produce("garbage", 0, values).expect("records");
    let offset = [("offset", DataType::Int64)];
    let source = source(&table("garbage", &offset, &[("scan.bounded.mode", "latest-offset")]));
    let splits = runtime.block_on(source.splits()).expect("partitions");
    let mut reader = reader(source.as_ref(), &runtime, splits, 100);
    let events = poll_until(reader.as_mut(), |_| false).expect("bad records are no error of the source");
    let rejected: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            SourceEvent::Batch(batch) => Some(batch.rejected.clone()),
            _ => None,
        })
        .flatten()
        .collect();
    let seen: Vec<_> = rejected
        .iter()
        .map(|r| (r.position.as_str(), r.payload.as_slice()))
        .collect();
    assert_eq!(
        seen,
        [
            ("garbage-0@1", &b"no json"[..]),
            ("garbage-0@2", &b"{\"id\":\"x\"}"[..])
        ]
    );
    assert!(rejected[1].error.contains("id"), "{}", rejected[1].error);
    let offsets: Vec<i64> = batches(&events)
        .iter()
        .flat_map(|batch| batch.column(2).as_primitive::<Int64Type>().values().to_vec())
        .collect();
    assert_eq!(offsets, [0, 3, 4]);
    let last = batches(&events).pop().expect("rows");
    assert_eq!(
        last.column(1).as_string::<i32>().value(last.num_rows() - 1).len(),
        10_000_000
    );
}

#[test]
fn what_is_wrong_is_said() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("orders-in", 1).expect("a new topic");
    let error = |table: &TableDefinition| {
        runtime
            .block_on(source(table).splits())
            .expect_err("it cannot work")
            .to_string()
    };
    let missing = error(&table("orders-out", &[], &[]));
    assert!(
        missing.contains("`orders-out` does not exist") && missing.contains("orders-in"),
        "{missing}"
    );
    let missing = write(&runtime, &table("orders-out", &[], &[]), &[])
        .expect_err("no such topic")
        .to_string();
    assert!(missing.contains("`orders-out` does not exist"), "{missing}");
    let nobody = error(&table(
        "orders-in",
        &[],
        &[("properties.bootstrap.servers", "127.0.0.1:1")],
    ));
    assert!(
        nobody.contains("`127.0.0.1:1` do not answer") && nobody.contains("refused"),
        "{nobody}"
    );

    broker.produce("orders-in", 0, json(0..10)).expect("records");
    let source = source(&table("orders-in", &[], &[("scan.bounded.mode", "latest-offset")]));
    let splits = runtime.block_on(source.splits()).expect("partitions");
    broker.delete_records_before("orders-in", 0, 5).expect("retention");
    let mut reader = reader(source.as_ref(), &runtime, splits, 100);
    let lost = poll_until(reader.as_mut(), |_| false)
        .expect_err("offset 0 is gone")
        .to_string();
    assert!(
        lost.contains("orders-in-0: the offset 0") && lost.contains("retention"),
        "{lost}"
    );
}
