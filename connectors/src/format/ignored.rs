//! Counts what `ignore-parse-errors` lets pass: nothing is dropped without a number.

use metrics::Counter;

/// What a table's decoder ignored.
pub struct Ignored {
    /// Records left out.
    pub records: Counter,
    /// Fields that became NULL.
    pub fields: Counter,
}

impl Ignored {
    pub fn of(table: &str) -> Self {
        Self {
            records: metrics::counter!("millstream_ignored_records_total", "table" => table.to_string()),
            fields: metrics::counter!("millstream_ignored_fields_total", "table" => table.to_string()),
        }
    }
}
