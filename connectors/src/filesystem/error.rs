//! Errors of file and object-store operations, with the path and, where there is one, the remedy.

use std::io::ErrorKind;

use millstream_store_errors::{Settings, explain};

use crate::{Error, TableDefinition};

/// Returns the error of a table whose option `path` cannot be used.
pub fn invalid_path(table: &TableDefinition, path: &str, problem: &str) -> Error {
    Error::Invalid(format!("table `{}`: option 'path': `{path}`: {problem}", table.name))
}

/// Returns the error of an operation on a local path. `action` names the operation: "cannot open the file".
pub fn io_error(action: &str, path: &str, source: std::io::Error) -> Error {
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

/// Returns the error of a request to an object store.
pub fn store_error(path: &str, error: &object_store::Error) -> Error {
    Error::Unavailable(format!("object store: `{path}`: {}", explain(error, Settings::Options)))
}
