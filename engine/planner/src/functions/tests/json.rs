//! Values of the functions of JSON.

use super::check;

#[test]
fn scalars_at_a_path() {
    check(&[
        ("JSON_VALUE('{\"a\": {\"b\": [1, 2]}}', '$.a.b[1]')", "2"),
        ("JSON_VALUE('{\"a\": {\"b\": [1, 2]}}', '$.a.b[-1]')", "2"),
        ("JSON_VALUE('{\"a\": \"x\"}', '$.a')", "x"),
        ("JSON_VALUE('{\"a\": \"x\"}', 'a')", "x"),
        ("JSON_VALUE('{\"a b\": \"x\"}', '$.[''a b'']')", "x"),
        (
            "JSON_VALUE('{\"a.b\": [0.998,0.996]}','$.[\"a.b\"][0]' RETURNING DOUBLE)",
            "0.998",
        ),
        ("JSON_VALUE('{\"a\": \"\\u00e4\\n\"}', '$.a')", "ä\n"),
        ("JSON_VALUE('{\"a\": true}', '$.a')", "true"),
        ("JSON_VALUE('{\"a\": true}', 'lax $.a' RETURNING BOOLEAN)", "true"),
        ("JSON_VALUE('{\"a\": 5}', '$.b')", "NULL"),
        ("JSON_VALUE('{\"a\": [1]}', '$.a')", "NULL"),
        ("JSON_VALUE('{\"a\": null}', '$.a')", "NULL"),
        ("JSON_VALUE('not json', '$.a')", "NULL"),
        ("JSON_VALUE('', '$.a')", "NULL"),
        ("JSON_VALUE('{\"a\": 5} x', '$.a')", "NULL"),
        ("JSON_VALUE(CAST(NULL AS STRING), '$.a')", "NULL"),
        ("JSON_VALUE('{\"a\": 5}', CAST(NULL AS STRING))", "NULL"),
        (
            "JSON_VALUE('{\"a\": 5, \"a\\u0062\": {\"c\": 1.50}}', '$.ab.c')",
            "1.50",
        ),
        // No array is unwrapped, and no value is wrapped, in Flink's paths.
        ("JSON_VALUE('[{\"a\": 1}]', '$.a')", "NULL"),
        ("JSON_VALUE('{\"a\": 1}', '$[0].a')", "NULL"),
        ("JSON_VALUE('{\"a\": 1}', '$.a.b')", "NULL"),
        (
            "JSON_VALUE('{\"a\": 1}', '$.a[?(@.b)]')",
            "`$.a[?(@.b)]` is not a JSON path: filters are not supported; write it as '$.key', '$.list[0].key' or \
             '$.list[*].key'",
        ),
    ]);
}

#[test]
fn numbers_keep_their_digits() {
    check(&[
        (
            "JSON_VALUE('{\"a\": 12345678901234567890123}', '$.a')",
            "12345678901234567890123",
        ),
        (
            "JSON_VALUE('{\"a\": 9007199254740993}', '$.a' RETURNING BIGINT)",
            "9007199254740993",
        ),
        (
            "JSON_VALUE('{\"a\": 0.1234567890123456789}', '$.a')",
            "0.1234567890123456789",
        ),
        ("JSON_VALUE('{\"a\": 1.10}', '$.a')", "1.10"),
        ("JSON_VALUE('{\"a\": 1e3}', '$.a')", "1E+3"),
        ("JSON_VALUE('{\"a\": 1, \"b\": 1e999}', '$.a')", "1"),
        ("JSON_VALUE('{\"b\": \"\\ud800\", \"a\": 1}', '$.a')", "1"),
        (
            "JSON_QUERY('{\"a\": [12345678901234567890123, 1.10, 1e999]}', '$.a')",
            "[12345678901234567890123,1.10,1E+999]",
        ),
    ]);
}

