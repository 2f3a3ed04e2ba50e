//! Typical edits of a pipeline, and what they mean for its state.

mod pipelines;

use expect_test::{Expect, expect};

use super::*;

const SCRIPT: &str = "
CREATE TABLE events (k BIGINT, v BIGINT, n INT, s STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
  WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = 'a:9092', 'topic' = 'events', 'format' = 'json');
CREATE TABLE rates (k BIGINT, rate BIGINT, at TIMESTAMP(3), WATERMARK FOR at AS at)
  WITH ('connector' = 'kafka', 'properties.bootstrap.servers' = 'a:9092', 'topic' = 'rates', 'format' = 'json');
CREATE TABLE out_sums (k BIGINT, at TIMESTAMP(3), total BIGINT) WITH ('connector' = 'print');
CREATE TABLE out_best (k BIGINT, total BIGINT) WITH ('connector' = 'print');
CREATE TABLE out_joined (k BIGINT, v BIGINT, rate BIGINT) WITH ('connector' = 'print');
CREATE VIEW clean AS SELECT k, v, n, s, ts FROM events WHERE n > 5 AND s <> 'x';
CREATE VIEW sums AS
  SELECT k, window_start, window_end, sum(v) AS total, max(n) AS most, count(*) AS c
  FROM TABLE(TUMBLE(TABLE clean, DESCRIPTOR(ts), INTERVAL '10' SECOND))
  GROUP BY k, window_start, window_end;
CREATE VIEW best AS
  SELECT k, total, most, rn FROM (
    SELECT *, ROW_NUMBER() OVER (PARTITION BY window_start, window_end ORDER BY total DESC) AS rn FROM sums
  ) WHERE rn <= 3;
CREATE VIEW joined AS
  SELECT L.k, L.v, R.rate
  FROM (SELECT * FROM TABLE(TUMBLE(TABLE clean, DESCRIPTOR(ts), INTERVAL '1' MINUTE))) L
  JOIN (SELECT * FROM TABLE(TUMBLE(TABLE rates, DESCRIPTOR(at), INTERVAL '1' MINUTE))) R
  ON L.k = R.k AND L.window_start = R.window_start AND L.window_end = R.window_end AND L.v > R.rate;
INSERT INTO out_sums SELECT k, window_start, total FROM sums;
INSERT INTO out_best SELECT k, total + most FROM best WHERE rn <= 3;
INSERT INTO out_joined SELECT * FROM joined;
";

fn planned(text: &str) -> Planned {
    let name = "job";
    match plan(Input::Sql { name, text }, &PlanOptions::default()) {
        Ok(planned) => planned,
        Err(errors) => panic!("{errors}\n{text}"),
    }
}

/// The differences after these replacements.
#[track_caller]
fn check(edits: &[(&str, &str)], expected: Expect) {
    let mut edited = SCRIPT.to_string();
    for (from, to) in edits {
        assert!(edited.contains(from), "`{from}` is not in\n{edited}");
        edited = edited.replace(from, to);
    }
    let (old, new) = (planned(SCRIPT), planned(&edited));
    expected.assert_eq(&told(&old, &new));
    // Undoing an edit is an edit of the same operators.
    let (there, back) = (compare(&old, &new), compare(&new, &old));
    assert!(there.changes.keys().eq(back.changes.keys()));
}

fn told(old: &Planned, new: &Planned) -> String {
    let differences = compare(old, new);
    let mut text = String::new();
    for (id, changes) in &differences.changes {
        for change in changes {
            text.push_str(&format!("{id}: {change}\n"));
        }
    }
    for (old, new) in &differences.renamed {
        text.push_str(&format!("{old} is now {new}\n"));
    }
    let kept = |planned: &Planned| rows::meanings(&planned.graph);
    let (before, now) = (kept(old), kept(new));
    for gone in before.keys().filter(|id| !now.contains_key(id)) {
        text.push_str(&format!("{gone} is gone\n"));
    }
    text
}

