//! The encoding of an epoch's output in a checkpoint: records in parts, and the target they are published to.
//!
//! A part is a sequence of records, at most [`PART_BYTES_MAX`] and one record long. All numbers are little-endian:
//!
//! ```text
//! flags u8: 1 key, 2 value, 4 timestamp, 8 headers | partition i32 (-1: the partitioner decides)
//! [key length u32, key] [value length u32, value] [timestamp i64, ms]
//! [header count u32, each: name length u32, name, value length u32 (2^32-1: none), value]
//! ```
//!
//! A committable's content is the version ([`VERSION`], u8) and the [`Epoch`] in bincode. Its files are the first
//! parts, in order; the last part may stand in the epoch itself.

use serde::{Deserialize, Serialize};

use crate::kafka::topic_producer::{Header, Record};
use crate::sink::STORED_BYTES_MAX;
use crate::{Committable, Error, OutputFile};

/// Size at which a part is written to the checkpoint storage.
pub const PART_BYTES_MAX: usize = 4 << 20;
/// Largest size of a last part that is stored in the committable rather than in a file.
pub const INLINE_BYTES_MAX: usize = 128 << 10;
/// Most files of one epoch of one subtask; 16 GiB of parts.
pub const EPOCH_FILES_MAX: usize = 4096;

/// Version of the encoding.
pub const VERSION: u8 = 1;

const HAS_KEY: u8 = 1;
const HAS_VALUE: u8 = 2;
const HAS_TIMESTAMP: u8 = 4;
const HAS_HEADERS: u8 = 8;
const NO_VALUE: u32 = u32::MAX;

/// One subtask's output between two checkpoints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    /// Transactional id to publish under.
    pub transactional_id: String,
    /// Attempt that wrote the epoch. The checkpoints of an attempt are published in order.
    pub attempt: String,
    /// Id of the checkpoint.
    pub checkpoint: u64,
    /// Time at which the epoch was prepared, milliseconds since 1970.
    pub prepared_ms: i64,
    /// Topic of the records.
    pub topic: String,
    /// Partition of the markers.
    pub markers: MarkerPartition,
    /// Number of records.
    pub records: u64,
    /// Last part, if it is small; empty otherwise.
    pub inline: Vec<u8>,
}

/// The partition of a sink's markers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MarkerPartition {
    /// Name of the topic.
    pub topic: String,
    /// Number of the partition.
    pub partition: i32,
}

/// An epoch to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingEpoch {
    /// The epoch.
    pub epoch: Epoch,
    /// Files of its parts, in order.
    pub files: Vec<OutputFile>,
}

/// A part of an epoch.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// A file in the checkpoint storage.
    File(&'a OutputFile),
    /// The bytes themselves.
    Inline(&'a [u8]),
}

impl Part<'_> {
    /// Returns the size in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::File(file) => file.length,
            Self::Inline(bytes) => bytes.len() as u64,
        }
    }
}

impl PendingEpoch {
    /// Encodes the epoch as a committable.
    pub fn encode(self) -> Result<Committable, Error> {
        let mut content = vec![VERSION];
        let epoch = bincode::serde::encode_to_vec(&self.epoch, bincode::config::standard())
            .map_err(|error| Error::Invalid(format!("the epoch's output cannot be recorded: {error}")))?;
        content.extend(epoch);
        Ok(Committable {
            content,
            files: self.files,
        })
    }

    /// Decodes the epoch of a committable.
    pub fn decode(committable: Committable) -> Result<Self, Error> {
        let damaged =
            |problem: String| Error::Data(format!("the record of an epoch's output is not readable: {problem}"));
        match committable.content.split_first() {
            Some((&VERSION, rest)) => {
                let (epoch, _) = bincode::serde::decode_from_slice(
                    rest,
                    bincode::config::standard().with_limit::<STORED_BYTES_MAX>(),
                )
                .map_err(|error| damaged(error.to_string()))?;
                Ok(Self {
                    epoch,
                    files: committable.files,
                })
            }
            Some((version, _)) => Err(damaged(format!(
                "its version is {version}, this engine reads {VERSION}"
            ))),
            None => Err(damaged("it is empty".into())),
        }
    }

    /// Returns all parts, in order.
    pub fn parts(&self) -> Vec<Part<'_>> {
        let inline = (!self.epoch.inline.is_empty()).then_some(Part::Inline(&self.epoch.inline));
        self.files.iter().map(Part::File).chain(inline).collect()
    }
}

