//! The operator that runs a [`RowsLogic`]: state with many rows per key, and output of changes.

use std::collections::{HashSet, VecDeque};
use std::task::Waker;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow_array::RecordBatch;
use millstream_graph::{Emission, Port};
use millstream_state::keyed::{FORMER_GENERATIONS, MissingRows, Resolved, Rows, RowsOptions};
use millstream_state::store::{CollectionRead, KeyedPosition, PendingRead, PrefixRead, ScannedRows, StoredRows};
use serde::{Deserialize, Serialize};

use super::call_size::CallSize;
use super::changes::OutputForm;
use super::memory::{FILTER_SHARE, ensure_memory, write_changes};
use super::{CALL_ROWS_MAX, Keys, generation_length, generation_of};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp, WATERMARK_MIN};
use crate::operators::mutants::{self, Mutant};
use crate::operators::spill::Spill;
use crate::operators::window_aggregate::emit_late;
use crate::operators::{OperatorContext, inline};

/// Version of the inline state.
const INLINE_VERSION: u8 = 2;
/// Number of changes that logic returns at once, about.
pub(in crate::operators) const CHANGES_MAX: usize = 4_096;

/// The input of expired rows that are processed again ([`RowsLogic::due_rows`]).
pub(in crate::operators) const DUE: usize = 2;

/// Keys of a collection.
pub(in crate::operators) struct RowKeys {
    /// The keys.
    pub keys: Keys,
    /// True if all rows of the keys are needed.
    pub is_read: bool,
    /// True if no rows are added to the keys. Keys without rows then have the slot `u32::MAX`.
    pub is_looked_up: bool,
}

/// Changes of the output: rows, and how often each is added (positive) or removed.
pub(in crate::operators) struct WeightedRows {
    /// The output columns.
    pub columns: Vec<ArrayRef>,
    /// Weight of each row, not zero.
    pub weights: Vec<i64>,
}

/// The logic of an operator whose state has many rows per key.
pub(in crate::operators) trait RowsLogic: Send {
    /// Returns the collections, in their order.
    fn collections(&self) -> Vec<RowsOptions>;

    /// Returns the rows of a batch that are late: behind the watermark, or without a time. They are not processed.
    fn late_rows(&self, input: usize, batch: &RecordBatch, watermark: Timestamp) -> Result<Vec<u32>, Error>;

    /// Returns the keys of each collection that the rows of a batch touch. They are found before [`RowsLogic::apply`]
    /// is called with the same batch.
    fn keys(&mut self, input: usize, batch: &RecordBatch) -> Result<Vec<RowKeys>, Error>;

    /// Updates the rows that a batch touches. `resolved` has the slots of the keys, by collection, and `generations`
    /// the present generations by processing time.
    fn apply(
        &mut self,
        input: usize,
        batch: &RecordBatch,
        resolved: &[Resolved],
        rows: &mut [Rows],
        generations: &[u32],
    ) -> Result<(), Error>;

    /// Returns the next changes of the output by the call under way, about [`CHANGES_MAX`]; `None` if there are no
    /// more. The state is as the call left it.
    fn next_changes(&mut self, rows: &[Rows]) -> Result<Option<WeightedRows>, Error>;

    /// Returns the collections whose keys are all visited at the end of input ([`RowsLogic::apply_final`]).
    fn final_collections(&self) -> Vec<usize>;

    /// Prepares the output of keys of a collection at the end of input. The keys are resolved in all collections, and
    /// complete.
    fn apply_final(&mut self, collection: usize, resolved: &[Resolved], rows: &[Rows]) -> Result<(), Error>;

    /// Returns, by collection, the generations that expire when event time advances to `watermark`, and forgets them.
    fn expired(&mut self, watermark: Timestamp) -> Vec<Vec<u32>>;

    /// Returns true if the output depends on the expired rows of a collection.
    fn sees_expired(&self, collection: usize) -> bool;

    /// Sees an expired row that is about to be removed from memory.
    fn expire_row(&mut self, collection: usize, rows: &Rows, entry: u32);

