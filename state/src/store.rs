//! One RocksDB per stateful subtask, opened on the first write, behind an ordered queue of background work.
//!
//! Everything that changes the database (writes, range deletes, snapshots) is queued and carried out in order on the
//! backend's own threads, so a snapshot sees exactly what was queued before it, and the slot thread never waits for a
//! disk. Reads are made by the caller, in bounded pieces, once what they depend on has been carried out
//! ([`Store::poll_idle`]).
//!
//! Key layout, version 1: `key_group (u16 BE) | namespace (i64 BE, sign bit flipped) | key`. Values start with a
//! version byte.

mod chunk;
mod database;
mod local_recovery;
mod queue;
mod restore;
mod snapshot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

use crossbeam::channel::Sender;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::Error;
use crate::job_files::{FileReference, JobFiles};
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::lock::DataFolderLock;
use crate::memory::{MemoryBudget, ProcessGauge, RECOMMENDED_BYTES_MIN};
use crate::storage::Storage;
use crate::threads;

pub use chunk::WriteChunk;
use database::{Database, Resources};
use local_recovery::LocalRecovery;
use queue::{Job, Queue};

const STORES: &str = "stores";
const LOCAL_RECOVERY: &str = "kept";
/// Files that are fetched at the same time, for all stores of a process together.
const FETCHES_IN_FLIGHT_MAX: usize = 16;
/// How often sizes are published as metrics.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(5);

/// What one process shares among its stores: block cache, write-buffer manager, memory budget, background threads.
/// Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    shared: Arc<Shared>,
}

#[derive(Debug, Clone)]
pub struct BackendOptions {
    /// Folder for databases; each store has a folder of its own below `stores/`, which is wiped when the first backend
    /// of a process starts there. Files of the newest checkpoints stay below `kept/`, also for the next process. Other
    /// processes are kept off by a lock.
    pub dir: PathBuf,
    /// The process's whole budget for state. RocksDB's cache and write buffers (a quarter) are carved out of it.
    pub memory_bytes: usize,
    /// With it, the budget caps all that the process holds: state gets what the rest leaves of it.
    pub process_gauge: Option<ProcessGauge>,
    pub background_threads: usize,
}

pub(crate) struct Shared {
    folder: PathBuf,
    memory: MemoryBudget,
    resources: Arc<Resources>,
    files: JobFiles,
    threads: Arc<Threads>,
}

/// What lives as long as any backend of the folder does.
struct Threads {
    /// Without a limit of its own: a store is in it at most once ([`queue`]).
    work: Sender<Arc<StoreInner>>,
    /// Makes folders of stores of the same name (one job restarted) different.
    stores_made: AtomicU64,
    stores: Mutex<Vec<Weak<StoreInner>>>,
    local_recovery: LocalRecovery,
    fetches: tokio::sync::Semaphore,
    /// In all of them, as of the last look.
    bytes: AtomicU64,
    _lock: Arc<DataFolderLock>,
}

impl Backend {
    /// Locks and wipes the folder (see [`BackendOptions::dir`]) and starts the threads. Snapshots go to a folder below
    /// it until [`Backend::with_files`] says where they belong.
    pub fn new(options: BackendOptions) -> Result<Self, Error> {
        let lock = lock_folder(&options.dir)?;
        // What an earlier attempt in this process still winds up there has a folder of its own.
        let folder = options.dir.join(STORES).join(uuid::Uuid::new_v4().simple().to_string());
        std::fs::create_dir_all(&folder).map_err(Error::write(
            &folder,
            format!("cannot create the state folder {}", folder.display()),
        ))?;
        let resources = Resources::new(options.memory_bytes);
        let state_bytes = options.memory_bytes.saturating_sub(resources.bytes).max(1 << 20);
        if options.process_gauge.is_some() && options.memory_bytes < RECOMMENDED_BYTES_MIN {
            tracing::warn!(
                "{} MB of memory are less than the program and its buffers take: state will be kept on disk, and more memory \
                 held than that; give it {} MB or more",
                options.memory_bytes >> 20,
                RECOMMENDED_BYTES_MIN >> 20
            );
        }
        let memory = match options.process_gauge {
            Some(gauge) => MemoryBudget::within_process(state_bytes, options.memory_bytes, gauge),
            None => MemoryBudget::new(state_bytes),
        };
        let (work, stores) = crossbeam::channel::unbounded();
        let local = Storage::from_url(&folder.join("snapshots").display().to_string())?;
        let backend = Self {
            shared: Arc::new(Shared {
                memory,
                resources: Arc::new(resources),
                files: JobFiles::new(local, "job", 0),
                threads: Arc::new(Threads {
                    work,
                    stores_made: AtomicU64::new(0),
                    stores: Mutex::new(Vec::new()),
                    local_recovery: LocalRecovery::open(options.dir.join(LOCAL_RECOVERY)),
                    fetches: tokio::sync::Semaphore::new(FETCHES_IN_FLIGHT_MAX),
                    bytes: AtomicU64::new(0),
                    _lock: lock,
                }),
                folder,
            }),
        };
        let threads = if threads::scheduler().is_some() {
            0
        } else {
            options.background_threads.max(1)
        };
        for index in 0..threads {
            let stores = stores.clone();
            // The threads end with the last backend and store: they must not keep them.
            let threads = Arc::downgrade(&backend.shared.threads);
            let resources = Arc::clone(&backend.shared.resources);
            let memory = backend.shared.memory.clone();
            let report = move || {
                if let (0, Some(threads)) = (index, threads.upgrade()) {
                    threads.report_metrics(&resources, &memory);
                }
            };
            threads::spawn(format!("state-{index}"), None, move || {
                queue::run_worker(&stores, report)
            })
            .map_err(Error::io("cannot start a thread for state"))?;
        }
        Ok(backend)
    }

