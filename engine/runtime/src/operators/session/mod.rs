//! Session windows: rows of one key that are at most a gap apart belong to one window, which ends a gap after its last
//! row.
//!
//! Every open session has a *slot*: its bounds, and a group of the columnar accumulators ([`open_sessions`]). A row
//! finds its key's sessions by a dense key number; nearly always it belongs to the newest one. A row that closes the
//! gap between two sessions merges them: rows are accumulated into the slots they were assigned, and the absorbed
//! slots' partial states are merged after the batch. Expired sessions are found by a coarse queue ([`expiry_queue`]).
//!
//! Rows exactly a gap apart are one session, as in Flink, whose windows `[start, last + gap)` merge when they touch. So
//! a session has expired once the watermark has *reached* its end, not already just before it: a row at the end is not
//! late. The output watermark is one less, because of the session that ends just above it.
//!
//! When memory is short, sessions are [`spilled`] as [`fragments`], and reloaded before they expire ([`reload`]).
//!
//! State: at a barrier changes are appended to the [`session_log`]. Spilled sessions are in the namespaces of
//! [`fragments`] and in the [`spill_index`]. Inline state: version byte 3, then bincode of [`Inline`]. (Version 1 had a
//! row for each spilled session, version 2 one for each session in memory.)

mod expiry_queue;
mod fragments;
mod log_flush;
mod open_sessions;
mod persistence;
mod reload;
mod session_log;
mod spill_index;
mod spilled;

use std::sync::Arc;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use millstream_graph::{self as graph, Port, TimeAttribute, Window};
use millstream_state::BlockCodec;

use self::open_sessions::OpenSessions;
use self::reload::ReloadProgress;
use self::session_log::SessionLog;
use self::spill_index::SpilledFragment;
use self::spilled::{LateLookup, SpilledSessions};
use super::keyed_state::RowFormat;
use super::spill::{MemoryGrant, Spill};
use super::table::TableSpec;
use super::window_aggregate::{conform, emit_late, micros};
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{
    Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN,
};

const INLINE_VERSION: u8 = 3;

#[derive(serde::Serialize, serde::Deserialize)]
struct Inline {
    watermark: i64,
    next_number: u64,
}

/// The operator of session windows.
pub(super) struct SessionAggregate {
    spec: Arc<TableSpec>,
    keys: Vec<usize>,
    time: TimeAttribute,
    gap: i64,
    output: SchemaRef,
    sessions: OpenSessions,
    watermark: Timestamp,
    now: Timestamp,
    spill: Spill,
    log_format: Arc<RowFormat>,
    log: SessionLog,
    fragment_format: Arc<RowFormat>,
    index_codec: Arc<BlockCodec>,
    spilled: SpilledSessions,
    /// A batch with late rows that may belong to spilled sessions, and their lookup.
    pending_batch: Option<(RecordBatch, LateLookup)>,
    /// Scratch: key numbers and slots of a batch's rows.
    groups: Vec<u32>,
    slots: Vec<u32>,
}

impl SessionAggregate {
    /// Creates the operator, with the sessions of the checkpoint it resumes from.
    pub(super) fn new(
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
        let (log_format, fragment_format) = (format(&values)?, format(&values[1..])?);
        let mut watermark: Option<i64> = None;
        let mut next_number = 0;
        let is_restored = context.restored_inline.iter().any(|bytes| !bytes.is_empty());
        for bytes in context.restored_inline.iter().filter(|bytes| !bytes.is_empty()) {
            let state: Inline = inline::decode(bytes, INLINE_VERSION)?;
            watermark = Some(watermark.map_or(state.watermark, |found| found.min(state.watermark)));
            next_number = next_number.max(state.next_number);
        }
        let watermark = watermark.unwrap_or(WATERMARK_MIN);
        let sessions = OpenSessions::new(&spec, gap, next_number)?;
        let loaded_until = sessions.expiry_queue.bucket_of(watermark);
        let mut operator = Self {
            spilled: SpilledSessions::new(loaded_until, context.memory.limit_bytes()),
            sessions,
            watermark,
            now: WATERMARK_MIN,
            spill: Spill::new(context.store, context.memory, context.waker),
            log_format,
            fragment_format,
            log: SessionLog::new()?,
            index_codec: spill_index::codec(&spec.key_fields)?,
            pending_batch: None,
            groups: Vec::new(),
            slots: Vec::new(),
            keys: node.keys.clone(),
            time: node.time,
            gap,
            output: Arc::clone(output),
            spec,
        };
        if is_restored {
            operator.restore()?;
        }
        Ok(operator)
    }

