//! Casts: Flink's values of `CAST` and `TRY_CAST`.

use super::check;

#[test]
fn numbers_become_the_text_of_java() {
    check(&[
        ("CAST(1e20 AS STRING)", "1.0E20"),
        ("CAST(1e7 AS STRING)", "1.0E7"),
        ("CAST(1e6 AS STRING)", "1000000.0"),
        ("CAST(1234567.25e0 AS STRING)", "1234567.25"),
        ("CAST(12345678.9e0 AS STRING)", "1.23456789E7"),
        ("CAST(1e-3 AS STRING)", "0.001"),
        ("CAST(9.99e-4 AS STRING)", "9.99E-4"),
        ("CAST(-1.5e-10 AS STRING)", "-1.5E-10"),
        ("CAST(0e0 AS STRING)", "0.0"),
        ("CAST(-0e0 AS STRING)", "-0.0"),
        ("CAST(0.05e0 AS STRING)", "0.05"),
        ("CAST(POWER(0, -1) AS STRING)", "Infinity"),
        ("CAST(-POWER(0, -1) AS STRING)", "-Infinity"),
        ("CAST(SQRT(-1) AS STRING)", "NaN"),
        ("CAST(CAST(0.1 AS FLOAT) AS STRING)", "0.1"),
        ("CAST(CAST(16777216 AS FLOAT) AS STRING)", "1.6777216E7"),
        ("CAST(CAST(NULL AS FLOAT) AS STRING)", "NULL"),
        ("CAST(CAST(1 AS DECIMAL(10, 3)) AS STRING)", "1.000"),
        ("CAST(0.0000001 AS STRING)", "0.0000001"),
        ("CAST(-5 AS STRING)", "-5"),
        ("CAST(TRUE AS STRING)", "TRUE"),
    ]);
}

#[test]
fn collections_become_texts() {
    check(&[
        ("CAST(ARRAY[1, NULL, 2] AS STRING)", "[1, NULL, 2]"),
        ("CAST(ARRAY['a', 'b'] AS STRING)", "[a, b]"),
        ("CAST(ARRAY[TRUE, FALSE] AS STRING)", "[TRUE, FALSE]"),
        ("CAST(ARRAY[1.5e0, 1e20] AS STRING)", "[1.5, 1.0E20]"),
        (
            "CAST(ARRAY[TIMESTAMP '2024-01-01 00:00:00'] AS STRING)",
            "[2024-01-01 00:00:00.000]",
        ),
        ("CAST(CAST(NULL AS ARRAY<INT>) AS STRING)", "NULL"),
        ("CAST(MAP['k', 1, 'l', NULL] AS STRING)", "{k=1, l=NULL}"),
        ("CAST(MAP['k', ARRAY[1, NULL]] AS STRING)", "{k=[1, NULL]}"),
        ("CAST(ROW(1, 'a', TRUE, NULL) AS STRING)", "(1, a, TRUE, NULL)"),
        ("CAST(ROW(1.50, DATE '2024-01-01') AS STRING)", "(1.50, 2024-01-01)"),
        ("CAST(CAST(MAP['k', 1] AS STRING) AS VARCHAR(3))", "{k="),
    ]);
}

#[test]
fn lengths_cut_and_fill() {
    check(&[
        ("CAST('abc' AS CHAR(5)) || '|'", "abc  |"),
        ("CAST('abc' AS CHAR(2))", "ab"),
        ("CAST('abc' AS CHAR)", "a"),
        ("CAST('abc' AS VARCHAR(2))", "ab"),
        ("CAST('abc' AS VARCHAR)", "abc"),
        ("CAST(123 AS VARCHAR(2))", "12"),
        ("CAST(X'0102' AS BINARY(4))", "01020000"),
        ("CAST(X'01020304' AS BINARY(2))", "0102"),
        ("CAST(X'0102' AS BINARY)", "01"),
        ("CAST('abc' AS BINARY(2))", "6162"),
        ("CAST(X'01020304' AS VARBINARY(2))", "0102"),
        ("CAST(X'01' AS VARBINARY(2))", "01"),
        ("CAST(X'01' AS VARBINARY)", "01"),
        ("CAST(CAST(NULL AS BYTES) AS BINARY(2))", "NULL"),
        ("TRY_CAST(X'01' AS BINARY(2))", "0100"),
        ("CAST(X'616263' AS STRING)", "abc"),
        ("CAST(X'ff61' AS STRING)", "\u{fffd}a"),
    ]);
}