#[test]
fn clauses_of_json_value() {
    check(&[
        (
            "JSON_VALUE('{\"a\": 5}', '$.a' RETURNING INT NULL ON EMPTY NULL ON ERROR)",
            "5",
        ),
        ("JSON_VALUE('{\"a\": true}', 'lax $.b' DEFAULT FALSE ON EMPTY)", "false"),
        (
            "JSON_VALUE('{\"a\": true}', 'strict $.b' DEFAULT FALSE ON ERROR)",
            "false",
        ),
        // Without a mode a path is strict, so a missing value is an error.
        ("JSON_VALUE('{\"a\": true}', '$.b' DEFAULT 'x' ON EMPTY)", "NULL"),
        ("JSON_VALUE('{\"a\": true}', '$.b' DEFAULT 'x' ON ERROR)", "x"),
        ("JSON_VALUE('{\"a\": true}', 'lax $.b' DEFAULT 'x' ON ERROR)", "NULL"),
        (
            "JSON_VALUE('{\"contains blank\": \"right\"}', 'strict $.[''contains blank'']' NULL ON EMPTY DEFAULT 'wrong' \
             ON ERROR)",
            "right",
        ),
        ("JSON_VALUE('{\"a\": [1]}', 'lax $.a' DEFAULT 'x' ON EMPTY)", "x"),
        ("JSON_VALUE('{\"a\": null}', 'lax $.a' DEFAULT 'x' ON EMPTY)", "x"),
        ("JSON_VALUE('nonsense', 'lax $.a' DEFAULT 'x' ON EMPTY)", "x"),
        ("JSON_VALUE('nonsense', '$.a' DEFAULT 'x' ON ERROR)", "x"),
        (
            "JSON_VALUE('{\"a\": \"x\"}', '$.a' RETURNING INT DEFAULT -1 ON ERROR)",
            "-1",
        ),
        (
            "JSON_VALUE('{\"a\": 3}', '$.a' RETURNING INT DEFAULT -1 ON ERROR) + 1",
            "4",
        ),
        (
            "JSON_VALUE('{\"a\": \"yes\"}', '$.a' RETURNING BOOLEAN DEFAULT TRUE ON ERROR)",
            "true",
        ),
        ("JSON_VALUE('{}', 'lax $.a' RETURNING INT DEFAULT 1 + 1 ON EMPTY)", "2"),
        ("JSON_VALUE(CAST(NULL AS STRING), '$.a' DEFAULT 'x' ON ERROR)", "NULL"),
        (
            "JSON_VALUE('{\"a\": \"x\"}', 'strict $.a' ERROR ON EMPTY ERROR ON ERROR)",
            "x",
        ),
        (
            "JSON_VALUE('{}', 'lax $.a' ERROR ON EMPTY)",
            "Execution error: JSON_VALUE found nothing at the path (ERROR ON EMPTY)",
        ),
        (
            "JSON_VALUE('{}', '$.a' ERROR ON ERROR)",
            "Execution error: JSON_VALUE failed: nothing is at the path, which is strict (ERROR ON ERROR)",
        ),
        (
            "JSON_VALUE('{', '$.a' ERROR ON ERROR)",
            "Execution error: JSON_VALUE failed: the text is not JSON (ERROR ON ERROR)",
        ),
        (
            "JSON_VALUE('{\"a\": {}}', '$.a' ERROR ON ERROR)",
            "Execution error: JSON_VALUE failed: an object or array is at the path; use JSON_QUERY (ERROR ON ERROR)",
        ),
        (
            "JSON_VALUE('{}', '$.a' NULL ON ERROR NULL ON ERROR)",
            "1:51: ON EMPTY and ON ERROR can be written once each",
        ),
    ]);
}

