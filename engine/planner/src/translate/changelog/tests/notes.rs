//! Notes about state without a bound.

use super::plan;
use crate::{Mode, state_notes};

#[track_caller]
fn check(query: &str, mode: Mode, expected: &[&str]) {
    let script = format!(
        "CREATE TABLE files (k BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
         WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'json');
         CREATE TABLE out (n BIGINT) WITH ('connector' = 'cdc');
         {query};"
    );
    let graph = plan(&script, mode).expect("a plan");
    assert_eq!(state_notes(&graph), expected);
}

const REMEDY: &str = "so its state grows without bound unless they are few. Bound it with SET 'table.exec.state.ttl' = \
    '1 d' (`state_ttl` in YAML), or group by a window";

#[test]
fn state_without_a_bound_is_noted() {
    for (query, kept) in [
        (
            "INSERT INTO out SELECT count(*) FROM clicks GROUP BY k, name",
            "one row per group (k, name)",
        ),
        (
            "INSERT INTO out SELECT count(DISTINCT name) FROM clicks GROUP BY k",
            "one row per group (k) and its distinct values",
        ),
        (
            "INSERT INTO out SELECT count(DISTINCT name) FROM clicks",
            "all distinct values",
        ),
        ("INSERT INTO out SELECT DISTINCT k FROM clicks", "one row per group (k)"),
        (
            "INSERT INTO out SELECT count(*) FROM (SELECT k FROM files UNION ALL SELECT k FROM clicks) GROUP BY k",
            "one row per group (k)",
        ),
    ] {
        check(
            query,
            Mode::Stream,
            &[&format!("`out/aggregate` keeps {kept} for ever, {REMEDY}")],
        );
    }
}

#[test]
fn rows_that_a_join_keeps_for_ever_are_noted() {
    let remedy = "so its state grows without bound unless they are few. Bound it with SET 'table.exec.state.ttl' = '1 d' \
        (`state_ttl` in YAML), join windows, or bound the event times of the rows that are joined (`l.ts BETWEEN r.ts - \
        INTERVAL '1' HOUR AND r.ts`)";
    for (from, kept) in [
        (
            "clicks JOIN clicks AS c ON clicks.k = c.i",
            "all rows of its inputs for ever",
        ),
        (
            "clicks JOIN files ON clicks.k = files.k",
            "all rows of its inputs for ever",
        ),
        (
            "clicks LEFT JOIN users ON k = id",
            "all rows of its left input for ever",
        ),
        (
            "orders RIGHT JOIN clicks ON k = id",
            "all rows of its right input for ever",
        ),
    ] {
        check(
            &format!("INSERT INTO out SELECT clicks.k FROM {from}"),
            Mode::Stream,
            &[&format!("`out/join` keeps {kept}, {remedy}")],
        );
    }
}

#[test]
fn first_rows_without_a_bound_are_noted() {
    let remedy = REMEDY.replace("group by a window", "rank the rows of each window");
    let ranked = |table: &str, order: &str| {
        format!(
            "INSERT INTO out SELECT k FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY {order}) AS rn FROM {table})
             WHERE rn <= 3"
        )
    };
    for (query, kept) in [
        (ranked("clicks", "price"), "the first rows of each partition (k)"),
        (ranked("clicks", "PROCTIME()"), "one row per partition (k)"),
        (
            "INSERT INTO out SELECT total FROM orders ORDER BY total LIMIT 3".to_owned(),
            "all rows of its input",
        ),
    ] {
        check(
            &query,
            Mode::Stream,
            &[&format!("`out/top-n` keeps {kept} for ever, {remedy}")],
        );
    }
    for query in [
        "INSERT INTO out SELECT i FROM clicks ORDER BY price LIMIT 3".to_owned(),
        "INSERT INTO out SELECT k FROM files LIMIT 3".to_owned(),
        ranked("files", "ts"),
        format!("SET 'table.exec.state.ttl' = '1 h'; {}", ranked("clicks", "price")),
    ] {
        check(&query, Mode::Stream, &[]);
    }
    check(&ranked("clicks", "price"), Mode::Batch, &[]);
}

#[test]
fn state_with_a_bound_is_not() {
    for query in [
        "INSERT INTO out SELECT count(*) FROM clicks",
        "INSERT INTO out SELECT count(*) FROM files GROUP BY k",
        "INSERT INTO out SELECT id FROM orders",
        "INSERT INTO out SELECT orders.id FROM orders JOIN users ON orders.id = users.id",
        "INSERT INTO out SELECT files.k FROM files LEFT JOIN files AS f ON files.k = f.k",
        "INSERT INTO out SELECT files.k FROM files JOIN clicks ON files.k = clicks.k AND files.ts = clicks.ts",
        "SET 'table.exec.state.ttl' = '1 h'; INSERT INTO out SELECT count(*) FROM clicks GROUP BY k",
        "INSERT INTO out SELECT count(*) FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         GROUP BY k, window_start, window_end",
    ] {
        check(query, Mode::Stream, &[]);
    }
    check(
        "INSERT INTO out SELECT count(*) FROM clicks GROUP BY k",
        Mode::Batch,
        &[],
    );
}
