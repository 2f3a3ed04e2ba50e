//! The right to change a job's checkpoints: an epoch in its journal.
//!
//! All changes are made here: completing checkpoints, retention, deletion, the sweep of orphans. Each change is one
//! journal record in the epoch of the claim. It takes effect only after the writer has checked that no later epoch has
//! been claimed.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;
use millstream_fail_point as fail_point;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use super::journal::{Change, State};
use super::journal_check::{self, Folders};
use super::{CheckpointInfo, CheckpointStore, REQUESTS_IN_FLIGHT_MAX};
use crate::Error;
use crate::log::{Leadership, Writer};
use crate::manifest::{self, Manifest};

/// The right to change a job's checkpoints, until another process claims the next epoch.
#[derive(Debug)]
pub struct Claim {
    store: CheckpointStore,
    epoch: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    log: Writer<State>,
    /// Cache of the files of complete checkpoints.
    files: BTreeMap<u64, Vec<String>>,
    /// Highest checkpoint number of all attempted commits. One that seemed to fail may have succeeded, or have inner
    /// its manifest.
    attempted_max: u64,
}

/// Result of [`Claim::retain`] and [`Claim::delete`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionOutcome {
    /// Numbers of the deleted checkpoints.
    pub checkpoints_deleted: Vec<u64>,
    /// Number of deleted objects, files and manifests.
    pub objects_deleted: usize,
}

impl Claim {
    pub(super) async fn take(store: CheckpointStore, owner: &str, leader: Option<Leadership>) -> Result<Self, Error> {
        journal_check::check(&store).await?;
        let mut log = store.log().claim_for::<State>(owner, leader).await?;
        if log.state().job.is_empty() {
            let job = store.job.clone();
            log.append(vec![Change::Belongs { job }]).await?;
        }
        Ok(Self {
            epoch: log.epoch(),
            inner: Mutex::new(Inner {
                log,
                files: BTreeMap::new(),
                attempted_max: 0,
            }),
            store,
        })
    }

    /// Returns the claimed epoch.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the job's checkpoints, for reading.
    pub fn store(&self) -> &CheckpointStore {
        &self.store
    }

    /// Determines whether a record was inner whose put failed or was cancelled.
    pub async fn resolve_uncertain_append(&self) -> Result<(), Error> {
        let log = &mut self.inner.lock().await.log;
        if log.is_uncertain() {
            log.append(Vec::new()).await?;
        }
        Ok(())
    }

    /// Returns the number for the next checkpoint: above every number that was completed, or attempted by this claim.
    pub async fn next_checkpoint(&self) -> u64 {
        let inner = self.inner.lock().await;
        inner.log.state().checkpoint_max.max(inner.attempted_max) + 1
    }

    /// Returns all complete checkpoints, oldest first.
    pub async fn checkpoints(&self) -> Vec<CheckpointInfo> {
        self.inner
            .lock()
            .await
            .log
            .state()
            .checkpoints
            .values()
            .cloned()
            .collect()
    }

    /// Completes a checkpoint: writes the manifest, then the journal record. Sets the header's job and epoch. Sinks may
    /// publish only after this has returned Ok.
    ///
    /// # Errors
    ///
    /// After [`Error::Superseded`] the caller must stop and change nothing more. After any other error the checkpoint
    /// may have been completed; the next one needs another number ([`Claim::next_checkpoint`]).
    pub async fn commit<T: Serialize + DeserializeOwned>(
        &self,
        mut manifest: Manifest<T>,
    ) -> Result<CheckpointInfo, Error> {
        manifest.header.job.clone_from(&self.store.job);
        manifest.header.epoch = self.epoch;
        let mut seen = BTreeSet::new();
        manifest.header.files.retain(|file| seen.insert(file.path.clone()));
        let bytes = manifest.encode()?;
        let header = &manifest.header;
        let info = CheckpointInfo {
            checkpoint: header.checkpoint,
            epoch: header.epoch,
            attempt: header.attempt,
            created_ms: header.created_ms,
            savepoint: header.savepoint.clone(),
            length: bytes.len() as u64,
            crc32: manifest::checksum(&bytes).unwrap_or_default(),
            state_bytes: header.files.iter().map(|file| file.length).sum(),
        };
        let mut inner = self.inner.lock().await;
        if inner.log.state().checkpoints.contains_key(&info.checkpoint) {
            return Err(Error::Invalid(format!(
                "{} already has a checkpoint {}",
                self.store.url(),
                info.checkpoint
            )));
        }
        inner.attempted_max = inner.attempted_max.max(info.checkpoint);
        let path = self.store.manifest_path(&info);
        let is_new = self.store.storage.put_if_absent(&path, bytes.clone()).await?;
        // Equal bytes are those of an earlier try whose response was lost.
        if !is_new && self.store.storage.read(&path).await? != bytes {
            return Err(Error::Invalid(format!(
                "{}/{path} was inner by an earlier attempt, whose checkpoint may be complete: use another number",
                self.store.storage.url()
            )));
        }
        fail_point::reach("manifest");
        inner.log.append(vec![Change::Completed(info.clone())]).await?;
        self.put_completed_marker(&info).await;
        let files = manifest.header.files.into_iter().map(|file| file.path).collect();
        inner.files.insert(info.checkpoint, files);
        Ok(info)
    }

