//! The log of sessions in memory: versions of them in the store, for a restore.
//!
//! At a barrier a *version* of each dirty session is appended to the log, many versions to a block. The log is read by
//! a restore only; the newest version of a session counts. A version is obsolete once its session has ended. Therefore
//! it is written to the *segment* of the log in which the session will end, as far as is known then, and a segment is
//! deleted as a whole once all open sessions end after it. A session that is closed (emitted, merged into another or
//! spilled) before its segment is deleted gets a *tombstone*: its number in a list. A session that stays open for
//! longer than a gap has versions in several segments. When there are too many versions per session, the log is
//! compacted: written anew from memory.
//!
//! Layout: see [`log_flush`](super::log_flush).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Int64Type};
use millstream_state::BlockCodec;
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::Reservation;
use millstream_state::store::{KeyPrefix, Store};

use super::log_flush::{LOG_NAMESPACES, LogFlush, read_key};
use crate::Error;
use crate::operators::keyed_state::{KeyGroupSet, PrefixScan, RowFormat, SCAN_BLOCKS, take_rows};

/// Number of buckets of the expiry queue per segment. Part of the layout.
const SEGMENT_BUCKETS: i64 = 4;
/// Versions per open session beyond which the log is compacted.
const VERSIONS_PER_SESSION_MAX: usize = 2;
/// Versions below which the log is never compacted.
const COMPACTION_VERSIONS_MIN: usize = 65_536;

/// Returns the segment of a bucket.
pub(super) fn segment_of(bucket: i64) -> i64 {
    bucket.div_euclid(SEGMENT_BUCKETS)
}

/// Counts of the log's contents, and the tombstones that are not written yet.
pub(super) struct SessionLog {
    segments: BTreeMap<i64, Segment>,
    /// Closed sessions that have a version, since the last write.
    closed: Vec<ClosedSessions>,
    closed_count: usize,
    tombstones: Arc<BlockCodec>,
}

#[derive(Default)]
struct Segment {
    /// Number of its versions and tombstones.
    entries: usize,
    groups: KeyGroupSet,
}

struct ClosedSessions {
    keys: Vec<ArrayRef>,
    numbers: Vec<u64>,
    segments: Vec<i64>,
}

/// Versions of sessions, by columns.
pub(super) struct Versions {
    /// Key columns.
    pub keys: Vec<ArrayRef>,
    /// Number, first and last time, then partial states.
    pub values: Vec<ArrayRef>,
    /// Key groups of the sessions.
    pub key_groups: Vec<u16>,
    /// Segments in which the sessions end.
    pub segments: Vec<i64>,
}

/// Sessions read from the log.
pub(super) struct StoredSessions {
    /// Key columns.
    pub keys: Vec<ArrayRef>,
    /// As in [`Versions`].
    pub values: Vec<ArrayRef>,
}

impl SessionLog {
    /// Creates the log of a store without versions.
    pub(super) fn new() -> Result<Self, Error> {
        Ok(Self {
            segments: BTreeMap::new(),
            closed: Vec::new(),
            closed_count: 0,
            tombstones: Arc::new(BlockCodec::new(&[DataType::Int64])?),
        })
    }

    /// Returns true if the log has too many versions for `open` sessions once `dirty` more are appended.
    pub(super) fn needs_compaction(&self, dirty: usize, open: usize) -> bool {
        let entries: usize = self.segments.values().map(|segment| segment.entries).sum();
        entries + dirty > (open * VERSIONS_PER_SESSION_MAX).max(COMPACTION_VERSIONS_MIN)
    }

    /// Records closed sessions whose versions are in these segments or earlier ones. Tombstones are written by
    /// [`SessionLog::take_tombstones`].
    pub(super) fn note_closed(&mut self, keys: Vec<ArrayRef>, numbers: Vec<u64>, segments: Vec<i64>) {
        debug_assert_eq!(numbers.len(), segments.len());
        self.closed_count += numbers.len();
        self.closed.push(ClosedSessions {
            keys,
            numbers,
            segments,
        });
    }

    /// Returns the number of closed sessions without a tombstone.
    pub(super) fn closed_count(&self) -> usize {
        self.closed_count
    }

    /// Deletes the segments before this one.
    pub(super) fn delete_before(&mut self, segment: i64, store: &mut Store) -> Result<(), Error> {
        let remaining = self.segments.split_off(&segment);
        let expired = std::mem::replace(&mut self.segments, remaining);
        let (Some((first, _)), Some((last, _))) = (expired.first_key_value(), expired.last_key_value()) else {
            return Ok(());
        };
        let mut groups = KeyGroupSet::default();
        groups.extend(expired.values().flat_map(|segment| segment.groups.iter()));
        Ok(store.delete_namespaces(LOG_NAMESPACES + first, LOG_NAMESPACES + last, &groups.to_vec())?)
    }

