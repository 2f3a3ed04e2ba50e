//! Changelogs against a real broker: folding the records of a topic gives the table whose changes were written, for
//! another client and for the source.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use millstream_connectors::changelog::{self, ChangelogSupport, Kinds};
use millstream_connectors::{
    Committable, JobIdentity, Role, RowKind, Sink, SinkWriter, SourceEvent, Split, TableDefinition, WriterContext,
    registry,
};
use millstream_integration_tests::kafka::KafkaBroker;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;

use super::connector::{DEADLINE, batches, poll_until, reader, source};
use super::exactly_once::Memory;

const UPSERT: &[(&str, &str)] = &[
    ("connector", "upsert-kafka"),
    ("key.format", "json"),
    ("value.format", "json"),
];
const DEBEZIUM: &[(&str, &str)] = &[
    ("connector", "kafka"),
    ("format", "debezium-json"),
    ("key.format", "raw"),
    ("key.fields", "id"),
];

/// Rows of a table by id.
type Rows = BTreeMap<i64, Option<String>>;

fn table(topic: &str, options: &[&[(&str, &str)]]) -> TableDefinition {
    let brokers = KafkaBroker::shared().address();
    let common = [("properties.bootstrap.servers", brokers), ("topic", topic)];
    let options = common.iter().chain(options.iter().copied().flatten());
    TableDefinition {
        name: "t".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("id", DataType::Int64, false),
            Field::new("word", DataType::Utf8, true),
        ])),
        metadata: Vec::new(),
        options: options
            .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
            .collect(),
        partitioned_by: Vec::new(),
        primary_key: vec!["id".into()],
    }
}

/// Xorshift generator, whose seed is printed.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new() -> Self {
        let seed = std::env::var("CHANGELOG_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
            now.as_nanos() as u64 | 1
        });
        println!("CHANGELOG_SEED={seed}");
        Self(seed)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// Returns a batch of random changes of `rows`, as a query emits them to a sink.
fn changes(random: &mut Random, rows: &mut Rows, support: ChangelogSupport, keys: u64, count: usize) -> RecordBatch {
    let (mut kinds, mut ids, mut words) = (Vec::new(), Vec::new(), Vec::new());
    let mut push = |kind: RowKind, id: i64, word: Option<String>| {
        kinds.push(kind as i8);
        ids.push(id);
        words.push(word);
    };
    for _ in 0..count {
        let id = random.below(keys) as i64;
        let word = (random.below(5) > 0).then(|| format!("word \"{}\"", random.below(1000)));
        match rows.remove(&id) {
            None => {
                push(RowKind::Insert, id, word.clone());
                rows.insert(id, word);
            }
            // In upsert mode only the key of a deleted row is valid.
            Some(_) if random.below(3) == 0 && support == ChangelogSupport::Upsert => push(RowKind::Delete, id, None),
            Some(former) if random.below(3) == 0 => push(RowKind::Delete, id, former),
            Some(former) => {
                if support == ChangelogSupport::Retract {
                    push(RowKind::UpdateBefore, id, former);
                }
                push(RowKind::UpdateAfter, id, word.clone());
                rows.insert(id, word);
            }
        }
    }
    let columns: Vec<ArrayRef> = vec![Arc::new(Int64Array::from(ids)), Arc::new(StringArray::from(words))];
    let rows = RecordBatch::try_new(table("any", &[]).schema, columns).expect("two columns");
    changelog::with_kinds(&rows, Int8Array::from(kinds)).expect("one kind per row")
}

/// A sink in a process of its own.
struct Process<'r> {
    sink: Arc<dyn Sink>,
    storage: Arc<Memory>,
    runtime: &'r Runtime,
}

impl<'r> Process<'r> {
    fn new(table: &TableDefinition, storage: &Arc<Memory>, runtime: &'r Runtime) -> Self {
        let errors = registry::validate(table, Role::Sink);
        assert!(errors.is_empty(), "{errors:?}");
        let sink = registry::sink(table).expect("a checked table");
        sink.use_storage(storage.clone());
        Self {
            sink,
            storage: storage.clone(),
            runtime,
        }
    }

