//! The ends of records in a stream of lines. A quoted CSV field may contain line breaks.

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
        let end = memchr::memchr(b'\n', &data[start..])? + start;
        match &self.quoted {
            Some(syntax)
                if syntax
                    .quote
                    .is_some_and(|quote| memchr::memchr(quote, &data[start..end]).is_some()) =>
            {
                end_of_quoted(data, start, syntax)
            }
            _ => Some(end),
        }
    }
}

#[cold]
fn end_of_quoted(data: &[u8], start: usize, syntax: &Syntax) -> Option<usize> {
    // The first field of a file may be quoted after a byte-order mark.
    let mark = if data[start..].starts_with(BYTE_ORDER_MARK) {
        BYTE_ORDER_MARK.len()
    } else {
        0
    };
    let mut at = start + mark;
    let mut at_field_start = true;
    let mut in_quotes = false;
    if syntax.comments && data.get(at) == Some(&b'#') {
        return memchr::memchr(b'\n', &data[start..]).map(|end| end + start);
    }
    while at < data.len() {
        let byte = data[at];
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
