//! The open files of a writer: rolled by size and age. All calls block.
//!
//! A checkpoint closes all files, or with `auto-compaction` leaves them open and logs their content.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::content_log::ContentLog;
use super::in_progress_file::InProgressFile;
use super::local_fs::{remove_file, sync_folder};
use super::open_file::{OpenFile, Payload};
use super::pending_file::PendingFile;
use super::sink_settings::SinkSettings;
use crate::{Committable, Error, WriterContext};

/// The open files of a writer, one per partition folder, and the files closed since the last checkpoint.
pub(super) struct OpenFiles {
    settings: Arc<SinkSettings>,
    context: WriterContext,
    header: Option<Vec<u8>>,
    /// By partition folder.
    open: HashMap<String, Entry>,
    /// Content of files that stay open across checkpoints; `None` if every checkpoint closes all files.
    log: Option<ContentLog>,
    /// Durable files for the next checkpoint.
    closed: Vec<PendingFile>,
    /// Number of writes so far, to find the file that was written to least recently.
    clock: u64,
}

/// An open file and what decides when it is closed.
struct Entry {
    file: OpenFile,
    created: Instant,
    last_write: u64,
}

/// The output of one writer for a checkpoint.
#[derive(Default)]
pub(super) struct Prepared {
    /// Files to publish when the checkpoint is complete.
    pub closed: Vec<PendingFile>,
    /// Description of the files that stay open.
    pub open: Option<Committable>,
}

impl OpenFiles {
    /// Creates the files of one subtask. `header` is the header of each file.
    pub(super) fn new(settings: Arc<SinkSettings>, context: WriterContext, header: Option<Vec<u8>>) -> Self {
        Self {
            log: settings.keeps_files_open.then(|| ContentLog::new(&context)),
            settings,
            context,
            header,
            open: HashMap::new(),
            closed: Vec::new(),
            clock: 0,
        }
    }

    /// Writes to the open file of a partition folder, and rolls the file by age and size.
    pub(super) fn write(&mut self, folder: String, payload: Payload) -> Result<(), Error> {
        if self.open.get(&folder).is_some_and(|entry| self.is_too_old(entry)) {
            self.close(&folder)?;
        }
        if !self.open.contains_key(&folder) {
            if self.open.len() >= self.settings.open_files_max {
                let oldest = self.open.iter().min_by_key(|(_, entry)| entry.last_write);
                if let Some(oldest) = oldest.map(|(folder, _)| folder.clone()) {
                    self.close(&oldest)?;
                }
            }
            let entry = self.create(&folder)?;
            self.open.insert(folder.clone(), entry);
        }
        self.clock += 1;
        let Some(entry) = self.open.get_mut(&folder) else {
            return Ok(());
        };
        entry.last_write = self.clock;
        entry.file.write(&payload)?;
        if entry.file.bytes() >= self.settings.file_bytes_max {
            self.close(&folder)?;
        } else if let Some(log) = &mut self.log {
            log.append(&folder, payload);
        }
        Ok(())
    }

    fn is_too_old(&self, entry: &Entry) -> bool {
        entry.created.elapsed() >= self.settings.file_age_max
    }

    fn create(&mut self, folder: &str) -> Result<Entry, Error> {
        let file = self
            .settings
            .create_file(&self.context.job, self.context.subtask, folder, &self.context.runtime)?;
        if let Some(log) = &mut self.log {
            log.open(folder, file.final_name());
        }
        Ok(Entry {
            file: OpenFile::new(file, &self.settings, self.header.as_deref())?,
            created: Instant::now(),
            last_write: self.clock,
        })
    }

    fn close(&mut self, folder: &str) -> Result<(), Error> {
        if let Some(log) = &mut self.log {
            log.close(folder);
        }
        if let Some(entry) = self.open.remove(folder) {
            self.closed.push(entry.file.finish()?);
        }
        Ok(())
    }

    /// Makes all that was written durable. Closes all files if there is no log, or this checkpoint is the last.
    pub(super) fn prepare(&mut self, last: bool) -> Result<Prepared, Error> {
        let keeps_open = self.log.is_some() && !last;
        let due = self
            .open
            .iter()
            .filter(|(_, entry)| !keeps_open || self.is_too_old(entry));
        let due: Vec<String> = due.map(|(folder, _)| folder.clone()).collect();
        due.iter().try_for_each(|folder| self.close(folder))?;
        while let Some(folder) = self.log.as_ref().and_then(ContentLog::must_close) {
            self.close(&folder)?;
        }
        let open = match &mut self.log {
            Some(log) => log.write_segment()?,
            None => None,
        };
        let folders: BTreeSet<_> = self
            .closed
            .iter()
            .filter_map(|file| match file {
                PendingFile::Local { hidden, .. } => Path::new(hidden).parent(),
                PendingFile::Upload { .. } => None,
            })
            .collect();
        folders.into_iter().try_for_each(sync_folder)?;
        Ok(Prepared {
            closed: std::mem::take(&mut self.closed),
            open,
        })
    }

    /// Returns prepared files to the files of the next checkpoint, because nobody received them.
    pub(super) fn take_back(&mut self, prepared: Prepared) {
        self.closed = prepared.closed;
    }

    /// Removes all files that no checkpoint names. Files that cannot be removed now are removed when the job starts
    /// next.
    pub(super) fn discard(&mut self) {
        let open = self.open.drain().filter_map(|(_, entry)| entry.file.into_in_progress());
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
