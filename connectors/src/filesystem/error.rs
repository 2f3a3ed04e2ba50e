//! Errors of file and object-store operations, with the path and, where there is one, the remedy.

use std::io::ErrorKind;

use millstream_store_errors::{Retry, Settings, explain};

use crate::{Error, TableDefinition};

/// Returns the error of a table whose option `path` cannot be used.
pub(super) fn invalid_path(table: &TableDefinition, path: &str, problem: &str) -> Error {
    Error::Invalid(format!("table `{}`: option 'path': `{path}`: {problem}", table.name))
}

/// Returns the error of an operation on a local path. `action` names the operation: "cannot open the file".
pub(super) fn io_error(action: &str, path: &str, source: std::io::Error) -> Error {
    let hint = match source.kind() {
        ErrorKind::NotFound => " (check the option 'path'; a relative path starts at the engine's working directory)",
        ErrorKind::PermissionDenied => " (grant the engine's user access to it)",
        ErrorKind::StorageFull => " (free some space; no open file is visible yet, and the job can resume)",
        _ => "",
    };
    Error::Io {
        context: format!("{action} `{path}`{hint}"),
        source,
    }
}

/// Returns the error of a request to an object store: [`Error::Unavailable`] if a retry may succeed, [`Error::Invalid`]
/// otherwise (a missing object or bucket, refused credentials).
pub(super) fn store_error(path: &str, error: &object_store::Error) -> Error {
    let message = format!("object store: `{path}`: {}", explain(error, Settings::Options));
    match Retry::of_object_store(error) {
        Retry::Never => Error::Invalid(message),
        Retry::Limited | Retry::Unlimited => Error::Unavailable(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refused_credentials_are_not_retried() {
        let refused = object_store::Error::PermissionDenied {
            path: "out/a.json".into(),
            source: "AccessDenied".into(),
        };
        assert!(matches!(store_error("s3://bucket/out", &refused), Error::Invalid(_)));
        let timeout = object_store::Error::Generic {
            store: "S3",
            source: "operation timed out".into(),
        };
        assert!(matches!(
            store_error("s3://bucket/out", &timeout),
            Error::Unavailable(_)
        ));
    }
}
