//! The checkpoints of a job: claim, list, select and add them.
//!
//! A run claims the job's checkpoints first; the claim in their journal fences the process that ran the job before. A
//! fresh start and a replay never delete: both add a first checkpoint of their own (an empty one, a copy) with the
//! next number, so that "the latest checkpoint" is the one the user meant; retention removes older ones. A savepoint
//! is a copy, too: another manifest over the same files, retained until it is deleted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use millstream_runtime::subtask_state::SubtaskState;
use millstream_state::checkpoint::{CheckpointInfo, CheckpointStore, Claim, DamagedCheckpoint, VerificationDepth};
use millstream_state::job_files::JobFiles;
use millstream_state::log::Leadership;
use millstream_state::manifest::Manifest;
use parking_lot::Mutex;

use crate::Error;
use crate::clock::now_us;
use crate::fallback::{Policy, SkippedCheckpoint};
use crate::job::Job;
use crate::progress::Progress;
use crate::snapshot::{BODY_VERSION, Snapshot, in_flight_bytes, output_of};

/// The claim on the checkpoints of a job. Cheap to clone.
#[derive(Clone)]
pub struct History {
    inner: Arc<Inner>,
}

struct Inner {
    claim: Claim,
    retain: usize,
    swept: AtomicBool,
    /// Checkpoints that are being read, with the number of readers; retention does not remove them.
    pinned: Mutex<BTreeMap<u64, usize>>,
}

/// A guard that keeps a checkpoint from being removed while it exists.
pub struct Pin {
    inner: Arc<Inner>,
    checkpoint: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut pinned = self.inner.pinned.lock();
        if let Some(count) = pinned.get_mut(&self.checkpoint) {
            *count -= 1;
            if *count == 0 {
                pinned.remove(&self.checkpoint);
            }
        }
    }
}

impl History {
    /// Claims the checkpoints of a job below this URL or folder.
    pub async fn open(storage: &str, name: &str, retain: usize) -> Result<Self, Error> {
        let store = CheckpointStore::open(storage, name).await?;
        Ok(Self::from_claim(store.claim(&owner()).await?, retain))
    }

    /// Claims the checkpoints of a job for the leader of a cluster. Refused as superseded if a later leader has
    /// claimed them.
    pub async fn open_as_leader(leader: Leadership, storage: &str, name: &str, retain: usize) -> Result<Self, Error> {
        let store = CheckpointStore::open(storage, name).await?;
        Ok(Self::from_claim(store.claim_for(&owner(), leader).await?, retain))
    }

