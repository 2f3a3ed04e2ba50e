//! Operators with state by key that is updated row by row.
//!
//! An operator implements [`KeyedLogic`]: it names the keys that a batch touches, updates their rows, and derives its
//! output from them. [`Keyed`] does everything else: it finds the rows in memory or reads them from the store, emits
//! the net changes of the output, writes and evicts rows, and takes part in checkpoints. So logic never sees reads,
//! evictions or restores.
//!
//! A call handles at most [`CALL_ROWS_MAX`] rows: it reads their rows at once, so a barrier waits for one such read at
//! most. Per call and key at most one net change is emitted.

mod changes;
mod driver;

use arrow::array::{ArrayRef, BooleanArray};
use arrow_array::RecordBatch;
use millstream_state::keyed::{Resolved, Table, TableOptions};

use crate::Error;

pub(super) use self::driver::Keyed;

/// Number of input rows that one call handles.
pub(super) const CALL_ROWS_MAX: usize = 4_096;

/// Keys of one collection.
pub(super) struct Keys {
    /// Key columns.
    pub columns: Vec<ArrayRef>,
    /// Number of keys.
    pub rows: usize,
}

/// The output of some keys, before or after a call.
pub(super) struct Output {
    /// The output columns without the key columns.
    pub columns: Vec<ArrayRef>,
    /// True for the keys that have an output row. Never NULL.
    pub present: BooleanArray,
}

/// The logic of an operator over keyed collections. The output has one row per key of the first collection, and depends
/// on the row of that key in that collection only.
pub(super) trait KeyedLogic: Send {
    /// Returns the collections, in their order.
    fn collections(&self) -> Vec<TableOptions>;

    /// Returns the keys of each collection that the rows of a batch touch. They are found before [`KeyedLogic::apply`]
    /// is called with the same batch.
    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error>;

    /// Updates the rows that a batch touches. `resolved` has the slots of the keys, by collection.
    fn apply(&mut self, batch: &RecordBatch, resolved: &[Resolved], tables: &mut [Table]) -> Result<(), Error>;

    /// Returns the present output of some keys of the first collection.
    fn output(&mut self, table: &Table, slots: &[u32]) -> Result<Output, Error>;

    /// Returns the position of each output column among the key columns of the first collection and the columns of
    /// [`KeyedLogic::output`], in this order. `None`: these are the output columns.
    fn output_order(&self) -> Option<Vec<usize>> {
        None
    }

    /// Returns true if there is always one output row, with or without input: that of the only key.
    fn has_one_row(&self) -> bool {
        false
    }
}
