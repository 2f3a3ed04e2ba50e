//! The sink: where files are written, what they are called, and what is cleaned up.
//!
//! A file is named `part-<attempt>-<subtask>-<n>.<format>`: no two attempts, subtasks or files of one share a name.
//! While it is written it is hidden. Leftovers of earlier attempts of the same job are removed at the start, when
//! everything the restored checkpoint names is published already. (Unfinished uploads in an object store are invisible;
//! let a lifecycle rule of the bucket remove them.)

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arrow_schema::SchemaRef;
use async_trait::async_trait;
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;

use super::compression::Compression;
use super::earlier_output::EarlierOutput;
use super::location::{Location, io, unavailable};
use super::target::{Target, remove, sync_folder};
use super::writer::Writer;
use super::{commit, partition};
use crate::format::FormatSpec;
use crate::options::Options;
use crate::{Committable, Delivery, Error, JobIdentity, Sink, SinkWriter, TableDefinition, WriterContext};

pub struct FileSink {
    settings: Arc<Settings>,
}

/// What is the same for all writers.
pub struct Settings {
    pub table: TableDefinition,
    pub location: Location,
    pub format: FormatSpec,
    pub file_schema: SchemaRef,
    pub compression: Compression,
    pub default_partition: String,
    pub file_bytes_max: u64,
    pub file_age_max: Duration,
    pub open_files_max: usize,
}

/// Numbers files within this process: two sinks may write into one folder.
static FILE_NUMBER: AtomicU64 = AtomicU64::new(0);

impl FileSink {
    pub fn new(table: &TableDefinition) -> Result<Self, Error> {
        Self::at(table, Location::of(table)?)
    }

    pub fn at(table: &TableDefinition, location: Location) -> Result<Self, Error> {
        let options = Options::of(table);
        let open_files_max = options.count("sink.max-open-files")?.unwrap_or(128).max(1);
        Ok(Self {
            settings: Arc::new(Settings {
                location,
                format: FormatSpec::of_value(table)?,
                file_schema: partition::file_schema(table)?,
                compression: Compression::of("", options.text("sink.compression").unwrap_or("none")),
                default_partition: options
                    .text("partition.default-name")
                    .unwrap_or(partition::DEFAULT_NAME)
                    .to_string(),
                file_bytes_max: options
                    .bytes("sink.rolling-policy.file-size")?
                    .unwrap_or(128 << 20)
                    .max(1),
                file_age_max: options
                    .duration("sink.rolling-policy.rollover-interval")?
                    .unwrap_or(Duration::from_secs(30 * 60)),
                open_files_max: usize::try_from(open_files_max).unwrap_or(usize::MAX),
                table: table.clone(),
            }),
        })
    }
}

impl Settings {
    /// A new file in a partition's folder (`day=2024-01-01/`, or nothing).
    pub fn create(&self, job: &JobIdentity, subtask: usize, folder: &str, runtime: &Handle) -> Result<Target, Error> {
        let number = FILE_NUMBER.fetch_add(1, Ordering::Relaxed);
        let extension = match self.format.is_file_format() {
            true => "",
            false => self.compression.extension(),
        };
        let name = format!(
            "part-{}-{subtask}-{number}.{}{extension}",
            job.attempt, self.format.format.name
        );
        match &self.location {
            Location::Local(root) => {
                let folder = Path::new(root).join(folder);
                create_folder(&folder)?;
                Target::local(folder.join(name), &hidden_suffix(job))
            }
            Location::Store(store) => {
                let key = store.key_of(&format!("{}/{folder}{name}", store.key))?;
                Target::upload(store, key, runtime)
            }
        }
    }
}

/// What hidden files of this job end with.
fn hidden_suffix(job: &JobIdentity) -> String {
    format!(".{:016x}.inprogress", xxhash_rust::xxh3::xxh3_64(job.job.as_bytes()))
}

/// Creates a folder and makes its name, and those of the folders made for it, durable.
fn create_folder(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut made: Vec<PathBuf> = Vec::new();
    for ancestor in folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
    {
        made.push(ancestor.to_path_buf());
    }
    std::fs::create_dir_all(folder)
        .map_err(|error| io("cannot create the folder", &folder.to_string_lossy(), error))?;
    for folder in made {
        if let Some(parent) = folder.parent() {
            sync_folder(if parent.as_os_str().is_empty() {
                Path::new(".")
            } else {
                parent
            })?;
        }
    }
    Ok(())
}

fn prepare_local(root: &str, job: &JobIdentity) -> Result<(), Error> {
    let folder = Path::new(root);
    if folder.exists() && !folder.is_dir() {
        return Err(Error::Invalid(format!(
            "option 'path': `{root}` is a file; a table is written as a folder of files: name a folder"
        )));
    }
    create_folder(folder)?;
    let suffix = hidden_suffix(job);
    let probe = folder.join(format!(".part-{}-probe{suffix}", job.attempt));
    std::fs::write(&probe, b"").map_err(|error| io("cannot write into the folder", root, error))?;
    remove(&probe)?;
    remove_leftovers(folder, &suffix, &format!(".part-{}-", job.attempt))
}

/// Removes the job's hidden files, but not those of the attempt that begins.
fn remove_leftovers(folder: &Path, suffix: &str, current: &str) -> Result<(), Error> {
    let shown = folder.to_string_lossy().into_owned();
    for entry in std::fs::read_dir(folder).map_err(|error| io("cannot list the folder", &shown, error))? {
        let entry = entry.map_err(|error| io("cannot list the folder", &shown, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if name.starts_with(".part-") && name.ends_with(suffix) {
            if !name.starts_with(current) {
                remove(&path)?;
            }
        } else if name.contains('=') && path.is_dir() {
            remove_leftovers(&path, suffix, current)?;
        }
    }
    Ok(())
}

#[async_trait]
impl Sink for FileSink {
    fn delivery(&self) -> Delivery {
        Delivery::ExactlyOnce
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
                // Writing is tried where it costs nothing: an object of no bytes, removed at once.
                let key = store.key_of(&format!("{}/.part-{}-probe", store.key, job.attempt))?;
                let shown = format!("{}/{}", store.root, store.key);
                store
                    .store
                    .put(&key, Vec::new().into())
                    .await
                    .map_err(|error| unavailable(&shown, &error))?;
                store
                    .store
                    .delete(&key)
                    .await
                    .map_err(|error| unavailable(&shown, &error))
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
        Ok(Box::new(Writer::new(self.settings.clone(), context)?))
    }

    async fn commit(&self, committables: Vec<Committable>) -> Result<(), Error> {
        let mut pending = Vec::new();
        for committable in &committables {
            pending.extend(commit::decode(committable)?);
        }
        commit::publish(&self.settings.location, pending).await
    }
}
