//! One RocksDB: configuration, writes and reads. All calls block.
//!
//! The write-ahead log is off, because checkpoints make state durable. All databases of a process share one block
//! cache, and their write buffers are charged to it.

use std::path::{Path, PathBuf};

use rocksdb::checkpoint::Checkpoint;
use rocksdb::{
    BlockBasedIndexType, BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType,
    FlushOptions, IngestExternalFileOptions, Options, ReadOptions, SliceTransform, SstFileWriter, WriteBatch,
    WriteBufferManager, WriteOptions, properties,
};

use super::chunk::{WriteChunk, value_of};
use super::key::{Family, KEYED_PREFIX_BYTES, KeyRange, PREFIX_BYTES, successor};
use super::read::{PrefixRead, StoreKeys, StoredRows, StoredValues};
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
/// Size of a partition of a file's index and filter.
const METADATA_BLOCK_BYTES: usize = 4 << 10;
/// Keys of one batched read.
const READ_KEYS_MAX: usize = 1024;
/// Bytes of values after which a scan returns.
const SCAN_BYTES_MAX: usize = 1 << 20;
/// Number of files of the first level from which on keyed collections are compacted: a lookup by key searches each.
const KEYED_FILES_MAX: i32 = 4;

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

    /// Returns the options of a column family, and, for [`Family::Panes`], of a database.
    pub(crate) fn options(&self, family: Family) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&self.cache);
        table.set_block_size(match family {
            Family::Panes => 16 << 10,
            Family::Keyed => 4 << 10,
        });
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        // A file of 64 MB has a filter of megabytes, more than a shard of the cache takes: as one block, it would be
        // read from disk for each lookup. Partitions of index and filter are blocks like any other.
        table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
        table.set_partition_filters(true);
        table.set_metadata_block_size(METADATA_BLOCK_BYTES);
        table.set_pin_top_level_index_and_filter(true);
        table.set_bloom_filter(10.0, false);
        table.set_whole_key_filtering(true);
        table.set_format_version(5);
        if family == Family::Keyed {
            // Lookups by key touch all files, whose whole filters and indexes may be larger than the cache.
            table.set_index_type(BlockBasedIndexType::TwoLevelIndexSearch);
            table.set_partition_filters(true);
            table.set_metadata_block_size(4 << 10);
            table.set_pin_top_level_index_and_filter(true);
        }
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_block_based_table_factory(&table);
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(match family {
            Family::Panes => PREFIX_BYTES,
            Family::Keyed => KEYED_PREFIX_BYTES,
        }));
        options.set_write_buffer_manager(&self.write_buffers);
        options.set_write_buffer_size(self.write_buffer_bytes);
        options.set_max_write_buffer_number(3);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_level_compaction_dynamic_level_bytes(true);
        options.set_max_background_jobs(2);
        // Spilled rows are mostly read once, when their window fires: compacting files early costs more than a scan
        // over a few more of them.
        let files = match family {
            Family::Panes => 16,
            Family::Keyed => KEYED_FILES_MAX,
        };
        options.set_level_zero_file_num_compaction_trigger(files);
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

fn descriptor(family: Family, options: &[Options; 2]) -> ColumnFamilyDescriptor {
    ColumnFamilyDescriptor::new(family.name(), options[family as usize].clone())
}

