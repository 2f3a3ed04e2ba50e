//! Published files of earlier runs in a sink's folder, recognised by their names.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path as StorePath;

use super::error::store_error;
use super::local_fs::remove_file;
use super::location::{FileEntry, Location};
use super::part_file;
use crate::Error;

/// The published files, and their folder as the user wrote it.
pub(super) struct EarlierOutput {
    files: Vec<FileEntry>,
    folder: String,
}

impl EarlierOutput {
    /// Lists the published files at a location.
    pub(super) async fn find(location: &Location) -> Result<Self, Error> {
        let folder = match location {
            Location::Local(root) => root.clone(),
            Location::Store(store) => format!("{}/{}", store.root, store.key),
        };
        let mut files = match location {
            Location::Local(root) if !Path::new(root).is_dir() => Vec::new(),
            Location::Local(_) | Location::Store(_) => location.list().await?,
        };
        files.retain(|file| part_file::is_published(&file.path));
        Ok(Self { files, folder })
    }

    /// Describes the files for a person: `3 files of earlier runs in out/`. `None` if there are none.
    pub(super) fn describe(&self) -> Option<String> {
        let folder = self.folder.trim_end_matches('/');
        match self.files.len() {
            0 => None,
            1 => Some(format!("1 file of earlier runs in {folder}/")),
            count => Some(format!("{count} files of earlier runs in {folder}/")),
        }
    }

    /// Removes the files.
    pub(super) async fn remove(&self, location: &Location) -> Result<(), Error> {
        match location {
            Location::Local(_) => {
                let paths: Vec<String> = self.files.iter().map(|file| file.path.clone()).collect();
                tokio::task::spawn_blocking(move || paths.iter().try_for_each(|path| remove_file(Path::new(path))))
                    .await
                    .map_err(|error| Error::Unavailable(format!("removing files was interrupted: {error}")))?
            }
            Location::Store(store) => {
                let keys: Result<Vec<StorePath>, Error> =
                    self.files.iter().map(|file| store.key_of(&file.path)).collect();
                let keys = futures::stream::iter(keys?.into_iter().map(Ok)).boxed();
                let removed = store
                    .store
                    .delete_stream(keys)
                    .try_for_each(|_| std::future::ready(Ok(())));
                removed.await.map_err(|error| store_error(&self.folder, &error))
            }
        }
    }
}
