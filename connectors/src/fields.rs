//! Declared columns that no record of a source had, and the fields that records had instead.
//!
//! A column whose field is absent from a record is NULL, so a misspelt column of a table is NULL everywhere. Decoders
//! of formats with field names (JSON, Parquet) tell their source's [`FieldWatch`] once per batch which columns were
//! present.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_schema::SchemaRef;
use parking_lot::Mutex;

/// Names of undeclared fields that are kept for a source.
const UNKNOWN_FIELDS_MAX: usize = 64;
/// Bytes of such a name that are kept.
const NAME_BYTES_MAX: usize = 256;

/// The fields of all records that a source has read so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InputFields {
    pub records: u64,
    /// Columns that no record had, of those that are read.
    pub absent_columns: Vec<String>,
    /// Fields of the first records that the table does not declare, at most 64.
    pub unknown_fields: Vec<String>,
}

/// The fields that the readers of one source have seen together.
#[derive(Debug)]
pub struct FieldWatch {
    table: String,
    declared: ahash::AHashSet<String>,
    records: AtomicU64,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Of each column that is read: some record had it.
    columns: BTreeMap<String, bool>,
    unknown: BTreeSet<String>,
}

impl FieldWatch {
    /// For the columns that records of a table may have.
    pub fn new(table: &str, schema: &SchemaRef) -> Self {
        Self {
            table: table.to_string(),
            declared: schema.fields().iter().map(|field| field.name().clone()).collect(),
            records: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }

    /// Adds records.
    pub(crate) fn add_records(&self, records: u64) {
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    /// Says of columns that are read whether some record had them.
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

    /// Names fields that records had; declared ones are passed over.
    pub(crate) fn observe_fields<'a>(&self, names: impl IntoIterator<Item = &'a str>) {
        let mut seen = self.seen.lock();
        for name in names {
            let is_kept = seen.unknown.len() < UNKNOWN_FIELDS_MAX && name.len() <= NAME_BYTES_MAX;
            if is_kept && !self.declared.contains(name) {
                seen.unknown.insert(name.to_string());
            }
        }
    }

    /// The counter of records in which a column was absent, as in all records before them.
    pub(crate) fn absent_records(&self, column: &str) -> metrics::Counter {
        metrics::counter!(
            "millstream_absent_column_records_total",
            "table" => self.table.clone(), "column" => column.to_string()
        )
    }

    /// Counts records for all columns that are absent so far.
    pub(crate) fn count_absent(&self, records: u64) {
        let seen = self.seen.lock();
        for (column, _) in seen.columns.iter().filter(|(_, is_present)| !**is_present) {
            self.absent_records(column).increment(records);
        }
    }

    /// The fields seen so far; `None` before the first record.
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
