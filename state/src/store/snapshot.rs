//! Uploads of snapshots to object storage, incrementally.
//!
//! A local snapshot is a folder of hard links to a database's files. Sorted files (SSTs) never change, so a file that
//! an earlier snapshot of this store uploaded, or that the store was restored from, is referenced and not uploaded
//! again. The database's own manifest (`MANIFEST-*`) is uploaded every time. `CURRENT`, which only names it, is written
//! by a restore; logs and options are not uploaded. Uploaded files are also linked for local recovery
//! ([`super::local_recovery`]).
//!
//! Uploads of one store run one after the other: a later snapshot must refer to the same upload of a file as an earlier
//! one, or deleting the earlier checkpoint would delete the file.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use millstream_fail_point as fail_point;

use super::database::LocalSnapshot;
use super::{KeyedSnapshot, StoreInner};
use crate::Error;
use crate::job_files::{FileReference, JobFiles};
use crate::threads;

const UPLOADS_IN_FLIGHT_MAX: usize = 4;

/// Uploaded sorted files, by their names in the database.
pub(crate) type UploadedFiles = HashMap<String, FileReference>;

/// Uploads a local snapshot and deletes it. `None` is the snapshot of a store that was never written.
pub(crate) async fn upload(store: &Arc<StoreInner>, local: Option<LocalSnapshot>) -> Result<KeyedSnapshot, Error> {
    let Some(LocalSnapshot { folder, entries }) = local else {
        return Ok(KeyedSnapshot {
            range: store.range,
            files: Vec::new(),
            bytes: 0,
            entries: Some(0),
        });
    };
    let names = threads::run_blocking({
        let folder = folder.clone();
        move || file_names(&folder)
    });
    let uploaded = match names.await {
        Ok(Ok(names)) => upload_new(store, &folder, names).await,
        Ok(Err(error)) => Err(error),
        Err(error) => Err(Error::Background(format!("listing a snapshot was aborted: {error}"))),
    };
    let removed = threads::run_blocking({
        let (store, files) = (Arc::clone(store), uploaded.as_ref().ok().cloned());
        move || {
            if let Some(files) = files {
                add_to_local_recovery(&store, &folder, &files);
            }
            std::fs::remove_dir_all(&folder)
        }
    });
    if !matches!(removed.await, Ok(Ok(()))) {
        tracing::warn!(store = %store.name, "cannot delete a local snapshot; the next start will");
    }
    let files = uploaded?;
    Ok(KeyedSnapshot {
        range: store.range,
        bytes: files.iter().map(|file| file.length).sum(),
        files,
        entries,
    })
}

fn add_to_local_recovery(store: &StoreInner, folder: &Path, files: &[FileReference]) {
    let (local, job) = (&store.shared.data_folder.local_recovery, &store.shared.files.job);
    // Recorded before they are added: another store's snapshot deletes files that no recorded snapshot names.
    local.record_snapshot(job, &store.name, files);
    for file in files {
        local.add(job, file, &folder.join(&file.name));
    }
}

/// Uploads the files that no earlier snapshot has uploaded, and returns all files of the snapshot.
async fn upload_new(store: &Arc<StoreInner>, folder: &Path, names: Vec<String>) -> Result<Vec<FileReference>, Error> {
    let job = &store.shared.files;
    let mut uploaded = store.uploaded.lock().await;
    uploaded.retain(|name, _| names.contains(name));
    let (old, new): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| uploaded.contains_key(name));
    let mut files: Vec<FileReference> = old.iter().filter_map(|name| uploaded.get(name).cloned()).collect();
    let mut uploads = futures::stream::iter(new)
        .map(|name| upload_one(job, &store.name, folder, name))
        .buffer_unordered(UPLOADS_IN_FLIGHT_MAX);
    let mut bytes = 0;
    while let Some(file) = uploads.try_next().await? {
        fail_point::reach("upload");
        bytes += file.length;
        if file.name.ends_with(".sst") {
            uploaded.insert(file.name.clone(), file.clone());
        }
        files.push(file);
    }
    metrics::counter!("millstream_state_uploaded_bytes_total").increment(bytes);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    debug_assert!(
        files.windows(2).all(|pair| pair[0].name < pair[1].name),
        "a snapshot of state store {} names a file twice",
        store.name
    );
    Ok(files)
}

async fn upload_one(job: &JobFiles, store: &str, folder: &Path, name: String) -> Result<FileReference, Error> {
    let kind = if name.ends_with(".sst") { "sst" } else { "manifest" };
    let path = format!("files/{store}-{}-{}.{kind}", job.attempt, uuid::Uuid::new_v4().simple());
    let written = job.storage.put_file(&job.path(&path), &folder.join(&name)).await?;
    Ok(FileReference {
        path,
        name,
        length: written.length,
        crc32: written.crc32,
    })
}

/// Returns the names of the files that a snapshot consists of, sorted.
fn file_names(folder: &Path) -> Result<Vec<String>, Error> {
    let context = || format!("cannot list the snapshot in {}", folder.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(context()))? {
        let name = entry.map_err(Error::io(context()))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".sst") || name.starts_with("MANIFEST-") {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}
