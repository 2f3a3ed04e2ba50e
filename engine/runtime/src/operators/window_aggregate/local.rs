//! Local pre-aggregation: the first of two phases, before rows are exchanged by key.
//!
//! Rows are aggregated into small tables per slice, which are emitted as partial states when the watermark passes the
//! slice, before a barrier, or when they are full. Nothing is kept over a barrier, so there is no state. Where keys
//! hardly repeat, tables only cost time; then every row is converted to a partial state of its own for a while, until
//! the tables are tried again. Batches whose rows are scattered over many slices have a table of their own
//! ([`super::scattered`]).

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use millstream_graph::{self as graph, Port};

use super::scattered::ScatteredSlices;
use super::slice_assignment::{RowSlices, SeveralSlices};
use super::{Layout, RowSelection, RowTime, SliceAssignment, emit_late};
use crate::Error;
use crate::operator::{
    Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN,
};
use crate::operators::adaptive_bypass::AdaptiveBypass;
use crate::operators::table::{Argument, RowStates, Select, Table};
use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;

/// Number of groups at which all are emitted. Tables of this size stay in the processor's cache.
const GROUPS_MAX: usize = 16_384;
/// Number of keys, slices or emitted groups of scattered slices at which all groups are emitted, to be rid of them.
const UNUSED_MAX: usize = 4 * GROUPS_MAX;
/// Emitted groups per row, in percent, above which pre-aggregation is bypassed.
const OUTPUT_PERCENT_MAX: usize = 60;

/// A batch is scattered if it has rows of this many slices, and...
const SCATTERED_SLICES_MIN: usize = 8;
/// ... fewer rows per slice than this, on average.
const SLICE_ROWS_MIN: usize = 64;

/// The operator of local pre-aggregation: phase `Local`.
pub(crate) struct LocalAggregate {
    layout: Layout,
    /// By slice end.
    tables: BTreeMap<i64, Table>,
    /// Groups of batches with rows of many slices.
    scattered: ScatteredSlices,
    /// Slices from which on a batch may be a scattered one.
    pub(super) scattered_slices_min: usize,
    emitting: Option<Emission>,
    row_states: RowStates,
    bypass: AdaptiveBypass,
    now: Timestamp,
    groups: Vec<u32>,
}

/// The emission of all slices up to `end`.
struct Emission {
    end: i64,
    /// The groups of scattered slices, and the next one of them.
    scattered: Vec<u32>,
    scattered_next: usize,
    /// The next group of the first table.
    next: usize,
}

impl LocalAggregate {
    /// Creates the operator.
    pub(crate) fn new(node: &graph::WindowAggregate, input: &SchemaRef, output: &SchemaRef) -> Result<Self, Error> {
        let layout = Layout::new(node, input, output)?;
        Ok(Self {
            row_states: RowStates::new(&layout.spec)?,
            scattered: ScatteredSlices::new(&layout)?,
            scattered_slices_min: SCATTERED_SLICES_MIN,
            layout,
            tables: BTreeMap::new(),
            emitting: None,
            bypass: AdaptiveBypass::new(OUTPUT_PERCENT_MAX),
            now: WATERMARK_MIN,
            groups: Vec::new(),
        })
    }

    /// Returns the number of groups in all tables.
    fn group_count(&self) -> usize {
        self.scattered.len() + self.tables.values().map(Table::len).sum::<usize>()
    }

    fn is_scattered(&self, rows: &SeveralSlices) -> bool {
        let slices = rows.ends.len();
        slices >= self.scattered_slices_min && rows.places.len() / slices < SLICE_ROWS_MIN
    }

    /// Aggregates or emits a batch with rows of many slices.
    fn process_scattered(
        &mut self,
        batch: RecordBatch,
        mut rows: SeveralSlices,
        out: &mut dyn Collector,
    ) -> Result<(), Error> {
        let late = std::mem::take(&mut rows.late);
        let batch = match late.is_empty() {
            true => batch,
            false => {
                let timely = RowSelection::Listed(rows.take_timely());
                emit_late(0, &batch, late, out)?;
                RecordBatch::try_new(batch.schema(), timely.take_all(batch.columns())?)?
            }
        };
        let keys = self.layout.keys(&batch);
        let arguments = self.layout.spec.arguments(&batch)?;
        let count = batch.num_rows();
        if self.bypass.should_bypass(count) {
            let states = self.row_states.convert(&arguments, count)?;
            let ends = rows.places.iter().map(|place| rows.ends[*place as usize]).collect();
            let start = |end| self.layout.slices.slice_start(end);
            out.emit(
                Port::Main,
                self.layout.output.batch_of_slices(keys, states, ends, start)?,
            );
            return Ok(());
        }
        self.scattered.update(&keys, &arguments, &rows, &mut self.groups)?;
        self.bypass.record_input(count);
        Ok(())
    }

