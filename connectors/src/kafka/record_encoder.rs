//! Encoding of rows to records, for both kinds of writer.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::metadata_columns::MetadataColumns;
use super::options::{Partitioner, SinkOptions};
use super::topic_producer::{PARTITION_UNASSIGNED, Record};
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::{Error, TableDefinition};

/// Encodes batches of rows to records of one topic.
pub struct RecordEncoder {
    value: Part,
    key: Option<Part>,
    metadata: MetadataColumns,
    partitioner: Partitioner,
    partitions: i32,
    next_partition: i32,
    /// Largest size of a key and its value together.
    record_bytes_max: usize,
    topic: String,
}

/// The limits of a topic.
#[derive(Debug, Clone, Copy)]
pub struct TopicLimits {
    /// Number of partitions.
    pub partitions: i32,
    /// Largest size of a key and its value together.
    pub record_bytes_max: usize,
}

/// The encoder of the keys or the values of records, with the result of the present batch.
struct Part {
    encoder: Box<dyn Encoder>,
    columns: Vec<usize>,
    schema: SchemaRef,
    encoded: EncodedRecords,
}

impl Part {
    fn encode(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.encoded.clear();
        let columns = self.columns.iter().map(|&index| rows.column(index).clone()).collect();
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.encoder.encode(&rows, &mut self.encoded)
    }
}

impl RecordEncoder {
    /// Creates the encoder of a subtask.
    pub fn new(
        table: &TableDefinition,
        options: &SinkOptions,
        limits: TopicLimits,
        subtask: usize,
    ) -> Result<Self, Error> {
        let layout = &options.layout;
        let schema = layout.value_schema(table);
        let value = Part {
            encoder: layout.value_format.encoder(&schema, Framing::Bare)?,
            columns: layout.value.clone(),
            schema,
            encoded: EncodedRecords::default(),
        };
        let key = match &layout.key {
            Some(key) => {
                let schema = key.schema(table);
                Some(Part {
                    encoder: key.format.encoder(&schema, Framing::Bare)?,
                    columns: key.columns.clone(),
                    schema,
                    encoded: EncodedRecords::default(),
                })
            }
            None => None,
        };
        Ok(Self {
            value,
            key,
            metadata: MetadataColumns::of(table),
            partitioner: options.partitioner,
            partitions: limits.partitions.max(1),
            next_partition: i32::try_from(subtask).unwrap_or(0),
            record_bytes_max: limits.record_bytes_max,
            topic: options.topic.clone(),
        })
    }

    /// Encodes a batch, whose records are available until the next call. A record that is too large for the topic is an
    /// error, before any record of the batch is produced.
    pub fn encode(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        self.value.encode(rows)?;
        if let Some(key) = &mut self.key {
            key.encode(rows)?;
        }
        let size = |index: usize| {
            let key = self.key.as_ref().map_or(0, |key| key.encoded.record(index).len());
            key + self.value.encoded.record(index).len()
        };
        match (0..self.len()).map(size).find(|size| *size > self.record_bytes_max) {
            Some(size) => Err(Error::Data(format!(
                "Kafka topic `{}`: a row of {size} bytes is larger than the {} bytes that 'properties.message.max.bytes' \
                 and the topic's `max.message.bytes` allow",
                self.topic, self.record_bytes_max
            ))),
            None => Ok(()),
        }
    }

    /// Returns the number of records of the present batch.
    pub fn len(&self) -> usize {
        self.value.encoded.len()
    }

    /// Returns the size of all values of the present batch.
    pub fn value_bytes(&self) -> u64 {
        self.value.encoded.data.len() as u64
    }

    /// Returns the size of all keys of the present batch.
    pub fn key_bytes(&self) -> u64 {
        self.key.as_ref().map_or(0, |key| key.encoded.data.len() as u64)
    }

    /// Returns true if records have neither timestamps nor headers nor raw keys.
    pub fn is_plain(&self) -> bool {
        self.metadata.is_empty()
    }

    /// Returns the records of the present batch, which must be plain.
    pub fn plain_records(&mut self) -> impl Iterator<Item = Record<'_>> {
        let (partitioner, partitions, next) = (self.partitioner, self.partitions, &mut self.next_partition);
        let (values, keys) = (&self.value.encoded, self.key.as_ref().map(|key| &key.encoded));
        (0..values.len()).map(move |index| Record {
            partition: next_partition(partitioner, next, partitions),
            key: keys.map(|keys| keys.record(index)),
            value: Some(values.record(index)),
            timestamp_ms: 0,
            headers: &[],
        })
    }

    /// Calls `each` with every record of the present batch, whose rows are `rows`.
    pub fn each_record(
        &mut self,
        rows: &RecordBatch,
        mut each: impl FnMut(&Record<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.is_plain() {
            return self.plain_records().try_for_each(|record| each(&record));
        }
        let metadata = self.metadata.of_batch(rows)?;
        for index in 0..self.len() {
            let headers = metadata.headers(index);
            each(&Record {
                partition: next_partition(self.partitioner, &mut self.next_partition, self.partitions),
                key: match &self.key {
                    Some(key) => Some(key.encoded.record(index)),
                    None => metadata.key(index),
                },
                value: Some(self.value.encoded.record(index)),
                timestamp_ms: metadata.timestamp_ms(index),
                headers: &headers,
            })?;
        }
        Ok(())
    }
}

/// Returns the partition of the next record; unassigned if the key decides.
fn next_partition(partitioner: Partitioner, next: &mut i32, partitions: i32) -> i32 {
    match partitioner {
        Partitioner::ByKey => PARTITION_UNASSIGNED,
        Partitioner::Fixed => *next % partitions,
        Partitioner::RoundRobin => {
            let partition = *next % partitions;
            *next = (partition + 1) % partitions;
            partition
        }
    }
}