/// An open database.
pub(crate) struct Database {
    db: DB,
    /// Options by family.
    options: [Options; 2],
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
        let options = Family::ALL.map(|family| resources.options(family));
        let descriptors = Family::ALL.map(|family| descriptor(family, &options));
        let db = DB::open_cf_descriptors(&options[0], path, descriptors).map_err(Error::database(path))?;
        Ok(Self::new(db, options, path))
    }

    /// Opens an existing database for reading.
    pub(crate) fn open_read_only(path: &Path, resources: &Resources) -> Result<Self, Error> {
        let options = Family::ALL.map(|family| resources.options(family));
        // Databases of earlier versions have no keyed collections.
        let existing = DB::list_cf(&options[0], path).map_err(Error::database(path))?;
        let descriptors = Family::ALL
            .into_iter()
            .filter(|family| existing.iter().any(|name| name == family.name()))
            .map(|family| descriptor(family, &options));
        let db =
            DB::open_cf_descriptors_read_only(&options[0], path, descriptors, false).map_err(Error::database(path))?;
        Ok(Self::new(db, options, path))
    }

    fn new(db: DB, options: [Options; 2], path: &Path) -> Self {
        let mut writes = WriteOptions::default();
        writes.disable_wal(true);
        Self {
            db,
            options,
            path: path.to_path_buf(),
            writes,
        }
    }

    /// Returns the handle of a column family; `None` if a database that was opened for reading does not have it.
    fn family(&self, family: Family) -> Option<&ColumnFamily> {
        self.db.cf_handle(family.name())
    }

    /// Returns the handle of a column family of a database that was opened for writing.
    fn writable(&self, family: Family) -> &ColumnFamily {
        self.family(family)
            .expect("a database that is written to was opened with all families")
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
                if chunk.family() == files.family && chunk.is_sorted_after(files.last_key()) {
                    files.write(&chunk)?;
                    continue;
                }
                if let Some(files) = sorted.take() {
                    self.ingest(files)?;
                }
            }
            let follows = ordered
                .last()
                .is_none_or(|last| last.family() == chunk.family() && chunk.is_sorted_after(last.last_key()));
            if !follows || !chunk.is_sorted_after(None) {
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
            let chunk_family = chunk.family();
            ordered.push(chunk);
            if ordered_bytes >= INGEST_BYTES_MIN {
                let mut files = self.sorted_files(chunk_family, scratch);
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
        let family = self.writable(chunk.family());
        let mut batch = WriteBatch::with_capacity_bytes(chunk.bytes() + 16 * chunk.len());
        for (key, value) in chunk.rows() {
            match value {
                Some(value) => batch.put_cf(&family, key, value),
                None => batch.delete_cf(&family, key),
            }
        }
        self.db
            .write_opt(batch, &self.writes)
            .map_err(Error::database(&self.path))
    }

    /// Adds sorted files to the database.
    pub(crate) fn ingest(&self, files: SortedFiles<'_>) -> Result<(), Error> {
        let family = self.writable(files.family);
        let paths = files.finish()?;
        if paths.is_empty() {
            return Ok(());
        }
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        self.db
            .ingest_external_file_cf_opts(&family, &options, paths)
            .map_err(Error::database(&self.path))
    }

    /// Starts sorted files of a family in `scratch`, for [`Database::ingest`].
    pub(crate) fn sorted_files<'a>(&'a self, family: Family, scratch: &'a Path) -> SortedFiles<'a> {
        SortedFiles::new(scratch, family, &self.options[family as usize])
    }

    /// Deletes all rows of some ranges of keys.
    pub(crate) fn delete_ranges(&self, ranges: &[KeyRange]) -> Result<(), Error> {
        let mut batch = WriteBatch::default();
        for range in ranges {
            batch.delete_range_cf(&self.writable(range.family), &range.from, &range.to);
        }
        self.db
            .write_opt(batch, &self.writes)
            .map_err(Error::database(&self.path))
    }

    /// Flushes the write buffers and hard-links all files into a new folder.
    pub(crate) fn snapshot(&self, to: &Path) -> Result<LocalSnapshot, Error> {
        let mut flush = FlushOptions::default();
        flush.set_wait(true);
        let families = Family::ALL.map(|family| self.writable(family));
        let families: Vec<_> = families.iter().collect();
        self.db
            .flush_cfs_opt(&families, &flush)
            .map_err(Error::database(&self.path))?;
        let checkpoint = Checkpoint::new(&self.db).map_err(Error::database(&self.path))?;
        checkpoint.create_checkpoint(to).map_err(Error::database(&self.path))?;
        Ok(LocalSnapshot {
            folder: to.to_path_buf(),
            // From the files' properties, which are in memory.
            entries: Some(
                families
                    .iter()
                    .filter_map(|family| {
                        self.db
                            .property_int_value_cf(*family, properties::ESTIMATE_NUM_KEYS)
                            .ok()
                    })
                    .flatten()
                    .sum(),
            ),
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
        let family = self.writable(Family::Panes);
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

    /// Reads rows of keyed collections; see [`super::Store::read`].
    pub(crate) fn get_keyed(&self, keys: &StoreKeys) -> Result<StoredValues, Error> {
        threads::assert_may_block();
        let family = self.writable(Family::Keyed);
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_unstable_by(|a, b| keys.key(*a).cmp(keys.key(*b)));
        let mut found = Vec::new();
        found.resize_with(keys.len(), || None);
        for part in order.chunks(READ_KEYS_MAX) {
            let read = self
                .db
                .batched_multi_get_cf(&family, part.iter().map(|index| keys.key(*index)), true);
            for (index, value) in part.iter().zip(read) {
                found[*index] = value.map_err(Error::database(&self.path))?;
            }
        }
        let mut values = StoredValues::default();
        for stored in found {
            match stored {
                Some(stored) => values.push(Some(value_of(&stored, &self.path)?)),
                None => values.push(None),
            }
        }
        Ok(values)
    }

    /// Reads the first rows of key prefixes; see [`super::PrefixRead`].
    pub(crate) fn first_rows(&self, read: &PrefixRead) -> Result<Vec<StoredRows>, Error> {
        threads::assert_may_block();
        let mut options = ReadOptions::default();
        // Forwards, the filters of the prefixes' fixed part save most reads of prefixes without rows.
        options.set_total_order_seek(read.is_reversed);
        options.set_prefix_same_as_start(!read.is_reversed);
        let mut rows = self.db.raw_iterator_cf_opt(&self.writable(Family::Keyed), options);
        let mut order: Vec<usize> = (0..read.prefixes.len()).collect();
        order.sort_unstable_by(|a, b| read.prefixes.key(*a).cmp(read.prefixes.key(*b)));
        let mut found = Vec::new();
        found.resize_with(read.prefixes.len(), StoredRows::default);
        for index in order {
            let prefix = read.prefixes.key(index);
            match read.is_reversed {
                false => rows.seek(prefix),
                true => rows.seek_for_prev(successor(prefix)),
            }
            let found = &mut found[index];
            while let Some((key, value)) = rows.item().filter(|(key, _)| key.starts_with(prefix)) {
                if found.keys.len() == read.rows_max {
                    break;
                }
                let value = value_of(value, &self.path)?;
                if (read.accepts)(value)? {
                    found.keys.push(key.get(prefix.len()..));
                    if read.has_values {
                        found.values.push(Some(value));
                    }
                }
                match read.is_reversed {
                    false => rows.next(),
                    true => rows.prev(),
                }
            }
            rows.status().map_err(Error::database(&self.path))?;
        }
        Ok(found)
    }

    /// Adds the rows from the key `from` to before `to` to `found`, with their whole keys: at most `rows_max` and about
    /// a megabyte. Returns the key of the next row, if there is one.
    pub(crate) fn scan_keyed(
        &self,
        from: &[u8],
        to: &[u8],
        rows_max: usize,
        found: &mut StoredRows,
    ) -> Result<Option<Vec<u8>>, Error> {
        threads::assert_may_block();
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_upper_bound(to.to_vec());
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(&self.writable(Family::Keyed), options);
        rows.seek(from);
        let mut visited = 0;
        let mut bytes = 0;
        while let Some((key, value)) = rows.item() {
            if visited == rows_max || bytes >= SCAN_BYTES_MAX {
                return Ok(Some(key.to_vec()));
            }
            found.keys.push(Some(key));
            found.values.push(Some(value_of(value, &self.path)?));
            visited += 1;
            bytes += value.len();
            rows.next();
        }
        rows.status().map_err(Error::database(&self.path))?;
        Ok(None)
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

    /// Copies all rows of the files' family with keys in `from..to`, as they are stored.
    pub(crate) fn copy_to(&self, from: &[u8], to: &[u8], files: &mut SortedFiles<'_>) -> Result<(), Error> {
        let Some(family) = self.family(files.family) else {
            return Ok(());
        };
        let mut options = ReadOptions::default();
        options.set_total_order_seek(true);
        options.set_iterate_upper_bound(to.to_vec());
        options.fill_cache(false);
        let mut rows = self.db.raw_iterator_cf_opt(&family, options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            files.put(key, Some(value))?;
            rows.next();
        }
        rows.status().map_err(Error::database(&self.path))
    }

    /// Returns the sizes of the database.
    pub(crate) fn sizes(&self) -> Sizes {
        let read = |name: &properties::PropName| {
            let of = |family| {
                let value = self.db.property_int_value_cf(&self.family(family)?, name);
                value.ok().flatten()
            };
            Family::ALL.into_iter().filter_map(of).sum()
        };
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
    pub(crate) family: Family,
    options: &'a Options,
    open: Option<SstFileWriter<'a>>,
    last: Vec<u8>,
    rows: u64,
    paths: Vec<PathBuf>,
}

impl<'a> SortedFiles<'a> {
    fn new(scratch: &'a Path, family: Family, options: &'a Options) -> Self {
        Self {
            scratch,
            family,
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
