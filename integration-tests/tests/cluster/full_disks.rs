//! Full disks: jobs and processes wait with that as their reason, and continue by themselves when there is space.

use std::fs;
use std::process::{Command, Stdio};
use std::task::Waker;

use millstream_integration_tests::engine;
use millstream_state::Error;
use millstream_state::key_group::{KeyGroup, KeyGroupRange};
use millstream_state::store::{Backend, BackendOptions, FlushSource, KeyPrefix, Store, WriteChunk};
use serde_json::Value;

use crate::small_disk::SmallDisk;
use crate::test_cluster::{Process, TestCluster, expected, is_finished_job, text, until};

/// Incompressible rows in ascending or descending order.
struct Rows {
    keys: Vec<u64>,
}

impl Rows {
    const VALUE_BYTES: usize = 4096;

    fn new(count: u64, is_ascending: bool) -> Box<Self> {
        let mut keys: Vec<u64> = (0..count).collect();
        if is_ascending {
            keys.reverse();
        }
        Box::new(Self { keys })
    }
}

impl FlushSource for Rows {
    fn next_chunk(&mut self) -> Result<Option<WriteChunk>, Error> {
        let slot = KeyPrefix {
            group: KeyGroup(0),
            namespace: 0,
        };
        let mut chunk = WriteChunk::default();
        while chunk.bytes() < 1 << 20
            && let Some(key) = self.keys.pop()
        {
            let mut noise = key.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let value = std::iter::repeat_with(|| {
                noise ^= noise << 13;
                noise ^= noise >> 7;
                noise ^= noise << 17;
                noise as u8
            });
            let value: Vec<u8> = value.take(Self::VALUE_BYTES).collect();
            chunk.put(slot, &key.to_be_bytes(), &value);
        }
        Ok((!chunk.is_empty()).then_some(chunk))
    }
}

fn settled(store: &mut Store) -> Result<(), Error> {
    let mut result = Ok(());
    until("the store has done its work", || match store.poll_idle(Waker::noop()) {
        Ok(is_idle) => is_idle,
        Err(error) => {
            result = Err(error);
            true
        }
    });
    result
}

#[track_caller]
fn says_full(result: Result<(), Error>, disk: &SmallDisk) {
    let words = format!("no space left on {}, ", disk.root().display());
    match result {
        Err(Error::DiskFull(said)) => assert!(said.starts_with(&words), "{said}"),
        other => panic!("not a full disk: {other:?}"),
    }
}

#[test]
fn a_database_on_a_full_disk_says_so_from_then_on_and_a_new_one_works_when_there_is_space() {
    // RocksDB's threads keep the mount namespace in which the first of them was started: one disk for all tests.
    let (_cluster, disk) = cluster_with_disk();
    // By flushes of the write buffer, by sorted files, and by the flush of a snapshot.
    for (is_ascending, first_count) in [(false, 20_000), (true, 20_000), (true, 200)] {
        let backend = Backend::new(BackendOptions {
            dir: disk.path(&format!("state-{is_ascending}-{first_count}")),
            memory_bytes: 32 << 20,
            process_gauge: None,
            background_threads: 1,
        })
        .expect("there is space");
        let range = KeyGroupRange { start: 0, end: 1 };
        let mut store = backend.store("rows", range);
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        store.write(Rows::new(1, true), None).expect("it is queued");
        settled(&mut store).expect("there is space");
        disk.fill();
        let is_flushed = first_count > 200;
        let written = store
            .write(Rows::new(first_count, is_ascending), None)
            .and_then(|()| settled(&mut store));
        if is_flushed {
            says_full(written, &disk);
            says_full(store.write(Rows::new(1, true), None), &disk);
        } else {
            written.expect("it fits into the write buffer");
            let ticket = store.snapshot(1).expect("it is queued");
            says_full(runtime.block_on(ticket.finished).map(|_| ()), &disk);
        }
        drop(store);
        disk.free();
        let mut store = backend.store("rows", range);
        store.write(Rows::new(200, true), None).expect("it is queued");
        settled(&mut store).expect("there is space again");
    }
}

