//! Servers that require tokens, with tokens made by the command.

use std::fs;
use std::process::Command;

use millstream_integration_tests::{engine, http};

use crate::test_cluster::{TestCluster, free_port, until};

/// Runs `engine tokens` in the cluster's folder; returns standard output.
#[track_caller]
fn tokens(cluster: &TestCluster, arguments: &[&str]) -> String {
    let mut command = Command::new(engine());
    command.arg("tokens").args(arguments).current_dir(cluster.path(""));
    let output = command.output().expect("the engine is built beside this test");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    text.trim().to_string()
}

fn create(cluster: &TestCluster, name: &str, role: &str) -> String {
    let token = tokens(cluster, &["create", "--name", name, "--role", role]);
    fs::write(cluster.path(name), &token).expect("a writable folder");
    token
}

#[test]
fn a_cluster_with_tokens_serves_those_who_have_them() {
    let cluster = TestCluster::new();
    let [viewer, operator] = ["viewer", "operator"].map(|role| create(&cluster, role, role));
    create(&cluster, "worker", "worker");
    let http_port = free_port();
    let (listen, http_address) = (cluster.url(), format!("127.0.0.1:{http_port}"));
    let arguments = [
        "coordinator",
        "--data-dir",
        "data",
        "--tokens",
        "tokens.json",
        "--listen",
        listen.trim_start_matches("http://"),
        "--http",
        &http_address,
    ];
    let _coordinator = cluster.start("coordinator", &arguments);
    let _worker = cluster.worker_with("w", &cluster.url(), &["--token-file", "worker"]);
    let as_operator = [("MILLSTREAM_TOKEN", operator.as_str())];
    until("the worker is ready", || {
        let mut command = cluster.command(&cluster.url(), &["workers", "list", "-o", "json"]);
        let output = command.envs(as_operator).output().expect("it starts");
        String::from_utf8_lossy(&output.stdout).contains("\"ready\"")
    });

    // A worker without a token, or with a token of another role, is refused, and says why.
    let without = cluster.worker("without");
    let wrong = cluster.worker_with("wrong", &cluster.url(), &["--token-file", "operator"]);
    until("both are refused", || {
        without.has_logged("this server requires a token") && wrong.has_logged("this call requires the role `worker`")
    });

    let submit = ["jobs", "submit", "cars.yaml"];
    let (_, stderr) = cluster.cli(&submit, 1);
    assert!(stderr.contains("this server requires a token"), "{stderr}");
    let viewer_file = [("MILLSTREAM_TOKEN_FILE", "viewer")];
    let (_, stderr) = cluster.cli_with(&viewer_file, "out", &submit, 1);
    assert!(stderr.contains("the token `viewer` has the role `viewer`"), "{stderr}");
    let rate = [as_operator[0], ("RATE", "100000")];
    cluster.cli_with(&rate, "out", &submit, 0);
    until("the job has ended", || {
        let (listed, _) = cluster.cli_with(&viewer_file, "out", &["jobs", "describe", "cars", "-o", "json"], 0);
        listed.contains("\"finished\"")
    });

    let get = |headers: &[(&str, &str)]| http::request(http_port, "GET", "/api/v1/jobs", headers, b"");
    let refused = get(&[]).expect("a response");
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (401, Some("Bearer"))
    );
    let authorization = format!("Bearer {viewer}");
    let headers = [("Authorization", authorization.as_str())];
    assert_eq!(get(&headers).expect("a response").status, 200);
    let metrics = http::request(http_port, "GET", "/metrics", &[], b"").expect("a response");
    let counted = r#"millstream_access_denied_total{surface="rest",reason="no_token"} 1"#;
    assert!(metrics.body.contains(counted), "{}", metrics.body);

    tokens(&cluster, &["revoke", "viewer"]);
    until("the token is refused", || {
        get(&headers).is_ok_and(|response| response.status == 401)
    });
}
