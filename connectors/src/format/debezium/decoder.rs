//! Decoding of Debezium's envelopes to changes.
//!
//! An envelope is decoded as a JSON row whose columns `before` and `after` are rows of the table. Its rows are then
//! selected from both, column by column.

#![warn(clippy::indexing_slicing, clippy::cast_possible_truncation)]

use std::cmp::Ordering;

use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, Int8Array, RecordBatch, RecordBatchOptions, StringArray, StructArray, UInt32Array};
use arrow_ord::ord::{DynComparator, make_comparator};
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, SchemaRef, SortOptions};
use arrow_select::interleave::interleave;
use arrow_select::take::take;

use super::metadata::{EnvelopeField, MetadataColumn};
use crate::format::json::decoder::JsonDecoder;
use crate::format::parse_error_counter::ParseErrorCounter;
use crate::format::{Decoded, Decoder, Records, Rejection};
use crate::options::Options;
use crate::{Error, RowKind};

/// Positions of the columns of an envelope; those of metadata follow.
const BEFORE: usize = 0;
const AFTER: usize = 1;
const OP: usize = 2;

/// Decodes changes.
pub(crate) struct DebeziumDecoder {
    json: JsonDecoder,
    /// Columns of the table, then metadata columns.
    schema: SchemaRef,
    columns: usize,
    metadata: Vec<MetadataColumn>,
    /// Fields of the payload that metadata is read from, after `op`.
    fields: Vec<EnvelopeField>,
    /// True if the envelope is below `payload`.
    has_schema: bool,
    /// Indices of the primary key's columns; empty unless all are delivered.
    key: Vec<usize>,
    /// `None` unless parse errors are ignored.
    ignored_errors: Option<ParseErrorCounter>,
}

impl DebeziumDecoder {
    /// Creates a decoder of the columns of `schema` and of these metadata columns.
    pub(crate) fn new(
        schema: &SchemaRef,
        metadata: &[(String, FieldRef)],
        options: &Options<'_>,
        primary_key: &[String],
    ) -> Result<Self, Error> {
        let has_schema = options.boolean("debezium-json.schema-include")?.unwrap_or(false);
        let columns = metadata.iter().map(|(key, field)| MetadataColumn::new(key, field));
        let columns = columns.collect::<Result<Vec<_>, Error>>()?;
        let fields = [EnvelopeField::Time, EnvelopeField::Source];
        let fields: Vec<EnvelopeField> = fields
            .into_iter()
            .filter(|field| columns.iter().any(|column| column.field() == *field))
            .collect();
        let row = DataType::Struct(schema.fields().clone());
        let mut payload = vec![
            Field::new("before", row.clone(), true),
            Field::new("after", row, true),
            Field::new("op", DataType::Utf8, true),
        ];
        payload.extend(fields.iter().map(|field| field.field()));
        let envelope = match has_schema {
            false => Schema::new(payload),
            true => {
                let mut outer = vec![Field::new("payload", DataType::Struct(payload.into()), true)];
                if columns.iter().any(|column| column.field() == EnvelopeField::Schema) {
                    outer.push(EnvelopeField::Schema.field());
                }
                Schema::new(outer)
            }
        };
        let delivered = schema.fields().iter().chain(metadata.iter().map(|(_, field)| field));
        let key: Option<Vec<usize>> = primary_key.iter().map(|name| schema.index_of(name).ok()).collect();
        Ok(Self {
            json: JsonDecoder::new(&SchemaRef::new(envelope), options, "debezium-json", None)?,
            schema: SchemaRef::new(Schema::new(delivered.cloned().collect::<Fields>())),
            columns: schema.fields().len(),
            metadata: columns,
            fields,
            has_schema,
            key: key.unwrap_or_default(),
            ignored_errors: ParseErrorCounter::new(options, "debezium-json.ignore-parse-errors")?,
        })
    }

    /// Returns the metadata columns of envelopes.
    fn metadata(&self, rows: &RecordBatch, payload: &[ArrayRef]) -> Result<Vec<ArrayRef>, Error> {
        let columns = self.metadata.iter().map(|column| {
            let field = match column.field() {
                EnvelopeField::Schema => rows.columns().get(1).filter(|_| self.has_schema),
                wanted => {
                    let at = self.fields.iter().position(|field| *field == wanted);
                    at.and_then(|at| payload.get(OP + 1 + at))
                }
            };
            column.values(field, rows.num_rows())
        });
        columns.collect()
    }
}

