//! The sessions in memory: their bounds, and their groups of the columnar accumulators.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, TimestampMicrosecondArray};

use super::expiry_queue::ExpiryQueue;
use crate::Error;
use crate::operators::mutants::{self, Mutant};
use crate::operators::table::{Accumulator, Argument, GroupIndex, Select, TableSpec, new_accumulator, new_group_index};

const NONE: u32 = u32::MAX;
/// Number of slots below which memory of closed sessions is never reclaimed.
const REBUILD_SLOTS_MIN: usize = 16_384;
/// Sessions copied at once. The keys of all sessions may be more than one array can hold.
pub(super) const COPY_SESSIONS_MAX: usize = 1 << 20;

/// The bounds and the state of a session.
#[derive(Clone, Copy)]
pub(super) struct Session {
    /// Time of the first row.
    pub first: i64,
    /// Time of the last row, or later for a deferred session.
    pub last: i64,
    key: u32,
    /// The key's next session, or `NONE`.
    next: u32,
    /// Identifies the session in the log.
    pub number: u64,
    /// False once the session is emitted, spilled or absorbed by another.
    pub is_open: bool,
    /// True if the session has changed since it was last written to the log.
    pub is_dirty: bool,
    /// True if the log has a version of the session.
    pub is_logged: bool,
    /// True if `last` was moved to the bucket of a spilled fragment of the same session, and no row has come since.
    pub is_deferred: bool,
}

/// All sessions in memory, by slot, and the sessions of each key as a linked list.
pub(super) struct OpenSessions {
    spec: Arc<TableSpec>,
    gap: i64,
    index: Box<dyn GroupIndex>,
    /// First session of each key, or `NONE`.
    heads: Vec<u32>,
    /// Open and closed sessions. A closed session keeps its slot until the next rebuild.
    sessions: Vec<Session>,
    accumulators: Vec<Box<dyn Accumulator>>,
    open_count: usize,
    /// Slots by the time at which they expire; every open session is in it, at its end or earlier.
    pub expiry_queue: ExpiryQueue,
    /// Sessions that became dirty since the last barrier; some may be closed.
    dirty: Vec<u32>,
    /// Pairs of a session absorbed since the last merge, and the session that absorbed it.
    absorbed: Vec<(u32, u32)>,
    next_number: u64,
}

impl OpenSessions {
    /// Creates an empty set. Numbers of sessions and blocks begin at `next_number`.
    pub(super) fn new(spec: &Arc<TableSpec>, gap: i64, next_number: u64) -> Result<Self, Error> {
        Ok(Self {
            spec: Arc::clone(spec),
            gap,
            index: new_group_index(&spec.key_fields)?,
            heads: Vec::new(),
            sessions: Vec::new(),
            accumulators: accumulators(spec)?,
            open_count: 0,
            expiry_queue: ExpiryQueue::new(gap),
            dirty: Vec::new(),
            absorbed: Vec::new(),
            next_number,
        })
    }

    /// Returns the first of `count` numbers that are never used again.
    pub(super) fn take_numbers(&mut self, count: usize) -> u64 {
        let first = self.next_number;
        self.next_number += count as u64;
        first
    }

    /// Returns the next number.
    pub(super) fn next_number(&self) -> u64 {
        self.next_number
    }

    /// Returns the number of open sessions.
    pub(super) fn open_count(&self) -> usize {
        self.open_count
    }

    /// Returns the slots of all open sessions, ascending.
    pub(super) fn open_slots(&self) -> impl Iterator<Item = u32> {
        (0..self.sessions.len() as u32).filter(|slot| self.get(*slot).is_open)
    }

    /// Returns the session of a slot.
    pub(super) fn get(&self, slot: u32) -> &Session {
        &self.sessions[slot as usize]
    }

    /// Returns the session of a slot.
    pub(super) fn get_mut(&mut self, slot: u32) -> &mut Session {
        &mut self.sessions[slot as usize]
    }

    /// Returns the time at which a session ends: a gap after its last row.
    pub(super) fn end_of(&self, slot: u32) -> i64 {
        self.get(slot).last.saturating_add(self.gap)
    }