    /// Sees expired rows that are only in the store: their whole database keys, and their values.
    fn expire_stored(&mut self, collection: usize, rows: &Rows, stored: &[(&[u8], &[u8])]) -> Result<(), Error>;

    /// Returns the watermark to forward for a watermark of the inputs.
    fn output_watermark(&self, watermark: Timestamp) -> Timestamp;

    /// Returns the generations that expire at the end of an input, by collection.
    fn on_input_end(&mut self, _input: usize) -> Vec<Vec<u32>> {
        Vec::new()
    }

    /// Returns the expired rows that are to be processed now, as rows of the input [`DUE`].
    fn due_rows(&mut self, _rows: &[Rows]) -> Result<Vec<RecordBatch>, Error> {
        Ok(Vec::new())
    }

    /// Returns state that is stored in the manifest: generations of event time, and times that belong to them.
    fn inline(&self) -> Vec<(u8, u32, Timestamp)>;

    /// Restores what [`RowsLogic::inline`] returned; called for each subtask of the checkpoint. `watermark` is that of
    /// the checkpoint.
    fn restore(&mut self, inline: Vec<(u8, u32, Timestamp)>, watermark: Timestamp);
}

/// An operator over collections with many rows per key.
pub(in crate::operators) struct KeyedRows<L> {
    logic: L,
    rows: Vec<Rows>,
    spill: Spill,
    waker: Waker,
    form: OutputForm,
    emission: Emission,
    /// Rows that are not processed yet, with their input; at most [`CALL_ROWS_MAX`] in each batch.
    queue: VecDeque<(usize, RecordBatch)>,
    call: Call,
    call_size: CallSize,
    /// Number of keys that the present call has read, and the bytes of their rows.
    read: (usize, usize),
    resolved: Vec<Resolved>,
    expiring: VecDeque<ExpiredGeneration>,
    /// Database keys of expired rows that were in memory.
    seen: HashSet<Vec<u8>>,
    finishing: Finishing,
    /// By collection: the length of a generation in microseconds; `None` if rows have no time-to-live.
    generation_us: Vec<Option<i64>>,
    /// By collection: the present generation by processing time.
    generations: Vec<u32>,
    /// The last key that was visited at the end of input.
    last_key: Vec<u8>,
    now: Timestamp,
    watermark: Timestamp,
}

/// Settings of a [`KeyedRows`].
pub(in crate::operators) struct RowsForm {
    pub output: OutputForm,
    pub emission: Emission,
    /// By collection: the time-to-live of rows, which determines the length of generations.
    pub state_ttl: Vec<Option<Duration>>,
}

/// Work of one call.
enum Work {
    Batch(usize, RecordBatch),
    /// Keys of a collection at the end of input.
    Final(usize),
}

/// Keys whose rows are being read, and the read.
type KeysRead = (MissingRows, PendingRead<Vec<StoredRows>>);

/// The state of the present call.
enum Call {
    /// No call is under way.
    Idle,
    /// Rows are being read, by collection.
    Reading(Work, Vec<Option<KeysRead>>),
    /// The changes of the call are being emitted.
    Emitting,
    /// Expired rows are being read.
    Expiring(PendingRead<ScannedRows>),
    /// Keys of a collection are being read at the end of input.
    Scanning(PendingRead<ScannedRows>),
    /// The rows of the last batch are processed; memory is needed before the next one.
    Memory,
}

/// A generation whose rows in the store have expired.
struct ExpiredGeneration {
    collection: usize,
    generation: u32,
    is_seen: bool,
    /// Position of the scan over its rows.
    from: Option<KeyedPosition>,
}

/// The state of the output at the end of input.
enum Finishing {
    No,
    /// The next collection, by its place among the final ones, and its next slot in memory.
    Memory(usize, u32),
    /// The rows are being written.
    Writing,
    /// The next collection and the position of the scan over its rows in the store.
    Stored(usize, Option<KeyedPosition>),
    Done,
}

/// State in the manifest.
#[derive(Serialize, Deserialize)]
struct Inline {
    now: Timestamp,
    watermark: Timestamp,
    /// By collection: the next sequence number, and the generations that the store has.
    collections: Vec<(u64, Vec<u32>)>,
    logic: Vec<(u8, u32, Timestamp)>,
}

