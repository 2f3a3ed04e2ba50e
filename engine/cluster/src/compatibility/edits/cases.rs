//! The script, and its edits.

/// An edit of the script.
pub(super) struct Case {
    pub name: &'static str,
    /// Replacements in the script.
    pub edits: &'static [(&'static str, &'static str)],
    /// Operators whose state does not have the same meaning, with the verdict, and new ones.
    pub verdicts: &'static str,
    /// Tables whose rows after the restore are not those after a checkpoint of the edited script.
    pub rows: &'static [(&'static str, Rows)],
}

/// The rows of a table after a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rows {
    /// Those of the input after the checkpoint alone, because the state starts empty.
    OfLaterInput,
    /// Those of state that is computed in the former way up to the checkpoint, and in the edited way after it.
    Mixed,
}

use Rows::{Mixed, OfLaterInput};

/// Every operator that keeps state, and a sink for each. The view `clean` is upstream of all of them.
pub(super) const SCRIPT: &str = "
CREATE TABLE events (k BIGINT, v BIGINT, n BIGINT, s STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'rows');
CREATE TABLE names (k BIGINT, label BIGINT) WITH ('connector' = 'rows');
CREATE TABLE out_sums (k BIGINT, total BIGINT, c BIGINT) WITH ('connector' = 'rows');
CREATE TABLE out_windows (k BIGINT, at TIMESTAMP(3), total BIGINT) WITH ('connector' = 'rows');
CREATE TABLE out_best (k BIGINT, v BIGINT) WITH ('connector' = 'rows');
CREATE TABLE out_joined (k BIGINT, v BIGINT, label BIGINT) WITH ('connector' = 'rows');
CREATE TABLE out_seen (n BIGINT, s STRING) WITH ('connector' = 'rows');
CREATE TABLE out_nested (k BIGINT, total BIGINT, most BIGINT) WITH ('connector' = 'rows');
CREATE TABLE out_kinds (s STRING, c BIGINT) WITH ('connector' = 'rows');
CREATE VIEW clean AS SELECT k, v, n, s, ts FROM events WHERE n > 0 AND v <> 3;
CREATE VIEW sums AS SELECT k, SUM(v) AS total, COUNT(*) AS c FROM clean GROUP BY k;
CREATE VIEW per_window AS
  SELECT k, window_start AS at, SUM(v) AS total
  FROM TABLE(TUMBLE(TABLE clean, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY k, window_start, window_end;
CREATE VIEW best AS
  SELECT k, v FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY v DESC, ts) AS rn FROM clean
  ) WHERE rn <= 2;
CREATE VIEW joined AS SELECT a.k, a.v, b.label FROM clean AS a JOIN names AS b ON a.k = b.k;
CREATE VIEW nested AS
  SELECT a.k, a.total, b.most
  FROM (SELECT k, MIN(v) AS total FROM clean GROUP BY k) AS a
  JOIN (SELECT k, MAX(v) AS most FROM events GROUP BY k) AS b ON a.k = b.k;
INSERT INTO out_sums SELECT k, total, c FROM sums;
INSERT INTO out_windows SELECT k, at, total FROM per_window;
INSERT INTO out_best SELECT k, v FROM best;
INSERT INTO out_joined SELECT k, v, label FROM joined;
INSERT INTO out_seen SELECT DISTINCT n, s FROM clean;
INSERT INTO out_nested SELECT k, total, most FROM nested;
INSERT INTO out_kinds SELECT s, COUNT(*) FROM clean GROUP BY s;
";

const fn same(name: &'static str, edits: &'static [(&'static str, &'static str)]) -> Case {
    Case {
        name,
        edits,
        verdicts: "",
        rows: &[],
    }
}

/// Edits after which nothing is restored.
const fn refused(name: &'static str, edits: &'static [(&'static str, &'static str)], verdicts: &'static str) -> Case {
    Case {
        name,
        edits,
        verdicts,
        rows: &[],
    }
}

