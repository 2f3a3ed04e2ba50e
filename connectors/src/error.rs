//! What can go wrong between the engine and the outside world.

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