    fn from_claim(claim: Claim, retain: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                claim,
                retain,
                swept: AtomicBool::new(false),
                pinned: Mutex::default(),
            }),
        }
    }

    /// Removes files that crashes and failed checkpoints have left, at the first call. No task of the job may run:
    /// files of a checkpoint under way look the same.
    pub async fn sweep_once(&self) -> Result<(), Error> {
        if !self.inner.swept.load(Ordering::Relaxed) {
            self.inner.claim.sweep().await?;
            self.inner.swept.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns the storage of keyed state.
    pub fn files(&self) -> JobFiles {
        self.inner.claim.store().files(self.inner.claim.epoch())
    }

    /// Returns the epoch of the claim.
    pub fn epoch(&self) -> u64 {
        self.inner.claim.epoch()
    }

    /// Returns the number of the next checkpoint.
    pub async fn next_id(&self) -> u64 {
        self.inner.claim.next_checkpoint().await
    }

    /// Returns the latest intact checkpoint, as far as that is known before its state is restored, and reports
    /// damaged ones after it. `unrestorable` have failed to be restored. Refused if a fallback would publish rows
    /// twice ([`Policy`]).
    pub async fn latest(
        &self,
        progress: &Progress,
        unrestorable: &[DamagedCheckpoint],
        policy: &Policy,
    ) -> Result<Option<Snapshot>, Error> {
        let store = self.inner.claim.store();
        let skip: Vec<u64> = unrestorable.iter().map(|damaged| damaged.checkpoint).collect();
        let recovery = store
            .latest::<SubtaskState>(BODY_VERSION, VerificationDepth::Output, &skip)
            .await?;
        let damaged: Vec<&DamagedCheckpoint> = recovery.damaged.iter().chain(unrestorable).collect();
        let Some(manifest) = recovery.manifest else {
            return match damaged.len() {
                0 => Ok(None),
                count => Err(Error::Failed(format!(
                    "none of the {count} checkpoints in {} is intact; repair the storage, or start without state with --fresh",
                    store.url()
                ))),
            };
        };
        let base = manifest.header.checkpoint;
        let mut passed_over = Vec::new();
        // A journal record that cannot be read may be older than the checkpoint found.
        for damaged in damaged.into_iter().filter(|damaged| damaged.checkpoint > base) {
            passed_over.push(SkippedCheckpoint {
                checkpoint: damaged.checkpoint,
                reason: damaged.reason.clone(),
                output: output_of(store, damaged.checkpoint).await?,
            });
        }
        policy.check(base, &passed_over)?;
        for damaged in &recovery.damaged {
            progress.warn(format!(
                "checkpoint {} is damaged and skipped: {}",
                damaged.checkpoint, damaged.reason
            ));
        }
        self.read(manifest).await.map(Some)
    }

    async fn read(&self, manifest: Manifest<SubtaskState>) -> Result<Snapshot, Error> {
        read(self.inner.claim.store(), manifest).await
    }

    /// Records that the output of all checkpoints up to this one is published.
    pub async fn record_published(&self, checkpoint: u64) -> Result<(), Error> {
        Ok(self.inner.claim.record_published(checkpoint).await?)
    }

    /// Returns the latest checkpoint for running tasks, which restore nothing of it. The inner error names the
    /// damage; running tasks cannot continue from an older one.
    pub async fn latest_for_running_tasks(&self) -> Result<Result<Option<Snapshot>, String>, Error> {
        let store = self.inner.claim.store();
        let recovery = store
            .latest::<SubtaskState>(BODY_VERSION, VerificationDepth::Lengths, &[])
            .await?;
        Ok(match recovery.damaged.first() {
            Some(damaged) => Err(format!(
                "checkpoint {} is damaged: {}",
                damaged.checkpoint, damaged.reason
            )),
            None => Ok(match recovery.manifest {
                Some(manifest) => Some(self.read(manifest).await?),
                None => None,
            }),
        })
    }

    /// Loads and verifies a checkpoint.
    pub async fn load(&self, checkpoint: u64) -> Result<Snapshot, Error> {
        let store = self.inner.claim.store();
        let manifest = store
            .load::<SubtaskState>(checkpoint, BODY_VERSION, VerificationDepth::Contents)
            .await?;
        self.read(manifest).await
    }

    /// Adds an empty checkpoint as the latest, if there are any checkpoints.
    pub async fn start_fresh(&self, job: &Job, progress: &Progress) -> Result<(), Error> {
        let checkpoints = self.inner.claim.checkpoints().await;
        let Some(latest) = checkpoints.last() else {
            return Ok(());
        };
        let mut snapshot = Snapshot::empty(job, self.next_id().await);
        snapshot.origin = Some("fresh".into());
        self.save(&snapshot).await?;
        progress.info(format!(
            "starting anew; checkpoint {} stays for now (--from-checkpoint {})",
            latest.checkpoint, latest.checkpoint
        ));
        Ok(())
    }

    /// Adds a copy of a loaded checkpoint as the latest, unless it is the latest.
    pub async fn replay(&self, mut snapshot: Snapshot) -> Result<Snapshot, Error> {
        let checkpoint = snapshot.checkpoint;
        let latest = self.inner.claim.checkpoints().await.last().map(|info| info.checkpoint);
        if latest != Some(checkpoint) {
            snapshot.origin = Some(format!("checkpoint {checkpoint}"));
            snapshot.checkpoint = self.next_id().await;
            self.save(&snapshot).await?;
        }
        Ok(snapshot)
    }

    /// Writes a checkpoint, which exists when this returns.
    pub async fn save(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let now_ms = now_us() / 1_000;
        let claim = &self.inner.claim;
        let mut manifest = snapshot.to_manifest(claim.epoch(), now_ms);
        if manifest.header.savepoint.is_some() {
            // A put whose answer was lost may have created the savepoint, and names are unique.
            claim.resolve_uncertain_append().await?;
            let made = |info: &CheckpointInfo| info.savepoint == manifest.header.savepoint;
            if self.checkpoints().await.iter().any(made) {
                manifest.header.savepoint = None;
            }
        }
        claim.commit(manifest).await?;
        Ok(())
    }

    /// Removes checkpoints that exceed retention.
    pub async fn apply_retention(&self) -> Result<(), Error> {
        let pinned: Vec<u64> = self.inner.pinned.lock().keys().copied().collect();
        self.inner.claim.retain(self.inner.retain, &pinned).await?;
        Ok(())
    }

    /// Keeps a checkpoint from being removed.
    pub fn pin(&self, checkpoint: u64) -> Pin {
        *self.inner.pinned.lock().entry(checkpoint).or_default() += 1;
        Pin {
            inner: Arc::clone(&self.inner),
            checkpoint,
        }
    }

    /// Returns all complete checkpoints, oldest first.
    pub async fn checkpoints(&self) -> Vec<CheckpointInfo> {
        self.inner.claim.checkpoints().await
    }

    /// Creates a savepoint from the latest checkpoint of a job that does not run, and returns its number. If the
    /// latest checkpoint is a savepoint of this name, it is returned: an earlier call whose answer was lost has
    /// created it.
    pub async fn create_savepoint(&self, name: &str) -> Result<u64, Error> {
        let checkpoints = self.checkpoints().await;
        if let Some(taken) = checkpoints.iter().find(|info| info.savepoint.as_deref() == Some(name)) {
            if checkpoints.last() == Some(taken) {
                return Ok(taken.checkpoint);
            }
            return Err(Error::Invalid(format!(
                "there is a savepoint `{name}` already, {}; choose another name, or delete that one first",
                taken.checkpoint
            )));
        }
        let Some(checkpoint) = checkpoints.last().map(|info| info.checkpoint) else {
            return Err(Error::Invalid(
                "there is no checkpoint yet that a savepoint could be made of".into(),
            ));
        };
        let mut snapshot = self.load(checkpoint).await?;
        snapshot.savepoint = Some(name.to_string());
        snapshot.origin = Some(format!("checkpoint {checkpoint}"));
        snapshot.checkpoint = self.next_id().await;
        self.save(&snapshot).await?;
        Ok(snapshot.checkpoint)
    }

    /// Creates a savepoint of a job that has no checkpoint, with empty state, and returns its number.
    pub async fn create_empty_savepoint(&self, job: &Job, name: &str) -> Result<u64, Error> {
        let mut snapshot = Snapshot::empty(job, self.next_id().await);
        snapshot.savepoint = Some(name.to_string());
        snapshot.origin = Some("fresh".into());
        self.save(&snapshot).await?;
        Ok(snapshot.checkpoint)
    }

    /// Removes a savepoint. Returns false if there is none of this name.
    pub async fn delete_savepoint(&self, name: &str) -> Result<bool, Error> {
        let checkpoints = self.checkpoints().await;
        let found = checkpoints.iter().find(|info| info.savepoint.as_deref() == Some(name));
        let Some(found) = found else { return Ok(false) };
        self.inner.claim.delete(found.checkpoint).await?;
        Ok(true)
    }

    /// Removes a checkpoint. The inner error is the reason to retain it.
    pub async fn delete(&self, checkpoint: u64) -> Result<Result<(), DeleteRefusal>, Error> {
        let pinned: Vec<u64> = self.inner.pinned.lock().keys().copied().collect();
        match delete_refusal(&self.checkpoints().await, &pinned, checkpoint) {
            Some(kept) => Ok(Err(kept)),
            None => {
                self.inner.claim.delete(checkpoint).await?;
                Ok(Ok(()))
            }
        }
    }

    /// Removes all checkpoints but savepoints.
    pub async fn clear(&self) -> Result<(), Error> {
        for info in self.checkpoints().await {
            if info.savepoint.is_none() {
                self.inner.claim.delete(info.checkpoint).await?;
            }
        }
        Ok(())
    }

    /// Adds a copy of another job's checkpoint as the latest, with its files. Its output is included: the other job
    /// may have ended before that was published, and publishing again changes nothing.
    pub async fn adopt(&self, origin: &CheckpointStore, mut snapshot: Snapshot) -> Result<u64, Error> {
        self.inner.claim.store().copy_files(origin, &snapshot.files()).await?;
        snapshot.origin = Some(format!("{}/{}", origin.job(), snapshot.checkpoint));
        snapshot.savepoint = None;
        snapshot.checkpoint = self.next_id().await;
        self.save(&snapshot).await?;
        Ok(snapshot.checkpoint)
    }
}

/// Returns the owner of a claim, for people who read it.
fn owner() -> String {
    format!("process {}", std::process::id())
}

/// Returns the checkpoint of a manifest, without output that is known to be published.
pub(crate) async fn read(store: &CheckpointStore, manifest: Manifest<SubtaskState>) -> Result<Snapshot, Error> {
    let snapshot = Snapshot::from_manifest(manifest);
    Ok(match snapshot.checkpoint <= store.published_to().await? {
        true => snapshot.without_output(),
        false => snapshot,
    })
}

/// The reason why a checkpoint is not removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeleteRefusal {
    /// The job would resume from it.
    Newest,
    /// It is the savepoint of this name.
    Savepoint(String),
    /// It is being copied for another job.
    Read,
}

