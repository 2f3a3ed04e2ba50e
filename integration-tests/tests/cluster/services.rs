//! Pipelines as services: statuses, limits, replacement and shutdown.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use millstream_integration_tests::http::{self, Response, post_json};
use tempfile::TempDir;

/// A pipeline with a step that may fail, and one with state.
const PIPELINE: &str = "
name: checks
sources:
  payments: { connector: request, columns: { id: bigint, card: string, amount: bigint }, on_error: fail }
steps:
  divided: { sql: 'SELECT id, 100 / amount AS ratio FROM payments', on_error: dead_letter }
  per_card: { sql: 'SELECT card, SUM(amount) AS total FROM payments GROUP BY card' }
sinks:
  ratios: { from: divided, connector: response }
  failed: { from: divided.dead_letters, connector: response, columns: { step: string, payload: bytes } }
  totals: { from: per_card, connector: response }
";
/// A pipeline whose requests take as long as they may: each row is joined with each other one.
const SLOW: &str = "
name: slow
sources:
  n: { connector: request, columns: { n: bigint } }
steps:
  pairs: { sql: 'SELECT a.n + b.n + c.n AS m FROM n AS a CROSS JOIN n AS b CROSS JOIN n AS c' }
  counted: { sql: 'SELECT COUNT(*) AS pairs, MAX(m) AS m FROM pairs' }
sinks:
  out: { from: counted, connector: response }
";
const START_TIMEOUT: Duration = Duration::from_secs(60);

struct Server {
    process: Child,
    port: u16,
    folder: TempDir,
    /// Lines of the log.
    log: mpsc::Receiver<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

impl Server {
    fn start(pipelines: &[(&str, &str)], arguments: &[&str]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = Command::new(millstream_integration_tests::engine());
        command.args(["serve", "--http", "127.0.0.1:0", "--data-dir", "data"]);
        for (name, text) in pipelines {
            fs::write(folder.path().join(name), text).expect("a writable folder");
            command.arg(name);
        }
        command.args(arguments).current_dir(folder.path());
        let mut process = command
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the engine starts");
        let output = process.stderr.take().expect("a pipe");
        let (sender, log) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                sender.send(line).ok();
            }
        });
        let mut server = Self {
            process,
            port: 0,
            folder,
            log,
        };
        let line = server.wait_for("http://127.0.0.1:");
        let address = line.split_once("http://127.0.0.1:").expect("an address").1;
        server.port = address
            .split('/')
            .next()
            .and_then(|port| port.parse().ok())
            .expect("a port");
        server
    }

    /// Waits for a line of the log that contains a text.
    fn wait_for(&self, text: &str) -> String {
        let mut seen = Vec::new();
        let deadline = Instant::now() + START_TIMEOUT;
        while let Ok(line) = self
            .log
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
        {
            if line.contains(text) {
                return line;
            }
            seen.push(line);
        }
        panic!("no line with `{text}`:\n{}", seen.join("\n"));
    }

    fn invoke(&self, body: &str) -> Response {
        post_json(self.port, "/v1/pipelines/checks/invoke", body).expect("a response")
    }

    fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.process.id()).expect("an id");
        // SAFETY: a signal to a process that this test has started and not waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
}

#[track_caller]
fn check(response: &Response, status: u16, body: &str) {
    assert_eq!((response.status, response.body.as_str()), (status, body));
}

#[track_caller]
fn check_failure(response: &Response, status: u16, code: &str, text: &str) {
    let starts = format!("{{\"code\":\"{code}\"");
    let is_right = response.status == status && response.body.starts_with(&starts) && response.body.contains(text);
    assert!(is_right, "{} {}", response.status, response.body);
}

