//! Joins the rows of equal windows.
//!
//! Rows of both sides gather per window end, as the batches they came in. When the watermark passes the end, the two
//! sets are joined ([`matching`]), in bounded steps, and leave in bounded pieces. Windows with the same end that start
//! at different times are kept apart by their start, as a further key.
//!
//! State: namespace = window end; key = a number never used twice (u64 BE), its top bit telling the side; value = a
//! block of rows ([`stored_batches`](super::stored_batches)). Rows are written once, at a barrier or when memory is
//! short; a window with rows in the store is joined from there, key group by key group. Inline state: version byte 2,
//! then bincode of [`Inline`].

mod matching;
mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use datafusion::logical_expr::JoinType;
use millstream_graph::{self as graph, Port, WindowColumns};
use millstream_state::BlockCodec;
use millstream_state::key_group::KeyGroup;
use millstream_state::store::KeyPrefix;

use self::matching::{JoinSpec, Matching};
use self::rows::Rows;
use super::spill::{MemoryGrant, Spill};
use super::stored_batches::{BatchFlush, GroupedBatch};
use super::stored_rows::{KeyGroupSet, RowFormat, SCAN_BLOCKS, StoredRows};
use super::window_aggregate::{Assignment, RowTime, Slices, conform, emit_late, micros};
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{
    Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN,
};

/// 1 had single rows for values.
const INLINE_VERSION: u8 = 2;
/// What indexing a row of the right side takes, about.
const INDEX_BYTES: usize = 48;
/// Steps of one call that emit nothing.
const STEPS_MAX: usize = 16;
/// The top bit of a row's number: set for rows of the right side.
const RIGHT: u64 = 1 << 63;

#[derive(serde::Serialize, serde::Deserialize)]
struct Inline {
    fired: i64,
    next_number: u64,
}

/// One input.
struct Side {
    /// Of the columns that are joined.
    schema: SchemaRef,
    window: WindowColumns,
    /// Tells key groups.
    format: RowFormat,
    blocks: Arc<BlockCodec>,
    key: Vec<usize>,
}

/// Rows of both sides of one window.
#[derive(Default)]
struct Gathered {
    rows: [Vec<RecordBatch>; 2],
    /// When their windows start, if all do at the same time.
    start: Option<i64>,
    /// Whether they do not.
    starts_differ: bool,
}

impl Gathered {
    fn push(&mut self, at: usize, side: &Side, rows: RecordBatch) -> Result<(), Error> {
        let (starts, _) = micros(rows.column(side.window.start))?;
        let first = *self.start.get_or_insert(starts.first().copied().unwrap_or_default());
        self.starts_differ |= starts.iter().any(|start| *start != first);
        self.rows[at].push(rows);
        Ok(())
    }
}

/// One window.
#[derive(Default)]
struct Pane {
    gathered: Gathered,
    /// How many of each side's batches are in the store.
    written: [usize; 2],
    bytes: usize,
    /// Whether the store has rows that are not in `rows`.
    stored: bool,
    groups: KeyGroupSet,
}

/// The window being joined.
struct Firing {
    end: i64,
    matching: Option<Matching>,
    /// For stored windows: key groups still to be joined, the next one last, and what has been read of it.
    key_groups: Vec<u16>,
    read: Gathered,
    after: Option<Vec<u8>>,
}

/// The operator.
pub struct WindowJoin {
    spec: JoinSpec,
    sides: [Side; 2],
    output: SchemaRef,
    panes: BTreeMap<i64, Pane>,
    fired: i64,
    complete: i64,
    firing: Option<Firing>,
    spill: Spill,
    next_number: u64,
}

