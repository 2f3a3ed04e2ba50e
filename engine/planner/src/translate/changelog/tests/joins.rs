//! Joins without windows: modes, keys and exchanges, and what is refused.

use expect_test::{Expect, expect};

use super::planned;
use crate::Mode;

const COUNTS: &str = "CREATE VIEW counts AS SELECT name, count(*) AS n FROM clicks GROUP BY name;
    CREATE VIEW sums AS SELECT name, sum(k) AS s FROM clicks GROUP BY name;";

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro of snapshots makes it")]
fn check(query: &str, expected: Expect) {
    let script = format!(
        "{COUNTS} CREATE TABLE out (a STRING, b STRING) WITH ('connector' = 'cdc');
         INSERT INTO out {query};"
    );
    expected.assert_eq(&planned(&script, Mode::Stream));
}

/// Checks a query that writes columns of these names, of which some are the primary key.
#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro of snapshots makes it")]
fn check_keyed(columns: &str, key: &str, query: &str, expected: Expect) {
    let script = format!(
        "{COUNTS} CREATE TABLE out ({columns}, PRIMARY KEY ({key}) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out {query};"
    );
    expected.assert_eq(&planned(&script, Mode::Stream));
}

#[test]
fn an_inner_join_of_append_only_rows_is_append_only() {
    check(
        "SELECT a.name, b.name FROM clicks a JOIN clicks b ON a.k = b.i AND a.name = b.name AND a.price < b.price",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-3: select [..]
                <- out/join: inner join on k@0 = $key3@3 on name@1 = name@1 where price@2 < price@5 (state: rows of both inputs, for ever)
                  left <- hash(k, name) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@4
                  right <- hash($key3, name) out/calc-2: select [..]
                    <- clicks (see above)
        "#]],
    );
}

#[test]
fn a_semi_join_of_append_only_rows_is_append_only() {
    check(
        "SELECT name, 'x' FROM clicks WHERE k IN (SELECT i FROM clicks)",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-3: select [..]
                <- out/join: leftsemi join on k@0 = clicks.i@0 (state: rows of both inputs, for ever)
                  left <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
                  right <- hash(clicks.i) out/calc-2: select [..]
                    <- clicks (see above)
        "#]],
    );
}

#[test]
fn outer_joins_update_their_rows() {
    check(
        "SELECT a.name, b.name FROM clicks a LEFT JOIN clicks b ON a.k = b.k",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract
                <- out/join: left join on k@0 = k@0 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(k) out/calc (see above)
        "#]],
    );
    check(
        "SELECT a.name, b.name FROM clicks a RIGHT JOIN clicks b ON a.k = b.k",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract
                <- out/join: right join on k@0 = k@0 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(k) out/calc (see above)
        "#]],
    );
    check(
        "SELECT a.name, b.name FROM clicks a FULL JOIN clicks b ON a.k = b.k",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract
                <- out/join: full join on k@0 = k@0 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(k) out/calc (see above)
        "#]],
    );
}

#[test]
fn anti_joins_update_their_rows() {
    check(
        "SELECT name, 'x' FROM clicks c WHERE NOT EXISTS (SELECT 1 FROM users u WHERE u.id = c.k AND u.age > c.i)",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-3: select [..] changelog: retract
                <- out/join: leftanti join on k@0 = id@1 where age@3 > i@1 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
                  right <- hash(id) out/calc-2: select [..] changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
    check(
        "SELECT name, name FROM clicks WHERE k NOT IN (SELECT id FROM orders)",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract [one subtask]
              <- out/calc-2: select [..] changelog: retract [one subtask]
                <- out/join: leftanti join where (k@0 = id@2) IS DISTINCT FROM false (state: rows of both inputs, for ever) changelog: retract [one subtask]
                  left <- gather out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- gather orders/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                    <- hash(id) orders: read orders (cdc) columns [..] changelog: retract, keys (id)
        "#]],
    );
    check(
        "SELECT name, name FROM clicks WHERE k IS NOT NULL AND k NOT IN (SELECT id FROM orders WHERE id IS NOT NULL)",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-3: select [..] changelog: retract
                <- out/join: leftanti join on k@0 = $not_in1@0 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc: select [..] where k@0 IS NOT NULL
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash($not_in1) out/calc-2: select [..] where id@0 IS NOT NULL changelog: retract, keys ($not_in1)
                    <- orders/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) orders: read orders (cdc) columns [..] changelog: retract, keys (id)
        "#]],
    );
}

