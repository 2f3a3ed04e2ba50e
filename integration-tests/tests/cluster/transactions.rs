//! `transactions list` and `transactions abort`.

use std::time::Duration;

use millstream_integration_tests::windowed_job::WindowedJob;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::test_cluster::TestCluster;

const TIMEOUT: Duration = Duration::from_secs(20);

#[test]
fn open_transactions_of_a_job_are_listed_and_ended() {
    let cluster = TestCluster::new();
    let windows = WindowedJob::new("transactions", &cluster.path("")).expect("an input and its answer");
    windows.create_output("out").expect("a new topic");
    let file = windows.pipeline(&cluster.path(""), "out", 1_000_000);
    let file = file.expect("a writable folder");
    let file = file.to_str().expect("a path in UTF-8");
    let _standalone = cluster.standalone();
    cluster.cli(&["jobs", "submit", file, "--parallelism", "1"], 0);
    let job = windows.topic("out");
    cluster.cli(&["jobs", "wait", &job, "--for", "finished"], 0);

    let id = format!("millstream-{job}-results-0");
    let listed = cluster.json(&["transactions", "list", &job]);
    let sink = &listed["sinks"][0];
    assert_eq!(sink["ids"][0]["id"], id.as_str(), "{listed}");
    assert_eq!(sink["blocked"].as_array().map(Vec::len), Some(0), "{listed}");

    // An open transaction, as a killed process leaves it.
    let dead: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", windows.broker.address())
        .set("transactional.id", &id)
        .create()
        .expect("a client");
    dead.init_transactions(TIMEOUT).expect("initialised");
    dead.begin_transaction().expect("begun");
    dead.send(BaseRecord::<(), str>::to(&job).partition(0).payload("half"))
        .expect("queued");
    dead.flush(TIMEOUT).expect("delivered");
    let (listed, _) = cluster.cli(&["transactions", "list", &job], 0);
    assert!(listed.contains(&format!("{job}-0: a transaction is open")), "{listed}");

    cluster.cli(&["transactions", "abort", &job], 2);
    let (_, refused) = cluster.cli(&["transactions", "abort", &job, "--id", "somebody-else"], 2);
    assert!(refused.contains("no sink of"), "{refused}");
    cluster.cli(&["jobs", "delete", &job], 0);
    cluster.cli(&["transactions", "list", &job], 3);
    // The job is deleted; its pipeline names the sinks.
    let (ended, _) = cluster.cli(&["transactions", "abort", "--file", file, "--id", &id], 0);
    assert_eq!(ended, format!("{id}: ended\n"));
    let listed = cluster.json(&["transactions", "list", "--file", file]);
    assert_eq!(
        listed["sinks"][0]["blocked"].as_array().map(Vec::len),
        Some(0),
        "{listed}"
    );
    windows.check("out").expect("every row once, and not the half one");
    drop(dead);
}
