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
    /// The barrier of a checkpoint or of a consistency point.
    Barrier(Barrier),
    /// The end of input: nothing follows.
    End,
}

/// The number of a barrier. Numbers are ordered: a barrier supersedes all that have lower numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BarrierNumber {
    /// Id of a checkpoint: this one, or the last one that was triggered before the consistency point.
    pub checkpoint: u64,
    /// Number of the consistency point since that checkpoint, from 1 on; 0: the checkpoint itself.
    pub point: u64,
}

impl BarrierNumber {
    /// Returns the number of a checkpoint's barrier.
    pub fn of_checkpoint(checkpoint: u64) -> Self {
        Self { checkpoint, point: 0 }
    }

    /// Returns true if the barrier is that of a checkpoint.
    pub fn is_checkpoint(self) -> bool {
        self.point == 0
    }

    /// Returns the next greater number.
    #[must_use]
    pub fn next(self) -> Self {
        Self {
            point: self.point + 1,
            ..self
        }
    }
}

/// The barrier of a checkpoint or of a consistency point: separates the rows before it from those after it. At the
/// barrier of a checkpoint, tasks take snapshots; at that of a consistency point they do not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Barrier {
    /// Number of the barrier.
    pub number: BarrierNumber,
    /// True for the last checkpoint of this run of the job: no rows follow.
    pub last: bool,
}

impl Barrier {
    /// Returns the barrier of a checkpoint.
    pub fn of_checkpoint(checkpoint: u64, last: bool) -> Self {
        Self {
            number: BarrierNumber::of_checkpoint(checkpoint),
            last,
        }
    }

    /// Returns the barrier of a consistency point.
    pub fn of_point(number: BarrierNumber) -> Self {
        debug_assert!(!number.is_checkpoint());
        Self { number, last: false }
    }

    /// Returns the checkpoint whose barrier this is, or `None` for a consistency point.
    pub fn checkpoint(&self) -> Option<u64> {
        self.number.is_checkpoint().then_some(self.number.checkpoint)
    }
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