#[test]
fn joins_without_an_equality_have_one_subtask() {
    check(
        "SELECT a.name, b.region FROM clicks a CROSS JOIN users b",
        expect![[r#"
        out/sink: write out (cdc) changelog: retract [one subtask]
          <- out/calc-3: select [..] changelog: retract [one subtask]
            <- out/join: inner join (state: rows of both inputs, for ever) changelog: retract [one subtask]
              left <- gather out/calc: select [..]
                <- clicks: read clicks (append) columns [..] watermark ts@1
              right <- gather out/calc-2: select [..] changelog: retract
                <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                  <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
    "#]],
    );
    check(
        "SELECT a.name, b.region FROM clicks a JOIN users b ON a.k > b.id",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract [one subtask]
              <- out/calc-3: select [..] changelog: retract [one subtask]
                <- out/join: inner join where k@0 > id@3 (state: rows of both inputs, for ever) changelog: retract [one subtask]
                  left <- gather out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- gather out/calc-2: select [..] changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn null_equals_null_if_the_keys_are_not_distinct() {
    check(
        "SELECT a.name, b.region FROM clicks a JOIN users b ON a.k IS NOT DISTINCT FROM b.id AND a.i < b.age",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-3: select [..] changelog: retract
                <- out/join: inner join on k@0 is not distinct from id@1 where i@1 < age@5 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
                  right <- hash(id) out/calc-2: select [..] changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@3 changelog: upsert by (id)
        "#]],
    );
    check(
        "SELECT a.name, b.region FROM clicks a JOIN users b ON a.k IS NOT DISTINCT FROM b.id WHERE a.i = b.age",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-3: select [..] changelog: retract
                <- out/join: inner join on i@1 = age@2 where k@0 IS NOT DISTINCT FROM id@4 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(i) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
                  right <- hash(age) out/calc-2: select [..] changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@3 changelog: upsert by (id)
        "#]],
    );
    check(
        "SELECT a.name, c.name FROM clicks a, users b, clicks c
         WHERE a.k IS NOT DISTINCT FROM b.id AND b.age = c.i AND c.name = a.name",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-4: select [..] changelog: retract
                <- out/join-2: inner join on i@2 = age@1 where id@4 IS NOT DISTINCT FROM k@0 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(i) out/join: inner join on name@1 = name@1 (state: rows of both inputs, for ever)
                    left <- hash(name) out/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@3
                    right <- hash(name) out/calc-2: select [..]
                      <- clicks (see above)
                  right <- hash(age) out/calc-3: select [..] changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn set_operations_are_joins_of_distinct_rows() {
    check(
        "SELECT name, name FROM clicks INTERSECT SELECT region, region FROM users",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-3: select [..] changelog: retract, keys (a, b)
                <- out/join: leftsemi join on name@0 is not distinct from region@0 on name@1 is not distinct from region0@1 (state: rows of both inputs, for ever) changelog: retract, keys (name, name)
                  left <- hash(name, name) out/aggregate: aggregate by name, name [] (state: one row per group, for ever) changelog: retract, keys (name, name)
                    <- hash(name, name) out/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@1
                  right <- hash(region, region0) out/calc-2: select [..] changelog: retract
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
    check(
        "SELECT name, name FROM clicks EXCEPT SELECT region, region FROM users",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-3: select [..] changelog: retract, keys (a, b)
                <- out/join: leftanti join on name@0 is not distinct from region@0 on name@1 is not distinct from region0@1 (state: rows of both inputs, for ever) changelog: retract, keys (name, name)
                  left <- hash(name, name) out/aggregate: aggregate by name, name [] (state: one row per group, for ever) changelog: retract, keys (name, name)
                    <- hash(name, name) out/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@1
                  right <- hash(region, region0) out/calc-2: select [..] changelog: retract
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn scalar_subqueries_are_joins() {
    check(
        "SELECT name, 'x' FROM clicks WHERE k > (SELECT max(id) FROM users)",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract [one subtask]
              <- out/calc-3: select [..] changelog: retract [one subtask]
                <- out/join: inner join where k@0 > max(id@0)@2 (state: rows of both inputs, for ever) changelog: retract [one subtask]
                  left <- gather out/calc-2: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- gather out/aggregate: aggregate [max(id@0)] (state: one row, for ever) changelog: retract, keys () [one subtask]
                    <- gather out/calc: select [..] changelog: retract, keys (id)
                      <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                        <- hash(id) users: read users (upsert) columns [..] watermark ts@1 changelog: upsert by (id)
        "#]],
    );
    check(
        "SELECT name, CAST((SELECT count(*) FROM users u WHERE u.id = c.k) AS STRING) FROM clicks c",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-4: select [..] changelog: retract
                <- out/join: left join on k@0 = id@1 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc-2: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(id) out/calc-3: select [..] changelog: retract, keys (id, __always_true)
                    <- out/aggregate: aggregate by id, __always_true [count(1)] (state: one row per group, for ever) changelog: retract, keys (id, __always_true)
                      <- hash(id, __always_true) out/calc: select [..] changelog: retract, keys (id)
                        <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                          <- hash(id) users: read users (upsert) columns [..] watermark ts@1 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn rows_of_a_unique_side_are_identified_by_the_other() {
    check_keyed(
        "name STRING, n BIGINT, s BIGINT",
        "name",
        "SELECT c.name, n, s FROM counts c JOIN sums s ON c.name = s.name",
        expect![[r#"
            out/sink: write out (upsert) changelog: retract
              <- out/calc: select [..] changelog: retract, keys (name)
                <- out/join: inner join on name@0 = name@0 (state: rows of both inputs, for ever) changelog: retract, keys (name), (name)
                  left <- hash(name) counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(name) sums/aggregate: aggregate by name [sum(k@1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) sums/calc: select [..]
                      <- clicks (see above)
        "#]],
    );
    check_keyed(
        "name STRING, n BIGINT, s BIGINT",
        "name",
        "SELECT s.name, n, s FROM counts c LEFT JOIN sums s ON c.name = s.name",
        expect![[r#"
            refused: 13:10: table `out` (upsert) has the primary key (name), but no columns identify the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
    check_keyed(
        "id BIGINT, region STRING, n BIGINT",
        "id, region",
        "SELECT id, region, n FROM users u LEFT JOIN counts c ON u.region = c.name",
        expect![[r#"
            out/sink: write out (upsert) changelog: retract
              <- out/calc-2: select [..] changelog: retract, keys (id, region)
                <- out/join: left join on region@0 = name@0 (state: rows of both inputs, for ever) changelog: retract, keys (region, id)
                  left <- hash(region) out/calc: select [..] changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
                  right <- hash(name) counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
    check_keyed(
        "id BIGINT, age INT, total BIGINT",
        "id",
        "SELECT u.id, age, total FROM users u JOIN orders o ON u.id = o.id WHERE age > 18",
        expect![[r#"
            out/sink: write out (upsert) changelog: retract
              <- out/calc-2: select [..] changelog: retract, keys (id)
                <- out/join: inner join on id@0 = id@0 (state: rows of both inputs, for ever) changelog: retract, keys (id), (id)
                  left <- hash(id) out/calc: select [..] where age@1 > 18 changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
                  right <- hash(id) orders/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                    <- hash(id) orders: read orders (cdc) columns [..] changelog: retract, keys (id)
        "#]],
    );
}

#[test]
fn other_rows_are_identified_by_the_keys_of_both_sides() {
    check_keyed(
        "a BIGINT, b STRING, n BIGINT",
        "a, b, n",
        "SELECT u.id, c.name, c.n FROM users u JOIN counts c ON u.age = c.n",
        expect![[r#"
            out/sink: write out (upsert) changelog: retract
              <- hash(a, b, n) out/calc-2: select [..] changelog: retract, keys (a, b, n)
                <- out/join: inner join on $key2@2 = count(1)@1 (state: rows of both inputs, for ever) changelog: retract, keys (id, $key2, name, count(1)), (id, name, count(1)), (id, $key2, name)
                  left <- hash($key2) out/calc: select [..] changelog: retract, keys (id)
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
                  right <- hash(count(1)) counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
    check_keyed(
        "a STRING, b STRING",
        "a, b",
        "SELECT c.name, s.name FROM counts c FULL JOIN sums s ON c.name = s.name",
        expect![[r#"
            refused: 13:10: table `out` (upsert) has the primary key (a, b), but no columns identify the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
}

#[test]
fn a_key_that_changes_its_subtask_is_no_key() {
    check_keyed(
        "id BIGINT, n BIGINT",
        "id",
        "SELECT id, n FROM users u JOIN counts c ON u.region = c.name",
        expect![[r#"
            refused: 13:10: table `out` (upsert) has the primary key (id), but no columns identify the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
}

#[test]
fn bounds_of_event_times_make_an_interval_join() {
    check(
        "SELECT a.name, b.name FROM clicks a JOIN clicks b
         ON a.k = b.k AND b.ts BETWEEN a.ts - INTERVAL '5' SECOND AND a.ts + INTERVAL '1' HOUR",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-3: select [..]
                <- out/join: inner interval join of ts@2 and ts@2 on k@0 = k@0 where ts@6 >= ts@2 - interval 5s AND ts@6 <= ts@2 + interval 1h (state: left rows until $expiry3@3, right rows until $expiry3@3; watermark delayed by 1h)
                  left <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(k) out/calc-2: select [..]
                    <- clicks (see above)
        "#]],
    );
    check(
        "SELECT a.name, b.name FROM clicks a LEFT JOIN clicks b ON a.k = b.k AND a.ts = b.ts",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc: select [..]
                <- out/join: left interval join of ts@2 and ts@2 on k@0 = k@0 on ts@2 = ts@2 (state: left rows until ts@2, right rows until ts@2)
                  left <- hash(k, ts) clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(k, ts) clicks (see above)
        "#]],
    );
    check(
        "SELECT a.name, b.region FROM clicks a JOIN users b ON a.k = b.id AND a.ts BETWEEN b.ts AND b.ts + INTERVAL '1' DAY",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc: select [..] changelog: retract
                <- out/join: inner join on k@0 = id@1 where ts@2 >= ts@5 AND ts@2 <= ts@5 + interval 1d (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(id) users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                    <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
    check(
        "SELECT a.name, b.name FROM clicks a JOIN clicks b ON a.k = b.k AND b.ts <= a.ts + INTERVAL '1' HOUR",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc: select [..]
                <- out/join: inner join on k@0 = k@0 where ts@5 <= ts@2 + interval 1h (state: rows of both inputs, for ever)
                  left <- hash(k) clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(k) clicks (see above)
        "#]],
    );
}

#[test]
fn hints_determine_how_long_rows_are_kept() {
    check(
        "SELECT /*+ STATE_TTL('a' = '1 d', 'counts' = '2 h') */ a.name, counts.name
         FROM clicks AS a JOIN counts ON a.name = counts.name WHERE a.i > 3",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract
                <- out/join: inner join on name@0 = name@0 (state: rows of both inputs, left until 1d after its last change, right until 2h after its last change) changelog: retract
                  left <- hash(name) out/calc: select [..] where i@0 > 3
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(name) counts/aggregate: aggregate by name [] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks (see above)
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('t' = '10 min') */ name, CAST(count(*) AS STRING)
         FROM (SELECT name FROM clicks WHERE i > 3) AS t GROUP BY name",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract, keys (a)
                <- out/aggregate: aggregate by name [count(1)] (state: one row per group, until 10min after its last change) changelog: retract, keys (name)
                  <- hash(name) out/calc: select [..] where i@0 > 3
                    <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
    check(
        "SELECT /*+ STATE_TTL('u' = '0 s') */ DISTINCT u.region, u.region FROM users AS u JOIN clicks ON u.id = clicks.k",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-4: select [..] changelog: retract, keys (a, b)
                <- out/aggregate: aggregate by region, region [] (state: one row per group, for ever) changelog: retract, keys (region, region)
                  <- hash(region, region) out/calc-3: select [..] changelog: retract
                    <- out/join: inner join on id@1 = k@0 (state: rows of both inputs, for ever) changelog: retract
                      left <- hash(id) out/calc: select [..] changelog: retract, keys (id)
                        <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                          <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
                      right <- hash(k) out/calc-2: select [..]
                        <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
    for (hint, message) in [
        (
            "'clic' = '1 d'",
            "FROM has no table, view or subquery `clic`; did you mean `clicks`?",
        ),
        (
            "'clicks' = 'long'",
            "STATE_TTL('clicks' = 'long'): `long` is not a duration",
        ),
        ("clicks", "STATE_TTL takes pairs such as 'relation' = '1 d'"),
    ] {
        let query = format!("SELECT /*+ STATE_TTL({hint}) */ name, count(*) FROM clicks GROUP BY name");
        let text = planned(&query, Mode::Stream);
        assert!(text.contains(message), "{text}");
    }
    let misplaced = planned(
        "SELECT name FROM clicks /*+ STATE_TTL('clicks' = '1 d') */",
        Mode::Stream,
    );
    assert!(misplaced.contains("directly after SELECT"), "{misplaced}");
}

#[test]
fn a_batch_has_final_rows() {
    let script = format!(
        "{COUNTS} CREATE TABLE out (a STRING, b BIGINT) WITH ('connector' = 'append');
         INSERT INTO out SELECT c.name, s FROM counts c LEFT JOIN sums s ON c.name = s.name;"
    );
    let expected = expect![[r#"
        out/sink: write out (append)
          <- out/calc: select [..]
            <- out/join: left join on name@0 = name@0 (state: rows of both inputs, until the end of input)
              left <- hash(name) counts/aggregate: aggregate by name [] (state: one row per group, until the end of input)
                <- hash(name) counts/calc: select [..]
                  <- clicks: read clicks (append) columns [..] watermark ts@2
              right <- hash(name) sums/aggregate: merge by name [sum(k@1)] (state: one row per group, until the end of input)
                <- hash(name) sums/local-aggregate: pre-aggregate by name [sum(k@1)]
                  <- sums/calc: select [..]
                    <- clicks (see above)
    "#]];
    expected.assert_eq(&planned(&script, Mode::Batch));
}

#[test]
fn append_only_sinks_refuse_joins_with_updates() {
    let out = "CREATE TABLE out (a STRING, b STRING) WITH ('connector' = 'append');";
    for (query, cause) in [
        (
            "SELECT a.name, b.name FROM clicks a LEFT JOIN clicks b ON a.k = b.k",
            "it has a LEFT JOIN without a window",
        ),
        (
            "SELECT name, name FROM clicks EXCEPT ALL SELECT name, name FROM clicks",
            "it has a GROUP BY without a window",
        ),
        (
            "SELECT name, name FROM clicks a WHERE NOT EXISTS (SELECT 1 FROM clicks b WHERE a.k = b.i)",
            "it has a NOT EXISTS, NOT IN or EXCEPT",
        ),
        (
            "SELECT name, region FROM clicks JOIN users ON k = id",
            "it reads the changes of table `users` (upsert)",
        ),
    ] {
        let text = planned(&format!("{out} INSERT INTO out {query};"), Mode::Stream);
        assert!(text.contains(cause), "{query}: {text}");
    }
}

#[test]
fn conditions_that_change_are_refused() {
    check(
        "SELECT a.name, b.name FROM clicks a LEFT JOIN clicks b ON a.k = b.k AND a.i < b.i * RAND()",
        expect![[r#"
            refused: 13:10: `random()` in the condition of a join has another value each time it is evaluated, so the rows that were joined could not be found again when they are updated: it has a LEFT JOIN without a window. Compute it in a view or subquery, and join that
        "#]],
    );
}

#[test]
fn subqueries_that_are_no_joins_are_refused() {
    check(
        "SELECT name, (SELECT region FROM users) FROM clicks",
        expect![[r#"
        refused: 13:10: a subquery that stands for a value must have one row: select an aggregate without GROUP BY, such as MAX(x), or use IN or a join
    "#]],
    );
    check(
        "SELECT name, name FROM clicks WHERE k = 1 OR EXISTS (SELECT 1 FROM users WHERE id = k)",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-4: select [..] where k@0 = 1 OR $in1@2 IS NOT NULL changelog: retract
                <- out/join: left join on k@0 = id@1 (state: rows of both inputs, for ever) changelog: retract
                  left <- hash(k) out/calc-2: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(id) out/calc-3: select [..] changelog: retract
                    <- out/aggregate: aggregate by id, __always_true [bool_or(true)] (state: one row per group, for ever) changelog: retract, keys (id, __always_true)
                      <- hash(id, __always_true) out/calc: select [..] changelog: retract, keys (id)
                        <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                          <- hash(id) users: read users (upsert) columns [..] watermark ts@1 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn inner_joins_by_one_key_are_one_operator() {
    check(
        "SELECT a.name, c.name FROM clicks a JOIN clicks b ON a.k = b.k JOIN clicks c ON c.k = b.k AND a.price < c.price",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-4: select [..]
                <- out/join-2: inner join of 3 inputs by one key where price@2 < price@6 (state: rows of the inputs, for ever)
                  input 1 <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
                  input 2 <- hash(k) out/calc-2: select [..]
                    <- clicks (see above)
                  input 3 <- hash(k) out/calc (see above)
        "#]],
    );
    // The key columns are in another order, and a side is an aggregate.
    check(
        "SELECT x.name, y.name FROM (SELECT a.name, a.k, a.i FROM clicks a JOIN clicks b ON a.k = b.k AND a.i = b.i) x
         JOIN (SELECT i, k, max(name) AS name FROM clicks GROUP BY i, k) y ON x.i = y.i AND y.k = x.k",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-5: select [..] changelog: retract
                <- out/join-2: inner join of 3 inputs by one key (state: rows of the inputs, for ever) changelog: retract
                  input 1 <- hash(i, k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
                  input 2 <- hash(i, k) out/calc-2: select [..]
                    <- clicks (see above)
                  input 3 <- hash(i, k) out/aggregate: aggregate by i, k [max(name@2)] (state: one row per group, for ever) changelog: retract, keys (i, k)
                    <- hash(i, k) out/calc-3: select [..]
                      <- clicks (see above)
        "#]],
    );
}

#[test]
fn joins_by_different_keys_remain_several_operators() {
    check(
        "SELECT a.name, c.name FROM clicks a JOIN clicks b ON a.k = b.k JOIN clicks c ON c.name = b.name",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-4: select [..]
                <- out/join-2: inner join on name@1 = name@0 (state: rows of both inputs, for ever)
                  left <- hash(name) out/calc-2: select [..]
                    <- out/join: inner join on k@0 = k@0 (state: rows of both inputs, for ever)
                      left <- hash(k) out/calc: select [..]
                        <- clicks: read clicks (append) columns [..] watermark ts@2
                      right <- hash(k) out/calc (see above)
                  right <- hash(name) out/calc-3: select [..]
                    <- clicks (see above)
        "#]],
    );
    // The result of the first join is used twice.
    check(
        "WITH x AS (SELECT a.name, a.k FROM clicks a JOIN clicks b ON a.k = b.k)
         SELECT x.name, c.name FROM x JOIN clicks c ON c.k = x.k UNION ALL SELECT name, name FROM x",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-4: select [..]
                <- out/join-2: inner join on k@1 = k@0 (state: rows of both inputs, for ever)
                  left <- hash(k) out/calc-3: select [..]
                    <- out/join: inner join on k@0 = k@0 (state: rows of both inputs, for ever)
                      left <- hash(k) out/calc: select [..]
                        <- clicks: read clicks (append) columns [..] watermark ts@2
                      right <- hash(k) out/calc-2: select [..]
                        <- clicks (see above)
                  right <- hash(k) out/calc (see above)
              <- out/calc-5: select [..]
                <- out/join (see above)
        "#]],
    );
}

#[test]
fn the_keys_of_a_join_of_several_inputs_are_those_of_its_inputs() {
    check_keyed(
        "name STRING, n BIGINT, s BIGINT",
        "name",
        "SELECT a.name, a.n, b.s FROM counts a JOIN sums b ON a.name = b.name JOIN sums c ON a.name = c.name",
        expect![[r#"
            out/sink: write out (upsert) changelog: retract
              <- out/calc-3: select [..] changelog: retract, keys (name)
                <- out/join-2: inner join of 3 inputs by one key (state: rows of the inputs, for ever) changelog: retract, keys (name), (name)
                  input 1 <- hash(name) counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) counts/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@2
                  input 2 <- hash(name) sums/aggregate: aggregate by name [sum(k@1)] (state: one row per group, for ever) changelog: retract, keys (name)
                    <- hash(name) sums/calc: select [..]
                      <- clicks (see above)
                  input 3 <- hash(name) out/calc-2: select [..] changelog: retract, keys (name)
                    <- sums/aggregate (see above)
        "#]],
    );
}
