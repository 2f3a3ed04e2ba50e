//! A file in progress: invisible to readers until a commit publishes it.
//!
//! A local one is a hidden file beside its final place, made durable by fsync and published by a rename. One in an
//! object store is a multipart upload, which the store does not show before it is completed. A finished file is
//! described by a [`PendingFile`] of a few bytes.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use object_store::MultipartId;
use object_store::multipart::PartId;
use object_store::path::Path as StorePath;
use tokio::runtime::Handle;

use super::error::{io_error, store_error};
use super::local_fs::remove_file;
use super::location::StoreLocation;
use super::part_file::FinalName;
use super::pending_file::PendingFile;
use crate::Error;

/// Bytes of one part of an upload. Stores require at least 5 MiB per part, and at most 10,000 parts.
const PART_BYTES: usize = 8 << 20;

/// A file in progress.
pub(super) enum InProgressFile {
    Local(LocalFile),
    Upload(Upload),
}

/// A hidden local file.
pub(super) struct LocalFile {
    file: BufWriter<File>,
    hidden: PathBuf,
    published: PathBuf,
    bytes: u64,
}

/// A multipart upload. Bytes are buffered until they fill a part.
pub(super) struct Upload {
    store: StoreLocation,
    key: StorePath,
    upload: MultipartId,
    parts: Vec<PartId>,
    buffer: Vec<u8>,
    bytes: u64,
    runtime: Handle,
}

impl InProgressFile {
    /// Creates a hidden file as [`InProgressFile::local`], in place of a hidden file of that name.
    pub(super) fn local_again(published: PathBuf, hidden_suffix: &str) -> Result<Self, Error> {
        remove_file(&hidden_path(&published, hidden_suffix))?;
        Self::local(published, hidden_suffix)
    }

    /// Creates a hidden file that will be published as `published`. Never overwrites an existing file.
    pub(super) fn local(published: PathBuf, hidden_suffix: &str) -> Result<Self, Error> {
        let shown = published.to_string_lossy().into_owned();
        let hidden = hidden_path(&published, hidden_suffix);
        if published.exists() {
            return Err(Error::Invalid(format!(
                "`{shown}` exists already and will not be overwritten"
            )));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&hidden)
            .map_err(|error| io_error("cannot create the file", &hidden.to_string_lossy(), error))?;
        Ok(Self::Local(LocalFile {
            file: BufWriter::with_capacity(64 << 10, file),
            hidden,
            published,
            bytes: 0,
        }))
    }

    /// Starts a multipart upload to `key`. Blocks.
    pub(super) fn upload(store: &StoreLocation, key: StorePath, runtime: &Handle) -> Result<Self, Error> {
        let upload = runtime
            .block_on(store.multipart.create_multipart(&key))
            .map_err(|error| store_error(key.as_ref(), &error))?;
        Ok(Self::Upload(Upload {
            store: store.clone(),
            key,
            upload,
            parts: Vec::new(),
            buffer: Vec::new(),
            bytes: 0,
            runtime: runtime.clone(),
        }))
    }

    /// Returns the path or URL that readers will see.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Local(file) => file.published.to_string_lossy().into_owned(),
            Self::Upload(file) => format!("{}/{}", file.store.root, file.key),
        }
    }

    /// Returns the name under which readers will find the file.
    pub(super) fn final_name(&self) -> FinalName {
        match self {
            Self::Local(file) => FinalName::Path(file.published.to_string_lossy().into_owned()),
            Self::Upload(file) => FinalName::Key(file.key.to_string()),
        }
    }

    /// Makes the content durable and returns the record that a commit needs.
    pub(super) fn finish(self) -> Result<PendingFile, Error> {
        match self {
            Self::Local(file) => file.finish(),
            Self::Upload(file) => file.finish(),
        }
    }

    /// Removes the hidden file or aborts the upload.
    pub(super) fn discard(self) -> Result<(), Error> {
        match self {
            Self::Local(file) => remove_file(&file.hidden),
            Self::Upload(file) => file
                .runtime
                .block_on(file.store.multipart.abort_multipart(&file.key, &file.upload))
                .map_err(|error| store_error(file.key.as_ref(), &error)),
        }
    }
}

fn hidden_path(published: &Path, suffix: &str) -> PathBuf {
    let name = published.file_name().unwrap_or_default().to_string_lossy();
    published.with_file_name(format!(".{name}{suffix}"))
}

impl LocalFile {
    fn finish(self) -> Result<PendingFile, Error> {
        let shown = self.hidden.to_string_lossy().into_owned();
        let file = self
            .file
            .into_inner()
            .map_err(|error| io_error("cannot write the file", &shown, error.into_error()))?;
        file.sync_all()
            .map_err(|error| io_error("cannot make the file durable", &shown, error))?;
        Ok(PendingFile::Local {
            hidden: shown,
            published: self.published.to_string_lossy().into_owned(),
            bytes: self.bytes,
        })
    }
}

impl Upload {
    fn put_part(&mut self) -> Result<(), object_store::Error> {
        let part = std::mem::take(&mut self.buffer);
        let put = self
            .store
            .multipart
            .put_part(&self.key, &self.upload, self.parts.len(), part.into());
        self.parts.push(self.runtime.block_on(put)?);
        Ok(())
    }

    fn finish(mut self) -> Result<PendingFile, Error> {
        if !self.buffer.is_empty() || self.parts.is_empty() {
            self.put_part()
                .map_err(|error| store_error(self.key.as_ref(), &error))?;
        }
        Ok(PendingFile::Upload {
            key: self.key.to_string(),
            upload: self.upload,
            parts: self.parts.into_iter().map(|part| part.content_id).collect(),
            bytes: self.bytes,
        })
    }
}

impl Write for InProgressFile {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Local(file) => {
                let written = file.file.write(bytes)?;
                file.bytes += written as u64;
                Ok(written)
            }
            Self::Upload(file) => {
                file.buffer.extend_from_slice(bytes);
                file.bytes += bytes.len() as u64;
                if file.buffer.len() >= PART_BYTES {
                    file.put_part()?;
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Local(file) => file.file.flush(),
            Self::Upload(_) => Ok(()),
        }
    }
}
