//! Both surfaces over real sockets, with a stub behind them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use millstream_proto::v1::job_service_client::JobServiceClient;
use millstream_proto::{status, v1};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::routes::table;
use super::{REQUEST_BYTES_MAX, grpc_router, grpc_server, openapi, rest_router, serve_http};
use crate::access::Access;
use crate::api::{Api, Code, Error};

/// Answers with what was asked, so that a test sees what arrived.
struct Stub;

fn job(name: &str) -> v1::Job {
    v1::Job {
        name: name.to_string(),
        state: v1::JobState::Running as i32,
        ..v1::Job::default()
    }
}

fn not_here<T>() -> Result<T, Error> {
    Err(Error::new(Code::JobNotFound, "there is no job `x`"))
}

#[async_trait]
impl Api for Stub {
    async fn submit(&self, request: v1::SubmitRequest) -> Result<v1::SubmitResponse, Error> {
        let mut error = Error::new(Code::InvalidPipeline, "the pipeline does not plan");
        match request.pipeline.and_then(|pipeline| pipeline.pipeline) {
            Some(v1::pipeline::Pipeline::Yaml(text)) if text.text == "wrong" => {
                error.mistakes.push(v1::Mistake {
                    line: 3,
                    column: 9,
                    path: "sinks.out".into(),
                    message: "no such step".into(),
                });
                Err(error)
            }
            Some(v1::pipeline::Pipeline::Yaml(text)) if text.text == "panic" => panic!("asked to"),
            _ => Ok(v1::SubmitResponse {
                job: Some(job(&request.name.unwrap_or_default())),
                ..v1::SubmitResponse::default()
            }),
        }
    }
    async fn validate(&self, _: v1::ValidateRequest) -> Result<v1::ValidateResponse, Error> {
        Ok(v1::ValidateResponse::default())
    }
    async fn diff(&self, _: v1::DiffRequest) -> Result<v1::DiffResponse, Error> {
        Ok(v1::DiffResponse::default())
    }
    async fn list_jobs(&self, request: v1::ListJobsRequest) -> Result<v1::ListJobsResponse, Error> {
        let names = if request.all {
            vec!["ended", "toll"]
        } else {
            vec!["toll"]
        };
        Ok(v1::ListJobsResponse {
            jobs: names.into_iter().map(job).collect(),
            failed_last_day: 0,
            ended: 0,
        })
    }
    async fn job(&self, request: v1::GetJobRequest) -> Result<v1::Job, Error> {
        match request.name.as_str() {
            "x" => not_here(),
            "elsewhere" => Err(Error {
                leader: Some("http://other:7070".into()),
                ..Error::new(Code::NotLeader, "another coordinator leads")
            }),
            name => Ok(job(name)),
        }
    }
    async fn watch(&self, request: v1::WatchJobsRequest) -> Result<BoxStream<'static, v1::JobEvent>, Error> {
        let events: Vec<_> = request
            .names
            .iter()
            .map(|name| v1::JobEvent {
                job: Some(job(name)),
                deleted: false,
            })
            .collect();
        Ok(stream::iter(events).boxed())
    }
    async fn stop(&self, request: v1::StopJobRequest) -> Result<v1::Job, Error> {
        Ok(v1::Job {
            reason: request.savepoint.unwrap_or_default(),
            ..job(&request.name)
        })
    }
    async fn cancel(&self, request: v1::CancelJobRequest) -> Result<v1::Job, Error> {
        Ok(job(&request.name))
    }
    async fn rescale(&self, request: v1::RescaleJobRequest) -> Result<v1::Job, Error> {
        Ok(v1::Job {
            parallelism: request.parallelism.unwrap_or_default(),
            ..job(&request.name)
        })
    }
    async fn update(&self, _request: v1::UpdateJobRequest) -> Result<v1::UpdateJobResponse, Error> {
        Err(Error::new(Code::JobNotFound, "there is no job"))
    }

    async fn restart(&self, request: v1::RestartJobRequest) -> Result<v1::Job, Error> {
        Ok(job(&request.name))
    }
    async fn delete(&self, _: v1::DeleteJobRequest) -> Result<v1::DeleteJobResponse, Error> {
        Ok(v1::DeleteJobResponse {})
    }
    async fn logs(&self, _: v1::JobLogsRequest) -> Result<BoxStream<'static, v1::LogLine>, Error> {
        Ok(stream::empty().boxed())
    }
    async fn list_checkpoints(
        &self,
        request: v1::ListCheckpointsRequest,
    ) -> Result<v1::ListCheckpointsResponse, Error> {
        Ok(v1::ListCheckpointsResponse {
            checkpoints: vec![v1::Checkpoint {
                job: request.job,
                ..v1::Checkpoint::default()
            }],
        })
    }
    async fn inspect_checkpoint(&self, request: v1::InspectCheckpointRequest) -> Result<v1::CheckpointDetail, Error> {
        let reference = request.checkpoint.unwrap_or_default();
        Ok(v1::CheckpointDetail {
            checkpoint: Some(v1::Checkpoint {
                job: reference.job,
                checkpoint: reference.checkpoint.unwrap_or_default(),
                ..v1::Checkpoint::default()
            }),
            ..v1::CheckpointDetail::default()
        })
    }
    async fn verify_checkpoints(
        &self,
        request: v1::VerifyCheckpointsRequest,
    ) -> Result<BoxStream<'static, v1::VerifyEvent>, Error> {
        let result = v1::VerifyResult {
            restored_from: request.checkpoint,
            ..v1::VerifyResult::default()
        };
        let last = v1::VerifyEvent {
            result: Some(result),
            ..v1::VerifyEvent::default()
        };
        Ok(stream::iter([last]).boxed())
    }
    async fn create_checkpoint(&self, request: v1::CreateCheckpointRequest) -> Result<v1::Checkpoint, Error> {
        Ok(v1::Checkpoint {
            job: request.job,
            ..v1::Checkpoint::default()
        })
    }
    async fn delete_checkpoint(
        &self,
        request: v1::DeleteCheckpointRequest,
    ) -> Result<v1::DeleteCheckpointResponse, Error> {
        let message = format!("{}/{} is needed", request.job, request.checkpoint);
        Err(Error::new(Code::WrongState, message))
    }
    async fn create_savepoint(&self, request: v1::CreateSavepointRequest) -> Result<v1::Checkpoint, Error> {
        Ok(v1::Checkpoint {
            job: request.job,
            savepoint: request.name,
            ..v1::Checkpoint::default()
        })
    }
    async fn delete_savepoint(&self, _: v1::DeleteSavepointRequest) -> Result<v1::DeleteSavepointResponse, Error> {
        Ok(v1::DeleteSavepointResponse {})
    }
    async fn list_workers(&self, _: v1::ListWorkersRequest) -> Result<v1::ListWorkersResponse, Error> {
        Ok(v1::ListWorkersResponse::default())
    }
    async fn drain_worker(&self, _: v1::DrainWorkerRequest) -> Result<v1::Worker, Error> {
        Ok(v1::Worker::default())
    }
    async fn list_transactions(&self, _: v1::ListTransactionsRequest) -> Result<v1::ListTransactionsResponse, Error> {
        Ok(v1::ListTransactionsResponse::default())
    }
    async fn abort_transactions(
        &self,
        request: v1::AbortTransactionsRequest,
    ) -> Result<v1::AbortTransactionsResponse, Error> {
        let job = request.owner.map(|owner| owner.job).unwrap_or_default();
        let ids = request.ids.iter().map(|id| format!("{job}/{id}")).collect();
        Ok(v1::AbortTransactionsResponse { ids })
    }
    async fn info(&self, _: v1::ClusterInfoRequest) -> Result<v1::ClusterInfo, Error> {
        Ok(v1::ClusterInfo::default())
    }
}

