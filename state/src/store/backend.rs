//! The state backend of a process: the resources that all stores share, and the data folder they live in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use crossbeam::channel::Sender;
use parking_lot::Mutex;

use super::database::{Database, Resources, Sizes};
use super::local_recovery::LocalRecovery;
use super::queue::{self, Queue};
use super::read::{self, ReadJob};
use super::{KeyedSnapshot, Store, StoreInner, restore};
use crate::job_files::JobFiles;
use crate::key_group::KeyGroupRange;
use crate::lock::DataFolderLock;
use crate::memory::{MemoryBudget, ProcessGauge, RECOMMENDED_BYTES_MIN};
use crate::storage::Storage;
use crate::{Error, threads};

const STORES_FOLDER: &str = "stores";
const LOCAL_RECOVERY_FOLDER: &str = "kept";

/// Everything the stores of a process share: block cache, write-buffer manager, memory budget, background threads.
/// Cheap to clone.
#[derive(Clone)]
pub struct Backend {
    pub(super) shared: Arc<Shared>,
}

/// Settings of a [`Backend`].
#[derive(Debug, Clone)]
pub struct BackendOptions {
    /// The data folder. Databases are below `stores/`, which is wiped when the first backend of a process opens the
    /// folder. Local copies of recent checkpoint files are below `kept/`, and outlive the process. A lock keeps other
    /// processes out.
    pub dir: PathBuf,
    /// The process's whole memory budget for state. RocksDB's cache and write buffers take a quarter of it.
    pub memory_bytes: usize,
    /// Measures the memory of the whole process. If set, the budget is a cap on all of it, and state gets what the rest
    /// of the process leaves.
    pub process_gauge: Option<ProcessGauge>,
    /// Number of threads that carry out queued writes and snapshots, at least 1.
    pub background_threads: usize,
}

/// The parts of a backend that its stores refer to.
pub(crate) struct Shared {
    /// Folder of the databases of this backend.
    folder: PathBuf,
    memory: MemoryBudget,
    pub(super) resources: Arc<Resources>,
    pub(super) files: JobFiles,
    pub(super) data_folder: Arc<DataFolder>,
}

/// The parts that all backends of a data folder in this process share.
pub(super) struct DataFolder {
    /// Stores with queued work. Not bounded itself, but a store is in it at most once (see [`queue`]).
    pub(super) work: Sender<Arc<StoreInner>>,
    /// Reads of keyed collections. Not bounded itself, but an operator has one read per collection at a time, of at
    /// most the keys of one call.
    pub(super) reads: Sender<ReadJob>,
    /// Distinguishes the folders of stores of the same name, such as those of two attempts of a job.
    stores_created: AtomicU64,
    stores: Mutex<Vec<Weak<StoreInner>>>,
    pub(super) local_recovery: LocalRecovery,
    pub(super) fetch_permits: tokio::sync::Semaphore,
    /// Size of all databases at the last measurement.
    bytes: AtomicU64,
    _lock: Arc<DataFolderLock>,
}

impl Backend {
    /// Locks and wipes the folder (see [`BackendOptions::dir`]) and starts the threads. Snapshots are written to a
    /// folder below it unless [`Backend::with_files`] sets another.
    pub fn new(options: BackendOptions) -> Result<Self, Error> {
        let lock = lock_folder(&options.dir)?;
        // A folder for each backend: stores of an earlier attempt in this process may still be closing theirs.
        let folder = options
            .dir
            .join(STORES_FOLDER)
            .join(uuid::Uuid::new_v4().simple().to_string());
        std::fs::create_dir_all(&folder).map_err(Error::write(
            &folder,
            format!("cannot create the state folder {}", folder.display()),
        ))?;
        let resources = Resources::new(options.memory_bytes);
        let state_bytes = options.memory_bytes.saturating_sub(resources.bytes).max(1 << 20);
        if options.process_gauge.is_some() && options.memory_bytes < RECOMMENDED_BYTES_MIN {
            tracing::warn!(
                "the memory limit of {} MB is below what the program and its buffers take; state will spill to disk and \
                 usage will exceed the limit. Use at least {} MB",
                options.memory_bytes >> 20,
                RECOMMENDED_BYTES_MIN >> 20
            );
        }
        let memory = match options.process_gauge {
            Some(gauge) => MemoryBudget::within_process(state_bytes, options.memory_bytes, gauge),
            None => MemoryBudget::new(state_bytes),
        };
        let (work, stores) = crossbeam::channel::unbounded();
        let (reads, queued_reads) = crossbeam::channel::unbounded();
        let local = Storage::from_url(&folder.join("snapshots").display().to_string())?;
        let backend = Self {
            shared: Arc::new(Shared {
                memory,
                resources: Arc::new(resources),
                files: JobFiles::new(local, "job", 0),
                data_folder: Arc::new(DataFolder {
                    work,
                    reads,
                    stores_created: AtomicU64::new(0),
                    stores: Mutex::new(Vec::new()),
                    local_recovery: LocalRecovery::open(options.dir.join(LOCAL_RECOVERY_FOLDER)),
                    fetch_permits: tokio::sync::Semaphore::new(restore::FETCHES_IN_FLIGHT_MAX),
                    bytes: AtomicU64::new(0),
                    _lock: lock,
                }),
                folder,
            }),
        };
        let threads = match threads::scheduler() {
            Some(_) => 0,
            None => options.background_threads.max(1),
        };
        for index in 0..threads {
            let stores = stores.clone();
            // Weak: the threads end when the last backend and store are dropped.
            let data_folder = Arc::downgrade(&backend.shared.data_folder);
            let resources = Arc::clone(&backend.shared.resources);
            let memory = backend.shared.memory.clone();
            let report = move || {
                if let (0, Some(data_folder)) = (index, data_folder.upgrade()) {
                    data_folder.report_metrics(&resources, &memory);
                }
            };
            threads::spawn(format!("state-{index}"), None, move || {
                queue::run_worker(&stores, report)
            })
            .map_err(Error::io("cannot start a thread for state"))?;
            let queued_reads = queued_reads.clone();
            threads::spawn(format!("state-read-{index}"), None, move || {
                read::run_reader(&queued_reads);
            })
            .map_err(Error::io("cannot start a thread for reading state"))?;
        }
        Ok(backend)
    }

