//! Statements of scripts: those that work, those without an effect, and those that are refused.

use super::*;

/// Returns the errors of a script up to its graph, or its notes.
fn outcome(script: &str) -> String {
    let input = crate::Input::Sql {
        name: "test",
        text: script,
    };
    match crate::plan(input, &PlanOptions::default()) {
        Ok(_) => {
            let notes = crate::sql_notes(script);
            let notes: Vec<String> = notes.iter().map(ToString::to_string).collect();
            match notes.is_empty() {
                true => "ok".into(),
                false => notes.join("\n"),
            }
        }
        Err(errors) => errors.to_string(),
    }
}

/// Returns the outcome of each of some scripts after the tables.
fn outcomes(scripts: &[&str]) -> String {
    let tables = TABLES.replace('\n', " ");
    scripts
        .iter()
        .map(|script| {
            format!(
                "{script}\n  {}\n",
                outcome(&format!("{tables}\n{script}")).replace('\n', "\n  ")
            )
        })
        .collect()
}

#[test]
fn queries_without_a_target_are_printed() {
    expect![[r#"
        SELECT price, url FROM bid
          ok
        SELECT 1
          ok
        SELECT 1 AS a, 'x' AS a, NOW()
          ok
        VALUES (1, 'a'), (2, 'b')
          ok
        (SELECT price FROM bid) UNION ALL (SELECT auction FROM bid)
          ok
        WITH w AS (SELECT price FROM bid) SELECT * FROM w
          ok
        SELECT a.price, b.price FROM bid AS a CROSS JOIN bid AS b
          ok
        SELECT prise FROM bid
          2:8: unknown column `prise`; did you mean `price`?
        EXPLAIN SELECT 1
          ok
        EXPLAIN VALUES (1)
          ok
    "#]]
    .assert_eq(&outcomes(&[
        "SELECT price, url FROM bid",
        "SELECT 1",
        "SELECT 1 AS a, 'x' AS a, NOW()",
        "VALUES (1, 'a'), (2, 'b')",
        "(SELECT price FROM bid) UNION ALL (SELECT auction FROM bid)",
        "WITH w AS (SELECT price FROM bid) SELECT * FROM w",
        "SELECT a.price, b.price FROM bid AS a CROSS JOIN bid AS b",
        "SELECT prise FROM bid",
        "EXPLAIN SELECT 1",
        "EXPLAIN VALUES (1)",
    ]));
    let script = "CREATE VIEW v AS SELECT 1 AS a; SELECT a FROM v; VALUES (2), (3);";
    let (pipeline, settings) = pipeline("test", script, &PlanOptions::default()).expect("it is valid");
    assert!(settings.prints);
    let targets: Vec<_> = pipeline
        .inserts
        .iter()
        .map(|insert| {
            (
                insert.table.name.as_str(),
                insert.table.definition.0.option("print-identifier"),
            )
        })
        .collect();
    assert_eq!(targets, [("query 1", Some("query 1")), ("query 2", Some("query 2"))]);
}

#[test]
fn values_are_rows() {
    check(
        "INSERT INTO out1 VALUES (1, TIMESTAMP '2024-01-01 00:00:00'), (NULL, NULL), (1 + 2, NOW());
INSERT INTO out1 SELECT a, t FROM (VALUES (1, TIMESTAMP '2024-01-01 00:00:00')) AS v(a, t) WHERE a > 0;
INSERT INTO out1 SELECT a, CAST(NULL AS TIMESTAMP(3)) FROM (VALUES (1), (2), (3)) AS v(a);
INSERT INTO out1 (t) VALUES (TIMESTAMP '2024-01-01 00:00:00');
CREATE VIEW one AS SELECT 7 AS n;",
        expect![[r#"
            one =
            Projection: Int64(7) AS n
              TableScan: 1 rows
            out1 <-
            Projection: column1 AS n, CAST(column2 AS Timestamp(µs)) AS t
              Projection: array_element(List([1, , 3]), 3 rows.$row) AS column1, CASE WHEN 3 rows.$row = Int64(1) THEN TimestampMicrosecond(1704067200000000, Some("UTC")) WHEN 3 rows.$row = Int64(2) THEN TimestampMicrosecond(NULL, Some("UTC")) WHEN 3 rows.$row = Int64(3) THEN now() END AS column2
                TableScan: 3 rows
            out1 <-
            Projection: v.a AS n, v.t AS t
              Projection: v.a, v.t
                Filter: v.a > Int64(0)
                  SubqueryAlias: v
                    Projection: column1 AS a, column2 AS t
                      Projection: Int64(1) AS column1, TimestampMicrosecond(1704067200000000, None) AS column2
                        TableScan: 1 rows
            out1 <-
            Projection: v.a AS n, EXPR$1 AS t
              Projection: v.a, $cut_time(CAST(NULL AS Timestamp(µs)), Int64(3)) AS EXPR$1
                SubqueryAlias: v
                  Projection: column1 AS a
                    Projection: array_element(List([1, 2, 3]), 3 rows.$row) AS column1
                      TableScan: 3 rows
            out1 <-
            Projection: Int64(NULL) AS n, column1 AS t
              Projection: TimestampMicrosecond(1704067200000000, None) AS column1
                TableScan: 1 rows
        "#]],
    );
    expect![[r#"
        INSERT INTO out1 VALUES (1, NOW()), (2, NULL)
          ok
        INSERT INTO out1 VALUES (1)
          2:1: the query has 1 columns (column1), but table `out1` takes 2 (n, t)
        INSERT INTO out1 VALUES (1, NOW()), (2)
          2:1: inconsistent data length across values list: got 1 values in row 1 but expected 2
        INSERT INTO out1 VALUES ('a', NOW())
          2:1: column `n` of table `out1` is BIGINT, but the query's column 1 (`column1`) is STRING: write CAST(... AS BIGINT)
        INSERT INTO out1 VALUES (1, NOW()), ('a', NOW())
          ok
        INSERT INTO out1 VALUES (CAST('x' AS BIGINT), NOW())
          ok
        INSERT INTO out1 VALUES (1 / 0, NOW())
          ok
        INSERT INTO out1 VALUES (price, ts)
          2:26: unknown column `price`
        INSERT INTO out1 SELECT 1, NOW() FROM (VALUES (1), (2))
          ok
        SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t
          ok
        SELECT COUNT(*) FROM (VALUES (1), (2)) AS t(a)
          ok
        SELECT price IN (SELECT a FROM (VALUES (1), (2)) AS t(a)) FROM bid
          ok
        INSERT INTO out1 (n, t) (VALUES (1, NOW()))
          ok
    "#]]
    .assert_eq(&outcomes(&[
        "INSERT INTO out1 VALUES (1, NOW()), (2, NULL)",
        "INSERT INTO out1 VALUES (1)",
        "INSERT INTO out1 VALUES (1, NOW()), (2)",
        "INSERT INTO out1 VALUES ('a', NOW())",
        "INSERT INTO out1 VALUES (1, NOW()), ('a', NOW())",
        "INSERT INTO out1 VALUES (CAST('x' AS BIGINT), NOW())",
        "INSERT INTO out1 VALUES (1 / 0, NOW())",
        "INSERT INTO out1 VALUES (price, ts)",
        "INSERT INTO out1 SELECT 1, NOW() FROM (VALUES (1), (2))",
        "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS t",
        "SELECT COUNT(*) FROM (VALUES (1), (2)) AS t(a)",
        "SELECT price IN (SELECT a FROM (VALUES (1), (2)) AS t(a)) FROM bid",
        "INSERT INTO out1 (n, t) (VALUES (1, NOW()))",
    ]));
}

#[test]
fn names_of_catalogs_and_databases_must_exist() {
    expect![[r#"
        INSERT INTO default_catalog.default_database.out1 SELECT price, bid.ts FROM default_database.bid
          ok
        INSERT INTO `default_catalog`.`default_database`.`out1` SELECT COUNT(*), window_start FROM TUMBLE(TABLE default_catalog.default_database.bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end
          ok
        INSERT INTO out1 SELECT price, ts FROM defualt_database.bid
          2:40: unknown database `defualt_database` in the catalog `default_catalog`; did you mean `default_database`?; create it with CREATE DATABASE, or write the table's name alone
        INSERT INTO hive.db.out1 SELECT price, ts FROM bid
          2:13: unknown catalog `hive`; create it with CREATE CATALOG, or write the table's name alone
        USE CATALOG default_catalog; USE default_database; INSERT INTO out1 SELECT price, ts FROM bid
          ok
        USE analytics; INSERT INTO out1 SELECT price, ts FROM bid
          2:5: unknown database `analytics` in the catalog `default_catalog`; create it with CREATE DATABASE, or write the table's name alone
        CREATE DATABASE IF NOT EXISTS analytics COMMENT 'x' WITH ('a' = 'b'); USE analytics; INSERT INTO analytics.out1 SELECT price, ts FROM bid
          ok
        CREATE CATALOG c WITH ('type' = 'generic_in_memory', 'default-database' = 'd'); USE CATALOG c; CREATE TABLE c.d.t (n BIGINT) WITH ('connector' = 'print'); INSERT INTO d.t SELECT price FROM bid
          ok
        CREATE CATALOG c WITH ('type' = 'hive')
          2:16: a catalog of the type 'hive' is not supported: declare its tables with CREATE TABLE (only 'generic_in_memory' is supported)
        CREATE CATALOG c
          2:16: a catalog of the type '' is not supported: declare its tables with CREATE TABLE (only 'generic_in_memory' is supported)
        USE CATALOG d
          2:13: unknown catalog `d`; create it with CREATE CATALOG, or write the table's name alone
        DROP DATABASE IF EXISTS x CASCADE; SELECT 1
          2:1: DROP DATABASE has no effect: a script starts with an empty catalog
        DROP CATALOG x; SELECT 1
          2:1: DROP CATALOG has no effect: a script starts with an empty catalog
    "#]]
    .assert_eq(&outcomes(&[
        "INSERT INTO default_catalog.default_database.out1 SELECT price, bid.ts FROM default_database.bid",
        "INSERT INTO `default_catalog`.`default_database`.`out1` SELECT COUNT(*), window_start FROM TUMBLE(TABLE default_catalog.default_database.bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end",
        "INSERT INTO out1 SELECT price, ts FROM defualt_database.bid",
        "INSERT INTO hive.db.out1 SELECT price, ts FROM bid",
        "USE CATALOG default_catalog; USE default_database; INSERT INTO out1 SELECT price, ts FROM bid",
        "USE analytics; INSERT INTO out1 SELECT price, ts FROM bid",
        "CREATE DATABASE IF NOT EXISTS analytics COMMENT 'x' WITH ('a' = 'b'); USE analytics; INSERT INTO analytics.out1 SELECT price, ts FROM bid",
        "CREATE CATALOG c WITH ('type' = 'generic_in_memory', 'default-database' = 'd'); USE CATALOG c; CREATE TABLE c.d.t (n BIGINT) WITH ('connector' = 'print'); INSERT INTO d.t SELECT price FROM bid",
        "CREATE CATALOG c WITH ('type' = 'hive')",
        "CREATE CATALOG c",
        "USE CATALOG d",
        "DROP DATABASE IF EXISTS x CASCADE; SELECT 1",
        "DROP CATALOG x; SELECT 1",
    ]));
}

#[test]
fn tables_are_altered_and_dropped_before_they_are_used() {
    expect![[r#"
        DROP TABLE IF EXISTS out1; CREATE TABLE out1 (a STRING) WITH ('connector' = 'print'); INSERT INTO out1 SELECT url FROM bid
          ok
        DROP TABLE nothing; DROP VIEW IF EXISTS v; DROP TEMPORARY TABLE t2; DROP FUNCTION f; SELECT 1
          2:69: DROP FUNCTION has no effect: a script starts with an empty catalog
        INSERT INTO out1 SELECT price, ts FROM bid; DROP TABLE out1
          ok
        INSERT INTO out1 SELECT price, ts FROM bid; DROP TABLE out1; CREATE TABLE out1 (a STRING) WITH ('connector' = 'print')
          2:75: a table or view named `out1` exists already
        CREATE VIEW v AS SELECT 1 AS a; DROP VIEW v; CREATE VIEW v AS SELECT 2 AS b; SELECT b FROM v
          ok
        ALTER TABLE out1 SET ('connector' = 'blackhole'); INSERT INTO out1 SELECT price, ts FROM bid
          ok
        ALTER TABLE out1 SET ('print-identifier' = 'x'); ALTER TABLE out1 RESET ('print-identifier'); INSERT INTO out1 SELECT price, ts FROM bid
          ok
        ALTER TABLE out1 RESET ('print-identifer')
          2:25: table `out1` has no option 'print-identifer' to reset
        ALTER TABLE out1 RENAME TO out2; INSERT INTO out2 SELECT price, ts FROM bid
          ok
        ALTER TABLE out1 RENAME TO bid
          2:13: a table or view named `bid` exists already
        ALTER TABLE out1 RENAME n TO m; INSERT INTO out1 (m) SELECT price FROM bid
          ok
        ALTER TABLE out1 ADD extra STRING; INSERT INTO out1 SELECT price, ts, url FROM bid
          ok
        ALTER TABLE out1 ADD (a STRING, b INT); INSERT INTO out1 SELECT price, ts, url, 1 FROM bid
          ok
        ALTER TABLE out1 ADD a STRING FIRST
          2:31: positions of columns are not supported: leave FIRST or AFTER out, or create the table in this order
        ALTER TABLE out1 MODIFY n STRING; INSERT INTO out1 SELECT url, ts FROM bid
          ok
        ALTER TABLE out1 MODIFY m STRING
          2:25: table `out1` has no column `m`; did you mean `n`?
        ALTER TABLE out1 DROP t; INSERT INTO out1 SELECT price FROM bid
          ok
        ALTER TABLE out1 DROP (n, t)
          the script inserts nothing: add `INSERT INTO table SELECT ...`, or a query to print
        ALTER TABLE bid DROP WATERMARK; INSERT INTO out1 SELECT COUNT(*), window_start FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end
          2:33: table `bid` has no event time, which a window on `ts` needs: add to its columns `WATERMARK FOR ts AS ts - INTERVAL '5' SECOND` (in YAML: `event_time: { column: ts, out_of_orderness: 5s }`)
        ALTER TABLE bid ADD WATERMARK FOR ts AS ts
          2:21: table `bid` has a watermark already: MODIFY it
        ALTER TABLE bid MODIFY WATERMARK FOR ts AS ts; SELECT price FROM bid
          ok
        ALTER TABLE out1 ADD PARTITION (n = 1)
          2:22: partitions are found and made by the connector: leave this statement out
        INSERT INTO out1 SELECT price, ts FROM bid; ALTER TABLE bid SET ('path' = '/x')
          2:57: ALTER TABLE: `bid` is used by a statement before this one, which is part of the same job: move the change before it, or declare another table LIKE `bid`
        ALTER TABLE nothing SET ('a' = 'b')
          2:13: unknown table `nothing`
        ALTER TABLE IF EXISTS nothing SET ('a' = 'b'); SELECT 1
          ok
        ALTER TABLE out1 COMPACT
          2:18: expected SET (...), RESET (...), RENAME TO, ADD, MODIFY or DROP (partitions and distributions are not altered), found: COMPACT
    "#]]
    .assert_eq(&outcomes(&[
        "DROP TABLE IF EXISTS out1; CREATE TABLE out1 (a STRING) WITH ('connector' = 'print'); INSERT INTO out1 SELECT url FROM bid",
        "DROP TABLE nothing; DROP VIEW IF EXISTS v; DROP TEMPORARY TABLE t2; DROP FUNCTION f; SELECT 1",
        "INSERT INTO out1 SELECT price, ts FROM bid; DROP TABLE out1",
        "INSERT INTO out1 SELECT price, ts FROM bid; DROP TABLE out1; CREATE TABLE out1 (a STRING) WITH ('connector' = 'print')",
        "CREATE VIEW v AS SELECT 1 AS a; DROP VIEW v; CREATE VIEW v AS SELECT 2 AS b; SELECT b FROM v",
        "ALTER TABLE out1 SET ('connector' = 'blackhole'); INSERT INTO out1 SELECT price, ts FROM bid",
        "ALTER TABLE out1 SET ('print-identifier' = 'x'); ALTER TABLE out1 RESET ('print-identifier'); INSERT INTO out1 SELECT price, ts FROM bid",
        "ALTER TABLE out1 RESET ('print-identifer')",
        "ALTER TABLE out1 RENAME TO out2; INSERT INTO out2 SELECT price, ts FROM bid",
        "ALTER TABLE out1 RENAME TO bid",
        "ALTER TABLE out1 RENAME n TO m; INSERT INTO out1 (m) SELECT price FROM bid",
        "ALTER TABLE out1 ADD extra STRING; INSERT INTO out1 SELECT price, ts, url FROM bid",
        "ALTER TABLE out1 ADD (a STRING, b INT); INSERT INTO out1 SELECT price, ts, url, 1 FROM bid",
        "ALTER TABLE out1 ADD a STRING FIRST",
        "ALTER TABLE out1 MODIFY n STRING; INSERT INTO out1 SELECT url, ts FROM bid",
        "ALTER TABLE out1 MODIFY m STRING",
        "ALTER TABLE out1 DROP t; INSERT INTO out1 SELECT price FROM bid",
        "ALTER TABLE out1 DROP (n, t)",
        "ALTER TABLE bid DROP WATERMARK; INSERT INTO out1 SELECT COUNT(*), window_start FROM TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end",
        "ALTER TABLE bid ADD WATERMARK FOR ts AS ts",
        "ALTER TABLE bid MODIFY WATERMARK FOR ts AS ts; SELECT price FROM bid",
        "ALTER TABLE out1 ADD PARTITION (n = 1)",
        "INSERT INTO out1 SELECT price, ts FROM bid; ALTER TABLE bid SET ('path' = '/x')",
        "ALTER TABLE nothing SET ('a' = 'b')",
        "ALTER TABLE IF EXISTS nothing SET ('a' = 'b'); SELECT 1",
        "ALTER TABLE out1 COMPACT",
    ]));
}

#[test]
fn tables_are_declared_like_others_and_as_queries() {
    expect![[r#"
        CREATE TABLE o (extra2 INT) LIKE out1; INSERT INTO o SELECT price, ts, 1 FROM bid
          ok
        CREATE TABLE o WITH ('connector' = 'blackhole') LIKE out1 (EXCLUDING ALL INCLUDING GENERATED); INSERT INTO o SELECT price, ts FROM bid
          ok
        CREATE TABLE o WITH ('connector' = 'print') LIKE out1 (INCLUDING OPTIONS)
          2:14: option 'connector' is in `out1` already: leave it out, or write OVERWRITING OPTIONS
        CREATE TABLE o LIKE bid (EXCLUDING WATERMARKS, EXCLUDING OPTIONS)
          the script inserts nothing: add `INSERT INTO table SELECT ...`, or a query to print
        CREATE TABLE o (WATERMARK FOR ts AS ts) LIKE bid (OVERWRITING WATERMARKS)
          the script inserts nothing: add `INSERT INTO table SELECT ...`, or a query to print
        CREATE TABLE o (WATERMARK FOR ts AS ts) LIKE bid (INCLUDING WATERMARKS)
          2:14: `bid` has a watermark already: leave it out, or write OVERWRITING WATERMARKS
        CREATE TABLE o LIKE bid (INCLUDING SOMETHING)
          2:36: expected one of ALL, CONSTRAINTS, DISTRIBUTION, GENERATED, METADATA, OPTIONS, PARTITIONS, WATERMARKS, found: SOMETHING
        CREATE TABLE o LIKE bid (OPTIONS)
          2:26: expected INCLUDING, EXCLUDING or OVERWRITING, found: OPTIONS
        CREATE TABLE o LIKE bids
          2:21: unknown table `bids`; did you mean `bid`?
        CREATE TABLE o WITH ('connector' = 'print') AS SELECT price, url FROM bid
          ok
        CREATE TABLE o (price STRING, more INT) WITH ('connector' = 'print') AS SELECT CAST(price AS STRING) AS price, url FROM bid
          ok
        CREATE TABLE o (url, price) WITH ('connector' = 'print') AS SELECT price, url FROM bid
          ok
        CREATE TABLE o (url) WITH ('connector' = 'print') AS SELECT price, url FROM bid
          2:14: the query has 2 columns, of which 1 are listed: list all of them
        CREATE TABLE o (uri, price) WITH ('connector' = 'print') AS SELECT price, url FROM bid
          2:17: the query has no column `uri`; did you mean `url`?
        CREATE TABLE o (a, b) WITH ('connector' = 'print')
          2:18: column `a` needs a type, such as `a BIGINT`
        CREATE TABLE o (a INT) DISTRIBUTED BY HASH(a) INTO 4 BUCKETS WITH ('connector' = 'print')
          2:24: no connector has buckets, so DISTRIBUTED is not supported: leave it out; files are divided by PARTITIONED BY, and Kafka's partitions by the key (`key.fields`)
        CREATE TABLE o (a INT) DISTRIBUTED INTO 4 BUCKETS WITH ('connector' = 'print')
          2:24: no connector has buckets, so DISTRIBUTED is not supported: leave it out; files are divided by PARTITIONED BY, and Kafka's partitions by the key (`key.fields`)
        CREATE TEMPORARY TABLE o (a INT) WITH ('connector' = 'print'); INSERT INTO o VALUES (1)
          ok
        CREATE OR REPLACE TABLE o WITH ('connector' = 'print') AS SELECT 1 AS a
          ok
        INSERT INTO out1 PARTITION (t = TIMESTAMP '2024-01-01 00:00:00') SELECT price FROM bid
          ok
        INSERT INTO out1 PARTITION (t = TIMESTAMP '2024-01-01 00:00:00') SELECT price, ts FROM bid
          2:1: the query has 2 columns, but table `out1` takes 1 besides those of PARTITION
        INSERT INTO out1 PARTITION (t) SELECT price, ts FROM bid
          2:30: a column of PARTITION (...) needs a value, such as `day = '2024-01-01'`; others are columns of the query
        INSERT INTO out1 PARTITION (x = 1) SELECT price, ts FROM bid
          2:29: table `out1` has no column `x` to write; did you mean `n`?
    "#]]
    .assert_eq(&outcomes(&[
        "CREATE TABLE o (extra2 INT) LIKE out1; INSERT INTO o SELECT price, ts, 1 FROM bid",
        "CREATE TABLE o WITH ('connector' = 'blackhole') LIKE out1 (EXCLUDING ALL INCLUDING GENERATED); INSERT INTO o SELECT price, ts FROM bid",
        "CREATE TABLE o WITH ('connector' = 'print') LIKE out1 (INCLUDING OPTIONS)",
        "CREATE TABLE o LIKE bid (EXCLUDING WATERMARKS, EXCLUDING OPTIONS)",
        "CREATE TABLE o (WATERMARK FOR ts AS ts) LIKE bid (OVERWRITING WATERMARKS)",
        "CREATE TABLE o (WATERMARK FOR ts AS ts) LIKE bid (INCLUDING WATERMARKS)",
        "CREATE TABLE o LIKE bid (INCLUDING SOMETHING)",
        "CREATE TABLE o LIKE bid (OPTIONS)",
        "CREATE TABLE o LIKE bids",
        "CREATE TABLE o WITH ('connector' = 'print') AS SELECT price, url FROM bid",
        "CREATE TABLE o (price STRING, more INT) WITH ('connector' = 'print') AS SELECT CAST(price AS STRING) AS price, url FROM bid",
        "CREATE TABLE o (url, price) WITH ('connector' = 'print') AS SELECT price, url FROM bid",
        "CREATE TABLE o (url) WITH ('connector' = 'print') AS SELECT price, url FROM bid",
        "CREATE TABLE o (uri, price) WITH ('connector' = 'print') AS SELECT price, url FROM bid",
        "CREATE TABLE o (a, b) WITH ('connector' = 'print')",
        "CREATE TABLE o (a INT) DISTRIBUTED BY HASH(a) INTO 4 BUCKETS WITH ('connector' = 'print')",
        "CREATE TABLE o (a INT) DISTRIBUTED INTO 4 BUCKETS WITH ('connector' = 'print')",
        "CREATE TEMPORARY TABLE o (a INT) WITH ('connector' = 'print'); INSERT INTO o VALUES (1)",
        "CREATE OR REPLACE TABLE o WITH ('connector' = 'print') AS SELECT 1 AS a",
        "INSERT INTO out1 PARTITION (t = TIMESTAMP '2024-01-01 00:00:00') SELECT price FROM bid",
        "INSERT INTO out1 PARTITION (t = TIMESTAMP '2024-01-01 00:00:00') SELECT price, ts FROM bid",
        "INSERT INTO out1 PARTITION (t) SELECT price, ts FROM bid",
        "INSERT INTO out1 PARTITION (x = 1) SELECT price, ts FROM bid",
    ]));
}

#[test]
fn hints_of_tables_change_their_options() {
    expect![[r#"
        INSERT INTO out1 /*+ OPTIONS('print-identifier' = 'x') */ SELECT price, bid.ts FROM bid /*+ OPTIONS('path' = '/y') */
          ok
        INSERT INTO out1 SELECT COUNT(*), window_start FROM TUMBLE(TABLE bid /*+ OPTIONS('path' = '/y') */, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end
          ok
        SELECT b.price FROM bid /*+ options ( 'path'='/y', 'source.ordered'='true' ) */ AS b
          ok
        SELECT price FROM bid /*+ OPTIONS('pth' = '/y') */
          2:19: table `bid`: unknown option 'pth' for the connector `filesystem`; did you mean `path`?
        SELECT price FROM bid /*+ OPTIONS('connector' = 'kafka') */
          2:19: a hint cannot change the connector to 'kafka': declare another table LIKE `bid`
        SELECT price FROM bid /*+ OPTIONS(path = '/y') */
          2:23: this is not a hint such as `/*+ OPTIONS('key' = 'value') */`: OPTIONS takes pairs such as 'key' = 'value', separated by commas; for a comment, write a space before the `+`
        SELECT price FROM bid AS b /*+ OPTIONS('path' = '/y') */
          2:26: an OPTIONS hint belongs directly after the name of a table: `FROM t /*+ OPTIONS('key' = 'value') */ AS a`
        SELECT /*+ OPTIONS('path' = '/y') */ price FROM bid
          2:1: an OPTIONS hint belongs directly after the name of a table: `FROM t /*+ OPTIONS('key' = 'value') */ AS a`
        CREATE VIEW v AS SELECT price FROM bid; SELECT price FROM v /*+ OPTIONS('path' = '/y') */
          2:59: `v` is a view, and OPTIONS hints are for tables: write the hint inside the view
        SELECT price FROM bids /*+ OPTIONS('path' = '/y') */
          2:19: unknown table or view `bids`; did you mean `bid`?
        SELECT /*+ BROADCAST(bid), LOOKUP('table'='bid') */ price FROM bid
          2:8: hint BROADCAST has no effect: joins and state are planned without hints
          2:8: hint LOOKUP has no effect: joins and state are planned without hints
        SELECT /*+ BROADCATS(bid) */ price FROM bid
          2:8: unknown hint `BROADCATS`; did you mean `BROADCAST`?
        SELECT /*+ 1 */ price FROM bid
          2:8: this is not a hint such as `/*+ OPTIONS('key' = 'value') */`: a name is expected; for a comment, write a space before the `+`
        SELECT /* + no hint */ price FROM bid
          ok
    "#]]
    .assert_eq(&outcomes(&[
        "INSERT INTO out1 /*+ OPTIONS('print-identifier' = 'x') */ SELECT price, bid.ts FROM bid /*+ OPTIONS('path' = '/y') */",
        "INSERT INTO out1 SELECT COUNT(*), window_start FROM TUMBLE(TABLE bid /*+ OPTIONS('path' = '/y') */, DESCRIPTOR(ts), INTERVAL '1' MINUTE) GROUP BY window_start, window_end",
        "SELECT b.price FROM bid /*+ options ( 'path'='/y', 'source.ordered'='true' ) */ AS b",
        "SELECT price FROM bid /*+ OPTIONS('pth' = '/y') */",
        "SELECT price FROM bid /*+ OPTIONS('connector' = 'kafka') */",
        "SELECT price FROM bid /*+ OPTIONS(path = '/y') */",
        "SELECT price FROM bid AS b /*+ OPTIONS('path' = '/y') */",
        "SELECT /*+ OPTIONS('path' = '/y') */ price FROM bid",
        "CREATE VIEW v AS SELECT price FROM bid; SELECT price FROM v /*+ OPTIONS('path' = '/y') */",
        "SELECT price FROM bids /*+ OPTIONS('path' = '/y') */",
        "SELECT /*+ BROADCAST(bid), LOOKUP('table'='bid') */ price FROM bid",
        "SELECT /*+ BROADCATS(bid) */ price FROM bid",
        "SELECT /*+ 1 */ price FROM bid",
        "SELECT /* + no hint */ price FROM bid",
    ]));
    check(
        "INSERT INTO out1 SELECT price, ts FROM bid /*+ OPTIONS('path' = '/y') */ UNION ALL SELECT price, ts FROM bid /*+ OPTIONS('path' = '/y') */ UNION ALL SELECT price, ts FROM bid /*+ OPTIONS('path' = '/z') */",
        expect![[r#"
            out1 <-
            Projection: price AS n, ts AS t
              Union
                Union
                  Projection: bid.price, bid.ts
                    SubqueryAlias: bid
                      TableScan: bid#1
                  Projection: bid.price, bid.ts
                    SubqueryAlias: bid
                      TableScan: bid#1
                Projection: bid.price, bid.ts
                  SubqueryAlias: bid
                    TableScan: bid#2
        "#]],
    );
}

#[test]
fn statements_have_an_effect_or_a_note_or_an_error() {
    expect![[r#"
        SHOW TABLES; SHOW CREATE TABLE bid; DESCRIBE bid; DESC bid; SHOW FUNCTIONS; SELECT 1
          ok
        SHOW TABLES
          ok
        ANALYZE TABLE bid COMPUTE STATISTICS; SELECT 1
          2:1: ANALYZE TABLE has no effect: plans do not depend on statistics
        ADD JAR '/x.jar'; REMOVE JAR '/x.jar'; SELECT 1
          2:1: ADD JAR has no effect: there are no Java classes: all connectors and functions are built in
          2:19: REMOVE JAR has no effect: there are no Java classes: all connectors and functions are built in
        LOAD MODULE hive; UNLOAD MODULE core; USE MODULES core; SELECT 1
          2:1: LOAD MODULE has no effect: all functions are built in
          2:19: UNLOAD MODULE has no effect: all functions are built in
          2:39: USE MODULES has no effect: all functions are built in
        SET; QUIT; SELECT 1
          2:1: SET has no effect: a script is run as a job and only prints the rows of its queries
          2:6: QUIT has no effect: it is a command of an interactive client
        SET 'pipeline.name' = 'x'; RESET 'pipeline.name'; RESET; SELECT 1
          ok
        COMPILE PLAN '/p.json' FOR INSERT INTO out1 SELECT price, ts FROM bid
          2:1: compiled plans are not supported: keep the script, which is planned in the same way at every start
        COMPILE AND EXECUTE PLAN '/p.json' FOR INSERT INTO out1 SELECT price, ts FROM bid
          2:1: compiled plans are not supported: keep the script, which is planned in the same way at every start
        EXECUTE PLAN '/p.json'
          2:1: compiled plans are not supported: keep the script, which is planned in the same way at every start
        EXPLAIN PLAN FOR SELECT price FROM bid
          ok
        EXPLAIN ESTIMATED_COST, CHANGELOG_MODE INSERT INTO out1 SELECT price, ts FROM bid
          ok
        EXPLAIN STATEMENT SET BEGIN INSERT INTO out1 SELECT price, ts FROM bid; END
          ok
        EXECUTE STATEMENT SET BEGIN INSERT INTO out1 SELECT price, ts FROM bid; INSERT INTO out1 SELECT auction, ts FROM bid; END
          ok
        BEGIN STATEMENT SET; INSERT INTO out1 SELECT price, ts FROM bid; END
          ok
        INSERT OVERWRITE out1 SELECT price, ts FROM bid
          2:18: `INSERT OVERWRITE` is not supported: write `INSERT INTO`, and remove earlier output before the job starts
        UPDATE out1 SET n = 1
          2:1: `UPDATE` is not supported: streams are only appended to, with `INSERT INTO`
        DELETE FROM out1 WHERE n = 1
          2:1: `DELETE` is not supported: streams are only appended to, with `INSERT INTO`
        TRUNCATE TABLE out1
          2:1: `TRUNCATE` is not supported: streams are only appended to, with `INSERT INTO`
        MERGE INTO out1 USING bid ON n = price
          2:1: `MERGE` is not supported: streams are only appended to, with `INSERT INTO`
        CALL sys.compact('out1')
          2:1: procedures are not supported: catalogs of external systems would provide them
        STOP JOB 'x'
          2:1: a script cannot stop jobs: use `engine-cli stop NAME`
        ALTER VIEW v AS SELECT 1
          2:1: `ALTER VIEW` is not supported: DROP the view and create it again
        ALTER DATABASE d SET ('a' = 'b')
          2:1: `ALTER DATABASE` is not supported: a script starts with an empty catalog, so declare it as needed
        CREATE FUNCTION my_function AS 'com.example.F' LANGUAGE JAVA USING JAR '/x.jar'
          2:17: `my_function` cannot be loaded: user-defined functions are not supported; use the functions of the SQL reference
        CREATE TEMPORARY SYSTEM FUNCTION IF NOT EXISTS upper AS 'com.example.F'; SELECT 1
          ok
        CREATE MATERIALIZED TABLE m FRESHNESS = INTERVAL '1' MINUTE AS SELECT price FROM bid
          2:1: materialized tables are not supported: write `CREATE TABLE ... WITH (...) AS SELECT ...`, which keeps the table up to date as long as the job runs
        CREATE MODEL m WITH ('provider' = 'openai')
          2:1: `CREATE MODEL` is not supported: only `CREATE TABLE` and `CREATE VIEW` are
        CREATE TEMPORARY CATALOG c
          2:1: `CREATE CATALOG` is not supported: only `CREATE TABLE` and `CREATE VIEW` are
        CREATE
          2:7: expected TABLE or VIEW after CREATE, found the end of the statement
        DROP
          2:5: expected TABLE, VIEW, DATABASE, CATALOG or FUNCTION after DROP, found the end of the statement
        DROP INDEX i
          2:6: expected TABLE, VIEW, DATABASE, CATALOG or FUNCTION after DROP, found: INDEX
        USE
          2:4: expected identifier, found the end of the statement
        GRANT ALL
          2:1: expected CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN or EXECUTE STATEMENT SET, found: GRANT
        123
          2:1: expected CREATE TABLE, CREATE VIEW, INSERT INTO, SELECT, SET, EXPLAIN or EXECUTE STATEMENT SET, found: 123
    "#]]
    .assert_eq(&outcomes(&[
        "SHOW TABLES; SHOW CREATE TABLE bid; DESCRIBE bid; DESC bid; SHOW FUNCTIONS; SELECT 1",
        "SHOW TABLES",
        "ANALYZE TABLE bid COMPUTE STATISTICS; SELECT 1",
        "ADD JAR '/x.jar'; REMOVE JAR '/x.jar'; SELECT 1",
        "LOAD MODULE hive; UNLOAD MODULE core; USE MODULES core; SELECT 1",
        "SET; QUIT; SELECT 1",
        "SET 'pipeline.name' = 'x'; RESET 'pipeline.name'; RESET; SELECT 1",
        "COMPILE PLAN '/p.json' FOR INSERT INTO out1 SELECT price, ts FROM bid",
        "COMPILE AND EXECUTE PLAN '/p.json' FOR INSERT INTO out1 SELECT price, ts FROM bid",
        "EXECUTE PLAN '/p.json'",
        "EXPLAIN PLAN FOR SELECT price FROM bid",
        "EXPLAIN ESTIMATED_COST, CHANGELOG_MODE INSERT INTO out1 SELECT price, ts FROM bid",
        "EXPLAIN STATEMENT SET BEGIN INSERT INTO out1 SELECT price, ts FROM bid; END",
        "EXECUTE STATEMENT SET BEGIN INSERT INTO out1 SELECT price, ts FROM bid; INSERT INTO out1 SELECT auction, ts FROM bid; END",
        "BEGIN STATEMENT SET; INSERT INTO out1 SELECT price, ts FROM bid; END",
        "INSERT OVERWRITE out1 SELECT price, ts FROM bid",
        "UPDATE out1 SET n = 1",
        "DELETE FROM out1 WHERE n = 1",
        "TRUNCATE TABLE out1",
        "MERGE INTO out1 USING bid ON n = price",
        "CALL sys.compact('out1')",
        "STOP JOB 'x'",
        "ALTER VIEW v AS SELECT 1",
        "ALTER DATABASE d SET ('a' = 'b')",
        "CREATE FUNCTION my_function AS 'com.example.F' LANGUAGE JAVA USING JAR '/x.jar'",
        "CREATE TEMPORARY SYSTEM FUNCTION IF NOT EXISTS upper AS 'com.example.F'; SELECT 1",
        "CREATE MATERIALIZED TABLE m FRESHNESS = INTERVAL '1' MINUTE AS SELECT price FROM bid",
        "CREATE MODEL m WITH ('provider' = 'openai')",
        "CREATE TEMPORARY CATALOG c",
        "CREATE",
        "DROP",
        "DROP INDEX i",
        "USE",
        "GRANT ALL",
        "123",
    ]));
}

#[test]
fn string_literals_are_joined_and_decoded() {
    expect![[r#"
        INSERT INTO out1 SELECT price, ts FROM bid WHERE url = 'a'
        'b' AND channel = U&'\00e9'
          ok
        SELECT 'a' 'b' FROM bid
          ok
        CREATE TABLE o (a INT) WITH ('connector' = 'print'
        'print-identifier' = 'x')
          3:1: expected ), found: 'print-identifier'
        CREATE TABLE o (a INT) WITH ('connector' = U&'pr\0069nt', 'print-identifier' = 'a'
          'b'); INSERT INTO o VALUES (1)
          ok
        SELECT "price" FROM "bid"
          ok
    "#]]
    .assert_eq(&outcomes(&[
        "INSERT INTO out1 SELECT price, ts FROM bid WHERE url = 'a'\n'b' AND channel = U&'\\00e9'",
        "SELECT 'a' 'b' FROM bid",
        "CREATE TABLE o (a INT) WITH ('connector' = 'print'\n'print-identifier' = 'x')",
        "CREATE TABLE o (a INT) WITH ('connector' = U&'pr\\0069nt', 'print-identifier' = 'a'\n  'b'); INSERT INTO o VALUES (1)",
        "SELECT \"price\" FROM \"bid\"",
    ]));
}
