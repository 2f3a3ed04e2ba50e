//! Window assignment: appends `window_start`, `window_end` and `window_time` (the window's last millisecond) to each
//! row.
//!
//! A row is emitted once for each of its windows. A row without a time has no window; it is emitted as a late row. The
//! kinds of a changelog's rows are passed on; an update becomes a deletion and an insertion, because its rows may be in
//! different windows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, TimestampMicrosecondArray, UInt32Array};
use arrow::datatypes::SchemaRef;
use arrow_array::RecordBatch;
use arrow_select::take::take_record_batch;
use millstream_connectors::changelog;
use millstream_graph::{self as graph, Port, TimeAttribute};

use super::row_kinds::without_updates;
use super::window_aggregate::{Slices, conform, emit_late, micros};
use crate::Error;
use crate::operator::{Collector, EMIT_ROWS_MAX, Operator, Progress, Snapshot, Timestamp, WATERMARK_MIN};

/// Difference between a window's end and its `window_time`.
const WINDOW_TIME_BEFORE_END_US: i64 = 1_000;

/// The operator of window assignment.
pub(super) struct WindowAssign {
    slices: Slices,
    time: TimeAttribute,
    output: SchemaRef,
    now: Timestamp,
    /// Rows of a batch that have not been emitted yet.
    rest: Option<RecordBatch>,
}

impl WindowAssign {
    /// Creates the operator.
    pub(super) fn new(node: &graph::WindowAssign, output: &SchemaRef) -> Result<Self, Error> {
        Ok(Self {
            slices: Slices::new(&node.window)?,
            time: node.time,
            output: Arc::clone(output),
            now: WATERMARK_MIN,
            rest: None,
        })
    }

    /// Emits the windows of the first rows, as many as one call may, and keeps the others.
    fn emit(&mut self, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        // All rows have the same number of windows.
        let per_row = self.slices.windows_of(0).take(EMIT_ROWS_MAX).count().max(1);
        let rows = batch.num_rows().min((EMIT_ROWS_MAX / per_row).max(1));
        if rows < batch.num_rows() {
            self.rest = Some(batch.slice(rows, batch.num_rows() - rows));
        }
        let batch = batch.slice(0, rows);
        let times = match self.time {
            TimeAttribute::Event(column) => micros(batch.column(column))?.0,
            TimeAttribute::Processing => vec![self.now; rows].into(),
        };
        let mut taken = Vec::with_capacity(rows * per_row);
        let mut starts = Vec::with_capacity(rows * per_row);
        let mut ends = Vec::with_capacity(rows * per_row);
        if matches!(self.slices, Slices::Tumble { .. }) {
            let mut window = (0, 0);
            for time in times.iter() {
                if !(window.0 <= *time && *time < window.1) {
                    window = self.slices.slice_of(*time);
                }
                starts.push(window.0);
                ends.push(window.1);
            }
        } else {
            for (row, time) in times.iter().enumerate() {
                for end in self.slices.windows_of(*time) {
                    taken.push(row as u32);
                    starts.push(self.slices.window_start(end));
                    ends.push(end);
                }
            }
        }
        let batch = if matches!(self.slices, Slices::Tumble { .. }) {
            batch
        } else {
            take_record_batch(&batch, &UInt32Array::from(taken))?
        };
        let window_times = ends
            .iter()
            .map(|end: &i64| end.saturating_sub(WINDOW_TIME_BEFORE_END_US))
            .collect::<Vec<_>>();
        let mut columns: Vec<ArrayRef> = batch.columns().to_vec();
        let kinds = changelog::is_changelog(&batch.schema())
            .then(|| columns.pop())
            .flatten();
        for values in [starts, ends, window_times] {
            columns.push(Arc::new(TimestampMicrosecondArray::from(values)));
        }
        columns.extend(kinds);
        out.emit(Port::Main, conform(&self.output, columns)?);
        Ok(if self.rest.is_some() {
            Progress::More
        } else {
            Progress::Done
        })
    }
}

impl Operator for WindowAssign {
    fn process(&mut self, _input: usize, batch: RecordBatch, out: &mut dyn Collector) -> Result<Progress, Error> {
        let mut batch = without_updates(&batch)?;
        if let TimeAttribute::Event(column) = self.time
            && batch.column(column).null_count() > 0
        {
            let (timed, untimed): (Vec<u32>, Vec<u32>) =
                (0..batch.num_rows() as u32).partition(|row| batch.column(column).is_valid(*row as usize));
            emit_late(0, &batch, untimed, out)?;
            if timed.is_empty() {
                return Ok(Progress::Done);
            }
            batch = take_record_batch(&batch, &UInt32Array::from(timed))?;
        }
        self.emit(batch, out)
    }

    fn on_time(&mut self, now: Timestamp, _out: &mut dyn Collector) -> Result<Progress, Error> {
        self.now = now;
        Ok(Progress::Done)
    }

    fn resume(&mut self, out: &mut dyn Collector) -> Result<Progress, Error> {
        match self.rest.take() {
            Some(rest) => self.emit(rest, out),
            None => Ok(Progress::Done),
        }
    }

    fn snapshot(&mut self, _checkpoint: u64) -> Result<Snapshot, Error> {
        Ok(Snapshot::default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::operators::testing::{Emitted, rows_of, timestamps};
    use arrow::datatypes::{Field, Schema};
    use millstream_graph::Window;

    #[track_caller]
    fn check(window: Window, times: &[Option<i64>], expected: &[&str], late: usize) {
        let input = RecordBatch::try_from_iter_with_nullable([("t", timestamps(times), true)]).unwrap();
        let mut fields = input.schema().fields().to_vec();
        for name in ["window_start", "window_end", "window_time"] {
            fields.push(Arc::new(Field::new(
                name,
                input.schema().field(0).data_type().clone(),
                false,
            )));
        }
        let node = graph::WindowAssign {
            window,
            time: TimeAttribute::Event(0),
        };
        let mut operator = WindowAssign::new(&node, &Arc::new(Schema::new(fields))).unwrap();
        let mut out = Emitted::default();
        assert_eq!(operator.process(0, input, &mut out).unwrap(), Progress::Done);
        assert_eq!(rows_of(&out.main), expected);
        assert_eq!(out.late.iter().map(RecordBatch::num_rows).sum::<usize>(), late);
    }

    #[test]
    fn rows_leave_once_per_window() {
        check(
            Window::Tumble {
                size: 10_000,
                offset: 0,
            },
            &[Some(1), None, Some(-1)],
            &["-1,-10000,0,-1000", "1,0,10000,9000"],
            1,
        );
        check(
            Window::Hop {
                size: 4_000,
                slide: 2_000,
                offset: 0,
            },
            &[Some(1)],
            &["1,-2000,2000,1000", "1,0,4000,3000"],
            0,
        );
    }
}
