//! Holding back the changes of an operator until a consistency point.
//!
//! The operator inside updates its state at once, as without points. Its changes are collected here: by upsert key if
//! the output has one ([`KeyedChanges`]), or else by row ([`WeightedRows`]). At the point the net changes are
//! emitted, so that all rows that have left by then are computed from the same prefix of the input. The stage holds the
//! watermark back as long ([`crate::stage::HeldControl`]). Late rows and dead letters are not held back.
//!
//! The held-back changes are no state: none are left when a snapshot is taken at a barrier. They are charged to the
//! memory budget, and cannot be spilled; above its share of the budget, the operator asks for a point
//! ([`HELD_SHARE_MAX`]).

mod keyed_changes;
mod weighted_rows;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int8Array};
use arrow::datatypes::SchemaRef;
use arrow_array::{RecordBatch, RecordBatchOptions};
use millstream_graph::{ChangelogMode, Node, Port};
use millstream_state::memory::{MemoryBudget, Reservation};

use self::keyed_changes::KeyedChanges;
use self::weighted_rows::WeightedRows;
use crate::Error;
use crate::operator::{Collector, HeldBack, Operator, Progress, Snapshot, Timestamp};

/// An operator asks for a consistency point when it holds back changes of this share (one in this many bytes) of the
/// memory budget.
const HELD_SHARE_MAX: usize = 8;
/// Number of keys or different rows whose changes one call emits.
const EMIT_KEYS_MAX: usize = 4_096;

/// An operator whose changes are held back.
pub(super) struct HoldBack {
    operator: Box<dyn Operator>,
    changes: HeldChanges,
    memory: MemoryBudget,
    reservation: Reservation,
    phase: Phase,
}

/// The use of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Calls go to the operator.
    Collecting,
    /// The operator emits its last rows at the end of input.
    Finishing,
    /// The changes are being emitted.
    Emitting,
}

/// Changes that are held back.
struct HeldChanges {
    form: OutputForm,
    collection: Collection,
    /// Number of keys or different rows that were held back at earlier points.
    total_before: u64,
}

/// Returns the key that all keys contain. With others, an update of one key could insert a row before another update
/// deletes it.
fn least_key(keys: &[Vec<usize>]) -> Option<&Vec<usize>> {
    let least = keys.iter().min_by_key(|key| key.len())?;
    let contains = |key: &Vec<usize>| least.iter().all(|column| key.contains(column));
    keys.iter().all(contains).then_some(least)
}

enum Collection {
    Keyed(KeyedChanges),
    Weighted(WeightedRows),
}

/// The form of the output.
struct OutputForm {
    schema: SchemaRef,
    mode: ChangelogMode,
}

impl HoldBack {
    /// Holds back the changes of the operator of a node.
    pub(super) fn new(node: &Node, operator: Box<dyn Operator>, memory: MemoryBudget) -> Result<Self, Error> {
        let form = OutputForm {
            schema: node.output.schema.clone(),
            mode: node.output.changelog.clone(),
        };
        let key = match &form.mode {
            ChangelogMode::Append => None,
            ChangelogMode::Upsert(key) => Some(key),
            ChangelogMode::Retract => least_key(&node.output.upsert_keys),
        };
        let collection = match key {
            Some(key) => Collection::Keyed(KeyedChanges::new(&form, key)?),
            None => Collection::Weighted(WeightedRows::new(&form)?),
        };
        Ok(Self {
            operator,
            changes: HeldChanges {
                form,
                collection,
                total_before: 0,
            },
            reservation: memory.reservation(),
            memory,
            phase: Phase::Collecting,
        })
    }

    /// Makes a call of the operator and collects the changes that it emits.
    fn collect(
        &mut self,
        out: &mut dyn Collector,
        call: impl FnOnce(&mut dyn Operator, &mut dyn Collector) -> Result<Progress, Error>,
    ) -> Result<Progress, Error> {
        let mut collector = HoldingCollector {
            changes: &mut self.changes,
            out,
            error: None,
        };
        let progress = call(&mut *self.operator, &mut collector)?;
        if let Some(error) = collector.error {
            return Err(error);
        }
        // Nothing can be evicted.
        self.reservation.force_resize(self.changes.size());
        Ok(progress)
    }

    /// Begins to emit the changes.
    fn emit(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.phase = Phase::Emitting;
        self.emit_more(out)
    }

    fn emit_more(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        while let Some(batch) = self.changes.next_batch()? {
            if batch.num_rows() > 0 {
                out.emit(Port::Main, batch);
                return Ok(Progress::More);
            }
        }
        self.changes.clear()?;
        self.reservation.force_resize(self.changes.size());
        self.phase = Phase::Collecting;
        Ok(Progress::Done)
    }
}

