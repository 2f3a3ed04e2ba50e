//! Restores of a store from the files of a checkpoint.
//!
//! Files with a local copy ([`super::local_recovery`]) are linked; all others are fetched and verified, so each is read
//! once.
//!
//! A store with the same key groups as before opens the old files as they are. After a rescale, a store opens every old
//! database that has some of its key groups, copies the rows of those key groups in key order to new files, and ingests
//! the files.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};

use super::database::Database;
use super::key::Family;
use super::snapshot::UploadedFiles;
use super::{KeyedSnapshot, StoreInner};
use crate::Error;
use crate::job_files::FileReference;
use crate::key_group::KeyGroupRange;
use crate::threads;

/// Files that are fetched at the same time, for all stores of a process together.
pub(crate) const FETCHES_IN_FLIGHT_MAX: usize = 16;

/// Restores the key groups that `store` owns from the snapshots of all old subtasks.
pub(crate) async fn restore(store: &Arc<StoreInner>, snapshots: &[KeyedSnapshot]) -> Result<(), Error> {
    let mut parts: Vec<&KeyedSnapshot> = snapshots
        .iter()
        .filter(|part| !part.files.is_empty() && overlap(part.range, store.range).is_some())
        .collect();
    parts.sort_by_key(|part| part.range.start);
    if let Some(pair) = parts.windows(2).find(|pair| pair[0].range.end > pair[1].range.start) {
        return Err(Error::Corrupt(format!(
            "state of {}: two parts of the checkpoint both have key group {}",
            store.name, pair[1].range.start
        )));
    }
    match parts.as_slice() {
        [] => Ok(()),
        [same] if same.range == store.range => take_over(store, same).await,
        parts => copy_owned(store, parts).await,
    }
}

/// Opens the database of a part with the same key groups as the store.
async fn take_over(store: &Arc<StoreInner>, part: &KeyedSnapshot) -> Result<(), Error> {
    let folder = store.database_folder();
    fetch(store, part, &folder).await?;
    let sorted = part.files.iter().filter(|file| file.name.ends_with(".sst"));
    let uploaded: UploadedFiles = sorted
        .map(|file| (file.name.clone(), file.clone()))
        .collect::<HashMap<_, _>>();
    *store.uploaded.lock().await = uploaded;
    blocking({
        let store = Arc::clone(store);
        move || store.note_damage(store.database().map(|_| ()))
    })
    .await
}

/// Copies the rows of the store's key groups from the databases of several parts.
async fn copy_owned(store: &Arc<StoreInner>, parts: &[&KeyedSnapshot]) -> Result<(), Error> {
    let scratch = store.scratch()?;
    let mut sources = Vec::new();
    for (index, part) in parts.iter().enumerate() {
        let folder = scratch.join(format!("part-{index}"));
        fetch(store, part, &folder).await?;
        if let Some(owned) = overlap(part.range, store.range) {
            sources.push((folder, owned));
        }
    }
    blocking({
        let store = Arc::clone(store);
        move || store.note_damage(copy_rows(&store, &scratch, &sources))
    })
    .await
}

fn copy_rows(store: &StoreInner, scratch: &Path, sources: &[(PathBuf, KeyGroupRange)]) -> Result<(), Error> {
    let target = store.database()?;
    debug_assert!(
        sources.windows(2).all(|pair| pair[0].1.end <= pair[1].1.start),
        "the parts of a restore are sorted and disjoint, since their rows are written to sorted files: {sources:?}"
    );
    // In both families, keys begin with the key group.
    for family in Family::ALL {
        let mut files = target.sorted_files(family, scratch);
        for (folder, owned) in sources {
            let source = Database::open_read_only(folder, &store.shared.resources)?;
            source.copy_to(&owned.start.to_be_bytes(), &owned.end.to_be_bytes(), &mut files)?;
        }
        target.ingest(files)?;
    }
    for (folder, _) in sources {
        std::fs::remove_dir_all(folder).map_err(Error::io(format!("cannot delete {}", folder.display())))?;
    }
    Ok(())
}

