//! An operator's store and its share of the memory budget: when hot state may stay and when some of it must leave.
//!
//! After each batch an operator asks for what it holds ([`Spill::ask`]). While writes of its own are under way, a refusal
//! means to wait for them, since what they hold is about to be given back: evicting at once would only cut ever smaller
//! pieces. When nothing of it is under way any more, the operator evicts; unless it holds so little that others must
//! hold the memory.
//!
//! What is over of the store is deleted when the store is cut next, or room is needed, all of it together: databases pay
//! for each deletion of a range, whenever they write.

use std::task::Waker;

use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::Store;
use serde::Serialize;

use super::inline;
use super::stored_rows::WrittenGroups;
use crate::Error;
use crate::operator::Snapshot;

/// An operator that holds less than this share of the budget does not evict: others hold the memory.
const EVICT_SHARE_MIN: usize = 256;

/// What is to be done about the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    Granted,
    /// Background work is under way that will give some back: the waker is called when it is done.
    Wait,
    Evict,
}

/// The store and the reservation of one operator.
pub struct Spill {
    pub store: Store,
    pub memory: MemoryBudget,
    pub reservation: Reservation,
    waker: Waker,
    /// Whether nothing may go on before the store has carried out what was queued.
    waiting: bool,
    /// Whether the memory of rows that were taken is not granted yet.
    pressed: bool,
    over: Option<Over>,
}

/// Namespaces that nobody reads or writes any more.
struct Over {
    first: i64,
    last: i64,
    groups: WrittenGroups,
}

impl Spill {
    pub fn new(store: Store, memory: MemoryBudget, waker: Waker) -> Self {
        Self {
            store,
            reservation: memory.reservation(),
            memory,
            waker,
            waiting: false,
            pressed: false,
            over: None,
        }
    }

    /// A namespace is over, with what it has in these key groups, and so is every one between it and those that were over
    /// before: to be called in their order.
    pub fn note_over(&mut self, namespace: i64, written: &WrittenGroups) {
        if written.is_empty() {
            return;
        }
        let over = self.over.get_or_insert_with(|| Over {
            first: namespace,
            last: namespace,
            groups: WrittenGroups::default(),
        });
        over.last = namespace;
        over.groups.extend(written.iter());
    }

    fn delete_over(&mut self) -> Result<(), Error> {
        if let Some(over) = self.over.take() {
            self.store
                .delete_namespaces(over.first, over.last, &over.groups.to_vec())?;
        }
        Ok(())
    }

    /// Whether rows that were taken wait for memory.
    pub fn is_pressed(&self) -> bool {
        self.pressed
    }

    /// Nothing may be read before what was queued so far has been carried out.
    pub fn wait(&mut self) {
        self.waiting = true;
    }

    /// Whether work may go on; otherwise the waker is called when it may.
    pub fn is_ready(&mut self) -> Result<bool, Error> {
        if self.waiting {
            self.waiting = !self.store.is_settled(&self.waker)?;
        }
        Ok(!self.waiting)
    }

    /// Bytes from which on it is worth evicting something.
    pub fn worth_bytes(&self) -> usize {
        (self.memory.limit_bytes() / EVICT_SHARE_MIN).max(1)
    }

    /// Asks for the memory of what is held, and for what will be needed besides.
    pub fn ask(&mut self, held: usize, besides: usize) -> Result<Room, Error> {
        self.pressed = false;
        if self.reservation.try_resize(held + besides) {
            return Ok(Room::Granted);
        }
        self.waiting = true;
        if !self.is_ready()? {
            self.pressed = true;
            return Ok(Room::Wait);
        }
        if self.reservation.try_resize(held + besides) {
            return Ok(Room::Granted);
        }
        if held < self.worth_bytes() {
            self.reservation.force_resize(held);
            return Ok(Room::Granted);
        }
        self.delete_over()?;
        Ok(Room::Evict)
    }

    /// The operator's part of a checkpoint: its small state, and the store as of everything that was queued so far.
    pub fn snapshot<T: Serialize>(&mut self, checkpoint: u64, state: &T, version: u8) -> Result<Snapshot, Error> {
        self.delete_over()?;
        Ok(Snapshot {
            inline: inline::encode(state, version)?,
            keyed: Some(self.store.snapshot(checkpoint)?),
        })
    }

    /// Which windows are to leave the memory, of all that hold something (bytes and end): the largest, until half of what
    /// is held is given back.
    pub fn to_evict(windows: impl Iterator<Item = (usize, i64)>, held: usize) -> Vec<i64> {
        let mut windows: Vec<(usize, i64)> = windows.collect();
        windows.sort_unstable();
        let mut freed = 0;
        let enough = windows.iter().rev().take_while(|(bytes, _)| {
            let goes = freed * 2 <= held;
            freed += bytes;
            goes
        });
        enough.map(|(_, end)| *end).collect()
    }

    /// Notes what is held after something was given back.
    pub fn holds(&mut self, bytes: usize) {
        if bytes < self.reservation.bytes() {
            self.reservation.force_resize(bytes);
        }
    }
}
