//! Aggregate functions without cells of their own: the cells are the partial state of an accumulator.
//!
//! For every batch, an accumulator is filled with the partial states of the batch's groups, updated, and read.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::nullif;
use arrow::datatypes::DataType;
use millstream_state::keyed::Table;

use super::function::{Function, Rows};
use crate::Error;
use crate::operators::table::{Accumulator, AggregateSpec, Select, new_accumulator};

/// A function over partial states, for rows that are never taken back.
pub(super) struct PartialState {
    accumulator: Box<dyn Accumulator>,
    types: Vec<DataType>,
    groups: Vec<u32>,
    /// True if the result over no values is NULL.
    is_null_without_rows: bool,
}

impl PartialState {
    /// Creates the function of an aggregate call.
    pub(super) fn new(spec: &AggregateSpec, is_null_without_rows: bool) -> Result<Self, Error> {
        Ok(Self {
            accumulator: new_accumulator(spec)?,
            types: spec
                .state_fields
                .iter()
                .map(|field| field.data_type().clone())
                .collect(),
            groups: Vec::new(),
            is_null_without_rows,
        })
    }

    /// Fills the accumulator with the states of some groups, which are numbered in their order.
    fn fill(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<(), Error> {
        self.accumulator.clear()?;
        let values = first..first + self.types.len();
        let has_state = |slot: u32| values.clone().any(|value| !table.is_null(slot, value));
        let mut known = Vec::with_capacity(slots.len());
        self.groups.clear();
        for (group, slot) in slots.iter().enumerate() {
            if has_state(*slot) {
                known.push(*slot);
                self.groups.push(group as u32);
            }
        }
        let states = values
            .clone()
            .map(|value| table.values(value, &known))
            .collect::<Result<Vec<_>, _>>()?;
        self.accumulator.merge(&states, &self.groups, slots.len())
    }
}

impl Function for PartialState {
    fn value_types(&self) -> Vec<DataType> {
        self.types.clone()
    }

    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error> {
        self.fill(table, first, rows.distinct)?;
        let filter = rows
            .weights
            .map(|weights| BooleanArray::from_iter(weights.iter().map(|weight| Some(*weight > 0))));
        let groups: Vec<u32> = rows.slots.iter().map(|slot| ordinals[*slot as usize]).collect();
        let count = rows.distinct.len();
        self.accumulator.update(arguments, filter.as_ref(), &groups, count)?;
        let states = self.accumulator.state(&Select::Range(0..count))?;
        for (at, state) in states.iter().enumerate() {
            let state = match state.data_type() == &self.types[at] {
                true => state.clone(),
                false => arrow::compute::cast(state, &self.types[at])?,
            };
            table.scatter(first + at, rows.distinct, &state)?;
        }
        Ok(())
    }

    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error> {
        self.fill(table, first, slots)?;
        let results = self.accumulator.evaluate(&Select::Range(0..slots.len()))?;
        if !self.is_null_without_rows || self.groups.len() == slots.len() {
            return Ok(results);
        }
        // Some accumulators take groups that no state was merged into for groups with values.
        let mut is_unknown = vec![true; slots.len()];
        self.groups.iter().for_each(|group| is_unknown[*group as usize] = false);
        Ok(nullif(&results, &BooleanArray::from(is_unknown))?)
    }

    fn is_zero(&self, _table: &Table, _first: usize, _slot: u32) -> bool {
        false
    }
}