impl<L: RowsLogic> KeyedRows<L> {
    /// Creates the operator, with the state that its store has.
    pub(in crate::operators) fn new(mut logic: L, form: RowsForm, context: OperatorContext) -> Result<Self, Error> {
        let options = logic.collections();
        let mut rows = options.into_iter().map(Rows::new).collect::<Result<Vec<_>, _>>()?;
        let filter_bytes_max = context.memory.limit_bytes() / FILTER_SHARE;
        rows.iter_mut()
            .for_each(|rows| rows.set_filter_bytes_max(filter_bytes_max));
        let mut now = Timestamp::MIN;
        let mut watermark: Option<Timestamp> = None;
        for bytes in &context.restored_inline {
            let inline: Inline = inline::decode(bytes, INLINE_VERSION)?;
            now = now.max(inline.now);
            // Rows that an unaligned checkpoint has overtaken are not late.
            watermark = Some(watermark.map_or(inline.watermark, |least| least.min(inline.watermark)));
            for (rows, (next_sequence, live)) in rows.iter_mut().zip(inline.collections) {
                rows.restore(next_sequence, live);
            }
            logic.restore(inline.logic, inline.watermark);
        }
        Ok(Self {
            resolved: rows.iter().map(|_| Resolved::default()).collect(),
            logic,
            rows,
            waker: context.waker.clone(),
            spill: Spill::new(context.store, context.memory, context.waker),
            form: form.output,
            emission: form.emission,
            queue: VecDeque::new(),
            call: Call::Idle,
            call_size: CallSize::default(),
            read: (0, 0),
            expiring: VecDeque::new(),
            seen: HashSet::new(),
            finishing: Finishing::No,
            generation_us: form
                .state_ttl
                .iter()
                .map(|ttl| generation_length(*ttl, form.emission))
                .collect(),
            generations: vec![0; form.state_ttl.len()],
            last_key: Vec::new(),
            now,
            watermark: watermark.unwrap_or(WATERMARK_MIN),
        })
    }

    /// Continues with what is to be done. One call processes the rows of one batch.
    fn advance(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        loop {
            match &mut self.call {
                Call::Idle => {
                    self.queue_due_rows()?;
                    self.rows.iter_mut().for_each(Rows::forget_empty_keys);
                    if let Some((input, batch)) = self.next_batch() {
                        let keys = self.logic.keys(input, &batch)?;
                        self.begin(Work::Batch(input, batch), keys)?;
                    } else if !self.expiring.is_empty() {
                        if !self.expire_next()? {
                            return Ok(Progress::Pending);
                        }
                    } else if !self.finish_next()? {
                        return Ok(Progress::Pending);
                    } else if matches!(self.call, Call::Idle) {
                        return Ok(Progress::Done);
                    }
                }
                Call::Reading(..) => {
                    if !self.read_is_complete()? {
                        return Ok(Progress::Pending);
                    }
                    let Call::Reading(work, _) = std::mem::replace(&mut self.call, Call::Emitting) else {
                        unreachable!("the call was reading");
                    };
                    match work {
                        Work::Batch(input, batch) => {
                            self.logic
                                .apply(input, &batch, &self.resolved, &mut self.rows, &self.generations)?;
                        }
                        Work::Final(collection) => self.logic.apply_final(collection, &self.resolved, &self.rows)?,
                    }
                }
                Call::Emitting => {
                    if let Some(changes) = self.logic.next_changes(&self.rows)? {
                        let changes = self.form.weighted(&changes)?;
                        if changes.num_rows() > 0 {
                            out.emit(Port::Main, changes);
                            return Ok(Progress::More);
                        }
                        continue;
                    }
                    for (rows, resolved) in self.rows.iter_mut().zip(&mut self.resolved) {
                        rows.release(resolved);
                        *resolved = Resolved::default();
                    }
                    self.call = Call::Memory;
                }
                Call::Expiring(read) => {
                    let Some(found) = read.take() else {
                        return Ok(Progress::Pending);
                    };
                    self.expire_stored(found?)?;
                    self.call = Call::Emitting;
                }
                Call::Scanning(read) => {
                    let Some(found) = read.take() else {
                        return Ok(Progress::Pending);
                    };
                    self.begin_final(found?)?;
                }
                Call::Memory => {
                    if !ensure_memory(&mut self.rows, &mut self.spill)? {
                        return Ok(Progress::Pending);
                    }
                    self.call = Call::Idle;
                    if !self.queue.is_empty() {
                        return Ok(Progress::More);
                    }
                }
            }
        }
    }

