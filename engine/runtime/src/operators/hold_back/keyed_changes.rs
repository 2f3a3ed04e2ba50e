//! Held-back changes of rows with an upsert key: the row before the first change and the row after the last one, by
//! key.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int8Array, UInt32Array};
use arrow::datatypes::{DataType, Int8Type};
use arrow_array::RecordBatch;
use arrow_select::interleave::interleave;
use arrow_select::take::take;
use millstream_connectors::RowKind;
use millstream_graph::ChangelogMode;
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};

use super::{EMIT_KEYS_MAX, OutputForm};
use crate::Error;
use crate::operators::keyed::equal_rows;

/// Value column with the presence of the row before the first change.
const BEFORE: usize = 0;
/// Value column with the presence of the row after the last change.
const AFTER: usize = 1;
/// Number of value columns before those of the rows.
const FLAGS: usize = 2;

/// There is no row.
const ABSENT: i8 = 0;
/// There is a row.
const PRESENT: i8 = 1;
/// There is a row, whose values are unknown: changes in upsert mode do not contain them.
const UNKNOWN: i8 = 2;

/// The changes of keys.
pub(super) struct KeyedChanges {
    options: TableOptions,
    /// Columns of the upsert key.
    key: Vec<usize>,
    /// All other columns.
    others: Vec<usize>,
    /// By key: the presence of both rows, the other columns of the row before, and those of the row after.
    table: Table,
    resolved: Resolved,
    /// By slot: the last batch that has changed it.
    stamps: Vec<u32>,
    /// Number of batches so far.
    batches: u32,
    has_former: bool,
    cursor: Cursor,
}

/// The changes to emit next. Deletions leave before all other changes, as a key may take over what identified the row
/// of another one.
#[derive(Default)]
struct Cursor {
    are_deletions_done: bool,
    slot: u32,
}

impl KeyedChanges {
    pub(super) fn new(form: &OutputForm, key: &[usize]) -> Result<Self, Error> {
        let others: Vec<usize> = (0..form.column_count())
            .filter(|column| !key.contains(column))
            .collect();
        let types = |columns: &[usize]| {
            let types = columns
                .iter()
                .map(|column| form.schema.field(*column).data_type().clone());
            types.collect::<Vec<_>>()
        };
        let flags = vec![DataType::Int8; FLAGS];
        let rows = types(&others);
        let values: Vec<_> = flags.into_iter().chain(rows.clone()).chain(rows).collect();
        let options = TableOptions {
            layout: Layout::new(&types(key), &values)?,
            collection: 0,
            hashed: key.len(),
            max_parallelism: 1,
            is_ordered: false,
            is_expiring: false,
        };
        Ok(Self {
            table: Table::new(options.clone())?,
            options,
            key: key.to_vec(),
            others,
            resolved: Resolved::default(),
            stamps: Vec::new(),
            batches: 0,
            has_former: form.mode == ChangelogMode::Retract,
            cursor: Cursor::default(),
        })
    }

    pub(super) fn size(&self) -> usize {
        self.table.size() + self.stamps.capacity() * size_of::<u32>()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Adds changes. Those of a key are in their order.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let kinds = batch.column(batch.num_columns() - 1).as_primitive::<Int8Type>();
        let known = self.table.len();
        let keys: Vec<ArrayRef> = self.key.iter().map(|column| batch.column(*column).clone()).collect();
        self.table.resolve(&keys, batch.num_rows(), &mut self.resolved)?;
        self.table.release(&self.resolved);
        self.set_before(batch, kinds, known)?;
        self.set_after(batch, kinds)?;
        self.table.compact_strings();
        Ok(())
    }

    /// Takes the rows before the first change of the keys that were not changed before. `known` is the number of those
    /// that were: slots are given out in order.
    fn set_before(&mut self, batch: &RecordBatch, kinds: &Int8Array, known: usize) -> Result<(), Error> {
        let (mut new, mut places) = (Vec::new(), Vec::new());
        let mut next = known;
        for (place, slot) in self.resolved.slots.iter().enumerate() {
            if *slot as usize == next {
                next += 1;
                new.push(*slot);
                places.push(place as u32);
            }
        }
        let presence = places.iter().map(|place| match kinds.value(*place as usize) {
            kind if kind == RowKind::Insert as i8 => ABSENT,
            kind if kind < 0 && self.has_former => PRESENT,
            _ => UNKNOWN,
        });
        let presence = Int8Array::from_iter_values(presence);
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        for ((slot, place), presence) in new.iter().zip(&places).zip(presence.values()) {
            if *presence == PRESENT {
                slots.push(*slot);
                rows.push(*place);
            }
        }
        self.table.scatter(BEFORE, &new, &(Arc::new(presence) as ArrayRef))?;
        self.set_rows(FLAGS, batch, &slots, rows)
    }

