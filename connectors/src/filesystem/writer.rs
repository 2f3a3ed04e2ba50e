//! The writer of one subtask: encodes on the slot thread, writes on a blocking thread.
//!
//! The slot thread groups rows by partition, encodes them and hands them over in order; behind it they are written into
//! one open file per partition, and files are rolled by size and age. How much may wait in between is bounded in bytes.
//! A thread is taken only while something waits: a process has room for many more writers than for threads. At a
//! barrier all open files are closed and made durable, and their names go into the checkpoint. What a failed or
//! cancelled attempt leaves open is thrown away.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use crossbeam::channel::{Receiver, Sender, unbounded};
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;
use futures::task::AtomicWaker;
use parking_lot::Mutex;
use tokio::runtime::Handle;

use super::commit::{self, Pending};
use super::compression::Compression;
use super::location::io;
use super::partition;
use super::sink::Settings;
use super::target::{Target, sync_folder};
use crate::format::{EncodedRecords, Encoder, Framing, TextColumn, parquet};
use crate::{Committable, Error, JobIdentity, SinkWriter, WriterContext};

/// Bytes that may wait for the disk or the store before the writer asks for a pause.
const WAITING_BYTES_MAX: u64 = 16 << 20;

pub struct Writer {
    settings: Arc<Settings>,
    /// `None` for Parquet.
    encoder: Option<Box<dyn Encoder>>,
    /// Columns of the incoming rows that are stored in the file.
    file_columns: Vec<usize>,
    /// Columns that name the folder, in the order of `PARTITIONED BY`.
    partition_columns: Vec<(String, usize)>,
    sender: Sender<Command>,
    shared: Arc<Shared>,
    behind: Arc<Behind>,
    runtime: Handle,
}

/// Between the slot thread and whoever writes.
struct Shared {
    waiting_bytes: AtomicU64,
    waker: AtomicWaker,
    /// What went wrong behind; taken once, by whoever asks first.
    error: Mutex<Option<Error>>,
}

/// What writes, whenever something waits.
struct Behind {
    commands: Receiver<Command>,
    shared: Arc<Shared>,
    /// Someone writes, or is about to.
    is_writing: AtomicBool,
    /// `None` after a failure.
    files: Mutex<Option<Files>>,
}

/// The queue is bounded by `WAITING_BYTES_MAX`, not in commands.
enum Command {
    Write {
        folder: String,
        content: Content,
        bytes: u64,
    },
    Prepare(oneshot::Sender<Result<Vec<Pending>, Error>>),
    /// The attempt is over.
    Discard,
}

enum Content {
    Bytes(Vec<u8>),
    Rows(RecordBatch),
}

impl Writer {
    pub fn new(settings: Arc<Settings>, context: WriterContext) -> Result<Self, Error> {
        let encoder = match settings.format.is_file_format() {
            true => None,
            false => Some(settings.format.encoder(&settings.file_schema, Framing::Lines)?),
        };
        let column = |name: &str| settings.table.schema.index_of(name);
        let file_columns = settings
            .file_schema
            .fields()
            .iter()
            .map(|field| column(field.name()))
            .collect::<Result<Vec<_>, _>>()?;
        let partition_columns = settings
            .table
            .partitioned_by
            .iter()
            .map(|name| Ok((name.clone(), column(name)?)))
            .collect::<Result<Vec<_>, Error>>()?;
        let shared = Arc::new(Shared {
            waiting_bytes: AtomicU64::new(0),
            waker: AtomicWaker::new(),
            error: Mutex::new(None),
        });
        let (sender, receiver) = unbounded();
        let files = Files {
            header: encoder.as_ref().and_then(|encoder| encoder.header()),
            settings: settings.clone(),
            job: context.job,
            subtask: context.subtask,
            runtime: context.runtime.clone(),
            open: HashMap::new(),
            closed: Vec::new(),
            clock: 0,
        };
        let behind = Behind {
            commands: receiver,
            shared: shared.clone(),
            is_writing: AtomicBool::new(false),
            files: Mutex::new(Some(files)),
        };
        Ok(Self {
            settings,
            encoder,
            file_columns,
            partition_columns,
            sender,
            shared,
            behind: Arc::new(behind),
            runtime: context.runtime,
        })
    }

