//! Administration of transactions: lists transactional ids and open transactions, and aborts them.
//!
//! librdkafka supports neither ListTransactions, DescribeTransactions nor WriteTxnMarkers. Ids are therefore listed
//! from the markers, which leaves out ids that have never published anything; open transactions are found by partition
//! rather than by id (records after the last stable offset); and a transaction is aborted by initialising its id, as
//! its next owner would. A *hanging* transaction, which the transaction coordinator no longer knows, cannot be aborted
//! this way: brokers before KIP-890 could leave one; Kafka's `kafka-transactions.sh find-hanging` and `abort` end it.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::epoch::MarkerPartition;
use super::marker_topic::{self, PARTITIONS};
use super::markers::{self, ReadUntil};
use super::publisher;
use crate::kafka::client::{self, REQUEST_TIMEOUT};
use crate::kafka::client_config::{self, connection_config};
use crate::kafka::client_context::Context;
use crate::kafka::error_code;
use crate::kafka::options::TRANSACTION_TIMEOUT_DEFAULT;
use crate::{BlockedPartition, Error, Role, TransactionalId};

/// Lists and aborts transactions in one cluster. All methods block.
pub struct TransactionAdmin {
    client: ClientConfig,
    markers_topic: String,
}

impl TransactionAdmin {
    /// Creates the administration of a cluster. `properties` are those of a table, without their prefix.
    pub fn new(brokers: &str, properties: &BTreeMap<&str, &str>, markers_topic: &str) -> Result<Self, Error> {
        let client = client_config::from_properties(brokers, properties, Role::Sink)
            .map_err(|(property, message)| Error::Invalid(format!("properties.{property}: {message}")))?;
        Ok(Self {
            client,
            markers_topic: markers_topic.to_string(),
        })
    }

    /// Creates the administration of a cluster with the configuration of a client.
    pub fn with_client(client: &ClientConfig, markers_topic: &str) -> Self {
        Self {
            client: client.clone(),
            markers_topic: markers_topic.to_string(),
        }
    }

    /// Returns the ids that start with `prefix`, in order.
    pub fn list(&self, prefix: &str) -> Result<Vec<TransactionalId>, Error> {
        let mut found = Vec::new();
        for partition in 0..PARTITIONS {
            found.extend(self.list_in(partition, prefix)?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Returns the ids that start with `prefix` and have their markers in one partition.
    pub fn list_in(&self, partition: i32, prefix: &str) -> Result<Vec<TransactionalId>, Error> {
        let connection = connection_config(&self.client);
        let place = MarkerPartition {
            topic: self.markers_topic.clone(),
            partition,
        };
        if !marker_topic::exists(&connection, &place.topic)? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for (id, published) in markers::read(&connection, &place, ReadUntil::Committed, REQUEST_TIMEOUT)? {
            let last = published.attempts.values().max_by_key(|marker| marker.prepared_ms);
            if let (true, Some(last)) = (id.starts_with(prefix), last) {
                found.push(TransactionalId {
                    attempts: published.attempts.len(),
                    checkpoint: last.checkpoint,
                    prepared_ms: last.prepared_ms,
                    id,
                });
            }
        }
        Ok(found)
    }

    /// Returns the partitions of a topic that have an open transaction, of any owner.
    pub fn open_partitions(&self, topic: &str) -> Result<Vec<BlockedPartition>, Error> {
        let consumer = |isolation: &str| {
            let mut connection = connection_config(&self.client);
            client::request_consumer(connection.set("isolation.level", isolation))
        };
        let (committed, all) = (consumer("read_committed")?, consumer("read_uncommitted")?);
        let failed = |error: KafkaError| {
            error_code::error(error.rdkafka_error_code(), format!("Kafka topic `{topic}`: {error}"))
        };
        let metadata = all.fetch_metadata(None, REQUEST_TIMEOUT).map_err(failed)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| {
            let brokers = self.client.get("bootstrap.servers").unwrap_or_default();
            client::missing_topic_error(topic, brokers, &client::topic_names(&metadata))
        })?;
        let mut open = Vec::new();
        for partition in found.partitions() {
            let end = |consumer: &BaseConsumer<Context>| {
                let watermarks = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT);
                watermarks.map(|(_, end)| end).map_err(failed)
            };
            // In this order, so that a transaction that ends in between does not look open.
            let (end_offset, stable_offset) = (end(&all)?, end(&committed)?);
            if stable_offset < end_offset {
                open.push(BlockedPartition {
                    topic: topic.to_string(),
                    partition: partition.id(),
                    stable_offset,
                    end_offset,
                });
            }
        }
        Ok(open)
    }

    /// Aborts the open transaction of an id and fences its owner. No output is lost: a job that is running initialises
    /// the id again and repeats the epoch.
    pub fn abort(&self, transactional_id: &str) -> Result<(), Error> {
        publisher::fence_id(&self.client, transactional_id, TRANSACTION_TIMEOUT_DEFAULT)
    }

    /// Aborts the open transactions of all listed ids that start with `prefix`. Returns the ids.
    pub fn abort_all(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let ids: Vec<String> = self.list(prefix)?.into_iter().map(|listed| listed.id).collect();
        for id in &ids {
            self.abort(id)?;
        }
        Ok(ids)
    }
}
