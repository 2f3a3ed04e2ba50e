//! Splits of a Kafka source, one per partition, and the encoding of a position in one.

use crate::{Error, Split};

/// Parses the id of a split, `topic-3`, to topic and partition.
pub(super) fn parse_id(id: &str) -> Result<(&str, i32), Error> {
    id.rsplit_once('-')
        .and_then(|(topic, partition)| Some((topic, partition.parse().ok()?)))
        .ok_or_else(|| Error::Invalid(format!("`{id}` is not a split of a Kafka source")))
}

/// The position in a partition.
///
/// Encoded as: version 1 (u8) | next offset (i64 LE) | end offset (i64 LE), -1 for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// Offset of the next record to read.
    pub next: i64,
    /// Offset at which reading ends; `None` if it never ends.
    pub end: Option<i64>,
}

const POSITION_VERSION: u8 = 1;

impl Position {
    /// Encodes the position for [`Split::position`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![POSITION_VERSION];
        bytes.extend(self.next.to_le_bytes());
        bytes.extend(self.end.unwrap_or(-1).to_le_bytes());
        bytes
    }

    /// Decodes the position of a split.
    pub(super) fn decode(split: &Split) -> Result<Self, Error> {
        let wrong = || {
            Error::Invalid(format!(
                "the position of the split `{}` is not a position of a Kafka source",
                split.id
            ))
        };
        let bytes: &[u8; 17] = split.position.as_slice().try_into().map_err(|_| wrong())?;
        if bytes[0] != POSITION_VERSION {
            return Err(wrong());
        }
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            i64::from_le_bytes(number)
        };
        Ok(Self {
            next: number(1),
            end: Some(number(9)).filter(|end| *end >= 0),
        })
    }
}
