//! The checkpoints of one job in object storage: commit, recovery, verification, retention.
//!
//! ```text
//! <root>/<job>/checkpoints/<n>-<epoch>-<attempt>/manifest           the checkpoint's manifest
//! <root>/<job>/checkpoints/<n>-<epoch>-<attempt>/completed          a marker: the journal has the record of the
//!                                                                   checkpoint (content: JSON of `CheckpointInfo`)
//! <root>/<job>/files/<operator>-<subtask>-<attempt>-<uuid>.sst      files that manifests name
//! <root>/<job>/journal/<epoch>/<seq>                                records of the journal
//! ```
//!
//! A checkpoint exists from the journal record that completes it to the journal record that deletes it; a manifest that
//! no record names is garbage. A journal that was lost or replaced is recognised by the objects `completed`, and is
//! never claimed ([`journal_check`]). A writer must hold a [`Claim`] (an epoch). The highest epoch wins: the journal
//! refuses the records of a superseded writer. Reading needs no claim.
//!
//! Typical use:
//!
//! ```text
//! let store = CheckpointStore::open(url, job).await?;
//! let claim = store.claim("host:pid").await?;            // fences whoever was there before
//! claim.sweep().await?;                                  // before any task runs
//! let recovery = store.latest::<SubtaskState>(BODY_VERSION, VerificationDepth::Output, &[]).await?;
//! let backend = Backend::new(options)?.with_files(store.files(claim.epoch()));
//! ...
//! claim.commit(manifest).await?; claim.retain(3, &[]).await?;
//! ```

mod claim;
mod journal;
mod journal_check;
pub mod verify;

use std::collections::HashMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::job_files::{FileReference, JobFiles};
use crate::log::{Claimant, Leadership, Log};
use crate::manifest::{self, Header, Manifest};
use crate::storage::Storage;
use journal::State;

pub use claim::{Claim, RetentionOutcome};

const REQUESTS_IN_FLIGHT_MAX: usize = 16;
const MANIFEST: &str = "manifest";
const COMPLETED: &str = "completed";
/// Files that are copied at the same time. Each may be held in memory whole.
const COPIES_IN_FLIGHT_MAX: usize = 4;

/// The checkpoints of one job. It only reads; a [`Claim`] writes. Cheap to clone.
#[derive(Debug, Clone)]
pub struct CheckpointStore {
    storage: Storage,
    job: String,
}

/// A complete checkpoint, as the journal records it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// Number of the checkpoint; it increases over the life of the job.
    pub checkpoint: u64,
    /// The claim that wrote it.
    pub epoch: u64,
    /// The attempt of the job that took it.
    pub attempt: u64,
    /// Time of its creation, in milliseconds since 1970-01-01 UTC.
    pub created_ms: i64,
    /// Name of the savepoint; `None` for a checkpoint.
    pub savepoint: Option<String>,
    /// Length of the manifest in bytes.
    pub length: u64,
    /// The checksum that the manifest ends with ([`manifest::checksum`]).
    pub crc32: u32,
    /// Total length of the files it names, without the manifest.
    pub state_bytes: u64,
}

/// Extent of the verification of a checkpoint, in ascending order of cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerificationDepth {
    /// Verifies the manifest's checksum.
    Manifest,
    /// Verifies also that every file exists with its length.
    Lengths,
    /// Verifies also the checksums of files that belong to no database, such as sinks' output. The files of databases
    /// are verified by the restore, so that it reads each file once.
    Output,
    /// Verifies also the checksums of all files: reads each of them once.
    Contents,
}

/// The checkpoint to resume from.
#[derive(Debug)]
pub struct Recovery<T> {
    /// Manifest of the newest intact checkpoint; `None` if there is none.
    pub manifest: Option<Manifest<T>>,
    /// Newer checkpoints, which are damaged.
    pub damaged: Vec<DamagedCheckpoint>,
}

/// A damaged checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedCheckpoint {
    /// Number of the checkpoint.
    pub checkpoint: u64,
    /// Description of the damage, with the path of the object.
    pub reason: String,
}

impl CheckpointStore {
    /// Opens the root, a URL or folder ([`Storage::open`]), and checks that it can be reached and, if local, written.
    pub async fn open(root_url: &str, job: &str) -> Result<Self, Error> {
        Self::new(Storage::open(root_url).await?, job)
    }

