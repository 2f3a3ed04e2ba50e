//! Metadata columns of a sink: the timestamp, headers and raw key of a record.

use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::{Array, ArrayRef, BinaryArray, MapArray, RecordBatch, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, TimeUnit};

use super::topic_producer::{Header, header_name_error};
use crate::{Error, TableDefinition};

/// Indices of the metadata columns in the rows of a writer.
pub(super) struct MetadataColumns {
    timestamp: Option<usize>,
    headers: Option<usize>,
    key: Option<usize>,
}

impl MetadataColumns {
    /// Returns the columns that a table writes.
    pub(super) fn of(table: &TableDefinition) -> Self {
        let column = |key: &str| {
            let metadata = table
                .metadata
                .iter()
                .find(|metadata| metadata.key == key && !metadata.is_virtual)?;
            table.schema.index_of(&metadata.column).ok()
        };
        Self {
            timestamp: column("timestamp"),
            headers: column("headers"),
            key: column("key"),
        }
    }

    /// Returns true if the table writes no metadata.
    pub(super) fn is_empty(&self) -> bool {
        self.timestamp.is_none() && self.headers.is_none() && self.key.is_none()
    }

    /// Returns the metadata of a batch; `None` if the table writes no metadata.
    pub(super) fn of_batch(&self, rows: &RecordBatch) -> Result<Option<BatchMetadata>, Error> {
        if self.is_empty() {
            return Ok(None);
        }
        let column = |index: Option<usize>| index.and_then(|index| rows.columns().get(index));
        let times = column(self.timestamp)
            .map(|times| arrow_cast::cast(times, &DataType::Timestamp(TimeUnit::Microsecond, None)))
            .transpose()?;
        let keys = column(self.key)
            .map(|keys| arrow_cast::cast(keys, &DataType::Binary))
            .transpose()?;
        Ok(Some(BatchMetadata {
            times: times.map(|times| times.as_primitive::<TimestampMicrosecondType>().clone()),
            keys: keys.map(|keys| keys.as_binary::<i32>().clone()),
            headers: column(self.headers).map(HeaderColumn::of).transpose()?,
        }))
    }
}

/// The metadata of the records of one batch.
pub(super) struct BatchMetadata {
    times: Option<TimestampMicrosecondArray>,
    keys: Option<BinaryArray>,
    headers: Option<HeaderColumn>,
}

impl BatchMetadata {
    /// Returns the timestamp of a record in milliseconds since 1970; 0 if it has none.
    pub(super) fn timestamp_ms(&self, row: usize) -> i64 {
        self.times
            .as_ref()
            .filter(|times| times.is_valid(row))
            .map_or(0, |times| times.value(row).div_euclid(1000))
    }

    /// Returns the key of a record.
    pub(super) fn key(&self, row: usize) -> Option<&[u8]> {
        let keys = self.keys.as_ref()?;
        keys.is_valid(row).then(|| keys.value(row))
    }

    /// Returns the headers of a record.
    pub(super) fn headers(&self, row: usize) -> Vec<Header> {
        self.headers
            .as_ref()
            .map_or_else(Vec::new, |headers| headers.of_row(row))
    }
}

struct HeaderColumn {
    maps: MapArray,
    names: StringArray,
    values: BinaryArray,
}

impl HeaderColumn {
    fn of(column: &ArrayRef) -> Result<Self, Error> {
        let maps = column
            .as_map_opt()
            .ok_or_else(|| Error::Invalid("the metadata 'headers' must be MAP<STRING, BYTES>".into()))?;
        let names = arrow_cast::cast(maps.keys(), &DataType::Utf8)?;
        let values = arrow_cast::cast(maps.values(), &DataType::Binary)?;
        let names = names.as_string::<i32>().clone();
        // Checked before any record is produced, because a batch is written as a whole or not at all.
        if let Some(name) = names.iter().flatten().find(|name| name.contains('\0')) {
            return Err(header_name_error(name));
        }
        Ok(Self {
            maps: maps.clone(),
            names,
            values: values.as_binary::<i32>().clone(),
        })
    }

    fn of_row(&self, row: usize) -> Vec<Header> {
        if self.maps.is_null(row) {
            return Vec::new();
        }
        let offsets = self.maps.value_offsets();
        let (from, to) = (offsets[row] as usize, offsets[row + 1] as usize);
        (from..to)
            .map(|entry| {
                let value = self.values.is_valid(entry).then(|| self.values.value(entry).to_vec());
                (self.names.value(entry).to_string(), value)
            })
            .collect()
    }
}
