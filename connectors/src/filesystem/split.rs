//! Splits of files, and the encoding of a position in a split.
//!
//! A file is cut at multiples of the split size; a line or a Parquet row group belongs to the split in which it starts.
//! Cuts depend on the offset alone, so a file that grows keeps the ids of its splits. A compressed file, or a file
//! whose records may contain line breaks, is one split.
//!
//! A position is a version byte (1) and then, in bincode's standard encoding, the fields of [`Position`] in order.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use serde::{Deserialize, Serialize};

use super::location::FileEntry;
use crate::sink::STORED_BYTES_MAX;
use crate::{Error, Split};

const VERSION: u8 = 1;

/// The range of a split and the position in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// Path or URL of the file.
    pub path: String,
    /// Size of the file when the split was made. Reading cannot resume if the file is smaller now.
    pub size: u64,
    /// Modification time of the file when the split was made, microseconds since 1970.
    pub modified_us: i64,
    /// First byte of the split.
    pub start: u64,
    /// End of the split's bytes; `u64::MAX` if the split is the whole file.
    pub end: u64,
    /// Lines: offset of the next record in the decompressed text. Parquet: number of rows of the split already read.
    pub next: u64,
    /// True if a record begins at `next`. If not, a record of the split before may extend into this one.
    pub aligned: bool,
    /// Number of records read since the beginning of the file; meaningful if `start` is 0.
    pub records: u64,
}

impl Position {
    /// Encodes the position for [`Split::position`].
    pub(super) fn encode(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = vec![VERSION];
        bytes.extend(
            bincode::serde::encode_to_vec(self, bincode::config::standard())
                .map_err(|error| Error::Invalid(format!("a position of `{}` cannot be stored: {error}", self.path)))?,
        );
        Ok(bytes)
    }

    /// Decodes the position of a split.
    pub(super) fn decode(split: &Split) -> Result<Self, Error> {
        let damaged = |problem: &str| {
            Error::Invalid(format!(
                "the stored position of the split `{}` is not readable: {problem}",
                split.id
            ))
        };
        match split.position.split_first() {
            Some((&VERSION, rest)) => {
                bincode::serde::decode_from_slice(rest, bincode::config::standard().with_limit::<STORED_BYTES_MAX>())
                    .map(|(position, _)| position)
                    .map_err(|error| damaged(&error.to_string()))
            }
            Some((version, _)) => Err(damaged(&format!(
                "its version is {version}, this engine reads {VERSION}"
            ))),
            None => Err(damaged("it is empty")),
        }
    }

    /// Describes the position for a person: `a.json: byte 42 (3 records)`. `None` if `id` is not the id of a split of
    /// this file. Parquet files are recognised by their extension, because the encoding is the same for all formats.
    pub(super) fn describe(&self, id: &str) -> Option<String> {
        let rest = id.strip_prefix(self.path.as_str())?;
        if !rest.is_empty() && !rest.starts_with('[') {
            return None;
        }
        let unit = if self.path.ends_with(".parquet") { "row" } else { "byte" };
        let records = match (self.start, self.records) {
            (0, records) if records > 0 => format!(" ({records} records)"),
            _ => String::new(),
        };
        Some(format!("{}: {unit} {}{records}", self.path, self.next))
    }

    /// Returns true if some of the split was read.
    pub(super) fn is_resumed(&self, parquet: bool) -> bool {
        self.next > if parquet { 0 } else { self.start }
    }
}

/// Cuts a file into splits, in order. `split_bytes` is `None` for a file that cannot be cut.
pub(super) fn splits_of(file: &FileEntry, split_bytes: Option<u64>, parquet: bool) -> Result<Vec<Split>, Error> {
    let step = split_bytes.filter(|bytes| *bytes > 0 && *bytes < file.size);
    let Some(step) = step else {
        return Ok(vec![split(file, file.path.clone(), 0, u64::MAX, parquet)?]);
    };
    (0..file.size.div_ceil(step))
        .map(|index| {
            let (start, end) = (index * step, (index + 1) * step);
            split(file, format!("{}[{start}..{end}]", file.path), start, end, parquet)
        })
        .collect()
}

fn split(file: &FileEntry, id: String, start: u64, end: u64, parquet: bool) -> Result<Split, Error> {
    let position = Position {
        path: file.path.clone(),
        size: file.size,
        modified_us: file.modified_us,
        start,
        end,
        next: if parquet { 0 } else { start },
        aligned: parquet || start == 0,
        records: 0,
    };
    Ok(Split {
        id,
        position: position.encode()?,
        weight: end.min(file.size) - start,
        finished: false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_described_by_path_and_offset() {
        #[track_caller]
        fn check(path: &str, id: &str, (next, records): (u64, u64), expected: Option<&str>) {
            let position = Position {
                path: path.into(),
                size: 100,
                modified_us: 0,
                start: 0,
                end: u64::MAX,
                next,
                aligned: true,
                records,
            };
            assert_eq!(position.describe(id).as_deref(), expected);
        }
        check("a.json", "a.json", (42, 3), Some("a.json: byte 42 (3 records)"));
        check("a.csv", "a.csv[0..64]", (0, 0), Some("a.csv: byte 0"));
        check("a.parquet", "a.parquet[0..64]", (7, 0), Some("a.parquet: row 7"));
        check("a", "a-3", (7, 0), None);
        check("b.json", "a.json", (7, 0), None);
    }
}
