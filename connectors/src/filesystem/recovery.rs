//! Publishing of the files that a restored checkpoint has left open: they are written anew from the log of their
//! content.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use arrow_ipc::reader::StreamReader;
use bytes::Bytes;
use object_store::ObjectStoreExt;
use tokio::runtime::Handle;

use super::commit;
use super::error::store_error;
use super::in_progress_file::InProgressFile;
use super::location::Location;
use super::logged_files::{LoggedFile, LoggedFiles};
use super::open_file::OpenFile;
use super::part_file::FinalName;
use super::pending_file::PendingFile;
use super::sink_settings::SinkSettings;
use crate::{Error, OutputStorage};

/// Publishes files that no writer will go on with. `closed` are the names of files that the checkpoint records as
/// closed, too.
///
/// Idempotent: a file whose name exists is left alone. It was published by an earlier call, or by its writer after the
/// checkpoint.
pub(super) async fn publish(
    settings: &Arc<SinkSettings>,
    storage: &Arc<dyn OutputStorage>,
    logged: Vec<LoggedFiles>,
    closed: &BTreeSet<FinalName>,
) -> Result<(), Error> {
    for logged in newest(logged, closed) {
        let (settings, storage) = (settings.clone(), storage.clone());
        let location = settings.location.clone();
        let runtime = Handle::current();
        let written = tokio::task::spawn_blocking(move || write(&settings, &*storage, logged, &runtime))
            .await
            .map_err(|error| Error::Unavailable(format!("writing files anew was interrupted: {error}")))??;
        commit::publish(&location, written).await?;
    }
    Ok(())
}

/// Leaves each file in one record only, the one with most of its content: a checkpoint repeats the records of those
/// before it that were not confirmed.
fn newest(mut logged: Vec<LoggedFiles>, closed: &BTreeSet<FinalName>) -> Vec<LoggedFiles> {
    let mut record_of: BTreeMap<FinalName, (u64, usize)> = BTreeMap::new();
    for (index, record) in logged.iter().enumerate() {
        for file in &record.files {
            let newest = record_of.entry(file.name.clone()).or_default();
            *newest = (*newest).max((file.bytes(), index));
        }
    }
    for (index, record) in logged.iter_mut().enumerate() {
        record.files.retain(|file| {
            let is_newest = record_of.get(&file.name) == Some(&(file.bytes(), index));
            is_newest && !closed.contains(&file.name)
        });
    }
    logged.retain(|record| !record.files.is_empty());
    logged
}

/// Writes the files of one record that do not exist yet.
fn write(
    settings: &SinkSettings,
    storage: &dyn OutputStorage,
    logged: LoggedFiles,
    runtime: &Handle,
) -> Result<Vec<PendingFile>, Error> {
    let header = settings.header()?;
    let mut open: Vec<(&LoggedFile, OpenFile)> = Vec::new();
    for file in &logged.files {
        if let Some(target) = create(settings, &file.name, &logged.in_progress_suffix, runtime)? {
            open.push((file, OpenFile::new(target, settings, header.as_deref())?));
        }
    }
    for (number, segment) in &logged.segments {
        let mut content: Option<Bytes> = None;
        for (file, open) in &mut open {
            for chunk in file.chunks.iter().filter(|chunk| chunk.segment == *number) {
                let content = match &mut content {
                    Some(content) => content,
                    None => content.insert(runtime.block_on(storage.read(segment))?),
                };
                let end = chunk.offset + chunk.length;
                let chunk = usize::try_from(chunk.offset).ok().zip(usize::try_from(end).ok());
                let chunk = chunk.and_then(|(start, end)| content.get(start..end)).ok_or_else(|| {
                    Error::Data(format!(
                        "`{}` has {} bytes, not {}",
                        segment.path,
                        content.len(),
                        segment.length
                    ))
                })?;
                match settings.format.is_file_format() {
                    false => open.write_bytes(chunk)?,
                    true => StreamReader::try_new(chunk, None)?.try_for_each(|rows| open.write_rows(&rows?))?,
                }
            }
        }
    }
    open.into_iter().map(|(_, file)| file.finish()).collect()
}

/// Creates a file in progress with a known final name. `None`: it is published.
fn create(
    settings: &SinkSettings,
    name: &FinalName,
    in_progress_suffix: &str,
    runtime: &Handle,
) -> Result<Option<InProgressFile>, Error> {
    match (name, &settings.location) {
        (FinalName::Path(path), _) => {
            let published = Path::new(path);
            if published.exists() {
                return Ok(None);
            }
            // The writer's own hidden file may still be open in a process that cannot be reached.
            let suffix = format!(".recovered{in_progress_suffix}");
            InProgressFile::local_again(published.to_path_buf(), &suffix).map(Some)
        }
        (FinalName::Key(key), Location::Store(store)) => {
            let path = store.key_of(key)?;
            match runtime.block_on(store.store.head(&path)) {
                Ok(_) => Ok(None),
                Err(object_store::Error::NotFound { .. }) => InProgressFile::upload(store, path, runtime).map(Some),
                Err(error) => Err(store_error(key, &error)),
            }
        }
        (FinalName::Key(key), Location::Local(path)) => Err(commit::written_to_object_store(key, path)),
    }
}