async fn rest() -> SocketAddr {
    rest_with(&Access::unrestricted()).await
}

async fn rest_with(access: &Access) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve_http(listener, rest_router(Arc::new(Stub), access)));
    address
}

async fn grpc() -> JobServiceClient<Channel> {
    JobServiceClient::new(channel().await)
}

async fn channel() -> Channel {
    channel_with(&Access::unrestricted()).await
}

async fn channel_with(access: &Access) -> Channel {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let routes = grpc_router(Arc::new(Stub), access).await;
    tokio::spawn(
        grpc_server()
            .add_routes(routes)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.connect().await.unwrap()
}

/// One request on a connection of its own: status and body.
async fn ask(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, String) {
    let (head, body) = exchange(address, method, path, body).await;
    (head[9..12].parse().unwrap(), body)
}

/// Its answer's head, in small letters.
async fn head_of(address: SocketAddr, method: &str, path: &str, body: &str) -> String {
    exchange(address, method, path, body).await.0.to_lowercase()
}

async fn exchange(address: SocketAddr, method: &str, path: &str, body: &str) -> (String, String) {
    exchange_with(address, method, path, body, "").await
}

/// The same with further header fields.
async fn exchange_with(address: SocketAddr, method: &str, path: &str, body: &str, fields: &str) -> (String, String) {
    let mut connection = TcpStream::connect(address).await.unwrap();
    let kind = if body.is_empty() {
        ""
    } else {
        "content-type: application/json\r\n"
    };
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{kind}{fields}content-length: {}\r\n\r\n",
        body.len()
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    // A server that refuses the size may hang up before it has read everything.
    connection.write_all(body.as_bytes()).await.ok();
    let mut answer = Vec::new();
    connection.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_string(), body.to_string())
}

