//! Rows to records: what both kinds of writer do before they part.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use super::extras::Extras;
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::kafka::options::{Partitioner, SinkOptions};
use crate::kafka::records::{key_schema, value_schema};
use crate::kafka::topic::{PARTITION_UNASSIGNED, Record};
use crate::{Error, TableDefinition};

pub struct RowEncoder {
    value: Part,
    key: Option<Part>,
    /// Metadata columns to be written.
    extras: Extras,
    partitioner: Partitioner,
    partitions: i32,
    next_partition: i32,
    /// Of key and value together.
    record_bytes_max: usize,
    topic: String,
}

/// What a topic takes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    pub partitions: i32,
    pub record_bytes_max: usize,
}

/// The encoder of a record's value or key, and what it made of the present batch.
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

impl RowEncoder {
    pub fn new(table: &TableDefinition, options: &SinkOptions, target: Target, subtask: usize) -> Result<Self, Error> {
        let layout = &options.layout;
        let schema = value_schema(table, &layout.value);
        let value = Part {
            encoder: layout.value_format.encoder(&schema, Framing::Bare)?,
            columns: layout.value.clone(),
            schema,
            encoded: EncodedRecords::default(),
        };
        let key = match &layout.key {
            Some(key) => {
                let schema = key_schema(table, key);
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
            extras: Extras::of(table),
            partitioner: options.partitioner,
            partitions: target.partitions.max(1),
            next_partition: i32::try_from(subtask).unwrap_or(0),
            record_bytes_max: target.record_bytes_max,
            topic: options.topic.clone(),
        })
    }

    /// Encodes a batch; its records are there until the next call. One that the topic would refuse is an error here,
    /// before any of them leaves.
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
                 and the topic's own `max.message.bytes` leave for one",
                self.topic, self.record_bytes_max
            ))),
            None => Ok(()),
        }
    }

    pub fn len(&self) -> usize {
        self.value.encoded.len()
    }

    pub fn value_bytes(&self) -> u64 {
        self.value.encoded.data.len() as u64
    }

    pub fn key_bytes(&self) -> u64 {
        self.key.as_ref().map_or(0, |key| key.encoded.data.len() as u64)
    }

    /// Records have neither timestamps nor headers nor raw keys.
    pub fn is_plain(&self) -> bool {
        self.extras.is_empty()
    }

    /// The records of the present batch, where they are plain.
    pub fn plain_records(&mut self) -> impl Iterator<Item = Record<'_>> {
        let (partitioner, partitions, next_partition) = (self.partitioner, self.partitions, &mut self.next_partition);
        let (values, keys) = (&self.value.encoded, self.key.as_ref().map(|key| &key.encoded));
        (0..values.len()).map(move |index| Record {
            partition: next(partitioner, next_partition, partitions),
            key: keys.map(|keys| keys.record(index)),
            value: Some(values.record(index)),
            timestamp_ms: 0,
            headers: &[],
        })
    }

    /// Calls `each` with every record of the present batch, which is that of `rows`.
    pub fn each_record(
        &mut self,
        rows: &RecordBatch,
        mut each: impl FnMut(&Record<'_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        if self.is_plain() {
            return self.plain_records().try_for_each(|record| each(&record));
        }
        let extras = self.extras.columns(rows)?;
        for index in 0..self.len() {
            let headers = extras.headers(index);
            each(&Record {
                partition: next(self.partitioner, &mut self.next_partition, self.partitions),
                key: match &self.key {
                    Some(key) => Some(key.encoded.record(index)),
                    None => extras.key(index),
                },
                value: Some(self.value.encoded.record(index)),
                timestamp_ms: extras.timestamp_ms(index),
                headers: &headers,
            })?;
        }
        Ok(())
    }
}

/// The partition of the next record, where it is not the key that decides.
fn next(partitioner: Partitioner, next: &mut i32, partitions: i32) -> i32 {
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