    fn writer(&self, topic: &str, attempt: &str) -> Box<dyn SinkWriter> {
        let job = JobIdentity {
            job: topic.into(),
            attempt: attempt.into(),
        };
        self.runtime.block_on(self.sink.start(&job)).expect("a topic");
        let context = WriterContext {
            job,
            subtask: 0,
            parallelism: 1,
            runtime: self.runtime.handle().clone(),
            storage: self.storage.clone(),
        };
        self.sink.writer(context).expect("a writer")
    }

    fn write(&self, writer: &mut dyn SinkWriter, batch: &RecordBatch) {
        let ready = self
            .runtime
            .block_on(futures::future::poll_fn(|context| writer.poll_ready(context)));
        ready.expect("ready");
        writer.write(batch).expect("written");
    }

    fn prepare(&self, writer: &mut dyn SinkWriter, checkpoint: u64) -> Vec<Committable> {
        let prepared = self.runtime.block_on(writer.prepare(checkpoint, false));
        prepared.expect("prepared")
    }

    fn commit(&self, committables: Vec<Committable>) {
        self.runtime
            .block_on(self.sink.commit(committables))
            .expect("published");
    }
}

/// Java's hash of keys, which decides their partition.
fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut hash = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes(word.try_into().expect("four bytes")).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        hash = hash.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (index, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * index);
        }
        hash = hash.wrapping_mul(M);
    }
    hash = (hash ^ (hash >> 13)).wrapping_mul(M);
    hash ^ (hash >> 15)
}

fn row_of(json: &serde_json::Value) -> (i64, Option<String>) {
    let word = json["word"].as_str().map(String::from);
    (json["id"].as_i64().expect("a number"), word)
}

/// Folds the committed records of an upsert topic. Returns the number of records too.
fn fold_upserts(topic: &str, partitions: u32) -> (Rows, usize) {
    let records = KafkaBroker::shared().records(topic).expect("readable");
    let mut rows = Rows::new();
    for record in &records {
        let key = record.key.as_deref().expect("every record has a key");
        let expected = (murmur2(key) & 0x7fff_ffff) % partitions;
        assert_eq!(record.partition as u32, expected, "the partition of the Java client");
        let key: serde_json::Value = serde_json::from_slice(key).expect("JSON");
        let id = key["id"].as_i64().expect("a number");
        if record.is_tombstone {
            rows.remove(&id);
        } else {
            let (of_value, word) = row_of(&serde_json::from_slice(&record.value).expect("JSON"));
            assert_eq!(of_value, id);
            rows.insert(id, word);
        }
    }
    (rows, records.len())
}

/// Polls a source to its end. The reader is dropped and restored from its positions after `stop_after` batches.
fn read(runtime: &Runtime, table: &TableDefinition, stop_after: usize) -> Vec<RecordBatch> {
    let source = source(table);
    let mut splits: Vec<Split> = runtime.block_on(source.splits()).expect("partitions");
    let mut all = Vec::new();
    for limit in [stop_after, usize::MAX] {
        let open = splits.iter().filter(|split| !split.finished).cloned().collect();
        let mut reader = reader(source.as_ref(), runtime, open, 37);
        let mut seen = 0;
        let events = poll_until(reader.as_mut(), |event| {
            seen += usize::from(matches!(event, SourceEvent::Batch(_)));
            seen >= limit
        });
        all.extend(batches(&events.expect("nothing is wrong")));
        let read = reader.snapshot().expect("positions");
        splits.retain(|split| !read.iter().any(|read| read.id == split.id));
        splits.extend(read);
    }
    all
}

