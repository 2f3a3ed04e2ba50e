//! Window joins: the rows of two inputs that are in equal windows are joined.
//!
//! Rows of both sides are buffered by window end, as the batches they came in. When the watermark passes the end, the
//! two sets are joined ([`hash_join`]) and emitted, in bounded steps. Windows with the same end but different starts
//! are told apart by their start, as a further key.
//!
//! State: namespace = window end; key = a number never used twice (u64 BE), its top bit set for the right side; value =
//! a block of rows ([`BatchFlush`]). Rows are written once, at a barrier or when memory is
//! short; a window with rows in the store is joined from there, key group by key group. Inline state: version byte 2,
//! then bincode of the time until which windows have fired (i64) and the next number (u64). (Version 1 had single rows
//! for values.)

mod batched_rows;
mod hash_join;

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use datafusion::logical_expr::JoinType;
use millstream_graph::{self as graph, Port, WindowColumns};
use millstream_state::BlockCodec;

use self::batched_rows::BatchedRows;
use self::hash_join::{HashJoin, JoinSpec};
use super::OperatorContext;
use super::keyed_state::{BatchFlush, GroupedBatch, RowFormat, SCAN_BLOCKS, StoredRows};
use super::window_aggregate::{RowTime, SliceAssignment, Slices, conform, emit_late, micros};
use super::window_panes::{FireBudget, Pane, PaneState, ReadProgress, StoredWindow, WindowOperator, WindowPanes};
use crate::Error;
use crate::operator::{Collector, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX};

const INLINE_VERSION: u8 = 2;
/// Estimated bytes of the index per row of the right side.
const INDEX_BYTES: usize = 48;
/// Top bit of a block's number, set for blocks of the right side.
const RIGHT: u64 = 1 << 63;

/// One input.
struct Side {
    /// Schema of the columns that are joined.
    schema: SchemaRef,
    window: WindowColumns,
    /// Decides the key groups of rows.
    format: RowFormat,
    blocks: Arc<BlockCodec>,
    key: Vec<usize>,
}

/// Rows of both sides of one window.
#[derive(Default)]
pub(super) struct BufferedRows {
    sides: [Vec<RecordBatch>; 2],
    /// Number of each side's batches that are in the store.
    written: [usize; 2],
    bytes: usize,
    /// Start of the first row's window.
    start: Option<i64>,
    /// True if the windows of the rows start at different times.
    starts_differ: bool,
}

impl BufferedRows {
    fn push(&mut self, at: usize, side: &Side, rows: RecordBatch) -> Result<(), Error> {
        let (starts, _) = micros(rows.column(side.window.start))?;
        let first = *self.start.get_or_insert(starts.first().copied().unwrap_or_default());
        self.starts_differ |= starts.iter().any(|start| *start != first);
        self.bytes += rows.get_array_memory_size();
        self.sides[at].push(rows);
        Ok(())
    }
}

impl PaneState for BufferedRows {
    fn size(&self) -> usize {
        self.bytes
    }

    fn is_empty(&self) -> bool {
        self.sides.iter().all(Vec::is_empty)
    }
}

/// A window that is being fired.
pub(super) struct Firing {
    end: i64,
    join: Option<HashJoin>,
    /// The scan of a stored window, and the rows read of the current key group.
    stored: Option<StoredWindow>,
    read: BufferedRows,
}

/// The operator of window joins.
pub(super) struct WindowJoin {
    spec: JoinSpec,
    sides: [Side; 2],
    output: SchemaRef,
    panes: WindowPanes<BufferedRows>,
    firing: Option<Firing>,
    next_number: u64,
}