pub(super) const CASES: &[Case] = &[
    same("nothing", &[]),
    same(
        "comments and formatting",
        &[(
            "WHERE n > 0 AND v <> 3",
            "-- those that count\n  WHERE n > 0\n    AND v <> 3",
        )],
    ),
    same(
        "the case of keywords",
        &[("SELECT k, total, c FROM sums", "select k, total, c from sums")],
    ),
    same(
        "quoted names",
        &[("SELECT k, total, c FROM sums", "SELECT `k`, `total`, `c` FROM `sums`")],
    ),
    same(
        "conditions in another order",
        &[("n > 0 AND v <> 3", "v <> 3 AND n > 0")],
    ),
    same("a constant expression", &[("n > 0", "n > 5 - 5")]),
    same("a renamed view without state", &[("clean", "tidy")]),
    same(
        "an alias of a column",
        &[
            ("AS total, COUNT(*) AS c", "AS amount, COUNT(*) AS c"),
            ("SELECT k, total, c FROM sums", "SELECT k, amount, c FROM sums"),
        ],
    ),
    same(
        "an alias of a table",
        &[(
            "SELECT a.k, a.v, b.label FROM clean AS a JOIN names AS b ON a.k = b.k",
            "SELECT x.k, x.v, y.label FROM clean AS x JOIN names AS y ON x.k = y.k",
        )],
    ),
    same(
        "a join with USING",
        &[(
            "FROM clean AS a JOIN names AS b ON a.k = b.k",
            "FROM clean AS a JOIN names AS b USING (k)",
        )],
    ),
    same(
        "a turned equation",
        &[("JOIN names AS b ON a.k = b.k", "JOIN names AS b ON b.k = a.k")],
    ),
    same(
        "a common table expression",
        &[(
            "CREATE VIEW sums AS SELECT k, SUM(v) AS total, COUNT(*) AS c FROM clean GROUP BY k;",
            "CREATE VIEW sums AS WITH rows_of AS (SELECT * FROM clean) SELECT k, SUM(v) AS total, COUNT(*) AS c FROM rows_of GROUP BY k;",
        )],
    ),
    same(
        "a view put in place of its name",
        &[(
            "COUNT(*) AS c FROM clean GROUP BY k",
            "COUNT(*) AS c FROM (SELECT k, v FROM events WHERE n > 0 AND v <> 3) GROUP BY k",
        )],
    ),
    same(
        "a view divided in two",
        &[(
            "CREATE VIEW clean AS SELECT k, v, n, s, ts FROM events WHERE n > 0 AND v <> 3;",
            "CREATE VIEW positive AS SELECT * FROM events WHERE n > 0;\nCREATE VIEW clean AS SELECT k, v, n, s, ts FROM positive WHERE v <> 3;",
        )],
    ),
    same(
        "an unused aggregate",
        &[(
            "COUNT(*) AS c FROM clean GROUP BY k",
            "COUNT(*) AS c, MAX(v) AS most FROM clean GROUP BY k",
        )],
    ),
    same(
        "an unused column of the source",
        &[("n BIGINT, s STRING, ts", "n BIGINT, extra BIGINT, s STRING, ts")],
    ),
    same(
        "an unused column of a view",
        &[(
            "SELECT k, v, n, s, ts FROM events",
            "SELECT k, v, v + 1 AS w, n, s, ts FROM events",
        )],
    ),
    same(
        "a column computed after the state",
        &[("SELECT k, total, c FROM sums", "SELECT k, total * 2, c FROM sums")],
    ),
    same(
        "a condition after the state",
        &[(
            "SELECT k, total, c FROM sums",
            "SELECT k, total, c FROM sums WHERE total > 30",
        )],
    ),
    same(
        "HAVING",
        &[(
            "COUNT(*) AS c FROM clean GROUP BY k",
            "COUNT(*) AS c FROM clean GROUP BY k HAVING SUM(v) > 30",
        )],
    ),
    same(
        "another watermark",
        &[(
            "WATERMARK FOR ts AS ts)",
            "WATERMARK FOR ts AS ts - INTERVAL '2' SECOND)",
        )],
    ),
    same(
        "another parallelism",
        &[(
            "CREATE TABLE events",
            "SET 'parallelism.default' = '3';\nCREATE TABLE events",
        )],
    ),
    same(
        "another checkpoint interval",
        &[(
            "CREATE TABLE events",
            "SET 'execution.checkpointing.interval' = '7 s';\nCREATE TABLE events",
        )],
    ),
    same(
        "statements in another order",
        &[
            ("INSERT INTO out_sums SELECT k, total, c FROM sums;\n", ""),
            (
                "FROM clean GROUP BY s;\n",
                "FROM clean GROUP BY s;\nINSERT INTO out_sums SELECT k, total, c FROM sums;\n",
            ),
        ],
    ),
    same(
        "a statement set",
        &[
            (
                "INSERT INTO out_sums",
                "EXECUTE STATEMENT SET BEGIN\nINSERT INTO out_sums",
            ),
            ("FROM clean GROUP BY s;\n", "FROM clean GROUP BY s;\nEND;\n"),
        ],
    ),
    Case {
        name: "a statement before all others",
        edits: &[(
            "CREATE VIEW clean",
            "CREATE TABLE more (n BIGINT, c BIGINT) WITH ('connector' = 'rows');\nINSERT INTO more SELECT n, COUNT(*) FROM events GROUP BY n;\nCREATE VIEW clean",
        )],
        verdicts: "more/aggregate: new",
        rows: &[("more", OfLaterInput)],
    },
    Case {
        name: "a statement between others",
        edits: &[
            (
                "CREATE VIEW clean",
                "CREATE TABLE more (n BIGINT, c BIGINT) WITH ('connector' = 'rows');\nCREATE VIEW clean",
            ),
            (
                "INSERT INTO out_joined",
                "INSERT INTO more SELECT n, COUNT(*) FROM events GROUP BY n;\nINSERT INTO out_joined",
            ),
        ],
        verdicts: "more/aggregate: new",
        rows: &[("more", OfLaterInput)],
    },
    Case {
        name: "a statement after all others",
        edits: &[
            (
                "CREATE VIEW clean",
                "CREATE TABLE more (n BIGINT, c BIGINT) WITH ('connector' = 'rows');\nCREATE VIEW clean",
            ),
            (
                "FROM clean GROUP BY s;\n",
                "FROM clean GROUP BY s;\nINSERT INTO more SELECT n, COUNT(*) FROM events GROUP BY n;\n",
            ),
        ],
        verdicts: "more/aggregate: new",
        rows: &[("more", OfLaterInput)],
    },
    same(
        "another sink of the same rows",
        &[
            (
                "CREATE VIEW clean",
                "CREATE TABLE more (n BIGINT, c BIGINT) WITH ('connector' = 'rows');\nCREATE VIEW clean",
            ),
            (
                "INSERT INTO out_joined",
                "INSERT INTO more SELECT k, total FROM sums;\nINSERT INTO out_joined",
            ),
        ],
    ),
    Case {
        name: "a statement removed",
        edits: &[("INSERT INTO out_best SELECT k, v FROM best;\n", "")],
        verdicts: "out_best/top-n: lost",
        rows: &[],
    },
    Case {
        name: "a renamed view with state",
        edits: &[("sums", "totals"), ("out_totals", "out_sums")],
        verdicts: "sums/aggregate: lost; totals/aggregate: new",
        rows: &[("out_sums", OfLaterInput)],
    },
    Case {
        name: "a renamed sink with state",
        edits: &[("out_kinds", "out_sorts")],
        verdicts: "out_kinds/aggregate: lost; out_sorts/aggregate: new",
        rows: &[("out_sorts", OfLaterInput)],
    },
    Case {
        name: "another filter upstream of everything",
        edits: &[("n > 0", "n > 1")],
        verdicts: "joined/join: other meaning; nested/aggregate: other meaning; nested/join: other meaning; out_best/top-n: other meaning; out_kinds/aggregate: other meaning; out_seen/aggregate: other meaning; per_window/aggregate: other meaning; sums/aggregate: other meaning",
        rows: &[
            ("out_sums", Mixed),
            ("out_windows", Mixed),
            ("out_best", Mixed),
            ("out_joined", Mixed),
            ("out_seen", Mixed),
            ("out_nested", Mixed),
            ("out_kinds", Mixed),
        ],
    },
    Case {
        name: "another filter of one view",
        edits: &[(
            "COUNT(*) AS c FROM clean GROUP BY k",
            "COUNT(*) AS c FROM clean WHERE v < 9 GROUP BY k",
        )],
        verdicts: "sums/aggregate: other meaning",
        rows: &[("out_sums", Mixed)],
    },
    Case {
        name: "another aggregated expression",
        edits: &[(
            "SELECT k, SUM(v) AS total, COUNT(*)",
            "SELECT k, SUM(v + 1) AS total, COUNT(*)",
        )],
        verdicts: "sums/aggregate: other meaning",
        rows: &[("out_sums", Mixed)],
    },
    Case {
        name: "a branch of a union",
        edits: &[(
            "FROM clean GROUP BY s",
            "FROM (SELECT s FROM clean UNION ALL SELECT s FROM events) GROUP BY s",
        )],
        verdicts: "out_kinds/aggregate: other meaning",
        rows: &[("out_kinds", Mixed)],
    },
    Case {
        name: "another order of the first rows",
        edits: &[("ORDER BY v DESC, ts", "ORDER BY v ASC, ts")],
        verdicts: "out_best/top-n: other meaning",
        rows: &[("out_best", Mixed)],
    },
    refused(
        "more first rows",
        &[("rn <= 2", "rn <= 3")],
        "out_best/top-n: needs migration",
    ),
    refused(
        "another window size",
        &[("INTERVAL '10' SECOND))", "INTERVAL '20' SECOND))")],
        "per_window/aggregate: needs migration",
    ),
    refused(
        "another kind of window",
        &[(
            "TUMBLE(TABLE clean, DESCRIPTOR(ts), ",
            "HOP(TABLE clean, DESCRIPTOR(ts), INTERVAL '5' SECOND, ",
        )],
        "per_window/aggregate: needs migration",
    ),
    refused(
        "another aggregate function",
        &[(
            "SELECT k, SUM(v) AS total, COUNT(*)",
            "SELECT k, MAX(v) AS total, COUNT(*)",
        )],
        "sums/aggregate: needs migration",
    ),
    refused(
        "a used aggregate added",
        &[
            (
                "COUNT(*) AS c FROM clean GROUP BY k",
                "COUNT(*) AS c, MAX(v) AS most FROM clean GROUP BY k",
            ),
            ("SELECT k, total, c FROM sums", "SELECT k, total + most, c FROM sums"),
        ],
        "sums/aggregate: needs migration",
    ),
    refused(
        "an aggregate that is not used any more",
        &[("SELECT k, total, c FROM sums", "SELECT k, total, 0 FROM sums")],
        "sums/aggregate: needs migration",
    ),
    refused(
        "an aggregate of distinct values",
        &[(
            "SELECT s, COUNT(*) FROM clean",
            "SELECT s, COUNT(DISTINCT v) FROM clean",
        )],
        "out_kinds/aggregate: needs migration",
    ),
    refused(
        "a key added",
        &[(
            "COUNT(*) AS c FROM clean GROUP BY k",
            "COUNT(*) AS c FROM clean GROUP BY k, n",
        )],
        "sums/aggregate: needs migration",
    ),
    refused(
        "another kind of join",
        &[(
            "FROM clean AS a JOIN names AS b",
            "FROM clean AS a LEFT JOIN names AS b",
        )],
        "joined/join: needs migration",
    ),
    refused(
        "a condition of the join",
        &[(
            "JOIN names AS b ON a.k = b.k",
            "JOIN names AS b ON a.k = b.k AND a.v > b.label",
        )],
        "joined/join: needs migration",
    ),
    Case {
        name: "the inputs of a join swapped",
        edits: &[(
            "FROM clean AS a JOIN names AS b ON a.k = b.k",
            "FROM names AS b JOIN clean AS a ON a.k = b.k",
        )],
        verdicts: "joined/join: other meaning",
        rows: &[("out_joined", Mixed)],
    },
    refused(
        "a time to live",
        &[(
            "CREATE TABLE events",
            "SET 'table.exec.state.ttl' = '1 h';\nCREATE TABLE events",
        )],
        "joined/join: needs migration; nested/aggregate: needs migration; nested/aggregate-2: needs migration; nested/join: needs migration; out_best/top-n: needs migration; out_kinds/aggregate: needs migration; out_seen/aggregate: needs migration; sums/aggregate: needs migration",
    ),
    refused(
        "a time to live of one join",
        &[(
            "SELECT a.k, a.v, b.label FROM clean",
            "SELECT /*+ STATE_TTL('a' = '1 h', 'b' = '1 h') */ a.k, a.v, b.label FROM clean",
        )],
        "joined/join: needs migration",
    ),
    Case {
        name: "an option of the source that changes rows",
        edits: &[(
            "CREATE TABLE names (k BIGINT, label BIGINT) WITH (",
            "CREATE TABLE names (k BIGINT, label BIGINT) WITH ('shape' = 'b', ",
        )],
        verdicts: "joined/join: other meaning",
        rows: &[],
    },
    Case {
        name: "an option of the source that changes records",
        edits: &[(
            "CREATE TABLE names (k BIGINT, label BIGINT) WITH (",
            "CREATE TABLE names (k BIGINT, label BIGINT) WITH ('origin' = 'b', ",
        )],
        verdicts: "joined/join: other meaning; names: other meaning",
        rows: &[],
    },
    // Operators of one view are numbered in their order.
    refused(
        "an aggregate added before others of its view",
        &[(
            "FROM (SELECT k, MIN(v) AS total FROM clean GROUP BY k) AS a\n",
            "FROM (SELECT k, COUNT(*) AS c FROM events GROUP BY k) AS c\n  JOIN (SELECT k, MIN(v) AS total FROM clean GROUP BY k) AS a ON a.k = c.k\n",
        )],
        "nested/aggregate: needs migration; nested/aggregate-2: needs migration; nested/join: lost; nested/aggregate-3: new; nested/join-2: new",
    ),
    Case {
        name: "an equal aggregate in a later statement",
        edits: &[
            (
                "CREATE VIEW clean",
                "CREATE TABLE more (n BIGINT, c BIGINT) WITH ('connector' = 'rows');\nCREATE VIEW clean",
            ),
            (
                "FROM clean GROUP BY s;\n",
                "FROM clean GROUP BY s;\nINSERT INTO more SELECT k, MIN(v) FROM clean GROUP BY k;\n",
            ),
        ],
        verdicts: "",
        rows: &[],
    },
    // The first statement owns an aggregate that several have.
    Case {
        name: "an equal aggregate in an earlier statement",
        edits: &[(
            "INSERT INTO out_sums",
            "CREATE TABLE more (n BIGINT, c BIGINT) WITH ('connector' = 'rows');\nINSERT INTO more SELECT k, MIN(v) FROM clean GROUP BY k;\nINSERT INTO out_sums",
        )],
        verdicts: "nested/aggregate: lost; nested/join: other meaning; more/aggregate: new",
        rows: &[("more", OfLaterInput), ("out_nested", Mixed)],
    },
];