const DISK_BYTES: u64 = 96 << 20;

/// Creates a test cluster with a small disk mounted at `disk` in its folder.
fn cluster_with_disk() -> (TestCluster, SmallDisk) {
    let cluster = TestCluster::new();
    let disk = SmallDisk::mount(cluster.path("disk"), DISK_BYTES);
    (cluster, disk)
}

fn worker_over(cluster: &TestCluster, name: &str, folder: &str) -> Process {
    let url = cluster.url();
    let listen = ["--listen", "127.0.0.1:0", "--memory", "128mb"];
    let arguments = [
        "worker",
        "--coordinator",
        &url,
        "--name",
        name,
        "--slots",
        "2",
        "--data-dir",
        folder,
    ];
    cluster.start(name, &[&arguments[..], &listen[..]].concat())
}

/// Submits a job that runs for half a minute.
fn submit_slowly(cluster: &TestCluster, out: &str) {
    cluster.cli_with(&[("RATE", "700")], out, &["jobs", "submit", "cars.yaml", "--wait"], 0);
}

/// Keeps the disk full until the job has been restarted so often and waits for space; the reason must say so after
/// `before`.
#[track_caller]
fn until_it_waits_for_space(cluster: &TestCluster, disk: &SmallDisk, before: &str, more_restarts: u64) {
    let words = format!("{before}no space left on {}, 0 MB free", disk.root().display());
    let restarts = || cluster.job("cars")["restarts"].as_u64().unwrap_or(0);
    let restarts_before = restarts();
    let mut last = Value::Null;
    until(&format!("the job says `{words}`"), || {
        disk.fill();
        last = cluster.job("cars");
        assert!(
            !["failed", "finished"].contains(&last["state"].as_str().unwrap_or_default()),
            "{last}"
        );
        last["reason"].as_str().is_some_and(|reason| reason.contains(&words))
            && restarts() >= restarts_before + more_restarts
    });
    let (why, _) = cluster.cli(&["jobs", "why", "cars"], 0);
    assert!(why.contains(&words), "{why}");
    let (list, _) = cluster.cli(&["jobs", "list", "-o", "wide"], 0);
    assert!(list.contains(&words), "{list}");
}

#[track_caller]
fn until_the_output_is_exact(cluster: &TestCluster, out: &str) {
    until("the job is finished", || {
        is_finished_job(&cluster.cli_at(&cluster.url(), &["jobs", "describe", "cars", "-o", "json"]))
    });
    assert_eq!(cluster.lines(out), expected());
}

#[test]
fn a_job_waits_while_the_disk_of_a_worker_is_full_and_goes_on_by_itself() {
    let (cluster, disk) = cluster_with_disk();
    let _coordinator = cluster.coordinator();
    let _worker = worker_over(&cluster, "w", "disk/w");
    cluster.until_workers(1);
    submit_slowly(&cluster, "out");
    cluster.until_checkpoints("cars", 2);
    disk.fill();
    until_it_waits_for_space(&cluster, &disk, "worker w: ", 3);
    disk.free();
    until_the_output_is_exact(&cluster, "out");
}

#[test]
fn a_worker_that_starts_on_a_full_disk_says_so_and_works_once_there_is_space() {
    let (cluster, disk) = cluster_with_disk();
    disk.fill();
    let _coordinator = cluster.coordinator();
    let _worker = worker_over(&cluster, "w", "disk/w");
    cluster.until_workers(1);
    cluster.cli_with(&[("RATE", "20000")], "out", &["jobs", "submit", "cars.yaml"], 0);
    until_it_waits_for_space(&cluster, &disk, "worker w: ", 3);
    disk.free();
    until_the_output_is_exact(&cluster, "out");
}