    /// Deletes everything.
    pub(super) fn clear(&mut self, store: &mut Store) -> Result<(), Error> {
        self.closed.clear();
        self.closed_count = 0;
        self.delete_before(i64::MAX, store)
    }

    /// Returns a flush of tombstones for the closed sessions, except those whose segments are deleted; `None` if none
    /// remain. Blocks are numbered from `number` on; there are at most as many as closed sessions.
    pub(super) fn take_tombstones(
        &mut self,
        number: u64,
        format: &RowFormat,
        reservation: Reservation,
    ) -> Result<Option<LogFlush>, Error> {
        let closed = std::mem::take(&mut self.closed);
        self.closed_count = 0;
        let Some(first) = self.segments.keys().next().copied() else {
            return Ok(None);
        };
        let mut numbers = Vec::new();
        let mut segments = Vec::new();
        let mut key_groups = Vec::new();
        for closed in closed {
            if closed.segments.iter().all(|segment| *segment < first) {
                continue;
            }
            let groups = format.key_groups(&closed.keys, closed.numbers.len())?;
            for ((session, segment), group) in closed.numbers.iter().zip(closed.segments).zip(groups) {
                if segment >= first {
                    numbers.push(*session as i64);
                    segments.push(segment);
                    key_groups.push(group);
                }
            }
        }
        if numbers.is_empty() {
            return Ok(None);
        }
        self.count(&segments, &key_groups);
        let numbers = Arc::new(Int64Array::from(numbers));
        Ok(Some(LogFlush::tombstones(
            &self.tombstones,
            numbers,
            key_groups,
            segments,
            number,
            reservation,
        )))
    }

    /// Returns a flush of versions. Blocks are numbered from `number` on; there are at most as many as versions.
    pub(super) fn append(
        &mut self,
        versions: Versions,
        number: u64,
        format: &Arc<RowFormat>,
        reservation: Reservation,
    ) -> LogFlush {
        self.count(&versions.segments, &versions.key_groups);
        let Versions {
            keys,
            values,
            key_groups,
            segments,
        } = versions;
        LogFlush::versions(format, keys, values, key_groups, segments, number, reservation)
    }

    /// Counts entries of these segments and key groups.
    fn count(&mut self, segments: &[i64], key_groups: &[u16]) {
        let mut key_groups = key_groups.iter();
        for same in segments.chunk_by(|a, b| a == b) {
            let segment = self.segments.entry(same[0]).or_default();
            segment.entries += same.len();
            segment.groups.extend(key_groups.by_ref().take(same.len()).copied());
        }
    }

    /// Reads the segments of a key group: the newest version of each session without a tombstone, block by block.
    pub(super) fn read_key_group(
        &mut self,
        store: &Store,
        group: KeyGroup,
        namespaces: &[i64],
        format: &RowFormat,
    ) -> Result<Vec<StoredSessions>, Error> {
        let mut blocks = Vec::new();
        // By session: the block with its newest version, or `None` if it has a tombstone.
        let mut newest: HashMap<i64, Option<u64>> = HashMap::new();
        for namespace in namespaces.iter().copied() {
            let segment = self.segments.entry(namespace - LOG_NAMESPACES).or_default();
            segment.groups.insert(group.0);
            scan_blocks(store, KeyPrefix { group, namespace }, |key, block| {
                let (number, is_tombstone) = read_key(key)?;
                if is_tombstone {
                    let (columns, rows) = self.tombstones.decode(block)?;
                    segment.entries += rows;
                    let closed = columns[0].as_primitive::<Int64Type>().values().iter();
                    newest.extend(closed.map(|session| (*session, None)));
                    return Ok(());
                }
                let (keys, values, rows) = format.decode_block(block)?;
                segment.entries += rows;
                for session in values[0].as_primitive::<Int64Type>().values() {
                    let found = newest.entry(*session).or_insert(Some(number));
                    *found = found.map(|found| found.max(number));
                }
                blocks.push((number, keys, values));
                Ok(())
            })?;
        }
        let mut found = Vec::new();
        for (number, keys, values) in blocks {
            let sessions = values[0].as_primitive::<Int64Type>().values().iter().enumerate();
            let rows: Vec<u32> = sessions
                .filter(|(_, session)| newest.get(session) == Some(&Some(number)))
                .map(|(row, _)| row as u32)
                .collect();
            if !rows.is_empty() {
                found.push(StoredSessions {
                    keys: take_rows(&keys, &rows)?,
                    values: take_rows(&values, &rows)?,
                });
            }
        }
        Ok(found)
    }
}

/// Passes every block of a key prefix to `visit`, in key order.
fn scan_blocks(
    store: &Store,
    prefix: KeyPrefix,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut scan = PrefixScan::new(std::iter::once(prefix));
    while scan.prefix().is_some() {
        let mut visited = Ok(());
        scan.step(store, SCAN_BLOCKS, &mut |key, block| {
            if visited.is_ok() {
                visited = visit(key, block);
            }
        })?;
        visited?;
    }
    Ok(())
}
