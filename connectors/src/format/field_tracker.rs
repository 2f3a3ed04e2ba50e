//! The columns and fields found by one decoder. Once every column was found, tracking costs nothing per field.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::sync::Arc;

use arrow_schema::SchemaRef;
use metrics::Counter;

use super::column_builder::ColumnBuilder;
use crate::fields::SourceFields;

/// Number of records whose undeclared fields are collected.
const NAMED_RECORDS_MAX: u64 = 1_000;
/// Most names that are collected per batch.
const NAMES_MAX: usize = 64;

/// Collects the fields of one decoder's records and reports them to a [`SourceFields`] once per batch.
pub(super) struct FieldTracker {
    source: Arc<SourceFields>,
    /// Columns that no record had before this batch.
    absent: Vec<Absent>,
    /// Number of records of this batch.
    records: u64,
    /// Number of further records whose undeclared fields are collected.
    named_left: u64,
    names: Vec<Vec<u8>>,
    /// True before the first report.
    is_new: bool,
}

/// A column that no record had before this batch.
struct Absent {
    column: usize,
    name: String,
    /// Number of records of this batch without the column.
    missing: u64,
    counter: Option<Counter>,
}

impl FieldTracker {
    /// Creates a tracker for a decoder of the columns of `schema`.
    pub(super) fn new(source: Arc<SourceFields>, schema: &SchemaRef) -> Self {
        let absent = schema.fields().iter().enumerate().map(|(column, field)| Absent {
            column,
            name: field.name().clone(),
            missing: 0,
            counter: None,
        });
        Self {
            source,
            absent: absent.collect(),
            records: 0,
            named_left: NAMED_RECORDS_MAX,
            names: Vec::new(),
            is_new: true,
        }
    }

    /// Records a field that is not decoded.
    #[inline]
    pub(super) fn unknown(&mut self, name: &[u8]) {
        if self.named_left > 0 {
            self.collect(name);
        }
    }

    #[cold]
    fn collect(&mut self, name: &[u8]) {
        if self.names.len() < NAMES_MAX && !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_vec());
        }
    }

    /// Records the columns of a record: a column has `rows` cells if the record lacks it, and one more otherwise.
    #[inline]
    pub(super) fn record(&mut self, columns: &[ColumnBuilder], rows: usize) {
        self.records += 1;
        self.named_left = self.named_left.saturating_sub(1);
        for absent in &mut self.absent {
            absent.missing += u64::from(columns.get(absent.column).is_some_and(|column| column.len() == rows));
        }
    }

    /// Reports the batch to the source.
    pub(super) fn flush(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records == 0 {
            return;
        }
        self.source.add_records(records);
        let is_first = std::mem::take(&mut self.is_new);
        if is_first || self.absent.iter().any(|absent| absent.missing < records) {
            let columns = self.absent.iter();
            self.source
                .observe_columns(columns.map(|absent| (absent.name.as_str(), absent.missing < records)));
            self.absent.retain(|absent| absent.missing == records);
        }
        if self.absent.is_empty() {
            self.named_left = 0;
        }
        if !self.names.is_empty() {
            let names = self.names.iter().filter_map(|name| std::str::from_utf8(name).ok());
            self.source.observe_fields(names);
            self.names.clear();
        }
        for absent in &mut self.absent {
            absent.missing = 0;
            let counter = || self.source.absent_records(&absent.name);
            absent.counter.get_or_insert_with(counter).increment(records);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, Schema};

    use super::super::Records;
    use super::super::test_records::spec;
    use super::*;

    fn fields_of(batches: &[&[&str]], columns: &[usize]) -> Option<crate::InputFields> {
        let field = |name| Field::new(name, DataType::Int64, true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field("a"), field("b"), field("c")]));
        let source = Arc::new(SourceFields::new("t", &schema));
        let spec = spec("json", &[("json.ignore-parse-errors", "true")], &schema);
        // Two decoders, as of two subtasks.
        let mut decoders = [(); 2].map(|()| spec.tracked_decoder(&schema, columns, &[], &source).unwrap());
        for (index, batch) in batches.iter().enumerate() {
            let (mut data, mut ranges) = (Vec::new(), Vec::new());
            for record in *batch {
                ranges.push((data.len(), data.len() + record.len()));
                data.extend_from_slice(record.as_bytes());
            }
            let records = Records {
                data: &data,
                ranges: &ranges,
            };
            decoders[index % 2].decode(records).unwrap();
        }
        source.report()
    }

    #[track_caller]
    fn check(batches: &[&[&str]], expected: (u64, &[&str], &[&str])) {
        let found = fields_of(batches, &[2, 0, 1]).unwrap();
        assert_eq!(
            (found.records, found.absent_columns, found.unknown_fields),
            (
                expected.0,
                expected.1.iter().map(|name| (*name).to_string()).collect(),
                expected.2.iter().map(|name| (*name).to_string()).collect(),
            )
        );
    }

    #[test]
    fn a_column_is_absent_until_one_record_has_it() {
        check(&[&[r#"{"a":1,"B":2}"#, r#"{"a":2}"#]], (2, &["b", "c"], &["B"]));
        check(&[&[r#"{"a":1}"#, r#"{"b":null}"#]], (2, &["c"], &[]));
        check(&[&[r#"{"a":1}"#], &[r#"{"b":1,"c":1}"#]], (2, &[], &[]));
        check(
            &[&[r#"{"a":1}"#], &["{}"], &[r#"{"c":1}"#], &[r#"{"a":1}"#]],
            (4, &["b"], &[]),
        );
        check(
            &[&[r#"{"a":1,"b":1,"c":1,"d":1}"#], &[r#"{"e":1}"#]],
            (2, &[], &["d", "e"]),
        );
    }

    #[test]
    fn nested_fields_and_malformed_records_are_not_counted() {
        check(&[&[r#"{"a":1,"x":{"b":1}}"#]], (1, &["b", "c"], &["x"]));
        check(&[&[r#"{"a":1}"#, r#"{"b":1"#, "nothing", ""]], (1, &["b", "c"], &[]));
        assert_eq!(fields_of(&[&["nothing"]], &[0, 1, 2]), None);
    }

    #[test]
    fn columns_that_are_not_projected_count_as_declared() {
        let found = fields_of(&[&[r#"{"c":1,"d":1}"#]], &[0]).unwrap();
        assert_eq!(found.absent_columns, ["a"]);
        assert_eq!(found.unknown_fields, ["d"]);
    }

    #[test]
    fn names_are_collected_up_to_a_limit() {
        let record: Vec<String> = (0..500).map(|field| format!("\"f{field:03}\":1")).collect();
        let record = format!("{{{}}}", record.join(","));
        let found = fields_of(&[&[record.as_str()], &[record.as_str()]], &[0]).unwrap();
        assert_eq!(found.unknown_fields.len(), 64);
    }
}
