//! `DISTINCT`: the weight of each value of each group, in a collection of its own.
//!
//! A function gets a value when its weight becomes positive, and takes it back when that ends. Calls with the same
//! arguments and filter share a collection.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow_select::take::take_arrays;
use datafusion::physical_expr::PhysicalExprRef;
use millstream_state::Codec;
use millstream_state::keyed::{Resolved, Table};

use super::function::Rows;
use super::number::CellType;
use crate::Error;
use crate::operators::keyed::Keys;
use crate::operators::table::{AggregateSpec, Argument};

const WEIGHT: usize = 0;

/// The distinct values of one or more calls.
pub(super) struct Distinct {
    /// Number of the collection among those of distinct values.
    pub index: usize,
    /// True for the first of the calls that share the collection.
    pub is_first: bool,
    /// Types of the values.
    pub types: Vec<DataType>,
    arguments: Vec<PhysicalExprRef>,
    filter: Option<PhysicalExprRef>,
    /// Rows of the present batch that have a value and pass the filter.
    selected: Vec<u32>,
}

impl Distinct {
    /// Returns the distinct values of a call; `None` if its function does not need them. `earlier` are those of the
    /// calls before it.
    pub(super) fn of<'a>(
        spec: &AggregateSpec,
        input: &Schema,
        retracts: bool,
        earlier: impl Iterator<Item = &'a Self>,
    ) -> Result<Option<Self>, Error> {
        let function = &spec.aggregate.function;
        let is_used = match function.fun().name() {
            "count" | "sum" | "avg" => function.is_distinct() && function.order_bys().is_empty(),
            "min" | "max" => retracts,
            _ => false,
        };
        if !is_used {
            return Ok(None);
        }
        let arguments = function.expressions();
        let filter = spec.aggregate.filter.clone();
        let mut next = 0;
        let mut shared = None;
        for other in earlier {
            next = next.max(other.index + 1);
            if other.arguments == arguments && other.filter == filter {
                shared.get_or_insert(other.index);
            }
        }
        let types = arguments.iter().map(|argument| argument.data_type(input));
        Ok(Some(Self {
            index: shared.unwrap_or(next),
            is_first: shared.is_none(),
            types: types.collect::<Result<_, _>>()?,
            arguments,
            filter,
            selected: Vec::new(),
        }))
    }

    /// Returns the keys of the values that the rows of a batch have.
    pub(super) fn keys(&mut self, groups: &[ArrayRef], argument: &Argument, rows: usize) -> Result<Keys, Error> {
        let nulls: Vec<_> = argument.values.iter().map(|values| values.logical_nulls()).collect();
        let is_selected = |row: &u32| {
            let row = *row as usize;
            let filter = argument.filter.as_ref();
            filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
                && nulls.iter().flatten().all(|nulls| nulls.is_valid(row))
        };
        self.selected.clear();
        self.selected.extend((0..rows as u32).filter(is_selected));
        let columns: Vec<ArrayRef> = groups.iter().chain(&argument.values).cloned().collect();
        Ok(Keys {
            columns: take_arrays(&columns, &UInt32Array::from(self.selected.clone()), None)?,
            rows: self.selected.len(),
        })
    }

    /// Updates the weights of the values. Returns the weight of each row for the functions: 1 if its value is new, -1
    /// if it is gone, otherwise 0.
    pub(super) fn update(&self, rows: &Rows<'_>, values: &Resolved, table: &mut Table, retracts: bool) -> Vec<i8> {
        let mut weights = vec![0; rows.slots.len()];
        for (row, slot) in self.selected.iter().zip(&values.slots) {
            let row = *row as usize;
            let before = Int64Type::get(table, *slot, WEIGHT);
            if !retracts && before > 0 {
                if table.is_expiring() {
                    table.set_changed(*slot);
                }
                continue;
            }
            let weight = i64::from(rows.weights.map_or(1, |weights| weights[row]));
            // The value that is taken back has expired.
            let is_unmatched = table.is_expiring() && before + weight < 0;
            let after = if is_unmatched { before } else { before + weight };
            weights[row] = i8::from(after > 0) - i8::from(before > 0);
            Int64Type::set(table, *slot, WEIGHT, after);
            match after {
                0 if table.is_present(*slot) => table.remove(*slot),
                0 => {}
                _ => table.set_changed(*slot),
            }
        }
        weights
    }
}

/// Returns true if the encoded values of a row, its weight, make its value visible.
pub(super) fn is_visible(weight: &[u8]) -> Result<bool, millstream_state::Error> {
    let columns = Codec::values(&[DataType::Int64])?.decode([weight])?;
    Ok(columns[0].as_primitive::<Int64Type>().value(0) > 0)
}
