//! Decoding and encoding of JSON records, and the errors of records that are rejected.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};
use proptest::prelude::*;

use crate::format::test_records::{all_types, encode, flat, outcomes, spec};

#[track_caller]
fn check(options: &[(&str, &str)], record: &str, expected: &str) {
    let schema = all_types();
    let spec = spec("json", options, &schema);
    let (rows, outcomes) = outcomes(&spec, &schema, &[b"{\"id\":1}", record.as_bytes(), b"{\"id\":2}"]);
    assert_eq!((outcomes[0].as_str(), outcomes[2].as_str()), ("ok", "ok"));
    let written = if outcomes[1] == "ok" {
        let spec = super::tests::spec("json", &[("json.encode.ignore-null-fields", "true")], &schema);
        encode(&spec, &rows.slice(1, 1)).trim_end().to_string()
    } else {
        outcomes[1].clone()
    };
    assert_eq!(written, expected, "{record}");
}

#[test]
fn every_type_survives_the_round_trip() {
    let record = r#"{"id":-9223372036854775808,"small":-128,"name":"a \"b\" \\ \n é 😀","price":12345678.90,"ratio":1.5e-7,"ok":true,"at":"2024-01-01 00:00:00.123","day":"0001-01-01","data":"AAEC/w==","place":{"city":"Łódź","zip":90001},"tags":["a",null,""],"counts":{"x":1,"y":null}}"#;
    check(&[], record, record);
    check(
        &[],
        r#"{"tags":[],"counts":{},"place":{}}"#,
        r#"{"place":{},"tags":[],"counts":{}}"#,
    );
}

#[test]
fn intervals_are_numbers_of_months_and_milliseconds() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("m", crate::sql_type::year_month(), true),
        Field::new("d", crate::sql_type::day_time(), true),
    ]));
    let spec = spec("json", &[], &schema);
    let records: [&[u8]; 5] = [
        br#"{"m":-14,"d":1047845678}"#,
        br#"{"m":"+1-06","d":"-0 01:30:00.000"}"#,
        br#"{"m":"7","d":null}"#,
        br#"{"m":2147483648,"d":1}"#,
        br#"{"m":1,"d":true}"#,
    ];
    let (rows, outcomes) = outcomes(&spec, &schema, &records);
    assert_eq!(
        encode(&spec, &rows),
        concat!(
            "{\"m\":-14,\"d\":1047845678}\n",
            "{\"m\":18,\"d\":-5400000}\n",
            "{\"m\":7,\"d\":null}\n"
        )
    );
    assert_eq!(outcomes[..3], ["ok", "ok", "ok"]);
    assert!(
        outcomes[3].contains("an INTERVAL: a number of months"),
        "{}",
        outcomes[3]
    );
    assert!(outcomes[4].contains("INTERVAL DAY TO SECOND"), "{}", outcomes[4]);
}

#[test]
fn multisets_are_objects_of_counts() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![Field::new(
        "m",
        crate::multiset::of(DataType::Utf8),
        true,
    )]));
    let spec = spec("json", &[], &schema);
    let records: [&[u8]; 5] = [
        br#"{"m":{"b":1,"a":2}}"#,
        br#"{"m":null}"#,
        br#"{"m":{}}"#,
        br#"{"m":{"a":0}}"#,
        br#"{"m":{"a":2147483647,"b":1}}"#,
    ];
    let (rows, outcomes) = outcomes(&spec, &schema, &records);
    assert_eq!(
        encode(&spec, &rows),
        "{\"m\":{\"a\":2,\"b\":1}}\n{\"m\":null}\n{\"m\":{}}\n"
    );
    assert!(outcomes[3].contains("has an element 0 times"), "{}", outcomes[3]);
    assert!(
        outcomes[4].contains("more than 2,147,483,647 elements"),
        "{}",
        outcomes[4]
    );
}

