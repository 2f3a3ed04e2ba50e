//! The compacted topic of markers, which record the published epochs.
//!
//! A marker is a record with the key `<transactional id>/<attempt>` and a [`Marker`] in JSON as its value, produced in
//! the transaction that it describes. Compaction retains the last marker of each key, so the topic has one record for
//! each attempt of each subtask that ever published. The oldest are deleted ([`ATTEMPTS_MAX`], [`ATTEMPT_AGE_MAX_MS`]):
//! a floor (`<transactional id>/floor`) then records the time up to which all prepared epochs are published.
//!
//! All markers of one sink are in one partition, because reading them to the end has to wait for the open transactions
//! of other sinks in the same partition.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::epoch::{MarkerPartition, PendingEpoch};
use super::marker_topic::PARTITIONS;
use crate::Error;
use crate::kafka::client::REQUEST_TIMEOUT;
use crate::kafka::client_config::creation_error;
use crate::kafka::client_context::Context;
use crate::kafka::error_code;
use crate::kafka::partition_queue::PartitionQueue;

/// Most attempts of one transactional id with a marker.
pub const ATTEMPTS_MAX: usize = 1000;
/// Age at which markers are deleted when their id publishes, in milliseconds.
pub const ATTEMPT_AGE_MAX_MS: i64 = 90 * 24 * 3600 * 1000;
/// Most records taken from the queue at once.
const FETCHED_MAX: usize = 1024;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const VERSION: u8 = 1;
const FLOOR: &str = "floor";

/// The progress of publishing the epochs of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Version of the encoding.
    pub version: u8,
    /// Id of the last checkpoint; all earlier ones of the attempt are published.
    pub checkpoint: u64,
    /// Number of parts of this checkpoint that are published.
    pub parts: usize,
    /// Time at which the epoch was prepared, milliseconds since 1970.
    pub prepared_ms: i64,
}

/// The published epochs of one transactional id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    /// Markers by attempt.
    pub attempts: BTreeMap<String, Marker>,
    /// Time up to which the epochs of all other attempts are published, by the time they were prepared.
    pub floor_ms: Option<i64>,
}

impl Marker {
    /// Encodes the marker as JSON.
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers can be written")
    }
}

impl Published {
    /// Returns the number of an epoch's parts that are published.
    pub fn parts(&self, pending: &PendingEpoch) -> usize {
        let epoch = &pending.epoch;
        let all = pending.parts().len();
        match self.attempts.get(&epoch.attempt) {
            Some(marker) if marker.checkpoint > epoch.checkpoint => all,
            Some(marker) if marker.checkpoint == epoch.checkpoint => marker.parts.min(all),
            Some(_) => 0,
            None if self.floor_ms.is_some_and(|floor_ms| epoch.prepared_ms <= floor_ms) => all,
            None => 0,
        }
    }

    /// Returns true if all parts of an epoch are published.
    pub fn is_published(&self, pending: &PendingEpoch) -> bool {
        self.parts(pending) == pending.parts().len()
    }

    /// Removes the oldest attempts, and raises the floor to them. Returns the removed attempts.
    pub fn expire(&mut self, now_ms: i64, attempts_max: usize) -> Vec<String> {
        let mut by_age: Vec<(i64, String)> = self
            .attempts
            .iter()
            .map(|(attempt, marker)| (marker.prepared_ms, attempt.clone()))
            .collect();
        by_age.sort();
        let too_many = by_age.len().saturating_sub(attempts_max);
        let mut forgotten = Vec::new();
        for (index, (prepared_ms, attempt)) in by_age.into_iter().enumerate() {
            if index < too_many || prepared_ms < now_ms - ATTEMPT_AGE_MAX_MS {
                self.attempts.remove(&attempt);
                self.floor_ms = self.floor_ms.max(Some(prepared_ms));
                forgotten.push(attempt);
            }
        }
        forgotten
    }
}

/// Returns the partition of a sink's markers, by the common prefix of its ids.
pub fn marker_partition(topic: &str, base: &str) -> MarkerPartition {
    let partition = xxh3_64(base.as_bytes()) % PARTITIONS as u64;
    MarkerPartition {
        topic: topic.to_string(),
        partition: i32::try_from(partition).expect("less than 16"),
    }
}

/// Returns the marker of an epoch of which `parts` parts are published.
pub fn marker_of(pending: &PendingEpoch, parts: usize) -> Marker {
    Marker {
        version: VERSION,
        checkpoint: pending.epoch.checkpoint,
        parts,
        prepared_ms: pending.epoch.prepared_ms,
    }
}

/// Returns the key of a marker.
pub fn key(transactional_id: &str, attempt: &str) -> String {
    format!("{transactional_id}/{attempt}")
}

/// Returns the key and value of a floor.
pub fn floor_record(transactional_id: &str, floor_ms: i64) -> (String, Option<String>) {
    (key(transactional_id, FLOOR), Some(floor_ms.to_string()))
}

