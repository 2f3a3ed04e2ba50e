//! Aggregates per key and window: the engine's heart.
//!
//! Time is cut into slices ([`slices`]); every open slice has a *pane*: a table of groups that rows of the slice go
//! into ([`assign`] finds each row's slice). When the watermark passes the end of a window, its panes are merged, if
//! there are several ([`merging`]), and emitted in bounded pieces ([`firing`]). Windows fire in ascending order of
//! their end; a pane goes when the last window that contains it has fired.
//!
//! Panes are the hot set. What changed since the last checkpoint is written at each barrier, and whole panes go to the
//! store when memory is short; such a window is then fired from the store, key group by key group ([`stored`]).
//!
//! Phases: `Single` takes rows, `Final` the partial states that [`local`] pre-aggregation emits per slice.

mod assign;
mod firing;
mod local;
mod merging;
mod output;
mod slices;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use millstream_graph::{self as graph, Phase, TimeAttribute, Window};

pub use self::assign::{Assignment, RowTime, Rows, emit_late, micros};
use self::firing::Firing;
pub use self::local::LocalAggregate;
use self::merging::Runs;
pub use self::output::{WindowOutput, conform};
pub use self::slices::Slices;
use self::stored::PaneStore;
use super::OperatorContext;
use super::stored_rows::KeyGroupSet;
use super::stored_tables::Segment;
use super::table::{Table, TableSpec};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN};

/// What both halves of an aggregate know of its node.
struct Layout {
    slices: Slices,
    time: RowTime,
    /// Columns of the key; for attached windows the window's start is the last of them, since windows with the same
    /// end may start at different times.
    keys: Vec<usize>,
    /// Whether the input is rows of partial states.
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
            // The keys come first in what the local phase emits.
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
            spec: TableSpec::new(key_fields, &node.aggregates)?,
            output: WindowOutput::new(Arc::clone(output), attached.is_some()),
        })
    }

    fn keys(&self, batch: &RecordBatch) -> Vec<ArrayRef> {
        self.keys.iter().map(|key| Arc::clone(batch.column(*key))).collect()
    }
}

/// A slice's groups.
struct Pane {
    table: Table,
    /// Which groups changed since they were last written.
    dirty: Dirty,
    /// How the table's groups lie in the store.
    form: Form,
    /// The epoch the table's rows are written under. The same for as long as the table lives: what is written again
    /// must replace what was written before.
    epoch: u32,
    /// Whether the store has rows of this slice that are not in `table`.
    stored: bool,
    /// Key groups that have rows of this slice in the store.
    written: KeyGroupSet,
}

/// How the groups of a table that stays in memory have been written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Those before the number as rows: what is written of them later must replace these.
    Rows(usize),
    /// All that there were, as blocks of so many rows: what changes is replaced segment by segment.
    Blocks(usize),
}

/// Groups that differ from what is in the store.
enum Dirty {
    All,
    Listed { marks: Vec<bool>, groups: Vec<u32> },
}

impl Dirty {
    fn none(group_count: usize) -> Self {
        Self::Listed {
            marks: vec![false; group_count],
            groups: Vec::new(),
        }
    }

    /// How many they are, of a table with so many groups.
    fn count(&self, group_count: usize) -> usize {
        match self {
            Self::All => group_count,
            Self::Listed { groups, .. } => groups.len(),
        }
    }

    /// Which segments of so many groups have some, of a table with so many groups in all.
    fn segments(&self, segment_groups: usize, group_count: usize) -> Vec<Segment> {
        let segment = |number: usize| Segment {
            number: number as u32,
            groups: number * segment_groups..group_count.min((number + 1) * segment_groups),
        };
        let all = 0..group_count.div_ceil(segment_groups);
        match self {
            Self::All => all.map(segment).collect(),
            Self::Listed { marks, .. } => {
                let segments = marks.chunks(segment_groups).enumerate();
                let touched = segments.filter(|(_, marks)| marks.contains(&true));
                touched.map(|(number, _)| segment(number)).collect()
            }
        }
    }

    fn mark(&mut self, touched: &[u32], group_count: usize) {
        let Self::Listed { marks, groups } = self else {
            return;
        };
        marks.resize(group_count, false);
        for group in touched {
            let mark = &mut marks[*group as usize];
            if !*mark {
                *mark = true;
                groups.push(*group);
            }
        }
    }

    fn size(&self) -> usize {
        match self {
            Self::All => 0,
            Self::Listed { marks, groups } => marks.capacity() + groups.capacity() * size_of::<u32>(),
        }
    }
}

impl Pane {
    fn new(spec: &Arc<TableSpec>, epoch: u32) -> Result<Self, Error> {
        Ok(Self {
            table: Table::new(spec)?,
            dirty: Dirty::All,
            form: Form::Rows(0),
            epoch,
            stored: false,
            written: KeyGroupSet::default(),
        })
    }

    fn size(&self) -> usize {
        self.table.size() + self.dirty.size()
    }
}

