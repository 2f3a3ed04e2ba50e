//! Encoding of columns to CSV records.
//!
//! A value is quoted if it would otherwise be decoded differently: it contains the delimiter, a quote, an escape or a
//! line break, is the null literal, or starts like a comment. NULL is the null literal, or nothing. An empty array is a
//! quoted empty field. A value that cannot be written so that it is decoded the same is an error of its row.

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;

use super::syntax::Syntax;
use crate::Error;
use crate::format::parse_error::excerpt;
use crate::format::text_column::{Cells, TextColumn};
use crate::format::time::TimestampStyle;
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::options::Options;
use crate::sql_type;

/// Encodes CSV records.
pub(crate) struct CsvEncoder {
    syntax: Syntax,
    /// True for each byte that a field is quoted for.
    special: [bool; 256],
    /// True if numbers, times and the like never need quotes.
    plain_values: bool,
    framing: Framing,
    schema: SchemaRef,
    scratch: Vec<u8>,
}

impl CsvEncoder {
    pub(crate) fn new(schema: &SchemaRef, framing: Framing, options: &Options<'_>) -> Result<Self, Error> {
        let syntax = Syntax::new(options)?;
        let mut special = [false; 256];
        for byte in [
            Some(syntax.delimiter),
            syntax.quote,
            syntax.escape,
            Some(b'\n'),
            Some(b'\r'),
        ]
        .into_iter()
        .flatten()
        {
            special[usize::from(byte)] = true;
        }
        let is_in_values = |byte: u8| byte.is_ascii_alphanumeric() || b" +-.:/=".contains(&byte);
        Ok(Self {
            plain_values: syntax.null_literal.is_none()
                && !(0..=255).any(|byte| special[usize::from(byte)] && is_in_values(byte)),
            syntax,
            special,
            framing,
            schema: schema.clone(),
            scratch: Vec::new(),
        })
    }

    /// Returns true if a value would be decoded differently without quotes.
    fn needs_quotes(&self, text: &[u8]) -> bool {
        let is_null = self
            .syntax
            .null_literal
            .as_ref()
            .is_some_and(|null| null.as_bytes() == text);
        let is_comment = self.syntax.comments && text.first() == Some(&b'#');
        is_null || is_comment || text.iter().any(|byte| self.special[usize::from(*byte)])
    }

    fn write_text(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        match self.needs_quotes(text) {
            true => self.write_quoted(text, out),
            false => {
                out.extend_from_slice(text);
                Ok(())
            }
        }
    }

    /// Writes a value that needs quotes; with escapes where quotes are switched off.
    fn write_quoted(&self, text: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
        if let Some(quote) = self.syntax.quote {
            out.push(quote);
            for byte in text {
                if *byte == quote {
                    out.push(quote);
                } else if Some(*byte) == self.syntax.escape {
                    out.push(*byte);
                }
                out.push(*byte);
            }
            out.push(quote);
            return Ok(());
        }
        let has_line_break = text.iter().any(|byte| matches!(byte, b'\n' | b'\r'));
        let null = self.syntax.null_literal.as_ref();
        let is_null = null.is_some_and(|null| null.as_bytes() == text);
        let Some(escape) = self.syntax.escape.filter(|_| !has_line_break && !is_null) else {
            return Err(format!(
                "{} needs quotes, but 'csv.disable-quote-character' is set; allow quotes or use the format json",
                excerpt(text)
            ));
        };
        if self.syntax.comments && text.first() == Some(&b'#') {
            out.push(escape);
        }
        for byte in text {
            if self.special[usize::from(*byte)] {
                out.push(escape);
            }
            out.push(*byte);
        }
        Ok(())
    }

    fn write_null(&self, out: &mut Vec<u8>) {
        if let Some(null) = &self.syntax.null_literal {
            out.extend_from_slice(null.as_bytes());
        }
    }

