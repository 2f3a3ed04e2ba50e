//! The list of Flink's functions in `docs/sql.md`, compared with the functions that queries can call.

use std::collections::BTreeSet;

use super::value;
use crate::functions::Functions;

/// Entries that are syntax and not functions, each with an expression.
const SYNTAX: &[(&str, &str)] = &[
    ("=", "1 = 1"),
    ("<>", "1 <> 1"),
    (">", "1 > 1"),
    (">=", "1 >= 1"),
    ("<", "1 < 1"),
    ("<=", "1 <= 1"),
    ("IS [NOT] NULL", "1 IS NOT NULL"),
    ("IS [NOT] DISTINCT FROM", "1 IS NOT DISTINCT FROM 1"),
    ("[NOT] BETWEEN", "1 NOT BETWEEN 1 AND 2"),
    ("[NOT] LIKE", "'a' NOT LIKE 'b'"),
    ("[NOT] SIMILAR TO", "'a' NOT SIMILAR TO 'b'"),
    ("[NOT] IN", "1 NOT IN (1, 2)"),
    ("OR", "1 = 1 OR 1 = 2"),
    ("AND", "1 = 1 AND 1 = 2"),
    ("NOT", "NOT 1 = 2"),
    ("IS [NOT] TRUE", "(1 = 1) IS NOT TRUE"),
    ("IS [NOT] FALSE", "(1 = 1) IS NOT FALSE"),
    ("IS [NOT] UNKNOWN", "(1 = 1) IS NOT UNKNOWN"),
    ("+", "1 + 1"),
    ("-", "-1 - 1"),
    ("*", "1 * 1"),
    ("/", "1 / 1"),
    ("%", "1 % 1"),
    ("||", "'a' || 'b'"),
    ("TRIM", "TRIM(BOTH 'a' FROM 'aba')"),
    ("SUBSTRING", "SUBSTRING('abc' FROM 2 FOR 1)"),
    ("DATE", "DATE '2024-01-01'"),
    ("TIME", "TIME '10:20:30'"),
    ("TIMESTAMP", "TIMESTAMP '2024-01-01 10:20:30'"),
    ("INTERVAL", "INTERVAL '10' DAY"),
    ("EXTRACT", "EXTRACT(DAY FROM DATE '2024-01-01')"),
    ("TIMESTAMPADD", "TIMESTAMPADD(DAY, 1, DATE '2024-01-01')"),
    (
        "TIMESTAMPDIFF",
        "TIMESTAMPDIFF(DAY, DATE '2024-01-01', DATE '2024-01-02')",
    ),
    (
        "OVERLAPS",
        "(DATE '2024-01-01', DATE '2024-01-02') OVERLAPS (DATE '2024-01-02', DATE '2024-01-03')",
    ),
    ("CASE", "CASE WHEN 1 = 1 THEN 2 END"),
    ("CAST", "CAST(1 AS STRING)"),
    ("TRY_CAST", "TRY_CAST('x' AS INT)"),
    ("array[n]", "ARRAY[1, 2][1]"),
    ("map[key]", "STR_TO_MAP('a=1')['a']"),
    ("IS [NOT] JSON", "'1' IS NOT JSON"),
    ("ARRAY[a, b]", "ARRAY[1, 2]"),
    ("CURRENT_DATABASE", "CURRENT_DATABASE()"),
    ("GROUP_ID", "GROUP_ID()"),
];

/// Entries that only queries can contain.
const QUERY_SYNTAX: &[&str] = &[
    "EXISTS",
    "[NOT] IN (query)",
    "row.field",
    "row.*",
    "ROW_NUMBER",
    "TUMBLE",
    "HOP",
    "CUMULATE",
    "SESSION",
    "PROCTIME",
    "UNNEST",
];

/// The entries of a table cell: words between back-quotes.
fn entries(cell: &str) -> Vec<String> {
    let entries = cell.split('`').skip(1).step_by(2);
    entries.map(|entry| entry.replace("\\|", "|")).collect()
}

/// The rows of the list: group, functions as in Flink, functions with a difference, missing functions.
fn rows() -> Vec<[Vec<String>; 3]> {
    let page = include_str!("../../../../../docs/sql.md");
    let (_, list) = page.split_once("### Flink's list").expect("the page has the list");
    let table = list.lines().skip_while(|line| !line.starts_with("|---")).skip(1);
    table
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            // A vertical line in an entry is escaped.
            let line = line.replace("\\|", "\u{1}");
            let cells: Vec<String> = line.split('|').map(|cell| cell.replace('\u{1}', "|")).collect();
            [2, 3, 4].map(|cell| entries(&cells[cell]))
        })
        .collect()
}

/// Returns true if a name is that of a function, and not one of DataFusion's other names for it.
fn is_main_name(name: &str) -> bool {
    let functions = Functions::all();
    match (functions.scalar(name), functions.aggregate(name)) {
        (Some(function), _) => function.name() == name,
        (None, Some(function)) => function.name() == name,
        (None, None) => true,
    }
}

/// Returns true if queries can call a function.
fn is_callable(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let functions = Functions::all();
    // DataFusion's window functions have no operator yet.
    let is_window = functions.window(&name).is_some() && functions.aggregate(&name).is_none();
    let is_refused = crate::functions::refusal(&name).is_some();
    functions.contains(&name) && !functions.is_internal(&name) && !is_window && !is_refused
}

#[test]
fn every_function_of_the_list_is_there_or_not_as_it_says() {
    let mut wrong = Vec::new();
    for [same, different, missing] in rows() {
        for entry in same.iter().chain(&different) {
            let is_there = match SYNTAX.iter().find(|(syntax, _)| syntax == entry) {
                Some((_, expression)) => {
                    let found = value(expression);
                    !found.contains(": ") || found.starts_with('2')
                }
                None => QUERY_SYNTAX.contains(&entry.as_str()) || is_callable(entry),
            };
            if !is_there {
                wrong.push(format!("{entry} is not there"));
            }
        }
        wrong.extend(
            missing
                .iter()
                .filter(|entry| is_callable(entry))
                .map(|entry| format!("{entry} is there")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_callable_function_is_in_the_list() {
    let listed: BTreeSet<String> = rows()
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.to_ascii_lowercase())
        .collect();
    let public = Functions::all().public_names();
    let missing: Vec<&str> = public
        .filter(|name| is_callable(name) && is_main_name(name) && !listed.contains(*name))
        .collect();
    assert_eq!(missing, [""; 0]);
}
