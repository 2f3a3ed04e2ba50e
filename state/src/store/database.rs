//! One RocksDB: configuration, writes and reads. All calls block.
//!
//! The write-ahead log is off, because checkpoints make state durable. All databases of a process share one block
//! cache, and their write buffers are charged to it.

use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DB, DBCompressionType, FlushOptions, IngestExternalFileOptions,
    Options, ReadOptions, SliceTransform, SstFileWriter, WriteBatch, WriteBufferManager, WriteOptions, properties,
};

use super::chunk::{WriteChunk, value_of};
use super::key::PREFIX_BYTES;
use super::{FlushSource, KeyPrefix};
use crate::{Error, threads};

/// The share of the process's memory that the databases get: one in this many bytes.
const MEMORY_SHARE: usize = 4;
const MEMORY_BYTES_MIN: usize = 8 << 20;
const MEMORY_BYTES_MAX: usize = 1 << 30;
const WRITE_BUFFER_BYTES_MAX: usize = 64 << 20;
const WRITE_BUFFER_BYTES_MIN: usize = 1 << 20;
/// Bytes in ascending key order from which on a flush is ingested as sorted files, bypassing the write buffer.
const INGEST_BYTES_MIN: usize = 16 << 20;
const SORTED_FILE_BYTES_MAX: u64 = 64 << 20;
/// Keys of one batched read.
const READ_KEYS_MAX: usize = 1024;
/// Bytes of values after which a scan returns.
const SCAN_BYTES_MAX: usize = 1 << 20;
const FAMILY: &str = "default";

/// The memory that the databases of a process share.
pub(crate) struct Resources {
    cache: Cache,
    write_buffers: WriteBufferManager,
    write_buffer_bytes: usize,
    /// Size of the block cache, write buffers included.
    pub bytes: usize,
}

impl Resources {
    /// Creates cache and write buffers, sized as a share of the process's memory budget.
    pub(crate) fn new(memory_bytes: usize) -> Self {
        let bytes = (memory_bytes / MEMORY_SHARE).clamp(MEMORY_BYTES_MIN, MEMORY_BYTES_MAX);
        let cache = Cache::new_lru_cache(bytes);
        // Without stalls: an idle database that holds the memory would block a busy one for ever.
        let write_buffers = WriteBufferManager::new_write_buffer_manager_with_cache(bytes / 2, false, cache.clone());
        Self {
            cache,
            write_buffers,
            write_buffer_bytes: (bytes / 4).clamp(WRITE_BUFFER_BYTES_MIN, WRITE_BUFFER_BYTES_MAX),
            bytes,
        }
    }

    /// Returns the bytes of the cache that are in use.
    pub(crate) fn cache_bytes(&self) -> usize {
        self.cache.get_usage()
    }

    /// Returns the options of a database.
    pub(crate) fn options(&self) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(16 << 10);
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        table.set_format_version(5);
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_block_based_table_factory(&table);
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(PREFIX_BYTES));
        options.set_write_buffer_manager(&self.write_buffers);
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(3);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_max_background_jobs(2);
        // Spilled rows are mostly read once, when their window fires: compacting files early costs more than a scan
        // over a few more of them.
        options.set_level_zero_file_num_compaction_trigger(16);
        options.set_level_zero_slowdown_writes_trigger(48);
        options.set_level_zero_stop_writes_trigger(96);
        options.set_max_manifest_file_size(1 << 20);
        options.set_max_open_files(512);
        options.set_keep_log_file_num(1);
        options.set_max_log_file_size(1 << 20);
        options.set_stats_dump_period_sec(0);
        options.set_skip_stats_update_on_db_open(true);
        // Compaction runs on RocksDB's own threads at any time, which would make simulations irreproducible.
        options.set_disable_auto_compactions(threads::scheduler().is_some());
        options
    }
}

/// An open database.
pub(crate) struct Database {
    db: DB,
    options: Options,
    path: PathBuf,
    writes: WriteOptions,
}

impl Database {
    /// Opens the database in a folder, which is created if missing.
    pub(crate) fn open(path: &Path, resources: &Resources) -> Result<Self, Error> {
        std::fs::create_dir_all(path).map_err(Error::write(
            path,
            format!("cannot create the folder {} for state", path.display()),
        ))?;
        let options = resources.options();
        let family = ColumnFamilyDescriptor::new(FAMILY, options.clone());
        let db = DB::open_cf_descriptors(&options, path, [family]).map_err(Error::database(path))?;
        Ok(Self::new(db, options, path))
    }

    /// Opens an existing database for reading.
    pub(crate) fn open_read_only(path: &Path, resources: &Resources) -> Result<Self, Error> {
        let options = resources.options();
        let families = [ColumnFamilyDescriptor::new(FAMILY, options.clone())];
        let db = DB::open_cf_descriptors_read_only(&options, path, families, false).map_err(Error::database(path))?;
        Ok(Self::new(db, options, path))
    }

    fn new(db: DB, options: Options, path: &Path) -> Self {
        let mut writes = WriteOptions::default();
        writes.disable_wal(true);
        Self {
            db,
            options,
            path: path.to_path_buf(),
            writes,
        }
    }

