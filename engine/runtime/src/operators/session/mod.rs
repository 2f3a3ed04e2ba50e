//! Session windows: rows of one key that are no further apart than the gap belong to one window, which ends a gap after
//! its last row.
//!
//! Every open session is a *slot*: its bounds, and a group of the columnar accumulators. A row finds its key's sessions
//! by a dense key number; nearly always the newest one takes it. A row that closes the gap between two sessions joins
//! them: rows go on into the slots they were given, and once the batch is accumulated the absorbed slots' partial
//! states are merged, all at once. Slots are due by a coarse calendar ([`Calendar`]); a session that has grown since it
//! was noted there is noted again. Slots of sessions that are over are given back by rebuilding the table when they
//! are the majority.
//!
//! Rows exactly a gap apart are one session, as in Flink, whose windows `[start, last + gap)` merge when they touch. So
//! a session is over once the watermark has *reached* its end, not already just before it: a row at the end is not late
//! and joins. The watermark that goes on stays one behind, for the sake of the session that ends just above it.
//!
//! When memory is short, sessions fall *asleep* and leave it ([`asleep`]), to be woken before they are due. Rows of a
//! sleeper's key open another session meanwhile, a *piece* of the same; pieces are joined when the first of them wakes.
//!
//! State: at a barrier what has changed is appended as [`versions`] of sessions. Sessions asleep lie in [`pieces`] and
//! stand in the [`roll`]. Inline state: version byte 3, then bincode of [`Inline`]. (Version 1 had a row for each
//! session asleep, version 2 one for each that is awake.)

mod asleep;
mod calendar;
mod pieces;
mod roll;
mod stored;
mod versions;

use std::sync::Arc;

