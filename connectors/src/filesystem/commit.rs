//! The commit of a checkpoint's files. Idempotent: a file that is published already is left alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use millstream_store_errors::Retry;
use object_store::ObjectStoreExt;
use object_store::multipart::PartId;

use super::error::{io_error, store_error};
use super::local_fs::sync_folder;
use super::location::{Location, StoreLocation};
use super::pending_file::PendingFile;
use crate::Error;

/// Publishes all files: renames local ones, completes uploads.
pub(super) async fn publish(location: &Location, files: Vec<PendingFile>) -> Result<(), Error> {
    let mut local = Vec::new();
    for file in files {
        match file {
            PendingFile::Local {
                hidden,
                published,
                bytes,
            } => local.push((hidden, published, bytes)),
            PendingFile::Upload {
                key,
                upload,
                parts,
                bytes,
            } => match location {
                Location::Store(store) => complete_upload(store, &key, &upload, parts, bytes).await?,
                Location::Local(path) => return Err(written_to_object_store(&key, path)),
            },
        }
    }
    if local.is_empty() {
        return Ok(());
    }
    tokio::task::spawn_blocking(move || publish_local(&local))
        .await
        .map_err(|error| Error::Unavailable(format!("publishing files was interrupted: {error}")))?
}

/// Returns the error of a table whose path is no longer in the object store that it was written to.
pub(super) fn written_to_object_store(key: &str, path: &str) -> Error {
    Error::Invalid(format!(
        "the checkpoint has unpublished files of an object store (`{key}`), but the table's path is now `{path}`; set the \
         path back until they are published"
    ))
}

fn publish_local(files: &[(String, String, u64)]) -> Result<(), Error> {
    let mut folders: BTreeSet<PathBuf> = BTreeSet::new();
    for (hidden, published, bytes) in files {
        match std::fs::metadata(hidden) {
            Ok(metadata) if metadata.len() != *bytes => {
                return Err(Error::Data(format!(
                    "`{hidden}` has {} bytes, but {bytes} were written and made durable: someone changed it; nothing is \
                     published from it",
                    metadata.len()
                )));
            }
            Ok(_) => {
                std::fs::rename(hidden, published)
                    .map_err(|error| io_error("cannot publish the file", published, error))?;
                folders.extend(Path::new(published).parent().map(Path::to_path_buf));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !Path::new(published).exists() {
                    // Published before a restart, then moved by a consumer of the output or deleted by hand.
                    tracing::warn!(file = %published, "a committed file is no longer there; taking it as published and moved away");
                }
            }
            Err(error) => return Err(io_error("cannot publish the file", hidden, error)),
        }
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

async fn complete_upload(
    store: &StoreLocation,
    key: &str,
    upload: &String,
    parts: Vec<String>,
    bytes: u64,
) -> Result<(), Error> {
    let path = store.key_of(key)?;
    let parts = parts.into_iter().map(|content_id| PartId { content_id }).collect();
    let Err(error) = store.multipart.complete_multipart(&path, upload, parts).await else {
        return Ok(());
    };
    match store.store.head(&path).await {
        Ok(meta) if meta.size == bytes => Ok(()),
        Ok(meta) => Err(Error::Data(format!(
            "`{}/{key}` has {} bytes instead of {bytes}: another file took its name; its upload is not published",
            store.root, meta.size
        ))),
        Err(object_store::Error::NotFound { .. }) if matches!(error, object_store::Error::NotFound { .. }) => {
            Err(Error::Data(format!(
                "`{}/{key}`: the store no longer knows the upload, and the file is not there: the store discarded it (see \
                 its lifecycle rules), or the file was published and moved away. Restore from an older checkpoint to \
                 write it again",
                store.root
            )))
        }
        // The file may have been published already: only its absence would make the first error permanent.
        Err(unknown) if Retry::of_object_store(&unknown).is_retryable() => Err(store_error(key, &unknown)),
        Err(_) => Err(store_error(key, &error)),
    }
}