/// Returns the changes of batches: kind, id and word.
fn changes_of(batches: &[RecordBatch]) -> Vec<(RowKind, i64, Option<String>)> {
    let mut all = Vec::new();
    for batch in batches {
        assert!(changelog::is_changelog(batch.schema_ref()), "{}", batch.schema_ref());
        let kinds = Kinds::of(batch).expect("known kinds");
        let (ids, words) = (
            batch.column(0).as_primitive::<Int64Type>(),
            batch.column(1).as_string::<i32>(),
        );
        all.extend((0..batch.num_rows()).map(|row| {
            let word = words.is_valid(row).then(|| words.value(row).to_string());
            (kinds.kind(row), ids.value(row), word)
        }));
    }
    all
}

/// Folds what the source of an upsert table delivers.
fn fold_source(runtime: &Runtime, topic: &str, options: &[(&str, &str)]) -> Rows {
    let bounded = [("scan.bounded.mode", "latest-offset")];
    let table = table(topic, &[UPSERT, options, &bounded]);
    let mut rows = Rows::new();
    for (kind, id, word) in changes_of(&read(runtime, &table, 3)) {
        match kind {
            RowKind::UpdateAfter => drop(rows.insert(id, word)),
            RowKind::Delete => {
                assert_eq!(word, None);
                rows.remove(&id);
            }
            other => panic!("{other:?} in an upsert table"),
        }
    }
    rows
}

#[test]
fn folding_an_upsert_topic_gives_the_table() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("upsert-fold", 3).expect("a new topic");
    let table = table("upsert-fold", &[UPSERT]);
    let connector = registry::find("upsert-kafka").expect("compiled in");
    assert_eq!(connector.changelog(&table, Role::Sink), ChangelogSupport::Upsert);
    let (mut random, mut rows, storage) = (Random::new(), Rows::new(), Arc::default());
    // The second process writes again what the first wrote after its last checkpoint.
    let process = Process::new(&table, &storage, &runtime);
    let mut writer = process.writer("upsert-fold", "1");
    for checkpoint in 1..4 {
        let batch = changes(&mut random, &mut rows, ChangelogSupport::Upsert, 40, 200);
        process.write(writer.as_mut(), &batch);
        assert!(process.prepare(writer.as_mut(), checkpoint).is_empty());
    }
    let again: Vec<RecordBatch> = (0..3)
        .map(|_| changes(&mut random, &mut rows, ChangelogSupport::Upsert, 40, 100))
        .collect();
    process.write(writer.as_mut(), &again[0]);
    process.write(writer.as_mut(), &again[1]);
    drop((writer, process));
    let process = Process::new(&table, &storage, &runtime);
    let mut writer = process.writer("upsert-fold", "2");
    again.iter().for_each(|batch| process.write(writer.as_mut(), batch));
    process.prepare(writer.as_mut(), 4);

    assert_eq!(fold_upserts("upsert-fold", 3).0, rows);
    assert_eq!(fold_source(&runtime, "upsert-fold", &[]), rows);
    // An append-only query inserts rows; nothing says that they are changes.
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![100])),
        Arc::new(StringArray::from(vec!["new"])),
    ];
    let plain = RecordBatch::try_new(table.schema.clone(), columns).expect("two columns");
    process.write(writer.as_mut(), &plain);
    process.prepare(writer.as_mut(), 5);
    rows.insert(100, Some("new".into()));
    assert_eq!(fold_upserts("upsert-fold", 3).0, rows);
}

