//! Decoding of records to rows: values and keys by their formats, and metadata.

use std::sync::Arc;

use arrow_array::builder::UInt32Builder;
use arrow_array::{ArrayRef, RecordBatch, RecordBatchOptions};
use arrow_schema::{DataType, FieldRef, SchemaRef};
use arrow_select::take::take;

use super::partition_queue::FetchedMessage;
use super::record_layout::RecordLayout;
use super::record_metadata::{self, FORMAT_METADATA_PREFIX};
use super::tombstones;
use crate::changelog::with_kinds;
use crate::format::{Decoder, Records, Rejection};
use crate::{Error, RejectedRecord, SourceFields, TableDefinition};

/// The origin of a delivered column.
enum ColumnOrigin {
    /// Index of the column in the rows of the value's decoder.
    Value(usize),
    /// Index among the metadata columns of the value's decoder.
    FormatMetadata(usize),
    /// Index of the column in the rows of the key's decoder.
    Key(usize),
    /// Metadata key, and type of the column.
    Metadata(String, DataType),
}

/// Treatment of records without a value (tombstones).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tombstones {
    /// They are no rows.
    Dropped,
    /// They are rows of NULL, as in the format raw.
    Rows,
    /// They delete the row of their key.
    Deletes,
}

/// Decodes records of one table into the columns that a reader delivers. Changes have their kind as a further column.
pub(super) struct RecordDecoder {
    schema: SchemaRef,
    origins: Vec<ColumnOrigin>,
    value: Box<dyn Decoder>,
    /// Number of columns in the rows of `value` before the metadata columns.
    value_columns: usize,
    /// `None` if no key column is delivered.
    key: Option<Box<dyn Decoder>>,
    tombstones: Tombstones,
    data: Vec<u8>,
    ranges: Vec<(usize, usize)>,
}

impl RecordDecoder {
    /// Creates a decoder of the columns at `projection` of the table's schema, in that order. Reports the fields of
    /// values to `fields`.
    pub(super) fn new(
        table: &TableDefinition,
        layout: &RecordLayout,
        projection: &[usize],
        fields: &Arc<SourceFields>,
    ) -> Result<Self, Error> {
        let (mut of_value, mut of_key) = (Vec::new(), Vec::new());
        let mut of_format: Vec<(String, FieldRef)> = Vec::new();
        let mut origins = Vec::with_capacity(projection.len());
        let key_column = |column: usize| {
            let key = layout.key.as_ref()?;
            key.columns.iter().position(|index| *index == column)
        };
        for &column in projection {
            let in_value = layout.value.iter().position(|index| *index == column);
            if let Some(metadata) = column.checked_sub(table.physical_columns()) {
                let field = &table.schema.fields()[column];
                let key = &table.metadata[metadata].key;
                origins.push(match key.strip_prefix(FORMAT_METADATA_PREFIX) {
                    Some(key) => {
                        of_format.push((key.to_string(), field.clone()));
                        ColumnOrigin::FormatMetadata(of_format.len() - 1)
                    }
                    None => ColumnOrigin::Metadata(key.clone(), field.data_type().clone()),
                });
            } else if let (Some(index), true) = (in_value, !layout.is_upsert || key_column(column).is_none()) {
                origins.push(ColumnOrigin::Value(of_value.len()));
                of_value.push(index);
            } else if let Some(index) = key_column(column) {
                // In an upsert table, the key alone identifies the row, and a tombstone has nothing else.
                origins.push(ColumnOrigin::Key(of_key.len()));
                of_key.push(index);
            } else {
                let name = table.schema.field(column).name();
                return Err(Error::Invalid(format!(
                    "table `{}`: neither the key nor the value of a record has the column `{name}`",
                    table.name
                )));
            }
        }
        let format = &layout.value_format;
        let value = format.tracked_decoder(&layout.value_schema(table), &of_value, &of_format, fields)?;
        let key = match &layout.key {
            Some(key) if !of_key.is_empty() => Some(key.format.decoder(&key.schema(table), &of_key)?),
            _ => None,
        };
        let schema = Arc::new(table.schema.project(projection)?);
        Ok(Self {
            schema,
            origins,
            value,
            value_columns: of_value.len(),
            key,
            tombstones: match (layout.is_upsert, format.format.name) {
                (true, _) => Tombstones::Deletes,
                (false, "raw") => Tombstones::Rows,
                (false, _) => Tombstones::Dropped,
            },
            data: Vec::new(),
            ranges: Vec::new(),
        })
    }

    /// Returns true if records without a value become rows.
    pub(super) fn keeps_tombstones(&self) -> bool {
        self.tombstones != Tombstones::Dropped
    }

