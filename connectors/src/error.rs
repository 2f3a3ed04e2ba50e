//! What can go wrong between the engine and the outside world.

use millstream_store_errors::Retry;

/// An error of a connector. Messages say what, where and what to do instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The definition cannot work: trying again changes nothing.
    #[error("{0}")]
    Invalid(String),
    /// The outside system refused or is unreachable: trying again may help.
    #[error("{0}")]
    Unavailable(String),
    /// A record or file that cannot be decoded, where the error policy is to fail.
    #[error("{0}")]
    Data(String),
    #[error("{context}: {source}")]
    Io { context: String, source: std::io::Error },
    #[error(transparent)]
    Arrow(#[from] arrow_schema::ArrowError),
    #[error(transparent)]
    ObjectStore(#[from] object_store::Error),
}

impl Error {
    /// Returns whether, and for how long, it is worth trying again.
    pub fn retry(&self) -> Retry {
        match self {
            Error::Unavailable(_) => Retry::Limited,
            Error::Io { source, .. } => Retry::of_io(source),
            Error::ObjectStore(error) => Retry::of_object_store(error),
            Error::Invalid(_) | Error::Data(_) | Error::Arrow(_) => Retry::Never,
        }
    }
}
