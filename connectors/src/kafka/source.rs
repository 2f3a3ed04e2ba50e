//! The source of a Kafka table: lists partitions with the offsets at which they start and end.
//!
//! The offsets are requested when a partition is first listed and are stored in the position of its split, so that a
//! restart does not request them again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use millstream_proto::report::listed;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::broker_health::BrokerHealth;
use super::client::{self, REQUEST_TIMEOUT, run_blocking};
use super::client_config::creation_error;
use super::client_context::Context;
use super::error_code;
use super::history_gap;
use super::options::{OffsetsInitializer, SourceOptions, Topics};
use super::reader::KafkaReader;
use super::record_decoder::RecordDecoder;
use super::split::{self, Position};
use crate::{
    Boundedness, Error, InputFields, Outage, ReaderContext, Source, SourceFields, SourceReader, Split, TableDefinition,
};

/// Number of partitions that an error names.
const PARTITIONS_SHOWN_MAX: usize = 10;

/// The source of a Kafka table.
pub(super) struct KafkaSource {
    table: TableDefinition,
    shared: Arc<Shared>,
    /// Health of the brokers, as reported by the readers.
    broker_health: Arc<BrokerHealth>,
    fields: Arc<SourceFields>,
}

/// The state of requests, which run on blocking threads.
struct Shared {
    options: SourceOptions,
    /// Consumer for requests, which reads no records.
    consumer: BaseConsumer<Context>,
    /// True if partitions were listed before, by this attempt or by the one that it was restored from. New partitions
    /// are then read from their first record, so that none is lost.
    was_listed: AtomicBool,
    /// True if the records from the starting offsets on must exist, because those before are read from elsewhere.
    follows_history: AtomicBool,
}

impl KafkaSource {
    /// Creates the source of a table.
    pub(super) fn new(table: &TableDefinition, options: SourceOptions) -> Result<Self, Error> {
        let consumer = options.client.create_with_context(Context::new()).map_err(|error| {
            let error = creation_error(&options.client, &error);
            Error::Invalid(format!("table `{}`: {error}", table.name))
        })?;
        let broker_health = BrokerHealth::new(&options.client, &options.brokers);
        let schema = options.layout.value_schema(table);
        let fields = Arc::new(SourceFields::new(&table.name, &schema));
        let shared = Arc::new(Shared {
            options,
            consumer,
            was_listed: AtomicBool::new(false),
            follows_history: AtomicBool::new(false),
        });
        Ok(Self {
            table: table.clone(),
            shared,
            broker_health,
            fields,
        })
    }

