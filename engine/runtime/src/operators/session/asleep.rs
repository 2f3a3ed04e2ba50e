//! Sessions asleep: pieces of sessions that have left memory.
//!
//! What falls asleep is written blind: rows of its key that come later open a session of their own in memory, another
//! *piece* of what may be one session. Pieces are put together when it matters, never by looking up a row's key.
//!
//! A piece lies in the *bed* of the stretch in which it ends. Time wakes beds: before the watermark enters a stretch, its
//! pieces come back into memory, where they join what is near them. Besides, the [`roll`] says of every sleeper since
//! when and until which stretch it sleeps. Every session that ends in a stretch that is awake has *asked*: the roll was
//! read, and if a sleeper is near, the session has taken over that it goes on until the sleeper's stretch (which it
//! does, being the same session), and meets it there. So what ends in a stretch that is awake and goes no further
//! is whole and may be emitted. To that, four things contribute:
//!
//! * when beds are woken, all sessions that end in them or, in memory, in their stretches, ask at once;
//! * a row that is so late that its session would end in a stretch that is awake asks before it is taken; so does a row
//!   that is late unless it finds a session, for it may find a sleeping one. Others, that is nearly all, do not;
//! * only what ends in a stretch that is not awake yet may fall asleep;
//! * what a session takes over is true of it, if not all the truth: sleepers are joined when they wake, whatever was
//!   known of them before.
//!
//! A session that has taken something over and waits may fall asleep again. It stands in a roll of its own, which is not
//! read for sessions that end: whatever ends near it before it wakes is near what it waits for, or has come late and
//! asked then.
//!
//! Reading the roll costs the same for many keys as for few. So beds are woken ahead of time, several at once, as far as
//! there is memory for them.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use arrow_array::RecordBatch;
use millstream_state::key_group::KeyGroup;
use millstream_state::store::KeyPrefix;

use super::SessionAggregate;
use super::calendar::Calendar;
use super::pieces::{FrozenPieces, Pieces, namespace_of, stretch_of};
use super::roll::{Asking, Deletions, Reads, Sleeper};
use crate::Error;
use crate::operators::stored_rows::{SCAN_BLOCKS, StoredRows, WrittenGroups};
use crate::operators::table::Select;

/// Pieces may be woken ahead of time that take so much of the memory there is for sessions: one in so many bytes.
const AHEAD_SHARE: usize = 2;
/// Of the budget, that much is taken to be for these sessions before it is known: one in so many bytes.
const ROOM_SHARE: usize = 16;
/// Of the sessions in memory, all but one in so many fall asleep at once.
const KEPT_SHARE: usize = 4;
/// Steps of one call.
const STEPS_MAX: usize = 16;

/// Which sessions are asleep.
pub struct Asleep {
    /// By the stretch in which their pieces end.
    beds: BTreeMap<i64, Bed>,
    /// Stretches up to this one are awake.
    awake_until: i64,
    waking: Option<Waking>,
    /// What sessions held when memory was short last.
    pub(super) room_bytes: usize,
}

struct Bed {
    groups: WrittenGroups,
    /// What its pieces will take in memory, if that is known.
    bytes: Option<usize>,
}

/// Beds being woken.
struct Waking {
    /// Stretches up to this one will be awake.
    until: i64,
    /// Beds and key groups still to be read, the next one last, and the last key that was.
    pieces: Vec<(i64, u16)>,
    after: Option<Vec<u8>>,
    /// The sessions that will end in a stretch that is awake, and what they ask.
    asking: Option<(Vec<u32>, Asking)>,
}

/// What came of waking.
pub enum Woken {
    /// Nothing is left to be woken now.
    Nothing,
    Some,
    /// There is more to do.
    More,
    /// The store cannot be read now.
    Pending,
}

impl Asleep {
    pub fn new(awake_until: i64, limit_bytes: usize) -> Self {
        Self {
            beds: BTreeMap::new(),
            awake_until,
            waking: None,
            room_bytes: limit_bytes / ROOM_SHARE,
        }
    }

    /// The store has pieces here.
    pub fn found(&mut self, slot: KeyPrefix) {
        let bed = self.beds.entry(stretch_of(slot.namespace)).or_insert(Bed {
            groups: WrittenGroups::default(),
            bytes: None,
        });
        bed.groups.insert(slot.group.0);
    }

