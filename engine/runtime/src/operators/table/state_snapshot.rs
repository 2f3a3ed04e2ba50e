//! Snapshots of partial states as of a barrier, to be read on another thread while the table is being updated.
//!
//! Most accumulators copy their states as columns. [`CountDistinct`](super::count_distinct::CountDistinct), whose
//! states are long, stores them in immutable chunks, shares these with the snapshot, and builds columns only when they
//! are read.

use arrow::array::ArrayRef;

use super::Select;
use crate::Error;

/// A snapshot of the partial states of one aggregate for some groups, which are numbered from 0 in the snapshot.
pub(crate) trait StateSnapshot: Send {
    /// Returns the state columns of some groups.
    fn read(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error>;

    /// Returns the bytes of the snapshot.
    fn size(&self) -> usize;
}

/// Snapshots of all aggregates of a table, in order.
pub(crate) struct StateSnapshots(pub(super) Vec<Box<dyn StateSnapshot>>);

impl StateSnapshots {
    /// Returns the state columns of all aggregates, for some groups.
    pub(crate) fn read(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let mut columns = Vec::new();
        for states in &mut self.0 {
            columns.extend(states.read(select)?);
        }
        Ok(columns)
    }

    /// Returns the bytes of the snapshots.
    pub(crate) fn size(&self) -> usize {
        self.0.iter().map(|states| states.size()).sum()
    }
}

impl From<Vec<ArrayRef>> for StateSnapshots {
    fn from(columns: Vec<ArrayRef>) -> Self {
        Self(vec![Box::new(ColumnSnapshot(columns))])
    }
}

/// A snapshot as columns with a row for each group.
pub(super) struct ColumnSnapshot(pub Vec<ArrayRef>);

impl StateSnapshot for ColumnSnapshot {
    fn read(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        select.take(&self.0)
    }

    fn size(&self) -> usize {
        self.0.iter().map(|column| column.get_array_memory_size()).sum()
    }
}
