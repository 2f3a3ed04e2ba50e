//! Secrets of options: used by the connector, and shown and stored nowhere.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::test_folder::{TestFolder, text};

/// Starts an object store that refuses every request and repeats its access key. Returns its address and the requests.
#[expect(clippy::disallowed_methods, reason = "a server for the test")]
fn object_store_that_repeats_keys() -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let requests = Arc::new(Mutex::new(String::new()));
    let received = requests.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 8 << 10];
            if let Ok(length) = stream.read(&mut request) {
                let request = String::from_utf8_lossy(&request[..length]).into_owned();
                let key = request.split("Credential=").nth(1).unwrap_or_default();
                let key = key.split('/').next().unwrap_or_default();
                let body = format!("<Error><Code>InvalidAccessKeyId</Code><Message>no key {key}</Message></Error>");
                let answer = format!(
                    "HTTP/1.1 403 Forbidden\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                    body.len()
                );
                received.lock().expect("no test thread has panicked").push_str(&request);
                // The client may have closed the connection.
                drop(stream.write_all(answer.as_bytes()));
            }
        }
    });
    (address, requests)
}

/// Returns the files below a folder that contain the text.
fn files_with(folder: &Path, words: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("an entry").path())
    {
        if entry.is_dir() {
            found.extend(files_with(&entry, words));
        } else if std::fs::read(&entry).is_ok_and(|bytes| String::from_utf8_lossy(&bytes).contains(words)) {
            found.push(entry.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_is_used_and_neither_shown_nor_stored() {
    let (address, requests) = object_store_that_repeats_keys();
    let random = std::collections::hash_map::RandomState::new();
    let secret = format!("KEY{:016x}", std::hash::BuildHasher::hash_one(&random, 1));
    let pipeline = format!(
        "CREATE TABLE t (n BIGINT) WITH ('connector' = 'filesystem', 'path' = 's3://bucket', 'format' = 'json',
  'store.aws_endpoint' = 'http://{address}', 'store.aws_allow_http' = 'true', 'store.aws_region' = 'eu-west-1',
  'store.aws_access_key_id' = '${{secret:access-key}}', 'store.aws_secret_access_key' = '${{secret:access-key}}');
CREATE TABLE out (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT n FROM t;"
    );
    let by_file = TestFolder::new();
    by_file.write("x.sql", &pipeline);
    by_file.write("secrets/access-key", &format!("{secret}\n"));
    let by_variable = TestFolder::new();
    by_variable.write("x.sql", &pipeline);
    for (folder, arguments) in [(&by_file, &["--secrets", "secrets"][..]), (&by_variable, &[])] {
        for action in [&[][..], &["--explain"]] {
            requests.lock().expect("no test thread has panicked").clear();
            let mut command = folder.command(&[&["run", "x.sql"], arguments, action].concat());
            if arguments.is_empty() {
                command.env("MILLSTREAM_SECRET_ACCESS_KEY", &secret);
            }
            let output = command
                .env("MILLSTREAM_LOG", "debug")
                .output()
                .expect("the engine starts");
            let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
            assert!(
                !stdout.contains(&secret) && !stderr.contains(&secret),
                "{stdout}\n{stderr}"
            );
            let is_run = action.is_empty();
            assert_eq!(output.status.success(), !is_run, "{stderr}");
            if is_run {
                assert!(stderr.contains("no key ***"), "{stderr}");
                let requests = requests.lock().expect("no test thread has panicked");
                assert!(requests.contains(&format!("Credential={secret}/")), "{requests}");
            }
        }
    }
    let file = by_file.path("secrets/access-key").display().to_string();
    assert_eq!(files_with(&by_file.path(""), &secret), [file]);
    assert!(files_with(&by_variable.path(""), &secret).is_empty());
}

#[test]
fn a_missing_or_misplaced_secret_is_refused() {
    let folder = TestFolder::new();
    folder.write("secrets/other", "x");
    let pipeline = |options: &str| {
        format!(
            "CREATE TABLE t (n BIGINT) WITH ('connector' = 'kafka', 'brokers' = '127.0.0.1:1', 'format' = 'json', {options});
CREATE TABLE out (n BIGINT) WITH ('connector' = 'blackhole');
INSERT INTO out SELECT n FROM t;"
        )
    };
    folder.write(
        "x.sql",
        &pipeline("'topic' = 't', 'properties.sasl.password' = '${secret:pw}'"),
    );
    let output = folder.command(&["run", "x.sql", "--secrets", "secrets"]).output();
    let output = output.expect("the engine starts");
    let stderr = text(&output.stderr);
    assert!(!output.status.success(), "{stderr}");
    for part in [
        "option 'properties.sasl.password': this process has no secret `pw`",
        "secrets/pw",
        "MILLSTREAM_SECRET_PW",
    ] {
        assert!(stderr.contains(part), "{stderr}");
    }
    folder.write("x.sql", &pipeline("'topic' = '${secret:pw}'"));
    let output = folder.run(&["run", "x.sql", "--dry-run"], 2);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("the option 'topic' cannot refer to a secret"),
        "{stderr}"
    );
    let output = folder.run(&["run", "x.sql", "--secrets", "nowhere"], 2);
    let stderr = text(&output.stderr);
    assert!(
        stderr.contains("--secrets nowhere: this folder does not exist"),
        "{stderr}"
    );
}
