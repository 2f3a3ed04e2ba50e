//! Keyed state: one RocksDB per stateful subtask, opened on the first write, behind an ordered queue of background
//! work.
//!
//! Everything that changes the database (flushes, range deletions, snapshots) is queued, and carried out in order on
//! the backend's own threads. So a snapshot contains exactly what was queued before it, and the slot thread never waits
//! for a disk. The caller reads directly, in bounded pieces, once the queue is empty ([`Store::poll_idle`]).
//!
//! Rows of keyed collections ([`crate::keyed`]) are in a column family of their own and are read by key, on threads
//! that do nothing else ([`Store::read`]). The layouts of keys are described in `store/key.rs`; values start with a
//! version byte.

mod backend;
mod chunk;
mod database;
mod key;
mod local_recovery;
mod queue;
mod read;
mod restore;
mod snapshot;

use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::job_files::FileReference;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::{Error, threads};

use backend::Shared;
pub use backend::{Backend, BackendOptions};
pub use chunk::{FlushSource, WriteChunk};
use database::Database;
use key::KeyRange;
pub use key::{KeyPrefix, KeyedPrefix};
pub use queue::REPORT_INTERVAL;
use queue::{Job, Queue};
use read::ReadJob;
pub use read::{
    CollectionRead, KeyedPosition, PendingRead, PrefixRead, RowFilter, ScannedRows, StoreKeys, StoredRows,
    StoredValues, key_after_prefix,
};

/// The keyed state of one subtask. Dropping it deletes its database; queued work that has not begun is discarded.
pub struct Store {
    inner: Arc<StoreInner>,
    snapshots_queued: u64,
    /// True if a write or deletion was queued since the last snapshot.
    is_changed: bool,
    /// True if a write was queued.
    has_rows: bool,
}

pub(crate) struct StoreInner {
    name: String,
    range: KeyGroupRange,
    folder: PathBuf,
    shared: Arc<Shared>,
    database: OnceLock<Database>,
    /// Held while the database is being opened.
    opening: Mutex<()>,
    queue: Queue,
    uploaded: tokio::sync::Mutex<snapshot::UploadedFiles>,
    /// The newest complete snapshot, and its number in [`Store::snapshots_queued`].
    latest: Mutex<Option<(u64, KeyedSnapshot)>>,
}

impl Store {
    /// Returns the key groups that the subtask owns.
    pub fn range(&self) -> KeyGroupRange {
        self.inner.range
    }

    /// Queues a flush. `done` is woken when the rows have been written, or when that has failed, which
    /// [`Store::poll_idle`] then reports.
    pub fn write(&mut self, source: Box<dyn FlushSource>, done: Option<Waker>) -> Result<(), Error> {
        self.is_changed = true;
        self.has_rows = true;
        self.push(Job::Write { source, done })
    }

    /// Queues the deletion of a namespace in the given key groups. Key groups that were never written may be left out.
    pub fn delete_namespace(&mut self, namespace: i64, groups: &[KeyGroup]) -> Result<(), Error> {
        self.delete_namespaces(namespace, namespace, groups)
    }

    /// Queues the deletion of all namespaces from `first` to `last` (inclusive) in the given key groups. One range
    /// costs as much as one namespace, so namespaces that expire together should be deleted together.
    pub fn delete_namespaces(&mut self, first: i64, last: i64, groups: &[KeyGroup]) -> Result<(), Error> {
        debug_assert!(
            first <= last,
            "the first namespace to delete, {first}, is after the last, {last}"
        );
        debug_assert!(
            groups.iter().all(|group| self.inner.range.contains(*group)),
            "state store {} of key groups {:?} deletes from {groups:?}",
            self.inner.name,
            self.inner.range
        );
        if groups.is_empty() {
            return Ok(());
        }
        self.is_changed = true;
        let prefix = |group: &KeyGroup, namespace: i64| KeyPrefix {
            group: *group,
            namespace,
        };
        let ranges = groups
            .iter()
            .map(|group| KeyRange::panes(prefix(group, first), prefix(group, last)));
        self.push(Job::Delete(ranges.collect()))
    }

