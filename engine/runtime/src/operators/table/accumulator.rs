//! The contract of a columnar accumulator.
//!
//! DataFusion's own group accumulators consume what they emit; ours are read again and again, because a slice belongs
//! to many windows and a window survives many checkpoints. State columns are DataFusion's, field by field, because the
//! planner derives the schema between the local and the final phase from them.

use arrow::array::{ArrayRef, BooleanArray};

use super::Select;
use super::state_snapshot::{ColumnSnapshot, StateSnapshot};
use crate::Error;

/// One aggregate's values for all groups of a table.
pub(crate) trait Accumulator: Send {
    /// Updates the aggregate by input rows. `groups[i]` is the group of row `i`, below `group_count`. Rows for which
    /// `filter` is not true are ignored.
    fn update(
        &mut self,
        values: &[ArrayRef],
        filter: Option<&BooleanArray>,
        groups: &[u32],
        group_count: usize,
    ) -> Result<(), Error>;

    /// Merges partial states.
    fn merge(&mut self, states: &[ArrayRef], groups: &[u32], group_count: usize) -> Result<(), Error>;

    /// Returns the partial states of some groups.
    fn state(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error>;

    /// Takes a snapshot of the partial states of some groups, for another thread to read.
    fn snapshot(&mut self, select: &Select<'_>) -> Result<Box<dyn StateSnapshot>, Error> {
        Ok(Box::new(ColumnSnapshot(self.state(select)?)))
    }

    /// Returns the results of some groups.
    fn evaluate(&mut self, select: &Select<'_>) -> Result<ArrayRef, Error>;

    /// Returns the bytes of the accumulator.
    fn size(&self) -> usize;

    /// Returns the bytes needed in addition for `groups` more groups, as far as they are known.
    fn growth(&self, _groups: usize) -> usize {
        0
    }

    /// Removes all groups.
    fn clear(&mut self) -> Result<(), Error>;
}