/// Returns the reason to retain a checkpoint; `None`: it may be removed. `infos` are in the order of their numbers.
fn delete_refusal(infos: &[CheckpointInfo], pinned: &[u64], checkpoint: u64) -> Option<DeleteRefusal> {
    let newest = infos.last();
    // The checkpoint to resume from once later savepoints are deleted.
    let newest_plain = infos.iter().rfind(|info| info.savepoint.is_none());
    if [newest, newest_plain]
        .into_iter()
        .flatten()
        .any(|info| info.checkpoint == checkpoint)
    {
        return Some(DeleteRefusal::Newest);
    }
    let info = infos.iter().find(|info| info.checkpoint == checkpoint);
    if let Some(name) = info.and_then(|info| info.savepoint.clone()) {
        return Some(DeleteRefusal::Savepoint(name));
    }
    pinned.contains(&checkpoint).then_some(DeleteRefusal::Read)
}

/// A checkpoint in a list for people.
#[derive(Debug)]
pub struct CheckpointSummary {
    /// Its number.
    pub id: u64,
    /// Microseconds since the epoch, UTC.
    pub taken_us: i64,
    /// Bytes of keyed state.
    pub state_bytes: u64,
    /// The name of a savepoint.
    pub savepoint: Option<String>,
    /// The content of its manifest, or the damage.
    pub detail: Result<Detail, String>,
}

