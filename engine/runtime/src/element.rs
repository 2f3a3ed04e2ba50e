//! The elements that flow between tasks, and their size.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow_array::RecordBatch;

use crate::operator::Timestamp;

/// The unit of data flow on an edge.
#[derive(Debug, Clone)]
pub enum Element {
    /// Rows.
    Batch(RecordBatch),
    /// The event time up to which no further rows are expected.
    Watermark(Timestamp),
    /// The sender is idle: the receiver must not wait for its watermark. Ends with the next batch or watermark.
    Idle,
    /// The barrier of a checkpoint.
    Barrier(Barrier),
    /// The end of input: nothing follows.
    End,
}

/// The barrier of a checkpoint: separates the rows before the checkpoint from those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Id of the checkpoint.
    pub checkpoint: u64,
    /// True for the last checkpoint of this run of the job: no rows follow.
    pub last: bool,
}

/// Returns the bytes of the rows themselves, not of the larger buffers that they may be slices of.
pub fn batch_bytes(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(column_bytes).sum::<usize>().max(1)
}

fn column_bytes(column: &ArrayRef) -> usize {
    let rows = column.len();
    match column.data_type() {
        DataType::Utf8 => span(column.as_string::<i32>().value_offsets()) + rows * 4,
        DataType::Binary => span(column.as_binary::<i32>().value_offsets()) + rows * 4,
        DataType::Boolean => rows.div_ceil(8),
        DataType::Null => 0,
        DataType::Struct(_) => column.as_struct().columns().iter().map(column_bytes).sum(),
        other => match other.primitive_width() {
            Some(width) => rows * width,
            None => column
                .to_data()
                .get_slice_memory_size()
                .unwrap_or_else(|_| column.get_array_memory_size()),
        },
    }
}

fn span(offsets: &[i32]) -> usize {
    match (offsets.first(), offsets.last()) {
        (Some(first), Some(last)) => (last - first) as usize,
        _ => 0,
    }
}
