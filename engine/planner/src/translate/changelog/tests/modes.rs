//! Modes, keys and exchanges.

use expect_test::{Expect, expect};

use super::{plan, planned};
use crate::Mode;

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro of snapshots makes it")]
fn check(script: &str, expected: Expect) {
    expected.assert_eq(&planned(script, Mode::Stream));
}

#[test]
fn a_sink_with_the_key_of_the_groups_gets_upserts() {
    check(
        "CREATE TABLE out (name STRING, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT name, count(*) FROM clicks GROUP BY name;",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (name)
              <- out/calc-2: select [..] changelog: upsert by (name)
                <- out/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: upsert by (name)
                  <- hash(name) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}

#[test]
fn rows_in_windows_are_identified_by_their_key_and_window() {
    check(
        "CREATE TABLE out (id BIGINT, age INT, window_end TIMESTAMP(3)) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT id, age, window_end
         FROM TABLE(HOP(TABLE users, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '2' MINUTE));",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc: select [..] changelog: retract, keys (id, window_end)
                <- out/window: mark windows hop 2min every 1min on ts@2 changelog: retract, keys (id, window_end)
                  <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                    <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn a_sink_whose_key_has_more_columns_gets_former_rows() {
    check(
        "CREATE TABLE out (name STRING, n BIGINT, PRIMARY KEY (name, n) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT name, count(*) FROM clicks GROUP BY name;",
        expect![[r#"
            out/sink: write out (upsert) changelog: retract
              <- out/calc-2: select [..] changelog: retract, keys (name)
                <- out/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                  <- hash(name) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}

#[test]
fn a_sink_that_takes_all_kinds_gets_them() {
    check(
        "CREATE TABLE out (name STRING, n BIGINT) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT name, count(*) FROM clicks GROUP BY name;",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract, keys (name)
                <- out/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                  <- hash(name) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}

#[test]
fn copies_and_wider_types_of_a_key_are_keys() {
    check(
        "CREATE TABLE out (a INT, b BIGINT, c STRING, PRIMARY KEY (b) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT i AS a, i AS b, max(name) FROM clicks GROUP BY i;",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (b)
              <- hash(b) out/calc-2: select [..] changelog: upsert by (b), keys (a), (b)
                <- out/aggregate: aggregate by i [max(name@1)] (state: one row per group, for ever) changelog: upsert by (i)
                  <- hash(i) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
}

#[test]
fn decimals_with_more_digits_are_keys() {
    check(
        "CREATE TABLE out (a DECIMAL(12, 4), n BIGINT, PRIMARY KEY (a) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT price, count(*) FROM clicks GROUP BY price;",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (a)
              <- out/calc-2: select [..] changelog: upsert by (a)
                <- out/aggregate: aggregate by price [count(1)] (state: one row per group, for ever) changelog: upsert by (price)
                  <- hash(price) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}

#[test]
fn a_filter_of_the_key_passes_whole_rows_and_another_one_does_not() {
    check(
        "CREATE TABLE a (name STRING, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');
         CREATE TABLE b (name STRING, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');
         CREATE VIEW lengths AS SELECT name, count(*) AS n, char_length(name) AS c FROM clicks GROUP BY name;
         INSERT INTO a SELECT name, n FROM lengths WHERE c > 3;
         INSERT INTO b SELECT name, count(*) FROM clicks GROUP BY name HAVING count(*) > 3;",
        expect![[r#"
            a/sink: write a (upsert) changelog: upsert by (name)
              <- a/calc: select [..] changelog: upsert by (name)
                <- lengths/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: upsert by (name)
                  <- hash(name) lengths/calc: select [..] where character_length(name@0) > 3
                    <- clicks: read clicks (append) columns [..] watermark ts@1
            b/sink: write b (upsert) changelog: retract
              <- b/calc-2: select [..] where count(1)@1 > 3 changelog: retract, keys (name)
                <- b/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                  <- hash(name) b/calc: select [..]
                    <- clicks (see above)
        "#]],
    );
}

#[test]
fn several_consumers_get_the_widest_changes() {
    check(
        "CREATE TABLE a (name STRING, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');
         CREATE TABLE b (n BIGINT, c BIGINT, PRIMARY KEY (n) NOT ENFORCED) WITH ('connector' = 'upsert');
         CREATE VIEW counts AS SELECT name, count(*) AS n FROM clicks GROUP BY name;
         INSERT INTO a SELECT * FROM counts;
         INSERT INTO b SELECT n, count(*) FROM counts GROUP BY n;",
        expect![[r#"
            a/sink: write a (upsert) changelog: retract
              <- a/calc: select [..] changelog: retract, keys (name)
                <- counts/aggregate: aggregate by name [count(1)] (state: one row per group, for ever) changelog: retract, keys (name)
                  <- hash(name) counts/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
            b/sink: write b (upsert) changelog: upsert by (n)
              <- b/calc-2: select [..] changelog: upsert by (n)
                <- b/aggregate: aggregate by n [count(1)] (state: one row per group, for ever) changelog: upsert by (n)
                  <- hash(n) b/calc: select [..] changelog: retract
                    <- counts/aggregate (see above)
        "#]],
    );
}

#[test]
fn a_global_aggregate_is_one_row() {
    check(
        "CREATE TABLE out (name STRING, n BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT 'all', count(*) FROM clicks;",
        expect![[r#"
            out/sink: write out (upsert) changelog: retract [one subtask]
              <- out/calc-2: select [..] changelog: retract, keys () [one subtask]
                <- out/aggregate: aggregate [count(1)] (state: one row, for ever) changelog: retract, keys () [one subtask]
                  <- gather out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@0
        "#]],
    );
}

#[test]
fn rows_without_a_key_to_hash_have_one_subtask() {
    check(
        "CREATE TABLE out (n BIGINT) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT count(*) FROM clicks UNION ALL SELECT k FROM clicks GROUP BY k;",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract [one subtask]
              <- out/calc-3: select [..] changelog: retract, keys () [one subtask]
                <- out/aggregate: aggregate [count(1)] (state: one row, for ever) changelog: retract, keys () [one subtask]
                  <- gather out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
              <- gather out/calc-4: select [..] changelog: retract, keys (n)
                <- out/aggregate-2: aggregate by k [] (state: one row per group, for ever) changelog: retract, keys (k)
                  <- hash(k) out/calc-2: select [..]
                    <- clicks (see above)
        "#]],
    );
}

#[test]
fn rows_of_one_subtask_are_distributed_by_key() {
    check(
        "CREATE TABLE out (k BIGINT, n BIGINT, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT count(*), 1 FROM clicks UNION ALL SELECT k, 2 FROM clicks GROUP BY k;",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- hash(k) out/calc-3: select [..] changelog: retract, keys () [one subtask]
                <- out/aggregate: aggregate [count(1)] (state: one row, for ever) changelog: retract, keys () [one subtask]
                  <- gather out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
              <- out/calc-4: select [..] changelog: retract, keys (k)
                <- out/aggregate-2: aggregate by k [] (state: one row per group, for ever) changelog: retract, keys (k)
                  <- hash(k) out/calc-2: select [..]
                    <- clicks (see above)
        "#]],
    );
}

#[test]
fn append_only_rows_become_insertions_beside_changes() {
    check(
        "CREATE TABLE out (k BIGINT) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT k FROM clicks GROUP BY k UNION ALL SELECT k FROM clicks UNION ALL SELECT i FROM clicks;",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/aggregate: aggregate by k [] (state: one row per group, for ever) changelog: retract, keys (k)
                <- hash(k) out/calc: select [..]
                  <- clicks: read clicks (append) columns [..] watermark ts@2
              <- out/insertions: select [..] changelog: retract
                <- out/calc (see above)
              <- out/insertions-2: select [..] changelog: retract
                <- out/calc-2: select [..]
                  <- clicks (see above)
        "#]],
    );
}

#[test]
fn append_only_rows_of_a_keyed_sink_are_distributed_by_key() {
    check(
        "CREATE TABLE out (k BIGINT, name STRING, PRIMARY KEY (k) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT k, name FROM clicks;",
        expect![[r#"
            out/sink: write out (upsert)
              <- hash(k) out/calc: select [..]
                <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
    check(
        "CREATE TABLE out (name STRING, w TIMESTAMP(3), n BIGINT, PRIMARY KEY (w, name) NOT ENFORCED)
         WITH ('connector' = 'upsert');
         INSERT INTO out SELECT name, window_end, count(*)
         FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY name, window_start, window_end;",
        expect![[r#"
            out/sink: write out (upsert)
              <- out/calc: select [..]
                <- out/aggregate: merge tumble 1min on window_end@3 by name [count(1)] (state)
                  <- hash(name) out/local-aggregate: pre-aggregate tumble 1min on ts@1 by name [count(1)]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}

#[test]
fn a_source_of_upserts_is_normalised_by_its_key() {
    check(
        "CREATE TABLE out (region STRING, oldest BIGINT, PRIMARY KEY (region) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT region, sum(decade) FROM users GROUP BY region;",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (region)
              <- out/calc-2: select [..] changelog: upsert by (region)
                <- out/aggregate: aggregate by region [sum(decade@1)] (state: one row per group, for ever) changelog: upsert by (region)
                  <- hash(region) out/calc: select [..] changelog: retract
                    <- users/normalize: newest row by id (state: one row per key, for ever) changelog: retract, keys (id)
                      <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn a_source_of_changes_is_normalised_if_it_has_a_key() {
    check(
        "CREATE TABLE out (id BIGINT, total BIGINT, PRIMARY KEY (id) NOT ENFORCED) WITH ('connector' = 'upsert');
         CREATE TABLE sums (total BIGINT) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT id, total FROM orders;
         INSERT INTO sums SELECT sum(total) FROM logs;",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (id)
              <- orders/normalize: newest row by id (state: one row per key, for ever) changelog: upsert by (id)
                <- hash(id) orders: read orders (cdc) columns [..] changelog: retract, keys (id)
            sums/sink: write sums (cdc) changelog: retract [one subtask]
              <- sums/calc: select [..] changelog: retract, keys () [one subtask]
                <- sums/aggregate: aggregate [sum(total@0)] (state: one row, for ever) changelog: retract, keys () [one subtask]
                  <- gather logs: read logs (cdc) columns [..] changelog: retract
        "#]],
    );
}

#[test]
fn distinct_rows_are_keys_as_a_whole() {
    check(
        "CREATE TABLE out (k BIGINT, name STRING, PRIMARY KEY (name, k) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT DISTINCT k, name FROM clicks;",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (k, name)
              <- out/aggregate: aggregate by k, name [] (state: one row per group, for ever) changelog: upsert by (k, name)
                <- hash(k, name) out/calc: select [..]
                  <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
}

#[test]
fn volatile_values_are_written_by_key() {
    check(
        "CREATE TABLE out (name STRING, id STRING, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert');
         INSERT INTO out SELECT name, UUID() FROM (SELECT name, count(*) FROM clicks GROUP BY name);",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (name)
              <- out/calc-2: select [..] changelog: upsert by (name)
                <- out/aggregate: aggregate by name [] (state: one row per group, for ever) changelog: upsert by (name)
                  <- hash(name) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@1
        "#]],
    );
}

#[test]
fn a_batch_has_no_changelog() {
    let script = "
        CREATE TABLE out (region STRING, oldest INT) WITH ('connector' = 'append');
        INSERT INTO out SELECT region, max(age) FROM users GROUP BY region HAVING count(*) > 1;";
    expect![[r#"
        out/sink: write out (append)
          <- out/calc-2: select [..] where count(1)@2 > 1
            <- out/aggregate: merge by region [max(age@1), count(1)] (state: one row per group, until the end of input)
              <- hash(region) out/local-aggregate: pre-aggregate by region [max(age@1), count(1)]
                <- out/calc: select [..]
                  <- users/normalize: newest row by id (state: one row per key, until the end of input)
                    <- hash(id) users: read users (upsert) columns [..] watermark ts@3 changelog: upsert by (id)
    "#]]
    .assert_eq(&planned(script, Mode::Batch));
}

#[test]
fn what_changes_the_execution_changes_the_fingerprint() {
    let script = |settings: &str, key: &str| {
        format!(
            "{settings}
             CREATE TABLE out (name STRING, n BIGINT, PRIMARY KEY ({key}) NOT ENFORCED) WITH ('connector' = 'upsert');
             INSERT INTO out SELECT name, count(*) FROM clicks GROUP BY name;"
        )
    };
    let fingerprint =
        |settings: &str, key: &str| plan(&script(settings, key), Mode::Stream).map(|graph| graph.fingerprint);
    let first = fingerprint("", "name");
    assert!(first.is_ok());
    assert_ne!(first, fingerprint("", "name, n"));
    assert_ne!(first, fingerprint("SET 'table.exec.state.ttl' = '1 h';", "name"));
    assert_eq!(first, fingerprint("SET 'table.exec.state.ttl' = '0 ms';", "name"));
}
