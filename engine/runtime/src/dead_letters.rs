//! Dead letters: records and rows that failed, as rows of [`dead_letter_schema`].

use std::sync::Arc;

use arrow::array::{BinaryArray, StringArray, TimestampMicrosecondArray};
use arrow_array::RecordBatch;
use millstream_connectors::RejectedRecord;
use millstream_graph::dead_letter_schema;

use crate::Error;
use crate::operator::Timestamp;

/// One row of a dead-letter output.
pub(crate) struct DeadLetter<'a> {
    pub position: Option<&'a str>,
    pub error: &'a str,
    pub payload: Option<&'a [u8]>,
}

/// Returns dead letters of one step as rows of [`dead_letter_schema`].
pub(crate) fn dead_letters<'a>(
    step: &str,
    now: Timestamp,
    letters: impl Iterator<Item = DeadLetter<'a>>,
) -> Result<RecordBatch, Error> {
    let letters: Vec<_> = letters.collect();
    let steps: StringArray = letters.iter().map(|_| Some(step)).collect();
    let positions: StringArray = letters.iter().map(|letter| letter.position).collect();
    let errors: StringArray = letters.iter().map(|letter| Some(letter.error)).collect();
    let times = TimestampMicrosecondArray::from(vec![now; letters.len()]).with_timezone("UTC");
    let payloads: BinaryArray = letters.iter().map(|letter| letter.payload).collect();
    Ok(RecordBatch::try_new(
        dead_letter_schema(),
        vec![
            Arc::new(steps),
            Arc::new(positions),
            Arc::new(errors),
            Arc::new(times),
            Arc::new(payloads),
        ],
    )?)
}

/// Returns dead letters of the records of a source that did not decode.
pub(crate) fn of_records(step: &str, now: Timestamp, rejected: &[RejectedRecord]) -> Result<RecordBatch, Error> {
    let letters = rejected.iter().map(|record| DeadLetter {
        position: Some(&record.position),
        error: &record.error,
        payload: Some(&record.payload),
    });
    dead_letters(step, now, letters)
}

/// Returns one row as a JSON object without a line end, or as plain text if JSON cannot express a type of it.
pub(crate) fn row_as_json(row: &RecordBatch) -> Result<Vec<u8>, Error> {
    let mut writer = arrow::json::LineDelimitedWriter::new(Vec::new());
    let written = writer.write(row).and_then(|()| writer.finish());
    match written {
        Ok(()) => {
            let mut bytes = writer.into_inner();
            while bytes.last() == Some(&b'\n') {
                bytes.pop();
            }
            Ok(bytes)
        }
        Err(_) => Ok(arrow::util::pretty::pretty_format_batches(std::slice::from_ref(row))?
            .to_string()
            .into_bytes()),
    }
}
