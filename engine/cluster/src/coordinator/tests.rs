//! A whole coordinator with a real worker on loopback, through the client API.

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use futures::StreamExt;
use millstream_proto::v1;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;

use super::*;
use crate::{network, serve, worker};

const DEADLINE: Duration = Duration::from_secs(60);

/// A coordinator process, as far as it matters.
struct Process {
    coordinator: Coordinator,
    address: String,
    server: JoinHandle<()>,
    running: JoinHandle<Result<(), Error>>,
}

impl Process {
    /// The only one, which comes back under its old address.
    async fn start(dir: &Path) -> Self {
        let process = Self::open(dir, Some("http://coordinator:7070")).await;
        until("leads", || async { process.coordinator.leader().is_some() }).await;
        process
    }

    async fn open(dir: &Path, advertise: Option<&str>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = format!("http://{}", listener.local_addr().expect("bound"));
        let gateway = WorkerGateway::default();
        let options = Options {
            data_dir: dir.join("data").display().to_string(),
            advertise: advertise.unwrap_or(&address).to_string(),
            cluster: None,
            suspend_jobs_on_end: false,
            limits: Limits::default(),
        };
        let coordinator = Coordinator::open(options, gateway.executor_factory())
            .await
            .expect("a data folder");
        let routes = serve::grpc_router(Arc::new(coordinator.clone()), &crate::access::Access::unrestricted()).await;
        let router = serve::grpc_server().add_routes(routes.add_service(gateway.service()));
        let server = tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming(incoming).await.expect("serves");
        });
        let running = {
            let coordinator = coordinator.clone();
            tokio::spawn(async move { coordinator.run().await })
        };
        Self {
            coordinator,
            address,
            server,
            running,
        }
    }

    /// As if it were killed: nothing is said to anybody.
    fn kill(self) {
        if let Some(leader) = self.coordinator.leader() {
            leader.end("killed");
        }
        self.running.abort();
        self.server.abort();
    }

    async fn worker(&self, name: &str, slots: u32, dir: &Path) -> watch::Sender<bool> {
        self.worker_of(name, slots, dir, &[]).await
    }

    /// Attached here, but it knows these others, too.
    async fn worker_of(&self, name: &str, slots: u32, dir: &Path, others: &[&Process]) -> watch::Sender<bool> {
        let (leave, asked) = watch::channel(false);
        let others = others.iter().map(|other| other.address.clone());
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = network::listen(any).await.expect("a port");
        let options = worker::Options {
            name: name.into(),
            coordinators: std::iter::once(self.address.clone()).chain(others).collect(),
            advertise: None,
            slots,
            memory_bytes: 64 << 20,
            data_dir: dir.join(name),
            log_buffer: worker::LogBuffer::default(),
            token: crate::access::OwnToken::None,
            compression: crate::exchange::Compression::None,
        };
        tokio::spawn(worker::run(options, listener, worker::Status::default(), asked));
        let listed = v1::ListWorkersRequest {};
        until("the worker is attached", || async {
            let workers = self.coordinator.list_workers(listed).await.expect("a list").workers;
            workers
                .iter()
                .any(|worker| worker.name == name && worker.state == "ready")
        })
        .await;
        leave
    }

    async fn submit(&self, request: v1::SubmitRequest) -> Result<v1::Job, client::Error> {
        Ok(self.coordinator.submit(request).await?.job.expect("a job"))
    }

    async fn job(&self, name: &str) -> v1::Job {
        let request = v1::GetJobRequest { name: name.into() };
        self.coordinator.job(request).await.expect("the job")
    }

    async fn state(&self, name: &str, wanted: v1::JobState) -> v1::Job {
        let what = format!("`{name}` is {}", wanted.as_str_name());
        until(&what, || async { self.job(name).await.state() == wanted }).await;
        self.job(name).await
    }

    /// A checkpoint that was not there before.
    async fn checkpointed(&self, name: &str) -> u64 {
        let before = self.job(name).await.checkpoints_completed;
        until("a checkpoint", || async {
            self.job(name).await.checkpoints_completed > before
        })
        .await;
        self.job(name).await.last_checkpoint.expect("a checkpoint").checkpoint
    }

    async fn checkpoints(&self, name: &str) -> Vec<v1::Checkpoint> {
        let request = v1::ListCheckpointsRequest {
            job: name.into(),
            savepoints_only: false,
        };
        self.coordinator
            .list_checkpoints(request)
            .await
            .expect("a list")
            .checkpoints
    }

    async fn stop(&self, name: &str, savepoint: Option<&str>) -> v1::Job {
        let request = v1::StopJobRequest {
            name: name.into(),
            savepoint: savepoint.map(str::to_string),
        };
        self.coordinator.stop(request).await.expect("it stops");
        self.state(name, v1::JobState::Stopped).await
    }
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, waiting)
        .await
        .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}"));
}

