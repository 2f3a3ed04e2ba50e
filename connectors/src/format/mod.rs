//! Formats: bytes to Arrow batches and back, for every connector that moves bytes.
//!
//! Most connectors move *records*: a Kafka message, a line of a file. For them a format makes a [`Decoder`] (many
//! records in, one batch out, bad records named one by one) and an [`Encoder`] (one batch in, one record per row out).
//! Parquet has no records, only files: it is described here, and read and written by connectors that move whole files
//! (see [`parquet`]).
//!
//! A decoder never panics and never fails as a whole because of what a record contains: a record that cannot be
//! decoded is left out of the batch and reported with its index and the reason, naming the column where possible.
//!
//! Formats read their options under Flink's names (`json.ignore-parse-errors`); [`FormatSpec`] collects them, also from
//! below a prefix (`value.json.ignore-parse-errors`).

mod cells;
mod csv;
mod csv_encode;
mod csv_header;
mod describe;
mod field_tracker;
mod json;
mod json_cursor;
mod json_encode;
pub(crate) mod map_keys;
mod numbers;
pub mod parquet;
mod parse_errors;
mod raw;
mod record;
mod text;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};

pub use self::csv::Lines;
pub use self::csv_header::{FoundHeader, Header};
pub use self::describe::{FORMAT_OPTION, Format, formats};
pub use self::text::Column as TextColumn;
pub use self::time::{TimestampStyle, parse_timestamp};
use crate::options::Options;
use crate::{Error, SourceFields, TableDefinition};
#[cfg(test)]
use json::tests as json_test_kit;

/// The format with this name.
pub fn find(name: &str) -> Option<&'static Format> {
    formats().iter().find(|format| format.name == name)
}

/// Records lying in one buffer: record `i` is `data[ranges[i].0..ranges[i].1]`. Separators are not part of a record.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a> {
    pub data: &'a [u8],
    pub ranges: &'a [(usize, usize)],
}

/// What became of some records.
#[derive(Debug)]
pub struct Decoded {
    /// One row for each accepted record, in their order, with the columns that were asked for.
    pub rows: RecordBatch,
    /// Records that could not be decoded, by ascending index.
    pub rejected: Vec<Rejection>,
    /// Records that hold no row and are no mistake (a comment, a blank line) or that the user told the format to skip
    /// (`ignore-parse-errors`), by ascending index.
    pub skipped: Vec<usize>,
}

/// A record that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index into [`Records::ranges`].
    pub record: usize,
    pub error: String,
}

impl Decoded {
    /// For each of `records` records whether it became a row: filters columns that a connector adds (metadata), so
    /// that they line up with `rows`. `None`: all did.
    pub fn accepted(&self, records: usize) -> Option<BooleanArray> {
        if self.rejected.is_empty() && self.skipped.is_empty() {
            return None;
        }
        let mut accepted = vec![true; records];
        for index in self
            .rejected
            .iter()
            .map(|rejection| rejection.record)
            .chain(self.skipped.iter().copied())
        {
            accepted[index] = false;
        }
        Some(BooleanArray::from(accepted))
    }
}

/// One value from its text, as an array of one row; `None` is NULL.
pub fn parse_cell(field: &FieldRef, text: Option<&str>) -> Result<ArrayRef, Error> {
    let mut column = cells::Column::new(field)?;
    let pushed = match text {
        Some(text) => column.push_text(text.as_bytes()),
        None => column.push_null(),
    };
    pushed.map_err(|problem| Error::Data(problem.0.into()))?;
    column.finish()
}

/// Turns records into rows.
pub trait Decoder: Send {
    /// The columns it delivers.
    fn schema(&self) -> SchemaRef;

    /// Decodes all records. Errors are of the engine (a column over Arrow's limits), never of a record's content.
    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error>;

    /// Says that the records to come are of a file with this header ([`FormatSpec::header`]). The error says which
    /// column the header lacks.
    fn set_header(&mut self, _header: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// Turns rows into records.
pub trait Encoder: Send {
    /// Appends one record for each row of `rows` (the columns the encoder was made for).
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRecords) -> Result<(), Error>;

    /// What a file starts with, before its first record (a CSV header), framing included.
    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Encoded records in one buffer; record `i` ends at `ends[i]` and begins where the one before it ends.
#[derive(Debug, Default, Clone)]
pub struct EncodedRecords {
    pub data: Vec<u8>,
    pub ends: Vec<usize>,
}

impl EncodedRecords {
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub fn record(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.data[start..self.ends[index]]
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.record(index))
    }
}

/// How encoded records are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Nothing is added: the transport keeps records apart (Kafka).
    Bare,
    /// Each record ends with a newline (files).
    Lines,
}

