//! The ends of records in a stream of lines. A quoted CSV field may contain line breaks.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::BYTE_ORDER_MARK;
use super::syntax::Syntax;

/// The rules for finding the ends of records in a stream of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// `None` if every line break ends a record.
    quoted: Option<Syntax>,
}

impl Lines {
    /// Every line is a record.
    pub fn plain() -> Self {
        Self { quoted: None }
    }

    /// Lines are CSV records.
    pub fn csv(syntax: Syntax) -> Self {
        Self {
            quoted: syntax.quoted_newlines.then_some(syntax),
        }
    }

    /// Returns true if every line break ends a record, so that a file can be cut at any offset.
    pub fn can_split(&self) -> bool {
        self.quoted.is_none()
    }

    /// Returns the index of the line break that ends the record beginning at `start`; `None` if `data` ends before it.
    #[inline]
    pub fn end(&self, data: &[u8], start: usize) -> Option<usize> {
        let rest = data.get(start..)?;
        let length = memchr::memchr(b'\n', rest)?;
        let line = rest.get(..length)?;
        match &self.quoted {
            Some(syntax) if syntax.quote.is_some_and(|quote| memchr::memchr(quote, line).is_some()) => {
                end_of_quoted(rest, syntax).map(|length| start + length)
            }
            _ => Some(start + length),
        }
    }
}

#[cold]
fn end_of_quoted(data: &[u8], syntax: &Syntax) -> Option<usize> {
    // The first field of a file may be quoted after a byte-order mark.
    let mut at = if data.starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let mut at_field_start = true;
    let mut in_quotes = false;
    if syntax.comments && data.get(at) == Some(&b'#') {
        return memchr::memchr(b'\n', data);
    }
    while let Some(&byte) = data.get(at) {
        if Some(byte) == syntax.escape && Some(byte) != syntax.quote {
            at += 2;
            at_field_start = false;
            continue;
        }
        if in_quotes {
            // A doubled quote closes and opens again.
            if Some(byte) == syntax.quote {
                if data.get(at + 1).copied() == syntax.quote {
                    at += 1;
                } else {
                    in_quotes = false;
                }
            }
        } else if byte == b'\n' {
            return Some(at);
        } else if Some(byte) == syntax.quote && at_field_start {
            in_quotes = true;
        }
        at_field_start = !in_quotes && byte == syntax.delimiter;
        at += 1;
    }
    None
}
