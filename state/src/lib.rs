//! Keyed state on RocksDB, key groups, and snapshots in object storage.
//!
//! This crate is independent of jobs and operators. Its modules, from the bottom up:
//!
//! * [`mod@hash`] and [`key_group`]: the hash of keys, key groups and their ranges;
//! * [`encoding`]: the order-preserving encoding of keys, and the encodings of values and blocks;
//! * [`memory`]: the memory budget of a process;
//! * [`threads`]: background threads and blocking work, and their simulation;
//! * [`disk`]: recognition of full disks;
//! * [`lock`]: the lock on a data folder;
//! * [`storage`]: object storage with put-if-absent and checksums;
//! * [`log`]: a log in object storage with one writer at a time, on which several processes agree;
//! * [`job_files`]: the files of a job in object storage;
//! * [`store`]: one RocksDB per stateful subtask, behind an ordered queue of background work;
//! * [`keyed`]: collections of rows by key, in memory and in a store;
//! * [`manifest`]: the manifest of a checkpoint;
//! * [`checkpoint`]: the checkpoints of a job: commit, recovery, verification, retention.
#![warn(missing_docs, unreachable_pub)]

pub mod checkpoint;
pub mod disk;
pub mod encoding;
pub mod error;
pub mod hash;
pub mod job_files;
pub mod key_group;
pub mod keyed;
pub mod lock;
pub mod log;
pub mod manifest;
pub mod memory;
pub mod storage;
pub mod store;
pub mod threads;

pub use checkpoint::{CheckpointInfo, CheckpointStore, Claim, DamagedCheckpoint, Recovery, VerificationDepth};
pub use encoding::{BLOCK_ROWS_MAX, BlockCodec, Codec, EncodedRows};
pub use error::Error;
pub use hash::hash_columns;
pub use job_files::{FileReference, JobFiles};
pub use lock::DataFolderLock;
pub use manifest::{Header, Manifest, OperatorEntry};
pub use storage::Storage;
pub use store::SnapshotTicket;
