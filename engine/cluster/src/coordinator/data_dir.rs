//! The data folder of a cluster: its identity and its layout.
//!
//! The object `cluster` is one line of JSON, version 1: `{"version":1,"cluster":"<uuid>","created_us":<time>}`. The
//! first coordinator writes it once. Everything else in the folder belongs to that cluster.

use std::time::Duration;

use bytes::Bytes;
use millstream_state::Storage;
use millstream_state::log::Log;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::coordinator::cluster_journal;

const OBJECT: &str = "cluster";
const VERSION: u32 = 1;
/// Time for a test write.
const TRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Size of the test object. It is larger than what file systems store beside a file's name, so that a full disk
/// shows.
const PROBE_BYTES: usize = 4096;

/// A data folder that has been opened.
#[derive(Debug, Clone)]
pub struct DataDir {
    storage: Storage,
    /// The URL or path as it was configured.
    url: String,
    cluster: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Identity {
    version: u32,
    cluster: String,
    created_us: i64,
}

impl DataDir {
    /// Opens a folder by URL or path. A folder without an owner becomes a new cluster's. Fails if the folder belongs
    /// to another cluster than `expected`.
    pub async fn open(url: &str, expected: Option<&str>, now_us: i64) -> Result<Self, Error> {
        let storage = Storage::open(url).await?;
        let new = Identity {
            version: VERSION,
            cluster: expected.map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_string),
            created_us: now_us,
        };
        let line = serde_json::to_string(&new).map_err(|error| Error::Failed(error.to_string()))?;
        storage.put_if_absent(OBJECT, Bytes::from(line + "\n")).await?;
        // Another coordinator may have written the object first: the stored one counts.
        let bytes = storage.read(OBJECT).await?;
        let place = format!("{}/{OBJECT}", storage.url());
        let found: Identity = serde_json::from_slice(&bytes)
            .map_err(|error| Error::Invalid(format!("{place} does not have the identity of a cluster: {error}")))?;
        if found.version != VERSION {
            return Err(Error::Invalid(format!(
                "{place}: this data folder has layout {}, this engine knows {VERSION}; use the engine that wrote it",
                found.version
            )));
        }
        if let Some(expected) = expected
            && expected != found.cluster
        {
            return Err(Error::Invalid(format!(
                "{} is the data folder of cluster {}, not of {expected}; give this coordinator another folder",
                storage.url(),
                found.cluster
            )));
        }
        Ok(Self {
            storage,
            url: url.trim_end_matches('/').to_string(),
            cluster: found.cluster,
        })
    }

    /// Returns the id of the cluster.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// Returns the URL of the folder.
    pub fn url(&self) -> String {
        self.storage.url()
    }

    /// Returns the cluster's journal.
    pub fn journal(&self) -> Log {
        cluster_journal(&self.storage)
    }

    /// Creates and deletes an object. Fails with the reason if the folder is full or read-only, although it can be
    /// read.
    pub async fn probe_write(&self) -> Result<(), String> {
        let path = format!("probe/{}", uuid::Uuid::new_v4());
        let tried = async {
            self.storage
                .put_if_absent(&path, Bytes::from_static(&[b'.'; PROBE_BYTES]))
                .await?;
            self.storage.delete(&path).await
        };
        match tokio::time::timeout(TRY_TIMEOUT, tried).await {
            Ok(tried) => tried.map_err(|error| error.to_string()),
            Err(_) => Err(format!(
                "a small object was not written within {} s (TRY_TIMEOUT)",
                TRY_TIMEOUT.as_secs()
            )),
        }
    }

    /// Returns the folder for checkpoints of jobs that configure no other.
    pub fn checkpoints(&self) -> String {
        format!("{}/checkpoints", self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whether_a_folder_can_be_written_shows_by_trying() {
        let place = tempfile::tempdir().unwrap();
        let folder = DataDir::open(&place.path().display().to_string(), None, 1)
            .await
            .unwrap();
        assert_eq!(folder.probe_write().await, Ok(()));
        assert!(
            folder.storage.list("probe").await.unwrap().is_empty(),
            "nothing is left"
        );
        std::fs::remove_dir(place.path().join("probe")).ok();
        std::fs::write(place.path().join("probe"), "in the way").unwrap();
        let problem = folder.probe_write().await.expect_err("there is no such folder");
        assert!(problem.contains("probe"), "{problem}");
    }

    #[tokio::test]
    async fn a_folder_stays_the_cluster_that_it_first_was() {
        let folder = tempfile::tempdir().unwrap();
        let url = folder.path().display().to_string();
        let first = DataDir::open(&url, None, 1).await.unwrap();
        let again = DataDir::open(&format!("file://{url}/"), None, 2).await.unwrap();
        assert_eq!(first.cluster(), again.cluster());
        DataDir::open(&url, Some(first.cluster()), 2).await.unwrap();
        let error = DataDir::open(&url, Some("another"), 2).await.unwrap_err().to_string();
        assert!(
            error.contains("data folder of cluster") && error.contains("another"),
            "{error}"
        );
        std::fs::write(folder.path().join(OBJECT), "{}").unwrap();
        assert!(matches!(DataDir::open(&url, None, 2).await, Err(Error::Invalid(_))));
    }
}
