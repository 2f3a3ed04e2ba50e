//! From a hard-link copy of a database to files in object storage, uploading only what is new.
//!
//! Sorted files never change, so one that an earlier snapshot of this store uploaded (or that the store was restored
//! from) is referenced. The database's own manifest (`MANIFEST-*`) is uploaded every time; `CURRENT`, which only names
//! it, is written anew at a restore; logs and options are not kept.
//!
//! What was uploaded is kept in the local data folder, too ([`super::local_recovery`]).
//!
//! Uploads of one store go one after the other: a later snapshot must refer to the same upload of a file as an earlier
//! one, or retention of the earlier would take it away.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use millstream_fail_point as fail_point;

use super::database::Cut;
use super::{KeyedSnapshot, StoreInner};
use crate::Error;
use crate::job_files::{FileReference, JobFiles};
use crate::threads;

const UPLOADS_IN_FLIGHT_MAX: usize = 4;

/// The files uploaded so far, by the name the database knows them by.
pub type Known = HashMap<String, FileReference>;

pub async fn upload(store: &Arc<StoreInner>, cut: Option<Cut>) -> Result<KeyedSnapshot, Error> {
    let Some(Cut { folder: cut, entries }) = cut else {
        return Ok(KeyedSnapshot {
            range: store.range,
            files: Vec::new(),
            bytes: 0,
            entries: Some(0),
        });
    };
    let names = threads::run_blocking({
        let cut = cut.clone();
        move || names_to_keep(&cut)
    });
    let uploaded = match names.await {
        Ok(Ok(names)) => upload_new(store, &cut, names).await,
        Ok(Err(error)) => Err(error),
        Err(error) => Err(Error::Background(format!("listing a snapshot was aborted: {error}"))),
    };
    let removed = threads::run_blocking({
        let (store, files) = (Arc::clone(store), uploaded.as_ref().ok().cloned());
        move || {
            if let Some(files) = files {
                keep(&store, &cut, &files);
            }
            std::fs::remove_dir_all(&cut)
        }
    });
    if !matches!(removed.await, Ok(Ok(()))) {
        tracing::warn!(store = %store.name, "a snapshot's local copy stays behind until the next start");
    }
    let files = uploaded?;
    Ok(KeyedSnapshot {
        range: store.range,
        bytes: files.iter().map(|file| file.length).sum(),
        files,
        entries,
    })
}

/// Keeps a snapshot's files here, for a restart.
fn keep(store: &StoreInner, cut: &Path, files: &[FileReference]) {
    let (local, job) = (&store.shared.threads.local_recovery, &store.shared.files.job);
    // First, lest another store's snapshot finds them unnamed.
    local.record_snapshot(job, &store.name, files);
    for file in files {
        local.add(job, file, &cut.join(&file.name));
    }
}

async fn upload_new(store: &Arc<StoreInner>, cut: &Path, names: Vec<String>) -> Result<Vec<FileReference>, Error> {
    let job = &store.shared.files;
    let mut known = store.known.lock().await;
    known.retain(|name, _| names.contains(name));
    let (old, new): (Vec<String>, Vec<String>) = names.into_iter().partition(|name| known.contains_key(name));
    let mut files: Vec<FileReference> = old.iter().filter_map(|name| known.get(name).cloned()).collect();
    let mut uploads = futures::stream::iter(new)
        .map(|name| upload_one(job, &store.name, cut, name))
        .buffer_unordered(UPLOADS_IN_FLIGHT_MAX);
    let mut bytes = 0;
    while let Some(file) = uploads.try_next().await? {
        fail_point::reach("upload");
        bytes += file.length;
        if file.name.ends_with(".sst") {
            known.insert(file.name.clone(), file.clone());
        }
        files.push(file);
    }
    metrics::counter!("millstream_state_uploaded_bytes_total").increment(bytes);
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

async fn upload_one(job: &JobFiles, store: &str, cut: &Path, name: String) -> Result<FileReference, Error> {
    let kind = if name.ends_with(".sst") { "sst" } else { "manifest" };
    let path = format!("files/{store}-{}-{}.{kind}", job.attempt, uuid::Uuid::new_v4().simple());
    let written = job.storage.put_file(&job.path(&path), &cut.join(&name)).await?;
    Ok(FileReference {
        path,
        name,
        length: written.length,
        crc32: written.crc32,
    })
}

fn names_to_keep(cut: &Path) -> Result<Vec<String>, Error> {
    let context = || format!("cannot list the snapshot in {}", cut.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(cut).map_err(Error::io(context()))? {
        let name = entry.map_err(Error::io(context()))?.file_name();
        let Some(name) = name.to_str() else { continue };
        if name.ends_with(".sst") || name.starts_with("MANIFEST-") {
            names.push(name.to_string());
        }
    }
    names.sort();
    Ok(names)
}
