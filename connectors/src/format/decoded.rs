//! The result of decoding records.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BooleanArray, Int8Array, RecordBatch, UInt32Array};
use arrow_select::filter::{filter, filter_record_batch};
use arrow_select::take::take;

use crate::Error;

/// The result of decoding some records.
#[derive(Debug)]
pub struct Decoded {
    /// The rows of accepted records, in order, with the columns of the decoder.
    pub rows: RecordBatch,
    /// Kinds of the rows ([`KIND_COLUMN`](crate::KIND_COLUMN)); `None` if the format has no changes, so that every row
    /// is an insert.
    pub kinds: Option<Int8Array>,
    /// Index of the record of each row; `None` if each accepted record is one row.
    pub records: Option<UInt32Array>,
    /// Records that could not be decoded, by ascending index.
    pub rejected: Vec<Rejection>,
    /// Records that are not rows (a comment, a blank line), and malformed records that the option `ignore-parse-errors`
    /// skips, by ascending index.
    pub skipped: Vec<usize>,
}

/// A record that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Index into [`Records::ranges`](super::Records::ranges).
    pub record: usize,
    /// Description of the error.
    pub error: String,
}

/// The record of each decoded row, to select values of records (metadata) so that they match the rows.
pub enum RowRecords {
    /// Row `i` is that of record `i`.
    Same,
    /// The rows are those of these records, in order.
    Accepted(BooleanArray),
    /// The index of each row's record.
    Listed(UInt32Array),
}

impl RowRecords {
    /// Returns a column with one value for each row, from one with a value for each record.
    pub fn select(&self, column: ArrayRef) -> Result<ArrayRef, Error> {
        Ok(match self {
            Self::Same => column,
            Self::Accepted(accepted) => filter(column.as_ref(), accepted)?,
            Self::Listed(records) => take(column.as_ref(), records, None)?,
        })
    }
}

impl Decoded {
    /// Returns for each of `records` records true if it was decoded. `None` if all were.
    pub fn accepted(&self, records: usize) -> Option<BooleanArray> {
        if self.rejected.is_empty() && self.skipped.is_empty() {
            return None;
        }
        let mut accepted = vec![true; records];
        let rejected = self.rejected.iter().map(|rejection| rejection.record);
        for record in rejected.chain(self.skipped.iter().copied()) {
            if let Some(accepted) = accepted.get_mut(record) {
                *accepted = false;
            }
        }
        Some(BooleanArray::from(accepted))
    }

    /// Returns the record of each row, of `records` records.
    pub fn row_records(&self, records: usize) -> RowRecords {
        match (&self.records, self.accepted(records)) {
            (Some(listed), _) => RowRecords::Listed(listed.clone()),
            (None, Some(accepted)) => RowRecords::Accepted(accepted),
            (None, None) => RowRecords::Same,
        }
    }

    /// Removes the rows of accepted records, of `records` records, and adds the reasons to the rejected ones.
    pub fn reject(&mut self, rejections: Vec<Rejection>, records: usize) -> Result<(), Error> {
        let accepted = self.accepted(records);
        let was_accepted = |record: usize| accepted.as_ref().is_none_or(|accepted| accepted.value(record));
        let mut keep = vec![true; records];
        let before = self.rejected.len();
        let of_records = self.row_records(records);
        for rejection in rejections {
            if let Some(keep) = keep.get_mut(rejection.record)
                && was_accepted(rejection.record)
            {
                *keep = false;
                self.rejected.push(rejection);
            }
        }
        if self.rejected.len() == before {
            return Ok(());
        }
        self.rejected.sort_by_key(|rejection| rejection.record);
        let keep = of_records.select(Arc::new(BooleanArray::from(keep)))?;
        let keep = keep.as_boolean();
        self.rows = filter_record_batch(&self.rows, keep)?;
        if let Some(kinds) = &self.kinds {
            self.kinds = Some(filter(kinds, keep)?.as_primitive().clone());
        }
        if let Some(records) = &self.records {
            self.records = Some(filter(records, keep)?.as_primitive().clone());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::Int64Array;
    use arrow_array::types::Int64Type;

    use super::*;

    fn rejection(record: usize) -> Rejection {
        Rejection {
            record,
            error: format!("record {record}"),
        }
    }

    fn decoded(values: &[i64], records: Option<&[u32]>, rejected: &[usize], skipped: &[usize]) -> Decoded {
        let column: ArrayRef = Arc::new(Int64Array::from(values.to_vec()));
        Decoded {
            rows: RecordBatch::try_from_iter([("n", column)]).expect("one column"),
            kinds: records.map(|records| Int8Array::from(vec![1; records.len()])),
            records: records.map(|records| UInt32Array::from(records.to_vec())),
            rejected: rejected.iter().map(|record| rejection(*record)).collect(),
            skipped: skipped.to_vec(),
        }
    }

    /// Rejects records, and compares the remaining rows, the rejected records and the records of the rows.
    #[track_caller]
    fn check(mut decoded: Decoded, records: usize, reject: &[usize], expected: (&[i64], &[usize], &[i64])) {
        let rejections = reject.iter().map(|record| rejection(*record)).collect();
        decoded.reject(rejections, records).expect("valid indices");
        let rows = decoded.rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let rejected: Vec<usize> = decoded.rejected.iter().map(|rejection| rejection.record).collect();
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..records as i64));
        let of_rows = decoded.row_records(records).select(numbers).expect("valid indices");
        let of_rows = of_rows.as_primitive::<Int64Type>().values().to_vec();
        assert_eq!((rows.as_slice(), rejected.as_slice(), of_rows.as_slice()), expected);
        assert!(decoded.kinds.is_none_or(|kinds| kinds.len() == rows.len()));
    }

    #[test]
    fn rejected_records_lose_all_their_rows_and_no_others() {
        check(
            decoded(&[5, 6, 7], None, &[], &[]),
            3,
            &[],
            (&[5, 6, 7], &[], &[0, 1, 2]),
        );
        check(decoded(&[5, 6, 7], None, &[], &[]), 3, &[1], (&[5, 7], &[1], &[0, 2]));
        check(decoded(&[5, 6], None, &[1], &[3]), 4, &[0, 1, 3], (&[6], &[0, 1], &[2]));
        let pairs = || decoded(&[1, 2, 3, 4], Some(&[0, 1, 1, 3]), &[2], &[]);
        check(pairs(), 4, &[], (&[1, 2, 3, 4], &[2], &[0, 1, 1, 3]));
        check(pairs(), 4, &[1, 2], (&[1, 4], &[1, 2], &[0, 3]));
        check(pairs(), 4, &[0, 1, 3], (&[], &[0, 1, 2, 3], &[]));
    }
}
