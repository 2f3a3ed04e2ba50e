//! The operator that runs a [`KeyedLogic`].

use std::collections::VecDeque;
use std::task::Waker;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use millstream_graph::{ChangelogMode, Emission, Port};
use millstream_state::keyed::{FORMER_GENERATIONS, Resolved, Table};
use millstream_state::store::{
    CollectionRead, KeyedPosition, PendingRead, PrefixRead, ScannedRows, StoredRows, StoredValues,
};

use super::changes::OutputForm;
use super::memory::{ensure_memory, write_changes};
use super::{CALL_ROWS_MAX, KeyedLogic, Output, Refill, generation_length, generation_of};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp};
use crate::operators::mutants::{self, Mutant};
use crate::operators::spill::Spill;
use crate::operators::{OperatorContext, inline};

/// Version of the inline state: the processing time.
const INLINE_VERSION: u8 = 1;
/// Rows that one read for requests returns at most, unless one request asks for more.
const REFILL_READ_ROWS_MAX: usize = 65_536;

/// An operator over keyed collections.
pub(in crate::operators) struct Keyed<L> {
    logic: L,
    tables: Vec<Table>,
    spill: Spill,
    waker: Waker,
    form: OutputForm,
    emission: Emission,
    /// Rows that are not processed yet, at most [`CALL_ROWS_MAX`] in each batch.
    queue: VecDeque<RecordBatch>,
    call: Call,
    resolved: Vec<Resolved>,
    /// Keys of the first collection whose output the present call may change.
    changing: Vec<u32>,
    finishing: Finishing,
    /// Output that is being emitted at the end of input.
    final_output: Option<Emitting>,
    /// Length of a generation in microseconds; `None` if rows do not expire.
    generation_us: Option<i64>,
    /// The present generation.
    generation: u32,
    now: Timestamp,
}

/// The state of the present call.
enum Call {
    /// No call is under way.
    Idle,
    /// Rows are being read, by collection.
    Reading {
        batch: Option<RecordBatch>,
        reads: Vec<Option<PendingRead>>,
    },
    /// The batch is processed, but its output needs rows that are read by prefix.
    Refilling(Refilling),
    /// The batch is processed, and its output is being emitted.
    Emitting(Emitting),
    /// The rows of the last batch are processed; memory is needed before the next one.
    Memory,
}

/// The output of some keys that is being emitted.
struct Emitting {
    /// The key columns.
    keys: Vec<ArrayRef>,
    /// Output before the call; `None` to emit the present output as it is.
    before: Option<Output>,
    after: Output,
    /// Number of the next key.
    next: usize,
}

/// Requests of the present call for rows.
struct Refilling {
    /// Output before the call.
    before: Option<Output>,
    /// Requests that are open, sorted.
    open: Vec<Refill>,
    /// The requests that are being read: those of one collection and direction.
    reading: Option<(Vec<Refill>, PendingRead<Vec<StoredRows>>)>,
}

/// The state of the output at the end of input, for [`Emission::Final`].
enum Finishing {
    No,
    /// All rows are in memory; the next slot to emit.
    Memory(u32),
    /// The rows are being written.
    Writing,
    /// The rows are read from the store from this position on.
    Scanning(Option<KeyedPosition>),
    /// Rows are being read from the store.
    Reading(PendingRead<ScannedRows>),
    Done,
}

impl<L: KeyedLogic> Keyed<L> {
    /// Creates the operator, with the state that its store has.
    pub(in crate::operators) fn new(
        logic: L,
        mode: ChangelogMode,
        emission: Emission,
        state_ttl: Option<Duration>,
        schema: SchemaRef,
        context: OperatorContext,
    ) -> Result<Self, Error> {
        let restored = context.restored_inline.iter().filter(|bytes| !bytes.is_empty());
        let times = restored.map(|bytes| inline::decode::<Timestamp>(bytes, INLINE_VERSION));
        let now = times.collect::<Result<Vec<_>, _>>()?.into_iter().max();
        let tables = logic
            .collections()
            .into_iter()
            .map(Table::new)
            .collect::<Result<Vec<_>, _>>()?;
        let form = OutputForm {
            schema,
            mode,
            upsert_key: None,
            order: logic.output_order(),
        };
        Ok(Self {
            resolved: tables.iter().map(|_| Resolved::default()).collect(),
            logic,
            tables,
            waker: context.waker.clone(),
            spill: Spill::new(context.store, context.memory, context.waker),
            form,
            emission,
            queue: VecDeque::new(),
            call: Call::Idle,
            changing: Vec::new(),
            finishing: Finishing::No,
            final_output: None,
            generation_us: generation_length(state_ttl, emission),
            generation: 0,
            now: now.unwrap_or(Timestamp::MIN),
        })
    }

