//! Values of calls with constant arguments.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::array::RecordBatchOptions;
use datafusion::arrow::datatypes::Schema;
use datafusion::arrow::util::display::array_value_to_string;
use datafusion::common::DFSchema;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::physical_expr::create_physical_expr;

use crate::PlanOptions;
use crate::error::Location;

mod arrays;
mod bitmaps;
mod casts;
mod collections;
mod decimals;
mod equality;
mod flink_list;
mod intervals;
mod json;
mod rounding;
mod strings;
mod times;
mod types;

/// Returns the value of an expression without columns, as a text.
fn value(expression: &str) -> String {
    value_in(None, expression)
}

/// Returns the value of an expression without columns in a time zone, by default UTC, as a text.
fn value_in(zone: Option<&str>, expression: &str) -> String {
    let mut catalog = crate::sql::new_catalog(&PlanOptions::default());
    if let Some(zone) = zone {
        catalog.set_local_time_zone(zone);
    }
    let schema = DFSchema::empty();
    let expression = match crate::sql::read_expression(expression) {
        Ok(expression) => expression,
        Err(error) => return error.to_string(),
    };
    let typed = crate::sql::typed_expressions(&catalog, vec![expression], &schema, &Location::Unknown);
    let expression = match typed {
        Ok(mut typed) => typed.remove(0).0,
        Err(errors) => {
            let messages: Vec<String> = errors.into_iter().map(|error| error.message).collect();
            return messages.join("\n");
        }
    };
    let rows = RecordBatch::try_new_with_options(
        Arc::new(Schema::empty()),
        Vec::new(),
        &RecordBatchOptions::new().with_row_count(Some(1)),
    );
    let evaluated = create_physical_expr(
        &expression,
        &schema,
        &ExecutionProps::new(),
        &PhysicalPlanningContext::default(),
    )
    .and_then(|physical| physical.evaluate(&rows?)?.into_array(1));
    match evaluated {
        Ok(array) if array.is_null(0) => "NULL".into(),
        Ok(array) => array_value_to_string(&array, 0).unwrap_or_else(|error| error.to_string()),
        Err(error) => error.strip_backtrace(),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(expression, expected)| {
            let found = value(expression);
            (found != *expected).then(|| format!("{expression} is {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn texts() {
    check(&[
        ("SPLIT_INDEX('a/b/c', '/', 1)", "b"),
        ("SPLIT_INDEX('a/b/c', '/', 3)", "NULL"),
        ("SPLIT_INDEX('a/b/c', '/', -1)", "NULL"),
        ("COUNT_CHAR('abcabc', 'c')", "2"),
        ("CONCAT('a', 'b', 'c')", "abc"),
        ("CONCAT('a', CAST(NULL AS STRING))", "NULL"),
        ("CONCAT('n', 1)", "n1"),
        ("CONCAT_WS('-', 'a', CAST(NULL AS STRING), 'b')", "a-b"),
        ("SUBSTRING('hello' FROM 2 FOR 3)", "ell"),
        ("SUBSTR('hello', 2)", "ello"),
        ("SUBSTRING('hello', -2)", "lo"),
        ("SUBSTRING('häßlich', 2, 2)", "äß"),
        ("SUBSTRING('hello', 9)", ""),
        ("SUBSTRING('hello', 0, 2)", "he"),
        ("POSITION('l' IN 'hello')", "3"),
        ("LOCATE('l', 'hello')", "3"),
        ("LOCATE('l', 'hello', 4)", "4"),
        ("INSTR('hello', 'l')", "3"),
        ("LPAD('7', 3, '0')", "007"),
        ("RPAD('7', 3, '0')", "700"),
        ("TRIM(BOTH 'x' FROM 'xax')", "a"),
        ("LTRIM('  a')", "a"),
        ("UPPER('a') || LOWER('B')", "Ab"),
        ("CHAR_LENGTH('häß')", "3"),
        ("CHARACTER_LENGTH('abc')", "3"),
        ("REVERSE('abc')", "cba"),
        ("REPEAT('ab', 2)", "abab"),
        ("REPLACE('abc', 'b', 'x')", "axc"),
        ("INITCAP('hello world')", "Hello World"),
        ("LEFT('hello', 2)", "he"),
        ("RIGHT('hello', 2)", "lo"),
        ("OVERLAY('abcdef' PLACING 'xx' FROM 2 FOR 2)", "axxdef"),
        ("ASCII('A')", "65"),
        ("CHR(65)", "A"),
        ("CHR(353)", "a"),
        ("CHR(228)", "ä"),
        ("CHR(-1)", ""),
        ("CHR(CAST(NULL AS INT))", "NULL"),
        ("MD5('a')", "0cc175b9c0f1b6a831c399e269772661"),
        (
            "SHA256('a')",
            "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb",
        ),
        (
            "REGEXP_EXTRACT('a=1&channel_id=7&x', '(&|^)channel_id=([^&]*)', 2)",
            "7",
        ),
        ("REGEXP_EXTRACT('abc', 'x')", "NULL"),
        ("REGEXP_EXTRACT('abc', 'b')", "b"),
        ("REGEXP_REPLACE('foobar', 'oo|ar', '')", "fb"),
        ("REGEXP_REPLACE('ab', '(a)(b)', '$2x$1')", "$2x$1"),
        ("REGEXP('abc', 'b.')", "true"),
        (
            "REGEXP('abc', '(')",
            "the regular expression `(` is not valid: unclosed group",
        ),
        ("'abc' LIKE 'a%'", "true"),
        ("'a%c' LIKE 'a!%c' ESCAPE '!'", "true"),
        ("'abc' LIKE 'a!%c' ESCAPE '!'", "false"),
        ("'a!c' LIKE 'a!!_' ESCAPE '!'", "true"),
        (r"'a\b' LIKE 'a\b'", "true"),
        (r"'ab' LIKE 'a\b'", "false"),
        (r"'a\b' LIKE 'a\\b'", "false"),
        (r"'a\\b' LIKE 'a\\b'", "true"),
        (r"'a\%' LIKE 'a\%'", "true"),
        (r"'a\bc' LIKE 'a\%'", "true"),
        (r"'a%' LIKE 'a\%'", "false"),
        (r"'a\x' LIKE 'a\_'", "true"),
        (r"'a_' LIKE 'a\_'", "false"),
        (r"'a\' LIKE '%\'", "true"),
        (r"'\a' LIKE '\%'", "true"),
        (r"'x\y' LIKE '%\%'", "true"),
        (r"'xy' LIKE '%\%'", "false"),
        (r"'a\b' NOT LIKE 'a\b'", "false"),
        (r"'a%b' NOT LIKE 'a\%b'", "true"),
        (r"'a\b' LIKE 'a' || '\b'", "true"),
        (r"'a%' LIKE REPLACE('a-', '-', '\%')", "false"),
        (r"'A\b' ILIKE 'a\B'", "true"),
        (r"'a\%' LIKE 'a\!%' ESCAPE '!'", "true"),
        (r"'a\b' LIKE CAST(NULL AS STRING)", "NULL"),
        (r"'a%b' LIKE 'a\%b' ESCAPE '\'", "true"),
        ("TO_BASE64('hello')", "aGVsbG8="),
        ("FROM_BASE64('aGVsbG8=')", "hello"),
        ("PARSE_URL('http://u@h.com:80/p/q?a=1&b=2#r', 'HOST')", "h.com"),
        ("PARSE_URL('http://h.com/p/q?a=1&b=2#r', 'PATH')", "/p/q"),
        ("PARSE_URL('http://h.com/p/q?a=1&b=2#r', 'QUERY', 'b')", "2"),
        ("PARSE_URL('http://h.com/p/q?a=1&b=2#r', 'REF')", "r"),
        ("PARSE_URL('http://h.com', 'QUERY')", "NULL"),
        ("URL_ENCODE('a b&ä')", "a+b%26%C3%A4"),
        ("URL_DECODE('a+b%26%C3%A4')", "a b&ä"),
        ("URL_DECODE('%4')", "NULL"),
        ("STARTSWITH('hello', 'he')", "true"),
        ("TRANSLATE('abc', 'b', 'x')", "axc"),
    ]);
}

#[test]
fn times() {
    check(&[
        (
            "CAST(TIMESTAMP '2024-02-29 12:34:56.789' AS STRING)",
            "2024-02-29 12:34:56.789",
        ),
        (
            "CAST(TIMESTAMP '2024-02-29 12:34:56' AS STRING)",
            "2024-02-29 12:34:56.000",
        ),
        ("CAST(DATE '2024-02-29' AS STRING)", "2024-02-29"),
        ("CAST(1 = 1 AS STRING)", "TRUE"),
        (
            "DATE_FORMAT(TIMESTAMP '2024-02-29 12:34:56', 'yyyy-MM-dd HH:mm')",
            "2024-02-29 12:34",
        ),
        ("DATE_FORMAT('2024-02-29 12:34:56', 'yyyyMMdd')", "20240229"),
        (
            "DATE_FORMAT(TIMESTAMP '2024-02-09 00:04:05', 'EEE d MMM yy h:mm a ''o''')",
            "Fri 9 Feb 24 12:04 AM o",
        ),
        ("HOUR(TIMESTAMP '2024-02-29 12:34:56')", "12"),
        ("MINUTE(TIMESTAMP '2024-02-29 12:34:56')", "34"),
        ("SECOND(TIMESTAMP '2024-02-29 12:34:56')", "56"),
        ("HOUR(TIMESTAMP '1969-12-31 23:00:00')", "23"),
        ("YEAR(DATE '2024-02-29')", "2024"),
        ("MONTH(DATE '2024-02-29')", "2"),
        ("DAYOFMONTH(DATE '2024-02-29')", "29"),
        ("DAYOFYEAR(DATE '2024-02-29')", "60"),
        ("DAYOFWEEK(DATE '2024-02-29')", "5"),
        ("QUARTER(DATE '2024-04-01')", "2"),
        ("WEEK(DATE '2021-01-03')", "53"),
        ("EXTRACT(DAY FROM TIMESTAMP '2024-02-29 12:34:56')", "29"),
        ("EXTRACT(EPOCH FROM TIMESTAMP '1970-01-02 00:00:00')", "86400"),
        ("TO_TIMESTAMP('2024-02-29 12:34:56')", "2024-02-29T12:34:56"),
        (
            "TO_TIMESTAMP('29.02.2024 1:02', 'dd.MM.yyyy H:mm')",
            "2024-02-29T01:02:00",
        ),
        ("TO_TIMESTAMP('nonsense')", "NULL"),
        ("TO_TIMESTAMP_LTZ(1000, 3)", "1970-01-01T00:00:01Z"),
        ("TO_TIMESTAMP_LTZ(1, 0)", "1970-01-01T00:00:01Z"),
        ("TO_DATE('2024-02-29')", "2024-02-29"),
        ("UNIX_TIMESTAMP('1970-01-02 00:00:01')", "86401"),
        ("FROM_UNIXTIME(86401)", "1970-01-02 00:00:01"),
        ("FROM_UNIXTIME(86401, 'HH:mm:ss')", "00:00:01"),
        (
            "TIMESTAMPDIFF(SECOND, TIMESTAMP '2024-01-01 00:00:00', TIMESTAMP '2024-01-01 00:01:00')",
            "60",
        ),
        (
            "TIMESTAMPDIFF(MONTH, TIMESTAMP '2024-01-31 00:00:00', TIMESTAMP '2024-02-29 00:00:00')",
            "1",
        ),
        (
            "TIMESTAMPADD(DAY, 1, TIMESTAMP '2024-02-29 00:00:00')",
            "2024-03-01T00:00:00",
        ),
        (
            "TIMESTAMPADD(MONTH, 1, TIMESTAMP '2024-01-31 00:00:00')",
            "2024-02-29T00:00:00",
        ),
        ("FLOOR(TIMESTAMP '2024-02-29 12:34:56' TO HOUR)", "2024-02-29T12:00:00"),
        ("CEIL(TIMESTAMP '2024-02-29 12:34:56' TO MONTH)", "2024-03-01T00:00:00"),
        (
            "TIMESTAMP '2024-02-29 12:34:56' + INTERVAL '1:30' MINUTE TO SECOND",
            "2024-02-29T12:36:26",
        ),
        (
            "TIMESTAMP '2024-02-29 12:34:56' - INTERVAL '2' DAY",
            "2024-02-27T12:34:56",
        ),
        (
            "CONVERT_TZ('2024-02-29 12:00:00', 'UTC', 'Europe/Berlin')",
            "2024-02-29 13:00:00",
        ),
    ]);
}

#[test]
fn numbers_and_conditions() {
    check(&[
        ("MOD(7, 3)", "1"),
        ("MOD(-7, 3)", "-1"),
        ("7 / 2", "3"),
        ("ABS(-5)", "5"),
        ("POWER(2, 3)", "8.0"),
        ("SQRT(9)", "3.0"),
        ("ROUND(2.567, 2)", "2.57"),
        ("CEIL(1.2)", "2"),
        ("FLOOR(1.8)", "1"),
        ("SIGN(-3)", "-1"),
        ("LN(1)", "0.0"),
        ("LOG(1)", "0.0"),
        ("ROUND(LOG(E()), 3)", "1.0"),
        ("LOG(2, 8)", "3.0"),
        ("CARDINALITY(ARRAY_REMOVE(ARRAY[1, 2, 1], 1))", "1"),
        (
            "CAST(TIMESTAMP '2024-01-01 00:00:00' AS BIGINT)",
            "a TIMESTAMP is not a number: use EXTRACT(EPOCH FROM t) or TIMESTAMPDIFF",
        ),
        (
            "CAST(5 AS TIMESTAMP)",
            "a number is not a TIMESTAMP: use TO_TIMESTAMP_LTZ(n, 3) for milliseconds",
        ),
        ("LOG10(100)", "2.0"),
        ("EXP(CAST(1 AS FLOAT))", "2.718281828459045"),
        ("SIN(CAST(1 AS FLOAT))", "0.8414709848078965"),
        ("LN(CAST(10 AS FLOAT))", "2.302585092994046"),
        ("ATAN2(CAST(1 AS FLOAT), CAST(2 AS FLOAT))", "0.4636476090008061"),
        ("EXP(0)", "1.0"),
        ("GREATEST(1, 3, 2)", "3"),
        ("GREATEST(1, CAST(NULL AS INT))", "NULL"),
        ("LEAST(1, 3)", "1"),
        ("IF(1 > 2, 'a', 'b')", "b"),
        ("IFNULL(CAST(NULL AS INT), 4)", "4"),
        ("NULLIF(1, 1)", "NULL"),
        ("COALESCE(CAST(NULL AS INT), 2)", "2"),
        ("TRY_CAST('x' AS INT)", "NULL"),
        ("CAST('12' AS BIGINT)", "12"),
        ("CAST(1.5 AS STRING)", "1.5"),
        ("(1 > 2) IS NOT TRUE", "true"),
        ("CARDINALITY(ARRAY['a', 'b'])", "2"),
        ("ARRAY['a', 'b'][2]", "b"),
        ("ARRAY_CONTAINS(ARRAY[1, 2], 2)", "true"),
        ("0.908 * 100", "90.800"),
        ("CASE 3 WHEN 3 THEN 'x' END", "x"),
        ("2 BETWEEN 1 AND 3", "true"),
        (
            "LEVENSHTEIN('a', 'b')",
            "LEVENSHTEIN is not supported: docs/sql.md lists the functions",
        ),
        (
            "DATE_TRUNC('day', 1)",
            "DATE_TRUNC is not supported: docs/sql.md lists the functions",
        ),
        ("ROW(1, 'a')", "{c0: 1, c1: a}"),
        ("ROW(1, 'a').c0", "1"),
        ("SPLIT_INDEX('a')", "SPLIT_INDEX takes 3 arguments, not 1"),
        (
            "HOUR(5)",
            "the function takes a TIMESTAMP or DATE, not BIGINT; for milliseconds use TO_TIMESTAMP_LTZ(n, 3)",
        ),
    ]);
}

#[test]
fn ends_and_fillings_of_texts() {
    check(&[
        ("LEFT('häß', 2)", "hä"),
        ("LEFT('hello', -1)", ""),
        ("RIGHT('häß', 2)", "äß"),
        ("RIGHT('hello', -2)", ""),
        ("RIGHT('hello', 9)", "hello"),
        ("LEFT('hello', CAST(NULL AS INT))", "NULL"),
        ("SPLIT_INDEX('a,b,c', 44, 1)", "b"),
        ("SPLIT_INDEX('a,b,c', 300, 0)", "NULL"),
        ("OVERLAY('hello' PLACING 'XY' FROM 2)", "hXYlo"),
        ("OVERLAY('hello' PLACING 'XY' FROM 2 FOR 1)", "hXYllo"),
        ("OVERLAY('hello' PLACING 'XY' FROM 9)", "hello"),
        ("OVERLAY('hello' PLACING 'XY' FROM 0)", "hello"),
        ("LPAD('hi', 5, 'ab')", "abahi"),
        ("LPAD('hi', 1, '?')", "h"),
        ("LPAD('hi', 5, '')", "NULL"),
        ("LPAD('hi', -1, '?')", "NULL"),
        ("RPAD('hi', 4, '?')", "hi??"),
        ("RPAD('hi', 0, '?')", ""),
        ("CARDINALITY(ARRAY[ARRAY[1, 2], ARRAY[3]])", "2"),
        ("CARDINALITY(ARRAY['a', 'b', 'c'])", "3"),
    ]);
}

#[test]
fn numbers_keep_their_kind() {
    check(&[
        ("FLOOR(7) / 2", "3"),
        ("CEIL(CAST(7 AS SMALLINT))", "7"),
        ("SIGN(-3) / 2", "0"),
        ("TRUNCATE(1234, -2)", "1200"),
        ("TRUNCATE(1234, 2)", "1234"),
        ("TRUNCATE(1234)", "1234"),
        ("TRUNCATE(1234, -99)", "0"),
        ("TRUNCATE(1234, CAST(NULL AS INT))", "NULL"),
        ("FLOOR(-1.5)", "-2"),
        ("CEIL(-1.5)", "-1"),
        ("CEILING(1.2)", "2"),
        ("CEIL(9.5)", "10"),
        ("CEIL(0.1)", "1"),
        ("FLOOR(-0.1)", "-1"),
        ("CEIL(CAST(7 AS DECIMAL(3, 0)))", "7"),
        ("FLOOR(CAST(NULL AS DECIMAL(3, 1)))", "NULL"),
        ("FLOOR(CAST(1.5 AS DOUBLE))", "1.0"),
        ("SQRT(-1)", "NaN"),
        ("SQRT(4)", "2.0"),
        ("POWER(0, -1)", "inf"),
        ("POWER(2, 10)", "1024.0"),
        ("1e3 / 3", "333.3333333333333"),
    ]);
}

#[test]
fn quotients_of_decimals_are_rounded_half_up() {
    check(&[
        (
            "CAST(2 AS DECIMAL(10, 2)) / CAST(3 AS DECIMAL(10, 2))",
            "0.6666666666667",
        ),
        (
            "CAST(-2 AS DECIMAL(10, 2)) / CAST(3 AS DECIMAL(10, 2))",
            "-0.6666666666667",
        ),
        ("CAST(1 AS DECIMAL(10, 2)) / 3", "0.3333333333333"),
        ("CAST(1 AS DECIMAL(38, 10)) / CAST(3 AS DECIMAL(38, 10))", "0.333333"),
        ("CAST(2 AS DECIMAL(38, 10)) / CAST(3 AS DECIMAL(38, 10))", "0.666667"),
        ("2 / CAST(3 AS DECIMAL(3, 0))", "0.666667"),
        ("CAST(1 AS DECIMAL(3, 1)) / CAST(NULL AS DECIMAL(3, 1))", "NULL"),
        (
            "CAST(1 AS DECIMAL(3, 1)) / CAST(0 AS DECIMAL(3, 1))",
            "Arrow error: Divide by zero error",
        ),
        ("CAST(1e37 AS DECIMAL(38, 0)) / CAST(0.001 AS DECIMAL(3, 3))", "NULL"),
    ]);
}

#[test]
fn casts_cut_to_what_the_type_says() {
    check(&[
        (
            "CAST(TIMESTAMP '2024-01-01 00:00:00.123456' AS TIMESTAMP(3))",
            "2024-01-01T00:00:00.123",
        ),
        ("CAST('2024-01-01 00:00:00.999' AS TIMESTAMP(0))", "2024-01-01T00:00:00"),
        (
            "CAST(TIMESTAMP '2024-01-01 00:00:00.123456' AS TIMESTAMP(6))",
            "2024-01-01T00:00:00.123456",
        ),
        (
            "CAST(TIMESTAMP '2024-01-01 00:00:00.123456' AS TIMESTAMP_LTZ(2))",
            "2024-01-01T00:00:00.120Z",
        ),
        (
            "CAST('2024-01-01 00:00:00.123456789' AS TIMESTAMP)",
            "2024-01-01T00:00:00.123456",
        ),
        ("CAST('hello' AS VARCHAR(3))", "hel"),
        ("CAST(12345 AS VARCHAR(3))", "123"),
        ("CAST('hello' AS CHAR(3))", "hel"),
        ("CAST('hi' AS CHAR(4)) || '.'", "hi  ."),
        ("CAST('hello' AS VARCHAR(2147483647))", "hello"),
        ("CAST('hello' AS VARCHAR)", "hello"),
    ]);
}

#[test]
fn times_with_more_digits_than_microseconds_are_refused() {
    for (expression, name) in [
        ("CAST('2024-01-01 00:00:00' AS TIMESTAMP(7))", "TIMESTAMP(7)"),
        ("TRY_CAST('2024-01-01 00:00:00' AS TIMESTAMP(9))", "TIMESTAMP(9)"),
        ("CAST('2024-01-01 00:00:00' AS TIMESTAMP_LTZ(8))", "TIMESTAMP_LTZ(8)"),
        (
            "CAST('2024-01-01 00:00:00' AS TIMESTAMP(9) WITH TIME ZONE)",
            "TIMESTAMP(9)",
        ),
        ("CAST('00:00:00' AS TIME(9))", "TIME(9)"),
        ("CAST(ARRAY[LOCALTIMESTAMP] AS ARRAY<TIMESTAMP(9)>)", "TIMESTAMP(9)"),
    ] {
        let found = value(expression);
        let expected = format!("{name} is not supported: times have microseconds");
        assert!(found.contains(&expected), "{expression}: {found}");
    }
    for literal in ["TIMESTAMP '2024-01-01 00:00:00.1234567'", "TIME '00:00:00.123456789'"] {
        let found = value(literal);
        assert!(
            found.contains("has more digits: write six of them at most"),
            "{literal}: {found}"
        );
    }
    check(&[(
        "TIMESTAMP '2024-01-01 00:00:00.123456000'",
        "2024-01-01T00:00:00.123456",
    )]);
}