    /// Returns the rows of the next call.
    fn next_batch(&mut self) -> Option<(usize, RecordBatch)> {
        let (input, batch) = self.queue.pop_front()?;
        let rows = self.call_size.rows_max();
        if batch.num_rows() > rows {
            let rest = batch.slice(rows, batch.num_rows() - rows);
            self.queue.push_front((input, rest));
            return Some((input, batch.slice(0, rows)));
        }
        Some((input, batch))
    }

    fn queue(&mut self, input: usize, batch: &RecordBatch) {
        let mut start = 0;
        while start < batch.num_rows() {
            let rows = CALL_ROWS_MAX.min(batch.num_rows() - start);
            self.queue.push_back((input, batch.slice(start, rows)));
            start += rows;
        }
    }

    fn queue_due_rows(&mut self) -> Result<(), Error> {
        for batch in self.logic.due_rows(&self.rows)? {
            self.queue(DUE, &batch);
        }
        Ok(())
    }

    /// Finds keys, and begins to read the rows that are needed and not in memory.
    fn begin(&mut self, work: Work, keys: Vec<RowKeys>) -> Result<(), Error> {
        let may_have_rows = self.spill.store.may_have_rows();
        let mut reads = Vec::with_capacity(keys.len());
        for ((rows, keys), resolved) in self.rows.iter_mut().zip(&keys).zip(&mut self.resolved) {
            let Keys { columns, rows: count } = &keys.keys;
            match keys.is_looked_up {
                true => rows.look_up(columns, *count, resolved, may_have_rows)?,
                false => rows.resolve(columns, *count, resolved, may_have_rows)?,
            }
            let missing = match keys.is_read && !mutants::is_active(Mutant::EvictedRowsForgotten) {
                true => rows.missing(resolved)?,
                false => None,
            };
            let Some((missing, prefixes)) = missing else {
                reads.push(None);
                continue;
            };
            let read = PrefixRead {
                prefixes,
                is_reversed: false,
                rows_max: usize::MAX,
                has_values: true,
                accepts: Box::new(|_| Ok(true)),
            };
            reads.push(Some((missing, self.spill.store.read_prefixes(read, &self.waker)?)));
        }
        self.call = Call::Reading(work, reads);
        Ok(())
    }

    /// Takes the rows of reads that have ended. Returns true if all have.
    fn read_is_complete(&mut self) -> Result<bool, Error> {
        let Call::Reading(_, reads) = &mut self.call else {
            return Ok(true);
        };
        for (read, rows) in reads.iter_mut().zip(&mut self.rows) {
            let Some((missing, pending)) = read else { continue };
            let Some(found) = pending.take() else {
                return Ok(false);
            };
            let found = found?;
            rows.load(missing, &found)?;
            self.read.0 += missing.keys();
            self.read.1 += found.iter().map(StoredRows::size).sum::<usize>();
            *read = None;
        }
        let (keys, bytes) = std::mem::take(&mut self.read);
        self.call_size.record_reads(keys, bytes);
        Ok(true)
    }

    /// Removes expired generations, by collection, from memory, and notes what must be read and deleted in the store.
    /// Returns false if nothing has expired.
    fn expire(&mut self, expired: Vec<Vec<u32>>) -> Result<bool, Error> {
        if expired.iter().all(Vec::is_empty) {
            return Ok(false);
        }
        for (collection, generations) in expired.into_iter().enumerate() {
            if generations.is_empty() {
                continue;
            }
            let is_seen = self.logic.sees_expired(collection);
            let rows = &mut self.rows[collection];
            let stored: Vec<u32> = generations
                .iter()
                .copied()
                .filter(|generation| rows.is_live(*generation))
                .collect();
            let mut stored_keys = Ok(());
            let (logic, seen) = (&mut self.logic, &mut self.seen);
            rows.expire(
                |generation| generations.contains(&generation),
                |rows, entry| {
                    if !is_seen {
                        return;
                    }
                    logic.expire_row(collection, rows, entry);
                    if rows.is_stored(entry) && stored_keys.is_ok() {
                        stored_keys = rows.stored_key(entry).map(|key| {
                            seen.insert(key);
                        });
                    }
                },
            );
            stored_keys?;
            self.expiring
                .extend(stored.into_iter().map(|generation| ExpiredGeneration {
                    collection,
                    generation,
                    is_seen,
                    from: None,
                }));
        }
        Ok(true)
    }

