//! Values of intervals: their types, arithmetic, comparison and text.

use super::check;

#[test]
fn types_of_intervals() {
    check(&[
        ("TYPEOF(INTERVAL '1' DAY)", "INTERVAL DAY TO SECOND"),
        ("TYPEOF(INTERVAL '1' MONTH)", "INTERVAL YEAR TO MONTH"),
        (
            "TYPEOF(DATE '2024-01-02' - DATE '2024-01-01')",
            "INTERVAL DAY TO SECOND",
        ),
        ("TYPEOF(INTERVAL '1' MONTH * 2)", "INTERVAL YEAR TO MONTH"),
        ("TYPEOF(CAST(NULL AS INTERVAL SECOND(3)))", "INTERVAL DAY TO SECOND"),
        (
            "TYPEOF(CAST(NULL AS INTERVAL DAY(3) TO SECOND(3)))",
            "INTERVAL DAY TO SECOND",
        ),
        (
            "TYPEOF(CAST(NULL AS INTERVAL YEAR(4) TO MONTH))",
            "INTERVAL YEAR TO MONTH",
        ),
        (
            "TYPEOF(CAST(NULL AS ARRAY<INTERVAL HOUR TO MINUTE>))",
            "ARRAY<INTERVAL DAY TO SECOND>",
        ),
        (
            "TYPEOF(ROW(INTERVAL '1' HOUR, INTERVAL '1' YEAR))",
            "ROW<c0 INTERVAL DAY TO SECOND, c1 INTERVAL YEAR TO MONTH>",
        ),
    ]);
}

#[test]
fn casts_of_intervals() {
    check(&[
        ("CAST(CAST('+1-06' AS INTERVAL YEAR TO MONTH) AS STRING)", "+1-06"),
        (
            "CAST(CAST('-12 03:04:05.678' AS INTERVAL DAY TO SECOND) AS STRING)",
            "-12 03:04:05.678",
        ),
        ("TRY_CAST('soon' AS INTERVAL DAY) IS NULL", "true"),
        (
            "CAST('soon' AS INTERVAL DAY)",
            "Execution error: cannot cast `soon` to INTERVAL DAY TO SECOND",
        ),
        (
            "CAST(CAST(INTERVAL '26' HOUR AS INTERVAL DAY) AS STRING)",
            "+1 02:00:00.000",
        ),
        (
            "CAST(ARRAY[INTERVAL '1' HOUR, CAST(NULL AS INTERVAL HOUR)] AS STRING)",
            "[+0 01:00:00.000, NULL]",
        ),
        (
            "CAST(CAST(ARRAY['1-00', '0-03'] AS ARRAY<INTERVAL MONTH>) AS STRING)",
            "[+1-00, +0-03]",
        ),
        ("CAST(MAP['a', INTERVAL '1' MONTH] AS STRING)", "{a=+0-01}"),
        (
            "CAST(1 AS INTERVAL SECOND)",
            "a number is not an INTERVAL: write INTERVAL '1' SECOND * n, with the unit of the number",
        ),
        (
            "CAST(INTERVAL '1' SECOND AS BIGINT)",
            "an INTERVAL is not a number: write EXTRACT(EPOCH FROM i) for seconds, or EXTRACT(YEAR FROM i) * 12 + \
             EXTRACT(MONTH FROM i) for months",
        ),
        (
            "CAST(INTERVAL '1' MONTH AS INTERVAL DAY)",
            "there is no CAST of INTERVAL YEAR TO MONTH to INTERVAL DAY TO SECOND",
        ),
        (
            "CAST(DATE '2024-01-01' AS INTERVAL DAY)",
            "there is no CAST of DATE to INTERVAL DAY TO SECOND",
        ),
        (
            "CAST(ARRAY[1] AS ARRAY<INTERVAL SECOND>)",
            "there is no CAST of ARRAY<BIGINT> to ARRAY<INTERVAL DAY TO SECOND>: types inside must correspond, and a \
             ROW must have as many fields",
        ),
    ]);
}

