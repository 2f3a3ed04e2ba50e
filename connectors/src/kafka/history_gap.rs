//! The records between the end of a history and the first record that a topic still has.

use std::time::{Duration, Instant};

use millstream_proto::spec::format_duration_ms;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};

use super::client::{REQUEST_TIMEOUT, request_error};
use super::client_config::creation_error;
use super::client_context::Context;
use super::options::{OffsetsInitializer, SourceOptions};
use crate::Error;

/// Checks that a partition has the record that follows the history, which is the one at `start`. `first` is the offset
/// of the first record that the partition still has. Blocks.
pub(super) fn check(options: &SourceOptions, partition: &(String, i32), start: i64, first: i64) -> Result<(), Error> {
    let (topic, number) = partition;
    match &options.startup {
        OffsetsInitializer::Offsets(offsets) => match offsets.get(number) {
            None => Err(Error::Invalid(format!(
                "'scan.startup.specific-offsets' has no offset for {topic}-{number}: give the offset of the first record \
                 that is not in the files for each partition (it has records from the offset {first} on)"
            ))),
            Some(_) if start < first => Err(Error::Invalid(format!(
                "the history ends before the offset {start} of {topic}-{number}, which begins at the offset {first}: {} \
                 records are missing. Extend the history up to the offset {first}, and set \
                 'scan.startup.specific-offsets' accordingly",
                first - start
            ))),
            Some(_) => Ok(()),
        },
        // The records before `first` were deleted, and may have been later than the end of the history.
        OffsetsInitializer::TimestampMs(end_ms) if first > 0 && start == first => {
            let Some(found_ms) = timestamp_ms(options, partition, first)? else {
                return Ok(());
            };
            let missing_ms = u64::try_from(found_ms - end_ms).unwrap_or(0);
            if missing_ms == 0 {
                return Ok(());
            }
            let missing = format_duration_ms(missing_ms.div_ceil(1000) * 1000);
            Err(Error::Invalid(format!(
                "the history ends {missing} before {topic}-{number} begins (at the offset {first}, {found_ms} ms since \
                 1970): the records of that time may be missing. Extend the history, and set \
                 'scan.startup.timestamp-millis' accordingly"
            )))
        }
        _ => Ok(()),
    }
}

/// Returns the timestamp of the record at an offset; `None` if there is no record yet. Blocks.
fn timestamp_ms(options: &SourceOptions, (topic, number): &(String, i32), offset: i64) -> Result<Option<i64>, Error> {
    let consumer: BaseConsumer<Context> = options
        .client
        .create_with_context(Context::new())
        .map_err(|error| creation_error(&options.client, &error))?;
    let failed = |error| request_error(&consumer, &options.brokers, &error);
    let (_, end) = consumer
        .fetch_watermarks(topic, *number, REQUEST_TIMEOUT)
        .map_err(failed)?;
    if offset >= end {
        return Ok(None);
    }
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, *number, Offset::Offset(offset))
        .map_err(failed)?;
    consumer.assign(&list).map_err(failed)?;
    let deadline = Instant::now() + REQUEST_TIMEOUT;
    while Instant::now() < deadline {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            return Ok(record.map_err(failed)?.timestamp().to_millis());
        }
    }
    Err(Error::Unavailable(format!(
        "Kafka: the record at the offset {offset} of {topic}-{number} could not be read within {} s",
        REQUEST_TIMEOUT.as_secs()
    )))
}
