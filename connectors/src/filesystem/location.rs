//! The location of a table's files: a local path or a URL of an object store; a single file, a folder or a glob.
//!
//! [`Location`] hides the difference from readers: it lists files and opens them at an offset as blocking
//! [`Read`]ers, to be used on the runtime's blocking threads. Readers of objects fetch ranges through the runtime.
//! Paths stay as the user wrote them, so that ids of splits are the same from run to run.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use bytes::{Buf, Bytes};
use futures::TryStreamExt;
use millstream_store_errors::{Settings, check_s3};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::memory::InMemory;
use object_store::multipart::MultipartStore;
use object_store::path::Path as StorePath;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme};
use tokio::runtime::Handle;
use url::Url;

use super::error::{invalid_path, io_error, store_error};
use crate::options::Options;
use crate::{Error, TableDefinition};

const KNOWN_SCHEMES: &str = "the supported schemes are file://, s3://, gs:// and az:// (or abfss://)";

/// A file of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FileEntry {
    /// Local path, or whole URL.
    pub path: String,
    /// Size in bytes.
    pub size: u64,
    /// Time of the last modification, microseconds since 1970; 0 if unknown.
    pub modified_us: i64,
}

/// The location of a table's files.
#[derive(Clone)]
pub(super) enum Location {
    /// A local path as the user wrote it; may contain wildcards.
    Local(String),
    /// A place in an object store.
    Store(StoreLocation),
}

/// A place in an object store.
#[derive(Clone)]
pub(super) struct StoreLocation {
    /// The store.
    pub store: Arc<dyn ObjectStore>,
    /// The same store, for uploads that another process may complete.
    pub multipart: Arc<dyn MultipartStore>,
    /// The part of a file's URL before its key: `s3://bucket`.
    pub root: String,
    /// The key or prefix below the root; may contain wildcards.
    pub key: String,
}

impl Location {
    /// Parses a table's option `path`. Object stores take credentials from the environment (`AWS_...`, `GOOGLE_...`,
    /// `AZURE_...`) and from options `store.<name>`, which take precedence.
    pub(super) fn of(table: &TableDefinition) -> Result<Self, Error> {
        let options = Options::of(table);
        let path = options.required("path")?;
        let Ok(url) = Url::parse(path) else {
            return Ok(Self::Local(path.to_string()));
        };
        match url.scheme() {
            "file" => match url.to_file_path() {
                Ok(local) => Ok(Self::Local(local.to_string_lossy().into_owned())),
                Err(()) => Err(invalid_path(table, path, "a file URL has the form file:///folder/file")),
            },
            // A drive letter, not a scheme.
            scheme if scheme.len() == 1 => Ok(Self::Local(path.to_string())),
            _ => Ok(Self::Store(StoreLocation::of(table, path, &url)?)),
        }
    }

    /// Lists all files, in the order of their paths. Files and folders whose names begin with `.` or `_` are left out,
    /// unless the location itself is such a file.
    pub(super) async fn list(&self) -> Result<Vec<FileEntry>, Error> {
        let mut files = match self {
            Self::Local(path) => {
                let path = path.clone();
                tokio::task::spawn_blocking(move || list_local(&path))
                    .await
                    .map_err(|error| Error::Unavailable(format!("listing files was interrupted: {error}")))??
            }
            Self::Store(store) => store.list().await?,
        };
        files.sort_by(|left, right| left.path.cmp(&right.path));
        Ok(files)
    }

    /// Returns the path of a listed file from the root of the machine, or of the bucket.
    pub(super) fn absolute(&self, path: &str) -> String {
        match self {
            Self::Local(_) => match std::path::absolute(path) {
                Ok(absolute) => absolute.to_string_lossy().into_owned(),
                Err(_) => path.to_owned(),
            },
            Self::Store(store) => path.strip_prefix(&store.root).unwrap_or(path).to_owned(),
        }
    }

    /// Returns the present size and time of a listed file. Blocks.
    pub(super) fn stat(&self, path: &str, runtime: &Handle) -> Result<FileEntry, Error> {
        match self {
            Self::Local(_) => {
                let metadata =
                    std::fs::metadata(path).map_err(|error| io_error("cannot open the file", path, error))?;
                Ok(local_entry(path.to_string(), &metadata))
            }
            Self::Store(store) => {
                let meta = runtime
                    .block_on(store.store.head(&store.key_of(path)?))
                    .map_err(|error| store_error(path, &error))?;
                Ok(store.entry(&meta))
            }
        }
    }