impl WindowJoin {
    pub fn new(
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
        let mut restored: Option<Inline> = None;
        for bytes in context.restored_inline.iter().filter(|bytes| !bytes.is_empty()) {
            let state: Inline = inline::decode(bytes, INLINE_VERSION)?;
            restored = Some(match restored {
                None => state,
                Some(found) => Inline {
                    fired: found.fired.min(state.fired),
                    next_number: found.next_number.max(state.next_number),
                },
            });
        }
        let mut panes: BTreeMap<i64, Pane> = BTreeMap::new();
        if restored.is_some() {
            for slot in context.store.namespaces()? {
                let pane = panes.entry(slot.namespace).or_default();
                pane.stored = true;
                pane.groups.insert(slot.group.0);
            }
        }
        let fired = restored.as_ref().map_or(WATERMARK_MIN, |restored| restored.fired);
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
            fired,
            complete: fired,
            firing: None,
            spill: Spill::new(context.store, context.memory, context.waker),
            next_number: restored.map_or(0, |restored| restored.next_number),
        })
    }

    /// Queues the rows of a window that are not in the store yet.
    fn write(&mut self, end: i64) -> Result<(), Error> {
        let Some(pane) = self.panes.get_mut(&end) else {
            return Ok(());
        };
        for (at, side) in self.sides.iter().enumerate() {
            let mut batches = Vec::new();
            let mut row_count = 0;
            for batch in &pane.gathered.rows[at][pane.written[at]..] {
                let key: Vec<ArrayRef> = side
                    .key
                    .iter()
                    .map(|column| Arc::clone(batch.column(*column)))
                    .collect();
                let key_groups = side.format.key_groups(&key, batch.num_rows())?;
                for group in &key_groups {
                    pane.groups.insert(*group);
                }
                row_count += batch.num_rows() as u64;
                batches.push(GroupedBatch {
                    rows: batch.clone(),
                    key_groups,
                });
            }
            pane.written[at] = pane.gathered.rows[at].len();
            if row_count > 0 {
                let number = self.next_number | if at == 0 { 0 } else { RIGHT };
                self.next_number += row_count;
                let frozen = BatchFlush::new(end, batches, number, &side.blocks, &self.spill.memory);
                self.spill.store.write(Box::new(frozen), None)?;
            }
        }
        Ok(())
    }

    /// Leaves a window's rows to the store.
    fn evict(&mut self, end: i64) -> Result<(), Error> {
        self.write(end)?;
        if let Some(pane) = self.panes.get_mut(&end) {
            pane.gathered = Gathered::default();
            pane.written = [0, 0];
            pane.bytes = 0;
            pane.stored = true;
        }
        Ok(())
    }

    fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let size = self.hot_bytes();
        match self.spill.request_memory(size, 0)? {
            MemoryGrant::Granted => return Ok(Progress::Done),
            MemoryGrant::Wait => return Ok(Progress::Pending),
            MemoryGrant::Evict => {}
        }
        let held = self.panes.iter().filter(|(_, pane)| pane.bytes > 0);
        for end in Spill::windows_to_evict(held.map(|(end, pane)| (pane.bytes, *end)), size) {
            self.evict(end)?;
        }
        self.spill.shrink_to(self.hot_bytes());
        Ok(Progress::Done)
    }

    fn hot_bytes(&self) -> usize {
        let matching = self.firing.as_ref().and_then(|firing| firing.matching.as_ref());
        self.panes.values().map(|pane| pane.bytes).sum::<usize>() + matching.map_or(0, Matching::size)
    }

    fn fire(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if !self.spill.is_ready()? {
            return Ok(Progress::Pending);
        }
        let mut allowance = EMIT_ROWS_MAX;
        let mut steps = STEPS_MAX;
        loop {
            let Some(mut firing) = self.firing.take() else {
                let next = self.panes.keys().next().copied();
                let Some(end) = next.filter(|end| *end <= self.complete) else {
                    self.fired = self.complete;
                    self.spill.shrink_to(self.hot_bytes());
                    return Ok(Progress::Done);
                };
                self.firing = Some(self.begin(end)?);
                if !self.spill.is_ready()? {
                    return Ok(Progress::Pending);
                }
                continue;
            };
            let over = match &mut firing.matching {
                Some(matching) => {
                    if let Some(rows) = matching.step(&self.spec, allowance)? {
                        allowance -= rows.num_rows();
                        out.emit(Port::Main, conform(&self.output, rows.columns().to_vec())?);
                    }
                    if matching.is_done() {
                        firing.matching = None;
                        firing.key_groups.is_empty()
                    } else {
                        false
                    }
                }
                None if firing.key_groups.is_empty() => true,
                None => {
                    self.read(&mut firing)?;
                    false
                }
            };
            if over {
                if let Some(pane) = self.panes.remove(&firing.end) {
                    self.spill.mark_expired(firing.end, &pane.groups);
                }
                self.fired = firing.end;
            } else {
                self.firing = Some(firing);
            }
            steps -= 1;
            if allowance == 0 || steps == 0 {
                return Ok(Progress::More);
            }
        }
    }

    fn begin(&mut self, end: i64) -> Result<Firing, Error> {
        let mut firing = Firing {
            end,
            matching: None,
            key_groups: Vec::new(),
            read: Gathered::default(),
            after: None,
        };
        let pane = &self.panes[&end];
        let right_rows: usize = pane.gathered.rows[1].iter().map(RecordBatch::num_rows).sum();
        let index_bytes = right_rows * INDEX_BYTES;
        let has_room = index_bytes < self.spill.evict_bytes_min() || {
            let bytes = self.hot_bytes() + index_bytes;
            self.spill.reservation.try_resize(bytes)
        };
        if pane.stored || !has_room {
            self.evict(end)?;
            self.spill.wait_for_store();
            firing.key_groups = self.panes[&end].groups.iter().rev().collect();
            return Ok(firing);
        }
        let pane = self.panes.get_mut(&end).expect("windows fire while they are open");
        let gathered = std::mem::take(&mut pane.gathered);
        pane.bytes = 0;
        firing.matching = Some(self.matching(gathered)?);
        Ok(firing)
    }

    fn matching(&self, gathered: Gathered) -> Result<Matching, Error> {
        let mut on = self.spec.on.clone();
        if gathered.starts_differ {
            on.push((self.sides[0].window.start, self.sides[1].window.start));
        }
        let [left, right] = gathered.rows;
        Matching::new(
            on,
            Rows::new(&self.sides[0].schema, left),
            Rows::new(&self.sides[1].schema, right),
        )
    }

    /// Reads some more of a stored window's key group; once it is whole, its rows are joined.
    fn read(&mut self, firing: &mut Firing) -> Result<(), Error> {
        let Some(group) = firing.key_groups.last().copied() else {
            return Ok(());
        };
        let slot = KeyPrefix {
            group: KeyGroup(group),
            namespace: firing.end,
        };
        let mut last = Vec::new();
        let mut read: [StoredRows; 2] = Default::default();
        let more = self
            .spill
            .store
            .scan(slot, firing.after.as_deref(), SCAN_BLOCKS, &mut |key, value| {
                let is_right = key.first().is_some_and(|byte| byte & 0x80 != 0);
                read[usize::from(is_right)].push(value);
                last.clear();
                last.extend_from_slice(key);
            })?;
        for (at, (side, rows)) in self.sides.iter().zip(&read).enumerate() {
            for block in rows.iter() {
                let (columns, _) = side.blocks.decode(block)?;
                let rows = RecordBatch::try_new(Arc::clone(&side.schema), columns)?;
                firing.read.push(at, side, rows)?;
            }
        }
        if more && !last.is_empty() {
            firing.after = Some(last);
            return Ok(());
        }
        firing.matching = Some(self.matching(std::mem::take(&mut firing.read))?);
        firing.after = None;
        firing.key_groups.pop();
        Ok(())
    }
}

