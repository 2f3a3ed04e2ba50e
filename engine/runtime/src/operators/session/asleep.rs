//! Sessions asleep: those that have left memory.
//!
//! A key is *awake*, with all its sessions in memory, or *asleep*: then it has one session, which is in the store alone
//! (keys with several stay awake). What falls asleep are the sessions that have been quiet longest. A row of a key that
//! is not in memory looks the key up, all new keys of a batch at once; and when the stretch of the calendar comes in
//! which a sleeping session ends, it is woken to be fired.
//!
//! Nothing may be looked up before what was queued has been written, and a session that is woken leaves no row behind:
//! it gets a number of its own, and its row as a sleeper is deleted like that of a session that is over. Such deletions
//! are queued at the latest before keys are forgotten, and before a stretch is read.
//!
//! Rows of sleepers: namespace 0, the key columns, then [`ASLEEP`] instead of a number. For each of them there is a row
//! in the namespace of the stretch in which it ends (the stretch's number, plus one unless negative: 0 is taken), with
//! the key columns and eight zero bytes, without a value. Those may be stale.

use std::collections::BTreeMap;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use millstream_state::key_group::KeyGroup;
use millstream_state::store::Slot;

use super::{NONE, Session, SessionAggregate};
use crate::Error;
use crate::operators::stored_rows::{Frozen, FrozenRows, StoredRows, Suffix, WrittenGroups};
use crate::operators::table::Select;

/// Stands for the number in the row of a session that is asleep.
const ASLEEP: u64 = u64::MAX;
/// Bytes of a number at the end of a key.
const NUMBER_BYTES: usize = size_of::<u64>();
/// Where sessions are.
const SESSIONS: i64 = 0;
/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;

/// Which sessions are asleep, by when they are due.
#[derive(Default)]
pub struct Asleep {
    /// By stretch: key groups with sleepers that end in it.
    due: BTreeMap<i64, WrittenGroups>,
    /// The stretch being woken.
    waking: Option<Waking>,
    /// Keys of the index before this one have been looked up.
    keys_known: usize,
}

struct Waking {
    stretch: i64,
    /// Key groups still to be read, the next one last, and the last key that was.
    key_groups: Vec<u16>,
    after: Option<Vec<u8>>,
}

impl Asleep {
    pub fn next_due(&self) -> Option<&i64> {
        self.due.keys().next()
    }
}

fn namespace_of(stretch: i64) -> i64 {
    if stretch >= SESSIONS {
        stretch.saturating_add(1)
    } else {
        stretch
    }
}

fn stretch_of(namespace: i64) -> i64 {
    if namespace > SESSIONS { namespace - 1 } else { namespace }
}

impl SessionAggregate {
    /// Reads back the sessions that were awake, and finds out when the others are due.
    pub(super) fn load(&mut self) -> Result<(), Error> {
        for slot in self.spill.store.namespaces()? {
            if slot.namespace != SESSIONS {
                let due = self.asleep.due.entry(stretch_of(slot.namespace)).or_default();
                due.insert(slot.group.0);
                continue;
            }
            let mut after: Option<Vec<u8>> = None;
            loop {
                let mut keys = StoredRows::default();
                let mut values = StoredRows::default();
                let mut numbers = Vec::new();
                let mut last = Vec::new();
                let store = &self.spill.store;
                let more = store.scan(slot, after.as_deref(), SCAN_ROWS, &mut |key, value| {
                    last.clear();
                    last.extend_from_slice(key);
                    let (columns, number) = split_number(key);
                    if number != ASLEEP {
                        numbers.push(number);
                        keys.push(columns);
                        values.push(value);
                    }
                })?;
                if !numbers.is_empty() {
                    let keys = self.format.decode_keys(&keys)?;
                    self.intern(&keys, numbers.len())?;
                    let stored = self.format.decode_values(&values)?;
                    self.open_stored(&stored, Some(&numbers))?;
                }
                if !more {
                    break;
                }
                after = Some(last);
            }
        }
        self.asleep.keys_known = self.index.len();
        Ok(())
    }

