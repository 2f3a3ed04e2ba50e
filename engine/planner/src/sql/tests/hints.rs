//! Hints in messages: each proposed change is applied to the script, which must then be planned.

use super::*;

#[track_caller]
fn message(script: &str) -> String {
    match pipeline("test", script, &PlanOptions::default()) {
        Ok(_) => panic!("it plans: {script}"),
        Err(errors) => match errors.0.as_slice() {
            [error] => error.message.clone(),
            _ => panic!("one mistake is expected:\n{errors}"),
        },
    }
}

/// Plans a script up to the job graph.
#[track_caller]
fn plans(script: &str) {
    let input = crate::Input::Sql {
        name: "test",
        text: script,
    };
    if let Err(errors) = crate::plan(input, &PlanOptions::default()) {
        panic!("{script}\n{errors}");
    }
}

/// Returns the part of a message between two others.
#[track_caller]
fn between<'a>(message: &'a str, before: &str, after: &str) -> &'a str {
    let (_, rest) = message.split_once(before).unwrap_or_else(|| panic!("{message}"));
    match after {
        "" => rest,
        after => rest.split_once(after).unwrap_or_else(|| panic!("{message}")).0,
    }
}

#[test]
fn an_interval_is_proposed_that_can_be_read() {
    #[track_caller]
    fn check(written: &str, expected: &str) {
        let script = format!("{TABLES}INSERT INTO out1 SELECT price, ts + {written} FROM bid;");
        let proposed = between(&message(&script), "write it as ", "").to_owned();
        assert_eq!(proposed, expected, "{written}");
        plans(&script.replace(written, &proposed));
    }
    check("INTERVAL '10 seconds'", "INTERVAL '10' SECOND");
    check("INTERVAL '10s'", "INTERVAL '10' SECOND");
    check("INTERVAL '1 day 2 hours'", "INTERVAL '26' HOUR");
    check("INTERVAL '2 weeks'", "INTERVAL '2' WEEK");
    check("INTERVAL '1 year 2 months'", "INTERVAL '14' MONTH");
    check("INTERVAL '10'", "INTERVAL '10' SECOND");
    check("INTERVAL ''", "INTERVAL '10' SECOND");
    check("INTERVAL '1 month 2 days'", "INTERVAL '1' SECOND");
    check("INTERVAL '10 seconds' SECOND", "INTERVAL '10' SECOND");
    check("INTERVAL '10 minutes' SECOND", "INTERVAL '10' MINUTE");
    check("INTERVAL 'ten' MINUTE", "INTERVAL '10' MINUTE");
    check("INTERVAL '1:30' MINUTE", "INTERVAL '1' MINUTE");
    check("INTERVAL '90' MINUTE TO SECOND", "INTERVAL '90:01' MINUTE TO SECOND");
    check("INTERVAL '1' DAY TO SECOND", "INTERVAL '1 01:01:01' DAY TO SECOND");
    check("INTERVAL '1' YEAR TO MONTH", "INTERVAL '1-1' YEAR TO MONTH");
    check("INTERVAL '1' MINUTE TO DAY", "INTERVAL '1' MINUTE");
    check("INTERVAL '1' MONTH TO DAY", "INTERVAL '1' MONTH");
    check("INTERVAL '99999999999999999999' DAY", "INTERVAL '10' DAY");
}

/// Valid spellings need no hint.
#[test]
fn intervals_without_quotes_and_with_plural_units_are_read() {
    for written in [
        "INTERVAL 10 SECOND",
        "INTERVAL '10' SECONDS",
        "INTERVAL '10' seconds",
        "INTERVAL '90' MINUTES",
    ] {
        plans(&format!(
            "{TABLES}INSERT INTO out1 SELECT price, ts + {written} FROM bid;"
        ));
    }
}

/// For every pair of types, `INSERT` converts, or its hint does, or no conversion exists.
#[test]
fn a_conversion_is_proposed_that_insert_accepts() {
    const TYPES: [&str; 16] = [
        "TINYINT",
        "INT",
        "BIGINT",
        "FLOAT",
        "DOUBLE",
        "DECIMAL(10, 2)",
        "STRING",
        "BOOLEAN",
        "DATE",
        "TIME",
        "TIMESTAMP(3)",
        "TIMESTAMP_LTZ(3)",
        "BYTES",
        "ARRAY<INT>",
        "MAP<STRING, INT>",
        "ROW<a INT>",
    ];
    let mut without = Vec::new();
    for from in TYPES {
        for to in TYPES {
            let script = |expression: &str| {
                format!(
                    "CREATE TABLE src (c {from}) WITH ('connector' = 'filesystem', 'path' = '/tmp/in', 'format' = 'json');
CREATE TABLE dst (d {to}) WITH ('connector' = 'blackhole');
INSERT INTO dst SELECT {expression} FROM src;"
                )
            };
            let Err(errors) = pipeline("test", &script("c"), &PlanOptions::default()) else {
                continue;
            };
            let message = &errors.0[0].message;
            match message.split_once(": write ") {
                Some((_, proposed)) => {
                    let proposed = proposed.split(" for ").next().unwrap_or(proposed);
                    plans(&script(proposed));
                }
                None => {
                    assert!(message.contains("there is no conversion"), "{message}");
                    without.push(format!("{from} -> {to}"));
                }
            }
        }
    }
    // The most common cases always have a hint.
    for wanted in [
        "BIGINT -> TIMESTAMP(3)",
        "STRING -> TIMESTAMP(3)",
        "TIMESTAMP(3) -> BIGINT",
        "STRING -> DATE",
    ] {
        assert!(!without.iter().any(|pair| pair == wanted), "{without:?}");
    }
}

