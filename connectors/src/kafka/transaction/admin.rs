//! For people: which transactional ids there are, what they hold open, and how to end it.
//!
//! librdkafka offers neither ListTransactions, DescribeTransactions nor WriteTxnMarkers. So ids are listed from the
//! markers (an id that has never published anything is not there); what is open is seen by partition, not by id (the
//! records after the last stable offset); and a transaction is ended by initialising its id, as its next owner would.
//! What this cannot end is a *hanging* transaction, one that the transaction coordinator has forgotten: brokers before
//! KIP-890 could make such; Kafka's own `kafka-transactions.sh find-hanging` and `abort` end them.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::epoch::MarkerPlace;
use super::markers::{self, PARTITIONS, Until};
use super::publisher::{self, TRANSACTION_TIMEOUT_DEFAULT};
use crate::kafka::client::{self, Context, REQUEST_TIMEOUT};
use crate::{BlockedPartition, Error, Role, TransactionalId};

/// Looks at, and ends, transactions in one cluster. All its methods block.
pub struct Transactions {
    client: ClientConfig,
    markers_topic: String,
}

impl Transactions {
    /// `properties` as in a table, without their prefix.
    pub fn new(brokers: &str, properties: &BTreeMap<&str, &str>, markers_topic: &str) -> Result<Self, Error> {
        let client = client::config(brokers, properties, Role::Sink)
            .map_err(|(property, message)| Error::Invalid(format!("properties.{property}: {message}")))?;
        Ok(Self {
            client,
            markers_topic: markers_topic.to_string(),
        })
    }

    /// With a client's configuration that is complete already.
    pub fn with_client(client: &ClientConfig, markers_topic: &str) -> Self {
        Self {
            client: client.clone(),
            markers_topic: markers_topic.to_string(),
        }
    }

    /// The ids that start with `prefix`, in order.
    pub fn list(&self, prefix: &str) -> Result<Vec<TransactionalId>, Error> {
        let mut found = Vec::new();
        for partition in 0..PARTITIONS {
            found.extend(self.list_in(partition, prefix)?);
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// Those of one partition of the markers.
    pub fn list_in(&self, partition: i32, prefix: &str) -> Result<Vec<TransactionalId>, Error> {
        let connection = client::connection(&self.client);
        let place = MarkerPlace {
            topic: self.markers_topic.clone(),
            partition,
        };
        if !markers::has_topic(&connection, &place.topic)? {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for (id, published) in markers::read(&connection, &place, Until::Committed, REQUEST_TIMEOUT)? {
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

    /// The partitions of a topic that have a transaction open, whoever's it is.
    pub fn open_partitions(&self, topic: &str) -> Result<Vec<BlockedPartition>, Error> {
        let consumer = |isolation: &str| -> Result<BaseConsumer<Context>, Error> {
            client::connection(&self.client)
                .set("group.id", "millstream")
                .set("isolation.level", isolation)
                .create_with_context(Context::new())
                .map_err(|error| client::refused(&self.client, &error))
        };
        let (committed, all) = (consumer("read_committed")?, consumer("read_uncommitted")?);
        let unavailable = |error| Error::Unavailable(format!("Kafka topic `{topic}`: {error}"));
        let metadata = all.fetch_metadata(None, REQUEST_TIMEOUT).map_err(unavailable)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| {
            let brokers = self.client.get("bootstrap.servers").unwrap_or_default();
            client::missing_topic(topic, brokers, &client::topic_names(&metadata))
        })?;
        let mut open = Vec::new();
        for partition in found.partitions() {
            let end = |consumer: &BaseConsumer<Context>| {
                let watermarks = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT);
                watermarks.map(|(_, end)| end).map_err(unavailable)
            };
            // In this order: what ends in between does not look open.
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

    /// Ends what the id holds open, and fences whoever holds it: a job that still runs takes it back and repeats the
    /// epoch. Nothing is lost by it.
    pub fn abort(&self, transactional_id: &str) -> Result<(), Error> {
        publisher::fence_id(&self.client, transactional_id, TRANSACTION_TIMEOUT_DEFAULT)
    }

    /// [`Transactions::abort`] for every listed id that starts with `prefix`; the ids.
    pub fn abort_all(&self, prefix: &str) -> Result<Vec<String>, Error> {
        let ids: Vec<String> = self.list(prefix)?.into_iter().map(|listed| listed.id).collect();
        for id in &ids {
            self.abort(id)?;
        }
        Ok(ids)
    }
}