impl HeldChanges {
    fn size(&self) -> usize {
        match &self.collection {
            Collection::Keyed(changes) => changes.size(),
            Collection::Weighted(rows) => rows.size(),
        }
    }

    fn len(&self) -> usize {
        match &self.collection {
            Collection::Keyed(changes) => changes.len(),
            Collection::Weighted(rows) => rows.len(),
        }
    }

    fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        match &mut self.collection {
            Collection::Keyed(changes) => changes.add(batch),
            Collection::Weighted(rows) => rows.add(batch),
        }
    }

    /// Returns the next net changes; `None` if there are no more.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>, Error> {
        match &mut self.collection {
            Collection::Keyed(changes) => changes.next_batch(&self.form),
            Collection::Weighted(rows) => rows.next_batch(&self.form),
        }
    }

    fn clear(&mut self) -> Result<(), Error> {
        self.total_before += self.len() as u64;
        match &mut self.collection {
            Collection::Keyed(changes) => changes.clear(),
            Collection::Weighted(rows) => rows.clear(),
        }
    }
}

impl OutputForm {
    /// Returns the number of columns without the kind.
    fn column_count(&self) -> usize {
        self.schema.fields().len() - usize::from(!self.mode.is_append())
    }

    /// Returns a batch of output columns, with the kinds of the rows unless the output is append-only.
    fn batch(&self, mut columns: Vec<ArrayRef>, kinds: Vec<i8>) -> Result<RecordBatch, Error> {
        let options = RecordBatchOptions::new().with_row_count(Some(kinds.len()));
        if !self.mode.is_append() {
            columns.push(Arc::new(Int8Array::from(kinds)));
        }
        Ok(RecordBatch::try_new_with_options(
            Arc::clone(&self.schema),
            columns,
            &options,
        )?)
    }
}

/// Collects changes, and passes all other rows on.
struct HoldingCollector<'a> {
    changes: &'a mut HeldChanges,
    out: &'a mut dyn Collector,
    /// The first error, because `emit` returns none.
    error: Option<Error>,
}

impl Collector for HoldingCollector<'_> {
    fn emit(&mut self, port: Port, batch: RecordBatch) {
        match port {
            Port::Main => {
                if let Err(error) = self.changes.add(&batch) {
                    self.error.get_or_insert(error);
                }
            }
            Port::Late(_) | Port::DeadLetters => self.out.emit(port, batch),
        }
    }

    fn count_bad(&mut self, rows: u64) {
        self.out.count_bad(rows);
    }
}

// Every method is forwarded, those with a default too.
#[warn(clippy::missing_trait_methods)]
impl Operator for HoldBack {
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.collect(out, |operator, out| operator.process(input, batch, out))
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.collect(out, |operator, out| operator.on_watermark(watermark, out))
    }

    fn output_watermark(&self, watermark: Timestamp) -> Timestamp {
        self.operator.output_watermark(watermark)
    }

    fn on_time(&mut self, now: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.collect(out, |operator, out| operator.on_time(now, out))
    }

    fn next_timer(&self) -> Option<Timestamp> {
        self.operator.next_timer()
    }

    fn processing_time(&self) -> Option<Timestamp> {
        self.operator.processing_time()
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.phase == Phase::Emitting {
            return self.emit_more(out);
        }
        let progress = self.collect(out, |operator, out| operator.resume(out))?;
        match (progress, self.phase) {
            (Progress::Done, Phase::Finishing) => self.emit(out),
            (progress, _) => Ok(progress),
        }
    }

    fn flush(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.collect(out, |operator, out| operator.flush(out))
    }

    fn on_input_end(&mut self, input: usize, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.collect(out, |operator, out| operator.on_input_end(input, out))
    }

    fn on_point(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        match self.collect(out, |operator, out| operator.on_point(out))? {
            Progress::Done => self.emit(out),
            // No operator that holds back changes itself is inside.
            progress => Ok(progress),
        }
    }

    fn held_back(&self) -> HeldBack {
        HeldBack {
            total: self.changes.total_before + self.changes.len() as u64,
            exceeds_share: self.reservation.bytes() > self.memory.limit_bytes() / HELD_SHARE_MAX,
        }
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        debug_assert_eq!(self.changes.len(), 0, "changes are held back over a snapshot");
        self.operator.snapshot(checkpoint)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.phase = Phase::Finishing;
        match self.collect(out, |operator, out| operator.finish(out))? {
            Progress::Done => self.emit(out),
            progress => Ok(progress),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
