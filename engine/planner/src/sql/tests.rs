//! Scripts and what is said of them.

use expect_test::{Expect, expect};

use super::*;
use crate::logical::InsertInput;

const TABLES: &str = "\
CREATE TABLE bid (
  auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING, ts TIMESTAMP(3), extra STRING,
  nested ROW<a INT, b ROW<c STRING>>, tags ARRAY<STRING>,
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH ('connector' = 'filesystem', 'path' = '/tmp/in', 'format' = 'json');
CREATE TABLE out1 (n BIGINT, t TIMESTAMP(3)) WITH ('connector' = 'print');
";

/// Plans of the steps and inserts, or the errors.
fn planned(script: &str) -> String {
    match pipeline("test", script, &PlanOptions::default()) {
        Ok((pipeline, _)) => {
            let steps = pipeline
                .steps
                .iter()
                .map(|step| format!("{} =\n{}\n", step.name, step.plan.display_indent()));
            let inserts = pipeline.inserts.iter().map(|insert| match &insert.input {
                InsertInput::Plan(plan) => format!("{} <-\n{}\n", insert.table.name, plan.display_indent()),
                other => format!("{} <- {other:?}\n", insert.table.name),
            });
            steps.chain(inserts).collect()
        }
        Err(errors) => format!("{errors}\n"),
    }
}

#[track_caller]
fn check(query: &str, expected: Expect) {
    expected.assert_eq(&planned(&format!("{TABLES}{query}")));
}

#[test]
fn window_table_functions_become_nodes() {
    check(
        "INSERT INTO out1 SELECT count(*), window_start FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
        expect![[r#"
            out1 <-
            Projection: count(*) AS n, window_start AS t
              Projection: count(Int64(1)) AS count(*), window_start
                Aggregate: groupBy=[[window_start, window_end]], aggr=[[count(Int64(1))]]
                  WindowTableFunction: Tumble { size: 10000000, offset: 0 } on bid.ts
                    TableScan: bid
        "#]],
    );
    check(
        "INSERT INTO out1 SELECT count(*), window_start FROM HOP(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '2' SECOND, SIZE => INTERVAL '1' MINUTE) AS B GROUP BY B.window_start, window_end",
        expect![[r#"
            out1 <-
            Projection: count(*) AS n, B.window_start AS t
              Projection: count(Int64(1)) AS count(*), B.window_start
                Aggregate: groupBy=[[B.window_start, B.window_end]], aggr=[[count(Int64(1))]]
                  SubqueryAlias: B
                    WindowTableFunction: Hop { size: 60000000, slide: 2000000, offset: 0 } on bid.ts
                      TableScan: bid
        "#]],
    );
    check(
        "INSERT INTO out1 SELECT count(*), SESSION_START(ts, INTERVAL '10' SECOND) FROM bid AS B WHERE price > 3 GROUP BY SESSION(ts, INTERVAL '10' SECOND), B.bidder",
        expect![[r#"
            out1 <-
            Projection: count(*) AS n, B.window_start AS t
              Projection: count(Int64(1)) AS count(*), B.window_start
                Aggregate: groupBy=[[B.window_start, B.window_end, B.bidder]], aggr=[[count(Int64(1))]]
                  SubqueryAlias: B
                    WindowTableFunction: Session { gap: 10000000 } on B.ts
                      Projection: B.auction, B.bidder, B.price, B.channel, B.url, B.ts, B.extra, B.nested, B.tags
                        Filter: B.price > Int64(3)
                          SubqueryAlias: B
                            TableScan: bid
        "#]],
    );
}

#[test]
fn all_mistakes_are_reported_with_their_places() {
    check(
        "INSERT INTO out1 SELECT prise, ts FROM bid;
INSERT INTO out2 SELECT price, ts FROM bids;
INSERT INTO out1 SELECT REGEXP_EXTRAKT(url, 'x'), FOO(ts) FROM bid ORDER BY price LIMIT 3;
INSERT INTO out1 SELECT price FROM bid;
INSERT INTO out1 SELECT url, ts FROM bid;
SELEC x;
INSERT INTO out1 SELECT price, FROM bid;
CREATE TABLE t (a BIGNT) WITH ('connector' = 'print');
CREATE TABLE u (a BIGINT, b AS c + 1, WATERMARK FOR a AS a) WITH ('connector' = 'print');
INSERT INTO out1 SELECT nested.x, nested.b.c FROM bid;
INSERT INTO out1 SELECT sum(price), window_start FROM TABLE(TUMBL(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND));
INSERT INTO out1 SELECT price, ts FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(price), INTERVAL '10' SECOND));
INSERT INTO out1 SELECT url + 1, ts FROM bid;
INSERT INTO out1 SELECT price, ts FROM bid GROUP BY price;",
        expect![[r#"
            7:25: unknown column `prise`; did you mean `price`?
            8:13: unknown table `out2`; did you mean `out1`?; declare it with CREATE TABLE
            8:40: unknown table or view `bids`; did you mean `bid`?
            9:25: unknown function `REGEXP_EXTRAKT`; did you mean `REGEXP_EXTRACT`?
            9:51: unknown function `FOO`
            9:77: ORDER BY needs the end of its input, which a stream does not have: leave it out, or keep the first rows of each window with ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY ...)
            9:89: LIMIT, OFFSET and FETCH are not supported on a stream: filter with WHERE, or keep the first rows of each window with ROW_NUMBER()
            10:1: the query has 1 columns (price), but table `out1` takes 2 (n, t)
            11:1: column `n` of table `out1` is BIGINT, but the query's column 1 (`url`) is STRING: write CAST(... AS BIGINT)
            12:1: expected: CREATE TABLE, CREATE VIEW, INSERT INTO, SET, EXPLAIN or EXECUTE STATEMENT SET, found: SELEC
            13:37: expected an expression, found: FROM
            14:19: unknown type `BIGNT`; did you mean `BIGINT`?
            15:32: unknown column `c`; did you mean `a`?
            16:1: field x not found in struct
            17:61: unknown function `TUMBL`
            18:46: `price` is of type BIGINT: a window needs a TIMESTAMP column with a watermark, or a PROCTIME() column
            19:25: cannot coerce arithmetic expression Utf8 + Int64 to valid types
            20:32: column in SELECT must be in GROUP BY or an aggregate function: While expanding wildcard, column "bid.ts" must appear in the GROUP BY clause or must be part of an aggregate function, currently only "bid.price" appears in the SELECT clause satisfies this requirement
        "#]],
    );
}
