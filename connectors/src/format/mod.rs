//! Formats: decoding of bytes to Arrow batches and encoding of batches to bytes, for all byte-oriented connectors.
//!
//! Most connectors transfer *records*: a Kafka message, a line of a file. For them a format has a [`Decoder`], which
//! decodes many records into one batch and reports malformed records one by one, and an [`Encoder`], which encodes each
//! row of a batch as one record. Parquet has files but no records: connectors of whole files read and write it by the
//! module [`parquet`].
//!
//! A decoder never panics and never fails as a whole because of the content of a record: a record that cannot be
//! decoded is left out of the batch and reported with its index and the error, which names the column where possible.
//!
//! Formats read their options under Flink's names (`json.ignore-parse-errors`), optionally with a prefix
//! (`value.json.ignore-parse-errors`); see [`FormatSpec`].

mod column_builder;
mod csv;
mod debezium;
mod decoded;
mod descriptions;
mod field_order;
mod field_tracker;
mod json;
pub(crate) mod map_keys;
mod metadata;
mod null_ranges;
mod numbers;
pub mod parquet;
mod parse_error;
mod parse_error_counter;
mod raw;
mod record_decoder;
#[cfg(test)]
mod test_records;
mod text_column;
mod time;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, RecordBatch};
use arrow_schema::{FieldRef, SchemaRef};

pub use self::csv::BYTE_ORDER_MARK;
pub use self::csv::header::{FoundHeader, Header};
pub use self::csv::lines::Lines;
pub use self::decoded::{Decoded, Rejection, RowRecords};
pub use self::descriptions::{FORMAT_OPTION, Format, formats};
pub use self::json::document::Document;
pub use self::metadata::FormatMetadata;
pub use self::text_column::TextColumn;
pub use self::time::{TimestampStyle, parse_timestamp};
use crate::changelog::Kinds;
use crate::options::Options;
use crate::{ChangelogSupport, Error, SourceFields, TableDefinition};

/// Returns the format with this name.
pub fn find(name: &str) -> Option<&'static Format> {
    formats().iter().find(|format| format.name == name)
}

/// Records in one buffer: record `i` is `data[ranges[i].0..ranges[i].1]`. Separators are not part of a record.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a> {
    /// Bytes of all records.
    pub data: &'a [u8],
    /// Start and end of each record in `data`.
    pub ranges: &'a [(usize, usize)],
}

impl<'a> Records<'a> {
    /// Largest size of the records of one call, because offsets have 32 bits.
    const BYTES_MAX: usize = i32::MAX as usize;

    /// Returns an error if the records are too many for one batch.
    fn check_size(&self) -> Result<(), Error> {
        if self.data.len() <= Self::BYTES_MAX {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "{} bytes of records for one batch, but {} are the most; lower the batch size",
            self.data.len(),
            Self::BYTES_MAX
        )))
    }

    /// Returns the record of a range of [`Self::ranges`].
    fn slice(&self, (start, end): (usize, usize)) -> &'a [u8] {
        self.data
            .get(start..end)
            .expect("ranges of records are within their bytes")
    }
}

/// Parses the text of one value to an array of one row; `None` is NULL.
pub fn parse_cell(field: &FieldRef, text: Option<&str>) -> Result<ArrayRef, Error> {
    let mut column = column_builder::ColumnBuilder::new(field)?;
    let pushed = match text {
        Some(text) => column.push_text(text.as_bytes()),
        None => column.push_null(),
    };
    pushed.map_err(|problem| Error::Data(problem.0.into()))?;
    column.finish()
}

/// Returns an array of one cell, which is a default of the column's type (0, an empty text), and never NULL.
pub(crate) fn default_cell(field: &FieldRef) -> Result<ArrayRef, Error> {
    let mut column = column_builder::ColumnBuilder::new(field)?;
    column.push_default(false);
    column.finish()
}

/// Decodes records to rows.
pub trait Decoder: Send {
    /// Returns the columns that it delivers.
    fn schema(&self) -> SchemaRef;

    /// Decodes all records. The content of a record never causes an error, only a rejection; limits of Arrow do.
    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error>;

    /// Sets the header ([`FormatSpec::header`]) of the file that the next records are from. The error names the column
    /// that the header lacks.
    fn set_header(&mut self, _header: &[u8]) -> Result<(), String> {
        Ok(())
    }
}

/// Encodes rows to records.
pub trait Encoder: Send {
    /// Appends one record for each row of `rows`, which has the columns of the encoder. Every row is an insert.
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRecords) -> Result<(), Error>;

    /// Appends one record for each row of `rows`, which are changes of these kinds. A format without changes refuses
    /// others than inserts.
    fn encode_changes(&mut self, rows: &RecordBatch, kinds: Kinds<'_>, out: &mut EncodedRecords) -> Result<(), Error> {
        match kinds.are_inserts() {
            true => self.encode(rows, out),
            false => Err(Error::Invalid(
                "the format of the table writes inserted rows only, and a row is updated or deleted; choose                  'debezium-json', or the connector `upsert-kafka`"
                    .into(),
            )),
        }
    }

    /// Returns the header of each file (CSV), framing included.
    fn header(&self) -> Option<Vec<u8>> {
        None
    }
}

/// Encoded records in one buffer; record `i` ends at `ends[i]` and begins where the one before it ends.
#[derive(Debug, Default, Clone)]
pub struct EncodedRecords {
    /// Bytes of all records.
    pub data: Vec<u8>,
    /// End of each record in `data`.
    pub ends: Vec<usize>,
}

impl EncodedRecords {
    /// Removes all records.
    pub fn clear(&mut self) {
        self.data.clear();
        self.ends.clear();
    }

