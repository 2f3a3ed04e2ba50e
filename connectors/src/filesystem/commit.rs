//! Publishing written files, once or again.
//!
//! A committable is a version byte (1) and then, in bincode's standard encoding, a list of [`Pending`]. Publishing is
//! idempotent: what is published already is left alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use object_store::ObjectStoreExt;
use object_store::multipart::PartId;
use serde::{Deserialize, Serialize};

use super::location::{Location, StoreLocation, io, unavailable};
use super::target::sync_folder;
use crate::sink::STORED_BYTES_MAX;
use crate::{Committable, Error};

const VERSION: u8 = 1;

/// A file that is written and durable, but not yet visible.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pending {
    Local {
        hidden: String,
        published: String,
        bytes: u64,
    },
    Upload {
        key: String,
        upload: String,
        parts: Vec<String>,
        bytes: u64,
    },
}

pub fn encode(pending: &[Pending]) -> Result<Committable, Error> {
    let mut bytes = vec![VERSION];
    bytes.extend(
        bincode::serde::encode_to_vec(pending, bincode::config::standard())
            .map_err(|error| Error::Invalid(format!("written files cannot be recorded: {error}")))?,
    );
    Ok(Committable::new(bytes))
}

pub fn decode(committable: &Committable) -> Result<Vec<Pending>, Error> {
    let damaged = |problem: String| Error::Data(format!("the record of written files is not readable: {problem}"));
    match committable.content.split_first() {
        Some((&VERSION, rest)) => {
            bincode::serde::decode_from_slice(rest, bincode::config::standard().with_limit::<STORED_BYTES_MAX>())
                .map(|(pending, _)| pending)
                .map_err(|error| damaged(error.to_string()))
        }
        Some((version, _)) => Err(damaged(format!(
            "its version is {version}, this engine reads {VERSION}"
        ))),
        None => Err(damaged("it is empty".to_string())),
    }
}

/// Publishes all of them.
pub async fn publish(location: &Location, pending: Vec<Pending>) -> Result<(), Error> {
    let mut local = Vec::new();
    for file in pending {
        match file {
            Pending::Local {
                hidden,
                published,
                bytes,
            } => local.push((hidden, published, bytes)),
            Pending::Upload {
                key,
                upload,
                parts,
                bytes,
            } => match location {
                Location::Store(store) => complete(store, &key, &upload, parts, bytes).await?,
                Location::Local(path) => {
                    return Err(Error::Invalid(format!(
                        "the checkpoint has unpublished files of an object store (`{key}`), but the table's path is now \
                         `{path}`; set the path back until they are published"
                    )));
                }
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
                std::fs::rename(hidden, published).map_err(|error| io("cannot publish the file", published, error))?;
                folders.extend(Path::new(published).parent().map(Path::to_path_buf));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if !Path::new(published).exists() {
                    // Published before a restart, then taken by whoever reads the output; or deleted by hand.
                    tracing::warn!(file = %published, "a committed file is no longer there; taking it as published and moved away");
                }
            }
            Err(error) => return Err(io("cannot publish the file", hidden, error)),
        }
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

async fn complete(
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
        Err(_) => Err(unavailable(key, &error)),
    }
}
