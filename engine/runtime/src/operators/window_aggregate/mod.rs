//! Window aggregates: aggregates per key and window.
//!
//! Time is divided into slices ([`slices`]). Every open slice has a *pane*: a table of groups that the slice's rows are
//! accumulated into ([`slice_assignment`] finds each row's slice). When the watermark passes the end of a window, its
//! panes are merged, if there are several ([`merging`]), and emitted in bounded steps ([`firing`]). Windows fire in
//! ascending order of their end; a pane is removed when the last window that contains it has fired.
//!
//! Changes since the last checkpoint are written at each barrier, and whole panes are evicted when memory is short
//! ([`checkpoint`]). A window with evicted panes is fired from the store. Layout of the keyed state: see
//! [`pane_format`]. Inline state: version byte 1, then bincode of the time until which windows have fired (i64) and the
//! epoch (u32).
//!
//! If the input is a changelog, the accumulators take rows back ([`TableSpec::weighted`]), and a group is emitted if
//! rows are left of it. There are no partial states of such rows.
//!
//! Phases: `Single` takes rows, `Final` takes the partial states that [`local`] pre-aggregation emits per slice.

mod checkpoint;
mod firing;
mod local;
mod merging;
mod output;
mod pane_format;
mod pane_table;
mod scattered;
mod slice_assignment;
mod slices;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{FieldRef, Int64Type, SchemaRef};
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use arrow_select::filter::FilterBuilder;
use millstream_connectors::changelog;
use millstream_graph::{self as graph, Phase, Port, TimeAttribute, Window};

use self::firing::Firing;
pub(super) use self::local::LocalAggregate;
use self::merging::{CumulativePrefix, Runs};
pub(super) use self::output::{WindowOutput, conform};
use self::pane_format::PaneFormat;
use self::pane_table::PaneTable;
pub(super) use self::slice_assignment::{RowSelection, RowTime, SliceAssignment, emit_late, micros};
pub(super) use self::slices::Slices;
use super::OperatorContext;
use super::table::{Select, Table, TableSpec};
use super::window_panes::{FireBudget, WindowOperator, WindowPanes};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN};

const INLINE_VERSION: u8 = 1;

/// The columns, slices and accumulators of an aggregate, for either phase.
struct Layout {
    slices: Slices,
    time: RowTime,
    /// Columns of the key. For attached windows the last one is the window's start, since windows with the same end may
    /// start at different times.
    keys: Vec<usize>,
    /// True if the input consists of partial states.
    partial: bool,
    spec: Arc<TableSpec>,
    output: WindowOutput,
}

impl Layout {
    fn new(node: &graph::WindowAggregate, input: &SchemaRef, output: &SchemaRef) -> Result<Self, Error> {
        let mut keys = node.keys.clone();
        let partial = node.phase == Phase::Final;
        let width = input.fields().len();
        let attached = match node.window {
            Window::Attached(columns) => Some(columns),
            _ => None,
        };
        let time = match (partial, attached, node.time) {
            (true, ..) => RowTime::SliceEnd(width - 1),
            (false, Some(columns), _) => RowTime::SliceEnd(columns.end),
            (false, None, TimeAttribute::Event(column)) => RowTime::Event(column),
            (false, None, TimeAttribute::Processing) => RowTime::Processing,
        };
        if partial {
            // The local phase emits the keys first.
            keys = (0..node.keys.len()).collect();
        }
        if let Some(columns) = attached {
            keys.push(if partial { width - 2 } else { columns.start });
        }
        let key_fields: Vec<FieldRef> = keys.iter().map(|key| Arc::clone(&input.fields()[*key])).collect();
        Ok(Self {
            slices: Slices::new(&node.window)?,
            time,
            keys,
            partial,
            spec: match changelog::is_changelog(input) {
                true => TableSpec::weighted(key_fields, &node.aggregates, input)?,
                false => TableSpec::new(key_fields, &node.aggregates)?,
            },
            output: WindowOutput::new(Arc::clone(output), attached.is_some()),
        })
    }

    fn keys(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect()
    }