impl WindowJoin {
    /// Creates the operator, with the windows of the checkpoint it resumes from.
    pub(super) fn new(
        name: &str,
        node: &graph::WindowJoin,
        inputs: [&SchemaRef; 2],
        output: &SchemaRef,
        context: OperatorContext,
    ) -> Result<Self, Error> {
        if matches!(
            node.join_type,
            JoinType::RightSemi | JoinType::RightAnti | JoinType::LeftMark | JoinType::RightMark
        ) {
            return Err(Error::Operator {
                operator: name.to_owned(),
                message: format!("a {} window join must be planned the other way round", node.join_type),
            });
        }
        let joined = |input: usize| -> Result<SchemaRef, Error> {
            let columns: Vec<usize> = (0..node.joined_columns[input]).collect();
            Ok(Arc::new(inputs[input].project(&columns)?))
        };
        let joined = [joined(0)?, joined(1)?];
        let side = |schema: &SchemaRef, window: WindowColumns, key: Vec<usize>| -> Result<Side, Error> {
            let key_fields: Vec<_> = key.iter().map(|column| Arc::clone(&schema.fields()[*column])).collect();
            let types: Vec<_> = schema.fields().iter().map(|field| field.data_type().clone()).collect();
            Ok(Side {
                schema: Arc::clone(schema),
                window,
                format: RowFormat::new(&key_fields, key.len(), &[], context.max_parallelism)?,
                blocks: Arc::new(BlockCodec::new(&types)?),
                key,
            })
        };
        let sides = [
            side(&joined[0], node.left, node.on.iter().map(|pair| pair.0).collect())?,
            side(&joined[1], node.right, node.on.iter().map(|pair| pair.1).collect())?,
        ];
        let (panes, next_number) = WindowPanes::restore(context, INLINE_VERSION, |_: u64| Ok(BufferedRows::default()))?;
        Ok(Self {
            spec: JoinSpec::new(
                node.join_type,
                node.on.clone(),
                node.filter.clone(),
                &joined[0],
                &joined[1],
            ),
            sides,
            output: Arc::clone(output),
            panes,
            firing: None,
            next_number: next_number.unwrap_or(0),
        })
    }

    /// Queues the rows of a window that are not in the store yet.
    fn write(&mut self, end: i64) -> Result<(), Error> {
        let Some(mut pane) = self.panes.get_mut(end) else {
            return Ok(());
        };
        let Pane { state, key_groups, .. } = &mut *pane;
        let mut flushes = Vec::new();
        for (at, side) in self.sides.iter().enumerate() {
            let mut batches = Vec::new();
            let mut row_count = 0;
            for rows in &state.sides[at][state.written[at]..] {
                let key: Vec<ArrayRef> = side.key.iter().map(|column| Arc::clone(rows.column(*column))).collect();
                let groups = side.format.key_groups(&key, rows.num_rows())?;
                key_groups.extend(groups.iter().copied());
                row_count += rows.num_rows() as u64;
                batches.push(GroupedBatch {
                    rows: rows.clone(),
                    key_groups: groups,
                });
            }
            state.written[at] = state.sides[at].len();
            if row_count > 0 {
                let number = self.next_number | if at == 0 { 0 } else { RIGHT };
                self.next_number += row_count;
                flushes.push((batches, number, &side.blocks));
            }
        }
        drop(pane);
        let spill = &mut self.panes.spill;
        for (batches, number, blocks) in flushes {
            let flush = BatchFlush::new(end, batches, number, blocks, &spill.memory);
            spill.store.write(Box::new(flush), None)?;
        }
        Ok(())
    }

    fn evict_window(&mut self, end: i64) -> Result<(), Error> {
        self.write(end)?;
        self.panes.evict(end, || Ok(BufferedRows::default()))?;
        Ok(())
    }

    fn join(&self, rows: BufferedRows) -> Result<HashJoin, Error> {
        let mut on = self.spec.on.clone();
        if rows.starts_differ {
            on.push((self.sides[0].window.start, self.sides[1].window.start));
        }
        let [left, right] = rows.sides;
        HashJoin::new(
            on,
            BatchedRows::new(&self.sides[0].schema, left),
            BatchedRows::new(&self.sides[1].schema, right),
        )
    }

    /// Reads some more of a stored window's key group, and starts to join it once it is complete. Returns true if the
    /// window has no more key groups.
    fn read(&mut self, firing: &mut Firing) -> Result<bool, Error> {
        let Some(stored) = &mut firing.stored else {
            return Ok(true);
        };
        let mut blocks: [StoredRows; 2] = Default::default();
        let progress = stored.read(&self.panes.spill.store, SCAN_BLOCKS, &mut |key, value| {
            let is_right = key.first().is_some_and(|byte| byte & 0x80 != 0);
            blocks[usize::from(is_right)].push(value);
        })?;
        for (at, (side, blocks)) in self.sides.iter().zip(&blocks).enumerate() {
            for block in blocks.iter() {
                let (columns, _) = side.blocks.decode(block)?;
                let rows = RecordBatch::try_new(Arc::clone(&side.schema), columns)?;
                firing.read.push(at, side, rows)?;
            }
        }
        if progress == ReadProgress::KeyGroupComplete {
            firing.join = Some(self.join(std::mem::take(&mut firing.read))?);
        }
        Ok(progress == ReadProgress::End)
    }
}

