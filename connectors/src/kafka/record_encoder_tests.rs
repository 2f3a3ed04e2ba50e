//! The records of changes, without a broker.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow_schema::{DataType, Field, Schema, TimeUnit};

use super::*;
use crate::changelog::with_kinds;
use crate::kafka::{Kafka, UpsertKafka};
use crate::{Connector, MetadataColumn, Role};

fn table(connector: &str, options: &[(&str, &str)]) -> TableDefinition {
    let mut all = BTreeMap::from([
        ("connector".to_string(), connector.to_string()),
        ("topic".into(), "a".into()),
        ("properties.bootstrap.servers".into(), "127.0.0.1:1".into()),
    ]);
    let options = options.iter();
    all.extend(options.map(|(name, value)| ((*name).to_string(), (*value).to_string())));
    let time = DataType::Timestamp(TimeUnit::Microsecond, None);
    TableDefinition {
        name: "t".into(),
        schema: Arc::new(Schema::new(vec![
            Field::new("word", DataType::Utf8, true),
            Field::new("id", DataType::Int64, false),
            Field::new("at", time, true),
        ])),
        metadata: vec![MetadataColumn {
            column: "at".into(),
            key: "timestamp".into(),
            is_virtual: false,
        }],
        options: all,
        partitioned_by: Vec::new(),
        primary_key: vec!["id".into()],
    }
}

/// Returns the records of a batch of changes of the rows `(word, id)`: key, value and timestamp.
fn records(table: &TableDefinition, rows: &[(i8, Option<&str>, i64)]) -> Vec<(String, String, i64)> {
    let errors = match table.connector() {
        "kafka" => Kafka.validate(table, Role::Sink),
        _ => UpsertKafka.validate(table, Role::Sink),
    };
    assert!(errors.is_empty(), "{errors:?}");
    let options = SinkOptions::of(table).expect("valid");
    let limits = TopicLimits {
        partitions: 1,
        record_bytes_max: 1000,
    };
    let mut encoder = RecordEncoder::new(table, &options, limits, 0).expect("an encoder");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter(rows.iter().map(|(_, word, _)| *word))),
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|(_, _, id)| *id))),
        Arc::new(TimestampMicrosecondArray::from_iter_values(
            rows.iter().map(|(_, _, id)| id * 1000),
        )),
    ];
    let batch = RecordBatch::try_new(table.schema.clone(), columns).expect("three columns");
    let kinds = Int8Array::from_iter_values(rows.iter().map(|(kind, _, _)| *kind));
    encoder
        .encode(&with_kinds(&batch, kinds).expect("as many kinds"))
        .expect("plain values");
    let mut found = Vec::new();
    let text =
        |bytes: Option<&[u8]>| bytes.map_or("none".to_string(), |bytes| String::from_utf8_lossy(bytes).into_owned());
    encoder
        .each_record(|record| {
            assert_eq!(record.partition, PARTITION_UNASSIGNED);
            found.push((text(record.key), text(record.value), record.timestamp_ms));
            Ok(())
        })
        .expect("nothing fails");
    assert_eq!(found.len(), encoder.len());
    found
}

#[track_caller]
fn check(table: &TableDefinition, rows: &[(i8, Option<&str>, i64)], expected: &[(&str, &str, i64)]) {
    let found = records(table, rows);
    let found: Vec<_> = found
        .iter()
        .map(|(key, value, ms)| (key.as_str(), value.as_str(), *ms))
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn an_upsert_table_has_the_newest_versions_of_rows_and_tombstones() {
    let table = table("upsert-kafka", &[("key.format", "json"), ("value.format", "json")]);
    let rows = [
        (1, Some("a"), 1),
        (-2, Some("a"), 1),
        (2, Some("b"), 1),
        (-1, None, 2),
        (1, None, 3),
    ];
    check(
        &table,
        &rows,
        &[
            (r#"{"id":1}"#, r#"{"word":"a","id":1}"#, 1),
            (r#"{"id":1}"#, r#"{"word":"b","id":1}"#, 1),
            (r#"{"id":2}"#, "none", 0),
            (r#"{"id":3}"#, r#"{"word":null,"id":3}"#, 3),
        ],
    );
    check(
        &table,
        &[(-1, None, 2), (-1, Some("x"), 3)],
        &[(r#"{"id":2}"#, "none", 0), (r#"{"id":3}"#, "none", 0)],
    );
    check(&table, &[(-2, Some("x"), 3)], &[]);
    check(
        &table,
        &[(2, Some("x"), 3)],
        &[(r#"{"id":3}"#, r#"{"word":"x","id":3}"#, 3)],
    );
}

#[test]
fn the_value_may_lack_the_key() {
    let options = [
        ("key.format", "csv"),
        ("value.format", "csv"),
        ("value.fields-include", "EXCEPT_KEY"),
    ];
    let table = table("upsert-kafka", &options);
    check(
        &table,
        &[(1, Some("a"), 1), (-1, None, 2)],
        &[("1", "a", 1), ("2", "none", 0)],
    );
}

#[test]
fn a_debezium_table_has_all_changes() {
    let options = [("format", "debezium-json"), ("key.format", "raw"), ("key.fields", "id")];
    let table = table("kafka", &options);
    let key = |id: i64| String::from_utf8_lossy(&id.to_be_bytes()).into_owned();
    check(
        &table,
        &[
            (1, Some("a"), 1),
            (-2, Some("a"), 1),
            (2, Some("b"), 1),
            (-1, Some("b"), 1),
        ],
        &[
            (&key(1), r#"{"before":null,"after":{"word":"a","id":1},"op":"c"}"#, 1),
            (&key(1), r#"{"before":{"word":"a","id":1},"after":null,"op":"d"}"#, 1),
            (&key(1), r#"{"before":null,"after":{"word":"b","id":1},"op":"c"}"#, 1),
            (&key(1), r#"{"before":{"word":"b","id":1},"after":null,"op":"d"}"#, 1),
        ],
    );
}

#[test]
fn inserts_alone_need_no_format_of_changes() {
    let table = table("kafka", &[("format", "json")]);
    check(&table, &[(1, Some("a"), 1)], &[("none", r#"{"word":"a","id":1}"#, 1)]);
}