    /// Queues the deletion of all rows of some keyed collections that are of one of these generations.
    pub fn delete_generations(
        &mut self,
        collections: impl Iterator<Item = u8>,
        generations: Range<u32>,
    ) -> Result<(), Error> {
        if !self.may_have_rows() || generations.is_empty() {
            return Ok(());
        }
        self.is_changed = true;
        let groups = self.inner.range.start..self.inner.range.end;
        let (first, end) = (generations.start, generations.end);
        let ranges = collections.flat_map(|collection| {
            let groups = groups.clone().map(KeyGroup);
            groups.map(move |group| KeyRange::generations(group, collection, first..end))
        });
        let ranges = ranges.collect();
        self.push(Job::Delete(ranges))
    }

    /// Queues a snapshot, which contains everything queued before it and nothing queued later. Returns the previous
    /// snapshot if nothing was queued since. The ticket must be awaited on a tokio runtime.
    pub fn snapshot(&mut self, checkpoint: u64) -> Result<SnapshotTicket, Error> {
        if !self.is_changed
            && let Some((number, latest)) = &*self.inner.latest.lock()
            && *number == self.snapshots_queued
        {
            let latest = latest.clone();
            return Ok(SnapshotTicket {
                finished: Box::pin(async move { Ok(latest) }),
            });
        }
        self.is_changed = false;
        self.snapshots_queued += 1;
        let number = self.snapshots_queued;
        let (reply, local) = oneshot::channel();
        let folder = self.inner.folder.join(format!("snapshot-{checkpoint}-{number}"));
        self.push(Job::Snapshot { folder, reply })?;
        let store = Arc::clone(&self.inner);
        let finished = async move {
            let local = local.await.unwrap_or_else(|_| {
                Err(Error::Background(format!(
                    "state store {} was closed before its snapshot",
                    store.name
                )))
            })?;
            let uploaded = snapshot::upload(&store, local).await?;
            *store.latest.lock() = Some((number, uploaded.clone()));
            Ok(uploaded)
        };
        Ok(SnapshotTicket {
            finished: Box::pin(finished),
        })
    }

    /// Returns true if everything queued so far has been carried out. Otherwise wakes `waker` when it has.
    ///
    /// # Errors
    ///
    /// The failure of a queued write or deletion is returned by this and every later call.
    pub fn poll_idle(&mut self, waker: &Waker) -> Result<bool, Error> {
        self.inner.queue.poll_idle(waker)
    }

    /// Calls `visit(key, value)` for rows of one prefix in key order: at most `rows_max` of them and about a megabyte,
    /// beginning after the key `after` if given. Returns true if more rows may follow. The queue must be empty
    /// ([`Store::poll_idle`]).
    pub fn scan(
        &self,
        prefix: KeyPrefix,
        after: Option<&[u8]>,
        rows_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Error> {
        match self.inner.opened() {
            Some(database) => self.inner.note_damage(database.scan(prefix, after, rows_max, visit)),
            None => Ok(false),
        }
    }

    /// Returns the values of many keys, in the order of `keys`; `None` for those without a row. The keys are sorted and
    /// read in batches. The queue must be empty ([`Store::poll_idle`]).
    pub fn get_many(&self, keys: &[(KeyPrefix, &[u8])]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        match self.inner.opened() {
            Some(database) => self.inner.note_damage(database.get_many(keys)),
            None => Ok(vec![None; keys.len()]),
        }
    }

    /// Returns true if the store may have rows: something was written to it or restored.
    pub fn may_have_rows(&self) -> bool {
        self.has_rows || self.inner.opened().is_some()
    }

    /// Begins to read rows of keyed collections by key. Rows whose write is still queued may be missing. The waker is
    /// called when the read is complete.
    pub fn read(&self, keys: StoreKeys, waker: &Waker) -> Result<PendingRead, Error> {
        let (job, pending) = ReadJob::keys(&self.inner, keys, waker.clone());
        self.send_read(job)?;
        Ok(pending)
    }

    /// Begins to read the first rows of key prefixes. Rows whose write is still queued may be missing. The waker is
    /// called when the read is complete.
    pub fn read_prefixes(&self, read: PrefixRead, waker: &Waker) -> Result<PendingRead<Vec<StoredRows>>, Error> {
        let (job, pending) = ReadJob::prefixes(&self.inner, read, waker.clone());
        self.send_read(job)?;
        Ok(pending)
    }

    /// Begins to read rows of a collection in the order of their database keys. Rows whose write is still queued may be
    /// missing. The waker is called when the read is complete.
    pub fn read_collection(&self, read: CollectionRead, waker: &Waker) -> Result<PendingRead<ScannedRows>, Error> {
        let (job, pending) = ReadJob::collection(&self.inner, read, waker.clone());
        self.send_read(job)?;
        Ok(pending)
    }

    fn send_read(&self, job: ReadJob) -> Result<(), Error> {
        let Some(scheduler) = threads::scheduler() else {
            let sent = self.inner.shared.data_folder.reads.send(job);
            return sent.map_err(|_| self.inner.threads_ended());
        };
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| self.inner.threads_ended())?;
        runtime.spawn(async move {
            scheduler(threads::WorkKind::State).await;
            job.run();
        });
        Ok(())
    }