    /// Opens the sessions of these values, which belong to the keys in `groups`. With a number, they are as the store
    /// has them; otherwise they get new ones.
    fn open_stored(&mut self, values: &[ArrayRef], numbers: Option<&[u64]>) -> Result<(), Error> {
        let firsts = values[0].as_primitive::<Int64Type>();
        let lasts = values[1].as_primitive::<Int64Type>();
        let mut slots = Vec::with_capacity(firsts.len());
        for row in 0..firsts.len() {
            let slot = self.open_session(self.groups[row], firsts.value(row), lasts.value(row));
            if let Some(numbers) = numbers {
                let session = &mut self.sessions[slot as usize];
                session.number = numbers[row];
                session.is_dirty = false;
                session.is_stored = true;
            }
            slots.push(slot);
        }
        let states = self.spec.split_states(&values[2..]);
        let count = self.sessions.len();
        for (accumulator, states) in self.accumulators.iter_mut().zip(&states) {
            accumulator.merge(states, &slots, count)?;
        }
        Ok(())
    }

    /// Sessions as rows to be written, under these numbers.
    pub(super) fn rows_of(&mut self, slots: &[u32], numbers: Vec<u64>) -> Result<FrozenRows, Error> {
        let select = Select::Indices(slots);
        let keys = self.keys_of(slots)?;
        let column = |value: fn(&Session) -> i64| -> ArrayRef {
            let sessions = slots.iter().map(|slot| &self.sessions[*slot as usize]);
            std::sync::Arc::new(Int64Array::from_iter_values(sessions.map(value)))
        };
        let mut values = vec![column(|session| session.first), column(|session| session.last)];
        for accumulator in &mut self.accumulators {
            values.extend(accumulator.state(&select)?);
        }
        Ok(FrozenRows {
            namespace: SESSIONS,
            key_groups: self.format.key_groups(&keys, slots.len())?,
            keys,
            suffix: Suffix::Long(numbers),
            values: Some(values),
        })
    }

    fn keys_of(&self, slots: &[u32]) -> Result<Vec<ArrayRef>, Error> {
        let keys: Vec<u32> = slots.iter().map(|slot| self.sessions[*slot as usize].key).collect();
        self.index.keys(&Select::Indices(&keys))
    }

    /// Deletions of the rows of sessions that are over.
    pub(super) fn rows_over(&mut self) -> Result<Vec<FrozenRows>, Error> {
        let over = std::mem::take(&mut self.over);
        over.into_iter()
            .map(|(keys, numbers)| {
                Ok(FrozenRows {
                    namespace: SESSIONS,
                    key_groups: self.format.key_groups(&keys, numbers.len())?,
                    keys,
                    suffix: Suffix::Long(numbers),
                    values: None,
                })
            })
            .collect()
    }

    fn write(&mut self, parts: Vec<FrozenRows>) -> Result<(), Error> {
        if !parts.is_empty() {
            let frozen = Frozen::new(parts, &self.format, &self.spill.memory);
            self.spill.store.write(Box::new(frozen), None)?;
            self.spill.wait();
        }
        Ok(())
    }

    /// Deletes the rows of sessions that are over now, not at the next barrier.
    pub(super) fn delete_over(&mut self) -> Result<(), Error> {
        let parts = self.rows_over()?;
        self.write(parts)
    }

    /// Keys are not in the index any more: what the store has of them must be what is.
    pub(super) fn on_keys_forgotten(&mut self) -> Result<(), Error> {
        self.asleep.keys_known = self.index.len();
        if self.asleep.due.is_empty() {
            return Ok(());
        }
        self.delete_over()
    }

