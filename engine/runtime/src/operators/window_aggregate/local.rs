//! Local pre-aggregation: the first of two phases, before rows are exchanged by key.
//!
//! Rows are aggregated into small tables per slice, which are emitted as partial states when the watermark passes the
//! slice, before a barrier, or when they are full. Nothing is kept over a barrier, so there is no state. Where keys
//! hardly repeat, tables only cost time; then every row is converted to a partial state of its own for a while, until
//! the tables are tried again.

use std::collections::BTreeMap;

use arrow_array::RecordBatch;
use millstream_graph::{self as graph, Port};

use super::{Layout, RowTime, SliceAssignment, emit_late};
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
/// Emitted groups per row, in percent, above which pre-aggregation is bypassed.
const OUTPUT_PERCENT_MAX: usize = 60;

/// The operator of local pre-aggregation: phase `Local`.
pub(crate) struct LocalAggregate {
    layout: Layout,
    /// By slice end.
    tables: BTreeMap<i64, Table>,
    /// The end up to which slices are being emitted, and the next group of the first of them.
    emitting: Option<(i64, usize)>,
    row_states: RowStates,
    bypass: AdaptiveBypass,
    now: Timestamp,
    groups: Vec<u32>,
}

impl LocalAggregate {
    /// Creates the operator.
    pub(crate) fn new(node: &graph::WindowAggregate, input: &SchemaRef, output: &SchemaRef) -> Result<Self, Error> {
        let layout = Layout::new(node, input, output)?;
        Ok(Self {
            row_states: RowStates::new(&layout.spec)?,
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
        self.tables.values().map(Table::len).sum()
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

    /// Emits the tables of slices up to `end`, the first one from its group `next` on.
    fn emit(&mut self, end: i64, next: usize, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut next = next;
        let mut allowance = EMIT_ROWS_MAX;
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
                self.emitting = Some((end, to));
                return Ok(Progress::More);
            }
            next = 0;
            first.remove();
            if allowance == 0 && self.tables.first_key_value().is_some_and(|(slice, _)| *slice <= end) {
                self.emitting = Some((end, 0));
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
        let assignment = SliceAssignment::new(&self.layout.slices, self.layout.time, &batch, self.now, WATERMARK_MIN)?;
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
        if self.group_count() > GROUPS_MAX {
            return self.emit(WATERMARK_MAX, 0, out);
        }
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.emit(watermark.saturating_add(1), 0, out)
    }

    fn on_time(&mut self, now: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        if self.layout.time != RowTime::Processing {
            return Ok(Progress::Done);
        }
        self.emit(now, 0, out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        let processing = self.layout.time == RowTime::Processing;
        self.tables.keys().next().copied().filter(|_| processing)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        match self.emitting {
            Some((end, next)) => self.emit(end, next, out),
            None => Ok(Progress::Done),
        }
    }

    fn flush(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.emit(WATERMARK_MAX, 0, out)
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.emit(WATERMARK_MAX, 0, out)
    }
}