    fn write_cell(&mut self, column: &TextColumn<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), String> {
        if column.is_null(row) {
            self.write_null(out);
            return Ok(());
        }
        match &column.cells {
            Cells::Utf8(array) => self.write_text(array.value(row).as_bytes(), out),
            Cells::List(array, child) => {
                let offsets = array.value_offsets();
                let elements = offsets[row] as usize..offsets[row + 1] as usize;
                let mut text = std::mem::take(&mut self.scratch);
                text.clear();
                let written = self.write_elements(child, elements.clone(), &mut text);
                let written = written.and_then(|()| match (elements.is_empty(), self.syntax.quote) {
                    (false, _) => self.write_text(&text, out),
                    (true, Some(quote)) => {
                        out.extend_from_slice(&[quote, quote]);
                        Ok(())
                    }
                    (true, None) => {
                        Err("CSV without quotes cannot represent an empty array; use the format json".into())
                    }
                });
                self.scratch = text;
                written
            }
            _ => {
                let start = out.len();
                if !column.write_plain(row, TimestampStyle::Sql, out) {
                    return Err(cannot_represent(column));
                }
                if !self.plain_values && self.needs_quotes(&out[start..]) {
                    let text = out.split_off(start);
                    return self.write_quoted(&text, out);
                }
                Ok(())
            }
        }
    }

    /// Writes the elements of an array, divided by the array delimiter. Elements have no quotes of their own.
    fn write_elements(
        &self,
        elements: &TextColumn<'_>,
        range: std::ops::Range<usize>,
        out: &mut Vec<u8>,
    ) -> Result<(), String> {
        let delimiter = self.syntax.array_delimiter;
        let is_one = range.len() == 1;
        for (index, element) in range.enumerate() {
            if index > 0 {
                out.push(delimiter);
            }
            if elements.is_null(element) {
                if self.syntax.null_literal.is_none() {
                    return Err(
                        "CSV cannot represent a NULL element without 'csv.null-literal'; set the option".into(),
                    );
                }
                self.write_null(out);
                continue;
            }
            let start = out.len();
            if !elements.write_plain(element, TimestampStyle::Sql, out) {
                return Err(cannot_represent(elements));
            }
            let text = &out[start..];
            if text.contains(&delimiter) {
                return Err(format!(
                    "the element {} contains the array delimiter `{}`; set 'csv.array-element-delimiter' to a character \
                     that no element contains, or use the format json",
                    excerpt(text),
                    char::from(delimiter)
                ));
            }
            let null = self.syntax.null_literal.as_ref();
            if null.is_some_and(|null| null.as_bytes() == text) {
                return Err(format!(
                    "the element {} equals 'csv.null-literal'; set the option to a text that no element has, or use the \
                     format json",
                    excerpt(text)
                ));
            }
            if is_one && text.is_empty() {
                return Err("CSV cannot represent an array of one empty string; use the format json".into());
            }
        }
        Ok(())
    }

    fn terminate(&self, out: &mut Vec<u8>) {
        if self.framing == Framing::Lines {
            out.push(b'\n');
        }
    }
}

fn cannot_represent(column: &TextColumn<'_>) -> String {
    let found = sql_type::name(column.array.data_type());
    format!("CSV cannot represent {found}; use the format json")
}

impl Encoder for CsvEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRecords) -> Result<(), Error> {
        let columns = rows
            .columns()
            .iter()
            .map(TextColumn::new)
            .collect::<Result<Vec<_>, _>>()?;
        let delimiter = self.syntax.delimiter;
        out.ends.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            for (index, column) in columns.iter().enumerate() {
                if index > 0 {
                    out.data.push(delimiter);
                }
                self.write_cell(column, row, &mut out.data).map_err(|problem| {
                    Error::Data(format!("column `{}`: {problem}", self.schema.field(index).name()))
                })?;
            }
            self.terminate(&mut out.data);
            out.ends.push(out.data.len());
        }
        Ok(())
    }

    fn header(&self) -> Option<Vec<u8>> {
        if !self.syntax.header {
            return None;
        }
        let mut line = Vec::new();
        for (index, field) in self.schema.fields().iter().enumerate() {
            if index > 0 {
                line.push(self.syntax.delimiter);
            }
            // A name that cannot be written is left as it is: the encoder checks the options before the first row.
            if self.write_text(field.name().as_bytes(), &mut line).is_err() {
                line.extend_from_slice(field.name().as_bytes());
            }
        }
        self.terminate(&mut line);
        Some(line)
    }
}
