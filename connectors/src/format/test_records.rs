//! Tables, records and their outcomes, for tests of formats.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};

use super::{EncodedRecords, FormatSpec, Framing, Records};
use crate::TableDefinition;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

pub(super) fn all_types() -> SchemaRef {
    let entries = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", DataType::Int64, true),
    ]);
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("small", DataType::Int8, true),
        Field::new("name", DataType::Utf8, true),
        Field::new("price", DataType::Decimal128(10, 2), true),
        Field::new("ratio", DataType::Float64, true),
        Field::new("ok", DataType::Boolean, true),
        Field::new("at", timestamp(), true),
        Field::new("day", DataType::Date32, true),
        Field::new("data", DataType::Binary, true),
        Field::new(
            "place",
            DataType::Struct(
                vec![
                    Field::new("city", DataType::Utf8, true),
                    Field::new("zip", DataType::Int32, true),
                ]
                .into(),
            ),
            true,
        ),
        Field::new(
            "tags",
            DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            true,
        ),
        Field::new(
            "counts",
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false),
            true,
        ),
    ]))
}

pub(super) fn spec(format: &str, options: &[(&str, &str)], schema: &SchemaRef) -> FormatSpec {
    let mut all: BTreeMap<String, String> = options
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()))
        .collect();
    all.insert("format".to_string(), format.to_string());
    let table = TableDefinition {
        name: "t".to_string(),
        schema: schema.clone(),
        metadata: Vec::new(),
        options: all,
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
    };
    FormatSpec::of_value(&table).unwrap()
}

/// Decodes the records and says, for each, `ok`, `skipped` or the error.
pub(super) fn outcomes(spec: &FormatSpec, schema: &SchemaRef, records: &[&[u8]]) -> (RecordBatch, Vec<String>) {
    let mut data = Vec::new();
    let mut ranges = Vec::new();
    for record in records {
        ranges.push((data.len(), data.len() + record.len()));
        data.extend_from_slice(record);
    }
    let columns: Vec<usize> = (0..schema.fields().len()).collect();
    let mut decoder = spec.decoder(schema, &columns).unwrap();
    let decoded = decoder
        .decode(Records {
            data: &data,
            ranges: &ranges,
        })
        .unwrap();
    let mut outcomes = vec!["ok".to_string(); records.len()];
    for skipped in &decoded.skipped {
        outcomes[*skipped] = "skipped".to_string();
    }
    for rejection in &decoded.rejected {
        outcomes[rejection.record] = rejection.error.clone();
    }
    let accepted = outcomes.iter().filter(|outcome| *outcome == "ok").count();
    assert_eq!(decoded.rows.num_rows(), accepted);
    (decoded.rows, outcomes)
}

pub(super) fn encode(spec: &FormatSpec, rows: &RecordBatch) -> String {
    let mut out = EncodedRecords::default();
    spec.encoder(&rows.schema(), Framing::Lines)
        .unwrap()
        .encode(rows, &mut out)
        .unwrap();
    assert_eq!(out.len(), rows.num_rows());
    String::from_utf8(out.data).unwrap()
}

/// The types that CSV can write.
pub(super) fn flat() -> SchemaRef {
    Arc::new(all_types().project(&[0, 1, 2, 3, 4, 5, 6, 7, 8, 10]).unwrap())
}
