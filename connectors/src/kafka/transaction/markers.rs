//! The compacted topic that remembers what was published.
//!
//! A marker is a record with the key `<transactional id>/<attempt>` and a [`Marker`] in JSON as its value, produced in
//! the transaction that it speaks of. Compaction keeps the last one of each key, so the topic holds one record for each
//! attempt of each subtask that ever published. The oldest are forgotten ([`KEPT_MAX`], [`KEPT_AGE_MAX_MS`]): a floor
//! (`<transactional id>/floor`) then says that whatever was prepared before it was published.
//!
//! All markers of one sink are in one partition: reading them "to the end" must wait for transactions that others have
//! open there, and few sinks should ever wait for one another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::epoch::{MarkerPlace, Pending};
use crate::Error;
use crate::kafka::client::{self, Context, REQUEST_TIMEOUT};
use crate::kafka::queue::PartitionQueue;

/// Markers are in partitions 0 to 15, for ever: more partitions would be left empty, fewer are refused.
pub const PARTITIONS: i32 = 16;
/// Attempts remembered of one transactional id.
pub const KEPT_MAX: usize = 1000;
/// Older markers are forgotten when their id publishes something.
pub const KEPT_AGE_MAX_MS: i64 = 90 * 24 * 3600 * 1000;
/// Settings of the topic when this connector makes it: small segments, so that compaction comes to them.
const TOPIC_CONFIG: [(&str, &str); 4] = [
    ("cleanup.policy", "compact"),
    ("segment.bytes", "16777216"),
    ("segment.ms", "86400000"),
    ("min.cleanable.dirty.ratio", "0.1"),
];
const FETCHED_MAX: usize = 1024;
const RETRY_PAUSE: Duration = Duration::from_millis(50);
const VERSION: u8 = 1;
const FLOOR: &str = "floor";

/// How far the epochs of one attempt are out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    pub version: u8,
    /// All earlier checkpoints of the attempt are out; of this one the first `parts` parts.
    pub checkpoint: u64,
    pub parts: usize,
    /// When the epoch was prepared, milliseconds since 1970.
    pub prepared_ms: i64,
}

/// What is known of one transactional id.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Published {
    pub attempts: BTreeMap<String, Marker>,
    /// Epochs of attempts that are not listed are out if they were prepared up to then.
    pub floor_ms: Option<i64>,
}

impl Marker {
    pub fn encode(&self) -> String {
        serde_json::to_string(self).expect("numbers can be written")
    }
}

impl Published {
    /// How many of the epoch's parts are out.
    pub fn parts(&self, pending: &Pending) -> usize {
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

    pub fn is_out(&self, pending: &Pending) -> bool {
        self.parts(pending) == pending.parts().len()
    }

    /// Takes out the attempts that need not be remembered any more; the floor rises over them.
    pub fn forget_old(&mut self, now_ms: i64, kept_max: usize) -> Vec<String> {
        let mut by_age: Vec<(i64, String)> = self
            .attempts
            .iter()
            .map(|(attempt, marker)| (marker.prepared_ms, attempt.clone()))
            .collect();
        by_age.sort();
        let too_many = by_age.len().saturating_sub(kept_max);
        let mut forgotten = Vec::new();
        for (index, (prepared_ms, attempt)) in by_age.into_iter().enumerate() {
            if index < too_many || prepared_ms < now_ms - KEPT_AGE_MAX_MS {
                self.attempts.remove(&attempt);
                self.floor_ms = self.floor_ms.max(Some(prepared_ms));
                forgotten.push(attempt);
            }
        }
        forgotten
    }
}

/// Which partition the markers of a sink's ids are in.
pub fn place(topic: &str, base: &str) -> MarkerPlace {
    let partition = xxh3_64(base.as_bytes()) % PARTITIONS as u64;
    MarkerPlace {
        topic: topic.to_string(),
        partition: i32::try_from(partition).expect("less than 16"),
    }
}

/// What to write when so many parts of an epoch are out.
pub fn of(pending: &Pending, parts: usize) -> Marker {
    Marker {
        version: VERSION,
        checkpoint: pending.epoch.checkpoint,
        parts,
        prepared_ms: pending.epoch.prepared_ms,
    }
}

pub fn key(transactional_id: &str, attempt: &str) -> String {
    format!("{transactional_id}/{attempt}")
}

pub fn floor_record(transactional_id: &str, floor_ms: i64) -> (String, Option<String>) {
    (key(transactional_id, FLOOR), Some(floor_ms.to_string()))
}

/// How far markers are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// To the first transaction that is open: what is listed is out, what is not may be.
    Committed,
    /// To the end, waiting for transactions that are open: what is not listed is not out.
    End,
}