    /// Takes the rows after the last change of each key in a batch.
    fn set_after(&mut self, batch: &RecordBatch, kinds: &Int8Array) -> Result<(), Error> {
        self.batches += 1;
        self.stamps.resize(self.table.len(), 0);
        let (mut changed, mut presence) = (Vec::new(), Vec::new());
        let (mut slots, mut rows) = (Vec::new(), Vec::new());
        let (mut deleted, mut deletions) = (Vec::new(), Vec::new());
        for (place, slot) in self.resolved.slots.iter().enumerate().rev() {
            if std::mem::replace(&mut self.stamps[*slot as usize], self.batches) == self.batches {
                continue;
            }
            let is_present = kinds.value(place) > 0;
            changed.push(*slot);
            presence.push(if is_present { PRESENT } else { ABSENT });
            if is_present {
                slots.push(*slot);
                rows.push(place as u32);
            } else if !self.has_former {
                deleted.push(*slot);
                deletions.push(place as u32);
            }
        }
        let presence: ArrayRef = Arc::new(Int8Array::from(presence));
        self.table.scatter(AFTER, &changed, &presence)?;
        self.set_rows(FLAGS + self.others.len(), batch, &slots, rows)?;
        // In upsert mode the row before is unknown: a deletion keeps the values that it has beside its key.
        self.set_rows(FLAGS, batch, &deleted, deletions)
    }

    /// Sets the columns of rows from the value column `first` on.
    fn set_rows(&mut self, first: usize, batch: &RecordBatch, slots: &[u32], rows: Vec<u32>) -> Result<(), Error> {
        let rows = UInt32Array::from(rows);
        for (value, column) in self.others.iter().enumerate() {
            let values = take(batch.column(*column), &rows, None)?;
            self.table.scatter(first + value, slots, &values)?;
        }
        Ok(())
    }

    /// Returns the net changes of the next keys, or `None` if all were returned.
    pub(super) fn next_batch(&mut self, form: &OutputForm) -> Result<Option<RecordBatch>, Error> {
        let end = self.table.len() as u32;
        if self.cursor.slot >= end {
            if self.cursor.are_deletions_done {
                return Ok(None);
            }
            self.cursor = Cursor {
                are_deletions_done: true,
                slot: 0,
            };
        }
        let from = self.cursor.slot;
        self.cursor.slot = end.min(from + EMIT_KEYS_MAX as u32);
        let slots: Vec<u32> = (from..self.cursor.slot).collect();
        self.changes(form, &slots).map(Some)
    }

    fn changes(&self, form: &OutputForm, slots: &[u32]) -> Result<RecordBatch, Error> {
        let presence = |value| Ok::<_, Error>(self.table.values(value, slots)?.as_primitive::<Int8Type>().clone());
        let (before_presence, after_presence) = (presence(BEFORE)?, presence(AFTER)?);
        let rows = |first: usize| {
            let values = (0..self.others.len()).map(|value| self.table.values(first + value, slots));
            values.collect::<Result<Vec<_>, _>>()
        };
        let (before, after) = (rows(FLAGS)?, rows(FLAGS + self.others.len())?);
        let equal = equal_rows(&before, &after, slots.len())?;
        let (mut places, mut kinds) = (Vec::new(), Vec::new());
        let mut push = |side: usize, row: usize, kind: RowKind| {
            places.push((side, row));
            kinds.push(kind as i8);
        };
        for (row, is_equal) in equal.into_iter().enumerate() {
            let (before, after) = (before_presence.value(row), after_presence.value(row));
            match (before != ABSENT, after != ABSENT) {
                (true, false) if !self.cursor.are_deletions_done => push(0, row, RowKind::Delete),
                (false, true) if self.cursor.are_deletions_done => push(1, row, RowKind::Insert),
                (true, true) if self.cursor.are_deletions_done && !(before == PRESENT && is_equal) => {
                    if self.has_former {
                        push(0, row, RowKind::UpdateBefore);
                    }
                    push(1, row, RowKind::UpdateAfter);
                }
                _ => {}
            }
        }
        let mut columns: Vec<Option<ArrayRef>> = vec![None; form.column_count()];
        let chosen = UInt32Array::from_iter_values(places.iter().map(|(_, row)| *row as u32));
        for (column, values) in self.key.iter().zip(self.table.keys(slots)?) {
            columns[*column] = Some(take(&values, &chosen, None)?);
        }
        for ((column, before), after) in self.others.iter().zip(&before).zip(&after) {
            columns[*column] = Some(interleave(&[before.as_ref(), after.as_ref()], &places)?);
        }
        form.batch(columns.into_iter().flatten().collect(), kinds)
    }

    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.table = Table::new(self.options.clone())?;
        self.stamps = Vec::new();
        self.batches = 0;
        self.cursor = Cursor::default();
        Ok(())
    }
}