    /// Writes the rows of a source: through the write buffer, or by ingesting sorted files where at least
    /// [`INGEST_BYTES_MIN`] are in ascending key order. Later rows replace earlier ones of the same key either way.
    pub(crate) fn write(&self, source: &mut dyn FlushSource, scratch: &Path) -> Result<(), Error> {
        let mut ordered: Vec<WriteChunk> = Vec::new();
        let mut ordered_bytes = 0;
        let mut sorted: Option<SortedFiles<'_>> = None;
        while let Some(chunk) = source.next_chunk()? {
            if chunk.is_empty() {
                continue;
            }
            if let Some(files) = &mut sorted {
                if chunk.is_sorted_after(files.last_key()) {
                    files.write(&chunk)?;
                    continue;
                }
                if let Some(files) = sorted.take() {
                    self.ingest(files)?;
                }
            }
            let last = ordered.last().and_then(WriteChunk::last_key);
            if !chunk.is_sorted_after(last) {
                for chunk in ordered.drain(..) {
                    self.write_chunk(&chunk)?;
                }
                ordered_bytes = 0;
                if !chunk.is_sorted_after(None) {
                    self.write_chunk(&chunk)?;
                    continue;
                }
            }
            ordered_bytes += chunk.bytes();
            ordered.push(chunk);
            if ordered_bytes >= INGEST_BYTES_MIN {
                let mut files = SortedFiles::new(scratch, &self.options);
                for chunk in ordered.drain(..) {
                    files.write(&chunk)?;
                }
                ordered_bytes = 0;
                sorted = Some(files);
            }
        }
        if let Some(files) = sorted {
            self.ingest(files)?;
        }
        for chunk in &ordered {
            self.write_chunk(chunk)?;
        }
        Ok(())
    }

    fn write_chunk(&self, chunk: &WriteChunk) -> Result<(), Error> {
        let mut batch = WriteBatch::with_capacity_bytes(chunk.bytes() + 16 * chunk.len());
        for (key, value) in chunk.rows() {
            match value {
                Some(value) => batch.put(key, value),
                None => batch.delete(key),
            }
        }
        self.db
            .write_opt(batch, &self.writes)
            .map_err(Error::database(&self.path))
    }

    /// Adds sorted files to the database.
    pub(crate) fn ingest(&self, files: SortedFiles<'_>) -> Result<(), Error> {
        let paths = files.finish()?;
        if paths.is_empty() {
            return Ok(());
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db
            .ingest_external_file_opts(&options, paths)
            .map_err(Error::database(&self.path))
    }

    /// Starts sorted files in `scratch`, for [`Database::ingest`].
    pub(crate) fn sorted_files<'a>(&'a self, scratch: &'a Path) -> SortedFiles<'a> {
        SortedFiles::new(scratch, &self.options)
    }

    /// Deletes all rows from the first to the last prefix (inclusive) of each range.
    pub(crate) fn delete_prefixes(&self, ranges: &[(KeyPrefix, KeyPrefix)]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for (first, last) in ranges {
            debug_assert!(first <= last, "range deletion from {first:?} to {last:?}");
            batch.delete_range(first.bytes(), last.end());
        }
        self.db
            .write_opt(batch, &self.writes)
            .map_err(Error::database(&self.path))
    }

    /// Flushes the write buffers and hard-links all files into a new folder.
    pub(crate) fn snapshot(&self, to: &Path) -> Result<LocalSnapshot, Error> {
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        self.db.flush_opt(&flush).map_err(Error::database(&self.path))?;
        let checkpoint = Checkpoint::new(&self.db).map_err(Error::database(&self.path))?;
        checkpoint.create_checkpoint(to).map_err(Error::database(&self.path))?;
        Ok(LocalSnapshot {
            folder: to.to_path_buf(),
            // From the files' properties, which are in memory.
            entries: self.db.property_int_value(properties::ESTIMATE_NUM_KEYS).ok().flatten(),
        })
    }

    /// Visits rows of one prefix in key order; see [`super::Store::scan`].
    pub(crate) fn scan(
        &self,
        prefix: KeyPrefix,
        after: Option<&[u8]>,
        rows_max: usize,
        visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Error> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(prefix.end().to_vec());
        options.set_prefix_same_as_start(true);
        // Fired windows are read once, and must not evict blocks that are read again.
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_opt(options);
        match after {
            None => rows.seek(prefix.bytes()),
            Some(after) => {
                let key = prefix.key(after);
                rows.seek(&key);
                if rows.key() == Some(&key) {
                    rows.next();
                }
            }
        }
        let mut visited = 0;
        let mut bytes = 0;
        while let Some((key, value)) = rows.item() {
            if visited == rows_max || bytes >= SCAN_BYTES_MAX {
                return Ok(true);
            }
            visit(&key[PREFIX_BYTES..], value_of(value, &self.path)?);
            visited += 1;
            bytes += value.len();
            rows.next();
        }
        rows.status().map_err(Error::database(&self.path))?;
        Ok(false)
    }

    /// Reads many keys; see [`super::Store::get_many`].
    pub(crate) fn get_many(&self, keys: &[(KeyPrefix, &[u8])]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        let family = self
            .db
            .cf_handle(FAMILY)
            .expect("the database was opened with this family");
        let full: Vec<Vec<u8>> = keys.iter().map(|(prefix, key)| prefix.key(key)).collect();
        let mut order: Vec<usize> = (0..full.len()).collect();
        order.sort_unstable_by(|a, b| full[*a].cmp(&full[*b]));
        let mut values = vec![None; full.len()];
        for part in order.chunks(READ_KEYS_MAX) {
            let found = self
                .db
                .batched_multi_get_cf(&family, part.iter().map(|index| &full[*index]), true);
            for (index, found) in part.iter().zip(found) {
                if let Some(stored) = found.map_err(Error::database(&self.path))? {
                    values[*index] = Some(value_of(&stored, &self.path)?.to_vec());
                }
            }
        }
        Ok(values)
    }

    /// Returns the prefixes that have rows, in ascending order.
    pub(crate) fn prefixes(&self) -> Result<Vec<KeyPrefix>, Error> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek_to_first();
        let mut prefixes = Vec::new();
        while let Some(key) = rows.key() {
            let prefix = KeyPrefix::of_key(key).ok_or_else(|| {
                Error::Corrupt(format!(
                    "state database {}: a key of {} bytes",
                    self.path.display(),
                    key.len()
                ))
            })?;
            debug_assert!(
                prefixes.last().is_none_or(|last| *last < prefix),
                "the prefixes of a scan ascend"
            );
            prefixes.push(prefix);
            rows.seek(prefix.end());
        }
        rows.status().map_err(Error::database(&self.path))?;
        Ok(prefixes)
    }

