//! Read-ahead of a split's bytes, off the slot thread.
//!
//! One blocking task per split opens the file, checks that it is still the file that the split was made from,
//! decompresses it, and sends chunks through a short queue, waking the slot for each. Parquet is decoded here too,
//! because its decoder fetches pages as it goes. The task ends when the reader drops its end of the queue.

use std::io::Read;
use std::sync::Arc;
use std::task::Waker;

use ::parquet::file::reader::{ChunkReader, Length};
use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;
use bytes::Bytes;
use crossbeam::channel::{Receiver, Sender, bounded};
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;

use super::compression::Compression;
use super::error::io_error;
use super::location::{FileEntry, Location, StoreLocation};
use super::split::Position;
use crate::format::{Header, parquet};
use crate::{Error, SourceFields};

/// Bytes of a chunk.
const CHUNK_BYTES: usize = 512 << 10;
/// Bytes of a chunk beyond the split's end, where only the rest of one record is needed.
const TAIL_BYTES: usize = 32 << 10;
/// Chunks in the queue to the slot.
const QUEUE_CHUNKS_MAX: usize = 4;

/// A message from the read-ahead task to the reader.
pub(super) enum Chunk {
    /// The file's header. Precedes all other chunks.
    Header {
        /// The line.
        line: Vec<u8>,
        /// Offset after the line.
        end: u64,
        /// Number of records up to there.
        records: u64,
    },
    /// Decompressed bytes.
    Bytes(Vec<u8>),
    /// Decoded rows of a Parquet file.
    Rows(RecordBatch),
    /// The end of the file, or of the split's row groups.
    End,
    /// The error that ended the task.
    Failed(Error),
}

/// The read-ahead task of one split.
pub(super) struct ReadAhead {
    /// Location that the file was listed at.
    pub location: Location,
    /// Position to read from.
    pub position: Position,
    /// Kind of file.
    pub content: Content,
    /// Runtime for blocking tasks and requests.
    pub runtime: Handle,
}

/// A kind of file, with its settings for reading.
pub(super) enum Content {
    /// A file of lines.
    Lines {
        /// Compression of the file.
        compression: Compression,
        /// Rules for finding the header; `None` if the file has none.
        header: Option<Header>,
        /// Bytes from the beginning of the file within which the header must end.
        header_bytes_max: u64,
    },
    /// A Parquet file.
    Parquet {
        /// Columns to decode.
        columns: SchemaRef,
        /// Rows per chunk.
        batch_rows: usize,
        /// Counts the fields of the records read.
        fields: Arc<SourceFields>,
    },
}

impl ReadAhead {
    /// Starts the task. If the position is not at the beginning of a record, the first byte is the one before the
    /// split, so that the reader can tell whether a record begins at the split's start.
    pub(super) fn start(self, waker: Waker) -> Receiver<Chunk> {
        let (sender, receiver) = bounded(QUEUE_CHUNKS_MAX);
        let runtime = self.runtime.clone();
        drop(runtime.spawn_blocking(move || {
            let end = match self.run(&sender, &waker) {
                Ok(()) => Chunk::End,
                Err(error) => Chunk::Failed(error),
            };
            send(&sender, &waker, end);
        }));
        receiver
    }

    fn run(&self, sender: &Sender<Chunk>, waker: &Waker) -> Result<(), Error> {
        let file = self.location.stat(&self.position.path, &self.runtime)?;
        let parquet = matches!(self.content, Content::Parquet { .. });
        self.check_unchanged(&file, parquet)?;
        match &self.content {
            Content::Lines {
                compression, header, ..
            } => self.lines(&file, *compression, header.as_ref(), sender, waker),
            Content::Parquet {
                columns,
                batch_rows,
                fields,
            } => self.parquet(&file, columns, *batch_rows, fields, sender, waker),
        }
    }