#[test]
fn texts_become_numbers() {
    check(&[
        ("CAST(' 12 ' AS INT)", "12"),
        ("CAST('12.7' AS INT)", "12"),
        ("CAST('-12.7' AS TINYINT)", "-12"),
        ("CAST('.5' AS BIGINT)", "0"),
        ("CAST('12.x' AS INT)", "Execution error: cannot cast `12.x` to INT"),
        ("CAST('' AS INT)", "Execution error: cannot cast `` to INT"),
        ("CAST('-' AS INT)", "Execution error: cannot cast `-` to INT"),
        (
            "CAST('300' AS TINYINT)",
            "Execution error: cannot cast `300` to TINYINT",
        ),
        ("TRY_CAST('300' AS TINYINT)", "NULL"),
        ("CAST('t' AS BOOLEAN)", "true"),
        ("CAST('NO' AS BOOLEAN)", "false"),
        ("CAST('on' AS BOOLEAN)", "Execution error: cannot cast `on` to BOOLEAN"),
        ("TRY_CAST('on' AS BOOLEAN)", "NULL"),
        ("CAST('1.567' AS DECIMAL(3, 1))", "1.6"),
        ("CAST('-.05' AS DECIMAL(3, 1))", "-0.1"),
        ("CAST('1e2' AS DECIMAL(5, 1))", "100.0"),
        ("CAST('1e-9' AS DECIMAL(5, 1))", "0.0"),
        (
            "CAST('abc' AS DECIMAL(5, 2))",
            "Execution error: cannot cast `abc` to DECIMAL(5, 2)",
        ),
        ("TRY_CAST('abc' AS DECIMAL(5, 2))", "NULL"),
        ("CAST('1e3' AS DOUBLE)", "1000.0"),
        ("TRY_CAST('abc' AS DOUBLE)", "NULL"),
    ]);
}

#[test]
fn numbers_with_too_many_digits_for_a_decimal_are_null() {
    check(&[
        ("CAST('99999' AS DECIMAL(3, 1))", "NULL"),
        ("CAST(99999 AS DECIMAL(3, 1))", "NULL"),
        ("CAST(12345.6 AS DECIMAL(3, 1))", "NULL"),
        ("CAST(9.99 AS DECIMAL(2, 1))", "NULL"),
        ("CAST(1e30 AS DECIMAL(5, 2))", "NULL"),
        ("CAST(SQRT(-1) AS DECIMAL(5, 2))", "NULL"),
        ("CAST(1.005e0 AS DECIMAL(5, 2))", "1.01"),
        ("CAST(-1.005e0 AS DECIMAL(5, 2))", "-1.01"),
        ("CAST(CAST(0.1 AS FLOAT) AS DECIMAL(10, 5))", "0.10000"),
        ("CAST(1.555 AS DECIMAL(5, 2))", "1.56"),
        ("CAST(CAST(7 AS TINYINT) AS DECIMAL(3, 2))", "7.00"),
    ]);
}

#[test]
fn elements_and_fields_are_cast() {
    check(&[
        ("CAST(ARRAY[1, NULL] AS ARRAY<STRING>)", "[1, ]"),
        ("CAST(ARRAY[TRUE] AS ARRAY<STRING>)", "[TRUE]"),
        ("CAST(ARRAY[1.5, 2.5] AS ARRAY<INT>)", "[1, 2]"),
        ("CAST(ARRAY[1] AS INT ARRAY)", "[1]"),
        ("CAST(ARRAY[ARRAY[1]] AS ARRAY<ARRAY<STRING>>)", "[[1]]"),
        (
            "CAST(ARRAY['1', 'x'] AS ARRAY<INT>)",
            "Execution error: cannot cast `x` to INT",
        ),
        ("TRY_CAST(ARRAY['1', 'x'] AS ARRAY<INT>)", "[1, ]"),
        ("CAST(CAST(NULL AS ARRAY<INT>) AS ARRAY<STRING>)", "NULL"),
        ("CAST(ROW(1, 'x') AS ROW<a STRING, b STRING>)", "{a: 1, b: x}"),
        ("CAST(ROW(1, 2) AS ROW(a STRING, b INT))", "{a: 1, b: 2}"),
        ("TRY_CAST(ROW(1, 'x') AS ROW<a INT, b INT>)", "{a: 1, b: }"),
        ("CAST(MAP['k', 1] AS MAP<STRING, STRING>)", "{k: 1}"),
        ("CAST(MAP[1, 'x'] AS MAP<STRING, STRING>)['1']", "x"),
        (
            "CAST(ROW(1, 2) AS ROW<a STRING>)",
            "there is no CAST of ROW<c0 BIGINT, c1 BIGINT> to ROW<a STRING>: types inside must correspond, and a ROW \
             must have as many fields",
        ),
        (
            "CAST(5 AS ARRAY<INT>)",
            "there is no CAST of BIGINT to ARRAY<INT>: types inside must correspond, and a ROW must have as many fields",
        ),
    ]);
}

