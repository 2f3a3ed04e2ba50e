//! What is refused, with which words and which exit code.

use std::fs;

use crate::place::{Place, free_port, text};

#[test]
fn what_is_wrong_is_said_exactly() {
    let place = Place::new();
    let _standalone = place.standalone();
    #[track_caller]
    fn check(place: &Place, arguments: &[&str], code: i32, expected: &str) {
        let (_, stderr) = place.cli(arguments, code);
        assert!(stderr.contains(expected), "{arguments:?}: {stderr}");
    }

    // A pipeline that does not plan: file, line, column and the line itself.
    let wrong = crate::place::CARS.replace("sum(n) AS total", "sum(m) AS total");
    fs::write(place.path("wrong.yaml"), &wrong).expect("a writable folder");
    let at = wrong
        .lines()
        .position(|line| line.contains("sum(m)"))
        .expect("it is there")
        + 1;
    let column = wrong
        .lines()
        .nth(at - 1)
        .and_then(|line| line.find("sum(m)"))
        .expect("it is there")
        + 5;
    for verb in ["submit", "validate", "explain"] {
        check(
            &place,
            &["jobs", verb, "wrong.yaml"],
            2,
            &format!("error: wrong.yaml:{at}:{column}: "),
        );
    }
    check(&place, &["jobs", "submit", "wrong.yaml"], 2, "sum(m) AS total");
    let output = place.cli_at(&place.url(), &["jobs", "submit", "wrong.yaml", "-o", "json"]);
    let refused: serde_json::Value = serde_json::from_slice(&output.stderr).expect("JSON");
    assert_eq!(refused["code"], "invalid-pipeline");
    assert_eq!(refused["mistakes"][0]["line"], at);

    let (dry, _) = place.cli(&["jobs", "submit", "cars.yaml", "--dry-run"], 0);
    assert!(dry.contains("nothing was submitted"), "{dry}");
    check(&place, &["jobs", "describe", "cars"], 3, "`cars`");
    check(&place, &["checkpoints", "list", "nobody"], 3, "`nobody`");
    check(&place, &["workers", "drain", "nobody"], 3, "`nobody`");
    check(
        &place,
        &["jobs", "submit", "cars.yaml", "--from-checkpoint", "nobody/3"],
        3,
        "nobody",
    );
    check(
        &place,
        &["jobs", "submit", "cars.yaml", "--name", "no/name"],
        2,
        "no/name",
    );

    place.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    check(&place, &["jobs", "submit", "cars.yaml"], 4, "`cars`");
    check(&place, &["jobs", "delete", "cars"], 4, "`cars`");
    check(
        &place,
        &["jobs", "wait", "cars", "--for", "cancelled", "--timeout", "100ms"],
        6,
        "it is running",
    );
    check(&place, &["jobs", "rescale", "cars", "--parallelism", "0"], 2, "auto");
    check(&place, &["jobs", "rescale", "cars", "--parallelism", "1000"], 2, "128");
    place.cli(&["jobs", "cancel", "cars", "--wait"], 0);
    check(
        &place,
        &["jobs", "wait", "cars", "--for", "running"],
        1,
        "`cars` is cancelled",
    );
    check(&place, &["jobs", "stop", "cars"], 4, "`cars`");

    check(&place, &["jobs", "fly"], 2, "unrecognized subcommand");
    check(
        &place,
        &["--context", "nowhere", "jobs", "list", "--server", ""],
        2,
        "address",
    );
    let nobody = format!("127.0.0.1:{}", free_port());
    let output = place.cli_at(&nobody, &["jobs", "list"]);
    assert_eq!(output.status.code(), Some(5), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("cannot be reached"));
}
