//! The sink under exactly-once delivery: after any failure, each epoch is in the topic exactly once.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use async_trait::async_trait;
use bytes::Bytes;
use millstream_connectors::kafka::transaction::admin::TransactionAdmin;
use millstream_connectors::{
    Committable, Delivery, Error, JobIdentity, OutputFile, OutputStorage, Role, Sink, SinkWriter, TableDefinition,
    WriterContext, registry,
};
use millstream_integration_tests::kafka::KafkaBroker;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tokio::runtime::Runtime;

const MARKERS: &str = "__millstream_markers";

/// A job that writes to one topic, with its checkpoint storage; every attempt and every restart has a sink of its own.
struct Job {
    topic: &'static str,
    options: Vec<(&'static str, &'static str)>,
    storage: Arc<Memory>,
    runtime: Runtime,
}

/// A checkpoint storage in memory.
#[derive(Default)]
pub(super) struct Memory {
    files: Mutex<HashMap<String, Bytes>>,
}

#[async_trait]
impl OutputStorage for Memory {
    async fn write(&self, content: Bytes) -> Result<OutputFile, Error> {
        let mut files = self.files.lock();
        let file = OutputFile {
            path: format!("{}", files.len()),
            length: content.len() as u64,
            crc32: 0,
        };
        files.insert(file.path.clone(), content);
        Ok(file)
    }

    async fn read(&self, file: &OutputFile) -> Result<Bytes, Error> {
        let found = self.files.lock().get(&file.path).cloned();
        found.ok_or_else(|| Error::Data(format!("{} is missing", file.path)))
    }
}

impl Job {
    /// Creates the topic, whose name is also the job's.
    fn new(topic: &'static str, partitions: i32, options: &[(&'static str, &'static str)]) -> Self {
        KafkaBroker::shared()
            .create_topic(topic, partitions)
            .expect("a new topic");
        Self {
            topic,
            options: options.to_vec(),
            storage: Arc::default(),
            runtime: Runtime::new().expect("a runtime"),
        }
    }

    fn table(&self) -> TableDefinition {
        let options: BTreeMap<String, String> = [
            ("connector", "kafka"),
            ("properties.bootstrap.servers", KafkaBroker::shared().address()),
            ("topic", self.topic),
            ("format", "json"),
            ("sink.delivery-guarantee", "exactly-once"),
        ]
        .iter()
        .chain(&self.options)
        .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
        .collect();
        let table = TableDefinition {
            name: "t".into(),
            schema: Arc::new(Schema::new(vec![
                Field::new("id", DataType::Int64, true),
                Field::new("word", DataType::Utf8, true),
            ])),
            metadata: Vec::new(),
            options,
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
        };
        let errors = registry::validate(&table, Role::Sink);
        assert!(errors.is_empty(), "{errors:?}");
        table
    }

    /// Starts a process, which shares only the checkpoint storage with earlier ones.
    fn process(&self) -> Process<'_> {
        let sink = registry::sink(&self.table()).expect("a checked table");
        assert_eq!(sink.delivery(), Delivery::ExactlyOnce);
        sink.use_storage(self.storage.clone());
        Process { job: self, sink }
    }

    /// Returns the ids in the topic, sorted.
    fn ids(&self) -> Vec<i64> {
        let records = KafkaBroker::shared().records(self.topic).expect("readable");
        let mut ids: Vec<i64> = records
            .iter()
            .map(|record| {
                let row: serde_json::Value = serde_json::from_slice(&record.value).expect("JSON");
                row["id"].as_i64().expect("a number")
            })
            .collect();
        ids.sort_unstable();
        ids
    }

    #[track_caller]
    fn check_ids(&self, expected: std::ops::Range<i64>) {
        assert_eq!(self.ids(), expected.collect::<Vec<_>>());
    }
}

struct Process<'j> {
    job: &'j Job,
    sink: Arc<dyn Sink>,
}

