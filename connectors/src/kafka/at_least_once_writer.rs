//! The writer of at-least-once delivery: records are produced as soon as they are encoded, and a checkpoint waits until
//! all of them are delivered. With a buffer ([`UpsertBuffer`]) they are produced when it is full, by a timer, and at
//! each checkpoint.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use arrow_array::RecordBatch;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rdkafka::error::KafkaError;
use rdkafka::producer::{Producer, ThreadedProducer};
use tokio::sync::watch;

use super::broker_health::BrokerHealth;
use super::client_context::Context;
use super::error_code;
use super::options::SinkOptions;
use super::record_encoder::RecordEncoder;
use super::topic_producer::{Batch, QueueFullPolicy, TopicProducer, flush};
use super::upsert_buffer::UpsertBuffer;
use crate::{Committable, Error, SinkWriter};

/// Number of records in flight at which the writer applies backpressure.
const IN_FLIGHT_RECORDS_MAX: u64 = 400_000;
/// Bytes in flight at which the writer applies backpressure.
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

/// The state shared by the writer and librdkafka's polling thread.
struct Shared {
    state: Mutex<State>,
    progress: watch::Sender<Progress>,
}

/// Records in flight, counted by epoch, the time between two checkpoints. Partitions deliver in any order, so a total
/// would not tell how many records in flight precede the barrier.
#[derive(Default)]
struct State {
    records_in_flight: u64,
    bytes_in_flight: u64,
    /// Oldest epoch with records in flight.
    first_epoch: usize,
    /// Number of records in flight of each epoch from `first_epoch` to the present one.
    in_flight: VecDeque<u64>,
    blocked: Option<Waker>,
}

#[derive(Debug, Default, Clone)]
struct Progress {
    /// Oldest epoch with records in flight.
    first_epoch: usize,
    /// First error of a record that was not delivered.
    failure: Option<KafkaError>,
}

impl State {
    /// Counts records that are about to be produced. Returns the present epoch.
    fn add(&mut self, records: u64, bytes: u64) -> usize {
        self.records_in_flight += records;
        self.bytes_in_flight += bytes;
        match self.in_flight.back_mut() {
            Some(count) => *count += records,
            None => self.in_flight.push_back(records),
        }
        self.first_epoch + self.in_flight.len() - 1
    }

    /// Ends the oldest epochs that have no records in flight.
    fn advance(&mut self) {
        while self.in_flight.len() > 1 && self.in_flight.front() == Some(&0) {
            self.in_flight.pop_front();
            self.first_epoch += 1;
        }
    }
}