#[test]
fn a_number_becomes_a_timestamp_by_the_function_that_is_proposed() {
    let script = |column: &str, selected: &str| {
        format!(
            "CREATE TABLE src ({column} BIGINT) WITH ('connector' = 'filesystem', 'path' = '/tmp/in', 'format' = 'json');
CREATE TABLE dst (t TIMESTAMP(3)) WITH ('connector' = 'blackhole');
INSERT INTO dst SELECT {selected} FROM src;"
        )
    };
    let told = message(&script("millis", "millis"));
    assert_eq!(
        told,
        "column `t` of table `dst` is TIMESTAMP, but the query's column 1 (`millis`) is BIGINT: write \
         TO_TIMESTAMP_LTZ(millis, 3) for milliseconds since 1970 (0 stands for seconds, 6 for microseconds)"
    );
    // A name that is a keyword stays quoted; the dots stand for an expression.
    for (column, selected, written) in [
        ("`interval`", "`interval`", "`interval`"),
        ("`a b`", "`a b`", "`a b`"),
        ("millis", "millis * 1000", "..."),
    ] {
        let told = message(&script(column, selected));
        let proposed = between(&told, ": write ", " for ");
        assert_eq!(proposed, format!("TO_TIMESTAMP_LTZ({written}, 3)"));
        plans(&script(column, &proposed.replace("...", selected)));
    }
}

#[test]
fn a_watermark_on_another_type_is_put_on_a_computed_column() {
    #[track_caller]
    fn check(columns: &str, clause: &str, expected: &str) {
        let script = |columns: &str, clause: &str| {
            format!(
                "CREATE TABLE src ({columns}, WATERMARK FOR {clause}) WITH ('connector' = 'filesystem', 'path' = '/tmp/in', \
                 'format' = 'json');
CREATE TABLE dst (t TIMESTAMP(3), n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO dst SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE src, DESCRIPTOR({}), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end;",
                clause.split(' ').next().unwrap_or_default()
            )
        };
        let told = message(&script(columns, clause).split("CREATE TABLE dst").next().map_or(String::new(), |create| {
            format!("{create}CREATE TABLE dst (n BIGINT) WITH ('connector' = 'blackhole'); INSERT INTO dst SELECT 1;")
        }));
        let (_, hint) = told.split_once("TIMESTAMP_LTZ: ").unwrap_or_else(|| panic!("{told}"));
        assert_eq!(hint, expected);
        let (computed, rest) = hint
            .strip_prefix("declare a computed column `")
            .and_then(|rest| rest.split_once("` "))
            .unwrap_or_else(|| panic!("{hint}"));
        let watermark = between(rest, "put the watermark on it: `WATERMARK FOR ", "`");
        plans(&script(&format!("{columns}, {computed}"), watermark));
    }
    check(
        "at BIGINT",
        "at AS at - INTERVAL '5' SECOND",
        "declare a computed column `ts AS TO_TIMESTAMP_LTZ(at, 3)` (for milliseconds since 1970; 0 stands for seconds, 6 for \
         microseconds) and put the watermark on it: `WATERMARK FOR ts AS ts - INTERVAL '5' SECOND`",
    );
    // The usual name exists already.
    check(
        "ts BIGINT",
        "ts AS ts - INTERVAL '5' SECOND",
        "declare a computed column `event_time AS TO_TIMESTAMP_LTZ(ts, 3)` (for milliseconds since 1970; 0 stands for seconds, \
         6 for microseconds) and put the watermark on it: `WATERMARK FOR event_time AS event_time - INTERVAL '5' SECOND`",
    );
    check(
        "at STRING",
        "at AS at",
        "declare a computed column `ts AS TO_TIMESTAMP(at)` and put the watermark on it: `WATERMARK FOR ts AS ts - INTERVAL \
         '5' SECOND`",
    );
    check(
        "at DATE",
        "at AS at",
        "declare a computed column `ts AS CAST(at AS TIMESTAMP)` and put the watermark on it: `WATERMARK FOR ts AS ts - \
         INTERVAL '5' SECOND`",
    );
    check(
        "at DOUBLE",
        "at AS at",
        "declare a computed column `ts AS TO_TIMESTAMP_LTZ(CAST(at AS BIGINT), 3)` (for milliseconds since 1970; 0 stands for \
         seconds, 6 for microseconds) and put the watermark on it: `WATERMARK FOR ts AS ts - INTERVAL '5' SECOND`",
    );
}
