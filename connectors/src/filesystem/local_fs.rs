//! Operations on local files and folders that survive a power failure once they return.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::error::io_error;
use crate::Error;

/// Creates a folder with its missing ancestors, and makes the new names durable.
pub(super) fn create_folder(folder: &Path) -> Result<(), Error> {
    if folder.is_dir() {
        return Ok(());
    }
    let created: Vec<PathBuf> = folder
        .ancestors()
        .take_while(|ancestor| !ancestor.as_os_str().is_empty() && !ancestor.exists())
        .map(Path::to_path_buf)
        .collect();
    std::fs::create_dir_all(folder)
        .map_err(|error| io_error("cannot create the folder", &folder.to_string_lossy(), error))?;
    for parent in created.iter().filter_map(|folder| folder.parent()) {
        sync_folder(if parent.as_os_str().is_empty() {
            Path::new(".")
        } else {
            parent
        })?;
    }
    Ok(())
}

/// Removes a file. A file that does not exist is not an error.
pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(io_error("cannot remove the file", &path.to_string_lossy(), error)),
    }
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| io_error("cannot make the folder durable", &folder.to_string_lossy(), error))
}