    /// Records that the output of all checkpoints up to this one is published.
    pub async fn record_published(&self, checkpoint: u64) -> Result<(), Error> {
        let mut inner = self.inner.lock().await;
        if inner.log.state().published_to < checkpoint {
            inner.log.append(vec![Change::Published { checkpoint }]).await?;
        }
        Ok(())
    }

    /// Puts the marker by which later claims recognise a journal that has lost the record of this checkpoint. A failure
    /// is logged only: the checkpoint is complete without it.
    async fn put_completed_marker(&self, info: &CheckpointInfo) {
        let path = self.store.completed_path(info);
        let put = match serde_json::to_vec(info) {
            Ok(content) => self
                .store
                .storage
                .put_if_absent(&path, content.into())
                .await
                .map(|_| ()),
            Err(error) => Err(Error::Invalid(error.to_string())),
        };
        if let Err(error) = put {
            tracing::warn!(job = %self.store.job, %error, "cannot write the marker of a completed checkpoint; the loss of its journal record would go unnoticed");
        }
    }

    /// Deletes all but the newest `keep` checkpoints, and the files that no remaining checkpoint names. Savepoints and
    /// the checkpoints in `pinned` are never deleted. The decision is recorded in the journal first; a deletion that
    /// fails is retried by the next call.
    pub async fn retain(&self, keep: usize, pinned: &[u64]) -> Result<RetentionOutcome, Error> {
        let mut inner = self.inner.lock().await;
        let checkpoints = inner
            .log
            .state()
            .checkpoints
            .values()
            .filter(|info| info.savepoint.is_none());
        let newest_first: Vec<u64> = checkpoints.map(|info| info.checkpoint).rev().collect();
        let expired: Vec<u64> = newest_first
            .into_iter()
            .skip(keep.max(1))
            .filter(|checkpoint| !pinned.contains(checkpoint))
            .collect();
        self.delete_checkpoints(&mut inner, expired).await
    }

    /// Deletes one checkpoint or savepoint.
    pub async fn delete(&self, checkpoint: u64) -> Result<RetentionOutcome, Error> {
        let mut inner = self.inner.lock().await;
        if !inner.log.state().checkpoints.contains_key(&checkpoint) {
            return Err(Error::NotFound(format!(
                "{} has no complete checkpoint {checkpoint}",
                self.store.url()
            )));
        }
        self.delete_checkpoints(&mut inner, vec![checkpoint]).await
    }

