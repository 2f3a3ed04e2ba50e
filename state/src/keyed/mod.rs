//! Keyed collections: state of operators by key, in memory up to a budget and in the store beyond it.
//!
//! A [`Table`] maps a key to one row. Rows are in memory in a hash index of dense *slots*; a slot has a row of
//! fixed-width [cells](cells), so that a small row is in one cache line. Changes are written behind: a checkpoint or an
//! eviction freezes the changed rows ([`FrozenTable`]), and a background thread encodes and writes them. An eviction
//! removes rows that are unchanged since they were written and have not been used for a while.
//!
//! [`Rows`] maps a key to many rows, in the same way.
//!
//! A collection does not read the store itself. [`Table::resolve`] reports the keys that it does not have; the caller
//! reads them ([`Store::read`](crate::store::Store::read)) and passes what it found to [`Table::load`].

mod cells;
mod column_values;
mod flush;
mod flush_rows;
mod generations;
mod key_filter;
mod layout;
mod rows;
mod slot_index;
mod table;

pub use flush::FrozenTable;
pub use flush_rows::FrozenRows;
pub use layout::Layout;
pub use rows::{DecodedRows, Identity, MissingRows, Rows, RowsOptions};
pub use table::{FORMER_GENERATIONS, Resolved, Table, TableOptions};

#[cfg(test)]
mod tests;
