//! Encoding of rows to records, for both kinds of writer.
//!
//! In an upsert table, a row is stored under the key of its primary key, and a deleted row is a record without a value
//! (a tombstone). Former versions of rows are left out, because the next version has the same key.

use arrow_array::{BooleanArray, RecordBatch};
use arrow_buffer::BooleanBuffer;
use arrow_schema::SchemaRef;
use arrow_select::filter::filter_record_batch;

use super::metadata_columns::{BatchMetadata, MetadataColumns};
use super::options::{Partitioner, SinkOptions};
use super::topic_producer::{PARTITION_UNASSIGNED, Record};
use crate::changelog::Kinds;
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::{Error, RowKind, TableDefinition};

/// Encodes batches of rows to records of one topic.
pub struct RecordEncoder {
    value: Part,
    key: Option<Part>,
    /// True if records are upserts and tombstones.
    is_upsert: bool,
    /// Records of the present batch that have no value; `None` if there are none.
    tombstones: Option<BooleanBuffer>,
    metadata: MetadataColumns,
    /// Metadata of the present batch; `None` if records are plain.
    of_batch: Option<BatchMetadata>,
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
    fn encode(&mut self, rows: &RecordBatch, kinds: Kinds<'_>) -> Result<(), Error> {
        self.encoded.clear();
        let columns = self.columns.iter().map(|&index| rows.column(index).clone()).collect();
        let rows = RecordBatch::try_new(self.schema.clone(), columns)?;
        self.encoder.encode_changes(&rows, kinds, &mut self.encoded)
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
            is_upsert: layout.is_upsert,
            tombstones: None,
            metadata: MetadataColumns::of(table),
            of_batch: None,
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
        let kinds = Kinds::of(rows)?;
        self.tombstones = None;
        if self.is_upsert && !kinds.are_additions() {
            self.encode_upserts(rows, kinds)?;
        } else {
            let kinds_of_values = if self.is_upsert { Kinds::INSERTS } else { kinds };
            self.value.encode(rows, kinds_of_values)?;
            if let Some(key) = &mut self.key {
                key.encode(rows, Kinds::INSERTS)?;
            }
            self.of_batch = self.metadata.of_batch(rows)?;
        }
        let size =
            |(key, value): (Option<&[u8]>, Option<&[u8]>)| key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        match self.entries().map(size).find(|size| *size > self.record_bytes_max) {
            Some(size) => Err(Error::Data(format!(
                "Kafka topic `{}`: a row of {size} bytes is larger than the {} bytes that 'properties.message.max.bytes' \
                 and the topic's `max.message.bytes` allow",
                self.topic, self.record_bytes_max
            ))),
            None => Ok(()),
        }
    }

    /// Encodes upserts and tombstones. Only the key columns of deleted rows are valid.
    fn encode_upserts(&mut self, rows: &RecordBatch, kinds: Kinds<'_>) -> Result<(), Error> {
        let count = rows.num_rows();
        let is_kept = BooleanBuffer::collect_bool(count, |row| kinds.kind(row) != RowKind::UpdateBefore);
        let kept = filter_record_batch(rows, &BooleanArray::from(is_kept))?;
        let kinds = Kinds::of(&kept)?;
        let tombstones = BooleanBuffer::collect_bool(kept.num_rows(), |row| kinds.kind(row).is_removal());
        let upserts = filter_record_batch(&kept, &BooleanArray::from(!&tombstones))?;
        self.value.encode(&upserts, Kinds::INSERTS)?;
        if let Some(key) = &mut self.key {
            key.encode(&kept, Kinds::INSERTS)?;
        }
        self.of_batch = self.metadata.of_batch(&kept)?;
        self.tombstones = Some(tombstones);
        Ok(())
    }

    /// Returns the number of records of the present batch.
    pub fn len(&self) -> usize {
        self.tombstones
            .as_ref()
            .map_or(self.value.encoded.len(), BooleanBuffer::len)
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

    /// Returns key and value of each record of the present batch.
    fn entries(&self) -> impl Iterator<Item = (Option<&[u8]>, Option<&[u8]>)> {
        let keys = self.key.as_ref().map(|key| &key.encoded);
        entries(keys, &self.value.encoded, self.tombstones.as_ref())
    }

    /// Returns the records of the present batch, which must be plain.
    pub fn plain_records(&mut self) -> impl Iterator<Item = Record<'_>> {
        let (partitioner, partitions, next) = (self.partitioner, self.partitions, &mut self.next_partition);
        let keys = self.key.as_ref().map(|key| &key.encoded);
        let entries = entries(keys, &self.value.encoded, self.tombstones.as_ref());
        entries.map(move |(key, value)| Record {
            partition: next_partition(partitioner, next, partitions),
            key,
            value,
            timestamp_ms: 0,
            headers: &[],
        })
    }

    /// Calls `each` with every record of the present batch.
    pub fn each_record(&mut self, mut each: impl FnMut(&Record<'_>) -> Result<(), Error>) -> Result<(), Error> {
        let Some(metadata) = self.of_batch.take() else {
            return self.plain_records().try_for_each(|record| each(&record));
        };
        let mut next = self.next_partition;
        let result = self.entries().enumerate().try_for_each(|(index, (key, value))| {
            // Of a deleted row, only the key is valid.
            let metadata = value.is_some().then_some(&metadata);
            let headers = metadata.map_or_else(Vec::new, |metadata| metadata.headers(index));
            each(&Record {
                partition: next_partition(self.partitioner, &mut next, self.partitions),
                key: key.or_else(|| metadata.and_then(|metadata| metadata.key(index))),
                value,
                timestamp_ms: metadata.map_or(0, |metadata| metadata.timestamp_ms(index)),
                headers: &headers,
            })
        });
        self.next_partition = next;
        result
    }
}

/// Returns key and value of each record. Records at `tombstones` have no value.
fn entries<'a>(
    keys: Option<&'a EncodedRecords>,
    values: &'a EncodedRecords,
    tombstones: Option<&'a BooleanBuffer>,
) -> impl Iterator<Item = (Option<&'a [u8]>, Option<&'a [u8]>)> {
    let count = tombstones.map_or(values.len(), BooleanBuffer::len);
    let mut next_value = 0;
    (0..count).map(move |index| {
        let value = match tombstones {
            Some(tombstones) if tombstones.value(index) => None,
            _ => {
                next_value += 1;
                Some(values.record(next_value - 1))
            }
        };
        (keys.map(|keys| keys.record(index)), value)
    })
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

#[cfg(test)]
#[path = "record_encoder_tests.rs"]
mod tests;
