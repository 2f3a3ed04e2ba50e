//! Assignment of the rows of a batch to slices.
//!
//! Most batches are within one slice, as their smallest and largest times show, and are not divided. Otherwise
//! rows are listed by slice. A list without gaps (input sorted by time) is used as a range, without copying rows.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, UInt32Array};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit, TimestampMicrosecondType};
use arrow_array::RecordBatch;
use arrow_select::take::take_record_batch;
use millstream_graph::Port;

use super::slices::Slices;
use crate::Error;
use crate::operator::{Collector, Timestamp};
use crate::operators::table::Argument;

/// The source of a row's slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowTime {
    /// A column with the row's event time.
    Event(usize),
    /// Processing time.
    Processing,
    /// A column with the end of the row's slice (partial states, or windows attached to rows).
    SliceEnd(usize),
}

/// Some rows of a batch.
#[derive(Debug, Clone)]
pub(crate) enum RowSelection {
    All,
    Range(usize, usize),
    Listed(UInt32Array),
}

impl RowSelection {
    fn from_list(rows: Vec<u32>, total: usize) -> Self {
        let first = rows[0] as usize;
        let last = rows[rows.len() - 1] as usize;
        if rows.len() == total {
            Self::All
        } else if last - first + 1 == rows.len() {
            Self::Range(first, rows.len())
        } else {
            Self::Listed(rows.into())
        }
    }

    /// Returns the number of selected rows, of `total` rows.
    pub(crate) fn count(&self, total: usize) -> usize {
        match self {
            Self::All => total,
            Self::Range(_, len) => *len,
            Self::Listed(rows) => rows.len(),
        }
    }

    /// Returns the selected rows of a column.
    pub(crate) fn take(&self, array: &ArrayRef) -> Result<ArrayRef, Error> {
        Ok(match self {
            Self::All => array.clone(),
            Self::Range(start, len) => array.slice(*start, *len),
            Self::Listed(rows) => arrow_select::take::take(array, rows, None)?,
        })
    }

    /// Returns the selected rows of the arguments of aggregates.
    pub(crate) fn take_arguments(&self, arguments: &[Argument]) -> Result<Vec<Argument>, Error> {
        let taken = arguments.iter().map(|argument| argument.map(|array| self.take(array)));
        taken.collect()
    }

    /// Returns the selected rows of columns.
    pub(crate) fn take_all(&self, arrays: &[ArrayRef]) -> Result<Vec<ArrayRef>, Error> {
        arrays.iter().map(|array| self.take(array)).collect()
    }
}

/// The rows of a batch by slice.
#[derive(Debug)]
pub(crate) struct SliceAssignment {
    /// Ends of slices, and the rows of each.
    pub slices: Vec<(i64, RowSelection)>,
    /// Rows whose windows have all fired, or without a time.
    pub late: Vec<u32>,
}

/// Returns a time column in microseconds, and its NULLs if there are any.
pub(crate) fn micros(array: &ArrayRef) -> Result<(ScalarBuffer<i64>, Option<NullBuffer>), Error> {
    let converted;
    let array = match array.data_type() {
        DataType::Timestamp(TimeUnit::Microsecond, _) => array,
        DataType::Timestamp(_, zone) => {
            converted = cast(array, &DataType::Timestamp(TimeUnit::Microsecond, zone.clone()))?;
            &converted
        }
        other => {
            return Err(Error::Operator {
                operator: "window".to_owned(),
                message: format!("the time column must be a timestamp, it is {other}"),
            });
        }
    };
    let array = array.as_primitive::<TimestampMicrosecondType>();
    Ok((
        array.values().clone(),
        array.nulls().filter(|nulls| nulls.null_count() > 0).cloned(),
    ))
}

/// Emits late rows, if there are any, at the port for late rows of an input.
pub(crate) fn emit_late(
    input: usize,
    batch: &RecordBatch,
    late: Vec<u32>,
    out: &mut dyn Collector,
) -> Result<(), Error> {
    if !late.is_empty() {
        out.emit(Port::Late(input), take_record_batch(batch, &UInt32Array::from(late))?);
    }
    Ok(())
}

fn bounds(values: &[i64]) -> (i64, i64) {
    values.iter().fold((i64::MAX, i64::MIN), |(min, max), value| {
        (min.min(*value), max.max(*value))
    })
}

