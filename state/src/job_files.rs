//! Files of one job in object storage, as checkpoints name them.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::storage::Storage;

/// A file in object storage, with the length and checksum that it was written with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileReference {
    /// Path below the job's folder.
    pub path: String,
    /// Name of the file in its RocksDB database; empty for files that belong to no database.
    pub name: String,
    /// Length in bytes.
    pub length: u64,
    /// CRC-32 (IEEE) of the content.
    pub crc32: u32,
}

/// The folder that one attempt of a job writes checkpoint files to.
#[derive(Debug, Clone)]
pub struct JobFiles {
    pub(crate) storage: Storage,
    pub(crate) job: String,
    pub(crate) attempt: u64,
}

impl JobFiles {
    /// Returns the folder of `job` below the root of `storage`. `attempt` must be new: it is part of the files' names.
    pub fn new(storage: Storage, job: &str, attempt: u64) -> Self {
        Self {
            storage,
            job: job.to_string(),
            attempt,
        }
    }

    /// Writes a small file that a manifest may name, and returns once it is durable. The file's name begins with
    /// `owner` and ends with `kind`.
    pub async fn write(&self, owner: &str, kind: &str, content: Bytes) -> Result<FileReference, Error> {
        let path = format!(
            "files/{owner}-{}-{}.{kind}",
            self.attempt,
            uuid::Uuid::new_v4().simple()
        );
        let (length, crc32) = (content.len() as u64, crc32fast::hash(&content));
        if !self.storage.put_if_absent(&self.path(&path), content).await? {
            return Err(Error::Invalid(format!("{} exists already", self.path(&path))));
        }
        Ok(FileReference {
            name: String::new(),
            path,
            length,
            crc32,
        })
    }

    /// Reads a file of this job, given by its path below the job's folder, and verifies length and checksum.
    pub async fn read(&self, path: &str, length: u64, crc32: u32) -> Result<Bytes, Error> {
        self.storage.read_verified(&self.path(path), length, crc32).await
    }

    /// Returns the path below the storage root of a file given by its path below the job's folder.
    pub(crate) fn path(&self, below: &str) -> String {
        format!("{}/{below}", self.job)
    }
}
