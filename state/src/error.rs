//! The error of this crate.

use millstream_store_errors::Retry;

use crate::disk;

/// An error of the state layer. Messages name the file or folder and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error of the operating system.
    #[error("{context}: {source}")]
    Io {
        /// Description of the operation, with the path.
        context: String,
        /// Cause.
        source: std::io::Error,
    },
    /// A local disk is full, or a quota is exhausted. The message names the disk and its free space.
    #[error("{0}")]
    DiskFull(String),
    /// An error of RocksDB.
    #[error("state database {path}: {source}")]
    Database {
        /// Folder of the database.
        path: String,
        /// Cause.
        source: rocksdb::Error,
    },
    /// An error of object storage.
    #[error(
        "{context}: {}",
        millstream_store_errors::explain(source, millstream_store_errors::Settings::Environment)
    )]
    Storage {
        /// Description of the operation, with the URL.
        context: String,
        /// Cause.
        source: object_store::Error,
    },
    /// Object storage does not respond.
    #[error("{0}")]
    Unreachable(String),
    /// An object or file that must exist is missing.
    #[error("{0}")]
    NotFound(String),
    /// Content that differs from what was written: torn, with flipped bits, or of an unknown layout.
    #[error("{0}")]
    Corrupt(String),
    /// A limit was reached. The message has its name and value.
    #[error("{0}")]
    Limit(String),
    /// An invalid setting or argument, such as a malformed URL or an empty name.
    #[error("{0}")]
    Invalid(String),
    /// The resource is in use by another process.
    #[error("{0}")]
    Busy(String),
    /// A later claim on the journal exists. The process must stop and change nothing more.
    #[error("{0}")]
    Superseded(String),
    /// An earlier operation of a background thread failed; every later call on the same store returns this error. (If
    /// it failed because a disk was full, they return [`Error::DiskFull`].)
    #[error("{0}")]
    Background(String),
}

impl Error {
    /// Returns a function for `map_err` that adds the operation and path. Writes use [`Error::write`].
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let context = context.into();
        move |source| Error::Io { context, source }
    }

    /// Returns a function for `map_err` after writing or creating `path`: a full disk becomes [`Error::DiskFull`].
    pub fn write(path: &std::path::Path, context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let context = context.into();
        move |source| match disk::is_full(&source) {
            true => Error::DiskFull(format!("{} ({context}: {source})", disk::describe_full(path))),
            false => Error::Io { context, source },
        }
    }

    /// Returns a function for `map_err` that adds the folder of the database.
    pub(crate) fn database(path: &std::path::Path) -> impl FnOnce(rocksdb::Error) -> Error {
        move |source| match disk::is_full_for_database(&source) {
            true => Error::DiskFull(format!(
                "{} (state database {}: {source})",
                disk::describe_full(path),
                path.display()
            )),
            false => Error::Database {
                path: path.display().to_string(),
                source,
            },
        }
    }

    /// Returns true if a database has found one of its files damaged. A restart verifies local copies of checkpoint
    /// files before it uses them, and fetches damaged ones.
    pub fn is_local_damage(&self) -> bool {
        matches!(self, Error::Database { source, .. } if source.kind() == rocksdb::ErrorKind::Corruption)
    }

    /// Returns true if an object is damaged or missing, so that only an older checkpoint may be intact.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Corrupt(_) | Error::NotFound(_))
    }

    /// Returns whether, and for how long, it is worth trying again.
    pub fn retry(&self) -> Retry {
        match self {
            Error::DiskFull(_) => Retry::Unlimited,
            Error::Io { source, .. } => Retry::of_io(source),
            Error::Storage { source, .. } => Retry::of_object_store(source),
            Error::Unreachable(_) => Retry::Limited,
            // The next attempt verifies local files and fetches those that are damaged.
            Error::Database { .. } if self.is_local_damage() => Retry::Limited,
            Error::Database { .. }
            | Error::NotFound(_)
            | Error::Corrupt(_)
            | Error::Limit(_)
            | Error::Invalid(_)
            | Error::Busy(_)
            | Error::Superseded(_)
            | Error::Background(_) => Retry::Never,
        }
    }
}
