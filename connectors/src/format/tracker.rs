//! Which columns the records of one decoder had, gathered without work per field for a decoder that has seen them all.

use std::sync::Arc;

use arrow_schema::SchemaRef;
use metrics::Counter;

use super::cells::Column;
use crate::fields::FieldWatch;

/// Names of undeclared fields are gathered in so many records.
const NAMED_RECORDS_MAX: u64 = 1_000;
/// Names that are gathered between two batches.
const NAMES_MAX: usize = 64;

/// Gathers for a [`FieldWatch`], batch by batch.
pub(super) struct FieldTracker {
    watch: Arc<FieldWatch>,
    /// Columns that no record had before this batch.
    absent: Vec<Absent>,
    /// Records of this batch.
    records: u64,
    /// Records whose undeclared fields are still of interest.
    named_left: u64,
    names: Vec<Vec<u8>>,
    /// Nothing was told yet.
    is_new: bool,
}

struct Absent {
    column: usize,
    name: String,
    /// Records of this batch without it.
    missing: u64,
    counter: Option<Counter>,
}

impl FieldTracker {
    /// `schema` has the columns that are decoded.
    pub fn new(watch: Arc<FieldWatch>, schema: &SchemaRef) -> Self {
        let absent = schema.fields().iter().enumerate().map(|(column, field)| Absent {
            column,
            name: field.name().clone(),
            missing: 0,
            counter: None,
        });
        Self {
            watch,
            absent: absent.collect(),
            records: 0,
            named_left: NAMED_RECORDS_MAX,
            names: Vec::new(),
            is_new: true,
        }
    }

    /// Takes note of a field that no decoded column wants.
    #[inline]
    pub fn unknown(&mut self, name: &[u8]) {
        if self.named_left > 0 {
            self.keep(name);
        }
    }

    #[cold]
    fn keep(&mut self, name: &[u8]) {
        if self.names.len() < NAMES_MAX && !self.names.iter().any(|known| known == name) {
            self.names.push(name.to_vec());
        }
    }

    /// Takes note of a record whose columns each have `rows` cells if the record lacks them, one more otherwise.
    #[inline]
    pub fn record(&mut self, columns: &[Column], rows: usize) {
        self.records += 1;
        self.named_left = self.named_left.saturating_sub(1);
        for absent in &mut self.absent {
            absent.missing += u64::from(columns[absent.column].len() == rows);
        }
    }

    /// Tells of the batch.
    pub fn flush(&mut self) {
        let records = std::mem::take(&mut self.records);
        if records == 0 {
            return;
        }
        self.watch.add_records(records);
        let is_first = std::mem::take(&mut self.is_new);
        if is_first || self.absent.iter().any(|absent| absent.missing < records) {
            let columns = self.absent.iter();
            self.watch
                .observe_columns(columns.map(|absent| (absent.name.as_str(), absent.missing < records)));
            self.absent.retain(|absent| absent.missing == records);
        }
        if self.absent.is_empty() {
            self.named_left = 0;
        }
        if !self.names.is_empty() {
            let names = self.names.iter().filter_map(|name| std::str::from_utf8(name).ok());
            self.watch.observe_fields(names);
            self.names.clear();
        }
        for absent in &mut self.absent {
            absent.missing = 0;
            let counter = || self.watch.absent_records(&absent.name);
            absent.counter.get_or_insert_with(counter).increment(records);
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow_schema::{DataType, Field, Schema};

    use super::super::Records;
    use super::super::json_test_kit::spec;
    use super::*;

    fn watch_of(batches: &[&[&str]], columns: &[usize]) -> Option<crate::InputFields> {
        let field = |name| Field::new(name, DataType::Int64, true);
        let schema: SchemaRef = Arc::new(Schema::new(vec![field("a"), field("b"), field("c")]));
        let watch = Arc::new(FieldWatch::new("t", &schema));
        let spec = spec("json", &[("json.ignore-parse-errors", "true")], &schema);
        // Two decoders, as two tasks have.
        let mut decoders = [(); 2].map(|()| spec.watched_decoder(&schema, columns, &watch).unwrap());
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
        watch.report()
    }

    #[track_caller]
    fn check(batches: &[&[&str]], expected: (u64, &[&str], &[&str])) {
        let found = watch_of(batches, &[2, 0, 1]).unwrap();
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
    fn nested_fields_and_broken_records_say_nothing() {
        check(&[&[r#"{"a":1,"x":{"b":1}}"#]], (1, &["b", "c"], &["x"]));
        check(&[&[r#"{"a":1}"#, r#"{"b":1"#, "nothing", ""]], (1, &["b", "c"], &[]));
        assert_eq!(watch_of(&[&["nothing"]], &[0, 1, 2]), None);
    }

    #[test]
    fn columns_that_are_not_read_are_declared_all_the_same() {
        let found = watch_of(&[&[r#"{"c":1,"d":1}"#]], &[0]).unwrap();
        assert_eq!(found.absent_columns, ["a"]);
        assert_eq!(found.unknown_fields, ["d"]);
    }

    #[test]
    fn names_are_kept_up_to_a_limit() {
        let record: Vec<String> = (0..500).map(|field| format!("\"f{field:03}\":1")).collect();
        let record = format!("{{{}}}", record.join(","));
        let found = watch_of(&[&[record.as_str()], &[record.as_str()]], &[0]).unwrap();
        assert_eq!(found.unknown_fields.len(), 64);
    }
}
