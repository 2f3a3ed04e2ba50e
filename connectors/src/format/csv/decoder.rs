//! Decoding of CSV records to columns.
//!
//! A line without quotes and escapes is cut at its delimiters; any other is parsed by a small state machine. Fields
//! belong to the table's columns by position, or by the names of the file's header ([`header`]); each line must have
//! the same number of fields. An empty field is the empty string for a STRING column and NULL for any other type. The
//! unquoted `csv.null-literal` is NULL for every type. A quoted empty field is an empty array for an ARRAY column.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use arrow_schema::{DataType, SchemaRef};

use super::header;
use super::syntax::{Syntax, parse_fields};
use crate::Error;
use crate::format::column_builder::{BatchBuilder, ColumnBuilder, Values};
use crate::format::parse_error::{CellResult, ParseError};
use crate::format::parse_error_counter::ParseErrorCounter;
use crate::format::record_decoder::{self, RecordParser};
use crate::format::{Decoded, Decoder, Records};
use crate::options::Options;
use crate::sql_type;

/// Decodes CSV records.
pub(crate) struct CsvDecoder {
    syntax: Syntax,
    row: BatchBuilder,
    /// All columns of a record.
    schema: SchemaRef,
    /// Delivered columns, as indices into `schema`.
    columns: Vec<usize>,
    /// For each field of a record: its column in `row`, or `None` if the field is not decoded.
    targets: Vec<Option<usize>>,
    /// True if `targets` follows the header of a file.
    has_header: bool,
    /// `None` unless `csv.ignore-parse-errors` is true.
    ignored_errors: Option<ParseErrorCounter>,
    /// The unquoted content of the field in progress.
    scratch: Vec<u8>,
}

impl CsvDecoder {
    /// Creates a decoder of records with the columns of `schema`, which delivers those at `columns`.
    pub(crate) fn new(schema: &SchemaRef, columns: &[usize], options: &Options<'_>) -> Result<Self, Error> {
        let target = |column| columns.iter().position(|delivered| *delivered == column);
        let targets = (0..schema.fields().len()).map(target).collect();
        let projected = SchemaRef::new(schema.project(columns)?);
        for field in projected.fields() {
            let nested = match field.data_type() {
                DataType::List(child) => child.data_type().is_nested(),
                other => other.is_nested(),
            };
            if nested {
                return Err(Error::Invalid(format!(
                    "table `{}`: column `{}`: CSV cannot represent {}; use the format json",
                    options.table(),
                    field.name(),
                    sql_type::name(field.data_type())
                )));
            }
        }
        Ok(Self {
            syntax: Syntax::new(options)?,
            row: BatchBuilder::new(projected)?,
            schema: schema.clone(),
            columns: columns.to_vec(),
            targets,
            has_header: false,
            ignored_errors: ParseErrorCounter::new(options, "csv.ignore-parse-errors")?,
            scratch: Vec::new(),
        })
    }

    /// Parses a record without quotes and escapes. Returns the number of fields.
    fn parse_plain(&mut self, record: &[u8]) -> Result<usize, ParseError> {
        let mut fields = 0;
        let mut start = 0;
        for end in memchr::memchr_iter(self.syntax.delimiter, record).chain(std::iter::once(record.len())) {
            self.field(fields, record.get(start..end).unwrap_or_default(), false)?;
            fields += 1;
            start = end + 1;
        }
        Ok(fields)
    }

    /// Parses any record. Returns the number of fields.
    fn parse_quoted(&mut self, record: &[u8]) -> Result<usize, ParseError> {
        let mut scratch = std::mem::take(&mut self.scratch);
        let result = parse_fields(record, self.syntax.characters(), &mut scratch, |index, text, quoted| {
            self.field(index, text, quoted)
        });
        self.scratch = scratch;
        result
    }

    #[inline]
    fn field(&mut self, index: usize, text: &[u8], quoted: bool) -> CellResult {
        let target = self.targets.get(index).copied().flatten();
        let Some(column) = target.and_then(|target| self.row.columns.get_mut(target)) else {
            return Ok(());
        };
        match cell(column, text, quoted, &self.syntax) {
            Ok(()) => Ok(()),
            Err(problem) => match &self.ignored_errors {
                Some(counter) => {
                    counter.fields.increment(1);
                    column.truncate(self.row.rows);
                    column.push_null()
                }
                None => Err(problem.in_column(column.field.name())),
            },
        }
    }
}

#[inline]
fn cell(column: &mut ColumnBuilder, text: &[u8], quoted: bool, syntax: &Syntax) -> CellResult {
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
    // A quoted empty field is an empty array.
    let elements = (!text.is_empty()).then(|| text.split(|byte| *byte == syntax.array_delimiter));
    for element in elements.into_iter().flatten() {
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
    ends.push(i32::try_from(child.len()).map_err(|_| ParseError::new("too many elements for one batch"))?);
    Ok(())
}

impl Decoder for CsvDecoder {
    fn schema(&self) -> SchemaRef {
        self.row.schema().clone()
    }

    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error> {
        record_decoder::decode(self, records)
    }

    fn set_header(&mut self, header: &[u8]) -> Result<(), String> {
        self.targets = header::targets(header, &self.syntax, &self.schema, &self.columns)?;
        self.has_header = true;
        Ok(())
    }
}

impl RecordParser for CsvDecoder {
    fn row(&mut self) -> &mut BatchBuilder {
        &mut self.row
    }

    fn ignored_errors(&self) -> Option<&ParseErrorCounter> {
        self.ignored_errors.as_ref()
    }

    fn record(&mut self, record: &[u8]) -> Result<bool, ParseError> {
        // A message of Kafka may end with a line break, too.
        let record = record.strip_suffix(b"\n").unwrap_or(record);
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
            self.parse_plain(record)?
        } else {
            self.parse_quoted(record)?
        };
        if fields != self.targets.len() {
            return Err(ParseError::new(format!(
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

#[cfg(test)]
#[path = "decoder_tests.rs"]
mod tests;
