//! The checkpoints of a job: which there are, which one a run begins with, and how one is added.
//!
//! A run claims the job first: the claim in the checkpoints' journal fences whoever ran it before. Starting anew and replaying never delete: both add a first checkpoint
//! of their own (an empty one, a copy) with the next number, so that whatever happens then, "the latest checkpoint"
//! is the one the user meant; older ones go by retention.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use millstream_runtime::job::SubtaskState;
use millstream_state::checkpoint::{CheckpointStore, Claim, Depth, JobFiles};

use crate::Error;
use crate::job::Job;
use crate::manifest::{BODY_VERSION, Snapshot};
use crate::progress::Progress;

/// The right to run a job, and its checkpoints. Cheap to clone.
#[derive(Clone)]
pub struct History {
    inner: Arc<Inner>,
}

struct Inner {
    claim: Claim,
    retain: usize,
}

impl History {
    /// Claims the job's checkpoints.
    pub async fn open(job: &Job) -> Result<Self, Error> {
        let store = CheckpointStore::open(&job.checkpoint_storage, &job.graph.name).await?;
        let claim = store.claim(&format!("process {}", std::process::id())).await?;
        claim.sweep().await?;
        Ok(Self {
            inner: Arc::new(Inner {
                claim,
                retain: job.retain,
            }),
        })
    }

    /// Where keyed state keeps its files.
    pub fn files(&self) -> JobFiles {
        self.inner.claim.store().files(self.inner.claim.epoch())
    }

    /// The claim that fences all before it.
    pub fn epoch(&self) -> u64 {
        self.inner.claim.epoch()
    }

    pub async fn next_id(&self) -> u64 {
        self.inner.claim.next_checkpoint().await
    }

    /// The latest checkpoint that is whole; damaged ones before it are said.
    pub async fn latest(&self, progress: &Progress) -> Result<Option<Snapshot>, Error> {
        let store = self.inner.claim.store();
        let recovery = store.latest::<SubtaskState>(BODY_VERSION, Depth::Contents, &[]).await?;
        for damaged in &recovery.damaged {
            progress.warn(format!(
                "checkpoint {} is damaged and passed over: {}",
                damaged.checkpoint, damaged.reason
            ));
        }
        if recovery.manifest.is_none() && !recovery.damaged.is_empty() {
            return Err(Error::Failed(format!(
                "none of the {} checkpoints in {} is whole; repair the storage, or start anew with --fresh",
                recovery.damaged.len(),
                store.url()
            )));
        }
        Ok(recovery.manifest.map(Snapshot::of_manifest))
    }

    pub async fn load(&self, checkpoint: u64) -> Result<Snapshot, Error> {
        let store = self.inner.claim.store();
        Ok(Snapshot::of_manifest(
            store
                .load::<SubtaskState>(checkpoint, BODY_VERSION, Depth::Contents)
                .await?,
        ))
    }

    /// Makes nothing the latest checkpoint, if there is one at all.
    pub async fn start_anew(&self, job: &Job, progress: &Progress) -> Result<(), Error> {
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

    /// Makes a copy of this checkpoint the latest, unless it is.
    pub async fn replay(&self, checkpoint: u64) -> Result<Snapshot, Error> {
        let mut snapshot = self.load(checkpoint).await?;
        let latest = self.inner.claim.checkpoints().await.last().map(|info| info.checkpoint);
        if latest != Some(checkpoint) {
            snapshot.origin = Some(format!("checkpoint {checkpoint}"));
            snapshot.checkpoint = self.next_id().await;
            self.save(&snapshot).await?;
        }
        Ok(snapshot)
    }

    /// Writes a checkpoint; when this returns, it exists.
    pub async fn save(&self, snapshot: &Snapshot) -> Result<(), Error> {
        let now_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as i64);
        let claim = &self.inner.claim;
        claim.commit(snapshot.to_manifest(claim.epoch(), now_ms)).await?;
        Ok(())
    }

    /// Removes what retention no longer keeps.
    pub async fn retire(&self) -> Result<(), Error> {
        self.inner.claim.retain(self.inner.retain, &[]).await?;
        Ok(())
    }
}

/// A checkpoint, for a person.
#[derive(Debug)]
pub struct Listed {
    pub id: u64,
    /// Microseconds since the epoch, UTC.
    pub taken_us: i64,
    pub state_bytes: u64,
    /// `Err`: what is damaged.
    pub detail: Result<Detail, String>,
}

#[derive(Debug)]
pub struct Detail {
    pub parallelism: usize,
    pub finished: bool,
    pub origin: Option<String>,
}

/// The complete checkpoints of a job below this URL or folder, newest first. Changes nothing.
pub async fn list(name: &str, storage: &str) -> Result<Vec<Listed>, Error> {
    let store = CheckpointStore::open(storage, name).await?;
    let mut listed = Vec::new();
    for info in store.list().await?.into_iter().rev() {
        let detail = store
            .load::<SubtaskState>(info.checkpoint, BODY_VERSION, Depth::Lengths)
            .await;
        listed.push(Listed {
            id: info.checkpoint,
            taken_us: info.created_ms * 1000,
            state_bytes: info.state_bytes,
            detail: detail.map_err(|error| error.to_string()).map(|manifest| {
                let snapshot = Snapshot::of_manifest(manifest);
                Detail {
                    parallelism: snapshot.parallelism,
                    finished: snapshot.finished,
                    origin: snapshot.origin,
                }
            }),
        });
    }
    Ok(listed)
}
