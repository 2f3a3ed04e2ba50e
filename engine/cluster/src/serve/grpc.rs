//! The gRPC services. Each method passes its message to the [`Api`].

use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use millstream_proto::v1;
use millstream_proto::v1::checkpoint_service_server::{CheckpointService, CheckpointServiceServer};
use millstream_proto::v1::cluster_service_server::{ClusterService, ClusterServiceServer};
use millstream_proto::v1::job_service_server::{JobService, JobServiceServer};
use millstream_proto::v1::transaction_service_server::{TransactionService, TransactionServiceServer};
use millstream_proto::v1::worker_service_server::{WorkerService, WorkerServiceServer};
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::admission::Admission;
use super::authentication::client_interceptor;
use super::{ANSWER_BYTES_MAX, REQUEST_BYTES_MAX, to_status};
use crate::access::{Access, Caller, Guard, not_authenticated};
use crate::api::{Api, Error};
use crate::spans;

/// Interval of the health checks.
const HEALTH_INTERVAL: Duration = Duration::from_secs(1);

/// Reports services as not serving while the coordinator does not lead or cannot use its data folder, except for the
/// cluster service. Runs until the API is dropped.
async fn update_health(api: Weak<dyn Api>, health: HealthReporter) {
    let mut leads = None;
    loop {
        let Some(strong) = api.upgrade() else { return };
        let info = strong.info(v1::ClusterInfoRequest::default()).await;
        drop(strong);
        let now = info.is_ok_and(|info| info.is_leader && info.storage_problem.is_empty());
        if leads != Some(now) {
            leads = Some(now);
            let status = match now {
                true => ServingStatus::Serving,
                false => ServingStatus::NotServing,
            };
            for service in [
                JobServiceServer::<Services>::NAME,
                CheckpointServiceServer::<Services>::NAME,
                WorkerServiceServer::<Services>::NAME,
                TransactionServiceServer::<Services>::NAME,
            ] {
                health.set_service_status(service, status).await;
            }
        }
        tokio::time::sleep(HEALTH_INTERVAL).await;
    }
}

/// Returns the services of the client API, with health checks and reflection.
pub(super) async fn routes(api: Arc<dyn Api>, access: &Access) -> Routes {
    let services = Services {
        api,
        admission: Admission::new("grpc"),
    };
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<ClusterServiceServer<Services>>().await;
    tokio::spawn(update_health(Arc::downgrade(&services.api), health));
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(millstream_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    macro_rules! limited {
        ($server:ident) => {
            limited!($server, admits_anonymous: false)
        };
        ($server:ident, admits_anonymous: $admits_anonymous:literal) => {
            InterceptedService::new(
                $server::new(services.clone())
                    .max_decoding_message_size(REQUEST_BYTES_MAX)
                    .max_encoding_message_size(ANSWER_BYTES_MAX),
                client_interceptor(access, $admits_anonymous),
            )
        };
    }
    Routes::new(limited!(JobServiceServer))
        .add_service(limited!(CheckpointServiceServer))
        .add_service(limited!(WorkerServiceServer))
        .add_service(limited!(TransactionServiceServer))
        // Standbys and workers look for the leader here.
        .add_service(limited!(ClusterServiceServer, admits_anonymous: true))
        .add_service(health_service)
        // Both versions of the protocol, as some tools know only the older one.
        .add_service(reflection().build_v1().expect("the build wrote these descriptors"))
        .add_service(reflection().build_v1alpha().expect("the build wrote these descriptors"))
}

#[derive(Clone)]
struct Services {
    api: Arc<dyn Api>,
    admission: Admission,
}

impl Services {
    /// Returns the API as the caller of a request may use it.
    fn api_for<T>(&self, request: &Request<T>) -> Result<Guard, Error> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(not_authenticated)?;
        Ok(Guard::new(self.api.clone(), caller))
    }
}

/// `call!(self, method, request)` calls the API's method of the same name through the admission.
macro_rules! call {
    ($self:ident, $method:ident, $request:ident) => {{
        let admission = $self.admission.with_trace_parent(trace_parent(&$request));
        let api = $self.api_for(&$request);
        let message = $request.into_inner();
        let call = async move { api?.$method(message).await };
        answer(admission.call(stringify!($method), call).await)
    }};
}

macro_rules! stream {
    ($self:ident, $method:ident, $request:ident) => {{
        let admission = $self.admission.with_trace_parent(trace_parent(&$request));
        let api = $self.api_for(&$request);
        let message = $request.into_inner();
        let open = async move { api?.$method(message).await }.boxed();
        let opened = admission.stream(stringify!($method), open).await;
        answer(opened.map(|stream| stream.map(Ok).boxed()))
    }};
}

fn trace_parent<T>(request: &Request<T>) -> Option<&str> {
    request.metadata().get(spans::TRACE_PARENT_HEADER)?.to_str().ok()
}

fn answer<T>(result: Result<T, Error>) -> Result<Response<T>, Status> {
    result.map(Response::new).map_err(|error| to_status(&error))
}

