//! A worker's data folder belongs to one cluster.

use std::fs;
use std::path::Path;

use crate::test_cluster::{Process, TestCluster, until};

/// Starts a worker of the cluster with any data folder.
fn worker(cluster: &TestCluster, folder: &Path) -> Process {
    let (url, folder) = (cluster.url(), folder.to_str().expect("a path in UTF-8"));
    let listen = "127.0.0.1:0";
    cluster.start(
        "worker",
        &[
            "worker",
            "--coordinator",
            &url,
            "--name",
            "w",
            "--slots",
            "1",
            "--listen",
            listen,
            "--memory",
            "128mb",
            "--data-dir",
            folder,
        ],
    )
}

#[test]
fn a_worker_over_another_clusters_folder_is_refused_and_the_folder_stays_as_it_was() {
    let (ours, theirs) = (TestCluster::new(), TestCluster::new());
    let (_here, _there) = (ours.coordinator(), theirs.coordinator());
    let folder = ours.path("w");
    // A folder without a cluster id that is not empty.
    fs::create_dir_all(folder.join("state/kept")).expect("a writable folder");
    let mut first = worker(&ours, &folder);
    ours.until_workers(1);
    let id = ours.json(&["cluster", "info"])["cluster_id"]
        .as_str()
        .map(str::to_string);
    let written = fs::read_to_string(folder.join("cluster-id")).expect("it is written");
    assert_eq!(Some(written.trim()), id.as_deref());
    first.kill();

    // Content that a start with its own folder would delete.
    let left = folder.join("state/stores/left");
    fs::create_dir_all(&left).expect("a writable folder");
    let mut astray = worker(&theirs, &folder);
    until("the worker is refused", || astray.has_ended());
    for words in ["belongs to cluster", folder.to_str().unwrap_or_default(), "--data-dir"] {
        assert!(astray.has_logged(words), "{words}: {}", astray.log());
    }
    assert!(left.exists(), "nothing was deleted");
    assert_eq!(
        fs::read_to_string(folder.join("cluster-id")).expect("it is still there"),
        written
    );
    let workers = theirs.json(&["workers", "list"])["workers"]
        .as_array()
        .map_or(0, Vec::len);
    assert_eq!(workers, 0);

    let _again = worker(&ours, &folder);
    ours.until_workers(1);
    until("its own start clears what was left", || !left.exists());
}
