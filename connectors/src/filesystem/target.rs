//! A file while it is being written: hidden until a commit publishes it.
//!
//! On this machine it is a hidden file beside its final place (`.part-….json.<job>.inprogress`), made durable by fsync
//! and published by a rename. In an object store it is a multipart upload, which nobody can see until it is completed.
//! Either way what a commit needs fits into a few bytes: see [`Pending`].

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use object_store::MultipartId;
use object_store::multipart::PartId;
use object_store::path::Path as StorePath;
use tokio::runtime::Handle;

use super::commit::Pending;
use super::location::{StoreLocation, io, unavailable};
use crate::Error;

/// Bytes of one part of an upload. Stores want at least 5 MiB, and at most 10,000 parts.
const PART_BYTES: usize = 8 << 20;

pub enum Target {
    Local(LocalTarget),
    Upload(UploadTarget),
}

pub struct LocalTarget {
    file: BufWriter<File>,
    hidden: PathBuf,
    published: PathBuf,
    bytes: u64,
}

pub struct UploadTarget {
    store: StoreLocation,
    key: StorePath,
    upload: MultipartId,
    parts: Vec<PartId>,
    buffer: Vec<u8>,
    bytes: u64,
    runtime: Handle,
}

impl Target {
    /// A new hidden file that will be `published`. An existing one is never overwritten.
    pub fn local(published: PathBuf, hidden_suffix: &str) -> Result<Self, Error> {
        let shown = published.to_string_lossy().into_owned();
        let name = published
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let hidden = published.with_file_name(format!(".{name}{hidden_suffix}"));
        if published.exists() {
            return Err(Error::Invalid(format!(
                "`{shown}` exists already and will not be overwritten"
            )));
        }
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&hidden)
            .map_err(|error| io("cannot create the file", &hidden.to_string_lossy(), error))?;
        Ok(Self::Local(LocalTarget {
            file: BufWriter::with_capacity(64 << 10, file),
            hidden,
            published,
            bytes: 0,
        }))
    }

    pub fn upload(store: &StoreLocation, key: StorePath, runtime: &Handle) -> Result<Self, Error> {
        let upload = runtime
            .block_on(store.multipart.create_multipart(&key))
            .map_err(|error| unavailable(key.as_ref(), &error))?;
        Ok(Self::Upload(UploadTarget {
            store: store.clone(),
            key,
            upload,
            parts: Vec::new(),
            buffer: Vec::new(),
            bytes: 0,
            runtime: runtime.clone(),
        }))
    }

    pub fn name(&self) -> String {
        match self {
            Self::Local(target) => target.published.to_string_lossy().into_owned(),
            Self::Upload(target) => format!("{}/{}", target.store.root, target.key),
        }
    }

    /// Makes the content durable. What is returned is all a commit needs.
    pub fn finish(self) -> Result<Pending, Error> {
        match self {
            Self::Local(target) => target.finish(),
            Self::Upload(target) => target.finish(),
        }
    }

    /// Throws the content away.
    pub fn discard(self) -> Result<(), Error> {
        match self {
            Self::Local(target) => remove(&target.hidden),
            Self::Upload(target) => target
                .runtime
                .block_on(target.store.multipart.abort_multipart(&target.key, &target.upload))
                .map_err(|error| unavailable(target.key.as_ref(), &error)),
        }
    }
}

impl LocalTarget {
    fn finish(self) -> Result<Pending, Error> {
        let shown = self.hidden.to_string_lossy().into_owned();
        let file = self
            .file
            .into_inner()
            .map_err(|error| io("cannot write the file", &shown, error.into_error()))?;
        file.sync_all()
            .map_err(|error| io("cannot make the file durable", &shown, error))?;
        Ok(Pending::Local {
            hidden: shown,
            published: self.published.to_string_lossy().into_owned(),
            bytes: self.bytes,
        })
    }
}

impl UploadTarget {
    fn put_part(&mut self) -> Result<(), object_store::Error> {
        let part = std::mem::take(&mut self.buffer);
        let put = self
            .store
            .multipart
            .put_part(&self.key, &self.upload, self.parts.len(), part.into());
        self.parts.push(self.runtime.block_on(put)?);
        Ok(())
    }

    fn finish(mut self) -> Result<Pending, Error> {
        if !self.buffer.is_empty() || self.parts.is_empty() {
            self.put_part()
                .map_err(|error| unavailable(self.key.as_ref(), &error))?;
        }
        Ok(Pending::Upload {
            key: self.key.to_string(),
            upload: self.upload,
            parts: self.parts.into_iter().map(|part| part.content_id).collect(),
            bytes: self.bytes,
        })
    }
}

impl Write for Target {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Local(target) => {
                let written = target.file.write(bytes)?;
                target.bytes += written as u64;
                Ok(written)
            }
            Self::Upload(target) => {
                target.buffer.extend_from_slice(bytes);
                target.bytes += bytes.len() as u64;
                if target.buffer.len() >= PART_BYTES {
                    target.put_part()?;
                }
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Local(target) => target.file.flush(),
            Self::Upload(_) => Ok(()),
        }
    }
}

/// Removes a file; that it is gone already is fine.
pub fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io("cannot remove the file", &path.to_string_lossy(), error)),
    }
}

/// Makes the names in a folder durable.
pub fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io("cannot make the folder durable", &folder.to_string_lossy(), error))
}
