//! Listening ports with half-open connections and without file descriptors, and the readiness that they report.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::test_cluster::{Process, TestCluster, free_port, until};

/// Starts a coordinator with this HTTP port.
fn coordinator(cluster: &TestCluster, http: u16) -> Process {
    let (listen, http) = (format!("127.0.0.1:{}", cluster.port), format!("127.0.0.1:{http}"));
    let arguments = [
        "coordinator",
        "--data-dir",
        "data",
        "--listen",
        &listen,
        "--http",
        &http,
    ];
    cluster.start("coordinator", &arguments)
}

/// Returns status and body of a response, if there is one.
fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split_whitespace().nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_string()))
}

fn is_ready(port: u16) -> bool {
    get(port, "/readyz").is_some_and(|(status, _)| status == 200)
}

fn limit_of(pid: i32, change: impl FnOnce(&mut libc::rlimit)) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both pointers are null or valid.
    unsafe {
        let got = libc::prlimit(pid, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut limit);
        assert_eq!(got, 0, "the limit of {pid} can be read");
        change(&mut limit);
        let set = libc::prlimit(pid, libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut());
        assert_eq!(set, 0, "the limit of {pid} can be set");
    }
}

/// Opens connections that send a part of a request and never the rest.
fn half_open(port: u16, count: usize) -> Vec<TcpStream> {
    let open = |_| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: te").ok()?;
        Some(stream)
    };
    (0..count).filter_map(open).collect()
}

#[test]
fn half_open_requests_do_not_keep_others_out() {
    const CONNECTIONS: usize = 1_500;
    // This process has the other end of each connection.
    limit_of(0, |limit| limit.rlim_cur = limit.rlim_max.min(8_192));
    let (cluster, http) = (TestCluster::new(), free_port());
    let mut process = coordinator(&cluster, http);
    until("it is ready", || is_ready(http));
    let began = Instant::now();
    let mut held = half_open(http, CONNECTIONS);
    assert_eq!(held.len(), CONNECTIONS);
    // The HTTP port is full; the gRPC port has its own limit.
    cluster.cli(&["jobs", "list"], 0);
    until("the half-open requests are given up", || is_ready(http));
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "HEADER_TIMEOUT is 10 s, it took {:?}",
        began.elapsed()
    );
    assert!(process.has_logged("HTTP_CONNECTIONS_MAX"), "{}", process.log());
    // All of them were closed at the other end.
    until("all are closed", || {
        held.retain_mut(|stream| {
            stream
                .set_read_timeout(Some(Duration::from_millis(1)))
                .expect("a socket");
            match stream.read(&mut [0; 256]) {
                Ok(bytes) => bytes > 0,
                Err(error) => [ErrorKind::WouldBlock, ErrorKind::TimedOut].contains(&error.kind()),
            }
        });
        held.is_empty()
    });

    // The same at the gRPC port: connections without HTTP/2.
    let silent: Vec<TcpStream> = (0..CONNECTIONS)
        .map(|_| TcpStream::connect(("127.0.0.1", cluster.port)).expect("it listens"))
        .collect();
    cluster.cli(&["jobs", "list"], 0);
    assert!(is_ready(http));
    until("silent connections are closed", || {
        let mut first = silent.first().expect("there are some");
        first
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a socket");
        matches!(first.read(&mut [0; 256]), Ok(0))
    });
    assert!(!process.has_ended());
}

#[test]
fn the_body_of_a_request_does_not_take_for_ever() {
    let (cluster, http) = (TestCluster::new(), free_port());
    let _process = coordinator(&cluster, http);
    until("it is ready", || is_ready(http));
    let mut stream = TcpStream::connect(("127.0.0.1", http)).expect("it listens");
    let head = "POST /api/v1/validate HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).expect("it listens");
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a socket");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it is answered and closed");
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("BODY_TIMEOUT"),
        "{answer}"
    );
}

/// Returns the CPU time of a process in seconds.
fn cpu_seconds(pid: i32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("its name").1.split_whitespace().collect();
    let ticks: u64 = fields[11..13]
        .iter()
        .map(|ticks| ticks.parse::<u64>().expect("a number"))
        .sum();
    ticks as f64 / 100.0
}

#[test]
fn without_file_descriptors_a_coordinator_neither_dies_nor_spins() {
    let (cluster, http) = (TestCluster::new(), free_port());
    let mut process = coordinator(&cluster, http);
    until("it is ready", || is_ready(http));
    let pid = process.pid();
    let mut before = 0;
    limit_of(pid, |limit| {
        before = limit.rlim_cur;
        // Fewer than the process has open.
        limit.rlim_cur = 8;
    });
    let waiting: Vec<TcpStream> = [http, cluster.port]
        .into_iter()
        .flat_map(|port| half_open(port, 20))
        .collect();
    until("it says so", || process.has_logged("no connection can be accepted"));
    let (began, used) = (Instant::now(), cpu_seconds(pid));
    // Longer than the interval of warnings.
    until("a while has passed", || began.elapsed() > Duration::from_secs(3));
    let used = cpu_seconds(pid) - used;
    assert!(used < 1.5, "{used} s of processor time within 3 s");
    assert!(!process.has_ended());
    limit_of(pid, |limit| limit.rlim_cur = before);
    drop(waiting);
    until("it accepts again", || is_ready(http));
    cluster.cli(&["jobs", "list"], 0);
}

#[test]
fn a_leader_that_cannot_write_its_data_folder_is_not_ready_and_says_why() {
    let (cluster, http) = (TestCluster::new(), free_port());
    let _process = coordinator(&cluster, http);
    until("it is ready", || is_ready(http));
    // Existing objects can be read; nothing new can be written, as on a full disk.
    let probe = cluster.path("data/probe");
    until("a file is in the way", || {
        fs::remove_dir_all(&probe).ok();
        fs::write(&probe, "in the way").is_ok()
    });
    let mut said = String::new();
    until("it is not ready", || {
        get(http, "/readyz").is_some_and(|(status, body)| {
            said = body;
            status == 503
        })
    });
    assert!(
        said.contains("the data folder cannot be used") && said.contains("probe"),
        "{said}"
    );
    cluster.cli(&["jobs", "list"], 0);
    fs::remove_file(&probe).expect("it is there");
    until("it is ready again", || is_ready(http));

    // The storage has been removed.
    fs::rename(cluster.path("data"), cluster.path("away")).expect("a folder can be renamed");
    fs::write(cluster.path("data"), "in the way").expect("a writable folder");
    until("it is not ready", || {
        get(http, "/readyz").is_some_and(|(status, body)| {
            said = body;
            status == 503
        })
    });
    fs::remove_file(cluster.path("data")).expect("it is there");
    fs::rename(cluster.path("away"), cluster.path("data")).expect("a folder can be renamed");
    until("it is ready again", || is_ready(http));
}
