//! Produces what complete checkpoints contain, each part once.
//!
//! A *session* is one producer that holds one transactional id, with what is known to be published under it. Opening
//! one initialises the id, then reads the markers; as long as its transactions succeed nobody else has had the id, so
//! what it knows stays true. After any failure the session is thrown away and the next call opens another: whether the
//! failed transaction counts is then read from the markers, never guessed.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use millstream_fail_point as fail_point;
use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer, ThreadedProducer};

use super::epoch::{MarkerPlace, Part, Pending, RecordReader};
use super::markers::{self, Published, Until};
use crate::clock::now_us;
use crate::kafka::client::{self, Context, blocking};
use crate::kafka::reach::Reach;
use crate::kafka::topic::{Batch, Record, Topic, WhenFull};
use crate::{Committable, Error, OutputFile, OutputStorage};

pub const TRANSACTION_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Parts that one transaction takes: it must be done well within its timeout.
const TRANSACTION_BYTES_MAX: u64 = 32 << 20;
/// Subtasks that publish at the same time, each with a producer of its own.
const SESSIONS_AT_ONCE_MAX: usize = 16;
/// Records handed to librdkafka in one call.
const BATCH_RECORDS_MAX: usize = 8192;
/// How long a failed transaction's abort may take; if it takes longer, the next session's start ends it.
const ABORT_TIMEOUT: Duration = Duration::from_secs(2);

/// When publishing takes longer it is asked whether the brokers can be reached.
const SLOW_AFTER: Duration = Duration::from_secs(2);

/// Publishes epochs of one sink.
pub struct Publisher {
    /// Without a transactional id.
    client: ClientConfig,
    /// Of one transaction.
    timeout: Duration,
    reach: Arc<Reach>,
    storage: Mutex<Option<Arc<dyn OutputStorage>>>,
    recent: Arc<RecentParts>,
    sessions: Mutex<HashMap<String, Session>>,
    /// One call publishes at a time: two would fence one another.
    turn: tokio::sync::Mutex<()>,
    /// Topics of markers that are known to be fit.
    checked: tokio::sync::Mutex<BTreeSet<String>>,
}

impl Publisher {
    pub fn new(client: ClientConfig, timeout: Duration, reach: Arc<Reach>) -> Self {
        Self {
            client,
            timeout,
            reach,
            storage: Mutex::new(None),
            recent: Arc::new(RecentParts::default()),
            sessions: Mutex::new(HashMap::new()),
            turn: tokio::sync::Mutex::new(()),
            checked: tokio::sync::Mutex::new(BTreeSet::new()),
        }
    }

    pub fn use_storage(&self, storage: Arc<dyn OutputStorage>) {
        *self.storage.lock() = Some(storage);
    }

    pub fn recent(&self) -> Arc<RecentParts> {
        self.recent.clone()
    }

    /// Makes sure that all of it is out. May be repeated at any time, by anybody.
    pub async fn publish(&self, committables: Vec<Committable>) -> Result<(), Error> {
        if committables.is_empty() {
            return Ok(());
        }
        let publishing = self.publish_all(committables);
        tokio::pin!(publishing);
        let published = match tokio::time::timeout(SLOW_AFTER, &mut publishing).await {
            Ok(published) => published,
            // Requests to brokers that are down take their time to fail.
            Err(_) => {
                self.reach.suspect();
                publishing.await
            }
        };
        if let Err(Error::Unavailable(_)) = &published {
            self.reach.suspect();
        }
        published
    }