impl Shared {
    fn delivered(&self, epoch: usize, bytes: usize, error: Option<KafkaError>) {
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
        state.advance();
        let first_epoch = state.first_epoch;
        let has_capacity =
            state.records_in_flight < IN_FLIGHT_RECORDS_MAX / 2 && state.bytes_in_flight < IN_FLIGHT_BYTES_MAX / 2;
        let waker = if has_capacity || error.is_some() {
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

    fn failure(&self) -> Option<KafkaError> {
        self.progress.borrow().failure.clone()
    }
}

/// The writer of a subtask under at-least-once delivery.
pub(super) struct AtLeastOnceWriter {
    /// Shared with the timer that writes the buffer.
    output: Arc<Mutex<Output>>,
    shared: Arc<Shared>,
    rows: RecordEncoder,
    topic: String,
    producer: ThreadedProducer<Context>,
    runtime: tokio::runtime::Handle,
}

/// The producer of a writer, with the records that are kept back.
struct Output {
    topic: TopicProducer,
    shared: Arc<Shared>,
    batch: Batch,
    buffer: Option<UpsertBuffer>,
}

impl Output {
    /// Produces the records of the present batch of `rows`, or adds them to the buffer.
    fn write(&mut self, rows: &mut RecordEncoder) -> Result<(), Error> {
        if let Some(buffer) = &mut self.buffer {
            rows.each_record(|record| {
                buffer.insert(record);
                Ok(())
            })?;
            return match buffer.is_full() {
                true => self.flush_buffer(),
                false => Ok(()),
            };
        }
        // Counted before the records are produced, because their delivery reports subtract them.
        let epoch = self.shared.state.lock().add(rows.len() as u64, rows.value_bytes());
        if rows.is_plain() {
            let records = rows.plain_records();
            self.topic
                .produce_batch(&mut self.batch, records, epoch, QueueFullPolicy::Refuse)
        } else {
            rows.each_record(|record| self.topic.produce(record, epoch, QueueFullPolicy::Refuse))
        }
    }

    /// Produces the records of the buffer. After an error they stay there, and may be produced again.
    fn flush_buffer(&mut self) -> Result<(), Error> {
        let Some(buffer) = &mut self.buffer else { return Ok(()) };
        if buffer.len() == 0 {
            return Ok(());
        }
        let epoch = {
            let mut state = self.shared.state.lock();
            state.add(buffer.len() as u64, buffer.value_bytes() as u64)
        };
        for record in buffer.records() {
            self.topic.produce(&record, epoch, QueueFullPolicy::Refuse)?;
        }
        buffer.clear();
        Ok(())
    }
}

/// Produces the records of the buffer at intervals, as long as its writer exists.
async fn flush_repeatedly(output: Weak<Mutex<Output>>, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(output) = output.upgrade() else { return };
        if let Err(error) = output.lock().flush_buffer() {
            // The next write or checkpoint reports it.
            tracing::debug!(target: "kafka", "the buffer of a sink was not written: {error}");
        }
    }
}

impl AtLeastOnceWriter {
    /// Creates a writer with a producer of its own.
    pub(super) fn new(
        options: &SinkOptions,
        rows: RecordEncoder,
        runtime: tokio::runtime::Handle,
        broker_health: Arc<BrokerHealth>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            progress: watch::Sender::new(Progress::default()),
        });
        let reported = shared.clone();
        let name = &options.topic;
        let producer: ThreadedProducer<Context> =
            options
                .client
                .create_with_context(broker_health.client_context().with_delivery_callback(
                    move |epoch, bytes, error| {
                        reported.delivered(epoch, bytes, error);
                    },
                ))
                .map_err(|error| Error::Invalid(format!("Kafka topic `{name}`: client: {error}")))?;
        let output = Arc::new(Mutex::new(Output {
            topic: TopicProducer::new(producer.clone(), name)?,
            shared: shared.clone(),
            batch: Batch::default(),
            buffer: options.buffer.map(UpsertBuffer::new),
        }));
        if let Some(buffer) = options.buffer {
            runtime.spawn(flush_repeatedly(Arc::downgrade(&output), buffer.interval));
        }
        Ok(Self {
            output,
            shared,
            rows,
            topic: name.clone(),
            producer,
            runtime,
        })
    }
}

impl SinkWriter for AtLeastOnceWriter {
    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        if let Some(failure) = self.shared.failure() {
            return Poll::Ready(Err(delivery_error(&self.topic, &failure)));
        }
        if let Some(error) = self.producer.client().context().failure() {
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
        self.rows.encode(rows)?;
        self.output.lock().write(&mut self.rows)?;
        Ok(self.rows.value_bytes() + self.rows.key_bytes())
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        if let Err(error) = self.output.lock().flush_buffer() {
            return Box::pin(std::future::ready(Err(error)));
        }
        let mut progress = self.shared.progress.subscribe();
        let next_epoch = {
            let mut state = self.shared.state.lock();
            if state.in_flight.is_empty() {
                state.in_flight.push_back(0);
            }
            state.in_flight.push_back(0);
            let next_epoch = state.first_epoch + state.in_flight.len() - 1;
            state.advance();
            let first_epoch = state.first_epoch;
            drop(state);
            self.shared
                .progress
                .send_modify(|progress| progress.first_epoch = progress.first_epoch.max(first_epoch));
            next_epoch
        };
        let name = self.topic.clone();
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

fn delivery_error(topic: &str, failure: &KafkaError) -> Error {
    error_code::error(
        failure.rdkafka_error_code(),
        format!("Kafka topic `{topic}`: rows were not delivered: {failure}"),
    )
}

impl Drop for AtLeastOnceWriter {
    /// Gives records in flight a last chance to be delivered, on a blocking thread.
    fn drop(&mut self) {
        let producer = self.producer.clone();
        drop(self.runtime.spawn_blocking(move || {
            if let Err(error) = flush(&producer, Duration::from_secs(1)) {
                tracing::debug!(target: "kafka", "flush at the end: {error}");
            }
        }));
    }
}
