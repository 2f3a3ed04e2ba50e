//! The sink of a Kafka table.
//!
//! Under at-least-once delivery records are produced as soon as they are encoded
//! ([`at_least_once_writer`](super::at_least_once_writer)); a checkpoint waits until all earlier records are delivered.
//! The producer is idempotent: its retries neither duplicate nor reorder records. Under exactly-once delivery records
//! are stored in the checkpoint and produced when it is complete ([`transaction`](super::transaction)).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rdkafka::admin::ResourceSpecifier;
use rdkafka::producer::{Producer, ThreadedProducer};
use rdkafka::types::RDKafkaRespErr;

use super::at_least_once_writer::AtLeastOnceWriter;
use super::broker_health::BrokerHealth;
use super::client::{self, REQUEST_TIMEOUT, run_blocking};
use super::client_config::{connection_config, creation_error};
use super::client_context::Context;
use super::options::{Partitioner, SinkOptions, TRANSACTION_TIMEOUT_DEFAULT, TransactionOptions};
use super::record_encoder::{RecordEncoder, TopicLimits};
use super::transaction::admin::TransactionAdmin;
use super::transaction::epoch::MarkerPartition;
use super::transaction::markers;
use super::transaction::publisher::{Publisher, is_of_base, subtask_id};
use super::transaction::writer::{EpochTarget, ExactlyOnceWriter};
use crate::{
    Committable, Delivery, Error, JobIdentity, Outage, OutputStorage, Sink, SinkWriter, TableDefinition,
    TransactionReport, TransactionalId, WriterContext,
};

/// Time within which a topic must exist that the brokers create automatically.
const TOPIC_CREATION_TIMEOUT: Duration = Duration::from_secs(5);
/// Largest overhead of a batch with one record, headers not counted.
const RECORD_OVERHEAD_BYTES: usize = 512;

/// The sink of a Kafka table.
pub(super) struct KafkaSink {
    table: TableDefinition,
    options: SinkOptions,
    /// Unused under at-least-once delivery, unless the job is restored from a checkpoint under exactly-once delivery.
    publisher: Publisher,
    /// Health of the brokers, as reported by the writers and the publisher.
    broker_health: Arc<BrokerHealth>,
    /// Set by `start`.
    limits: Mutex<Option<TopicLimits>>,
}

impl KafkaSink {
    pub(super) fn new(table: &TableDefinition, options: SinkOptions) -> Self {
        let timeout = options.transactions.as_ref().map(|transactions| transactions.timeout);
        let broker_health = BrokerHealth::new(&options.client, &options.brokers);
        let timeout = timeout.unwrap_or(TRANSACTION_TIMEOUT_DEFAULT);
        Self {
            table: table.clone(),
            publisher: Publisher::new(options.client.clone(), timeout, broker_health.clone()),
            broker_health,
            options,
            limits: Mutex::new(None),
        }
    }

    /// Returns the common prefix of the sink's transactional ids in a job, and the partition of their markers.
    fn ids(&self, transactions: &TransactionOptions, job: &str) -> (String, MarkerPartition) {
        let base = format!("{}-{job}-{}", transactions.prefix, self.table.name);
        let place = markers::marker_partition(&transactions.markers_topic, &base);
        (base, place)
    }

    /// Returns the limits of the topic. On a worker of a cluster, where `start` is not called, the number of partitions
    /// is requested only if the partitioner needs it.
    fn limits(&self) -> Result<TopicLimits, Error> {
        if let Some(limits) = *self.limits.lock() {
            return Ok(limits);
        }
        let partitions = match self.options.partitioner {
            Partitioner::ByKey => 1,
            Partitioner::Fixed | Partitioner::RoundRobin => count_partitions(&self.options, &self.table.name)?,
        };
        Ok(TopicLimits {
            partitions,
            record_bytes_max: record_bytes_max(&self.options, None),
        })
    }
}

