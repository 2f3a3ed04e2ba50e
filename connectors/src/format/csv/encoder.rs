//! Encoding of columns to CSV records.
//!
//! A text is quoted if it would otherwise be decoded differently: it contains the delimiter, a quote, an escape or a
//! line break, is the null literal, or starts like a comment. NULL is the null literal, or nothing.

use arrow_array::{Array, RecordBatch};
use arrow_schema::SchemaRef;

use super::syntax::Syntax;
use crate::Error;
use crate::format::text_column::{Cells, TextColumn};
use crate::format::time::TimestampStyle;
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::options::Options;

/// Encodes CSV records.
pub struct CsvEncoder {
    syntax: Syntax,
    /// True for each byte that a field is quoted for.
    special: [bool; 256],
    framing: Framing,
    schema: SchemaRef,
    scratch: Vec<u8>,
}

impl CsvEncoder {
    pub fn new(schema: &SchemaRef, framing: Framing, options: &Options<'_>) -> Result<Self, Error> {
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
        Ok(Self {
            syntax,
            special,
            framing,
            schema: schema.clone(),
            scratch: Vec::new(),
        })
    }

    fn write_text(&self, text: &[u8], out: &mut Vec<u8>) {
        let is_null = self
            .syntax
            .null_literal
            .as_ref()
            .is_some_and(|null| null.as_bytes() == text);
        let is_comment = self.syntax.comments && text.first() == Some(&b'#');
        if !is_null && !is_comment && !text.iter().any(|byte| self.special[usize::from(*byte)]) {
            out.extend_from_slice(text);
            return;
        }
        match self.syntax.quote {
            Some(quote) => {
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
            }
            None => {
                for byte in text {
                    if let Some(escape) = self.syntax.escape
                        && self.special[usize::from(*byte)]
                    {
                        out.push(escape);
                    }
                    out.push(*byte);
                }
            }
        }
    }

    fn write_null(&self, out: &mut Vec<u8>) {
        if let Some(null) = &self.syntax.null_literal {
            out.extend_from_slice(null.as_bytes());
        }
    }

    fn write_cell(&mut self, column: &TextColumn<'_>, row: usize, out: &mut Vec<u8>) -> Result<(), Error> {
        if column.is_null(row) {
            self.write_null(out);
            return Ok(());
        }
        match &column.cells {
            Cells::Utf8(array) => self.write_text(array.value(row).as_bytes(), out),
            Cells::List(array, child) => {
                let offsets = array.value_offsets();
                let (start, end) = (offsets[row] as usize, offsets[row + 1] as usize);
                let mut text = std::mem::take(&mut self.scratch);
                text.clear();
                for element in start..end {
                    if element > start {
                        text.push(self.syntax.array_delimiter);
                    }
                    if child.is_null(element) {
                        self.write_null(&mut text);
                    } else if !child.write_plain(element, TimestampStyle::Sql, &mut text) {
                        return Err(self.cannot_write(column));
                    }
                }
                self.write_text(&text, out);
                self.scratch = text;
            }
            _ => {
                if !column.write_plain(row, TimestampStyle::Sql, out) {
                    return Err(self.cannot_write(column));
                }
            }
        }
        Ok(())
    }

    fn cannot_write(&self, column: &TextColumn<'_>) -> Error {
        Error::Invalid(format!(
            "CSV cannot represent {}; use the format json",
            column.array.data_type()
        ))
    }

    fn terminate(&self, out: &mut Vec<u8>) {
        if self.framing == Framing::Lines {
            out.push(b'\n');
        }
    }
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
                self.write_cell(column, row, &mut out.data)?;
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
            self.write_text(field.name().as_bytes(), &mut line);
        }
        self.terminate(&mut line);
        Some(line)
    }
}
