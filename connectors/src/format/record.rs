//! Many records to one batch: what decoders of one record after the other have in common.

use super::cells::{Problem, Row};
use super::ignored::Ignored;
use super::text::Utf8Records;
use super::{Decoded, Records, Rejection};
use crate::Error;

/// Reads one record into the next row of its columns.
pub(super) trait RecordParser {
    /// Fills the columns' next cells; `false` for a record that is no row (a blank line, a comment). After a problem the
    /// cells that were filled are taken back.
    fn record(&mut self, record: &[u8]) -> Result<bool, Problem>;

    fn row(&mut self) -> &mut Row;

    /// Set where records that cannot be read are to be passed over.
    fn ignored(&self) -> Option<&Ignored>;
}

pub(super) fn decode(parser: &mut impl RecordParser, records: Records<'_>) -> Result<Decoded, Error> {
    let utf8 = Utf8Records::new(records)?;
    let mut rejected = Vec::new();
    let mut skipped = Vec::new();
    for index in 0..records.ranges.len() {
        let outcome = match utf8.record(index) {
            Ok(record) => parser.record(record),
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(true) => parser.row().rows += 1,
            Ok(false) => skipped.push(index),
            Err(problem) => {
                parser.row().roll_back();
                match parser.ignored() {
                    Some(ignored) => {
                        ignored.records.increment(1);
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
        rejected,
        skipped,
    })
}
