//! Metadata columns of a source: the origin, the time, the headers and the raw key of a record.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Int64Builder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{Array, ArrayRef, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow_schema::{DataType, TimeUnit};

use super::partition_queue::FetchedMessage;
use crate::Error;
use crate::format::map_keys;

/// Beginning of the keys of metadata that the format of values reads.
pub(super) const FORMAT_METADATA_PREFIX: &str = "value.";

/// Returns a metadata column of the messages.
pub(super) fn column(
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