/// Text and other types are not mixed; without this, most rows would fail.
#[test]
fn nothing_is_cast_to_or_from_text_implicitly() {
    let mixing = |of: &str, from: &str, to: &str| {
        format!("{of} mixes {from} and {to}: write CAST(... AS {to}), or CAST(... AS {from})")
    };
    let text_first = |of: &str| mixing(of, "STRING", "BIGINT");
    let cases = [
        ("1 = '1'", text_first("`=`")),
        ("'x' <> 1", text_first("`!=`")),
        ("1 IS DISTINCT FROM 'x'", text_first("`IS DISTINCT FROM`")),
        ("1 IN (2, 'x')", text_first("IN")),
        ("1 BETWEEN 0 AND 'x'", text_first("BETWEEN")),
        ("CASE 1 WHEN 'a' THEN 1 END", text_first("CASE")),
        ("CASE WHEN 'a' THEN 1 END", mixing("CASE", "STRING", "BOOLEAN")),
        ("NULLIF(1, 'a')", text_first("NULLIF")),
        ("GREATEST(1, 'a')", text_first("GREATEST")),
        ("COALESCE(1, 'a')", text_first("COALESCE")),
        ("ARRAY[1, 'a']", text_first("ARRAY[...]")),
        ("CAST(1.5 AS FLOAT) = UUID()", mixing("`=`", "STRING", "FLOAT")),
        ("ARRAY[1] = ARRAY['a']", mixing("`=`", "ARRAY<STRING>", "ARRAY<BIGINT>")),
        ("IF(TRUE, 1, 'a')", mixing("CASE (or IF, COALESCE)", "BIGINT", "STRING")),
        ("IFNULL(1, 'a')", mixing("IFNULL", "BIGINT", "STRING")),
        (
            "ARRAY_CONTAINS(ARRAY[1, 2], 'a')",
            "ARRAY_CONTAINS takes elements of one type, not BIGINT and STRING".into(),
        ),
        (
            "LEFT('abc', 'x')",
            "LEFT takes BIGINT here, not STRING: write CAST(... AS BIGINT)".into(),
        ),
        ("1 = CAST('1' AS INT)", "true".into()),
        ("CAST(1 AS STRING) = '1'", "true".into()),
        ("CASE WHEN TRUE THEN 1 ELSE NULL END", "1".into()),
        ("COALESCE(NULL, 'a')", "a".into()),
        ("'a' IN ('b', NULL)", "NULL".into()),
        ("DATE '2024-01-01' = '2024-01-01'", "true".into()),
        (
            "TIMESTAMP '2024-01-01 00:00:00' BETWEEN '2023-12-31' AND '2024-01-02'",
            "true".into(),
        ),
        ("CASE WHEN TRUE THEN 1 ELSE 1.5 END", "1.0".into()),
        ("CASE WHEN TRUE THEN 1.5 ELSE 1e30 END", "1.5".into()),
        ("COALESCE(1e30, 1.5)", "1e30".into()),
        ("GREATEST(1, 2.5, 1e30)", "1e30".into()),
        ("IFNULL(1.5, 1e30)", "1.5".into()),
        ("ARRAY[1.5, 1e30]", "[1.5, 1e30]".into()),
        ("CONCAT('n', 1)", "n1".into()),
    ];
    for (expression, expected) in &cases {
        check(&[(expression, expected)]);
    }
}
