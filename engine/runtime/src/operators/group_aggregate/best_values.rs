//! Minimum and maximum of rows that can be taken back, and their first and last values by `ORDER BY`, which are those
//! with the least and the greatest sort key.
//!
//! The collection of distinct values has all values of a group. Cells: their number, and the best of them, at most
//! [`REFILL_ROWS`], in the encoding of keys and in their order. If values are left but none of them is known any more,
//! the best ones are read from the collection.

use std::sync::Arc;

use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Int64Type};
use millstream_state::Codec;
use millstream_state::keyed::Table;
use millstream_state::store::StoredValues;

use super::function::{Direction, Function, Rows, in_type};
use super::number::CellType;
use crate::Error;
use crate::operators::byte_list::{decode, encode};
use crate::operators::keyed::REFILL_ROWS;

const COUNT: usize = 0;
const BEST: usize = 1;

/// The minimum or maximum, or the first or last value.
pub(super) struct BestValues {
    direction: Direction,
    result: DataType,
    /// True if the last argument is a sort key, which precedes the value.
    is_ordered: bool,
    /// Groups that have values, none of which is known.
    requests: Vec<u32>,
}

impl BestValues {
    pub(super) fn new(direction: Direction, result: &DataType, is_ordered: bool) -> Self {
        Self {
            direction,
            result: result.clone(),
            is_ordered,
            requests: Vec::new(),
        }
    }

    fn codec(&self) -> Result<Codec, Error> {
        let key = self.is_ordered.then_some(DataType::Binary);
        let types: Vec<DataType> = key.into_iter().chain([self.result.clone()]).collect();
        Ok(Codec::keys(&types)?)
    }

    /// Returns true if `value` is before `other`.
    fn is_better(&self, value: &[u8], other: &[u8]) -> bool {
        match self.direction {
            Direction::LeastFirst => value < other,
            Direction::GreatestFirst => value > other,
        }
    }

    fn insert(&self, value: &[u8], table: &mut Table, first: usize, slot: u32) {
        let count = Int64Type::get(table, slot, first + COUNT);
        Int64Type::set(table, slot, first + COUNT, count + 1);
        let mut best = decode(table.bytes(slot, first + BEST));
        let place = best.iter().position(|other| self.is_better(value, other));
        // Behind the last known value, there may be others before the new one, unless all are known.
        let is_complete = best.len() as i64 == count;
        match place {
            Some(place) => best.insert(place, value),
            None if is_complete => best.push(value),
            None => return,
        }
        best.truncate(REFILL_ROWS);
        let encoded = encode(best);
        table.set_bytes(slot, first + BEST, &encoded);
    }

    fn remove(&mut self, value: &[u8], table: &mut Table, first: usize, slot: u32) {
        let count = Int64Type::get(table, slot, first + COUNT) - 1;
        Int64Type::set(table, slot, first + COUNT, count);
        let mut best = decode(table.bytes(slot, first + BEST));
        let known = best.len();
        best.retain(|other| *other != value);
        if best.is_empty() && count > 0 {
            self.requests.push(slot);
        }
        if best.len() < known {
            let encoded = encode(best);
            table.set_bytes(slot, first + BEST, &encoded);
        }
    }
}

impl Function for BestValues {
    fn value_types(&self) -> Vec<DataType> {
        vec![DataType::Int64, DataType::Binary]
    }

    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        _ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error> {
        let key = arguments.last().filter(|_| self.is_ordered).cloned();
        let columns: Vec<ArrayRef> = key.into_iter().chain([in_type(&arguments[0], &self.result)?]).collect();
        let values = self.codec()?.encode(&columns)?;
        // Rows with NULL have no weight.
        rows.for_each(None, |row, slot, weight| match weight > 0 {
            true => self.insert(values.row(row), table, first, slot),
            false => self.remove(values.row(row), table, first, slot),
        });
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        // The encoding of NULL, with a sort key that is NULL or without one.
        let null: &[u8] = if self.is_ordered { &[0, 0] } else { &[0] };
        let best = slots.iter().map(|slot| {
            decode(table.bytes(*slot, first + BEST))
                .first()
                .copied()
                .unwrap_or(null)
        });
        let columns = self.codec()?.decode(best)?;
        Ok(Arc::clone(&columns[usize::from(self.is_ordered)]))
    }

    fn take_requests(&mut self) -> Option<(Direction, Vec<u32>)> {
        Some((self.direction, std::mem::take(&mut self.requests)))
    }

    fn refill(&mut self, rows: &StoredValues, table: &mut Table, first: usize, slot: u32) {
        let values: Vec<&[u8]> = (0..rows.len()).filter_map(|row| rows.get(row)).collect();
        table.set_bytes(slot, first + BEST, &encode(values));
        table.set_changed(slot);
    }

    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool {
        Int64Type::get(table, slot, first + COUNT) == 0
    }
}
