//! The manifest of a checkpoint: one object that says everything a restore needs, generic over what the engine stores.
//!
//! Layout, version 1 (integers little-endian):
//!
//! ```text
//! 0        4   magic "MSCP"
//! 4        2   layout version = 1
//! 6        2   version of the body, chosen by the engine
//! 8        4   H, length of the header
//! 12       H   header, JSON: `Header`
//! 12+H     8   B, length of the body
//! 20+H     B   body, bincode (standard configuration) of `Vec<OperatorEntry<T>>`
//! 20+H+B   4   crc32 (IEEE) of all bytes before it
//! ```
//!
//! The header is JSON because people and tools of every version must read it: which job, when, and which files the
//! checkpoint holds (retention needs no more than that). The body is bincode because operators put opaque bytes into
//! it, of which JSON would make lists of numbers four times as long.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::job_files::FileReference;

const MAGIC: &[u8; 4] = b"MSCP";
const LAYOUT_VERSION: u16 = 1;
const FIXED_BYTES: usize = 12;
/// What operators contribute. It is held in memory whole; a length in damaged bytes that says more is not believed.
const BODY_BYTES_MAX: usize = 1 << 30;

/// A checkpoint. `T` is one subtask's contribution, as the engine defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest<T> {
    pub header: Header,
    /// The version of `T`; a manifest of another version is refused by [`Manifest::decode`].
    pub body_version: u16,
    pub operators: Vec<OperatorEntry<T>>,
}

/// What can be known of a checkpoint without knowing the engine's types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub job: String,
    pub checkpoint: u64,
    /// The claim under which it was written; set by `Claim::commit`.
    pub epoch: u64,
    pub attempt: u64,
    /// Milliseconds since the epoch, UTC.
    pub created_ms: i64,
    /// Fingerprint of the job graph.
    pub fingerprint: String,
    pub max_parallelism: u16,
    pub parallelism: u32,
    /// A name if it is a savepoint: kept until a person deletes it.
    pub savepoint: Option<String>,
    /// Every file the checkpoint needs, by its path below the job's folder.
    pub files: Vec<FileReference>,
    /// Further facts for people and for the engine (the job spec's text, engine version); kept as they are.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// The contributions of one operator's subtasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorEntry<T> {
    pub operator: String,
    pub subtasks: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Manifest<T> {
    pub fn encode(&self) -> Result<Bytes, Error> {
        let unwritable = |what: &str, error: &dyn std::fmt::Display| {
            Error::Invalid(format!(
                "manifest of checkpoint {}: {what}: {error}",
                self.header.checkpoint
            ))
        };
        let header = serde_json::to_vec(&self.header).map_err(|error| unwritable("header", &error))?;
        let header_length = u32::try_from(header.len()).map_err(|error| unwritable("header", &error))?;
        let body = bincode::serde::encode_to_vec(&self.operators, bincode::config::standard())
            .map_err(|error| unwritable("operators", &error))?;
        if body.len() > BODY_BYTES_MAX {
            let message = format!("{} bytes, more than {BODY_BYTES_MAX} (BODY_BYTES_MAX)", body.len());
            return Err(unwritable("operators", &message));
        }
        let mut bytes = Vec::with_capacity(FIXED_BYTES + header.len() + body.len() + 12);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&LAYOUT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.body_version.to_le_bytes());
        bytes.extend_from_slice(&header_length.to_le_bytes());
        bytes.extend_from_slice(&header);
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(&body);
        let checksum = crc32fast::hash(&bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        Ok(Bytes::from(bytes))
    }

    /// `place` names the object in errors. `body_version` is the version of `T` the caller understands.
    pub fn decode(bytes: &[u8], place: &str, body_version: u16) -> Result<Self, Error> {
        let parts = Parts::split(bytes, place)?;
        if parts.body_version != body_version {
            return Err(Error::Invalid(format!(
                "{place} was written by another version of the engine (state version {}, this engine reads {body_version})",
                parts.body_version
            )));
        }
        let (operators, read) =
            bincode::serde::decode_from_slice(parts.body, bincode::config::standard().with_limit::<BODY_BYTES_MAX>())
                .map_err(|error| Error::Corrupt(format!("{place} is damaged: its operators: {error}")))?;
        if read != parts.body.len() {
            return Err(Error::Corrupt(format!("{place} is damaged: bytes after its operators")));
        }
        Ok(Self {
            header: parts.header,
            body_version,
            operators,
        })
    }
}

