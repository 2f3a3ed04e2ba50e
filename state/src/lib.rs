//! Keyed state on RocksDB, key groups, and snapshots in object storage.
//!
//! This crate knows nothing of jobs or operators. It offers, from the bottom up:
//!
//! * [`mod@hash`] and [`key_group`]: the hash of keys, key groups and their ranges;
//! * [`encoding`]: the order-preserving key encoding and the row encoding, both held by golden vectors;
//! * [`memory`]: the one memory budget of a process;
//! * [`store`]: one RocksDB per stateful subtask, behind an ordered queue of background work;
//! * [`storage`]: object storage with put-if-absent, checksums and a local store that fsyncs;
//! * [`log`]: what several processes agree on, written by one of them at a time;
//! * [`disk`]: full disks, and how much is free;
//! * [`manifest`]: what a checkpoint says;
//! * [`checkpoint`]: which checkpoints exist, their retention and their recovery;
//! * [`lock`]: one process per data folder;
//! * [`threads`]: what a process waits for before it ends.

pub mod checkpoint;
pub mod disk;
pub mod encoding;
pub mod error;
pub mod hash;
pub mod job_files;
pub mod key_group;
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