type Events<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl JobService for Services {
    async fn submit(&self, request: Request<v1::SubmitRequest>) -> Result<Response<v1::SubmitResponse>, Status> {
        call!(self, submit, request)
    }

    async fn validate(&self, request: Request<v1::ValidateRequest>) -> Result<Response<v1::ValidateResponse>, Status> {
        call!(self, validate, request)
    }

    async fn diff(&self, request: Request<v1::DiffRequest>) -> Result<Response<v1::DiffResponse>, Status> {
        call!(self, diff, request)
    }

    async fn list(&self, request: Request<v1::ListJobsRequest>) -> Result<Response<v1::ListJobsResponse>, Status> {
        call!(self, list_jobs, request)
    }

    async fn get(&self, request: Request<v1::GetJobRequest>) -> Result<Response<v1::Job>, Status> {
        call!(self, job, request)
    }

    type WatchStream = Events<v1::JobEvent>;

    async fn watch(&self, request: Request<v1::WatchJobsRequest>) -> Result<Response<Self::WatchStream>, Status> {
        stream!(self, watch, request)
    }

    async fn stop(&self, request: Request<v1::StopJobRequest>) -> Result<Response<v1::Job>, Status> {
        call!(self, stop, request)
    }

    async fn cancel(&self, request: Request<v1::CancelJobRequest>) -> Result<Response<v1::Job>, Status> {
        call!(self, cancel, request)
    }

    async fn rescale(&self, request: Request<v1::RescaleJobRequest>) -> Result<Response<v1::Job>, Status> {
        call!(self, rescale, request)
    }

    async fn update(&self, request: Request<v1::UpdateJobRequest>) -> Result<Response<v1::UpdateJobResponse>, Status> {
        call!(self, update, request)
    }

    async fn restart(&self, request: Request<v1::RestartJobRequest>) -> Result<Response<v1::Job>, Status> {
        call!(self, restart, request)
    }

    async fn delete(&self, request: Request<v1::DeleteJobRequest>) -> Result<Response<v1::DeleteJobResponse>, Status> {
        call!(self, delete, request)
    }

    type LogsStream = Events<v1::LogLine>;

    async fn logs(&self, request: Request<v1::JobLogsRequest>) -> Result<Response<Self::LogsStream>, Status> {
        stream!(self, logs, request)
    }
}

#[tonic::async_trait]
impl CheckpointService for Services {
    async fn list(
        &self,
        request: Request<v1::ListCheckpointsRequest>,
    ) -> Result<Response<v1::ListCheckpointsResponse>, Status> {
        call!(self, list_checkpoints, request)
    }

    async fn inspect(
        &self,
        request: Request<v1::InspectCheckpointRequest>,
    ) -> Result<Response<v1::CheckpointDetail>, Status> {
        call!(self, inspect_checkpoint, request)
    }

    type VerifyStream = Events<v1::VerifyEvent>;

    async fn verify(
        &self,
        request: Request<v1::VerifyCheckpointsRequest>,
    ) -> Result<Response<Self::VerifyStream>, Status> {
        stream!(self, verify_checkpoints, request)
    }

    async fn create(&self, request: Request<v1::CreateCheckpointRequest>) -> Result<Response<v1::Checkpoint>, Status> {
        call!(self, create_checkpoint, request)
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteCheckpointRequest>,
    ) -> Result<Response<v1::DeleteCheckpointResponse>, Status> {
        call!(self, delete_checkpoint, request)
    }

    async fn create_savepoint(
        &self,
        request: Request<v1::CreateSavepointRequest>,
    ) -> Result<Response<v1::Checkpoint>, Status> {
        call!(self, create_savepoint, request)
    }

    async fn delete_savepoint(
        &self,
        request: Request<v1::DeleteSavepointRequest>,
    ) -> Result<Response<v1::DeleteSavepointResponse>, Status> {
        call!(self, delete_savepoint, request)
    }
}

#[tonic::async_trait]
impl WorkerService for Services {
    async fn list(
        &self,
        request: Request<v1::ListWorkersRequest>,
    ) -> Result<Response<v1::ListWorkersResponse>, Status> {
        call!(self, list_workers, request)
    }

    async fn drain(&self, request: Request<v1::DrainWorkerRequest>) -> Result<Response<v1::Worker>, Status> {
        call!(self, drain_worker, request)
    }
}

#[tonic::async_trait]
impl TransactionService for Services {
    async fn list(
        &self,
        request: Request<v1::ListTransactionsRequest>,
    ) -> Result<Response<v1::ListTransactionsResponse>, Status> {
        call!(self, list_transactions, request)
    }

    async fn abort(
        &self,
        request: Request<v1::AbortTransactionsRequest>,
    ) -> Result<Response<v1::AbortTransactionsResponse>, Status> {
        call!(self, abort_transactions, request)
    }
}

#[tonic::async_trait]
impl ClusterService for Services {
    async fn info(&self, request: Request<v1::ClusterInfoRequest>) -> Result<Response<v1::ClusterInfo>, Status> {
        call!(self, info, request)
    }
}