    /// Returns the expiry bucket in which a session ends.
    pub(super) fn bucket_of(&self, slot: u32) -> i64 {
        self.expiry_queue.bucket_of(self.end_of(slot))
    }

    /// Returns the dense key number of each row in `groups`.
    pub(super) fn intern(&mut self, keys: &[ArrayRef], rows: usize, groups: &mut Vec<u32>) -> Result<(), Error> {
        self.index.intern(keys, rows, groups)?;
        self.heads.resize(self.index.len(), NONE);
        Ok(())
    }

    /// Opens a session and returns its slot.
    pub(super) fn open(&mut self, key: u32, first: i64, last: i64) -> u32 {
        let slot = self.sessions.len() as u32;
        let number = self.take_numbers(1);
        self.sessions.push(Session {
            first,
            last,
            key,
            next: self.heads[key as usize],
            number,
            is_open: true,
            is_dirty: true,
            is_logged: false,
            is_deferred: false,
        });
        self.dirty.push(slot);
        self.heads[key as usize] = slot;
        self.open_count += 1;
        self.expiry_queue.push(slot, last.saturating_add(self.gap));
        slot
    }

    /// Returns the session of a row, extended by it; `None` if no session is within a gap of the row.
    #[inline]
    pub(super) fn extend(&mut self, key: u32, time: i64) -> Option<u32> {
        let head = self.heads[key as usize];
        if head != NONE {
            let session = &mut self.sessions[head as usize];
            // The usual row: within its key's only session, or at most a gap behind it.
            if session.next == NONE
                && session.first <= time
                && time
                    <= session
                        .last
                        .saturating_add(self.gap - i64::from(mutants::is_active(Mutant::GapExcluded)))
            {
                session.last = session.last.max(time);
                session.is_deferred = false;
                self.mark_dirty(head);
                return Some(head);
            }
        }
        self.extend_or_merge(key, time, time)
    }