#[test]
fn objects_and_arrays_at_a_path() {
    check(&[
        ("JSON_QUERY('{\"a\": [1, {\"b\": 2}]}', '$.a')", "[1,{\"b\":2}]"),
        (
            "JSON_QUERY('{ \"a\": { \"c\": 1, \"b\": [ ] } }', '$.a')",
            "{\"b\":[],\"c\":1}",
        ),
        ("JSON_QUERY('{\"a\": [{\"b\": 2}, {\"b\": 3}]}', '$.a[*].b')", "[2,3]"),
        (
            "JSON_QUERY('{\"a\":[{\"c\":\"c1\"},{\"c\":\"c2\"}]}', 'lax $.a[*].c')",
            "[\"c1\",\"c2\"]",
        ),
        ("JSON_QUERY('{\"a\": [{\"b\": 2}, {\"c\": 3}]}', '$.a[*].b')", "[2]"),
        ("JSON_QUERY('{\"a\": {\"x\": {\"k\": 1}, \"k\": 2}}', '$..k')", "[2,1]"),
        ("JSON_QUERY('[1, 2, 3, 4]', '$[1:3]')", "[2,3]"),
        ("JSON_QUERY('{\"a\": []}', '$.a[*]')", "[]"),
        ("JSON_QUERY('{}', '$.a[*]')", "NULL"),
        ("JSON_QUERY('{}', 'lax $.a[*]')", "[]"),
        ("JSON_QUERY('[1, 2]', '$')", "[1,2]"),
        ("JSON_QUERY(CAST(NULL AS STRING), '$')", "NULL"),
        ("JSON_QUERY('{\"a\": 1}', '$.a')", "NULL"),
        ("JSON_QUERY('{}', '$' WITH CONDITIONAL ARRAY WRAPPER)", "[{}]"),
        ("JSON_QUERY('[1, 2]', '$' WITH CONDITIONAL ARRAY WRAPPER)", "[1,2]"),
        ("JSON_QUERY('[1, 2]', '$' WITH UNCONDITIONAL ARRAY WRAPPER)", "[[1,2]]"),
        ("JSON_QUERY('[1, 2]', '$' WITH WRAPPER)", "[[1,2]]"),
        ("JSON_QUERY('[1, 2]', '$' WITHOUT ARRAY WRAPPER)", "[1,2]"),
        ("JSON_QUERY('1', '$')", "NULL"),
        ("JSON_QUERY('1', '$' WITH CONDITIONAL ARRAY WRAPPER)", "[1]"),
        ("JSON_QUERY('[\"a\", null]', '$[0]' WITH WRAPPER)", "[\"a\"]"),
        ("JSON_QUERY('{}', 'lax $.invalid' EMPTY OBJECT ON EMPTY)", "{}"),
        ("JSON_QUERY('{}', 'strict $.invalid' EMPTY ARRAY ON ERROR)", "[]"),
        ("JSON_QUERY('{}', 'strict $.invalid' EMPTY ARRAY ON EMPTY)", "NULL"),
        ("JSON_QUERY('{\"a\": 1}', 'lax $.a' EMPTY ARRAY ON EMPTY)", "[]"),
        (
            "JSON_QUERY('{\"a\": 1}', '$.a' ERROR ON ERROR)",
            "Execution error: JSON_QUERY failed: no object or array is at the path; use JSON_VALUE, or WITH WRAPPER (ERROR ON ERROR)",
        ),
        (
            "JSON_QUERY('{}', 'lax $.a' ERROR ON EMPTY)",
            "Execution error: JSON_QUERY found nothing at the path (ERROR ON EMPTY)",
        ),
    ]);
}

#[test]
fn arrays_of_strings_at_a_path() {
    check(&[
        (
            "JSON_QUERY('{\"a\": [1.10, \"x\", null, true, {\"b\": 1}]}', '$.a' RETURNING ARRAY<STRING>)",
            "[1.10, x, , true, {\"b\":1}]",
        ),
        (
            "JSON_QUERY('{\"a\": [{\"b\": \"x\"}, {\"b\": \"y\"}]}', '$.a[*].b' RETURNING ARRAY<STRING>)",
            "[x, y]",
        ),
        (
            "JSON_QUERY('{\"a\": 1}', '$.a' RETURNING ARRAY<STRING> WITH WRAPPER)",
            "[1]",
        ),
        ("JSON_QUERY('{\"a\": {}}', '$.a' RETURNING ARRAY<STRING>)", "NULL"),
        (
            "JSON_QUERY('{}', '$.a' RETURNING ARRAY<STRING> EMPTY ARRAY ON ERROR)",
            "[]",
        ),
        ("CARDINALITY(JSON_QUERY('[[1, 2]]', '$' RETURNING ARRAY<STRING>))", "1"),
        (
            "JSON_QUERY('{}', '$.a' RETURNING ARRAY<INT>)",
            "1:34: JSON_QUERY returns ARRAY<STRING>: CAST its result to another array",
        ),
        (
            "JSON_QUERY('{}', '$.a' RETURNING INT)",
            "1:34: JSON_QUERY returns STRING or ARRAY<STRING>: CAST its result",
        ),
    ]);
}