#[test]
fn a_job_waits_while_the_disk_of_a_file_sink_is_full_and_its_output_is_exact() {
    let (cluster, disk) = cluster_with_disk();
    let _coordinator = cluster.coordinator();
    let _worker = worker_over(&cluster, "w", "w");
    cluster.until_workers(1);
    submit_slowly(&cluster, "disk/out");
    cluster.until_checkpoints("cars", 2);
    disk.fill();
    let mut last = Value::Null;
    until("the job waits for space", || {
        disk.fill();
        last = cluster.job("cars");
        let reason = last["reason"].as_str().unwrap_or_default();
        reason.contains("No space left on device")
            && reason.contains("disk/out")
            && last["restarts"].as_u64() >= Some(3)
    });
    let reason = last["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("worker w: "), "{reason}");
    disk.free();
    until_the_output_is_exact(&cluster, "disk/out");
}

#[test]
fn a_leader_on_a_full_disk_ends_no_job_acknowledges_nothing_and_recovers() {
    let (cluster, disk) = cluster_with_disk();
    let lead = |cluster: &TestCluster| {
        cluster.start(
            "coordinator",
            &[
                "coordinator",
                "--data-dir",
                "disk/data",
                "--listen",
                &format!("127.0.0.1:{}", cluster.port),
                "--http",
                "127.0.0.1:0",
            ],
        )
    };
    let mut coordinator = lead(&cluster);
    let _worker = worker_over(&cluster, "w", "w");
    cluster.until_workers(1);
    submit_slowly(&cluster, "out");
    cluster.until_checkpoints("cars", 2);
    disk.fill();
    // Requests that are not durable are not acknowledged.
    let cars = fs::read_to_string(cluster.path("cars.yaml")).expect("it is written");
    fs::write(cluster.path("more.yaml"), cars.replace("name: cars", "name: more")).expect("a writable folder");
    let refused = cluster.cli_at(&cluster.url(), &["jobs", "submit", "more.yaml"]);
    assert!(!refused.status.success(), "{}", text(&refused.stdout));
    assert!(
        text(&refused.stderr).contains("no space left on"),
        "{}",
        text(&refused.stderr)
    );
    let listed = cluster.json(&["jobs", "list"]);
    assert_eq!(listed["jobs"].as_array().map_or(0, Vec::len), 1, "{listed}");
    until_it_waits_for_space(&cluster, &disk, "the cluster's journal cannot be written: ", 0);

    // A process that starts on a full disk also waits for space.
    coordinator.kill();
    let mut next = lead(&cluster);
    until("it says why it does not lead", || {
        disk.fill();
        next.has_logged("no space left on")
    });
    assert!(!next.has_ended(), "{}", next.log());
    disk.free();
    cluster.until_workers(1);
    until_the_output_is_exact(&cluster, "out");
    // Despite repeated attempts while the disk was full, only one job was submitted.
    let jobs = cluster.json(&["jobs", "list", "--all"]);
    assert_eq!(jobs["jobs"].as_array().map_or(0, Vec::len), 1, "{jobs}");
}

#[test]
fn engine_run_waits_for_space_and_its_output_is_exact() {
    let (cluster, disk) = cluster_with_disk();
    disk.fill();
    let log = cluster.path("run.log");
    let mut run = Command::new(engine())
        .args(["run", "cars.yaml", "--data-dir", "disk/data", "--memory", "128mb"])
        .current_dir(cluster.path(""))
        .env("OUT", cluster.path("out"))
        .env("RATE", "1500")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).expect("a writable folder"))
        .spawn()
        .expect("the engine is built beside this test");
    let said = |words: &str| fs::read_to_string(&log).is_ok_and(|text| text.matches(words).count() >= 2);
    until("it waits for space at its start", || said("no space left on"));
    disk.free();
    until("some of its output is there", || !cluster.lines("out").is_empty());
    disk.fill();
    until("it restarts for want of space", || {
        disk.fill();
        said("restarting from checkpoint")
    });
    disk.free();
    let mut status = None;
    until("it has finished", || {
        status = run.try_wait().expect("a child can be asked");
        status.is_some()
    });
    let log = fs::read_to_string(&log).unwrap_or_default();
    assert!(status.is_some_and(|status| status.success()), "{log}");
    assert_eq!(cluster.lines("out"), expected());
}