/// All markers of one partition, by transactional id. Blocks.
pub fn read(
    connection: &ClientConfig,
    place: &MarkerPlace,
    until: Until,
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
            .map_err(|error| client::refused(connection, &error))
    };
    let MarkerPlace { topic, partition } = place;
    // A consumer asks for the end as it sees it.
    let of_end = consumer(match until {
        Until::Committed => "read_committed",
        Until::End => "read_uncommitted",
    })?;
    let (low, high) = ends(&of_end, place, deadline.min(Instant::now() + REQUEST_TIMEOUT))?;
    let mut markers = BTreeMap::new();
    if high <= low {
        return Ok(markers);
    }
    let committed = Arc::new(consumer("read_committed")?);
    let mut queue = PartitionQueue::new(committed.clone(), topic, *partition, Waker::noop().clone())?;
    let mut assignment = TopicPartitionList::new();
    assignment
        .add_partition_offset(topic, *partition, Offset::Offset(low))
        .and_then(|()| committed.assign(&assignment))
        .map_err(|error| not_readable(place, &committed, &error))?;
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
                // Offsets of aborted records and of transactions' ends hold nothing to read.
                RDKafkaRespErr::RD_KAFKA_RESP_ERR__PARTITION_EOF => next = next.max(message.offset()),
                // librdkafka tries again by itself, up to the deadline.
                _ => tracing::debug!(target: "kafka", "{topic}-{partition}: {}", message.error_text()),
            }
        }
        if next < high && Instant::now() >= deadline {
            return Err(Error::Unavailable(format!(
                "Kafka topic `{topic}`: partition {partition} cannot be read further than offset {next} of {high} within \
                 {} s: a transaction may be open there. It ends by its timeout at the latest; if it does not, it hangs: \
                 end it with Kafka's `kafka-transactions.sh find-hanging` and `abort`",
                timeout.as_secs()
            )));
        }
    }
    Ok(markers)
}

/// First offset and end. A topic that was made a moment ago has leaders that do not know of it yet.
fn ends(consumer: &BaseConsumer<Context>, place: &MarkerPlace, deadline: Instant) -> Result<(i64, i64), Error> {
    use RDKafkaErrorCode as Code;
    loop {
        let error = match consumer.fetch_watermarks(&place.topic, place.partition, REQUEST_TIMEOUT) {
            Ok(ends) => return Ok(ends),
            Err(error) => error,
        };
        let may_pass = matches!(
            error.rdkafka_error_code(),
            Some(Code::NotLeaderForPartition | Code::LeaderNotAvailable | Code::UnknownTopicOrPartition)
        );
        if !may_pass || Instant::now() >= deadline {
            return Err(not_readable(place, consumer, &error));
        }
        std::thread::sleep(RETRY_PAUSE);
    }
}

fn not_readable(place: &MarkerPlace, consumer: &BaseConsumer<Context>, error: &KafkaError) -> Error {
    let problem = consumer.context().last_problem().unwrap_or_else(|| error.to_string());
    Error::Unavailable(format!(
        "Kafka topic `{}`: what was published before cannot be read from partition {}: {problem}",
        place.topic, place.partition
    ))
}

fn apply(markers: &mut BTreeMap<String, Published>, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<(), Error> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let foreign = || {
        Error::Invalid(format!(
            "the topic of markers holds a record that is none (key `{}`): nothing else may write to it; give another \
             with 'sink.markers-topic'",
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
                    "the topic of markers holds one of version {}, this engine reads {VERSION}: a newer one has written \
                     it",
                    marker.version
                )));
            }
            published.attempts.insert(attempt.to_string(), marker);
        }
    }
    Ok(())
}

