//! Functions about types, and other spellings of expressions.

use super::{value, value_in};

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
fn types_of_values() {
    check(&[
        ("TYPEOF(1)", "BIGINT"),
        ("TYPEOF(CAST(1 AS INT))", "INT"),
        ("TYPEOF('a')", "STRING"),
        ("TYPEOF(1.50)", "DECIMAL(3, 2)"),
        ("TYPEOF(1.5e0, TRUE)", "DOUBLE"),
        ("TYPEOF(CAST(NULL AS DATE))", "DATE"),
        ("TYPEOF(TIMESTAMP '2024-01-01 00:00:00')", "TIMESTAMP"),
        ("TYPEOF(ARRAY[1])", "ARRAY<BIGINT>"),
        ("TYPEOF(MAP['a', 1])", "MAP<STRING, BIGINT>"),
        ("TYPEOF(1 = 1)", "BOOLEAN"),
        ("TYPEOF()", "TYPEOF takes a value, and optionally TRUE or FALSE"),
    ]);
    assert_eq!(
        value_in(Some("Europe/Berlin"), "TYPEOF(TO_TIMESTAMP_LTZ(1))"),
        "TIMESTAMP_LTZ"
    );
}

#[test]
fn values_that_are_known_while_planning() {
    check(&[
        ("CURRENT_DATABASE()", "default_database"),
        ("GROUP_ID()", "0"),
        (
            "CURRENT_DATABASE(1)",
            "unknown function `CURRENT_DATABASE`; did you mean `CURRENT_DATE`?",
        ),
    ]);
}

#[test]
fn a_case_may_list_values() {
    check(&[
        ("CASE 3 WHEN 1, 2 THEN 'low' WHEN 3, 4 THEN 'high' END", "high"),
        (
            "CASE 2 WHEN 1, 2 THEN 'low' WHEN 3, 4 THEN 'high' ELSE 'none' END",
            "low",
        ),
        ("CASE 5 WHEN 1, 2 THEN 'low' ELSE 'none' END", "none"),
        ("CASE CAST(NULL AS INT) WHEN 1, 2 THEN 'low' ELSE 'none' END", "none"),
        (
            "CASE WHEN 1 = 2 THEN 1 WHEN 2 = 2 THEN CASE 1 WHEN 1 THEN 7 END END",
            "7",
        ),
        ("CASE 1 THEN 2 END", "1:8: expected WHEN, found: THEN"),
    ]);
}

#[test]
fn parts_of_intervals() {
    check(&[
        ("EXTRACT(DAY FROM INTERVAL '12 03:04:05.678' DAY TO SECOND)", "12"),
        ("EXTRACT(HOUR FROM INTERVAL '12 03:04:05.678' DAY TO SECOND)", "3"),
        ("EXTRACT(MINUTE FROM INTERVAL '12 03:04:05.678' DAY TO SECOND)", "4"),
        ("EXTRACT(SECOND FROM INTERVAL '12 03:04:05.678' DAY TO SECOND)", "5"),
        (
            "EXTRACT(MILLISECOND FROM INTERVAL '12 03:04:05.678' DAY TO SECOND)",
            "678",
        ),
        ("EXTRACT(YEAR FROM INTERVAL '2-10' YEAR TO MONTH)", "2"),
        ("EXTRACT(MONTH FROM INTERVAL '2-10' YEAR TO MONTH)", "10"),
        ("EXTRACT(HOUR FROM INTERVAL '-100' MINUTE)", "-1"),
        (
            "EXTRACT(DAY FROM TIMESTAMP '2024-01-02 00:00:00' - TIMESTAMP '2024-03-01 12:00:00')",
            "-59",
        ),
        (
            "EXTRACT(HOUR FROM TIMESTAMP '2024-01-02 10:00:00' - TIMESTAMP '2024-01-01 12:00:00')",
            "22",
        ),
        (
            "EXTRACT(DOW FROM INTERVAL '1' DAY)",
            "`DOW` is not a part of an interval; YEAR, MONTH, DAY, HOUR, MINUTE, SECOND are",
        ),
    ]);
}
