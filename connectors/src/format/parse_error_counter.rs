//! Counters of the records and fields that `ignore-parse-errors` drops.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use metrics::Counter;

use crate::Error;
use crate::options::Options;

/// Counts the parse errors of a table's decoder that are ignored.
pub(super) struct ParseErrorCounter {
    /// Records that were skipped.
    pub records: Counter,
    /// Fields that became NULL.
    pub fields: Counter,
}

impl ParseErrorCounter {
    /// Creates the counter of a table whose option `option` is true; `None` if parse errors are not ignored.
    pub(super) fn new(options: &Options<'_>, option: &str) -> Result<Option<Self>, Error> {
        let is_ignored = options.boolean(option)?.unwrap_or(false);
        Ok(is_ignored.then(|| {
            let table = options.table().to_string();
            Self {
                records: metrics::counter!("millstream_ignored_records_total", "table" => table.clone()),
                fields: metrics::counter!("millstream_ignored_fields_total", "table" => table),
            }
        }))
    }
}
