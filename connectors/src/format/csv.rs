//! CSV records to columns.
//!
//! A line without quotes and escapes is cut at its delimiters; any other goes through a small state machine (RFC 4180,
//! with an optional escape character). Fields belong to the table's columns by position, or by the names of the file's
//! header ([`csv_header`](super::csv_header)); each line must have the same number of them. An empty field is the empty
//! text for a STRING column and NULL for any other; so is the unquoted `csv.null-literal` for every type.
//!
//! [`Lines`] finds where records end, because a quoted field may contain line breaks.

use arrow_schema::{DataType, SchemaRef};

use super::cells::{CellResult, Column, Problem, Row, Values, excerpt};
use super::csv_header;
use super::parse_errors::ParseErrorCounter;
use super::record::{self, RecordParser};
use super::{Decoded, Decoder, Records};
use crate::Error;
use crate::options::Options;

/// The characters that mean something in this table's CSV.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Syntax {
    pub delimiter: u8,
    pub quote: Option<u8>,
    pub escape: Option<u8>,
    pub null_literal: Option<String>,
    pub comments: bool,
    pub array_delimiter: u8,
    pub header: bool,
    pub quoted_newlines: bool,
}

impl Syntax {
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

pub struct CsvDecoder {
    syntax: Syntax,
    row: Row,
    /// All columns of a record.
    schema: SchemaRef,
    /// Those that are delivered, as indices into `schema`.
    columns: Vec<usize>,
    /// For each field of a record: its column in `row`, or `None` if nobody reads it.
    targets: Vec<Option<usize>>,
    /// `targets` is that of a file's header.
    has_header: bool,
    /// `None` unless `csv.ignore-parse-errors` is true.
    ignored_errors: Option<ParseErrorCounter>,
    /// The unquoted content of the field in progress.
    scratch: Vec<u8>,
}

impl CsvDecoder {
    pub fn new(schema: &SchemaRef, columns: &[usize], options: &Options<'_>) -> Result<Self, Error> {
        let mut targets = vec![None; schema.fields().len()];
        for (target, column) in columns.iter().enumerate() {
            targets[*column] = Some(target);
        }
        let projected = SchemaRef::new(schema.project(columns)?);
        for field in projected.fields() {
            let nested = match field.data_type() {
                DataType::List(child) => child.data_type().is_nested(),
                other => other.is_nested(),
            };
            if nested {
                return Err(Error::Invalid(format!(
                    "table `{}`: column `{}`: CSV has no way to write {}; use the format json",
                    options.table(),
                    field.name(),
                    field.data_type()
                )));
            }
        }
        Ok(Self {
            syntax: Syntax::new(options)?,
            row: Row::new(projected)?,
            schema: schema.clone(),
            columns: columns.to_vec(),
            targets,
            has_header: false,
            ignored_errors: ParseErrorCounter::new(options, "csv.ignore-parse-errors")?,
            scratch: Vec::new(),
        })
    }

    fn plain(&mut self, record: &[u8]) -> Result<usize, Problem> {
        let mut fields = 0;
        let mut start = 0;
        for end in memchr::memchr_iter(self.syntax.delimiter, record).chain(std::iter::once(record.len())) {
            self.field(fields, &record[start..end], false)?;
            fields += 1;
            start = end + 1;
        }
        Ok(fields)
    }

    fn quoted(&mut self, record: &[u8]) -> Result<usize, Problem> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = quoted_fields(record, self.syntax.characters(), &mut scratch, |index, text, quoted| {
            self.field(index, text, quoted)
        });
        self.scratch = scratch;
        result
    }

    #[inline]
    fn field(&mut self, index: usize, text: &[u8], quoted: bool) -> CellResult {
        let Some(Some(target)) = self.targets.get(index).copied() else {
            return Ok(());
        };
        let column = &mut self.row.columns[target];
        match cell(column, text, quoted, &self.syntax) {
            Ok(()) => Ok(()),
            Err(problem) => match &self.ignored_errors {
                Some(counter) => {
                    counter.fields.increment(1);
                    column.truncate(self.row.rows);
                    column.push_null()
                }
                None => Err(problem.inside(column.field.name())),
            },
        }
    }
}

