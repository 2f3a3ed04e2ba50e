//! `DISTINCT`: the weights of each value of each group, in a collection of its own.
//!
//! A function gets a value when its weight becomes positive, and takes it back when that ends. Calls with the same
//! arguments share a collection; those with different filters have a weight each in its rows.

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::datatypes::{DataType, Int64Type, Schema};
use arrow_select::take::take_arrays;
use datafusion::physical_expr::{PhysicalExprRef, PhysicalSortExpr};
use millstream_state::Codec;
use millstream_state::keyed::{Layout, Resolved, Table};
use std::sync::Arc;

use super::function::Rows;
use super::number::CellType;
use crate::Error;
use crate::operators::collection::{is_computed, is_of_distinct_values};
use crate::operators::keyed::Keys;
use crate::operators::mutants::{self, Mutant};
use crate::operators::table::{AggregateSpec, Argument};

/// The distinct values of one or more calls.
pub(super) struct DistinctSet {
    /// Types of the columns of a value.
    types: Vec<DataType>,
    values: Values,
    /// The different filters of the calls; each has a weight in the rows of the collection, in this order.
    filters: Vec<Option<PhysicalExprRef>>,
    /// The first call with each filter.
    calls: Vec<usize>,
    /// Rows of the present batch that have a value and pass one of the filters.
    selected: Vec<u32>,
}

/// Place of the distinct values of a call.
#[derive(Debug, Clone, Copy)]
pub(super) struct DistinctPlace {
    /// Number of the set.
    pub set: usize,
    /// Number of the call's filter in the set.
    pub filter: usize,
}

/// The values of a call.
#[derive(Clone, PartialEq)]
struct Values {
    arguments: Vec<PhysicalExprRef>,
    /// Order of the rows, if it is part of the values.
    order: Vec<PhysicalSortExpr>,
    ignores_nulls: bool,
    /// True if the first values are read from the collection.
    is_read: bool,
}

impl Values {
    /// Returns the values of a call; `None` if its function does not need distinct values.
    fn of(spec: &AggregateSpec, retracts: bool) -> Option<Self> {
        let function = &spec.aggregate.function;
        let order = function.order_bys();
        let mut arguments = function.expressions();
        let name = function.fun().name();
        let is_ordered_value = matches!(name, "first_value" | "last_value") && !order.is_empty();
        let is_used = match name {
            "count" | "sum" | "avg" => function.is_distinct() && order.is_empty(),
            "var" | "var_pop" | "stddev" | "stddev_pop" | "bool_and" | "bool_or" => retracts && function.is_distinct(),
            "min" | "max" => retracts,
            "first_value" | "last_value" | "array_agg" | "string_agg" => {
                retracts && (function.is_distinct() || is_ordered_value)
            }
            name if is_computed(name) => retracts && (function.is_distinct() || is_of_distinct_values(name)),
            _ => false,
        };
        if !is_used {
            return None;
        }
        if name == "string_agg" || is_computed(name) {
            // Constants follow: a separator, a fraction.
            arguments.truncate(1);
        }
        Some(Self {
            arguments,
            order: if is_ordered_value { order.to_vec() } else { Vec::new() },
            ignores_nulls: function.ignore_nulls() || !matches!(name, "first_value" | "last_value" | "array_agg"),
            is_read: matches!(name, "min" | "max") || is_ordered_value,
        })
    }

    /// Returns the columns of a call's values.
    fn columns(&self, argument: &Argument) -> Vec<ArrayRef> {
        let key = argument.values.last().filter(|_| !self.order.is_empty());
        let arguments = argument.values.iter().take(self.arguments.len());
        key.into_iter().chain(arguments).cloned().collect()
    }
}

impl DistinctSet {
    /// Returns the place of the distinct values of the call of this number, in a set that is added if there is none
    /// for it. `None` if its function does not need them.
    pub(super) fn place(
        sets: &mut Vec<Self>,
        call: usize,
        spec: &AggregateSpec,
        input: &Schema,
        retracts: bool,
    ) -> Result<Option<DistinctPlace>, Error> {
        let Some(values) = Values::of(spec, retracts) else {
            return Ok(None);
        };
        let filter = spec.aggregate.filter.clone();
        for (set, other) in sets.iter_mut().enumerate() {
            let (mine, others) = (&values, &mut other.values);
            let is_same = mine.arguments == others.arguments
                && mine.order == others.order
                && mine.ignores_nulls == others.ignores_nulls;
            // The first values are read by the only weight of the rows.
            let is_shareable = !mine.is_read && !others.is_read || other.filters == [filter.clone()];
            if !is_same || !is_shareable {
                continue;
            }
            others.is_read |= mine.is_read;
            let found = other.filters.iter().position(|of| *of == filter);
            if found.is_none() {
                other.filters.push(filter);
                other.calls.push(call);
            }
            let filter = found.unwrap_or(other.filters.len() - 1);
            return Ok(Some(DistinctPlace { set, filter }));
        }
        let key = (!values.order.is_empty()).then_some(DataType::Binary);
        let mut types: Vec<DataType> = key.into_iter().collect();
        for argument in &values.arguments {
            types.push(argument.data_type(input)?);
        }
        sets.push(Self {
            types,
            values,
            filters: vec![filter],
            calls: vec![call],
            selected: Vec::new(),
        });
        Ok(Some(DistinctPlace {
            set: sets.len() - 1,
            filter: 0,
        }))
    }

