//! Partial states as of a barrier, taken out of a table that lives on, to be read on another thread.
//!
//! Most accumulators copy theirs as columns. One whose states are long (all distinct values of each group) keeps them in
//! pieces that never change, shares these, and puts the columns together when they are read.

use arrow::array::ArrayRef;

use super::Select;
use crate::Error;

/// The partial states of one aggregate for some groups, which are numbered from 0 here.
pub trait StateSnapshot: Send {
    fn read(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error>;

    /// Bytes held.
    fn size(&self) -> usize;
}

/// Those of all aggregates, in order.
pub struct StateSnapshots(pub(super) Vec<Box<dyn StateSnapshot>>);

impl StateSnapshots {
    pub fn read(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        let mut columns = Vec::new();
        for states in &mut self.0 {
            columns.extend(states.read(select)?);
        }
        Ok(columns)
    }

    pub fn size(&self) -> usize {
        self.0.iter().map(|states| states.size()).sum()
    }
}

impl From<Vec<ArrayRef>> for StateSnapshots {
    fn from(columns: Vec<ArrayRef>) -> Self {
        Self(vec![Box::new(ColumnSnapshot(columns))])
    }
}

/// ColumnSnapshot with a row for each group.
pub struct ColumnSnapshot(pub Vec<ArrayRef>);

impl StateSnapshot for ColumnSnapshot {
    fn read(&mut self, select: &Select<'_>) -> Result<Vec<ArrayRef>, Error> {
        select.take(&self.0)
    }

    fn size(&self) -> usize {
        self.0.iter().map(|column| column.get_array_memory_size()).sum()
    }
}