    pub fn next_due(&self) -> Option<i64> {
        self.beds.keys().next().copied()
    }

    fn groups(&self) -> WrittenGroups {
        let mut groups = WrittenGroups::default();
        groups.extend(self.beds.values().flat_map(|bed| bed.groups.iter()));
        groups
    }
}

impl SessionAggregate {
    pub(super) fn merge_states(&mut self, states: &[ArrayRef], slots: &[u32]) -> Result<(), Error> {
        let states = self.spec.split_states(states);
        let count = self.sessions.len();
        for (accumulator, states) in self.accumulators.iter_mut().zip(&states) {
            accumulator.merge(states, slots, count)?;
        }
        Ok(())
    }

    /// Writes the sessions that have been quiet longest, which is most of them, and forgets them; first those that only wait
    /// for a sleeper, and only such as end in a stretch after `awake_until`.
    fn send_to_sleep(&mut self, awake_until: i64) -> Result<(), Error> {
        let mut tired: Vec<u32> = (0..self.sessions.len() as u32)
            .filter(|slot| {
                let session = &self.sessions[*slot as usize];
                session.is_open && self.calendar.stretch_of(self.end_of(session)) > awake_until
            })
            .collect();
        let count = (self.open - self.open / KEPT_SHARE).min(tired.len());
        if count == 0 {
            return Ok(());
        }
        if count < tired.len() {
            tired.select_nth_unstable_by_key(count, |slot| {
                let session = &self.sessions[*slot as usize];
                (!session.waits, session.last)
            });
            tired.truncate(count);
        }
        tired.sort_unstable();
        let session_bytes = self.size() / self.open.max(1);
        self.write_pieces(&tired, session_bytes)?;
        self.note_over(&tired)?;
        let mut is_tired = tired.iter().copied().peekable();
        let live: Vec<u32> = (0..self.sessions.len() as u32)
            .filter(|slot| is_tired.next_if_eq(slot).is_none() && self.sessions[*slot as usize].is_open)
            .collect();
        metrics::counter!("millstream_state_evictions_total").increment(1);
        self.keep(&live)
    }

    fn write_pieces(&mut self, slots: &[u32], session_bytes: usize) -> Result<(), Error> {
        let keys = self.keys_of(slots)?;
        let key_groups = self.format.key_groups(&keys, slots.len())?;
        let ends = slots.iter().map(|slot| self.end_of(&self.sessions[*slot as usize]));
        let stretches: Vec<i64> = ends.map(|end| self.calendar.stretch_of(end)).collect();
        for (stretch, group) in stretches.iter().zip(&key_groups) {
            let bed = self.asleep.beds.entry(*stretch).or_insert(Bed {
                groups: WrittenGroups::default(),
                bytes: Some(0),
            });
            bed.groups.insert(*group);
            if let Some(bytes) = &mut bed.bytes {
                *bytes += session_bytes;
            }
        }
        let pieces = Pieces {
            keys,
            values: self.values_of(slots)?,
            waits: slots.iter().map(|slot| self.sessions[*slot as usize].waits).collect(),
            key_groups,
            stretches,
        };
        let number = self.next_number;
        self.next_number += slots.len() as u64;
        let frozen = FrozenPieces::new(pieces, number, &self.format, &self.roll, &self.spill.memory);
        self.spill.store.write(Box::new(frozen), None)?;
        self.spill.wait_for_store();
        Ok(())
    }

    /// Sends sessions to sleep because memory is short.
    pub(super) fn fall_asleep(&mut self) -> Result<(), Error> {
        if self.asleep.beds.is_empty() {
            self.wake_all();
        }
        self.send_to_sleep(self.asleep.awake_until)
    }

    /// Nobody sleeps: all stretches up to now are awake.
    fn wake_all(&mut self) {
        let now = self.calendar.stretch_of(self.watermark);
        self.asleep.awake_until = self.asleep.awake_until.max(now);
    }

    /// What ends at this time or before, and is due, is known to be whole.
    pub(super) fn whole_until(&self) -> i64 {
        let asleep = &self.asleep;
        if asleep.beds.is_empty() || asleep.awake_until >= self.calendar.stretch_of(self.watermark) {
            return self.watermark;
        }
        self.watermark.min(self.calendar.end_of(asleep.awake_until))
    }