async fn ask_json(address: SocketAddr, method: &str, path: &str, body: &str) -> (u16, Value) {
    let (status, body) = ask(address, method, path, body).await;
    (
        status,
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")),
    )
}

#[tokio::test]
async fn rest_puts_a_request_together_from_path_query_and_body() {
    let address = rest().await;
    let (status, jobs) = ask_json(address, "GET", "/api/v1/jobs?all=true", "").await;
    assert_eq!((status, jobs["jobs"].as_array().unwrap().len()), (200, 2));
    let (_, job) = ask_json(address, "GET", "/api/v1/jobs/toll%2Dbooth", "").await;
    assert_eq!((&job["name"], &job["state"]), (&json!("toll-booth"), &json!("running")));
    let (_, job) = ask_json(address, "POST", "/api/v1/jobs/a/stop", r#"{"savepoint":"kept"}"#).await;
    assert_eq!(job["reason"], "kept");
    let (_, job) = ask_json(address, "POST", "/api/v1/jobs/a/rescale?parallelism=4", "").await;
    assert_eq!(job["parallelism"], 4);
    let (_, detail) = ask_json(address, "GET", "/api/v1/jobs/a/checkpoints/12", "").await;
    assert_eq!(detail["checkpoint"]["checkpoint"], 12);
    let (_, taken) = ask_json(address, "POST", "/api/v1/jobs/a/checkpoints", "").await;
    assert_eq!(taken["job"], "a");
    let (status, refused) = ask_json(address, "DELETE", "/api/v1/jobs/a/checkpoints/12", "").await;
    assert_eq!((status, &refused["message"]), (409, &json!("a/12 is needed")));
    let (status, _) = ask_json(address, "DELETE", "/api/v1/jobs/a/savepoints/kept", "").await;
    assert_eq!(status, 200);
    let ids = r#"{"ids":["x-0"]}"#;
    let (_, ended) = ask_json(address, "POST", "/api/v1/jobs/a/transactions/abort", ids).await;
    assert_eq!(ended["ids"], json!(["a/x-0"]));
}

#[tokio::test]
async fn rest_refuses_with_a_code_and_words() {
    #[track_caller]
    fn check(answer: (u16, Value), status: u16, code: &str, message: &str) {
        assert_eq!(answer.0, status, "{}", answer.1);
        assert_eq!(answer.1["code"], code);
        assert_eq!(answer.1["message"], message);
    }
    let address = rest().await;
    let answer = ask_json(address, "GET", "/api/v1/jobs/x", "").await;
    check(answer, 404, "job-not-found", "there is no job `x`");
    let answer = ask_json(address, "GET", "/api/v1/jobs/elsewhere", "").await;
    assert_eq!(answer.1["leader"], "http://other:7070");
    let wrong = r#"{"pipeline":{"yaml":{"text":"wrong"}}}"#;
    let answer = ask_json(address, "POST", "/api/v1/jobs", wrong).await;
    assert_eq!(answer.1["mistakes"][0]["line"], 3);
    check(answer, 422, "invalid-pipeline", "the pipeline does not plan");
    let answer = ask_json(address, "POST", "/api/v1/jobs", r#"{"nmae":"a"}"#).await;
    check(
        answer,
        400,
        "invalid-request",
        "nmae: unknown field; did you mean `name`?",
    );
    let answer = ask_json(address, "POST", "/api/v1/jobs/a/stop", r#"{"name":"b"}"#).await;
    check(answer, 400, "invalid-request", "name: differs from the one in the path");
    let answer = ask_json(address, "POST", "/api/v1/jobs", "{").await;
    assert_eq!(answer.0, 400);
    let answer = ask_json(address, "GET", "/api/v1/nothing", "").await;
    check(
        answer,
        404,
        "invalid-request",
        "there is no call `GET /api/v1/nothing`; /api/v1/openapi.json lists them",
    );
    let answer = ask_json(address, "DELETE", "/api/v1/workers", "").await;
    check(
        answer,
        405,
        "invalid-request",
        "`/api/v1/workers` does not take DELETE; /api/v1/openapi.json lists the calls",
    );
    for (method, path) in [("GET", "/api/v1/nothing"), ("DELETE", "/api/v1/workers")] {
        let head = head_of(address, method, path, "").await;
        assert!(head.contains("content-type: application/json"), "{head}");
    }
    let panics = r#"{"pipeline":{"yaml":{"text":"panic"}}}"#;
    let answer = ask_json(address, "POST", "/api/v1/jobs", panics).await;
    check(
        answer,
        500,
        "internal",
        "the call `submit` was aborted by an internal error; see the coordinator's log",
    );
}

#[tokio::test]
async fn rest_streams_server_sent_events() {
    let address = rest().await;
    let (status, body) = ask(address, "GET", "/api/v1/watch?names=a,b", "").await;
    assert_eq!(status, 200);
    assert!(body.contains(r#"data: {"job":{"name":"a""#), "{body}");
    assert!(body.contains(r#"data: {"job":{"name":"b""#), "{body}");
}

#[tokio::test]
async fn a_standby_serves_nothing_but_what_it_knows_of_the_cluster() {
    let mut client = HealthClient::new(channel().await);
    let mut check = async |service: &str| {
        let request = HealthCheckRequest {
            service: service.into(),
        };
        client.check(request).await.map(|answer| answer.into_inner().status())
    };
    let cluster = check("millstream.v1.ClusterService").await.unwrap();
    assert_eq!(cluster, ServingStatus::Serving);
    // Known as soon as it was looked at first.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(30);
    loop {
        match check("millstream.v1.JobService").await {
            Ok(jobs) => {
                assert_eq!(jobs, ServingStatus::NotServing);
                return;
            }
            Err(status) => assert_eq!(status.code(), tonic::Code::NotFound),
        }
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn grpc_errors_carry_their_detail() {
    let mut client = grpc().await;
    let refused = client.get(v1::GetJobRequest { name: "x".into() }).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::NotFound);
    assert_eq!(refused.message(), "there is no job `x`");
    assert_eq!(status::detail(&refused).unwrap().code, "job-not-found");
    let too_long = v1::SubmitRequest {
        name: Some("a".repeat(REQUEST_BYTES_MAX + 1)),
        ..v1::SubmitRequest::default()
    };
    let refused = client.submit(too_long).await.unwrap_err();
    assert!(refused.message().contains("too large"), "{refused}");
    let names = vec!["a".to_string(), "b".to_string()];
    let events = client.watch(v1::WatchJobsRequest { names }).await.unwrap().into_inner();
    assert_eq!(events.count().await, 2);
}

/// Checks that all references resolve, that every name in a path is declared, that names of operations are unique, and
/// that each call of the API is described.
#[test]
fn the_description_is_whole() {
    let table = table();
    let description = openapi::description(&table);
    assert!(description["openapi"].as_str().unwrap().starts_with("3.1."));
    let schemas = description["components"]["schemas"].as_object().unwrap();
    for name in openapi::references(&description) {
        assert!(schemas.contains_key(&name), "{name}");
    }
    let mut names = BTreeSet::new();
    for (path, methods) in description["paths"].as_object().unwrap() {
        for (_, operation) in methods.as_object().unwrap() {
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{operation}");
            assert!(operation["responses"]["200"]["description"].is_string());
            let mut declared = BTreeSet::new();
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                assert!(parameter["schema"].is_object(), "{path}: {parameter}");
                if parameter["in"] == "path" {
                    assert_eq!(parameter["required"], true);
                    declared.insert(parameter["name"].as_str().unwrap());
                }
            }
            let in_path: BTreeSet<_> = path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            assert_eq!(declared, in_path, "{path}");
        }
    }
    assert_eq!(names.len(), table.len());
    assert_eq!(
        names.len(),
        27,
        "one for each method of Api, and two that take a pipeline for a job"
    );
}

#[tokio::test]
async fn a_server_with_tokens_requires_them_on_both_surfaces() {
    use millstream_proto::v1::cluster_service_client::ClusterServiceClient;

    use crate::access::{NewToken, Role, TokenFile};

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokens.json");
    let new = NewToken {
        name: "viewer".into(),
        role: Role::Viewer,
        pipelines: vec!["toll".into()],
        valid_s: None,
    };
    let secret = TokenFile::create(&path, &new).unwrap();
    let access = Access::from_file(&path).unwrap();

    let address = rest_with(&access).await;
    let (head, body) = exchange_with(address, "GET", "/api/v1/jobs", "", "").await;
    assert!(
        head.starts_with("HTTP/1.1 401 ") && head.contains("www-authenticate: Bearer"),
        "{head}"
    );
    assert!(body.contains("\"code\":\"unauthenticated\""), "{body}");
    let authorization = format!("authorization: Bearer {secret}\r\n");
    let (head, body) = exchange_with(address, "GET", "/api/v1/jobs?all=true", "", &authorization).await;
    // Lists contain the token's pipelines only.
    assert!(
        head.starts_with("HTTP/1.1 200 ") && body.contains("toll") && !body.contains("\"ended\",\"state\""),
        "{body}"
    );
    let (head, body) = exchange_with(address, "POST", "/api/v1/jobs/toll/stop", "", &authorization).await;
    assert!(head.starts_with("HTTP/1.1 403 "), "{head}");
    assert!(
        body.contains("\"code\":\"permission-denied\"") && body.contains("role `viewer`"),
        "{body}"
    );

    let channel = channel_with(&access).await;
    let mut jobs = JobServiceClient::new(channel.clone());
    let refused = jobs.list(v1::ListJobsRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated);
    assert_eq!(status::detail(&refused).unwrap().code, "unauthenticated");
    let with_token = |job: &str| {
        let mut request = tonic::Request::new(v1::GetJobRequest { name: job.into() });
        let header = format!("Bearer {secret}").parse().unwrap();
        request.metadata_mut().insert("authorization", header);
        request
    };
    assert_eq!(jobs.get(with_token("toll")).await.unwrap().into_inner().name, "toll");
    let refused = jobs.get(with_token("other")).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::PermissionDenied);
    // Standbys and workers look for the leader without a token.
    let mut cluster = ClusterServiceClient::new(channel);
    let info = cluster.info(v1::ClusterInfoRequest::default()).await.unwrap();
    assert_eq!(info.into_inner(), v1::ClusterInfo::default());
}
