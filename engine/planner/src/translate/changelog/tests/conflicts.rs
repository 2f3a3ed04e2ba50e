//! `ON CONFLICT`: where rows of one primary key are chosen from, and where it has no meaning.

use expect_test::{Expect, expect};

use super::planned;
use crate::Mode;

const TABLES: &str = "
    CREATE TABLE by_n (name STRING, n BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'upsert');
    CREATE TABLE by_name (name STRING, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');
    CREATE TABLE retracted (name STRING, n BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'cdc');
    CREATE TABLE no_key (name STRING, n BIGINT) WITH ('connector' = 'cdc');
    CREATE TABLE appended (name STRING, n BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'append');
    CREATE VIEW counts AS SELECT name, count(*) AS n FROM clicks GROUP BY name;
";

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro of snapshots makes it")]
fn check(statements: &str, mode: Mode, expected: Expect) {
    expected.assert_eq(&planned(&format!("{TABLES} {statements};"), mode));
}

#[test]
fn rows_are_chosen_from_where_the_primary_key_contains_no_key_of_the_query() {
    check(
        "INSERT INTO by_n SELECT * FROM counts ON CONFLICT DO DEDUPLICATE",
        Mode::Stream,
        expect![[r#"
            by_n/sink: write by_n (upsert) changelog: upsert by (n)
              <- by_n/materialize: last row by n (state: all rows of each key, for ever) changelog: upsert by (n)
                <- hash(n) by_n/calc: select [..] changelog: retract, keys (name)
                  <- counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
    check(
        "SET 'table.exec.sink.require-on-conflict' = 'false'; INSERT INTO by_n SELECT * FROM counts",
        Mode::Stream,
        expect![[r#"
            by_n/sink: write by_n (upsert) changelog: upsert by (n)
              <- by_n/materialize: last row by n (state: all rows of each key, for ever) changelog: upsert by (n)
                <- hash(n) by_n/calc: select [..] changelog: retract, keys (name)
                  <- counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
    check(
        "INSERT INTO by_n SELECT * FROM counts UNION ALL SELECT name, k FROM clicks ON CONFLICT DO ERROR",
        Mode::Stream,
        expect![[r#"
            by_n/sink: write by_n (upsert) changelog: upsert by (n)
              <- by_n/materialize: only row by n (state: all rows of each key, for ever) changelog: upsert by (n)
                <- hash(n) by_n/calc: select [..] changelog: retract, keys (name)
                  <- counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@2
                <- hash(n) by_n/insertions: select [..] changelog: retract
                  <- by_n/calc-2: select [..]
                    <- clicks (see above)
        "#]],
    );
    check(
        "INSERT INTO retracted SELECT * FROM counts ON CONFLICT DO NOTHING",
        Mode::Batch,
        expect![[r#"
            retracted/sink: write retracted (cdc)
              <- retracted/materialize: first row by n (state: all rows of each key, until the end of input)
                <- hash(n) retracted/calc: select [..]
                  <- counts/aggregate: merge by name [count(1)] (state: one row per group, until the end of input)
                    <- hash(name) counts/local-aggregate: pre-aggregate by name [count(1)]
                      <- counts/calc: select [..]
                        <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}

#[test]
fn on_conflict_has_no_effect_where_the_primary_key_identifies_the_rows() {
    check(
        "INSERT INTO by_name SELECT * FROM counts ON CONFLICT DO NOTHING",
        Mode::Stream,
        expect![[r#"
            by_name/sink: write by_name (upsert) changelog: upsert by (name)
              <- by_name/calc: select [..] changelog: upsert by (name)
                <- counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: upsert by (name)
                  <- hash(name) counts/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
    // The sink keeps the last of append-only rows itself.
    check(
        "INSERT INTO by_n SELECT name, k FROM clicks ON CONFLICT DO DEDUPLICATE",
        Mode::Stream,
        expect![[r#"
            by_n/sink: write by_n (upsert)
              <- hash(n) by_n/calc: select [..]
                <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
}

#[test]
fn on_conflict_without_a_meaning_is_refused() {
    for (statements, message) in [
        (
            "INSERT INTO no_key SELECT * FROM counts ON CONFLICT DO NOTHING",
            "it has none: declare PRIMARY KEY (...) NOT ENFORCED; or remove ON CONFLICT",
        ),
        (
            "INSERT INTO appended SELECT name, k FROM clicks ON CONFLICT DO NOTHING",
            "it is append-only: write to a table of `upsert-kafka`, or of `print`; or remove ON CONFLICT",
        ),
        (
            "INSERT INTO by_n SELECT * FROM counts ON CONFLICT DO NOTHING;
             INSERT INTO by_n SELECT name, k FROM clicks ON CONFLICT DO ERROR",
            "table `by_n` is written with different ON CONFLICT",
        ),
    ] {
        let refused = planned(&format!("{TABLES} {statements};"), Mode::Stream);
        assert!(
            refused.starts_with("refused: ") && refused.contains(message),
            "{refused}"
        );
    }
}
