//! Restoring sessions from the store, and writing their changes to the [`session_log`](super::session_log).

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use millstream_state::key_group::KeyGroup;

use super::SessionAggregate;
use super::log_flush::is_log_namespace;
use super::open_sessions::COPY_SESSIONS_MAX;
use super::session_log::{StoredSessions, Versions, segment_of};
use super::spill_index::{DEFERRED_INDEX, INDEX};
use crate::Error;

/// Closed sessions without a tombstone beyond which tombstones are written before the next barrier.
const PENDING_TOMBSTONES_MAX: usize = 65_536;

impl SessionAggregate {
    /// Restores the sessions of the log into memory, and the buckets of spilled sessions.
    pub(super) fn restore(&mut self) -> Result<(), Error> {
        let mut logged: BTreeMap<KeyGroup, Vec<i64>> = BTreeMap::new();
        for prefix in self.spill.store.namespaces()? {
            match prefix.namespace {
                INDEX | DEFERRED_INDEX => {}
                namespace if is_log_namespace(namespace) => logged.entry(prefix.group).or_default().push(namespace),
                _ => self.spilled.add_restored(prefix),
            }
        }
        for (group, namespaces) in logged {
            let found = self
                .log
                .read_key_group(&self.spill.store, group, &namespaces, &self.log_format)?;
            for StoredSessions { keys, values } in found {
                self.open_restored(&keys, &values)?;
            }
        }
        self.sessions.clear_dirty();
        Ok(())
    }

    /// Opens the sessions of these versions, as clean ones.
    fn open_restored(&mut self, keys: &[ArrayRef], values: &[ArrayRef]) -> Result<(), Error> {
        self.sessions.intern(keys, values[0].len(), &mut self.groups)?;
        let [numbers, firsts, lasts] = [0, 1, 2].map(|column| values[column].as_primitive::<Int64Type>());
        let mut slots = Vec::with_capacity(numbers.len());
        for row in 0..numbers.len() {
            let slot = self
                .sessions
                .open(self.groups[row], firsts.value(row), lasts.value(row));
            let session = self.sessions.get_mut(slot);
            session.number = numbers.value(row) as u64;
            session.is_dirty = false;
            session.is_logged = true;
            slots.push(slot);
        }
        self.sessions.merge_states(&values[3..], &slots)
    }

    /// Records that these sessions are closed; those with a version in the log get a tombstone.
    pub(super) fn note_closed(&mut self, slots: &[u32]) -> Result<(), Error> {
        let logged: Vec<u32> = slots
            .iter()
            .copied()
            .filter(|slot| self.sessions.get(*slot).is_logged)
            .collect();
        if logged.is_empty() {
            return Ok(());
        }
        let keys = self.sessions.keys(&logged)?;
        let numbers = logged.iter().map(|slot| self.sessions.get(*slot).number);
        self.log.note_closed(keys, numbers.collect(), self.segments_of(&logged));
        if self.log.closed_count() > PENDING_TOMBSTONES_MAX {
            self.write_tombstones()?;
            self.spill.wait_for_store();
        }
        Ok(())
    }

    /// Returns the segments in which sessions end.
    fn segments_of(&self, slots: &[u32]) -> Vec<i64> {
        let buckets = slots.iter().map(|slot| self.sessions.bucket_of(*slot));
        buckets.map(segment_of).collect()
    }

    fn write_tombstones(&mut self) -> Result<(), Error> {
        self.delete_expired_segments()?;
        let reservation = self.spill.memory.reservation();
        let number = self.sessions.next_number();
        let count = self.log.closed_count();
        if let Some(flush) = self.log.take_tombstones(number, &self.log_format, reservation)? {
            self.sessions.take_numbers(count);
            self.spill.store.write(Box::new(flush), None)?;
        }
        Ok(())
    }

    /// Deletes the segments before the end of every open session.
    fn delete_expired_segments(&mut self) -> Result<(), Error> {
        // The queue has every session at its end or before: none ends before the first bucket.
        let first = self.sessions.expiry_queue.next_bucket().map_or(i64::MAX, segment_of);
        self.log.delete_before(first, &mut self.spill.store)
    }

    /// Writes all changes since the last barrier to the log.
    pub(super) fn write_changes(&mut self) -> Result<(), Error> {
        self.delete_expired_segments()?;
        let dirty = self.sessions.take_dirty();
        if self.log.needs_compaction(dirty.len(), self.sessions.open_count()) {
            self.compact_log(dirty.len())?;
        } else {
            self.write_tombstones()?;
            self.write_versions(&dirty)?;
        }
        Ok(())
    }

    /// Replaces the log by one version of each open session. If there is no memory for a copy of the clean sessions,
    /// most sessions are spilled first.
    fn compact_log(&mut self, dirty: usize) -> Result<(), Error> {
        let open = self.sessions.open_count();
        let copied = (open - dirty) * (self.sessions.size() / open.max(1));
        // The headroom of the last request for memory is reserved already.
        let reserved = self.spill.reservation.bytes().saturating_sub(self.sessions.size());
        if copied > reserved && !self.spill.memory.reservation().try_resize(copied) {
            self.spill_sessions()?;
        }
        self.log.clear(&mut self.spill.store)?;
        self.sessions.clear_dirty();
        let open: Vec<u32> = self.sessions.open_slots().collect();
        self.write_versions(&open)
    }

    fn write_versions(&mut self, slots: &[u32]) -> Result<(), Error> {
        for some in slots.chunks(COPY_SESSIONS_MAX) {
            let versions = self.versions_of(some)?;
            let reservation = self.spill.memory.reservation();
            let number = self.sessions.take_numbers(some.len());
            let flush = self.log.append(versions, number, &self.log_format, reservation);
            self.spill.store.write(Box::new(flush), None)?;
            for slot in some {
                let session = self.sessions.get_mut(*slot);
                session.is_dirty = false;
                session.is_logged = true;
            }
        }
        Ok(())
    }

    /// Returns the present versions of sessions.
    fn versions_of(&mut self, slots: &[u32]) -> Result<Versions, Error> {
        let keys = self.sessions.keys(slots)?;
        let numbers = slots.iter().map(|slot| self.sessions.get(*slot).number as i64);
        let mut values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(numbers))];
        values.extend(self.sessions.states(slots)?);
        Ok(Versions {
            key_groups: self.log_format.key_groups(&keys, slots.len())?,
            segments: self.segments_of(slots),
            keys,
            values,
        })
    }
}
