//! Top-N per window: the first rows of each window and partition, by an order.
//!
//! The first rows so far are in memory, by open window and partition ([`ranked_rows`]). When the watermark passes a
//! window's end, its rows are emitted, partition by partition, in the order of their ranks. When memory is short the
//! largest windows are evicted: their rows are written, and later rows are ranked among themselves, in an empty set of
//! a later *epoch*. A window with rows in the store is fired from there, key group by key group: the rows of all epochs
//! are ranked together, in the order in which they came.
//!
//! State: namespace = window end; key = the partition columns in the store's key encoding, then epoch and rank from 0
//! (u32 BE each); value = the row in the store's row encoding. A partition that changed is written as a whole, under
//! its epoch; since its rows only move back, that replaces all its former rows, but for some of too great ranks. Inline
//! state: version byte 2, then bincode of the time until which windows have fired (i64) and the epoch (u32).

mod persistence;
mod ranked_rows;

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_row::{RowConverter, SortField};
use millstream_graph::{self as graph, Port};

use self::persistence::RankedRowFlush;
use self::ranked_rows::{Cursor, RankedRows, Ranking};
use super::OperatorContext;
use super::keyed_state::{RowFlush, RowFormat, StoredRows};
use super::window_aggregate::{RowTime, SliceAssignment, Slices, conform, emit_late};
use super::window_panes::{FireBudget, PaneState, ReadProgress, StoredWindow, WindowOperator, WindowPanes};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX};

const INLINE_VERSION: u8 = 2;
/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;

/// A window that is being fired.
pub(super) struct Firing {
    end: i64,
    /// The rows to emit: all of them, or those of a key group.
    ranked: RankedRows,
    /// The next row to emit; `None` while `ranked` is being read.
    cursor: Option<Cursor>,
    /// The scan of a stored window.
    stored: Option<StoredWindow>,
}

/// The operator of top-N per window.
pub(super) struct WindowTopN {
    node: graph::WindowTopN,
    ranking: Ranking,
    output: SchemaRef,
    panes: WindowPanes<RankedRows>,
    firing: Option<Firing>,
    format: Arc<RowFormat>,
    /// Epoch of windows that are opened from now on.
    epoch: u32,
    /// Scratch: the partitions of a batch's rows.
    groups: Vec<u32>,
}

impl WindowTopN {
    /// Creates the operator, with the windows of the checkpoint it resumes from.
    pub(super) fn new(
        name: &str,
        node: &graph::WindowTopN,
        input: &SchemaRef,
        output: &SchemaRef,
        context: OperatorContext,
    ) -> Result<Self, Error> {
        let order = node
            .order
            .iter()
            .map(|sort| {
                let data_type = sort.expr.data_type(input)?;
                Ok(SortField::new_with_options(data_type, sort.options))
            })
            .collect::<Result<Vec<_>, Error>>()?;
        let fields = node.partition.iter();
        let partition_fields: Vec<FieldRef> = fields.map(|column| Arc::clone(&input.fields()[*column])).collect();
        let rank_max = usize::try_from(node.to).map_err(|_| Error::Operator {
            operator: name.to_owned(),
            message: format!("cannot keep {} rows per partition", node.to),
        })?;
        let format = RowFormat::new(
            &partition_fields,
            partition_fields.len(),
            input.fields(),
            context.max_parallelism,
        )?;
        let ranking = Ranking {
            input: Arc::clone(input),
            partition: node.partition.clone(),
            partition_fields,
            order: node.order.clone(),
            converter: (!order.is_empty()).then(|| RowConverter::new(order)).transpose()?,
            function: node.function,
            rank_max,
            prefers_last: node.prefers_last,
        };
        let (panes, last_epoch) = WindowPanes::restore(context, INLINE_VERSION, |epoch: u32| {
            RankedRows::new(&ranking, epoch + 1)
        })?;
        Ok(Self {
            node: node.clone(),
            ranking,
            output: Arc::clone(output),
            panes,
            firing: None,
            format: Arc::new(format),
            epoch: last_epoch.map_or(0, |epoch| epoch + 1),
            groups: Vec::new(),
        })
    }

    fn insert(&mut self, end: i64, rows: RecordBatch) -> Result<(), Error> {
        let new_state = || RankedRows::new(&self.ranking, self.epoch);
        let mut pane = self.panes.get_or_insert_with(end, new_state)?;
        pane.state.insert(&self.ranking, rows, &mut self.groups)
    }

    fn evict_window(&mut self, end: i64) -> Result<(), Error> {
        let next_epoch = self.epoch + 1;
        let empty = || RankedRows::new(&self.ranking, next_epoch);
        let Some(ranked) = self.panes.evict(end, empty)? else {
            return Ok(());
        };
        self.epoch = next_epoch;
        self.panes
            .note_written(end, persistence::key_groups(&ranked, &self.format)?);
        let flush = RankedRowFlush::new(end, ranked, &self.format, &self.panes.spill.memory);
        Ok(self.panes.spill.store.write(Box::new(flush), None)?)
    }

