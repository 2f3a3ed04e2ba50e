//! Decoding of records to rows: values and keys by their formats, and metadata.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Int64Builder, MapBuilder, MapFieldNames, StringBuilder, UInt32Builder};
use arrow_array::{
    Array, ArrayRef, Int32Array, Int64Array, RecordBatch, RecordBatchOptions, TimestampMicrosecondArray,
};
use arrow_schema::{DataType, SchemaRef, TimeUnit};
use arrow_select::filter::filter;
use arrow_select::take::take;

use super::partition_queue::FetchedMessage;
use super::record_layout::RecordLayout;
use crate::format::{Decoded, Decoder, Records, Rejection, map_keys};
use crate::{Error, RejectedRecord, SourceFields, TableDefinition};

/// The origin of a delivered column.
enum ColumnOrigin {
    /// Index of the column in the rows of the value's decoder.
    Value(usize),
    /// Index of the column in the rows of the key's decoder.
    Key(usize),
    /// Metadata key, and type of the column.
    Metadata(String, DataType),
}

/// Decodes records of one table into the columns that a reader delivers.
pub(super) struct RecordDecoder {
    schema: SchemaRef,
    origins: Vec<ColumnOrigin>,
    value: Box<dyn Decoder>,
    /// `None` if no key column is delivered.
    key: Option<Box<dyn Decoder>>,
    /// True if records without a value are rows with a NULL column, as in the format raw.
    keeps_tombstones: bool,
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
        let mut origins = Vec::with_capacity(projection.len());
        for &column in projection {
            if let Some(metadata) = column.checked_sub(table.physical_columns()) {
                let data_type = table.schema.field(column).data_type().clone();
                origins.push(ColumnOrigin::Metadata(table.metadata[metadata].key.clone(), data_type));
            } else if let Some(index) = layout.value.iter().position(|index| *index == column) {
                origins.push(ColumnOrigin::Value(of_value.len()));
                of_value.push(index);
            } else if let Some(index) = layout
                .key
                .as_ref()
                .and_then(|key| key.columns.iter().position(|index| *index == column))
            {
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
        let value = layout
            .value_format
            .tracked_decoder(&layout.value_schema(table), &of_value, fields)?;
        let key = match &layout.key {
            Some(key) if !of_key.is_empty() => Some(key.format.decoder(&key.schema(table), &of_key)?),
            _ => None,
        };
        let schema = Arc::new(table.schema.project(projection)?);
        Ok(Self {
            schema,
            origins,
            value,
            key,
            keeps_tombstones: layout.value_format.format.name == "raw",
            data: Vec::new(),
            ranges: Vec::new(),
        })
    }

    /// Returns true if records without a value become rows.
    pub(super) fn keeps_tombstones(&self) -> bool {
        self.keeps_tombstones
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
        if self.ranges.len() < messages.len() {
            values = with_tombstones(values, messages)?;
        }
        let mut keys = match &mut self.key {
            Some(decoder) => Some(decode_keys(decoder.as_mut(), messages, &mut values)?),
            None => None,
        };
        let accepted = values.accepted(messages.len());
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
        let only_accepted = |array: ArrayRef| match &accepted {
            Some(accepted) => filter(array.as_ref(), accepted),
            None => Ok(array),
        };
        let mut columns = Vec::with_capacity(self.origins.len());
        for origin in &self.origins {
            columns.push(match origin {
                ColumnOrigin::Value(index) => values.rows.column(*index).clone(),
                ColumnOrigin::Key(index) => match &mut keys {
                    Some(keys) => only_accepted(keys[*index].clone())?,
                    None => return Err(Error::Invalid("a key column without a key".into())),
                },
                ColumnOrigin::Metadata(key, data_type) => {
                    only_accepted(metadata(key, data_type, messages, topic, partition)?)?
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.rows.num_rows()));
        Ok((
            RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?,
            rejected,
        ))
    }
}

/// Adds a row of NULLs to `decoded` for each message without a value.
fn with_tombstones(decoded: Decoded, messages: &[FetchedMessage]) -> Result<Decoded, Error> {
    let with_value: Vec<usize> = (0..messages.len())
        .filter(|index| messages[*index].payload().is_some())
        .collect();
    let accepted = decoded.accepted(with_value.len());
    let mut rejected = decoded.rejected;
    rejected
        .iter_mut()
        .for_each(|rejection| rejection.record = with_value[rejection.record]);
    let skipped = decoded.skipped.iter().map(|record| with_value[*record]).collect();
    let not_null = decoded
        .rows
        .schema_ref()
        .fields()
        .iter()
        .find(|field| !field.is_nullable())
        .cloned();
    let mut indices = UInt32Builder::with_capacity(messages.len());
    let (mut record, mut row) = (0, 0);
    for (index, message) in messages.iter().enumerate() {
        if message.payload().is_some() {
            if accepted.as_ref().is_none_or(|accepted| accepted.value(record)) {
                indices.append_value(row);
                row += 1;
            }
            record += 1;
        } else if let Some(field) = &not_null {
            rejected.push(Rejection {
                record: index,
                error: format!("the record has no value, and `{}` is NOT NULL", field.name()),
            });
        } else {
            indices.append_null();
        }
    }
    rejected.sort_by_key(|rejection| rejection.record);
    let indices = indices.finish();
    let columns = decoded.rows.columns().iter();
    let columns = columns.map(|column| take(column.as_ref(), &indices, None));
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(Decoded {
        rows: RecordBatch::try_new_with_options(decoded.rows.schema(), columns.collect::<Result<_, _>>()?, &options)?,
        rejected,
        skipped,
    })
}

/// Decodes the keys. Returns the key columns with one row per message, NULL without a key. A record whose key cannot be
/// decoded is removed from `values` and rejected there.
fn decode_keys(
    decoder: &mut dyn Decoder,
    messages: &[FetchedMessage],
    values: &mut Decoded,
) -> Result<Vec<ArrayRef>, Error> {
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
    let before = values.accepted(messages.len());
    let was_accepted = |index: usize| before.as_ref().is_none_or(|accepted| accepted.value(index));
    let mut newly_rejected = vec![false; messages.len()];
    for rejection in decoded.rejected {
        let owner = owners[rejection.record];
        if was_accepted(owner) {
            newly_rejected[owner] = true;
            values.rejected.push(Rejection {
                record: owner,
                error: format!("in the key: {}", rejection.error),
            });
        }
    }
    if newly_rejected.contains(&true) {
        let keep: arrow_array::BooleanArray = (0..messages.len())
            .filter(|index| was_accepted(*index))
            .map(|index| Some(!newly_rejected[index]))
            .collect();
        values.rows = arrow_select::filter::filter_record_batch(&values.rows, &keep)?;
        values.rejected.sort_by_key(|rejection| rejection.record);
    }
    let mut indices = UInt32Builder::with_capacity(messages.len());
    indices.extend(row_of);
    let indices = indices.finish();
    let columns = decoded
        .rows
        .columns()
        .iter()
        .map(|column| take(column.as_ref(), &indices, None));
    Ok(columns.collect::<Result<_, _>>()?)
}

/// Returns a metadata column of the messages.
fn metadata(
    key: &str,
    data_type: &DataType,
    messages: &[FetchedMessage],
    topic: &str,
    partition: i32,
) -> Result<ArrayRef, Error> {
    let array: ArrayRef = match key {
        "topic" => {
            let mut names = StringBuilder::with_capacity(messages.len(), messages.len() * topic.len());
            messages.iter().for_each(|_| names.append_value(topic));
            Arc::new(names.finish())
        }
        "partition" => Arc::new(Int32Array::from_value(partition, messages.len())),
        "offset" => Arc::new(Int64Array::from_iter_values(
            messages.iter().map(FetchedMessage::offset),
        )),
        "timestamp" => {
            let mut times = Int64Builder::with_capacity(messages.len());
            messages
                .iter()
                .for_each(|m| times.append_option(m.timestamp().0.map(|ms| ms.saturating_mul(1000))));
            let (_, values, nulls) = times.finish().into_parts();
            let zone = match data_type {
                DataType::Timestamp(_, zone) => zone.clone(),
                _ => Some("UTC".into()),
            };
            Arc::new(TimestampMicrosecondArray::new(values, nulls).with_timezone_opt(zone))
        }
        "timestamp-type" => {
            let mut kinds = StringBuilder::new();
            messages
                .iter()
                .for_each(|message| kinds.append_value(message.timestamp().1));
            Arc::new(kinds.finish())
        }
        "key" => {
            let mut keys = BinaryBuilder::new();
            messages.iter().for_each(|message| keys.append_option(message.key()));
            Arc::new(keys.finish())
        }
        "headers" => return headers(data_type, messages),
        other => return Err(Error::Invalid(format!("Kafka has no metadata '{other}'"))),
    };
    if array.data_type() == data_type {
        return Ok(array);
    }
    if matches!(data_type, DataType::Int64)
        && matches!(array.data_type(), DataType::Timestamp(TimeUnit::Microsecond, _))
    {
        // Kafka's unit of timestamps is the millisecond.
        let millis = arrow_cast::cast(&array, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        return Ok(arrow_cast::cast(&millis, data_type)?);
    }
    Ok(arrow_cast::cast(&array, data_type)?)
}

/// Returns the headers of the messages.
fn headers(data_type: &DataType, messages: &[FetchedMessage]) -> Result<ArrayRef, Error> {
    let names = match data_type {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => MapFieldNames {
                entry: entries.name().clone(),
                key: fields[0].name().clone(),
                value: fields[1].name().clone(),
            },
            _ => MapFieldNames::default(),
        },
        _ => MapFieldNames::default(),
    };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), BinaryBuilder::new());
    for message in messages {
        message.headers(|name, value| {
            maps.keys().append_value(name);
            maps.values().append_option(value);
        });
        maps.append(true)?;
    }
    let maps: ArrayRef = Arc::new(map_keys::last_of_each(maps.finish())?);
    if maps.data_type() == data_type {
        Ok(maps)
    } else {
        Ok(arrow_cast::cast(&maps, data_type)?)
    }
}
