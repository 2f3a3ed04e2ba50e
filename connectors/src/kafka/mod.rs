//! Kafka: partitions are splits, assigned by the engine rather than by a consumer group, and positions are offsets
//! stored in checkpoints. Group offsets are only committed for monitoring of the lag.
//!
//! Built on librdkafka, whose property names are those of the Java client for most `properties.*`; see
//! [`client_config`] for the others. Threads of librdkafka fetch records into one bounded queue per partition
//! ([`partition_queue`]), which the slot drains without blocking ([`reader`]) and decodes in batches
//! ([`record_decoder`]). The existence of topics is checked when a job is submitted ([`topic_check`]); outages of
//! brokers are detected when a client reports a lost connection ([`broker_health`]). The sink either produces batches
//! and counts deliveries ([`at_least_once_writer`]), or stores records in the checkpoint and produces them when it is
//! complete ([`transaction`]).
//!
//! The connector [`upsert-kafka`](upsert) has the same sources and sinks, with another layout of records
//! ([`record_layout`]).

mod at_least_once_writer;
mod broker_health;
mod client;
mod client_config;
mod client_context;
mod error_causes;
mod error_code;
mod history_gap;
mod metadata_columns;
mod option_descriptions;
mod options;
mod partition_queue;
mod reader;
mod record_decoder;
mod record_encoder;
mod record_layout;
mod record_metadata;
mod sink;
mod source;
mod split;
mod tombstones;
mod topic_check;
mod topic_producer;
pub mod transaction;
mod upsert;
mod upsert_buffer;

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use futures::future::{BoxFuture, FutureExt};

use self::option_descriptions::{OPTIONS_OF_FLINK, OPTIONS_SINK, OPTIONS_SOURCE};
use self::options::{SinkOptions, SourceOptions};
pub use self::upsert::UpsertKafka;
use crate::format::FormatSpec;
use crate::{
    ChangelogSupport, Connector, Error, FlinkOption, MetadataDescription, OptionDescription, OptionError, Role, Sink,
    Source, Split, TableDefinition,
};

/// The connector `kafka`.
pub struct Kafka;

impl Connector for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn help(&self) -> &'static str {
        "Reads and writes topics of an Apache Kafka cluster."
    }

    fn roles(&self) -> &'static [Role] {
        &[Role::Source, Role::Sink]
    }

    fn options(&self, role: Role) -> &'static [OptionDescription] {
        match role {
            Role::Source => OPTIONS_SOURCE,
            Role::Sink => OPTIONS_SINK,
        }
    }

    fn flink_options(&self) -> &'static [FlinkOption] {
        OPTIONS_OF_FLINK
    }

    fn metadata(&self) -> Vec<MetadataDescription> {
        let description = |key, data_type, writable| MetadataDescription {
            key,
            data_type,
            writable,
        };
        vec![
            description("topic", DataType::Utf8, false),
            description("partition", DataType::Int32, false),
            description("offset", DataType::Int64, false),
            description("timestamp", timestamp_type(), true),
            description("timestamp-type", DataType::Utf8, false),
            description("headers", headers_type(), true),
            description("key", DataType::Binary, true),
            // Those of the format debezium-json.
            description("value.schema", DataType::Utf8, false),
            description("value.ingestion-timestamp", timestamp_type(), false),
            description("value.source.timestamp", timestamp_type(), false),
            description("value.source.database", DataType::Utf8, false),
            description("value.source.schema", DataType::Utf8, false),
            description("value.source.table", DataType::Utf8, false),
            description("value.source.properties", map_type(DataType::Utf8), false),
        ]
    }

    fn uses_format(&self, _role: Role) -> bool {
        true
    }

    fn validate(&self, table: &TableDefinition, role: Role) -> Vec<OptionError> {
        match role {
            Role::Source => SourceOptions::of(table).err().unwrap_or_default(),
            Role::Sink => SinkOptions::of(table).err().unwrap_or_default(),
        }
    }

    fn changelog(&self, table: &TableDefinition, _role: Role) -> ChangelogSupport {
        FormatSpec::of_value(table).map_or(ChangelogSupport::Append, |format| format.changelog())
    }

    fn is_bounded(&self, table: &TableDefinition) -> bool {
        SourceOptions::of(table).is_ok_and(|options| options.is_bounded())
    }

    fn check_external_objects(
        &self,
        tables: Vec<(Role, Arc<TableDefinition>)>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        topic_check::check_topics(tables).boxed()
    }

    fn describe_position(&self, split: &Split) -> Option<String> {
        let (topic, partition) = split::parse_id(&split.id).ok()?;
        let position = split::Position::decode(split).ok()?;
        let end = position
            .end
            .map_or(String::new(), |end| format!(", to be read to {end}"));
        Some(format!("{topic}[{partition}] = {}{end}", position.next))
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        let options = SourceOptions::of(table).map_err(|errors| first_mistake(table, errors))?;
        Ok(Arc::new(source::KafkaSource::new(table, options)?))
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        let options = SinkOptions::of(table).map_err(|errors| first_mistake(table, errors))?;
        Ok(Arc::new(sink::KafkaSink::new(table, options)))
    }
}

impl Kafka {
    /// Creates the source of a checked table whose records follow a history. It fails to start if the topic does not
    /// have all records from the offsets of 'scan.startup.mode' on.
    #[cfg(feature = "filesystem")]
    pub(crate) fn source_after_history(table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        let options = SourceOptions::of(table).map_err(|errors| first_mistake(table, errors))?;
        Ok(Arc::new(source::KafkaSource::new(table, options)?.after_history()))
    }
}

/// Returns the first mistake of a table as an error.
fn first_mistake(table: &TableDefinition, errors: Vec<OptionError>) -> Error {
    let message = errors.into_iter().map(|error| error.message).next().unwrap_or_default();
    Error::Invalid(format!("table `{}`: {message}", table.name))
}

/// Returns `MAP<STRING, BYTES>`.
fn headers_type() -> DataType {
    map_type(DataType::Binary)
}

fn timestamp_type() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// Returns the type of maps of texts to these values, with the field names of a schema that is planned from SQL.
fn map_type(value: DataType) -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", value, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

#[cfg(test)]
mod tests;
