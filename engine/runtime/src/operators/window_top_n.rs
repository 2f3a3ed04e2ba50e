//! The first rows of each window and partition, by an order.
//!
//! Per open window and partition the best rows so far are kept, as references into the batches they came in; a row that
//! is not among them is dismissed by one comparison of its encoded order key with the worst one kept. Batches are
//! rewritten when most of what they hold has been displaced. Rows of equal order keep the order they came in. When the
//! watermark passes a window's end, its rows leave, partition by partition, best first.
//!
//! State: namespace = window end; key = the partition columns in the store's key encoding, then the rank (u32 BE, from
//! 0); value = the row in the store's row encoding. A partition that changed is written again whole: ranks only ever
//! come to be. Inline state: version byte 1, then bincode of the watermark.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Int64Array, UInt32Array};
use arrow::datatypes::{FieldRef, SchemaRef};
use arrow_array::RecordBatch;
use arrow_row::{OwnedRow, RowConverter, SortField};
use arrow_select::interleave::interleave;
use arrow_select::take::take_record_batch;
use millstream_planner::graph::{self, Port};
use millstream_state::memory::{MemoryBudget, Reservation};
use millstream_state::store::Store;

use super::stored_rows::{Frozen, FrozenRows, RowFormat, StoredRows, Suffix, WrittenGroups};
use super::table::{GroupIndex, Select, new_group_index};
use super::window_aggregate::{Assignment, RowTime, Slices, conform};
use super::{OperatorContext, inline};
use crate::Error;
use crate::operator::{
    Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MAX, WATERMARK_MIN,
};

const INLINE_VERSION: u8 = 1;
/// Rows read from the store at once.
const SCAN_ROWS: usize = 8_192;
/// Rows held beyond those kept before batches are rewritten.
const SLACK_ROWS: usize = 65_536;

/// A row that is kept.
struct Kept {
    /// `None` where there is no order: first come, first kept.
    order: Option<OwnedRow>,
    batch: u32,
    row: u32,
}

/// One window.
struct Pane {
    partitions: Box<dyn GroupIndex>,
    /// Best rows of each partition, best first.
    best: Vec<Vec<Kept>>,
    dirty: Vec<bool>,
    batches: Vec<RecordBatch>,
    bytes: usize,
    rows_held: usize,
    rows_kept: usize,
    /// Key groups that have rows of this window in the store.
    written: WrittenGroups,
}

/// The window being emitted: its rows in order, and how many have been.
struct Firing {
    end: i64,
    rows: Vec<(usize, usize)>,
    ranks: Vec<i64>,
    next: usize,
}

