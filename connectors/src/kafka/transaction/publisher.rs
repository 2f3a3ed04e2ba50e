//! The publisher of exactly-once delivery: produces each part of complete checkpoints once.
//!
//! A *session* is a producer with one transactional id, and the epochs that are published under the id. Opening a
//! session initialises the id and then reads the markers. As long as its transactions succeed, no other process has
//! used the id, so the known epochs are complete. After any failure the session is dropped and the next call opens
//! another, which reads from the markers if the failed transaction was committed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use millstream_fail_point as fail_point;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};

use super::epoch::{MarkerPartition, Part, PendingEpoch, RecordReader};
use super::marker_topic;
use super::markers::{self, Published, ReadUntil};
use super::part_reads::{PartReads, PartSources};
use super::recent_parts::RecentParts;
use crate::clock::now_us;
use crate::kafka::broker_health::BrokerHealth;
use crate::kafka::client::run_blocking;
use crate::kafka::client_config::{connection_config, creation_error};
use crate::kafka::client_context::Context;
use crate::kafka::topic_producer::{Batch, QueueFullPolicy, Record, TopicProducer, flush};
use crate::{Committable, Error, OutputStorage};

/// Most bytes of parts in one transaction, which has to end well within its timeout.
const TRANSACTION_BYTES_MAX: u64 = 32 << 20;
/// Most subtasks that publish at the same time, each with a producer of its own.
const SESSIONS_AT_ONCE_MAX: usize = 16;
/// Most records produced in one call of librdkafka.
const BATCH_RECORDS_MAX: usize = 8192;
/// Timeout of the abort of a failed transaction. After it the transaction is ended by the next session.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);

/// Duration of publishing after which the brokers are probed.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Publishes the epochs of one sink.
pub struct Publisher {
    /// Configuration without a transactional id.
    client: ClientConfig,
    /// Timeout of a transaction.
    timeout: Duration,
    broker_health: Arc<BrokerHealth>,
    storage: Mutex<Option<Arc<dyn OutputStorage>>>,
    recent: Arc<RecentParts>,
    sessions: Mutex<HashMap<String, Session>>,
    /// Held by the call that publishes, because two would fence one another.
    publishing: tokio::sync::Mutex<()>,
    /// Topics of markers that were checked.
    checked: tokio::sync::Mutex<BTreeSet<String>>,
}

impl Publisher {
    /// Creates a publisher without sessions.
    pub fn new(client: ClientConfig, timeout: Duration, broker_health: Arc<BrokerHealth>) -> Self {
        Self {
            client,
            timeout,
            broker_health,
            storage: Mutex::new(None),
            recent: Arc::new(RecentParts::default()),
            sessions: Mutex::new(HashMap::new()),
            publishing: tokio::sync::Mutex::new(()),
            checked: tokio::sync::Mutex::new(BTreeSet::new()),
        }
    }

    /// Sets the storage of the parts.
    pub fn use_storage(&self, storage: Arc<dyn OutputStorage>) {
        *self.storage.lock() = Some(storage);
    }

    /// Returns the cache of parts written by this process.
    pub fn recent(&self) -> Arc<RecentParts> {
        self.recent.clone()
    }

    /// Publishes all epochs that are not published yet. May be repeated at any time, by any process.
    pub async fn publish(&self, committables: Vec<Committable>) -> Result<(), Error> {
        if committables.is_empty() {
            return Ok(());
        }
        let publishing = self.publish_all(committables);
        tokio::pin!(publishing);
        let published = match tokio::time::timeout(SLOW_AFTER, &mut publishing).await {
            Ok(published) => published,
            // Requests to brokers that are down fail late.
            Err(_) => {
                self.broker_health.probe();
                publishing.await
            }
        };
        if let Err(Error::Unavailable(_)) = &published {
            self.broker_health.probe();
        }
        published
    }