/// The checksum that a manifest ends with: what the journal says of it. (That of all its bytes would tell nothing: over
/// data with its own CRC behind it a CRC is the same number, whatever the data.) Whether it is right, decoding tells.
pub fn checksum(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.last_chunk::<4>()?))
}

impl Header {
    /// The header alone, with the checksum of the whole object verified.
    pub fn decode(bytes: &[u8], place: &str) -> Result<Self, Error> {
        Ok(Parts::split(bytes, place)?.header)
    }
}

struct Parts<'a> {
    header: Header,
    body_version: u16,
    body: &'a [u8],
}

impl<'a> Parts<'a> {
    fn split(bytes: &'a [u8], place: &str) -> Result<Self, Error> {
        let damaged = |what: &str| Error::Corrupt(format!("{place} is damaged: {what}"));
        let (content, checksum) = bytes.split_last_chunk::<4>().ok_or_else(|| damaged("too short"))?;
        if content.get(..4) != Some(MAGIC) {
            return Err(damaged("not a checkpoint manifest"));
        }
        if crc32fast::hash(content) != u32::from_le_bytes(*checksum) {
            return Err(damaged("its checksum does not match"));
        }
        let version = u16::from_le_bytes(take(content, 4).ok_or_else(|| damaged("too short"))?);
        if version != LAYOUT_VERSION {
            return Err(Error::Invalid(format!(
                "{place} has manifest layout {version}; this engine reads {LAYOUT_VERSION}: use the engine that wrote it"
            )));
        }
        let body_version = u16::from_le_bytes(take(content, 6).ok_or_else(|| damaged("too short"))?);
        let header_length = u32::from_le_bytes(take(content, 8).ok_or_else(|| damaged("too short"))?) as usize;
        let header_end = FIXED_BYTES + header_length;
        let header = content
            .get(FIXED_BYTES..header_end)
            .ok_or_else(|| damaged("its header is cut"))?;
        let header = serde_json::from_slice(header).map_err(|error| damaged(&format!("its header: {error}")))?;
        let body_length = u64::from_le_bytes(take(content, header_end).ok_or_else(|| damaged("its body is cut"))?);
        let body = &content[header_end + 8..];
        if body.len() as u64 != body_length {
            return Err(damaged("its body is cut"));
        }
        Ok(Self {
            header,
            body_version,
            body,
        })
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub fn manifest() -> Manifest<Vec<u8>> {
        Manifest {
            header: Header {
                job: "tolls".into(),
                checkpoint: 7,
                epoch: 2,
                attempt: 1,
                created_ms: 1_700_000_000_000,
                fingerprint: "abc".into(),
                max_parallelism: 128,
                parallelism: 2,
                savepoint: None,
                files: Vec::new(),
                properties: BTreeMap::new(),
            },
            body_version: 3,
            operators: vec![OperatorEntry {
                operator: "window".into(),
                subtasks: vec![vec![1, 2, 3], vec![]],
            }],
        }
    }

    #[test]
    fn a_manifest_reads_back() {
        let bytes = manifest().encode().unwrap();
        assert_eq!(Manifest::decode(&bytes, "m", 3).unwrap(), manifest());
        assert_eq!(Header::decode(&bytes, "m").unwrap(), manifest().header);
    }

    #[test]
    fn every_torn_or_flipped_manifest_is_refused() {
        let bytes = manifest().encode().unwrap();
        for length in 0..bytes.len() {
            assert!(
                Manifest::<Vec<u8>>::decode(&bytes[..length], "m", 3).is_err(),
                "{length}"
            );
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x10;
            assert!(Manifest::<Vec<u8>>::decode(&flipped, "m", 3).is_err(), "{at}");
        }
    }

    #[test]
    fn another_engines_body_is_refused_by_name() {
        let bytes = manifest().encode().unwrap();
        let error = Manifest::<Vec<u8>>::decode(&bytes, "there", 4).unwrap_err();
        assert!(
            error.to_string().starts_with("there was written by another version"),
            "{error}"
        );
    }
}