/// Appends a record to a part.
pub fn push_record(part: &mut Vec<u8>, record: &Record<'_>) -> Result<(), Error> {
    let flag = |bit: u8, is_set: bool| if is_set { bit } else { 0 };
    let flags = flag(HAS_KEY, record.key.is_some())
        | flag(HAS_VALUE, record.value.is_some())
        | flag(HAS_TIMESTAMP, record.timestamp_ms != 0)
        | flag(HAS_HEADERS, !record.headers.is_empty());
    part.push(flags);
    part.extend(record.partition.to_le_bytes());
    for bytes in [record.key, record.value].into_iter().flatten() {
        push_bytes(part, bytes)?;
    }
    if record.timestamp_ms != 0 {
        part.extend(record.timestamp_ms.to_le_bytes());
    }
    if !record.headers.is_empty() {
        part.extend(length(record.headers.len())?.to_le_bytes());
        for (name, value) in record.headers {
            push_bytes(part, name.as_bytes())?;
            match value {
                Some(value) => push_bytes(part, value)?,
                None => part.extend(NO_VALUE.to_le_bytes()),
            }
        }
    }
    Ok(())
}

fn push_bytes(part: &mut Vec<u8>, bytes: &[u8]) -> Result<(), Error> {
    part.extend(length(bytes.len())?.to_le_bytes());
    part.extend_from_slice(bytes);
    Ok(())
}

fn length(length: usize) -> Result<u32, Error> {
    u32::try_from(length)
        .ok()
        .filter(|length| *length != NO_VALUE)
        .ok_or_else(|| Error::Data(format!("{length} bytes in one record: Kafka takes less than 4 GiB")))
}

/// Decodes the records of a part.
pub struct RecordReader<'a> {
    rest: &'a [u8],
    headers: Vec<Header>,
}

impl<'a> RecordReader<'a> {
    /// Creates a reader of all records of a part.
    pub fn new(part: &'a [u8]) -> Self {
        Self {
            rest: part,
            headers: Vec::new(),
        }
    }

    /// Returns the next record if it has neither a timestamp nor headers; `None` at the end of the part or before a
    /// record that has.
    pub fn next_plain(&mut self) -> Result<Option<Record<'a>>, Error> {
        match self.rest.first() {
            Some(flags) if flags & (HAS_TIMESTAMP | HAS_HEADERS) == 0 => {
                let (record, _) = self.read()?;
                Ok(Some(record))
            }
            _ => Ok(None),
        }
    }

    /// Returns the next record; `None` at the end of the part.
    pub fn next_any(&mut self) -> Result<Option<Record<'_>>, Error> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let (record, has_headers) = self.read()?;
        self.headers.clear();
        if has_headers {
            let count = self.number()?;
            for _ in 0..count {
                let name = self.bytes()?.ok_or_else(truncated)?;
                let name = std::str::from_utf8(name).map_err(|_| truncated())?.to_string();
                let value = self.bytes()?.map(<[u8]>::to_vec);
                self.headers.push((name, value));
            }
        }
        Ok(Some(Record {
            headers: &self.headers,
            ..record
        }))
    }

    fn read(&mut self) -> Result<(Record<'a>, bool), Error> {
        let [flags] = self.array()?;
        let partition = i32::from_le_bytes(self.array()?);
        let key = if flags & HAS_KEY == 0 { None } else { self.bytes()? };
        let value = if flags & HAS_VALUE == 0 { None } else { self.bytes()? };
        let timestamp_ms = match flags & HAS_TIMESTAMP {
            0 => 0,
            _ => i64::from_le_bytes(self.array()?),
        };
        let record = Record {
            partition,
            key,
            value,
            timestamp_ms,
            headers: &[],
        };
        Ok((record, flags & HAS_HEADERS != 0))
    }

    fn bytes(&mut self) -> Result<Option<&'a [u8]>, Error> {
        let length = self.number()?;
        if length == NO_VALUE {
            return Ok(None);
        }
        let (bytes, rest) = self.rest.split_at_checked(length as usize).ok_or_else(truncated)?;
        self.rest = rest;
        Ok(Some(bytes))
    }

    fn number(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (array, rest) = self.rest.split_first_chunk().ok_or_else(truncated)?;
        self.rest = rest;
        Ok(*array)
    }
}

fn truncated() -> Error {
    Error::Data("an epoch's output in the checkpoint is not readable: a record is truncated".into())
}
