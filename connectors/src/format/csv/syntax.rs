//! The syntax of a table's CSV records: RFC 4180 with configurable characters and an optional escape character.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use crate::Error;
use crate::format::parse_error::{CellResult, ParseError, excerpt};
use crate::options::Options;

/// The options of a table that define its CSV syntax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    /// Character between fields.
    pub delimiter: u8,
    /// Character around quoted fields; `None` if quotes have no meaning.
    pub quote: Option<u8>,
    /// Character that makes the next one content.
    pub escape: Option<u8>,
    /// Unquoted text that stands for NULL.
    pub null_literal: Option<String>,
    /// True if lines that start with `#` are skipped.
    pub comments: bool,
    /// Character between the elements of an array.
    pub array_delimiter: u8,
    /// True if files start with a header.
    pub header: bool,
    /// True if quoted fields may contain line breaks.
    pub quoted_newlines: bool,
}

impl Syntax {
    /// Reads the options `csv.*`.
    pub fn new(options: &Options<'_>) -> Result<Self, Error> {
        let unquoted = options.boolean("csv.disable-quote-character")?.unwrap_or(false);
        let quote = if unquoted {
            None
        } else {
            Some(options.byte("csv.quote-character")?.unwrap_or(b'"'))
        };
        let syntax = Self {
            delimiter: options.byte("csv.field-delimiter")?.unwrap_or(b','),
            quote,
            escape: options.byte("csv.escape-character")?,
            null_literal: options.text("csv.null-literal").map(str::to_string),
            comments: options.boolean("csv.allow-comments")?.unwrap_or(false),
            array_delimiter: options.byte("csv.array-element-delimiter")?.unwrap_or(b';'),
            header: options.boolean("csv.header")?.unwrap_or(false),
            quoted_newlines: quote.is_some() && options.boolean("csv.quoted-newlines")?.unwrap_or(true),
        };
        if Some(syntax.delimiter) == syntax.quote || matches!(syntax.delimiter, b'\n' | b'\r') {
            return Err(Error::Invalid(format!(
                "table `{}`: 'csv.field-delimiter' must differ from the quote character and from line breaks",
                options.table()
            )));
        }
        Ok(syntax)
    }

    /// Returns the characters that divide a record into fields.
    pub(super) fn characters(&self) -> Characters {
        Characters {
            delimiter: self.delimiter,
            quote: self.quote,
            escape: self.escape,
        }
    }
}

/// The characters that divide a record into fields.
#[derive(Debug, Clone, Copy)]
pub(super) struct Characters {
    delimiter: u8,
    quote: Option<u8>,
    escape: Option<u8>,
}

/// Parses a record, and calls `field` with the index of each field, its content and true if it was quoted. Returns the
/// number of fields. `content` is a buffer for reuse.
#[inline]
pub(super) fn parse_fields(
    record: &[u8],
    syntax: Characters,
    content: &mut Vec<u8>,
    mut field: impl FnMut(usize, &[u8], bool) -> CellResult,
) -> Result<usize, ParseError> {
    let Characters {
        delimiter,
        quote,
        escape,
    } = syntax;
    let mut fields = 0;
    let mut at = 0;
    loop {
        content.clear();
        let in_quotes = quote.is_some() && record.get(at).copied() == quote;
        if in_quotes {
            let open = at;
            at += 1;
            loop {
                match record.get(at).copied() {
                    None => {
                        return Err(ParseError::new(format!(
                            "the quote opened at byte {open} is never closed"
                        )));
                    }
                    byte if byte == quote => {
                        if record.get(at + 1).copied() != quote {
                            break;
                        }
                        content.extend(quote);
                        at += 2;
                    }
                    Some(byte) => match record.get(at + 1) {
                        Some(escaped) if Some(byte) == escape => {
                            content.push(*escaped);
                            at += 2;
                        }
                        _ => {
                            content.push(byte);
                            at += 1;
                        }
                    },
                }
            }
            at += 1;
            while record.get(at) == Some(&b' ') && delimiter != b' ' {
                at += 1;
            }
            if record.get(at).is_some_and(|byte| *byte != delimiter) {
                return Err(ParseError::new(format!(
                    "{} follows a closing quote at byte {at}; a quote inside a quoted field is written twice",
                    excerpt(record.get(at..).unwrap_or_default())
                )));
            }
        } else {
            while let Some(byte) = record.get(at).copied().filter(|byte| *byte != delimiter) {
                match record.get(at + 1) {
                    Some(escaped) if Some(byte) == escape => {
                        content.push(*escaped);
                        at += 2;
                    }
                    _ => {
                        content.push(byte);
                        at += 1;
                    }
                }
            }
        }
        field(fields, content, in_quotes)?;
        fields += 1;
        if at >= record.len() {
            return Ok(fields);
        }
        at += 1;
    }
}
