//! Encoding of changes to Debezium's envelopes.

use arrow_array::RecordBatch;
use arrow_schema::SchemaRef;

use crate::Error;
use crate::changelog::Kinds;
use crate::format::json::encoder::RowObjects;
use crate::format::text_column::TextColumn;
use crate::format::{EncodedRecords, Encoder, Framing};
use crate::options::Options;

/// Encodes changes.
pub(crate) struct DebeziumEncoder {
    rows: RowObjects,
    framing: Framing,
}

impl DebeziumEncoder {
    pub(crate) fn new(schema: &SchemaRef, framing: Framing, options: &Options<'_>) -> Result<Self, Error> {
        if options.boolean("debezium-json.schema-include")?.unwrap_or(false) {
            return Err(Error::Invalid(format!(
                "table `{}`: 'debezium-json.schema-include' = 'true' is for tables that are read: records are written \
                 without their schema; remove the option, or declare a table of its own to write to",
                options.table()
            )));
        }
        Ok(Self {
            rows: RowObjects::new(schema, options, "debezium-json")?,
            framing,
        })
    }
}

impl Encoder for DebeziumEncoder {
    fn encode(&mut self, rows: &RecordBatch, out: &mut EncodedRecords) -> Result<(), Error> {
        self.encode_changes(rows, Kinds::INSERTS, out)
    }

    fn encode_changes(&mut self, rows: &RecordBatch, kinds: Kinds<'_>, out: &mut EncodedRecords) -> Result<(), Error> {
        let columns = TextColumn::all(rows)?;
        // The side of the envelope that is NULL is left out with all other NULL fields.
        let (added, removed): (&[_; 2], &[_; 2]) = match self.rows.ignores_nulls() {
            false => (
                &[r#"{"before":null,"after":"#, r#","op":"c"}"#],
                &[r#"{"before":"#, r#","after":null,"op":"d"}"#],
            ),
            true => (&[r#"{"after":"#, r#","op":"c"}"#], &[r#"{"before":"#, r#","op":"d"}"#]),
        };
        out.ends.reserve(rows.num_rows());
        for row in 0..rows.num_rows() {
            let [begin, end] = if kinds.kind(row).is_removal() { removed } else { added };
            out.data.extend_from_slice(begin.as_bytes());
            self.rows.write(&columns, row, &mut out.data)?;
            out.data.extend_from_slice(end.as_bytes());
            out.end_record(self.framing);
        }
        Ok(())
    }
}
