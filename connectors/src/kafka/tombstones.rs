//! Records without a value (tombstones), among decoded values.

use arrow_array::{ArrayRef, Int8Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow_schema::{ArrowError, SchemaRef};
use arrow_select::interleave::interleave;
use arrow_select::take::take;

use crate::format::{Decoded, Rejection, default_cell};
use crate::{Error, RowKind};

/// Returns rows of NULLs for tombstones, among the rows of `decoded`, which has the records with a value. A tombstone
/// is rejected if a column is NOT NULL.
pub(super) fn as_null_rows(decoded: Decoded, has_value: impl Iterator<Item = bool>) -> Result<Decoded, Error> {
    let schema = decoded.rows.schema();
    let not_null = schema.fields().iter().find(|field| !field.is_nullable());
    let mut all = AllRecords::new(&decoded, has_value);
    if let Some(field) = not_null {
        let error = || format!("the record has no value, and `{}` is NOT NULL", field.name());
        let tombstones = all.rows.iter().filter(|(_, row)| row.is_none());
        all.rejected.extend(tombstones.map(|(record, _)| Rejection {
            record: *record,
            error: error(),
        }));
        all.rejected.sort_by_key(|rejection| rejection.record);
        all.rows.retain(|(_, row)| row.is_some());
    }
    let indices = all.indices();
    let columns = decoded.rows.columns().iter();
    let columns: Result<Vec<ArrayRef>, ArrowError> = columns.map(|column| take(column, &indices, None)).collect();
    all.decoded(schema, columns?, None)
}

/// Returns deletions for tombstones, and updates for the rows of `decoded`, which has the records with a value. A cell
/// of a deletion is NULL, or a default if its column is NOT NULL.
pub(super) fn as_deletes(decoded: Decoded, has_value: impl Iterator<Item = bool>) -> Result<Decoded, Error> {
    let schema = decoded.rows.schema();
    let all = AllRecords::new(&decoded, has_value);
    let kinds = all.rows.iter().map(|(_, row)| match row {
        Some(_) => RowKind::UpdateAfter as i8,
        None => RowKind::Delete as i8,
    });
    let kinds = Int8Array::from_iter_values(kinds);
    if all.rows.iter().all(|(_, row)| row.is_some()) {
        let columns = decoded.rows.columns().to_vec();
        return all.decoded(schema, columns, Some(kinds));
    }
    let indices = all.indices();
    let or_default: Vec<(usize, usize)> = all
        .rows
        .iter()
        .map(|(_, row)| row.map_or((1, 0), |row| (0, row)))
        .collect();
    let columns = schema.fields().iter().zip(decoded.rows.columns());
    let columns = columns.map(|(field, column)| match field.is_nullable() {
        true => Ok(take(column, &indices, None)?),
        false => Ok(interleave(
            &[column.as_ref(), default_cell(field)?.as_ref()],
            &or_default,
        )?),
    });
    let columns = columns.collect::<Result<Vec<_>, Error>>()?;
    all.decoded(schema, columns, Some(kinds))
}

/// The records with and without a value.
struct AllRecords {
    /// Index of each record that was not rejected or skipped, and of its decoded row; no row for a tombstone.
    rows: Vec<(usize, Option<usize>)>,
    rejected: Vec<Rejection>,
    skipped: Vec<usize>,
}

impl AllRecords {
    fn new(decoded: &Decoded, has_value: impl Iterator<Item = bool>) -> Self {
        let mut with_value = Vec::new();
        let mut rows = Vec::new();
        let accepted = decoded.accepted(decoded.rows.num_rows() + decoded.rejected.len() + decoded.skipped.len());
        let mut row = 0;
        for (index, has_value) in has_value.enumerate() {
            if !has_value {
                rows.push((index, None));
                continue;
            }
            if accepted
                .as_ref()
                .is_none_or(|accepted| accepted.value(with_value.len()))
            {
                rows.push((index, Some(row)));
                row += 1;
            }
            with_value.push(index);
        }
        let rejected = decoded.rejected.iter().map(|rejection| Rejection {
            record: with_value[rejection.record],
            error: rejection.error.clone(),
        });
        Self {
            rows,
            rejected: rejected.collect(),
            skipped: decoded.skipped.iter().map(|record| with_value[*record]).collect(),
        }
    }

    /// Returns the index of each record's row, NULL for a tombstone.
    fn indices(&self) -> UInt32Array {
        // The records of a batch have less than 2 GiB.
        self.rows.iter().map(|(_, row)| row.map(|row| row as u32)).collect()
    }

    fn decoded(self, schema: SchemaRef, columns: Vec<ArrayRef>, kinds: Option<Int8Array>) -> Result<Decoded, Error> {
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.len()));
        Ok(Decoded {
            rows: RecordBatch::try_new_with_options(schema, columns, &options)?,
            kinds,
            records: None,
            rejected: self.rejected,
            skipped: self.skipped,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int64Array, StringArray};
    use arrow_schema::{DataType, Field, Schema};

    use super::*;
    use crate::changelog::Kinds;
    use crate::print;

    /// The records 0 and 4 are rows, 2 and 6 have no value, 1 is rejected, 3 is skipped, 5 is a row.
    fn decoded(id_is_nullable: bool) -> Decoded {
        let fields = vec![
            Field::new("id", DataType::Int64, id_is_nullable),
            Field::new("word", DataType::Utf8, true),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![10, 14, 15])),
            Arc::new(StringArray::from(vec![Some("a"), None, Some("c")])),
        ];
        Decoded {
            rows: RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).expect("two columns"),
            kinds: None,
            records: None,
            rejected: vec![Rejection {
                record: 1,
                error: "wrong".into(),
            }],
            skipped: vec![2],
        }
    }

    fn has_value() -> impl Iterator<Item = bool> {
        [true, true, false, true, true, true, false].into_iter()
    }

    fn lines(decoded: &Decoded) -> Vec<String> {
        let kinds = decoded.kinds.clone();
        let kinds = kinds
            .as_ref()
            .map_or(Kinds::INSERTS, |kinds| Kinds::new(kinds).expect("known kinds"));
        let mut lines: Vec<(usize, String)> = Vec::new();
        let accepted = decoded.accepted(7).expect("not all are rows");
        for (row, record) in (0..7).filter(|record| accepted.value(*record)).enumerate() {
            let mut line = String::new();
            print::row::append(&mut line, kinds.kind(row), decoded.rows.columns(), row);
            lines.push((record, line));
        }
        lines.extend(
            decoded
                .rejected
                .iter()
                .map(|rejection| (rejection.record, rejection.error.clone())),
        );
        lines.sort();
        assert_eq!(decoded.skipped, [3]);
        lines
            .into_iter()
            .map(|(record, line)| format!("{record}: {line}"))
            .collect()
    }

    #[test]
    fn tombstones_are_deletions() {
        let nullable = as_deletes(decoded(true), has_value()).expect("valid");
        assert_eq!(
            lines(&nullable),
            [
                "0: +U[10, a]",
                "1: wrong",
                "2: -D[null, null]",
                "4: +U[14, null]",
                "5: +U[15, c]",
                "6: -D[null, null]"
            ]
        );
        let not_null = as_deletes(decoded(false), has_value()).expect("valid");
        assert_eq!(
            lines(&not_null),
            [
                "0: +U[10, a]",
                "1: wrong",
                "2: -D[0, null]",
                "4: +U[14, null]",
                "5: +U[15, c]",
                "6: -D[0, null]"
            ]
        );
    }

    #[test]
    fn tombstones_are_rows_of_null() {
        let nullable = as_null_rows(decoded(true), has_value()).expect("valid");
        assert_eq!(
            lines(&nullable),
            [
                "0: +I[10, a]",
                "1: wrong",
                "2: +I[null, null]",
                "4: +I[14, null]",
                "5: +I[15, c]",
                "6: +I[null, null]"
            ]
        );
        let not_null = as_null_rows(decoded(false), has_value()).expect("valid");
        let reason = "the record has no value, and `id` is NOT NULL";
        assert_eq!(
            lines(&not_null),
            [
                "0: +I[10, a]".to_string(),
                "1: wrong".into(),
                format!("2: {reason}"),
                "4: +I[14, null]".into(),
                "5: +I[15, c]".into(),
                format!("6: {reason}"),
            ]
        );
    }
}
