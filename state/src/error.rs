//! What can go wrong with state.

/// An error of the state layer. Messages name the file or folder and say what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
    #[error("state database {path}: {source}")]
    Database { path: String, source: rocksdb::Error },
    #[error("{context}: {source}")]
    Storage {
        context: String,
        source: object_store::Error,
    },
    /// Bytes that are not what was written: torn, flipped, of another version.
    #[error("{0}")]
    Corrupt(String),
    /// A limit was reached; the message has its name and value.
    #[error("{0}")]
    Limit(String),
}