/// Numbers into files; without a number of rows it never ends.
fn numbers(name: &str, dir: &Path, rows: Option<u64>) -> v1::SubmitRequest {
    let bound = rows.map_or(String::new(), |rows| format!("'number-of-rows' = '{rows}',"));
    let text = format!(
        "SET 'pipeline.name' = '{name}';
         SET 'execution.checkpointing.interval' = '100ms';
         CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen', {bound} 'rows-per-second' = '1000',
             'fields.n.kind' = 'sequence', 'fields.n.start' = '0', 'fields.n.end' = '1000000000');
         CREATE TABLE written (n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'json');
         INSERT INTO written SELECT n FROM numbers;",
        dir.join(format!("out-{name}")).display()
    );
    v1::SubmitRequest {
        pipeline: Some(v1::Pipeline {
            pipeline: Some(v1::pipeline::Pipeline::Sql(v1::SpecText {
                text,
                file: "numbers.sql".into(),
            })),
            environment: Default::default(),
        }),
        parallelism: Some(1),
        ..v1::SubmitRequest::default()
    }
}

/// The numbers in the files that are complete, in order.
fn written(name: &str, dir: &Path) -> Vec<u64> {
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(dir.join(format!("out-{name}"))).expect("the sink's folder") {
        let path = entry.expect("an entry").path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if path.is_file() && !hidden {
            let text = std::fs::read_to_string(&path).expect("a file of rows");
            numbers.extend(text.lines().map(|line| {
                let digits: String = line.chars().filter(char::is_ascii_digit).collect();
                digits.parse::<u64>().expect("a number")
            }));
        }
    }
    numbers.sort_unstable();
    numbers
}

