//! Pipelines other than the script of the edits: the planner's own cases, deep expressions, specs with unions and
//! sessions.

use expect_test::{Expect, expect};

use super::super::*;
use super::{planned, told};

/// Every kind of operator that the planner's own cases have.
#[test]
fn a_pipeline_means_the_same_as_itself() {
    use millstream_graph::{Operator, Phase};

    let cases = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/translate/cases");
    let tables = std::fs::read_to_string(cases.join("tables.ddl")).expect("the tables exist");
    let mut compared = 0;
    for folder in [cases.clone(), cases.join("nexmark")] {
        for entry in std::fs::read_dir(&folder).expect("the folder exists") {
            let path = entry.expect("readable").path();
            if path.extension().is_none_or(|extension| extension != "sql") {
                continue;
            }
            let script = std::fs::read_to_string(&path).expect("a text file");
            let mut options = PlanOptions::default();
            for (name, value) in [
                ("EVENTS", "1000"),
                ("DATA", "data"),
                ("OUT", "out"),
                ("RATE", "1000"),
                ("SIDE_INPUT", "side_input"),
            ] {
                options.environment.insert(name.to_owned(), value.to_owned());
            }
            for text in [script.clone(), format!("{tables}{script}")] {
                let input = Input::Sql {
                    name: "job",
                    text: &text,
                };
                let (Ok(old), Ok(new)) = (plan(input, &options), plan(input, &options)) else {
                    continue;
                };
                assert_eq!(compare(&old, &new), Differences::default(), "{}", path.display());
                let meanings = rows::meanings(&old.graph);
                for node in &old.graph.nodes {
                    let has_meaning = match &node.operator {
                        Operator::Source(_)
                        | Operator::Join(_)
                        | Operator::MultiJoin(_)
                        | Operator::TemporalJoin(_)
                        | Operator::WindowJoin(_)
                        | Operator::WindowTopN(_)
                        | Operator::TopN(_)
                        | Operator::Sort(_)
                        | Operator::ChangelogNormalize(_)
                        | Operator::SinkMaterialize(_) => true,
                        Operator::GroupAggregate(aggregate) => aggregate.phase != Phase::Local,
                        Operator::WindowAggregate(aggregate) => aggregate.phase != Phase::Local,
                        Operator::Calc(_)
                        | Operator::WindowAssign(_)
                        | Operator::Unnest(_)
                        | Operator::DynamicFilter(_)
                        | Operator::Sink(_) => false,
                    };
                    assert_eq!(
                        meanings.contains_key(&node.id),
                        has_meaning,
                        "{}: {}",
                        path.display(),
                        node.id
                    );
                }
                compared += 1;
                break;
            }
        }
    }
    assert!(compared > 20, "only {compared} pipelines were planned");
}

/// Steps that double an expression each.
#[test]
fn expressions_over_expressions_stay_small() {
    let mut script = String::from(
        "CREATE TABLE t (a BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
           WITH ('connector' = 'filesystem', 'path' = 'x', 'format' = 'json');
         CREATE TABLE o (n BIGINT) WITH ('connector' = 'print');
         CREATE VIEW v0 AS SELECT a, ts FROM t;",
    );
    for step in 1..=40 {
        let before = step - 1;
        script.push_str(&format!(
            "CREATE VIEW v{step} AS SELECT abs(a) * abs(a + {step}) AS a, ts FROM v{before};"
        ));
    }
    script.push_str(
        "INSERT INTO o SELECT sum(a) FROM TABLE(TUMBLE(TABLE v40, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start, window_end;",
    );
    let (old, same) = (planned(&script), planned(&script));
    assert_eq!(compare(&old, &same), Differences::default());
    let other = planned(&script.replace("abs(a + 1)", "abs(a + 100)"));
    assert_eq!(compare(&old, &other).changes.len(), 1, "the innermost constant counts");
}