    /// Makes the first listing of partitions fail if records from the starting offsets on are missing.
    #[cfg(feature = "filesystem")]
    pub(super) fn after_history(self) -> Self {
        self.shared.follows_history.store(true, Ordering::Release);
        self
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn schema(&self) -> SchemaRef {
        self.table.schema.clone()
    }

    fn boundedness(&self) -> Boundedness {
        if self.shared.options.is_bounded() {
            Boundedness::Bounded
        } else {
            Boundedness::Unbounded
        }
    }

    fn resume(&self) {
        self.shared.was_listed.store(true, Ordering::Release);
    }

    async fn splits(&self) -> Result<Vec<Split>, Error> {
        let shared = self.shared.clone();
        run_blocking(move || shared.list()).await
    }

    fn discovery_interval(&self) -> Option<Duration> {
        self.shared.options.discovery_interval
    }

    fn has_changed(&self, read: &Split, found: &Split) -> bool {
        match (Position::decode(read), Position::decode(found)) {
            (Ok(read), Ok(found)) => found.end.is_some_and(|end| end > read.next),
            _ => true,
        }
    }

    fn reader(&self, context: ReaderContext) -> Result<Box<dyn SourceReader>, Error> {
        let projection = match &context.projection {
            Some(projection) => projection.clone(),
            None => (0..self.table.schema.fields().len()).collect(),
        };
        let options = &self.shared.options;
        let decoder = RecordDecoder::new(&self.table, &options.layout, &projection, &self.fields)?;
        Ok(Box::new(KafkaReader::new(
            options.client.clone(),
            options.brokers.clone(),
            self.broker_health.clone(),
            decoder,
            context,
        )))
    }

    fn outage(&self) -> Option<Outage> {
        self.broker_health.outage()
    }

    fn input_fields(&self) -> Option<InputFields> {
        self.fields.report()
    }

    async fn checkpoint_completed(&self, splits: &[Split]) -> Result<(), Error> {
        if self.shared.options.group.is_none() {
            return Ok(());
        }
        let mut offsets = TopicPartitionList::new();
        for split in splits {
            let (topic, partition) = split::parse_id(&split.id)?;
            let position = Position::decode(split)?;
            offsets
                .add_partition_offset(topic, partition, Offset::Offset(position.next))
                .map_err(|error| Error::Invalid(error.to_string()))?;
        }
        let shared = self.shared.clone();
        run_blocking(move || {
            shared.consumer.commit(&offsets, CommitMode::Sync).map_err(|error| {
                let message = format!("Kafka: cannot commit the offsets of the consumer group: {error}");
                error_code::error(error.rdkafka_error_code(), message)
            })
        })
        .await
    }
}

impl Shared {
    /// Lists all partitions as splits. Blocks.
    fn list(&self) -> Result<Vec<Split>, Error> {
        let metadata = client::metadata(&self.consumer, &self.options.brokers, REQUEST_TIMEOUT)?;
        let partitions = self.partitions(&metadata)?;
        let starts = if self.was_listed.load(Ordering::Acquire) {
            self.offsets(&OffsetsInitializer::Earliest, &partitions)?
        } else {
            self.check_partitions(&partitions)?;
            let mut starts = self.offsets(&self.options.startup, &partitions)?;
            if self.follows_history.load(Ordering::Acquire) {
                let firsts = self.offsets(&OffsetsInitializer::Earliest, &partitions)?;
                for (partition, first) in &firsts {
                    let start = starts.get(partition).copied().unwrap_or(*first);
                    history_gap::check(&self.options, partition, start, *first)?;
                }
            }
            let others: Vec<_> = partitions
                .iter()
                .filter(|partition| !starts.contains_key(partition))
                .cloned()
                .collect();
            starts.extend(self.offsets(&OffsetsInitializer::Earliest, &others)?);
            starts
        };
        let ends = match &self.options.bounded {
            Some(initializer) => self.offsets(initializer, &partitions)?,
            None => BTreeMap::new(),
        };
        self.was_listed.store(true, Ordering::Release);
        Ok(partitions
            .into_iter()
            .map(|partition| {
                let next = starts.get(&partition).copied().unwrap_or(0);
                let end = ends.get(&partition).copied().filter(|end| *end >= 0);
                let weight = end.map_or(0, |end| u64::try_from(end - next).unwrap_or(0));
                let finished = end.is_some_and(|end| next >= end);
                let (topic, number) = partition;
                let position = Position { next, end }.encode();
                Split {
                    id: format!("{topic}-{number}"),
                    position,
                    weight,
                    finished,
                }
            })
            .collect())
    }

    /// Returns the partitions of the topics in `metadata`, sorted.
    fn partitions(&self, metadata: &Metadata) -> Result<Vec<(String, i32)>, Error> {
        let find = |name: &str| {
            metadata
                .topics()
                .iter()
                .find(|topic| topic.name() == name && !topic.partitions().is_empty())
        };
        let topics: Vec<_> = match &self.options.topics {
            Topics::Names(names) => names
                .iter()
                .map(|name| {
                    let known = || client::topic_names(metadata);
                    find(name).ok_or_else(|| client::missing_topic_error(name, &self.options.brokers, &known()))
                })
                .collect::<Result<_, _>>()?,
            Topics::Pattern(pattern) => metadata
                .topics()
                .iter()
                .filter(|topic| pattern.is_match(topic.name()))
                .collect(),
        };
        if topics.is_empty() && !self.was_listed.load(Ordering::Acquire) {
            tracing::warn!(target: "kafka", "no topic matches 'topic-pattern' yet");
        }
        let mut partitions: Vec<(String, i32)> = topics
            .iter()
            .flat_map(|topic| {
                topic
                    .partitions()
                    .iter()
                    .map(|partition| (topic.name().to_string(), partition.id()))
            })
            .collect();
        partitions.sort();
        Ok(partitions)
    }

