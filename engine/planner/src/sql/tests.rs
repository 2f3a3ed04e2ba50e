//! Planning of scripts, and errors of invalid ones.

mod broken_scripts;
mod errors;
mod hints;
mod random_sql;
mod show;
mod statements;

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

/// Returns the plans of the steps and inserts, or the errors.
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
            Projection: EXPR$0 AS n, window_start AS t
              Projection: count(Int64(1)) AS count(*) AS EXPR$0, window_start
                Aggregate: groupBy=[[window_start, window_end]], aggr=[[count(Int64(1))]]
                  WindowTableFunction: Tumble { size: 10000000, offset: 0 } on bid.ts
                    TableScan: bid
        "#]],
    );
    check(
        "INSERT INTO out1 SELECT count(*), window_start FROM HOP(DATA => TABLE bid, TIMECOL => DESCRIPTOR(ts), SLIDE => INTERVAL '2' SECOND, SIZE => INTERVAL '1' MINUTE) AS B GROUP BY B.window_start, window_end",
        expect![[r#"
            out1 <-
            Projection: EXPR$0 AS n, B.window_start AS t
              Projection: count(Int64(1)) AS count(*) AS EXPR$0, B.window_start
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
            Projection: EXPR$0 AS n, EXPR$1 AS t
              Projection: count(Int64(1)) AS count(*) AS EXPR$0, B.window_start AS EXPR$1
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
fn fields_of_rows_are_reached_and_named() {
    check(
        "CREATE VIEW v AS SELECT nested.b.c, nested.a, tags[1] AS t, bid.price FROM bid;
INSERT INTO out1 SELECT CASE WHEN c = 'x' THEN 1 ELSE a END, TIMESTAMP '2024-01-01 00:00:00' FROM v;",
        expect![[r#"
            v =
            Projection: get_field(get_field(bid.nested, Utf8("b")), Utf8("c")) AS c, get_field(bid.nested, Utf8("a")) AS a, array_element(bid.tags, Int64(1)) AS t, bid.price
              TableScan: bid
            out1 <-
            Projection: EXPR$0 AS n, EXPR$1 AS t
              Projection: CASE WHEN v.c = Utf8("x") THEN Int64(1) ELSE CAST(v.a AS Int64) END AS EXPR$0, CAST(Utf8("2024-01-01 00:00:00") AS Timestamp(µs)) AS EXPR$1
                SubqueryAlias: v
                  StepReference: v
        "#]],
    );
}

#[test]
fn averages_and_casts_mean_what_they_mean_in_flink() {
    check(
        "INSERT INTO out1 SELECT avg(price), max(window_end) FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
CREATE TABLE texts (s STRING) WITH ('connector' = 'print');
INSERT INTO texts SELECT CAST(ts AS STRING) FROM bid;
INSERT INTO texts SELECT CONCAT(url, '-', auction) FROM bid;",
        expect![[r#"
            out1 <-
            Projection: EXPR$0 AS n, EXPR$1 AS t
              Projection: avg(bid.price) AS EXPR$0, max(window_end) AS EXPR$1
                Projection: window_start, window_end, sum(bid.price) / nullif(count(bid.price), Int64(0)) AS avg(bid.price), max(window_end)
                  Aggregate: groupBy=[[window_start, window_end]], aggr=[[sum(bid.price), count(bid.price), max(window_end)]]
                    WindowTableFunction: Tumble { size: 10000000, offset: 0 } on bid.ts
                      TableScan: bid
            texts <-
            Projection: EXPR$0 AS s
              Projection: $text(bid.ts) AS EXPR$0
                TableScan: bid
            texts <-
            Projection: EXPR$0 AS s
              Projection: $text(bid.url) || Utf8("-") || CAST(bid.auction AS Utf8) AS EXPR$0
                TableScan: bid
        "#]],
    );
}

#[test]
fn scripts_have_settings_sets_and_tables_from_queries() {
    check(
        "SET 'pipeline.name' = 'x'; SET 'parallelism.default' = '0';
EXECUTE STATEMENT SET BEGIN
INSERT INTO out1 (t) SELECT ts FROM bid;
INSERT INTO out1 (t, m) SELECT ts, 1 FROM bid;
END;
CREATE TABLE copied WITH ('connector' = 'print') AS SELECT price, UPPER(url) AS up FROM bid;
CREATE TABLE alike WITH ('connector' = 'print') LIKE bid;
CREATE TABLE out1 (a INT) WITH ('connector' = 'print');
CREATE FUNCTION f AS 'x';
CREATE TEMPORARY FUNCTION count_char AS 'com.github.nexmark.flink.udf.CountChar';
EXPLAIN STATEMENT SET BEGIN INSERT INTO out1 (t) SELECT ts FROM bid; INSERT INTO out1 (n) SELECT price FROM bid; END;
DELETE FROM out1;",
        expect![[r#"
            7:28: 'parallelism.default' must be a number from 1 to 65535, not '0'
            10:22: table `out1` has no column `m` to write; did you mean `n`?
            14:14: a table or view named `out1` exists already
            15:17: `f` cannot be loaded: user-defined functions are not supported; use the functions of the SQL reference
            18:1: `DELETE` is not supported: streams are only appended to, with `INSERT INTO`
        "#]],
    );
}

/// Plans everything that `docs/sql.md` documents.
#[test]
fn promised_functions_are_there() {
    let windowed =
        "FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY window_start, window_end";
    let aggregates = [
        "STDDEV_POP(price)",
        "STDDEV_SAMP(price)",
        "STDDEV(price)",
        "VAR_POP(price)",
        "VAR_SAMP(price)",
        "VARIANCE(price)",
        "MEDIAN(price)",
        "CORR(price, auction)",
        "COVAR_POP(price, auction)",
        "COVAR_SAMP(price, auction)",
        "FIRST_VALUE(url ORDER BY ts)",
        "LAST_VALUE(url)",
        "LISTAGG(url)",
        "LISTAGG(url, ';')",
        "STRING_AGG(url, ',' ORDER BY ts)",
        "ARRAY_AGG(url)",
        "COLLECT(url)",
        "APPROX_COUNT_DISTINCT(url)",
        "APPROX_PERCENTILE_CONT(price, 0.5)",
        "APPROX_MEDIAN(price)",
        "BOOL_AND(price > 1)",
        "BOOL_OR(price > 1)",
        "BIT_AND(price)",
        "BIT_OR(price)",
        "BIT_XOR(price)",
        "AVG(price) FILTER (WHERE price > 3)",
        "SUM(DISTINCT price)",
        "COUNT(DISTINCT url)",
        "MAX(ts)",
        "MIN(url)",
    ];
    let scalars = [
        "CURRENT_TIMESTAMP",
        "LOCALTIMESTAMP",
        "CURRENT_DATE",
        "CURRENT_TIME",
        "NOW()",
        "CURRENT_ROW_TIMESTAMP()",
        "UNIX_TIMESTAMP()",
        "UUID()",
        "RAND()",
        "PI()",
        "E()",
        "TRUNCATE(price / 3.0, 1)",
        "ATAN2(price, 2)",
        "SINH(price)",
        "DEGREES(price)",
        "price % 3",
        "url IS DISTINCT FROM channel",
        "url NOT LIKE 'a!%' ESCAPE '!'",
        "tags[1]",
        "ARRAY_DISTINCT(tags)",
        "ARRAY_REVERSE(tags)",
        "ARRAY_SLICE(tags, 1, 2)",
        "ARRAY_JOIN(tags, '-')",
        "ARRAY_CONCAT(tags, tags)",
        "ARRAY_UNION(tags, tags)",
        "ARRAY_MAX(tags)",
        "ARRAY_REMOVE(tags, 'a')",
        "CEIL(ts TO DAY)",
        "ts - INTERVAL '1' DAY",
        "CAST(ts AS DATE)",
        "CAST('10:20:30' AS TIME)",
        "SHA2(url, 256)",
        "SHA512(url)",
        "RAND_INTEGER(5)",
        "NULLIF(price, 0)",
        "CASE price WHEN 1 THEN 'a' END",
        "nested.b.c",
        "REGEXP_REPLACE(url, 'a', 'b')",
        "BTRIM(url)",
        "CAST(price AS DECIMAL(10, 2))",
        "TRY_CAST(url AS TIMESTAMP_LTZ(3))",
        "EXTRACT(MILLISECOND FROM ts)",
        "EXTRACT(ISODOW FROM ts)",
        "CAST(tags AS ARRAY<STRING>)",
        "ROUND(price * 0.5, 1)",
    ];
    let group = |sets: &str| {
        format!(
            "SELECT channel, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) \
             GROUP BY window_start, window_end, {sets}"
        )
    };
    let queries = aggregates
        .iter()
        .map(|call| format!("SELECT {call} AS x {windowed}"))
        .chain(scalars.iter().map(|call| format!("SELECT {call} AS x FROM bid")))
        .chain(
            [
                "CUBE (channel, url)",
                "ROLLUP (channel, url)",
                "GROUPING SETS ((channel), ())",
            ]
            .map(group),
        )
        .enumerate()
        .map(|(index, query)| format!("CREATE TABLE s{index} WITH ('connector' = 'print') AS {query};\n"));
    let text = &format!("{TABLES}{}", queries.collect::<String>());
    let planned = crate::plan(crate::Input::Sql { name: "test", text }, &PlanOptions::default());
    assert!(
        planned.is_ok(),
        "{}",
        planned.err().map(|errors| errors.to_string()).unwrap_or_default()
    );
}

#[test]
fn outputs_may_have_one_name() {
    check(
        "CREATE TABLE three (a STRING, b BIGINT, c BIGINT) WITH ('connector' = 'print');
CREATE VIEW v AS SELECT CAST(price AS STRING), price, price, url AS x, bidder AS x FROM bid;
INSERT INTO three SELECT CAST(price AS STRING), price, price FROM bid UNION ALL SELECT url, 1, 1 FROM bid;
INSERT INTO three SELECT a.url, a.price, b.price FROM bid AS a JOIN bid AS b ON a.ts = b.ts;",
        expect![[r#"
            v =
            Projection: CAST(bid.price AS Utf8) AS EXPR$0, bid.price, bid.price AS price0, bid.url AS x, bid.bidder AS x0
              TableScan: bid
            three <-
            Projection: EXPR$0 AS a, price AS b, price0 AS c
              Union
                Projection: CAST(bid.price AS Utf8) AS EXPR$0, bid.price, bid.price AS price0
                  TableScan: bid
                Projection: bid.url AS EXPR$0, Int64(1) AS price, Int64(1) AS price0
                  TableScan: bid
            three <-
            Projection: a.url AS a, a.price AS b, price0 AS c
              Projection: a.url, a.price, b.price AS price0
                Inner Join:  Filter: a.ts = b.ts
                  SubqueryAlias: a
                    TableScan: bid
                  SubqueryAlias: b
                    TableScan: bid
        "#]],
    );
}

#[test]
fn whole_numbers_go_into_narrower_columns_by_themselves() {
    check(
        "CREATE TABLE ints (a INT, b INT, c INT) WITH ('connector' = 'print');
INSERT INTO ints SELECT 1, CASE WHEN price > 3 THEN 1 ELSE 0 END, nested.a FROM bid;
INSERT INTO ints SELECT price, price * 0.5, url FROM bid;
INSERT INTO ints SELECT price, 3, CARDINALITY(tags) FROM bid /*+ OPTIONS('a'='b') */;",
        expect![[r#"
            9:1: column `b` of table `ints` is INT, but the query's column 2 (`EXPR$1`) is DECIMAL(21, 1): write CAST(... AS INT)
            9:1: column `c` of table `ints` is INT, but the query's column 3 (`url`) is STRING: write CAST(url AS INT)
            10:58: table `bid`: unknown option 'a' for the connector `filesystem`
        "#]],
    );
}

#[test]
fn tables_have_metadata_and_computed_columns() {
    check(
        "CREATE TABLE k (
  id BIGINT, body STRING COMMENT 'x', ts TIMESTAMP_LTZ(3) METADATA FROM 'timestamp' VIRTUAL, `offset` BIGINT METADATA VIRTUAL,
  twice AS id * 2, four AS twice * 2, p AS PROCTIME(), PRIMARY KEY (id) NOT ENFORCED, WATERMARK FOR ts AS ts
) COMMENT 'c' WITH ('connector' = 'kafka', 'topic' = 't', 'properties.bootstrap.servers' = 'x:1', 'scan.startup.mode' = 'earliest-offset', 'format' = 'json');
INSERT INTO out1 SELECT four, CAST(ts AS TIMESTAMP(3)) FROM k WHERE `offset` > 3;
INSERT INTO k SELECT price, url FROM bid;
EXPLAIN SELECT COALESCE(url, 'x') AS u FROM bid;",
        expect![[r#"
            out1 <-
            Projection: k.four AS n, EXPR$1 AS t
              Projection: k.four, $cut_time(CAST(k.ts AS Timestamp(µs)), Int64(3)) AS EXPR$1
                Filter: k.offset > Int64(3)
                  TableScan: k
            k <-
            Projection: bid.price AS id, bid.url AS body
              Projection: bid.price, bid.url
                TableScan: bid
            explained <-
            Projection: u AS u
              Projection: coalesce(bid.url, Utf8("x")) AS u
                TableScan: bid
        "#]],
    );
}

#[test]
fn time_is_pinned_in_a_batch_job() {
    let options = PlanOptions {
        mode: crate::Mode::Batch,
        now_us: 1_700_000_000_000_000,
        ..PlanOptions::default()
    };
    let script = format!("{TABLES}INSERT INTO out1 SELECT UNIX_TIMESTAMP(), LOCALTIMESTAMP FROM bid WHERE ts < NOW()");
    let plan = match pipeline("test", &script, &options) {
        Ok((pipeline, _)) => match &pipeline.inserts[0].input {
            InsertInput::Plan(plan) => format!("{}\n", plan.display_indent()),
            other => format!("{other:?}"),
        },
        Err(errors) => errors.to_string(),
    };
    expect![[r#"
        Projection: EXPR$0 AS n, EXPR$1 AS t
          Projection: Int64(1700000000) AS EXPR$0, CAST(to_timestamp_ltz(Int64(1700000000000000), Int64(6)) AS Timestamp(µs)) AS EXPR$1
            Filter: CAST(bid.ts AS Timestamp(µs, "UTC")) < to_timestamp_ltz(Int64(1700000000000000), Int64(6))
              TableScan: bid
    "#]]
    .assert_eq(&plan);
}

#[track_caller]
fn check_graph(query: &str, expected: Expect) {
    let text = &format!("{TABLES}{query}");
    let input = crate::Input::Sql { name: "test", text };
    let found = match crate::plan(input, &PlanOptions::default()) {
        Ok(graph) => crate::explain::explain(&graph),
        Err(errors) => format!("{errors}\n"),
    };
    expected.assert_eq(&found);
}

#[test]
fn graphs_of_unusual_queries() {
    check_graph(
        "INSERT INTO out1 VALUES (1, TIMESTAMP '2024-01-01 00:00:00')",
        expect![[r#"
            job test (128 key groups)
            out1/sink: write out1 (print)
              <- out1/calc: select [1 as n, 1704067200000000 as t]
                <- 1 rows: read 1 rows (datagen) columns [$row]
        "#]],
    );
    check_graph(
        "INSERT INTO out1 SELECT price, ts FROM bid ORDER BY price",
        expect![[r#"
            7:53: ORDER BY needs the end of its input, which a stream does not have: leave it out, add a LIMIT, or run a batch
        "#]],
    );
    check_graph(
        "INSERT INTO out1 SELECT count(*), max(ts) FROM bid",
        expect![[r#"
            job test (128 key groups)
            out1/sink: write out1 (print) changelog: retract [one subtask]
              <- out1/calc: select [count(1)@0 as n, max(ts@0)@1 as t, $kind@2] changelog: retract, keys () [one subtask]
                <- out1/aggregate: aggregate [count(1), max(ts@0)] (state: one row, for ever) changelog: retract, keys () [one subtask]
                  <- gather bid: read bid (filesystem) columns [ts] watermark ts@0 - interval 4s
        "#]],
    );
    check_graph(
        "INSERT INTO out1 SELECT a.price, b.ts FROM bid AS a JOIN bid AS b ON a.auction = b.auction",
        expect![[r#"
            job test (128 key groups)
            out1/sink: write out1 (print)
              <- out1/calc-3: select [price@1 as n, ts@3 as t]
                <- out1/join: inner join on auction@0 = auction@0 (state: rows of both inputs, for ever)
                  left <- hash(auction) out1/calc: select [auction@0, price@1]
                    <- bid: read bid (filesystem) columns [auction, price, ts] watermark ts@2 - interval 4s
                  right <- hash(auction) out1/calc-2: select [auction@0, ts@2]
                    <- bid (see above)
        "#]],
    );
    check_graph(
        "INSERT INTO out1 SELECT RAND_INTEGER(3), NOW() FROM bid",
        expect![[r#"
        job test (128 key groups)
        out1/sink: write out1 (print)
          <- out1/calc: select [CAST(CAST(floor(random() * 3) AS Int32) AS Int64) as n, CAST(now() AS Timestamp(µs)) as t]
            <- bid: read bid (filesystem) columns [ts] watermark ts@0 - interval 4s
    "#]],
    );
    check_graph(
        "INSERT INTO out1 SELECT count(*), TUMBLE_START(B.p, INTERVAL '10' SECOND) FROM (SELECT *, PROCTIME() AS p FROM bid) B GROUP BY B.bidder, TUMBLE(B.p, INTERVAL '10' SECOND)",
        expect![[r#"
            job test (128 key groups)
            out1/sink: write out1 (print)
              <- out1/calc-2: select [count(1)@1 as n, window_start@2 as t]
                <- out1/aggregate: aggregate tumble 10s on the clock by bidder [count(1)] (state)
                  <- hash(bidder) out1/calc: select [bidder@0]
                    <- bid: read bid (filesystem) columns [bidder, ts] watermark ts@1 - interval 4s
        "#]],
    );
    // A CAST of PROCTIME() is an ordinary value, in a table as in a query.
    check_graph(
        "CREATE TABLE clocked (id BIGINT, p AS CAST(PROCTIME() AS TIMESTAMP(3))) WITH ('connector' = 'datagen');
INSERT INTO out1 SELECT count(*), window_start FROM TABLE(TUMBLE(TABLE clocked, DESCRIPTOR(p), INTERVAL '10' SECOND)) GROUP BY window_start, window_end;
INSERT INTO out1 SELECT count(*), TUMBLE_START(B.p, INTERVAL '10' SECOND) FROM (SELECT *, CAST(PROCTIME() AS TIMESTAMP(3)) AS p FROM bid) B GROUP BY B.bidder, TUMBLE(B.p, INTERVAL '10' SECOND);",
        expect![[r#"
            8:1: table `clocked` has no event time, which a window on `p` needs: add to its columns `WATERMARK FOR p AS p - INTERVAL '5' SECOND` (in YAML: `event_time: { column: p, out_of_orderness: 5s }`)
            9:1: `p` is not an event-time column: a window needs the column that the table's WATERMARK FOR names, passed on unchanged
        "#]],
    );
    check_graph(
        "INSERT INTO out1 WITH w AS (SELECT auction, ts FROM bid WHERE price > 3)
         SELECT first_value(auction), window_time FROM TABLE(CUMULATE(TABLE w, DESCRIPTOR(ts), INTERVAL '1' MINUTE, INTERVAL '1' HOUR))
         GROUP BY window_start, window_end, window_time HAVING count(*) > 1",
        expect![[r#"
            job test (128 key groups)
            out1/sink: write out1 (print) [one subtask]
              <- out1/calc-2: select [first_value(auction@0)@0 as n, window_end@3 - interval 1ms as t] where count(1)@1 > 1 [one subtask]
                <- out1/aggregate: aggregate cumulate to 1h by 1min on ts@1 [first_value(auction@0), count(1)] (state) [one subtask]
                  <- gather out1/calc: select [auction@0, ts@2] where price@1 > 3
                    <- bid: read bid (filesystem) columns [auction, price, ts] watermark ts@2 - interval 4s
        "#]],
    );
    check_graph(
        "INSERT INTO out1 SELECT sum(price) OVER (ORDER BY ts), ts FROM bid",
        expect![[r#"
            7:25: SUM(...) OVER (...) is not supported yet: aggregate with GROUP BY, and join the result with the rows. OVER is there for ROW_NUMBER(), RANK() and DENSE_RANK(), whose first rows are kept: SELECT ... FROM (SELECT ..., ROW_NUMBER() OVER (PARTITION BY ... ORDER BY ...) AS rn FROM ...) WHERE rn <= N
        "#]],
    );
}

/// Plans every script of the repository.
#[test]
fn scripts_of_the_repository_are_understood() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = 0;
    let mut failures = String::new();
    let mut try_plan = |name: String, text: &str| {
        found += 1;
        let mut options = PlanOptions::default();
        for variable in ["DATA", "OUT", "RATE", "EVENTS", "BROKERS", "SIDE_INPUT"] {
            options.environment.insert(variable.into(), "1000".into());
        }
        let input = crate::Input::Sql { name: "test", text };
        if let Err(errors) = crate::plan(input, &options) {
            failures.push_str(&format!("--- {name}\n{errors}\n"));
        }
    };
    let read = |path: &std::path::Path| std::fs::read_to_string(path).unwrap_or_default();
    let cases = root.join("integration-tests/sql");
    let tables = read(&cases.join("tables.sql"));
    let mut folders: Vec<_> = std::fs::read_dir(&cases).into_iter().flatten().flatten().collect();
    folders.sort_by_key(std::fs::DirEntry::path);
    for folder in folders {
        let path = folder.path().join("pipeline.sql");
        if path.is_file() {
            try_plan(path.display().to_string(), &format!("{tables}\n{}", read(&path)));
        }
    }
    let nexmark = root.join("integration-tests/benchmarks/nexmark");
    let ddl = read(&nexmark.join("ddl.sql"));
    let mut queries: Vec<_> = std::fs::read_dir(&nexmark).into_iter().flatten().flatten().collect();
    queries.sort_by_key(std::fs::DirEntry::path);
    for query in queries {
        let path = query.path();
        if path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('q'))
        {
            try_plan(path.display().to_string(), &format!("{ddl}\n{}", read(&path)));
        }
    }
    assert!(found > 20, "the scripts have moved");
    assert!(failures.is_empty(), "{failures}");
}
