//! The header line of a CSV file, and the assignment of fields to columns by its names.
//!
//! The header is the first line that is neither blank nor, if comments are allowed, a comment. Columns are matched by
//! exact name; fields that the table does not declare are ignored.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use arrow_schema::SchemaRef;
use millstream_proto::report::listed;
use millstream_proto::spec::did_you_mean;

use super::BYTE_ORDER_MARK;
use super::lines::Lines;
use super::syntax::{Syntax, parse_fields};
use crate::format::parse_error::ParseError;

/// Most names of a header that an error message lists.
const NAMES_SHOWN_MAX: usize = 50;

/// The rules for finding the header of a table's files.
#[derive(Debug, Clone)]
pub struct Header {
    lines: Lines,
    comments: bool,
}

/// The header in the first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FoundHeader {
    /// Offset of the line.
    pub start: usize,
    /// Offset of the end of the line, without the line break.
    pub end: usize,
    /// Offset of the first record after the line.
    pub next: usize,
    /// Number of records up to `next`: the header, and the blank lines and comments before it.
    pub records: u64,
}

impl Header {
    /// Returns the rules of a CSV syntax.
    pub fn of(syntax: &Syntax) -> Self {
        Self {
            lines: Lines::csv(syntax.clone()),
            comments: syntax.comments,
        }
    }

    /// Finds the header in the first bytes of a file; `ended` is true if `data` is the whole file. Returns `None` if
    /// more bytes are needed, or if the whole file has no header.
    pub fn find(&self, data: &[u8], ended: bool) -> Option<FoundHeader> {
        let mut start = if data.starts_with(BYTE_ORDER_MARK) {
            BYTE_ORDER_MARK.len()
        } else {
            0
        };
        let mut records = 0;
        while start < data.len() {
            let end = match self.lines.end(data, start) {
                Some(end) => end,
                None if ended => data.len(),
                None => return None,
            };
            records += 1;
            let line = data.get(start..end).unwrap_or_default();
            let is_skipped = matches!(line, b"" | b"\r") || self.comments && line.starts_with(b"#");
            if !is_skipped {
                return Some(FoundHeader {
                    start,
                    end,
                    next: (end + 1).min(data.len()),
                    records,
                });
            }
            start = end + 1;
        }
        None
    }
}

/// Returns the names in a header line.
fn names(header: &[u8], syntax: &Syntax) -> Result<Vec<String>, ParseError> {
    let header = header.strip_suffix(b"\r").unwrap_or(header);
    let mut names = Vec::new();
    parse_fields(header, syntax.characters(), &mut Vec::new(), |_, name, _| {
        names.push(String::from_utf8_lossy(name).into_owned());
        Ok(())
    })?;
    Ok(names)
}

/// Returns for each field of a line its index in `columns`; `None` if the field is not decoded. Every column of
/// `schema` must be in the header.
pub(crate) fn targets(
    header: &[u8],
    syntax: &Syntax,
    schema: &SchemaRef,
    columns: &[usize],
) -> Result<Vec<Option<usize>>, String> {
    let names = names(header, syntax).map_err(|problem| format!("the header is not readable: {}", problem.0))?;
    let mut targets: Vec<Option<usize>> = vec![None; names.len()];
    for (column, field) in schema.fields().iter().enumerate() {
        let wanted = field.name();
        let mut found = names.iter().zip(&mut targets).filter(|(name, _)| *name == wanted);
        let Some((_, target)) = found.next() else {
            return Err(absent(wanted, &names));
        };
        if found.next().is_some() {
            return Err(format!(
                "the header has the column `{wanted}` more than once, so it is ambiguous; rename one of them in the file"
            ));
        }
        *target = columns.iter().position(|delivered| *delivered == column);
    }
    Ok(targets)
}

fn absent(wanted: &str, names: &[String]) -> String {
    let mut near = names.iter().filter(|name| name.to_lowercase() == wanted.to_lowercase());
    let hint = match (near.next(), near.next()) {
        (Some(name), None) => {
            format!("; `{name}` differs only in case, and names are case-sensitive: declare the column as `{name}`")
        }
        _ => did_you_mean(wanted, names.iter().map(String::as_str)),
    };
    let shown = listed(names.iter().map(|name| format!("`{name}`")), NAMES_SHOWN_MAX);
    format!("the header has no column `{wanted}`; its columns are {shown}{hint}")
}