    fn expire_and_advance(&mut self, expired: Vec<Vec<u32>>, out: &mut dyn Collector) -> Result<Progress, Error> {
        if !self.expire(expired)? {
            return Ok(Progress::Done);
        }
        self.call = Call::Emitting;
        self.advance(out)
    }

    /// Continues with the first of the expired generations. Returns false while the store carries out what is queued.
    fn expire_next(&mut self) -> Result<bool, Error> {
        let Some(expired) = self.expiring.front_mut() else {
            return Ok(true);
        };
        let collection = self.rows[expired.collection].collection();
        if expired.is_seen {
            // Rows that were evicted were written before, so they are found.
            let read = CollectionRead {
                collection,
                generation: Some(expired.generation),
                from: expired.from.take(),
                rows_max: CALL_ROWS_MAX,
            };
            self.call = Call::Expiring(self.spill.store.read_collection(read, &self.waker)?);
            return Ok(true);
        }
        let generations = expired.generation..expired.generation + 1;
        self.spill
            .store
            .delete_generations(std::iter::once(collection), generations)?;
        self.expiring.pop_front();
        if self.expiring.is_empty() {
            self.seen = HashSet::new();
        }
        Ok(true)
    }

    fn expire_stored(&mut self, (found, next): ScannedRows) -> Result<(), Error> {
        let Some(expired) = self.expiring.front_mut() else {
            return Ok(());
        };
        let stored = (0..found.keys.len()).filter_map(|at| Some((found.keys.get(at)?, found.values.get(at)?)));
        let stored: Vec<(&[u8], &[u8])> = stored.filter(|(key, _)| !self.seen.contains(*key)).collect();
        self.logic
            .expire_stored(expired.collection, &self.rows[expired.collection], &stored)?;
        expired.is_seen = next.is_some();
        expired.from = next;
        Ok(())
    }

    /// Continues with the output at the end of input. Returns false while the store carries out what is queued; leaves
    /// the call idle when there is nothing more to do.
    fn finish_next(&mut self) -> Result<bool, Error> {
        let collections = self.logic.final_collections();
        match &mut self.finishing {
            Finishing::No | Finishing::Done => {}
            Finishing::Memory(place, slot) => {
                let Some(collection) = collections.get(*place).copied() else {
                    self.finishing = Finishing::Done;
                    return Ok(true);
                };
                let (slots, rest) = self.rows[collection].slots(*slot, CALL_ROWS_MAX);
                (*place, *slot) = match rest {
                    Some(slot) => (*place, slot),
                    None => (*place + 1, 0),
                };
                let keys = self.rows[collection].keys(&slots)?;
                self.begin_keys(collection, keys, slots.len())?;
            }
            Finishing::Writing => {
                if !self.spill.is_ready()? {
                    return Ok(false);
                }
                self.finishing = Finishing::Stored(0, None);
                self.call = Call::Memory;
            }
            Finishing::Stored(place, from) => {
                let Some(collection) = collections.get(*place) else {
                    self.finishing = Finishing::Done;
                    return Ok(true);
                };
                let read = CollectionRead {
                    collection: self.rows[*collection].collection(),
                    generation: None,
                    from: from.take(),
                    rows_max: CALL_ROWS_MAX,
                };
                self.call = Call::Scanning(self.spill.store.read_collection(read, &self.waker)?);
            }
        }
        Ok(true)
    }

