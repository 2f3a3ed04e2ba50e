//! Operators with state by key that is updated row by row.
//!
//! An operator implements [`KeyedLogic`]: it names the keys that a batch touches, updates their rows, and derives its
//! output from them. [`Keyed`] does everything else: it finds the rows in memory or reads them from the store, emits
//! the net changes of the output, writes and evicts rows, and takes part in checkpoints. So logic never sees reads,
//! evictions or restores.
//!
//! State with a time-to-live expires by generations: a row belongs to the generation in which it was changed last, and
//! rows of a generation are deleted together. So a row lives for its TTL, and up to a quarter of it longer.
//!
//! A call handles at most [`CALL_ROWS_MAX`] rows: it reads their rows at once, so a barrier waits for one such read at
//! most. Per call and key at most one net change is emitted.

mod call_size;
mod changes;
mod driver;
mod memory;
mod rows_driver;
mod time_range;
mod weighted;

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BooleanArray};
use arrow_array::RecordBatch;
use millstream_graph::Emission;
use millstream_state::keyed::{FORMER_GENERATIONS, Resolved, Table, TableOptions};
use millstream_state::store::{RowFilter, StoredValues};

use crate::Error;
use crate::operator::Timestamp;

pub(super) use self::changes::{OutputForm, equal_rows};
pub(super) use self::driver::Keyed;
pub(super) use self::rows_driver::{CHANGES_MAX, DUE, KeyedRows, RowKeys, RowsForm, RowsLogic, WeightedRows};
pub(super) use self::time_range::TimeRange;

/// Number of rows that a [`Refill`] asks for, unless the logic wants others ([`KeyedLogic::refill_rows`]).
pub(super) const REFILL_ROWS: usize = 32;
/// Number of input rows that one call handles.
pub(super) const CALL_ROWS_MAX: usize = 4_096;
/// Shortest generation: numbers of generations, counted from 1970, have 32 bits.
const GENERATION_MIN: Duration = Duration::from_secs(1);

/// Returns true if the rows of an operator expire: never in a batch, whose result is that of all rows.
pub(super) fn expires(state_ttl: Option<Duration>, emission: Emission) -> bool {
    state_ttl.is_some() && emission == Emission::Changes
}

/// Returns the length of a generation in microseconds; `None` if rows do not expire.
fn generation_length(state_ttl: Option<Duration>, emission: Emission) -> Option<i64> {
    let ttl = state_ttl.filter(|_| expires(state_ttl, emission))?;
    let length = (ttl / FORMER_GENERATIONS).max(GENERATION_MIN);
    Some(i64::try_from(length.as_micros()).unwrap_or(i64::MAX))
}

/// Returns the generation at a time.
fn generation_of(now: Timestamp, length: i64) -> u32 {
    u32::try_from(now / length).unwrap_or(if now < 0 { 0 } else { u32::MAX })
}

/// Keys of one collection.
pub(super) struct Keys {
    /// Key columns.
    pub columns: Vec<ArrayRef>,
    /// Number of keys.
    pub rows: usize,
}

impl Keys {
    /// Returns the values of some columns of a batch.
    pub(super) fn of(batch: &RecordBatch, columns: &[usize]) -> Self {
        Self {
            columns: columns.iter().map(|column| Arc::clone(batch.column(*column))).collect(),
            rows: batch.num_rows(),
        }
    }
}

/// The output of some keys, before or after a call.
pub(super) struct Output {
    /// The output columns without the key columns.
    pub columns: Vec<ArrayRef>,
    /// True for the keys that have an output row. Never NULL.
    pub present: BooleanArray,
}

/// A request for the first rows that an ordered collection has of a key of the first collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Refill {
    /// The ordered collection.
    pub collection: usize,
    /// True for the last rows, the last one first.
    pub is_reversed: bool,
    /// A number of the logic's own.
    pub purpose: usize,
    /// Slot of the key in the first collection.
    pub slot: u32,
}

/// The logic of an operator over keyed collections. The output has one row per key of the first collection, unless the
/// logic says otherwise ([`KeyedLogic::changes`]), and depends on the row of that key in that collection only.
pub(super) trait KeyedLogic: Send {
    /// Returns the collections, in their order.
    fn collections(&self) -> Vec<TableOptions>;

    /// Returns the keys of each collection that the rows of a batch touch. They are found before [`KeyedLogic::apply`]
    /// is called with the same batch.
    fn keys(&mut self, batch: &RecordBatch) -> Result<Vec<Keys>, Error>;

    /// Returns the keys of the first collection whose rows a batch may change, of those that it touches; `None`: all.
    /// Called before [`KeyedLogic::apply`] with the same batch.
    fn changing(
        &mut self,
        _batch: &RecordBatch,
        _resolved: &[Resolved],
        _tables: &[Table],
    ) -> Result<Option<Vec<u32>>, Error> {
        Ok(None)
    }

    /// Updates the rows that a batch touches. `resolved` has the slots of the keys, by collection. Returns requests for
    /// rows that the output of some keys needs.
    fn apply(&mut self, batch: &RecordBatch, resolved: &[Resolved], tables: &mut [Table])
    -> Result<Vec<Refill>, Error>;

    /// Takes the rows of a request: of each, the part of its encoded key after the key of the first collection. At most
    /// [`KeyedLogic::refill_rows`] of those that [`KeyedLogic::refill_accepts`] accepts.
    fn refill(&mut self, _refill: &Refill, _rows: &StoredValues, _table: &mut Table) -> Result<(), Error> {
        Ok(())
    }

    /// Returns a function that tells from a row's encoded values whether a request wants the row.
    fn refill_accepts(&self) -> RowFilter {
        Box::new(|_| Ok(true))
    }

    /// Returns the number of rows that a request asks for.
    fn refill_rows(&self, _refill: &Refill) -> usize {
        REFILL_ROWS
    }

    /// Returns true if the encoded values of a row follow its key in the rows that [`KeyedLogic::refill`] is given.
    fn refill_has_values(&self) -> bool {
        false
    }

    /// Returns a request for more rows, if those that [`KeyedLogic::refill`] was last given do not suffice.
    fn next_refill(&mut self) -> Option<Refill> {
        None
    }

    /// Returns the changes of the output of keys, from number `from` on, and the number of the next key. Bounds the
    /// number of rows; it may be 0 before the last key. Without `before`, returns the output rows as insertions.
    /// `keys` are the key columns.
    fn changes(
        &mut self,
        form: &OutputForm,
        keys: &[ArrayRef],
        before: Option<&Output>,
        after: &Output,
        _from: usize,
    ) -> Result<(RecordBatch, usize), Error> {
        let changes = match before {
            Some(before) => form.changes(keys, before, after)?,
            None => form.rows(keys, after)?,
        };
        Ok((changes, after.present.len()))
    }

    /// Returns the present output of some keys of the first collection.
    fn output(&mut self, table: &Table, slots: &[u32]) -> Result<Output, Error>;

    /// Returns the position of each output column among the key columns of the first collection and the columns of
    /// [`KeyedLogic::output`], in this order. `None`: these are the output columns.
    fn output_order(&self) -> Option<Vec<usize>> {
        None
    }

    /// Checks the state at a consistency point, a checkpoint or the end of input: no change is under way.
    fn check(&self) -> Result<(), Error> {
        Ok(())
    }

    /// Returns true if there is always one output row, with or without input: that of the only key.
    fn has_one_row(&self) -> bool {
        false
    }
}