#[test]
fn an_upsert_topic_has_each_checkpoint_once_under_exactly_once_delivery() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("upsert-once", 3).expect("a new topic");
    let table = table("upsert-once", &[UPSERT, &[("sink.delivery-guarantee", "exactly-once")]]);
    let (mut random, mut rows, storage) = (Random::new(), Rows::new(), Arc::default());
    let process = Process::new(&table, &storage, &runtime);
    let mut writer = process.writer("upsert-once", "1");
    let batch = changes(&mut random, &mut rows, ChangelogSupport::Upsert, 40, 300);
    process.write(writer.as_mut(), &batch);
    let first = process.prepare(writer.as_mut(), 1);
    assert_eq!(fold_upserts("upsert-once", 3), (Rows::new(), 0));
    process.commit(first.clone());
    process.commit(first);
    broker.until_settled("upsert-once").expect("no transaction is open");
    assert_eq!(fold_upserts("upsert-once", 3), (rows.clone(), batch.num_rows()));
    // Changes after the last checkpoint are lost with the process, and so are those of a transaction that it left open.
    process.write(
        writer.as_mut(),
        &changes(&mut random, &mut rows.clone(), ChangelogSupport::Upsert, 40, 50),
    );
    drop((writer, process));
    let dead: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", broker.address())
        .set("transactional.id", "millstream-upsert-once-t-0")
        .create()
        .expect("a producer");
    dead.init_transactions(DEADLINE).expect("initialised");
    dead.begin_transaction().expect("begun");
    let record = BaseRecord::to("upsert-once")
        .key("{\"id\":1}")
        .payload("{\"id\":1,\"word\":\"never\"}");
    dead.send(record).expect("queued");
    dead.flush(DEADLINE).expect("delivered");

    let process = Process::new(&table, &storage, &runtime);
    let mut writer = process.writer("upsert-once", "2");
    for checkpoint in 2..5 {
        process.write(
            writer.as_mut(),
            &changes(&mut random, &mut rows, ChangelogSupport::Upsert, 40, 100),
        );
        let prepared = process.prepare(writer.as_mut(), checkpoint);
        process.commit(prepared);
    }
    broker.until_settled("upsert-once").expect("no transaction is open");
    assert_eq!(fold_upserts("upsert-once", 3).0, rows);
    let committed = [("properties.isolation.level", "read_committed")];
    assert_eq!(fold_source(&runtime, "upsert-once", &committed), rows);
    drop(dead);
}