    /// Returns a batch of results: some groups of a table with everything in the window that ends at `end`.
    fn results(&self, table: &mut Table, groups: Range<usize>, end: i64) -> Result<RecordBatch, Error> {
        let mut rows = groups.len();
        let select = Select::Range(groups);
        let mut keys = table.keys(&select)?;
        let mut results = table.results(&select)?;
        if self.spec.is_weighted
            && let Some(counts) = results.pop()
        {
            let counts = counts.as_primitive::<Int64Type>().values();
            let present = BooleanArray::from_iter(counts.iter().map(|count| Some(*count > 0)));
            rows = present.true_count();
            let predicate = FilterBuilder::new(&present).optimize().build();
            for column in keys.iter_mut().chain(&mut results) {
                *column = predicate.filter(column)?;
            }
        }
        self.output
            .batch(keys, results, self.slices.window_start(end), end, rows)
    }
}

/// The operator of tumbling, hopping, cumulating and attached windows: phases `Single` and `Final`.
pub(super) struct WindowAggregate {
    layout: Layout,
    /// By slice end.
    panes: WindowPanes<PaneTable>,
    format: PaneFormat,
    firing: Option<Firing>,
    /// Batches emitted by the present call.
    emitted: Vec<RecordBatch>,
    /// For cumulating windows: the merged slices of the period that is firing.
    prefix: Option<CumulativePrefix>,
    /// For hopping windows of many slices: merged slices that several windows share.
    runs: Runs,
    /// Epoch of tables that are created from now on.
    epoch: u32,
    /// True if panes were evicted since the last barrier.
    has_evicted: bool,
    /// Bytes that another batch like the last one may need besides.
    growth_bytes: usize,
    /// Number of groups to expect in the next pane; 0 while memory is short.
    groups_expected: usize,
    now: Timestamp,
    /// Scratch: the groups of a batch's rows.
    groups: Vec<u32>,
}

impl WindowAggregate {
    /// Creates the operator, with the panes of the checkpoint it resumes from.
    pub(super) fn new(
        name: &str,
        node: &graph::WindowAggregate,
        input: &SchemaRef,
        output: &SchemaRef,
        context: OperatorContext,
    ) -> Result<Self, Error> {
        if node.allowed_lateness != 0 {
            return Err(Error::Operator {
                operator: name.to_owned(),
                message: "allowed lateness makes a window fire again, which an append-only result cannot show; \
                          set it to 0 and take late rows from the step's `late` output"
                    .to_owned(),
            });
        }
        let layout = Layout::new(node, input, output)?;
        let format = PaneFormat::new(&layout, context.max_parallelism, context.key_groups)?;
        let (panes, last_epoch) = WindowPanes::restore(context, INLINE_VERSION, |epoch: u32| {
            PaneTable::new(&layout.spec, epoch + 1)
        })?;
        let runs = Runs::new(&layout.slices);
        let mut aggregate = Self {
            layout,
            panes,
            format,
            firing: None,
            emitted: Vec::new(),
            prefix: None,
            runs,
            epoch: last_epoch.map_or(0, |epoch| epoch + 1),
            has_evicted: false,
            growth_bytes: 0,
            groups_expected: 0,
            now: WATERMARK_MIN,
            groups: Vec::new(),
        };
        // After a restore at another parallelism there may be panes of windows that have fired elsewhere.
        aggregate.drop_expired();
        Ok(aggregate)
    }

    fn update(&mut self, batch: &RecordBatch, assignment: &mut SliceAssignment) -> Result<(), Error> {
        let total = batch.num_rows();
        let mut keys = self.layout.keys(batch);
        let spec = &self.layout.spec;
        let mut arguments = if self.layout.partial {
            Vec::new()
        } else {
            spec.arguments(batch)?
        };
        let mut states = if self.layout.partial {
            let first = self.layout.output.partial_keys(self.layout.keys.len());
            spec.split_states(&batch.columns()[first..first + spec.state_width()])
        } else {
            Vec::new()
        };
        if let Some(order) = assignment.gather() {
            let order = RowSelection::Listed(order);
            keys = order.take_all(&keys)?;
            arguments = order.take_arguments(&arguments)?;
            for columns in &mut states {
                *columns = order.take_all(columns)?;
            }
        }
        self.growth_bytes = 0;
        for (slice_end, rows) in &assignment.slices {
            let new_state = || {
                let mut state = PaneTable::new(spec, self.epoch)?;
                state.table.reserve(self.groups_expected);
                Ok(state)
            };
            let mut pane = self.panes.get_or_insert_with(*slice_end, new_state)?;
            let PaneTable { table, dirty, .. } = &mut pane.state;
            self.runs.invalidate(*slice_end);
            let count = rows.count(total);
            let keys = rows.take_all(&keys)?;
            if self.layout.partial {
                let states = states
                    .iter()
                    .map(|columns| rows.take_all(columns))
                    .collect::<Result<Vec<_>, _>>()?;
                table.merge(&keys, &states, count, &mut self.groups)?;
            } else {
                table.update(&keys, &rows.take_arguments(&arguments)?, count, &mut self.groups)?;
            }
            dirty.mark(&self.groups, table.len());
            self.growth_bytes = self.growth_bytes.max(table.growth(count));
        }
        Ok(())
    }

