//! A Kafka table as a sink.
//!
//! Under at-least-once delivery a writer hands records to librdkafka as soon as they are encoded ([`direct`]); a
//! checkpoint waits until everything before it has arrived. The producer is idempotent: a retry inside it neither
//! doubles nor reorders records. Under exactly-once delivery records travel in the checkpoint and are produced when it
//! is complete ([`super::transaction`]).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::types::RDKafkaRespErr;

use self::direct::DirectWriter;
use self::rows::{RowEncoder, Target};
use super::client::{self, Context, REQUEST_TIMEOUT, blocking};
use super::options::{Partitioner, SinkOptions, TransactionOptions};
use super::reach::Reach;
use super::transaction::admin::Transactions;
use super::transaction::epoch::MarkerPlace;
use super::transaction::markers;
use super::transaction::publisher::{Publisher, TRANSACTION_TIMEOUT_DEFAULT, is_of_base, subtask_id};
use super::transaction::writer::{EpochWriter, Label};
use crate::{
    Committable, Delivery, Error, JobIdentity, Outage, OutputStorage, Sink, SinkWriter, TableDefinition,
    TransactionReport, TransactionalId, WriterContext,
};

mod direct;
mod extras;
pub mod rows;

/// How long a producer may take to learn that its topic exists, where the broker makes topics by itself.
const TOPIC_CREATION_TIMEOUT: Duration = Duration::from_secs(5);
/// What Kafka adds to the bytes of a record that is alone in its batch, at most, headers not counted.
const RECORD_OVERHEAD_BYTES: usize = 512;

pub struct KafkaSink {
    table: TableDefinition,
    options: SinkOptions,
    /// Idle under at-least-once delivery, unless a checkpoint was taken before that was chosen.
    publisher: Publisher,
    /// Of its writers and its publisher.
    reach: Arc<Reach>,
    /// Known after `start`.
    target: Mutex<Option<Target>>,
}

impl KafkaSink {
    pub fn new(table: &TableDefinition, options: SinkOptions) -> Self {
        let timeout = options.transactions.as_ref().map(|transactions| transactions.timeout);
        let reach = Reach::new(&options.client, &options.brokers);
        let timeout = timeout.unwrap_or(TRANSACTION_TIMEOUT_DEFAULT);
        Self {
            table: table.clone(),
            publisher: Publisher::new(options.client.clone(), timeout, reach.clone()),
            reach,
            options,
            target: Mutex::new(None),
        }
    }

    /// What this sink's transactional ids start with in this job, and where their markers are.
    fn ids(&self, transactions: &TransactionOptions, job: &str) -> (String, MarkerPlace) {
        let base = format!("{}-{job}-{}", transactions.prefix, self.table.name);
        let place = markers::place(&transactions.markers_topic, &base);
        (base, place)
    }

    /// Where `start` was not called, as on a worker of a cluster, only what a writer cannot do without is looked up.
    fn target(&self) -> Result<Target, Error> {
        if let Some(target) = *self.target.lock() {
            return Ok(target);
        }
        let partitions = match self.options.partitioner {
            Partitioner::ByKey => 1,
            Partitioner::Fixed | Partitioner::RoundRobin => count_partitions(&self.options, &self.table.name)?,
        };
        Ok(Target {
            partitions,
            record_bytes_max: record_bytes_max(&self.options, None),
        })
    }
}

/// The largest record that neither the client nor the topic refuses.
fn record_bytes_max(options: &SinkOptions, of_topic: Option<String>) -> usize {
    let of_client = options.client.get("message.max.bytes");
    let limits = [of_client, of_topic.as_deref()].into_iter().flatten();
    let limit = limits.filter_map(|bytes| bytes.parse::<usize>().ok()).min();
    limit.map_or(usize::MAX, |bytes| bytes.saturating_sub(RECORD_OVERHEAD_BYTES))
}

#[async_trait]
impl Sink for KafkaSink {
    fn delivery(&self) -> Delivery {
        match self.options.transactions {
            Some(_) => Delivery::ExactlyOnce,
            None => Delivery::AtLeastOnce,
        }
    }

    fn use_storage(&self, storage: Arc<dyn OutputStorage>) {
        self.publisher.use_storage(storage);
    }

