//! Kafka: partitions are splits, assigned by the engine and not by a consumer group; positions are offsets kept in
//! checkpoints. Group offsets are only reported back, for lag tools.
//!
//! Built on librdkafka. Its names are those of the Java client for most `properties.*`; see [`client`] for those that
//! are translated. Records are fetched by librdkafka's threads into one bounded queue per partition, drained by the
//! slot without blocking ([`queue`], [`reader`]), and decoded many at a time ([`records`]). Whether topics exist is
//! looked up when a job is submitted ([`look_up`]), whether brokers can be reached when a client doubts it ([`reach`]).
//! The sink produces whole batches and counts deliveries ([`sink`]), or leaves them to the checkpoint
//! ([`transaction`]).

mod client;
mod explain;
mod look_up;
mod options;
mod queue;
mod reach;
mod reader;
mod records;
mod sink;
mod source;
mod topic;
pub mod transaction;

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};
use futures::future::{BoxFuture, FutureExt};

use self::options::{OPTIONS_SINK, OPTIONS_SOURCE, SinkOptions, SourceOptions};
use crate::{
    Connector, Error, MetadataDescription, OptionDescription, OptionError, Role, Sink, Source, Split, TableDefinition,
};

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
            description(
                "timestamp",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                true,
            ),
            description("timestamp-type", DataType::Utf8, false),
            description("headers", headers_type(), true),
            description("key", DataType::Binary, true),
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

    fn is_bounded(&self, table: &TableDefinition) -> bool {
        SourceOptions::of(table).is_ok_and(|options| options.is_bounded())
    }

    fn check_external_objects(
        &self,
        tables: Vec<(Role, Arc<TableDefinition>)>,
    ) -> BoxFuture<'static, Vec<Result<(), Error>>> {
        look_up::topics(tables).boxed()
    }

    fn describe_position(&self, split: &Split) -> Option<String> {
        let (topic, partition) = source::split_name(&split.id).ok()?;
        let position = source::Position::decode(split).ok()?;
        let end = position
            .end
            .map_or(String::new(), |end| format!(", to be read to {end}"));
        Some(format!("{topic}[{partition}] = {}{end}", position.next))
    }

    fn source(&self, table: &TableDefinition) -> Result<Arc<dyn Source>, Error> {
        let options = SourceOptions::of(table).map_err(|errors| first(table, errors))?;
        Ok(Arc::new(source::KafkaSource::new(table, options)?))
    }

    fn sink(&self, table: &TableDefinition) -> Result<Arc<dyn Sink>, Error> {
        let options = SinkOptions::of(table).map_err(|errors| first(table, errors))?;
        Ok(Arc::new(sink::KafkaSink::new(table, options)))
    }
}

fn first(table: &TableDefinition, errors: Vec<OptionError>) -> Error {
    let message = errors.into_iter().map(|error| error.message).next().unwrap_or_default();
    Error::Invalid(format!("table `{}`: {message}", table.name))
}

/// `MAP<STRING, BYTES>`, as the table's schema spells it where planned from SQL.
fn headers_type() -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Binary, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

#[cfg(test)]
mod tests;
