//! The watermark of a batch of rows.
//!
//! If the watermark expression only shifts the event-time column by a constant, it is evaluated for the latest row
//! alone; otherwise for all rows. Rows without a time, or too far ahead of the clock, are ignored.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::compute::{cast, filter_record_batch, max};
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow_array::RecordBatch;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::physical_expr::{PhysicalExprRef, ScalarFunctionExpr};
use millstream_graph::Watermark;

use crate::Error;
use crate::operator::Timestamp;

/// The watermark definition of a table.
pub(super) struct EventTime {
    column: usize,
    expression: PhysicalExprRef,
    /// True if the expression is the column plus or minus a constant, or the local time of that.
    is_shift: bool,
    max_future_us: Option<i64>,
}

/// The event time of one batch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Observed {
    /// The greatest watermark of its rows.
    pub watermark: Option<Timestamp>,
    /// Number of rows too far ahead of the clock.
    pub future_rows: u64,
}

impl EventTime {
    pub(super) fn new(watermark: &Watermark) -> Self {
        Self {
            column: watermark.column,
            expression: watermark.expression.clone(),
            is_shift: is_shift(&watermark.expression, watermark.column),
            max_future_us: watermark
                .max_future
                .map(|limit| i64::try_from(limit.as_micros()).unwrap_or(i64::MAX)),
        }
    }

    /// Evaluates the watermark of a batch at this time of the wall clock.
    pub(super) fn observe(&self, rows: &RecordBatch, now: Timestamp) -> Result<Observed, Error> {
        let times = microseconds(rows.column(self.column))?;
        let times = times.as_primitive::<TimestampMicrosecondType>();
        let Some(mut latest) = max(times) else {
            return Ok(Observed::default());
        };
        let limit = self.max_future_us.map_or(i64::MAX, |ahead| now.saturating_add(ahead));
        let mut future_rows = 0;
        let mut considered = None;
        if latest > limit {
            let kept: BooleanArray = times
                .iter()
                .map(|time| Some(time.is_some_and(|time| time <= limit)))
                .collect();
            let rows = filter_record_batch(rows, &kept)?;
            let future = times.iter().flatten().filter(|time| *time > limit).count();
            future_rows = future as u64;
            let Some(within) = times.iter().flatten().filter(|time| *time <= limit).max() else {
                return Ok(Observed {
                    watermark: None,
                    future_rows,
                });
            };
            latest = within;
            considered = Some(rows);
        }
        let rows = if self.is_shift {
            // Rows are mostly in the order of their times: the latest is near the end.
            match (0..times.len())
                .rev()
                .find(|row| times.value(*row) == latest && times.is_valid(*row))
            {
                Some(row) => rows.slice(row, 1),
                None => rows.clone(),
            }
        } else {
            considered.unwrap_or_else(|| rows.clone())
        };
        let values = self.expression.evaluate(&rows)?.into_array(rows.num_rows())?;
        let values = microseconds(&values)?;
        Ok(Observed {
            watermark: max(values.as_primitive::<TimestampMicrosecondType>()),
            future_rows,
        })
    }
}

fn microseconds(column: &ArrayRef) -> Result<ArrayRef, Error> {
    Ok(match column.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => column.clone(),
        DataType::Timestamp(_, zone) => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?,
        _ => cast(column, &DataType::Timestamp(TimeUnit::Microsecond, None))?,
    })
}

fn is_shift(expression: &PhysicalExprRef, column: usize) -> bool {
    let is_time = |expression: &PhysicalExprRef| {
        expression
            .downcast_ref::<Column>()
            .is_some_and(|found| found.index() == column)
    };
    if is_time(expression) {
        return true;
    }
    if let Some(function) = expression.downcast_ref::<ScalarFunctionExpr>()
        && function.name() == millstream_graph::LOCAL_WATERMARK
        && let Some(inner) = function.args().first()
    {
        return is_shift(inner, column);
    }
    expression.downcast_ref::<BinaryExpr>().is_some_and(|binary| {
        matches!(binary.op(), Operator::Plus | Operator::Minus)
            && is_time(binary.left())
            && binary.right().downcast_ref::<Literal>().is_some()
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use arrow::array::TimestampMicrosecondArray;
    use datafusion::common::ScalarValue;

    use super::*;

    fn rows(times: &[Option<i64>]) -> RecordBatch {
        let times = Arc::new(TimestampMicrosecondArray::from(times.to_vec())) as ArrayRef;
        RecordBatch::try_from_iter_with_nullable([("ts", times, true)]).expect("one column")
    }

    fn five_behind(max_future: Option<Duration>) -> EventTime {
        let delay = ScalarValue::new_interval_mdn(0, 0, 5_000);
        EventTime::new(&Watermark {
            column: 0,
            expression: Arc::new(BinaryExpr::new(
                Arc::new(Column::new("ts", 0)),
                Operator::Minus,
                Arc::new(Literal::new(delay)),
            )),
            idle_timeout: Duration::from_secs(5),
            max_future,
        })
    }

    #[track_caller]
    fn check(max_future: Option<Duration>, times: &[Option<i64>], watermark: Option<i64>, future_rows: u64) {
        let observed = five_behind(max_future).observe(&rows(times), 1_000).expect("evaluates");
        assert_eq!(observed, Observed { watermark, future_rows });
    }

    #[test]
    fn the_latest_row_decides_and_rows_without_time_do_not() {
        check(None, &[Some(10), None, Some(30), Some(20)], Some(25), 0);
        check(None, &[None, None], None, 0);
    }

    #[test]
    fn rows_too_far_ahead_of_the_clock_are_counted_and_do_not_take_part() {
        let limit = Some(Duration::from_micros(500));
        check(limit, &[Some(1_500), Some(1_501), None], Some(1_495), 1);
        check(limit, &[Some(9_000)], None, 1);
    }
}
