//! Construction of arrays, maps and rows, and access to what is inside.

use super::check;

#[test]
fn elements_have_positions_from_1() {
    check(&[
        ("ARRAY[1, 2][2]", "2"),
        ("ARRAY[1, 2][3]", "NULL"),
        ("ARRAY[1, 2][1 + 1]", "2"),
        ("ARRAY[1, 2][CHAR_LENGTH('') - 1]", "NULL"),
        ("ARRAY[1, 2][CHAR_LENGTH('')]", "NULL"),
        ("ARRAY[1, 2][CAST(NULL AS INT)]", "NULL"),
        ("CAST(NULL AS ARRAY<INT>)[1]", "NULL"),
        (
            "ARRAY[1, 2][0]",
            "0 is not a position in an ARRAY: positions count from 1",
        ),
        (
            "ARRAY[1, 2][-1]",
            "-1 is not a position in an ARRAY: positions count from 1",
        ),
        (
            "ARRAY[1, 2]['a']",
            "`a` is not a position in an ARRAY: write a[1].a for a field of an element",
        ),
        ("ELEMENT(ARRAY[1])", "1"),
        ("ELEMENT(ARRAY[CAST(NULL AS INT)])", "NULL"),
        ("ELEMENT(CAST(NULL AS ARRAY<INT>))", "NULL"),
        (
            "ELEMENT(ARRAY[1, 2])",
            "Execution error: ELEMENT takes an array or multiset of one element, but this one has 2",
        ),
        ("CARDINALITY(CAST(NULL AS ARRAY<INT>))", "NULL"),
    ]);
}

#[test]
fn maps_have_values_for_keys() {
    check(&[
        ("MAP['a', 1, 'b', 2]", "{a: 1, b: 2}"),
        ("MAP['a', 1, 'a', 2]", "{a: 2}"),
        ("MAP['a', 1, 'b', NULL]", "{a: 1, b: }"),
        ("MAP['a', 1, 'b', 2.5]", "{a: 1.0, b: 2.5}"),
        ("MAP['a', 1]['a']", "1"),
        ("MAP['a', 1]['b']", "NULL"),
        ("MAP['a', 1]['a' || '']", "1"),
        ("MAP[12, 'x'][12]", "x"),
        ("CAST(MAP[12, 'x'] AS MAP<INT, STRING>)[12]", "x"),
        ("CAST(MAP[12, 'x'] AS MAP<TINYINT, STRING>)[300]", "NULL"),
        ("MAP[12, 'x'][CAST(NULL AS INT)]", "NULL"),
        ("MAP[DATE '2024-01-01', 'x'][DATE '2024-01-01']", "x"),
        ("CAST(NULL AS MAP<STRING, INT>)['a']", "NULL"),
        (
            "MAP[1, 2]['a']",
            "the function has keys of the type BIGINT, not STRING: write CAST(... AS BIGINT)",
        ),
        (
            "MAP['a', 1, 2, 'b']",
            "the function takes elements of one type, not STRING and BIGINT",
        ),
        (
            "MAP[CAST(NULL AS STRING), 1]",
            "Execution error: a key of a MAP is NULL: leave the entry out, or replace the key with COALESCE",
        ),
        (
            "MAP['a']",
            "1:8: MAP[...] takes a value for each key: MAP[key, value, ...]",
        ),
        ("CARDINALITY(MAP['a', 1])", "1"),
        ("MAP['a', 1] = MAP['a', 1]", "true"),
    ]);
}

#[test]
fn maps_are_combined_and_taken_apart() {
    check(&[
        ("MAP_KEYS(MAP['a', 1])", "[a]"),
        ("MAP_VALUES(MAP['a', 1])", "[1]"),
        ("MAP_ENTRIES(MAP['a', 1])", "[{key: a, value: 1}]"),
        ("MAP_KEYS(CAST(NULL AS MAP<STRING, INT>))", "NULL"),
        ("MAP_FROM_ARRAYS(ARRAY['a', 'b'], ARRAY[1, NULL])", "{a: 1, b: }"),
        ("MAP_FROM_ARRAYS(ARRAY['a', 'a'], ARRAY[1, 2])", "{a: 2}"),
        ("MAP_FROM_ARRAYS(CAST(NULL AS ARRAY<STRING>), ARRAY[1])", "NULL"),
        (
            "MAP_FROM_ARRAYS(ARRAY['a', 'b'], ARRAY[1])",
            "Execution error: MAP_FROM_ARRAYS takes as many keys as values, but there are 2 keys and 1 values",
        ),
        ("MAP_UNION(MAP['a', 1], MAP['b', 2, 'a', 3])", "{a: 3, b: 2}"),
        ("MAP_UNION(MAP['a', 1], CAST(NULL AS MAP<STRING, BIGINT>))", "NULL"),
        ("MAP_UNION(1)", "MAP_UNION takes a MAP, not BIGINT"),
    ]);
}