    /// Returns the key groups and namespaces that have rows, in ascending order. Restores use it.
    pub fn namespaces(&self) -> Result<Vec<KeyPrefix>, Error> {
        match self.inner.opened() {
            Some(database) => self.inner.note_damage(database.prefixes()),
            None => Ok(Vec::new()),
        }
    }

    fn push(&self, job: Job) -> Result<(), Error> {
        if self.inner.queue.push(job)? && !self.inner.schedule() {
            return Err(self.inner.threads_ended());
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.queue.clear();
    }
}

impl StoreInner {
    /// Returns the database, and opens it first if necessary.
    fn database(&self) -> Result<&Database, Error> {
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        let _guard = self.opening.lock();
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        let database = Database::open(&self.database_folder(), &self.shared.resources)?;
        Ok(self.database.get_or_init(|| database))
    }

    fn threads_ended(&self) -> Error {
        Error::Background(format!("the threads of state store {} have ended", self.name))
    }

    fn opened(&self) -> Option<&Database> {
        self.database.get()
    }

    /// Returns the result of a database operation unchanged. If it reports damage, local checkpoint files of the job
    /// are verified before they are used again.
    fn note_damage<T>(&self, result: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Database { .. } | Error::Corrupt(_)) = &result {
            let job = &self.shared.files.job;
            self.shared.data_folder.local_recovery.mark_unverified(job);
        }
        result
    }

    fn database_folder(&self) -> PathBuf {
        self.folder.join("db")
    }

    /// Creates and returns a folder on the database's file system, for files that the database takes over.
    fn scratch(&self) -> Result<PathBuf, Error> {
        let scratch = self.folder.join("scratch");
        std::fs::create_dir_all(&scratch).map_err(Error::write(
            &scratch,
            format!("cannot create the folder {} for state", scratch.display()),
        ))?;
        Ok(scratch)
    }

    /// Hands the store to the background threads. Returns false if they have ended.
    fn schedule(self: &Arc<Self>) -> bool {
        let Some(scheduler) = threads::scheduler() else {
            return self.shared.data_folder.work.send(Arc::clone(self)).is_ok();
        };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return false;
        };
        let store = Arc::clone(self);
        runtime.spawn(async move {
            scheduler(threads::WorkKind::State).await;
            queue::run_store(&store);
        });
        true
    }
}

impl Drop for StoreInner {
    fn drop(&mut self) {
        if let Some(database) = self.database.take() {
            drop(database);
        }
        if self.folder.exists()
            && let Err(error) = std::fs::remove_dir_all(&self.folder)
        {
            tracing::warn!(folder = %self.folder.display(), %error, "cannot delete the folder of a closed store; the next start will");
        }
    }
}

/// A snapshot in progress.
pub struct SnapshotTicket {
    /// Completes when all files of the snapshot have been uploaded.
    pub finished: BoxFuture<'static, Result<KeyedSnapshot, Error>>,
}

/// The files of one subtask's keyed state, as a manifest lists them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyedSnapshot {
    /// The key groups that the subtask owned.
    pub range: KeyGroupRange,
    /// The files, sorted by their names in the database.
    pub files: Vec<FileReference>,
    /// Total length of the files.
    pub bytes: u64,
    /// Estimated number of rows, for display. Not stored: `None` in a snapshot that was read from a manifest.
    #[serde(skip)]
    pub entries: Option<u64>,
}

#[cfg(test)]
mod tests;