/// A format and its options, as one table chose them.
#[derive(Debug, Clone)]
pub struct FormatSpec {
    pub format: &'static Format,
    table: String,
    /// Full names, without the prefix (`json.ignore-parse-errors`).
    options: BTreeMap<String, String>,
}

impl FormatSpec {
    /// The format that `<prefix>format` names, with the options below `<prefix>`; the value's format is found under
    /// `format` as well as `value.format`. `None`: the table names none.
    pub fn of(table: &TableDefinition, prefix: &str) -> Result<Option<Self>, Error> {
        let mut prefixes = vec![prefix];
        match prefix {
            "" => prefixes.push("value."),
            "value." => prefixes.push(""),
            _ => {}
        }
        let Some(name) = prefixes
            .iter()
            .find_map(|prefix| table.option(&format!("{prefix}format")))
        else {
            return Ok(None);
        };
        let format = find(name).ok_or_else(|| {
            let near = millstream_proto::spec::did_you_mean(name, formats().iter().map(|format| format.name));
            Error::Invalid(format!("table `{}`: unknown format `{name}`{near}", table.name))
        })?;
        let mut options = BTreeMap::new();
        for prefix in prefixes.iter().rev() {
            for description in format.options {
                if let Some(value) = table.option(&format!("{prefix}{}", description.name)) {
                    options.insert(description.name.to_string(), value.to_string());
                }
            }
        }
        Ok(Some(Self {
            format,
            table: table.name.clone(),
            options,
        }))
    }

    /// The format of the table's values; an error if it names none.
    pub fn of_value(table: &TableDefinition) -> Result<Self, Error> {
        Self::of(table, "")?.ok_or_else(|| {
            Error::Invalid(format!(
                "table `{}`: the option 'format' is missing; write e.g. 'format' = 'json'",
                table.name
            ))
        })
    }

    pub fn options(&self) -> Options<'_> {
        Options::new(&self.table, &self.options)
    }

    /// A decoder of records with `schema`'s columns that delivers those at `columns`, in that order.
    pub fn decoder(&self, schema: &SchemaRef, columns: &[usize]) -> Result<Box<dyn Decoder>, Error> {
        self.decoder_with(schema, columns, None)
    }

    /// Creates a decoder like [`FormatSpec::decoder`] that reports the fields of the records to `fields`.
    pub fn tracked_decoder(
        &self,
        schema: &SchemaRef,
        columns: &[usize],
        fields: &Arc<SourceFields>,
    ) -> Result<Box<dyn Decoder>, Error> {
        self.decoder_with(schema, columns, Some(fields))
    }

    fn decoder_with(
        &self,
        schema: &SchemaRef,
        columns: &[usize],
        fields: Option<&Arc<SourceFields>>,
    ) -> Result<Box<dyn Decoder>, Error> {
        match self.format.name {
            "json" => Ok(Box::new(json::JsonDecoder::new(
                schema,
                columns,
                &self.options(),
                fields,
            )?)),
            "csv" => Ok(Box::new(csv::CsvDecoder::new(schema, columns, &self.options())?)),
            "raw" => Ok(Box::new(raw::RawDecoder::new(schema, columns, &self.options())?)),
            other => Err(self.file_only(other)),
        }
    }

    /// An encoder of rows with `schema`'s columns.
    pub fn encoder(&self, schema: &SchemaRef, framing: Framing) -> Result<Box<dyn Encoder>, Error> {
        match self.format.name {
            "json" => Ok(Box::new(json_encode::JsonEncoder::new(
                schema,
                framing,
                &self.options(),
            )?)),
            "csv" => Ok(Box::new(csv_encode::CsvEncoder::new(schema, framing, &self.options())?)),
            "raw" => Ok(Box::new(raw::RawEncoder::new(schema, framing, &self.options())?)),
            other => Err(self.file_only(other)),
        }
    }

    /// Where records end when they are written one after another, as in a file of lines.
    pub fn lines(&self) -> Result<Lines, Error> {
        Ok(match self.format.name {
            "csv" => Lines::csv(csv::Syntax::new(&self.options())?),
            _ => Lines::plain(),
        })
    }

    /// The rules for finding the header that each file starts with; `None`: files have none.
    pub fn header(&self) -> Result<Option<Header>, Error> {
        if self.format.name != "csv" {
            return Ok(None);
        }
        let syntax = csv::Syntax::new(&self.options())?;
        Ok(syntax.header.then(|| Header::of(&syntax)))
    }

    /// Whether the format is one of whole files, without single records.
    pub fn is_file_format(&self) -> bool {
        self.format.name == "parquet"
    }

    fn file_only(&self, format: &str) -> Error {
        Error::Invalid(format!(
            "table `{}`: the format `{format}` is one of whole files, not of single records; use it with the connector \
             `filesystem`, or choose json, csv or raw here",
            self.table
        ))
    }
}
