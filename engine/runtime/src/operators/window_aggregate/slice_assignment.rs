//! Assignment of the rows of a batch to slices.
//!
//! Most batches are within one slice, as their smallest and largest times show, and are not divided. Otherwise
//! rows are listed by slice. A list without gaps (input sorted by time) is used as a range, without copying rows. Where
//! rows are scattered over many slices, operators first put the whole batch in the order of its slices
//! ([`SliceAssignment::gather`]), or aggregate all slices in one table ([`super::scattered`]).

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
use crate::operators::mutants::{self, Mutant};
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
    fn from_list(rows: UInt32Array, total: usize) -> Self {
        let first = rows.value(0) as usize;
        let last = rows.value(rows.len() - 1) as usize;
        if rows.len() == total {
            Self::All
        } else if last - first + 1 == rows.len() {
            Self::Range(first, rows.len())
        } else {
            Self::Listed(rows)
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
    /// The rows that are not late by slice, if there are several slices.
    order: Option<UInt32Array>,
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

/// The slice of each row of a batch.
#[derive(Debug)]
pub(crate) enum RowSlices {
    /// All rows are in the slice with this end.
    One(i64),
    /// Rows are in several slices, or late.
    Several(SeveralSlices),
}

/// The slices of the rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct SeveralSlices {
    /// Ends of the slices, in the order of their first rows.
    pub ends: Vec<i64>,
    /// The index in `ends` of each row's slice; [`LATE`] for late rows.
    pub places: Vec<u32>,
    /// Rows whose windows have all fired, or without a time.
    pub late: Vec<u32>,
}

/// The place of a late row.
const LATE: u32 = u32::MAX;

impl SeveralSlices {
    /// Leaves out the late rows, and returns the other ones.
    pub(crate) fn take_timely(&mut self) -> UInt32Array {
        let timely = self.places.iter().enumerate().filter(|(_, place)| **place != LATE);
        let timely = UInt32Array::from_iter_values(timely.map(|(row, _)| row as u32));
        self.places.retain(|place| *place != LATE);
        timely
    }
}

impl RowSlices {
    /// Finds the slices of the rows of a batch when all windows up to `fired` have fired. `now` is the processing time.
    pub(crate) fn new(
        slices: &Slices,
        time: RowTime,
        batch: &RecordBatch,
        now: Timestamp,
        fired: i64,
    ) -> Result<Self, Error> {
        let (column, by_end) = match time {
            // Windows that have fired end before the processing time.
            RowTime::Processing => return Ok(Self::One(slices.slice_of(now).1)),
            RowTime::Event(column) => (column, false),
            RowTime::SliceEnd(column) => (column, true),
        };
        let fired = if mutants::is_active(Mutant::LateRowsAccepted) {
            i64::MIN
        } else {
            fired
        };
        let (values, nulls) = micros(batch.column(column))?;
        if nulls.is_none() {
            let (min, max) = bounds(&values);
            let slice_end = if by_end { min } else { slices.slice_of(min).1 };
            let inside = if by_end { max == min } else { max < slice_end };
            if inside && let Some(open) = slices.open_slice(slice_end, fired) {
                return Ok(Self::One(open));
            }
        }
        let mut several = SeveralSlices {
            places: Vec::with_capacity(values.len()),
            ..SeveralSlices::default()
        };
        let mut places: HashMap<i64, u32, ahash::RandomState> = HashMap::default();
        // The slice of the row before, and its place.
        let mut current = (0i64, 0i64);
        let mut place = LATE;
        for (row, value) in values.iter().enumerate() {
            if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                several.places.push(LATE);
                several.late.push(row as u32);
                continue;
            }
            let same = if by_end {
                row > 0 && *value == current.1
            } else {
                current.0 <= *value && *value < current.1 + i64::from(mutants::is_active(Mutant::WindowEndIncluded))
            };
            if !same {
                current = if by_end { (0, *value) } else { slices.slice_of(*value) };
                place = match slices.open_slice(current.1, fired) {
                    None => LATE,
                    Some(open) => *places.entry(open).or_insert_with(|| {
                        several.ends.push(open);
                        (several.ends.len() - 1) as u32
                    }),
                };
            }
            several.places.push(place);
            if place == LATE {
                several.late.push(row as u32);
            }
        }
        Ok(Self::Several(several))
    }
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
        Ok(RowSlices::new(slices, time, batch, now, fired)?.into())
    }

    /// If many slices have scattered rows, returns the order of rows that makes the rows of each slice adjacent, and
    /// selects ranges of rows in this order. So columns are copied once, not in small pieces for each slice.
    pub(crate) fn gather(&mut self) -> Option<UInt32Array> {
        let is_listed = |rows: &RowSelection| matches!(rows, RowSelection::Listed(_));
        let listed = self.slices.iter().filter(|(_, rows)| is_listed(rows)).count();
        if listed < GATHERED_SLICES_MIN {
            return None;
        }
        let mut start = 0;
        for (_, rows) in &mut self.slices {
            // There are several slices, so none has all rows.
            let count = rows.count(0);
            *rows = RowSelection::Range(start, count);
            start += count;
        }
        self.order.take()
    }
}

/// Slices with scattered rows in a batch from which on its rows are put in the order of their slices.
const GATHERED_SLICES_MIN: usize = 4;

impl From<RowSlices> for SliceAssignment {
    fn from(rows: RowSlices) -> Self {
        let SeveralSlices { ends, places, late } = match rows {
            RowSlices::One(slice_end) => {
                return Self {
                    slices: vec![(slice_end, RowSelection::All)],
                    order: None,
                    late: Vec::new(),
                };
            }
            RowSlices::Several(several) => several,
        };
        // A counting sort of the rows by their slices.
        let mut counts = vec![0usize; ends.len()];
        for place in places.iter().filter(|place| **place != LATE) {
            counts[*place as usize] += 1;
        }
        let mut next = Vec::with_capacity(ends.len());
        let mut total = 0;
        for count in &counts {
            next.push(total);
            total += count;
        }
        let mut order = vec![0u32; total];
        for (row, place) in places.iter().enumerate().filter(|(_, place)| **place != LATE) {
            let next = &mut next[*place as usize];
            order[*next] = row as u32;
            *next += 1;
        }
        let order = UInt32Array::from(order);
        let slices = ends.into_iter().zip(next.iter().zip(&counts));
        Self {
            slices: slices
                .map(|(slice_end, (end, count))| {
                    let rows = order.slice(end - count, *count);
                    (slice_end, RowSelection::from_list(rows, places.len()))
                })
                .collect(),
            order: Some(order),
            late,
        }
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
