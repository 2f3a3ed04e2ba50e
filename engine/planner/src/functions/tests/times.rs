//! Values of dates, times, intervals and time zones.

use super::{check, value, value_in};

#[track_caller]
fn check_in(zone: &str, cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(expression, expected)| {
            let found = value_in(Some(zone), expression);
            (found != *expected).then(|| format!("{expression} in {zone} is {found}, not {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[track_caller]
fn check_refused(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .filter_map(|(expression, expected)| {
            let found = value(expression);
            (!found.contains(expected)).then(|| format!("{expression} is {found}, not an error: {expected}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn dates_plus_intervals() {
    check(&[
        ("DATE '2024-02-28' + INTERVAL '1' DAY", "2024-02-29"),
        ("DATE '2024-02-28' + INTERVAL '2' WEEK", "2024-03-13"),
        ("DATE '2024-01-31' + INTERVAL '1' MONTH", "2024-02-29"),
        ("DATE '2024-02-29' - INTERVAL '1' YEAR", "2023-02-28"),
        ("DATE '2024-02-28' + INTERVAL '1' HOUR", "2024-02-28T01:00:00"),
        ("DATE '2024-02-28' + INTERVAL '24' HOUR", "2024-02-29T00:00:00"),
        ("DATE '2024-02-28' - INTERVAL '1' SECOND", "2024-02-27T23:59:59"),
        (
            "DATE '2024-02-28' - INTERVAL '1:30' MINUTE TO SECOND",
            "2024-02-27T23:58:30",
        ),
        ("DATE '2024-02-28' + (INTERVAL '1' MINUTE)", "2024-02-28T00:01:00"),
        ("DATE '2024-02-28' + INTERVAL '1 12' DAY TO HOUR", "2024-02-29"),
        ("INTERVAL '1' DAY + DATE '2024-02-28'", "2024-02-29"),
        ("INTERVAL '90' MINUTE + DATE '2024-02-28'", "2024-02-28T01:30:00"),
        (
            "DATE '2024-02-28' + INTERVAL '1' HOUR + INTERVAL '1' DAY",
            "2024-02-29T01:00:00",
        ),
        ("DATE '2024-02-28' + INTERVAL '1' DAY * 3", "2024-03-02"),
        ("DATE '2024-02-28' + 2 * INTERVAL '1' HOUR", "2024-02-28T02:00:00"),
        (
            "TIMESTAMP '2024-01-31 10:00:00' + INTERVAL '1' MONTH * 2",
            "2024-03-31T10:00:00",
        ),
        ("DATE '2024-02-28' + INTERVAL '1' DAY * CAST(NULL AS INT)", "NULL"),
        ("CAST(NULL AS DATE) + INTERVAL '1' HOUR", "NULL"),
        (
            "TIMESTAMP '2024-02-28 10:00:00' + INTERVAL '1' HOUR",
            "2024-02-28T11:00:00",
        ),
        (
            "TIMESTAMP '2024-02-28 10:00:00' + INTERVAL -'1' HOUR",
            "2024-02-28T09:00:00",
        ),
        ("TIMESTAMPADD(DAY, 1, DATE '2024-02-28')", "2024-02-29"),
        ("TIMESTAMPADD(WEEK, 1, DATE '2003-01-02')", "2003-01-09"),
        ("TIMESTAMPADD(MONTH, 1, DATE '2024-01-31')", "2024-02-29"),
        ("TIMESTAMPADD(HOUR, 1, DATE '2024-02-28')", "2024-02-28T01:00:00"),
        (
            "TIMESTAMPADD(SQL_TSI_MINUTE, -1, DATE '2024-02-28')",
            "2024-02-27T23:59:00",
        ),
        ("TIMESTAMPADD(HOUR, 3, TIME '22:30:00')", "01:30:00"),
        ("TIMESTAMPADD(DAY, CAST(NULL AS INT), DATE '2024-02-28')", "NULL"),
    ]);
}

#[test]
fn times_of_day() {
    check(&[
        ("TIME '12:44:31' + INTERVAL '3' HOUR", "15:44:31"),
        ("TIME '23:00:00' + INTERVAL '90' MINUTE", "00:30:00"),
        ("TIME '00:10:00' - INTERVAL '20' MINUTE", "23:50:00"),
        ("TIME '12:00:00' + INTERVAL '1' DAY", "12:00:00"),
        ("INTERVAL '1' SECOND + TIME '12:00:00'", "12:00:01"),
        ("FLOOR(TIME '12:44:31' TO MINUTE)", "12:44:00"),
        ("CEIL(TIME '12:44:31' TO MINUTE)", "12:45:00"),
        ("CEIL(TIME '12:44:00' TO MINUTE)", "12:44:00"),
        ("FLOOR(TIME '12:44:31' TO HOUR)", "12:00:00"),
        ("HOUR(TIME '12:44:31')", "12"),
        ("MINUTE(TIME '12:44:31')", "44"),
        ("EXTRACT(SECOND FROM TIME '12:44:31')", "31"),
        ("EXTRACT(MILLISECOND FROM TIME '12:44:31.250')", "250"),
        ("TIMESTAMPDIFF(MINUTE, TIME '12:00:00', TIME '13:30:59')", "90"),
        ("CAST('12:34:56.789' AS TIME)", "12:34:56"),
        ("CAST('12:34:56.789' AS TIME(0))", "12:34:56"),
        ("CAST('12:34:56.789' AS TIME(2))", "12:34:56.780"),
        ("CAST(TIMESTAMP '2024-01-01 12:34:56.789' AS TIME)", "12:34:56"),
        ("CAST(CAST('12:34:56.789' AS TIME) AS STRING)", "12:34:56"),
        ("HOUR(CAST(NULL AS TIME))", "NULL"),
    ]);
    check_refused(&[
        ("EXTRACT(DAY FROM TIME '12:44:31')", "a TIME has no DAY"),
        ("FLOOR(TIME '12:44:31' TO MONTH)", "a TIME is rounded to"),
        ("TIMESTAMPADD(MONTH, 1, TIME '12:44:31')", "a TIME has no MONTH"),
        ("TIME '12:44:31' + INTERVAL '1' MONTH", "a TIME has no years and months"),
        (
            "TIMESTAMPDIFF(HOUR, TIME '12:44:31', DATE '2024-01-01')",
            "takes two times of one kind",
        ),
    ]);
}

#[test]
fn rounding_to_units() {
    check(&[
        ("FLOOR(DATE '2024-02-29' TO MONTH)", "2024-02-01"),
        ("CEIL(DATE '2024-02-29' TO MONTH)", "2024-03-01"),
        ("CEILING(DATE '2024-02-29' TO MONTH)", "2024-03-01"),
        ("CEILING(1.2)", "2"),
        ("CEIL(DATE '2024-02-29' TO DAY)", "2024-02-29"),
        ("CEIL(TIMESTAMP '2024-02-29 00:00:00' TO DAY)", "2024-02-29T00:00:00"),
        ("FLOOR(DATE '2024-02-29' TO WEEK)", "2024-02-25"),
        ("FLOOR(DATE '2024-02-29' TO DECADE)", "2020-01-01"),
        ("CEIL(DATE '2024-02-29' TO DECADE)", "2030-01-01"),
        ("FLOOR(DATE '2024-02-29' TO CENTURY)", "2001-01-01"),
        ("CEIL(DATE '2024-02-29' TO CENTURY)", "2101-01-01"),
        (
            "FLOOR(TIMESTAMP '2024-02-29 10:20:30' TO MILLENNIUM)",
            "2001-01-01T00:00:00",
        ),
        (
            "CEIL(TIMESTAMP '2000-02-29 10:20:30' TO MILLENNIUM)",
            "2001-01-01T00:00:00",
        ),
        (
            "FLOOR(TIMESTAMP '2024-02-29 10:20:30.123456' TO MILLISECOND)",
            "2024-02-29T10:20:30.123",
        ),
        (
            "CEIL(TIMESTAMP '2024-02-29 10:20:30.123456' TO MILLISECOND)",
            "2024-02-29T10:20:30.124",
        ),
        ("EXTRACT(DECADE FROM DATE '2024-02-29')", "202"),
        ("EXTRACT(CENTURY FROM DATE '2000-02-29')", "20"),
        ("EXTRACT(MILLENNIUM FROM DATE '2024-02-29')", "3"),
        ("EXTRACT(ISOYEAR FROM DATE '2021-01-03')", "2020"),
        ("EXTRACT(ISODOW FROM DATE '2021-01-03')", "7"),
        ("EXTRACT(EPOCH FROM DATE '1970-01-02')", "86400"),
        (
            "EXTRACT(NANOSECOND FROM TIMESTAMP '2024-01-01 00:00:00.000123')",
            "123000",
        ),
    ]);
}

#[test]
fn intervals_as_text_and_their_comparison() {
    check(&[
        ("CAST(INTERVAL '1' YEAR AS STRING)", "+1-00"),
        ("CAST(INTERVAL '1-06' YEAR TO MONTH AS STRING)", "+1-06"),
        ("CAST(INTERVAL -'14' MONTH AS STRING)", "-1-02"),
        ("CAST(INTERVAL '12' DAY AS STRING)", "+12 00:00:00.000"),
        ("CAST(INTERVAL '2' WEEK AS STRING)", "+14 00:00:00.000"),
        (
            "CAST(INTERVAL '10 00:00:00.004' DAY TO SECOND AS STRING)",
            "+10 00:00:00.004",
        ),
        ("CAST(INTERVAL '-90' MINUTE AS STRING)", "-0 01:30:00.000"),
        ("CONCAT('in ', INTERVAL '1' HOUR)", "in +0 01:00:00.000"),
        (
            "CAST(TIMESTAMP '2024-01-02 00:00:00' - TIMESTAMP '2024-01-01 12:30:00' AS STRING)",
            "+0 11:30:00.000",
        ),
        (
            "CAST(DATE '2024-01-01' - DATE '2024-01-31' AS STRING)",
            "-30 00:00:00.000",
        ),
        ("CAST(TIME '10:00:00' - TIME '09:00:00' AS STRING)", "+0 01:00:00.000"),
        (
            "TIMESTAMP '2024-01-02 00:00:00' - TIMESTAMP '2024-01-01 12:30:00' > INTERVAL '11' HOUR",
            "true",
        ),
        ("DATE '2024-01-02' - DATE '2024-01-01' = INTERVAL '1' DAY", "true"),
        ("INTERVAL '24' HOUR = INTERVAL '1' DAY", "true"),
        (
            "CAST(CAST(NULL AS TIMESTAMP) - TIMESTAMP '2024-01-01 12:30:00' AS STRING)",
            "NULL",
        ),
        ("TIMESTAMPDIFF(QUARTER, DATE '2023-01-01', DATE '2024-01-01')", "4"),
        ("TIMESTAMPDIFF(WEEK, DATE '2024-01-01', DATE '2024-01-31')", "4"),
        ("TIMESTAMPDIFF(YEAR, DATE '2024-02-29', DATE '2025-02-28')", "1"),
        (
            "TIMESTAMPDIFF(SECOND, DATE '2024-01-02', TIMESTAMP '2024-01-01 00:00:00')",
            "-86400",
        ),
    ]);
}

#[test]
fn overlaps() {
    check(&[
        (
            "(TIME '2:55:00', INTERVAL '1' HOUR) OVERLAPS (TIME '3:30:00', INTERVAL '2' HOUR)",
            "true",
        ),
        (
            "(TIME '9:00:00', TIME '10:00:00') OVERLAPS (TIME '10:15:00', INTERVAL '3' HOUR)",
            "false",
        ),
        (
            "(DATE '2024-01-31', DATE '2024-01-01') OVERLAPS (DATE '2024-01-15', INTERVAL '1' MONTH)",
            "true",
        ),
        (
            "NOT (DATE '2024-01-01', DATE '2024-01-02') OVERLAPS (DATE '2024-01-02', DATE '2024-01-03')",
            "false",
        ),
        (
            "(DATE '2024-01-01', CAST(NULL AS DATE)) OVERLAPS (DATE '2024-01-02', DATE '2024-01-03')",
            "NULL",
        ),
    ]);
}

#[test]
fn formatting_by_patterns() {
    let time = "TIMESTAMP '2024-02-09 13:04:05.678901'";
    let cases: Vec<(String, &str)> = [
        ("yyyy-MM-dd HH:mm:ss.SSS", "2024-02-09 13:04:05.678"),
        ("yy M d H m s", "24 2 9 13 4 5"),
        ("uuuu-DDD", "2024-040"),
        ("MMM MMMM MMMMM", "Feb February F"),
        ("E EEEE EEEEE", "Fri Friday F"),
        ("Q QQ QQQ QQQQ QQQQQ", "1 01 Q1 1st quarter 1"),
        ("hh:mm a", "01:04 PM"),
        ("k K h", "13 1 1"),
        ("SSSSSSSSS", "678901000"),
        ("yyyy[-MM]", "2024-02"),
        ("''yyyy'' ''''", "'2024' ''"),
    ]
    .into_iter()
    .map(|(pattern, expected)| {
        (
            format!("DATE_FORMAT({time}, '{}')", pattern.replace('\'', "''")),
            expected,
        )
    })
    .collect();
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(expression, expected)| (expression.as_str(), *expected))
        .collect();
    check(&cases);
    check(&[
        ("DATE_FORMAT(DATE '2024-02-09', 'dd.MM.yyyy')", "09.02.2024"),
        ("DATE_FORMAT('2024-02-09 01:02:03', 'EEE d')", "Fri 9"),
        ("DATE_FORMAT(CAST(NULL AS TIMESTAMP), 'yyyy')", "NULL"),
        (
            "FROM_UNIXTIME(0, 'yyyy-MM-dd u X XX XXX Z')",
            "1970-01-01 4 Z Z Z +0000",
        ),
        ("FROM_UNIXTIME(-1)", "1969-12-31 23:59:59"),
        ("FROM_UNIXTIME(CAST(NULL AS BIGINT))", "NULL"),
    ]);
    check_refused(&[
        (
            "DATE_FORMAT(LOCALTIMESTAMP, 'ddd')",
            "has `d` 3 times in succession, but 2 is the most",
        ),
        (
            "DATE_FORMAT(LOCALTIMESTAMP, 'yyyy-MM-ddX')",
            "a time has no offset from UTC",
        ),
        (
            "DATE_FORMAT(LOCALTIMESTAMP, 'bb')",
            "`b` in the date pattern `bb` is not known",
        ),
        ("DATE_FORMAT(LOCALTIMESTAMP, 'yyyy[')", "has a `[` without `]`"),
        ("FROM_UNIXTIME(0, 'QQQ')", "`Q` in the date pattern `QQQ` is not known"),
    ]);
}

#[test]
fn parsing_by_strict_patterns() {
    let cases: Vec<(String, &str)> = [
        ("20240131102030", "yyyyMMddHHmmss", "2024-01-31T10:20:30"),
        ("20240131102030123", "yyyyMMddHHmmssSSS", "2024-01-31T10:20:30.123"),
        ("31.1.2024", "d.M.yyyy", "2024-01-31T00:00:00"),
        ("2024-060", "yyyy-DDD", "2024-02-29T00:00:00"),
        ("2024-400", "yyyy-DDD", "NULL"),
        ("2023-366", "yyyy-DDD", "NULL"),
        ("Jan 5 24", "MMM d yy", "2024-01-05T00:00:00"),
        ("jan 5 24", "MMM d yy", "NULL"),
        ("January 5 2024", "MMMM d yyyy", "2024-01-05T00:00:00"),
        ("Fri 9 Feb 2024", "EEE d MMM yyyy", "2024-02-09T00:00:00"),
        ("Thu 9 Feb 2024", "EEE d MMM yyyy", "NULL"),
        ("2024-01-01 01:30 PM", "yyyy-MM-dd hh:mm a", "2024-01-01T13:30:00"),
        ("2024-01-01 12:30 AM", "yyyy-MM-dd hh:mm a", "2024-01-01T00:30:00"),
        ("2024-01-01 13:30 PM", "yyyy-MM-dd hh:mm a", "NULL"),
        ("2024-01-01 13:30 AM", "yyyy-MM-dd HH:mm a", "NULL"),
        ("2024-01-01 24:00", "yyyy-MM-dd HH:mm", "NULL"),
        ("2024-13-01", "yyyy-MM-dd", "NULL"),
        ("2024-+1-01", "yyyy-MM-dd", "NULL"),
        ("2024-02-30", "yyyy-MM-dd", "NULL"),
        ("24-01-01", "yyyy-MM-dd", "NULL"),
        ("+12024-01-01", "yyyy-MM-dd", "+12024-01-01T00:00:00"),
        ("2024-01-01 10:20", "yyyy-MM-dd[ HH:mm]", "2024-01-01T10:20:00"),
        ("2024-01-01", "yyyy-MM-dd[ HH:mm]", "2024-01-01T00:00:00"),
        (
            "2024-01-01 10:20:30+02:00",
            "yyyy-MM-dd HH:mm:ssXXX",
            "2024-01-01T10:20:30",
        ),
        ("2024-01-01 10:20:30+19:00", "yyyy-MM-dd HH:mm:ssXXX", "NULL"),
        ("Q3 2024", "QQQ yyyy", "2024-01-01T00:00:00"),
        ("Q5 2024", "QQQ yyyy", "NULL"),
        ("10:20", "HH:mm", "1970-01-01T10:20:00"),
        // A plain time is read whatever the pattern is.
        ("1999-9-10 05:20:10", "yyyy/MM/dd", "1999-09-10T05:20:10"),
        ("1999-9-10", "yyyy-MM-dd", "1999-09-10T00:00:00"),
        (
            "2024-01-01 10:20:30.123456",
            "yyyy-MM-dd HH:mm:ss.SSSSSS",
            "2024-01-01T10:20:30.123456",
        ),
        ("2024-01-01 x", "yyyy-MM-dd", "NULL"),
    ]
    .into_iter()
    .map(|(text, pattern, expected)| (format!("TO_TIMESTAMP('{text}', '{pattern}')"), expected))
    .collect();
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(expression, expected)| (expression.as_str(), *expected))
        .collect();
    check(&cases);
    check(&[
        ("TO_TIMESTAMP('2024-1-5 1:2:3')", "2024-01-05T01:02:03"),
        ("TO_TIMESTAMP('2024-01-05')", "2024-01-05T00:00:00"),
        ("TO_TIMESTAMP('2024-01-05T01:02:03')", "NULL"),
        (
            "TO_TIMESTAMP('2024-01-05T01:02:03', 'yyyy-MM-dd''T''HH:mm:ss')",
            "2024-01-05T01:02:03",
        ),
        ("TO_TIMESTAMP('2024-01-05 01:02')", "NULL"),
        ("TO_TIMESTAMP('2024-+1-05 01:02:03')", "NULL"),
        ("TO_TIMESTAMP('2024-01-01 00:00:00.123456')", "2024-01-01T00:00:00.123"),
        ("TO_TIMESTAMP('2024-01-01 00:00:00+19:00')", "NULL"),
        ("TO_TIMESTAMP(CAST(NULL AS STRING), 'yyyy')", "NULL"),
        ("TO_DATE('2024-02')", "2024-02-01"),
        ("TO_DATE('2024')", "2024-01-01"),
        ("TO_DATE('2024-1-5 10:20:30')", "2024-01-05"),
        ("TO_DATE('2023-02-29')", "NULL"),
        ("TO_DATE('5/1/2024', 'd/M/yyyy')", "2024-01-05"),
        ("TO_DATE('x', 'd/M/yyyy')", "NULL"),
    ]);
}

#[test]
fn seconds_since_1970() {
    check(&[
        ("UNIX_TIMESTAMP('1970-01-01 08:00:01.001')", "28801"),
        ("UNIX_TIMESTAMP('1970-1-1 0:0:1')", "1"),
        ("UNIX_TIMESTAMP('1970-13-01 00:00:00')", "31536000"),
        ("UNIX_TIMESTAMP('nonsense')", "-9223372036854775808"),
        ("UNIX_TIMESTAMP(CAST(NULL AS STRING))", "NULL"),
        ("UNIX_TIMESTAMP('1970-01-02', 'yyyy-MM-dd')", "86400"),
        ("UNIX_TIMESTAMP('70-01-02', 'yy-MM-dd')", "86400"),
        (
            "UNIX_TIMESTAMP('1970-01-01 08:00:01.001 +0800', 'yyyy-MM-dd HH:mm:ss.SSS X')",
            "1",
        ),
        (
            "UNIX_TIMESTAMP('1970-01-01 08:00:01.001', 'yyyy-MM-dd HH:mm:ss.SSS X')",
            "-9223372036854775808",
        ),
        ("TO_TIMESTAMP_LTZ(1000)", "1970-01-01T00:00:01Z"),
        ("TO_TIMESTAMP_LTZ(15, 1)", "1970-01-01T00:00:01.500Z"),
        ("TO_TIMESTAMP_LTZ(1500000, 6)", "1970-01-01T00:00:01.500Z"),
        ("TO_TIMESTAMP_LTZ(1500000001, 9)", "1970-01-01T00:00:01.500Z"),
        ("TO_TIMESTAMP_LTZ(CAST(1.5 AS DOUBLE), 0)", "1970-01-01T00:00:01.500Z"),
        ("TO_TIMESTAMP_LTZ(1.5, 0)", "1970-01-01T00:00:01Z"),
        ("TO_TIMESTAMP_LTZ(253402300799, 0)", "9999-12-31T23:59:59Z"),
        ("TO_TIMESTAMP_LTZ(253402300800, 0)", "NULL"),
        ("TO_TIMESTAMP_LTZ(-62167219201, 0)", "NULL"),
        ("TO_TIMESTAMP_LTZ(9223372036854775807, 0)", "NULL"),
        ("TO_TIMESTAMP_LTZ(CAST(NULL AS BIGINT), 3)", "NULL"),
        ("TO_TIMESTAMP_LTZ('2023-01-01 00:00:00')", "2023-01-01T00:00:00Z"),
        ("TO_TIMESTAMP_LTZ('01/01/2023', 'dd/MM/yyyy')", "2023-01-01T00:00:00Z"),
        (
            "TO_TIMESTAMP_LTZ('2023-01-01 00:00:00', 'yyyy-MM-dd HH:mm:ss', 'Asia/Shanghai')",
            "2022-12-31T16:00:00Z",
        ),
        ("TO_TIMESTAMP_LTZ('x', 'yyyy-MM-dd')", "NULL"),
    ]);
    check_refused(&[
        ("TO_TIMESTAMP_LTZ(1, 10)", "or any precision between, not 10"),
        (
            "TO_TIMESTAMP_LTZ('2023-01-01', 'yyyy-MM-dd', 'Nowhere')",
            "`Nowhere` is not a time zone",
        ),
    ]);
}

#[test]
fn conversion_between_zones() {
    check(&[
        (
            "CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles')",
            "1969-12-31 16:00:00",
        ),
        ("CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'PST')", "1969-12-31 16:00:00"),
        (
            "CONVERT_TZ('2024-01-01 00:00:00', 'GMT+05:30', 'UTC')",
            "2023-12-31 18:30:00",
        ),
        (
            "CONVERT_TZ('2024-01-01 00:00:00', 'UTC', 'GMT-08:00')",
            "2023-12-31 16:00:00",
        ),
        // Skipped, then repeated.
        (
            "CONVERT_TZ('2024-03-31 02:30:00', 'Europe/Berlin', 'UTC')",
            "2024-03-31 01:30:00",
        ),
        (
            "CONVERT_TZ('2024-10-27 02:30:00', 'Europe/Berlin', 'UTC')",
            "2024-10-27 01:30:00",
        ),
        ("CONVERT_TZ('nonsense', 'UTC', 'UTC')", "NULL"),
        ("CONVERT_TZ(CAST(NULL AS STRING), 'UTC', 'UTC')", "NULL"),
    ]);
    check_refused(&[(
        "CONVERT_TZ('2024-01-01 00:00:00', 'UTC', 'Nowhere')",
        "`Nowhere` is not a time zone: write the full name of one",
    )]);
}

#[test]
fn local_times_of_the_session() {
    let instant = "TO_TIMESTAMP_LTZ(1704063600, 0)";
    let of = |form: &str| form.replace('?', instant);
    let cases: Vec<(String, &str)> = [
        ("?", "2023-12-31T23:00:00Z"),
        ("CAST(? AS STRING)", "2024-01-01 00:00:00.000"),
        ("CAST(? AS TIMESTAMP)", "2024-01-01T00:00:00"),
        ("CAST(? AS DATE)", "2024-01-01"),
        ("CAST(? AS TIME)", "00:00:00"),
        ("TRY_CAST(? AS DATE)", "2024-01-01"),
        ("'at ' || CAST(? AS STRING)", "at 2024-01-01 00:00:00.000"),
        ("CONCAT('at ', ?)", "at 2024-01-01 00:00:00.000"),
        ("DATE_FORMAT(?, 'yyyy-MM-dd HH')", "2024-01-01 00"),
        ("YEAR(?)", "2024"),
        ("EXTRACT(HOUR FROM ?)", "0"),
        ("EXTRACT(HOUR FROM CAST(? AS TIMESTAMP))", "0"),
        ("FLOOR(? TO YEAR)", "2023-12-31T23:00:00Z"),
        ("CEIL(? + INTERVAL '1' SECOND TO DAY)", "2024-01-01T23:00:00Z"),
        ("? = TIMESTAMP '2024-01-01 00:00:00'", "true"),
        ("? > '2023-12-31 23:30:00'", "true"),
        ("TIMESTAMPDIFF(MINUTE, ?, TIMESTAMP '2024-01-01 00:30:00')", "30"),
        ("TIMESTAMPDIFF(MINUTE, ?, ? + INTERVAL '1' HOUR)", "60"),
        ("CAST(? - TIMESTAMP '2024-01-01 00:00:00' AS STRING)", "+0 00:00:00.000"),
        ("TIMESTAMPADD(HOUR, 1, ?)", "2024-01-01T00:00:00Z"),
        ("UNIX_TIMESTAMP(?)", "1704063600"),
        ("COALESCE(CAST(NULL AS TIMESTAMP_LTZ), ?)", "2023-12-31T23:00:00Z"),
        ("CAST(CAST(NULL AS TIMESTAMP_LTZ) AS STRING)", "NULL"),
    ]
    .into_iter()
    .map(|(form, expected)| (of(form), expected))
    .collect();
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(expression, expected)| (expression.as_str(), *expected))
        .collect();
    check_in("Europe/Berlin", &cases);
    check_in(
        "Europe/Berlin",
        &[
            (
                "CAST(TIMESTAMP '2024-07-01 12:00:00' AS TIMESTAMP_LTZ)",
                "2024-07-01T10:00:00Z",
            ),
            ("CAST(DATE '2024-07-01' AS TIMESTAMP_LTZ(3))", "2024-06-30T22:00:00Z"),
            ("CAST('2024-07-01 12:00:00' AS TIMESTAMP_LTZ)", "2024-07-01T10:00:00Z"),
            (
                "CAST(TIMESTAMP '2024-03-31 02:30:00' AS TIMESTAMP_LTZ)",
                "2024-03-31T01:30:00Z",
            ),
            (
                "CAST(TIMESTAMP '2024-10-27 02:30:00' AS TIMESTAMP_LTZ)",
                "2024-10-27T00:30:00Z",
            ),
            (
                "CAST(TIMESTAMP '2024-07-01 12:00:00' AS STRING)",
                "2024-07-01 12:00:00.000",
            ),
            ("FROM_UNIXTIME(44)", "1970-01-01 01:00:44"),
            ("FROM_UNIXTIME(44, 'HH XXX')", "01 +01:00"),
            (
                "UNIX_TIMESTAMP('1970-01-01 08:00:01.001', 'yyyy-MM-dd HH:mm:ss.SSS')",
                "25201",
            ),
            (
                "UNIX_TIMESTAMP('1970-01-01 08:00:01.001 +0800', 'yyyy-MM-dd HH:mm:ss.SSS X')",
                "1",
            ),
            (
                "UNIX_TIMESTAMP('1970-01-01 08:00:01.001 +0800', 'yyyy-MM-dd HH:mm:ss.SSS')",
                "25201",
            ),
            ("UNIX_TIMESTAMP('2024-10-27 02:30:00')", "1729992600"),
            ("TO_TIMESTAMP_LTZ('2024-01-01 00:00:00')", "2024-01-01T00:00:00Z"),
            ("TO_TIMESTAMP('2024-01-01 00:00:00')", "2024-01-01T00:00:00"),
        ],
    );
    check_in("Asia/Tokyo", &[("FROM_UNIXTIME(44)", "1970-01-01 09:00:44")]);
    check_in(
        "GMT+05:30",
        &[("CAST(TO_TIMESTAMP_LTZ(0) AS STRING)", "1970-01-01 05:30:00.000")],
    );
    let refused = value_in(Some("Asia/Tokyo"), "CAST(ARRAY[NOW()] AS ARRAY<TIMESTAMP>)");
    assert!(refused.contains("cast the elements"), "{refused}");
}