impl Process<'_> {
    fn identity(&self, attempt: &str) -> JobIdentity {
        JobIdentity {
            job: self.job.topic.into(),
            attempt: attempt.into(),
        }
    }

    fn start(&self, attempt: &str) -> Result<(), Error> {
        self.job.runtime.block_on(self.sink.start(&self.identity(attempt)))
    }

    fn writer(&self, attempt: &str, subtask: usize) -> Box<dyn SinkWriter> {
        let context = WriterContext {
            job: self.identity(attempt),
            subtask,
            parallelism: 4,
            runtime: self.job.runtime.handle().clone(),
            storage: self.job.storage.clone(),
        };
        self.sink.writer(context).expect("a writer")
    }

    /// Writes one epoch of one subtask.
    fn epoch(&self, attempt: &str, subtask: usize, checkpoint: u64, ids: std::ops::Range<i64>) -> Vec<Committable> {
        let mut writer = self.writer(attempt, subtask);
        self.fill(writer.as_mut(), ids, 1);
        self.job
            .runtime
            .block_on(writer.prepare(checkpoint, false))
            .expect("prepared")
    }

    fn fill(&self, writer: &mut dyn SinkWriter, ids: std::ops::Range<i64>, word_bytes: usize) {
        let word = "w".repeat(word_bytes);
        for start in ids.clone().step_by(1000) {
            let some = start..ids.end.min(start + 1000);
            let words = StringArray::from_iter_values(some.clone().map(|_| &word));
            let numbers = Int64Array::from_iter_values(some);
            let rows = RecordBatch::try_new(self.job.table().schema, vec![Arc::new(numbers), Arc::new(words)]);
            self.job.runtime.block_on(async {
                futures::future::poll_fn(|context| writer.poll_ready(context))
                    .await
                    .expect("ready");
            });
            writer.write(&rows.expect("two columns")).expect("written");
        }
    }

    fn commit(&self, committables: &[Committable]) -> Result<(), Error> {
        self.job.runtime.block_on(self.sink.commit(committables.to_vec()))
    }
}

#[test]
fn nothing_is_visible_before_the_commit_and_a_commit_may_be_repeated() {
    let job = Job::new("eo-repeat", 2, &[]);
    let first = job.process();
    first.start("a").expect("a new job");
    let epoch = first.epoch("a", 0, 1, 0..100);
    assert_eq!(job.ids(), Vec::<i64>::new());
    for _ in 0..2 {
        first.commit(&epoch).expect("published");
        job.check_ids(0..100);
    }
    let second = job.process();
    second.commit(&epoch).expect("nothing to do");
    second.start("b").expect("a restart");
    second.commit(&epoch).expect("nothing to do");
    job.check_ids(0..100);
    assert!(second.epoch("b", 0, 2, 0..0).is_empty());
}

#[test]
fn an_epoch_outlives_the_process_that_wrote_it_and_the_parallelism() {
    let job = Job::new("eo-outlives", 3, &[]);
    let epochs = {
        let first = job.process();
        first.start("a").expect("a new job");
        let mut epochs = first.epoch("a", 0, 1, 0..50);
        epochs.extend(first.epoch("a", 1, 1, 50..80));
        epochs.extend(first.epoch("a", 2, 1, 80..100));
        epochs
    };
    let second = job.process();
    second.commit(&epochs).expect("published");
    second.start("b").expect("a restart");
    job.check_ids(0..100);
    let next = second.epoch("b", 0, 2, 100..150);
    second.commit(&next).expect("published");
    // An older checkpoint is restored, as in a replay: its output has been published.
    let third = job.process();
    third.commit(&epochs).expect("nothing to do");
    third.start("c").expect("a restart");
    job.check_ids(0..150);
}

#[test]
fn checkpoints_that_are_counted_anew_are_not_taken_for_old_ones() {
    let job = Job::new("eo-anew", 1, &[]);
    for (attempt, ids) in [("a", 0..10), ("b", 10..20)] {
        let process = job.process();
        process.start(attempt).expect("a start");
        let epoch = process.epoch(attempt, 0, 1, ids);
        process.commit(&epoch).expect("published");
    }
    job.check_ids(0..20);
}

#[test]
fn large_epochs_travel_in_files_and_take_several_transactions() {
    let job = Job::new("eo-large", 2, &[]);
    let first = job.process();
    first.start("a").expect("a new job");
    let mut writer = first.writer("a", 0);
    // 40 MB, more than the limit of one transaction.
    first.fill(writer.as_mut(), 0..40_000, 1000);
    let epoch = job.runtime.block_on(writer.prepare(1, false)).expect("prepared");
    assert!(epoch[0].files.len() >= 8 && epoch[0].content.len() < 200_000);
    first.fill(writer.as_mut(), 40_000..41_000, 100);
    let small = job.runtime.block_on(writer.prepare(2, true)).expect("prepared");
    assert!(small[0].files.is_empty());
    drop(writer);
    // This process publishes from memory; another one would read the output from storage.
    first.commit(&epoch).expect("published");
    drop(first);
    let second = job.process();
    second.commit(&small).expect("published");
    job.check_ids(0..41_000);

    let other = Job::new("eo-large-2", 2, &[]);
    let first = other.process();
    first.start("a").expect("a new job");
    let mut writer = first.writer("a", 0);
    first.fill(writer.as_mut(), 0..20_000, 1000);
    let epoch = other.runtime.block_on(writer.prepare(1, false)).expect("prepared");
    drop((writer, first));
    other.process().commit(&epoch).expect("published from the storage");
    other.check_ids(0..20_000);
}

