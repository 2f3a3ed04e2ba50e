//! Jobs over several real workers on loopback, against the same jobs in one process.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millstream_proto::v1;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::*;
use crate::deployer::{Allocation, DeployRequest, Deployer, Embedded, Tasks};
use crate::job::{Job, Outcome, Start, StopRequest};
use crate::progress::Progress;
use crate::resolve::{self, Overrides, Resolved};
use crate::{Error, network, run, worker};

const EVENTS: u64 = 200_000;

/// A keyed window over a seeded generator, with a shuffle, into files that appear at checkpoints.
fn pipeline(name: &str, out: &Path, rate: Option<u64>) -> Resolved {
    let rate = rate.map_or(String::new(), |rate| format!("'scan.rate-limit' = '{rate}',"));
    let text = format!(
        "SET 'pipeline.name' = '{name}';
         SET 'execution.checkpointing.interval' = '100ms';
         CREATE TABLE events (bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel VARCHAR, url VARCHAR,
                 dateTime TIMESTAMP(3), extra VARCHAR>,
             ts AS bid.dateTime, WATERMARK FOR ts AS ts - INTERVAL '1' SECOND)
         WITH ('connector' = 'nexmark', {rate} 'events.num' = '{EVENTS}', 'seed' = '7');
         CREATE TABLE counts (auction BIGINT, window_start TIMESTAMP(3), bids BIGINT)
         WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'json');
         INSERT INTO counts
         SELECT bid.auction, window_start, COUNT(*) FROM
             TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '1' SECOND))
         WHERE bid.auction IS NOT NULL
         GROUP BY bid.auction, window_start, window_end;",
        out = out.display()
    );
    let pipeline = v1::Pipeline {
        pipeline: Some(v1::pipeline::Pipeline::Sql(v1::SpecText {
            text,
            file: "test.sql".into(),
        })),
        environment: Default::default(),
    };
    resolve::resolve(&pipeline, &Overrides::default(), 0).expect("the pipeline plans")
}

/// Rows of all files, in order.
fn rows(folder: &Path) -> Vec<String> {
    let mut rows = Vec::new();
    for entry in std::fs::read_dir(folder).expect("the sink's folder") {
        let path = entry.expect("an entry").path();
        let is_hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !is_hidden {
            let text = std::fs::read_to_string(&path).expect("a file of rows");
            rows.extend(text.lines().map(str::to_string));
        }
    }
    rows.sort();
    rows
}

async fn expected(dir: &Path) -> Vec<String> {
    let out = dir.join("expected");
    let resolved = pipeline("expected", &out, None);
    let job = job(&resolved, 1, dir);
    let embedded = Embedded::new(dir.join("embedded"), "expected", 1, 64 << 20)
        .await
        .expect("a data folder");
    let (_ask, stop) = watch::channel(StopRequest::None);
    let outcome = run::run(&job, &embedded, stop, &Progress::default()).await;
    assert!(matches!(outcome, Ok(Outcome::Finished { .. })), "{outcome:?}");
    rows(&out)
}

fn job(resolved: &Resolved, parallelism: usize, dir: &Path) -> Job {
    let storage = dir.join("checkpoints").display().to_string();
    resolved.job(parallelism, storage, Start::Resume)
}

/// A fleet with its server.
struct Cluster {
    fleet: Fleet,
    address: String,
    events: mpsc::Receiver<FleetEvent>,
    server: JoinHandle<()>,
}

impl Cluster {
    async fn start() -> Self {
        let mut options = FleetOptions::new("test", 1);
        options.heartbeat = Duration::from_millis(100);
        let (fleet, events) = Fleet::new(options);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let router = tonic::transport::Server::builder().add_service(fleet.service());
        let server = tokio::spawn(async move {
            router
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
                .await
                .expect("serves");
        });
        Self {
            fleet,
            address,
            events,
            server,
        }
    }

    /// Starts a worker.
    async fn start_worker(
        &self,
        name: &str,
        dir: &Path,
        advertise: Option<&str>,
        status: worker::Status,
    ) -> (watch::Sender<bool>, JoinHandle<Result<(), Error>>) {
        let (leave, asked) = watch::channel(false);
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = network::listen(any).await.expect("a port");
        let options = worker::Options {
            name: name.into(),
            coordinators: vec![self.address.clone()],
            advertise: advertise.map(str::to_string),
            slots: 2,
            memory_bytes: 64 << 20,
            data_dir: dir.join(name),
            log_buffer: worker::LogBuffer::default(),
            token: crate::access::OwnToken::None,
            compression: crate::exchange::Compression::None,
        };
        let running = tokio::spawn(worker::run(options, listener, status, asked));
        (leave, running)
    }

