//! Output rows of a window aggregate: keys, values, window bounds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray};
use arrow::compute::cast;
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;

use crate::Error;

/// The layout of output batches.
pub(crate) struct WindowOutput {
    schema: SchemaRef,
    /// True if the last key column is the window's start.
    start_is_key: bool,
}

impl WindowOutput {
    /// Creates the layout of batches with this schema.
    pub(crate) fn new(schema: SchemaRef, start_is_key: bool) -> Self {
        Self { schema, start_is_key }
    }

    /// Returns the schema of output batches.
    pub(crate) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns true if the last key column is the window's start.
    pub(crate) fn start_is_key(&self) -> bool {
        self.start_is_key
    }

    /// Returns the number of key columns before the partial states.
    pub(crate) fn partial_keys(&self, keys: usize) -> usize {
        keys - usize::from(self.start_is_key)
    }

    /// Returns a batch of rows of the window, or slice, from `start` to `end`. `start` is ignored if it is among the
    /// keys.
    pub(crate) fn batch(
        &self,
        mut keys: Vec<ArrayRef>,
        values: impl IntoIterator<Item = ArrayRef>,
        start: i64,
        end: i64,
        rows: usize,
    ) -> Result<RecordBatch, Error> {
        let constant = |time: i64| Arc::new(TimestampMicrosecondArray::from_value(time, rows)) as ArrayRef;
        let start = match self.start_is_key.then(|| keys.pop()).flatten() {
            Some(start) => start,
            None => constant(start),
        };
        self.assemble(keys, values, start, constant(end))
    }

    /// Returns a batch of rows of several slices with these ends. `slice_start` gives the start of a slice by its end;
    /// it is not used if the start is among the keys.
    pub(crate) fn batch_of_slices(
        &self,
        mut keys: Vec<ArrayRef>,
        values: impl IntoIterator<Item = ArrayRef>,
        ends: Vec<i64>,
        slice_start: impl Fn(i64) -> i64,
    ) -> Result<RecordBatch, Error> {
        let start = match self.start_is_key.then(|| keys.pop()).flatten() {
            Some(start) => start,
            None => {
                let starts = ends.iter().map(|end| slice_start(*end));
                Arc::new(TimestampMicrosecondArray::from_iter_values(starts))
            }
        };
        self.assemble(keys, values, start, Arc::new(TimestampMicrosecondArray::from(ends)))
    }

    fn assemble(
        &self,
        keys: Vec<ArrayRef>,
        values: impl IntoIterator<Item = ArrayRef>,
        start: ArrayRef,
        end: ArrayRef,
    ) -> Result<RecordBatch, Error> {
        let mut columns = keys;
        columns.extend(values);
        columns.push(start);
        columns.push(end);
        conform(&self.schema, columns)
    }
}

/// Returns a batch of these columns, which are cast to the types of the schema where they differ.
pub(crate) fn conform(schema: &SchemaRef, mut columns: Vec<ArrayRef>) -> Result<RecordBatch, Error> {
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if column.data_type() != field.data_type() {
            *column = cast(column, field.data_type())?;
        }
    }
    Ok(RecordBatch::try_new(Arc::clone(schema), columns)?)
}
