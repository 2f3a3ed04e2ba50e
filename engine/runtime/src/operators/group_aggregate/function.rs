//! Aggregate functions over the cells of groups.

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType;
use millstream_state::keyed::Table;
use millstream_state::store::StoredValues;

use crate::Error;
pub(super) use crate::operators::collection::in_type;
use crate::operators::mutants::{self, Mutant};

/// Direction in which the values of a group are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    LeastFirst,
    GreatestFirst,
}

/// The rows of a batch that an aggregate is updated by.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    /// Slot of each row's group.
    pub slots: &'a [u32],
    /// The slots without repetitions.
    pub distinct: &'a [u32],
    /// Weight of each row: 1 is added, -1 is taken back, 0 is ignored. `None`: all are added.
    pub weights: Option<&'a [i8]>,
}

impl Rows<'_> {
    /// Calls `visit(row, slot, weight)` for each row that counts and is not NULL.
    #[inline(always)]
    pub(super) fn for_each(&self, nulls: Option<&NullBuffer>, mut visit: impl FnMut(usize, u32, i8)) {
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0 && !mutants::is_active(Mutant::NullsCounted));
        match (self.weights, nulls) {
            (None, None) => {
                for (row, slot) in self.slots.iter().enumerate() {
                    visit(row, *slot, 1);
                }
            }
            (weights, nulls) => {
                for (row, slot) in self.slots.iter().enumerate() {
                    let weight = weights.map_or(1, |weights| weights[row]);
                    if weight != 0 && nulls.is_none_or(|nulls| nulls.is_valid(row)) {
                        visit(row, *slot, weight);
                    }
                }
            }
        }
    }

    /// Returns the weights of the rows, with 0 for those that do not pass a filter. `None` without a filter.
    pub(super) fn filtered(&self, filter: Option<&BooleanArray>) -> Option<Vec<i8>> {
        let filter = filter?;
        let weight = |row: usize| match filter.is_valid(row) && filter.value(row) {
            true => self.weights.map_or(1, |weights| weights[row]),
            false => 0,
        };
        Some((0..self.slots.len()).map(weight).collect())
    }
}

/// An aggregate function over value columns of a table, from the column `first` on. Cells that are NULL are in the
/// initial state.
pub(super) trait Function: Send {
    /// Returns the types of the value columns.
    fn value_types(&self) -> Vec<DataType>;

    /// Updates the groups of rows. `ordinals` has the index of each slot among the distinct ones, by slot.
    fn update(
        &mut self,
        arguments: &[ArrayRef],
        rows: &Rows<'_>,
        ordinals: &[u32],
        table: &mut Table,
        first: usize,
    ) -> Result<(), Error>;

    /// Merges partial states ([`partial_state`](millstream_graph::partial_state)); `states` are their columns, and each
    /// row counts once.
    fn merge(
        &mut self,
        _states: &[ArrayRef],
        _rows: &Rows<'_>,
        _table: &mut Table,
        _first: usize,
    ) -> Result<(), Error> {
        Err(Error::Operator {
            operator: "aggregate".to_owned(),
            message: "a function without partial states was planned in two phases".to_owned(),
        })
    }

    /// Returns the results of some groups.
    fn evaluate(&mut self, table: &Table, first: usize, slots: &[u32]) -> Result<ArrayRef, Error>;

    /// Returns the direction of the values that the function asks for, and the slots of the groups it asks for since
    /// the last call. `None` if it never does.
    fn take_requests(&mut self) -> Option<(Direction, Vec<u32>)> {
        None
    }

    /// Takes the first values of a group, in the encoding of keys.
    fn refill(&mut self, _rows: &StoredValues, _table: &mut Table, _first: usize, _slot: u32) {}

    /// Returns true if nothing is left of the rows that a group has had. Called only if rows can be taken back.
    fn is_zero(&self, table: &Table, first: usize, slot: u32) -> bool;
}