    /// Opens a file at `offset` as a blocking reader.
    pub(super) fn open(&self, file: &FileEntry, offset: u64, runtime: &Handle) -> Result<Box<dyn Read + Send>, Error> {
        match self {
            Self::Local(_) => {
                let mut opened =
                    File::open(&file.path).map_err(|error| io_error("cannot open the file", &file.path, error))?;
                if offset > 0 {
                    opened
                        .seek(SeekFrom::Start(offset))
                        .map_err(|error| io_error("cannot read the file", &file.path, error))?;
                }
                Ok(Box::new(opened))
            }
            Self::Store(store) => Ok(Box::new(ObjectReader {
                store: store.store.clone(),
                key: store.key_of(&file.path)?,
                runtime: runtime.clone(),
                at: offset,
                size: file.size,
                buffer: Bytes::new(),
            })),
        }
    }
}

impl StoreLocation {
    fn of(table: &TableDefinition, path: &str, url: &Url) -> Result<Self, Error> {
        let (scheme, _) = ObjectStoreScheme::parse(url).map_err(|_| invalid_path(table, path, KNOWN_SCHEMES))?;
        // The parsed URL would percent-encode wildcards.
        let after = path.split_once("://").map_or("", |(_, after)| after);
        let (host, key) = after.split_once('/').unwrap_or((after, ""));
        let root = format!("{}://{host}", url.scheme());
        let options = Options::of(table).with_prefix("store.");
        let wrong = |error: object_store::Error| invalid_path(table, path, &error.to_string());
        let (store, multipart): (Arc<dyn ObjectStore>, Arc<dyn MultipartStore>) = match scheme {
            ObjectStoreScheme::AmazonS3 => {
                let mut builder = AmazonS3Builder::from_env().with_url(&root);
                for (name, value) in options {
                    builder = builder.with_config(name.parse().map_err(wrong)?, value);
                }
                check_s3(&builder, Settings::Options).map_err(|problem| invalid_path(table, path, &problem))?;
                let store = Arc::new(builder.build().map_err(wrong)?);
                (store.clone(), store)
            }
            ObjectStoreScheme::GoogleCloudStorage => {
                let mut builder = GoogleCloudStorageBuilder::from_env().with_url(&root);
                for (name, value) in options {
                    builder = builder.with_config(name.parse().map_err(wrong)?, value);
                }
                let store = Arc::new(builder.build().map_err(wrong)?);
                (store.clone(), store)
            }
            ObjectStoreScheme::MicrosoftAzure => {
                let mut builder = MicrosoftAzureBuilder::from_env().with_url(&root);
                for (name, value) in options {
                    builder = builder.with_config(name.parse().map_err(wrong)?, value);
                }
                let store = Arc::new(builder.build().map_err(wrong)?);
                (store.clone(), store)
            }
            ObjectStoreScheme::Memory => {
                let store = Arc::new(InMemory::new());
                (store.clone(), store)
            }
            _ => {
                return Err(invalid_path(table, path, KNOWN_SCHEMES));
            }
        };
        Ok(Self {
            store,
            multipart,
            root,
            key: key.trim_end_matches('/').to_string(),
        })
    }

    /// Returns the key of a path or URL in this store.
    pub(super) fn key_of(&self, path: &str) -> Result<StorePath, Error> {
        let key = path.strip_prefix(&self.root).unwrap_or(path).trim_start_matches('/');
        StorePath::parse(key).map_err(|error| Error::Invalid(format!("`{path}` is not a valid object key: {error}")))
    }

    fn entry(&self, meta: &ObjectMeta) -> FileEntry {
        FileEntry {
            path: format!("{}/{}", self.root, meta.location),
            size: meta.size,
            modified_us: meta.last_modified.timestamp_micros(),
        }
    }

    async fn list(&self) -> Result<Vec<FileEntry>, Error> {
        let shown = format!("{}/{}", self.root, self.key);
        let pattern = match has_wildcard(&self.key) {
            true => Some(pattern(&self.key)?),
            false => None,
        };
        if pattern.is_none() && !self.key.is_empty() {
            match self.store.head(&self.key_of(&self.key)?).await {
                Ok(meta) => return Ok(vec![self.entry(&meta)]),
                Err(object_store::Error::NotFound { .. }) => {}
                Err(error) => return Err(store_error(&shown, &error)),
            }
        }
        let fixed = fixed_part(&self.key);
        let prefix = (!fixed.is_empty()).then(|| self.key_of(&fixed)).transpose()?;
        let found: Vec<ObjectMeta> = self
            .store
            .list(prefix.as_ref())
            .try_collect()
            .await
            .map_err(|error| store_error(&shown, &error))?;
        let files: Vec<FileEntry> = found
            .iter()
            .filter(|meta| {
                let key = meta.location.as_ref();
                let below = key.strip_prefix(&fixed).unwrap_or(key);
                !below.split('/').any(is_hidden) && pattern.as_ref().is_none_or(|pattern| pattern.matches(key))
            })
            .map(|meta| self.entry(meta))
            .collect();
        if files.is_empty() && pattern.is_some() {
            return Err(no_files(&shown));
        }
        Ok(files)
    }
}