    /// Ends the record that consists of the bytes appended to `data` since the last record.
    pub(crate) fn end_record(&mut self, framing: Framing) {
        match framing {
            Framing::Bare => {}
            Framing::Lines => self.data.push(b'\n'),
        }
        self.ends.push(self.data.len());
    }

    /// Returns the number of records.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if there is no record.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns the bytes of a record.
    pub fn record(&self, index: usize) -> &[u8] {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.data[start..self.ends[index]]
    }

    /// Iterates over the bytes of all records.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len()).map(|index| self.record(index))
    }
}

/// Framing of encoded records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// None: the transport separates records (Kafka).
    Bare,
    /// Each record ends with a newline (files).
    Lines,
}

/// The format of a table, with its options.
#[derive(Debug, Clone)]
pub struct FormatSpec {
    /// The format.
    pub format: &'static Format,
    table: String,
    primary_key: Vec<String>,
    /// Full names, without the prefix (`json.ignore-parse-errors`).
    options: BTreeMap<String, String>,
}

impl FormatSpec {
    /// Returns the format that the option `<prefix>format` names, with the options that start with `<prefix>`. The
    /// value's format may be named by `format` or `value.format`. `None` if the table has no such option.
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
            primary_key: table.primary_key.clone(),
            options,
        }))
    }

    /// Returns the format of the table's values; an error if the option is missing.
    pub fn of_value(table: &TableDefinition) -> Result<Self, Error> {
        Self::of(table, "")?.ok_or_else(|| {
            Error::Invalid(format!(
                "table `{}`: the option 'format' is missing; write e.g. 'format' = 'json'",
                table.name
            ))
        })
    }

    /// Returns the options of the format.
    pub fn options(&self) -> Options<'_> {
        Options::new(&self.table, &self.options)
    }

    /// Returns the changes that records of the format can represent.
    pub fn changelog(&self) -> ChangelogSupport {
        self.format.changelog
    }

    /// Creates a decoder of records with the columns of `schema`, which delivers those at `columns` in that order.
    pub fn decoder(&self, schema: &SchemaRef, columns: &[usize]) -> Result<Box<dyn Decoder>, Error> {
        self.decoder_with(schema, columns, &[], None)
    }

    /// Creates a decoder like [`FormatSpec::decoder`] that delivers columns of the format's metadata too, after the
    /// others, and reports the fields of the records to `fields`. Each metadata column has the key of a
    /// [`FormatMetadata`], and its type.
    pub fn tracked_decoder(
        &self,
        schema: &SchemaRef,
        columns: &[usize],
        metadata: &[(String, FieldRef)],
        fields: &Arc<SourceFields>,
    ) -> Result<Box<dyn Decoder>, Error> {
        self.decoder_with(schema, columns, metadata, Some(fields))
    }

    fn decoder_with(
        &self,
        schema: &SchemaRef,
        columns: &[usize],
        metadata: &[(String, FieldRef)],
        fields: Option<&Arc<SourceFields>>,
    ) -> Result<Box<dyn Decoder>, Error> {
        match self.format.name {
            "json" => Ok(Box::new(json::decoder::JsonDecoder::new(
                &SchemaRef::new(schema.project(columns)?),
                &self.options(),
                "json",
                fields,
            )?)),
            "debezium-json" => Ok(Box::new(debezium::decoder::DebeziumDecoder::new(
                &SchemaRef::new(schema.project(columns)?),
                metadata,
                &self.options(),
                &self.primary_key,
            )?)),
            "csv" => Ok(Box::new(csv::decoder::CsvDecoder::new(
                schema,
                columns,
                &self.options(),
            )?)),
            "raw" => Ok(Box::new(raw::RawDecoder::new(schema, columns, &self.options())?)),
            other => Err(self.file_only(other)),
        }
    }

    /// Creates an encoder of rows with the columns of `schema`.
    pub fn encoder(&self, schema: &SchemaRef, framing: Framing) -> Result<Box<dyn Encoder>, Error> {
        match self.format.name {
            "json" => Ok(Box::new(json::encoder::JsonEncoder::new(
                schema,
                framing,
                &self.options(),
            )?)),
            "debezium-json" => Ok(Box::new(debezium::encoder::DebeziumEncoder::new(
                schema,
                framing,
                &self.options(),
            )?)),
            "csv" => Ok(Box::new(csv::encoder::CsvEncoder::new(
                schema,
                framing,
                &self.options(),
            )?)),
            "raw" => Ok(Box::new(raw::RawEncoder::new(schema, framing, &self.options())?)),
            other => Err(self.file_only(other)),
        }
    }

    /// Returns the rules for finding the ends of records in a file.
    pub fn lines(&self) -> Result<Lines, Error> {
        Ok(match self.format.name {
            "csv" => Lines::csv(csv::syntax::Syntax::new(&self.options())?),
            _ => Lines::plain(),
        })
    }

    /// Returns the rules for finding the header that each file starts with; `None` if files have no header.
    pub fn header(&self) -> Result<Option<Header>, Error> {
        if self.format.name != "csv" {
            return Ok(None);
        }
        let syntax = csv::syntax::Syntax::new(&self.options())?;
        Ok(syntax.header.then(|| Header::of(&syntax)))
    }

    /// Returns true if the format consists of whole files, without single records.
    pub fn is_file_format(&self) -> bool {
        self.format.name == "parquet"
    }

    fn file_only(&self, format: &str) -> Error {
        Error::Invalid(format!(
            "table `{}`: the format `{format}` consists of whole files, not of single records; use it with the connector \
             `filesystem`, or choose json, csv, raw or debezium-json here",
            self.table
        ))
    }
}
