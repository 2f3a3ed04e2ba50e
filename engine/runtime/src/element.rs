//! What flows between tasks, and how many bytes it counts for.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use arrow_array::RecordBatch;

use crate::operator::Timestamp;

/// The unit that flows on an edge.
#[derive(Debug, Clone)]
pub enum Element {
    Batch(RecordBatch),
    Watermark(Timestamp),
    /// No rows are to be expected from here for now: do not wait for its watermark. The next batch or watermark
    /// revokes it.
    Idle,
    Barrier(Barrier),
    /// Nothing follows.
    End,
}

/// What separates the rows before a checkpoint from those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    pub checkpoint: u64,
    /// No rows follow in this run of the job.
    pub last: bool,
}

/// Bytes of the rows themselves, whatever larger buffers they are slices of.
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