    /// Queues a command, and sees to it that someone carries it out.
    fn command(&self, command: Command) -> Result<(), Error> {
        self.sender.send(command).map_err(|_| self.stopped())?;
        if !self.behind.is_writing.swap(true, Ordering::AcqRel) {
            let behind = self.behind.clone();
            drop(self.runtime.spawn_blocking(move || behind.work()));
        }
        Ok(())
    }

    fn encode(&mut self, rows: &RecordBatch) -> Result<(Content, u64), Error> {
        let rows = rows.project(&self.file_columns)?;
        Ok(match &mut self.encoder {
            Some(encoder) => {
                let mut out = EncodedRecords::default();
                encoder.encode(&rows, &mut out)?;
                let bytes = out.data.len() as u64;
                (Content::Bytes(out.data), bytes)
            }
            None => {
                let bytes = rows.get_array_memory_size() as u64;
                (Content::Rows(rows), bytes)
            }
        })
    }

    fn send(&mut self, folder: String, content: Content, bytes: u64) -> Result<u64, Error> {
        self.shared.waiting_bytes.fetch_add(bytes, Ordering::AcqRel);
        self.command(Command::Write { folder, content, bytes })?;
        Ok(bytes)
    }

    fn stopped(&self) -> Error {
        self.shared.stopped()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.command(Command::Discard) {
            tracing::debug!(%error, "unpublished files stay until the job starts next");
        }
    }
}

impl Shared {
    fn stopped(&self) -> Error {
        let error = self.error.lock().take();
        error.unwrap_or_else(|| Error::Unavailable("files are not written any more".to_string()))
    }
}

impl Behind {
    /// Carries out what waits until nothing does.
    fn work(&self) {
        loop {
            let mut files = self.files.lock();
            while let Ok(command) = self.commands.try_recv() {
                let bytes = match &command {
                    Command::Write { bytes, .. } => *bytes,
                    Command::Prepare(_) | Command::Discard => 0,
                };
                // After a failure what still comes is dropped; whoever waits for an answer then learns of it.
                let failed = files.as_mut().and_then(|files| files.carry_out(command).err());
                self.shared.waiting_bytes.fetch_sub(bytes, Ordering::AcqRel);
                if let Some(error) = failed {
                    *self.shared.error.lock() = Some(error);
                    if let Some(mut files) = files.take() {
                        files.discard();
                    }
                }
                self.shared.waker.wake();
            }
            drop(files);
            // A swap, not a store: it sees what was queued before whoever queued it found someone writing.
            self.is_writing.swap(false, Ordering::AcqRel);
            if self.commands.is_empty() || self.is_writing.swap(true, Ordering::AcqRel) {
                return;
            }
        }
    }
}

impl SinkWriter for Writer {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let is_free = |shared: &Shared| shared.waiting_bytes.load(Ordering::Acquire) < WAITING_BYTES_MAX;
        if let Some(error) = self.shared.error.lock().take() {
            return Poll::Ready(Err(error));
        }
        if is_free(&self.shared) {
            return Poll::Ready(Ok(()));
        }
        self.shared.waker.register(context.waker());
        if let Some(error) = self.shared.error.lock().take() {
            return Poll::Ready(Err(error));
        }
        if is_free(&self.shared) {
            Poll::Ready(Ok(()))
        } else {
            Poll::Pending
        }
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        if rows.num_rows() == 0 {
            return Ok(0);
        }
        if self.partition_columns.is_empty() {
            let (content, bytes) = self.encode(rows)?;
            return self.send(String::new(), content, bytes);
        }
        let groups = group(rows, &self.partition_columns, &self.settings.default_partition)?;
        // All parts first: a row that cannot be encoded must find nothing of its batch written.
        let mut parts = Vec::with_capacity(groups.len());
        for (folder, indices) in groups {
            let part = if indices.len() == rows.num_rows() {
                rows.clone()
            } else {
                take_record_batch(rows, &UInt32Array::from(indices))?
            };
            let (content, bytes) = self.encode(&part)?;
            parts.push((folder, content, bytes));
        }
        let mut written = 0;
        for (folder, content, bytes) in parts {
            written += self.send(folder, content, bytes)?;
        }
        Ok(written)
    }

    fn prepare(&mut self, _checkpoint: u64, _last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.command(Command::Prepare(reply));
        let shared = self.shared.clone();
        async move {
            sent?;
            let pending = answer.await.map_err(|_| shared.stopped())??;
            if pending.is_empty() {
                Ok(Vec::new())
            } else {
                Ok(vec![commit::encode(&pending)?])
            }
        }
        .boxed()
    }
}

