//! A local folder as object storage.
//!
//! Content is written to a temporary file, fsynced, and hard-linked under its name, which fails if the name exists;
//! then the folder is fsynced. Temporary files (`.tmp-<uuid>`) that a crash leaves behind are never listed.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::{Digest, ObjectInfo};
use crate::{Error, disk};

const TEMPORARY_PREFIX: &str = ".tmp-";
const COPY_BUFFER_BYTES: usize = 1 << 20;

/// A folder, and the objects in it.
#[derive(Debug, Clone)]
pub(crate) struct Local {
    root: PathBuf,
}

impl Local {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn create_root(&self) -> Result<(), Error> {
        create_folder(&self.root)?;
        // A read-only folder is an error now and not at the first checkpoint.
        let probe = self.root.join(temporary_name());
        File::create_new(&probe).map_err(Error::write(
            &self.root,
            format!(
                "cannot write in the folder {} (make it writable or choose another)",
                self.root.display()
            ),
        ))?;
        fs::remove_file(&probe).map_err(Error::io(format!("cannot delete {}", probe.display())))
    }

    pub(crate) fn put_if_absent(&self, path: &str, content: &[u8]) -> Result<bool, Error> {
        let target = self.target(path)?;
        let folder = folder_of(&target);
        if target.exists() {
            // The caller takes an object of its own for durable if an earlier try created it and then failed.
            sync_folder(folder)?;
            return Ok(false);
        }
        let temporary = folder.join(temporary_name());
        let context = || format!("cannot write {}", target.display());
        let written = File::create_new(&temporary).and_then(|mut file| {
            file.write_all(content)?;
            file.sync_all()
        });
        if let Err(source) = written {
            remove_temporary(&temporary);
            return Err(Error::write(folder, context())(source));
        }
        let linked = fs::hard_link(&temporary, &target);
        remove_temporary(&temporary);
        match linked {
            Ok(()) => {
                sync_folder(folder)?;
                Ok(true)
            }
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) if is_link_unsupported(&error) => put_without_links(&target, content),
            Err(source) => Err(Error::write(folder, context())(source)),
        }
    }

    pub(crate) fn put_file(&self, path: &str, file: &Path) -> Result<Digest, Error> {
        let target = self.target(path)?;
        let context = || format!("cannot store {} as {}", file.display(), target.display());
        match fs::hard_link(file, &target) {
            Ok(()) => {
                let linked = File::open(&target).map_err(Error::io(context()))?;
                linked.sync_all().map_err(Error::write(&target, context()))?;
                sync_folder(folder_of(&target))?;
                measure(linked).map_err(Error::io(context()))
            }
            Err(error) if is_link_unsupported(&error) => {
                let folder = folder_of(&target);
                let temporary = folder.join(temporary_name());
                let copied = copy(file, &temporary).and_then(|written| {
                    fs::rename(&temporary, &target)?;
                    Ok(written)
                });
                if copied.is_err() {
                    remove_temporary(&temporary);
                }
                let written = copied.map_err(Error::write(folder, context()))?;
                sync_folder(folder)?;
                Ok(written)
            }
            Err(source) => Err(Error::write(folder_of(&target), context())(source)),
        }
    }

    pub(crate) fn read(&self, path: &str) -> Result<Bytes, Error> {
        let target = self.root.join(path);
        fs::read(&target)
            .map(Bytes::from)
            .map_err(|error| read_error(&target, error))
    }

    pub(crate) fn fetch(&self, path: &str, to: &Path) -> Result<Digest, Error> {
        let source = self.root.join(path);
        match fs::hard_link(&source, to) {
            Ok(()) => self.measure(path),
            Err(error) if is_link_unsupported(&error) => {
                copy(&source, to).map_err(|error| fetch_error(&source, to, error))
            }
            Err(error) => Err(fetch_error(&source, to, error)),
        }
    }

    pub(crate) fn measure(&self, path: &str) -> Result<Digest, Error> {
        let target = self.root.join(path);
        File::open(&target)
            .and_then(measure)
            .map_err(|error| read_error(&target, error))
    }

    pub(crate) fn length(&self, path: &str) -> Result<Option<u64>, Error> {
        let target = self.root.join(path);
        match fs::metadata(&target) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(read_error(&target, error)),
        }
    }

    pub(crate) fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, Error> {
        let mut listed = Vec::new();
        let mut open = vec![folder.to_string()];
        while let Some(folder) = open.pop() {
            let path = self.root.join(&folder);
            let entries = match fs::read_dir(&path) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(read_error(&path, error)),
            };
            for entry in entries {
                let entry = entry.map_err(|error| read_error(&path, error))?;
                let Ok(name) = entry.file_name().into_string() else {
                    continue;
                };
                if name.starts_with(TEMPORARY_PREFIX) {
                    continue;
                }
                match entry.metadata() {
                    Ok(metadata) if metadata.is_dir() => open.push(format!("{folder}/{name}")),
                    Ok(metadata) => listed.push(ObjectInfo {
                        path: format!("{folder}/{name}"),
                        length: metadata.len(),
                    }),
                    // Deleted since the listing.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(read_error(&entry.path(), error)),
                }
            }
        }
        Ok(listed)
    }

    pub(crate) fn delete(&self, path: &str) -> Result<(), Error> {
        let target = self.root.join(path);
        match fs::remove_file(&target) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(Error::io(format!("cannot delete {}", target.display()))(error)),
        }
        // The folder of a checkpoint is deleted with its last file. Fails as intended if it is not empty.
        if let Err(error) = fs::remove_dir(folder_of(&target)) {
            tracing::trace!(folder = %folder_of(&target).display(), %error, "the folder of a deleted object is not empty");
        }
        Ok(())
    }

    /// Returns the path of an object to be created, and creates its folder.
    fn target(&self, path: &str) -> Result<PathBuf, Error> {
        let target = self.root.join(path);
        create_folder(folder_of(&target))?;
        Ok(target)
    }
}