/// The operator.
pub struct WindowTopN {
    node: graph::WindowTopN,
    /// Rows kept per partition.
    keep: usize,
    input: SchemaRef,
    output: SchemaRef,
    partition_fields: Vec<FieldRef>,
    order: Option<RowConverter>,
    panes: BTreeMap<i64, Pane>,
    fired: i64,
    complete: i64,
    firing: Option<Firing>,
    store: Store,
    format: Arc<RowFormat>,
    memory: MemoryBudget,
    reservation: Reservation,
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
        let partition_fields: Vec<FieldRef> = node
            .partition
            .iter()
            .map(|column| Arc::clone(&input.fields()[*column]))
            .collect();
        let keep = usize::try_from(node.to).map_err(|_| Error::Operator {
            operator: name.to_owned(),
            message: format!("cannot keep {} rows per partition", node.to),
        })?;
        let mut fired: Option<i64> = None;
        for bytes in context.restored_inline.iter().filter(|bytes| !bytes.is_empty()) {
            let state: i64 = inline::decode(bytes, INLINE_VERSION)?;
            fired = Some(fired.map_or(state, |fired| fired.min(state)));
        }
        let mut operator = Self {
            node: node.clone(),
            keep,
            input: Arc::clone(input),
            output: Arc::clone(output),
            order: (!order.is_empty()).then(|| RowConverter::new(order)).transpose()?,
            panes: BTreeMap::new(),
            fired: fired.unwrap_or(WATERMARK_MIN),
            complete: fired.unwrap_or(WATERMARK_MIN),
            firing: None,
            store: context.store,
            format: Arc::new(RowFormat::new(
                &partition_fields,
                partition_fields.len(),
                input.fields(),
                context.max_parallelism,
            )?),
            partition_fields,
            reservation: context.memory.reservation(),
            memory: context.memory,
            groups: Vec::new(),
        };
        if fired.is_some() {
            operator.load()?;
        }
        Ok(operator)
    }

    /// Reads all windows back. Rows come in the order of their ranks, so equal ones keep their order.
    fn load(&mut self) -> Result<(), Error> {
        for slot in self.store.namespaces()? {
            let mut after: Option<Vec<u8>> = None;
            loop {
                let mut values = StoredRows::default();
                let mut last = Vec::new();
                let more = self.store.scan(slot, after.as_deref(), SCAN_ROWS, &mut |key, value| {
                    values.push(value);
                    last.clear();
                    last.extend_from_slice(key);
                })?;
                if values.is_empty() {
                    break;
                }
                let rows = RecordBatch::try_new(Arc::clone(&self.input), self.format.decode_values(&values)?)?;
                self.insert(slot.namespace, rows)?;
                if !more {
                    break;
                }
                after = Some(last);
            }
            if let Some(pane) = self.panes.get_mut(&slot.namespace) {
                pane.written.insert(slot.group.0);
                pane.dirty.fill(false);
            }
        }
        Ok(())
    }

    fn insert(&mut self, end: i64, rows: RecordBatch) -> Result<(), Error> {
        let pane = match self.panes.entry(end) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => entry.insert(Pane {
                partitions: new_group_index(&self.partition_fields)?,
                best: Vec::new(),
                dirty: Vec::new(),
                batches: Vec::new(),
                bytes: 0,
                rows_held: 0,
                rows_kept: 0,
                written: WrittenGroups::default(),
            }),
        };
        let partition: Vec<ArrayRef> = self
            .node
            .partition
            .iter()
            .map(|column| Arc::clone(rows.column(*column)))
            .collect();
        pane.partitions.intern(&partition, rows.num_rows(), &mut self.groups)?;
        pane.best.resize_with(pane.partitions.len(), Vec::new);
        pane.dirty.resize(pane.partitions.len(), true);
        let order = self
            .node
            .order
            .iter()
            .map(|sort| Ok(sort.expr.evaluate(&rows)?.into_array(rows.num_rows())?))
            .collect::<Result<Vec<_>, Error>>()?;
        let order = match &self.order {
            None => None,
            Some(converter) => Some(converter.convert_columns(&order)?),
        };
        let batch = pane.batches.len() as u32;
        let mut took = false;
        for (row, group) in self.groups.iter().enumerate() {
            let best = &mut pane.best[*group as usize];
            let full = best.len() == self.keep;
            let key = order.as_ref().map(|order| order.row(row));
            let before = |kept: &Kept| kept.order.as_ref().map(OwnedRow::row) <= key;
            if self.keep == 0 || (full && best.last().is_some_and(before)) {
                continue;
            }
            let place = best.partition_point(before);
            if full {
                best.pop();
            } else {
                pane.rows_kept += 1;
            }
            best.insert(
                place,
                Kept {
                    order: key.map(|key| key.owned()),
                    batch,
                    row: row as u32,
                },
            );
            pane.dirty[*group as usize] = true;
            took = true;
        }
        if took {
            pane.rows_held += rows.num_rows();
            pane.bytes += rows.get_array_memory_size();
            pane.batches.push(rows);
            pane.compact(&self.input)?;
        }
        Ok(())
    }

    fn account(&mut self) {
        let size = self.panes.values().map(Pane::size).sum();
        // The best rows of a window are few: they stay, others evict.
        if !self.reservation.try_resize(size) {
            self.reservation.force_resize(size);
        }
    }

    fn fire(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut allowance = EMIT_ROWS_MAX;
        loop {
            let Some(mut firing) = self.firing.take() else {
                let next = self.panes.keys().next().copied();
                let Some(end) = next.filter(|end| *end <= self.complete) else {
                    self.fired = self.complete;
                    return Ok(Progress::Done);
                };
                self.firing = Some(self.begin(end));
                continue;
            };
            let to = firing.rows.len().min(firing.next + allowance);
            if to > firing.next {
                let pane = &self.panes[&firing.end];
                let mut columns = pane.gather(&self.input, &firing.rows[firing.next..to])?;
                if self.node.emit_rank {
                    columns.push(Arc::new(Int64Array::from(firing.ranks[firing.next..to].to_vec())));
                }
                out.emit(Port::Main, conform(&self.output, columns)?);
                allowance -= to - firing.next;
                firing.next = to;
            }
            if firing.next < firing.rows.len() {
                self.firing = Some(firing);
                return Ok(Progress::More);
            }
            if let Some(pane) = self.panes.remove(&firing.end) {
                let groups = pane.written.to_vec();
                if !groups.is_empty() {
                    self.store.delete_namespace(firing.end, &groups)?;
                }
            }
            self.fired = firing.end;
            if allowance == 0 {
                return Ok(Progress::More);
            }
        }
    }

    fn begin(&self, end: i64) -> Firing {
        let from = (self.node.from.max(1) - 1) as usize;
        let mut rows = Vec::new();
        let mut ranks = Vec::new();
        for best in &self.panes[&end].best {
            for (rank, kept) in best.iter().enumerate().skip(from) {
                rows.push((kept.batch as usize, kept.row as usize));
                ranks.push(rank as i64 + 1);
            }
        }
        Firing {
            end,
            rows,
            ranks,
            next: 0,
        }
    }
}