/// Reads an object range by range.
struct ObjectReader {
    store: Arc<dyn ObjectStore>,
    key: StorePath,
    runtime: Handle,
    at: u64,
    size: u64,
    buffer: Bytes,
}

/// Bytes of one range request to an object store.
const RANGE_BYTES: u64 = 8 << 20;

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> std::io::Result<usize> {
        if self.buffer.is_empty() && self.at < self.size {
            let end = self.size.min(self.at + RANGE_BYTES);
            self.buffer = self.runtime.block_on(self.store.get_range(&self.key, self.at..end))?;
            self.at = end;
        }
        let count = out.len().min(self.buffer.len());
        self.buffer.copy_to_slice(&mut out[..count]);
        Ok(count)
    }
}

fn list_local(path: &str) -> Result<Vec<FileEntry>, Error> {
    let mut files = Vec::new();
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => walk(Path::new(path), &mut files)?,
        Ok(metadata) => files.push(local_entry(path.to_string(), &metadata)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && has_wildcard(path) => {
            let wrong = |error: glob::PatternError| Error::Invalid(format!("`{path}` is no valid glob: {error}"));
            for found in glob::glob(path).map_err(wrong)? {
                let found = found.map_err(|error| {
                    let at = error.path().to_string_lossy().into_owned();
                    io_error("cannot list", &at, error.into())
                })?;
                if found.file_name().is_some_and(|name| is_hidden(&name.to_string_lossy())) {
                    continue;
                }
                let shown = found.to_string_lossy().into_owned();
                let metadata = std::fs::metadata(&found).map_err(|error| io_error("cannot read", &shown, error))?;
                match metadata.is_dir() {
                    true => walk(&found, &mut files)?,
                    false => files.push(local_entry(shown, &metadata)),
                }
            }
            if files.is_empty() {
                return Err(no_files(path));
            }
            // `**` matches a folder as well as its files.
            files.sort_by(|left, right| left.path.cmp(&right.path));
            files.dedup_by(|left, right| left.path == right.path);
        }
        Err(error) => return Err(io_error("cannot read", path, error)),
    }
    Ok(files)
}

fn walk(folder: &Path, files: &mut Vec<FileEntry>) -> Result<(), Error> {
    let shown = folder.to_string_lossy().into_owned();
    let mut folders: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(|error| io_error("cannot list the folder", &shown, error))? {
        let entry = entry.map_err(|error| io_error("cannot list the folder", &shown, error))?;
        if is_hidden(&entry.file_name().to_string_lossy()) {
            continue;
        }
        let path = entry.path();
        let name = path.to_string_lossy().into_owned();
        match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_dir() => folders.push(path),
            Ok(metadata) => files.push(local_entry(name, &metadata)),
            // The file was removed while the folder was being listed.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("cannot read", &name, error)),
        }
    }
    folders.iter().try_for_each(|folder| walk(folder, files))
}

fn local_entry(path: String, metadata: &std::fs::Metadata) -> FileEntry {
    let modified = metadata
        .modified()
        .ok()
        .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    FileEntry {
        path,
        size: metadata.len(),
        modified_us: modified.map_or(0, |since| since.as_micros() as i64),
    }
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.') || name.starts_with('_')
}

/// Returns true if a path is a glob pattern.
pub(super) fn has_wildcard(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// Returns the folders before the first wildcard.
fn fixed_part(key: &str) -> String {
    let Some(first) = key.find(['*', '?', '[']) else {
        return key.to_string();
    };
    key[..first]
        .rfind('/')
        .map_or(String::new(), |slash| key[..slash].to_string())
}

fn pattern(key: &str) -> Result<glob::Pattern, Error> {
    glob::Pattern::new(key).map_err(|error| Error::Invalid(format!("`{key}` is no valid glob: {error}")))
}

fn no_files(path: &str) -> Error {
    Error::Invalid(format!(
        "no file matches `{path}`; check the pattern, and that the folder is the right one"
    ))
}