    /// Wakes some more of what may be due.
    pub(super) fn wake(&mut self) -> Result<Woken, Error> {
        if self.asleep.waking.is_none() {
            if self.asleep.beds.is_empty() {
                self.wake_all();
            }
            if self.asleep.awake_until >= self.calendar.stretch_of(self.watermark) {
                return Ok(Woken::Nothing);
            }
            self.begin_waking()?;
        }
        for _ in 0..STEPS_MAX {
            if !self.spill.is_ready()? {
                return Ok(Woken::Pending);
            }
            let Some(mut waking) = self.asleep.waking.take() else {
                return Ok(Woken::Some);
            };
            if self.step(&mut waking)? {
                self.asleep.waking = Some(waking);
            } else {
                self.end_waking(waking)?;
                return Ok(Woken::Some);
            }
        }
        Ok(Woken::More)
    }

    /// Chooses the beds that are woken next.
    fn begin_waking(&mut self) -> Result<(), Error> {
        let due = self.calendar.stretch_of(self.watermark);
        // Not so far ahead that rows that are not late would have to ask.
        let ahead = due.saturating_add(Calendar::half_gap(self.gap));
        let share = self.asleep.room_bytes / AHEAD_SHARE;
        let mut until = due;
        let mut bytes = 0;
        let mut pieces = Vec::new();
        for (stretch, bed) in self.asleep.beds.range(..=ahead) {
            let bed_bytes = bed.bytes.unwrap_or(share);
            let must_wake = pieces.is_empty() && *stretch <= due;
            if !must_wake && bytes + bed_bytes > share {
                until = until.min(*stretch - 1);
                break;
            }
            bytes += bed_bytes;
            until = until.max(*stretch);
            pieces.extend(bed.groups.iter().map(|group| (*stretch, group)));
        }
        pieces.reverse();
        let held = self.size() + bytes;
        if !self.spill.reservation.try_resize(held) {
            self.send_to_sleep(until)?;
            let held = self.size() + bytes;
            self.spill.reservation.force_resize(held);
        }
        self.spill.wait_for_store();
        self.asleep.waking = Some(Waking {
            until,
            pieces,
            after: None,
            asking: None,
        });
        Ok(())
    }

    /// Reads some more; answers whether there is more to be read.
    fn step(&mut self, waking: &mut Waking) -> Result<bool, Error> {
        if let Some((stretch, group)) = waking.pieces.last().copied() {
            let slot = KeyPrefix {
                group: KeyGroup(group),
                namespace: namespace_of(stretch),
            };
            let mut blocks = StoredRows::default();
            let mut last = Vec::new();
            let store = &self.spill.store;
            let more = store.scan(slot, waking.after.as_deref(), SCAN_BLOCKS, &mut |key, block| {
                blocks.push(block);
                last.clear();
                last.extend_from_slice(key);
            })?;
            for block in blocks.iter() {
                self.wake_pieces(block)?;
            }
            if more {
                waking.after = Some(last);
            } else {
                waking.after = None;
                waking.pieces.pop();
            }
            return Ok(true);
        }
        let (_, asking) = match &mut waking.asking {
            Some(asking) => asking,
            None => {
                let asking = self.ask_for_ending(waking.until)?;
                waking.asking.insert(asking)
            }
        };
        asking.step(&self.spill.store, &self.roll)
    }

    /// Joins the pieces of a block with what is in memory.
    fn wake_pieces(&mut self, block: &[u8]) -> Result<(), Error> {
        let (keys, values, rows) = self.format.decode_block(block)?;
        self.intern(&keys, rows)?;
        let firsts = values[0].as_primitive::<Int64Type>().values();
        let lasts = values[1].as_primitive::<Int64Type>().values();
        let groups = std::mem::take(&mut self.groups);
        let slots: Vec<u32> = groups
            .iter()
            .zip(firsts.iter().zip(lasts))
            .map(|(key, (first, last))| match self.join(*key, *first, *last) {
                Some(slot) => slot,
                None => self.open_session(*key, *first, *last),
            })
            .collect();
        self.groups = groups;
        self.merge_states(&values[2..], &slots)?;
        self.merge_absorbed()
    }

    /// The sessions in memory that end in a stretch up to this one.
    fn ending_until(&self, stretch: i64) -> Vec<u32> {
        let noted = self.calendar.noted_until(stretch);
        noted
            .filter(|slot| {
                let session = &self.sessions[*slot as usize];
                session.is_open && self.calendar.stretch_of(self.end_of(session)) <= stretch
            })
            .collect()
    }

