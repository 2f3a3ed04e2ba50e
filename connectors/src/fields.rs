//! Detection of misspelt columns: declared columns that no record of a source had, and undeclared fields of records.
//!
//! A column whose field is absent from a record is NULL, so a misspelt column of a table is NULL in every row. Decoders
//! of formats with field names (JSON, Parquet) report the fields of each batch to their source's [`SourceFields`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::SchemaRef;
use parking_lot::Mutex;

/// Most names of undeclared fields that are collected per source.
const UNKNOWN_FIELDS_MAX: usize = 64;
/// Most bytes of such a name; longer names are not collected.
const NAME_BYTES_MAX: usize = 256;

/// The fields of the records that a source has read so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputFields {
    /// Number of records.
    pub records: u64,
    /// Projected columns that no record had.
    pub absent_columns: Vec<String>,
    /// Names of the first fields found that the table does not declare, at most 64.
    pub unknown_fields: Vec<String>,
}

/// Collects the fields that all readers of one source have found.
#[derive(Debug)]
pub struct SourceFields {
    table: String,
    declared: ahash::AHashSet<String>,
    records: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Projected columns; true if some record had the column.
    columns: BTreeMap<String, bool>,
    unknown: BTreeSet<String>,
}

impl SourceFields {
    /// Creates a tracker for a table whose records may have the fields of `schema`.
    pub fn new(table: &str, schema: &SchemaRef) -> Self {
        Self {
            table: table.to_string(),
            declared: schema.fields().iter().map(|field| field.name().clone()).collect(),
            records: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    /// Counts records.
    pub(crate) fn add_records(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Records for each projected column whether some record had it.
    pub(crate) fn observe_columns<'a>(&self, columns: impl IntoIterator<Item = (&'a str, bool)>) {
        let mut seen = self.seen.lock();
        for (column, is_present) in columns {
            match seen.columns.get_mut(column) {
                Some(known) => *known |= is_present,
                None => {
                    seen.columns.insert(column.to_string(), is_present);
                }
            }
        }
    }

    /// Records the names of fields that records had. Declared fields are ignored.
    pub(crate) fn observe_fields<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut seen = self.seen.lock();
        for name in names {
            let has_space = seen.unknown.len() < UNKNOWN_FIELDS_MAX && name.len() <= NAME_BYTES_MAX;
            if has_space && !self.declared.contains(name) {
                seen.unknown.insert(name.to_string());
            }
        }
    }

    /// Returns the counter of records without a column that no earlier record had.
    pub(crate) fn absent_records(&self, column: &str) -> metrics::Counter {
        metrics::counter!(
            "millstream_absent_column_records_total",
            "table" => self.table.clone(), "column" => column.to_string()
        )
    }

    /// Adds records to the counters of all columns that no record had so far.
    pub(crate) fn count_absent(&self, records: u64) {
        let seen = self.seen.lock();
        for (column, _) in seen.columns.iter().filter(|(_, is_present)| !**is_present) {
            self.absent_records(column).increment(records);
        }
    }

    /// Returns the fields found so far; `None` before the first record.
    pub fn report(&self) -> Option<InputFields> {
        let records = self.records.load(Ordering::Relaxed);
        if records == 0 {
            return None;
        }
        let seen = self.seen.lock();
        let absent = seen.columns.iter().filter(|(_, is_present)| !**is_present);
        Some(InputFields {
            records,
            absent_columns: absent.map(|(column, _)| column.clone()).collect(),
            unknown_fields: seen.unknown.iter().cloned().collect(),
        })
    }
}