/// Returns the size of the largest record that neither the client nor the topic refuses.
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
        let found = run_blocking(move || count_partitions(&options, &table)).await;
        let of_topic = client::setting(
            &connection_config(&self.options.client),
            ResourceSpecifier::Topic(&self.options.topic),
            "max.message.bytes",
            REQUEST_TIMEOUT,
        )
        .await;
        *self.limits.lock() = Some(TopicLimits {
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
        let rows = RecordEncoder::new(&self.table, &self.options, self.limits()?, context.subtask)?;
        Ok(match &self.options.transactions {
            Some(transactions) => {
                let (base, markers) = self.ids(transactions, &context.job.job);
                let target = EpochTarget {
                    transactional_id: subtask_id(&base, context.subtask),
                    topic: self.options.topic.clone(),
                    markers,
                };
                let buffer = self.options.buffer;
                Box::new(ExactlyOnceWriter::new(
                    rows,
                    target,
                    buffer,
                    context,
                    self.publisher.recent(),
                ))
            }
            None => Box::new(AtLeastOnceWriter::new(
                &self.options,
                rows,
                context.runtime,
                self.broker_health.clone(),
            )?),
        })
    }

    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error> {
        self.publisher.publish(committables).await
    }

    fn commits_on_writer_process(&self) -> bool {
        self.options.transactions.is_some()
    }

    fn outage(&self) -> Option<Outage> {
        self.broker_health.outage()
    }

    async fn transactions(&self, job: &str) -> Result<Option<TransactionReport>, Error> {
        let Some(transactions) = &self.options.transactions else {
            return Ok(None);
        };
        let (base, place) = self.ids(transactions, job);
        let (known, topic) = (
            TransactionAdmin::with_client(&self.options.client, &place.topic),
            self.options.topic.clone(),
        );
        let report = run_blocking(move || {
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
        let known = TransactionAdmin::with_client(&self.options.client, &place.topic);
        let wanted: Vec<String> = ids.iter().filter(|id| is_of_base(id, &base)).cloned().collect();
        let all = ids.is_empty();
        run_blocking(move || {
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

/// Returns the transactional ids of one sink, in the order of subtasks.
fn known_ids(known: &TransactionAdmin, base: &str, place: &MarkerPartition) -> Result<Vec<TransactionalId>, Error> {
    let mut ids = known.list_in(place.partition, base)?;
    ids.retain(|known| is_of_base(&known.id, base));
    ids.sort_by_key(|known| (known.id.len(), known.id.clone()));
    Ok(ids)
}

/// Returns true for codes that brokers report of a topic that is being created.
fn is_being_created(code: RDKafkaRespErr) -> bool {
    matches!(
        code,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE
            | RDKafkaRespErr::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART
    )
}

/// Returns the number of partitions of the topic, which the brokers may create automatically. Blocks.
fn count_partitions(options: &SinkOptions, table: &str) -> Result<i32, Error> {
    let producer: ThreadedProducer<Context> = options
        .client
        .create_with_context(Context::new())
        .map_err(|error| Error::Invalid(format!("table `{table}`: {}", creation_error(&options.client, &error))))?;
    let client = producer.client();
    let unreachable = |error: rdkafka::error::KafkaError| {
        let problem = client.context().last_problem().unwrap_or_else(|| error.to_string());
        client::unreachable_error(client.context(), &options.brokers, &problem, REQUEST_TIMEOUT)
    };
    let deadline = std::time::Instant::now() + TOPIC_CREATION_TIMEOUT;
    let all = client.fetch_metadata(None, REQUEST_TIMEOUT).map_err(unreachable)?;
    let partitions_of = |metadata: &rdkafka::metadata::Metadata| {
        metadata
            .topics()
            .iter()
            .find(|topic| topic.name() == options.topic)
            .map(|topic| topic.partitions().len())
            .filter(|partitions| *partitions > 0)
    };
    if let Some(partitions) = partitions_of(&all) {
        return Ok(i32::try_from(partitions).unwrap_or(i32::MAX));
    }
    // A request for one topic makes the brokers create it, if they are allowed to.
    loop {
        let one = client
            .fetch_metadata(Some(&options.topic), REQUEST_TIMEOUT)
            .map_err(unreachable)?;
        if let Some(partitions) = partitions_of(&one) {
            return Ok(i32::try_from(partitions).unwrap_or(i32::MAX));
        }
        let is_final = one
            .topics()
            .iter()
            .any(|topic| topic.name() == options.topic && topic.error().is_some_and(|code| !is_being_created(code)));
        if is_final || std::time::Instant::now() >= deadline {
            return Err(client::missing_topic_error(
                &options.topic,
                &options.brokers,
                &client::topic_names(&all),
            ));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