impl Operator for WindowJoin {
    fn process(&mut self, input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let side = &self.sides[input];
        let time = RowTime::SliceEnd(side.window.end);
        let assignment = Assignment::new(&Slices::Attached, time, &batch, self.fired, self.fired)?;
        emit_late(input, &batch, assignment.late, out)?;
        for (end, rows) in assignment.slices {
            let columns = rows.take_all(&batch.columns()[..side.schema.fields().len()])?;
            let pane = self.panes.entry(end).or_default();
            let rows = RecordBatch::try_new(Arc::clone(&side.schema), columns)?;
            pane.bytes += rows.get_array_memory_size();
            pane.gathered.push(input, side, rows)?;
        }
        self.relieve_memory()
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.complete = self.complete.max(watermark.saturating_add(1));
        self.fire(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.spill.is_waiting_for_memory() {
            return self.relieve_memory();
        }
        self.fire(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        let ends: Vec<i64> = self.panes.keys().copied().collect();
        for end in ends {
            self.write(end)?;
        }
        let state = Inline {
            fired: self.fired,
            next_number: self.next_number,
        };
        self.spill.snapshot(checkpoint, &state, INLINE_VERSION)
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.complete = WATERMARK_MAX;
        self.fire(out)
    }
}

#[cfg(test)]
mod tests;
