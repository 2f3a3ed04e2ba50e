//! One RocksDB per stateful subtask, opened on the first write, behind an ordered queue of background work.
//!
//! Everything that changes the database (writes, range deletes, snapshots) is queued and carried out in order on the
//! backend's own threads, so a snapshot sees exactly what was queued before it, and the slot thread never waits for a
//! disk. Reads are made by the caller, in bounded pieces, once what they depend on has been carried out
//! ([`Store::is_settled`]).
//!
//! Key layout, version 1: `key_group (u16 BE) | namespace (i64 BE, sign bit flipped) | key`. Values start with a
//! version byte.

use std::path::PathBuf;
use std::sync::Arc;
use std::task::Waker;

use futures::future::BoxFuture;

use crate::Error;
use crate::key_group::{KeyGroup, KeyGroupRange};
use crate::memory::MemoryBudget;

/// What one process shares among its stores: block cache, write-buffer manager, memory budget, background threads.
#[derive(Clone)]
pub struct Backend {
    _shared: Arc<()>,
}

#[derive(Debug, Clone)]
pub struct BackendOptions {
    /// Folder for databases; each store has a folder of its own in it. Wiped when the backend starts.
    pub dir: PathBuf,
    /// The process's whole budget for state. RocksDB's cache and write buffers are carved out of it.
    pub memory_bytes: usize,
    pub background_threads: usize,
}

impl Backend {
    pub fn new(_options: BackendOptions) -> Result<Self, Error> {
        todo!()
    }

    pub fn memory(&self) -> &MemoryBudget {
        todo!()
    }

    /// The store of one stateful subtask. Nothing is opened before the first write or restore.
    /// `name` is unique in the process (`operator-subtask`).
    pub fn store(&self, _name: &str, _range: KeyGroupRange) -> Store {
        todo!()
    }
}

/// The keyed state of one subtask.
pub struct Store {
    _private: (),
}

/// Where a row of state lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    pub group: KeyGroup,
    /// What separates windows (or kinds of state) of one key; ordered. For windows: the window's or slice's end.
    pub namespace: i64,
}

/// Rows to write, already in key order (group, namespace, key): one allocation for all keys, one for all values.
/// A value of `None` deletes.
#[derive(Debug, Default)]
pub struct WriteChunk {
    _private: (),
}

impl WriteChunk {
    pub fn put(&mut self, _slot: Slot, _key: &[u8], _value: &[u8]) {
        todo!()
    }

    pub fn delete(&mut self, _slot: Slot, _key: &[u8]) {
        todo!()
    }

    pub fn bytes(&self) -> usize {
        todo!()
    }
}

/// A frozen generation of dirty rows, encoded chunk by chunk on a background thread.
pub trait Generation: Send {
    /// The next chunk, of about a megabyte; `None` at the end. Dropping the generation gives its memory back.
    fn next_chunk(&mut self) -> Option<WriteChunk>;
}

impl Store {
    /// Queues a frozen generation. `done` is woken when it has been written.
    pub fn write(&mut self, _generation: Box<dyn Generation>, _done: Option<Waker>) -> Result<(), Error> {
        todo!()
    }

    /// Queues the deletion of a namespace in the given key groups (those ever written).
    pub fn delete_namespace(&mut self, _namespace: i64, _groups: &[KeyGroup]) -> Result<(), Error> {
        todo!()
    }

    /// Queues a snapshot: everything queued before is in it, nothing queued later. The ticket finishes when the files
    /// are cut, uploaded and named.
    pub fn snapshot(&mut self, _checkpoint: u64) -> Result<SnapshotTicket, Error> {
        todo!()
    }

    /// Whether everything queued so far has been carried out; otherwise the waker is called when it is.
    /// A failed background write is reported here and by every later call.
    pub fn is_settled(&mut self, _waker: &Waker) -> Result<bool, Error> {
        todo!()
    }

    /// Rows of one slot in key order, at most `rows_max` of them, after `after` (exclusive) if given. Requires a
    /// settled store. `visit(key, value)`; returns whether more may follow.
    pub fn scan(
        &self,
        _slot: Slot,
        _after: Option<&[u8]>,
        _rows_max: usize,
        _visit: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<bool, Error> {
        todo!()
    }

    /// Values of many keys, in the order asked; sorted and batched inside.
    pub fn get_many(&self, _keys: &[(Slot, &[u8])]) -> Result<Vec<Option<Vec<u8>>>, Error> {
        todo!()
    }

    /// The namespaces that have rows, with their key groups, ascending. For restore.
    pub fn namespaces(&self) -> Result<Vec<Slot>, Error> {
        todo!()
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
}

/// One file in object storage.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileReference {
    /// Path below the job's folder.
    pub path: String,
    /// Name the database knows it by.
    pub name: String,
    pub length: u64,
    pub crc32: u32,
}