    /// Fires the windows that end at `complete` or before.
    fn fire_until(&mut self, complete: i64, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.panes.set_complete(complete);
        self.fire_and_emit(out)
    }

    /// Fires complete windows. Many small windows are emitted as one batch.
    fn fire_and_emit(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let progress = self.fire(out);
        let emitted = std::mem::take(&mut self.emitted);
        match emitted.as_slice() {
            [] => {}
            [batch] => out.emit(Port::Main, batch.clone()),
            batches => out.emit(Port::Main, concat_batches(self.layout.output.schema(), batches)?),
        }
        progress
    }

    /// Keeps the operator within its memory budget: drops what is derived from panes, then evicts panes.
    fn relieve(&mut self) -> Result<Progress, Error> {
        let needed = self.panes.size() + self.other_bytes() + self.growth_bytes;
        if !self.panes.spill.reservation.try_resize(needed) {
            self.prefix = None;
            self.runs.clear();
        }
        self.relieve_memory()
    }
}

impl WindowOperator for WindowAggregate {
    type State = PaneTable;
    type Firing = Firing;

    fn panes(&mut self) -> &mut WindowPanes<PaneTable> {
        &mut self.panes
    }

    fn firing(&mut self) -> &mut Option<Firing> {
        &mut self.firing
    }

    fn next_window(&self) -> Option<i64> {
        // Panes are ordered, and so are their next windows.
        let fired = self.panes.fired();
        self.panes
            .ends()
            .find_map(|slice_end| self.layout.slices.next_window(slice_end, fired))
    }

    fn other_bytes(&self) -> usize {
        self.runs.size()
            + self.prefix.as_ref().map_or(0, |prefix| prefix.table.size())
            + self.firing.as_ref().map_or(0, Firing::size)
    }

    fn headroom_bytes(&self) -> usize {
        self.growth_bytes
    }

    fn evict(&mut self, ends: &[i64]) -> Result<(), Error> {
        self.groups_expected = 0;
        self.has_evicted = true;
        self.evict_panes(ends)
    }

    fn begin(&mut self, end: i64) -> Result<Firing, Error> {
        self.begin_window(end)
    }

    fn step(
        &mut self,
        firing: Firing,
        budget: &mut FireBudget,
        _out: &mut dyn Collector,
    ) -> Result<Option<Firing>, Error> {
        self.step_window(firing, budget)
    }
}

impl Operator for WindowAggregate {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let fired = self.panes.fired();
        let mut assignment = SliceAssignment::new(&self.layout.slices, self.layout.time, &batch, self.now, fired)?;
        self.update(&batch, &mut assignment)?;
        emit_late(0, &batch, assignment.late, out)?;
        self.relieve()
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.layout.time == RowTime::Processing {
            return Ok(Progress::Done);
        }
        self.fire_until(watermark.saturating_add(1), out)
    }

    fn on_time(&mut self, now: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        if self.layout.time != RowTime::Processing {
            return Ok(Progress::Done);
        }
        self.fire_until(now, out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        if self.layout.time != RowTime::Processing {
            return None;
        }
        self.next_window()
    }

    fn processing_time(&self) -> Option<Timestamp> {
        let fired = self.panes.fired();
        (self.layout.time == RowTime::Processing && fired != WATERMARK_MIN).then_some(fired)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.panes.spill.is_waiting_for_memory() {
            return self.relieve();
        }
        self.fire_and_emit(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        self.checkpoint(checkpoint)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.fire_until(WATERMARK_MAX, out)
    }
}

#[cfg(test)]
pub(super) mod tests;