#[test]
fn values_are_converted_as_in_flink() {
    check(
        &[],
        r#" { "id" : "42" , "small" : 1.0, "ratio": "2.5", "ok": "TRUE" } "#,
        r#"{"id":42,"small":1,"ratio":2.5,"ok":true}"#,
    );
    check(&[], r#"{"name":12}"#, r#"{"name":"12"}"#);
    check(&[], r#"{"name":{"a":[1, 2]}}"#, r#"{"name":"{\"a\":[1, 2]}"}"#);
    check(&[], r#"{"price":"1.005"}"#, r#"{"price":1.01}"#);
    check(&[], r#"{"price":1e3}"#, r#"{"price":1000.00}"#);
    check(&[], r#"{"at":1704067200123}"#, r#"{"at":"2024-01-01 00:00:00.123"}"#);
    check(
        &[("json.timestamp-format.number", "s")],
        r#"{"at":1704067200}"#,
        r#"{"at":"2024-01-01 00:00:00"}"#,
    );
    check(
        &[],
        r#"{"at":"2024-01-01T00:00:00Z"}"#,
        r#"{"at":"2024-01-01 00:00:00"}"#,
    );
    check(
        &[],
        r#"{"id":1,"id":7,"tags":["x"],"tags":[]}"#,
        r#"{"id":7,"tags":[]}"#,
    );
    check(
        &[],
        r#"{"counts":{"x":1,"y":2,"x":null,"y":3,"z":0}}"#,
        r#"{"counts":{"x":null,"y":3,"z":0}}"#,
    );
    check(&[], r#"{"unknown":{"deep":[[{"x":"}"}]]},"id":3}"#, r#"{"id":3}"#);
    check(
        &[],
        r#"{"name":"\u00e9\ud83d\ude00\ud800\/"}"#,
        "{\"name\":\"é😀\u{fffd}/\"}",
    );
    check(&[], "", "skipped");
    check(&[], "  ", "skipped");
}

/// In quotes or not, all digits count.
#[test]
fn whole_numbers_with_a_point_or_an_exponent_keep_every_digit() {
    for (number, id, price) in [
        ("9007199254740993.0", Some("9007199254740993"), None),
        ("-9007199254740993.000", Some("-9007199254740993"), None),
        ("9223372036854775807.0", Some("9223372036854775807"), None),
        ("-9.223372036854775808e18", Some("-9223372036854775808"), None),
        ("9223372036854775808.0", None, None),
        ("-9223372036854775809e0", None, None),
        ("1e18", Some("1000000000000000000"), None),
        ("1e19", None, None),
        ("1.0000000000000000001", None, Some("1.00")),
        ("1.5", None, Some("1.50")),
        ("12345678.985", None, Some("12345678.99")),
        (
            "99999999.994999999999999999999999999999999999999",
            None,
            Some("99999999.99"),
        ),
        ("99999999.995", None, None),
        ("10e-1", Some("1"), Some("1.00")),
        ("1e-1", None, Some("0.10")),
        ("0.00012e4", None, Some("1.20")),
        ("0.0012e4", Some("12"), Some("12.00")),
        ("0e400", Some("0"), Some("0.00")),
        ("-0.0", Some("0"), Some("0.00")),
        ("1e-400", None, Some("0.00")),
        ("1e400", None, None),
        ("1e99999999999", None, None),
        ("170141183460469231731687303715884105727.5", None, None),
        ("0", Some("0"), Some("0.00")),
        ("-0", Some("0"), Some("0.00")),
        ("-7", Some("-7"), Some("-7.00")),
        ("123456789012345678", Some("123456789012345678"), None),
        ("-1234567890123456789", Some("-1234567890123456789"), None),
        ("9223372036854775807", Some("9223372036854775807"), None),
        ("9223372036854775808", None, None),
    ] {
        for written in [number.to_string(), format!("\"{number}\"")] {
            for (column, a_type, value) in [("id", "a BIGINT", id), ("price", "a DECIMAL(10, 2)", price)] {
                let expected = match value {
                    Some(value) => format!("{{\"{column}\":{value}}}"),
                    None => format!("column `{column}`: `{number}` is not {a_type}"),
                };
                check(&[], &format!("{{\"{column}\":{written}}}"), &expected);
            }
        }
    }
    for wrong in [
        "", ".", "1.2.0", "e5", "1e", "1e1.0", "1.x", "0x1.0", "+-1.0", "inf", "NaN",
    ] {
        check(
            &[],
            &format!(r#"{{"id":"{wrong}"}}"#),
            &format!("column `id`: `{wrong}` is not a BIGINT"),
        );
    }
}

#[test]
fn fields_are_found_whatever_the_fields_of_the_record_before() {
    let schema = all_types();
    let spec = spec("json", &[], &schema);
    let records = [
        r#"{"id":1,"na\u006de":"a"}"#,
        r#"{"id":2,"name":"b"}"#,
        r#"{"name":"c","id":3}"#,
        r#"{"id\"":0,"id":4,"name":"d"}"#,
        r#"{"id"":0,"id":5}"#,
        r#"{"id\"":0,"id":6,"ide":7}"#,
        r#"{"ids":0,"id":7,"id":8}"#,
        r#"{"id":9"#,
        r#"{"id" : 10}"#,
    ];
    let records = records.map(str::as_bytes);
    let (rows, outcomes) = outcomes(&spec, &schema, &records);
    let written: Vec<String> = (0..rows.num_rows())
        .map(|row| {
            let spec = super::tests::spec("json", &[("json.encode.ignore-null-fields", "true")], &schema);
            encode(&spec, &rows.slice(row, 1)).trim_end().to_string()
        })
        .collect();
    let written: Vec<&str> = written.iter().map(String::as_str).collect();
    assert_eq!(
        written,
        [
            r#"{"id":1,"name":"a"}"#,
            r#"{"id":2,"name":"b"}"#,
            r#"{"id":3,"name":"c"}"#,
            r#"{"id":4,"name":"d"}"#,
            r#"{"id":6}"#,
            r#"{"id":8}"#,
            r#"{"id":10}"#,
        ]
    );
    assert_eq!(outcomes[4], r#"not JSON: expected `:` at byte 5, found `\"`"#);
    assert_eq!(outcomes[7], "not JSON: expected `,` or `}` at byte 7, found the end");
}

#[test]
fn bad_records_are_refused_with_the_reason() {
    for (record, expected) in [
        ("not json", "not JSON: expected a JSON object at byte 0, found `n`"),
        ("[1]", "not JSON: expected a JSON object at byte 0, found `[`"),
        ("null", "not JSON: expected a JSON object at byte 0, found `n`"),
        ("{", "not JSON: expected `\"` at byte 1, found the end"),
        (r#"{"id"}"#, "not JSON: expected `:` at byte 5, found `}`"),
        (r#"{"id":1"#, "not JSON: expected `,` or `}` at byte 7, found the end"),
        (
            r#"{"id":1} x"#,
            "not JSON: expected the end of the record at byte 9, found `x`",
        ),
        (
            r#"{"id":1}{"id":2}"#,
            "not JSON: expected the end of the record at byte 8, found `{`",
        ),
        (
            r#"{"id":NaN}"#,
            "column `id`: not JSON: expected a value at byte 6, found `N`",
        ),
        (
            r#"{"id":01}"#,
            "column `id`: not JSON: expected no digit after a leading zero at byte 7, found `1`",
        ),
        (
            r#"{"id":9223372036854775808}"#,
            "column `id`: `9223372036854775808` is not a BIGINT",
        ),
        (r#"{"id":1.5}"#, "column `id`: `1.5` is not a BIGINT"),
        (r#"{"small":128}"#, "column `small`: `128` is not a TINYINT"),
        (
            r#"{"ratio":1e999}"#,
            "column `ratio`: `1e999` is not within the range of a DOUBLE",
        ),
        (
            r#"{"price":123456789.00}"#,
            "column `price`: `123456789.00` is not a DECIMAL(10, 2)",
        ),
        (
            r#"{"id":true}"#,
            "column `id`: `true` is not a value for the type BIGINT",
        ),
        (r#"{"ok":1}"#, "column `ok`: `1` is not a value for the type BOOLEAN"),
        (
            r#"{"at":"yesterday"}"#,
            "column `at`: `yesterday` is not a TIMESTAMP like `2024-12-31 23:59:59.123`",
        ),
        (r#"{"place":{"zip":"x"}}"#, "column `place.zip`: `x` is not an INT"),
        (r#"{"place":[1]}"#, "column `place`: `[1]` is not an object"),
        (r#"{"tags":{"a":1}}"#, "column `tags`: `{\"a\":1}` is not an array"),
        (r#"{"data":"*"}"#, "column `data`: `*` is not binary data in base64"),
        (r#"{"data":"AQJ"}"#, "column `data`: `AQJ` is not binary data in base64"),
        (
            r#"{"data":"AR=="}"#,
            "column `data`: `AR==` is not binary data in base64",
        ),
        (
            r#"{"data":"AQ==AQ=="}"#,
            "column `data`: `AQ==AQ==` is not binary data in base64",
        ),
        (
            r#"{"data":"+_8="}"#,
            "column `data`: `+_8=` is not binary data in base64",
        ),
        (
            "{\"name\":\"a\nb\"}",
            "column `name`: not JSON: expected a string without raw control characters at byte 10, found `\\n`",
        ),
        (
            r#"{"name":"\x"}"#,
            "column `name`: not JSON: expected one of the escapes \\\" \\\\ \\/ \\b \\f \\n \\r \\t \\u at byte 10, found `x`",
        ),
    ] {
        check(&[], record, expected);
    }
}

#[test]
fn ignored_errors_null_the_field_or_skip_the_record() {
    let ignore = &[("json.ignore-parse-errors", "true")];
    check(ignore, r#"{"id":"x","name":"kept","tags":[1,{"#, "skipped");
    check(ignore, r#"{"id":"x","name":"kept","small":1000}"#, r#"{"name":"kept"}"#);
    check(ignore, "garbage", "skipped");
    let schema: SchemaRef = Arc::new(all_types().project(&[0, 1]).unwrap());
    let strict = spec("json", &[("json.fail-on-missing-field", "true")], &schema);
    let (_, outcomes) = outcomes(&strict, &schema, &[br#"{"id":1}"#, br#"{"id":1,"small":null}"#]);
    assert_eq!(outcomes, ["column `small`: is missing", "ok"]);
}

#[test]
fn invalid_utf8_and_deep_nesting_cost_only_their_record() {
    let schema = all_types();
    let spec = spec("json", &[], &schema);
    let deep = format!("{{\"x\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let big = format!("{{\"name\":\"{}\"}}", "x".repeat(10 << 20));
    let records: &[&[u8]] = &[
        b"{\"id\":1}",
        b"{\"name\":\"\xff\"}",
        deep.as_bytes(),
        big.as_bytes(),
        b"\xc3",
        b"\xa9{}",
    ];
    let (rows, outcomes) = outcomes(&spec, &schema, records);
    assert_eq!(outcomes[0], "ok");
    assert_eq!(outcomes[1], "not UTF-8 text: the byte at 9 is wrong");
    assert_eq!(outcomes[2], "is nested deeper than 512 levels");
    assert_eq!(outcomes[3], "ok");
    assert_eq!(outcomes[4], "not UTF-8 text: the byte at 0 is wrong");
    assert_eq!(outcomes[5], "not UTF-8 text: the byte at 0 is wrong");
    assert_eq!(rows.num_rows(), 2);
}

#[test]
fn a_missing_not_null_column_rejects_the_record() {
    let schema: SchemaRef = Arc::new(Schema::new(vec![
        Field::new("id", DataType::Int64, false),
        Field::new("name", DataType::Utf8, true),
    ]));
    let (_, outcomes) = outcomes(
        &spec("json", &[], &schema),
        &schema,
        &[b"{\"name\":\"x\"}", b"{\"id\":null}", b"{\"id\":1}"],
    );
    assert_eq!(
        outcomes[0],
        "column `id`: is NOT NULL, but the record has no value for it"
    );
    assert_eq!(outcomes[1], outcomes[0]);
    assert_eq!(outcomes[2], "ok");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic_a_decoder(records in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..64), 0..20)) {
        for format in ["json", "csv", "raw"] {
            let schema = if format == "raw" { Arc::new(all_types().project(&[2]).unwrap()) } else { flat() };
            let records: Vec<&[u8]> = records.iter().map(Vec::as_slice).collect();
            outcomes(&spec(format, &[], &schema), &schema, &records);
        }
    }

    #[test]
    fn no_mutated_json_panics(at in 0..300usize, byte in any::<u8>(), cut in 0..300usize) {
        let mut record = r#"{"id":-92233,"small":-128,"name":"a \"b\" \\ \n \u00e9","price":12345678.90,"ratio":1.5e-7,"ok":true,"at":"2024-01-01 00:00:00.123","day":"0001-01-01","data":"AAEC/w==","place":{"city":"x","zip":90001},"tags":["a",null,""],"counts":{"x":1,"y":null}}"#.as_bytes().to_vec();
        let index = at % record.len();
        record[index] = byte;
        record.truncate(cut.max(1));
        let schema = all_types();
        for ignore in ["true", "false"] {
            let (_, outcomes) = outcomes(&spec("json", &[("json.ignore-parse-errors", ignore)], &schema), &schema, &[&record, b"{\"id\":1}"]);
            assert_eq!(outcomes[1], "ok");
        }
    }
}