#[test]
fn sets_of_elements() {
    check(&[
        ("ARRAY_DISTINCT(ARRAY[3, 1, 3, NULL, 2, NULL])", "[3, 1, , 2]"),
        ("ARRAY_DISTINCT(CAST(NULL AS ARRAY<INT>))", "NULL"),
        ("ARRAY_UNION(ARRAY[1, NULL, NULL], ARRAY[NULL, 2])", "[1, , 2]"),
        ("ARRAY_UNION(CAST(NULL AS ARRAY<INT>), ARRAY[1])", "NULL"),
        ("ARRAY_INTERSECT(ARRAY[1, NULL, NULL], ARRAY[NULL, 1])", "[1, ]"),
        ("ARRAY_INTERSECT(CAST(NULL AS ARRAY<INT>), ARRAY[1])", "NULL"),
        ("ARRAY_EXCEPT(ARRAY[1, NULL, 1, 3, 3], ARRAY[NULL, 1])", "[3]"),
        ("ARRAY_EXCEPT(ARRAY[1], CAST(NULL AS ARRAY<INT>))", "NULL"),
        ("ARRAY_MAX(ARRAY[1, NULL, 3])", "3"),
        ("ARRAY_MIN(ARRAY['b', 'a'])", "a"),
        ("ARRAY_MAX(CAST(NULL AS ARRAY<INT>))", "NULL"),
        ("ARRAY_REVERSE(ARRAY[1, NULL, 3])", "[3, , 1]"),
        ("ARRAY_SORT(ARRAY[TRUE, FALSE])", "[false, true]"),
        (
            "ARRAY_SORT(ARRAY[ROW(2, 'a')])",
            "ARRAY_SORT takes elements that have an order, not ROW<c0 BIGINT, c1 STRING>",
        ),
    ]);
}

#[test]
fn chains_of_accesses() {
    let rows = "CAST(ARRAY[ROW(1, 'x')] AS ARRAY<ROW<a INT, b STRING>>)";
    let map = "CAST(MAP['k', ROW(1, 'x')] AS MAP<STRING, ROW<p INT, q STRING>>)";
    let nested = "CAST(ROW(ARRAY[ROW(1)]) AS ROW<q ARRAY<ROW<v INT>>>)";
    check(&[
        (&format!("{rows}[1].b"), "x"),
        (&format!("{rows}[2].b"), "NULL"),
        (&format!("{map}['k'].q"), "x"),
        (&format!("{map}['l'].q"), "NULL"),
        (&format!("{nested}.q[1].v"), "1"),
        (&format!("{nested}.q[1].v + 1"), "2"),
    ]);
}

#[test]
fn rows_and_arrays_are_compared() {
    check(&[
        ("ROW(1, 'a') = ROW(1, 'a')", "true"),
        ("ROW(1, 'a') < ROW(1, 'b')", "true"),
        ("(1, 'a') = (1, 'a')", "true"),
        ("ROW(1, 2) IS DISTINCT FROM ROW(1, 3)", "true"),
        ("ARRAY[1, 2] = ARRAY[1, 2]", "true"),
        ("ARRAY[1, NULL] IS NOT DISTINCT FROM ARRAY[1, NULL]", "true"),
        ("CASE WHEN TRUE THEN ARRAY[1] ELSE ARRAY[2] END", "[1]"),
    ]);
}

#[test]
fn between_may_be_symmetric() {
    check(&[
        ("2 BETWEEN SYMMETRIC 3 AND 1", "true"),
        ("2 BETWEEN SYMMETRIC 1 AND 3", "true"),
        ("4 BETWEEN SYMMETRIC 3 AND 1", "false"),
        ("2 NOT BETWEEN SYMMETRIC 3 AND 1", "false"),
        ("2 BETWEEN ASYMMETRIC 3 AND 1", "false"),
        ("2 BETWEEN SYMMETRIC 3 AND 1 AND 1 = 2", "false"),
        ("CAST(NULL AS INT) BETWEEN SYMMETRIC 3 AND 1", "NULL"),
    ]);
}
