//! The right to change a job's checkpoints: an epoch in its journal.
//!
//! Everything that changes what exists is here: completing checkpoints, retention, deletion, the sweep. Each change is
//! one journal record, put where only the holder of the epoch writes, and acted upon only after a look at whether a
//! later epoch has been claimed meanwhile.

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

/// The right to change a job's checkpoints, until somebody claims the next epoch.
#[derive(Debug)]
pub struct Claim {
    store: CheckpointStore,
    epoch: u64,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    log: Writer<State>,
    /// The files of complete checkpoints, as far as they were needed.
    files: BTreeMap<u64, Vec<String>>,
    /// The highest number that was tried: one that seemed to fail may count after all, or have left its manifest.
    tried_max: u64,
}

/// What [`Claim::retain`] did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RetentionOutcome {
    pub checkpoints_deleted: Vec<u64>,
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
            written: Mutex::new(Written {
                log,
                files: BTreeMap::new(),
                tried_max: 0,
            }),
            store,
        })
    }

    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    pub fn store(&self) -> &CheckpointStore {
        &self.store
    }

    /// Finds out whether a record counts whose put has failed or was not waited for.
    pub async fn resolve_uncertain_append(&self) -> Result<(), Error> {
        let log = &mut self.written.lock().await.log;
        if log.is_uncertain() {
            log.append(Vec::new()).await?;
        }
        Ok(())
    }

    /// The number the next checkpoint should have: above every number ever completed, or tried under this claim.
    pub async fn next_checkpoint(&self) -> u64 {
        let written = self.written.lock().await;
        written.log.state().checkpoint_max.max(written.tried_max) + 1
    }

    /// All complete checkpoints, oldest first.
    pub async fn checkpoints(&self) -> Vec<CheckpointInfo> {
        self.written
            .lock()
            .await
            .log
            .state()
            .checkpoints
            .values()
            .cloned()
            .collect()
    }

    /// Writes the manifest and then the record that makes the checkpoint exist. Sets the header's job and epoch.
    /// When this returns Ok, and only then, sinks may publish. [`Error::Superseded`] means: stop, change nothing more.
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
        let mut written = self.written.lock().await;
        if written.log.state().checkpoints.contains_key(&info.checkpoint) {
            return Err(Error::Invalid(format!(
                "{} already has a checkpoint {}",
                self.store.url(),
                info.checkpoint
            )));
        }
        written.tried_max = written.tried_max.max(info.checkpoint);
        let path = self.store.manifest_path(&info);
        let is_new = self.store.storage.put_if_absent(&path, bytes.clone()).await?;
        // The same bytes from an earlier try whose answer was lost are as good as ours.
        if !is_new && self.store.storage.read(&path).await? != bytes {
            return Err(Error::Invalid(format!(
                "{}/{path} was written by an earlier attempt, whose checkpoint may count: the next one has another number",
                self.store.storage.url()
            )));
        }
        fail_point::reach("manifest");
        written.log.append(vec![Change::Completed(info.clone())]).await?;
        self.note_completed(&info).await;
        let files = manifest.header.files.into_iter().map(|file| file.path).collect();
        written.files.insert(info.checkpoint, files);
        Ok(info)
    }

    /// Records that the output of all checkpoints up to this one is published.
    pub async fn record_published(&self, checkpoint: u64) -> Result<(), Error> {
        let mut written = self.written.lock().await;
        if written.log.state().published_to < checkpoint {
            written.log.append(vec![Change::Published { checkpoint }]).await?;
        }
        Ok(())
    }

    /// Tells whoever claims the journal next that it had the record of this checkpoint. Without that the checkpoint
    /// is as good; only the loss of its record would not be noticed.
    async fn note_completed(&self, info: &CheckpointInfo) {
        let path = self.store.completed_path(info);
        let noted = match serde_json::to_vec(info) {
            Ok(content) => self
                .store
                .storage
                .put_if_absent(&path, content.into())
                .await
                .map(|_| ()),
            Err(error) => Err(Error::Invalid(error.to_string())),
        };
        if let Err(error) = noted {
            tracing::warn!(job = %self.store.job, %error, "the loss of a journal record would not be noticed");
        }
    }

    /// Deletes all but the newest `keep` checkpoints, never savepoints nor those in `pinned`, and the files that no
    /// remaining one names. The decision is journalled before anything is deleted; what cannot be deleted now is tried
    /// again at the next call.
    pub async fn retain(&self, keep: usize, pinned: &[u64]) -> Result<RetentionOutcome, Error> {
        let mut written = self.written.lock().await;
        let plain = written
            .log
            .state()
            .checkpoints
            .values()
            .filter(|info| info.savepoint.is_none());
        let newest_first: Vec<u64> = plain.map(|info| info.checkpoint).rev().collect();
        let doomed: Vec<u64> = newest_first
            .into_iter()
            .skip(keep.max(1))
            .filter(|checkpoint| !pinned.contains(checkpoint))
            .collect();
        self.delete_checkpoints(&mut written, doomed).await
    }

    /// Deletes one checkpoint or savepoint.
    pub async fn delete(&self, checkpoint: u64) -> Result<RetentionOutcome, Error> {
        let mut written = self.written.lock().await;
        if !written.log.state().checkpoints.contains_key(&checkpoint) {
            return Err(Error::NotFound(format!(
                "{} has no complete checkpoint {checkpoint}",
                self.store.url()
            )));
        }
        self.delete_checkpoints(&mut written, vec![checkpoint]).await
    }

    /// Deletes manifests and files that no complete checkpoint names: what crashes and failed checkpoints left.
    /// To be called after the claim and before any task of it runs, since files of a checkpoint under way look the
    /// same.
    pub async fn sweep(&self) -> Result<usize, Error> {
        let mut written = self.written.lock().await;
        if let Some(damaged) = written.log.state().damaged.first() {
            tracing::warn!(job = %self.store.job, "nothing is swept beside a damaged journal: {}", damaged.reason);
            return Ok(0);
        }
        let folders = Folders::list(&self.store).await?;
        if let Some(hidden) = folders.hidden(written.log.state()).next() {
            let (job, folder) = (&self.store.job, hidden.name());
            tracing::warn!(%job, folder, "nothing is swept beside a complete checkpoint that the journal does not name");
            return Ok(0);
        }
        let mut kept = BTreeSet::new();
        for info in written.log.state().checkpoints.values() {
            kept.extend([self.store.manifest_path(info), self.store.completed_path(info)]);
            match self.store.read_header(info).await {
                Ok(header) => kept.extend(
                    header
                        .files
                        .iter()
                        .map(|file| format!("{}/{}", self.store.job, file.path)),
                ),
                Err(error) if error.is_damage() => {
                    tracing::warn!(job = %self.store.job, %error, "nothing is swept beside a damaged checkpoint");
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
            .filter(|object| !kept.contains(&object.path))
            .filter_map(|object| below(&object.path))
            .collect();
        let count = orphans.len();
        if count > 0 {
            let change = Change::Deleting {
                checkpoints: Vec::new(),
                objects: orphans,
            };
            written.log.append(vec![change]).await?;
        }
        self.delete_objects(&mut written).await;
        Ok(count)
    }

    async fn delete_checkpoints(&self, written: &mut Written, doomed: Vec<u64>) -> Result<RetentionOutcome, Error> {
        if !doomed.is_empty() {
            let objects = self.objects_of(written, &doomed).await?;
            let change = Change::Deleting {
                checkpoints: doomed.clone(),
                objects,
            };
            written.log.append(vec![change]).await?;
            for checkpoint in &doomed {
                written.files.remove(checkpoint);
            }
        }
        let objects_deleted = self.delete_objects(written).await;
        Ok(RetentionOutcome {
            checkpoints_deleted: doomed,
            objects_deleted,
        })
    }

    /// The manifests of these checkpoints, and the files that only they name.
    async fn objects_of(&self, written: &mut Written, doomed: &[u64]) -> Result<Vec<String>, Error> {
        let infos: Vec<CheckpointInfo> = written.log.state().checkpoints.values().cloned().collect();
        let mut kept = BTreeSet::new();
        let mut candidates = BTreeSet::new();
        let mut objects = Vec::new();
        let mut files_known = true;
        for info in infos {
            let is_doomed = doomed.contains(&info.checkpoint);
            if is_doomed {
                for path in [self.store.manifest_path(&info), self.store.completed_path(&info)] {
                    objects.push(path[self.store.job.len() + 1..].to_string());
                }
            }
            let files = match written.files.get(&info.checkpoint) {
                Some(files) => files.clone(),
                None => match self.store.read_header(&info).await {
                    Ok(header) => {
                        let files: Vec<String> = header.files.into_iter().map(|file| file.path).collect();
                        written.files.insert(info.checkpoint, files.clone());
                        files
                    }
                    // A damaged one that goes: the sweep finds its files. One that stays may need any of them.
                    Err(error) if error.is_damage() => {
                        files_known &= is_doomed;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            if is_doomed {
                candidates.extend(files);
            } else {
                kept.extend(files);
            }
        }
        if files_known {
            objects.extend(candidates.into_iter().filter(|file| !kept.contains(file)));
        }
        Ok(objects)
    }

    /// Deletes what was journalled; what fails stays for the next time.
    async fn delete_objects(&self, written: &mut Written) -> usize {
        let objects = std::mem::take(&mut written.log.state_mut().deleting);
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
                    tracing::warn!(job = %self.store.job, %error, "will try to delete it again");
                    written.log.state_mut().deleting.push(object);
                }
            }
        }
        deleted
    }
}