#[test]
fn nothing() {
    check(&[], expect![[""]]);
}

#[test]
fn formatting_comments_and_the_order_of_conditions() {
    check(
        &[(
            "WHERE n > 5 AND s <> 'x'",
            "-- all of them\n  WHERE s <> 'x'   AND n > 5",
        )],
        expect![[""]],
    );
}

#[test]
fn an_alias_inside() {
    check(
        &[
            ("sum(v) AS total,", "sum(v) AS amount,"),
            (
                "SELECT k, window_start, total FROM sums",
                "SELECT k, window_start, amount FROM sums",
            ),
            ("ORDER BY total DESC", "ORDER BY amount DESC"),
            (
                "SELECT k, total, most, rn FROM (",
                "SELECT k, amount AS total, most, rn FROM (",
            ),
        ],
        expect![[""]],
    );
}

#[test]
fn a_renamed_step_without_state() {
    check(&[("clean", "tidy")], expect![[""]]);
}

#[test]
fn a_step_divided_in_two() {
    check(
        &[(
            "CREATE VIEW clean AS SELECT k, v, n, s, ts FROM events WHERE n > 5 AND s <> 'x';",
            "CREATE VIEW first AS SELECT k, v, n AS m, s, ts FROM events WHERE n > 5;\nCREATE VIEW clean AS SELECT k, v, m AS n, s, ts FROM first WHERE s <> 'x';",
        )],
        expect![[""]],
    );
}

#[test]
fn a_column_that_nobody_uses() {
    check(
        &[
            ("s STRING, ts", "s STRING, extra STRING, ts"),
            (
                "SELECT k, v, n, s, ts FROM events",
                "SELECT k, v, n, s, extra, ts FROM events",
            ),
        ],
        expect![[""]],
    );
}