    /// Checks that the partitions exist for which an option sets an offset.
    fn check_partitions(&self, partitions: &[(String, i32)]) -> Result<(), Error> {
        let rules = [
            ("scan.startup.specific-offsets", Some(&self.options.startup)),
            ("scan.bounded.specific-offsets", self.options.bounded.as_ref()),
        ];
        for (option, rule) in rules {
            let Some(OffsetsInitializer::Offsets(offsets)) = rule else {
                continue;
            };
            let exists = |number: &i32| partitions.iter().any(|(_, partition)| partition == number);
            if let Some(unknown) = offsets.keys().find(|number| !exists(number)) {
                let mut found: Vec<i32> = partitions.iter().map(|(_, partition)| *partition).collect();
                found.sort_unstable();
                found.dedup();
                return Err(Error::Invalid(format!(
                    "option '{option}' names the partition {unknown}, which the topic does not have; it has {}",
                    listed(found.iter().map(i32::to_string), PARTITIONS_SHOWN_MAX)
                )));
            }
        }
        Ok(())
    }

    /// Returns the offset of each partition by a rule; none for partitions that the rule does not name. Blocks.
    fn offsets(
        &self,
        initializer: &OffsetsInitializer,
        partitions: &[(String, i32)],
    ) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let list = |offset: Offset| {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in partitions {
                list.add_partition_offset(topic, *partition, offset)
                    .map_err(|error| Error::Invalid(format!("Kafka: {topic}-{partition}: {error}")))?;
            }
            Ok::<_, Error>(list)
        };
        let found = match initializer {
            OffsetsInitializer::TimestampMs(milliseconds) => self
                .consumer
                .offsets_for_times(list(Offset::Offset(*milliseconds))?, REQUEST_TIMEOUT)
                .map_err(|error| client::request_error(&self.consumer, &self.options.brokers, &error))?,
            OffsetsInitializer::Group { .. } => self
                .consumer
                .committed_offsets(list(Offset::Invalid)?, REQUEST_TIMEOUT)
                .map_err(|error| client::request_error(&self.consumer, &self.options.brokers, &error))?,
            OffsetsInitializer::Earliest | OffsetsInitializer::Latest | OffsetsInitializer::Offsets(_) => {
                TopicPartitionList::new()
            }
        };
        let mut offsets = BTreeMap::new();
        for partition in partitions {
            let (topic, number) = partition;
            let watermarks = || {
                self.consumer
                    .fetch_watermarks(topic, *number, REQUEST_TIMEOUT)
                    .map_err(|error| client::request_error(&self.consumer, &self.options.brokers, &error))
            };
            let known = match found.find_partition(topic, *number).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => Some(offset),
                _ => None,
            };
            let offset = match initializer {
                OffsetsInitializer::Earliest => watermarks()?.0,
                OffsetsInitializer::Latest => watermarks()?.1,
                OffsetsInitializer::Group { else_latest } => match known {
                    Some(offset) => offset,
                    None if *else_latest => watermarks()?.1,
                    None => watermarks()?.0,
                },
                // No record has that timestamp or a later one: the end.
                OffsetsInitializer::TimestampMs(_) => match known {
                    Some(offset) => offset,
                    None => watermarks()?.1,
                },
                OffsetsInitializer::Offsets(offsets) => match offsets.get(number) {
                    Some(offset) => *offset,
                    None => continue,
                },
            };
            offsets.insert(partition.clone(), offset);
        }
        Ok(offsets)
    }
}