/// Returns true if no number of a sorted list occurs twice.
fn distinct(numbers: &[u64]) -> bool {
    !numbers.is_empty() && numbers.windows(2).all(|pair| pair[0] < pair[1])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn jobs_are_accepted_run_listed_stopped_cancelled_and_deleted() {
    let dir = TempDir::new().expect("a folder");
    let process = Process::start(dir.path()).await;
    let waiting = process
        .submit(numbers("waits", dir.path(), None))
        .await
        .expect("accepted");
    assert_eq!(waiting.state(), v1::JobState::Deploying);
    until("it says what it waits for", || async {
        process.job("waits").await.reason.contains("no worker is attached")
    })
    .await;
    process.worker("w", 4, dir.path()).await;
    process.state("waits", v1::JobState::Running).await;
    process
        .submit(numbers("ends", dir.path(), Some(500)))
        .await
        .expect("accepted");
    process.state("ends", v1::JobState::Finished).await;
    assert_eq!(written("ends", dir.path()), (0..500).collect::<Vec<_>>());

    let again = process
        .submit(numbers("ends", dir.path(), Some(1)))
        .await
        .expect_err("a name in use");
    assert_eq!(again.code, Code::NameInUse);
    let listed = process
        .coordinator
        .list_jobs(v1::ListJobsRequest { all: false })
        .await
        .expect("a list");
    assert_eq!(listed.jobs.len(), 1);
    process.checkpointed("waits").await;
    // Numbers come with the worker's heartbeats.
    until("rows are counted", || async {
        let numbers = process.job("waits").await.numbers;
        numbers.is_some_and(|numbers| numbers.rows_in > 0)
    })
    .await;
    let described = process.job("waits").await;
    assert_eq!(described.placement, ["w"]);
    assert!(described.operators.len() >= 2, "{:?}", described.operators);

    process.stop("waits", Some("kept")).await;
    let cancelled = v1::CancelJobRequest { name: "waits".into() };
    let error = process.coordinator.cancel(cancelled).await.expect_err("it has ended");
    assert_eq!(error.code, Code::WrongState);
    let restart = v1::RestartJobRequest {
        name: "waits".into(),
        allow_duplicates: false,
    };
    process.coordinator.restart(restart).await.expect("it starts again");
    process.state("waits", v1::JobState::Running).await;
    let cancel = v1::CancelJobRequest { name: "waits".into() };
    process.coordinator.cancel(cancel).await.expect("it is cancelled");
    process.state("waits", v1::JobState::Cancelled).await;
    assert!(distinct(&written("waits", dir.path())));

    let listed = process
        .coordinator
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect("a list");
    let all = process
        .coordinator
        .list_jobs(v1::ListJobsRequest { all: true })
        .await
        .expect("a list");
    assert_eq!(
        (all.jobs.len() - listed.jobs.len(), all.ended),
        (listed.ended as usize, 0)
    );
    assert!(listed.ended > 0);

    let lines = v1::JobLogsRequest {
        name: "waits".into(),
        ..v1::JobLogsRequest::default()
    };
    let lines: Vec<_> = process.coordinator.logs(lines).await.expect("lines").collect().await;
    assert!(lines.iter().any(|line| line.message.contains("running")), "{lines:?}");
    let delete = v1::DeleteJobRequest { name: "waits".into() };
    process.coordinator.delete(delete).await.expect("it is deleted");
    // Savepoints outlive their job.
    let left: Vec<_> = process.checkpoints("waits").await;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].savepoint.as_deref(), Some("kept"));
    let request = |name: &str| v1::DeleteSavepointRequest {
        job: "waits".into(),
        name: name.into(),
    };
    let error = process
        .coordinator
        .delete_savepoint(request("other"))
        .await
        .expect_err("unknown");
    assert_eq!(error.message, "`waits` has no savepoint `other`; there are kept");
    // As its list calls it.
    let number = left[0].checkpoint.to_string();
    process
        .coordinator
        .delete_savepoint(request(&number))
        .await
        .expect("it is deleted");
    let listed = v1::ListCheckpointsRequest {
        job: "waits".into(),
        savepoints_only: true,
    };
    let error = process
        .coordinator
        .list_checkpoints(listed)
        .await
        .expect_err("nothing is left");
    assert_eq!(error.code, Code::JobNotFound);
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_go_on_under_the_next_coordinator_and_the_job_is_rescaled() {
    let dir = TempDir::new().expect("a folder");
    let first = Process::open(dir.path(), None).await;
    until("leads", || async { first.coordinator.leader().is_some() }).await;
    let second = Process::open(dir.path(), None).await;
    first.worker_of("w", 4, dir.path(), &[&second]).await;
    first
        .submit(numbers("goes-on", dir.path(), Some(15_000)))
        .await
        .expect("accepted");
    first.checkpointed("goes-on").await;
    first.kill();
    until("leads", || async { second.coordinator.leader().is_some() }).await;
    second.checkpointed("goes-on").await;
    let job = second.job("goes-on").await;
    assert_eq!((job.state(), job.attempt, job.restarts), (v1::JobState::Running, 1, 0));
    let states: Vec<_> = job.transitions.iter().map(|transition| transition.state()).collect();
    assert!(!states.contains(&v1::JobState::Restarting), "{:?}", job.transitions);
    assert!(job.reason.contains("continued"), "{}", job.reason);
    let rescale = v1::RescaleJobRequest {
        name: "goes-on".into(),
        parallelism: Some(3),
    };
    second.coordinator.rescale(rescale).await.expect("it is rescaled");
    until("it runs with three subtasks", || async {
        let job = second.job("goes-on").await;
        job.state() == v1::JobState::Running && job.parallelism == 3
    })
    .await;
    assert_eq!(second.job("goes-on").await.attempt, 2);
    second.checkpointed("goes-on").await;
    second.state("goes-on", v1::JobState::Finished).await;
    assert_eq!(written("goes-on", dir.path()), (0..15_000).collect::<Vec<_>>());
    second.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_is_asked_to_end_leaves_the_tasks_to_the_next() {
    let dir = TempDir::new().expect("a folder");
    let first = Process::open(dir.path(), None).await;
    until("leads", || async { first.coordinator.leader().is_some() }).await;
    let second = Process::open(dir.path(), None).await;
    first.worker_of("w", 2, dir.path(), &[&second]).await;
    first
        .submit(numbers("goes-on", dir.path(), Some(8_000)))
        .await
        .expect("accepted");
    first.state("goes-on", v1::JobState::Running).await;
    first.coordinator.end();
    first.running.await.expect("its task").expect("it ends well");
    first.server.abort();
    until("leads", || async { second.coordinator.leader().is_some() }).await;
    let job = second.state("goes-on", v1::JobState::Finished).await;
    assert_eq!((job.attempt, job.restarts), (1, 0));
    assert_eq!(written("goes-on", dir.path()), (0..8_000).collect::<Vec<_>>());
    second.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn savepoints_are_kept_and_checkpoints_replayed_under_another_name() {
    let dir = TempDir::new().expect("a folder");
    let process = Process::start(dir.path()).await;
    process.worker("w", 8, dir.path()).await;
    process
        .submit(numbers("origin", dir.path(), None))
        .await
        .expect("accepted");
    process.checkpointed("origin").await;
    let create = |name: &str| v1::CreateSavepointRequest {
        job: "origin".into(),
        name: Some(name.into()),
    };
    let savepoint = process
        .coordinator
        .create_savepoint(create("s"))
        .await
        .expect("a savepoint");
    assert_eq!(savepoint.savepoint.as_deref(), Some("s"));
    let taken = process
        .coordinator
        .create_savepoint(create("s"))
        .await
        .expect_err("taken");
    assert_eq!(taken.code, Code::NameInUse);

    let from = v1::CheckpointRef {
        job: "origin".into(),
        checkpoint: Some(savepoint.checkpoint),
    };
    let mut request = numbers("replayed", dir.path(), None);
    request.from = Some(from.clone());
    let diff = v1::DiffRequest {
        pipeline: request.pipeline.clone(),
        from: Some(from.clone()),
    };
    let diff = process.coordinator.diff(diff).await.expect("a verdict");
    assert_eq!(diff.verdict(), v1::diff_response::Verdict::Compatible, "{diff:?}");
    process.submit(request).await.expect("accepted");
    process.checkpointed("replayed").await;
    process.stop("replayed", None).await;
    let replayed = written("replayed", dir.path());
    assert!(distinct(&replayed) && !replayed.contains(&0), "it began anew");
    let first = process.checkpoints("replayed").await;
    assert!(!first.is_empty());

    let inspect = v1::InspectCheckpointRequest { checkpoint: Some(from) };
    let detail = process.coordinator.inspect_checkpoint(inspect).await.expect("details");
    assert!(detail.operators.iter().any(|operator| !operator.splits.is_empty()));
    process.stop("origin", None).await;
    let delete = v1::DeleteSavepointRequest {
        job: "origin".into(),
        name: "s".into(),
    };
    process
        .coordinator
        .delete_savepoint(delete.clone())
        .await
        .expect("deleted");
    let gone = process.coordinator.delete_savepoint(delete).await.expect_err("gone");
    assert_eq!(gone.code, Code::CheckpointNotFound);
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn positions_in_other_data_are_used_only_if_that_is_accepted() {
    use v1::diff_response::Verdict;

    let dir = TempDir::new().expect("a folder");
    let process = Process::start(dir.path()).await;
    process.worker("w", 8, dir.path()).await;
    let origin = numbers("origin", dir.path(), None);
    process.submit(origin).await.expect("accepted");
    process.checkpointed("origin").await;
    process.stop("origin", None).await;

    let mut edited = numbers("edited", dir.path(), None);
    let Some(v1::pipeline::Pipeline::Sql(text)) = edited.pipeline.as_mut().and_then(|it| it.pipeline.as_mut()) else {
        panic!("not a script");
    };
    text.text = text
        .text
        .replace("'fields.n.start' = '0'", "'fields.n.start' = '500000000'");
    edited.from = Some(v1::CheckpointRef {
        job: "origin".into(),
        checkpoint: None,
    });
    let diff = v1::DiffRequest {
        pipeline: edited.pipeline.clone(),
        from: edited.from.clone(),
    };
    let diff = process.coordinator.diff(diff).await.expect("a verdict");
    assert_eq!(diff.verdict(), Verdict::ChangedMeaning, "{diff:?}");
    let [source] = diff.operators.as_slice() else {
        panic!("one operator has state: {diff:?}");
    };
    assert_eq!(
        (source.operator.as_str(), source.verdict()),
        ("numbers", Verdict::ChangedMeaning)
    );
    let [change] = source.changes.as_slice() else {
        panic!("one change: {source:?}");
    };
    assert_eq!((change.old.as_str(), change.new.as_str()), ("0", "500000000"));
    assert_eq!(change.edited, ["table `numbers`"]);

    let refused = process
        .submit(edited.clone())
        .await
        .expect_err("it means something else");
    assert_eq!(refused.code, Code::CheckpointDoesNotFit);
    assert!(
        refused.message.contains("accept_changed_meaning"),
        "{}",
        refused.message
    );
    edited.accept_changed_meaning = true;
    process.submit(edited).await.expect("accepted");
    process.checkpointed("edited").await;
    process.stop("edited", None).await;
    // What was accepted is the state's meaning from then on: a restart asks nothing.
    let restart = v1::RestartJobRequest {
        name: "edited".into(),
        allow_duplicates: false,
    };
    process.coordinator.restart(restart).await.expect("it restarts");
    process.state("edited", v1::JobState::Running).await;
    process.checkpointed("edited").await;
    process.stop("edited", None).await;
    let written = written("edited", dir.path());
    assert!(
        written.first().is_some_and(|first| *first > 500_000_000),
        "{:?}",
        written.first()
    );
    assert!(distinct(&written));
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_says_who_leads_and_takes_over_when_that_one_is_gone() {
    let dir = TempDir::new().expect("a folder");
    let first = Process::open(dir.path(), None).await;
    until("leads", || async { first.coordinator.leader().is_some() }).await;
    let second = Process::open(dir.path(), None).await;
    let ask = v1::ClusterInfoRequest::default();
    until("the standby knows its leader", || async {
        let info = second.coordinator.info(ask).await.expect("an answer");
        !info.is_leader && info.leader == first.address
    })
    .await;
    let refused = second
        .coordinator
        .list_jobs(v1::ListJobsRequest::default())
        .await
        .expect_err("it stands by");
    assert_eq!(
        (refused.code, refused.leader.as_ref()),
        (Code::NotLeader, Some(&first.address))
    );
    let superseded = first.coordinator.leader().expect("a leader");
    // Silent, but not dead: it finds out by itself that it leads no longer.
    first.server.abort();
    until("takes over", || async { second.coordinator.leader().is_some() }).await;
    let info = second.coordinator.info(ask).await.expect("an answer");
    assert_eq!((info.is_leader, info.epoch), (true, 2));
    tokio::time::timeout(DEADLINE, superseded.ended())
        .await
        .expect("it stops by itself");
    first.kill();
    second.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_nobody_reaches_gets_no_tasks_and_says_why() {
    let dir = tempfile::tempdir().expect("a folder");
    let process = Process::start(dir.path()).await;
    let _good = process.worker("good", 1, dir.path()).await;
    let (_leave, asked) = watch::channel(false);
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = network::listen(any).await.expect("a port");
    let options = worker::Options {
        name: "bad".into(),
        coordinators: vec![process.address.clone()],
        // Where the coordinator listens, and no worker.
        advertise: Some(process.address.clone()),
        slots: 8,
        memory_bytes: 64 << 20,
        data_dir: dir.path().join("bad"),
        log_buffer: worker::LogBuffer::default(),
        token: crate::access::OwnToken::None,
        compression: crate::exchange::Compression::None,
    };
    tokio::spawn(worker::run(options, listener, worker::Status::default(), asked));
    let listed = v1::ListWorkersRequest {};
    let bad = || async {
        let workers = process.coordinator.list_workers(listed).await.expect("a list").workers;
        workers.into_iter().find(|worker| worker.name == "bad")
    };
    until("it is found out", || async {
        bad().await.is_some_and(|bad| bad.state == "unreachable")
    })
    .await;
    let reason = bad().await.expect("still there").reason;
    assert!(reason.contains("is no worker"), "{reason}");
    let info = process
        .coordinator
        .info(v1::ClusterInfoRequest::default())
        .await
        .expect("an answer");
    assert_eq!(info.slots, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_stood_still_takes_over_from_itself_and_tasks_go_on() {
    let dir = TempDir::new().expect("a folder");
    let process = Process::start(dir.path()).await;
    process.worker("w", 2, dir.path()).await;
    process
        .submit(numbers("goes-on", dir.path(), Some(15_000)))
        .await
        .expect("accepted");
    process.checkpointed("goes-on").await;
    let leader = process.coordinator.leader().expect("a leader");
    let reason = "it did not run for 8 s".to_string();
    leader.event(Event::Stalled { reason });
    until("leads again", || async {
        process
            .coordinator
            .leader()
            .is_some_and(|next| next.epoch == leader.epoch + 1)
    })
    .await;
    until("the tasks are taken over", || async {
        process.job("goes-on").await.reason.contains("continued")
    })
    .await;
    let job = process.state("goes-on", v1::JobState::Finished).await;
    assert_eq!((job.attempt, job.restarts), (1, 0));
    assert_eq!(written("goes-on", dir.path()), (0..15_000).collect::<Vec<_>>());
    process.kill();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_that_knows_a_standby_only_finds_the_leader() {
    let dir = TempDir::new().expect("a folder");
    let first = Process::open(dir.path(), None).await;
    until("leads", || async { first.coordinator.leader().is_some() }).await;
    let second = Process::open(dir.path(), None).await;
    let (_leave, asked) = watch::channel(false);
    let any = "127.0.0.1:0".parse().expect("an address");
    let listener = network::listen(any).await.expect("a port");
    let options = worker::Options {
        name: "w".into(),
        coordinators: vec![second.address.clone()],
        advertise: None,
        slots: 1,
        memory_bytes: 64 << 20,
        data_dir: dir.path().join("w"),
        log_buffer: worker::LogBuffer::default(),
        token: crate::access::OwnToken::None,
        compression: crate::exchange::Compression::None,
    };
    tokio::spawn(worker::run(options, listener, worker::Status::default(), asked));
    until("it is attached", || async {
        let listed = v1::ListWorkersRequest {};
        let workers = first.coordinator.list_workers(listed).await.expect("a list").workers;
        workers.iter().any(|worker| worker.state == "ready")
    })
    .await;
    first.kill();
    second.kill();
}