#[test]
fn a_buffer_writes_the_last_change_of_each_key() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    let buffer = |interval| {
        [
            ("sink.buffer-flush.max-rows", "1000"),
            ("sink.buffer-flush.interval", interval),
        ]
    };
    for (topic, delivery) in [
        ("upsert-buffer-1", "at-least-once"),
        ("upsert-buffer-2", "exactly-once"),
    ] {
        broker.create_topic(topic, 2).expect("a new topic");
        let delivery = [("sink.delivery-guarantee", delivery)];
        let table = table(topic, &[UPSERT, &buffer("1 h"), &delivery]);
        let (mut random, mut rows, storage) = (Random::new(), Rows::new(), Arc::default());
        let process = Process::new(&table, &storage, &runtime);
        let mut writer = process.writer(topic, "1");
        for checkpoint in 1..3 {
            for _ in 0..5 {
                let batch = changes(&mut random, &mut rows, ChangelogSupport::Upsert, 10, 100);
                process.write(writer.as_mut(), &batch);
            }
            let prepared = process.prepare(writer.as_mut(), checkpoint);
            process.commit(prepared);
            broker.until_settled(topic).expect("no transaction is open");
            let (folded, records) = fold_upserts(topic, 2);
            assert_eq!(folded, rows);
            assert!(records <= 10 * checkpoint as usize, "{records} records of 10 keys");
        }
    }
    // Without a checkpoint, the interval ends the wait.
    broker.create_topic("upsert-buffer-3", 2).expect("a new topic");
    let table = table("upsert-buffer-3", &[UPSERT, &buffer("50 ms")]);
    let process = Process::new(&table, &Arc::default(), &runtime);
    let mut writer = process.writer("upsert-buffer-3", "1");
    let mut rows = Rows::new();
    let batch = changes(&mut Random::new(), &mut rows, ChangelogSupport::Upsert, 10, 100);
    process.write(writer.as_mut(), &batch);
    let deadline = std::time::Instant::now() + DEADLINE;
    while fold_upserts("upsert-buffer-3", 2).0 != rows {
        assert!(std::time::Instant::now() < deadline, "the buffer is not written");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_record_without_a_key_is_rejected_by_an_upsert_table() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("upsert-keys", 1).expect("a new topic");
    let records = [
        (Some(r#"{"id":1}"#), Some(r#"{"id":1,"word":"a"}"#)),
        (None, Some(r#"{"id":2,"word":"b"}"#)),
        (Some(r#"{"id":3}"#), None),
        (Some("three"), None),
        (None, None),
        (Some(r#"{"id":4}"#), Some("{")),
        // The key decides, whatever the value says.
        (Some(r#"{"id":5}"#), Some(r#"{"id":6,"word":"c"}"#)),
    ];
    broker.produce_optional("upsert-keys", records).expect("records");
    let table = table("upsert-keys", &[UPSERT, &[("scan.bounded.mode", "latest-offset")]]);
    let source = source(&table);
    let splits = runtime.block_on(source.splits()).expect("partitions");
    let mut reader = reader(source.as_ref(), &runtime, splits, 100);
    let events = poll_until(reader.as_mut(), |_| false).expect("nothing is wrong");
    assert_eq!(
        changes_of(&batches(&events)),
        [
            (RowKind::UpdateAfter, 1, Some("a".into())),
            (RowKind::Delete, 3, None),
            (RowKind::UpdateAfter, 5, Some("c".into())),
        ]
    );
    let mut rejected: Vec<(String, String)> = Vec::new();
    for event in events {
        if let SourceEvent::Batch(batch) = event {
            rejected.extend(batch.rejected.into_iter().map(|record| (record.position, record.error)));
        }
    }
    let positions: Vec<&str> = rejected.iter().map(|(position, _)| position.as_str()).collect();
    let expected = [
        "upsert-keys-0@1",
        "upsert-keys-0@3",
        "upsert-keys-0@4",
        "upsert-keys-0@5",
    ];
    assert_eq!(positions, expected);
    assert!(
        rejected[0].1.contains("has no key") && rejected[2].1.contains("has no key"),
        "{rejected:?}"
    );
    assert!(rejected[1].1.starts_with("in the key: not JSON"), "{rejected:?}");
}

#[test]
fn the_weights_of_a_debezium_topic_give_the_table() {
    let (broker, runtime) = (KafkaBroker::shared(), Runtime::new().expect("a runtime"));
    broker.create_topic("debezium-fold", 3).expect("a new topic");
    let written = table("debezium-fold", &[DEBEZIUM]);
    let connector = registry::find("kafka").expect("compiled in");
    for role in [Role::Source, Role::Sink] {
        assert_eq!(connector.changelog(&written, role), ChangelogSupport::Retract);
        let json = table("any", &[&[("connector", "kafka"), ("format", "json")]]);
        assert_eq!(connector.changelog(&json, role), ChangelogSupport::Append);
    }
    let (mut random, mut rows) = (Random::new(), Rows::new());
    let process = Process::new(&written, &Arc::default(), &runtime);
    let mut writer = process.writer("debezium-fold", "1");
    for checkpoint in 1..4 {
        let batch = changes(&mut random, &mut rows, ChangelogSupport::Retract, 40, 200);
        process.write(writer.as_mut(), &batch);
        process.prepare(writer.as_mut(), checkpoint);
    }
    let read_table = table("debezium-fold", &[DEBEZIUM, &[("scan.bounded.mode", "latest-offset")]]);
    let mut weights: BTreeMap<(i64, Option<String>), i64> = BTreeMap::new();
    for (kind, id, word) in changes_of(&read(&runtime, &read_table, 3)) {
        let weight = weights.entry((id, word)).or_default();
        *weight += if kind.is_removal() { -1 } else { 1 };
        // All changes of a key are in one partition, in order.
        assert!(*weight >= 0, "a row was deleted before it was inserted");
    }
    weights.retain(|_, weight| *weight != 0);
    assert!(weights.values().all(|weight| *weight == 1));
    assert_eq!(weights.into_keys().collect::<Rows>(), rows);
}
