//! Random texts, none of which makes the front end panic.

use proptest::prelude::*;

use super::super::*;
use super::{TABLES, planned};

const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "bid",
    "WHERE",
    "GROUP",
    "BY",
    "TUMBLE",
    "(",
    ")",
    ",",
    ";",
    "TABLE",
    "DESCRIPTOR",
    "ts",
    "INTERVAL",
    "'10'",
    "SECOND",
    "CREATE",
    "VIEW",
    "v",
    "AS",
    "INSERT",
    "INTO",
    "out1",
    "price",
    "=",
    "+",
    "-",
    "*",
    ".",
    "[",
    "]",
    "1",
    "0.5",
    "'x'",
    "''",
    "`q`",
    "CAST",
    "STRING",
    "ROW",
    "<",
    ">",
    ">>",
    "ARRAY",
    "MAP",
    "INT",
    "WATERMARK",
    "FOR",
    "METADATA",
    "VIRTUAL",
    "WITH",
    "'connector'",
    "'print'",
    "PRIMARY",
    "KEY",
    "NOT",
    "ENFORCED",
    "CASE",
    "WHEN",
    "THEN",
    "END",
    "AND",
    "NULL",
    "IS",
    "OVER",
    "PARTITION",
    "ORDER",
    "UNION",
    "ALL",
    "JOIN",
    "ON",
    "SET",
    "EXPLAIN",
    "LIKE",
    "EXECUTE",
    "STATEMENT",
    "BEGIN",
    "JSON_VALUE",
    "JSON_QUERY",
    "JSON_OBJECT",
    "JSON_ARRAYAGG",
    "JSON",
    "VALUE",
    "WRAPPER",
    "EMPTY",
    "ERROR",
    "DEFAULT",
    "RETURNING",
    "FLOOR",
    "TO",
    "EXTRACT",
    "TIMESTAMPDIFF",
    "=>",
    "SESSION",
    "TUMBLE_START",
    "count",
    "avg",
    "\u{1F600}",
    "$table",
    "$partition",
    "EXISTS",
    "IN",
    "LISTAGG",
    "DISTINCT",
    "DECIMAL",
    "TIMESTAMP",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn words_in_any_order_do_not_panic(words in prop::collection::vec(prop::sample::select(WORDS), 0..40)) {
        planned(&format!("{TABLES}{}", words.join(" ")));
        planned(&format!("{TABLES}INSERT INTO out1 SELECT {}", words.join(" ")));
    }

    #[test]
    fn characters_in_any_order_do_not_panic(text in ".{0,60}") {
        planned(&text);
        planned(&format!("CREATE TABLE t ({text}"));
        drop(type_planner::parse(&text));
    }
}
