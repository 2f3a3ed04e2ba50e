//! Error messages of the binary: all mistakes at once, each with its place and the correction; exit code 2.

use std::io::{Read, Write};
use std::net::TcpListener;

use crate::test_folder::{TestFolder, text};

#[track_caller]
fn check(file: &str, content: &str, expected: &[&str]) {
    let folder = TestFolder::new();
    folder.write(file, content);
    let output = folder.run(&["run", file, "--dry-run"], 2);
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
    let folder = TestFolder::new();
    folder.write("x.txt", "hello");
    folder.write("good.yaml", GOOD);
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
        let output = folder.run(arguments, 2);
        assert!(
            text(&output.stderr).starts_with("error: "),
            "{arguments:?}: {}",
            text(&output.stderr)
        );
    }
}

#[test]
fn a_missing_input_or_unwritable_place_is_named() {
    let folder = TestFolder::new();
    folder.write(
        "x.sql",
        "CREATE TABLE t (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 'nowhere/at/all.json', 'format' = 'json');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT n FROM t;",
    );
    let output = folder.command(&["run", "x.sql"]).output().expect("the engine starts");
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

    folder.write("good.yaml", GOOD);
    folder.write("file", "");
    let output = folder.run(&["run", "good.yaml", "--data-dir", "file/below"], 1);
    assert!(text(&output.stderr).contains("file/below"), "{}", text(&output.stderr));
}

#[test]
fn the_listings_say_what_there_is() {
    let folder = TestFolder::new();
    let schema = text(&folder.run(&["schema"], 0).stdout);
    assert!(schema.contains("\"event_time\""), "{schema}");
    let connectors = text(&folder.run(&["connectors"], 0).stdout);
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
    assert!(text(&folder.run(&["version"], 0).stdout).starts_with("engine "));
    assert!(text(&folder.run(&["checkpoints", "nothing"], 0).stdout).contains("no checkpoints of `nothing`"));
}

#[test]
fn dry_run_and_explain_run_nothing() {
    let folder = TestFolder::new();
    folder.write("good.yaml", GOOD);
    let output = folder.run(&["run", "good.yaml", "--dry-run"], 0);
    assert!(
        text(&output.stdout).starts_with("good is valid"),
        "{}",
        text(&output.stdout)
    );
    let output = folder.run(&["run", "good.yaml", "--explain"], 0);
    assert!(text(&output.stdout).contains("numbers"), "{}", text(&output.stdout));
    assert!(!folder.path(".millstream").exists());
}

/// Starts a server that answers every request with this status and body. Returns its address.
#[expect(clippy::disallowed_methods, reason = "a server for the test")]
fn object_store_that_says(status: &'static str, body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8 << 10];
            if stream.read(&mut request).is_ok() {
                let length = body.len();
                let answer =
                    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
                // The client may have closed the connection.
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    address
}

#[test]
fn an_object_store_that_cannot_be_used_is_said_with_the_setting() {
    let address = object_store_that_says(
        "403 Forbidden",
        "<Error><Code>InvalidAccessKeyId</Code><Message>no such key</Message></Error>",
    );
    let endpoint = format!("http://{address}");
    #[track_caller]
    fn check(folder: &TestFolder, environment: &[(&str, &str)], expected: &str) {
        let output = folder
            .command(&["run", "good.yaml"])
            .env("AWS_ACCESS_KEY_ID", "me")
            .env("AWS_SECRET_ACCESS_KEY", "mine")
            .env("AWS_REGION", "eu-west-1")
            .envs(environment.iter().copied())
            .output()
            .expect("the engine starts");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains(expected), "`{expected}` is not in:\n{stderr}");
    }
    let folder = TestFolder::new();
    folder.write(
        "good.yaml",
        &format!("{GOOD}checkpoints: {{ storage: 's3://bucket/checkpoints' }}\n"),
    );
    let environment = [("AWS_ENDPOINT", endpoint.as_str())];
    let expected = format!(
        "AWS_ENDPOINT={endpoint} is an endpoint without TLS, which must be allowed: set AWS_ALLOW_HTTP=true, or name an \
         https:// endpoint"
    );
    check(&folder, &environment, &expected);
    let environment = [("AWS_ENDPOINT", endpoint.as_str()), ("AWS_ALLOW_HTTP", "true")];
    check(
        &folder,
        &environment,
        "the object store does not know the access key: check AWS_ACCESS_KEY_ID (",
    );

    // A table with its own settings.
    let reading = |allow_http: &str| {
        format!(
            "CREATE TABLE t (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 's3://bucket', 'format' = 'json',
  'store.aws_endpoint' = '{endpoint}', 'store.aws_allow_http' = '{allow_http}');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT n FROM t;"
        )
    };
    let folder = TestFolder::new();
    folder.write("x.sql", &reading("false"));
    let run = |folder: &TestFolder| {
        let output = folder
            .command(&["run", "x.sql"])
            .env("AWS_ACCESS_KEY_ID", "me")
            .env("AWS_SECRET_ACCESS_KEY", "mine")
            .output()
            .expect("the engine starts");
        text(&output.stderr)
    };
    let stderr = run(&folder);
    let expected = format!("'store.aws_endpoint' = '{endpoint}' is an endpoint without TLS");
    assert!(stderr.contains(&expected), "{stderr}");
    folder.write("x.sql", &reading("true"));
    let stderr = run(&folder);
    let expected = "the object store does not know the access key: check 'store.aws_access_key_id' (";
    assert!(stderr.contains(expected), "{stderr}");
}

#[test]
fn a_run_whose_reader_has_gone_ends_at_once() {
    use std::io::BufRead;

    let folder = TestFolder::new();
    folder.write(
        "x.sql",
        "CREATE TABLE t (n BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '1000', 'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '1000000');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'print');
INSERT INTO out SELECT n FROM t;",
    );
    let mut command = folder.command(&["run", "x.sql"]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().expect("the engine starts");
    let mut line = String::new();
    let stdout = child.stdout.take().expect("it is piped");
    std::io::BufReader::new(stdout).read_line(&mut line).expect("a row");
    assert!(line.contains("+I["), "{line}");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("cannot print to standard output: it was closed by its reader"),
        "{stderr}"
    );
    assert!(!stderr.contains("restarting"), "{stderr}");
}