    /// Emits all groups if there are many.
    fn relieve(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.group_count() > GROUPS_MAX || self.scattered.unused_max() > UNUSED_MAX {
            return self.emit_until(WATERMARK_MAX, out);
        }
        Ok(Progress::Done)
    }

    /// Emits the groups of slices up to `end`.
    fn emit_until(&mut self, end: i64, out: &mut dyn Collector) -> Result<Progress, Error> {
        let emission = Emission {
            end,
            scattered: self.scattered.due(end),
            scattered_next: 0,
            next: 0,
        };
        self.emit(emission, out)
    }

    /// Emits rows as partial states, without aggregating them.
    fn emit_rows(
        &mut self,
        keys: Vec<ArrayRef>,
        arguments: &[Argument],
        slice_end: i64,
        rows: usize,
        out: &mut dyn Collector,
    ) -> Result<(), Error> {
        let states = self.row_states.convert(arguments, rows)?;
        let start = self.layout.slices.slice_start(slice_end);
        out.emit(
            Port::Main,
            self.layout.output.batch(keys, states, start, slice_end, rows)?,
        );
        Ok(())
    }

    /// Continues an emission: first groups of scattered slices, then the tables of slices.
    fn emit(&mut self, mut emission: Emission, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut allowance = EMIT_ROWS_MAX;
        let rest = &emission.scattered[emission.scattered_next..];
        let scattered = &rest[..rest.len().min(allowance)];
        if !scattered.is_empty() {
            out.emit(Port::Main, self.scattered.states(scattered, &self.layout)?);
            self.bypass.record_output(scattered.len());
            allowance -= scattered.len();
            emission.scattered_next += scattered.len();
        }
        if allowance == 0 {
            self.emitting = Some(emission);
            return Ok(Progress::More);
        }
        self.scattered.set_emitted(emission.end)?;
        let Emission { end, mut next, .. } = emission;
        let emission = |next: usize| {
            Some(Emission {
                end,
                scattered: Vec::new(),
                scattered_next: 0,
                next,
            })
        };
        while let Some(mut first) = self.tables.first_entry() {
            let slice_end = *first.key();
            if slice_end > end {
                break;
            }
            let table = first.get_mut();
            let to = table.len().min(next + allowance);
            if to > next {
                let select = Select::Range(next..to);
                let keys = table.keys(&select)?;
                let states: Vec<ArrayRef> = table.states(&select)?.into_iter().flatten().collect();
                let start = self.layout.slices.slice_start(slice_end);
                out.emit(
                    Port::Main,
                    self.layout.output.batch(keys, states, start, slice_end, to - next)?,
                );
                allowance -= to - next;
                self.bypass.record_output(to - next);
            }
            if to < table.len() {
                self.emitting = emission(to);
                return Ok(Progress::More);
            }
            next = 0;
            first.remove();
            if allowance == 0 && self.tables.first_key_value().is_some_and(|(slice, _)| *slice <= end) {
                self.emitting = emission(0);
                return Ok(Progress::More);
            }
        }
        self.emitting = None;
        self.bypass.end_sample();
        Ok(Progress::Done)
    }
}

impl Operator for LocalAggregate {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        // Only rows without a time are late here; the final phase knows the windows that have fired.
        let rows = match RowSlices::new(&self.layout.slices, self.layout.time, &batch, self.now, WATERMARK_MIN)? {
            RowSlices::Several(rows) if self.is_scattered(&rows) => {
                self.process_scattered(batch, rows, out)?;
                return self.relieve(out);
            }
            rows => rows,
        };
        let assignment = SliceAssignment::from(rows);
        emit_late(0, &batch, assignment.late, out)?;
        let total = batch.num_rows();
        let keys = self.layout.keys(&batch);
        let arguments = self.layout.spec.arguments(&batch)?;
        for (slice_end, rows) in &assignment.slices {
            let count = rows.count(total);
            let keys = rows.take_all(&keys)?;
            let arguments = rows.take_arguments(&arguments)?;
            if self.bypass.should_bypass(count) {
                self.emit_rows(keys, &arguments, *slice_end, count, out)?;
                continue;
            }
            let table = match self.tables.entry(*slice_end) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Table::new(&self.layout.spec)?),
            };
            table.update(&keys, &arguments, count, &mut self.groups)?;
            self.bypass.record_input(count);
        }
        self.relieve(out)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.emit_until(watermark.saturating_add(1), out)
    }

    fn on_time(&mut self, now: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        if self.layout.time != RowTime::Processing {
            return Ok(Progress::Done);
        }
        self.emit_until(now, out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let processing = self.layout.time == RowTime::Processing;
        self.tables.keys().next().copied().filter(|_| processing)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        match self.emitting.take() {
            Some(emission) => self.emit(emission, out),
            None => Ok(Progress::Done),
        }
    }

    fn flush(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.emit_until(WATERMARK_MAX, out)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.emit_until(WATERMARK_MAX, out)
    }
}
