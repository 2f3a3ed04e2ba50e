//! The buffer of an upsert table's writer, which keeps the newest record of each key.
//!
//! Changes of a key that follow one another soon become one record. The order of records of different keys is that of
//! their first change, which means nothing to readers.

use std::time::Duration;

use ahash::AHashMap;

use super::topic_producer::{Header, Record};

/// Bytes of keys and values at which the buffer is written, whatever its number of keys.
const BUFFERED_BYTES_MAX: usize = 64 << 20;

/// The options of a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufferOptions {
    /// Number of keys at which the buffer is written.
    pub rows_max: usize,
    /// Longest time for which a record is kept back.
    pub interval: Duration,
}

/// The newest record of each key.
pub(super) struct UpsertBuffer {
    rows_max: usize,
    /// Index in `records` of each key.
    by_key: AHashMap<Vec<u8>, usize>,
    records: Vec<Buffered>,
    value_bytes: usize,
    key_bytes: usize,
}

struct Buffered {
    partition: i32,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp_ms: i64,
    headers: Vec<Header>,
}

impl UpsertBuffer {
    /// Creates an empty buffer.
    pub(super) fn new(options: BufferOptions) -> Self {
        Self {
            rows_max: options.rows_max,
            by_key: AHashMap::new(),
            records: Vec::new(),
            value_bytes: 0,
            key_bytes: 0,
        }
    }

    /// Adds a record in place of one with the same key.
    pub(super) fn insert(&mut self, record: &Record<'_>) {
        self.value_bytes += record.value.map_or(0, <[u8]>::len);
        let buffered = Buffered {
            partition: record.partition,
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp_ms: record.timestamp_ms,
            headers: record.headers.to_vec(),
        };
        let known = record.key.and_then(|key| self.by_key.get(key));
        if let Some(former) = known.and_then(|index| self.records.get_mut(*index)) {
            self.value_bytes -= former.value.as_ref().map_or(0, Vec::len);
            *former = buffered;
            return;
        }
        if let Some(key) = record.key {
            self.key_bytes += key.len();
            self.by_key.insert(key.to_vec(), self.records.len());
        }
        self.records.push(buffered);
    }

    /// Returns true if the buffer is to be written.
    pub(super) fn is_full(&self) -> bool {
        self.records.len() >= self.rows_max || self.value_bytes + self.key_bytes >= BUFFERED_BYTES_MAX
    }

    /// Returns the number of records.
    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the size of all values.
    pub(super) fn value_bytes(&self) -> usize {
        self.value_bytes
    }

    /// Returns the records.
    pub(super) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.records.iter().map(|record| Record {
            partition: record.partition,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            timestamp_ms: record.timestamp_ms,
            headers: &record.headers,
        })
    }

    /// Removes all records.
    pub(super) fn clear(&mut self) {
        self.by_key.clear();
        self.records.clear();
        (self.value_bytes, self.key_bytes) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::topic_producer::PARTITION_UNASSIGNED;

    fn record<'a>(key: &'a str, value: Option<&'a str>) -> Record<'a> {
        Record {
            partition: PARTITION_UNASSIGNED,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            timestamp_ms: 0,
            headers: &[],
        }
    }

    fn content(buffer: &UpsertBuffer) -> Vec<(String, Option<String>)> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let records = buffer.records();
        records
            .map(|record| (text(record.key.unwrap_or_default()), record.value.map(text)))
            .collect()
    }

    #[test]
    fn the_last_record_of_a_key_stays() {
        let mut buffer = UpsertBuffer::new(BufferOptions {
            rows_max: 2,
            interval: Duration::from_secs(1),
        });
        for (key, value) in [("a", Some("1")), ("a", None), ("a", Some("three"))] {
            buffer.insert(&record(key, value));
        }
        assert_eq!(content(&buffer), [("a".into(), Some("three".into()))]);
        assert_eq!((buffer.len(), buffer.value_bytes(), buffer.is_full()), (1, 5, false));
        buffer.insert(&record("b", None));
        assert_eq!(
            content(&buffer),
            [("a".into(), Some("three".into())), ("b".into(), None)]
        );
        assert!(buffer.is_full());
        buffer.clear();
        assert_eq!((buffer.len(), buffer.value_bytes(), buffer.is_full()), (0, 0, false));
        buffer.insert(&record("a", Some("4")));
        assert_eq!(content(&buffer), [("a".into(), Some("4".into()))]);
    }
}
