//! A lock on a data folder, held by one process.
//!
//! The folder has a file `LOCK` with the id of the process that has locked it. The operating system releases the lock
//! when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::{Error, disk};

const FILE_NAME: &str = "LOCK";

/// A lock on a data folder. Dropping it releases the lock.
#[derive(Debug)]
pub struct DataFolderLock {
    _file: File,
}

impl DataFolderLock {
    /// Locks the folder, which is created if missing.
    ///
    /// # Errors
    ///
    /// [`Error::Busy`] names the process that holds the lock.
    pub fn acquire(folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(Error::write(
            folder,
            format!(
                "cannot create the data folder {} (make its parent writable or choose another)",
                folder.display()
            ),
        ))?;
        let path = folder.join(FILE_NAME);
        let context = format!("cannot lock the data folder by {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(Error::write(&path, context.clone()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                let holder = match file.read_to_string(&mut holder) {
                    Ok(_) if !holder.trim().is_empty() => format!("process {}", holder.trim()),
                    _ => "another process".to_string(),
                };
                return Err(Error::Busy(format!(
                    "the data folder {} is in use by {holder}; stop it, or give this one another folder",
                    folder.display()
                )));
            }
            Err(TryLockError::Error(source)) => return Err(Error::io(context)(source)),
        }
        let named = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        match named {
            // The lock works without the text, which is only displayed.
            Err(error) if disk::is_full(&error) => {}
            named => named.map_err(Error::io(context))?,
        }
        Ok(Self { _file: file })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_holder_is_told_the_first_ones_process() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataFolderLock::acquire(folder.path()).unwrap();
        let error = DataFolderLock::acquire(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("process {};", std::process::id())), "{error}");
        drop(first);
        DataFolderLock::acquire(folder.path()).unwrap();
    }
}