impl Pane {
    /// Columns of some rows.
    fn gather(&self, schema: &SchemaRef, rows: &[(usize, usize)]) -> Result<Vec<ArrayRef>, Error> {
        (0..schema.fields().len())
            .map(|column| {
                let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                Ok(interleave(&arrays, rows)?)
            })
            .collect()
    }

    /// Rewrites batches of which most rows have been displaced.
    fn compact(&mut self, schema: &SchemaRef) -> Result<(), Error> {
        if self.rows_held < self.rows_kept * 2 + SLACK_ROWS && self.batches.len() < 1_024 {
            return Ok(());
        }
        let places: Vec<(usize, usize)> = self
            .best
            .iter()
            .flatten()
            .map(|kept| (kept.batch as usize, kept.row as usize))
            .collect();
        let columns = self.gather(schema, &places)?;
        self.batches = vec![RecordBatch::try_new(Arc::clone(schema), columns)?];
        self.bytes = self.batches[0].get_array_memory_size();
        self.rows_held = places.len();
        for (row, kept) in self.best.iter_mut().flatten().enumerate() {
            kept.batch = 0;
            kept.row = row as u32;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        // An order key of some tens of bytes each.
        self.bytes + self.partitions.size() + self.best.len() * size_of::<Vec<Kept>>() + self.rows_kept * 96
    }
}

impl Operator for WindowTopN {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let time = RowTime::SliceEnd(self.node.window.end);
        let assignment = Assignment::new(&Slices::Attached, time, &batch, self.fired, self.fired)?;
        if !assignment.late.is_empty() {
            out.emit(
                Port::Late,
                take_record_batch(&batch, &UInt32Array::from(assignment.late))?,
            );
        }
        for (end, rows) in assignment.slices {
            let columns = rows.take_all(batch.columns())?;
            self.insert(end, RecordBatch::try_new(Arc::clone(&self.input), columns)?)?;
        }
        self.account();
        Ok(Progress::Done)
    }

    fn on_watermark(&mut self, watermark: Timestamp, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.complete = self.complete.max(watermark.saturating_add(1));
        self.fire(out)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.fire(out)
    }