    /// Where snapshots are kept.
    pub fn files(&self) -> &JobFiles {
        &self.shared.files
    }

    /// The same backend, keeping snapshots where a job's checkpoints are. For each attempt of a job anew.
    pub fn with_files(&self, files: JobFiles) -> Self {
        let shared = &self.shared;
        shared.threads.local_recovery.begin_attempt(&files.job);
        Self {
            shared: Arc::new(Shared {
                folder: shared.folder.clone(),
                memory: shared.memory.clone(),
                resources: Arc::clone(&shared.resources),
                files,
                threads: Arc::clone(&shared.threads),
            }),
        }
    }

    /// The budget of operators' hot state: what the databases do not take.
    pub fn memory(&self) -> &MemoryBudget {
        &self.shared.memory
    }

    /// The store of one stateful subtask. Nothing is opened before the first write or restore.
    /// `name` is unique in the process (`operator-subtask`).
    pub fn store(&self, name: &str, range: KeyGroupRange) -> Store {
        let name: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.') {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let number = self.shared.threads.stores_made.fetch_add(1, Ordering::Relaxed);
        let inner = Arc::new(StoreInner {
            folder: self.shared.folder.join(format!("{number}-{name}")),
            name,
            range,
            shared: Arc::clone(&self.shared),
            database: OnceLock::new(),
            opening: Mutex::new(()),
            queue: Queue::default(),
            known: tokio::sync::Mutex::default(),
            latest: Mutex::new(None),
        });
        let mut stores = self.shared.threads.stores.lock();
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(&inner));
        Store {
            inner,
            cuts: 0,
            changed: true,
        }
    }

    /// The store of one stateful subtask with the state of a checkpoint: every old subtask's part of the operator may
    /// be given, those without key groups of `range` are passed over. Needs a tokio runtime. An [`Error::Corrupt`] or
    /// [`Error::NotFound`] names the damaged file: an older checkpoint may do.
    pub async fn restore(&self, name: &str, range: KeyGroupRange, snapshots: &[KeyedSnapshot]) -> Result<Store, Error> {
        let store = self.store(name, range);
        restore::restore(&store.inner, snapshots).await?;
        Ok(store)
    }

    /// Bytes in all databases, as of the last look, which the background threads take every [`REPORT_INTERVAL`].
    pub fn state_bytes(&self) -> u64 {
        self.shared.threads.bytes.load(Ordering::Relaxed)
    }

    /// Publishes sizes through the metrics facade now; the background threads do so every [`REPORT_INTERVAL`].
    pub fn report_metrics(&self) {
        let shared = &self.shared;
        shared.threads.report_metrics(&shared.resources, &shared.memory);
    }
}

impl Threads {
    fn report_metrics(&self, resources: &Resources, memory: &MemoryBudget) {
        let stores: Vec<_> = self.stores.lock().iter().filter_map(Weak::upgrade).collect();
        let mut total = database::Sizes::default();
        for store in stores {
            let sizes = store.opened().map(Database::sizes).unwrap_or_default();
            total.files += sizes.files;
            total.write_buffers += sizes.write_buffers;
            total.pending_compaction += sizes.pending_compaction;
            metrics::gauge!("millstream_state_bytes", "store" => store.name.clone())
                .set((sizes.files + sizes.write_buffers) as f64);
        }
        self.bytes.store(total.files + total.write_buffers, Ordering::Relaxed);
        metrics::gauge!("millstream_rocksdb_sst_bytes").set(total.files as f64);
        metrics::gauge!("millstream_rocksdb_memtable_bytes").set(total.write_buffers as f64);
        metrics::gauge!("millstream_rocksdb_pending_compaction_bytes").set(total.pending_compaction as f64);
        metrics::gauge!("millstream_rocksdb_block_cache_bytes").set(resources.cache_bytes() as f64);
        metrics::gauge!("millstream_state_memory_used_bytes").set(memory.used_bytes() as f64);
        metrics::gauge!("millstream_state_memory_limit_bytes").set(memory.limit_bytes() as f64);
    }
}