/// Creates a folder and its missing parents durably.
fn create_folder(folder: &Path) -> Result<(), Error> {
    if folder.as_os_str().is_empty() || folder.is_dir() {
        return Ok(());
    }
    let parent = folder.parent();
    if let Some(parent) = parent {
        create_folder(parent)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => {}
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => return Ok(()),
        Err(source) => {
            let context = format!(
                "cannot create the folder {} (create it, make its parent writable, or choose another)",
                folder.display()
            );
            return Err(Error::write(folder, context)(source));
        }
    }
    sync_folder(folder_of(folder))
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(Error::write(
            folder,
            format!("cannot make the folder {} durable", folder.display()),
        ))
}

fn temporary_name() -> String {
    format!("{TEMPORARY_PREFIX}{}", uuid::Uuid::new_v4().simple())
}

/// Removes a temporary file; a failure is only logged.
fn remove_temporary(path: &Path) {
    if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "cannot delete a temporary file");
    }
}

/// Returns true if an error of linking means that a copy is needed: another device, or a file system without links.
fn is_link_unsupported(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::CrossesDevices | ErrorKind::Unsupported | ErrorKind::PermissionDenied | ErrorKind::TooManyLinks
    )
}

/// Creates an object on a file system without links. `O_EXCL` makes it put-if-absent; a crash may leave a torn object,
/// which its checksum reveals.
fn put_without_links(target: &Path, content: &[u8]) -> Result<bool, Error> {
    let context = || format!("cannot write {}", target.display());
    let mut file = match File::create_new(target) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => return Ok(false),
        Err(source) => return Err(Error::write(target, context())(source)),
    };
    if let Err(source) = file.write_all(content).and_then(|()| file.sync_all()) {
        // A torn object would make the next try fail.
        remove_temporary(target);
        return Err(Error::write(target, context())(source));
    }
    sync_folder(folder_of(target))?;
    Ok(true)
}

fn copy(from: &Path, to: &Path) -> std::io::Result<Digest> {
    let mut source = File::open(from)?;
    let mut target = File::create_new(to)?;
    let written = copy_to_sink(&mut source, |bytes| target.write_all(bytes))?;
    target.sync_all()?;
    Ok(written)
}

/// Reads a file and returns its length and checksum.
pub(crate) fn measure(mut file: File) -> std::io::Result<Digest> {
    copy_to_sink(&mut file, |_| Ok(()))
}

/// Reads a file to its end, passes its content to `sink`, and returns its length and checksum.
fn copy_to_sink(source: &mut File, mut sink: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<Digest> {
    let mut buffer = vec![0; COPY_BUFFER_BYTES];
    let mut hasher = crc32fast::Hasher::new();
    let mut length = 0;
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hasher.update(&buffer[..count]);
        sink(&buffer[..count])?;
        length += count as u64;
    }
    Ok(Digest {
        length,
        crc32: hasher.finalize(),
    })
}

/// Converts an error of copying or linking `from` to `to`.
fn fetch_error(from: &Path, to: &Path, source: std::io::Error) -> Error {
    match disk::is_full(&source) {
        true => Error::write(to, format!("cannot write {}", to.display()))(source),
        false => read_error(from, source),
    }
}

fn read_error(path: &Path, source: std::io::Error) -> Error {
    if source.kind() == ErrorKind::NotFound {
        return Error::NotFound(format!("{} is missing", path.display()));
    }
    let advice = match source.kind() {
        ErrorKind::PermissionDenied => " (give this user permission to read it)",
        _ => "",
    };
    Error::Io {
        context: format!("cannot read {}{advice}", path.display()),
        source,
    }
}
