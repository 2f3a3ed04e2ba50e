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
use crate::{Error, Role};

/// A transactional id and the newest of what is known to be published under it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransactionalId {
    pub id: String,
    /// Attempts of the job that published something, as far as they are remembered.
    pub attempts: usize,
    /// The last checkpoint published, and when it was prepared (milliseconds since 1970).
    pub checkpoint: u64,
    pub prepared_ms: i64,
}

/// A partition that `read_committed` readers cannot read to its end, because a transaction is open in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenPartition {
    pub partition: i32,
    /// The first offset that is not readable.
    pub stable_offset: i64,
    pub end_offset: i64,
}

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

    /// The ids that start with `prefix`, in order.
    pub fn list(&self, prefix: &str) -> Result<Vec<TransactionalId>, Error> {
        let connection = client::connection(&self.client);
        let mut found = Vec::new();
        for partition in 0..PARTITIONS {
            let place = MarkerPlace {
                topic: self.markers_topic.clone(),
                partition,
            };
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
        }
        found.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(found)
    }

    /// The partitions of a topic that have a transaction open, whoever's it is.
    pub fn open_partitions(&self, topic: &str) -> Result<Vec<OpenPartition>, Error> {
        let consumer = |isolation: &str| -> Result<BaseConsumer<Context>, Error> {
            client::connection(&self.client)
                .set("group.id", "millstream")
                .set("isolation.level", isolation)
                .create_with_context(Context::new())
                .map_err(|error| Error::Invalid(format!("Kafka client: {error}")))
        };
        let (committed, all) = (consumer("read_committed")?, consumer("read_uncommitted")?);
        let unavailable = |error| Error::Unavailable(format!("Kafka topic `{topic}`: {error}"));
        let metadata = all.fetch_metadata(None, REQUEST_TIMEOUT).map_err(unavailable)?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        let found = found.ok_or_else(|| client::missing_topic(topic, &metadata))?;
        let mut open = Vec::new();
        for partition in found.partitions() {
            let end = |consumer: &BaseConsumer<Context>| {
                let watermarks = consumer.fetch_watermarks(topic, partition.id(), REQUEST_TIMEOUT);
                watermarks.map(|(_, end)| end).map_err(unavailable)
            };
            // In this order: what ends in between does not look open.
            let (end_offset, stable_offset) = (end(&all)?, end(&committed)?);
            if stable_offset < end_offset {
                open.push(OpenPartition {
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
