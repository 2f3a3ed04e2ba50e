//! What can go wrong with state.

use millstream_store_errors::Retry;

use crate::disk;

/// An error of the state layer. Messages name the file or folder and say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
    /// A local disk is full, or a quota is exhausted. The message says which disk, and how much of it is free.
    #[error("{0}")]
    DiskFull(String),
    #[error("state database {path}: {source}")]
    Database { path: String, source: rocksdb::Error },
    #[error(
        "{context}: {}",
        millstream_store_errors::explain(source, millstream_store_errors::Settings::Environment)
    )]
    Storage {
        context: String,
        source: object_store::Error,
    },
    /// Storage that does not answer.
    #[error("{0}")]
    Unreachable(String),
    /// Something that should be there is not.
    #[error("{0}")]
    NotFound(String),
    /// Bytes that are not what was written: torn, flipped, of another version.
    #[error("{0}")]
    Corrupt(String),
    /// A limit was reached; the message has its name and value.
    #[error("{0}")]
    Limit(String),
    /// A setting that cannot work (a malformed URL, an empty name).
    #[error("{0}")]
    Invalid(String),
    /// Another process holds what was asked for.
    #[error("{0}")]
    Busy(String),
    /// A later claim on the job's journal exists: whoever gets this error must stop and change nothing more.
    #[error("{0}")]
    Superseded(String),
    /// Work of the background threads failed earlier; every later call on the same store repeats it. (One that failed
    /// for want of space is repeated as [`Error::DiskFull`].)
    #[error("{0}")]
    Background(String),
}

impl Error {
    /// For `map_err`: an I/O error with what was being done, where. For what writes, see [`Error::write`].
    pub(crate) fn io(context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let context = context.into();
        move |source| Error::Io { context, source }
    }

    /// For `map_err`: an error of writing to `path`, or of creating it. One of a full disk becomes [`Error::DiskFull`].
    pub fn write(path: &std::path::Path, context: impl Into<String>) -> impl FnOnce(std::io::Error) -> Error {
        let context = context.into();
        move |source| match disk::is_full(&source) {
            true => Error::DiskFull(format!("{} ({context}: {source})", disk::describe_full(path))),
            false => Error::Io { context, source },
        }
    }

    /// For `map_err`: an error of the database in `path`.
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

    /// Whether a database found a file of its own damaged. Another attempt reads through what is kept here before it
    /// uses it, and fetches what is not as it was.
    pub fn is_local_damage(&self) -> bool {
        matches!(self, Error::Database { source, .. } if source.kind() == rocksdb::ErrorKind::Corruption)
    }

    /// Whether an older checkpoint may still be good where this error came from.
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