    /// Begins with keys that were read at the end of input.
    fn begin_final(&mut self, (found, next): ScannedRows) -> Result<(), Error> {
        let Finishing::Stored(place, from) = &mut self.finishing else {
            return Ok(());
        };
        let Some(collection) = self.logic.final_collections().get(*place).copied() else {
            return Ok(());
        };
        // Rows of the last key may follow: the next scan then begins with that key.
        let is_last = next.is_none();
        *place += usize::from(is_last);
        *from = next;
        let (keys, count) = self.rows[collection].scanned_keys(&found, &mut self.last_key)?;
        if is_last {
            self.last_key = Vec::new();
        }
        self.begin_keys(collection, keys, count)
    }

    fn begin_keys(&mut self, collection: usize, keys: Vec<ArrayRef>, count: usize) -> Result<(), Error> {
        let all = self.rows.iter().map(|_| RowKeys {
            keys: Keys {
                columns: keys.clone(),
                rows: count,
            },
            is_read: true,
            is_looked_up: false,
        });
        let all = all.collect();
        self.begin(Work::Final(collection), all)
    }
}

impl<L: RowsLogic> Operator for KeyedRows<L> {
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let late = self.logic.late_rows(input, &batch, self.watermark)?;
        let batch = match late.is_empty() {
            true => batch,
            false => {
                let rest = without_rows(&batch, &late)?;
                emit_late(input, &batch, late, out)?;
                rest
            }
        };
        self.queue(input, &batch);
        self.advance(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.advance(out)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.watermark = self.watermark.max(watermark);
        let expired = self.logic.expired(watermark);
        self.expire_and_advance(expired, out)
    }

    fn on_input_end(&mut self, input: usize, out: &mut dyn Collector) -> Result<Progress, Error> {
        let expired = self.logic.on_input_end(input);
        self.expire_and_advance(expired, out)
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        self.logic.output_watermark(watermark)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        write_changes(&mut self.rows, &mut self.spill, usize::MAX)?;
        let collections = self.rows.iter().map(|rows| {
            let live = rows.live_generations().collect();
            (rows.next_sequence(), live)
        });
        let inline = Inline {
            now: self.now,
            watermark: self.watermark,
            collections: collections.collect(),
            logic: self.logic.inline(),
        };
        self.spill.snapshot(checkpoint, &inline, INLINE_VERSION)
    }

    fn on_time(&mut self, now: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        for (at, rows) in self.rows.iter_mut().enumerate() {
            let Some(length) = self.generation_us[at] else {
                continue;
            };
            let generation = generation_of(now, length);
            if generation > self.generations[at] {
                self.generations[at] = generation;
                let oldest = generation.saturating_sub(FORMER_GENERATIONS);
                rows.expire(|generation| generation < oldest, |_, _| {});
                rows.forget_empty_keys();
                let collection = std::iter::once(rows.collection());
                self.spill.store.delete_generations(collection, 0..oldest)?;
            }
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let lengths = self.generation_us.iter().zip(&self.generations);
        let nexts = lengths.filter_map(|(length, generation)| (i64::from(*generation) + 1).checked_mul((*length)?));
        nexts.min()
    }

    fn processing_time(&self) -> Option<Timestamp> {
        self.generation_us.iter().any(Option::is_some).then_some(self.now)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.finishing = match self.emission {
            Emission::Changes => Finishing::Done,
            Emission::Final if self.logic.final_collections().is_empty() => Finishing::Done,
            Emission::Final if self.spill.store.may_have_rows() => {
                write_changes(&mut self.rows, &mut self.spill, usize::MAX)?;
                self.spill.wait_for_store();
                Finishing::Writing
            }
            Emission::Final => Finishing::Memory(0, 0),
        };
        self.advance(out)
    }
}

/// Returns the rows of a batch without those at some ascending places.
fn without_rows(batch: &RecordBatch, places: &[u32]) -> Result<RecordBatch, Error> {
    let mut places = places.iter().copied().peekable();
    let kept = (0..batch.num_rows() as u32).map(|row| places.next_if_eq(&row).is_none());
    let kept = arrow::array::BooleanArray::from(kept.collect::<Vec<bool>>());
    Ok(arrow_select::filter::filter_record_batch(batch, &kept)?)
}