    /// Decodes records of a partition; those without a value only if [`RecordDecoder::keeps_tombstones`]. `split` is
    /// the id of the split.
    pub(super) fn decode(
        &mut self,
        messages: &[FetchedMessage],
        split: &str,
        topic: &str,
        partition: i32,
    ) -> Result<(RecordBatch, Vec<RejectedRecord>), Error> {
        self.data.clear();
        self.ranges.clear();
        for message in messages {
            let Some(payload) = message.payload() else { continue };
            let start = self.data.len();
            self.data.extend_from_slice(payload);
            self.ranges.push((start, self.data.len()));
        }
        let mut values = self.value.decode(Records {
            data: &self.data,
            ranges: &self.ranges,
        })?;
        let has_value = messages.iter().map(|message| message.payload().is_some());
        match self.tombstones {
            Tombstones::Rows if self.ranges.len() < messages.len() => {
                values = tombstones::as_null_rows(values, has_value)?;
            }
            Tombstones::Dropped | Tombstones::Rows => {}
            Tombstones::Deletes => values = tombstones::as_deletes(values, has_value)?,
        }
        let (keys, mut rejections) = match &mut self.key {
            Some(decoder) => decode_keys(decoder.as_mut(), messages)?,
            None => (Vec::new(), Vec::new()),
        };
        if self.tombstones == Tombstones::Deletes {
            let keyless = messages
                .iter()
                .enumerate()
                .filter(|(_, message)| message.key().is_none());
            rejections.extend(keyless.map(|(record, _)| {
                Rejection {
                record,
                error: "the record has no key, so no row that it updates or deletes; with the connector `kafka`, every \
                        record is a row"
                    .into(),
            }
            }));
        }
        values.reject(rejections, messages.len())?;
        let rejected = values
            .rejected
            .iter()
            .map(|rejection| {
                let message = &messages[rejection.record];
                RejectedRecord {
                    payload: message.payload().unwrap_or_default().to_vec(),
                    position: format!("{split}@{}", message.offset()),
                    error: rejection.error.clone(),
                }
            })
            .collect();
        let of_rows = values.row_records(messages.len());
        let mut columns = Vec::with_capacity(self.origins.len());
        for origin in &self.origins {
            columns.push(match origin {
                ColumnOrigin::Value(index) => values.rows.column(*index).clone(),
                ColumnOrigin::FormatMetadata(index) => values.rows.column(self.value_columns + index).clone(),
                ColumnOrigin::Key(index) => match keys.get(*index) {
                    Some(keys) => of_rows.select(keys.clone())?,
                    None => return Err(Error::Invalid("a key column without a key".into())),
                },
                ColumnOrigin::Metadata(key, data_type) => {
                    of_rows.select(record_metadata::column(key, data_type, messages, topic, partition)?)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.rows.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let rows = match values.kinds {
            Some(kinds) => with_kinds(&rows, kinds)?,
            None => rows,
        };
        Ok((rows, rejected))
    }
}

/// Decodes the keys. Returns the key columns with one row per message, NULL without a key or if it cannot be decoded,
/// and the reasons for the latter.
fn decode_keys(
    decoder: &mut dyn Decoder,
    messages: &[FetchedMessage],
) -> Result<(Vec<ArrayRef>, Vec<Rejection>), Error> {
    let (mut data, mut ranges, mut owners) = (Vec::new(), Vec::new(), Vec::new());
    for (index, message) in messages.iter().enumerate() {
        if let Some(key) = message.key() {
            let start = data.len();
            data.extend_from_slice(key);
            ranges.push((start, data.len()));
            owners.push(index);
        }
    }
    let decoded = decoder.decode(Records {
        data: &data,
        ranges: &ranges,
    })?;
    let accepted = decoded.accepted(ranges.len());
    let mut row_of: Vec<Option<u32>> = vec![None; messages.len()];
    let mut row = 0;
    for (record, owner) in owners.iter().enumerate() {
        if accepted.as_ref().is_none_or(|accepted| accepted.value(record)) {
            row_of[*owner] = Some(row);
            row += 1;
        }
    }
    let rejections = decoded.rejected.into_iter().map(|rejection| Rejection {
        record: owners[rejection.record],
        error: format!("in the key: {}", rejection.error),
    });
    let mut indices = UInt32Builder::with_capacity(messages.len());
    indices.extend(row_of);
    let indices = indices.finish();
    let columns = decoded.rows.columns().iter();
    let columns = columns.map(|column| take(column.as_ref(), &indices, None));
    Ok((columns.collect::<Result<_, _>>()?, rejections.collect()))
}
