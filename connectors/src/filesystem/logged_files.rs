//! The record of files that a checkpoint has left open, and of the segments with their content.
//!
//! A committable is a version byte (2) and then, in bincode's standard encoding, the suffix of the job's files in
//! progress, the numbers of the segments, and a list of [`LoggedFile`]. Its [`OutputFile`]s are the segments, in the
//! same order. A chunk of a text format holds encoded records without header and compression; a chunk of Parquet holds
//! one Arrow IPC stream.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::part_file::FinalName;
use crate::sink::STORED_BYTES_MAX;
use crate::{Committable, Error, OutputFile};

/// First byte of a committable that records open files.
pub(super) const VERSION: u8 = 2;

/// The open files of one writer at one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LoggedFiles {
    /// Suffix of the names of the job's files in progress.
    pub in_progress_suffix: String,
    /// The files, each of which has a chunk.
    pub files: Vec<LoggedFile>,
    /// The segments that chunks refer to, by number.
    pub segments: BTreeMap<u64, OutputFile>,
}

/// One open file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoggedFile {
    /// Its name once it is published.
    pub name: FinalName,
    /// Its content, in order.
    pub chunks: Vec<Chunk>,
}

/// A part of a segment that holds content of one file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Chunk {
    /// Number of the segment.
    pub segment: u64,
    /// Position in the segment, in bytes.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

impl LoggedFile {
    /// Returns the length of the content in bytes.
    pub(super) fn bytes(&self) -> u64 {
        self.chunks.iter().map(|chunk| chunk.length).sum()
    }
}

impl LoggedFiles {
    /// Encodes the record as a committable that names the segments.
    pub(super) fn encode(&self) -> Result<Committable, Error> {
        let numbers: Vec<u64> = self.segments.keys().copied().collect();
        let record = (&self.in_progress_suffix, numbers, &self.files);
        let mut content = vec![VERSION];
        content.extend(
            bincode::serde::encode_to_vec(record, bincode::config::standard())
                .map_err(|error| Error::Invalid(format!("open files cannot be recorded: {error}")))?,
        );
        Ok(Committable {
            content,
            files: self.segments.values().cloned().collect(),
        })
    }

    /// Decodes what follows the version byte of a committable with these segments.
    pub(super) fn decode(encoded: &[u8], segments: &[OutputFile]) -> Result<Self, Error> {
        let limit = bincode::config::standard().with_limit::<STORED_BYTES_MAX>();
        let (record, _) =
            bincode::serde::decode_from_slice(encoded, limit).map_err(|error| damaged(error.to_string()))?;
        let (in_progress_suffix, numbers, files): (String, Vec<u64>, Vec<LoggedFile>) = record;
        if numbers.len() != segments.len() {
            return Err(damaged(format!(
                "it names {} segments of {}",
                segments.len(),
                numbers.len()
            )));
        }
        let segments: BTreeMap<u64, OutputFile> = numbers.into_iter().zip(segments.iter().cloned()).collect();
        let is_in_segment = |chunk: &Chunk| {
            let end = chunk.offset.checked_add(chunk.length);
            let segment = segments.get(&chunk.segment);
            end.zip(segment).is_some_and(|(end, segment)| end <= segment.length)
        };
        match files
            .iter()
            .flat_map(|file| &file.chunks)
            .find(|chunk| !is_in_segment(chunk))
        {
            Some(chunk) => Err(damaged(format!(
                "the {} bytes at {} of segment {} are outside of the segments",
                chunk.length, chunk.offset, chunk.segment
            ))),
            None => Ok(Self {
                in_progress_suffix,
                files,
                segments,
            }),
        }
    }
}

fn damaged(problem: String) -> Error {
    Error::Data(format!("the record of open files is not readable: {problem}"))
}
