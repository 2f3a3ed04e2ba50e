//! Specs, and the errors of invalid ones.

use expect_test::{Expect, expect};

use crate::logical::InsertInput;
use crate::{Input, PlanOptions, front_end};

fn planned(yaml: &str) -> String {
    let spec = match millstream_proto::spec::parse(yaml) {
        Ok(parsed) => parsed.spec,
        Err(errors) => return errors.iter().map(|error| format!("{error}\n")).collect(),
    };
    match front_end(Input::Spec(&spec), &PlanOptions::default()) {
        Ok(pipeline) => {
            let steps = pipeline
                .steps
                .iter()
                .map(|step| format!("{} =\n{}\n", step.name, step.plan.display_indent()));
            let inserts = pipeline.inserts.iter().map(|insert| match &insert.input {
                InsertInput::Plan(plan) => format!("{} <-\n{}\n", insert.table.name, plan.display_indent()),
                other => format!(
                    "{} <- {other:?} {:?}\n",
                    insert.table.name,
                    insert.table.definition.0.schema.fields().len()
                ),
            });
            steps.chain(inserts).collect()
        }
        Err(errors) => format!("{errors}\n"),
    }
}

#[track_caller]
fn check(yaml: &str, expected: Expect) {
    expected.assert_eq(&planned(yaml));
}

const SOURCES: &str = "
name: toll-booth
sources:
  entries:
    connector: filesystem
    options: { path: /tmp/entries }
    format: json
    columns: { booth: bigint, plate: string, entered: timestamp(3), toll: 'decimal(6, 2)' }
    event_time: { column: entered, out_of_orderness: 5s }
";

