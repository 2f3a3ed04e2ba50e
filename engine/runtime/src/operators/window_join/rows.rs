//! One side of a window: many batches, read by row number as if they were one.

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use arrow_select::concat::concat_batches;
use arrow_select::interleave::interleave;
use arrow_select::take::take_arrays;

use crate::Error;

/// Rows that are put together at once: batches of windows come small, and reading from a few large ones is faster.
const MERGE_ROWS: usize = 16_384;

/// Rows, numbered from 0.
pub struct Rows {
    schema: SchemaRef,
    /// Batches still to be put together, the next one last.
    waiting: Vec<RecordBatch>,
    batches: Vec<RecordBatch>,
    /// Number of each batch's first row, and of the row behind the last.
    starts: Vec<usize>,
}

impl Rows {
    pub fn new(schema: &SchemaRef, mut batches: Vec<RecordBatch>) -> Self {
        batches.reverse();
        Self {
            schema: schema.clone(),
            waiting: batches,
            batches: Vec::new(),
            starts: vec![0],
        }
    }

    /// Rows that can be read.
    pub fn len(&self) -> usize {
        self.starts[self.batches.len()]
    }

    /// Whether all rows can be read.
    pub fn is_whole(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Makes some more rows readable: the new batch, if there is one.
    pub fn advance(&mut self) -> Result<Option<&RecordBatch>, Error> {
        let mut merged = Vec::new();
        let mut rows = 0;
        while let Some(batch) = self
            .waiting
            .pop_if(|batch| rows == 0 || rows + batch.num_rows() <= MERGE_ROWS)
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

    /// Rows from `from` on that lie together, at most `rows_max`: a slice of their batch.
    pub fn stretch(&self, from: usize, rows_max: usize) -> RecordBatch {
        let batch = self.batch_of(from);
        let into = from - self.starts[batch];
        let rows = rows_max.min(self.starts[batch + 1] - from);
        self.batches[batch].slice(into, rows)
    }

    /// The columns of these rows.
    pub fn take(&self, rows: &UInt32Array) -> Result<Vec<ArrayRef>, Error> {
        if let [batch] = self.batches.as_slice() {
            return Ok(take_arrays(batch.columns(), rows, None)?);
        }
        let places: Vec<(usize, usize)> = rows
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
                Ok(interleave(&arrays, &places)?)
            })
            .collect()
    }

    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let batches = self.batches.iter().chain(&self.waiting);
        batches.map(RecordBatch::get_array_memory_size).sum()
    }

    fn batch_of(&self, row: usize) -> usize {
        self.starts.partition_point(|start| *start <= row) - 1
    }
}
