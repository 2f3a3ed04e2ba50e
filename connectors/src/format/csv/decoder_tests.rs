//! Decoding and encoding of CSV lines, and the errors of lines that are rejected.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::format::csv::lines::Lines;
use crate::format::csv::syntax::Syntax;
use crate::format::test_records::{encode, flat, outcomes, spec};
use crate::format::{EncodedRecords, Framing};

fn narrow() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("b", DataType::Utf8, true),
        Field::new("c", DataType::Float64, true),
    ]))
}

#[track_caller]
fn check(options: &[(&str, &str)], line: &str, expected: &str) {
    let schema = narrow();
    let (rows, outcomes) = outcomes(
        &spec("csv", options, &schema),
        &schema,
        &[line.as_bytes(), b"", line.as_bytes()],
    );
    assert_eq!(outcomes[0], outcomes[2]);
    let written = match outcomes[0].as_str() {
        "ok" => encode(&spec("json", &[], &schema), &rows.slice(0, 1))
            .trim_end()
            .to_string(),
        other => other.to_string(),
    };
    assert_eq!(written, expected, "{line}");
}

#[test]
fn lines_become_rows() {
    check(&[], "1,x,2.5", r#"{"a":1,"b":"x","c":2.5}"#);
    check(&[], "1,x,2.5\r", r#"{"a":1,"b":"x","c":2.5}"#);
    check(&[], "1,x,2.5\r\n", r#"{"a":1,"b":"x","c":2.5}"#);
    check(&[], "1,2.5,3\n", r#"{"a":1,"b":"2.5","c":3.0}"#);
    check(&[], ",,", r#"{"a":null,"b":"","c":null}"#);
    check(&[], r#"1,"x, ""y""",2"#, r#"{"a":1,"b":"x, \"y\"","c":2.0}"#);
    check(&[], "1,\"x\ny\",2", r#"{"a":1,"b":"x\ny","c":2.0}"#);
    check(&[], r#"1,x "y" z,2"#, r#"{"a":1,"b":"x \"y\" z","c":2.0}"#);
    check(
        &[("csv.field-delimiter", ";")],
        "1;x,y;2",
        r#"{"a":1,"b":"x,y","c":2.0}"#,
    );
    check(
        &[("csv.field-delimiter", "\\t")],
        "1\tx\t2",
        r#"{"a":1,"b":"x","c":2.0}"#,
    );
    check(
        &[("csv.quote-character", "'")],
        "1,'x,y',2",
        r#"{"a":1,"b":"x,y","c":2.0}"#,
    );
    check(
        &[("csv.escape-character", "\\")],
        r"1,x\,y,2",
        r#"{"a":1,"b":"x,y","c":2.0}"#,
    );
    check(
        &[("csv.null-literal", "\\N")],
        r"\N,\N,\N",
        r#"{"a":null,"b":null,"c":null}"#,
    );
    check(
        &[("csv.null-literal", "n/a")],
        r#"1,"n/a",n/a"#,
        r#"{"a":1,"b":"n/a","c":null}"#,
    );
    check(&[("csv.allow-comments", "true")], "# 1,x,2", "skipped");
    check(
        &[("csv.disable-quote-character", "true")],
        r#"1,"x,2"#,
        r#"{"a":1,"b":"\"x","c":2.0}"#,
    );
}

#[test]
fn bad_lines_are_refused_with_the_reason() {
    check(&[], "1,x,2,3", "the line has 4 fields, but the table has 3 columns");
    check(&[], "1", "the line has 1 field, but the table has 3 columns");
    check(&[], "one,x,2", "column `a`: `one` is not an INT");
    check(&[], r#"1,"x,2"#, "the quote opened at byte 2 is never closed");
    check(
        &[],
        r#"1,"x"y,2"#,
        "`y,2` follows a closing quote at byte 5; a quote inside a quoted field is written twice",
    );
    check(
        &[],
        "1,x,1e309",
        "column `c`: `1e309` is not within the range of a DOUBLE",
    );
    check(&[], "1,x,-Infinity", r#"{"a":1,"b":"x","c":"-Infinity"}"#);
    let ignore = &[("csv.ignore-parse-errors", "true")];
    check(ignore, "one,x,2", r#"{"a":null,"b":"x","c":2.0}"#);
    check(ignore, "1,x", "skipped");
}

#[test]
fn every_type_survives_the_round_trip() {
    let schema = flat();
    let record = br#"{"id":-5,"small":7,"name":"a \"b\", c\nd","price":0.01,"ratio":-1e300,"ok":false,"at":"9999-12-31 23:59:59.999999","day":"2024-02-29","data":"AAEC","tags":["x","y"]}"#;
    let (rows, _) = outcomes(&spec("json", &[], &schema), &schema, &[record, b"{}"]);
    let csv = spec("csv", &[("csv.null-literal", "NULL")], &schema);
    let text = encode(&csv, &rows);
    let lines = csv.lines().unwrap();
    let first = lines.end(text.as_bytes(), 0).unwrap();
    let (again, outcomes) = outcomes(
        &csv,
        &schema,
        &[&text.as_bytes()[..first], text[first + 1..].trim_end().as_bytes()],
    );
    assert_eq!(outcomes, ["ok", "ok"], "{text}");
    assert_eq!(again, rows, "{text}");
}

/// Encodes a row given as JSON and decodes it again; `problem` is the error, if the row cannot be written.
#[track_caller]
fn check_round_trip(options: &[(&str, &str)], record: &str, written: &str, problem: Option<&str>) {
    let schema = Arc::new(Schema::new(vec![
        Field::new("n", DataType::Int64, true),
        Field::new("s", DataType::Utf8, true),
        Field::new(
            "at",
            DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, None),
            true,
        ),
        Field::new(
            "l",
            DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            true,
        ),
    ]));
    let (rows, read) = outcomes(&spec("json", &[], &schema), &schema, &[record.as_bytes()]);
    assert_eq!(read, ["ok"]);
    let csv = spec("csv", options, &schema);
    let mut out = EncodedRecords::default();
    let encoded = csv.encoder(&schema, Framing::Bare).unwrap().encode(&rows, &mut out);
    match (encoded, problem) {
        (Ok(()), None) => {
            assert_eq!(String::from_utf8_lossy(&out.data), written);
            let (again, outcomes) = outcomes(&csv, &schema, &[&out.data]);
            assert_eq!(outcomes, ["ok"]);
            assert_eq!(again, rows);
        }
        (Err(error), Some(problem)) => assert!(error.to_string().contains(problem), "{error}"),
        (other, _) => panic!("{other:?}: {}", String::from_utf8_lossy(&out.data)),
    }
}

#[test]
fn every_value_survives_or_is_an_error_of_its_row() {
    let row = |n: &str, s: &str, at: &str, l: &str| format!(r#"{{"n":{n},"s":{s},"at":{at},"l":{l}}}"#);
    let at = r#""2024-01-02 03:04:05""#;
    let all = row("-12", r#""x""#, at, r#"["a","b"]"#);
    check_round_trip(&[], &all, "-12,x,2024-01-02 03:04:05,a;b", None);
    // The delimiter inside of numbers and times.
    check_round_trip(
        &[("csv.field-delimiter", ":")],
        &all,
        "-12:x:\"2024-01-02 03:04:05\":a;b",
        None,
    );
    check_round_trip(
        &[("csv.field-delimiter", "-")],
        &all,
        "\"-12\"-x-\"2024-01-02 03:04:05\"-a;b",
        None,
    );
    // Values that equal the null literal.
    let null = [("csv.null-literal", "7")];
    check_round_trip(&null, &row("7", r#""7""#, "null", "null"), "\"7\",\"7\",7,7", None);
    // Arrays.
    check_round_trip(&[], &row("1", r#""""#, "null", "[]"), "1,,,\"\"", None);
    check_round_trip(&[], &row("1", r#""""#, "null", r#"["",""]"#), "1,,,;", None);
    check_round_trip(&null, &row("1", r#""""#, "null", r#"["a",null]"#), "1,,7,a;7", None);
    check_round_trip(
        &[],
        &row("1", r#""""#, "null", r#"[""]"#),
        "",
        Some("array of one empty string"),
    );
    check_round_trip(
        &[],
        &row("1", r#""""#, "null", r#"["a;b"]"#),
        "",
        Some("column `l`: the element `a;b` contains"),
    );
    check_round_trip(
        &[],
        &row("1", r#""""#, "null", r#"[null,"a"]"#),
        "",
        Some("without 'csv.null-literal'"),
    );
    check_round_trip(
        &null,
        &row("1", r#""""#, "null", r#"["7"]"#),
        "",
        Some("equals 'csv.null-literal'"),
    );
    // Without quotes.
    let unquoted = [("csv.disable-quote-character", "true")];
    check_round_trip(
        &unquoted,
        &row("1", r#""a,b""#, "null", r#"["x"]"#),
        "",
        Some("column `s`: `a,b` needs quotes"),
    );
    let escaped = [
        unquoted[0],
        ("csv.escape-character", "\\"),
        ("csv.allow-comments", "true"),
    ];
    check_round_trip(&escaped, &row("1", r#""a,b""#, "null", r#"["x"]"#), "1,a\\,b,,x", None);
    check_round_trip(
        &escaped,
        &row("1", r#""a\nb""#, "null", r#"["x"]"#),
        "",
        Some("needs quotes"),
    );
}

#[test]
fn a_header_is_written_and_named() {
    let schema = narrow();
    let csv = spec("csv", &[("csv.header", "true")], &schema);
    let encoder = csv.encoder(&schema, crate::format::Framing::Lines).unwrap();
    assert_eq!(encoder.header().as_deref(), Some(b"a,b,c\n".as_slice()));
    assert!(csv.header().unwrap().is_some());
}

#[test]
fn records_end_at_line_breaks_outside_quotes() {
    let schema = narrow();
    let lines = spec("csv", &[], &schema).lines().unwrap();
    let data = b"1,\"a\n\"\"b\",2\n3,c\"d,4\n5,\"open\n";
    assert_eq!(lines.end(data, 0), Some(11));
    assert_eq!(lines.end(data, 12), Some(19));
    assert_eq!(lines.end(data, 20), None);
    assert!(!lines.can_split());
    let plain = spec("csv", &[("csv.quoted-newlines", "false")], &schema);
    assert!(plain.lines().unwrap().can_split());
    assert_eq!(plain.lines().unwrap().end(data, 0), Some(4));
    let syntax = Syntax::new(&plain.options()).unwrap();
    assert_eq!(Lines::csv(syntax), Lines::plain());
}