#[test]
fn steps_are_views_and_sinks_take_their_columns() {
    check(
        &format!(
            "{SOURCES}
steps:
  per_booth:
    sql: |
      SELECT booth, window_start, count(*) AS cars
      FROM TABLE(TUMBLE(TABLE entries, DESCRIPTOR(entered), INTERVAL '1' MINUTE))
      GROUP BY booth, window_start, window_end
sinks:
  stats: {{ from: per_booth, connector: print }}
  some: {{ from: per_booth, connector: print, columns: {{ cars: bigint, booth: bigint }} }}
  late: {{ from: per_booth.late, connector: print }}
  bad: {{ from: entries.dead_letters, connector: print }}
"
        ),
        expect![[r#"
            per_booth =
            Projection: entries.booth, window_start, count(Int64(1)) AS count(*) AS cars
              Aggregate: groupBy=[[entries.booth, window_start, window_end]], aggr=[[count(Int64(1))]]
                WindowTableFunction: Tumble { size: 60000000, offset: 0 } on entries.entered
                  TableScan: entries
            stats <-
            Projection: per_booth.booth AS booth, per_booth.window_start AS window_start, per_booth.cars AS cars
              Projection: per_booth.booth, per_booth.window_start, per_booth.cars
                Projection: per_booth.booth, per_booth.window_start, per_booth.cars
                  SubqueryAlias: per_booth
                    StepReference: per_booth
            some <-
            Projection: per_booth.cars AS cars, per_booth.booth AS booth
              Projection: per_booth.cars, per_booth.booth
                Projection: per_booth.booth, per_booth.window_start, per_booth.cars
                  SubqueryAlias: per_booth
                    StepReference: per_booth
            late <- Late { step: "per_booth", of: Aggregate } 4
            bad <- DeadLetters { name: "entries" } 5
        "#]],
    );
}

#[test]
fn mistakes_are_placed_by_path() {
    check(
        &format!(
            "{SOURCES}
  exits:
    connector: filesystm
    options: {{ path: /tmp/exits }}
    columns: {{ booth: bigit }}
    event_time: {{ column: left }}
steps:
  first:
    sql: SELECT * FROM second
  second:
    sql: |
      SELECT booth,
        plat
      FROM entries
  third:
    sql: SELECT * FROM entries WHERE
sinks:
  stats: {{ from: secnd, connector: print }}
  more: {{ from: entries.lat, connector: print, columns: {{ x: bigint }} }}
  other: {{ from: entries, connector: print, columns: {{ booth: bigint }} }}
"
        ),
        expect![[r#"
            sources.exits.columns.booth: unknown type `bigit`; did you mean `BIGINT`?
            sources.exits.connector: table `exits`: unknown connector `filesystm`; did you mean `filesystem`? (known: blackhole, datagen, filesystem, hybrid, kafka, nexmark, print, request, response, upsert-kafka)
            steps.second.sql 2:3: unknown column `plat`; did you mean `plate`?
            steps.third.sql 1:28: expected an expression, found the end of the statement
            sinks.stats.from: unknown step or source `secnd`; did you mean `second`?
            sinks.more.from: `entries` has no output `lat`; did you mean `late`?; there are `late` (of joins: `late_left` and `late_right`) and `dead_letters`
        "#]],
    );
}

#[test]
fn dead_letters_must_arrive_somewhere() {
    check(
        &format!(
            "{SOURCES}
    on_error: dead_letter
steps:
  plates: {{ on_error: dead_letter, sql: SELECT plate FROM entries }}
  booths: {{ on_error: dead_letter, sql: SELECT booth FROM entries }}
sinks:
  plates_out: {{ from: plates, connector: print, on_error: dead_letter }}
  booths_out: {{ from: booths, connector: print }}
  bad: {{ from: booths.dead_letters, connector: print }}
"
        ),
        expect![[r#"
            sources.entries.on_error: nothing reads the dead letters: add a sink with `from: entries.dead_letters`, or a step, or write `on_error: skip`
            steps.plates.on_error: nothing reads the dead letters: add a sink with `from: plates.dead_letters`, or a step, or write `on_error: skip`
            sinks.plates_out.on_error: a sink has no dead letters: write `fail` or `skip`, or set `dead_letter` on the step that makes the rows
        "#]],
    );
}

#[test]
fn steps_are_written_in_any_order() {
    check(
        &format!(
            "{SOURCES}
steps:
  last:
    sql: WITH booths AS (SELECT booth FROM cheap) SELECT booth FROM booths
  cheap:
    sql: SELECT * FROM all_of WHERE toll < 3
  all_of:
    sql: SELECT * FROM entries
sinks:
  out: {{ from: last, connector: print }}
"
        ),
        expect![[r#"
            all_of =
            Projection: entries.booth, entries.plate, entries.entered, entries.toll
              TableScan: entries
            cheap =
            Projection: all_of.booth, all_of.plate, all_of.entered, all_of.toll
              Filter: CAST(all_of.toll AS Decimal128(22, 2)) < CAST(Int64(3) AS Decimal128(22, 2))
                SubqueryAlias: all_of
                  StepReference: all_of
            last =
            Projection: booths.booth
              SubqueryAlias: booths
                Projection: cheap.booth
                  SubqueryAlias: cheap
                    StepReference: cheap
            out <-
            Projection: last.booth AS booth
              Projection: last.booth
                Projection: last.booth
                  SubqueryAlias: last
                    StepReference: last
        "#]],
    );
    check(
        &format!(
            "{SOURCES}
steps:
  a:
    sql: SELECT * FROM b
  b:
    sql: SELECT booth, count(*) AS n FROM TABLE(TUMBLE(TABLE c, DESCRIPTOR(entered), INTERVAL '1' MINUTE)) GROUP BY booth, window_start, window_end
  c:
    sql: SELECT * FROM entries WHERE booth IN (SELECT booth FROM a)
  d:
    sql: SELECT * FROM c
sinks:
  out: {{ from: d, connector: print }}
"
        ),
        expect![[r#"
            steps.a.sql: these steps form a cycle, so none can be planned first: a -> b -> c -> a
        "#]],
    );
}

/// Follows a hint literally: the source that it describes is planned.
#[test]
fn event_time_of_another_type_is_put_on_a_computed_column() {
    let script = |columns: &str, event_time: &str| {
        format!(
            "name: toll
sources:
  entries:
    connector: filesystem
    options: {{ path: /tmp/entries }}
    format: json
    columns: {{ at: bigint{columns} }}
    event_time: {event_time}
sinks:
  out: {{ from: entries, connector: print }}
"
        )
    };
    let told = planned(&script("", "{ column: at }"));
    let expected = "the watermark's column `at` is of type BIGINT; event time must be TIMESTAMP or TIMESTAMP_LTZ: add a computed \
                    column `ts: { as: \"TO_TIMESTAMP_LTZ(at, 3)\" }` (for milliseconds since 1970; 0 stands for seconds, 6 for \
                    microseconds) under `columns`, and name it in `event_time: { column: ts }`\n";
    assert!(told.ends_with(expected), "{told}");
    let column = ", ts: { as: \"TO_TIMESTAMP_LTZ(at, 3)\" }";
    let plan = planned(&script(column, "{ column: ts }"));
    assert!(plan.starts_with("out <-"), "{plan}");
}

#[test]
fn instants_are_read_in_the_time_zone_of_the_spec() {
    let with_zone = |zone: &str| {
        format!(
            "time_zone: {zone}{SOURCES}
steps:
  local:
    sql: SELECT booth, HOUR(TO_TIMESTAMP_LTZ(booth, 3)) AS h FROM entries
sinks:
  out: {{ from: local, connector: print }}
"
        )
    };
    assert!(planned(&with_zone("Asia/Tokyo")).contains("Asia/Tokyo"));
    assert_eq!(planned(&with_zone("UTC")), planned(&with_zone("Z")));
    check(
        &with_zone("Asia/Tokio"),
        expect![[r#"
            time_zone: `Asia/Tokio` is not a time zone: write the full name of one, such as 'Europe/Berlin', or an offset, such as 'GMT+05:30'
        "#]],
    );
}
