//! Errors of connectors.

use std::fmt;

use millstream_store_errors::Retry;

use crate::redaction::redact;

/// An error of a connector. Messages state the fact, the place and the remedy, without secrets.
#[derive(thiserror::Error)]
pub enum Error {
    /// A permanent error: a definition that cannot work, missing rights, an external object that does not exist.
    #[error("{}", redact(.0))]
    Invalid(String),
    /// A temporary error: the external system is unreachable or has refused a request for now.
    #[error("{}", redact(.0))]
    Unavailable(String),
    /// A record or file that cannot be decoded or encoded.
    #[error("{}", redact(.0))]
    Data(String),
    /// A failed operation on a local file.
    #[error("{}: {source}", redact(.context))]
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

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, message) = match self {
            Error::Invalid(message) => ("Invalid", message),
            Error::Unavailable(message) => ("Unavailable", message),
            Error::Data(message) => ("Data", message),
            Error::Io { context, source } => {
                let mut shown = f.debug_struct("Io");
                return shown
                    .field("context", &redact(context))
                    .field("source", source)
                    .finish();
            }
            Error::Arrow(error) => return f.debug_tuple("Arrow").field(error).finish(),
        };
        f.debug_tuple(name).field(&redact(message)).finish()
    }
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