#[test]
fn who_was_superseded_can_double_nothing() {
    let job = Job::new("eo-superseded", 1, &[]);
    let old = job.process();
    old.start("a").expect("a new job");
    old.commit(&old.epoch("a", 0, 1, 0..10)).expect("published");
    // The old process is suspended after its second checkpoint; a new one takes over.
    let second = old.epoch("a", 0, 2, 10..20);
    let new = job.process();
    new.commit(&second).expect("published");
    new.start("b").expect("a restart");
    // The old process resumes and continues.
    let error = old.commit(&second).expect_err("another has its id").to_string();
    assert!(error.contains("another process uses the transactional id"), "{error}");
    old.commit(&second).expect("it looks again, and nothing is left to do");
    job.check_ids(0..20);
    let third = new.epoch("b", 0, 3, 20..30);
    let mut tries = 0;
    while let Err(error) = new.commit(&third) {
        assert!(matches!(error, Error::Unavailable(_)) && tries < 3, "{error}");
        tries += 1;
    }
    job.check_ids(0..30);
}

#[test]
fn what_a_dead_process_left_open_is_ended() {
    let job = Job::new("eo-left-open", 1, &[]);
    let first = job.process();
    first.start("a").expect("a new job");
    let epoch = first.epoch("a", 0, 1, 0..10);
    drop(first);
    // The process is killed inside the transaction.
    let leave_open = |ids: std::ops::Range<i64>| {
        let producer: BaseProducer = ClientConfig::new()
            .set("bootstrap.servers", KafkaBroker::shared().address())
            .set("transactional.id", "millstream-eo-left-open-t-0")
            .create()
            .expect("a producer");
        producer
            .init_transactions(Duration::from_secs(20))
            .expect("initialised");
        producer.begin_transaction().expect("begun");
        for id in ids {
            let value = format!("{{\"id\":{id},\"word\":\"never\"}}");
            let record = BaseRecord::<(), str>::to("eo-left-open").payload(&value);
            producer.send(record).expect("queued");
        }
        producer.flush(Duration::from_secs(20)).expect("delivered");
        producer
    };
    let transactions =
        TransactionAdmin::new(KafkaBroker::shared().address(), &BTreeMap::new(), MARKERS).expect("a client");
    let open = || transactions.open_partitions("eo-left-open").expect("an answer");
    let dead = leave_open(0..5);
    assert_eq!(open().len(), 1);
    let second = job.process();
    second.commit(&epoch).expect("published");
    assert_eq!(open(), []);
    job.check_ids(0..10);
    drop(dead);

    // A restart aborts the transaction as well, and so does the command.
    let dead = leave_open(0..5);
    job.process().start("b").expect("a restart");
    assert_eq!(open(), []);
    drop(dead);
    let dead = leave_open(0..5);
    assert_eq!(open().len(), 1);
    let listed = transactions.list("millstream-eo-left-open").expect("an answer");
    let seen: Vec<_> = listed
        .iter()
        .map(|listed| (listed.id.as_str(), listed.checkpoint))
        .collect();
    assert_eq!(seen, [("millstream-eo-left-open-t-0", 1)]);
    let ended = transactions.abort_all("millstream-eo-left-open").expect("ended");
    assert_eq!(ended, ["millstream-eo-left-open-t-0"]);
    assert_eq!(open(), []);
    job.check_ids(0..10);
    drop(dead);
}

#[test]
fn a_topic_that_would_forget_is_refused() {
    let broker = KafkaBroker::shared();
    broker.create_topic("eo-markers-small", 1).expect("a new topic");
    broker.create_topic("eo-markers-deleted", 16).expect("a new topic");
    for (topic, markers, expected) in [
        ("eo-refused-1", "eo-markers-small", "has 1 partitions"),
        ("eo-refused-2", "eo-markers-deleted", "cleanup.policy=delete"),
    ] {
        let job = Job::new(topic, 1, &[("sink.markers-topic", markers)]);
        let error = job.process().start("a").expect_err("it would forget").to_string();
        assert!(
            error.contains(expected) && error.contains("sink.markers-topic"),
            "{error}"
        );
    }
}

#[test]
fn a_row_that_the_topic_would_refuse_is_refused_when_it_is_written() {
    let job = Job::new("eo-too-large", 1, &[("properties.message.max.bytes", "5000")]);
    let process = job.process();
    process.start("a").expect("a new job");
    let mut writer = process.writer("a", 0);
    let word = "w".repeat(5000);
    let columns: Vec<arrow_array::ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values([1])),
        Arc::new(StringArray::from_iter_values([&word])),
    ];
    let rows = RecordBatch::try_new(job.table().schema, columns).expect("two columns");
    let error = writer.write(&rows).expect_err("too large");
    assert!(
        matches!(&error, Error::Data(text) if text.contains("max.message.bytes")),
        "{error}"
    );
}
