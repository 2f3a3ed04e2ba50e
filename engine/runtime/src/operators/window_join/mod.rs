//! Joins the rows of equal windows.
//!
//! Rows of both sides gather per window end, as the batches they came in. When the watermark passes the end, the two
//! sets are joined ([`matching`]) and leave in bounded pieces. Windows with the same end that start at different times
//! are kept apart by their start, as a further key.
//!
//! State: namespace = window end; key = a number never used twice (u64 BE), its top bit telling the side; value = the
//! row in the store's row encoding. Rows are written once, at a barrier or when memory is short; a window with rows in
//! the store is joined from there, key group by key group. Inline state: version byte 1, then bincode of [`Inline`].

mod matching;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;

use arrow::array::{ArrayRef, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use arrow_select::take::take_record_batch;
use datafusion::logical_expr::JoinType;
use millstream_planner::graph::{self, Port, WindowColumns};
use millstream_state::key_group::KeyGroup;
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::{Slot, Store};

use self::matching::{JoinSpec, Matching};
use super::stored_rows::{Frozen, FrozenRows, RowFormat, StoredRows, Suffix, WrittenGroups};
use super::window_aggregate::{Assignment, RowTime, Slices, conform, micros};
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{
    Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN,
};

const INLINE_VERSION: u8 = 1;
/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;
/// Steps of one call that emit nothing.
const STEPS_MAX: usize = 16;
/// The top bit of a row's number: set for rows of the right side.
const RIGHT: u64 = 1 << 63;
/// A window smaller than this is not worth evicting while others hold the memory, as a share of the budget.
const EVICT_SHARE_MIN: usize = 256;

#[derive(serde::Serialize, serde::Deserialize)]
struct Inline {
    fired: i64,
    next_number: u64,
}

/// One input.
struct Side {
    schema: SchemaRef,
    window: WindowColumns,
    format: Arc<RowFormat>,
    key: Vec<usize>,
}

/// Rows of one window.
#[derive(Default)]
struct Pane {
    rows: [Vec<RecordBatch>; 2],
    /// How many of each side's batches are in the store.
    written: [usize; 2],
    bytes: usize,
    /// Whether the store has rows that are not in `rows`.
    stored: bool,
    groups: WrittenGroups,
}

/// The window being joined.
struct Firing {
    end: i64,
    matching: Option<Matching>,
    /// For stored windows: key groups still to be joined, the next one last, and what has been read of it.
    key_groups: Vec<u16>,
    read: [StoredRows; 2],
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
    store: Store,
    waker: Waker,
    /// Whether nothing may go on before the store has carried out what was queued.
    waiting: bool,
    /// Whether the memory of rows that were taken is not granted yet.
    pressed: bool,
    next_number: u64,
    memory: MemoryBudget,
    reservation: Reservation,
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
        let side = |schema: &SchemaRef, window: WindowColumns, key: Vec<usize>| -> Result<Side, Error> {
            let key_fields: Vec<_> = key.iter().map(|column| Arc::clone(&schema.fields()[*column])).collect();
            Ok(Side {
                schema: Arc::clone(schema),
                window,
                format: Arc::new(RowFormat::new(
                    &key_fields,
                    key.len(),
                    schema.fields(),
                    context.max_parallelism,
                )?),
                key,
            })
        };
        let sides = [
            side(inputs[0], node.left, node.on.iter().map(|pair| pair.0).collect())?,
            side(inputs[1], node.right, node.on.iter().map(|pair| pair.1).collect())?,
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
                inputs[0],
                inputs[1],
            ),
            sides,
            output: Arc::clone(output),
            panes,
            fired,
            complete: fired,
            firing: None,
            store: context.store,
            waker: context.waker,
            waiting: false,
            pressed: false,
            next_number: restored.map_or(0, |restored| restored.next_number),
            reservation: context.memory.reservation(),
            memory: context.memory,
        })
    }

    fn is_ready(&mut self) -> Result<bool, Error> {
        if self.waiting {
            self.waiting = !self.store.is_settled(&self.waker)?;
        }
        Ok(!self.waiting)
    }

    /// Queues the rows of a window that are not in the store yet.
    fn write(&mut self, end: i64) -> Result<(), Error> {
        let Some(pane) = self.panes.get_mut(&end) else {
            return Ok(());
        };
        for (at, side) in self.sides.iter().enumerate() {
            let mut parts = Vec::new();
            for batch in &pane.rows[at][pane.written[at]..] {
                let rows = batch.num_rows();
                let key: Vec<ArrayRef> = side
                    .key
                    .iter()
                    .map(|column| Arc::clone(batch.column(*column)))
                    .collect();
                let key_groups = side.format.key_groups(&key, rows)?;
                for group in &key_groups {
                    pane.groups.insert(*group);
                }
                let first = self.next_number;
                self.next_number += rows as u64;
                let bit = if at == 0 { 0 } else { RIGHT };
                parts.push(FrozenRows {
                    namespace: end,
                    keys: Vec::new(),
                    key_groups,
                    suffix: Suffix::Long((first..self.next_number).map(|number| number | bit).collect()),
                    values: Some(batch.columns().to_vec()),
                });
            }
            pane.written[at] = pane.rows[at].len();
            if !parts.is_empty() {
                let frozen = Frozen::new(parts, &side.format, &self.memory);
                self.store.write(Box::new(frozen), None)?;
            }
        }
        Ok(())
    }

    /// Leaves a window's rows to the store.
    fn evict(&mut self, end: i64) -> Result<(), Error> {
        self.write(end)?;
        if let Some(pane) = self.panes.get_mut(&end) {
            pane.rows = Default::default();
            pane.written = [0, 0];
            pane.bytes = 0;
            pane.stored = true;
        }
        Ok(())
    }

    fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let size: usize = self.panes.values().map(|pane| pane.bytes).sum();
        self.pressed = false;
        if self.reservation.try_resize(size) {
            return Ok(Progress::Done);
        }
        // What was evicted holds memory until it is written: wait for that before more is evicted.
        self.waiting = true;
        if !self.is_ready()? {
            self.pressed = true;
            return Ok(Progress::Pending);
        }
        if self.reservation.try_resize(size) {
            return Ok(Progress::Done);
        }
        let largest = self.panes.iter().max_by_key(|(_, pane)| pane.bytes);
        let largest = largest.map(|(end, pane)| (*end, pane.bytes));
        let worth = (self.memory.limit_bytes() / EVICT_SHARE_MIN).max(1);
        let Some((end, bytes)) = largest.filter(|(_, bytes)| *bytes >= worth) else {
            self.reservation.force_resize(size);
            return Ok(Progress::Done);
        };
        self.evict(end)?;
        self.reservation.force_resize(size - bytes);
        Ok(Progress::Done)
    }

    fn fire(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if !self.is_ready()? {
            return Ok(Progress::Pending);
        }
        let mut allowance = EMIT_ROWS_MAX;
        let mut steps = STEPS_MAX;
        loop {
            let Some(mut firing) = self.firing.take() else {
                let next = self.panes.keys().next().copied();
                let Some(end) = next.filter(|end| *end <= self.complete) else {
                    self.fired = self.complete;
                    return Ok(Progress::Done);
                };
                self.firing = Some(self.begin(end)?);
                if !self.is_ready()? {
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
                    let groups = pane.groups.to_vec();
                    if !groups.is_empty() {
                        self.store.delete_namespace(firing.end, &groups)?;
                    }
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
            read: Default::default(),
            after: None,
        };
        if self.panes[&end].stored {
            self.evict(end)?;
            self.waiting = true;
            firing.key_groups = self.panes[&end].groups.iter().rev().collect();
            return Ok(firing);
        }
        let pane = self.panes.get_mut(&end).expect("windows fire while they are open");
        let rows = std::mem::take(&mut pane.rows);
        pane.bytes = 0;
        let left = concat_batches(&self.sides[0].schema, &rows[0])?;
        let right = concat_batches(&self.sides[1].schema, &rows[1])?;
        firing.matching = Some(self.matching(left, right)?);
        Ok(firing)
    }

    fn matching(&self, left: RecordBatch, right: RecordBatch) -> Result<Matching, Error> {
        let starts = [
            micros(left.column(self.sides[0].window.start))?.0,
            micros(right.column(self.sides[1].window.start))?.0,
        ];
        let first = starts.iter().find_map(|starts| starts.first().copied());
        let alike = starts
            .iter()
            .all(|starts| starts.iter().all(|start| Some(*start) == first));
        let mut on = self.spec.on.clone();
        if !alike {
            on.push((self.sides[0].window.start, self.sides[1].window.start));
        }
        Matching::new(&on, left, right)
    }

    /// Reads some more of a stored window's key group; once it is whole, its rows are joined.
    fn read(&mut self, firing: &mut Firing) -> Result<(), Error> {
        let Some(group) = firing.key_groups.last().copied() else {
            return Ok(());
        };
        let slot = Slot {
            group: KeyGroup(group),
            namespace: firing.end,
        };
        let mut last = Vec::new();
        let read = &mut firing.read;
        let more = self
            .store
            .scan(slot, firing.after.as_deref(), SCAN_ROWS, &mut |key, value| {
                let is_right = key.first().is_some_and(|byte| byte & 0x80 != 0);
                read[usize::from(is_right)].push(value);
                last.clear();
                last.extend_from_slice(key);
            })?;
        if more && !last.is_empty() {
            firing.after = Some(last);
            return Ok(());
        }
        let [left, right] = std::mem::take(&mut firing.read);
        let rows = |side: &Side, rows: &StoredRows| -> Result<RecordBatch, Error> {
            if rows.is_empty() {
                return Ok(RecordBatch::new_empty(Arc::clone(&side.schema)));
            }
            Ok(RecordBatch::try_new(
                Arc::clone(&side.schema),
                side.format.decode_values(rows)?,
            )?)
        };
        let (left, right) = (rows(&self.sides[0], &left)?, rows(&self.sides[1], &right)?);
        firing.matching = Some(self.matching(left, right)?);
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
        if !assignment.late.is_empty() {
            out.emit(
                Port::Late,
                take_record_batch(&batch, &UInt32Array::from(assignment.late))?,
            );
        }
        for (end, rows) in assignment.slices {
            let columns = rows.take_all(batch.columns())?;
            let pane = self.panes.entry(end).or_default();
            let rows = RecordBatch::try_new(Arc::clone(&side.schema), columns)?;
            pane.bytes += rows.get_array_memory_size();
            pane.rows[input].push(rows);
        }
        self.relieve_memory()
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.complete = self.complete.max(watermark.saturating_add(1));
        self.fire(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        if self.pressed {
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
        Ok(Snapshot {
            inline: inline::encode(&state, INLINE_VERSION)?,
            keyed: Some(self.store.snapshot(checkpoint)?),
        })
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.complete = WATERMARK_MAX;
        self.fire(out)
    }
}

#[cfg(test)]
mod tests;
