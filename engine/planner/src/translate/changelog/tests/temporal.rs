//! Temporal joins: the tables and views whose versions are joined, and what is refused.

use expect_test::{Expect, expect};

use super::planned;
use crate::Mode;

const VIEWS: &str = "
    CREATE VIEW latest AS SELECT * FROM (
      SELECT *, ROW_NUMBER() OVER (PARTITION BY name ORDER BY ts DESC) AS rn FROM clicks) WHERE rn = 1;
    CREATE VIEW earliest AS SELECT * FROM (
      SELECT *, ROW_NUMBER() OVER (PARTITION BY name ORDER BY ts) AS rn FROM clicks) WHERE rn = 1;
    CREATE VIEW latest_user AS SELECT * FROM (
      SELECT *, ROW_NUMBER() OVER (PARTITION BY region ORDER BY ts DESC) AS rn FROM users) WHERE rn = 1;
    CREATE VIEW adults AS SELECT id, region, CAST(age AS BIGINT) AS years FROM users WHERE age > 17;
    CREATE VIEW counts AS SELECT name, count(*) AS n FROM clicks GROUP BY name;
    CREATE VIEW both_kinds AS SELECT id, ts FROM users UNION ALL SELECT k, ts FROM clicks;
    CREATE TABLE zoned (id BIGINT, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts, PRIMARY KEY (id) NOT ENFORCED)
    WITH ('connector' = 'upsert');
    CREATE TABLE pairs (a BIGINT, b BIGINT, v STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts,
      PRIMARY KEY (a, b) NOT ENFORCED) WITH ('connector' = 'cdc');
";

fn planned_query(query: &str, mode: Mode) -> String {
    let script = format!(
        "{VIEWS} CREATE TABLE out (a STRING, b STRING) WITH ('connector' = 'cdc');
         INSERT INTO out {query};"
    );
    planned(&script, mode)
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "as the macro of snapshots makes it")]
fn check(query: &str, expected: Expect) {
    expected.assert_eq(&planned_query(query, Mode::Stream));
}

