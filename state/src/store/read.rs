//! Reads of rows of keyed collections, on threads of their own.
//!
//! A read is one sorted, batched lookup by key, or a scan of the first rows of some key prefixes. It neither blocks the
//! slot thread nor waits for queued writes: whoever reads has the rows of all writes that are not carried out yet in
//! memory.

use std::sync::Arc;
use std::task::Waker;

use crossbeam::channel::Receiver;
use parking_lot::Mutex;

use super::StoreInner;
use super::key::{KEYED_PREFIX_BYTES, KeyedPrefix, successor};
use crate::Error;

/// Byte strings in one buffer, some of which may be missing.
#[derive(Debug, Default)]
pub struct StoredValues {
    bytes: Vec<u8>,
    /// The end of each value; the top bit marks a missing one.
    ends: Vec<u64>,
}

const MISSING: u64 = 1 << 63;

impl StoredValues {
    /// Appends a value, or `None` for a missing one.
    pub fn push(&mut self, value: Option<&[u8]>) {
        self.push_parts(value, &[]);
    }

    /// Appends the concatenation of two values, or `None` for a missing one.
    pub fn push_parts(&mut self, value: Option<&[u8]>, rest: &[u8]) {
        self.bytes.extend_from_slice(value.unwrap_or_default());
        self.bytes.extend_from_slice(rest);
        let mark = if value.is_none() { MISSING } else { 0 };
        self.ends.push(self.bytes.len() as u64 | mark);
    }

    /// Returns the number of values, missing ones included.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if there are no values.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Returns a value, or `None` if it is missing.
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        let end = self.ends[index];
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before] & !MISSING);
        (end & MISSING == 0).then(|| &self.bytes[start as usize..end as usize])
    }
}

/// Rows of a keyed collection.
#[derive(Debug, Default)]
pub struct StoredRows {
    /// The part of each row's key after the prefix that was asked for.
    pub keys: StoredValues,
    /// The values.
    pub values: StoredValues,
}

impl StoredRows {
    /// Returns the bytes of the rows.
    pub fn size(&self) -> usize {
        self.keys.bytes.len() + self.values.bytes.len()
    }
}

/// Keys of rows of keyed collections, as in the database.
#[derive(Debug, Default)]
pub struct StoreKeys {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl StoreKeys {
    /// Appends a key.
    pub fn push(&mut self, prefix: KeyedPrefix, key: &[u8]) {
        self.bytes.extend_from_slice(&prefix.bytes());
        self.bytes.extend_from_slice(key);
        self.ends.push(self.bytes.len());
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Returns true if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn key(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[index]]
    }
}

/// A condition on the encoded values of a row.
pub type RowFilter = Box<dyn Fn(&[u8]) -> Result<bool, Error> + Send>;

/// A scan of the first rows of some key prefixes.
pub struct PrefixRead {
    /// The prefixes: beginnings of keys.
    pub prefixes: StoreKeys,
    /// True to read the last rows first.
    pub is_reversed: bool,
    /// Number of rows to read of each prefix.
    pub rows_max: usize,
    /// True to return the encoded values of each row, too.
    pub has_values: bool,
    /// Returns true for the values of rows that count. Others are skipped.
    pub accepts: RowFilter,
}

/// A scan over a keyed collection.
pub struct CollectionRead {
    /// The collection.
    pub collection: u8,
    /// The only generation whose rows are read; `None`: all.
    pub generation: Option<u32>,
    /// Position at which the scan continues; `None`: at the beginning.
    pub from: Option<KeyedPosition>,
    /// Number of rows to read.
    pub rows_max: usize,
}

/// Position of a scan over a keyed collection: the database key of the next row.
#[derive(Debug, Clone)]
pub struct KeyedPosition(Vec<u8>);

/// Rows of a scan, with their whole database keys, and the position after them; `None` at the end.
pub type ScannedRows = (StoredRows, Option<KeyedPosition>);

impl CollectionRead {
    /// Returns the range of the rows in a key group.
    fn range(&self, group: u16) -> (Vec<u8>, Vec<u8>) {
        let [high, low] = group.to_be_bytes();
        let mut prefix = vec![high, low, self.collection];
        prefix.extend(self.generation.iter().flat_map(|generation| generation.to_be_bytes()));
        let end = successor(&prefix);
        (prefix, end)
    }
}

impl StoreInner {
    /// Reads rows of a collection: those of one key group, or the next one that has some.
    fn scan(&self, read: CollectionRead) -> Result<ScannedRows, Error> {
        let mut found = StoredRows::default();
        let Some(database) = self.opened() else {
            return Ok((found, None));
        };
        let mut position = read.from.as_ref().map(|position| position.0.clone());
        let first = position.as_ref().and_then(|key| key.first_chunk());
        let first = first.map_or(self.range.start, |group| u16::from_be_bytes(*group));
        for group in first..self.range.end {
            let (start, end) = read.range(group);
            let from = position.take().unwrap_or(start);
            let next = self.note_damage(database.scan_keyed(&from, &end, read.rows_max, &mut found))?;
            let next = match next {
                None if group + 1 < self.range.end => Some(read.range(group + 1).0),
                next => next,
            };
            if !found.keys.is_empty() {
                return Ok((found, next.map(KeyedPosition)));
            }
        }
        Ok((found, None))
    }
}

/// A read in progress.
pub struct PendingRead<T = StoredValues> {
    result: Arc<Mutex<Option<Result<T, Error>>>>,
}

impl<T> PendingRead<T> {
    /// Returns what was read, once the read is complete: the values in the order of the keys, or the rows of each
    /// prefix of a [`PrefixRead`].
    pub fn take(&self) -> Option<Result<T, Error>> {
        self.result.lock().take()
    }
}

/// A queued read.
pub(crate) struct ReadJob {
    store: Arc<StoreInner>,
    work: Work,
    waker: Waker,
}

type Reply<T> = Arc<Mutex<Option<Result<T, Error>>>>;

enum Work {
    Keys(StoreKeys, Reply<StoredValues>),
    Prefixes(PrefixRead, Reply<Vec<StoredRows>>),
    Collection(CollectionRead, Reply<ScannedRows>),
}

impl ReadJob {
    /// Creates a read by key, which calls `waker` when it is complete.
    pub(crate) fn keys(store: &Arc<StoreInner>, keys: StoreKeys, waker: Waker) -> (Self, PendingRead) {
        Self::new(store, waker, |reply| Work::Keys(keys, reply))
    }

