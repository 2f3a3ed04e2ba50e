//! Parquet files: decoding of a table's columns, and the properties of written files.
//!
//! A file's columns are matched with the table's by name. A column of another type is converted without loss or is an
//! error; a column that the file does not have is NULL. The content of a file is not trusted: any failure inside the
//! decoder, a panic included, is an error that names the file.

use std::panic::{AssertUnwindSafe, catch_unwind};

use arrow_array::{Array, RecordBatch, RecordBatchOptions, new_null_array};
use arrow_schema::{DataType, SchemaRef};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::{Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;

use super::{FormatSpec, map_keys};
use crate::{Error, conversion, sql_type};

/// Reads a part of one file as batches.
pub struct FileReader {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    /// For each column of `schema`: its index in the decoded batch.
    sources: Vec<Option<usize>>,
    /// Names of all columns of the file.
    names: Vec<String>,
    path: String,
}

/// A part of a file to read.
#[derive(Debug, Clone, Copy)]
pub struct Part {
    /// Start of the range of bytes in which the row groups to read begin.
    pub start: u64,
    /// End of that range.
    pub end: u64,
    /// Number of rows to skip at the beginning.
    pub skip_rows: u64,
    /// Rows per batch.
    pub batch_rows: usize,
}

impl FileReader {
    /// Opens a file to read the columns of `schema`. `path` is for error messages.
    pub fn new<R: ChunkReader + 'static>(input: R, path: &str, schema: &SchemaRef, part: Part) -> Result<Self, Error> {
        catch_panics(path, || {
            let builder = ParquetRecordBatchReaderBuilder::try_new(input).map_err(|error| damaged(path, &error))?;
            let in_file = builder.schema().clone();
            let mut roots = Vec::new();
            for field in schema.fields() {
                match in_file.index_of(field.name()) {
                    Ok(index) => {
                        let found = in_file.field(index).data_type();
                        if !conversion::is_possible(found, field.data_type()) {
                            return Err(Error::Data(format!(
                                "`{path}`: column `{}` is {found} in the file, which cannot become the declared {}",
                                field.name(),
                                sql_type::name(field.data_type())
                            )));
                        }
                        roots.push(index);
                    }
                    Err(_) if field.is_nullable() => {}
                    Err(_) => {
                        let names = in_file.fields().iter().map(|field| field.name().as_str());
                        return Err(Error::Data(format!(
                            "`{path}`: the file has no column `{}`, which is declared NOT NULL{}",
                            field.name(),
                            millstream_proto::spec::did_you_mean(field.name(), names)
                        )));
                    }
                }
            }
            let mut delivered = roots.clone();
            delivered.sort_unstable();
            delivered.dedup();
            let sources = schema
                .fields()
                .iter()
                .map(|field| {
                    let index = in_file.index_of(field.name()).ok()?;
                    delivered.binary_search(&index).ok()
                })
                .collect();
            let groups: Vec<usize> = builder
                .metadata()
                .row_groups()
                .iter()
                .enumerate()
                .filter(|(_, group)| {
                    let first = group
                        .columns()
                        .iter()
                        .map(|column| column.byte_range().0)
                        .min()
                        .unwrap_or(0);
                    (part.start..part.end).contains(&first)
                })
                .map(|(index, _)| index)
                .collect();
            let mask = ProjectionMask::roots(builder.parquet_schema(), roots);
            let reader = builder
                .with_projection(mask)
                .with_row_groups(groups)
                .with_batch_size(part.batch_rows)
                .with_offset(usize::try_from(part.skip_rows).unwrap_or(usize::MAX))
                .build()
                .map_err(|error| damaged(path, &error))?;
            Ok(Self {
                reader,
                schema: schema.clone(),
                sources,
                names: in_file.fields().iter().map(|field| field.name().clone()).collect(),
                path: path.to_string(),
            })
        })
    }

    /// Returns the columns that are read; true if the file has the column.
    pub fn columns(&self) -> impl Iterator<Item = (&str, bool)> {
        let fields = self.schema.fields().iter().zip(&self.sources);
        fields.map(|(field, source)| (field.name().as_str(), source.is_some()))
    }

    /// Returns the names of all columns of the file.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Decodes the next batch; `None` at the end.
    pub fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        let path = self.path.clone();
        catch_panics(&path, || match self.reader.next() {
            None => Ok(None),
            Some(Ok(rows)) => self.convert(&rows).map(Some),
            Some(Err(error)) => Err(damaged(&path, &error)),
        })
    }

    /// Converts a decoded batch to the columns of `schema`.
    fn convert(&self, rows: &RecordBatch) -> Result<RecordBatch, Error> {
        let mut columns = Vec::with_capacity(self.sources.len());
        for (field, source) in self.schema.fields().iter().zip(&self.sources) {
            let wrong = |problem: &str| Error::Data(format!("`{}`: column `{}`: {problem}", self.path, field.name()));
            let column = match source {
                None => new_null_array(field.data_type(), rows.num_rows()),
                Some(index) => {
                    let column = conversion::convert(rows.column(*index), field.data_type());
                    map_keys::unique_keys(&column.map_err(|error| wrong(&error))?)?
                }
            };
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(wrong("is declared NOT NULL, but the file has NULL values"));
            }
            columns.push(column);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(
            self.schema.clone(),
            columns,
            &options,
        )?)
    }
}