    async fn publish_all(&self, committables: Vec<Committable>) -> Result<(), Error> {
        let mut by_id: BTreeMap<String, Vec<PendingEpoch>> = BTreeMap::new();
        for committable in committables {
            let pending = PendingEpoch::decode(committable)?;
            by_id
                .entry(pending.epoch.transactional_id.clone())
                .or_default()
                .push(pending);
        }
        let _publishing = self.publishing.lock().await;
        self.open_sessions(&by_id).await?;
        let sessions: Vec<(Session, Vec<PendingEpoch>)> = {
            let mut open = self.sessions.lock();
            let of_id = |(id, pending): (String, Vec<PendingEpoch>)| Some((open.remove(&id)?, pending));
            by_id.into_iter().filter_map(of_id).collect()
        };
        let storage = self.storage.lock().clone();
        let results: Vec<Result<Session, Error>> = futures::stream::iter(sessions)
            .map(|(mut session, pending)| {
                let parts = PartSources {
                    storage: storage.clone(),
                    recent: self.recent.clone(),
                    runtime: tokio::runtime::Handle::current(),
                };
                run_blocking(move || session.publish_all(&pending, &parts).map(|()| session))
            })
            .buffer_unordered(SESSIONS_AT_ONCE_MAX)
            .collect()
            .await;
        let mut failure = Ok(());
        for result in results {
            match result {
                Ok(session) => {
                    self.sessions.lock().insert(session.transactional_id.clone(), session);
                }
                Err(error) => failure = Err(error),
            }
        }
        failure
    }

