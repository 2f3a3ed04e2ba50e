//! The open files of a writer: rolled by size and age, closed at a checkpoint. All calls block.

use std::collections::{BTreeSet, HashMap};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use arrow_array::RecordBatch;
use tokio::runtime::Handle;

use super::compression::Compression;
use super::error::io_error;
use super::in_progress_file::InProgressFile;
use super::local_fs::{remove_file, sync_folder};
use super::pending_file::PendingFile;
use super::sink_settings::SinkSettings;
use crate::format::parquet;
use crate::{Error, JobIdentity};

/// The open files of a writer, one per partition folder, and the files closed since the last checkpoint.
pub struct OpenFiles {
    settings: Arc<SinkSettings>,
    job: JobIdentity,
    subtask: usize,
    runtime: Handle,
    header: Option<Vec<u8>>,
    /// By partition folder.
    open: HashMap<String, OpenFile>,
    /// Durable files for the next checkpoint.
    closed: Vec<PendingFile>,
    /// Number of writes so far, to find the file that was written to least recently.
    clock: u64,
}

/// Content for one file.
pub enum Payload {
    /// Encoded records.
    Bytes(Vec<u8>),
    /// Rows of a Parquet file.
    Rows(RecordBatch),
}

/// One open file.
struct OpenFile {
    body: Body,
    name: String,
    /// Size before compression.
    bytes: u64,
    created: Instant,
    last_write: u64,
}

/// The encoder in front of a file.
enum Body {
    Plain(InProgressFile),
    Gzip(flate2::write::GzEncoder<InProgressFile>),
    Zstd(zstd::stream::write::Encoder<'static, InProgressFile>),
    Parquet(Box<::parquet::arrow::ArrowWriter<InProgressFile>>),
}

impl OpenFiles {
    /// Creates the files of one subtask. `header` is the header of each file.
    pub fn new(
        settings: Arc<SinkSettings>,
        job: JobIdentity,
        subtask: usize,
        runtime: Handle,
        header: Option<Vec<u8>>,
    ) -> Self {
        Self {
            settings,
            job,
            subtask,
            runtime,
            header,
            open: HashMap::new(),
            closed: Vec::new(),
            clock: 0,
        }
    }

    /// Writes to the open file of a partition folder, and rolls the file by age and size.
    pub fn write(&mut self, folder: String, payload: Payload) -> Result<(), Error> {
        let too_old = |file: &OpenFile| file.created.elapsed() >= self.settings.file_age_max;
        if self.open.get(&folder).is_some_and(too_old) {
            self.close(&folder)?;
        }
        if !self.open.contains_key(&folder) {
            if self.open.len() >= self.settings.open_files_max {
                let oldest = self
                    .open
                    .iter()
                    .min_by_key(|(_, file)| file.last_write)
                    .map(|(folder, _)| folder.clone());
                if let Some(oldest) = oldest {
                    self.close(&oldest)?;
                }
            }
            let file = self.create(&folder)?;
            self.open.insert(folder.clone(), file);
        }
        self.clock += 1;
        let Some(file) = self.open.get_mut(&folder) else {
            return Ok(());
        };
        file.last_write = self.clock;
        file.write(payload)?;
        if file.bytes >= self.settings.file_bytes_max {
            self.close(&folder)?;
        }
        Ok(())
    }

    fn create(&self, folder: &str) -> Result<OpenFile, Error> {
        let file = self
            .settings
            .create_file(&self.job, self.subtask, folder, &self.runtime)?;
        let name = file.name();
        let body = match (self.settings.format.is_file_format(), self.settings.compression) {
            (true, _) => {
                let properties = parquet::writer_properties(&self.settings.format)?;
                let schema = self.settings.file_schema.clone();
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
        let mut file = OpenFile {
            body,
            name,
            bytes: 0,
            created: Instant::now(),
            last_write: self.clock,
        };
        if let Some(header) = &self.header {
            file.write(Payload::Bytes(header.clone()))?;
        }
        Ok(file)
    }

    fn close(&mut self, folder: &str) -> Result<(), Error> {
        if let Some(file) = self.open.remove(folder) {
            self.closed.push(file.finish()?);
        }
        Ok(())
    }

    /// Closes all files, makes their names durable, and returns all files closed since the last call.
    pub fn prepare(&mut self) -> Result<Vec<PendingFile>, Error> {
        let open: Vec<String> = self.open.keys().cloned().collect();
        open.iter().try_for_each(|folder| self.close(folder))?;
        let folders: BTreeSet<_> = self
            .closed
            .iter()
            .filter_map(|file| match file {
                PendingFile::Local { hidden, .. } => Path::new(hidden).parent(),
                PendingFile::Upload { .. } => None,
            })
            .collect();
        folders.into_iter().try_for_each(sync_folder)?;
        Ok(std::mem::take(&mut self.closed))
    }

    /// Returns prepared files to the files of the next checkpoint, because nobody received them.
    pub fn take_back(&mut self, files: Vec<PendingFile>) {
        self.closed = files;
    }

    /// Removes all files that no checkpoint names. Files that cannot be removed now are removed when the job starts
    /// next.
    pub fn discard(&mut self) {
        let open = self.open.drain().filter_map(|(_, file)| file.into_in_progress());
        let results = open
            .map(InProgressFile::discard)
            .chain(self.closed.iter().map(|file| match file {
                PendingFile::Local { hidden, .. } => remove_file(Path::new(hidden)),
                PendingFile::Upload { .. } => Ok(()),
            }));
        for result in results {
            if let Err(error) = result {
                tracing::debug!(%error, "an unpublished file could not be removed");
            }
        }
    }
}

impl OpenFile {
    fn write(&mut self, payload: Payload) -> Result<(), Error> {
        let OpenFile { body, name, bytes, .. } = self;
        let failed = |error| io_error("cannot write the file", name, error);
        match (body, payload) {
            (Body::Parquet(writer), Payload::Rows(rows)) => {
                writer.write(&rows).map_err(|error| parquet_error(name, error))?;
                *bytes = (writer.bytes_written() + writer.in_progress_size()) as u64;
            }
            (Body::Plain(file), Payload::Bytes(data)) => {
                file.write_all(&data).map_err(failed)?;
                *bytes += data.len() as u64;
            }
            (Body::Gzip(encoder), Payload::Bytes(data)) => {
                encoder.write_all(&data).map_err(failed)?;
                *bytes += data.len() as u64;
            }
            (Body::Zstd(encoder), Payload::Bytes(data)) => {
                encoder.write_all(&data).map_err(failed)?;
                *bytes += data.len() as u64;
            }
            _ => {
                return Err(Error::Invalid(format!(
                    "`{name}`: rows and bytes cannot be written to one file"
                )));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<PendingFile, Error> {
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

    fn into_in_progress(self) -> Option<InProgressFile> {
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
