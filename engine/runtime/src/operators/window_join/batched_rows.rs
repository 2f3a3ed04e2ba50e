//! One side of a window: many batches, read by row number as if they were one.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave;
use arrow_select::take::take_arrays;

use crate::Error;

/// Rows up to which batches are concatenated: batches of windows are small, and reading from a few large ones is
/// faster.
const CONCAT_ROWS_MAX: usize = 16_384;

/// Rows, numbered from 0.
pub(super) struct BatchedRows {
    schema: SchemaRef,
    /// Batches that are not readable yet, the next one last.
    pending: Vec<RecordBatch>,
    batches: Vec<RecordBatch>,
    /// Number of each batch's first row, and the number of rows.
    starts: Vec<usize>,
}

impl BatchedRows {
    /// Creates the rows of these batches, none of which is readable yet.
    pub(super) fn new(schema: &SchemaRef, mut batches: Vec<RecordBatch>) -> Self {
        batches.reverse();
        Self {
            schema: schema.clone(),
            pending: batches,
            batches: Vec::new(),
            starts: vec![0],
        }
    }

    /// Returns the number of readable rows.
    pub(super) fn len(&self) -> usize {
        self.starts[self.batches.len()]
    }

    /// Returns true if all rows are readable.
    pub(super) fn is_complete(&self) -> bool {
        self.pending.is_empty()
    }

    /// Makes some more rows readable, and returns them as a batch; `None` if all were readable.
    pub(super) fn advance(&mut self) -> Result<Option<&RecordBatch>, Error> {
        let mut merged = Vec::new();
        let mut rows = 0;
        while let Some(batch) = self
            .pending
            .pop_if(|batch| rows == 0 || rows + batch.num_rows() <= CONCAT_ROWS_MAX)
        {
            rows += batch.num_rows();
            merged.push(batch);
        }
        if rows == 0 {
            return Ok(None);
        }
        self.batches.push(match merged.len() {
            1 => merged.remove(0),
            _ => concat_batches(&self.schema, &merged)?,
        });
        self.starts.push(self.starts[self.starts.len() - 1] + rows);
        Ok(self.batches.last())
    }

    /// Returns up to `rows_max` rows from `from` on that are in one batch.
    pub(super) fn slice(&self, from: usize, rows_max: usize) -> RecordBatch {
        let batch = self.batch_of(from);
        let offset = from - self.starts[batch];
        let rows = rows_max.min(self.starts[batch + 1] - from);
        self.batches[batch].slice(offset, rows)
    }

    /// Returns the columns of these rows.
    pub(super) fn take(&self, rows: &UInt32Array) -> Result<Vec<ArrayRef>, Error> {
        if let [batch] = self.batches.as_slice() {
            return Ok(take_arrays(batch.columns(), rows, None)?);
        }
        let indices: Vec<(usize, usize)> = rows
            .values()
            .iter()
            .map(|row| {
                let batch = self.batch_of(*row as usize);
                (batch, *row as usize - self.starts[batch])
            })
            .collect();
        (0..self.schema.fields().len())
            .map(|column| {
                let arrays: Vec<&dyn Array> = self.batches.iter().map(|batch| batch.column(column).as_ref()).collect();
                Ok(interleave(&arrays, &indices)?)
            })
            .collect()
    }

    /// Returns the schema of the rows.
    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Returns the bytes held.
    pub(super) fn size(&self) -> usize {
        let batches = self.batches.iter().chain(&self.pending);
        batches.map(RecordBatch::get_array_memory_size).sum()
    }

    fn batch_of(&self, row: usize) -> usize {
        self.starts.partition_point(|start| *start <= row) - 1
    }
}
