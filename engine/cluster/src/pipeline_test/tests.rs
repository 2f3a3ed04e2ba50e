use std::collections::HashMap;

use millstream_connectors::RowKind;
use millstream_proto::v1;
use millstream_state::store::BackendOptions;

use super::*;
use crate::resolve::{Overrides, resolve};

const SCRIPT: &str = "
CREATE TABLE cars (booth BIGINT, entered TIMESTAMP(3), WATERMARK FOR entered AS entered - INTERVAL '5' SECOND)
WITH ('connector' = 'kafka', 'topic' = 'cars', 'properties.bootstrap.servers' = 'nowhere:1', 'format' = 'json',
      'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset', 'on-error' = 'skip');
CREATE TABLE per_minute (booth BIGINT, minute_start TIMESTAMP(3), n BIGINT) WITH ('connector' = 'print');
CREATE TABLE totals (booth BIGINT, n BIGINT) WITH ('connector' = 'print');
INSERT INTO per_minute SELECT booth, window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE cars, DESCRIPTOR(entered), INTERVAL '1' MINUTE)) GROUP BY booth, window_start, window_end;
INSERT INTO totals SELECT booth, COUNT(*) FROM cars GROUP BY booth;
";
const NOON_US: i64 = 1_767_268_800_000_000;

fn row(kind: RowKind, json: &str) -> Row {
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(json).expect("an object");
    Row {
        kind,
        json: json.to_owned(),
        names: fields.keys().cloned().collect(),
    }
}

fn cars(rows: &[(i64, &str)]) -> Step {
    let rows = rows.iter().map(|(booth, entered)| {
        row(
            RowKind::Insert,
            &format!(r#"{{"booth":{booth},"entered":"2026-01-01 {entered}"}}"#),
        )
    });
    Step::Rows {
        source: "cars".into(),
        rows: rows.collect(),
    }
}

fn case(steps: Vec<Step>, sink: &str, rows: &[(RowKind, &str)], is_changelog: bool) -> Case {
    Case {
        clock_us: NOON_US,
        steps,
        end: true,
        expected: vec![Expected {
            sink: sink.into(),
            rows: rows.iter().map(|(kind, json)| row(*kind, json)).collect(),
            is_changelog,
            is_ordered: is_changelog,
        }],
        error: None,
        late_rows: None,
        bad_rows: None,
    }
}

fn run_case(case: &Case, mode: Mode) -> Result<Vec<String>, Error> {
    let pipeline = v1::Pipeline {
        pipeline: Some(v1::pipeline::Pipeline::Sql(v1::SpecText {
            text: SCRIPT.into(),
            file: "cars.sql".into(),
        })),
        environment: HashMap::new(),
    };
    let overrides = Overrides {
        name: None,
        mode: Some(mode),
    };
    let resolved = resolve(&pipeline, &overrides, case.clock_us).expect("the script is valid");
    let dir = tempfile::tempdir().expect("a folder");
    let backend = Backend::new(BackendOptions {
        dir: dir.path().to_path_buf(),
        memory_bytes: 64 << 20,
        process_gauge: None,
        background_threads: 1,
    })
    .expect("a backend");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    run(&resolved, case, backend, runtime.handle())
}

const INSERT: RowKind = RowKind::Insert;

#[test]
fn stream_and_batch_give_the_rows_of_windows() {
    let steps = vec![cars(&[(1, "12:00:01"), (1, "12:00:02"), (2, "12:01:00")])];
    let rows = [
        (INSERT, r#"{"booth":1,"minute_start":"2026-01-01 12:00:00","n":2}"#),
        (INSERT, r#"{"booth":2,"minute_start":"2026-01-01 12:01:00","n":1}"#),
    ];
    let case = case(steps, "per_minute", &rows, false);
    for mode in [Mode::Stream, Mode::Batch] {
        assert_eq!(
            run_case(&case, mode).expect("a valid case"),
            Vec::<String>::new(),
            "{mode:?}"
        );
    }
}

#[test]
fn steps_advance_the_watermark_and_later_rows_are_late() {
    let steps = vec![cars(&[(1, "12:00:01"), (1, "12:01:30")]), cars(&[(1, "12:00:02")])];
    let rows = [(INSERT, r#"{"booth":1,"minute_start":"2026-01-01 12:00:00","n":1}"#)];
    let mut case = case(steps, "per_minute", &rows, false);
    case.end = false;
    case.late_rows = Some(1);
    assert_eq!(
        run_case(&case, Mode::Stream).expect("a valid case"),
        Vec::<String>::new()
    );
}

#[test]
fn changes_of_a_stream_have_their_kinds() {
    let steps = vec![cars(&[(1, "12:00:01")]), cars(&[(1, "12:00:02")])];
    let rows = [
        (INSERT, r#"{"booth":1,"n":1}"#),
        (RowKind::UpdateBefore, r#"{"booth":1,"n":1}"#),
        (RowKind::UpdateAfter, r#"{"booth":1,"n":2}"#),
    ];
    let mut case = case(steps, "totals", &rows, true);
    case.end = false;
    assert_eq!(
        run_case(&case, Mode::Stream).expect("a valid case"),
        Vec::<String>::new()
    );
}

#[test]
fn differences_name_rows_and_columns() {
    let steps = vec![cars(&[(1, "12:00:01"), (7, "12:00:02")])];
    let rows = [(INSERT, r#"{"booth":1,"n":2}"#), (INSERT, r#"{"booth":3,"n":9}"#)];
    let case = case(steps, "totals", &rows, false);
    let expected = [
        "totals: changed {booth: 1, n: 2}: `n` expected 2, found 1",
        "totals: missing {booth: 3, n: 9}",
        "totals: unexpected {booth: 7, n: 1}",
    ];
    assert_eq!(run_case(&case, Mode::Batch).expect("a valid case"), expected);
}

#[test]
fn records_are_decoded_by_the_format_of_the_source() {
    let steps = vec![Step::Payload {
        source: "cars".into(),
        records: vec![r#"{"booth": 4, "entered": "2026-01-01 12:00:00"}"#.into(), "{".into()],
    }];
    let mut case = case(steps, "totals", &[(INSERT, r#"{"booth":4}"#)], false);
    case.bad_rows = Some(1);
    assert_eq!(
        run_case(&case, Mode::Stream).expect("a valid case"),
        Vec::<String>::new()
    );
}

#[test]
fn names_that_the_pipeline_does_not_have_are_refused() {
    let message = |case: &Case| run_case(case, Mode::Stream).expect_err("refused").to_string();
    let steps = vec![Step::Rows {
        source: "car".into(),
        rows: Vec::new(),
    }];
    let unknown_source = message(&case(steps, "totals", &[], false));
    assert!(
        unknown_source.contains("no source `car`; did you mean `cars`?"),
        "{unknown_source}"
    );
    let unknown_sink = message(&case(Vec::new(), "total", &[], false));
    assert!(
        unknown_sink.contains("no sink `total`; did you mean `totals`?"),
        "{unknown_sink}"
    );
    let unknown_column = message(&case(Vec::new(), "totals", &[(INSERT, r#"{"both":1}"#)], false));
    assert!(
        unknown_column.contains("`both` is not a column; did you mean `booth`?"),
        "{unknown_column}"
    );
}

#[test]
fn the_clock_does_not_go_back() {
    let case = case(vec![Step::Clock(NOON_US - 1)], "totals", &[], false);
    let message = run_case(&case, Mode::Stream).expect_err("refused").to_string();
    assert!(message.contains("the clock only goes forward"), "{message}");
}
