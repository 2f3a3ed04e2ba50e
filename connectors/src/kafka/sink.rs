//! A Kafka table as a sink: at least once.
//!
//! A writer encodes a batch and hands it to librdkafka's bounded queue in one go; librdkafka's threads send it, and its
//! polling thread counts what arrived. A checkpoint waits until everything written before it has arrived. The
//! producer is idempotent: a retry inside it neither doubles nor reorders records.

use std::collections::VecDeque;
use std::ffi::{CString, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use arrow_array::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rdkafka::bindings as sys;
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::types::RDKafkaRespErr;
use tokio::sync::watch;

use super::client::{self, Context, REQUEST_TIMEOUT};
use super::options::{Partitioner, SinkOptions};
use super::records::{key_schema, value_schema};
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::{Committable, Delivery, Error, JobIdentity, Sink, SinkWriter, TableDefinition, WriterContext};

mod extras;

use self::extras::Extras;

/// What may be on its way at a time; above it the writer says that it is not ready.
const IN_FLIGHT_RECORDS_MAX: u64 = 400_000;
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;
/// How long a producer may take to learn that its topic exists, where the broker makes topics by itself.
const TOPIC_CREATION_TIMEOUT: Duration = Duration::from_secs(5);

pub struct KafkaSink {
    table: TableDefinition,
    options: SinkOptions,
    /// Known after `start`.
    partitions: Mutex<i32>,
}

impl KafkaSink {
    pub fn new(table: &TableDefinition, options: SinkOptions) -> Result<Self, Error> {
        Ok(Self {
            table: table.clone(),
            options,
            partitions: Mutex::new(0),
        })
    }
}

#[async_trait]
impl Sink for KafkaSink {
    fn delivery(&self) -> Delivery {
        Delivery::AtLeastOnce
    }

    async fn start(&self, _job: &JobIdentity) -> Result<(), Error> {
        let (options, table) = (self.options.clone(), self.table.name.clone());
        let found = tokio::task::spawn_blocking(move || count_partitions(&options, &table)).await;
        let found = found.map_err(|error| Error::Unavailable(format!("a request to Kafka was given up: {error}")))?;
        *self.partitions.lock() = found?;
        Ok(())
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        let layout = &self.options.layout;
        let value_schema = value_schema(&self.table, &layout.value);
        let key = match &layout.key {
            Some(key) => {
                let schema = key_schema(&self.table, key);
                let encoder = key.format.encoder(&schema, Framing::Bare)?;
                Some(KeyEncoder {
                    encoder,
                    columns: key.columns.clone(),
                    schema,
                })
            }
            None => None,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            progress: watch::Sender::new(Progress::default()),
        });
        let of_context = shared.clone();
        let producer: ThreadedProducer<Context> = self
            .options
            .client
            .create_with_context(Context::with_deliveries(move |epoch, bytes, error| {
                of_context.delivered(epoch, bytes, error);
            }))
            .map_err(|error| Error::Invalid(format!("table `{}`: Kafka client: {error}", self.table.name)))?;
        let topic = Topic::new(producer, &self.options.topic)?;
        Ok(Box::new(KafkaWriter {
            topic,
            shared,
            value: layout.value_format.encoder(&value_schema, Framing::Bare)?,
            value_columns: layout.value.clone(),
            value_schema,
            key,
            extras: Extras::of(&self.table),
            partitioner: self.options.partitioner,
            partitions: (*self.partitions.lock()).max(1),
            next_partition: i32::try_from(context.subtask).unwrap_or(0),
            encoded: EncodedRecords::default(),
            encoded_keys: EncodedRecords::default(),
            messages: Vec::new(),
            runtime: context.runtime,
        }))
    }

    async fn commit(&self, _committables: Vec<Committable>) -> Result<(), Error> {
        Ok(())
    }
}

