//! Reads partitions for one subtask.
//!
//! librdkafka's own threads fetch into one bounded queue per partition. A poll takes what waits in one partition's
//! queue, up to a batch, and never blocks; an empty queue wakes the slot when it fills.

use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::client::{self, Context};
use super::queue::{FetchedMessage, PartitionQueue};
use super::reach::Reach;
use super::records::RecordDecoder;
use super::source::{Position, split_name};
use crate::{Error, ReaderContext, SourceBatch, SourceEvent, SourceReader, Split};

pub struct KafkaReader {
    config: ClientConfig,
    brokers: String,
    reach: Arc<Reach>,
    decoder: RecordDecoder,
    context: ReaderContext,
    /// Made with the first split. Before it in drop order are the queues that belong to it.
    partitions: Vec<Partition>,
    consumer: Option<Arc<BaseConsumer<Context>>>,
    /// Index of the partition whose turn it is.
    next: usize,
    no_more_splits: bool,
    /// The records of the batch being made.
    batch: Vec<FetchedMessage>,
}

struct Partition {
    id: Arc<str>,
    topic: String,
    number: i32,
    position: Position,
    weight: u64,
    /// `None` once its end is reached.
    queue: Option<PartitionQueue>,
    /// Taken from the queue, not yet delivered.
    fetched: VecDeque<FetchedMessage>,
    /// The end of the partition was seen, and not yet told.
    is_caught_up: bool,
    /// Its end was told.
    finished: bool,
}

impl KafkaReader {
    pub fn new(
        config: ClientConfig,
        brokers: String,
        reach: Arc<Reach>,
        decoder: RecordDecoder,
        context: ReaderContext,
    ) -> Self {
        Self {
            config,
            brokers,
            reach,
            decoder,
            context,
            partitions: Vec::new(),
            consumer: None,
            next: 0,
            no_more_splits: false,
            batch: Vec::new(),
        }
    }

    fn consumer(&mut self) -> Result<Arc<BaseConsumer<Context>>, Error> {
        if let Some(consumer) = &self.consumer {
            return Ok(consumer.clone());
        }
        let mut consumer: BaseConsumer<Context> = self
            .config
            .create_with_context(Context::reaching(self.reach.clone()))
            .map_err(|error| client::refused(&self.config, &error))?;
        let waker = self.context.waker.clone();
        consumer.set_nonempty_callback(move || waker.wake_by_ref());
        let consumer = Arc::new(consumer);
        self.consumer = Some(consumer.clone());
        Ok(consumer)
    }
}

impl SourceReader for KafkaReader {
    fn add_splits(&mut self, splits: Vec<Split>) -> Result<(), Error> {
        let mut added = TopicPartitionList::new();
        for split in splits {
            let position = Position::decode(&split)?;
            let (topic, number) = split_name(&split.id)?;
            let is_read = split.finished || position.end.is_some_and(|end| position.next >= end);
            let queue = if is_read {
                None
            } else {
                let consumer = self.consumer()?;
                added
                    .add_partition_offset(topic, number, Offset::Offset(position.next))
                    .map_err(|error| Error::Invalid(format!("Kafka: {}: {error}", split.id)))?;
                Some(PartitionQueue::new(
                    consumer,
                    topic,
                    number,
                    self.context.waker.clone(),
                )?)
            };
            self.partitions.push(Partition {
                topic: topic.to_string(),
                number,
                id: split.id.as_str().into(),
                position,
                weight: split.weight,
                queue,
                fetched: VecDeque::new(),
                is_caught_up: false,
                finished: split.finished,
            });
        }
        if added.count() > 0 {
            self.consumer()?
                .incremental_assign(&added)
                .map_err(|error| Error::Unavailable(format!("Kafka: cannot assign partitions: {error}")))?;
        }
        Ok(())
    }

    fn no_more_splits(&mut self) {
        self.no_more_splits = true;
    }

    fn poll(&mut self) -> Result<SourceEvent, Error> {
        if let Some(consumer) = &self.consumer {
            Context::serve(consumer)?;
        }
        for _ in 0..self.partitions.len() {
            let index = self.next;
            self.next = (self.next + 1) % self.partitions.len();
            if let Some(event) = self.poll_partition(index)? {
                return Ok(event);
            }
        }
        let is_done = self.no_more_splits && self.partitions.iter().all(|partition| partition.finished);
        Ok(if is_done {
            SourceEvent::End
        } else {
            SourceEvent::Pending
        })
    }

    fn snapshot(&mut self) -> Result<Vec<Split>, Error> {
        Ok(self
            .partitions
            .iter()
            .map(|partition| Split {
                id: partition.id.to_string(),
                position: partition.position.encode(),
                weight: partition.weight,
                finished: partition.finished,
            })
            .collect())
    }
}