/// Makes sure that the topic is there and compacted.
pub async fn ensure_topic(connection: &ClientConfig, topic: &str) -> Result<(), Error> {
    let admin: AdminClient<DefaultClientContext> = connection
        .create()
        .map_err(|error| client::refused(connection, &error))?;
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    if partitions_of(&admin, topic)? == 0 {
        let new = TOPIC_CONFIG.iter().fold(
            NewTopic::new(topic, PARTITIONS, TopicReplication::Fixed(-1)),
            |new, (name, value)| new.set(name, value),
        );
        let made = admin.create_topics([&new], &options).await;
        let made =
            made.map_err(|error| Error::Unavailable(format!("Kafka topic `{topic}` cannot be made: {error}")))?;
        for result in made {
            match result {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((_, code)) => {
                    return Err(Error::Unavailable(format!(
                        "Kafka topic `{topic}` cannot be made: {code}. Exactly-once delivery keeps there what was \
                         published: make it by hand, with {PARTITIONS} partitions and cleanup.policy=compact"
                    )));
                }
            }
        }
        wait_for(&admin, topic).await?;
    }
    let partitions = partitions_of(&admin, topic)?;
    if partitions < PARTITIONS {
        return Err(Error::Invalid(format!(
            "Kafka topic `{topic}` has {partitions} partitions; exactly-once delivery keeps its markers in {PARTITIONS}: \
             make it with so many, or name another with 'sink.markers-topic'"
        )));
    }
    match topic_config(connection, topic, "cleanup.policy").await {
        Some(policy) if policy != "compact" => Err(Error::Invalid(format!(
            "Kafka topic `{topic}` has cleanup.policy={policy}: what was published would be forgotten, and rows written \
             twice; set it to compact, or name another topic with 'sink.markers-topic'"
        ))),
        _ => Ok(()),
    }
}

/// Whether anything was ever published with markers there.
pub fn has_topic(connection: &ClientConfig, topic: &str) -> Result<bool, Error> {
    let admin: AdminClient<DefaultClientContext> = connection
        .create()
        .map_err(|error| client::refused(connection, &error))?;
    Ok(partitions_of(&admin, topic)? > 0)
}

/// One setting of a topic, if it may be seen.
pub async fn topic_config(client: &ClientConfig, topic: &str, setting: &str) -> Option<String> {
    let admin: Result<AdminClient<DefaultClientContext>, KafkaError> = client::connection(client).create();
    let options = AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT));
    let found = match admin {
        Ok(admin) => {
            admin
                .describe_configs([&ResourceSpecifier::Topic(topic)], &options)
                .await
        }
        Err(error) => Err(error),
    };
    let hidden = |why: String| tracing::debug!(target: "kafka", "settings of {topic} cannot be seen: {why}");
    match found.map(|found| found.into_iter().next()) {
        Ok(Some(Ok(resource))) => resource.get(setting)?.value.clone(),
        Ok(Some(Err(code))) => {
            hidden(code.to_string());
            None
        }
        Ok(None) => None,
        Err(error) => {
            hidden(error.to_string());
            None
        }
    }
}

/// 0: there is no such topic.
fn partitions_of(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<i32, Error> {
    // All topics: asking for one would make the broker create it, with settings of its own.
    let metadata = admin
        .inner()
        .fetch_metadata(None, REQUEST_TIMEOUT)
        .map_err(|error| Error::Unavailable(format!("Kafka: the topics cannot be listed: {error}")))?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let ready = found.map_or(0, |topic| {
        topic
            .partitions()
            .iter()
            .filter(|partition| partition.leader() >= 0)
            .count()
    });
    Ok(i32::try_from(ready).unwrap_or(i32::MAX))
}

async fn wait_for(admin: &AdminClient<DefaultClientContext>, topic: &str) -> Result<(), Error> {
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    while partitions_of(admin, topic)? < PARTITIONS {
        if Instant::now() >= deadline {
            return Err(Error::Unavailable(format!(
                "Kafka topic `{topic}` was made, but its partitions have no leaders after {} s",
                REQUEST_TIMEOUT.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}