/// Phases `Single` and `Final`.
pub struct WindowAggregate {
    layout: Layout,
    /// By slice end.
    panes: BTreeMap<i64, Pane>,
    /// Bytes held by `panes`.
    pane_bytes: usize,
    /// Bytes that another batch like the last one may take besides.
    growth_bytes: usize,
    /// All windows that end here or before have fired.
    fired: i64,
    /// Windows that end here or before are complete and are to be fired.
    complete: i64,
    firing: Option<Firing>,
    /// For cumulating windows: the merged slices of the period that is firing.
    running: Option<firing::Running>,
    /// For hopping windows of many slices: merged slices that several windows share.
    runs: Runs,
    store: PaneStore,
    /// Groups of the last pane that fired, less a little; 0 while memory is short.
    groups_expected: usize,
    now: Timestamp,
    /// The rows' groups of the batch in hand.
    groups: Vec<u32>,
}

impl WindowAggregate {
    pub fn new(
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
        let (store, restored) = PaneStore::open(context, &layout)?;
        let runs = Runs::new(&layout.slices);
        let mut panes = BTreeMap::new();
        for (slice_end, written) in restored.panes {
            let mut pane = Pane::new(&layout.spec, store.epoch())?;
            pane.stored = true;
            pane.written = written;
            panes.insert(slice_end, pane);
        }
        let mut aggregate = Self {
            layout,
            panes,
            pane_bytes: 0,
            growth_bytes: 0,
            fired: restored.fired,
            complete: restored.fired,
            firing: None,
            running: None,
            runs,
            store,
            groups_expected: 0,
            now: WATERMARK_MIN,
            groups: Vec::new(),
        };
        // At another parallelism the slowest of the old subtasks sets the time; what others had fired is not here.
        aggregate.drop_expired()?;
        Ok(aggregate)
    }

    fn update(&mut self, batch: &RecordBatch, assignment: &Assignment) -> Result<(), Error> {
        let total = batch.num_rows();
        let keys = self.layout.keys(batch);
        let spec = &self.layout.spec;
        let arguments = if self.layout.partial {
            Vec::new()
        } else {
            spec.arguments(batch)?
        };
        let states = if self.layout.partial {
            let first = self.layout.output.partial_keys(self.layout.keys.len());
            spec.split_states(&batch.columns()[first..first + spec.state_width()])
        } else {
            Vec::new()
        };
        self.growth_bytes = 0;
        for (slice_end, rows) in &assignment.slices {
            let pane = match self.panes.entry(*slice_end) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    let mut pane = Pane::new(spec, self.store.epoch())?;
                    // Windows are alike: about as many groups as the last one had.
                    pane.table.reserve(self.groups_expected);
                    self.pane_bytes += pane.size();
                    entry.insert(pane)
                }
            };
            self.runs.on_change(*slice_end);
            let bytes_before = pane.size();
            let count = rows.count(total);
            let keys = rows.take_all(&keys)?;
            if self.layout.partial {
                let states = states
                    .iter()
                    .map(|columns| rows.take_all(columns))
                    .collect::<Result<Vec<_>, _>>()?;
                pane.table.merge(&keys, &states, count, &mut self.groups)?;
            } else {
                let taken;
                let arguments = match rows {
                    Rows::All => &arguments,
                    _ => {
                        taken = arguments
                            .iter()
                            .map(|argument| argument.map(|array| rows.take(array)))
                            .collect::<Result<Vec<_>, _>>()?;
                        &taken
                    }
                };
                pane.table.update(&keys, arguments, count, &mut self.groups)?;
            }
            pane.dirty.mark(&self.groups, pane.table.len());
            self.pane_bytes = (self.pane_bytes + pane.size()).saturating_sub(bytes_before);
            self.growth_bytes = self.growth_bytes.max(pane.table.growth(count));
        }
        Ok(())
    }

    /// Everything that ends at `complete` or before may fire.
    fn completed(&mut self, complete: i64, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.complete = self.complete.max(complete);
        self.advance(out)
    }
}

impl Operator for WindowAggregate {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let assignment = Assignment::new(&self.layout.slices, self.layout.time, &batch, self.now, self.fired)?;
        self.update(&batch, &assignment)?;
        emit_late(0, &batch, assignment.late, out)?;
        self.relieve_memory()
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.layout.time == RowTime::Processing {
            return Ok(Progress::Done);
        }
        self.completed(watermark.saturating_add(1), out)
    }

    fn on_time(&mut self, now: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        if self.layout.time != RowTime::Processing {
            return Ok(Progress::Done);
        }
        self.completed(now, out)
    }

    fn next_timer(&self) -> Option<Timestamp> {
        if self.layout.time != RowTime::Processing {
            return None;
        }
        self.next_window()
    }

    fn processing_time(&self) -> Option<Timestamp> {
        (self.layout.time == RowTime::Processing && self.fired != WATERMARK_MIN).then_some(self.fired)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.store.spill.is_waiting_for_memory() {
            return self.relieve_memory();
        }
        self.advance(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        self.freeze(checkpoint)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.completed(WATERMARK_MAX, out)
    }
}

#[cfg(test)]
pub(super) mod tests;
