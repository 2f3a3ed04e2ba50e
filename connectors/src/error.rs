//! Errors of connectors.

use millstream_store_errors::Retry;

/// An error of a connector. Messages state the fact, the place and the remedy.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A permanent error: a definition that cannot work, missing rights, an external object that does not exist.
    #[error("{0}")]
    Invalid(String),
    /// A temporary error: the external system is unreachable or has refused a request for now.
    #[error("{0}")]
    Unavailable(String),
    /// A record or file that cannot be decoded or encoded.
    #[error("{0}")]
    Data(String),
    /// A failed operation on a local file.
    #[error("{context}: {source}")]
    Io {
        /// The operation, the path and, where there is one, the remedy.
        context: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// An error of Arrow, such as a batch over its limits.
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
}

impl Error {
    /// Returns the retryability of the error.
    pub fn retry(&self) -> Retry {
        match self {
            Error::Unavailable(_) => Retry::Limited,
            Error::Io { source, .. } => Retry::of_io(source),
            Error::Invalid(_) | Error::Data(_) | Error::Arrow(_) => Retry::Never,
        }
    }
}
