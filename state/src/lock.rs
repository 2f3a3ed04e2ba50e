//! One process per data folder.
//!
//! The folder holds a file `LOCK`, locked as long as the process lives (the operating system lets go of it however the
//! process ends) and naming the process in its text.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::Path;

use crate::{Error, disk};

const FILE_NAME: &str = "LOCK";

/// Held as long as this lives.
#[derive(Debug)]
pub struct DataFolderLock {
    _file: File,
}

impl DataFolderLock {
    /// Takes the folder (made if missing) or says which process holds it.
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
            // The lock holds without the text, which is for people.
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