/// The rows of each partition, by folder, in the order in which partitions appear.
fn group(
    rows: &RecordBatch,
    columns: &[(String, usize)],
    default_name: &str,
) -> Result<Vec<(String, Vec<u32>)>, Error> {
    let columns = columns
        .iter()
        .map(|(name, index)| Ok((name.clone(), TextColumn::new(rows.column(*index))?)))
        .collect::<Result<Vec<_>, Error>>()?;
    let mut groups: Vec<(String, Vec<u32>)> = Vec::new();
    let mut by_folder: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut folder = Vec::new();
    for row in 0..rows.num_rows() {
        folder.clear();
        partition::folder(&columns, row, default_name, &mut folder);
        let index = match by_folder.get(folder.as_slice()) {
            Some(index) => *index,
            None => {
                by_folder.insert(folder.clone(), groups.len());
                groups.push((String::from_utf8_lossy(&folder).into_owned(), Vec::new()));
                groups.len() - 1
            }
        };
        groups[index].1.push(row as u32);
    }
    Ok(groups)
}

/// The open files.
struct Files {
    settings: Arc<Settings>,
    job: JobIdentity,
    subtask: usize,
    runtime: Handle,
    header: Option<Vec<u8>>,
    /// By partition folder.
    open: HashMap<String, OpenFile>,
    /// Durable, and named in the next checkpoint.
    closed: Vec<Pending>,
    /// Counts writes, to know which file was written to least recently.
    clock: u64,
}

struct OpenFile {
    body: Body,
    name: String,
    /// Before compression.
    bytes: u64,
    created: Instant,
    last_write: u64,
}

enum Body {
    Plain(Target),
    Gzip(flate2::write::GzEncoder<Target>),
    Zstd(zstd::stream::write::Encoder<'static, Target>),
    Parquet(Box<::parquet::arrow::ArrowWriter<Target>>),
}

impl Files {
    fn carry_out(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::Write { folder, content, .. } => self.write(folder, content)?,
            Command::Prepare(reply) => {
                let prepared = self.close_all().and_then(|()| self.take_closed());
                // Nobody waits for the answer any more: the attempt is over, and the files are leftovers.
                if let Err(Ok(unwanted)) = reply.send(prepared) {
                    self.closed = unwanted;
                }
            }
            Command::Discard => self.discard(),
        }
        Ok(())
    }

    fn write(&mut self, folder: String, content: Content) -> Result<(), Error> {
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
        file.write(content)?;
        if file.bytes >= self.settings.file_bytes_max {
            self.close(&folder)?;
        }
        Ok(())
    }

