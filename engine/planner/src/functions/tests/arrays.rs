//! Arrays and NULL: Flink's documented values.

use super::check;

/// `$n` stands for an array of INT that is NULL, `$a` for one with the elements 1, NULL and 2.
#[track_caller]
fn check_arrays(cases: &[(&str, &str)]) {
    let null = "CAST(NULL AS ARRAY<INT>)";
    let some = "ARRAY[1, CAST(NULL AS INT), 2]";
    let cases: Vec<(String, &str)> = cases
        .iter()
        .map(|(expression, value)| (expression.replace("$n", null).replace("$a", some), *value))
        .collect();
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(expression, value)| (expression.as_str(), *value))
        .collect();
    check(&cases);
}

#[test]
fn elements_are_found() {
    check_arrays(&[
        ("ARRAY_CONTAINS($a, 2)", "true"),
        ("ARRAY_CONTAINS($a, 3)", "false"),
        ("ARRAY_CONTAINS($a, NULL)", "true"),
        ("ARRAY_CONTAINS(ARRAY[1, 2], CAST(NULL AS INT))", "false"),
        ("ARRAY_CONTAINS($n, 1)", "NULL"),
        ("ARRAY_CONTAINS(ARRAY[1, 2], 1.5)", "false"),
        ("ARRAY_CONTAINS(ARRAY[0e0], -0e0)", "true"),
        ("ARRAY_CONTAINS(ARRAY[ARRAY[1], ARRAY[2]], ARRAY[2])", "true"),
        ("ARRAY_POSITION($a, 2)", "3"),
        ("ARRAY_POSITION($a, 3)", "0"),
        ("ARRAY_POSITION($a, NULL)", "NULL"),
        ("ARRAY_POSITION($n, 1)", "NULL"),
        ("ARRAY_POSITION(ARRAY['a', 'b', 'b'], 'b')", "2"),
        ("ARRAY_CONTAINS(1, 1)", "ARRAY_CONTAINS takes an ARRAY, not BIGINT"),
    ]);
}

#[test]
fn elements_are_added_and_removed() {
    check_arrays(&[
        ("ARRAY_APPEND($a, 3)", "[1, , 2, 3]"),
        ("ARRAY_APPEND($a, NULL)", "[1, , 2, ]"),
        ("ARRAY_APPEND($n, 3)", "NULL"),
        ("ARRAY_PREPEND($a, 3)", "[3, 1, , 2]"),
        ("ARRAY_PREPEND($a, NULL)", "[, 1, , 2]"),
        ("ARRAY_PREPEND($n, 3)", "NULL"),
        ("ARRAY_CONCAT($a, ARRAY[3])", "[1, , 2, 3]"),
        ("ARRAY_CONCAT($a)", "[1, , 2]"),
        ("ARRAY_CONCAT($a, $n)", "NULL"),
        ("ARRAY_REMOVE(ARRAY[1, 2, 1, 3], 1)", "[2, 3]"),
        ("ARRAY_REMOVE($a, NULL)", "[1, 2]"),
        ("ARRAY_REMOVE($a, 5)", "[1, , 2]"),
        ("ARRAY_REMOVE($n, 1)", "NULL"),
        ("ARRAY_REMOVE(ARRAY['x'], 'x')", "[]"),
    ]);
}

#[test]
fn parts_of_arrays() {
    check_arrays(&[
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], 2, 3)", "[2, 3]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], 2)", "[2, 3, 4]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], 0, 2)", "[1, 2]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], -2)", "[3, 4]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], -3, -2)", "[2, 3]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], 3, 2)", "[]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], 5, 9)", "[]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], -9, 2)", "[1, 2]"),
        ("ARRAY_SLICE(ARRAY[1, 2, 3, 4], 3, 9)", "[3, 4]"),
        ("ARRAY_SLICE($n, 1)", "NULL"),
        ("ARRAY_SLICE($a, CAST(NULL AS INT))", "NULL"),
        ("ARRAY_SLICE($a, 1, CAST(NULL AS INT))", "NULL"),
    ]);
}

#[test]
fn orders_of_arrays() {
    let a = "ARRAY[2, CAST(NULL AS INT), 3, 1]";
    let cases = [
        ("", "[, 1, 2, 3]"),
        (", TRUE", "[, 1, 2, 3]"),
        (", FALSE", "[3, 2, 1, ]"),
        (", TRUE, FALSE", "[1, 2, 3, ]"),
        (", FALSE, TRUE", "[, 3, 2, 1]"),
        (", CAST(NULL AS BOOLEAN)", "NULL"),
    ];
    for (orders, expected) in cases {
        check(&[(&format!("ARRAY_SORT({a}{orders})"), expected)]);
    }
    check_arrays(&[
        ("ARRAY_SORT($n)", "NULL"),
        ("ARRAY_SORT(ARRAY['b', 'a'])", "[a, b]"),
        (
            "ARRAY_SORT($a, 'DESC')",
            "ARRAY_SORT takes TRUE or FALSE as its order, not STRING",
        ),
    ]);
}

#[test]
fn arrays_become_texts() {
    check_arrays(&[
        ("ARRAY_JOIN(ARRAY['a', 'b'], ', ')", "a, b"),
        ("ARRAY_JOIN(ARRAY['a', CAST(NULL AS STRING), 'b'], '-')", "a-b"),
        ("ARRAY_JOIN(ARRAY['a', CAST(NULL AS STRING), 'b'], '-', '?')", "a-?-b"),
        ("ARRAY_JOIN(ARRAY['a'], CAST(NULL AS STRING))", "NULL"),
        ("ARRAY_JOIN(ARRAY['a', 'b'], '-', CAST(NULL AS STRING))", "NULL"),
        ("ARRAY_JOIN(CAST(NULL AS ARRAY<STRING>), '-')", "NULL"),
        (
            "ARRAY_JOIN($a, '-')",
            "ARRAY_JOIN takes an array of STRING, not of BIGINT: CAST the array to ARRAY<STRING>",
        ),
        ("ARRAY_JOIN(CAST($a AS ARRAY<STRING>), '-')", "1-2"),
    ]);
}