    fn snapshot(&mut self, checkpoint: u64) -> Result<Snapshot, Error> {
        let mut parts = Vec::new();
        for (end, pane) in &mut self.panes {
            let mut partitions = Vec::new();
            let mut ranks = Vec::new();
            let mut places = Vec::new();
            for (partition, best) in pane.best.iter().enumerate().filter(|(at, _)| pane.dirty[*at]) {
                for (rank, kept) in best.iter().enumerate() {
                    partitions.push(partition as u32);
                    ranks.push(rank as u32);
                    places.push((kept.batch as usize, kept.row as usize));
                }
            }
            if places.is_empty() {
                continue;
            }
            pane.dirty.fill(false);
            let keys = pane.partitions.keys(&Select::Indices(&partitions))?;
            let key_groups = self.format.key_groups(&keys, ranks.len())?;
            for group in &key_groups {
                pane.written.insert(*group);
            }
            parts.push(FrozenRows {
                namespace: *end,
                keys,
                key_groups,
                suffix: Suffix::Short(ranks),
                values: Some(pane.gather(&self.input, &places)?),
            });
        }
        if !parts.is_empty() {
            let frozen = Frozen::new(parts, &self.format, &self.memory);
            self.store.write(Box::new(frozen), None)?;
        }
        Ok(Snapshot {
            inline: inline::encode(&self.fired, INLINE_VERSION)?,
            keyed: Some(self.store.snapshot(checkpoint)?),
        })
    }

    fn finish(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        self.complete = WATERMARK_MAX;
        self.fire(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::testing::{Subtasks, integers, on_own_thread, rows_of, timestamps};
    use arrow::compute::SortOptions;
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion::physical_expr::PhysicalSortExpr;
    use datafusion::physical_expr::expressions::Column;
    use millstream_planner::graph::WindowColumns;

    fn schema(rank: bool) -> SchemaRef {
        let time = DataType::Timestamp(TimeUnit::Microsecond, None);
        let mut fields = vec![
            Field::new("window_start", time.clone(), true),
            Field::new("window_end", time, true),
            Field::new("k", DataType::Int64, true),
            Field::new("v", DataType::Int64, true),
        ];
        if rank {
            fields.push(Field::new("rn", DataType::Int64, true));
        }
        Arc::new(Schema::new(fields))
    }

    /// Rows: window end, key, value; by value descending, per key.
    #[track_caller]
    fn check(from: u64, to: u64, batches: &[&[(i64, i64, i64)]], expected: &[&str]) {
        let node = graph::WindowTopN {
            window: WindowColumns { start: 0, end: 1 },
            partition: vec![2],
            order: vec![PhysicalSortExpr::new(
                Arc::new(Column::new("v", 3)),
                SortOptions::new(true, false),
            )],
            from,
            to,
            emit_rank: true,
        };
        let make = |context: OperatorContext| -> Box<dyn Operator> {
            Box::new(WindowTopN::new("top-n", &node, &schema(false), &schema(true), context).unwrap())
        };
        let mut subtasks = Subtasks::new(&make, &[2], usize::MAX);
        for rows in batches {
            let column =
                |value: fn(&(i64, i64, i64)) -> i64| rows.iter().map(|row| Some(value(row))).collect::<Vec<_>>();
            let columns = vec![
                timestamps(&column(|row| row.0 - 10)),
                timestamps(&column(|row| row.0)),
                integers(&column(|row| row.1)),
                integers(&column(|row| row.2)),
            ];
            let rows = RecordBatch::try_new(schema(false), columns).unwrap();
            subtasks.process(0, &rows);
            subtasks.snapshot(Some(2));
        }
        subtasks.watermark(9);
        subtasks.watermark(WATERMARK_MAX);
        assert_eq!(rows_of(&subtasks.out.main), expected);
    }

    #[test]
    fn the_best_rows_of_each_partition_leave_in_order() {
        on_own_thread(|| {
            check(
                1,
                2,
                &[
                    &[(10, 1, 5), (10, 1, 7), (20, 1, 1)],
                    &[(10, 1, 6), (10, 2, 0), (20, 1, 0)],
                ],
                &["0,10,1,6,2", "0,10,1,7,1", "0,10,2,0,1", "10,20,1,0,2", "10,20,1,1,1"],
            );
            check(2, 2, &[&[(10, 1, 5), (10, 1, 7), (10, 1, 9)]], &["0,10,1,7,2"]);
        });
    }
}
