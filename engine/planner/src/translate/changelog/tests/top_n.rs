//! Top-N and de-duplication without windows.

use expect_test::{Expect, expect};

use super::{plan, planned};
use crate::Mode;

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro of snapshots makes it")]
fn check(out: &str, query: &str, expected: Expect) {
    let script = format!("CREATE TABLE out {out}; INSERT INTO out {query};");
    expected.assert_eq(&planned(&script, Mode::Stream));
}

const NAMES: &str = "(name STRING, k BIGINT) WITH ('connector' = 'cdc')";

#[test]
fn the_rank_identifies_a_row_where_it_is_selected() {
    let ranked = "SELECT name, rn, k FROM (
        SELECT *, ROW_NUMBER() OVER (PARTITION BY name ORDER BY price DESC, k) AS rn FROM clicks) WHERE rn <= 3";
    check(
        "(name STRING, rn BIGINT, k BIGINT, PRIMARY KEY (rn, name) NOT ENFORCED) WITH ('connector' = 'upsert')",
        ranked,
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (name, rn)
              <- out/calc-2: select [..] changelog: upsert by (name, rn)
                <- out/top-n: rows 1..=3 of each name order by price@2 DESC NULLS LAST, k@0 ASC with rank (state: these rows, for ever) changelog: upsert by (name, rank)
                  <- hash(name) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
        "#]],
    );
    check(
        "(name STRING, rn BIGINT, k BIGINT, PRIMARY KEY (name, k) NOT ENFORCED) WITH ('connector' = 'upsert')",
        ranked,
        expect![[r#"
            refused: 11:120: table `out` (upsert) has the primary key (name, k), but (name, rn) identifies the rows of the query, so that several rows can have one primary key; make the columns that identify a row of the query the primary key, or choose between them: ON CONFLICT DO DEDUPLICATE keeps the last row, DO NOTHING the first, and with DO ERROR the job fails
        "#]],
    );
    check(
        NAMES,
        "SELECT name, k FROM clicks QUALIFY ROW_NUMBER() OVER (PARTITION BY name ORDER BY price DESC, k) BETWEEN 2 AND 3",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract
                <- out/top-n: rows 2..=3 of each name order by price@2 DESC NULLS LAST, k@0 ASC (state: these rows, for ever) changelog: retract
                  <- hash(name) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@3
        "#]],
    );
}

#[test]
fn the_partition_identifies_its_only_row() {
    check(
        "(name STRING, k BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH ('connector' = 'upsert')",
        "SELECT name, k FROM clicks QUALIFY ROW_NUMBER() OVER (PARTITION BY name ORDER BY ts DESC) = 1",
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (name)
              <- out/calc: select [..] changelog: upsert by (name)
                <- out/top-n: rows 1..=1 of each name order by ts@2 DESC NULLS LAST (state: these rows, for ever) changelog: upsert by (name)
                  <- hash(name) clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
}

#[test]
fn keys_of_the_input_are_keys_if_they_have_the_partition() {
    let counts = "SELECT name, i, count(*) AS n FROM clicks GROUP BY name, i";
    check(
        "(name STRING, i INT, n BIGINT, PRIMARY KEY (name, i) NOT ENFORCED) WITH ('connector' = 'upsert')",
        &format!("SELECT * FROM ({counts}) QUALIFY RANK() OVER (PARTITION BY name ORDER BY n DESC) <= 3"),
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (name, i)
              <- out/calc-2: select [..] changelog: upsert by (name, i)
                <- out/top-n: rows 1..=3 by RANK of each name order by count(1)@2 DESC NULLS LAST (state: all rows, for ever) changelog: upsert by (name, i)
                  <- hash(name) out/aggregate: aggregate by name, i [count(1)] (state: one row per group, for ever) changelog: retract, keys (name, i)
                    <- hash(name, i) out/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
    check(
        "(name STRING, i INT, n BIGINT) WITH ('connector' = 'cdc')",
        &format!("SELECT * FROM ({counts}) QUALIFY DENSE_RANK() OVER (PARTITION BY n ORDER BY i) <= 3"),
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract, keys (name, i, n)
                <- out/top-n: rows 1..=3 by DENSE_RANK of each count(1) order by i@1 ASC (state: all rows, for ever) changelog: retract, keys (name, i, count(1))
                  <- hash(count(1)) out/aggregate: aggregate by name, i [count(1)] (state: one row per group, for ever) changelog: retract, keys (name, i)
                    <- hash(name, i) out/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
    check(
        "(name STRING, i INT, PRIMARY KEY (name, i) NOT ENFORCED) WITH ('connector' = 'upsert')",
        &format!("SELECT name, i FROM ({counts}) ORDER BY n DESC FETCH FIRST 3 ROWS ONLY"),
        expect![[r#"
            out/sink: write out (upsert) changelog: upsert by (name, i) [one subtask]
              <- out/calc-2: select [..] changelog: upsert by (name, i) [one subtask]
                <- out/top-n: rows 1..=3 order by count(1)@2 DESC NULLS LAST (state: all rows, for ever) changelog: upsert by (name, i) [one subtask]
                  <- gather out/aggregate: aggregate by name, i [count(1)] (state: one row per group, for ever) changelog: retract, keys (name, i)
                    <- hash(name, i) out/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
}

#[test]
fn the_first_rows_to_come_are_append_only() {
    check(
        "(name STRING, n BIGINT) WITH ('connector' = 'append')",
        "SELECT name, count(*) FROM TABLE(TUMBLE(DATA => (
           SELECT * FROM clicks QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY PROCTIME()) = 1),
           TIMECOL => DESCRIPTOR(ts), SIZE => INTERVAL '1' MINUTE))
         GROUP BY name, window_start, window_end",
        expect![[r#"
            out/sink: write out (append)
              <- out/calc: select [..]
                <- out/aggregate: merge tumble 1min on window_end@3 by name [count(1)] (state)
                  <- hash(name) out/local-aggregate: pre-aggregate tumble 1min on ts@2 by name [count(1)]
                    <- out/top-n: rows 1..=1 of each k order by first to come (state: their number, for ever)
                      <- hash(k) clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
    check(
        "(name STRING, k BIGINT) WITH ('connector' = 'append')",
        "SELECT name, k FROM clicks LIMIT 3 OFFSET 1",
        expect![[r#"
            out/sink: write out (append) [one subtask]
              <- out/calc-2: select [..] [one subtask]
                <- out/top-n: rows 2..=4 (state: their number, for ever) [one subtask]
                  <- gather out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
    check(
        NAMES,
        "SELECT name, k FROM clicks QUALIFY ROW_NUMBER() OVER (PARTITION BY k ORDER BY PROCTIME() DESC) = 1",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/calc-2: select [..] changelog: retract, keys (k)
                <- out/top-n: rows 1..=1 of each k order by last to come (state: these rows, for ever) changelog: retract, keys (k)
                  <- hash(k) out/calc: select [..]
                    <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
}

#[test]
fn every_function_ranks_the_rows_of_windows() {
    check(
        NAMES,
        "SELECT name, k FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
         QUALIFY RANK() OVER (PARTITION BY window_start, window_end ORDER BY k) = 1",
        expect![[r#"
            out/sink: write out (cdc) [one subtask]
              <- out/calc-2: select [..] [one subtask]
                <- out/top-n: rows 1..=1 of window [window_start@2, window_end@3) by RANK order by k@0 ASC (state) [one subtask]
                  <- gather out/calc: select [..]
                    <- out/window: mark windows tumble 1min on ts@2
                      <- clicks: read clicks (append) columns [..] watermark ts@2
        "#]],
    );
}

#[test]
fn other_forms_are_refused() {
    let mut refused = String::new();
    for (sink, query) in [
        ("cdc", "SELECT name, k FROM clicks ORDER BY k"),
        ("cdc", "SELECT name, k FROM clicks ORDER BY k OFFSET 3"),
        (
            "cdc",
            "SELECT name, k FROM clicks ORDER BY k FETCH FIRST 3 ROWS WITH TIES",
        ),
        ("cdc", "SELECT name, k FROM clicks ORDER BY k LIMIT 100001"),
        ("cdc", "SELECT '', id FROM orders LIMIT 100001"),
        (
            "cdc",
            "SELECT name, k FROM clicks QUALIFY ROW_NUMBER() OVER (PARTITION BY k) = 1",
        ),
        (
            "cdc",
            "SELECT name, k FROM clicks QUALIFY ROW_NUMBER() OVER (ORDER BY k) > 1",
        ),
        (
            "cdc",
            "SELECT name, k FROM clicks QUALIFY RANK() OVER (PARTITION BY k ORDER BY PROCTIME()) = 1",
        ),
        (
            "cdc",
            "SELECT name, k FROM clicks QUALIFY LAG(k) OVER (PARTITION BY name ORDER BY ts) = k",
        ),
        (
            "cdc",
            "SELECT '', id FROM orders QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY PROCTIME()) = 1",
        ),
        (
            "append",
            "SELECT name, k FROM clicks QUALIFY ROW_NUMBER() OVER (PARTITION BY name ORDER BY k) = 1",
        ),
    ] {
        let script =
            format!("CREATE TABLE out (name STRING, k BIGINT) WITH ('connector' = '{sink}'); INSERT INTO out {query};");
        refused += &planned(&script, Mode::Stream);
    }
    expect![[r#"
        refused: 11:122: ORDER BY needs the end of its input, which a stream does not have: leave it out, add a LIMIT, or run a batch
        refused: 11:86: OFFSET needs a LIMIT on a stream: the rows after the first ones have no end
        refused: 11:86: FETCH takes a number of rows: FETCH FIRST n ROWS ONLY. For ties, use RANK() OVER (ORDER BY ...) AS rn with WHERE rn <= n
        refused: 11:70: the first 100001 rows are asked for, but at most 100000 rows of a partition are ranked: write all rows to a table, and sort them there
        refused: 11:70: the first 100001 rows are asked for, but at most 100000 rows of a partition are ranked: write all rows to a table, and sort them there
        refused: 11:70: ROW_NUMBER() needs an ORDER BY in its OVER, to say which rows are first
        refused: 11:70: ROW_NUMBER(), RANK() and DENSE_RANK() need a bound: SELECT ... FROM (SELECT ..., ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) AS rn FROM ...) WHERE rn <= N
        refused: 11:70: RANK() by processing time (PROCTIME) is not supported, since no two rows have the same: use ROW_NUMBER()
        refused: 11:121: LAG(...) OVER (...) is not supported yet: aggregate with GROUP BY, and join the result with the rows. OVER is there for ROW_NUMBER(), RANK() and DENSE_RANK(), whose first rows are kept: SELECT ... FROM (SELECT ..., ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) AS rn FROM ...) WHERE rn <= N
        refused: 11:70: rows that are updated or deleted have no order by processing time (PROCTIME): it reads the changes of table `orders` (cdc). Order them by a column, or rank the rows of an append-only table
        refused: 11:73: table `out` (append) is append-only, but the query updates its rows: it has a ROW_NUMBER() or LIMIT without a window. Write to a table of `upsert-kafka`, of `kafka` or `filesystem` with 'format' = 'debezium-json', or of `print`
    "#]].assert_eq(&refused);
}

#[test]
fn a_batch_has_its_first_rows_at_the_end() {
    let script = "CREATE TABLE out (name STRING, k BIGINT) WITH ('connector' = 'append');
        INSERT INTO out SELECT name, k FROM clicks ORDER BY price DESC LIMIT 3;";
    expect![[r#"
        out/sink: write out (append) [one subtask]
          <- out/calc-2: select [..] [one subtask]
            <- out/top-n: rows 1..=3 order by price@2 DESC NULLS LAST (state: these rows, until the end of input) [one subtask]
              <- gather out/calc: select [..]
                <- clicks: read clicks (append) columns [..] watermark ts@3
    "#]].assert_eq(&planned(script, Mode::Batch));
}

#[test]
fn ties_among_changes_are_not_broken_by_arrival() {
    let script = "CREATE TABLE out (k BIGINT) WITH ('connector' = 'cdc');
        INSERT INTO out SELECT id FROM users QUALIFY ROW_NUMBER() OVER (PARTITION BY region ORDER BY ts DESC) = 1;";
    let graph = plan(script, Mode::Stream).expect("a plan");
    let tops = graph.nodes.iter().filter_map(|node| match &node.operator {
        millstream_graph::Operator::TopN(top) => Some(top.prefers_last),
        _ => None,
    });
    assert_eq!(tops.collect::<Vec<_>>(), [false]);
}