#[test]
fn existence_and_validity() {
    check(&[
        ("JSON_EXISTS('{\"a\": true}', '$.a')", "true"),
        ("JSON_EXISTS('{\"a\": true}', '$.b')", "false"),
        ("JSON_EXISTS('{\"a\": [{ \"b\": 1 }]}', '$.a[0].b')", "true"),
        ("JSON_EXISTS('{\"a\": true}', 'strict $.b' TRUE ON ERROR)", "true"),
        ("JSON_EXISTS('{\"a\": true}', 'strict $.b' FALSE ON ERROR)", "false"),
        ("JSON_EXISTS('{\"a\": true}', 'strict $.b' UNKNOWN ON ERROR)", "NULL"),
        ("JSON_EXISTS('{\"a\": true}', 'lax $.b' TRUE ON ERROR)", "false"),
        ("JSON_EXISTS('nonsense', '$.b' TRUE ON ERROR)", "true"),
        (
            "JSON_EXISTS('{}', '$.b' ERROR ON ERROR)",
            "Execution error: JSON_EXISTS failed: nothing is at the path, which is strict (ERROR ON ERROR)",
        ),
        ("JSON_EXISTS('{\"a\": null}', '$.a')", "false"),
        ("JSON_EXISTS('{\"a\": null}', '$.b')", "false"),
        ("JSON_EXISTS(CAST(NULL AS STRING), '$.b')", "NULL"),
        ("IS_JSON('[1]')", "true"),
        ("'1' IS JSON", "true"),
        ("'[]' IS JSON VALUE", "true"),
        ("'\"abc\"' IS JSON", "true"),
        ("'abc' IS JSON", "false"),
        ("CAST(NULL AS STRING) IS JSON", "false"),
        ("CAST(NULL AS STRING) IS NOT JSON", "true"),
        ("'1' IS JSON SCALAR", "true"),
        ("'1' IS JSON ARRAY", "false"),
        ("'1' IS JSON OBJECT", "false"),
        ("'{}' IS JSON SCALAR", "false"),
        ("'{}' IS JSON ARRAY", "false"),
        ("'{}' IS JSON OBJECT", "true"),
        ("' [1]' IS JSON ARRAY", "true"),
        ("'{' IS NOT JSON OBJECT AND 1 = 1", "true"),
    ]);
}

