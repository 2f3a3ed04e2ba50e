//! Sessions awake and the store: reading them back, and telling it what has changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use millstream_state::key_group::KeyGroup;

use super::roll::{ROLL, WAITING};
use super::versions::{Found, Versions, is_term, term_of};
use super::{COPIED_AT_ONCE, Session, SessionAggregate};
use crate::Error;
use crate::operators::table::Select;

/// Sessions that are over, and of which the store is not told yet, before it is told ahead of the next barrier.
const OVER_MAX: usize = 65_536;

impl SessionAggregate {
    /// Reads back the sessions that were awake, and finds out when the others are due.
    pub(super) fn load(&mut self) -> Result<(), Error> {
        let mut awake: BTreeMap<KeyGroup, Vec<i64>> = BTreeMap::new();
        for slot in self.spill.store.namespaces()? {
            match slot.namespace {
                ROLL | WAITING => {}
                namespace if is_term(namespace) => awake.entry(slot.group).or_default().push(namespace),
                _ => self.asleep.found(slot),
            }
        }
        for (group, terms) in awake {
            let found = self
                .written
                .read(&self.spill.store, group, &terms, &self.version_format)?;
            for Found { keys, values } in found {
                self.intern(&keys, values[0].len())?;
                self.open_stored(&values)?;
            }
        }
        self.dirty.clear();
        Ok(())
    }

    /// Opens the sessions of these versions, which belong to the keys in `groups`, as the store has them.
    fn open_stored(&mut self, values: &[ArrayRef]) -> Result<(), Error> {
        let [numbers, firsts, lasts] = [0, 1, 2].map(|column| values[column].as_primitive::<Int64Type>());
        let mut slots = Vec::with_capacity(numbers.len());
        for row in 0..numbers.len() {
            let slot = self.open_session(self.groups[row], firsts.value(row), lasts.value(row));
            let session = &mut self.sessions[slot as usize];
            session.number = numbers.value(row) as u64;
            session.is_dirty = false;
            session.is_stored = true;
            slots.push(slot);
        }
        self.merge_states(&values[3..], &slots)
    }

    /// Remembers which of these sessions, all of them over, the store knows.
    pub(super) fn note_over(&mut self, slots: &[u32]) -> Result<(), Error> {
        let stored: Vec<u32> = slots
            .iter()
            .copied()
            .filter(|slot| self.sessions[*slot as usize].is_stored)
            .collect();
        if stored.is_empty() {
            return Ok(());
        }
        let keys = self.keys_of(&stored)?;
        let numbers = stored.iter().map(|slot| self.sessions[*slot as usize].number);
        self.written.note_over(keys, numbers.collect(), self.terms_of(&stored));
        if self.written.over() > OVER_MAX {
            self.write_over()?;
            self.spill.wait_for_store();
        }
        Ok(())
    }

    /// The terms in which sessions end, as far as is known.
    fn terms_of(&self, slots: &[u32]) -> Vec<i64> {
        let ends = slots.iter().map(|slot| self.end_of(&self.sessions[*slot as usize]));
        ends.map(|end| term_of(self.calendar.stretch_of(end))).collect()
    }

    /// Tells the store which sessions are over.
    fn write_over(&mut self) -> Result<(), Error> {
        self.delete_passed()?;
        let count = self.written.over() as u64;
        let room = self.spill.memory.reservation();
        let blocks = self
            .written
            .take_obituaries(self.next_number, &self.version_format, room)?;
        if let Some(blocks) = blocks {
            self.next_number += count;
            self.spill.store.write(Box::new(blocks), None)?;
        }
        Ok(())
    }

    /// Deletes the terms that all sessions have left behind.
    fn delete_passed(&mut self) -> Result<(), Error> {
        // Sessions are noted in the calendar no later than they end: none ends before the first.
        let first = self.calendar.next_stretch().map_or(i64::MAX, term_of);
        self.written.delete_before(first, &mut self.spill.store)
    }

    /// Writes what has changed since the last barrier.
    pub(super) fn write_changes(&mut self) -> Result<(), Error> {
        self.delete_passed()?;
        let dirty = self.take_dirty();
        if self.written.is_crowded(dirty.len(), self.open) {
            self.write_anew(dirty.len())?;
        } else {
            self.write_over()?;
            self.write_versions(&dirty)?;
        }
        Ok(())
    }

    /// Open sessions that have changed since the last barrier.
    fn take_dirty(&mut self) -> Vec<u32> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let sessions = &self.sessions;
        dirty.retain(|slot| sessions[*slot as usize].is_open && sessions[*slot as usize].is_dirty);
        dirty
    }

    /// Writes all sessions in place of everything that was written. Where there is no room for copies of those that have not
    /// changed, most of them fall asleep instead.
    fn write_anew(&mut self, dirty: usize) -> Result<(), Error> {
        let session_bytes = self.size() / self.open.max(1);
        let copied = (self.open - dirty) * session_bytes;
        // Something is reserved for copies already.
        let spare = self.spill.reservation.bytes().saturating_sub(self.size());
        if copied > spare && !self.spill.memory.reservation().try_resize(copied) {
            self.fall_asleep()?;
        }
        self.written.clear(&mut self.spill.store)?;
        self.dirty.clear();
        let open: Vec<u32> = (0..self.sessions.len() as u32)
            .filter(|slot| self.sessions[*slot as usize].is_open)
            .collect();
        self.write_versions(&open)
    }

    fn write_versions(&mut self, slots: &[u32]) -> Result<(), Error> {
        for some in slots.chunks(COPIED_AT_ONCE) {
            let versions = self.versions_of(some)?;
            let room = self.spill.memory.reservation();
            let blocks = self.written.put(versions, self.next_number, &self.version_format, room);
            self.next_number += some.len() as u64;
            self.spill.store.write(Box::new(blocks), None)?;
            for slot in some {
                let session = &mut self.sessions[*slot as usize];
                session.is_dirty = false;
                session.is_stored = true;
            }
        }
        Ok(())
    }

    /// First and last times and partial states of sessions.
    pub(super) fn values_of(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let select = Select::Indices(slots);
        let column = |value: fn(&Session) -> i64| -> ArrayRef {
            let sessions = slots.iter().map(|slot| &self.sessions[*slot as usize]);
            Arc::new(Int64Array::from_iter_values(sessions.map(value)))
        };
        let mut values = vec![column(|session| session.first), column(|session| session.last)];
        for accumulator in &mut self.accumulators {
            values.extend(accumulator.state(&select)?);
        }
        Ok(values)
    }

    pub(super) fn keys_of(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let keys: Vec<u32> = slots.iter().map(|slot| self.sessions[*slot as usize].key).collect();
        self.index.keys(&Select::Indices(&keys))
    }

    /// Sessions as they are now.
    fn versions_of(&mut self, slots: &[u32]) -> Result<Versions, Error> {
        let keys = self.keys_of(slots)?;
        let numbers = slots.iter().map(|slot| self.sessions[*slot as usize].number as i64);
        let mut values: Vec<ArrayRef> = vec![Arc::new(Int64Array::from_iter_values(numbers))];
        values.extend(self.values_of(slots)?);
        Ok(Versions {
            key_groups: self.version_format.key_groups(&keys, slots.len())?,
            terms: self.terms_of(slots),
            keys,
            values,
        })
    }
}