impl SliceAssignment {
    /// Assigns the rows of a batch when all windows up to `fired` have fired. `now` is the processing time.
    pub(crate) fn new(
        slices: &Slices,
        time: RowTime,
        batch: &RecordBatch,
        now: Timestamp,
        fired: i64,
    ) -> Result<Self, Error> {
        let total = batch.num_rows();
        let one = |slice_end: i64| Self {
            slices: vec![(slice_end, RowSelection::All)],
            late: Vec::new(),
        };
        let (column, by_end) = match time {
            // Windows that have fired end before the processing time.
            RowTime::Processing => return Ok(one(slices.slice_of(now).1)),
            RowTime::Event(column) => (column, false),
            RowTime::SliceEnd(column) => (column, true),
        };
        let (values, nulls) = micros(batch.column(column))?;
        if nulls.is_none() {
            let (min, max) = bounds(&values);
            let slice_end = if by_end { min } else { slices.slice_of(min).1 };
            let inside = if by_end { max == min } else { max < slice_end };
            if inside && let Some(open) = slices.open_slice(slice_end, fired) {
                return Ok(one(open));
            }
        }
        let mut lists: Vec<(i64, Vec<u32>)> = Vec::new();
        let mut places: HashMap<i64, usize, ahash::RandomState> = HashMap::default();
        let mut late = Vec::new();
        // The slice of the row before, and the index of its list.
        let mut current = (0i64, 0i64);
        let mut place = None;
        for (row, value) in values.iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                late.push(row as u32);
                continue;
            }
            let same = if by_end {
                row > 0 && *value == current.1
            } else {
                current.0 <= *value && *value < current.1
            };
            if !same {
                current = if by_end { (0, *value) } else { slices.slice_of(*value) };
                place = slices.open_slice(current.1, fired).map(|open| {
                    *places.entry(open).or_insert_with(|| {
                        lists.push((open, Vec::new()));
                        lists.len() - 1
                    })
                });
            }
            match place {
                Some(place) => lists[place].1.push(row as u32),
                None => late.push(row as u32),
            }
        }
        Ok(Self {
            slices: lists
                .into_iter()
                .map(|(slice_end, rows)| (slice_end, RowSelection::from_list(rows, total)))
                .collect(),
            late,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::TimestampMicrosecondArray;
    use std::sync::Arc;

    #[track_caller]
    fn check(times: Vec<Option<i64>>, fired: i64, expected: &[(i64, &[u32])], late: &[u32]) {
        let total = times.len() as u32;
        let column: ArrayRef = Arc::new(TimestampMicrosecondArray::from(times));
        let batch = RecordBatch::try_from_iter_with_nullable([("t", column, true)]).unwrap();
        let slices = Slices::Tumble { size: 10, offset: 0 };
        let assignment = SliceAssignment::new(&slices, RowTime::Event(0), &batch, 0, fired).unwrap();
        let found: Vec<(i64, Vec<u32>)> = assignment
            .slices
            .iter()
            .map(|(end, rows)| {
                let rows = match rows {
                    RowSelection::All => (0..total).collect(),
                    RowSelection::Range(start, len) => (*start as u32..(*start + *len) as u32).collect(),
                    RowSelection::Listed(rows) => rows.values().to_vec(),
                };
                (*end, rows)
            })
            .collect();
        let expected: Vec<(i64, Vec<u32>)> = expected.iter().map(|(end, rows)| (*end, rows.to_vec())).collect();
        assert_eq!(found, expected);
        assert_eq!(assignment.late, late);
    }

    #[test]
    fn rows_find_their_slices() {
        check(vec![Some(1), Some(9)], i64::MIN, &[(10, &[0, 1])], &[]);
        check(
            vec![Some(1), Some(11), Some(12)],
            i64::MIN,
            &[(10, &[0]), (20, &[1, 2])],
            &[],
        );
        check(
            vec![Some(1), Some(11), Some(2), None],
            i64::MIN,
            &[(10, &[0, 2]), (20, &[1])],
            &[3],
        );
        check(vec![Some(1), Some(11)], 10, &[(20, &[1])], &[0]);
        check(vec![Some(1), Some(2)], 10, &[], &[0, 1]);
    }
}
