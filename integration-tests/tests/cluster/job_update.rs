//! Replacing the pipeline of a running job.

use crate::test_cluster::{CARS, TestCluster, expected, until};

fn write(cluster: &TestCluster, text: &str) {
    std::fs::write(cluster.path("cars.yaml"), text).expect("a writable folder");
}

/// Returns the pipeline with another sink, which receives output from the update on.
fn with_another_sink(folder: &str) -> String {
    let sink = format!(
        "  more: {{ from: per_booth, connector: filesystem, options: {{ path: \"${{OUT}}/../{folder}\" }}, format: csv }}\n"
    );
    format!("{CARS}{sink}")
}

#[test]
fn a_running_job_gets_an_edited_pipeline_and_loses_nothing() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 2);
    let (said, _) = cluster.cli(&["jobs", "update", "cars.yaml"], 0);
    assert!(
        said.contains("is the pipeline that it has; nothing was changed"),
        "{said}"
    );

    write(&cluster, &CARS.replace("sum(n)", "sum(n * 2)"));
    let attempt = cluster.job("cars")["attempt"].clone();
    let (_, said) = cluster.cli(&["jobs", "update", "cars.yaml", "--wait"], 4);
    assert!(said.contains("does not fit the new pipeline"), "{said}");
    assert!(said.contains("the job stays as it is"), "{said}");
    assert_eq!(cluster.job("cars")["attempt"], attempt);

    write(&cluster, &with_another_sink("more"));
    let (said, _) = cluster.cli(&["jobs", "update", "cars.yaml", "--dry-run"], 0);
    assert!(
        said.contains("cars can be updated (compatible); nothing was changed"),
        "{said}"
    );
    let update = ["jobs", "update", "cars.yaml", "--savepoint", "before", "--wait"];
    let (said, notes) = cluster.cli(&update, 0);
    assert!(said.starts_with("cars: "), "{said}");
    assert!(
        notes.contains("the state before the update is savepoint `before`"),
        "{notes}"
    );
    assert_eq!(cluster.job("cars")["update"]["state"], "confirmed");
    let savepoints = cluster.json(&["savepoints", "list", "cars"]);
    assert_eq!(savepoints["checkpoints"][0]["savepoint"], "before", "{savepoints}");

    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
    let (more, whole) = (cluster.lines("more"), expected());
    assert!(!more.is_empty() && more.len() < whole.len(), "{} rows", more.len());
    assert!(more.iter().all(|row| whole.contains(row)));
    cluster.cli(&["jobs", "update", "cars.yaml", "--parallelism", "3"], 4);
}

#[test]
fn a_new_pipeline_that_fails_gives_the_job_back() {
    let cluster = TestCluster::new();
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 1);
    // Planning does not detect that a file has the folder's path.
    std::fs::write(cluster.path("taken"), "").expect("a writable folder");
    write(&cluster, &with_another_sink("taken"));
    let (_, said) = cluster.cli(&["jobs", "update", "cars.yaml", "--no-savepoint", "--wait"], 1);
    assert!(
        said.contains("`cars` was not updated: the new pipeline failed"),
        "{said}"
    );
    assert!(said.contains("it has its old pipeline again"), "{said}");
    let job = cluster.job("cars");
    assert_eq!(job["update"]["state"], "reverted", "{job}");
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
}

#[test]
fn an_update_survives_the_death_of_the_coordinator() {
    let cluster = TestCluster::new();
    let mut coordinator = cluster.coordinator();
    let _worker = cluster.worker("w");
    cluster.until_workers(1);
    cluster.cli(&["jobs", "submit", "cars.yaml", "--wait"], 0);
    cluster.until_checkpoints("cars", 1);
    write(&cluster, &with_another_sink("more"));
    cluster.cli(&["jobs", "update", "cars.yaml"], 0);
    coordinator.kill();
    let _next = cluster.coordinator();
    cluster.until_workers(1);
    until("the update is confirmed", || {
        cluster.job("cars")["update"]["state"] == "confirmed"
    });
    cluster.cli(&["jobs", "wait", "cars", "--for", "finished"], 0);
    assert_eq!(cluster.lines("out"), expected());
    assert!(!cluster.lines("more").is_empty());
}
