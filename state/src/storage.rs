//! Object storage. Objects are created once, never overwritten, and verified by checksums.
//!
//! A [`Storage`] is a root (`file://`, a plain path, `s3://`, `gs://`, `az://`) below which objects have paths like
//! `job/files/x.sst`. Objects are only created (put-if-absent) and deleted, which lets several processes agree through
//! them. Credentials and endpoints of the clouds come from their usual environment variables
//! (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT`, `GOOGLE_SERVICE_ACCOUNT`, `AZURE_STORAGE_ACCOUNT_NAME`, ...).
//!
//! Local folders are implemented by [`local`] and not by the object-store crate, because that does not fsync.

mod local;
mod remote;

use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::Error;
use crate::threads;
use local::Local;
use remote::Remote;

pub use remote::register_scheme;

/// A root in object storage. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Storage {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Local(Local),
    Remote(Remote),
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Path below the root.
    pub path: String,
    /// Length in bytes.
    pub length: u64,
}

/// Length and checksum of a file, measured while it was read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digest {
    /// Length in bytes.
    pub length: u64,
    /// CRC-32 (IEEE) of the content.
    pub crc32: u32,
}

impl Storage {
    /// Opens a root by URL or plain path and checks that it can be reached. A local folder is created if missing.
    pub async fn open(url: &str) -> Result<Self, Error> {
        let storage = Self::from_url(url)?;
        match &storage.kind {
            Kind::Local(local) => {
                blocking({
                    let local = local.clone();
                    move || local.create_root()
                })
                .await?
            }
            Kind::Remote(remote) => remote.check().await?,
        }
        Ok(storage)
    }

    /// Returns the root of a URL or plain path, without accessing it.
    pub fn from_url(url: &str) -> Result<Self, Error> {
        if url.trim().is_empty() {
            return Err(Error::Invalid(
                "the storage URL is empty; give a folder or a URL such as file:///var/lib/millstream, s3://bucket/path"
                    .into(),
            ));
        }
        let kind = match url.split_once("://") {
            None => Kind::Local(Local::new(PathBuf::from(url))),
            Some(("file", _)) => {
                let parsed = parse_url(url)?;
                let path = parsed.to_file_path().map_err(|()| {
                    Error::Invalid(format!(
                        "{url} is not a local path; write file:///absolute/path or a plain path"
                    ))
                })?;
                Kind::Local(Local::new(path))
            }
            Some(_) => Kind::Remote(Remote::new(&parse_url(url)?)?),
        };
        Ok(Self { kind })
    }

    /// Returns the URL or path of the root, for messages.
    pub fn url(&self) -> String {
        match &self.kind {
            Kind::Local(local) => local.root().display().to_string(),
            Kind::Remote(remote) => remote.url().to_string(),
        }
    }

    /// Creates a small object, and returns once it is durable. Returns false, and changes nothing, if the object
    /// exists.
    pub async fn put_if_absent(&self, path: &str, content: Bytes) -> Result<bool, Error> {
        check_path(path)?;
        match &self.kind {
            Kind::Local(local) => {
                let (local, path) = (local.clone(), path.to_string());
                blocking(move || local.put_if_absent(&path, &content)).await
            }
            Kind::Remote(remote) => remote.put_if_absent(path, content).await,
        }
    }

    /// Uploads a file as a new object, and returns once it is durable. The path must be unique (contain a UUID). A
    /// local root hard-links the file if possible, so `file` must not be changed afterwards; it may be deleted.
    pub async fn put_file(&self, path: &str, file: &Path) -> Result<Digest, Error> {
        check_path(path)?;
        match &self.kind {
            Kind::Local(local) => {
                let (local, path, file) = (local.clone(), path.to_string(), file.to_path_buf());
                blocking(move || local.put_file(&path, &file)).await
            }
            Kind::Remote(remote) => remote.put_file(path, file).await,
        }
    }

    /// Returns the content of an object.
    pub async fn read(&self, path: &str) -> Result<Bytes, Error> {
        check_path(path)?;
        match &self.kind {
            Kind::Local(local) => {
                let (local, path) = (local.clone(), path.to_string());
                blocking(move || local.read(&path)).await
            }
            Kind::Remote(remote) => remote.read(path).await,
        }
    }

    /// Returns the content of an object. [`Error::Corrupt`] if its length or checksum differs.
    pub async fn read_verified(&self, path: &str, length: u64, crc32: u32) -> Result<Bytes, Error> {
        let content = self.read(path).await?;
        self.verify(path, (length, crc32), (content.len() as u64, crc32fast::hash(&content)))?;
        Ok(content)
    }