use arrow::array::{ArrayRef, TimestampMicrosecondArray, UInt32Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use millstream_graph::{self as graph, Port, TimeAttribute, Window};
use millstream_state::BlockCodec;

use self::asleep::{Asleep, Question, Woken};
use self::calendar::Calendar;
use self::roll::Sleeper;
use self::versions::Written;
use super::spill::{MemoryGrant, Spill};
use super::stored_rows::RowFormat;
use super::table::{Accumulator, GroupIndex, Select, TableSpec, new_accumulator, new_group_index};
use super::window_aggregate::{conform, emit_late, micros};
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{
    Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN,
};

const NONE: u32 = u32::MAX;
/// Slots before a rebuild is considered.
const REBUILD_SLOTS_MIN: usize = 16_384;
/// Sessions copied at once: keys of all of them may be more than one array can hold.
const COPIED_AT_ONCE: usize = 1 << 20;
const INLINE_VERSION: u8 = 3;

#[derive(serde::Serialize, serde::Deserialize)]
struct Inline {
    watermark: i64,
    next_number: u64,
}

/// The bounds of a session and where it stands.
#[derive(Clone, Copy)]
struct Session {
    first: i64,
    last: i64,
    key: u32,
    /// The key's next session, or `NONE`.
    next: u32,
    /// Names it in the store.
    number: u64,
    is_open: bool,
    is_dirty: bool,
    is_stored: bool,
    /// Nothing has come since it took over that it goes on until some sleeper's stretch.
    waits: bool,
}

/// The operator.
pub struct SessionAggregate {
    spec: Arc<TableSpec>,
    keys: Vec<usize>,
    time: TimeAttribute,
    gap: i64,
    output: SchemaRef,

    index: Box<dyn GroupIndex>,
    /// First session of each key, or `NONE`.
    heads: Vec<u32>,
    sessions: Vec<Session>,
    accumulators: Vec<Box<dyn Accumulator>>,
    open: usize,
    calendar: Calendar,
    /// Sessions that became dirty since the last barrier, some of which may be over.
    dirty: Vec<u32>,
    /// Sessions absorbed by others in the batch in hand, and by which.
    absorbed: Vec<(u32, u32)>,

    watermark: Timestamp,
    now: Timestamp,
    next_number: u64,
    spill: Spill,
    /// Of versions, and of pieces.
    version_format: Arc<RowFormat>,
    format: Arc<RowFormat>,
    written: Written,
    roll: Arc<BlockCodec>,
    asleep: Asleep,
    /// A batch with rows so late that they may belong to sessions asleep, while these are asked for.
    held: Option<(RecordBatch, Question)>,
    groups: Vec<u32>,
    slots: Vec<u32>,
}

impl SessionAggregate {
    pub fn new(
        name: &str,
        node: &graph::WindowAggregate,
        input: &SchemaRef,
        output: &SchemaRef,
        context: OperatorContext,
    ) -> Result<Self, Error> {
        let Window::Session { gap } = node.window else {
            return Err(Error::Operator {
                operator: name.to_owned(),
                message: "not a session window".to_owned(),
            });
        };
        let key_fields: Vec<FieldRef> = node.keys.iter().map(|key| Arc::clone(&input.fields()[*key])).collect();
        let spec = TableSpec::new(key_fields, &node.aggregates)?;
        let number = Arc::new(Field::new("number", DataType::Int64, false));
        let time = Arc::new(Field::new("time", DataType::Int64, false));
        let mut values = vec![number, Arc::clone(&time), time];
        values.extend(spec.stored_schema().fields()[node.keys.len()..].iter().cloned());
        let format = |values: &[FieldRef]| {
            let keys = &spec.key_fields;
            RowFormat::new(keys, keys.len(), values, context.max_parallelism).map(Arc::new)
        };
        let (version_format, format) = (format(&values)?, format(&values[1..])?);
        let mut watermark: Option<i64> = None;
        let mut next_number = 0;
        let is_restored = context.restored_inline.iter().any(|bytes| !bytes.is_empty());
        for bytes in context.restored_inline.iter().filter(|bytes| !bytes.is_empty()) {
            let state: Inline = inline::decode(bytes, INLINE_VERSION)?;
            watermark = Some(watermark.map_or(state.watermark, |found| found.min(state.watermark)));
            next_number = next_number.max(state.next_number);
        }
        let calendar = Calendar::new(gap);
        let watermark = watermark.unwrap_or(WATERMARK_MIN);
        let mut operator = Self {
            index: new_group_index(&spec.key_fields)?,
            heads: Vec::new(),
            sessions: Vec::new(),
            accumulators: accumulators(&spec)?,
            open: 0,
            asleep: Asleep::new(calendar.stretch_of(watermark), context.memory.limit_bytes()),
            calendar,
            dirty: Vec::new(),
            absorbed: Vec::new(),
            watermark,
            now: WATERMARK_MIN,
            next_number,
            spill: Spill::new(context.store, context.memory, context.waker),
            version_format,
            format,
            written: Written::new()?,
            roll: roll::codec(&spec.key_fields)?,
            held: None,
            groups: Vec::new(),
            slots: Vec::new(),
            keys: node.keys.clone(),
            time: node.time,
            gap,
            output: Arc::clone(output),
            spec,
        };
        if is_restored {
            operator.load()?;
        }
        Ok(operator)
    }

    fn intern(&mut self, keys: &[ArrayRef], rows: usize) -> Result<(), Error> {
        self.index.intern(keys, rows, &mut self.groups)?;
        self.heads.resize(self.index.len(), NONE);
        Ok(())
    }

    /// A new session in front of its key's others.
    fn open_session(&mut self, key: u32, first: i64, last: i64) -> u32 {
        let slot = self.sessions.len() as u32;
        self.sessions.push(Session {
            first,
            last,
            key,
            next: self.heads[key as usize],
            number: self.next_number,
            is_open: true,
            is_dirty: true,
            is_stored: false,
            waits: false,
        });
        self.next_number += 1;
        self.dirty.push(slot);
        self.heads[key as usize] = slot;
        self.open += 1;
        self.calendar.note(slot, last.saturating_add(self.gap));
        slot
    }

    /// The session a row belongs to; `None` if it is late.
    #[inline]
    fn place(&mut self, key: u32, time: i64) -> Option<u32> {
        let head = self.heads[key as usize];
        if head != NONE {
            let session = &mut self.sessions[head as usize];
            // The usual row: within its key's only session, or at most a gap behind it.
            if session.next == NONE && session.first <= time && time <= session.last.saturating_add(self.gap) {
                session.last = session.last.max(time);
                session.waits = false;
                self.touch(head);
                return Some(head);
            }
        }
        self.place_among(key, time)
    }

    #[inline]
    fn touch(&mut self, slot: u32) {
        let session = &mut self.sessions[slot as usize];
        if !session.is_dirty {
            session.is_dirty = true;
            self.dirty.push(slot);
        }
    }

    fn place_among(&mut self, key: u32, time: i64) -> Option<u32> {
        if let Some(slot) = self.join(key, time, time) {
            return Some(slot);
        }
        (!self.is_late(time)).then(|| self.open_session(key, time, time))
    }

    /// The session of a row that may belong to one of these sleepers; `None` if it is late.
    fn place_asked(&mut self, key: u32, time: i64, sleepers: &[Sleeper]) -> Option<u32> {
        let end = time.saturating_add(self.gap);
        let slot = match self.join(key, time, time) {
            Some(slot) => slot,
            None if self.is_late(time) && !sleepers.iter().any(|sleeper| sleeper.first <= end) => return None,
            None => self.open_session(key, time, time),
        };
        self.take_over(slot, sleepers);
        Some(slot)
    }

    /// Whether a session of this one row would be over.
    fn is_late(&self, time: i64) -> bool {
        time.saturating_add(self.gap).saturating_sub(1) <= self.watermark
    }

    fn end_of(&self, session: &Session) -> i64 {
        session.last.saturating_add(self.gap)
    }

    /// The session of a key that is near a stretch of time, and holds it from now on; if there are several they become
    /// one.
    fn join(&mut self, key: u32, mut first: i64, mut last: i64) -> Option<u32> {
        let near = |session: &Session, first: i64, last: i64| {
            first <= session.last.saturating_add(self.gap) && session.first <= last.saturating_add(self.gap)
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
        // Absorb what is now near.
        let mut before = NONE;
        let mut other = self.heads[key as usize];
        while other != NONE {
            let session = self.sessions[other as usize];
            if other != at && near(&session, first, last) {
                first = first.min(session.first);
                last = last.max(session.last);
                self.absorbed.push((other, at));
                self.sessions[other as usize].is_open = false;
                self.open -= 1;
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
        session.waits = false;
        session.first = first;
        session.last = last;
        self.touch(at);
        Some(at)
    }

    fn update(&mut self, batch: &RecordBatch, rows: Option<UInt32Array>) -> Result<(), Error> {
        let mut arguments = self.spec.arguments(batch)?;
        if let Some(rows) = rows {
            for argument in &mut arguments {
                *argument = argument.map(|array| Ok(arrow_select::take::take(array, &rows, None)?))?;
            }
        }
        let count = self.sessions.len();
        for (accumulator, argument) in self.accumulators.iter_mut().zip(&arguments) {
            accumulator.update(&argument.values, argument.filter.as_ref(), &self.slots, count)?;
        }
        self.merge_absorbed()
    }

    fn merge_absorbed(&mut self) -> Result<(), Error> {
        if self.absorbed.is_empty() {
            return Ok(());
        }
        let count = self.sessions.len();
        // Each absorbed slot holds only its own rows: all go straight to the session that remained.
        let absorbed = std::mem::take(&mut self.absorbed);
        let into: std::collections::HashMap<u32, u32> = absorbed.iter().copied().collect();
        let from: Vec<u32> = absorbed.iter().map(|(from, _)| *from).collect();
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
        for accumulator in &mut self.accumulators {
            let states = accumulator.state(&Select::Indices(&from))?;
            accumulator.merge(&states, &roots, count)?;
        }
        self.note_over(&from)
    }

    /// Emits sessions whose end the watermark has reached; wakes those among them that are asleep.
    fn fire(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        loop {
            if self.fire_awake(out)? == Progress::More {
                return Ok(Progress::More);
            }
            match self.wake()? {
                // What has been emitted gives its memory back before more is woken.
                Woken::Some => self.rebuild()?,
                Woken::More => return Ok(Progress::More),
                Woken::Pending => return Ok(Progress::Pending),
                Woken::Nothing => break,
            }
        }
        self.rebuild()?;
        let size = self.size();
        self.spill.reservation.force_resize(size);
        Ok(Progress::Done)
    }

    fn fire_awake(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let whole_until = self.whole_until();
        let (sessions, gap) = (&self.sessions, self.gap);
        let end_of = |slot: u32| {
            let session = &sessions[slot as usize];
            session.is_open.then(|| session.last.saturating_add(gap))
        };
        let mut due = Vec::new();
        while due.len() < EMIT_ROWS_MAX
            && let Some(slot) = self.calendar.take_due(whole_until, end_of)
        {
            due.push(slot);
        }
        if due.is_empty() {
            return Ok(Progress::Done);
        }
        self.emit(&due, out)?;
        Ok(match due.len() < EMIT_ROWS_MAX {
            true => Progress::Done,
            false => Progress::More,
        })
    }

    fn emit(&mut self, slots: &[u32], out: &mut dyn Collector) -> Result<(), Error> {
        let select = Select::Indices(slots);
        let keys: Vec<u32> = slots.iter().map(|slot| self.sessions[*slot as usize].key).collect();
        let mut columns = self.index.keys(&Select::Indices(&keys))?;
        for accumulator in &mut self.accumulators {
            columns.push(accumulator.evaluate(&select)?);
        }
        let bounds = |bound: &dyn Fn(&Session) -> i64| -> ArrayRef {
            Arc::new(TimestampMicrosecondArray::from_iter_values(
                slots.iter().map(|slot| bound(&self.sessions[*slot as usize])),
            ))
        };
        columns.push(bounds(&|session| session.first));
        columns.push(bounds(&|session| session.last.saturating_add(self.gap)));
        out.emit(Port::Main, conform(&self.output, columns)?);
        for slot in slots {
            self.unlink(*slot);
        }
        self.note_over(slots)
    }

    fn unlink(&mut self, slot: u32) {
        let session = self.sessions[slot as usize];
        self.sessions[slot as usize].is_open = false;
        self.open -= 1;
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

    /// Gives back what sessions that are over still hold, once they are the majority.
    fn rebuild(&mut self) -> Result<(), Error> {
        if self.sessions.len() < REBUILD_SLOTS_MIN || self.open * 2 > self.sessions.len() {
            return Ok(());
        }
        let live: Vec<u32> = (0..self.sessions.len() as u32)
            .filter(|slot| self.sessions[*slot as usize].is_open)
            .collect();
        self.keep(&live)
    }

    /// Forgets all sessions but these, and all keys without one.
    fn keep(&mut self, live: &[u32]) -> Result<(), Error> {
        let count = live.len();
        let mut fresh = accumulators(&self.spec)?;
        for (fresh, old) in fresh.iter_mut().zip(&mut self.accumulators) {
            let mut slots = 0..count as u32;
            for some in live.chunks(COPIED_AT_ONCE) {
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
        self.calendar.clear();
        self.dirty.clear();
        for some in live.chunks(COPIED_AT_ONCE) {
            let keys: Vec<u32> = some.iter().map(|slot| old[*slot as usize].key).collect();
            self.intern(&old_index.keys(&Select::Indices(&keys))?, some.len())?;
            for (row, old_slot) in some.iter().enumerate() {
                let slot = self.sessions.len() as u32;
                let mut session = old[*old_slot as usize];
                session.key = self.groups[row];
                session.next = std::mem::replace(&mut self.heads[session.key as usize], slot);
                self.calendar.note(slot, session.last.saturating_add(self.gap));
                if session.is_dirty {
                    self.dirty.push(slot);
                }
                self.sessions.push(session);
            }
        }
        self.open = count;
        Ok(())
    }

    /// Bytes held.
    fn size(&self) -> usize {
        self.index.size()
            + self.heads.capacity() * size_of::<u32>()
            + self.sessions.capacity() * size_of::<Session>()
            + self.dirty.capacity() * size_of::<u32>()
            + self.calendar.size()
            + self
                .accumulators
                .iter()
                .map(|accumulator| accumulator.size())
                .sum::<usize>()
    }

    fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let size = self.size();
        // Putting sessions to sleep copies what goes and what stays; the copy of what goes takes less than it did.
        match self.spill.request_memory(size, size - size / 4)? {
            MemoryGrant::Granted => return Ok(Progress::Done),
            MemoryGrant::Wait => return Ok(Progress::Pending),
            MemoryGrant::Evict => {}
        }
        self.asleep.room_bytes = size;
        self.fall_asleep()?;
        let size = self.size();
        self.spill.reservation.force_resize(size);
        Ok(Progress::Done)
    }

    fn key_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect()
    }

    /// Time of each row, and which have one.
    fn times(&self, batch: &RecordBatch) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>), Error> {
        match self.time {
            TimeAttribute::Event(column) => micros(batch.column(column)),
            TimeAttribute::Processing => Ok((vec![self.now; batch.num_rows()].into(), None)),
        }
    }

    /// Goes on with a batch that is held.
    fn ask_and_take(
        &mut self,
        batch: RecordBatch,
        mut question: Question,
        out: &mut dyn Collector,
    ) -> Result<Progress, Error> {
        match self.ask_on(&mut question)? {
            Some(true) => {
                self.take(&batch, Some(question), out)?;
                self.relieve_memory()
            }
            unfinished => {
                self.held = Some((batch, question));
                Ok(match unfinished {
                    Some(_) => Progress::More,
                    None => Progress::Pending,
                })
            }
        }
    }

    fn take(&mut self, batch: &RecordBatch, asked: Option<Question>, out: &mut dyn Collector) -> Result<(), Error> {
        let rows = batch.num_rows();
        self.intern(&self.key_columns(batch), rows)?;
        let (times, nulls) = self.times(batch)?;
        let groups = std::mem::take(&mut self.groups);
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        let mut late = Vec::new();
        let mut put = |row: usize, slot: Option<u32>| match slot {
            Some(slot) => slots.push(slot),
            None => late.push(row as u32),
        };
        let rows_of = groups.iter().copied().zip(times.iter().copied()).enumerate();
        let has_time = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        match asked {
            None => rows_of.for_each(|(row, (key, time))| {
                put(row, has_time(row).then(|| self.place(key, time)).flatten());
            }),
            Some(asked) => {
                let answers = asked.asking.answers();
                let mut asked = asked.rows.iter().copied().enumerate().peekable();
                rows_of.for_each(|(row, (key, time))| {
                    let question = asked.next_if(|(_, asked)| *asked as usize == row);
                    let slot = match question {
                        _ if !has_time(row) => None,
                        Some((question, _)) => self.place_asked(key, time, answers.of(question)),
                        None => self.place(key, time),
                    };
                    put(row, slot);
                });
            }
        }
        self.groups = groups;
        self.slots = slots;
        if late.is_empty() {
            return self.update(batch, None);
        }
        let mut is_late = late.iter().copied().peekable();
        let kept: Vec<u32> = (0..rows as u32)
            .filter(|row| is_late.next_if_eq(row).is_none())
            .collect();
        self.update(batch, Some(kept.into()))?;
        emit_late(0, batch, late, out)
    }
}

fn accumulators(spec: &TableSpec) -> Result<Vec<Box<dyn Accumulator>>, Error> {
    spec.aggregates.iter().map(new_accumulator).collect()
}

impl Operator for SessionAggregate {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let (times, nulls) = self.times(&batch)?;
        let has_time = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        if let Some(question) = self.question(&batch, &times, has_time)? {
            return self.ask_and_take(batch, question, out);
        }
        self.take(&batch, None, out)?;
        self.relieve_memory()
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.time == TimeAttribute::Processing {
            return Ok(Progress::Done);
        }
        self.watermark = self.watermark.max(watermark);
        self.fire(out)
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        match watermark {
            WATERMARK_MAX => WATERMARK_MAX,
            watermark => watermark.saturating_sub(1),
        }
    }

    fn on_time(&mut self, now: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        if self.time != TimeAttribute::Processing {
            return Ok(Progress::Done);
        }
        self.watermark = self.watermark.max(now.saturating_sub(1));
        self.fire(out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        if self.time != TimeAttribute::Processing {
            return None;
        }
        let awake = self.calendar.next_stretch();
        let stretch = awake.into_iter().chain(self.asleep.next_due()).min()?;
        // Not before the stretch has passed: one timer for all its sessions.
        Some(self.calendar.start_of(stretch.saturating_add(1)))
    }

    fn processing_time(&self) -> Option<Timestamp> {
        let has_time = self.time == TimeAttribute::Processing && self.watermark != WATERMARK_MIN;
        // Rows at the watermark would be late.
        has_time.then(|| self.watermark.saturating_add(1))
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if let Some((batch, question)) = self.held.take() {
            return self.ask_and_take(batch, question, out);
        }
        if self.spill.is_waiting_for_memory() {
            return self.relieve_memory();
        }
        self.fire(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        self.write_changes()?;
        let state = Inline {
            watermark: self.watermark,
            next_number: self.next_number,
        };
        self.spill.snapshot(checkpoint, &state, INLINE_VERSION)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.watermark = WATERMARK_MAX;
        self.fire(out)
    }
}

#[cfg(test)]
mod tests;
