//! One open file: an encoder in front of a file in progress.

use std::io::Write;

use arrow_array::RecordBatch;

use super::compression::Compression;
use super::error::io_error;
use super::in_progress_file::InProgressFile;
use super::pending_file::PendingFile;
use super::sink_settings::SinkSettings;
use crate::Error;
use crate::format::parquet;

/// One open file.
pub(super) struct OpenFile {
    body: Body,
    name: String,
    /// Size before compression.
    bytes: u64,
}

/// Content for one file.
pub(super) enum Payload {
    /// Encoded records.
    Bytes(Vec<u8>),
    /// Rows of a Parquet file.
    Rows(RecordBatch),
}

impl Payload {
    /// Returns the size in memory.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Bytes(data) => data.len(),
            Self::Rows(rows) => rows.get_array_memory_size(),
        }
    }
}

/// The encoder in front of a file.
enum Body {
    Plain(InProgressFile),
    Gzip(flate2::write::GzEncoder<InProgressFile>),
    Zstd(zstd::stream::write::Encoder<'static, InProgressFile>),
    Parquet(Box<::parquet::arrow::ArrowWriter<InProgressFile>>),
}

impl OpenFile {
    /// Creates an encoder in front of a file, and writes the header of text formats.
    pub(super) fn new(file: InProgressFile, settings: &SinkSettings, header: Option<&[u8]>) -> Result<Self, Error> {
        let name = file.name();
        let body = match (settings.format.is_file_format(), settings.compression) {
            (true, _) => {
                let properties = parquet::writer_properties(&settings.format)?;
                let schema = settings.file_schema.clone();
                let writer = ::parquet::arrow::ArrowWriter::try_new(file, schema, Some(properties))
                    .map_err(|error| parquet_error(&name, error))?;
                Body::Parquet(Box::new(writer))
            }
            (false, Compression::None) => Body::Plain(file),
            (false, Compression::Gzip) => Body::Gzip(flate2::write::GzEncoder::new(file, flate2::Compression::fast())),
            (false, Compression::Zstd) => Body::Zstd(
                zstd::stream::write::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)
                    .map_err(|error| io_error("cannot write the file", &name, error))?,
            ),
        };
        let mut file = Self { body, name, bytes: 0 };
        if let Some(header) = header {
            file.write_bytes(header)?;
        }
        Ok(file)
    }

    /// Returns the size before compression.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends a payload.
    pub(super) fn write(&mut self, payload: &Payload) -> Result<(), Error> {
        match payload {
            Payload::Bytes(data) => self.write_bytes(data),
            Payload::Rows(rows) => self.write_rows(rows),
        }
    }

    /// Appends encoded records to a file of a text format.
    pub(super) fn write_bytes(&mut self, data: &[u8]) -> Result<(), Error> {
        let written = match &mut self.body {
            Body::Plain(file) => file.write_all(data),
            Body::Gzip(encoder) => encoder.write_all(data),
            Body::Zstd(encoder) => encoder.write_all(data),
            Body::Parquet(_) => return Err(self.other_content()),
        };
        written.map_err(|error| io_error("cannot write the file", &self.name, error))?;
        self.bytes += data.len() as u64;
        Ok(())
    }

    /// Appends rows to a Parquet file.
    pub(super) fn write_rows(&mut self, rows: &RecordBatch) -> Result<(), Error> {
        let Body::Parquet(writer) = &mut self.body else {
            return Err(self.other_content());
        };
        writer.write(rows).map_err(|error| parquet_error(&self.name, error))?;
        self.bytes = (writer.bytes_written() + writer.in_progress_size()) as u64;
        Ok(())
    }

    fn other_content(&self) -> Error {
        Error::Invalid(format!("`{}`: rows and bytes cannot be written to one file", self.name))
    }

    /// Completes the file and makes it durable.
    pub(super) fn finish(self) -> Result<PendingFile, Error> {
        let name = self.name;
        let failed = |error| io_error("cannot write the file", &name, error);
        let file = match self.body {
            Body::Plain(file) => file,
            Body::Gzip(encoder) => encoder.finish().map_err(failed)?,
            Body::Zstd(encoder) => encoder.finish().map_err(failed)?,
            Body::Parquet(writer) => writer.into_inner().map_err(|error| parquet_error(&name, error))?,
        };
        file.finish()
    }

    /// Returns the file without what the encoder still holds, to be discarded.
    pub(super) fn into_in_progress(self) -> Option<InProgressFile> {
        match self.body {
            Body::Plain(file) => Some(file),
            Body::Gzip(encoder) => encoder.finish().ok(),
            Body::Zstd(encoder) => encoder.finish().ok(),
            Body::Parquet(writer) => writer.into_inner().ok(),
        }
    }
}

fn parquet_error(name: &str, error: ::parquet::errors::ParquetError) -> Error {
    match error {
        ::parquet::errors::ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => io_error("cannot write the file", name, *error),
            Err(error) => Error::Data(format!("cannot write the file `{name}`: {error}")),
        },
        error => Error::Data(format!("cannot write the file `{name}`: {error}")),
    }
}
