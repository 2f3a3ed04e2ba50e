//! What is wrong is said at once, all of it, with its place and what would be right; exit code 2.

use crate::process::{Place, text};

#[track_caller]
fn check(file: &str, content: &str, expected: &[&str]) {
    let place = Place::new();
    place.write(file, content);
    let output = place.run(&["run", file, "--dry-run"], 2);
    let stderr = text(&output.stderr);
    for expected in expected {
        assert!(stderr.contains(expected), "`{expected}` is not in:\n{stderr}");
    }
    assert_eq!(text(&output.stdout), "");
}

const GOOD: &str = "name: good
sources:
  numbers:
    connector: datagen
    options: { number-of-rows: 10 }
    columns: { n: bigint, ts: timestamp(3) }
    event_time: { column: ts }
steps:
  big: { sql: SELECT n FROM numbers WHERE n > 5 }
sinks:
  out: { from: big, connector: print }
";

#[test]
fn malformed_yaml_is_refused_with_its_line() {
    check(
        "x.yaml",
        "name: [a\nb: }\n",
        &["error: x.yaml:2:2: this is not valid YAML"],
    );
    check("x.yaml", "", &["error: x.yaml: the file is empty"]);
    check(
        "x.json",
        "{\"name\": \"a\", \"sources\": {}, \"sinks\": {}, \"sink\": 1}",
        &["unknown field `sink`; did you mean `sinks`?"],
    );
}

#[test]
fn every_mistake_of_a_spec_is_said_at_once() {
    let text = GOOD
        .replace("name: good", "nmae: good")
        .replace("connector: print", "conector: print");
    check(
        "x.yaml",
        &text,
        &[
            "error: x.yaml:1:1: unknown field `nmae`; did you mean `name`?\n    1 | nmae: good\n      | ^\n",
            "`name` is missing",
            "error: x.yaml:11:21: sinks.out: unknown field `conector`; did you mean `connector`?",
        ],
    );
}

#[test]
fn unknown_connectors_options_and_columns_are_refused_with_suggestions() {
    check(
        "x.yaml",
        &GOOD.replace("connector: datagen", "connector: datagn"),
        &["datagn", "did you mean", "datagen"],
    );
    check(
        "x.yaml",
        &GOOD.replace("number-of-rows", "number-of-row"),
        &["x.yaml:5:", "number-of-row", "number-of-rows"],
    );
    check("x.yaml", &GOOD.replace("n > 5", "m > 5"), &["x.yaml:9:", "m"]);
    check(
        "x.yaml",
        &GOOD.replace("from: big", "from: bigg"),
        &["x.yaml:11:", "bigg", "big"],
    );
    check(
        "x.yaml",
        &GOOD.replace("n: bigint", "n: bigintt"),
        &["x.yaml:6:", "bigintt"],
    );
    check(
        "x.yaml",
        &GOOD.replace("column: ts", "column: tss"),
        &["x.yaml:7:", "tss"],
    );
    check(
        "x.yaml",
        &GOOD.replace("SELECT n FROM", "SELEC n FROM"),
        &["x.yaml:9:", "SELEC"],
    );
}

#[test]
fn a_script_shows_the_line_and_a_caret() {
    let script = "CREATE TABLE t (n BIGINT) WITH ('connector' = 'datagen', 'number-of-rows' = '3');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'print');
INSERT INTO out
SELECT nn FROM t;
";
    check(
        "x.sql",
        script,
        &[
            "error: x.sql:4:8: ",
            "nn",
            "    4 | SELECT nn FROM t;\n      |        ^",
        ],
    );
    check("x.sql", "SELECT FROM WHERE", &["error: x.sql:1:"]);
}

#[test]
fn environment_variables_that_are_not_set_are_named() {
    let text = GOOD.replace("number-of-rows: 10", "number-of-rows: \"${MILLSTREAM_TEST_NOT_SET}\"");
    check("x.yaml", &text, &["x.yaml:5:", "MILLSTREAM_TEST_NOT_SET", "not set"]);
}

#[test]
fn wrong_arguments_are_usage_errors() {
    let place = Place::new();
    place.write("x.txt", "hello");
    place.write("good.yaml", GOOD);
    for arguments in [
        &["run"][..],
        &["run", "missing.yaml"],
        &["run", "x.txt"],
        &["run", "."],
        &["run", "good.yaml", "--mode", "both"],
        &["run", "good.yaml", "--memory", "lots"],
        &["run", "good.yaml", "--parallelism", "0"],
        &["run", "good.yaml", "--parallelism", "1000"],
        &["run", "good.yaml", "--fresh", "--from-checkpoint", "3"],
        &["run", "good.yaml", "--checkpoint-interval", "10"],
        &["frobnicate"],
        &["connectors", "nothing-such"],
    ] {
        let output = place.run(arguments, 2);
        assert!(
            text(&output.stderr).starts_with("error: "),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_missing_input_or_unwritable_place_is_named() {
    let place = Place::new();
    place.write(
        "x.sql",
        "CREATE TABLE t (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'nowhere/at/all.json', 'format' = 'json');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT n FROM t;",
    );
    let output = place.command(&["run", "x.sql"]).output().expect("the engine starts");
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "{:?}: {}",
        output.status,
        text(&output.stderr)
    );
    assert!(
        text(&output.stderr).contains("nowhere/at/all.json"),
        "{}",
        text(&output.stderr)
    );
    assert!(
        text(&output.stderr).contains("error: x.sql: "),
        "{}",
        text(&output.stderr)
    );

    place.write("good.yaml", GOOD);
    place.write("file", "");
    let output = place.run(&["run", "good.yaml", "--data-dir", "file/below"], 1);
    assert!(text(&output.stderr).contains("file/below"), "{}", text(&output.stderr));
}

#[test]
fn the_listings_say_what_there_is() {
    let place = Place::new();
    let schema = text(&place.run(&["schema"], 0).stdout);
    assert!(schema.contains("\"event_time\""), "{schema}");
    let connectors = text(&place.run(&["connectors"], 0).stdout);
    for name in [
        "filesystem",
        "kafka",
        "nexmark",
        "print",
        "blackhole",
        "datagen",
        "json",
        "csv",
    ] {
        assert!(connectors.contains(&format!("{name} (")), "{name}: {connectors}");
    }
    assert!(text(&place.run(&["version"], 0).stdout).starts_with("engine "));
    assert!(text(&place.run(&["checkpoints", "nothing"], 0).stdout).contains("no checkpoints of `nothing`"));
}

#[test]
fn dry_run_and_explain_run_nothing() {
    let place = Place::new();
    place.write("good.yaml", GOOD);
    let output = place.run(&["run", "good.yaml", "--dry-run"], 0);
    assert!(
        text(&output.stdout).starts_with("good is valid"),
        "{}",
        text(&output.stdout)
    );
    let output = place.run(&["run", "good.yaml", "--explain"], 0);
    assert!(text(&output.stdout).contains("numbers"), "{}", text(&output.stdout));
    assert!(!place.path(".millstream").exists());
}
