//! `engine test`: the tests of the examples, exit codes, differences and reports.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

const PIPELINE: &str = "
name: sums
sources:
  payments: { connector: request, columns: { card: string, amount: bigint } }
steps:
  per_card: { sql: 'SELECT card, SUM(amount) AS total, MAX(100 / amount) AS ratio FROM payments GROUP BY card' }
sinks:
  totals: { from: per_card, connector: response }
mode: serve
modes:
  stream:
    sources: { payments: { connector: kafka, options: { brokers: 'none:1', topic: t }, format: json } }
    sinks: { totals: { connector: print } }
";
const TESTS: &str = "
pipeline: sums.yaml
tests:
  - name: sums
    modes: [stream, serve]
    rows: { payments: [{ card: A, amount: 2 }, { card: A, amount: 3 }] }
    expect: { totals: [{ card: A, total: 5 }] }
  - name: fails
    modes: [stream, serve]
    rows: { payments: [{ card: A, amount: 0 }] }
    error: zero
";

/// Runs `engine test` over these tests of [`PIPELINE`]. Returns the exit code, standard output and standard error.
fn run(folder: &Path, tests: &str, arguments: &[&str]) -> (Option<i32>, String, String) {
    fs::write(folder.join("sums.yaml"), PIPELINE).expect("a writable folder");
    fs::write(folder.join("sums.tests.yaml"), tests).expect("a writable folder");
    let output = Command::new(millstream_integration_tests::engine())
        .args(["test", "sums.tests.yaml"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("the engine starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn tests_run_in_each_of_their_modes() {
    let folder = TempDir::new().expect("a temporary folder");
    let (code, output, errors) = run(folder.path(), TESTS, &["--junit", "report.xml"]);
    assert_eq!(code, Some(0), "{output}{errors}");
    for line in [
        "ok     sums (stream, ",
        "ok     sums (serve, ",
        "ok     fails (serve, ",
        "4 passed, 0 failed",
    ] {
        assert!(output.contains(line), "{output}");
    }
    let report = fs::read_to_string(folder.path().join("report.xml")).expect("a report");
    assert!(report.contains("tests=\"4\" failures=\"0\""), "{report}");
    let (code, output, _) = run(folder.path(), TESTS, &["--filter", "sums"]);
    assert_eq!(code, Some(0), "{output}");
    assert!(output.contains("2 passed, 0 failed"), "{output}");
}

#[test]
fn differences_fail_and_mistakes_are_refused() {
    let folder = TempDir::new().expect("a temporary folder");
    let (code, output, _) = run(folder.path(), &TESTS.replace("total: 5", "total: 6"), &[]);
    assert_eq!(code, Some(1), "{output}");
    assert!(output.contains("`total` expected 6, found 5"), "{output}");
    assert!(output.contains("2 passed, 2 failed"), "{output}");
    let (code, _, errors) = run(folder.path(), &TESTS.replace("expect:", "expects:"), &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("did you mean `expect`?"), "{errors}");
    let (code, _, errors) = run(folder.path(), &TESTS.replace("total: 5", "totl: 5"), &[]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("did you mean `total`?"), "{errors}");
    let (code, _, errors) = run(folder.path(), TESTS, &["--filter", "nothing"]);
    assert_eq!(code, Some(2), "{errors}");
    assert!(errors.contains("no test to run"), "{errors}");
}

#[test]
fn the_examples_pass_their_tests() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let examples = fs::read_dir(checkout.join("examples")).expect("the examples");
    let mut tests = 0;
    for example in examples {
        let folder = example.expect("an example").path();
        let file = folder.join("pipeline.tests.yaml");
        assert!(file.exists(), "{} has no tests", folder.display());
        let output = Command::new(millstream_integration_tests::engine())
            .arg("test")
            .arg(&file)
            .output()
            .expect("the engine starts");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}:\n{text}{errors}", file.display());
        tests += 1;
    }
    assert!(tests > 0, "there are no examples");
}