    /// Copies all rows with keys in `from..to`, as they are stored.
    pub(crate) fn copy_to(&self, from: &[u8], to: &[u8], files: &mut SortedFiles<'_>) -> Result<(), Error> {
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_upper_bound(to.to_vec());
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_opt(options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            files.put(key, Some(value))?;
            rows.next();
        }
        rows.status().map_err(Error::database(&self.path))
    }

    /// Returns the sizes of the database.
    pub(crate) fn sizes(&self) -> Sizes {
        let read = |name| self.db.property_int_value(name).ok().flatten().unwrap_or(0);
        Sizes {
            files: read(properties::LIVE_SST_FILES_SIZE),
            write_buffers: read(properties::CUR_SIZE_ALL_MEM_TABLES),
            pending_compaction: read(properties::ESTIMATE_PENDING_COMPACTION_BYTES),
        }
    }
}

/// A folder of hard links to the files of a database.
#[derive(Debug)]
pub(crate) struct LocalSnapshot {
    pub folder: PathBuf,
    /// Estimated number of rows.
    pub entries: Option<u64>,
}

/// Sizes of a database in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Sizes {
    pub files: u64,
    pub write_buffers: u64,
    pub pending_compaction: u64,
}

/// Sorted files in the making, which a database ingests. Rows must be added in ascending key order.
pub(crate) struct SortedFiles<'a> {
    scratch: &'a Path,
    options: &'a Options,
    open: Option<SstFileWriter<'a>>,
    last: Vec<u8>,
    rows: u64,
    paths: Vec<PathBuf>,
}

impl<'a> SortedFiles<'a> {
    fn new(scratch: &'a Path, options: &'a Options) -> Self {
        Self {
            scratch,
            options,
            open: None,
            last: Vec::new(),
            rows: 0,
            paths: Vec::new(),
        }
    }

    fn last_key(&self) -> Option<&[u8]> {
        (self.rows > 0).then_some(&self.last)
    }

    fn write(&mut self, chunk: &WriteChunk) -> Result<(), Error> {
        for (key, value) in chunk.rows() {
            self.put(key, value)?;
        }
        if let Some(last) = chunk.last_key() {
            self.last.clear();
            self.last.extend_from_slice(last);
        }
        Ok(())
    }

    fn put(&mut self, key: &[u8], value: Option<&[u8]>) -> Result<(), Error> {
        let writer = match &mut self.open {
            Some(writer) => writer,
            None => {
                let path = self
                    .scratch
                    .join(format!("sorted-{}.sst", uuid::Uuid::new_v4().simple()));
                let writer = SstFileWriter::create(self.options);
                writer.open(&path).map_err(Error::database(&path))?;
                self.paths.push(path);
                self.open.insert(writer)
            }
        };
        let put = match value {
            Some(value) => writer.put(key, value),
            None => writer.delete(key),
        };
        put.map_err(Error::database(self.scratch))?;
        self.rows += 1;
        // Not at every row: the call into RocksDB has a cost.
        if self.rows.is_multiple_of(4096) && writer.file_size() >= SORTED_FILE_BYTES_MAX {
            self.close()?;
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), Error> {
        match self.open.take() {
            Some(mut writer) => writer.finish().map_err(Error::database(self.scratch)),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Vec<PathBuf>, Error> {
        self.close()?;
        Ok(self.paths)
    }
}