#[test]
fn requests_are_answered_and_refused_by_their_content() {
    let server = Server::start(&[("checks.yaml", PIPELINE)], &["--body-max", "100kb"]);
    let body = r#"[{"id": 1, "card": "a", "amount": 4}, {"id": 2, "card": "a", "amount": 0}, {"id": 3}]"#;
    check(
        &server.invoke(body),
        200,
        concat!(
            r#"{"ratios":[{"id":1,"ratio":25},{"id":3,"ratio":null}],"#,
            r#""totals":[{"card":"a","total":4},{"card":null,"total":null}],"#,
            r#""failed":[{"step":"divided/calc","payload":"eyJpZCI6MiwiY2FyZCI6ImEiLCJhbW91bnQiOjB9"}]}"#
        ),
    );
    check(&server.invoke("[]"), 200, r#"{"ratios":[],"totals":[],"failed":[]}"#);

    check_failure(
        &server.invoke(r#"{"id": 1, "crd": "a"}"#),
        422,
        "invalid_rows",
        "did you mean `card`?",
    );
    check_failure(
        &server.invoke(r#"[{"id": "x"}, {"id": 1.5}]"#),
        422,
        "invalid_rows",
        r#""errors_total":2"#,
    );
    check_failure(&server.invoke(r#"[{"id": 1}"#), 400, "malformed_body", "at byte 10");
    check_failure(
        &server.invoke("7"),
        400,
        "malformed_body",
        "an object or an array of objects",
    );
    check_failure(&server.invoke(&" ".repeat(200_000)), 413, "too_large", "--body-max");

    let send = |method: &str, path: &str, headers: &[(&str, &str)], body: &str| {
        http::request(server.port, method, path, headers, body.as_bytes()).expect("a response")
    };
    let path = "/v1/pipelines/checks/invoke";
    let json = ("Content-Type", "application/json");
    check_failure(&send("GET", path, &[], ""), 405, "method_not_allowed", "use POST");
    check_failure(
        &send("POST", path, &[], "{}"),
        415,
        "content_type",
        "application/x-ndjson",
    );
    check_failure(
        &send("POST", path, &[json, ("Accept", "image/png")], "{}"),
        406,
        "not_acceptable",
        "image/png",
    );
    check_failure(
        &send("POST", path, &[json, ("X-Timeout-Ms", "soon")], "{}"),
        400,
        "invalid_parameter",
        "X-Timeout-Ms is `soon`",
    );
    check_failure(
        &send("POST", "/v1/pipelines/check/invoke", &[json], "{}"),
        404,
        "pipeline_not_found",
        "did you mean `checks`?",
    );
    check_failure(
        &send("GET", "/v1/nothing", &[], ""),
        404,
        "path_not_found",
        "/v1/pipelines",
    );
    let csv = send(
        "POST",
        "/v1/pipelines/checks/validate",
        &[("Content-Type", "text/csv")],
        "id,card,amount\n1,a,2\n2,b,3\n",
    );
    check(&csv, 200, r#"{"valid":true,"rows":{"payments":2}}"#);
    let with_id = send("POST", path, &[json, ("X-Request-Id", "r-7")], "{}");
    assert_eq!(with_id.header("x-request-id"), Some("r-7"));
    let document = send("GET", "/v1/pipelines/checks/openapi.json", &[], "");
    assert!(
        document.body.contains("/v1/pipelines/checks/invoke"),
        "{}",
        document.body
    );
    let metrics = send("GET", "/metrics", &[], "").body;
    assert!(
        metrics.contains(r#"millstream_requests_total{job="checks",status="422"} 2"#),
        "{metrics}"
    );
}

#[test]
fn requests_end_at_their_deadline_and_wait_in_a_bounded_queue() {
    let server = Server::start(&[("slow.yaml", SLOW)], &["--concurrency-max", "1", "--queue-max", "1"]);
    let rows: Vec<String> = (0..3_000).map(|n| format!("{{\"n\": {n}}}")).collect();
    let body = format!("[{}]", rows.join(","));
    let send = |timeout_ms: &str| {
        let headers = [("Content-Type", "application/json"), ("X-Timeout-Ms", timeout_ms)];
        let path = "/v1/pipelines/slow/invoke";
        http::request(server.port, "POST", path, &headers, body.as_bytes()).expect("a response")
    };
    check_failure(&send("50"), 504, "deadline_exceeded", "X-Timeout-Ms");
    std::thread::scope(|scope| {
        let requests: Vec<_> = (0..8).map(|_| scope.spawn(|| send("3000").status)).collect();
        let statuses: Vec<u16> = requests
            .into_iter()
            .map(|request| request.join().expect("a status"))
            .collect();
        let refused = statuses.iter().filter(|status| **status == 429).count();
        let rest = statuses.iter().all(|status| matches!(status, 429 | 504 | 413));
        assert!(rest && (1..8).contains(&refused), "{statuses:?}");
    });
}

#[test]
fn versions_are_replaced_and_the_last_requests_are_answered() {
    let mut server = Server::start(&[("checks.yaml", PIPELINE), ("slow.yaml", SLOW)], &[]);
    let row = r#"{"id": 1, "card": "a", "amount": 4}"#;
    assert!(server.invoke(row).body.contains(r#""ratio":25"#));
    let file = server.folder.path().join("checks.yaml");
    fs::write(&file, PIPELINE.replace("100 /", "200 /")).expect("a writable file");
    server.signal(libc::SIGHUP);
    server.wait_for("read again");
    assert!(server.invoke(row).body.contains(r#""ratio":50"#));
    fs::write(&file, PIPELINE.replace("100 /", "nothing /")).expect("a writable file");
    server.signal(libc::SIGHUP);
    server.wait_for("stay as they are");
    assert!(server.invoke(row).body.contains(r#""ratio":50"#));

    let port = server.port;
    let slow = std::thread::spawn(move || {
        let rows: Vec<String> = (0..600).map(|n| format!("{{\"n\": {n}}}")).collect();
        let headers = [("Content-Type", "application/json"), ("X-Timeout-Ms", "2000")];
        let body = format!("[{}]", rows.join(","));
        http::request(port, "POST", "/v1/pipelines/slow/invoke", &headers, body.as_bytes()).expect("a response")
    });
    let busy = |server: &Server| {
        let list = http::request(server.port, "GET", "/metrics", &[], &[])
            .expect("metrics")
            .body;
        list.contains(r#"millstream_requests_in_progress{job="slow"} 1"#)
    };
    let deadline = Instant::now() + START_TIMEOUT;
    while !busy(&server) {
        assert!(Instant::now() < deadline, "the request does not begin");
        std::thread::sleep(Duration::from_millis(5));
    }
    server.signal(libc::SIGTERM);
    let response = slow.join().expect("a response");
    assert!(
        matches!(response.status, 200 | 413 | 504),
        "{} {}",
        response.status,
        response.body
    );
    let status = server.process.wait().expect("the process ends");
    assert!(status.success(), "{status}");
}

#[test]
fn pipelines_that_cannot_be_served_are_refused_with_the_remedy() {
    #[track_caller]
    fn check(pipeline: &str, arguments: &[&str], expected: &str) {
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("p.yaml");
        fs::write(&file, pipeline).expect("a writable folder");
        let mut command = Command::new(millstream_integration_tests::engine());
        command
            .arg("serve")
            .arg(&file)
            .args(arguments)
            .current_dir(folder.path());
        let output = command.output().expect("the engine starts");
        let error = String::from_utf8_lossy(&output.stderr).replace('\n', " ");
        assert!(output.status.code() == Some(2) && error.contains(expected), "{error}");
    }
    let endless = PIPELINE.replace("connector: request", "connector: datagen");
    check(
        &endless,
        &[],
        "sources.payments: a service reads its requests, and tables that end: `payments`",
    );
    let printed = PIPELINE.replace(
        "totals: { from: per_card, connector: response }",
        "totals: { from: per_card, connector: print }",
    );
    check(
        &printed,
        &[],
        "sinks.totals: a service answers its requests and writes to nothing else yet",
    );
    check(PIPELINE, &["--http", "0.0.0.0:0"], "give --insecure");
}

#[test]
fn a_service_with_tokens_answers_operators_of_its_pipeline() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("tokens.json");
    let file = file.to_str().expect("UTF-8");
    let create = |name: &str, more: &[&str]| {
        let mut command = Command::new(millstream_integration_tests::engine());
        command
            .args(["tokens", "create", "--name", name, "--tokens", file])
            .args(more);
        let output = command.output().expect("the engine starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        format!("Bearer {}", String::from_utf8_lossy(&output.stdout).trim())
    };
    let operator = create("operator", &["--role", "operator", "--pipelines", "checks"]);
    let viewer = create("viewer", &["--role", "viewer"]);
    let server = Server::start(&[("checks.yaml", PIPELINE), ("slow.yaml", SLOW)], &["--tokens", file]);
    let invoke = |pipeline: &str, token: Option<&str>| {
        let path = format!("/v1/pipelines/{pipeline}/invoke");
        let mut headers = vec![("Content-Type", "application/json")];
        headers.extend(token.map(|token| ("Authorization", token)));
        http::request(server.port, "POST", &path, &headers, b"[]").expect("a response")
    };
    check(
        &invoke("checks", Some(&operator)),
        200,
        r#"{"ratios":[],"totals":[],"failed":[]}"#,
    );
    let refused = invoke("checks", None);
    check_failure(&refused, 401, "unauthenticated", "Authorization: Bearer");
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    check_failure(
        &invoke("checks", Some("Bearer mst_other")),
        401,
        "unauthenticated",
        "not known",
    );
    check_failure(&invoke("slow", Some(&operator)), 403, "permission_denied", "`slow`");
    check_failure(&invoke("checks", Some(&viewer)), 403, "permission_denied", "`viewer`");
    let listed = http::request(
        server.port,
        "GET",
        "/v1/pipelines",
        &[("Authorization", &operator)],
        b"",
    );
    let listed = listed.expect("a response").body;
    assert!(listed.contains("checks") && !listed.contains("slow"), "{listed}");
}