#[test]
fn versions_are_the_changes_of_a_table_as_they_are_read() {
    check(
        "SELECT c.name, u.region FROM clicks c JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON c.k = u.id",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc: select [..]
                <- out/join: inner temporal join as of ts@2 on k@0 = id@1 (state: left rows until the watermark passes them, versions of right rows by ts@2)
                  left <- hash(k) clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(id) users: read users (upsert) columns [..] watermark ts@2 changelog: upsert by (id)
        "#]],
    );
    let script = format!(
        "{VIEWS} CREATE TABLE out (a STRING, b STRING, v STRING) WITH ('connector' = 'cdc');
         INSERT INTO out SELECT c.name, c.name, p.v FROM clicks c
         LEFT JOIN pairs FOR SYSTEM_TIME AS OF c.ts AS p ON c.i = p.b AND c.k = p.a AND c.name = p.v;"
    );
    // The key need not be compared in its order; further equalities are conditions.
    expect![[r#"
        out/sink: write out (cdc)
          <- out/calc-2: select [..]
            <- out/join: left temporal join as of ts@3 on k@0 = a@0 on $key4@4 = b@1 where name@2 = v@7 (state: left rows until the watermark passes them, versions of right rows by ts@3)
              left <- hash(k, $key4) out/calc: select [..]
                <- clicks: read clicks (append) columns [..] watermark ts@3
              right <- hash(a, b) pairs: read pairs (cdc) columns [..] watermark ts@3 changelog: retract, keys (a, b)
    "#]].assert_eq(&planned(&script, Mode::Batch));
}

#[test]
fn a_condition_on_versions_drops_no_change() {
    check(
        "SELECT c.name, u.region FROM clicks c JOIN adults FOR SYSTEM_TIME AS OF c.ts AS u ON c.k = u.id
         WHERE u.years < 65 AND c.k > 3",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-3: select [..]
                <- out/join: inner temporal join as of ts@2 on k@0 = id@0 where $is_valid@6 (state: left rows until the watermark passes them, versions of right rows by $version@2)
                  left <- hash(k) out/calc: select [..] where k@0 > 3
                    <- clicks: read clicks (append) columns [..] watermark ts@2
                  right <- hash(id) out/calc-2: select [..] changelog: upsert by (id)
                    <- users: read users (upsert) columns [..] watermark ts@3 changelog: upsert by (id)
        "#]],
    );
}

#[test]
fn versions_of_a_view_are_the_rows_of_which_it_keeps_the_last() {
    check(
        "SELECT c.name, l.name FROM clicks c JOIN latest FOR SYSTEM_TIME AS OF c.ts AS l ON c.name = l.name AND l.rn = 1",
        expect![[r#"
            out/sink: write out (cdc)
              <- out/calc-2: select [..]
                <- out/join: inner temporal join as of ts@1 on name@0 = name@0 (state: left rows until the watermark passes them, versions of right rows by $version@2)
                  left <- hash(name) clicks: read clicks (append) columns [..] watermark ts@1
                  right <- hash(name) out/calc: select [..]
                    <- clicks (see above)
        "#]],
    );
    // A view that is used several times is translated once.
    check(
        "SELECT c.name, l.name FROM clicks c JOIN latest FOR SYSTEM_TIME AS OF c.ts AS l ON c.name = l.name AND l.k > 2
         UNION ALL SELECT name, name FROM latest WHERE k > 1",
        expect![[r#"
            out/sink: write out (cdc) changelog: retract
              <- out/insertions: select [..] changelog: retract
                <- out/calc-3: select [..]
                  <- out/join: inner temporal join as of ts@1 on name@0 = name@1 where $is_valid@5 (state: left rows until the watermark passes them, versions of right rows by $version@2)
                    left <- hash(name) out/calc: select [..]
                      <- clicks: read clicks (append) columns [..] watermark ts@4
                    right <- hash(name) out/calc-2: select [..]
                      <- clicks (see above)
              <- out/calc-4: select [..] where k@0 > 1 changelog: retract, keys (a), (b)
                <- latest/top-n: rows 1..=1 of each name order by ts@4 DESC NULLS LAST with rank (state: these rows, for ever) changelog: retract, keys (name), (name, rank)
                  <- hash(name) clicks (see above)
        "#]],
    );
}

#[test]
fn temporal_joins_that_have_no_answer_are_refused() {
    for (query, message) in [
        (
            "SELECT c.name, u.region FROM clicks c JOIN users FOR SYSTEM_TIME AS OF c.price AS u ON c.k = u.id",
            "FOR SYSTEM_TIME AS OF needs a time attribute of the rows that are joined",
        ),
        (
            "SELECT c.name, u.region FROM clicks c JOIN users FOR SYSTEM_TIME AS OF c.ts AS u ON c.name = u.region",
            "finds versions by the key of the table or view, (id)",
        ),
        (
            "SELECT c.name, p.v FROM clicks c JOIN pairs FOR SYSTEM_TIME AS OF c.ts AS p ON c.k = p.a",
            "(a, b): join it by an equality with each of these columns",
        ),
        (
            "SELECT c.name, d.name FROM clicks c JOIN clicks FOR SYSTEM_TIME AS OF c.ts AS d ON c.k = d.k",
            "declare PRIMARY KEY (...) NOT ENFORCED, with the columns that identify a row in table `clicks`",
        ),
        (
            "SELECT c.name, c.name FROM clicks c JOIN orders FOR SYSTEM_TIME AS OF c.ts AS o ON c.k = o.id",
            "declare WATERMARK FOR the column with the time of each change in table `orders`",
        ),
        (
            "SELECT c.name, e.name FROM clicks c JOIN earliest FOR SYSTEM_TIME AS OF c.ts AS e ON c.name = e.name",
            "its rows are not the last ones by event time",
        ),
        (
            "SELECT c.name, l.region FROM clicks c JOIN latest_user FOR SYSTEM_TIME AS OF c.ts AS l ON c.name = l.region",
            "it ranks rows that are updated or deleted",
        ),
        (
            "SELECT c.name, l.name FROM clicks c JOIN counts FOR SYSTEM_TIME AS OF c.ts AS l ON c.name = l.name",
            "its rows are updated without an event time",
        ),
        (
            "SELECT c.name, c.name FROM clicks c JOIN both_kinds FOR SYSTEM_TIME AS OF c.ts AS b ON c.k = b.id",
            "a UNION ALL has no key",
        ),
        (
            "SELECT c.name, c.name FROM clicks c JOIN zoned FOR SYSTEM_TIME AS OF c.ts AS z ON c.k = z.id",
            "declare both event times with the same type",
        ),
    ] {
        let refused = planned_query(query, Mode::Stream);
        assert!(
            refused.starts_with("refused: ") && refused.contains(message),
            "{refused}"
        );
    }
}
