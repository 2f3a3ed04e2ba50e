//! The connector `upsert-kafka`: a topic as a table with a primary key.
//!
//! The key of a record consists of the columns of the primary key. A record is the newest version of the row of its
//! key, and a record without a value (a tombstone) deletes it; the topic is usually compacted. All changes of a key are
//! in one partition, in order, by the key's hash.
//!
//! Sources and sinks are those of [`kafka`](super). A source always starts at the first record, and delivers all
//! records of a partition as updates and deletions; it does not know which key is new.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::Kafka;
use super::option_descriptions::{OPTIONS_UPSERT_SINK, OPTIONS_UPSERT_SOURCE};
use super::record_metadata::FORMAT_METADATA_PREFIX;
use crate::flink_options::{FlinkOption, refused};
use crate::{
    ChangelogSupport, Connector, Error, MetadataDescription, OptionDescription, OptionError, Role, Sink, Source,
    TableDefinition,
};

/// Name of the connector.
const NAME: &str = "upsert-kafka";

/// Options of the connector `kafka` that this one does not have.
const OPTIONS_OF_KAFKA: &[FlinkOption] = &[
    refused(
        "key.fields",
        "the primary key of the table determines the key of records; remove it",
    ),
    refused(
        "sink.partitioner",
        "the hash of the key determines the partition, so that changes stay in order; remove it",
    ),
    refused(
        "scan.startup.*",
        "the table consists of all records, so they are read from the beginning; remove it",
    ),
];

/// Returns true if a table is one of this connector.
pub(super) fn is_upsert(table: &TableDefinition) -> bool {
    table.connector() == NAME
}

/// The connector `upsert-kafka`.
pub struct UpsertKafka;

impl Connector for UpsertKafka {
    fn name(&self) -> &'static str {
        NAME
    }

    fn help(&self) -> &'static str {
        "Reads and writes a topic of an Apache Kafka cluster as a table with a primary key."
    }

    fn roles(&self) -> &'static [Role] {
        Kafka.roles()
    }

    fn options(&self, role: Role) -> &'static [OptionDescription] {
        match role {
            Role::Source => OPTIONS_UPSERT_SOURCE,
            Role::Sink => OPTIONS_UPSERT_SINK,
        }
    }

    fn flink_options(&self) -> &'static [FlinkOption] {
        OPTIONS_OF_KAFKA
    }

    /// The metadata of Kafka's records. The key cannot be written, because the primary key determines it.
    fn metadata(&self) -> Vec<MetadataDescription> {
        let mut metadata = Kafka.metadata();
        metadata.retain(|metadata| !metadata.key.starts_with(FORMAT_METADATA_PREFIX));
        metadata
            .iter_mut()
            .filter(|metadata| metadata.key == "key")
            .for_each(|metadata| metadata.writable = false);
        metadata
    }

    fn uses_format(&self, role: Role) -> bool {
        Kafka.uses_format(role)
    }

    fn validate(&self, table: &TableDefinition, role: Role) -> Vec<OptionError> {
        Kafka.validate(table, role)
    }

    fn changelog(&self, _table: &TableDefinition, _role: Role) -> ChangelogSupport {
        ChangelogSupport::Upsert
    }

    fn is_bounded(&self, table: &TableDefinition) -> bool {
        Kafka.is_bounded(table)
    }

    fn check_external_objects(
        &self,
        tables: Vec<(Role, Arc<TableDefinition>)>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        Kafka.check_external_objects(tables)
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        Kafka.source(table)
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        Kafka.sink(table)
    }
}
