//! The first rows of each window and partition, by an order.
//!
//! Per open window and partition the best rows so far are kept ([`best`]). When the watermark passes a window's end,
//! its rows leave, partition by partition, best first. When memory is short the largest windows leave it: their best
//! rows are written, and rows that come later are ranked among themselves, in a fresh set of a later *epoch*. A window
//! with rows in the store is fired from there, key group by key group: the rows of all epochs, in the order in which
//! they came, are ranked together. So a restore reads nothing back either.
//!
//! State: namespace = window end; key = the partition columns in the store's key encoding, then epoch and rank from 0
//! (u32 BE each); value = the row in the store's row encoding. A partition that changed is written again whole, under
//! its epoch: ranks only ever come to be. Inline state: version byte 2, then bincode of [`Inline`].

mod best;
mod stored;

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_row::{RowConverter, SortField};
use millstream_graph::{self as graph, Port};

use self::best::{Best, Cursor, Ranking};
use self::stored::FrozenBest;
use super::spill::{MemoryGrant, Spill};
use super::stored_rows::{KeyGroupSet, RowFlush, RowFormat};
use super::window_aggregate::{Assignment, RowTime, Slices, conform, emit_late};
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{
    Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN,
};

const INLINE_VERSION: u8 = 2;
/// Steps of one call that emit nothing.
const STEPS_MAX: usize = 16;

#[derive(serde::Serialize, serde::Deserialize)]
struct Inline {
    fired: i64,
    epoch: u32,
}

/// One window.
struct Pane {
    best: Best,
    /// What `best` is written under; the store's other rows of the window have earlier ones.
    epoch: u32,
    /// Whether the store has rows that are not in `best`.
    stored: bool,
    /// Key groups that have rows of this window in the store.
    written: KeyGroupSet,
}

/// The window being emitted.
struct Firing {
    end: i64,
    best: Best,
    /// What of `best` has been emitted; `None` while it is still read.
    emitted: Option<Cursor>,
    /// For stored windows: key groups still to be read, the next one last, and the last key that was.
    key_groups: Vec<u16>,
    after: Option<Vec<u8>>,
}

/// The operator.
pub struct WindowTopN {
    node: graph::WindowTopN,
    ranking: Ranking,
    output: SchemaRef,
    panes: BTreeMap<i64, Pane>,
    fired: i64,
    complete: i64,
    firing: Option<Firing>,
    spill: Spill,
    format: Arc<RowFormat>,
    /// The epoch of windows that are opened from now on.
    epoch: u32,
    groups: Vec<u32>,
}

impl WindowTopN {
    pub fn new(
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
        let keep = usize::try_from(node.to).map_err(|_| Error::Operator {
            operator: name.to_owned(),
            message: format!("cannot keep {} rows per partition", node.to),
        })?;
        let mut fired: Option<i64> = None;
        let mut epoch = 0;
        for bytes in context.restored_inline.iter().filter(|bytes| !bytes.is_empty()) {
            let state: Inline = inline::decode(bytes, INLINE_VERSION)?;
            fired = Some(fired.map_or(state.fired, |fired| fired.min(state.fired)));
            epoch = epoch.max(state.epoch + 1);
        }
        let format = RowFormat::new(
            &partition_fields,
            partition_fields.len(),
            input.fields(),
            context.max_parallelism,
        )?;
        let mut operator = Self {
            node: node.clone(),
            ranking: Ranking {
                input: Arc::clone(input),
                partition: node.partition.clone(),
                partition_fields,
                order: node.order.clone(),
                converter: (!order.is_empty()).then(|| RowConverter::new(order)).transpose()?,
                keep,
            },
            output: Arc::clone(output),
            panes: BTreeMap::new(),
            fired: fired.unwrap_or(WATERMARK_MIN),
            complete: fired.unwrap_or(WATERMARK_MIN),
            firing: None,
            spill: Spill::new(context.store, context.memory, context.waker),
            format: Arc::new(format),
            epoch,
            groups: Vec::new(),
        };
        if fired.is_some() {
            for slot in operator.spill.store.namespaces()? {
                let pane = operator.pane(slot.namespace)?;
                pane.stored = true;
                pane.written.insert(slot.group.0);
            }
        }
        Ok(operator)
    }