    /// Starts a worker and waits until it is attached.
    async fn worker(&mut self, name: &str, dir: &Path) -> (watch::Sender<bool>, JoinHandle<Result<(), Error>>) {
        let started = self.start_worker(name, dir, None, worker::Status::default()).await;
        for reached in [false, true] {
            match tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await {
                Ok(Some(FleetEvent::Attached { worker, .. })) if !reached => assert_eq!(worker, name),
                Ok(Some(FleetEvent::Reached { worker, found, .. })) if reached => {
                    assert_eq!((worker.as_str(), found), (name, Ok(())));
                }
                other => panic!("{name} did not attach: {other:?}"),
            }
        }
        started
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_knows_whether_it_was_reached() {
    let dir = tempfile::tempdir().expect("a folder");
    for (advertise, is_reached) in [(None, true), (Some("http://127.0.0.1:1"), false)] {
        let mut cluster = Cluster::start().await;
        let status = worker::Status::default();
        assert!(!status.is_reached());
        let (_leave, running) = cluster.start_worker("w", dir.path(), advertise, status.clone()).await;
        let looked = async {
            loop {
                match cluster.events.recv().await {
                    Some(FleetEvent::Reached { found, .. }) => break found,
                    Some(_) => {}
                    None => panic!("the fleet is gone"),
                }
            }
        };
        let found = tokio::time::timeout(Duration::from_secs(10), looked).await;
        assert_eq!(found.expect("it is looked at").is_ok(), is_reached);
        let deadline = Instant::now() + Duration::from_secs(10);
        while !status.is_attached() || status.is_reached() != is_reached {
            assert!(Instant::now() < deadline, "attached: {}", status.is_attached());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        running.abort();
        cluster.server.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_left_a_coordinator_which_stood_still_are_not_lost() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut cluster = Cluster::start().await;
    let (_leave, one) = cluster.worker("one", dir.path()).await;
    let (_leave, two) = cluster.worker("two", dir.path()).await;
    // At any other time a broken stream is a lost worker.
    one.abort();
    match tokio::time::timeout(Duration::from_secs(10), cluster.events.recv()).await {
        Ok(Some(FleetEvent::Lost { worker, .. })) => assert_eq!(worker, "one"),
        other => panic!("the loss was not noticed: {other:?}"),
    }
    *cluster.fleet.inner.stall.lock() = Some((Instant::now(), Duration::from_secs(8)));
    two.abort();
    match tokio::time::timeout(Duration::from_secs(10), cluster.events.recv()).await {
        Ok(Some(FleetEvent::Stalled { reason })) => assert!(reason.contains("did not run for 8.0 s"), "{reason}"),
        other => panic!("taken for a loss: {other:?}"),
    }
    assert!(cluster.fleet.workers().is_empty());
    cluster.server.abort();
}

/// Slots on these workers, two each.
struct Over {
    fleet: Fleet,
    resolved: v1::ResolvedJob,
    workers: parking_lot::Mutex<Vec<String>>,
}

#[async_trait]
impl Deployer for Over {
    async fn allocate(&self, _job: &Job) -> Result<Allocation, Error> {
        let attached: Vec<String> = self.fleet.workers().into_iter().map(|worker| worker.name).collect();
        let workers = self.workers.lock().clone();
        let slots: Vec<String> = workers
            .iter()
            .filter(|worker| attached.contains(worker))
            .flat_map(|worker| [worker.clone(), worker.clone()])
            .collect();
        Ok(Allocation {
            parallelism: slots.len(),
            slots,
        })
    }

    async fn deploy(
        &self,
        job: &Job,
        allocation: &Allocation,
        request: DeployRequest,
    ) -> Result<Box<dyn Tasks>, Error> {
        self.fleet.deploy(job, &self.resolved, allocation, request).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_over_two_workers_gives_the_rows_of_one_process() {
    let dir = tempfile::tempdir().expect("a folder");
    let expected = expected(dir.path()).await;
    let mut cluster = Cluster::start().await;
    let one = cluster.worker("one", dir.path()).await;
    let two = cluster.worker("two", dir.path()).await;
    let out = dir.path().join("out");
    let resolved = pipeline("job", &out, None);
    let over = Over {
        fleet: cluster.fleet.clone(),
        resolved: resolved.resolved.clone(),
        workers: parking_lot::Mutex::new(vec!["one".into(), "two".into()]),
    };
    let (_ask, stop) = watch::channel(StopRequest::None);
    let progress = Progress::default();
    let outcome = run::run(&job(&resolved, 4, dir.path()), &over, stop, &progress).await;
    assert!(matches!(outcome, Ok(Outcome::Finished { .. })), "{outcome:?}");
    assert_eq!(rows(&out), expected);
    assert!(!expected.is_empty());
    drop((one, two));
    cluster.server.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_worker_costs_no_rows() {
    let dir = tempfile::tempdir().expect("a folder");
    let expected = expected(dir.path()).await;
    let mut cluster = Cluster::start().await;
    let _one = cluster.worker("one", dir.path()).await;
    let (_leave, two) = cluster.worker("two", dir.path()).await;
    let out = dir.path().join("out");
    let resolved = pipeline("job", &out, Some(EVENTS / 3));
    let over = Arc::new(Over {
        fleet: cluster.fleet.clone(),
        resolved: resolved.resolved.clone(),
        workers: parking_lot::Mutex::new(vec!["one".into(), "two".into()]),
    });
    let (_ask, stop) = watch::channel(StopRequest::None);
    let progress = Progress::default();
    let running = {
        let (job, over, progress) = (job(&resolved, 4, dir.path()), Arc::clone(&over), progress.clone());
        tokio::spawn(async move { run::run(&job, &*over, stop, &progress).await })
    };
    // Once something can be resumed from, one of the two goes away without a word.
    let deadline = Instant::now() + Duration::from_secs(30);
    while progress.report().checkpoints < 3 {
        assert!(Instant::now() < deadline, "no checkpoints: {:?}", progress.take_notes());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    two.abort();
    let outcome = running.await.expect("the job's task");
    assert!(matches!(outcome, Ok(Outcome::Finished { .. })), "{outcome:?}");
    assert!(progress.report().restarts > 0, "the loss was not noticed");
    assert_eq!(rows(&out), expected);
    cluster.server.abort();
}