    fn ask_for_ending(&self, until: i64) -> Result<(Vec<u32>, Asking), Error> {
        let ending = self.ending_until(until);
        let ends = ending.iter().map(|slot| self.end_of(&self.sessions[*slot as usize]));
        let mut later = WrittenGroups::default();
        let mut woken = WrittenGroups::default();
        for (stretch, bed) in &self.asleep.beds {
            let groups = if *stretch > until { &mut later } else { &mut woken };
            groups.extend(bed.groups.iter());
        }
        let asking = Asking::new(
            &self.format,
            &self.spec.key_fields,
            self.keys_of(&ending)?,
            ends.collect(),
            until,
            &later,
            Reads::Ending { woken: &woken },
        )?;
        Ok((ending, asking))
    }

    /// All has been read: sessions take over what they were answered, and what has been woken goes from the store.
    fn end_waking(&mut self, waking: Waking) -> Result<(), Error> {
        self.asleep.awake_until = waking.until;
        if let Some((ending, asking)) = waking.asking {
            let answers = asking.answers();
            for (question, slot) in ending.iter().enumerate() {
                self.take_over(*slot, answers.of(question));
            }
            if !answers.over.is_empty() {
                self.spill.store.write(Box::new(Deletions(answers.over)), None)?;
            }
        }
        while let Some(first) = self.asleep.beds.first_entry().filter(|bed| *bed.key() <= waking.until) {
            let (stretch, bed) = first.remove_entry();
            let namespace = namespace_of(stretch);
            self.spill.store.delete_namespace(namespace, &bed.groups.to_vec())?;
        }
        Ok(())
    }

    /// A session near a sleeper goes on until the stretch in which that ends.
    pub(super) fn take_over(&mut self, slot: u32, sleepers: &[Sleeper]) {
        let session = self.sessions[slot as usize];
        let end = self.end_of(&session);
        if self.calendar.stretch_of(end) > self.asleep.awake_until {
            return;
        }
        let near = sleepers.iter().filter(|sleeper| sleeper.first <= end);
        if let Some(stretch) = near.map(|sleeper| sleeper.stretch).min() {
            let last = self.calendar.start_of(stretch).saturating_sub(self.gap);
            let session = &mut self.sessions[slot as usize];
            session.last = session.last.max(last);
            session.waits = true;
            self.touch(slot);
        }
    }

    /// What has to be asked before these rows are taken, if anything.
    pub(super) fn question(
        &self,
        batch: &RecordBatch,
        times: &[i64],
        has_time: impl Fn(usize) -> bool,
    ) -> Result<Option<Question>, Error> {
        let asleep = &self.asleep;
        if asleep.beds.is_empty() {
            return Ok(None);
        }
        let next = self.calendar.start_of(asleep.awake_until.saturating_add(1));
        let below = next.max(self.watermark.saturating_add(2)).saturating_sub(self.gap);
        let rows: Vec<u32> = (0..times.len())
            .filter(|row| times[*row] < below && has_time(*row))
            .map(|row| row as u32)
            .collect();
        if rows.is_empty() {
            return Ok(None);
        }
        let ends = rows.iter().map(|row| times[*row as usize].saturating_add(self.gap));
        let asking = Asking::new(
            &self.format,
            &self.spec.key_fields,
            Select::Indices(&rows).take(&self.key_columns(batch))?,
            ends.collect(),
            asleep.awake_until,
            &asleep.groups(),
            Reads::Late,
        )?;
        Ok(Some(Question { rows, asking }))
    }

    /// Finds out some more of what is asked; answers whether that is all, `None` if the store cannot be read now.
    pub(super) fn ask_on(&mut self, question: &mut Question) -> Result<Option<bool>, Error> {
        for _ in 0..STEPS_MAX {
            if !self.spill.is_ready()? {
                return Ok(None);
            }
            if !question.asking.step(&self.spill.store, &self.roll)? {
                return Ok(Some(true));
            }
        }
        Ok(Some(false))
    }
}

/// What some rows of a batch ask.
pub struct Question {
    /// The rows, ascending.
    pub rows: Vec<u32>,
    pub asking: Asking,
}
