//! The reader of one subtask's partitions.
//!
//! Threads of librdkafka fetch records into one bounded queue per partition. A poll takes at most one batch from the
//! queue of one partition, and never blocks; a queue that is no longer empty wakes the slot.

use std::collections::VecDeque;
use std::sync::Arc;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

use super::broker_health::BrokerHealth;
use super::client_config::creation_error;
use super::client_context::Context;
use super::partition_queue::{FetchedMessage, PartitionQueue};
use super::record_decoder::RecordDecoder;
use super::split::{self, Position};
use crate::{Error, ReaderContext, SourceBatch, SourceEvent, SourceReader, Split};

/// The reader of one subtask.
pub(super) struct KafkaReader {
    config: ClientConfig,
    brokers: String,
    broker_health: Arc<BrokerHealth>,
    decoder: RecordDecoder,
    context: ReaderContext,
    /// Dropped before `consumer`, which their queues belong to.
    partitions: Vec<PartitionReader>,
    /// Created with the first split.
    consumer: Option<Arc<BaseConsumer<Context>>>,
    /// Index of the partition to poll next.
    next: usize,
    no_more_splits: bool,
    /// Records of the next batch.
    batch: Vec<FetchedMessage>,
}

/// The state of one partition.
struct PartitionReader {
    id: Arc<str>,
    topic: String,
    number: i32,
    position: Position,
    weight: u64,
    /// `None` once the end of the split is reached.
    queue: Option<PartitionQueue>,
    /// Records taken from the queue and not yet delivered.
    fetched: VecDeque<FetchedMessage>,
    /// True if the end of the partition was reached and not yet reported.
    is_caught_up: bool,
    /// True once the end of the split was reported.
    finished: bool,
}

impl KafkaReader {
    /// Creates a reader without splits.
    pub(super) fn new(
        config: ClientConfig,
        brokers: String,
        broker_health: Arc<BrokerHealth>,
        decoder: RecordDecoder,
        context: ReaderContext,
    ) -> Self {
        Self {
            config,
            brokers,
            broker_health,
            decoder,
            context,
            partitions: Vec::new(),
            consumer: None,
            next: 0,
            no_more_splits: false,
            batch: Vec::new(),
        }
    }

    /// Returns the consumer, and creates it at the first call.
    fn consumer(&mut self) -> Result<Arc<BaseConsumer<Context>>, Error> {
        if let Some(consumer) = &self.consumer {
            return Ok(consumer.clone());
        }
        let mut consumer: BaseConsumer<Context> = self
            .config
            .create_with_context(self.broker_health.client_context())
            .map_err(|error| creation_error(&self.config, &error))?;
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
            let (topic, number) = split::parse_id(&split.id)?;
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
            self.partitions.push(PartitionReader {
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
        let bytes = partition.fill_batch(
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
            // A split that was added at its end was never assigned.
            Err(error) => {
                tracing::debug!(target: "kafka", "{}: {error}", partition.id);
                Ok(())
            }
        }
    }
}

impl PartitionReader {
    /// Moves records to `batch` until it is full, the queue is empty or the end of the partition is reached, and
    /// advances the position. Returns the size of the records in bytes.
    fn fill_batch(
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
                        // The remaining offsets before the end have no records (compaction, transaction markers).
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
                        // A tombstone, which deletes a key and is a row in the format raw only.
                        None => {
                            metrics::counter!("millstream_kafka_tombstones_total").increment(1);
                            if keeps_tombstones {
                                batch.push(message);
                            }
                        }
                    }
                }
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => {
                    // Offsets without records count as read.
                    self.position.next = self.position.next.max(message.offset());
                    self.is_caught_up = true;
                    break;
                }
                code => self.on_error(code, &message.error_text())?,
            }
        }
        Ok(bytes as u64)
    }

    /// Returns an error for a permanent problem; librdkafka retries the others.
    fn on_error(&self, code: RDKafkaRespErr, text: &str) -> Result<(), Error> {
        use RDKafkaRespErr as Code;
        match code {
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET | Code::RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE => {
                let known = self.queue.as_ref().and_then(PartitionQueue::known_offsets);
                let available = match known {
                    Some((low, high)) => format!("it has {low} to {high}"),
                    None => text.to_string(),
                };
                Err(Error::Invalid(format!(
                    "{}: the offset {} to read from is not in the partition ({available}): its records were deleted by \
                     retention, or the topic was created again. The records are lost; to continue, start from another \
                     offset: without the old checkpoints, with 'scan.startup.mode'",
                    self.id, self.position.next
                )))
            }
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC
            | Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION => Err(Error::Unavailable(format!(
                "the partition {} does not exist any more ({text}): the topic was deleted, or created again with fewer \
                 partitions; create it, or start without the old checkpoints",
                self.id
            ))),
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED => Err(Error::Invalid(format!(
                "not allowed to read {} ({text}): grant READ on the topic to the user of 'properties.sasl.username'",
                self.id
            ))),
            _ => {
                tracing::warn!(target: "kafka", "{}: {text}", self.id);
                Ok(())
            }
        }
    }

    /// Returns the number of records after the position, as of the last fetch.
    fn lag(&self) -> Option<u64> {
        let (_, high) = self.queue.as_ref()?.known_offsets()?;
        u64::try_from(high - self.position.next).ok()
    }
}

impl Drop for KafkaReader {
    /// Closes the consumer on a blocking thread, because that waits for the consumer's threads.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> PartitionReader {
        PartitionReader {
            id: "orders-3".into(),
            topic: "orders".into(),
            number: 3,
            position: Position { next: 7, end: None },
            weight: 0,
            queue: None,
            fetched: VecDeque::new(),
            is_caught_up: false,
            finished: false,
        }
    }

    #[test]
    fn errors_that_a_restart_cannot_change_are_permanent() {
        use RDKafkaRespErr as Code;
        #[track_caller]
        fn check(code: Code, is_retryable: bool, expected: &str) {
            let error = partition().on_error(code, "refused").unwrap_err();
            assert_eq!(error.retry().is_retryable(), is_retryable, "{error:?}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        // A broker that has just started may not know of the topic yet.
        for code in [
            Code::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
            Code::RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION,
        ] {
            check(code, true, "the partition orders-3 does not exist any more");
        }
        check(
            Code::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
            false,
            "not allowed to read orders-3 (refused)",
        );
        check(
            Code::RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET,
            false,
            "the offset 7 to read from is not in the partition",
        );
    }

    #[test]
    fn errors_that_the_client_retries_do_not_fail_the_reader() {
        for code in [
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN,
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        ] {
            assert!(partition().on_error(code, "refused").is_ok(), "{code:?}");
        }
    }
}