#[test]
fn intervals_are_values() {
    check(&[
        (
            "CAST(COALESCE(CAST(NULL AS INTERVAL DAY), INTERVAL '1' HOUR) AS STRING)",
            "+0 01:00:00.000",
        ),
        (
            "CAST(IF(TRUE, INTERVAL '1' YEAR, INTERVAL '1' MONTH) AS STRING)",
            "+1-00",
        ),
        ("CAST(CASE WHEN 1 = 2 THEN INTERVAL '1' DAY END AS STRING)", "NULL"),
        ("NULLIF(INTERVAL '60' MINUTE, INTERVAL '1' HOUR) IS NULL", "true"),
        (
            "CAST(GREATEST(INTERVAL '59' MINUTE, INTERVAL '1' HOUR) AS STRING)",
            "+0 01:00:00.000",
        ),
        (
            "INTERVAL '1' HOUR BETWEEN INTERVAL '1' MINUTE AND INTERVAL '1' DAY",
            "true",
        ),
        ("INTERVAL '12' MONTH IN (INTERVAL '1' YEAR)", "true"),
        ("INTERVAL '11' MONTH >= INTERVAL '1' YEAR", "false"),
        ("INTERVAL '1' DAY IS DISTINCT FROM INTERVAL '24' HOUR", "false"),
        ("ARRAY_CONTAINS(ARRAY[INTERVAL '1' DAY], INTERVAL '24' HOUR)", "true"),
        (
            "INTERVAL '30' DAY = INTERVAL '1' MONTH",
            "`=` mixes INTERVAL DAY TO SECOND with another kind of INTERVAL: years and months have no fixed length in days",
        ),
    ]);
}

#[test]
fn arithmetic_of_intervals() {
    check(&[
        (
            "CAST(INTERVAL '1' DAY + INTERVAL '1' HOUR AS STRING)",
            "+1 01:00:00.000",
        ),
        (
            "CAST(INTERVAL '1' DAY - INTERVAL '36' HOUR AS STRING)",
            "-0 12:00:00.000",
        ),
        ("CAST(INTERVAL '1' YEAR - INTERVAL '1' MONTH AS STRING)", "+0-11"),
        ("CAST(-INTERVAL '1' HOUR AS STRING)", "-0 01:00:00.000"),
        (
            "CAST(-(INTERVAL '1' HOUR + INTERVAL '1' MINUTE) AS STRING)",
            "-0 01:01:00.000",
        ),
        ("CAST(-(INTERVAL '1' YEAR * 2) AS STRING)", "-2-00"),
        (
            "CAST(-(TIMESTAMP '2024-01-01 00:00:00' - TIMESTAMP '2024-01-01 01:00:00') AS STRING)",
            "+0 01:00:00.000",
        ),
        ("CAST(+INTERVAL '1' HOUR AS STRING)", "+0 01:00:00.000"),
        ("-(1 + 2)", "-3"),
        ("CAST(INTERVAL '0' MONTH AS STRING)", "+0-00"),
        ("CAST(INTERVAL '0' DAY AS STRING)", "+0 00:00:00.000"),
        (
            "TIMESTAMP '2024-01-01 00:00:00' + COALESCE(INTERVAL '1' HOUR)",
            "2024-01-01T01:00:00",
        ),
        (
            "TIMESTAMP '2024-01-31 00:00:00' + COALESCE(INTERVAL '1' MONTH)",
            "2024-02-29T00:00:00",
        ),
        (
            "TIMESTAMP '2024-01-02 00:00:00' + -(INTERVAL '1' DAY)",
            "2024-01-01T00:00:00",
        ),
        (
            "COALESCE(INTERVAL '1' HOUR) + TIMESTAMP '2024-01-01 00:00:00'",
            "2024-01-01T01:00:00",
        ),
        ("DATE '2024-01-31' + COALESCE(INTERVAL '1' MONTH)", "2024-02-29"),
        ("DATE '2024-01-31' + COALESCE(INTERVAL '1' DAY)", "2024-02-01T00:00:00"),
        ("DATE '1969-12-31' - INTERVAL '1' DAY * 2", "1969-12-29"),
        ("TIME '10:00:00' - COALESCE(INTERVAL '1' HOUR)", "09:00:00"),
        ("EXTRACT(HOUR FROM COALESCE(INTERVAL '26' HOUR))", "2"),
        (
            "EXTRACT(EPOCH FROM TIMESTAMP '2024-01-02 00:00:00' - TIMESTAMP '2024-01-01 00:00:00')",
            "86400",
        ),
        (
            "CAST(TIMESTAMP '9999-01-01 00:00:00' - TIMESTAMP '0001-01-01 00:00:00' AS STRING)",
            "+3651694 00:00:00.000",
        ),
        (
            "INTERVAL '1' DAY + INTERVAL '1' MONTH",
            "`+` of intervals takes two of years and months, or two of days and times: add them to a TIMESTAMP one \
             after the other",
        ),
        (
            "INTERVAL '100000' DAY * 10000",
            "Execution error: an interval is too long: years and months end at 178,956,970 years, days and times at 106,751,991 days",
        ),
    ]);
}