    /// Returns the session of a row, or `None` if the row is late.
    #[inline]
    fn assign(&mut self, key: u32, time: i64) -> Option<u32> {
        match self.sessions.extend(key, time) {
            Some(slot) => Some(slot),
            None if self.is_late(time) => None,
            None => Some(self.sessions.open(key, time, time)),
        }
    }

    /// Returns the session of a row that may belong to one of these spilled fragments, or `None` if the row is late.
    fn assign_with_lookup(&mut self, key: u32, time: i64, fragments: &[SpilledFragment]) -> Option<u32> {
        let end = time.saturating_add(self.gap);
        let slot = match self.sessions.extend_or_merge(key, time, time) {
            Some(slot) => slot,
            None if self.is_late(time) && !fragments.iter().any(|fragment| fragment.first <= end) => return None,
            None => self.sessions.open(key, time, time),
        };
        self.defer(slot, fragments);
        Some(slot)
    }

    /// Returns true if a session of a single row at this time would have expired.
    fn is_late(&self, time: i64) -> bool {
        time.saturating_add(self.gap).saturating_sub(1) <= self.watermark
    }

    fn update(&mut self, batch: &RecordBatch, rows: Option<UInt32Array>) -> Result<(), Error> {
        let mut arguments = self.spec.arguments(batch)?;
        if let Some(rows) = rows {
            for argument in &mut arguments {
                *argument = argument.map(|array| Ok(arrow_select::take::take(array, &rows, None)?))?;
            }
        }
        self.sessions.update(&arguments, &self.slots)?;
        self.merge_absorbed()
    }

    fn merge_absorbed(&mut self) -> Result<(), Error> {
        let absorbed = self.sessions.merge_absorbed()?;
        self.note_closed(&absorbed)
    }

    /// Emits the sessions whose end the watermark has reached, and reloads spilled ones before.
    fn fire(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        loop {
            if self.fire_complete(out)? == Progress::More {
                return Ok(Progress::More);
            }
            match self.reload_expiring()? {
                // Memory of emitted sessions is released before more is reloaded.
                ReloadProgress::Finished => self.sessions.reclaim()?,
                ReloadProgress::More => return Ok(Progress::More),
                ReloadProgress::Pending => return Ok(Progress::Pending),
                ReloadProgress::UpToDate => break,
            }
        }
        self.sessions.reclaim()?;
        self.spill.reservation.force_resize(self.sessions.size());
        Ok(Progress::Done)
    }

    /// Emits expired sessions that are known to be complete.
    fn fire_complete(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let expired = self.sessions.pop_expired(self.complete_until(), EMIT_ROWS_MAX);
        if expired.is_empty() {
            return Ok(Progress::Done);
        }
        let results = self.sessions.results(&expired)?;
        out.emit(Port::Main, conform(&self.output, results)?);
        for slot in &expired {
            self.sessions.close(*slot);
        }
        self.note_closed(&expired)?;
        Ok(match expired.len() < EMIT_ROWS_MAX {
            true => Progress::Done,
            false => Progress::More,
        })
    }

    fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let size = self.sessions.size();
        // Spilling copies the spilled and the retained sessions. The copy of the spilled ones is smaller than their
        // slots.
        match self.spill.request_memory(size, size - size / 4)? {
            MemoryGrant::Granted => return Ok(Progress::Done),
            MemoryGrant::Wait => return Ok(Progress::Pending),
            MemoryGrant::Evict => {}
        }
        self.spilled.memory_bytes = size;
        self.spill_sessions()?;
        self.spill.reservation.force_resize(self.sessions.size());
        Ok(Progress::Done)
    }

    fn key_columns(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect()
    }

    /// Returns the time of each row, and the rows that have one if some have none.
    fn times(&self, batch: &RecordBatch) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>), Error> {
        match self.time {
            TimeAttribute::Event(column) => micros(batch.column(column)),
            TimeAttribute::Processing => Ok((vec![self.now; batch.num_rows()].into(), None)),
        }
    }

    /// Goes on with the lookup of a pending batch, and processes the batch once it is finished.
    fn look_up_and_process(
        &mut self,
        batch: RecordBatch,
        mut lookup: LateLookup,
        out: &mut dyn Collector,
    ) -> Result<Progress, Error> {
        match self.advance_lookup(&mut lookup)? {
            Some(true) => {
                self.process_batch(&batch, Some(lookup), out)?;
                self.relieve_memory()
            }
            unfinished => {
                self.pending_batch = Some((batch, lookup));
                Ok(match unfinished {
                    Some(_) => Progress::More,
                    None => Progress::Pending,
                })
            }
        }
    }

    fn process_batch(
        &mut self,
        batch: &RecordBatch,
        lookup: Option<LateLookup>,
        out: &mut dyn Collector,
    ) -> Result<(), Error> {
        let rows = batch.num_rows();
        let mut groups = std::mem::take(&mut self.groups);
        self.sessions.intern(&self.key_columns(batch), rows, &mut groups)?;
        let (times, nulls) = self.times(batch)?;
        let mut slots = std::mem::take(&mut self.slots);
        slots.clear();
        let mut late = Vec::new();
        let mut put = |row: usize, slot: Option<u32>| match slot {
            Some(slot) => slots.push(slot),
            None => late.push(row as u32),
        };
        let rows_of = groups.iter().copied().zip(times.iter().copied()).enumerate();
        let has_time = |row: usize| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        match lookup {
            None => rows_of.for_each(|(row, (key, time))| {
                put(row, has_time(row).then(|| self.assign(key, time)).flatten());
            }),
            Some(LateLookup { rows, lookup }) => {
                let result = lookup.finish();
                let mut looked_up = rows.iter().copied().enumerate().peekable();
                rows_of.for_each(|(row, (key, time))| {
                    let late = looked_up.next_if(|(_, late)| *late as usize == row);
                    let slot = match late {
                        _ if !has_time(row) => None,
                        Some((at, _)) => self.assign_with_lookup(key, time, result.fragments(at)),
                        None => self.assign(key, time),
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
        let assigned: Vec<u32> = (0..rows as u32)
            .filter(|row| is_late.next_if_eq(row).is_none())
            .collect();
        self.update(batch, Some(assigned.into()))?;
        emit_late(0, batch, late, out)
    }
}

impl Operator for SessionAggregate {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let (times, nulls) = self.times(&batch)?;
        let has_time = |row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(row));
        if let Some(lookup) = self.late_lookup(&batch, &times, has_time)? {
            return self.look_up_and_process(batch, lookup, out);
        }
        self.process_batch(&batch, None, out)?;
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
        let queue = &self.sessions.expiry_queue;
        let bucket = queue
            .next_bucket()
            .into_iter()
            .chain(self.spilled.next_bucket())
            .min()?;
        // Not before the bucket has passed: one timer for all its sessions.
        Some(queue.bucket_start(bucket.saturating_add(1)))
    }

    fn processing_time(&self) -> Option<Timestamp> {
        let has_time = self.time == TimeAttribute::Processing && self.watermark != WATERMARK_MIN;
        // Rows at the watermark would be late.
        has_time.then(|| self.watermark.saturating_add(1))
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if let Some((batch, lookup)) = self.pending_batch.take() {
            return self.look_up_and_process(batch, lookup, out);
        }
        if self.spill.is_waiting_for_memory() {
            return self.relieve_memory();
        }
        self.fire(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        #[cfg(debug_assertions)]
        {
            self.sessions.check();
            self.spilled.check();
        }
        self.write_changes()?;
        let state = Inline {
            watermark: self.watermark,
            next_number: self.sessions.next_number(),
        };
        self.spill.snapshot(checkpoint, &state, INLINE_VERSION)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.watermark = WATERMARK_MAX;
        self.fire(out)
    }
}

#[cfg(test)]
pub(super) mod tests;