    /// Ranks some more rows of a stored window's key group. Returns true if the window has no more key groups.
    fn read(&mut self, firing: &mut Firing) -> Result<bool, Error> {
        let Some(stored) = &mut firing.stored else {
            return Ok(true);
        };
        let mut values = StoredRows::default();
        // Rows of a partition come in the order of epoch and rank, so rows of equal order come as they came at first.
        let progress = stored.read(&self.panes.spill.store, SCAN_ROWS, &mut |_, value| values.push(value))?;
        if !values.is_empty() {
            let columns = self.format.decode_values(&values)?;
            let rows = RecordBatch::try_new(Arc::clone(&self.ranking.input), columns)?;
            firing.ranked.insert(&self.ranking, rows, &mut self.groups)?;
        }
        if progress == ReadProgress::KeyGroupComplete {
            firing.cursor = Some(Cursor::default());
        }
        Ok(progress == ReadProgress::End)
    }

    /// Emits up to `rows_max` of the next rows, and returns their number.
    fn emit(
        &self,
        ranked: &RankedRows,
        cursor: &mut Cursor,
        rows_max: usize,
        out: &mut dyn Collector,
    ) -> Result<usize, Error> {
        let (rows, ranks) = ranked.next_ranks(cursor, self.node.function, self.node.from, rows_max);
        if rows.len() == 0 {
            return Ok(0);
        }
        let mut columns = ranked.gather(&rows)?;
        if self.node.emit_rank {
            let ranks: ArrayRef = Arc::new(Int64Array::from(ranks));
            columns.push(ranks);
        }
        out.emit(Port::Main, conform(&self.output, columns)?);
        Ok(rows.len())
    }
}

impl WindowOperator for WindowTopN {
    type State = RankedRows;
    type Firing = Firing;

    fn panes(&mut self) -> &mut WindowPanes<RankedRows> {
        &mut self.panes
    }

    fn firing(&mut self) -> &mut Option<Firing> {
        &mut self.firing
    }

    fn next_window(&self) -> Option<i64> {
        self.panes.first_end()
    }

    fn other_bytes(&self) -> usize {
        self.firing.as_ref().map_or(0, |firing| firing.ranked.size())
    }

    fn evict(&mut self, ends: &[i64]) -> Result<(), Error> {
        ends.iter().try_for_each(|end| self.evict_window(*end))
    }

    fn begin(&mut self, end: i64) -> Result<Firing, Error> {
        let is_stored = self.panes.any_stored([end]);
        let mut ranked = RankedRows::new(&self.ranking, self.epoch)?;
        let mut stored = None;
        if is_stored {
            self.evict_window(end)?;
            stored = Some(self.panes.read_stored(&[end]));
        } else {
            let mut pane = self.panes.get_mut(end).expect("windows fire while they are open");
            std::mem::swap(&mut ranked, &mut pane.state);
        }
        Ok(Firing {
            end,
            ranked,
            cursor: (!is_stored).then(Cursor::default),
            stored,
        })
    }

    fn step(
        &mut self,
        mut firing: Firing,
        budget: &mut FireBudget,
        out: &mut dyn Collector,
    ) -> Result<Option<Firing>, Error> {
        budget.spend_step();
        let has_ended = match &mut firing.cursor {
            None => self.read(&mut firing)?,
            Some(cursor) => {
                let rows = self.emit(&firing.ranked, cursor, budget.rows(), out)?;
                budget.spend_rows(rows);
                if rows == 0 {
                    firing.ranked = RankedRows::new(&self.ranking, self.epoch)?;
                    firing.cursor = None;
                }
                rows == 0 && firing.stored.is_none()
            }
        };
        if has_ended {
            self.panes.remove(firing.end);
            self.panes.set_fired(firing.end);
            return Ok(None);
        }
        Ok(Some(firing))
    }
}

impl Operator for WindowTopN {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let time = RowTime::SliceEnd(self.node.window.end);
        let fired = self.panes.fired();
        let assignment = SliceAssignment::new(&Slices::Attached, time, &batch, fired, fired)?;
        emit_late(0, &batch, assignment.late, out)?;
        for (end, rows) in assignment.slices {
            let columns = rows.take_all(batch.columns())?;
            self.insert(end, RecordBatch::try_new(Arc::clone(&self.ranking.input), columns)?)?;
        }
        self.relieve_memory()
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.panes.set_complete(watermark.saturating_add(1));
        self.fire(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.panes.spill.is_waiting_for_memory() {
            return self.relieve_memory();
        }
        self.fire(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        let mut parts = Vec::new();
        let mut copies = self.panes.spill.memory.reservation();
        let ends: Vec<i64> = self.panes.ends().collect();
        for end in ends {
            let mut pane = self.panes.get_mut(end).expect("windows stay open at a barrier");
            // A copy that the budget refuses is not made; the window is evicted instead.
            if !copies.try_resize(copies.bytes() + pane.state.dirty_bytes()) {
                drop(pane);
                self.evict_window(end)?;
                continue;
            }
            if let Some(rows) = persistence::dirty_rows(end, &pane.state, &self.format)? {
                pane.key_groups.extend(rows.key_groups.iter().copied());
                parts.push(rows);
            }
            pane.state.mark_clean();
        }
        drop(copies);
        if !parts.is_empty() {
            let flush = RowFlush::new(parts, &self.format, &self.panes.spill.memory);
            self.panes.spill.store.write(Box::new(flush), None)?;
        }
        self.panes.release_memory(self.other_bytes());
        self.panes.snapshot(checkpoint, self.epoch, INLINE_VERSION)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.panes.set_complete(WATERMARK_MAX);
        self.fire(out)
    }
}

#[cfg(test)]
pub(super) mod tests;