    fn create(&self, folder: &str) -> Result<OpenFile, Error> {
        let target = self.settings.create(&self.job, self.subtask, folder, &self.runtime)?;
        let name = target.name();
        let body = match (self.settings.format.is_file_format(), self.settings.compression) {
            (true, _) => {
                let properties = parquet::writer_properties(&self.settings.format)?;
                let schema = self.settings.file_schema.clone();
                let writer = ::parquet::arrow::ArrowWriter::try_new(target, schema, Some(properties))
                    .map_err(|error| write_error(&name, error))?;
                Body::Parquet(Box::new(writer))
            }
            (false, Compression::None) => Body::Plain(target),
            (false, Compression::Gzip) => {
                Body::Gzip(flate2::write::GzEncoder::new(target, flate2::Compression::fast()))
            }
            (false, Compression::Zstd) => Body::Zstd(
                zstd::stream::write::Encoder::new(target, zstd::DEFAULT_COMPRESSION_LEVEL)
                    .map_err(|error| io("cannot write the file", &name, error))?,
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
            file.write(Content::Bytes(header.clone()))?;
        }
        Ok(file)
    }

    fn close(&mut self, folder: &str) -> Result<(), Error> {
        if let Some(file) = self.open.remove(folder) {
            self.closed.push(file.finish()?);
        }
        Ok(())
    }

    fn close_all(&mut self) -> Result<(), Error> {
        let folders: Vec<String> = self.open.keys().cloned().collect();
        folders.iter().try_for_each(|folder| self.close(folder))
    }

    /// The closed files, once their names are durable too.
    fn take_closed(&mut self) -> Result<Vec<Pending>, Error> {
        let folders: std::collections::BTreeSet<_> = self
            .closed
            .iter()
            .filter_map(|pending| match pending {
                Pending::Local { hidden, .. } => std::path::Path::new(hidden).parent(),
                Pending::Upload { .. } => None,
            })
            .collect();
        folders.into_iter().try_for_each(sync_folder)?;
        Ok(std::mem::take(&mut self.closed))
    }

    /// Throws away what no checkpoint names. What cannot be removed now is removed when the job starts next.
    fn discard(&mut self) {
        let open = self.open.drain().filter_map(|(_, file)| file.into_target());
        let results = open
            .map(Target::discard)
            .chain(self.closed.iter().map(|pending| match pending {
                Pending::Local { hidden, .. } => super::target::remove(std::path::Path::new(hidden)),
                Pending::Upload { .. } => Ok(()),
            }));
        for result in results {
            if let Err(error) = result {
                tracing::debug!(%error, "an unpublished file could not be removed");
            }
        }
    }
}

impl OpenFile {
    fn write(&mut self, content: Content) -> Result<(), Error> {
        let OpenFile { body, name, bytes, .. } = self;
        let wrong = |error| io("cannot write the file", name, error);
        match (body, content) {
            (Body::Parquet(writer), Content::Rows(rows)) => {
                writer.write(&rows).map_err(|error| write_error(name, error))?;
                *bytes = (writer.bytes_written() + writer.in_progress_size()) as u64;
            }
            (Body::Plain(target), Content::Bytes(data)) => {
                target.write_all(&data).map_err(wrong)?;
                *bytes += data.len() as u64;
            }
            (Body::Gzip(encoder), Content::Bytes(data)) => {
                encoder.write_all(&data).map_err(wrong)?;
                *bytes += data.len() as u64;
            }
            (Body::Zstd(encoder), Content::Bytes(data)) => {
                encoder.write_all(&data).map_err(wrong)?;
                *bytes += data.len() as u64;
            }
            _ => {
                return Err(Error::Invalid(format!(
                    "`{name}`: rows and bytes do not go into one file"
                )));
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Pending, Error> {
        let name = self.name;
        let wrong = |error| io("cannot write the file", &name, error);
        let target = match self.body {
            Body::Plain(target) => target,
            Body::Gzip(encoder) => encoder.finish().map_err(wrong)?,
            Body::Zstd(encoder) => encoder.finish().map_err(wrong)?,
            Body::Parquet(writer) => writer.into_inner().map_err(|error| write_error(&name, error))?,
        };
        target.finish()
    }

    fn into_target(self) -> Option<Target> {
        match self.body {
            Body::Plain(target) => Some(target),
            Body::Gzip(encoder) => encoder.finish().ok(),
            Body::Zstd(encoder) => encoder.finish().ok(),
            Body::Parquet(writer) => writer.into_inner().ok(),
        }
    }
}

fn write_error(name: &str, error: ::parquet::errors::ParquetError) -> Error {
    match error {
        ::parquet::errors::ParquetError::External(error) => match error.downcast::<std::io::Error>() {
            Ok(error) => io("cannot write the file", name, *error),
            Err(error) => Error::Data(format!("cannot write the file `{name}`: {error}")),
        },
        error => Error::Data(format!("cannot write the file `{name}`: {error}")),
    }
}