fn spec(text: &str) -> Planned {
    let parsed = millstream_proto::spec::parse(text).expect("a valid spec");
    match plan(Input::Spec(&parsed.spec), &PlanOptions::default()) {
        Ok(planned) => planned,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

/// Unions, sessions, steps and sources that go on after a failure.
#[track_caller]
fn check_spec(edit: (&str, &str), expected: Expect) {
    const SPEC: &str = "
name: job
sources:
  a:
    connector: filesystem
    options: { path: in }
    format: csv
    columns: { k: bigint, v: bigint, ts: timestamp(3), file: { type: string, metadata: file.name } }
    event_time: { column: ts }
    on_error: skip
  b:
    connector: filesystem
    options: { path: in, source.split-size: 1mb }
    format: json
    columns: { k: bigint, v: bigint, ts: timestamp(3) }
    event_time: { column: ts }
steps:
  both:
    sql: SELECT k, v, ts FROM a WHERE v > 1 AND file <> 'x' UNION ALL SELECT k, v * 2 AS v, ts FROM b WHERE v > 2
  sums:
    sql: |
      SELECT k, sum(v) AS total FROM TABLE(TUMBLE(TABLE both, DESCRIPTOR(ts), INTERVAL '10' SECOND))
      GROUP BY k, window_start, window_end
  visits:
    sql: |
      SELECT k, count(*) AS n FROM TABLE(SESSION(TABLE b PARTITION BY k, DESCRIPTOR(ts), INTERVAL '10' SECOND))
      GROUP BY k, window_start, window_end
sinks:
  x: { from: sums, connector: blackhole }
  y: { from: visits, connector: blackhole }
";
    let (from, to) = edit;
    assert!(SPEC.contains(from), "{from}");
    let edited = SPEC.replace(from, to);
    expected.assert_eq(&told(&spec(SPEC), &spec(&edited)));
}

#[test]
fn one_side_of_a_union() {
    check_spec(
        ("v > 2", "v > 3"),
        expect![[r#"
        sums/aggregate: the filter above it changed from `b.v > 2 of b` to `b.v > 3 of b` (edited: step `both`)
    "#]],
    );
    check_spec(
        ("v * 2", "v * 3"),
        expect![[r#"
        sums/aggregate: the aggregate changed from `sum(a.v) | sum(b.v * 2)` to `sum(a.v) | sum(b.v * 3)` (edited: step `both`)
    "#]],
    );
    check_spec(
        (
            "SELECT k, v, ts FROM a WHERE v > 1 AND file <> 'x' UNION ALL SELECT k, v * 2 AS v, ts FROM b WHERE v > 2",
            "SELECT k, v * 2 AS v, ts FROM b WHERE v > 2 UNION ALL SELECT k, v, ts FROM a WHERE file <> 'x' AND v > 1",
        ),
        expect![[""]],
    );
    check_spec(
        (
            "v > 1 AND file <> 'x' UNION ALL SELECT k, v * 2 AS v, ts FROM b WHERE v > 2",
            "v > 2 AND file <> 'x' UNION ALL SELECT k, v * 2 AS v, ts FROM b WHERE v > 1",
        ),
        expect![[r#"
            sums/aggregate: the filter above it changed from `a.v > 1 of a AND b.v > 2 of b` to `a.v > 2 of a AND b.v > 1 of b` (edited: step `both`)
        "#]],
    );
}

#[test]
fn what_rows_are_made_of() {
    check_spec(
        ("metadata: file.name", "metadata: file.path"),
        expect![[r#"
        sums/aggregate: the source columns changed from `a.file STRING METADATA FROM 'file.name'` to `a.file STRING METADATA FROM 'file.path'` (edited: table `a`)
    "#]],
    );
    check_spec(
        (
            "k: bigint, v: bigint, ts: timestamp(3), file",
            "v: bigint, k: bigint, ts: timestamp(3), file",
        ),
        expect![[r#"
            sums/aggregate: the source columns changed from `a.k BIGINT, field 1; a.v BIGINT, field 2` to `a.k BIGINT, field 2; a.v BIGINT, field 1` (edited: table `a`)
        "#]],
    );
    check_spec(
        ("on_error: skip", "on_error: \"null\""),
        expect![[r#"
        sums/aggregate: the treatment of rows that fail changed from `rows are dropped` to `values become NULL` (edited: table `a`)
    "#]],
    );
    check_spec(("on_error: skip", "on_error: fail"), expect![[""]]);
    check_spec(
        ("source.split-size: 1mb", "source.split-size: 2mb"),
        expect![[r#"
        b: the option 'source.split-size' changed from `1048576` to `2097152` (edited: table `b`)
        sums/aggregate: the option 'source.split-size' of `b` changed from `1048576` to `2097152` (edited: table `b`)
        visits/aggregate: the option 'source.split-size' of `b` changed from `1048576` to `2097152` (edited: table `b`)
    "#]],
    );
    check_spec(
        (
            "source.split-size: 1mb",
            "source.split-size: 1024kb, source.monitor-interval: 1s",
        ),
        expect![[""]],
    );
}

#[test]
fn another_gap_between_sessions() {
    check_spec(
        (
            "DESCRIPTOR(ts), INTERVAL '10' SECOND))\n      GROUP BY k, window_start, window_end\nsinks",
            "DESCRIPTOR(ts), INTERVAL '20' SECOND))\n      GROUP BY k, window_start, window_end\nsinks",
        ),
        expect![[r#"
            visits/aggregate: the window changed from `session gap 10s` to `session gap 20s` (edited: step `visits`)
        "#]],
    );
}

#[test]
fn parts_of_a_union_that_are_put_together_otherwise() {
    let script = |first: &str, second: &str, alias: &str| {
        planned(&format!(
            "CREATE TABLE t (a BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
               WITH ('connector' = 'filesystem', 'path' = 'x', 'format' = 'json');
             CREATE TABLE o (n BIGINT) WITH ('connector' = 'print');
             CREATE VIEW u AS SELECT a, ts FROM t WHERE {first} UNION ALL SELECT a * 2 AS {alias}, ts FROM t WHERE {second};
             INSERT INTO o SELECT sum(a) FROM TABLE(TUMBLE(TABLE u, DESCRIPTOR(ts), INTERVAL '1' SECOND))
               GROUP BY window_start, window_end;"
        ))
    };
    let old = script("a > 1", "a < 1", "a");
    assert_eq!(told(&old, &script("a > 1", "a < 1", "b")), "");
    let new = script("a < 1", "a > 1", "a");
    expect![[r#"
        o/aggregate: the union above it changed from `sum(t.a * 2) of t where t.a < 1, sum(t.a) of t where t.a > 1` to `sum(t.a) of t where t.a < 1, sum(t.a * 2) of t where t.a > 1` (edited: step `u`)
    "#]].assert_eq(&told(&old, &new));
}

/// Aggregates without windows, over rows and over their own changes.
const UPDATING: &str = "
CREATE TABLE events (k BIGINT, v BIGINT, ts TIMESTAMP(3), WATERMARK FOR ts AS ts)
  WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = 'a:9092', 'topic' = 'events', 'format' = 'json');
CREATE TABLE out (n BIGINT, c BIGINT) WITH ('connector' = 'print');
CREATE VIEW sums AS SELECT k, sum(v) AS total FROM events WHERE v > 0 GROUP BY k;
INSERT INTO out SELECT total, count(*) FROM sums GROUP BY total;
";

#[test]
fn aggregates_without_windows_are_compared_with_their_keys_calls_and_input() {
    #[track_caller]
    fn check(from: &str, to: &str, expected: Expect) {
        assert!(UPDATING.contains(from));
        expected.assert_eq(&told(&planned(UPDATING), &planned(&UPDATING.replace(from, to))));
    }
    check("", "", expect![[""]]);
    check(
        "INSERT INTO",
        "SET 'table.exec.state.ttl' = '1 h';\nINSERT INTO",
        expect![[r#"
            out/aggregate: the time to live of state changed from none to `1h`
            sums/aggregate: the time to live of state changed from none to `1h`
        "#]],
    );
    check(
        "sum(v)",
        "sum(v + 1)",
        expect![[r#"
        out/aggregate: the aggregate of `sums/aggregate` changed from `sum(events.v)` to `sum(events.v + 1)` (edited: step `sums`)
        sums/aggregate: the aggregate changed from `sum(events.v)` to `sum(events.v + 1)` (edited: step `sums`)
    "#]],
    );
    check(
        "GROUP BY k;",
        "GROUP BY k, v;",
        expect![[r#"
        out/aggregate: the key changed from `sum(events.v)` to `sum(events.v), with constants of other types or nested in another way` (edited: step `sums`)
        out/aggregate: the key of `sums/aggregate` changed from `events.k` to `events.k, events.v` (edited: step `sums`)
        sums/aggregate: the key changed from `events.k` to `events.k, events.v` (edited: step `sums`)
    "#]],
    );
    check(
        "v > 0",
        "v > 1",
        expect![[r#"
        out/aggregate: the filter of `sums/aggregate` changed from `events.v > 0` to `events.v > 1` (edited: step `sums`)
        sums/aggregate: the filter above it changed from `events.v > 0` to `events.v > 1` (edited: step `sums`)
    "#]],
    );
    check(
        "count(*)",
        "count(DISTINCT k)",
        expect![[r#"
        out/aggregate: the aggregate changed from `count(1)` to `count(DISTINCT events.k)` (edited: sink `out`)
    "#]],
    );
    check(
        "FROM sums GROUP BY total",
        "FROM sums WHERE total > 3 GROUP BY total",
        expect![[r#"
            out/aggregate: the filter above it changed from none to `sum(events.v) > 3` (edited: sink `out`)
        "#]],
    );
}