    /// Opens a session for every id that has epochs to publish and no session yet.
    async fn open_sessions(&self, by_id: &BTreeMap<String, Vec<PendingEpoch>>) -> Result<(), Error> {
        let new: Vec<(&String, &Vec<PendingEpoch>)> = {
            let open = self.sessions.lock();
            by_id.iter().filter(|(id, _)| !open.contains_key(*id)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let places: BTreeSet<MarkerPartition> = new
            .iter()
            .flat_map(|(_, pending)| pending.iter().map(|pending| pending.epoch.markers.clone()))
            .collect();
        for place in &places {
            self.ensure_markers(&place.topic).await?;
        }
        // Published epochs need no session, and opening one would fence the present owner of the id.
        let published = self.read_markers(&places, ReadUntil::Committed).await?;
        let none = Published::default();
        let is_published =
            |id: &String, pending: &PendingEpoch| published.get(id).unwrap_or(&none).is_published(pending);
        let missing: Vec<String> = new
            .into_iter()
            .filter(|(id, pending)| !pending.iter().all(|pending| is_published(id, pending)))
            .map(|(id, _)| id.clone())
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let mut opened: Vec<Session> = futures::stream::iter(missing)
            .map(|id| self.open(id))
            .buffer_unordered(SESSIONS_AT_ONCE_MAX)
            .try_collect()
            .await?;
        // Read after the opening, which has ended all transactions of predecessors.
        let mut published = self.read_markers(&places, ReadUntil::End).await?;
        for session in &mut opened {
            session.published = published.remove(&session.transactional_id).unwrap_or_default();
        }
        let mut sessions = self.sessions.lock();
        sessions.extend(
            opened
                .into_iter()
                .map(|session| (session.transactional_id.clone(), session)),
        );
        Ok(())
    }

    /// Fences earlier attempts of this sink and aborts their open transactions. The id of the first subtask is always
    /// initialised, which checks that the cluster supports transactions.
    pub async fn fence(&self, base: &str, place: &MarkerPartition) -> Result<(), Error> {
        self.ensure_markers(&place.topic).await?;
        let mut ids = BTreeSet::from([subtask_id(base, 0)]);
        let known = self
            .read_markers(&BTreeSet::from([place.clone()]), ReadUntil::Committed)
            .await?;
        ids.extend(known.into_keys().filter(|id| is_of_base(id, base)));
        // Sessions that this process has opened, to publish the restored checkpoint, are not fenced.
        ids.retain(|id| !self.sessions.lock().contains_key(id));
        futures::stream::iter(ids)
            .map(|id| async move { self.open(id).await.map(drop) })
            .buffer_unordered(SESSIONS_AT_ONCE_MAX)
            .try_collect()
            .await
    }

    async fn open(&self, transactional_id: String) -> Result<Session, Error> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let context = self.broker_health.client_context();
        run_blocking(move || Session::open(&client, transactional_id, timeout, context)).await
    }

    /// Checks the topic of markers once.
    async fn ensure_markers(&self, topic: &str) -> Result<(), Error> {
        let mut checked = self.checked.lock().await;
        if !checked.contains(topic) {
            let (connection, name) = (connection_config(&self.client), topic.to_string());
            let handle = tokio::runtime::Handle::current();
            run_blocking(move || handle.block_on(marker_topic::ensure(&connection, &name))).await?;
            checked.insert(topic.to_string());
        }
        Ok(())
    }

    async fn read_markers(
        &self,
        places: &BTreeSet<MarkerPartition>,
        until: ReadUntil,
    ) -> Result<BTreeMap<String, Published>, Error> {
        let mut all = BTreeMap::new();
        for place in places {
            let (connection, place) = (connection_config(&self.client), place.clone());
            // Open transactions of other owners may have a longer timeout.
            let timeout = self.timeout + Duration::from_secs(30);
            all.extend(run_blocking(move || markers::read(&connection, &place, until, timeout)).await?);
        }
        Ok(all)
    }
}

/// Fences the owner of an id and aborts its open transaction. Blocks.
pub fn fence_id(client: &ClientConfig, transactional_id: &str, timeout: Duration) -> Result<(), Error> {
    Session::open(client, transactional_id.to_string(), timeout, Context::new()).map(drop)
}

/// Returns the transactional id of a subtask.
pub fn subtask_id(base: &str, subtask: usize) -> String {
    format!("{base}-{subtask}")
}

/// Returns true if an id is that of a subtask of the sink whose ids have the prefix `base`.
pub fn is_of_base(id: &str, base: &str) -> bool {
    let subtask = id.strip_prefix(base).and_then(|rest| rest.strip_prefix('-'));
    subtask.is_some_and(|subtask| !subtask.is_empty() && subtask.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A producer with a transactional id. All methods block.
struct Session {
    transactional_id: String,
    published: Published,
    topics: HashMap<String, TopicProducer>,
    batch: Batch,
    producer: ThreadedProducer<Context>,
    timeout: Duration,
}

impl Session {
    /// Initialises the id, which fences its owner and aborts its open transaction.
    fn open(
        client: &ClientConfig,
        transactional_id: String,
        timeout: Duration,
        context: Context,
    ) -> Result<Self, Error> {
        let producer: ThreadedProducer<Context> = client
            .clone()
            .set("transactional.id", &transactional_id)
            .set("transaction.timeout.ms", timeout.as_millis().to_string())
            .create_with_context(context)
            .map_err(|error| creation_error(client, &error))?;
        producer
            .init_transactions(timeout)
            .map_err(|error| failed("be opened", &transactional_id, &producer, &error))?;
        Ok(Self {
            transactional_id,
            published: Published::default(),
            topics: HashMap::new(),
            batch: Batch::default(),
            producer,
            timeout,
        })
    }

    fn publish_all(&mut self, pending: &[PendingEpoch], parts: &PartSources) -> Result<(), Error> {
        for pending in pending {
            let all = pending.parts();
            let mut done = self.published.parts(pending);
            let mut reads = PartReads::new(all.get(done..).unwrap_or_default(), parts);
            while done < all.len() {
                let mut bytes = 0;
                let fits = |part: &&Part<'_>| {
                    bytes += part.bytes();
                    bytes <= TRANSACTION_BYTES_MAX
                };
                let count = all[done..].iter().take_while(fits).count().max(1);
                self.publish(pending, count, done + count, &mut reads)?;
                done += count;
            }
            parts.recent.remove(&pending.files);
        }
        Ok(())
    }

    /// Publishes the next `count` parts in one transaction, after which `done` parts of the epoch are published.
    fn publish(
        &mut self,
        pending: &PendingEpoch,
        count: usize,
        done: usize,
        reads: &mut PartReads<'_>,
    ) -> Result<(), Error> {
        let mut after = self.published.clone();
        let produced = self.produce(pending, count, done, reads, &mut after);
        if let Err(error) = produced {
            // Ends the transaction for consumers before its timeout. If this fails, the next session aborts it.
            if let Err(error) = self.producer.abort_transaction(ABORT_TIMEOUT) {
                tracing::debug!(target: "kafka", "{}: aborting: {error}", self.transactional_id);
            }
            return Err(error);
        }
        self.published = after;
        Ok(())
    }

    fn produce(
        &mut self,
        pending: &PendingEpoch,
        count: usize,
        done: usize,
        reads: &mut PartReads<'_>,
        after: &mut Published,
    ) -> Result<(), Error> {
        let id = self.transactional_id.clone();
        let failed = |action: &str, session: &Self, error: &KafkaError| failed(action, &id, &session.producer, error);
        self.producer
            .begin_transaction()
            .map_err(|error| failed("begin", self, &error))?;
        for bytes in reads.take(count) {
            let bytes = bytes?;
            self.produce_records(&pending.epoch.topic, &bytes)?;
        }
        fail_point::reach("in-transaction");
        self.produce_markers(pending, done, after)?;
        flush(&self.producer, self.timeout)
            .and_then(|()| self.producer.commit_transaction(self.timeout))
            .map_err(|error| failed("be committed", self, &error))?;
        fail_point::reach("after-transaction");
        Ok(())
    }

    fn topic(&mut self, name: &str) -> Result<(&TopicProducer, &mut Batch), Error> {
        if !self.topics.contains_key(name) {
            self.topics
                .insert(name.to_string(), TopicProducer::new(self.producer.clone(), name)?);
        }
        Ok((&self.topics[name], &mut self.batch))
    }

    fn produce_records(&mut self, topic: &str, part: &[u8]) -> Result<(), Error> {
        let (topic, batch) = self.topic(topic)?;
        let mut records = RecordReader::new(part);
        let mut plain = Vec::with_capacity(BATCH_RECORDS_MAX);
        loop {
            while plain.len() < BATCH_RECORDS_MAX
                && let Some(record) = records.next_plain()?
            {
                plain.push(record);
            }
            if !plain.is_empty() {
                topic.produce_batch(batch, plain.drain(..), 0, QueueFullPolicy::Wait)?;
                continue;
            }
            match records.next_any()? {
                Some(record) => topic.produce(&record, 0, QueueFullPolicy::Wait)?,
                None => return Ok(()),
            }
        }
    }

    fn produce_markers(&mut self, pending: &PendingEpoch, done: usize, after: &mut Published) -> Result<(), Error> {
        let (id, epoch) = (self.transactional_id.clone(), &pending.epoch);
        let marker = markers::marker_of(pending, done);
        after.attempts.insert(epoch.attempt.clone(), marker);
        // Limited by the time of preparation, because a clock that is ahead would expire recent markers.
        let now_ms = epoch.prepared_ms.min(now_us() / 1_000);
        let mut records = vec![(markers::key(&id, &epoch.attempt), Some(marker.encode()))];
        let expired = after.expire(now_ms, markers::ATTEMPTS_MAX);
        if let Some(floor_ms) = after.floor_ms.filter(|_| !expired.is_empty()) {
            records.push(markers::floor_record(&id, floor_ms));
        }
        records.extend(expired.iter().map(|attempt| (markers::key(&id, attempt), None)));
        let (topic, _) = self.topic(&epoch.markers.topic)?;
        for (key, value) in &records {
            let record = Record {
                partition: epoch.markers.partition,
                key: Some(key.as_bytes()),
                value: value.as_ref().map(String::as_bytes),
                timestamp_ms: 0,
                headers: &[],
            };
            topic.produce(&record, 0, QueueFullPolicy::Wait)?;
        }
        Ok(())
    }
}

/// Returns the error of a transaction. `action` is what failed: "begin", "be committed".
fn failed(action: &str, id: &str, producer: &ThreadedProducer<Context>, error: &KafkaError) -> Error {
    let code = match error {
        KafkaError::Transaction(error) => Some(error.code()),
        error => error.rdkafka_error_code(),
    };
    use RDKafkaErrorCode as Code;
    match code {
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch) => Error::Unavailable(format!(
            "Kafka: another process uses the transactional id `{id}`: two runs of one job, or two jobs of one name; give \
             each its own 'sink.transactional-id-prefix'"
        )),
        Some(Code::InvalidTransactionTimeout) => Error::Invalid(
            "Kafka: the brokers refuse the transactions' timeout ('properties.transaction.timeout.ms'): it is longer than \
             their `transaction.max.timeout.ms`"
                .into(),
        ),
        Some(Code::TransactionalIdAuthorizationFailed | Code::ClusterAuthorizationFailed) => Error::Invalid(format!(
            "Kafka: not allowed to use the transactional id `{id}`; exactly-once delivery needs WRITE and DESCRIBE on \
             transactional ids with its prefix ({error})"
        )),
        Some(Code::UnsupportedFeature | Code::UnsupportedVersion) => Error::Invalid(format!(
            "Kafka: the brokers do not know transactions: exactly-once delivery needs Kafka 2.5 or newer ({error})"
        )),
        _ => {
            let problem = producer.client().context().last_problem();
            let reason = problem.map_or(String::new(), |problem| format!("; {problem}"));
            Error::Unavailable(format!("Kafka: the transaction of `{id}` cannot {action}: {error}{reason}"))
        }
    }
}