impl WindowOperator for WindowJoin {
    type State = BufferedRows;
    type Firing = Firing;

    fn panes(&mut self) -> &mut WindowPanes<BufferedRows> {
        &mut self.panes
    }

    fn firing(&mut self) -> &mut Option<Firing> {
        &mut self.firing
    }

    fn next_window(&self) -> Option<i64> {
        self.panes.first_end()
    }

    fn other_bytes(&self) -> usize {
        let join = self.firing.as_ref().and_then(|firing| firing.join.as_ref());
        join.map_or(0, HashJoin::size)
    }

    fn evict(&mut self, ends: &[i64]) -> Result<(), Error> {
        ends.iter().try_for_each(|end| self.evict_window(*end))
    }

    fn begin(&mut self, end: i64) -> Result<Firing, Error> {
        let mut firing = Firing {
            end,
            join: None,
            stored: None,
            read: BufferedRows::default(),
        };
        let pane = self.panes.get(end).expect("windows fire while they are open");
        let right_rows: usize = pane.state.sides[1].iter().map(RecordBatch::num_rows).sum();
        let is_stored = pane.is_stored;
        let index_bytes = right_rows * INDEX_BYTES;
        let bytes = self.panes.size() + index_bytes;
        let spill = &mut self.panes.spill;
        let fits_memory = index_bytes < spill.evict_bytes_min() || spill.reservation.try_resize(bytes);
        if is_stored || !fits_memory {
            self.evict_window(end)?;
            firing.stored = Some(self.panes.read_stored(&[end]));
        } else {
            let mut pane = self.panes.get_mut(end).expect("windows fire while they are open");
            let rows = std::mem::take(&mut pane.state);
            drop(pane);
            firing.join = Some(self.join(rows)?);
        }
        Ok(firing)
    }

    fn step(
        &mut self,
        mut firing: Firing,
        budget: &mut FireBudget,
        out: &mut dyn Collector,
    ) -> Result<Option<Firing>, Error> {
        budget.spend_step();
        let has_ended = match &mut firing.join {
            Some(join) => {
                if let Some(rows) = join.step(&self.spec, budget.rows())? {
                    budget.spend_rows(rows.num_rows());
                    out.emit(Port::Main, conform(&self.output, rows.columns().to_vec())?);
                }
                let is_done = join.is_done();
                if is_done {
                    firing.join = None;
                }
                is_done && firing.stored.is_none()
            }
            None => self.read(&mut firing)?,
        };
        if has_ended {
            self.panes.remove(firing.end);
            self.panes.set_fired(firing.end);
            return Ok(None);
        }
        Ok(Some(firing))
    }
}

impl Operator for WindowJoin {
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let side = &self.sides[input];
        let time = RowTime::SliceEnd(side.window.end);
        let fired = self.panes.fired();
        let assignment = SliceAssignment::new(&Slices::Attached, time, &batch, fired, fired)?;
        emit_late(input, &batch, assignment.late, out)?;
        for (end, rows) in assignment.slices {
            let columns = rows.take_all(&batch.columns()[..side.schema.fields().len()])?;
            let rows = RecordBatch::try_new(Arc::clone(&side.schema), columns)?;
            let mut pane = self.panes.get_or_insert_with(end, || Ok(BufferedRows::default()))?;
            pane.state.push(input, side, rows)?;
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
        let ends: Vec<i64> = self.panes.ends().collect();
        for end in ends {
            self.write(end)?;
        }
        self.panes.snapshot(checkpoint, self.next_number, INLINE_VERSION)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.panes.set_complete(WATERMARK_MAX);
        self.fire(out)
    }
}

#[cfg(test)]
pub(super) mod tests;