impl Decoder for DebeziumDecoder {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn decode(&mut self, records: Records<'_>) -> Result<Decoded, Error> {
        let decoded = self.json.decode(records)?;
        let accepted = decoded.accepted(records.ranges.len());
        let is_accepted = |record: &usize| accepted.as_ref().is_none_or(|accepted| accepted.value(*record));
        let payload: &[ArrayRef] = match self.has_schema {
            true => decoded.rows.column(0).as_struct().columns(),
            false => decoded.rows.columns(),
        };
        let [before, after, op, ..] = payload else {
            unreachable!("the schema of an envelope begins with its rows and `op`");
        };
        let envelopes = Envelopes {
            before: before.as_struct(),
            after: after.as_struct(),
            op: op.as_string(),
        };
        let keys = envelopes.key_comparators(&self.key)?;
        let (mut rejected, mut skipped) = (decoded.rejected, decoded.skipped);
        let mut changes = Changes::default();
        for (row, record) in (0..records.ranges.len()).filter(is_accepted).enumerate() {
            match envelopes.change(row) {
                Ok(Change::Insert) => changes.push(record, row, RowKind::Insert),
                Ok(Change::Delete) => changes.push(record, row, RowKind::Delete),
                Ok(Change::Update) => {
                    // The rows of an update have the same key; otherwise a row was removed and another one added.
                    let (before, after) = match keys.iter().all(|compare| compare(row, row) == Ordering::Equal) {
                        true => (RowKind::UpdateBefore, RowKind::UpdateAfter),
                        false => (RowKind::Delete, RowKind::Insert),
                    };
                    changes.push(record, row, before);
                    changes.push(record, row, after);
                }
                Err(problem) => match &self.ignored_errors {
                    Some(counter) => {
                        counter.records.increment(1);
                        skipped.push(record);
                    }
                    None => rejected.push(Rejection { record, error: problem }),
                },
            }
        }
        rejected.sort_by_key(|rejection| rejection.record);
        skipped.sort_unstable();
        let mut columns = Vec::with_capacity(self.schema.fields().len());
        for column in 0..self.columns {
            columns.push(changes.rows(envelopes.before.column(column), envelopes.after.column(column))?);
        }
        let envelope_rows = UInt32Array::from_iter_values(changes.selected.iter().map(|(_, row)| index(*row)));
        for column in self.metadata(&decoded.rows, payload)? {
            columns.push(take(&column, &envelope_rows, None)?);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(changes.kinds.len()));
        Ok(Decoded {
            rows: RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?,
            kinds: Some(Int8Array::from(changes.kinds)),
            records: Some(UInt32Array::from(changes.records)),
            rejected,
            skipped,
        })
    }
}

/// Decoded envelopes.
struct Envelopes<'a> {
    before: &'a StructArray,
    after: &'a StructArray,
    op: &'a StringArray,
}

/// The change of an envelope.
enum Change {
    Insert,
    Update,
    Delete,
}

impl Envelopes<'_> {
    /// Returns the change of an envelope, or the reason why it is none.
    fn change(&self, row: usize) -> Result<Change, String> {
        let (change, needs_before, needs_after) = match self.op.is_valid(row).then(|| self.op.value(row)) {
            Some("c" | "r") => (Change::Insert, false, true),
            Some("u") => (Change::Update, true, true),
            Some("d") => (Change::Delete, true, false),
            Some(other) => return Err(format!("`op` is `{other}`, not one of c, r, u and d")),
            None => {
                return Err(
                    "the record has no `op`, so it is not a change of Debezium; if it has the fields `schema` \
                            and `payload`, set 'debezium-json.schema-include'"
                        .into(),
                );
            }
        };
        if needs_before && self.before.is_null(row) {
            return Err(format!(
                "the record of op `{}` has no `before`; with Debezium's connector of PostgreSQL, set the REPLICA \
                 IDENTITY of the table to FULL",
                self.op.value(row)
            ));
        }
        if needs_after && self.after.is_null(row) {
            return Err(format!("the record of op `{}` has no `after`", self.op.value(row)));
        }
        Ok(change)
    }

    /// Returns comparisons of the key columns before and after.
    fn key_comparators(&self, key: &[usize]) -> Result<Vec<DynComparator>, Error> {
        let has_updates = self.op.iter().any(|op| op == Some("u"));
        let compare = |column: &usize| {
            let (before, after) = (self.before.column(*column), self.after.column(*column));
            Ok(make_comparator(before, after, SortOptions::default())?)
        };
        key.iter().filter(|_| has_updates).map(compare).collect()
    }
}

/// Returns the index of a record or of its row in 32 bits.
fn index(record: usize) -> u32 {
    u32::try_from(record).expect("the ranges of 2^32 records are 64 GB")
}

/// The changes of a batch.
#[derive(Default)]
struct Changes {
    kinds: Vec<i8>,
    /// Index of the record of each change.
    records: Vec<u32>,
    /// Side of each row, [`BEFORE`] or [`AFTER`], and its index there.
    selected: Vec<(usize, usize)>,
}

impl Changes {
    fn push(&mut self, record: usize, row: usize, kind: RowKind) {
        self.kinds.push(kind as i8);
        self.records.push(index(record));
        self.selected
            .push((if kind.is_removal() { BEFORE } else { AFTER }, row));
    }

    /// Selects the cells of a column from both sides.
    fn rows(&self, before: &ArrayRef, after: &ArrayRef) -> Result<ArrayRef, Error> {
        let all_after = self.selected.len() == after.len()
            && (self.selected.iter().enumerate()).all(|(row, selected)| *selected == (AFTER, row));
        match all_after {
            true => Ok(after.clone()),
            false => Ok(interleave(&[before.as_ref(), after.as_ref()], &self.selected)?),
        }
    }
}