    async fn publish_all(&self, committables: Vec<Committable>) -> Result<(), Error> {
        let mut by_id: BTreeMap<String, Vec<Pending>> = BTreeMap::new();
        for committable in committables {
            let pending = Pending::decode(committable)?;
            by_id
                .entry(pending.epoch.transactional_id.clone())
                .or_default()
                .push(pending);
        }
        let _turn = self.turn.lock().await;
        self.open_sessions(&by_id).await?;
        let sessions: Vec<(Session, Vec<Pending>)> = {
            let mut open = self.sessions.lock();
            let of_id = |(id, pending): (String, Vec<Pending>)| Some((open.remove(&id)?, pending));
            by_id.into_iter().filter_map(of_id).collect()
        };
        let storage = self.storage.lock().clone();
        let results: Vec<Result<Session, Error>> = futures::stream::iter(sessions)
            .map(|(mut session, pending)| {
                let parts = Parts {
                    storage: storage.clone(),
                    recent: self.recent.clone(),
                    runtime: tokio::runtime::Handle::current(),
                };
                blocking(move || session.publish_all(&pending, &parts).map(|()| session))
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

    /// Opens a session for every id that has something to publish and none yet.
    async fn open_sessions(&self, by_id: &BTreeMap<String, Vec<Pending>>) -> Result<(), Error> {
        let new: Vec<(&String, &Vec<Pending>)> = {
            let open = self.sessions.lock();
            by_id.iter().filter(|(id, _)| !open.contains_key(*id)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let places: BTreeSet<MarkerPlace> = new
            .iter()
            .flat_map(|(_, pending)| pending.iter().map(|pending| pending.epoch.markers.clone()))
            .collect();
        for place in &places {
            self.ensure_markers(&place.topic).await?;
        }
        // What is out already needs no session, and opening one would disturb whoever holds the id.
        let published = self.read_markers(&places, Until::Committed).await?;
        let none = Published::default();
        let is_out = |id: &String, pending: &Pending| published.get(id).unwrap_or(&none).is_out(pending);
        let missing: Vec<String> = new
            .into_iter()
            .filter(|(id, pending)| !pending.iter().all(|pending| is_out(id, pending)))
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
        // Only now: what a predecessor had under way has ended with the opening, one way or the other.
        let mut published = self.read_markers(&places, Until::End).await?;
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

    /// Ends what earlier attempts of this sink left open, and keeps them from going on; of `first` in any case, which
    /// also shows whether the cluster takes such transactions at all.
    pub async fn fence(&self, base: &str, place: &MarkerPlace) -> Result<(), Error> {
        self.ensure_markers(&place.topic).await?;
        let mut ids = BTreeSet::from([subtask_id(base, 0)]);
        let known = self
            .read_markers(&BTreeSet::from([place.clone()]), Until::Committed)
            .await?;
        ids.extend(known.into_keys().filter(|id| is_of_base(id, base)));
        // Those were opened a moment ago by this process, for what the restored checkpoint had pending.
        ids.retain(|id| !self.sessions.lock().contains_key(id));
        futures::stream::iter(ids)
            .map(|id| async move { self.open(id).await.map(drop) })
            .buffer_unordered(SESSIONS_AT_ONCE_MAX)
            .try_collect()
            .await
    }

    async fn open(&self, transactional_id: String) -> Result<Session, Error> {
        let (client, timeout) = (self.client.clone(), self.timeout);
        let context = Context::reaching(self.reach.clone());
        blocking(move || Session::open(&client, transactional_id, timeout, context)).await
    }

    async fn ensure_markers(&self, topic: &str) -> Result<(), Error> {
        let mut checked = self.checked.lock().await;
        if !checked.contains(topic) {
            let (connection, name) = (client::connection(&self.client), topic.to_string());
            let handle = tokio::runtime::Handle::current();
            blocking(move || handle.block_on(markers::ensure_topic(&connection, &name))).await?;
            checked.insert(topic.to_string());
        }
        Ok(())
    }

    async fn read_markers(
        &self,
        places: &BTreeSet<MarkerPlace>,
        until: Until,
    ) -> Result<BTreeMap<String, Published>, Error> {
        let mut all = BTreeMap::new();
        for place in places {
            let (connection, place) = (client::connection(&self.client), place.clone());
            // Somebody else's open transaction ends by its timeout, which may be longer than ours.
            let timeout = self.timeout + Duration::from_secs(30);
            all.extend(blocking(move || markers::read(&connection, &place, until, timeout)).await?);
        }
        Ok(all)
    }
}

/// Ends what the id holds open, and fences whoever holds it. Blocks.
pub fn fence_id(client: &ClientConfig, transactional_id: &str, timeout: Duration) -> Result<(), Error> {
    Session::open(client, transactional_id.to_string(), timeout, Context::new()).map(drop)
}

pub fn subtask_id(base: &str, subtask: usize) -> String {
    format!("{base}-{subtask}")
}

/// Whether it is an id of a subtask of the sink whose ids start so.
pub fn is_of_base(id: &str, base: &str) -> bool {
    let subtask = id.strip_prefix(base).and_then(|rest| rest.strip_prefix('-'));
    subtask.is_some_and(|subtask| !subtask.is_empty() && subtask.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A producer that holds a transactional id. All its methods block.
struct Session {
    transactional_id: String,
    published: Published,
    topics: HashMap<String, Topic>,
    batch: Batch,
    producer: ThreadedProducer<Context>,
    timeout: Duration,
}

impl Session {
    /// Fences whoever held the id and ends what they left open.
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
            .map_err(|error| client::refused(client, &error))?;
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

    fn publish_all(&mut self, pending: &[Pending], parts: &Parts) -> Result<(), Error> {
        for pending in pending {
            let all = pending.parts();
            let mut done = self.published.parts(pending);
            while done < all.len() {
                let mut bytes = 0;
                let fits = |part: &&Part<'_>| {
                    bytes += part.bytes();
                    bytes <= TRANSACTION_BYTES_MAX
                };
                let count = all[done..].iter().take_while(fits).count().max(1);
                self.transaction(pending, &all[done..done + count], done + count, parts)?;
                done += count;
            }
            parts.recent.forget(&pending.files);
        }
        Ok(())
    }

    /// Produces these parts, after which `done` parts of the epoch are out.
    fn transaction(&mut self, pending: &Pending, now: &[Part<'_>], done: usize, parts: &Parts) -> Result<(), Error> {
        let mut after = self.published.clone();
        let produced = self.produce(pending, now, done, parts, &mut after);
        if let Err(error) = produced {
            // Ends it for readers at once rather than by its timeout. If this fails, the next session's start does it.
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
        pending: &Pending,
        now: &[Part<'_>],
        done: usize,
        parts: &Parts,
        after: &mut Published,
    ) -> Result<(), Error> {
        let id = self.transactional_id.clone();
        let failed = |what: &str, session: &Self, error: &KafkaError| failed(what, &id, &session.producer, error);
        self.producer
            .begin_transaction()
            .map_err(|error| failed("begin", self, &error))?;
        for part in now {
            let bytes = parts.read(part)?;
            self.produce_records(&pending.epoch.topic, &bytes)?;
        }
        fail_point::reach("in-transaction");
        self.produce_markers(pending, done, after)?;
        self.producer
            .commit_transaction(self.timeout)
            .map_err(|error| failed("be committed", self, &error))?;
        fail_point::reach("after-transaction");
        Ok(())
    }

    fn topic(&mut self, name: &str) -> Result<(&Topic, &mut Batch), Error> {
        if !self.topics.contains_key(name) {
            self.topics
                .insert(name.to_string(), Topic::new(self.producer.clone(), name)?);
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
                topic.produce_batch(batch, plain.drain(..), 0, WhenFull::Wait)?;
                continue;
            }
            match records.next_any()? {
                Some(record) => topic.produce(&record, 0, WhenFull::Wait)?,
                None => return Ok(()),
            }
        }
    }

    fn produce_markers(&mut self, pending: &Pending, done: usize, after: &mut Published) -> Result<(), Error> {
        let (id, epoch) = (self.transactional_id.clone(), &pending.epoch);
        let marker = markers::of(pending, done);
        after.attempts.insert(epoch.attempt.clone(), marker);
        // By the clock of whoever prepared it, too: one that runs ahead must not have fresh markers forgotten.
        let now_ms = epoch.prepared_ms.min(now_us() / 1_000);
        let mut records = vec![(markers::key(&id, &epoch.attempt), Some(marker.encode()))];
        let forgotten = after.forget_old(now_ms, markers::KEPT_MAX);
        if let Some(floor_ms) = after.floor_ms.filter(|_| !forgotten.is_empty()) {
            records.push(markers::floor_record(&id, floor_ms));
        }
        records.extend(forgotten.iter().map(|attempt| (markers::key(&id, attempt), None)));
        let (topic, _) = self.topic(&epoch.markers.topic)?;
        for (key, value) in &records {
            let record = Record {
                partition: epoch.markers.partition,
                key: Some(key.as_bytes()),
                value: value.as_ref().map(String::as_bytes),
                timestamp_ms: 0,
                headers: &[],
            };
            topic.produce(&record, 0, WhenFull::Wait)?;
        }
        Ok(())
    }
}

fn failed(what: &str, id: &str, producer: &ThreadedProducer<Context>, error: &KafkaError) -> Error {
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
            let why = producer.client().context().last_problem();
            let why = why.map_or(String::new(), |why| format!("; {why}"));
            Error::Unavailable(format!("Kafka: the transaction of `{id}` cannot {what}: {error}{why}"))
        }
    }
}

/// Where the bytes of parts come from.
struct Parts {
    storage: Option<Arc<dyn OutputStorage>>,
    recent: Arc<RecentParts>,
    runtime: tokio::runtime::Handle,
}

impl Parts {
    fn read(&self, part: &Part<'_>) -> Result<Bytes, Error> {
        match part {
            Part::Inline(bytes) => Ok(Bytes::copy_from_slice(bytes)),
            Part::File(file) => match (self.recent.get(file), &self.storage) {
                (Some(bytes), _) => Ok(bytes),
                (None, Some(storage)) => self.runtime.block_on(storage.read(file)),
                (None, None) => Err(Error::Invalid(format!(
                    "there is no checkpoint storage here to read {} from",
                    file.path
                ))),
            },
        }
    }
}

/// Parts written a moment ago by this process: publishing them needs no reading.
#[derive(Default)]
pub struct RecentParts {
    kept: Mutex<Kept>,
}

/// Above it the oldest go.
const RECENT_BYTES_MAX: usize = 64 << 20;

#[derive(Default)]
struct Kept {
    parts: VecDeque<(String, Bytes)>,
    bytes: usize,
}

impl RecentParts {
    pub fn keep(&self, file: &OutputFile, part: Bytes) {
        let mut kept = self.kept.lock();
        kept.bytes += part.len();
        kept.parts.push_back((file.path.clone(), part));
        while kept.bytes > RECENT_BYTES_MAX
            && let Some((_, oldest)) = kept.parts.pop_front()
        {
            kept.bytes -= oldest.len();
        }
    }

    fn get(&self, file: &OutputFile) -> Option<Bytes> {
        let kept = self.kept.lock();
        let (_, part) = kept.parts.iter().find(|(path, _)| *path == file.path)?;
        Some(part.clone())
    }

    fn forget(&self, files: &[OutputFile]) {
        let mut kept = self.kept.lock();
        kept.parts
            .retain(|(path, _)| !files.iter().any(|file| file.path == *path));
        kept.bytes = kept.parts.iter().map(|(_, part)| part.len()).sum();
    }
}