    /// Returns the checkpoints of `job` in `storage`, without accessing it. Fails if the name cannot be a folder's.
    pub fn new(storage: Storage, job: &str) -> Result<Self, Error> {
        let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ' ');
        if job.is_empty() || job.starts_with('.') || !job.chars().all(allowed) {
            return Err(Error::Invalid(format!(
                "`{job}` cannot be a job's folder: use letters, digits, `-`, `_` and `.`, not starting with `.`"
            )));
        }
        Ok(Self {
            storage,
            job: job.to_string(),
        })
    }

    /// Returns the name of the job.
    pub fn job(&self) -> &str {
        &self.job
    }

    /// Returns the URL of the job's folder, for messages.
    pub fn url(&self) -> String {
        format!("{}/{}", self.storage.url(), self.job)
    }

    /// Returns the folder for the files of an attempt. `attempt` must be new: it is part of the files' names.
    pub fn files(&self, attempt: u64) -> JobFiles {
        JobFiles::new(self.storage.clone(), &self.job, attempt)
    }

    /// Claims the next epoch, which fences the holders of earlier ones. `owner` is for display.
    pub async fn claim(&self, owner: &str) -> Result<Claim, Error> {
        Claim::take(self.clone(), owner, None).await
    }

    /// Claims the next epoch for the leader of a cluster.
    ///
    /// # Errors
    ///
    /// [`Error::Superseded`] if a later leader of the same cluster has claimed the job.
    pub async fn claim_for(&self, owner: &str, leader: Leadership) -> Result<Claim, Error> {
        Claim::take(self.clone(), owner, Some(leader)).await
    }

    /// Returns the newest claim; `None` if there is none, or its record is damaged.
    pub async fn claimant(&self) -> Result<Option<Claimant>, Error> {
        self.log().claimant::<State>().await
    }

    /// Returns the checkpoint up to which all output is known to be published, 0 if there is none.
    pub async fn published_to(&self) -> Result<u64, Error> {
        Ok(self.read_journal().await?.published_to)
    }

    /// Returns all complete checkpoints, oldest first.
    pub async fn list(&self) -> Result<Vec<CheckpointInfo>, Error> {
        Ok(self.read_journal().await?.checkpoints.into_values().collect())
    }

    /// Returns the newest intact checkpoint that is not in `skip` (those that a restore failed on), and the damaged
    /// ones after it. `body_version` is the version of `T`.
    ///
    /// # Errors
    ///
    /// Errors that are not damage, such as missing permissions or another version.
    pub async fn latest<T: Serialize + DeserializeOwned>(
        &self,
        body_version: u16,
        depth: VerificationDepth,
        skip: &[u64],
    ) -> Result<Recovery<T>, Error> {
        let journal = self.read_journal().await?;
        let mut damaged = journal.damaged;
        for info in journal.checkpoints.values().rev() {
            if skip.contains(&info.checkpoint) {
                continue;
            }
            match self.read_checkpoint(info, body_version, depth).await {
                Ok(manifest) => {
                    return Ok(Recovery {
                        manifest: Some(manifest),
                        damaged,
                    });
                }
                Err(error) if error.is_damage() => {
                    tracing::warn!(job = %self.job, checkpoint = info.checkpoint, %error, "checkpoint is damaged");
                    damaged.push(DamagedCheckpoint {
                        checkpoint: info.checkpoint,
                        reason: error.to_string(),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Recovery {
            manifest: None,
            damaged,
        })
    }

    /// Reads the checkpoint of this number and verifies it to `depth`.
    pub async fn load<T: Serialize + DeserializeOwned>(
        &self,
        checkpoint: u64,
        body_version: u16,
        depth: VerificationDepth,
    ) -> Result<Manifest<T>, Error> {
        let checkpoints = self.read_journal().await?.checkpoints;
        let Some(info) = checkpoints.get(&checkpoint) else {
            let known: Vec<String> = checkpoints.keys().map(u64::to_string).collect();
            return Err(Error::NotFound(format!(
                "{} has no complete checkpoint {checkpoint}; it has {}",
                self.url(),
                if known.is_empty() {
                    "none".to_string()
                } else {
                    known.join(", ")
                }
            )));
        };
        self.read_checkpoint(info, body_version, depth).await
    }

    async fn read_checkpoint<T: Serialize + DeserializeOwned>(
        &self,
        info: &CheckpointInfo,
        body_version: u16,
        depth: VerificationDepth,
    ) -> Result<Manifest<T>, Error> {
        let (bytes, place) = self.read_manifest(info).await?;
        let manifest = Manifest::decode(&bytes, &place, body_version)?;
        self.check_owner(&manifest.header, &place)?;
        self.check_files(&manifest.header.files, depth).await?;
        Ok(manifest)
    }

    async fn read_header(&self, info: &CheckpointInfo) -> Result<Header, Error> {
        let (bytes, place) = self.read_manifest(info).await?;
        let header = Header::decode(&bytes, &place)?;
        self.check_owner(&header, &place)?;
        Ok(header)
    }

    fn check_owner(&self, header: &Header, place: &str) -> Result<(), Error> {
        if header.job == self.job {
            return Ok(());
        }
        Err(Error::Corrupt(format!(
            "{place} belongs to the job `{}`, not to `{}`",
            header.job, self.job
        )))
    }

    /// Reads the manifest that the journal refers to. Returns its bytes and its URL.
    async fn read_manifest(&self, info: &CheckpointInfo) -> Result<(Bytes, String), Error> {
        let path = self.manifest_path(info);
        let bytes = self.storage.read(&path).await?;
        let place = format!("{}/{path}", self.storage.url());
        if bytes.len() as u64 != info.length || manifest::checksum(&bytes) != Some(info.crc32) {
            return Err(Error::Corrupt(format!(
                "{place} is damaged or belongs to another job: {} bytes, while the journal records {} and checksum {:08x}",
                bytes.len(),
                info.length,
                info.crc32
            )));
        }
        Ok((bytes, place))
    }

    /// Copies files of a checkpoint of another job, `origin`, into this job's folder, under the same names.
    pub async fn copy_files(&self, origin: &CheckpointStore, files: &[FileReference]) -> Result<(), Error> {
        futures::stream::iter(files.to_vec())
            .map(|file| async move {
                let from = (&origin.storage, format!("{}/{}", origin.job, file.path));
                let to = format!("{}/{}", self.job, file.path);
                self.storage.copy(&to, from, file.length, file.crc32).await
            })
            .buffer_unordered(COPIES_IN_FLIGHT_MAX)
            .try_collect::<Vec<()>>()
            .await?;
        Ok(())
    }

    async fn check_files(&self, files: &[FileReference], depth: VerificationDepth) -> Result<(), Error> {
        if files.is_empty() || depth == VerificationDepth::Manifest {
            return Ok(());
        }
        let listed: HashMap<String, u64> = self
            .storage
            .list(&self.files_folder())
            .await?
            .into_iter()
            .map(|file| (file.path, file.length))
            .collect();
        for file in files {
            let path = format!("{}/{}", self.job, file.path);
            match listed.get(&path) {
                None => return Err(Error::NotFound(format!("{}/{path} is missing", self.storage.url()))),
                Some(length) if *length != file.length => {
                    return Err(Error::Corrupt(format!(
                        "{}/{path} is damaged: {length} bytes long, written with {}",
                        self.storage.url(),
                        file.length
                    )));
                }
                Some(_) => {}
            }
        }
        let is_checked = |file: &&FileReference| match depth {
            VerificationDepth::Manifest | VerificationDepth::Lengths => false,
            VerificationDepth::Output => file.name.is_empty(),
            VerificationDepth::Contents => true,
        };
        let checked: Vec<FileReference> = files.iter().filter(is_checked).cloned().collect();
        if !checked.is_empty() {
            futures::stream::iter(checked)
                .map(|file| async move {
                    let path = format!("{}/{}", self.job, file.path);
                    self.storage.check(&path, file.length, file.crc32).await
                })
                .buffer_unordered(REQUESTS_IN_FLIGHT_MAX)
                .try_collect::<Vec<()>>()
                .await?;
        }
        Ok(())
    }

    fn log(&self) -> Log {
        Log::new(self.storage.clone(), &format!("{}/journal", self.job), "the job")
    }

    async fn read_journal(&self) -> Result<State, Error> {
        Ok(self.log().read::<State>().await?.state)
    }

    fn manifest_path(&self, info: &CheckpointInfo) -> String {
        format!("{}/{MANIFEST}", self.checkpoint_folder(info))
    }

    fn completed_path(&self, info: &CheckpointInfo) -> String {
        format!("{}/{COMPLETED}", self.checkpoint_folder(info))
    }

    fn checkpoint_folder(&self, info: &CheckpointInfo) -> String {
        format!(
            "{}/checkpoints/{}-{}-{}",
            self.job, info.checkpoint, info.epoch, info.attempt
        )
    }

    fn files_folder(&self) -> String {
        format!("{}/files", self.job)
    }
}

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;