    /// Downloads an object into a new local file. [`Error::Corrupt`] if its length or checksum differs. A local root
    /// hard-links it if possible, so the file must not be changed afterwards.
    pub async fn fetch(&self, path: &str, to: &Path, length: u64, crc32: u32) -> Result<(), Error> {
        check_path(path)?;
        let found = match &self.kind {
            Kind::Local(local) => {
                let (local, path, to) = (local.clone(), path.to_string(), to.to_path_buf());
                blocking(move || local.fetch(&path, &to)).await?
            }
            Kind::Remote(remote) => remote.fetch(path, to).await?,
        };
        self.verify(path, (length, crc32), (found.length, found.crc32))
    }

    /// Copies an object of this or another root, unless `path` exists already. [`Error::Corrupt`] if its length or
    /// checksum differs. Between local folders it is hard-linked if possible.
    pub async fn copy(&self, path: &str, from: (&Storage, String), length: u64, crc32: u32) -> Result<(), Error> {
        check_path(path)?;
        let (origin, from) = from;
        check_path(&from)?;
        if let (Kind::Local(_), Kind::Local(local)) = (&self.kind, &origin.kind) {
            if self.length(path).await? == Some(length) {
                return Ok(());
            }
            let written = self.put_file(path, &local.root().join(&from)).await?;
            return origin.verify(&from, (length, crc32), (written.length, written.crc32));
        }
        let content = origin.read_verified(&from, length, crc32).await?;
        self.put_if_absent(path, content).await.map(|_| ())
    }

    /// Reads an object and returns [`Error::Corrupt`] if its length or checksum differs.
    pub async fn check(&self, path: &str, length: u64, crc32: u32) -> Result<(), Error> {
        check_path(path)?;
        let found = match &self.kind {
            Kind::Local(local) => {
                let (local, path) = (local.clone(), path.to_string());
                blocking(move || local.measure(&path)).await?
            }
            Kind::Remote(remote) => remote.measure(path).await?,
        };
        self.verify(path, (length, crc32), (found.length, found.crc32))
    }

    /// Returns the length of an object, `None` if it does not exist.
    pub async fn length(&self, path: &str) -> Result<Option<u64>, Error> {
        check_path(path)?;
        match &self.kind {
            Kind::Local(local) => {
                let (local, path) = (local.clone(), path.to_string());
                blocking(move || local.length(&path)).await
            }
            Kind::Remote(remote) => remote.length(path).await,
        }
    }

    /// Lists all objects below a folder, at any depth, in path order. A missing folder is empty.
    pub async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, Error> {
        check_path(folder)?;
        let mut listed = match &self.kind {
            Kind::Local(local) => {
                let (local, folder) = (local.clone(), folder.to_string());
                blocking(move || local.list(&folder)).await?
            }
            Kind::Remote(remote) => remote.list(folder).await?,
        };
        listed.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(listed)
    }

    /// Deletes an object. Succeeds if it does not exist.
    pub async fn delete(&self, path: &str) -> Result<(), Error> {
        check_path(path)?;
        match &self.kind {
            Kind::Local(local) => {
                let (local, path) = (local.clone(), path.to_string());
                blocking(move || local.delete(&path)).await
            }
            Kind::Remote(remote) => remote.delete(path).await,
        }
    }

    fn verify(&self, path: &str, expected: (u64, u32), found: (u64, u32)) -> Result<(), Error> {
        if expected.0 != found.0 {
            return Err(Error::Corrupt(format!(
                "{}/{path} is damaged: {} bytes long, written with {}",
                self.url(),
                found.0,
                expected.0
            )));
        }
        if expected.1 != found.1 {
            return Err(Error::Corrupt(format!(
                "{}/{path} is damaged: checksum {:08x}, written with {:08x}",
                self.url(),
                found.1,
                expected.1
            )));
        }
        Ok(())
    }
}

/// Reads a local file and returns its length and checksum. Blocks.
pub(crate) fn measure(file: &Path) -> std::io::Result<Digest> {
    local::measure(std::fs::File::open(file)?)
}

fn parse_url(url: &str) -> Result<url::Url, Error> {
    url::Url::parse(url).map_err(|error| {
        Error::Invalid(format!(
            "storage URL {url}: {error}; write a folder or a URL such as file:///var/lib/millstream, s3://bucket/path, \
             gs://bucket/path, az://container/path"
        ))
    })
}

/// Refuses a path that would leave the root.
fn check_path(path: &str) -> Result<(), Error> {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    if path.split('/').all(plain) && !path.contains('\\') {
        return Ok(());
    }
    Err(Error::Invalid(format!("`{path}` is not a path below a storage root")))
}

/// Runs file I/O beside the asynchronous threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Error> + Send + 'static) -> Result<T, Error> {
    match threads::run_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Background(format!("file work was aborted: {error}"))),
    }
}

#[cfg(test)]
mod tests;
