//! Held-back changes of rows without an upsert key: the net weight of each row.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, UInt32Array};
use arrow::datatypes::{DataType, Int64Type};
use arrow_array::RecordBatch;
use arrow_select::take::take_arrays;
use millstream_connectors::{RowKind, changelog};
use millstream_state::keyed::{Layout, Resolved, Table, TableOptions};

use super::{EMIT_KEYS_MAX, OutputForm};
use crate::Error;
use crate::operators::mutants::{self, Mutant};

/// The only value column: the weight.
const WEIGHT: usize = 0;

/// Rows with their weights.
pub(super) struct WeightedRows {
    options: TableOptions,
    /// By row: its weight.
    table: Table,
    resolved: Resolved,
    cursor: Cursor,
}

/// The changes to emit next. Removals leave before additions.
#[derive(Default)]
struct Cursor {
    are_removals_done: bool,
    slot: u32,
    /// Number of times that the row of this slot was returned.
    times: u64,
}

impl WeightedRows {
    pub(super) fn new(form: &OutputForm) -> Result<Self, Error> {
        let fields = &form.schema.fields()[..form.column_count()];
        let types: Vec<DataType> = fields.iter().map(|field| field.data_type().clone()).collect();
        let options = TableOptions {
            layout: Layout::new(&types, &[DataType::Int64])?,
            collection: 0,
            hashed: types.len(),
            max_parallelism: 1,
            is_ordered: false,
            is_expiring: false,
        };
        Ok(Self {
            table: Table::new(options.clone())?,
            options,
            resolved: Resolved::default(),
            cursor: Cursor::default(),
        })
    }

    pub(super) fn size(&self) -> usize {
        self.table.size()
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Adds changes.
    pub(super) fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let columns = &batch.columns()[..self.options.layout.key_count()];
        self.table.resolve(columns, batch.num_rows(), &mut self.resolved)?;
        self.table.release(&self.resolved);
        let zeros: ArrayRef = Arc::new(Int64Array::from(vec![0; self.resolved.unknown.len()]));
        self.table.scatter(WEIGHT, &self.resolved.unknown, &zeros)?;
        let kinds = changelog::kinds(batch);
        for (row, slot) in self.resolved.slots.iter().enumerate() {
            let sign = kinds.map_or(1, |kinds| i64::from(kinds.value(row).signum()));
            let sign = if mutants::is_active(Mutant::HeldDeletionsForgotten) {
                sign.max(0)
            } else {
                sign
            };
            let weight = i64::from_le_bytes(self.table.fixed(*slot, WEIGHT)) + sign;
            self.table.set_fixed(*slot, WEIGHT, weight.to_le_bytes());
        }
        Ok(())
    }

    /// Returns the next net changes, or `None` if all were returned.
    pub(super) fn next_batch(&mut self, form: &OutputForm) -> Result<Option<RecordBatch>, Error> {
        let end = self.table.len() as u32;
        if self.cursor.slot >= end {
            if self.cursor.are_removals_done {
                return Ok(None);
            }
            self.cursor = Cursor {
                are_removals_done: true,
                ..Cursor::default()
            };
        }
        let from = self.cursor.slot;
        let slots: Vec<u32> = (from..end.min(from + EMIT_KEYS_MAX as u32)).collect();
        let weights = self.table.values(WEIGHT, &slots)?;
        let weights = weights.as_primitive::<Int64Type>().values();
        let (sign, kind) = match self.cursor.are_removals_done {
            false => (-1, RowKind::Delete),
            true => (1, RowKind::Insert),
        };
        let mut places = Vec::new();
        for (place, weight) in weights.iter().enumerate() {
            let times = match weight.signum() == sign {
                true => weight.unsigned_abs() - self.cursor.times,
                false => 0,
            };
            let room = (EMIT_KEYS_MAX - places.len()) as u64;
            places.extend((0..times.min(room)).map(|_| place as u32));
            if times > room {
                self.cursor.times += room;
                break;
            }
            self.cursor.times = 0;
            self.cursor.slot += 1;
        }
        let kinds = vec![kind as i8; places.len()];
        let rows = take_arrays(&self.table.keys(&slots)?, &UInt32Array::from(places), None)?;
        form.batch(rows, kinds).map(Some)
    }

    pub(super) fn clear(&mut self) -> Result<(), Error> {
        self.table = Table::new(self.options.clone())?;
        self.cursor = Cursor::default();
        Ok(())
    }
}