    fn check_unchanged(&self, file: &FileEntry, parquet: bool) -> Result<(), Error> {
        let position = &self.position;
        let path = &position.path;
        let advice = "put the file back as it was, or start again with --fresh";
        if file.size < position.size {
            return Err(Error::Data(format!(
                "`{path}` shrank from {} to {} bytes after reading of it began; {advice}",
                position.size, file.size
            )));
        }
        let rewritten = file.modified_us != position.modified_us && (file.size == position.size || parquet);
        if rewritten && position.is_resumed(parquet) {
            return Err(Error::Data(format!(
                "`{path}` was changed after {} of it had been read, so the rest may not continue what was read; \
                 {advice}",
                if parquet {
                    format!("{} rows", position.next)
                } else {
                    format!("{} bytes", position.next)
                }
            )));
        }
        Ok(())
    }

    fn lines(
        &self,
        file: &FileEntry,
        compression: Compression,
        header: Option<&Header>,
        sender: &Sender<Chunk>,
        waker: &Waker,
    ) -> Result<(), Error> {
        let path = &file.path;
        let from = if self.position.aligned {
            self.position.next
        } else {
            self.position.next.saturating_sub(1)
        };
        let compressed = compression != Compression::None;
        let begin = if compressed { 0 } else { from };
        let mut input = self.open(file, compression, begin)?;
        // Bytes of `input` that were read to find the header.
        let mut ahead = Vec::new();
        if let Some(header) = header {
            let found = if begin == 0 {
                self.find_header(header, &mut input, &mut ahead, path, compression)?
            } else {
                let mut beginning = self.open(file, compression, 0)?;
                self.find_header(header, &mut beginning, &mut Vec::new(), path, compression)?
            };
            // A file in which no header is found contains only blank lines and comments.
            if !found.is_some_and(|found| send(sender, waker, found)) {
                return Ok(());
            }
        }
        let mut offset = begin + ahead.len() as u64;
        if offset < from {
            let skipped = std::io::copy(&mut (&mut input).take(from - offset), &mut std::io::sink())
                .map_err(|error| read_error(path, compression, 0, error))?;
            offset += skipped;
            if offset < from {
                return Err(Error::Data(format!(
                    "`{path}` holds {offset} bytes decompressed, but {from} had been read from it; put the file back as \
                     it was, or start again with --fresh"
                )));
            }
        } else {
            // `begin` is 0 where anything was read ahead.
            let read = ahead.split_off(usize::try_from(from - begin).unwrap_or(usize::MAX).min(ahead.len()));
            if !read.is_empty() && !send(sender, waker, Chunk::Bytes(read)) {
                return Ok(());
            }
        }
        loop {
            let wanted = match self.position.end.checked_sub(offset) {
                Some(left) if left > 0 => left.min(CHUNK_BYTES as u64) as usize,
                _ => TAIL_BYTES,
            };
            let chunk = read_chunk(&mut input, wanted).map_err(|error| read_error(path, compression, offset, error))?;
            if chunk.is_empty() {
                break;
            }
            offset += chunk.len() as u64;
            if !send(sender, waker, Chunk::Bytes(chunk)) {
                return Ok(());
            }
        }
        if !compressed && offset < self.position.size.min(self.position.end) {
            return Err(Error::Data(format!(
                "`{path}` ended at byte {offset}, but it was {} bytes long when reading began: it was truncated meanwhile; \
                 put the file back as it was, or start again with --fresh",
                self.position.size
            )));
        }
        Ok(())
    }

    fn open(&self, file: &FileEntry, compression: Compression, offset: u64) -> Result<Box<dyn Read + Send>, Error> {
        let input = self.location.open(file, offset, &self.runtime)?;
        compression.reader(input, &file.path)
    }

