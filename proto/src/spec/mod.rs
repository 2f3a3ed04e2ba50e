//! The text form of the spec: YAML (or JSON, which is also YAML) to [`JobSpec`] and back, without loss.
//!
//! [`parse`] reads the text into a tree with positions, then compares the tree with the list of [`fields`], so that all
//! mistakes of a file are reported together. It leaves `${NAME}` as it is; [`expand`] replaces it separately, because a
//! server uses the variables of its client.

mod expand;
pub mod fields;
mod json_schema;
mod mode;
mod read;
pub mod secret;
pub mod secret_reference;
mod suggest;
pub mod tree;
mod units;
mod write;

use std::collections::BTreeMap;
use std::fmt;

use crate::JobSpec;

pub use expand::{expand, expand_text, variables};
pub use json_schema::json_schema;
pub use mode::apply_mode;
pub use read::parse;
pub use suggest::{as_hint, closest, closest_within, did_you_mean};
pub use units::{format_duration_ms, parse_duration, parse_duration_ms, parse_flink_duration};
pub use write::{to_json, to_yaml};

/// Largest spec that is read.
pub const TEXT_BYTES_MAX: usize = 4 << 20;

/// A spec, and the positions of its values in the text.
#[derive(Debug, Clone)]
pub struct Parsed {
    /// The spec.
    pub spec: JobSpec,
    /// Positions of its values.
    pub positions: Positions,
}

/// Positions of values in the text, by path (`steps.per_booth.sql`).
#[derive(Debug, Clone, Default)]
pub struct Positions(pub BTreeMap<String, Position>);

/// The position of a value in the text. Lines and columns count from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
    /// Line and column of the first character of a literal block, from which positions inside the text are computed;
    /// `None` for other values.
    pub block: Option<(u64, u64)>,
}

impl Positions {
    /// Returns the position of a path, or of its nearest ancestor that has one.
    pub fn find(&self, path: &str) -> Option<Position> {
        let mut path = path;
        loop {
            if let Some(position) = self.0.get(path) {
                return Some(*position);
            }
            path = &path[..path.rfind('.')?];
        }
    }

    /// Returns the line and column in the file of a line and column inside the text at `path`.
    pub fn find_within(&self, path: &str, line: u64, column: u64) -> Option<(u64, u64)> {
        let position = self.find(path)?;
        match position.block {
            Some((first_line, first_column)) => Some((first_line + line - 1, first_column + column - 1)),
            None if line == 1 => Some((position.line, position.column + column - 1)),
            None => Some((position.line, position.column)),
        }
    }
}

/// One mistake in a spec.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// Path of the invalid value (`sources.entries.event_time`); empty for the file as a whole.
    pub path: String,
    /// Line and column, from 1; `None` if unknown.
    pub at: Option<(u64, u64)>,
    /// Description of the mistake and the remedy.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.at {
            write!(f, "{line}:{column}: ")?;
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests;