/// Runs the Parquet decoder, and converts a panic to an error.
fn catch_panics<T>(path: &str, run: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
        Err(Error::Data(format!(
            "`{path}` is damaged: its content is not valid Parquet; replace or remove the file, then start again"
        )))
    })
}

fn damaged(path: &str, error: &dyn std::fmt::Display) -> Error {
    Error::Data(format!(
        "`{path}` is not a complete Parquet file (truncated, damaged, or still being written): {error}; replace or \
         remove the file, then start again"
    ))
}

/// Fails if a column contains intervals, which Flink's Parquet files do not have.
pub fn check_schema(schema: &SchemaRef) -> Result<(), Error> {
    fn has_interval(data_type: &DataType) -> bool {
        match data_type {
            DataType::List(item) => has_interval(item.data_type()),
            DataType::Map(entries, _) => has_interval(entries.data_type()),
            DataType::Struct(fields) => fields.iter().any(|field| has_interval(field.data_type())),
            other => sql_type::is_interval(other),
        }
    }
    match schema.fields().iter().find(|field| has_interval(field.data_type())) {
        Some(field) => Err(Error::Invalid(format!(
            "column `{}`: Parquet has no {}; store a number, such as TIMESTAMPDIFF(SECOND, a, b), or CAST the interval \
             to STRING",
            field.name(),
            sql_type::name(field.data_type())
        ))),
        None => Ok(()),
    }
}

/// Returns the properties of written files, from the options `parquet.*`.
pub fn writer_properties(spec: &FormatSpec) -> Result<WriterProperties, Error> {
    let options = spec.options();
    let compression = match options
        .text("parquet.compression")
        .unwrap_or("SNAPPY")
        .to_ascii_uppercase()
        .as_str()
    {
        "NONE" | "UNCOMPRESSED" => Compression::UNCOMPRESSED,
        "GZIP" => Compression::GZIP(GzipLevel::default()),
        "ZSTD" => Compression::ZSTD(ZstdLevel::default()),
        "LZ4" => Compression::LZ4_RAW,
        _ => Compression::SNAPPY,
    };
    let rows = options.count("parquet.row-group-rows")?.unwrap_or(1 << 20).max(1);
    Ok(WriterProperties::builder()
        .set_compression(compression)
        .set_max_row_group_row_count(Some(usize::try_from(rows).unwrap_or(usize::MAX)))
        .set_created_by("millstream".to_string())
        .build())
}
