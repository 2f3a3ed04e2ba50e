//! The contract of a columnar accumulator.
//!
//! DataFusion's own group accumulators consume what they emit; ours are read again and again, because a slice belongs to
//! many windows and a window survives many checkpoints. State columns are DataFusion's, field by field, because the planner
//! derives the schema between the local and the final phase from them.

use arrow::array::{ArrayRef, BooleanArray};

use super::Select;
use super::state_snapshot::{ColumnSnapshot, StateSnapshot};
use crate::Error;

/// One aggregate's values for all groups of a table.
pub trait Accumulator: Send {
    /// Takes input rows: `groups[i]` is row i's group, below `group_count`. Rows whose `filter` is not true do not count.
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error>;

    /// Takes partial states.
    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error>;

    /// Partial states of some groups.
    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error>;

    /// Partial states of some groups as of now, for another thread to read.
    fn snapshot(&mut self, select: &Select<'_>) -> Result<Box<dyn StateSnapshot>, Error> {
        Ok(Box::new(ColumnSnapshot(self.state(select)?)))
    }

    /// Results of some groups.
    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error>;

    /// Bytes held.
    fn size(&self) -> usize;

    /// Bytes that would be held besides if so many new groups came, as far as that is known.
    fn growth(&self, _groups: usize) -> usize {
        0
    }

    fn clear(&mut self) -> Result<(), Error>;
}
