//! Published files of earlier runs in a sink's folder, told from other files by the names the sink gives.

use std::path::Path;

use futures::{StreamExt, TryStreamExt};
use object_store::ObjectStore;
use object_store::path::Path as StorePath;

use super::location::{FileEntry, Location, unavailable};
use super::target::remove;
use crate::Error;

/// The files, with the folder as users know it.
pub struct EarlierOutput {
    files: Vec<FileEntry>,
    folder: String,
}

impl EarlierOutput {
    pub async fn find(location: &Location) -> Result<Self, Error> {
        let folder = match location {
            Location::Local(root) => root.clone(),
            Location::Store(store) => format!("{}/{}", store.root, store.key),
        };
        let mut files = match location {
            Location::Local(root) if !Path::new(root).is_dir() => Vec::new(),
            Location::Local(_) | Location::Store(_) => location.list().await?,
        };
        files.retain(|file| is_written_by_a_sink(&file.path));
        Ok(Self { files, folder })
    }

    /// Such as `3 files in out/`. `None`: there are none.
    pub fn describe(&self) -> Option<String> {
        let folder = self.folder.trim_end_matches('/');
        match self.files.len() {
            0 => None,
            1 => Some(format!("1 file of earlier runs in {folder}/")),
            count => Some(format!("{count} files of earlier runs in {folder}/")),
        }
    }

    pub async fn remove(&self, location: &Location) -> Result<(), Error> {
        match location {
            Location::Local(_) => {
                let paths: Vec<String> = self.files.iter().map(|file| file.path.clone()).collect();
                tokio::task::spawn_blocking(move || paths.iter().try_for_each(|path| remove(Path::new(path))))
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
                removed.await.map_err(|error| unavailable(&self.folder, &error))
            }
        }
    }
}

/// Returns whether a file has a name of the form `part-<attempt>-<subtask>-<n>.<format>`, the attempt as 32 hexadecimal
/// digits.
fn is_written_by_a_sink(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts = || {
        let (numbers, _format) = name.strip_prefix("part-")?.split_once('.')?;
        let (attempt, numbers) = numbers.split_once('-')?;
        let (subtask, number) = numbers.split_once('-')?;
        let is_attempt = attempt.len() == 32 && attempt.bytes().all(|byte| byte.is_ascii_hexdigit());
        Some(is_attempt && is_number(subtask) && is_number(number))
    };
    parts().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_of_sinks_are_recognised() {
        let attempt = "0123456789abcdef0123456789abcdef";
        assert!(is_written_by_a_sink(&format!("out/day=1/part-{attempt}-0-12.csv.gz")));
        for other in [
            "out/part-0.csv".to_string(),
            "out/part-00000-of-00002.parquet".to_string(),
            format!("out/part-{attempt}-0.csv"),
            format!("out/part-{attempt}-x-1.csv"),
            format!("out/apart-{attempt}-0-1.csv"),
            format!("part-{attempt}-0-1.csv/data.csv"),
            format!("out/part-{}-0-1.csv", &attempt[1..]),
        ] {
            assert!(!is_written_by_a_sink(&other), "{other}");
        }
    }
}