/// Calls `field` with the index of each field of a record, its content and whether it was quoted. Returns their number.
/// `content` is a buffer.
#[inline]
pub(super) fn quoted_fields(
    record: &[u8],
    syntax: Characters,
    content: &mut Vec<u8>,
    mut field: impl FnMut(usize, &[u8], bool) -> CellResult,
) -> Result<usize, Problem> {
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
                        return Err(Problem::new(format!("the quote opened at byte {open} is never closed")));
                    }
                    byte if byte == quote => {
                        if record.get(at + 1).copied() != quote {
                            break;
                        }
                        content.extend(quote);
                        at += 2;
                    }
                    byte if byte == escape && at + 1 < record.len() => {
                        content.push(record[at + 1]);
                        at += 2;
                    }
                    Some(byte) => {
                        content.push(byte);
                        at += 1;
                    }
                }
            }
            at += 1;
            while record.get(at) == Some(&b' ') && delimiter != b' ' {
                at += 1;
            }
            if record.get(at).is_some_and(|byte| *byte != delimiter) {
                return Err(Problem::new(format!(
                    "{} follows a closing quote at byte {at}; a quote inside a quoted field is written twice",
                    excerpt(&record[at..])
                )));
            }
        } else {
            while let Some(byte) = record.get(at).copied().filter(|byte| *byte != delimiter) {
                if Some(byte) == escape && at + 1 < record.len() {
                    at += 1;
                    content.push(record[at]);
                } else {
                    content.push(byte);
                }
                at += 1;
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

#[inline]
fn cell(column: &mut Column, text: &[u8], quoted: bool, syntax: &Syntax) -> CellResult {
    if !quoted {
        if let Some(null) = &syntax.null_literal
            && null.as_bytes() == text
        {
            return column.push_null();
        }
        if text.is_empty() && !matches!(column.values, Values::Utf8(_)) {
            return column.push_null();
        }
    }
    let Values::List { ends, child } = &mut column.values else {
        return column.push_text(text);
    };
    for element in text.split(|byte| *byte == syntax.array_delimiter) {
        if syntax
            .null_literal
            .as_ref()
            .is_some_and(|null| null.as_bytes() == element)
        {
            child.push_null()?;
        } else {
            child.push_text(element)?;
        }
    }
    ends.push(i32::try_from(child.len()).map_err(|_| Problem::new("too many elements for one batch"))?);
    Ok(())
}

impl Decoder for CsvDecoder {
    fn schema(&self) -> SchemaRef {
        self.row.schema().clone()
    }

    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error> {
        record::decode(self, records)
    }

    fn set_header(&mut self, header: &[u8]) -> Result<(), String> {
        self.targets = csv_header::targets(header, &self.syntax, &self.schema, &self.columns)?;
        self.has_header = true;
        Ok(())
    }
}

impl RecordParser for CsvDecoder {
    fn row(&mut self) -> &mut Row {
        &mut self.row
    }

    fn ignored_errors(&self) -> Option<&ParseErrorCounter> {
        self.ignored_errors.as_ref()
    }

    fn record(&mut self, record: &[u8]) -> Result<bool, Problem> {
        let record = record.strip_suffix(b"\r").unwrap_or(record);
        if record.is_empty() && self.targets.len() > 1 {
            return Ok(false);
        }
        if self.syntax.comments && record.first() == Some(&b'#') {
            return Ok(false);
        }
        let special = [self.syntax.quote, self.syntax.escape].into_iter().flatten();
        let plain = special.into_iter().all(|byte| memchr::memchr(byte, record).is_none());
        let fields = if plain {
            self.plain(record)?
        } else {
            self.quoted(record)?
        };
        if fields != self.targets.len() {
            return Err(Problem::new(format!(
                "the line has {fields} field{}, but the {} has {} column{}",
                if fields == 1 { "" } else { "s" },
                if self.has_header { "header" } else { "table" },
                self.targets.len(),
                if self.targets.len() == 1 { "" } else { "s" },
            )));
        }
        Ok(true)
    }
}

/// Where records end in a stream of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    /// Set where quoted fields may contain line breaks.
    quoted: Option<Syntax>,
}

impl Lines {
    pub fn plain() -> Self {
        Self { quoted: None }
    }

    pub fn csv(syntax: Syntax) -> Self {
        Self {
            quoted: syntax.quoted_newlines.then_some(syntax),
        }
    }

    /// Whether every line break ends a record, so that a file may be cut anywhere.
    pub fn can_split(&self) -> bool {
        self.quoted.is_none()
    }

    /// The index of the line break that ends the record beginning at `start`; `None` if `data` ends before it.
    #[inline]
    pub fn end(&self, data: &[u8], start: usize) -> Option<usize> {
        let end = memchr::memchr(b'\n', &data[start..])? + start;
        match &self.quoted {
            Some(syntax)
                if syntax
                    .quote
                    .is_some_and(|quote| memchr::memchr(quote, &data[start..end]).is_some()) =>
            {
                quoted_end(data, start, syntax)
            }
            _ => Some(end),
        }
    }
}

#[cold]
fn quoted_end(data: &[u8], start: usize, syntax: &Syntax) -> Option<usize> {
    let mut at = start;
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

#[cfg(test)]
#[path = "csv_tests.rs"]
mod tests;