    async fn start(&self, job: &JobIdentity) -> Result<(), Error> {
        let (options, table) = (self.options.clone(), self.table.name.clone());
        let found = blocking(move || count_partitions(&options, &table)).await;
        let of_topic = markers::topic_config(&self.options.client, &self.options.topic, "max.message.bytes").await;
        *self.target.lock() = Some(Target {
            partitions: found?,
            record_bytes_max: record_bytes_max(&self.options, of_topic),
        });
        if let Some(transactions) = &self.options.transactions {
            let (base, place) = self.ids(transactions, &job.job);
            self.publisher.fence(&base, &place).await?;
        }
        Ok(())
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        let rows = RowEncoder::new(&self.table, &self.options, self.target()?, context.subtask)?;
        Ok(match &self.options.transactions {
            Some(transactions) => {
                let (base, markers) = self.ids(transactions, &context.job.job);
                let label = Label {
                    transactional_id: subtask_id(&base, context.subtask),
                    topic: self.options.topic.clone(),
                    markers,
                };
                Box::new(EpochWriter::new(rows, label, context, self.publisher.recent()))
            }
            None => {
                let client = &self.options.client;
                let reach = self.reach.clone();
                Box::new(DirectWriter::new(
                    client,
                    &self.options.topic,
                    rows,
                    context.runtime,
                    reach,
                )?)
            }
        })
    }

    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error> {
        self.publisher.publish(committables).await
    }

    fn commits_on_writer_process(&self) -> bool {
        self.options.transactions.is_some()
    }

    fn outage(&self) -> Option<Outage> {
        self.reach.outage()
    }

    async fn transactions(&self, job: &str) -> Result<Option<TransactionReport>, Error> {
        let Some(transactions) = &self.options.transactions else {
            return Ok(None);
        };
        let (base, place) = self.ids(transactions, job);
        let (known, topic) = (
            Transactions::with_client(&self.options.client, &place.topic),
            self.options.topic.clone(),
        );
        let report = blocking(move || {
            Ok(TransactionReport {
                ids: known_ids(&known, &base, &place)?,
                blocked: known.open_partitions(&topic)?,
            })
        });
        report.await.map(Some)
    }

    async fn abort_transactions(&self, job: &str, ids: &[String]) -> Result<Vec<String>, Error> {
        let Some(transactions) = &self.options.transactions else {
            return Ok(Vec::new());
        };
        let (base, place) = self.ids(transactions, job);
        let known = Transactions::with_client(&self.options.client, &place.topic);
        let wanted: Vec<String> = ids.iter().filter(|id| is_of_base(id, &base)).cloned().collect();
        let all = ids.is_empty();
        blocking(move || {
            let ended = match all {
                true => known_ids(&known, &base, &place)?
                    .into_iter()
                    .map(|known| known.id)
                    .collect(),
                false => wanted,
            };
            ended.iter().try_for_each(|id| known.abort(id))?;
            Ok(ended)
        })
        .await
    }
}

/// The ids of one sink, in order of subtasks.
fn known_ids(known: &Transactions, base: &str, place: &MarkerPlace) -> Result<Vec<TransactionalId>, Error> {
    let mut ids = known.list_in(place.partition, base)?;
    ids.retain(|known| is_of_base(&known.id, base));
    ids.sort_by_key(|known| (known.id.len(), known.id.clone()));
    Ok(ids)
}

/// What brokers say of a topic that they may be making.
fn may_come_to_be(code: RDKafkaRespErr) -> bool {
    matches!(
        code,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
    )
}

/// How many partitions the topic has; an error if it does not exist, unless the broker makes it now. Blocks.
fn count_partitions(options: &SinkOptions, table: &str) -> Result<i32, Error> {
    let producer: ThreadedProducer<Context> = options
        .client
        .create_with_context(Context::new())
        .map_err(|error| Error::Invalid(format!("table `{table}`: {}", client::refused(&options.client, &error))))?;
    let client = producer.client();
    let unreachable = |error: rdkafka::error::KafkaError| {
        let problem = client.context().last_problem().unwrap_or_else(|| error.to_string());
        client::cannot_reach(&options.brokers, &problem, REQUEST_TIMEOUT)
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
        let is_final = one
            .topics()
            .iter()
            .any(|topic| topic.name() == options.topic && topic.error().is_some_and(|code| !may_come_to_be(code)));
        if is_final || std::time::Instant::now() >= deadline {
            return Err(client::missing_topic(
                &options.topic,
                &options.brokers,
                &client::topic_names(&all),
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
