//! A Kafka table as a source: which partitions there are, and where each begins and ends.
//!
//! Starting and ending places are looked up when a partition is first listed and are plain offsets from then on, in the
//! split's position: a restart never looks them up again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::metadata::Metadata;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Context, REQUEST_TIMEOUT, blocking};
use super::options::{Place, SourceOptions, Topics};
use super::reach::Reach;
use super::reader::KafkaReader;
use super::records::RecordDecoder;
use crate::{
    Boundedness, Error, InputFields, Outage, ReaderContext, Source, SourceFields, SourceReader, Split, TableDefinition,
};

pub struct KafkaSource {
    table: TableDefinition,
    shared: Arc<Shared>,
    /// Of its readers.
    reach: Arc<Reach>,
    fields: Arc<SourceFields>,
}

/// What blocking requests need, on whatever thread they run.
struct Shared {
    options: SourceOptions,
    /// For requests only; it reads nothing.
    consumer: BaseConsumer<Context>,
    /// Partitions were listed before, by this attempt or by the one it resumes: one that is new now is read from its
    /// beginning, or its first records were lost.
    was_listed: AtomicBool,
}

impl KafkaSource {
    pub fn new(table: &TableDefinition, options: SourceOptions) -> Result<Self, Error> {
        let consumer = options.client.create_with_context(Context::new()).map_err(|error| {
            let error = client::refused(&options.client, &error);
            Error::Invalid(format!("table `{}`: {error}", table.name))
        })?;
        let reach = Reach::new(&options.client, &options.brokers);
        let schema = super::records::value_schema(table, &options.layout.value);
        let fields = Arc::new(SourceFields::new(&table.name, &schema));
        let shared = Arc::new(Shared {
            options,
            consumer,
            was_listed: AtomicBool::new(false),
        });
        Ok(Self {
            table: table.clone(),
            shared,
            reach,
            fields,
        })
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
        blocking(move || shared.list()).await
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
            self.reach.clone(),
            decoder,
            context,
        )))
    }

    fn outage(&self) -> Option<Outage> {
        self.reach.outage()
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
            let (topic, partition) = split_name(&split.id)?;
            let position = Position::decode(split)?;
            offsets
                .add_partition_offset(topic, partition, Offset::Offset(position.next))
                .map_err(|error| Error::Invalid(error.to_string()))?;
        }
        let shared = self.shared.clone();
        blocking(move || {
            shared
                .consumer
                .commit(&offsets, CommitMode::Sync)
                .map_err(|error| Error::Unavailable(format!("Kafka: cannot commit the group's offsets: {error}")))
        })
        .await
    }
}

impl Shared {
    fn list(&self) -> Result<Vec<Split>, Error> {
        let metadata = client::metadata(&self.consumer, &self.options.brokers, REQUEST_TIMEOUT)?;
        let partitions = self.partitions(&metadata)?;
        let starts = if self.was_listed.load(Ordering::Acquire) {
            self.offsets(&Place::Earliest, &partitions)?
        } else {
            self.offsets(&self.options.startup, &partitions)?
        };
        let ends = match &self.options.bounded {
            Some(place) => self.offsets(place, &partitions)?,
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
                    find(name).ok_or_else(|| client::missing_topic(name, &self.options.brokers, &known()))
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

    fn offsets(&self, place: &Place, partitions: &[(String, i32)]) -> Result<BTreeMap<(String, i32), i64>, Error> {
        let list = |offset: Offset| {
            let mut list = TopicPartitionList::with_capacity(partitions.len());
            for (topic, partition) in partitions {
                list.add_partition_offset(topic, *partition, offset)
                    .map_err(|error| Error::Invalid(format!("Kafka: {topic}-{partition}: {error}")))?;
            }
            Ok::<_, Error>(list)
        };
        let found = match place {
            Place::TimestampMs(milliseconds) => self
                .consumer
                .offsets_for_times(list(Offset::Offset(*milliseconds))?, REQUEST_TIMEOUT)
                .map_err(|error| client::unreachable(&self.consumer, &self.options.brokers, &error))?,
            Place::Group { .. } => self
                .consumer
                .committed_offsets(list(Offset::Invalid)?, REQUEST_TIMEOUT)
                .map_err(|error| client::unreachable(&self.consumer, &self.options.brokers, &error))?,
            Place::Earliest | Place::Latest | Place::Offsets(_) => TopicPartitionList::new(),
        };
        let mut offsets = BTreeMap::new();
        for partition in partitions {
            let (topic, number) = partition;
            let watermarks = || {
                self.consumer
                    .fetch_watermarks(topic, *number, REQUEST_TIMEOUT)
                    .map_err(|error| client::unreachable(&self.consumer, &self.options.brokers, &error))
            };
            let known = match found.find_partition(topic, *number).map(|element| element.offset()) {
                Some(Offset::Offset(offset)) => Some(offset),
                _ => None,
            };
            let offset = match place {
                Place::Earliest => watermarks()?.0,
                Place::Latest => watermarks()?.1,
                Place::Group { else_latest } => match known {
                    Some(offset) => offset,
                    None if *else_latest => watermarks()?.1,
                    None => watermarks()?.0,
                },
                // Nothing is as late as that: the end.
                Place::TimestampMs(_) => match known {
                    Some(offset) => offset,
                    None => watermarks()?.1,
                },
                Place::Offsets(offsets) => match offsets.get(number) {
                    Some(offset) => *offset,
                    None => continue,
                },
            };
            offsets.insert(partition.clone(), offset);
        }
        Ok(offsets)
    }
}

/// `topic-3` to topic and partition.
pub fn split_name(id: &str) -> Result<(&str, i32), Error> {
    id.rsplit_once('-')
        .and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)))
        .ok_or_else(|| Error::Invalid(format!("`{id}` is not a split of a Kafka source")))
}

/// Where a partition is to be read from, and where to stop.
///
/// Encoded as: version 1 (u8) | next offset (i64 LE) | offset not to be read any more (i64 LE), -1 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    pub next: i64,
    pub end: Option<i64>,
}

const POSITION_VERSION: u8 = 1;

impl Position {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![POSITION_VERSION];
        bytes.extend(self.next.to_le_bytes());
        bytes.extend(self.end.unwrap_or(-1).to_le_bytes());
        bytes
    }

    pub fn decode(split: &Split) -> Result<Self, Error> {
        let wrong = || {
            Error::Invalid(format!(
                "the position of the split `{}` is not one of Kafka's",
                split.id
            ))
        };
        let bytes: &[u8; 17] = split.position.as_slice().try_into().map_err(|_| wrong())?;
        if bytes[0] != POSITION_VERSION {
            return Err(wrong());
        }
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            i64::from_le_bytes(number)
        };
        Ok(Self {
            next: number(1),
            end: Some(number(9)).filter(|end| *end >= 0),
        })
    }
}
