//! The manifest of a checkpoint: one object that describes everything a restore needs, generic over the engine's part.
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
//! The header is JSON, so that people and tools of every version can read it: job, time, and the files of the
//! checkpoint, which is all that retention needs. The body is bincode, because operators store opaque bytes in it,
//! which JSON would write as lists of numbers four times as long.
#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::job_files::FileReference;

const MAGIC: &[u8; 4] = b"MSCP";
const LAYOUT_VERSION: u16 = 1;
const FIXED_BYTES: usize = 12;
/// Largest body, which is held in memory whole. It also limits the lengths in damaged bytes.
const BODY_BYTES_MAX: usize = 1 << 30;

/// The manifest of a checkpoint. `T` is the engine's type for the state of one subtask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest<T> {
    /// Facts that need no types of the engine.
    pub header: Header,
    /// Version of `T`. [`Manifest::decode`] refuses other versions.
    pub body_version: u16,
    /// State of all operators.
    pub operators: Vec<OperatorEntry<T>>,
}

/// The header of a manifest, which can be read without the engine's types.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Name of the job; set by `Claim::commit`.
    pub job: String,
    /// Number of the checkpoint.
    pub checkpoint: u64,
    /// The claim that wrote it; set by `Claim::commit`.
    pub epoch: u64,
    /// The attempt of the job that took it.
    pub attempt: u64,
    /// Time of its creation, in milliseconds since 1970-01-01 UTC.
    pub created_ms: i64,
    /// Fingerprint of the job graph.
    pub fingerprint: String,
    /// Number of key groups.
    pub max_parallelism: u16,
    /// Number of subtasks per operator.
    pub parallelism: u32,
    /// Name of the savepoint, which retention never deletes; `None` for a checkpoint.
    pub savepoint: Option<String>,
    /// All files of the checkpoint.
    pub files: Vec<FileReference>,
    /// Further facts for display and for the engine, such as the job spec and the engine version. This crate does not
    /// interpret them.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// The state of one operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorEntry<T> {
    /// Id of the operator.
    pub operator: String,
    /// State of its subtasks, in their order.
    pub subtasks: Vec<T>,
}

impl<T: Serialize + DeserializeOwned> Manifest<T> {
    /// Encodes the manifest as its object's content.
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

    /// Decodes an object's content and verifies its checksum. `place` names the object in errors. `body_version` is the
    /// version of `T`.
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

/// Returns the checksum at the end of a manifest, which the journal records. Does not verify it; decoding does.
///
/// The journal does not record a CRC of the whole object: a CRC over data followed by its own CRC is a constant.
pub fn checksum(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.last_chunk::<4>()?))
}

impl Header {
    /// Decodes only the header, and verifies the checksum of the whole object.
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
        let body = content
            .get(header_end + 8..)
            .ok_or_else(|| damaged("its body is cut"))?;
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

    fn manifest() -> Manifest<Vec<u8>> {
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