impl KafkaReader {
    fn poll_partition(&mut self, index: usize) -> Result<Option<SourceEvent>, Error> {
        let partition = &mut self.partitions[index];
        if partition.finished {
            return Ok(None);
        }
        self.batch.clear();
        let bytes = partition.gather(
            &mut self.batch,
            self.context.batch_rows_max,
            self.context.batch_bytes_max,
            self.decoder.keeps_tombstones(),
        )?;
        if !self.batch.is_empty() {
            let lag = partition.lag();
            let (rows, rejected) =
                self.decoder
                    .decode(&self.batch, &partition.id, &partition.topic, partition.number)?;
            self.batch.clear();
            let split = partition.id.clone();
            return Ok(Some(SourceEvent::Batch(SourceBatch {
                split,
                rows,
                rejected,
                bytes,
                lag,
            })));
        }
        if partition.position.end.is_some_and(|end| partition.position.next >= end) {
            partition.finished = true;
            partition.fetched.clear();
            partition.queue = None;
            let event = SourceEvent::SplitFinished {
                split: partition.id.clone(),
            };
            self.unassign(index)?;
            return Ok(Some(event));
        }
        if std::mem::take(&mut partition.is_caught_up) {
            return Ok(Some(SourceEvent::CaughtUp {
                split: partition.id.clone(),
            }));
        }
        Ok(None)
    }

    fn unassign(&self, index: usize) -> Result<(), Error> {
        let (Some(consumer), partition) = (&self.consumer, &self.partitions[index]) else {
            return Ok(());
        };
        let mut list = TopicPartitionList::new();
        list.add_partition(&partition.topic, partition.number);
        match consumer.incremental_unassign(&list) {
            Ok(()) => Ok(()),
            // It was at its end when it was added and never assigned.
            Err(error) => {
                tracing::debug!(target: "kafka", "{}: {error}", partition.id);
                Ok(())
            }
        }
    }
}

impl Partition {
    /// Moves records to `batch` until it is full, the queue is empty or the partition's end is seen, and the position
    /// behind them. Returns their size in bytes.
    fn gather(
        &mut self,
        batch: &mut Vec<FetchedMessage>,
        rows_max: usize,
        bytes_max: usize,
        keeps_tombstones: bool,
    ) -> Result<u64, Error> {
        let Some(queue) = &mut self.queue else { return Ok(0) };
        if self.fetched.is_empty() {
            let mut taken = Vec::new();
            queue.take(rows_max.max(1), &mut taken)?;
            self.fetched = taken.into();
        }
        let mut bytes = 0;
        while batch.len() < rows_max.max(1) && bytes < bytes_max.max(1) {
            if self.position.end.is_some_and(|end| self.position.next >= end) {
                break;
            }
            let Some(message) = self.fetched.pop_front() else { break };
            match message.error() {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    if self.position.end.is_some_and(|end| message.offset() >= end) {
                        // The offsets before the end hold no records any more (compaction, transaction markers).
                        self.position.next = message.offset();
                        break;
                    }
                    self.is_caught_up = false;
                    self.position.next = message.offset() + 1;
                    match message.payload() {
                        Some(payload) => {
                            bytes += payload.len() + message.key().map_or(0, <[u8]>::len);
                            batch.push(message);
                        }
                        // A tombstone: it deletes a key and, but for raw bytes, holds no row.
                        None => {
                            metrics::counter!("millstream_kafka_tombstones_total").increment(1);
                            if keeps_tombstones {
                                batch.push(message);
                            }
                        }
                    }
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    // Offsets that hold no records to read count as read.
                    self.position.next = self.position.next.max(message.offset());
                    self.is_caught_up = true;
                    break;
                }
                code => self.on_error(code, &message.error_text())?,
            }
        }
        Ok(bytes as u64)
    }

    fn on_error(&self, code: RDKafkaRespErr, text: &str) -> Result<(), Error> {
        use RDKafkaRespErr as Code;
        match code {
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
                let known = self.queue.as_ref().and_then(PartitionQueue::known_offsets);
                let there_is = match known {
                    Some((low, high)) => format!("it has {low} to {high}"),
                    None => text.to_string(),
                };
                Err(Error::Unavailable(format!(
                    "{}: the offset {} to read from is not in the partition ({there_is}): its records were deleted by \
                     retention, or the topic was made anew. What is lost is lost; to go on, start from another place: \
                     without the old checkpoints, with 'scan.startup.mode'",
                    self.id, self.position.next
                )))
            }
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => Err(Error::Unavailable(format!(
                "the partition {} does not exist any more: was the topic deleted? ({text})",
                self.id
            ))),
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => {
                Err(Error::Unavailable(format!("not allowed to read {}: {text}", self.id)))
            }
            // librdkafka tries again by itself.
            _ => {
                tracing::warn!(target: "kafka", "{}: {text}", self.id);
                Ok(())
            }
        }
    }

    fn lag(&self) -> Option<u64> {
        let (_, high) = self.queue.as_ref()?.known_offsets()?;
        u64::try_from(high - self.position.next).ok()
    }
}

impl Drop for KafkaReader {
    /// Closing a consumer waits for its threads: not on the slot's.
    fn drop(&mut self) {
        self.batch.clear();
        let partitions = std::mem::take(&mut self.partitions);
        let Some(consumer) = self.consumer.take() else { return };
        drop(self.context.runtime.spawn_blocking(move || {
            drop(partitions);
            drop(consumer);
        }));
    }
}

impl std::fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KafkaReader")
            .field("brokers", &self.brokers)
            .finish_non_exhaustive()
    }
}
