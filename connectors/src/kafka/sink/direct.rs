//! Writing at least once: records leave as soon as they are encoded, and a checkpoint waits until all have arrived.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};
use std::time::Duration;

use arrow_array::RecordBatch;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::producer::{Producer, ThreadedProducer};
use tokio::sync::watch;

use super::rows::RowEncoder;
use crate::kafka::client::Context;
use crate::kafka::reach::Reach;
use crate::kafka::topic::{Batch, Topic, WhenFull};
use crate::{Committable, Error, SinkWriter};

/// What may be on its way at a time; above it the writer says that it is not ready.
const IN_FLIGHT_RECORDS_MAX: u64 = 400_000;
const IN_FLIGHT_BYTES_MAX: u64 = 64 << 20;

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

pub struct DirectWriter {
    topic: Topic,
    shared: Arc<Shared>,
    rows: RowEncoder,
    batch: Batch,
    runtime: tokio::runtime::Handle,
}

impl DirectWriter {
    pub fn new(
        client: &ClientConfig,
        topic: &str,
        rows: RowEncoder,
        runtime: tokio::runtime::Handle,
        reach: Arc<Reach>,
    ) -> Result<Self, Error> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State::default()),
            progress: watch::Sender::new(Progress::default()),
        });
        let of_context = shared.clone();
        let producer: ThreadedProducer<Context> = client
            .create_with_context(Context::reaching(reach).with_deliveries(move |epoch, bytes, error| {
                of_context.delivered(epoch, bytes, error);
            }))
            .map_err(|error| Error::Invalid(format!("Kafka topic `{topic}`: client: {error}")))?;
        Ok(Self {
            topic: Topic::new(producer, topic)?,
            shared,
            rows,
            batch: Batch::default(),
            runtime,
        })
    }
}

impl SinkWriter for DirectWriter {
    fn poll_ready(&mut self, context: &mut TaskContext<'_>) -> Poll<Result<(), Error>> {
        if let Some(failure) = self.shared.failure() {
            return Poll::Ready(Err(delivery_error(&self.topic.name, &failure)));
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
        self.rows.encode(rows)?;
        let (count, values) = (self.rows.len() as u64, self.rows.value_bytes());
        // Before the records leave, since their deliveries subtract them.
        let epoch = self.shared.state.lock().leave(count, values);
        if self.rows.is_plain() {
            let records = self.rows.plain_records();
            self.topic
                .produce_batch(&mut self.batch, records, epoch, WhenFull::Refuse)?;
        } else {
            let topic = &self.topic;
            self.rows
                .each_record(rows, |record| topic.produce(record, epoch, WhenFull::Refuse))?;
        }
        Ok(values + self.rows.key_bytes())
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

fn delivery_error(topic: &str, failure: &str) -> Error {
    Error::Unavailable(format!("Kafka topic `{topic}`: rows were not delivered: {failure}"))
}

impl Drop for DirectWriter {
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