/// Takes the folder for this process and wipes it, unless this process has it already: a restarted attempt begins while
/// uploads of the one before it may still end.
fn lock_folder(dir: &Path) -> Result<Arc<DataFolderLock>, Error> {
    static HELD: Mutex<BTreeMap<PathBuf, Weak<DataFolderLock>>> = Mutex::new(BTreeMap::new());
    let context = format!(
        "cannot create the state folder {} (make its parent writable or choose another)",
        dir.display()
    );
    std::fs::create_dir_all(dir).map_err(Error::write(dir, context))?;
    let dir = dir
        .canonicalize()
        .map_err(Error::io(format!("cannot use the state folder {}", dir.display())))?;
    let mut held = HELD.lock();
    if let Some(lock) = held.get(&dir).and_then(Weak::upgrade) {
        return Ok(lock);
    }
    let lock = Arc::new(DataFolderLock::acquire(&dir)?);
    let stores = dir.join(STORES);
    if stores.exists() {
        std::fs::remove_dir_all(&stores)
            .map_err(Error::io(format!("cannot clear the state folder {}", stores.display())))?;
    }
    held.insert(dir, Arc::downgrade(&lock));
    Ok(lock)
}

/// The keyed state of one subtask. A snapshot of a store that was not written to since the last one is the last one.
/// Dropping it deletes its folder; what was queued and not begun is not done.
pub struct Store {
    inner: Arc<StoreInner>,
    cuts: u64,
    /// Something was queued since the last cut.
    changed: bool,
}

pub(crate) struct StoreInner {
    name: String,
    range: KeyGroupRange,
    folder: PathBuf,
    shared: Arc<Shared>,
    database: OnceLock<Database>,
    opening: Mutex<()>,
    queue: Queue,
    known: tokio::sync::Mutex<snapshot::Known>,
    /// The newest snapshot that is whole, and the number of its cut.
    latest: Mutex<Option<(u64, KeyedSnapshot)>>,
}

/// Where a row of state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyPrefix {
    pub group: KeyGroup,
    /// What separates windows (or kinds of state) of one key; ordered. For windows: the window's or slice's end.
    pub namespace: i64,
}

/// Dirty rows of an operator, frozen for a flush, encoded chunk by chunk on a background thread.
pub trait FlushSource: Send {
    /// The next chunk, of about a megabyte; `None` at the end. Dropping the source gives its memory back. Chunks
    /// that go on in key order where the last one ended are written fastest. An error fails the store: every later call
    /// on it, and so its job, ends with that error.
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error>;
}

impl Store {
    pub fn range(&self) -> KeyGroupRange {
        self.inner.range
    }

    /// Queues the rows of a source. `done` is woken when it has been written (or has failed: ask `poll_idle`).
    pub fn write(&mut self, source: Box<dyn FlushSource>, done: Option<Waker>) -> Result<(), Error> {
        self.changed = true;
        self.push(Job::Write { source, done })
    }

    /// Queues the deletion of a namespace in the given key groups (those ever written).
    pub fn delete_namespace(&mut self, namespace: i64, groups: &[KeyGroup]) -> Result<(), Error> {
        self.delete_namespaces(namespace, namespace, groups)
    }

    /// Queues the deletion of all namespaces from the first to the last in the given key groups. It costs as much as
    /// that of one: what ends together is best deleted together.
    pub fn delete_namespaces(&mut self, first: i64, last: i64, groups: &[KeyGroup]) -> Result<(), Error> {
        if groups.is_empty() {
            return Ok(());
        }
        self.changed = true;
        let prefix = |group: &KeyGroup, namespace: i64| KeyPrefix {
            group: *group,
            namespace,
        };
        let ranges = groups.iter().map(|group| (prefix(group, first), prefix(group, last)));
        self.push(Job::Delete(ranges.collect()))
    }

