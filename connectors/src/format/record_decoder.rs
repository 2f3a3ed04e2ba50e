//! The decoding loop shared by all formats that are parsed record by record.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use super::column_builder::BatchBuilder;
use super::parse_error::ParseError;
use super::parse_error_counter::ParseErrorCounter;
use super::{Decoded, Records, Rejection};
use crate::Error;

/// A parser of single records.
pub(super) trait RecordParser {
    /// Parses a record into the next cell of each column. Returns false for a record that is not a row (a blank line, a
    /// comment). After an error the caller removes the cells.
    fn record(&mut self, record: &[u8]) -> Result<bool, ParseError>;

    /// Returns the columns.
    fn row(&mut self) -> &mut BatchBuilder;

    /// Returns the counter of ignored errors; `None` if parse errors are not ignored.
    fn ignored_errors(&self) -> Option<&ParseErrorCounter>;
}

/// Decodes many records into one batch.
pub(super) fn decode(parser: &mut impl RecordParser, records: Records<'_>) -> Result<Decoded, Error> {
    records.check_size()?;
    let utf8 = simdutf8::basic::from_utf8(records.data).ok();
    let mut rejected = Vec::new();
    let mut skipped = Vec::new();
    for (index, range) in records.ranges.iter().enumerate() {
        let outcome = match utf8_record(records, utf8, *range) {
            Ok(record) => parser.record(record),
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(true) => parser.row().rows += 1,
            Ok(false) => skipped.push(index),
            Err(problem) => {
                parser.row().discard_row();
                match parser.ignored_errors() {
                    Some(counter) => {
                        counter.records.increment(1);
                        skipped.push(index);
                    }
                    None => rejected.push(Rejection {
                        record: index,
                        error: problem.0.into(),
                    }),
                }
            }
        }
    }
    Ok(Decoded {
        rows: parser.row().finish()?,
        kinds: None,
        records: None,
        rejected,
        skipped,
    })
}

/// Returns a record; an error if it is not valid UTF-8. `utf8` is the text of all records, if they are all valid.
#[inline]
fn utf8_record<'a>(records: Records<'a>, utf8: Option<&'a str>, range: (usize, usize)) -> Result<&'a [u8], ParseError> {
    if let Some(record) = utf8.and_then(|text| text.get(range.0..range.1)) {
        return Ok(record.as_bytes());
    }
    let record = records.slice(range);
    match std::str::from_utf8(record) {
        Ok(_) => Ok(record),
        Err(error) => Err(ParseError::new(format!(
            "not UTF-8 text: the byte at {} is wrong",
            error.valid_up_to()
        ))),
    }
}
