//! The data folder of a worker and the cluster that owns it.
//!
//! The folder has copies of one cluster's state, under names that other clusters may use, too. The file `cluster-id`
//! has the cluster's id as one line. The worker writes it when it is first admitted, and sends the id to every
//! coordinator from then on. The coordinator of another cluster rejects the worker before it has changed the folder.
//! A folder without the file belongs to the first cluster that admits the worker.

use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::Error;

const FILE: &str = "cluster-id";

/// A worker's data folder.
#[derive(Debug)]
pub(super) struct DataDir {
    dir: PathBuf,
    cluster: Option<String>,
}

impl DataDir {
    /// Reads the owner of a folder. Changes nothing.
    pub(super) fn open(dir: &Path) -> Result<Self, Error> {
        let file = dir.join(FILE);
        let cluster = match std::fs::read_to_string(&file) {
            // The file is empty if a crash came between its creation and the write.
            Ok(text) => Some(text.trim().to_string()).filter(|cluster| !cluster.is_empty()),
            Err(error) if error.kind() == ErrorKind::NotFound => None,
            Err(error) => {
                return Err(Error::Failed(format!(
                    "the owner of the data folder cannot be read from {}: {error}",
                    file.display()
                )));
            }
        };
        Ok(Self {
            dir: dir.to_path_buf(),
            cluster,
        })
    }

    /// Returns the absolute path, for messages, and the id of the cluster; empty if the folder has no owner.
    pub(super) fn path_and_cluster(&self) -> (String, String) {
        let path = std::path::absolute(&self.dir).unwrap_or_else(|_| self.dir.clone());
        (path.display().to_string(), self.cluster.clone().unwrap_or_default())
    }

    /// Makes the folder a cluster's if it has no owner.
    pub(super) fn claim_for(&mut self, cluster: &str) -> Result<(), Error> {
        if self.cluster.is_some() || cluster.is_empty() {
            return Ok(());
        }
        let file = self.dir.join(FILE);
        let context = format!(
            "the owner of the data folder cannot be written to {}; make it writable, or choose another with --data-dir",
            file.display()
        );
        self.write(cluster)
            .map_err(millstream_state::Error::write(&file, context))?;
        self.cluster = Some(cluster.to_string());
        Ok(())
    }

    fn write(&self, cluster: &str) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        let mut file = std::fs::File::create(self.dir.join(FILE))?;
        writeln!(file, "{cluster}")?;
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_stays_the_cluster_that_first_let_its_worker_in() {
        let place = tempfile::tempdir().unwrap();
        let dir = place.path().join("w");
        let mut folder = DataDir::open(&dir).unwrap();
        assert_eq!(folder.path_and_cluster().1, "");
        assert!(!dir.exists(), "looking makes nothing");
        folder.claim_for("a").unwrap();
        folder.claim_for("b").unwrap();
        assert_eq!(
            DataDir::open(&dir).unwrap().path_and_cluster(),
            (dir.display().to_string(), "a".to_string())
        );
        std::fs::write(dir.join(FILE), "").unwrap();
        assert_eq!(DataDir::open(&dir).unwrap().path_and_cluster().1, "");
    }
}