    /// Deletes orphans of crashes and failed checkpoints: manifests and files that no complete checkpoint names.
    /// Returns their number. Must be called before any task of this claim runs: the files of a checkpoint in progress
    /// are indistinguishable from orphans.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let mut inner = self.inner.lock().await;
        if let Some(damaged) = inner.log.state().damaged.first() {
            tracing::warn!(job = %self.store.job, "orphans are not deleted, because the journal is damaged: {}", damaged.reason);
            return Ok(0);
        }
        let folders = Folders::list(&self.store).await?;
        if let Some(unrecorded) = folders.unrecorded(inner.log.state()).next() {
            let (job, folder) = (&self.store.job, unrecorded.name());
            tracing::warn!(%job, folder, "orphans are not deleted, because the journal has no record of a complete checkpoint");
            return Ok(0);
        }
        let mut needed = BTreeSet::new();
        for info in inner.log.state().checkpoints.values() {
            needed.extend([self.store.manifest_path(info), self.store.completed_path(info)]);
            match self.store.read_header(info).await {
                Ok(header) => needed.extend(
                    header
                        .files
                        .iter()
                        .map(|file| format!("{}/{}", self.store.job, file.path)),
                ),
                Err(error) if error.is_damage() => {
                    tracing::warn!(job = %self.store.job, %error, "orphans are not deleted, because a checkpoint is damaged");
                    return Ok(0);
                }
                Err(error) => return Err(error),
            }
        }
        let mut listed = self
            .store
            .storage
            .list(&format!("{}/checkpoints", self.store.job))
            .await?;
        listed.extend(self.store.storage.list(&self.store.files_folder()).await?);
        let below = |path: &str| path.strip_prefix(&format!("{}/", self.store.job)).map(str::to_string);
        let orphans: Vec<String> = listed
            .iter()
            .filter(|object| !needed.contains(&object.path))
            .filter_map(|object| below(&object.path))
            .collect();
        let count = orphans.len();
        if count > 0 {
            let change = Change::Deleting {
                checkpoints: Vec::new(),
                objects: orphans,
            };
            inner.log.append(vec![change]).await?;
        }
        self.delete_objects(&mut inner).await;
        Ok(count)
    }

    async fn delete_checkpoints(&self, inner: &mut Inner, checkpoints: Vec<u64>) -> Result<RetentionOutcome, Error> {
        if !checkpoints.is_empty() {
            let objects = self.objects_of(inner, &checkpoints).await?;
            let change = Change::Deleting {
                checkpoints: checkpoints.clone(),
                objects,
            };
            inner.log.append(vec![change]).await?;
            for checkpoint in &checkpoints {
                inner.files.remove(checkpoint);
            }
        }
        let objects_deleted = self.delete_objects(inner).await;
        Ok(RetentionOutcome {
            checkpoints_deleted: checkpoints,
            objects_deleted,
        })
    }

    /// Returns the manifests of these checkpoints, and the files that no other checkpoint names.
    async fn objects_of(&self, inner: &mut Inner, deleted: &[u64]) -> Result<Vec<String>, Error> {
        let infos: Vec<CheckpointInfo> = inner.log.state().checkpoints.values().cloned().collect();
        let mut needed = BTreeSet::new();
        let mut candidates = BTreeSet::new();
        let mut objects = Vec::new();
        let mut files_known = true;
        for info in infos {
            let is_deleted = deleted.contains(&info.checkpoint);
            if is_deleted {
                for path in [self.store.manifest_path(&info), self.store.completed_path(&info)] {
                    objects.push(path[self.store.job.len() + 1..].to_string());
                }
            }
            let files = match inner.files.get(&info.checkpoint) {
                Some(files) => files.clone(),
                None => match self.store.read_header(&info).await {
                    Ok(header) => {
                        let files: Vec<String> = header.files.into_iter().map(|file| file.path).collect();
                        inner.files.insert(info.checkpoint, files.clone());
                        files
                    }
                    // Files of a damaged checkpoint that is deleted are left to the sweep. A damaged checkpoint that
                    // remains may need any file, so none is deleted.
                    Err(error) if error.is_damage() => {
                        files_known &= is_deleted;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if is_deleted {
                candidates.extend(files);
            } else {
                needed.extend(files);
            }
        }
        if files_known {
            objects.extend(candidates.into_iter().filter(|file| !needed.contains(file)));
        }
        Ok(objects)
    }

    /// Deletes the objects that the journal has recorded as deleted. Returns their number; failed ones remain recorded.
    async fn delete_objects(&self, inner: &mut Inner) -> usize {
        let objects = std::mem::take(&mut inner.log.state_mut().deleting);
        let results: Vec<(String, Result<(), Error>)> = futures::stream::iter(objects)
            .map(|object| async move {
                let result = self.store.storage.delete(&format!("{}/{object}", self.store.job)).await;
                (object, result)
            })
            .buffer_unordered(REQUESTS_IN_FLIGHT_MAX)
            .collect()
            .await;
        let mut deleted = 0;
        for (object, result) in results {
            match result {
                Ok(()) => deleted += 1,
                Err(error) => {
                    tracing::warn!(job = %self.store.job, %error, "cannot delete an object of a deleted checkpoint; it will be retried");
                    inner.log.state_mut().deleting.push(object);
                }
            }
        }
        deleted
    }
}