    /// Returns the folder that snapshots are written to.
    pub fn files(&self) -> &JobFiles {
        &self.shared.files
    }

    /// Returns this backend with another folder for snapshots, for a new attempt of a job.
    pub fn with_files(&self, files: JobFiles) -> Self {
        let shared = &self.shared;
        shared.data_folder.local_recovery.begin_attempt(&files.job);
        Self {
            shared: Arc::new(Shared {
                folder: shared.folder.clone(),
                memory: shared.memory.clone(),
                resources: Arc::clone(&shared.resources),
                files,
                data_folder: Arc::clone(&shared.data_folder),
            }),
        }
    }

    /// Returns the budget of operators' in-memory state: the process's budget without the databases' share.
    pub fn memory(&self) -> &MemoryBudget {
        &self.shared.memory
    }

    /// Creates the store of one stateful subtask. Its database is opened by the first write or restore. `name`
    /// (`operator-subtask`) is unique in the process.
    pub fn store(&self, name: &str, range: KeyGroupRange) -> Store {
        let name: String = name
            .chars()
            .map(|c| match c {
                c if c.is_ascii_alphanumeric() => c,
                '-' | '_' | '.' => c,
                _ => '_',
            })
            .collect();
        let data_folder = &self.shared.data_folder;
        let number = data_folder.stores_created.fetch_add(1, Ordering::Relaxed);
        let inner = Arc::new(StoreInner {
            folder: self.shared.folder.join(format!("{number}-{name}")),
            name,
            range,
            shared: Arc::clone(&self.shared),
            database: OnceLock::new(),
            opening: Mutex::new(()),
            queue: Queue::default(),
            uploaded: tokio::sync::Mutex::default(),
            latest: Mutex::new(None),
        });
        let mut stores = data_folder.stores.lock();
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(&inner));
        Store {
            inner,
            snapshots_queued: 0,
            is_changed: true,
            has_rows: false,
        }
    }

    /// Creates the store of one stateful subtask with the state of a checkpoint. `snapshots` may hold the parts of all
    /// old subtasks of the operator: parts without key groups of `range` are ignored. Must run on a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Corrupt`] and [`Error::NotFound`] name a damaged file; an older checkpoint may still be intact.
    pub async fn restore(&self, name: &str, range: KeyGroupRange, snapshots: &[KeyedSnapshot]) -> Result<Store, Error> {
        let store = self.store(name, range);
        restore::restore(&store.inner, snapshots).await?;
        Ok(store)
    }

    /// Returns the size of all databases in bytes, as measured every [`queue::REPORT_INTERVAL`] by a background thread.
    pub fn state_bytes(&self) -> u64 {
        self.shared.data_folder.bytes.load(Ordering::Relaxed)
    }

    /// Measures the databases and publishes their sizes as metrics now, between two reports of the background thread.
    pub fn report_metrics(&self) {
        let shared = &self.shared;
        shared.data_folder.report_metrics(&shared.resources, &shared.memory);
    }
}

impl DataFolder {
    fn report_metrics(&self, resources: &Resources, memory: &MemoryBudget) {
        let stores: Vec<_> = self.stores.lock().iter().filter_map(Weak::upgrade).collect();
        let mut total = Sizes::default();
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

/// Locks the folder for this process and wipes its databases. Does neither if this process has locked it already: an
/// attempt restarts while uploads of the attempt before it may still be running.
fn lock_folder(dir: &Path) -> Result<Arc<DataFolderLock>, Error> {
    static LOCKS: Mutex<BTreeMap<PathBuf, Weak<DataFolderLock>>> = Mutex::new(BTreeMap::new());
    let context = format!(
        "cannot create the state folder {} (make its parent writable or choose another)",
        dir.display()
    );
    std::fs::create_dir_all(dir).map_err(Error::write(dir, context))?;
    let dir = dir
        .canonicalize()
        .map_err(Error::io(format!("cannot use the state folder {}", dir.display())))?;
    let mut locks = LOCKS.lock();
    if let Some(lock) = locks.get(&dir).and_then(Weak::upgrade) {
        return Ok(lock);
    }
    let lock = Arc::new(DataFolderLock::acquire(&dir)?);
    let stores = dir.join(STORES_FOLDER);
    if stores.exists() {
        std::fs::remove_dir_all(&stores)
            .map_err(Error::io(format!("cannot clear the state folder {}", stores.display())))?;
    }
    locks.insert(dir, Arc::downgrade(&lock));
    Ok(lock)
}
