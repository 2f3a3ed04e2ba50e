//! A bucket as object storage, through the `object_store` crate.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use millstream_store_errors::{Settings, check_s3};
use object_store::aws::AmazonS3Builder;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, WriteMultipart};

use super::{Digest, ObjectInfo};
use crate::{Error, threads};

/// Files up to this size are one put; larger ones are multipart uploads in parts of this size.
const PART_BYTES: usize = 8 << 20;
/// Timeout of the first request, retries included. Later requests have the timeouts of the client (minutes).
const CHECK_TIMEOUT: Duration = Duration::from_secs(15);
const PARTS_IN_FLIGHT_MAX: usize = 4;

/// A URL scheme and the store that serves it.
type RegisteredScheme = (&'static str, Arc<dyn ObjectStore>);

static REGISTERED: OnceLock<RegisteredScheme> = OnceLock::new();

/// Registers a store for the URLs of one more scheme, in the whole process. A simulator uses it. Only the first call
/// counts.
pub fn register_scheme(scheme: &'static str, store: Arc<dyn ObjectStore>) {
    REGISTERED.get_or_init(|| (scheme, store));
}

/// A prefix in a bucket.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    url: String,
}

impl Remote {
    pub(crate) fn new(url: &url::Url) -> Result<Self, Error> {
        if let Some((scheme, store)) = REGISTERED.get()
            && *scheme == url.scheme()
        {
            return Ok(Self {
                store: store.clone(),
                prefix: ObjectPath::from(url.path()),
                url: url.as_str().trim_end_matches('/').to_string(),
            });
        }
        check_environment(url)?;
        let (store, prefix) = object_store::parse_url_opts(url, std::env::vars()).map_err(|source| Error::Storage {
            context: format!("cannot use the storage URL {url} (schemes: file, s3, gs, az)"),
            source,
        })?;
        Ok(Self {
            store: Arc::from(store),
            prefix,
            url: url.as_str().trim_end_matches('/').to_string(),
        })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Makes one cheap request, which fails if address, credentials or bucket are wrong.
    pub(crate) async fn check(&self) -> Result<(), Error> {
        let mut listing = self.store.list(Some(&self.prefix));
        let Ok(first) = tokio::time::timeout(CHECK_TIMEOUT, listing.next()).await else {
            return Err(Error::Unreachable(format!(
                "{} did not answer within {} s; check the address, the network and the endpoint in the environment",
                self.url,
                CHECK_TIMEOUT.as_secs()
            )));
        };
        match first {
            Some(Err(object_store::Error::NotFound { .. })) | None | Some(Ok(_)) => Ok(()),
            Some(Err(source)) => Err(self.error("cannot reach", "", source)),
        }
    }

    pub(crate) async fn put_if_absent(&self, path: &str, content: Bytes) -> Result<bool, Error> {
        let options = PutOptions::from(PutMode::Create);
        match self
            .store
            .put_opts(&self.object(path), PutPayload::from_bytes(content), options)
            .await
        {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(source) => Err(self.error("cannot write", path, source)),
        }
    }

    pub(crate) async fn put_file(&self, path: &str, file: &Path) -> Result<Digest, Error> {
        let unreadable = || format!("cannot read {} for upload to {}/{path}", file.display(), self.url);
        let opened = file.to_path_buf();
        let opened = on_disk(move || File::open(opened)).await;
        let source = Arc::new(opened.map_err(Error::io(unreadable()))?);
        let failed = |source| self.error("cannot upload", path, source);
        let mut hasher = crc32fast::Hasher::new();
        let first = read_part(&source).await.map_err(Error::io(unreadable()))?;
        hasher.update(&first);
        let mut length = first.len() as u64;
        if first.len() < PART_BYTES {
            self.store
                .put(&self.object(path), PutPayload::from_bytes(first))
                .await
                .map_err(failed)?;
        } else {
            let upload = self.store.put_multipart(&self.object(path)).await.map_err(failed)?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            upload.put(first);
            loop {
                let part = match read_part(&source).await {
                    Ok(part) if part.is_empty() => break,
                    Ok(part) => part,
                    Err(source) => {
                        upload.abort().await.map_err(failed)?;
                        return Err(Error::io(unreadable())(source));
                    }
                };
                hasher.update(&part);
                length += part.len() as u64;
                upload.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await.map_err(failed)?;
                upload.put(part);
            }
            upload.finish().await.map_err(failed)?;
        }
        Ok(Digest {
            length,
            crc32: hasher.finalize(),
        })
    }

    pub(crate) async fn read(&self, path: &str) -> Result<Bytes, Error> {
        let failed = |source| self.error("cannot read", path, source);
        let found = self.store.get(&self.object(path)).await.map_err(failed)?;
        found.bytes().await.map_err(failed)
    }

    pub(crate) async fn fetch(&self, path: &str, to: &Path) -> Result<Digest, Error> {
        let context = || format!("cannot write {}", to.display());
        let created = to.to_path_buf();
        let created = on_disk(move || File::create_new(created)).await;
        let target = Arc::new(created.map_err(Error::write(to, context()))?);
        let failed = |source| self.error("cannot read", path, source);
        let found = self.store.get(&self.object(path)).await.map_err(failed)?;
        let mut content = found.into_stream();
        let mut hasher = crc32fast::Hasher::new();
        let mut length = 0;
        while let Some(piece) = content.try_next().await.map_err(failed)? {
            hasher.update(&piece);
            length += piece.len() as u64;
            let target = target.clone();
            let written = on_disk(move || (&*target).write_all(&piece)).await;
            written.map_err(Error::write(to, context()))?;
        }
        Ok(Digest {
            length,
            crc32: hasher.finalize(),
        })
    }

    pub(crate) async fn measure(&self, path: &str) -> Result<Digest, Error> {
        let failed = |source| self.error("cannot read", path, source);
        let found = self.store.get(&self.object(path)).await.map_err(failed)?;
        let mut content = found.into_stream();
        let mut hasher = crc32fast::Hasher::new();
        let mut length = 0;
        while let Some(piece) = content.try_next().await.map_err(failed)? {
            hasher.update(&piece);
            length += piece.len() as u64;
        }
        Ok(Digest {
            length,
            crc32: hasher.finalize(),
        })
    }

    pub(crate) async fn length(&self, path: &str) -> Result<Option<u64>, Error> {
        match self.store.head(&self.object(path)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(self.error("cannot read", path, source)),
        }
    }

    pub(crate) async fn list(&self, folder: &str) -> Result<Vec<ObjectInfo>, Error> {
        let mut listing = self.store.list(Some(&self.object(folder)));
        let mut listed = Vec::new();
        while let Some(found) = listing.next().await {
            let found = match found {
                Ok(found) => found,
                Err(object_store::Error::NotFound { .. }) => break,
                Err(source) => return Err(self.error("cannot list", folder, source)),
            };
            let full = found.location.as_ref();
            let below = full.strip_prefix(self.prefix.as_ref()).unwrap_or(full);
            listed.push(ObjectInfo {
                path: below.trim_start_matches('/').to_string(),
                length: found.size,
            });
        }
        Ok(listed)
    }

    pub(crate) async fn delete(&self, path: &str) -> Result<(), Error> {
        match self.store.delete(&self.object(path)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(self.error("cannot delete", path, source)),
        }
    }

    fn object(&self, path: &str) -> ObjectPath {
        path.split('/')
            .fold(self.prefix.clone(), |parent, part| parent.join(part))
    }

    fn error(&self, what: &str, path: &str, source: object_store::Error) -> Error {
        let separator = if path.is_empty() { "" } else { "/" };
        let place = format!("{}{separator}{path}", self.url);
        if let object_store::Error::NotFound { .. } = source {
            return Error::NotFound(format!("{place} is missing"));
        }
        Error::Storage {
            context: format!("{what} {place}"),
            source,
        }
    }
}

/// Refuses settings in the environment with which every request would fail.
fn check_environment(url: &url::Url) -> Result<(), Error> {
    if !matches!(url.scheme(), "s3" | "s3a") {
        return Ok(());
    }
    check_s3(&AmazonS3Builder::from_env(), Settings::Environment)
        .map_err(|problem| Error::Invalid(format!("cannot use the storage URL {url}: {problem}")))
}

/// Reads the next [`PART_BYTES`] of the file; fewer only at its end.
async fn read_part(file: &Arc<File>) -> std::io::Result<Bytes> {
    let file = file.clone();
    on_disk(move || {
        let mut part = Vec::new();
        (&*file).take(PART_BYTES as u64).read_to_end(&mut part)?;
        Ok(part.into())
    })
    .await
}

/// Runs file I/O beside the asynchronous threads.
async fn on_disk<T: Send + 'static>(work: impl FnOnce() -> std::io::Result<T> + Send + 'static) -> std::io::Result<T> {
    threads::run_blocking(work).await?
}