    /// Continues with the queued rows. One call processes the rows of one batch.
    fn advance(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        loop {
            match &mut self.call {
                Call::Idle => {
                    let Some(batch) = self.queue.pop_front() else {
                        return Ok(Progress::Done);
                    };
                    self.begin(Some(batch))?;
                }
                Call::Reading { .. } => {
                    if !self.read_is_complete()? {
                        return Ok(Progress::Pending);
                    }
                    let Call::Reading { batch, .. } = std::mem::replace(&mut self.call, Call::Memory) else {
                        unreachable!("the call was reading");
                    };
                    self.apply(batch)?;
                }
                Call::Refilling(_) => {
                    let Call::Refilling(mut refilling) = std::mem::replace(&mut self.call, Call::Memory) else {
                        unreachable!("the call was refilling");
                    };
                    if !self.refill_is_complete(&mut refilling)? {
                        self.call = Call::Refilling(refilling);
                        return Ok(Progress::Pending);
                    }
                    self.begin_output(refilling.before)?;
                }
                Call::Emitting(_) => {
                    let Call::Emitting(mut emitting) = std::mem::replace(&mut self.call, Call::Memory) else {
                        unreachable!("the call was emitting");
                    };
                    if !emitting.advance(&mut self.logic, &self.form, out)? {
                        self.call = Call::Emitting(emitting);
                        return Ok(Progress::More);
                    }
                    self.release();
                }
                Call::Memory => {
                    if !ensure_memory(&mut self.tables, &mut self.spill)? {
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

    /// Finds the keys of a batch, or, without one, the only key, and begins to read those that are not in memory.
    fn begin(&mut self, batch: Option<RecordBatch>) -> Result<(), Error> {
        match &batch {
            Some(batch) => {
                let keys = self.logic.keys(batch)?;
                for ((table, keys), resolved) in self.tables.iter_mut().zip(&keys).zip(&mut self.resolved) {
                    table.resolve(&keys.columns, keys.rows, resolved)?;
                }
            }
            None => {
                self.resolved
                    .iter_mut()
                    .for_each(|resolved| *resolved = Resolved::default());
                self.tables[0].resolve(&[], 1, &mut self.resolved[0])?;
            }
        }
        let mut reads = Vec::with_capacity(self.tables.len());
        for (table, resolved) in self.tables.iter().zip(&self.resolved) {
            let is_read = !resolved.unknown.is_empty()
                && self.spill.store.may_have_rows()
                && !mutants::is_active(Mutant::EvictedKeysForgotten);
            reads.push(match is_read {
                true => Some(
                    self.spill
                        .store
                        .read(table.store_keys(&resolved.unknown)?, &self.waker)?,
                ),
                false => None,
            });
        }
        self.call = Call::Reading { batch, reads };
        Ok(())
    }

    /// Takes the rows of reads that have ended. Returns true if all have.
    fn read_is_complete(&mut self) -> Result<bool, Error> {
        let Call::Reading { reads, .. } = &mut self.call else {
            return Ok(true);
        };
        for ((read, table), resolved) in reads.iter_mut().zip(&mut self.tables).zip(&self.resolved) {
            let Some(pending) = read else { continue };
            let Some(found) = pending.take() else {
                return Ok(false);
            };
            table.load(&resolved.unknown, &found?)?;
            *read = None;
        }
        Ok(true)
    }

    /// Updates the rows that a batch touches, and continues with the changes of the output.
    fn apply(&mut self, batch: Option<RecordBatch>) -> Result<(), Error> {
        let changing = match &batch {
            Some(batch) => self.logic.changing(batch, &self.resolved, &self.tables)?,
            None => None,
        };
        self.changing = changing.unwrap_or_else(|| self.resolved[0].distinct.clone());
        let before = match self.emission {
            Emission::Changes => Some(self.logic.output(&self.tables[0], &self.changing)?),
            Emission::Final => None,
        };
        let mut open = match &batch {
            Some(batch) => self.logic.apply(batch, &self.resolved, &mut self.tables)?,
            None => {
                self.tables[0].set_changed(self.changing[0]);
                Vec::new()
            }
        };
        if open.is_empty() {
            return self.begin_output(before);
        }
        open.sort_unstable();
        open.dedup();
        // Reads see only rows that were written.
        let mut collections: Vec<usize> = open.iter().map(|refill| refill.collection).collect();
        collections.dedup();
        for collection in collections {
            write_changes(&mut self.tables[collection..=collection], &mut self.spill, usize::MAX)?;
        }
        self.spill.wait_for_store();
        self.call = Call::Refilling(Refilling {
            before,
            open,
            reading: None,
        });
        Ok(())
    }

    /// Continues to read requested rows. Returns true if all requests are answered.
    fn refill_is_complete(&mut self, refilling: &mut Refilling) -> Result<bool, Error> {
        if !self.spill.is_ready()? {
            return Ok(false);
        }
        loop {
            if let Some((refills, pending)) = &refilling.reading {
                let Some(rows) = pending.take() else {
                    return Ok(false);
                };
                let rows = rows?;
                for (refill, rows) in refills.iter().zip(rows.chunks(rows.len() / refills.len())) {
                    let rows = first_rows(rows, refill.is_reversed, self.logic.refill_rows(refill));
                    self.logic.refill(refill, &rows, &mut self.tables[0])?;
                    refilling.open.extend(self.logic.next_refill());
                }
                refilling.reading = None;
            }
            let Some(first) = refilling.open.first().copied() else {
                return Ok(true);
            };
            let rows_max = self.logic.refill_rows(&first);
            let form = |refill: &Refill| (refill.collection, refill.is_reversed, self.logic.refill_rows(refill));
            let is_alike = |refill: &Refill| form(refill) == form(&first);
            let (mut refills, mut open): (Vec<Refill>, Vec<Refill>) =
                std::mem::take(&mut refilling.open).into_iter().partition(is_alike);
            open.extend(refills.split_off(refills.len().min((REFILL_READ_ROWS_MAX / rows_max).max(1))));
            refilling.open = open;
            let slots: Vec<u32> = refills.iter().map(|refill| refill.slot).collect();
            let read = PrefixRead {
                prefixes: self.tables[0].store_prefixes(&slots, &self.tables[first.collection])?,
                is_reversed: first.is_reversed,
                rows_max,
                has_values: self.logic.refill_has_values(),
                accepts: self.logic.refill_accepts(),
            };
            let pending = self.spill.store.read_prefixes(read, &self.waker)?;
            refilling.reading = Some((refills, pending));
        }
    }

    /// Continues the call with the difference between the output before it and the present one.
    fn begin_output(&mut self, before: Option<Output>) -> Result<(), Error> {
        if before.is_none() {
            self.release();
            return Ok(());
        }
        self.call = Call::Emitting(Emitting {
            keys: self.tables[0].keys(&self.changing)?,
            before,
            after: self.logic.output(&self.tables[0], &self.changing)?,
            next: 0,
        });
        Ok(())
    }

    /// Ends the use of the slots of the present call.
    fn release(&mut self) {
        for (table, resolved) in self.tables.iter_mut().zip(&self.resolved) {
            table.release(resolved);
        }
    }

    /// Emits the next output rows at the end of input.
    fn emit_final(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        loop {
            if let Some(output) = &mut self.final_output {
                if output.advance(&mut self.logic, &self.form, out)? {
                    self.final_output = None;
                }
                return Ok(Progress::More);
            }
            match &mut self.finishing {
                Finishing::No | Finishing::Done => return Ok(Progress::Done),
                Finishing::Memory(next) => {
                    let (slots, rest) = self.tables[0].present_slots(*next, CALL_ROWS_MAX);
                    self.finishing = rest.map_or(Finishing::Done, Finishing::Memory);
                    self.final_output = Some(Emitting::rows(&mut self.logic, &self.tables[0], &slots)?);
                }
                Finishing::Writing => {
                    if !self.spill.is_ready()? {
                        return Ok(Progress::Pending);
                    }
                    self.tables.iter_mut().for_each(Table::clear);
                    self.finishing = Finishing::Scanning(None);
                }
                Finishing::Scanning(position) => {
                    let read = CollectionRead {
                        collection: self.tables[0].collection(),
                        generation: None,
                        from: position.take(),
                        rows_max: CALL_ROWS_MAX,
                    };
                    self.finishing = Finishing::Reading(self.spill.store.read_collection(read, &self.waker)?);
                    continue;
                }
                Finishing::Reading(read) => {
                    let Some(found) = read.take() else {
                        return Ok(Progress::Pending);
                    };
                    let (rows, next) = found?;
                    self.finishing = match next {
                        None => Finishing::Done,
                        next => Finishing::Scanning(next),
                    };
                    let table = &mut self.tables[0];
                    table.clear();
                    let slots = table.load_scanned(&rows)?;
                    self.final_output = Some(Emitting::rows(&mut self.logic, table, &slots)?);
                }
            }
        }
    }
}

impl Emitting {
    /// Returns the output rows of some keys.
    fn rows<L: KeyedLogic>(logic: &mut L, table: &Table, slots: &[u32]) -> Result<Self, Error> {
        Ok(Self {
            keys: table.keys(slots)?,
            before: None,
            after: logic.output(table, slots)?,
            next: 0,
        })
    }

    /// Emits the next batch. Returns true if it was the last one.
    fn advance<L: KeyedLogic>(
        &mut self,
        logic: &mut L,
        form: &OutputForm,
        out: &mut dyn Collector,
    ) -> Result<bool, Error> {
        let (rows, next) = logic.changes(form, &self.keys, self.before.as_ref(), &self.after, self.next)?;
        self.next = next;
        if rows.num_rows() > 0 {
            out.emit(Port::Main, rows);
        }
        Ok(self.next >= self.after.present.len())
    }
}

/// Returns the first `rows_max` of the rows that several generations have: the key of each, and its values if they were
/// read.
fn first_rows(generations: &[StoredRows], is_reversed: bool, rows_max: usize) -> StoredValues {
    let rows = generations.iter().flat_map(|rows| {
        let has_values = !rows.values.is_empty();
        let values = move |row| {
            if has_values {
                rows.values.get(row)
            } else {
                Some(&[][..])
            }
        };
        (0..rows.keys.len()).filter_map(move |row| Some((rows.keys.get(row)?, values(row)?)))
    });
    let mut rows: Vec<(&[u8], &[u8])> = rows.collect();
    rows.sort_unstable();
    if is_reversed {
        rows.reverse();
    }
    let mut first = StoredValues::default();
    rows.iter()
        .take(rows_max)
        .for_each(|(key, values)| first.push_parts(Some(key), values));
    first
}

impl<L: KeyedLogic> Operator for Keyed<L> {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut start = 0;
        while start < batch.num_rows() {
            let rows = CALL_ROWS_MAX.min(batch.num_rows() - start);
            self.queue.push_back(batch.slice(start, rows));
            start += rows;
        }
        self.advance(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        match self.advance(out)? {
            Progress::Done => self.continue_finish(out),
            progress => Ok(progress),
        }
    }

    fn on_point(&mut self, _out: &mut dyn Collector) -> Result<Progress, Error> {
        self.logic.check()?;
        Ok(Progress::Done)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        self.logic.check()?;
        write_changes(&mut self.tables, &mut self.spill, usize::MAX)?;
        self.spill.snapshot(checkpoint, &self.now, INLINE_VERSION)
    }

    fn on_time(&mut self, now: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        let Some(length) = self.generation_us else {
            return Ok(Progress::Done);
        };
        let generation = generation_of(now, length);
        if generation > self.generation {
            self.generation = generation;
            self.tables.iter_mut().for_each(|table| table.advance(generation));
            let collections = self.tables.iter().map(Table::collection);
            let oldest = generation.saturating_sub(FORMER_GENERATIONS);
            self.spill.store.delete_generations(collections, 0..oldest)?;
        }
        Ok(Progress::Done)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let length = self.generation_us?;
        (i64::from(self.generation) + 1).checked_mul(length)
    }

    fn processing_time(&self) -> Option<Timestamp> {
        self.generation_us.is_some().then_some(self.now)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.logic.check()?;
        self.finishing = match self.emission {
            Emission::Changes => Finishing::Done,
            Emission::Final => Finishing::Memory(0),
        };
        if self.logic.has_one_row() {
            self.begin(None)?;
            match self.advance(out)? {
                Progress::Done => {}
                progress => return Ok(progress),
            }
        }
        self.continue_finish(out)
    }
}

impl<L: KeyedLogic> Keyed<L> {
    /// Continues the output at the end of input, after all rows were processed.
    fn continue_finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if matches!(self.finishing, Finishing::Memory(0)) && self.spill.store.may_have_rows() {
            write_changes(&mut self.tables, &mut self.spill, usize::MAX)?;
            self.spill.wait_for_store();
            self.finishing = Finishing::Writing;
        }
        self.emit_final(out)
    }
}
