//! The format raw: a record's bytes are the value of the table's only column.
//!
//! Text and bytes are not encoded further; numbers have a fixed width, in the byte order of the option
//! `raw.endianness`. NULL is written as an empty record.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use arrow_array::RecordBatch;
use arrow_schema::{DataType, SchemaRef};

use super::column_builder::{BatchBuilder, ColumnBuilder, Values};
use super::parse_error::{CellResult, ParseError};
use super::text_column::{Cells, TextColumn};
use super::{Decoded, Decoder, EncodedRecords, Encoder, Framing, Records, Rejection};
use crate::Error;
use crate::options::Options;

/// Decodes raw records.
pub(super) struct RawDecoder {
    row: BatchBuilder,
    little_endian: bool,
}

impl RawDecoder {
    pub(super) fn new(schema: &SchemaRef, columns: &[usize], options: &Options<'_>) -> Result<Self, Error> {
        check_schema(schema, options)?;
        let row = BatchBuilder::new(SchemaRef::new(schema.project(columns)?))?;
        Ok(Self {
            row,
            little_endian: little_endian(options),
        })
    }
}

impl Decoder for RawDecoder {
    fn schema(&self) -> SchemaRef {
        self.row.schema().clone()
    }

    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error> {
        let mut rejected = Vec::new();
        records.check_size()?;
        for (index, range) in records.ranges.iter().enumerate() {
            let record = records.slice(*range);
            let outcome = match self.row.columns.first_mut() {
                Some(column) => {
                    push(column, record, self.little_endian).map_err(|problem| problem.in_column(column.field.name()))
                }
                None => Ok(()),
            };
            match outcome {
                Ok(()) => self.row.rows += 1,
                Err(problem) => {
                    self.row.discard_row();
                    rejected.push(Rejection {
                        record: index,
                        error: problem.0.into(),
                    });
                }
            }
        }
        Ok(Decoded {
            rows: self.row.finish()?,
            kinds: None,
            records: None,
            rejected,
            skipped: Vec::new(),
        })
    }
}

fn push(column: &mut ColumnBuilder, record: &[u8], little_endian: bool) -> CellResult {
    fn exactly<const N: usize>(record: &[u8], little_endian: bool) -> Result<[u8; N], ParseError> {
        let mut bytes: [u8; N] = record
            .try_into()
            .map_err(|_| ParseError::new(format!("has {} bytes where {N} are expected", record.len())))?;
        if !little_endian {
            bytes.reverse();
        }
        Ok(bytes)
    }
    match &mut column.values {
        Values::Utf8(bytes) => match std::str::from_utf8(record) {
            Ok(_) => bytes.push(record),
            Err(error) => {
                return Err(ParseError::new(format!(
                    "is not UTF-8 text: the byte at {} is wrong",
                    error.valid_up_to()
                )));
            }
        },
        Values::Binary(bytes) => bytes.push(record),
        Values::Boolean(values) => values.push(exactly::<1>(record, little_endian)?[0] != 0),
        Values::Int8(values) => values.push(i8::from_le_bytes(exactly(record, little_endian)?)),
        Values::Int16(values) => values.push(i16::from_le_bytes(exactly(record, little_endian)?)),
        Values::Int32(values) => values.push(i32::from_le_bytes(exactly(record, little_endian)?)),
        Values::Int64(values) => values.push(i64::from_le_bytes(exactly(record, little_endian)?)),
        Values::Float32(values) => values.push(f32::from_le_bytes(exactly(record, little_endian)?)),
        Values::Float64(values) => values.push(f64::from_le_bytes(exactly(record, little_endian)?)),
        _ => return Err(ParseError::new("has a type that the raw format does not support")),
    }
    Ok(())
}

/// Encodes raw records.
pub(super) struct RawEncoder {
    framing: Framing,
    little_endian: bool,
}

impl RawEncoder {
    pub(super) fn new(schema: &SchemaRef, framing: Framing, options: &Options<'_>) -> Result<Self, Error> {
        check_schema(schema, options)?;
        Ok(Self {
            framing,
            little_endian: little_endian(options),
        })
    }
}

impl Encoder for RawEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRecords) -> Result<(), Error> {
        let column = TextColumn::new(rows.column(0))?;
        for row in 0..rows.num_rows() {
            if !column.is_null(row) {
                self.value(&column, row, &mut out.data);
            }
            if self.framing == Framing::Lines {
                out.data.push(b'\n');
            }
            out.ends.push(out.data.len());
        }
        Ok(())
    }
}

impl RawEncoder {
    fn value(&self, column: &TextColumn<'_>, row: usize, out: &mut Vec<u8>) {
        let start = out.len();
        match &column.cells {
            Cells::Utf8(array) => return out.extend_from_slice(array.value(row).as_bytes()),
            Cells::Binary(array) => return out.extend_from_slice(array.value(row)),
            Cells::Boolean(array) => out.push(array.value(row).into()),
            Cells::Int8(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Cells::Int16(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Cells::Int32(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Cells::Int64(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Cells::Float32(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            Cells::Float64(array) => out.extend_from_slice(&array.value(row).to_le_bytes()),
            _ => {}
        }
        if !self.little_endian
            && let Some(bytes) = out.get_mut(start..)
        {
            bytes.reverse();
        }
    }
}

fn little_endian(options: &Options<'_>) -> bool {
    options
        .text("raw.endianness")
        .is_some_and(|order| order.eq_ignore_ascii_case("little-endian"))
}

fn check_schema(schema: &SchemaRef, options: &Options<'_>) -> Result<(), Error> {
    let [field] = &schema.fields()[..] else {
        return Err(Error::Invalid(format!(
            "table `{}`: the raw format holds exactly one column, but the table has {}",
            options.table(),
            schema.fields().len()
        )));
    };
    match field.data_type() {
        DataType::Utf8
        | DataType::Binary
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64 => Ok(()),
        other => Err(Error::Invalid(format!(
            "table `{}`: column `{}`: the raw format holds text, bytes, booleans and numbers, not {other}",
            options.table(),
            field.name()
        ))),
    }
}