/// The end of reading markers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadUntil {
    /// The first open transaction: parts that are not listed may be published.
    Committed,
    /// The end of the partition, after all open transactions have ended: parts that are not listed are not published.
    End,
}

/// Reads all markers of one partition, by transactional id. Blocks.
pub fn read(
    connection: &ClientConfig,
    partition: &MarkerPartition,
    until: ReadUntil,
    timeout: Duration,
) -> Result<BTreeMap<String, Published>, Error> {
    let deadline = Instant::now() + timeout;
    let consumer = |isolation: &str| -> Result<BaseConsumer<Context>, Error> {
        connection
            .clone()
            .set("group.id", "millstream-markers")
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("isolation.level", isolation)
            .create_with_context(Context::new())
            .map_err(|error| creation_error(connection, &error))
    };
    let MarkerPartition {
        topic,
        partition: number,
    } = partition;
    // The end offset depends on the isolation level of the consumer.
    let end_consumer = consumer(match until {
        ReadUntil::Committed => "read_committed",
        ReadUntil::End => "read_uncommitted",
    })?;
    let (low, high) = ends(&end_consumer, partition, deadline.min(Instant::now() + REQUEST_TIMEOUT))?;
    let mut markers = BTreeMap::new();
    if high <= low {
        return Ok(markers);
    }
    let committed = Arc::new(consumer("read_committed")?);
    let mut queue = PartitionQueue::new(committed.clone(), topic, *number, Waker::noop().clone())?;
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, *number, Offset::Offset(low))
        .and_then(|()| committed.assign(&assignment))
        .map_err(|error| not_readable(partition, &committed, &error))?;
    let mut next = low;
    let mut fetched = Vec::new();
    while next < high {
        Context::serve(&committed)?;
        queue.take_within(FETCHED_MAX, 50, &mut fetched)?;
        for message in fetched.drain(..) {
            match message.error() {
                RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {
                    next = message.offset() + 1;
                    apply(&mut markers, message.key(), message.payload())?;
                }
                // Offsets of aborted records and of transaction markers have no records.
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => next = next.max(message.offset()),
                // librdkafka retries, up to the deadline.
                _ => tracing::debug!(target: "kafka", "{topic}-{number}: {}", message.error_text()),
            }
        }
        if next < high && Instant::now() >= deadline {
            return Err(Error::Unavailable(format!(
                "Kafka topic `{topic}`: partition {number} cannot be read further than offset {next} of {high} within \
                 {} s: a transaction may be open there. It ends by its timeout at the latest; if it does not, it hangs: \
                 end it with Kafka's `kafka-transactions.sh find-hanging` and `abort`",
                timeout.as_secs()
            )));
        }
    }
    Ok(markers)
}

/// Returns the first offset and the end offset. Retries while the leaders of a new topic do not know it yet.
fn ends(consumer: &BaseConsumer<Context>, partition: &MarkerPartition, deadline: Instant) -> Result<(i64, i64), Error> {
    use RDKafkaErrorCode as Code;
    loop {
        let error = match consumer.fetch_watermarks(&partition.topic, partition.partition, REQUEST_TIMEOUT) {
            Ok(ends) => return Ok(ends),
            Err(error) => error,
        };
        let is_temporary = matches!(
            error.rdkafka_error_code(),
            Some(Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::UnknownTopicOrPartition)
        );
        if !is_temporary || Instant::now() >= deadline {
            return Err(not_readable(partition, consumer, &error));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

fn not_readable(partition: &MarkerPartition, consumer: &BaseConsumer<Context>, error: &KafkaError) -> Error {
    let problem = consumer.context().last_problem().unwrap_or_else(|| error.to_string());
    error_code::error(
        error.rdkafka_error_code(),
        format!(
            "Kafka topic `{}`: the markers of published epochs cannot be read from partition {}: {problem}",
            partition.topic, partition.partition
        ),
    )
}

/// Applies one record to the markers.
fn apply(markers: &mut BTreeMap<String, Published>, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), Error> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let foreign = || {
        Error::Invalid(format!(
            "the topic of markers has a record that is not a marker (key `{}`): nothing else may write to it; name \
             another topic with 'sink.markers-topic'",
            key.map(text).unwrap_or_default()
        ))
    };
    let key_text = text(key.ok_or_else(foreign)?);
    let (transactional_id, attempt) = key_text.rsplit_once('/').ok_or_else(foreign)?;
    let published = markers.entry(transactional_id.to_string()).or_default();
    match value {
        None => {
            published.attempts.remove(attempt);
        }
        Some(value) if attempt == FLOOR => published.floor_ms = Some(text(value).parse().map_err(|_| foreign())?),
        Some(value) => {
            let marker: Marker = serde_json::from_slice(value).map_err(|_| foreign())?;
            if marker.version != VERSION {
                return Err(Error::Invalid(format!(
                    "the topic of markers has a marker of version {}, this engine reads {VERSION}: a newer engine has \
                     written it",
                    marker.version
                )));
            }
            published.attempts.insert(attempt.to_string(), marker);
        }
    }
    Ok(())
}
