//! The writer of one subtask: groups rows by partition and encodes them on the slot thread.
//!
//! Encoded rows are handed in order to a [`BackgroundWriter`], which writes one open file per partition. Its queue is
//! bounded in bytes. At a barrier open files are closed and made durable, or their content is logged; the names go into
//! the checkpoint. Open files of a failed or cancelled attempt are discarded.

use std::collections::HashMap;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_array::{RecordBatch, UInt32Array};
use arrow_select::take::take_record_batch;
use futures::FutureExt;
use futures::channel::oneshot;
use futures::future::BoxFuture;

use super::background_writer::{BackgroundWriter, Command};
use super::open_file::Payload;
use super::open_files::OpenFiles;
use super::sink_settings::SinkSettings;
use super::{partition, pending_file};
use crate::changelog::Kinds;
use crate::format::{EncodedRecords, Encoder, Framing, TextColumn};
use crate::{Committable, Error, SinkWriter, WriterContext};

/// The writer of one subtask.
pub(super) struct FileWriter {
    settings: Arc<SinkSettings>,
    /// `None` for Parquet.
    encoder: Option<Box<dyn Encoder>>,
    /// Indices of the table's columns that are stored in the file.
    file_columns: Vec<usize>,
    /// Names and indices of the partition columns, in the order of `PARTITIONED BY`.
    partition_columns: Vec<(String, usize)>,
    background: BackgroundWriter,
}

impl FileWriter {
    /// Creates a writer without open files.
    pub(super) fn new(settings: Arc<SinkSettings>, context: WriterContext) -> Result<Self, Error> {
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
        let runtime = context.runtime.clone();
        let header = encoder.as_ref().and_then(|encoder| encoder.header());
        let files = OpenFiles::new(settings.clone(), context, header);
        Ok(Self {
            settings,
            encoder,
            file_columns,
            partition_columns,
            background: BackgroundWriter::new(files, runtime),
        })
    }

    /// Encodes rows of one file. Returns the size too.
    fn encode(&mut self, changes: &RecordBatch) -> Result<(Payload, u64), Error> {
        let rows = changes.project(&self.file_columns)?;
        Ok(match &mut self.encoder {
            Some(encoder) => {
                let mut out = EncodedRecords::default();
                encoder.encode_changes(&rows, Kinds::of(changes)?, &mut out)?;
                let bytes = out.data.len() as u64;
                (Payload::Bytes(out.data), bytes)
            }
            None => {
                let bytes = rows.get_array_memory_size() as u64;
                (Payload::Rows(rows), bytes)
            }
        })
    }

    fn send(&self, folder: String, payload: Payload, bytes: u64) -> Result<u64, Error> {
        self.background.send(Command::Write { folder, payload, bytes })?;
        Ok(bytes)
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if let Err(error) = self.background.send(Command::Discard) {
            tracing::debug!(%error, "unpublished files remain until the job starts next");
        }
    }
}

impl SinkWriter for FileWriter {
    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.background.poll_ready(context)
    }

    fn write(&mut self, rows: &RecordBatch) -> Result<u64, Error> {
        if rows.num_rows() == 0 {
            return Ok(0);
        }
        if self.partition_columns.is_empty() {
            let (payload, bytes) = self.encode(rows)?;
            return self.send(String::new(), payload, bytes);
        }
        let folders = rows_by_folder(rows, &self.partition_columns, &self.settings.default_partition)?;
        // All parts are encoded before the first is sent: if a row cannot be encoded, nothing of its batch is written.
        let mut parts = Vec::with_capacity(folders.len());
        for (folder, indices) in folders {
            let part = if indices.len() == rows.num_rows() {
                rows.clone()
            } else {
                take_record_batch(rows, &UInt32Array::from(indices))?
            };
            let (payload, bytes) = self.encode(&part)?;
            parts.push((folder, payload, bytes));
        }
        let mut written = 0;
        for (folder, payload, bytes) in parts {
            written += self.send(folder, payload, bytes)?;
        }
        Ok(written)
    }

    fn prepare(&mut self, _checkpoint: u64, last: bool) -> BoxFuture<'static, Result<Vec<Committable>, Error>> {
        let (reply, answer) = oneshot::channel();
        let sent = self.background.send(Command::Prepare { last, reply });
        let background = self.background.clone();
        async move {
            sent?;
            let prepared = answer.await.map_err(|_| background.take_error())??;
            let mut committables = Vec::new();
            if !prepared.closed.is_empty() {
                committables.push(pending_file::encode(&prepared.closed)?);
            }
            committables.extend(prepared.open);
            Ok(committables)
        }
        .boxed()
    }
}

/// Returns the row indices of each partition folder, in the order in which folders first appear.
fn rows_by_folder(
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
