//! Envelopes, and the changes that they are decoded to and encoded from.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow_array::{ArrayRef, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, FieldRef, Schema, SchemaRef};

use crate::changelog::Kinds;
use crate::format::{EncodedRecords, FormatSpec, Framing, Records, formats};
use crate::{RowKind, SourceFields, TableDefinition, print};

fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]))
}

fn spec(options: &[(&str, &str)], primary_key: &[&str]) -> FormatSpec {
    let options = options.iter().chain(&[("format", "debezium-json")]);
    let table = TableDefinition {
        name: "t".to_string(),
        schema: schema(),
        metadata: Vec::new(),
        options: options
            .map(|(name, value)| ((*name).to_string(), (*value).to_string()))
            .collect::<BTreeMap<_, _>>(),
        partitioned_by: Vec::new(),
        primary_key: primary_key.iter().map(|name| (*name).to_string()).collect(),
    };
    FormatSpec::of_value(&table).expect("a known format")
}

/// Decodes records. Returns the rows with their kinds and records, or the error of a rejected record; skipped ones are
/// left out.
fn decode(spec: &FormatSpec, columns: &[usize], metadata: &[(String, FieldRef)], records: &[&str]) -> Vec<String> {
    let fields = Arc::new(SourceFields::new("t", &schema()));
    let mut decoder = spec
        .tracked_decoder(&schema(), columns, metadata, &fields)
        .expect("a decoder");
    let (mut data, mut ranges) = (Vec::new(), Vec::new());
    for record in records {
        ranges.push((data.len(), data.len() + record.len()));
        data.extend_from_slice(record.as_bytes());
    }
    let records = Records {
        data: &data,
        ranges: &ranges,
    };
    let decoded = decoder.decode(records).expect("records never fail as a whole");
    assert_eq!(decoded.rows.schema(), decoder.schema());
    let kinds = decoded.kinds.expect("changes have kinds");
    let kinds = Kinds::new(&kinds).expect("known kinds");
    let of_rows = decoded.records.expect("changes list their records");
    let mut found: Vec<(usize, String)> = (0..decoded.rows.num_rows())
        .map(|row| {
            let mut line = String::new();
            print::row::append(&mut line, kinds.kind(row), decoded.rows.columns(), row);
            (of_rows.value(row) as usize, line)
        })
        .collect();
    found.extend(
        decoded
            .rejected
            .into_iter()
            .map(|rejection| (rejection.record, rejection.error)),
    );
    found.sort_by_key(|(record, _)| *record);
    found
        .into_iter()
        .map(|(record, line)| format!("{record}: {line}"))
        .collect()
}

#[track_caller]
fn check(options: &[(&str, &str)], records: &[&str], expected: &[&str]) {
    assert_eq!(decode(&spec(options, &["id"]), &[0, 1], &[], records), expected);
}

