//! Queries that are refused.

use expect_test::{Expect, expect};

use super::planned;
use crate::Mode;

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro of snapshots makes it")]
fn check(script: &str, expected: Expect) {
    expected.assert_eq(&planned(script, Mode::Stream));
}

#[test]
fn an_append_only_sink_takes_no_changes() {
    let out = "CREATE TABLE out (k BIGINT) WITH ('connector' = 'append');";
    check(
        &format!("{out} INSERT INTO out SELECT count(*) FROM clicks;"),
        expect![[r#"
            refused: 11:60: table `out` (append) is append-only, but the query updates its rows: it has a GROUP BY without a window. Write to a table of `upsert-kafka`, of `kafka` or `filesystem` with 'format' = 'debezium-json', or of `print`, or group by a window (TUMBLE, HOP, CUMULATE or SESSION)
        "#]],
    );
    check(
        &format!("{out} INSERT INTO out SELECT DISTINCT k FROM clicks;"),
        expect![[r#"
            refused: 11:60: table `out` (append) is append-only, but the query updates its rows: it has a GROUP BY, DISTINCT or UNION without a window. Write to a table of `upsert-kafka`, of `kafka` or `filesystem` with 'format' = 'debezium-json', or of `print`, or group by a window (TUMBLE, HOP, CUMULATE or SESSION)
        "#]],
    );
    check(
        &format!("{out} INSERT INTO out SELECT id FROM orders;"),
        expect![[r#"
            refused: 11:60: table `out` (append) is append-only, but the query updates its rows: it reads the changes of table `orders` (cdc). Write to a table of `upsert-kafka`, of `kafka` or `filesystem` with 'format' = 'debezium-json', or of `print`
        "#]],
    );
    check(
        &format!("{out} INSERT INTO out SELECT id FROM logs;"),
        expect![[r#"
            refused: 11:60: table `out` (append) is append-only, but the query updates its rows: it reads the changes of table `logs` (cdc). Write to a table of `upsert-kafka`, of `kafka` or `filesystem` with 'format' = 'debezium-json', or of `print`
        "#]],
    );
}

#[test]
fn a_sink_of_upserts_needs_the_key_of_the_rows() {
    let insert = "INSERT INTO out SELECT name, count(*) FROM clicks GROUP BY name";
    let check = |key: &str, insert: &str, expected: Expect| {
        let table = format!("CREATE TABLE out (name STRING, n BIGINT{key}) WITH ('connector' = 'upsert');");
        check(&format!("{table} {insert};"), expected);
    };
    check(
        "",
        insert,
        expect![[r#"
        refused: 11:73: table `out` (upsert) is updated by key, so it needs one: declare PRIMARY KEY (...) NOT ENFORCED, with the columns that identify a row of the query
    "#]],
    );
    check(
        ", PRIMARY KEY (n) NOT ENFORCED",
        insert,
        expect![[r#"
            refused: 11:103: table `out` (upsert) has the primary key (n), but (name) identifies the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
    let both = format!("{insert} UNION ALL SELECT name, sum(k) FROM clicks GROUP BY name");
    check(
        ", PRIMARY KEY (name) NOT ENFORCED",
        &both,
        expect![[r#"
            refused: 11:106: table `out` (upsert) has the primary key (name), but no columns identify the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
    let narrowed = "INSERT INTO out SELECT UPPER(name), count(*) FROM clicks GROUP BY name";
    check(
        ", PRIMARY KEY (name) NOT ENFORCED",
        narrowed,
        expect![[r#"
            refused: 11:106: table `out` (upsert) has the primary key (name), but no columns identify the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
}

#[test]
fn narrower_types_of_a_key_are_no_key() {
    check(
        "CREATE TABLE out (k INT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT CAST(k AS INT), count(*) FROM clicks GROUP BY k;",
        expect![[r#"
            refused: 12:10: table `out` (upsert) has the primary key (k), but no columns identify the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
}

#[test]
fn a_source_of_upserts_needs_a_key() {
    check(
        "CREATE TABLE keyless (id BIGINT) WITH ('connector' = 'upsert');
         CREATE TABLE out (id BIGINT) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT id FROM keyless;",
        expect![[r#"
            refused: 11:14: table `keyless` (upsert) consists of changes by key, so it needs a PRIMARY KEY (...) NOT ENFORCED
        "#]],
    );
}

#[test]
fn window_joins_and_top_n_of_windows_need_append_only_rows() {
    let out = "CREATE TABLE out (id BIGINT) WITH ('connector' = 'cdc');";
    let window = "TABLE(TUMBLE(TABLE users, DESCRIPTOR(ts), INTERVAL '1' MINUTE))";
    for query in [
        "SELECT count(*) FROM TABLE(SESSION(TABLE users PARTITION BY id, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         GROUP BY id, window_start, window_end"
            .to_owned(),
        format!(
            "SELECT a.id FROM {window} a JOIN {window} b
             ON a.id = b.id AND a.window_start = b.window_start AND a.window_end = b.window_end"
        ),
        format!(
            "SELECT id FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY age) AS rn
             FROM {window}) WHERE rn <= 3"
        ),
    ] {
        let text = planned(&format!("{out} INSERT INTO out {query};"), Mode::Stream);
        assert!(
            text.contains("needs rows that are never updated or deleted"),
            "{query}: {text}"
        );
        assert!(
            text.contains("it reads the changes of table `users` (upsert)"),
            "{query}: {text}"
        );
    }
}

#[test]
fn windows_of_changes_have_functions_that_can_take_back_values() {
    let out = "CREATE TABLE out (n BIGINT) WITH ('connector' = 'append');";
    let window = "TABLE(TUMBLE(TABLE users, DESCRIPTOR(ts), INTERVAL '1' MINUTE))";
    let check = |call: &str, expected: Expect| {
        let query = format!("SELECT {call} FROM {window} GROUP BY window_start, window_end");
        check(&format!("{out} INSERT INTO out {query};"), expected);
    };
    check(
        "max(age) + count(DISTINCT id)",
        expect![[r#"
        out/sink: write out (append) [one subtask]
          <- out/calc: select [..] [one subtask]
            <- out/aggregate: aggregate tumble 1min on ts@2 [max(age@1), count(DISTINCT id@0)] (state) [one subtask]
              <- gather users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
    "#]],
    );
    check(
        "first_value(age)",
        expect![[r#"
        refused: 11:60: FIRST_VALUE within a window cannot take back the values of rows that are updated or deleted: it reads the changes of table `users` (upsert); add ORDER BY to its argument: the order of arrival is not kept
    "#]],
    );
    check(
        "CAST(var_pop(age) AS BIGINT)",
        expect![[r#"
            refused: 11:60: VAR_POP within a window cannot take back the values of rows that are updated or deleted: it reads the changes of table `users` (upsert); there are COUNT, SUM, AVG, MIN, MAX, ARRAY_AGG, LISTAGG, MEDIAN, PERCENTILE and aggregates of bitmaps, and FIRST_VALUE and LAST_VALUE with ORDER BY; or group without a window
        "#]],
    );
}

#[test]
fn volatile_values_cannot_be_retracted() {
    let sums = "(SELECT name, sum(k) AS s FROM clicks GROUP BY name)";
    let out = "CREATE TABLE out (name STRING, id STRING) WITH ('connector' = 'cdc');
        CREATE TABLE by_name (name STRING, s BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');";
    check(
        &format!("{out} INSERT INTO out SELECT name, UUID() FROM {sums};"),
        expect![[r#"
            refused: 12:118: `uuid()` has another value each time it is evaluated, so a row that it was part of could not be retracted: it has a GROUP BY, DISTINCT or UNION without a window. Compute it before the rows are updated, or write them to a table with their key as PRIMARY KEY
        "#]],
    );
    check(
        &format!("{out} INSERT INTO by_name SELECT name, s FROM {sums} WHERE RAND() < 0.5;"),
        expect![[r#"
            refused: 12:118: `random()` has another value each time it is evaluated, so a row that it was part of could not be retracted: it has a GROUP BY without a window. Compute it before the rows are updated, or write them to a table with their key as PRIMARY KEY
        "#]],
    );
    check(
        &format!(
            "{out} INSERT INTO by_name SELECT name, count(*) FROM (SELECT UUID() AS name, s FROM {sums}) GROUP BY name;"
        ),
        expect![[r#"
            refused: 12:118: `uuid()` has another value each time it is evaluated, so a row that it was part of could not be retracted: it has a GROUP BY, DISTINCT or UNION without a window. Compute it before the rows are updated, or write them to a table with their key as PRIMARY KEY
        "#]],
    );
}

#[test]
fn aggregates_that_cannot_take_back_values_need_append_only_rows() {
    let out = "CREATE TABLE out (n BIGINT) WITH ('connector' = 'cdc');";
    let check = |call: &str, expected: Expect| {
        let query = format!("SELECT {call} FROM (SELECT k, count(*) AS n FROM clicks GROUP BY k)");
        check(&format!("{out} INSERT INTO out {query};"), expected);
    };
    check(
        "CAST(bit_and(n) AS BIGINT)",
        expect![[r#"
            refused: 11:57: BIT_AND cannot take back the values of rows that are updated or deleted: it has a GROUP BY without a window. Over such rows there are ARRAY_AGG, AVG, BITMAP_AND_AGG, BITMAP_BUILD_AGG, BITMAP_OR_AGG, BITMAP_XOR_AGG, BOOL_AND, BOOL_OR, COUNT, FIRST_VALUE, LAST_VALUE, LISTAGG, MAX, MEDIAN, MIN, PERCENTILE, STDDEV_POP, STDDEV_SAMP, SUM, VAR_POP, VAR_SAMP
        "#]],
    );
    check(
        "count(DISTINCT n) + sum(n) FILTER (WHERE n > 3) + CAST(avg(n) AS BIGINT)",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract [one subtask]
              <- out/calc-3: select [..] changelog: retract, keys () [one subtask]
                <- out/aggregate-2: aggregate [count(DISTINCT count(1)@0), sum(count(1)@0) where $arg1@1, sum(count(1)@0), count(count(1)@0)] (state: one row and its distinct values, for ever) changelog: retract, keys () [one subtask]
                  <- gather out/calc-2: select [..] changelog: retract
                    <- out/aggregate: aggregate by k [count(1)] (state: one row per group, for ever) changelog: retract, keys (k)
                      <- hash(k) out/calc: select [..]
                        <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}