/// Links or fetches a part's files into `folder`, under their names in the database, and writes `CURRENT`.
async fn fetch(store: &Arc<StoreInner>, part: &KeyedSnapshot, folder: &Path) -> Result<(), Error> {
    blocking({
        let folder = folder.to_path_buf();
        move || {
            let context = || format!("cannot create the folder {} for state", folder.display());
            std::fs::create_dir_all(&folder).map_err(Error::write(&folder, context()))
        }
    })
    .await?;
    let manifest = part.files.iter().find(|file| is_manifest(file));
    let Some(FileReference { name: manifest, .. }) = manifest else {
        return Err(Error::Corrupt(format!(
            "the checkpoint's state of key groups {}..{} has no database manifest among its files",
            part.range.start, part.range.end
        )));
    };
    if let Some(file) = part.files.iter().find(|file| file.name.contains(['/', '\\'])) {
        return Err(Error::Corrupt(format!(
            "the checkpoint names a database file `{}`",
            file.name
        )));
    }
    let local = &store.shared.data_folder.local_recovery;
    local.record_restore(&store.shared.files.job, &store.name, &part.files);
    futures::stream::iter(part.files.clone())
        .map(|file| {
            let to = folder.join(&file.name);
            async move { fetch_one(store, file, to).await }
        })
        .buffer_unordered(FETCHES_IN_FLIGHT_MAX)
        .try_collect::<Vec<()>>()
        .await?;
    let current = folder.join("CURRENT");
    write(current, format!("{manifest}\n")).await
}

async fn write(file: PathBuf, content: impl AsRef<[u8]> + Send + 'static) -> Result<(), Error> {
    blocking(move || {
        let context = || format!("cannot write {}", file.display());
        std::fs::write(&file, content).map_err(Error::write(&file, context()))
    })
    .await
}

async fn fetch_one(store: &Arc<StoreInner>, file: FileReference, to: PathBuf) -> Result<(), Error> {
    let job = &store.shared.files;
    let _permit = store
        .shared
        .data_folder
        .fetch_permits
        .acquire()
        .await
        .map_err(|error| Error::Background(format!("state of {} cannot be fetched: {error}", store.name)))?;
    // The database appends to its manifest, so that file must be a copy and not a link.
    let as_copy = is_manifest(&file);
    let is_local = blocking({
        let (store, file, to) = (Arc::clone(store), file.clone(), to.clone());
        move || {
            Ok(store
                .shared
                .data_folder
                .local_recovery
                .take(&store.shared.files.job, &file, &to, as_copy))
        }
    });
    let path = job.path(&file.path);
    let from = match (is_local.await?, as_copy) {
        (true, _) => "local",
        (false, true) => {
            let content = job.storage.read_verified(&path, file.length, file.crc32).await?;
            write(to, content).await?;
            "storage"
        }
        (false, false) => {
            job.storage.fetch(&path, &to, file.length, file.crc32).await?;
            let (store, file) = (Arc::clone(store), file.clone());
            blocking(move || {
                store
                    .shared
                    .data_folder
                    .local_recovery
                    .add(&store.shared.files.job, &file, &to);
                Ok(())
            })
            .await?;
            "storage"
        }
    };
    metrics::counter!("millstream_state_restored_bytes_total", "from" => from).increment(file.length);
    Ok(())
}

fn is_manifest(file: &FileReference) -> bool {
    file.name.starts_with("MANIFEST-")
}

/// Returns the key groups that two ranges share.
fn overlap(a: KeyGroupRange, b: KeyGroupRange) -> Option<KeyGroupRange> {
    let range = KeyGroupRange {
        start: a.start.max(b.start),
        end: a.end.min(b.end),
    };
    (range.start < range.end).then_some(range)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match threads::run_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Background(format!("restoring state was aborted: {error}"))),
    }
}