    /// Returns the layout of the collection: the keys of groups and the value, and a weight per filter.
    pub(super) fn layout(&self, groups: &[DataType]) -> Result<Arc<Layout>, Error> {
        let keys = [groups, &self.types].concat();
        Ok(Layout::new(&keys, &vec![DataType::Int64; self.filters.len()])?)
    }

    /// Returns the keys of the values that the rows of a batch have. `arguments` are those of all calls.
    pub(super) fn keys(&mut self, groups: &[ArrayRef], arguments: &[Argument], rows: usize) -> Result<Keys, Error> {
        let values = self.values.columns(&arguments[self.calls[0]]);
        let nulls: Vec<_> = match self.values.ignores_nulls {
            true => values[usize::from(!self.values.order.is_empty())..]
                .iter()
                .filter_map(|values| values.logical_nulls())
                .collect(),
            false => Vec::new(),
        };
        let calls = &self.calls;
        let is_selected = |row: &u32| {
            let row = *row as usize;
            calls.iter().any(|call| passes(&arguments[*call], row)) && nulls.iter().all(|nulls| nulls.is_valid(row))
        };
        self.selected.clear();
        self.selected.extend((0..rows as u32).filter(is_selected));
        let columns: Vec<ArrayRef> = groups.iter().cloned().chain(values).collect();
        Ok(Keys {
            columns: take_arrays(&columns, &UInt32Array::from(self.selected.clone()), None)?,
            rows: self.selected.len(),
        })
    }

    /// Updates the weights of the values. Returns, for each filter, the weight of each row for the functions: 1 if its
    /// value is new, -1 if it is gone, otherwise 0.
    pub(super) fn update(
        &self,
        rows: &Rows<'_>,
        arguments: &[Argument],
        values: &Resolved,
        table: &mut Table,
        retracts: bool,
    ) -> Vec<Vec<i8>> {
        let mut weights = vec![vec![0; rows.slots.len()]; self.filters.len()];
        for (row, slot) in self.selected.iter().zip(&values.slots) {
            let row = *row as usize;
            let sign = i64::from(rows.weights.map_or(1, |weights| weights[row]));
            let mut is_changed = false;
            for (filter, call) in self.calls.iter().enumerate() {
                if !passes(&arguments[*call], row) {
                    continue;
                }
                let before = Int64Type::get(table, *slot, filter);
                if !retracts && before > 0 {
                    is_changed |= table.is_expiring();
                    continue;
                }
                // The value that is taken back has expired.
                let is_unmatched = table.is_expiring() && before + sign < 0;
                let after = if is_unmatched { before } else { before + sign };
                weights[filter][row] = match mutants::is_active(Mutant::CopiesCounted) {
                    false => i8::from(after > 0) - i8::from(before > 0),
                    true => sign as i8,
                };
                Int64Type::set(table, *slot, filter, after);
                is_changed = true;
            }
            let is_empty = || (0..self.filters.len()).all(|filter| Int64Type::get(table, *slot, filter) == 0);
            match is_changed && is_empty() {
                true if table.is_present(*slot) => table.remove(*slot),
                true => {}
                false if is_changed => table.set_changed(*slot),
                false => {}
            }
        }
        weights
    }
}

/// Returns true if a row passes the filter of a call.
fn passes(argument: &Argument, row: usize) -> bool {
    let filter = argument.filter.as_ref();
    filter.is_none_or(|filter| filter.is_valid(row) && filter.value(row))
}

/// Returns true if the encoded values of a row, its weight, make its value visible.
pub(super) fn is_visible(weight: &[u8]) -> Result<bool, millstream_state::Error> {
    let columns = Codec::values(&[DataType::Int64])?.decode([weight])?;
    Ok(columns[0].as_primitive::<Int64Type>().value(0) > 0)
}