    /// Queues a snapshot: everything queued before is in it, nothing queued later. The ticket finishes when the files
    /// are cut, uploaded and named; it must be awaited on a tokio runtime.
    pub fn snapshot(&mut self, checkpoint: u64) -> Result<SnapshotTicket, Error> {
        if !self.changed
            && let Some((cut, latest)) = &*self.inner.latest.lock()
            && *cut == self.cuts
        {
            let latest = latest.clone();
            return Ok(SnapshotTicket {
                finished: Box::pin(async move { Ok(latest) }),
            });
        }
        self.changed = false;
        self.cuts += 1;
        let number = self.cuts;
        let (reply, cut) = oneshot::channel();
        let folder = self.inner.folder.join(format!("cut-{checkpoint}-{}", self.cuts));
        self.push(Job::Cut { folder, reply })?;
        let store = Arc::clone(&self.inner);
        let finished = async move {
            let cut = cut.await.unwrap_or_else(|_| {
                Err(Error::Background(format!(
                    "state store {} was closed before its snapshot",
                    store.name
                )))
            })?;
            let uploaded = snapshot::upload(&store, cut).await?;
            *store.latest.lock() = Some((number, uploaded.clone()));
            Ok(uploaded)
        };
        Ok(SnapshotTicket {
            finished: Box::pin(finished),
        })
    }

    /// Whether everything queued so far has been carried out; otherwise the waker is called when it is.
    /// A failed background write is reported here and by every later call.
    pub fn poll_idle(&mut self, waker: &Waker) -> Result<bool, Error> {
        self.inner.queue.poll_idle(waker)
    }

    /// Rows of one prefix in key order, at most `rows_max` of them and about a megabyte, after `after` (exclusive) if
    /// given. Requires a settled store. `visit(key, value)`; returns whether more may follow.
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

    /// Values of many keys, in the order asked; sorted and batched inside.
    pub fn get_many(&self, keys: &[(KeyPrefix, &[u8])]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        match self.inner.opened() {
            Some(database) => self.inner.note_damage(database.get_many(keys)),
            None => Ok(vec![None; keys.len()]),
        }
    }

    /// The namespaces that have rows, with their key groups, ascending by key group. For restore.
    pub fn namespaces(&self) -> Result<Vec<KeyPrefix>, Error> {
        match self.inner.opened() {
            Some(database) => self.inner.note_damage(database.prefixes()),
            None => Ok(Vec::new()),
        }
    }

    fn push(&self, job: Job) -> Result<(), Error> {
        if self.inner.queue.push(job)? && !self.inner.schedule() {
            return Err(Error::Background(format!(
                "the threads of state store {} have ended",
                self.inner.name
            )));
        }
        Ok(())
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.queue.abandon();
    }
}

impl StoreInner {
    /// The database, opened now if it is not yet.
    fn database(&self) -> Result<&Database, Error> {
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        let _only_one = self.opening.lock();
        if let Some(database) = self.database.get() {
            return Ok(database);
        }
        let database = Database::open(&self.database_folder(), &self.shared.resources)?;
        Ok(self.database.get_or_init(|| database))
    }

    fn opened(&self) -> Option<&Database> {
        self.database.get()
    }

    /// Passes a database's answer on. After one that finds fault with a file, kept files are read through before they
    /// are used again.
    fn note_damage<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Database { .. } | Error::Corrupt(_)) = &answer {
            self.shared
                .threads
                .local_recovery
                .mark_unverified(&self.shared.files.job);
        }
        answer
    }

    fn database_folder(&self) -> PathBuf {
        self.folder.join("db")
    }

    /// A folder for files on their way into the database, on its file system.
    fn scratch(&self) -> Result<PathBuf, Error> {
        let scratch = self.folder.join("scratch");
        std::fs::create_dir_all(&scratch).map_err(Error::write(
            &scratch,
            format!("cannot create the folder {} for state", scratch.display()),
        ))?;
        Ok(scratch)
    }

    /// Puts the store in line for the threads; `false` if they have ended.
    fn schedule(self: &Arc<Self>) -> bool {
        let Some(scheduler) = threads::scheduler() else {
            return self.shared.threads.work.send(Arc::clone(self)).is_ok();
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
            tracing::warn!(folder = %self.folder.display(), %error, "the folder of a closed store stays until the next start");
        }
    }
}

/// A snapshot under way: awaits the files that hold the state.
pub struct SnapshotTicket {
    pub finished: BoxFuture<'static, Result<KeyedSnapshot, Error>>,
}

/// The files of one subtask's keyed state, as the manifest lists them.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct KeyedSnapshot {
    pub range: KeyGroupRange,
    pub files: Vec<FileReference>,
    pub bytes: u64,
    /// About how many rows they hold, where this process has cut it. For people: not part of what is stored.
    #[serde(skip)]
    pub entries: Option<u64>,
}

#[cfg(test)]
mod tests;