    /// Creates a scan of prefixes, which calls `waker` when it is complete.
    pub(crate) fn prefixes(
        store: &Arc<StoreInner>,
        read: PrefixRead,
        waker: Waker,
    ) -> (Self, PendingRead<Vec<StoredRows>>) {
        Self::new(store, waker, |reply| Work::Prefixes(read, reply))
    }

    /// Creates a scan of a collection, which calls `waker` when it is complete.
    pub(crate) fn collection(
        store: &Arc<StoreInner>,
        read: CollectionRead,
        waker: Waker,
    ) -> (Self, PendingRead<ScannedRows>) {
        Self::new(store, waker, |reply| Work::Collection(read, reply))
    }

    fn new<T>(store: &Arc<StoreInner>, waker: Waker, work: impl FnOnce(Reply<T>) -> Work) -> (Self, PendingRead<T>) {
        let result = Arc::new(Mutex::new(None));
        let job = Self {
            store: Arc::clone(store),
            work: work(Arc::clone(&result)),
            waker,
        };
        (job, PendingRead { result })
    }

    /// Carries out the read.
    pub(crate) fn run(self) {
        match self.work {
            Work::Keys(keys, reply) => {
                let values = match self.store.opened() {
                    Some(database) => self.store.note_damage(database.get_keyed(&keys)),
                    None => {
                        let mut values = StoredValues::default();
                        (0..keys.len()).for_each(|_| values.push(None));
                        Ok(values)
                    }
                };
                *reply.lock() = Some(values);
            }
            Work::Prefixes(read, reply) => {
                let rows = match self.store.opened() {
                    Some(database) => self.store.note_damage(database.first_rows(&read)),
                    None => Ok((0..read.prefixes.len()).map(|_| StoredRows::default()).collect()),
                };
                *reply.lock() = Some(rows);
            }
            Work::Collection(read, reply) => *reply.lock() = Some(self.store.scan(read)),
        }
        // The task may drop its store as soon as it is woken.
        drop(self.store);
        self.waker.wake();
    }
}

/// Runs a thread that carries out reads until the backend is dropped.
pub(crate) fn run_reader(reads: &Receiver<ReadJob>) {
    while let Ok(read) = reads.recv() {
        read.run();
    }
}

/// Returns the part of a database key of a keyed collection after the prefix of fixed length.
pub fn key_after_prefix(key: &[u8]) -> &[u8] {
    key.get(KEYED_PREFIX_BYTES..).unwrap_or_default()
}