/// How many partitions the topic has; an error if it does not exist, unless the broker makes it now. Blocks.
fn count_partitions(options: &SinkOptions, table: &str) -> Result<i32, Error> {
    let producer: ThreadedProducer<Context> = options
        .client
        .create_with_context(Context::new())
        .map_err(|error| Error::Invalid(format!("table `{table}`: Kafka client: {error}")))?;
    let client = producer.client();
    let unreachable = |error: rdkafka::error::KafkaError| {
        let problem = client.context().last_problem().unwrap_or_else(|| error.to_string());
        client::cannot_reach(&options.brokers, &problem)
    };
    let deadline = std::time::Instant::now() + TOPIC_CREATION_TIMEOUT;
    let all = client.fetch_metadata(None, REQUEST_TIMEOUT).map_err(unreachable)?;
    let is_there = |metadata: &rdkafka::metadata::Metadata| {
        metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == options.topic)
            .map(|topic| topic.partitions().len())
            .filter(|partitions| *partitions > 0)
    };
    if let Some(partitions) = is_there(&all) {
        return Ok(i32::try_from(partitions).unwrap_or(i32::MAX));
    }
    // Asking for one topic makes the broker create it, where that is allowed.
    loop {
        let one = client
            .fetch_metadata(Some(&options.topic), REQUEST_TIMEOUT)
            .map_err(unreachable)?;
        if let Some(partitions) = is_there(&one) {
            return Ok(i32::try_from(partitions).unwrap_or(i32::MAX));
        }
        let is_final = one.topics().iter().any(|topic| {
            topic.name() == options.topic
                && topic
                    .error()
                    .is_some_and(|code| code != RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
        });
        if is_final || std::time::Instant::now() >= deadline {
            return Err(client::missing_topic(&options.topic, &all));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What the writer and librdkafka's polling thread both know.
struct Shared {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

/// Records are counted by epoch, the time between two checkpoints: partitions deliver in any order, so a total would
/// not tell whether those that still miss are from before or after the barrier.
#[derive(Default)]
struct State {
    records_in_flight: u64,
    bytes_in_flight: u64,
    /// The oldest epoch of which records may still be on their way.
    first_epoch: usize,
    /// Records on their way of `first_epoch` and each epoch after it, up to the present one.
    in_flight: VecDeque<u64>,
    blocked: Option<Waker>,
}

#[derive(Debug, Default, Clone)]
struct Progress {
    /// All records of earlier epochs were delivered.
    first_epoch: usize,
    failure: Option<String>,
}

impl State {
    /// The present epoch, of which `records` more are about to leave.
    fn leave(&mut self, records: u64, bytes: u64) -> usize {
        self.records_in_flight += records;
        self.bytes_in_flight += bytes;
        match self.in_flight.back_mut() {
            Some(count) => *count += records,
            None => self.in_flight.push_back(records),
        }
        self.first_epoch + self.in_flight.len() - 1
    }

    fn settle(&mut self) {
        while self.in_flight.len() > 1 && self.in_flight.front() == Some(&0) {
            self.in_flight.pop_front();
            self.first_epoch += 1;
        }
    }
}

impl Shared {
    fn delivered(&self, epoch: usize, bytes: usize, error: Option<String>) {
        let mut state = self.state.lock();
        state.records_in_flight = state.records_in_flight.saturating_sub(1);
        state.bytes_in_flight = state.bytes_in_flight.saturating_sub(bytes as u64);
        let before = state.first_epoch;
        if let Some(count) = epoch
            .checked_sub(before)
            .and_then(|index| state.in_flight.get_mut(index))
        {
            *count = count.saturating_sub(1);
        }
        state.settle();
        let first_epoch = state.first_epoch;
        let has_room =
            state.records_in_flight < IN_FLIGHT_RECORDS_MAX / 2 && state.bytes_in_flight < IN_FLIGHT_BYTES_MAX / 2;
        let waker = if has_room || error.is_some() {
            state.blocked.take()
        } else {
            None
        };
        drop(state);
        if first_epoch != before || error.is_some() {
            self.progress.send_modify(|progress| {
                progress.first_epoch = progress.first_epoch.max(first_epoch);
                if let Some(error) = error {
                    progress.failure.get_or_insert(error);
                }
            });
        }
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn failure(&self) -> Option<String> {
        self.progress.borrow().failure.clone()
    }
}

/// A topic of a producer, by librdkafka's handle: whole batches are produced through it.
struct Topic {
    handle: NonNull<sys::rd_kafka_topic_t>,
    name: String,
    /// Lives longer than the handle: fields drop after `Topic::drop`.
    producer: ThreadedProducer<Context>,
}

// SAFETY: librdkafka's handles may be used from any thread.
unsafe impl Send for Topic {}

impl Topic {
    fn new(producer: ThreadedProducer<Context>, name: &str) -> Result<Self, Error> {
        let text = CString::new(name).map_err(|_| Error::Invalid(format!("`{name}` is not a topic's name")))?;
        // SAFETY: the client and the name live during the call; a null configuration means the client's.
        let handle = unsafe { sys::rd_kafka_topic_new(producer.client().native_ptr(), text.as_ptr(), ptr::null_mut()) };
        let handle =
            NonNull::new(handle).ok_or_else(|| Error::Invalid(format!("Kafka: `{name}` is not a topic's name")))?;
        Ok(Self {
            handle,
            name: name.to_string(),
            producer,
        })
    }

    /// Queues all records, each to its `partition` (-1: the partitioner decides); their bytes are copied. An error is
    /// that of the first record refused.
    fn produce(&self, messages: &mut [sys::rd_kafka_message_t]) -> Result<(), Error> {
        let count = i32::try_from(messages.len())
            .map_err(|_| Error::Invalid("Kafka: more than 2^31 records in one batch".into()))?;
        let flags = sys::RD_KAFKA_MSG_F_COPY | sys::RD_KAFKA_MSG_F_PARTITION;
        // SAFETY: payloads and keys live during the call, which copies them.
        let queued = unsafe {
            sys::rd_kafka_produce_batch(
                self.handle.as_ptr(),
                PARTITION_UNASSIGNED,
                flags,
                messages.as_mut_ptr(),
                count,
            )
        };
        if queued == count {
            return Ok(());
        }
        let refused = messages
            .iter()
            .find(|message| message.err != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR);
        Err(match refused {
            Some(message) => self.refused(message.err, message.len),
            None => self.refused(RDKafkaRespErr::RD_KAFKA_RESP_ERR__FAIL, 0),
        })
    }

    fn refused(&self, code: RDKafkaRespErr, bytes: usize) -> Error {
        if code == RDKafkaRespErr::RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE {
            return Error::Data(format!(
                "Kafka topic `{}`: a row of {bytes} bytes is larger than 'properties.message.max.bytes' allows",
                self.name
            ));
        }
        let error = rdkafka::error::RDKafkaErrorCode::from(code);
        Error::Unavailable(format!("Kafka topic `{}`: a row was not accepted: {error}", self.name))
    }
}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle is ours, and the client still lives.
        unsafe { sys::rd_kafka_topic_destroy(self.handle.as_ptr()) }
    }
}

struct KeyEncoder {
    encoder: Box<dyn Encoder>,
    columns: Vec<usize>,
    schema: arrow_schema::SchemaRef,
}

struct KafkaWriter {
    topic: Topic,
    shared: Arc<Shared>,
    value: Box<dyn Encoder>,
    value_columns: Vec<usize>,
    value_schema: arrow_schema::SchemaRef,
    key: Option<KeyEncoder>,
    /// Metadata columns to be written.
    extras: Extras,
    partitioner: Partitioner,
    partitions: i32,
    next_partition: i32,
    encoded: EncodedRecords,
    encoded_keys: EncodedRecords,
    messages: Vec<sys::rd_kafka_message_t>,
    runtime: tokio::runtime::Handle,
}

// SAFETY: `messages` holds pointers only during `write`.
unsafe impl Send for KafkaWriter {}

impl SinkWriter for KafkaWriter {
    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        if let Some(failure) = self.shared.failure() {
            return Poll::Ready(Err(self.failed(&failure)));
        }
        if let Some(error) = self.topic.producer.client().context().failure() {
            return Poll::Ready(Err(error));
        }
        let mut state = self.shared.state.lock();
        if state.records_in_flight < IN_FLIGHT_RECORDS_MAX && state.bytes_in_flight < IN_FLIGHT_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        state.blocked = Some(context.waker().clone());
        Poll::Pending
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        if rows.num_rows() == 0 {
            return Ok(0);
        }
        self.encoded.clear();
        self.encoded_keys.clear();
        self.value.encode(
            &select(rows, &self.value_columns, &self.value_schema)?,
            &mut self.encoded,
        )?;
        if let Some(key) = &mut self.key {
            key.encoder
                .encode(&select(rows, &key.columns, &key.schema)?, &mut self.encoded_keys)?;
        }
        let count = self.encoded.len() as u64;
        let values: u64 = self.encoded.data.len() as u64;
        // Before the records leave, since their deliveries subtract them.
        let epoch = self.shared.state.lock().leave(count, values);
        if self.extras.is_empty() {
            self.produce_batch(epoch)?;
        } else {
            let keys = self.key.as_ref().map(|_| &self.encoded_keys);
            self.extras.produce(&self.topic, rows, epoch, &self.encoded, keys, || {
                next(self.partitioner, &mut self.next_partition, self.partitions)
            })?;
        }
        Ok(values + self.encoded_keys.data.len() as u64)
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        let mut progress = self.shared.progress.subscribe();
        let next_epoch = {
            let mut state = self.shared.state.lock();
            if state.in_flight.is_empty() {
                state.in_flight.push_back(0);
            }
            state.in_flight.push_back(0);
            let next_epoch = state.first_epoch + state.in_flight.len() - 1;
            state.settle();
            let first_epoch = state.first_epoch;
            drop(state);
            self.shared
                .progress
                .send_modify(|progress| progress.first_epoch = progress.first_epoch.max(first_epoch));
            next_epoch
        };
        let name = self.topic.name.clone();
        Box::pin(async move {
            let reached = progress
                .wait_for(|progress| progress.failure.is_some() || progress.first_epoch >= next_epoch)
                .await
                .map_err(|_| Error::Unavailable(format!("Kafka topic `{name}`: the producer was closed")))?;
            match &reached.failure {
                Some(failure) => Err(delivery_error(&name, failure)),
                None => Ok(Vec::new()),
            }
        })
    }
}

impl KafkaWriter {
    fn failed(&self, failure: &str) -> Error {
        delivery_error(&self.topic.name, failure)
    }

    fn produce_batch(&mut self, epoch: usize) -> Result<(), Error> {
        self.messages.clear();
        self.messages.reserve(self.encoded.len());
        for index in 0..self.encoded.len() {
            let value = self.encoded.record(index);
            let key = self.key.as_ref().map(|_| self.encoded_keys.record(index));
            self.messages.push(sys::rd_kafka_message_t {
                err: RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR,
                rkt: ptr::null_mut(),
                partition: next(self.partitioner, &mut self.next_partition, self.partitions),
                payload: value.as_ptr().cast_mut().cast::<c_void>(),
                len: value.len(),
                key: key.map_or(ptr::null_mut(), |key| key.as_ptr().cast_mut().cast::<c_void>()),
                key_len: key.map_or(0, <[u8]>::len),
                offset: 0,
                _private: ptr::without_provenance_mut(epoch),
            });
        }
        let result = self.topic.produce(&mut self.messages);
        self.messages.clear();
        result
    }
}

/// The partitioner decides.
const PARTITION_UNASSIGNED: i32 = -1;

/// The partition of the next record, where it is not the key that decides.
fn next(partitioner: Partitioner, next: &mut i32, partitions: i32) -> i32 {
    match partitioner {
        Partitioner::ByKey => PARTITION_UNASSIGNED,
        Partitioner::Fixed => *next % partitions,
        Partitioner::RoundRobin => {
            let partition = *next % partitions;
            *next = (partition + 1) % partitions;
            partition
        }
    }
}

fn select(rows: &RecordBatch, columns: &[usize], schema: &arrow_schema::SchemaRef) -> Result<RecordBatch, Error> {
    let columns = columns.iter().map(|&index| rows.column(index).clone()).collect();
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

fn delivery_error(topic: &str, failure: &str) -> Error {
    Error::Unavailable(format!("Kafka topic `{topic}`: rows were not delivered: {failure}"))
}

impl Drop for KafkaWriter {
    /// Rows that no checkpoint waits for any more are still given the chance to leave, off the slot's thread.
    fn drop(&mut self) {
        let producer = self.topic.producer.clone();
        drop(self.runtime.spawn_blocking(move || {
            if let Err(error) = producer.flush(Duration::from_secs(1)) {
                tracing::debug!(target: "kafka", "flush at the end: {error}");
            }
        }));
    }
}
