//! The sink: prepares the folder, creates writers, and commits their files.
//!
//! Files in progress that earlier attempts of the same job left behind are removed at the start, after the files of the
//! restored checkpoint were published. Unfinished uploads in an object store are invisible and are not removed; a
//! lifecycle rule of the bucket can abort them.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use object_store::ObjectStoreExt;

use super::earlier_output::EarlierOutput;
use super::error::{io_error, store_error};
use super::local_fs::{create_folder, remove_file};
use super::location::Location;
use super::logged_files::LoggedFiles;
use super::part_file::FinalName;
use super::pending_file::{PendingFile, Record};
use super::sink_settings::SinkSettings;
use super::writer::FileWriter;
use super::{commit, part_file, pending_file, recovery, success_file};
use crate::sink::NoStorage;
use crate::{
    Committable, Delivery, Error, JobIdentity, OutputStorage, Sink, SinkWriter, TableDefinition, WriterContext,
};

/// A sink of files.
pub(super) struct FileSink {
    settings: Arc<SinkSettings>,
    /// Holds the content of files that checkpoints leave open.
    storage: OnceLock<Arc<dyn OutputStorage>>,
}

impl FileSink {
    /// Creates the sink of a table.
    pub(super) fn new(table: &TableDefinition) -> Result<Self, Error> {
        Self::at(table, Location::of(table)?)
    }

    /// Creates the sink of a table whose files are written at `location`.
    pub(super) fn at(table: &TableDefinition, location: Location) -> Result<Self, Error> {
        Ok(Self {
            settings: Arc::new(SinkSettings::new(table, location)?),
            storage: OnceLock::new(),
        })
    }

    /// Writes the success files of the partitions of published files, if the table asks for them.
    async fn write_success_files(&self, published: &[FinalName]) -> Result<(), Error> {
        match &self.settings.success_file {
            Some(name) => success_file::write(&self.settings.location, name, published).await,
            None => Ok(()),
        }
    }
}

/// Creates the folder, checks that it can be written to, and removes the files in progress of the job's other attempts.
fn prepare_local(root: &str, job: &JobIdentity) -> Result<(), Error> {
    let folder = Path::new(root);
    if folder.exists() && !folder.is_dir() {
        return Err(Error::Invalid(format!(
            "option 'path': `{root}` is a file; a table is written as a folder of files: name a folder"
        )));
    }
    create_folder(folder)?;
    let suffix = part_file::in_progress_suffix(job);
    let probe = folder.join(format!("{}{suffix}", part_file::probe_name(job)));
    std::fs::write(&probe, b"").map_err(|error| io_error("cannot write into the folder", root, error))?;
    remove_file(&probe)?;
    remove_stale_files(folder, &suffix, &part_file::in_progress_prefix(job))
}

/// Removes the files in progress with this suffix, except those whose names start with `current`.
fn remove_stale_files(folder: &Path, suffix: &str, current: &str) -> Result<(), Error> {
    let shown = folder.to_string_lossy().into_owned();
    for entry in std::fs::read_dir(folder).map_err(|error| io_error("cannot list the folder", &shown, error))? {
        let entry = entry.map_err(|error| io_error("cannot list the folder", &shown, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if part_file::is_in_progress(&name, suffix) {
            if !name.starts_with(current) {
                remove_file(&path)?;
            }
        } else if name.contains('=') && path.is_dir() {
            remove_stale_files(&path, suffix, current)?;
        }
    }
    Ok(())
}

#[async_trait]
impl Sink for FileSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
    }

    fn use_storage(&self, storage: Arc<dyn OutputStorage>) {
        self.storage.get_or_init(|| storage);
    }

    async fn start(&self, job: &JobIdentity) -> Result<(), Error> {
        match &self.settings.location {
            Location::Local(root) => {
                let (root, job) = (root.clone(), job.clone());
                tokio::task::spawn_blocking(move || prepare_local(&root, &job))
                    .await
                    .map_err(|error| Error::Unavailable(format!("preparing the folder was interrupted: {error}")))?
            }
            Location::Store(store) => {
                // An empty object, put and deleted, shows that the credentials allow writing.
                let key = store.key_of(&format!("{}/{}", store.key, part_file::probe_name(job)))?;
                let shown = format!("{}/{}", store.root, store.key);
                store
                    .store
                    .put(&key, Vec::new().into())
                    .await
                    .map_err(|error| store_error(&shown, &error))?;
                store
                    .store
                    .delete(&key)
                    .await
                    .map_err(|error| store_error(&shown, &error))
            }
        }
    }

    async fn earlier_output(&self) -> Result<Option<String>, Error> {
        let earlier = EarlierOutput::find(&self.settings.location).await?;
        Ok(earlier.describe())
    }

    async fn remove_earlier_output(&self) -> Result<(), Error> {
        let location = &self.settings.location;
        EarlierOutput::find(location).await?.remove(location).await
    }

    fn writer(&self, context: WriterContext) -> Result<Box<dyn SinkWriter>, Error> {
        Ok(Box::new(FileWriter::new(self.settings.clone(), context)?))
    }

    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error> {
        let (closed, _) = records(&committables)?;
        let published: Vec<FinalName> = closed.iter().map(PendingFile::final_name).collect();
        commit::publish(&self.settings.location, closed).await?;
        self.write_success_files(&published).await
    }

    fn keeps_output_back(&self) -> bool {
        self.settings.keeps_files_open
    }

    async fn recover(&self, committables: Vec<Committable>) -> Result<(), Error> {
        let (closed, open) = records(&committables)?;
        let closed_names: BTreeSet<FinalName> = closed.iter().map(PendingFile::final_name).collect();
        commit::publish(&self.settings.location, closed).await?;
        self.write_success_files(&closed_names.iter().cloned().collect::<Vec<_>>())
            .await?;
        if open.is_empty() {
            return Ok(());
        }
        let storage: Arc<dyn OutputStorage> = self.storage.get().cloned().unwrap_or_else(|| Arc::new(NoStorage));
        recovery::publish(&self.settings, &storage, open, &closed_names).await
    }
}

/// Decodes committables into files to publish and files that were left open.
fn records(committables: &[Committable]) -> Result<(Vec<PendingFile>, Vec<LoggedFiles>), Error> {
    let (mut closed, mut open) = (Vec::new(), Vec::new());
    for committable in committables {
        match pending_file::decode(committable)? {
            Record::Pending(files) => closed.extend(files),
            Record::Open(files) => open.push(files),
        }
    }
    Ok((closed, open))
}