#[test]
fn construction() {
    check(&[
        ("JSON_STRING(CAST(NULL AS INT))", "NULL"),
        ("JSON_STRING(1)", "1"),
        ("JSON_STRING(TRUE)", "true"),
        ("JSON_STRING('Hello, \"World\"!')", "\"Hello, \\\"World\\\"!\""),
        ("JSON_STRING(ARRAY[1, 2])", "[1,2]"),
        (
            "JSON_STRING(MAP['b', 1, 'a', CAST(NULL AS INT)])",
            "{\"a\":null,\"b\":1}",
        ),
        (
            "JSON_STRING(MAP[1, 2])",
            "JSON_STRING takes a MAP with keys of STRING, not of BIGINT: the names of a JSON object are strings",
        ),
        ("JSON_STRING(STR_TO_MAP('b=1,a,b=x'))", "{\"a\":null,\"b\":\"x\"}"),
        ("JSON_STRING(UNHEX('666F6F62'))", "\"Zm9vYg==\""),
        ("JSON_STRING(CAST(0.1 AS FLOAT))", "0.10000000149011612"),
        ("JSON_STRING(DATE '2024-02-29')", "\"2024-02-29\""),
        ("JSON_STRING(1.50)", "1.50"),
        ("JSON_STRING(CAST(1e10 AS DOUBLE))", "1.0E+10"),
        (
            "JSON_STRING(TIMESTAMP '2024-02-29 12:34:56.100')",
            "\"2024-02-29T12:34:56.1\"",
        ),
        (
            "JSON_STRING(TIMESTAMP '2024-02-29 12:34:00')",
            "\"2024-02-29T12:34:00\"",
        ),
        ("JSON_STRING(TO_TIMESTAMP_LTZ(1, 3))", "\"1970-01-01T00:00:00.001Z\""),
        (
            "JSON_STRING(INTERVAL '1' DAY)",
            "JSON_STRING has no JSON form for INTERVAL DAY TO SECOND: CAST the value to STRING",
        ),
        ("JSON_OBJECT()", "{}"),
        (
            "JSON_OBJECT('K1' VALUE 'V1', 'K2' VALUE 'V2')",
            "{\"K1\":\"V1\",\"K2\":\"V2\"}",
        ),
        ("JSON_OBJECT('b' : 1, 'a' : 2.5)", "{\"a\":2.5,\"b\":1}"),
        (
            "JSON_OBJECT(KEY 'K1' VALUE CAST(NULL AS STRING) NULL ON NULL)",
            "{\"K1\":null}",
        ),
        ("JSON_OBJECT(KEY 'K1' VALUE CAST(NULL AS STRING))", "{\"K1\":null}"),
        ("JSON_OBJECT(KEY 'K1' VALUE CAST(NULL AS STRING) ABSENT ON NULL)", "{}"),
        (
            "JSON_OBJECT(KEY 'K1' VALUE JSON_OBJECT(KEY 'K2' VALUE 'V'))",
            "{\"K1\":{\"K2\":\"V\"}}",
        ),
        ("JSON_OBJECT('a' VALUE '{}')", "{\"a\":\"{}\"}"),
        (
            "JSON_OBJECT('a' VALUE JSON('{\"c\": 1, \"b\": 2}'))",
            "{\"a\":{\"b\":2,\"c\":1}}",
        ),
        ("JSON_OBJECT('a' VALUE 1, 'a' VALUE 2)", "{\"a\":2}"),
        ("JSON_OBJECT('a' VALUE JSON_ARRAY(1))", "{\"a\":[1]}"),
        (
            "JSON_OBJECT(1 VALUE 2)",
            "1:13: a key of JSON_OBJECT is a string, such as KEY 'name' VALUE x",
        ),
        ("JSON_ARRAY()", "[]"),
        ("JSON_ARRAY(1, '2')", "[1,\"2\"]"),
        ("JSON_ARRAY(CAST(NULL AS STRING) NULL ON NULL)", "[null]"),
        ("JSON_ARRAY(CAST(NULL AS STRING) ABSENT ON NULL)", "[]"),
        ("JSON_ARRAY(1, CAST(NULL AS STRING), 2)", "[1,2]"),
        ("JSON_ARRAY(JSON_ARRAY(1))", "[[1]]"),
        ("JSON_ARRAY(ROW(1, 'x'))", "[{\"c0\":1,\"c1\":\"x\"}]"),
        (
            "JSON('nonsense')",
            "Execution error: JSON takes a text that is JSON, which `nonsense` is not",
        ),
        ("JSON(' ')", "NULL"),
    ]);
}

#[test]
fn quotes() {
    check(&[
        ("JSON_QUOTE('V')", "\"V\""),
        ("JSON_QUOTE('a\"b\\/\n')", "\"a\\\"b\\\\\\/\\n\""),
        ("JSON_QUOTE('ä😀')", "\"\\u00e4\\ud83d\\ude00\""),
        ("JSON_QUOTE(CAST(NULL AS STRING))", "NULL"),
        ("JSON_UNQUOTE('\"abc\"')", "abc"),
        ("JSON_UNQUOTE('\"\\u0061\\n\"')", "a\n"),
        ("JSON_UNQUOTE('\"a')", "\"a"),
        ("JSON_UNQUOTE('\"a\\x\"')", "\"a\\x\""),
        ("JSON_UNQUOTE('[1]')", "[1]"),
        ("JSON_UNQUOTE(JSON_QUOTE('ä/\"'))", "ä/\""),
        ("JSON_UNQUOTE(CAST(NULL AS STRING))", "NULL"),
    ]);
}