    /// Writes the half of the sessions that has been quiet longest, and forgets them.
    pub(super) fn fall_asleep(&mut self) -> Result<(), Error> {
        let is_alone = |session: &Session| session.next == NONE;
        let mut tired: Vec<u32> = (0..self.sessions.len() as u32)
            .filter(|slot| {
                let session = &self.sessions[*slot as usize];
                session.is_open && is_alone(session) && self.heads[session.key as usize] == *slot
            })
            .collect();
        let half = self.open.div_ceil(2).min(tired.len());
        if half == 0 {
            return Ok(());
        }
        if half < tired.len() {
            tired.select_nth_unstable_by_key(half, |slot| self.sessions[*slot as usize].last);
            tired.truncate(half);
        }
        tired.sort_unstable();
        // Not after what is written next: a key that woke may be among those that fall asleep.
        self.delete_over()?;
        let mut parts = vec![self.rows_of(&tired, vec![ASLEEP; tired.len()])?];
        parts.extend(self.rows_when_due(&tired)?);
        // The rows they had while they were awake.
        self.note_over(&tired)?;
        self.write(parts)?;
        let mut is_tired = tired.iter().copied().peekable();
        let live: Vec<u32> = (0..self.sessions.len() as u32)
            .filter(|slot| is_tired.next_if_eq(slot).is_none() && self.sessions[*slot as usize].is_open)
            .collect();
        metrics::counter!("millstream_state_evictions_total").increment(1);
        self.keep(&live)
    }

    /// Rows by which these sessions are found when they are due.
    fn rows_when_due(&mut self, slots: &[u32]) -> Result<Vec<FrozenRows>, Error> {
        let mut by_stretch: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
        for slot in slots {
            let end = self.sessions[*slot as usize].last.saturating_add(self.gap);
            by_stretch.entry(self.calendar.stretch_of(end)).or_default().push(*slot);
        }
        let mut parts = Vec::with_capacity(by_stretch.len());
        for (stretch, slots) in by_stretch {
            let keys = self.keys_of(&slots)?;
            let key_groups = self.format.key_groups(&keys, slots.len())?;
            let due = self.asleep.due.entry(stretch).or_default();
            key_groups.iter().for_each(|group| due.insert(*group));
            parts.push(FrozenRows {
                namespace: namespace_of(stretch),
                keys,
                key_groups,
                suffix: Suffix::Long(vec![0; slots.len()]),
                values: Some(Vec::new()),
            });
        }
        Ok(parts)
    }

    /// Wakes the sessions of keys that have come into the index since this was last called; `false` if the store
    /// cannot be read now.
    pub(super) fn wake_new_keys(&mut self) -> Result<bool, Error> {
        let new = self.asleep.keys_known..self.index.len();
        if new.is_empty() || self.asleep.due.is_empty() {
            self.asleep.keys_known = new.end;
            return Ok(true);
        }
        if !self.spill.is_ready()? {
            return Ok(false);
        }
        let keys = self.index.keys(&Select::Range(new.clone()))?;
        let key_groups = self.format.key_groups(&keys, new.len())?;
        let encoded = match keys.is_empty() {
            true => None,
            false => Some(self.format.encode_keys(&keys)?),
        };
        let asked = key_groups.iter().enumerate().map(|(row, group)| {
            let columns: &[u8] = encoded.as_ref().map_or(&[], |keys| keys.row(row));
            (*group, sleeper(columns))
        });
        let (found, values) = self.look_up(&asked.collect::<Vec<_>>())?;
        self.groups = found.iter().map(|at| (new.start + at) as u32).collect();
        self.wake(&values)?;
        self.asleep.keys_known = new.end;
        Ok(true)
    }

    /// Which of these keys (with their key groups) are asleep, and their sessions.
    fn look_up(&self, asked: &[(u16, Vec<u8>)]) -> Result<(Vec<usize>, StoredRows), Error> {
        let keys: Vec<(Slot, &[u8])> = asked
            .iter()
            .map(|(group, key)| {
                let slot = Slot {
                    group: KeyGroup(*group),
                    namespace: SESSIONS,
                };
                (slot, key.as_slice())
            })
            .collect();
        let mut found = Vec::new();
        let mut values = StoredRows::default();
        for (at, value) in self.spill.store.get_many(&keys)?.into_iter().enumerate() {
            if let Some(value) = value {
                found.push(at);
                values.push(&value);
            }
        }
        Ok((found, values))
    }

