//! Keyed state of operators in the store: encodings, flushes and scans.
//!
//! State leaves an operator as *frozen* columns, which a flush encodes off the slot thread: as rows that replace former
//! ones ([`RowFlush`]), as blocks of a table's groups ([`TableFlush`]), or as blocks of rows that are never replaced
//! ([`BatchFlush`]). It is read back by scans of key prefixes ([`PrefixScan`]), never by key.

mod batch_flush;
mod blocks;
mod key_group_set;
mod prefix_scan;
mod row_flush;
mod row_format;
mod table_flush;

pub(super) use self::batch_flush::{BatchFlush, GroupedBatch};
pub(super) use self::blocks::{BLOCK_ROWS_MAX, CHUNK_BYTES, SCAN_BLOCKS, rows_by_key_group, rows_per_block, take_rows};
pub(super) use self::key_group_set::KeyGroupSet;
pub(super) use self::prefix_scan::PrefixScan;
pub(super) use self::row_flush::{ENCODE_ROWS, FrozenRows, KeySuffix, RowFlush, encode_rows};
pub(super) use self::row_format::{RowFormat, StoredRows};
pub(super) use self::table_flush::{Contents, FrozenTable, Segment, TableFlush, block_rows, is_block};