    /// Marks a session as changed since it was last written to the log.
    #[inline]
    pub(super) fn mark_dirty(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Returns the key's session within a gap of `first..=last`, extended to cover it; `None` if there is no such
    /// session. Several such sessions become one: the others are closed, and their partial states are merged by
    /// [`OpenSessions::merge_absorbed`].
    pub(super) fn extend_or_merge(&mut self, key: u32, mut first: i64, mut last: i64) -> Option<u32> {
        debug_assert!(first <= last);
        let near = |session: &Session, first: i64, last: i64| {
            first
                <= session
                    .last
                    .saturating_add(self.gap - i64::from(mutants::is_active(Mutant::GapExcluded)))
                && session.first <= last.saturating_add(self.gap)
        };
        let mut at = self.heads[key as usize];
        while at != NONE && !near(&self.sessions[at as usize], first, last) {
            at = self.sessions[at as usize].next;
        }
        if at == NONE {
            return None;
        }
        let session = &self.sessions[at as usize];
        first = first.min(session.first);
        last = last.max(session.last);
        let mut before = NONE;
        let mut other = self.heads[key as usize];
        while other != NONE {
            let session = self.sessions[other as usize];
            if other != at && near(&session, first, last) {
                first = first.min(session.first);
                last = last.max(session.last);
                self.absorbed.push((other, at));
                self.sessions[other as usize].is_open = false;
                self.open_count -= 1;
                if before == NONE {
                    self.heads[key as usize] = session.next;
                } else {
                    self.sessions[before as usize].next = session.next;
                }
            } else {
                before = other;
            }
            other = session.next;
        }
        let session = &mut self.sessions[at as usize];
        session.is_deferred = false;
        session.first = first;
        session.last = last;
        self.mark_dirty(at);
        Some(at)
    }

    /// Accumulates rows into the sessions of these slots. Absorbed sessions must be merged afterwards.
    pub(super) fn update(&mut self, arguments: &[Argument], slots: &[u32]) -> Result<(), Error> {
        let count = self.sessions.len();
        for (accumulator, argument) in self.accumulators.iter_mut().zip(arguments) {
            accumulator.update(&argument.values, argument.filter.as_ref(), slots, count)?;
        }
        Ok(())
    }

    /// Merges partial states into the sessions of these slots. Absorbed sessions must be merged afterwards.
    pub(super) fn merge_states(&mut self, states: &[ArrayRef], slots: &[u32]) -> Result<(), Error> {
        let states = self.spec.split_states(states);
        let count = self.sessions.len();
        for (accumulator, states) in self.accumulators.iter_mut().zip(&states) {
            accumulator.merge(states, slots, count)?;
        }
        Ok(())
    }

    /// Merges the partial states of absorbed sessions into the sessions that absorbed them. Returns the absorbed
    /// sessions.
    pub(super) fn merge_absorbed(&mut self) -> Result<Vec<u32>, Error> {
        if self.absorbed.is_empty() {
            return Ok(Vec::new());
        }
        let count = self.sessions.len();
        let absorbed = std::mem::take(&mut self.absorbed);
        let into: HashMap<u32, u32> = absorbed.iter().copied().collect();
        let from: Vec<u32> = absorbed.iter().map(|(from, _)| *from).collect();
        // The state of a slot is that of its own rows, so all states are merged into the session that is open in the
        // end.
        let roots: Vec<u32> = absorbed
            .iter()
            .map(|(_, into_slot)| {
                let mut root = *into_slot;
                while let Some(next) = into.get(&root) {
                    root = *next;
                }
                root
            })
            .collect();
        debug_assert!(roots.iter().all(|root| self.get(*root).is_open));
        for accumulator in &mut self.accumulators {
            let states = accumulator.state(&Select::Indices(&from))?;
            accumulator.merge(&states, &roots, count)?;
        }
        Ok(from)
    }

    /// Takes up to `sessions_max` sessions that end at `time` or before from the queue.
    pub(super) fn pop_expired(&mut self, time: i64, sessions_max: usize) -> Vec<u32> {
        let (sessions, gap) = (&self.sessions, self.gap);
        let end_of = |slot: u32| {
            let session = &sessions[slot as usize];
            session.is_open.then(|| session.last.saturating_add(gap))
        };
        let mut expired = Vec::new();
        while expired.len() < sessions_max
            && let Some(slot) = self.expiry_queue.pop_expired(time, end_of)
        {
            expired.push(slot);
        }
        expired
    }

    /// Returns key columns, results, starts and ends of sessions.
    pub(super) fn results(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let select = Select::Indices(slots);
        let mut columns = self.keys(slots)?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(&select)?);
        }
        let starts = slots.iter().map(|slot| self.get(*slot).first);
        columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(starts)));
        let ends = slots.iter().map(|slot| self.end_of(*slot));
        columns.push(Arc::new(TimestampMicrosecondArray::from_iter_values(ends)));
        Ok(columns)
    }

    /// Returns the key columns of sessions.
    pub(super) fn keys(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let keys: Vec<u32> = slots.iter().map(|slot| self.get(*slot).key).collect();
        self.index.keys(&Select::Indices(&keys))
    }

    /// Returns first times, last times and partial states of sessions.
    pub(super) fn states(&mut self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let column = |value: fn(&Session) -> i64| -> ArrayRef {
            let sessions = slots.iter().map(|slot| self.get(*slot));
            Arc::new(Int64Array::from_iter_values(sessions.map(value)))
        };
        let mut values = vec![column(|session| session.first), column(|session| session.last)];
        let select = Select::Indices(slots);
        for accumulator in &mut self.accumulators {
            values.extend(accumulator.state(&select)?);
        }
        Ok(values)
    }

    /// Closes a session and removes it from its key's list.
    pub(super) fn close(&mut self, slot: u32) {
        let session = self.sessions[slot as usize];
        debug_assert!(session.is_open, "a session is closed once");
        self.sessions[slot as usize].is_open = false;
        self.open_count -= 1;
        let mut at = self.heads[session.key as usize];
        if at == slot {
            self.heads[session.key as usize] = session.next;
            return;
        }
        while self.sessions[at as usize].next != slot {
            at = self.sessions[at as usize].next;
        }
        self.sessions[at as usize].next = session.next;
    }

    /// Returns the open sessions that have changed since the last call.
    pub(super) fn take_dirty(&mut self) -> Vec<u32> {
        let mut dirty = std::mem::take(&mut self.dirty);
        dirty.retain(|slot| self.get(*slot).is_open && self.get(*slot).is_dirty);
        dirty
    }

    /// Forgets which sessions have changed: all of them are being written.
    pub(super) fn clear_dirty(&mut self) {
        self.dirty.clear();
    }

    /// Reclaims the memory of closed sessions once they are the majority.
    pub(super) fn reclaim(&mut self) -> Result<(), Error> {
        if self.sessions.len() < REBUILD_SLOTS_MIN || self.open_count * 2 > self.sessions.len() {
            return Ok(());
        }
        let open: Vec<u32> = self.open_slots().collect();
        self.retain(&open)
    }

    /// Removes all sessions but these, and all keys without a session.
    pub(super) fn retain(&mut self, retained: &[u32]) -> Result<(), Error> {
        debug_assert!(
            self.absorbed.is_empty(),
            "absorbed sessions are merged before slots change"
        );
        let count = retained.len();
        let mut fresh = accumulators(&self.spec)?;
        for (fresh, old) in fresh.iter_mut().zip(&mut self.accumulators) {
            let mut slots = 0..count as u32;
            for some in retained.chunks(COPY_SESSIONS_MAX) {
                let states = old.state(&Select::Indices(some))?;
                let slots: Vec<u32> = slots.by_ref().take(some.len()).collect();
                fresh.merge(&states, &slots, count)?;
            }
        }
        self.accumulators = fresh;
        let mut index = new_group_index(&self.spec.key_fields)?;
        index.reserve(count);
        let old_index = std::mem::replace(&mut self.index, index);
        self.heads.clear();
        let old = std::mem::take(&mut self.sessions);
        self.expiry_queue.clear();
        self.dirty.clear();
        let mut groups = Vec::new();
        for some in retained.chunks(COPY_SESSIONS_MAX) {
            let keys: Vec<u32> = some.iter().map(|slot| old[*slot as usize].key).collect();
            self.intern(&old_index.keys(&Select::Indices(&keys))?, some.len(), &mut groups)?;
            for (row, old_slot) in some.iter().enumerate() {
                let slot = self.sessions.len() as u32;
                let mut session = old[*old_slot as usize];
                session.key = groups[row];
                session.next = std::mem::replace(&mut self.heads[session.key as usize], slot);
                self.expiry_queue.push(slot, session.last.saturating_add(self.gap));
                if session.is_dirty {
                    self.dirty.push(slot);
                }
                self.sessions.push(session);
            }
        }
        self.open_count = count;
        Ok(())
    }

    /// Returns the bytes held.
    pub(super) fn size(&self) -> usize {
        self.index.size()
            + self.heads.capacity() * size_of::<u32>()
            + self.sessions.capacity() * size_of::<Session>()
            + self.dirty.capacity() * size_of::<u32>()
            + self.expiry_queue.size()
            + self
                .accumulators
                .iter()
                .map(|accumulator| accumulator.size())
                .sum::<usize>()
    }

    /// Checks that the keys' lists have the open sessions, each once, and that every open session is in the queue.
    #[cfg(debug_assertions)]
    pub(super) fn check(&self) {
        let mut listed = vec![false; self.sessions.len()];
        for (key, head) in self.heads.iter().enumerate() {
            let mut at = *head;
            while at != NONE {
                let session = self.get(at);
                assert!(session.is_open && session.key as usize == key && session.first <= session.last);
                assert!(
                    !std::mem::replace(&mut listed[at as usize], true),
                    "a session is in one list, once"
                );
                at = session.next;
            }
        }
        let mut queued = vec![false; self.sessions.len()];
        self.expiry_queue
            .slots_until(i64::MAX)
            .for_each(|slot| queued[slot as usize] = true);
        let open: Vec<u32> = self.open_slots().collect();
        assert_eq!(
            open.len(),
            self.open_count,
            "the count of open sessions is their number"
        );
        for slot in open {
            assert!(
                listed[slot as usize] && queued[slot as usize],
                "open sessions are listed and queued"
            );
        }
    }
}

fn accumulators(spec: &TableSpec) -> Result<Vec<Box<dyn Accumulator>>, Error> {
    spec.aggregates.iter().map(new_accumulator).collect()
}