    /// Opens the sessions of the keys in `groups`, which were asleep.
    fn wake(&mut self, values: &StoredRows) -> Result<(), Error> {
        if values.is_empty() {
            return Ok(());
        }
        let stored = self.format.decode_values(values)?;
        self.open_stored(&stored, None)?;
        let keys = self.index.keys(&Select::Indices(&self.groups))?;
        self.over.push((keys, vec![ASLEEP; values.len()]));
        Ok(())
    }

    /// Wakes some more sessions that may be due. Answers whether there were any, `None` if the store cannot be read now.
    pub(super) fn wake_due(&mut self) -> Result<Option<bool>, Error> {
        let due = self.calendar.stretch_of(self.watermark);
        if self.asleep.waking.is_none() {
            let Some((stretch, groups)) = self
                .asleep
                .due
                .first_key_value()
                .filter(|(stretch, _)| **stretch <= due)
            else {
                return Ok(Some(false));
            };
            self.asleep.waking = Some(Waking {
                stretch: *stretch,
                key_groups: groups.iter().rev().collect(),
                after: None,
            });
            self.delete_over()?;
            self.spill.wait();
        }
        if !self.spill.is_ready()? {
            return Ok(None);
        }
        let Some(mut waking) = self.asleep.waking.take() else {
            return Ok(Some(true));
        };
        let Some(group) = waking.key_groups.last().copied() else {
            if let Some(groups) = self.asleep.due.remove(&waking.stretch) {
                let namespace = namespace_of(waking.stretch);
                self.spill.store.delete_namespace(namespace, &groups.to_vec())?;
            }
            return Ok(Some(true));
        };
        let slot = Slot {
            group: KeyGroup(group),
            namespace: namespace_of(waking.stretch),
        };
        let mut asked = Vec::new();
        let mut last = Vec::new();
        let store = &self.spill.store;
        let more = store.scan(slot, waking.after.as_deref(), SCAN_ROWS, &mut |key, _| {
            asked.push((group, sleeper(split_number(key).0)));
            last.clear();
            last.extend_from_slice(key);
        })?;
        self.wake_found(&asked)?;
        if more {
            waking.after = Some(last);
        } else {
            waking.after = None;
            waking.key_groups.pop();
        }
        self.asleep.waking = Some(waking);
        Ok(Some(true))
    }

    /// Wakes those of these keys that are asleep.
    fn wake_found(&mut self, asked: &[(u16, Vec<u8>)]) -> Result<(), Error> {
        let mut keys = StoredRows::default();
        let (found, values) = self.look_up(asked)?;
        for at in found {
            keys.push(split_number(&asked[at].1).0);
        }
        if keys.is_empty() {
            return Ok(());
        }
        let columns = self.format.decode_keys(&keys)?;
        self.intern(&columns, keys.len())?;
        self.wake(&values)?;
        // All are awake now, and none of the keys was new: a batch looks its keys up before anything is fired.
        self.asleep.keys_known = self.index.len();
        Ok(())
    }
}

/// The key of a session asleep.
fn sleeper(columns: &[u8]) -> Vec<u8> {
    [columns, &ASLEEP.to_be_bytes()].concat()
}

/// The key columns and the number of a stored key.
fn split_number(key: &[u8]) -> (&[u8], u64) {
    let (columns, number) = key.split_at(key.len().saturating_sub(NUMBER_BYTES));
    let mut bytes = [0; NUMBER_BYTES];
    bytes[NUMBER_BYTES - number.len()..].copy_from_slice(number);
    (columns, u64::from_be_bytes(bytes))
}