    fn pane(&mut self, end: i64) -> Result<&mut Pane, Error> {
        Ok(match self.panes.entry(end) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Pane {
                best: Best::new(&self.ranking)?,
                epoch: self.epoch,
                stored: false,
                written: KeyGroupSet::default(),
            }),
        })
    }

    fn insert(&mut self, end: i64, rows: RecordBatch) -> Result<(), Error> {
        self.pane(end)?;
        let pane = self.panes.get_mut(&end).expect("opened above");
        pane.best.insert(&self.ranking, rows, &mut self.groups)
    }

    fn hot_bytes(&self) -> usize {
        let firing = self.firing.as_ref().map_or(0, |firing| firing.best.size());
        self.panes.values().map(|pane| pane.best.size()).sum::<usize>() + firing
    }

    fn relieve_memory(&mut self) -> Result<Progress, Error> {
        let size = self.hot_bytes();
        match self.spill.request_memory(size, 0)? {
            MemoryGrant::Granted => return Ok(Progress::Done),
            MemoryGrant::Wait => return Ok(Progress::Pending),
            MemoryGrant::Evict => {}
        }
        let held = self.panes.iter().filter(|(_, pane)| !pane.best.is_empty());
        for end in Spill::windows_to_evict(held.map(|(end, pane)| (pane.best.size(), *end)), size) {
            self.evict(end)?;
        }
        self.spill.shrink_to(self.hot_bytes());
        Ok(Progress::Done)
    }

    /// Leaves a window's rows to the store.
    fn evict(&mut self, end: i64) -> Result<(), Error> {
        let pane = self.panes.get_mut(&end).expect("evicted windows are open");
        if pane.best.is_empty() {
            return Ok(());
        }
        let best = std::mem::replace(&mut pane.best, Best::new(&self.ranking)?);
        let frozen = FrozenBest::new(end, best, pane.epoch, &self.format, &self.spill.memory);
        frozen.note_written(&mut pane.written)?;
        pane.stored = true;
        self.epoch += 1;
        pane.epoch = self.epoch;
        self.spill.store.write(Box::new(frozen), None)?;
        metrics::counter!("millstream_state_evictions_total").increment(1);
        Ok(())
    }

    fn fire(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut allowance = EMIT_ROWS_MAX;
        let mut steps = STEPS_MAX;
        loop {
            if !self.spill.is_ready()? {
                return Ok(Progress::Pending);
            }
            let Some(mut firing) = self.firing.take() else {
                let next = self.panes.keys().next().copied();
                let Some(end) = next.filter(|end| *end <= self.complete) else {
                    self.fired = self.complete;
                    self.spill.shrink_to(self.hot_bytes());
                    return Ok(Progress::Done);
                };
                self.firing = Some(self.begin(end)?);
                continue;
            };
            match &mut firing.emitted {
                None => self.read(&mut firing)?,
                Some(cursor) => {
                    let rows = emit(&self.node, &self.output, &firing.best, cursor, allowance, out)?;
                    allowance -= rows;
                    if rows == 0 {
                        if firing.key_groups.is_empty() {
                            self.end(firing.end)?;
                            steps -= 1;
                            if steps == 0 {
                                return Ok(Progress::More);
                            }
                            continue;
                        }
                        firing.best = Best::new(&self.ranking)?;
                        firing.emitted = None;
                    }
                }
            }
            self.firing = Some(firing);
            steps -= 1;
            if allowance == 0 || steps == 0 {
                return Ok(Progress::More);
            }
        }
    }

    fn begin(&mut self, end: i64) -> Result<Firing, Error> {
        let is_stored = self.panes[&end].stored;
        if is_stored {
            self.evict(end)?;
            self.spill.wait_for_store();
        }
        let fresh = Best::new(&self.ranking)?;
        let pane = self.panes.get_mut(&end).expect("windows fire while they are open");
        Ok(Firing {
            end,
            best: std::mem::replace(&mut pane.best, fresh),
            emitted: (!is_stored).then(Cursor::default),
            key_groups: match is_stored {
                true => pane.written.iter().rev().collect(),
                false => Vec::new(),
            },
            after: None,
        })
    }

    /// A window has been emitted.
    fn end(&mut self, end: i64) -> Result<(), Error> {
        if let Some(pane) = self.panes.remove(&end) {
            self.spill.mark_expired(end, &pane.written);
        }
        self.fired = end;
        Ok(())
    }
}

/// Emits some more of the best rows; answers how many.
fn emit(
    node: &graph::WindowTopN,
    output: &SchemaRef,
    best: &Best,
    cursor: &mut Cursor,
    rows_max: usize,
    out: &mut dyn Collector,
) -> Result<usize, Error> {
    let from = (node.from.max(1) - 1) as usize;
    let places = best.next_places(cursor, from, rows_max, false);
    if places.len() == 0 {
        return Ok(0);
    }
    let mut columns = best.gather(&places)?;
    if node.emit_rank {
        let ranks: ArrayRef = Arc::new(Int64Array::from_iter_values(
            places.ranks.iter().map(|rank| i64::from(*rank) + 1),
        ));
        columns.push(ranks);
    }
    out.emit(Port::Main, conform(output, columns)?);
    Ok(places.len())
}

impl Operator for WindowTopN {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let time = RowTime::SliceEnd(self.node.window.end);
        let assignment = Assignment::new(&Slices::Attached, time, &batch, self.fired, self.fired)?;
        emit_late(0, &batch, assignment.late, out)?;
        for (end, rows) in assignment.slices {
            let columns = rows.take_all(batch.columns())?;
            self.insert(end, RecordBatch::try_new(Arc::clone(&self.ranking.input), columns)?)?;
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
        let mut parts = Vec::new();
        let mut room = self.spill.memory.reservation();
        let ends: Vec<i64> = self.panes.keys().copied().collect();
        for end in ends {
            let pane = self.panes.get_mut(&end).expect("windows stay at a barrier");
            // No copy is made beyond the budget.
            if !room.try_resize(room.bytes() + pane.best.dirty_bytes()) {
                self.evict(end)?;
                continue;
            }
            if let Some(rows) = stored::dirty_rows(end, &pane.best, pane.epoch, &self.format)? {
                rows.key_groups.iter().for_each(|group| pane.written.insert(*group));
                parts.push(rows);
            }
            pane.best.set_clean();
        }
        drop(room);
        if !parts.is_empty() {
            let frozen = RowFlush::new(parts, &self.format, &self.spill.memory);
            self.spill.store.write(Box::new(frozen), None)?;
        }
        self.spill.shrink_to(self.hot_bytes());
        let state = Inline {
            fired: self.fired,
            epoch: self.epoch,
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
