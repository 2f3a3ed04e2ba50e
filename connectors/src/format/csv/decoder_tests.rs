//! Decoding and encoding of CSV lines, and the errors of lines that are rejected.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::format::csv::lines::Lines;
use crate::format::csv::syntax::Syntax;
use crate::format::test_records::{encode, flat, outcomes, spec};

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