#[test]
fn columns_in_another_order() {
    check(
        &[
            ("k BIGINT, v BIGINT, n INT", "n INT, v BIGINT, k BIGINT"),
            ("SELECT k, v, n, s, ts FROM events", "SELECT v, n, k, s, ts FROM events"),
        ],
        expect![[r#"
        joined/join: the columns of the rows (left input) changed from `events.k, events.v` to `events.v, events.k` (edited: step `clean`, table `events`, step `joined`)
    "#]],
    );
}

#[test]
fn a_column_added_after_all_state() {
    check(
        &[(
            "SELECT k, window_start, total FROM sums",
            "SELECT k, window_start, total * 2 + c FROM sums",
        )],
        expect![[""]],
    );
}

#[test]
fn a_filter_after_all_state() {
    check(
        &[(
            "SELECT k, window_start, total FROM sums",
            "SELECT k, window_start, total FROM sums WHERE total > 100",
        )],
        expect![[""]],
    );
}

#[test]
fn another_sink() {
    check(
        &[(
            "CREATE TABLE out_sums (k BIGINT, at TIMESTAMP(3), total BIGINT) WITH ('connector' = 'print')",
            "CREATE TABLE out_sums (k BIGINT, at TIMESTAMP(3), total BIGINT) WITH ('connector' = 'blackhole')",
        )],
        expect![[""]],
    );
}

#[test]
fn a_second_pipeline() {
    check(
        &[(
            "INSERT INTO out_sums",
            "CREATE TABLE more (k BIGINT, total BIGINT) WITH ('connector' = 'print');\nCREATE VIEW others AS SELECT s, window_start, window_end, max(v) AS most FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' MINUTE)) GROUP BY s, window_start, window_end;\nINSERT INTO more SELECT most, most FROM others;\nINSERT INTO out_sums",
        )],
        expect![[""]],
    );
}

#[test]
fn brokers_group_start_and_rate() {
    check(
        &[
            (
                "'topic' = 'events'",
                "'topic' = 'events', 'properties.group.id' = 'g', 'scan.startup.mode' = 'latest-offset', 'scan.rate-limit' = '10'",
            ),
            ("a:9092", "b:9093,c:9094"),
        ],
        expect![[""]],
    );
}

#[test]
fn defaults_written_out() {
    check(
        &[(
            "'topic' = 'events'",
            "'topic' = 'events', 'json.ignore-parse-errors' = 'FALSE', 'value.fields-include' = 'all'",
        )],
        expect![[""]],
    );
}

#[test]
fn another_watermark() {
    check(
        &[("ts - INTERVAL '1' SECOND", "ts - INTERVAL '30' SECOND")],
        expect![[""]],
    );
}

#[test]
fn rows_that_fail_are_skipped_from_now_on() {
    check(
        &[(
            "'topic' = 'events'",
            "'topic' = 'events', 'json.ignore-parse-errors' = 'true'",
        )],
        expect![[""]],
    );
}

#[test]
fn another_aggregated_expression() {
    check(
        &[("sum(v) AS total", "sum(v + 1) AS total")],
        expect![[r#"
        out_best/top-n: the aggregate of `sums/aggregate` changed from `sum(events.v)` to `sum(events.v + 1)` (edited: step `sums`)
        sums/aggregate: the aggregate changed from `sum(events.v)` to `sum(events.v + 1)` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn another_aggregate_of_the_same_state() {
    check(
        &[("sum(v) AS total, max(n)", "sum(v) AS total, max(n % 7)")],
        expect![[r#"
        out_best/top-n: the aggregate of `sums/aggregate` changed from `max(events.n)` to `max(CAST(events.n AS Int64) % 7)` (edited: sink `out_best`, step `sums`)
        sums/aggregate: the aggregate changed from `max(events.n)` to `max(CAST(events.n AS Int64) % 7)` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn sums_that_change_places() {
    check(
        &[("sum(v) AS total, max(n) AS most", "sum(k) AS total, max(n) AS most")],
        expect![[r#"
        out_best/top-n: the aggregate of `sums/aggregate` changed from `sum(events.v)` to `sum(events.k)` (edited: step `sums`)
        sums/aggregate: the aggregate changed from `sum(events.v)` to `sum(events.k)` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn a_filtered_aggregate() {
    check(
        &[("count(*) AS c", "count(*) FILTER (WHERE v > 0) AS c")],
        expect![[r#"
        out_best/top-n: the aggregate of `sums/aggregate` changed from `count(1)` to `count(1) FILTER (WHERE events.v > 0)` (edited: step `sums`)
        sums/aggregate: the aggregate changed from `count(1)` to `count(1) FILTER (WHERE events.v > 0)` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn distinct() {
    check(
        &[("count(*) AS c", "count(DISTINCT v) AS c")],
        expect![[r#"
        out_best/top-n: the aggregate of `sums/aggregate` changed from `count(1)` to `count(DISTINCT events.v)` (edited: step `sums`)
        sums/aggregate: the aggregate changed from `count(1)` to `count(DISTINCT events.v)` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn another_filter() {
    check(
        &[("n > 5 AND", "n > 10 AND")],
        expect![[r#"
        joined/join: the filter above it (left input) changed from `events.n > 5` to `events.n > 10` (edited: step `clean`)
        out_best/top-n: the filter of `sums/aggregate` changed from `events.n > 5` to `events.n > 10` (edited: step `clean`)
        sums/aggregate: the filter above it changed from `events.n > 5` to `events.n > 10` (edited: step `clean`)
    "#]],
    );
}

#[test]
fn an_added_filter() {
    check(
        &[(
            "FROM TABLE(TUMBLE(TABLE clean, DESCRIPTOR(ts), INTERVAL '10' SECOND))\n  GROUP BY k",
            "FROM TABLE(TUMBLE(TABLE clean, DESCRIPTOR(ts), INTERVAL '10' SECOND)) WHERE v < 100\n  GROUP BY k",
        )],
        expect![[r#"
        out_best/top-n: the filter of `sums/aggregate` changed from none to `events.v < 100` (edited: step `sums`)
        sums/aggregate: the filter above it changed from none to `events.v < 100` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn a_filter_removed() {
    check(
        &[("n > 5 AND s <> 'x'", "n > 5")],
        expect![[r#"
        joined/join: the filter above it (left input) changed from `events.s != 'x'` to none (edited: step `clean`)
        out_best/top-n: the filter of `sums/aggregate` changed from `events.s != 'x'` to none (edited: step `clean`)
        sums/aggregate: the filter above it changed from `events.s != 'x'` to none (edited: step `clean`)
    "#]],
    );
}

#[test]
fn a_constant_of_another_type() {
    check(
        &[("s <> 'x'", "s <> 'x' AND v <> 3.5")],
        expect![[r#"
        joined/join: the filter above it (left input) changed from none to `CAST(events.v AS Decimal128(21, 1)) != 3.5` (edited: step `clean`)
        out_best/top-n: the filter of `sums/aggregate` changed from none to `CAST(events.v AS Decimal128(21, 1)) != 3.5` (edited: step `clean`)
        sums/aggregate: the filter above it changed from none to `CAST(events.v AS Decimal128(21, 1)) != 3.5` (edited: step `clean`)
    "#]],
    );
}

#[test]
fn a_filter_on_the_key_above_the_aggregate() {
    check(
        &[(
            "SELECT k, window_start, total FROM sums",
            "SELECT k, window_start, total FROM sums WHERE k = 3",
        )],
        expect![[""]],
    );
}

#[test]
fn parentheses() {
    check(
        &[("sum(v) AS total", "sum(v - (k - n)) AS total")],
        expect![[r#"
        out_best/top-n: the aggregate of `sums/aggregate` changed from `sum(events.v)` to `sum(events.v - events.k - CAST(events.n AS Int64))` (edited: step `sums`)
        sums/aggregate: the aggregate changed from `sum(events.v)` to `sum(events.v - events.k - CAST(events.n AS Int64))` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn another_key() {
    check(
        &[(
            "SELECT k, v, n, s, ts FROM events",
            "SELECT k % 10 AS k, v, n, s, ts FROM events",
        )],
        expect![[r#"
        joined/join: the columns that must be equal changed from `left events.k = right rates.k` to `left events.k % 10 = right rates.k` (edited: step `clean`)
        joined/join: the columns of the rows (left input) changed from `events.k` to `events.k % 10` (edited: step `clean`)
        out_best/top-n: the key of `sums/aggregate` changed from `events.k` to `events.k % 10` (edited: step `clean`)
        sums/aggregate: the key changed from `events.k` to `events.k % 10` (edited: step `clean`)
    "#]],
    );
}

#[test]
fn another_window_size() {
    check(
        &[(
            "DESCRIPTOR(ts), INTERVAL '10' SECOND))\n  GROUP BY k",
            "DESCRIPTOR(ts), INTERVAL '20' SECOND))\n  GROUP BY k",
        )],
        expect![[r#"
        out_best/top-n: the window of `sums/aggregate` changed from `tumble 10s` to `tumble 20s` (edited: step `sums`)
        sums/aggregate: the window changed from `tumble 10s` to `tumble 20s` (edited: step `sums`)
    "#]],
    );
}

#[test]
fn another_time_column() {
    check(
        &[(
            "ts TIMESTAMP(3), WATERMARK FOR ts AS ts - INTERVAL '1' SECOND",
            "at TIMESTAMP(3), ts AS at + INTERVAL '1' HOUR, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND",
        )],
        expect![[r#"
        joined/join: the window that rows are given (left input) changed from `tumble 1min on events.ts` to `tumble 1min on events.at + interval 1h` (edited: table `events`)
        out_best/top-n: the time column of `sums/aggregate` changed from `events.ts` to `events.at + interval 1h` (edited: table `events`)
        sums/aggregate: the time column changed from `events.ts` to `events.at + interval 1h` (edited: table `events`)
    "#]],
    );
}

#[test]
fn a_filter_that_is_evaluated_below_a_join() {
    check(
        &[("SELECT * FROM joined", "SELECT * FROM joined WHERE k = 3")],
        expect![[r#"
        joined/join: the filter above it (left input) changed from none to `events.k = 3` (edited: sink `out_joined`)
        joined/join: the filter above it (right input) changed from none to `rates.k = 3` (edited: sink `out_joined`)
    "#]],
    );
}

#[test]
fn missing_fields_fail() {
    check(
        &[(
            "'topic' = 'events'",
            "'topic' = 'events', 'json.fail-on-missing-field' = 'true'",
        )],
        expect![[r#"
        joined/join: the option 'json.fail-on-missing-field' of `events` changed from none to `true` (edited: table `events`)
        out_best/top-n: the option 'json.fail-on-missing-field' of `events` changed from none to `true` (edited: table `events`)
        sums/aggregate: the option 'json.fail-on-missing-field' of `events` changed from none to `true` (edited: table `events`)
    "#]],
    );
}

#[test]
fn another_order() {
    check(
        &[("ORDER BY total DESC", "ORDER BY total ASC")],
        expect![[r#"
        out_best/top-n: the ORDER BY changed from `sum(events.v) DESC` to `sum(events.v) ASC` (edited: step `best`)
    "#]],
    );
}

#[test]
fn an_order_by_another_column() {
    check(
        &[("ORDER BY total DESC", "ORDER BY c DESC")],
        expect![[r#"
        out_best/top-n: the ORDER BY changed from `sum(events.v) DESC` to `count(1) DESC` (edited: step `best`)
        out_best/top-n: the columns of the rows changed from `events.k, window_start, window_end, sum(events.v), max(events.n)` to `events.k, window_start, window_end, sum(events.v), max(events.n), count(1)` (edited: step `best`)
    "#]],
    );
}

#[test]
fn other_ranks() {
    check(
        &[("rn <= 3", "rn <= 5")],
        expect![[r#"
        out_best/top-n: the ranks changed from `1 to 3` to `1 to 5` (edited: step `best`, sink `out_best`)
    "#]],
    );
}

#[test]
fn another_kind_of_join() {
    check(
        &[(
            "JOIN (SELECT * FROM TABLE(TUMBLE(TABLE rates",
            "LEFT JOIN (SELECT * FROM TABLE(TUMBLE(TABLE rates",
        )],
        expect![[r#"
        joined/join: the kind of join changed from `inner` to `left` (edited: step `joined`)
    "#]],
    );
}

#[test]
fn another_condition_of_the_join() {
    check(
        &[("L.v > R.rate", "L.v > R.rate * 2")],
        expect![[r#"
        joined/join: the condition of the join changed from `left events.v > right rates.rate` to `left events.v > right rates.rate * 2` (edited: step `joined`)
    "#]],
    );
}

#[test]
fn another_topic() {
    check(
        &[("'topic' = 'events'", "'topic' = 'payments'")],
        expect![[r#"
        events: the option 'topic' changed from `events` to `payments` (edited: table `events`)
        joined/join: the option 'topic' of `events` changed from `events` to `payments` (edited: table `events`)
        out_best/top-n: the option 'topic' of `events` changed from `events` to `payments` (edited: table `events`)
        sums/aggregate: the option 'topic' of `events` changed from `events` to `payments` (edited: table `events`)
    "#]],
    );
}

#[test]
fn another_format() {
    check(
        &[(
            "'topic' = 'events', 'format' = 'json'",
            "'topic' = 'events', 'format' = 'csv'",
        )],
        expect![[r#"
        joined/join: the source columns changed from `events.k BIGINT; events.n INT; events.s STRING; events.ts TIMESTAMP; events.v BIGINT` to `events.k BIGINT, field 1; events.n INT, field 3; events.s STRING, field 4; events.ts TIMESTAMP, field 5; events.v BIGINT, field 2` (edited: table `events`)
        joined/join: the option 'format' of `events` changed from `json` to `csv` (edited: table `events`)
        out_best/top-n: the option 'format' of `events` changed from `json` to `csv` (edited: table `events`)
        out_best/top-n: the source columns of `sums/aggregate` changed from `events.k BIGINT; events.n INT; events.s STRING; events.ts TIMESTAMP; events.v BIGINT` to `events.k BIGINT, field 1; events.n INT, field 3; events.s STRING, field 4; events.ts TIMESTAMP, field 5; events.v BIGINT, field 2` (edited: table `events`)
        sums/aggregate: the source columns changed from `events.k BIGINT; events.n INT; events.s STRING; events.ts TIMESTAMP; events.v BIGINT` to `events.k BIGINT, field 1; events.n INT, field 3; events.s STRING, field 4; events.ts TIMESTAMP, field 5; events.v BIGINT, field 2` (edited: table `events`)
        sums/aggregate: the option 'format' of `events` changed from `json` to `csv` (edited: table `events`)
    "#]],
    );
}

#[test]
fn another_unit_of_times() {
    check(
        &[(
            "'topic' = 'events'",
            "'topic' = 'events', 'json.timestamp-format.number' = 's'",
        )],
        expect![[r#"
        joined/join: the option 'json.timestamp-format.number' of `events` changed from none to `s` (edited: table `events`)
        out_best/top-n: the option 'json.timestamp-format.number' of `events` changed from none to `s` (edited: table `events`)
        sums/aggregate: the option 'json.timestamp-format.number' of `events` changed from none to `s` (edited: table `events`)
    "#]],
    );
}

#[test]
fn another_type_of_a_used_column() {
    check(
        &[("n INT", "n BIGINT")],
        expect![[r#"
        joined/join: the source columns changed from `events.n INT` to `events.n BIGINT` (edited: step `clean`, table `events`)
        joined/join: the filter above it (left input) changed from `events.n > 5` to `events.n > 5, with constants of other types or nested in another way` (edited: step `clean`, table `events`)
        out_best/top-n: the source columns of `sums/aggregate` changed from `events.n INT` to `events.n BIGINT` (edited: step `clean`, table `events`, sink `out_best`)
        out_best/top-n: the filter of `sums/aggregate` changed from `events.n > 5` to `events.n > 5, with constants of other types or nested in another way` (edited: step `clean`, table `events`, sink `out_best`)
        sums/aggregate: the source columns changed from `events.n INT` to `events.n BIGINT` (edited: step `clean`, table `events`)
        sums/aggregate: the filter above it changed from `events.n > 5` to `events.n > 5, with constants of other types or nested in another way` (edited: step `clean`, table `events`)
    "#]],
    );
}

#[test]
fn another_source_under_the_step() {
    check(
        &[
            ("FROM events WHERE n > 5", "FROM others WHERE n > 5"),
            (
                "CREATE TABLE rates",
                "CREATE TABLE others LIKE events;\nCREATE TABLE rates",
            ),
        ],
        expect![[r#"
        joined/join: the input (left input) changed from `events` to `others` (edited: step `clean`, table `others`)
        out_best/top-n: the input of `sums/aggregate` changed from `events` to `others` (edited: step `clean`, table `others`)
        sums/aggregate: the input changed from `events` to `others` (edited: step `clean`, table `others`)
        events is now others
        events is gone
    "#]],
    );
}

#[test]
fn a_renamed_step_with_state() {
    check(
        &[("sums", "totals")],
        expect![[r#"
        out_best/top-n: the input changed from `sums/aggregate` to `totals/aggregate` (edited: step `best`, step `sums`, step `totals`)
        sums/aggregate is now totals/aggregate
        sums/aggregate is gone
    "#]],
    );
}

#[test]
fn a_removed_pipeline() {
    check(
        &[("INSERT INTO out_joined SELECT * FROM joined;", "")],
        expect![[r#"
        joined/join is gone
        rates is gone
    "#]],
    );
}
