//! The metadata of Debezium's envelopes: the schema, the times, and the origin of a change.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Array, ArrayRef, Int64Array, MapArray, TimestampMicrosecondArray};
use arrow_buffer::ArrowNativeType;
use arrow_schema::{DataType, Field, FieldRef, Fields, TimeUnit};

use crate::Error;
use crate::format::metadata::FormatMetadata;

/// The metadata keys of the format, as in Flink.
pub(crate) const METADATA: &[FormatMetadata] = &[
    metadata("schema", text),
    metadata("ingestion-timestamp", timestamp),
    metadata("source.timestamp", timestamp),
    metadata("source.database", text),
    metadata("source.schema", text),
    metadata("source.table", text),
    metadata("source.properties", properties),
];

const fn metadata(key: &'static str, data_type: fn() -> DataType) -> FormatMetadata {
    FormatMetadata { key, data_type }
}

fn text() -> DataType {
    DataType::Utf8
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn properties() -> DataType {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Utf8, true),
    ]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

/// A field of the envelope that metadata is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EnvelopeField {
    /// `schema`, beside the payload.
    Schema,
    /// `ts_ms`.
    Time,
    /// `source`.
    Source,
}

/// A metadata column.
pub(super) struct MetadataColumn {
    key: &'static str,
    data_type: DataType,
}

impl MetadataColumn {
    /// Returns the column of a metadata key.
    pub(super) fn new(key: &str, field: &FieldRef) -> Result<Self, Error> {
        let known = METADATA.iter().find(|metadata| metadata.key == key);
        let known = known.ok_or_else(|| Error::Invalid(format!("the format debezium-json has no metadata '{key}'")))?;
        Ok(Self {
            key: known.key,
            data_type: field.data_type().clone(),
        })
    }

    /// Returns the field of the envelope that the column is read from.
    pub(super) fn field(&self) -> EnvelopeField {
        match self.key {
            "schema" => EnvelopeField::Schema,
            "ingestion-timestamp" => EnvelopeField::Time,
            _ => EnvelopeField::Source,
        }
    }

    /// Returns the values of the column, given those of its field; `None` if records do not have it.
    pub(super) fn values(&self, field: Option<&ArrayRef>, rows: usize) -> Result<ArrayRef, Error> {
        let Some(field) = field else {
            return Ok(arrow_array::new_null_array(&self.data_type, rows));
        };
        let values: ArrayRef = match self.key {
            "ingestion-timestamp" => timestamps(field.as_primitive::<Int64Type>()),
            "source.timestamp" => {
                let texts = property(field.as_map(), "ts_ms");
                let times = texts.as_string::<i32>().iter();
                timestamps(&times.map(|text| text.and_then(|text| text.parse().ok())).collect())
            }
            "source.database" => property(field.as_map(), "db"),
            "source.schema" => property(field.as_map(), "schema"),
            "source.table" => property(field.as_map(), "table"),
            _ => field.clone(),
        };
        match values.data_type() == &self.data_type {
            true => Ok(values),
            false => Ok(arrow_cast::cast(&values, &self.data_type)?),
        }
    }
}

impl EnvelopeField {
    /// Returns the field with its type.
    pub(super) fn field(self) -> Field {
        match self {
            Self::Schema => Field::new("schema", DataType::Utf8, true),
            Self::Time => Field::new("ts_ms", DataType::Int64, true),
            Self::Source => Field::new("source", properties(), true),
        }
    }
}

/// Returns times in milliseconds since 1970 as timestamps.
fn timestamps(times_ms: &Int64Array) -> ArrayRef {
    let times = times_ms.iter().map(|ms| ms.and_then(|ms| ms.checked_mul(1000)));
    Arc::new(times.collect::<TimestampMicrosecondArray>().with_timezone("UTC"))
}

/// Returns the value of an entry of each map; NULL without it.
fn property(maps: &MapArray, name: &str) -> ArrayRef {
    let (keys, values) = (maps.keys().as_string::<i32>(), maps.values().as_string::<i32>());
    let mut found = StringBuilder::with_capacity(maps.len(), 0);
    let mut from = maps.offsets().first().map_or(0, |offset| offset.as_usize());
    for (row, length) in maps.offsets().lengths().enumerate() {
        let entries = from..from + length;
        from += length;
        let entry = entries
            .filter(|_| maps.is_valid(row))
            .find(|entry| keys.value(*entry) == name);
        found.append_option(
            entry
                .filter(|entry| values.is_valid(*entry))
                .map(|entry| values.value(entry)),
        );
    }
    Arc::new(found.finish())
}