/// The content of a manifest.
#[derive(Debug)]
pub struct Detail {
    /// Subtasks per operator.
    pub parallelism: usize,
    /// True if all input had been processed.
    pub finished: bool,
    /// The origin of a copy.
    pub origin: Option<String>,
    /// Milliseconds from the trigger to the last acknowledgement.
    pub took_ms: Option<u64>,
    /// Bytes of rows that barriers have overtaken.
    pub in_flight_bytes: u64,
}

/// Lists the complete checkpoints of a job below this URL or folder, newest first. Changes nothing.
pub async fn list(name: &str, storage: &str) -> Result<Vec<CheckpointSummary>, Error> {
    list_in(&CheckpointStore::open(storage, name).await?).await
}

/// Lists the complete checkpoints of a job, newest first.
pub(crate) async fn list_in(store: &CheckpointStore) -> Result<Vec<CheckpointSummary>, Error> {
    let mut listed = Vec::new();
    for info in store.list().await?.into_iter().rev() {
        let detail = store
            .load::<SubtaskState>(info.checkpoint, BODY_VERSION, VerificationDepth::Lengths)
            .await;
        listed.push(CheckpointSummary {
            id: info.checkpoint,
            taken_us: info.created_ms * 1000,
            state_bytes: info.state_bytes,
            savepoint: info.savepoint,
            detail: detail.map_err(|error| error.to_string()).map(|manifest| {
                let snapshot = Snapshot::from_manifest(manifest);
                Detail {
                    in_flight_bytes: in_flight_bytes(snapshot.operators.values().flatten()),
                    parallelism: snapshot.parallelism,
                    finished: snapshot.finished,
                    origin: snapshot.origin,
                    took_ms: snapshot.took_ms,
                }
            }),
        });
    }
    Ok(listed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(checkpoint: u64, savepoint: Option<&str>) -> Snapshot {
        Snapshot {
            pipeline: None,
            output_pipeline: None,
            checkpoint,
            finished: false,
            origin: None,
            savepoint: savepoint.map(String::from),
            took_ms: None,
            parallelism: 1,
            max_parallelism: 128,
            fingerprint: "f".into(),
            operators: BTreeMap::new(),
            entries: BTreeMap::new(),
            signatures: BTreeMap::new(),
        }
    }

    #[tokio::test]
    async fn a_savepoint_that_was_made_is_not_made_again_and_no_name_is_given_twice() {
        let folder = tempfile::tempdir().unwrap();
        let storage = folder.path().display().to_string();
        let history = History::open(&storage, "job", 3).await.unwrap();
        history.save(&snapshot(1, None)).await.unwrap();
        assert_eq!(history.create_savepoint("s").await.unwrap(), 2);
        // As if the answer of the first call was lost.
        let history = History::open(&storage, "job", 3).await.unwrap();
        assert_eq!(history.create_savepoint("s").await.unwrap(), 2);
        history.save(&snapshot(3, Some("s"))).await.unwrap();
        let named = |info: &CheckpointInfo| info.savepoint.is_some();
        assert_eq!(history.checkpoints().await.iter().filter(|info| named(info)).count(), 1);
        let error = history.create_savepoint("s").await.unwrap_err().to_string();
        assert!(error.contains("there is a savepoint `s` already, 2"), "{error}");
    }

    #[test]
    fn checkpoints_in_use_are_retained() {
        let info = |checkpoint, savepoint: Option<&str>| CheckpointInfo {
            checkpoint,
            epoch: 1,
            attempt: 1,
            created_ms: 0,
            savepoint: savepoint.map(String::from),
            length: 0,
            crc32: 0,
            state_bytes: 0,
        };
        let infos = [
            info(1, None),
            info(2, None),
            info(3, Some("kept")),
            info(4, None),
            info(5, Some("last")),
        ];
        #[track_caller]
        fn check(infos: &[CheckpointInfo], checkpoint: u64, expected: Option<DeleteRefusal>) {
            assert_eq!(delete_refusal(infos, &[2], checkpoint), expected);
        }
        check(&infos, 1, None);
        check(&infos, 2, Some(DeleteRefusal::Read));
        check(&infos, 3, Some(DeleteRefusal::Savepoint("kept".into())));
        check(&infos, 4, Some(DeleteRefusal::Newest));
        check(&infos, 5, Some(DeleteRefusal::Newest));
        check(&infos[..1], 1, Some(DeleteRefusal::Newest));
    }
}