    /// Reads a file from its beginning until its header is found. Appends the bytes read to `ahead`.
    fn find_header(
        &self,
        header: &Header,
        input: &mut dyn Read,
        ahead: &mut Vec<u8>,
        path: &str,
        compression: Compression,
    ) -> Result<Option<Chunk>, Error> {
        loop {
            let chunk = read_chunk(input, TAIL_BYTES)
                .map_err(|error| read_error(path, compression, ahead.len() as u64, error))?;
            let ended = chunk.is_empty();
            ahead.extend(chunk);
            if let Some(found) = header.find(ahead, ended) {
                return Ok(Some(Chunk::Header {
                    line: ahead[found.start..found.end].to_vec(),
                    end: found.next as u64,
                    records: found.records,
                }));
            }
            if ended {
                return Ok(None);
            }
            if let Content::Lines { header_bytes_max, .. } = self.content
                && ahead.len() as u64 > header_bytes_max
            {
                return Err(Error::Data(format!(
                    "`{path}`: no header ends within 'source.max-record-size' ({header_bytes_max} bytes); raise the \
                     option, or check that lines end with line breaks and that quotes are closed"
                )));
            }
        }
    }

    fn parquet(
        &self,
        file: &FileEntry,
        columns: &SchemaRef,
        batch_rows: usize,
        fields: &SourceFields,
        sender: &Sender<Chunk>,
        waker: &Waker,
    ) -> Result<(), Error> {
        let position = &self.position;
        let part = parquet::Part {
            start: position.start,
            end: position.end,
            skip_rows: position.next,
            batch_rows,
        };
        let mut reader = match &self.location {
            Location::Local(_) => {
                let opened = std::fs::File::open(&file.path)
                    .map_err(|error| io_error("cannot open the file", &file.path, error))?;
                parquet::FileReader::new(opened, &file.path, columns, part)?
            }
            Location::Store(store) => {
                let object = ObjectChunkReader {
                    key: store.key_of(&file.path)?,
                    store: store.clone(),
                    size: file.size,
                    runtime: self.runtime.clone(),
                };
                parquet::FileReader::new(object, &file.path, columns, part)?
            }
        };
        let mut is_observed = false;
        while let Some(rows) = reader.next_batch()? {
            if !std::mem::replace(&mut is_observed, true) {
                fields.observe_columns(reader.columns());
                fields.observe_fields(reader.names().iter().map(String::as_str));
            }
            fields.add_records(rows.num_rows() as u64);
            fields.count_absent(rows.num_rows() as u64);
            if !send(sender, waker, Chunk::Rows(rows)) {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Sends a chunk and wakes the slot. Returns false if the reader was dropped.
fn send(sender: &Sender<Chunk>, waker: &Waker, chunk: Chunk) -> bool {
    let sent = sender.send(chunk).is_ok();
    if sent {
        waker.wake_by_ref();
    }
    sent
}

/// Reads `wanted` bytes; fewer only at the end of the input.
fn read_chunk(input: &mut dyn Read, wanted: usize) -> std::io::Result<Vec<u8>> {
    let mut chunk = Vec::with_capacity(wanted);
    input.take(wanted as u64).read_to_end(&mut chunk)?;
    Ok(chunk)
}

fn read_error(path: &str, compression: Compression, offset: u64, error: std::io::Error) -> Error {
    if compression == Compression::None {
        return io_error("cannot read the file", path, error);
    }
    Error::Data(format!(
        "`{path}`: the compressed data is damaged or truncated near byte {offset} of the decompressed text ({error}); \
         replace the file with a complete one and start again"
    ))
}

/// Reads ranges of an object for the Parquet decoder.
struct ObjectChunkReader {
    store: StoreLocation,
    key: object_store::path::Path,
    size: u64,
    runtime: Handle,
}

impl Length for ObjectChunkReader {
    fn len(&self) -> u64 {
        self.size
    }
}

impl ChunkReader for ObjectChunkReader {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> ::parquet::errors::Result<Self::T> {
        /// Page headers are read through this; they are short.
        const AHEAD_BYTES: u64 = 64 << 10;
        let length = AHEAD_BYTES.min(self.size.saturating_sub(start));
        Ok(bytes::Buf::reader(self.get_bytes(start, length as usize)?))
    }

    fn get_bytes(&self, start: u64, length: usize) -> ::parquet::errors::Result<Bytes> {
        let range = start..start + length as u64;
        self.runtime
            .block_on(self.store.store.get_range(&self.key, range))
            .map_err(|error| ::parquet::errors::ParquetError::External(Box::new(error)))
    }
}