#[test]
fn envelopes_become_changes() {
    check(
        &[],
        &[
            r#"{"before":null,"after":{"id":1,"name":"a"},"op":"r","ts_ms":1}"#,
            r#"{"op":"c","after":{"id":2,"name":null},"source":{"db":"x"}}"#,
            r#"{"before":{"id":1,"name":"a"},"after":{"id":1,"name":"b"},"op":"u"}"#,
            r#"{"before":{"id":2},"after":null,"op":"d"}"#,
        ],
        &[
            "0: +I[1, a]",
            "1: +I[2, null]",
            "2: -U[1, a]",
            "2: +U[1, b]",
            "3: -D[2, null]",
        ],
    );
    // Inserts alone, and nothing at all.
    check(&[], &[r#"{"after":{"id":1},"op":"c"}"#], &["0: +I[1, null]"]);
    check(&[], &[], &[]);
}

#[test]
fn an_update_of_the_key_is_a_removal_and_an_insertion() {
    let update = [r#"{"before":{"id":1,"name":"a"},"after":{"id":2,"name":"a"},"op":"u"}"#];
    check(&[], &update, &["0: -D[1, a]", "0: +I[2, a]"]);
    // Without a key, or if the key is not delivered, no operator distinguishes the rows by it.
    assert_eq!(
        decode(&spec(&[], &[]), &[0, 1], &[], &update),
        ["0: -U[1, a]", "0: +U[2, a]"]
    );
    assert_eq!(
        decode(&spec(&[], &["id"]), &[1], &[], &update),
        ["0: -U[a]", "0: +U[a]"]
    );
}

#[test]
fn records_that_are_no_changes_are_rejected_or_skipped() {
    let records = [
        r#"{"after":{"id":1,"name":"a"},"op":"c"}"#,
        r#"{"id":1,"name":"a"}"#,
        r#"{"after":{"id":1},"op":"t"}"#,
        r#"{"before":null,"after":{"id":1},"op":"u"}"#,
        r#"{"before":{"id":1},"op":"u"}"#,
        r#"{"before":null,"op":"d"}"#,
        r#"{"after":null,"op":"c"}"#,
        r#"{"after":{"id":"x"},"op":"c"}"#,
        r#"{"after":{"name":"a"},"op":"c"}"#,
        "{",
        "",
        r#"{"after":{"id":2,"name":"b"},"op":"c"}"#,
    ];
    check(
        &[],
        &records,
        &[
            "0: +I[1, a]",
            "1: the record has no `op`, so it is not a change of Debezium; if it has the fields `schema` and `payload`, \
             set 'debezium-json.schema-include'",
            "2: `op` is `t`, not one of c, r, u and d",
            "3: the record of op `u` has no `before`; with Debezium's connector of PostgreSQL, set the REPLICA IDENTITY \
             of the table to FULL",
            "4: the record of op `u` has no `after`",
            "5: the record of op `d` has no `before`; with Debezium's connector of PostgreSQL, set the REPLICA IDENTITY \
             of the table to FULL",
            "6: the record of op `c` has no `after`",
            "7: column `after.id`: `x` is not a BIGINT",
            "8: column `after.id`: is NOT NULL, but the record has no value for it",
            "9: not JSON: expected `\"` at byte 1, found the end",
            "11: +I[2, b]",
        ],
    );
    check(
        &[("debezium-json.ignore-parse-errors", "true")],
        &records,
        &["0: +I[1, a]", "11: +I[2, b]"],
    );
    check(
        &[("debezium-json.ignore-parse-errors", "true")],
        &[
            r#"{"after":{"id":3,"name":"c"},"op":"c","source":}"#,
            r#"{"after":{"id":4,"name":{"x":1}},"op":"c"}"#,
        ],
        &[r#"1: +I[4, {"x":1}]"#],
    );
}

#[test]
fn envelopes_may_be_below_their_schema() {
    let included = [("debezium-json.schema-include", "true")];
    let record = r#"{"schema":{"type":"struct"},"payload":{"before":{"id":1},"after":{"id":1,"name":"b"},"op":"u"}}"#;
    check(&included, &[record], &["0: -U[1, null]", "0: +U[1, b]"]);
    check(
        &included,
        &[r#"{"schema":{},"payload":null}"#],
        &[
            "0: the record has no `op`, so it is not a change of Debezium; if it has the fields `schema` and `payload`, \
           set 'debezium-json.schema-include'",
        ],
    );
}

#[test]
fn metadata_is_that_of_the_record_of_each_row() {
    let format = formats()
        .iter()
        .find(|format| format.name == "debezium-json")
        .expect("known");
    let metadata: Vec<(String, FieldRef)> = format
        .metadata
        .iter()
        .map(|metadata| {
            let field = Field::new(format!("m_{}", metadata.key), (metadata.data_type)(), true);
            (metadata.key.to_string(), Arc::new(field))
        })
        .collect();
    let source =
        r#""ts_ms":1589362344455,"source":{"ts_ms":1589362330904,"db":"d","schema":"s","table":"t","lsn":7,"x":null}"#;
    let update = format!(r#"{{"before":{{"id":1}},"after":{{"id":1,"name":"b"}},"op":"u",{source}}}"#);
    let bare = r#"{"after":{"id":2},"op":"c"}"#;
    let expected = "null, 2020-05-13T09:32:24.455Z, 2020-05-13T09:32:10.904Z, d, s, t, \
                    {ts_ms=1589362330904, db=d, schema=s, table=t, lsn=7, x=null}]";
    let found = decode(&spec(&[], &["id"]), &[0], &metadata, &[bare, &update]);
    let rows = [
        "0: +I[2, null, null, null, null, null, null, null]".to_string(),
        format!("1: -U[1, {expected}"),
        format!("1: +U[1, {expected}"),
    ];
    assert_eq!(found, rows);
    let with_schema = format!(r#"{{"payload":{update},"schema":{{"name":"e"}}}}"#);
    let included = spec(&[("debezium-json.schema-include", "true")], &["id"]);
    let found = decode(&included, &[], &metadata[..2], &[&with_schema]);
    let row = r#"[{"name":"e"}, 2020-05-13T09:32:24.455Z]"#;
    assert_eq!(found, [format!("0: -U{row}"), format!("0: +U{row}")]);
}

fn encode(options: &[(&str, &str)], kinds: &[RowKind], framing: Framing) -> Vec<String> {
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(1..=kinds.len() as i64)),
        Arc::new(StringArray::from_iter(
            (0..kinds.len()).map(|row| (row % 2 == 0).then_some("a")),
        )),
    ];
    let rows = RecordBatch::try_new(schema(), columns).expect("two columns");
    let kinds = Int8Array::from_iter_values(kinds.iter().map(|kind| *kind as i8));
    let mut encoder = spec(options, &[]).encoder(&schema(), framing).expect("an encoder");
    let mut out = EncodedRecords::default();
    encoder
        .encode_changes(&rows, Kinds::new(&kinds).expect("known kinds"), &mut out)
        .expect("plain values");
    out.iter()
        .map(|record| String::from_utf8_lossy(record).into_owned())
        .collect()
}

#[test]
fn changes_are_written_as_records_of_one_side() {
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let kinds = [Insert, UpdateBefore, UpdateAfter, Delete];
    assert_eq!(
        encode(&[], &kinds, Framing::Bare),
        [
            r#"{"before":null,"after":{"id":1,"name":"a"},"op":"c"}"#,
            r#"{"before":{"id":2,"name":null},"after":null,"op":"d"}"#,
            r#"{"before":null,"after":{"id":3,"name":"a"},"op":"c"}"#,
            r#"{"before":{"id":4,"name":null},"after":null,"op":"d"}"#,
        ]
    );
    let short = [("debezium-json.encode.ignore-null-fields", "true")];
    assert_eq!(
        encode(&short, &[Insert, Delete], Framing::Lines),
        [
            "{\"after\":{\"id\":1,\"name\":\"a\"},\"op\":\"c\"}\n",
            "{\"before\":{\"id\":2},\"op\":\"d\"}\n"
        ]
    );
    // Changes that are written are read as the same changes; an update is a deletion and an insertion.
    let written = encode(&[], &kinds, Framing::Bare);
    let written: Vec<&str> = written.iter().map(String::as_str).collect();
    check(
        &[],
        &written,
        &["0: +I[1, a]", "1: -D[2, null]", "2: +I[3, a]", "3: -D[4, null]"],
    );
}

#[test]
fn records_with_their_schema_are_not_written() {
    let spec = spec(&[("debezium-json.schema-include", "true")], &[]);
    let error = spec
        .encoder(&schema(), Framing::Bare)
        .err()
        .expect("refused")
        .to_string();
    assert!(error.contains("without their schema"), "{error}");
}

#[test]
fn formats_of_inserts_refuse_other_changes() {
    let mut json = crate::format::test_records::spec("json", &[], &schema())
        .encoder(&schema(), Framing::Bare)
        .expect("an encoder");
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1])),
        Arc::new(StringArray::from(vec!["a"])),
    ];
    let rows = RecordBatch::try_new(schema(), columns).expect("two columns");
    let mut out = EncodedRecords::default();
    let (insert, delete) = (Int8Array::from(vec![1]), Int8Array::from(vec![-1]));
    let mut encode = |kinds: &Int8Array| json.encode_changes(&rows, Kinds::new(kinds).expect("known"), &mut out);
    encode(&insert).expect("an insert");
    let error = encode(&delete).expect_err("a deletion").to_string();
    assert!(
        error.contains("inserted rows only") && error.contains("upsert-kafka"),
        "{error}"
    );
    assert_eq!(out.len(), 1);
}
