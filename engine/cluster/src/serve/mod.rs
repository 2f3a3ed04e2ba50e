//! The client API on the wire: gRPC and REST/JSON over one [`Api`].
//!
//! [`grpc_router`] and [`rest_router`] offer the same calls. Both pass requests to the [`Api`] through an admission
//! that limits and times every call, and both return the same errors with their stable codes. Neither makes decisions
//! about jobs.
//!
//! A call continues to its end even if its client disconnects, so that no submission is left half done.

mod admission;
mod authentication;
mod grpc;
mod http;
mod openapi;
mod rest;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use millstream_proto::status;
use millstream_proto::v1::ErrorDetail;
use tonic::Status;
use tonic::service::Routes;

use crate::access::Access;
use crate::api::{Api, Code, Error};

pub use authentication::worker_interceptor;
pub use http::serve as serve_http;
pub use rest::router as rest_router;

/// Size limit of a request, on either surface. A pipeline's text may have half of it.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Size limit of a response.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Time for the body of a request to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls in progress on one surface.
pub const CALLS_MAX: usize = 256;
/// Open streams of events or log lines on one surface.
pub const STREAMS_MAX: usize = 1024;
/// Time after which the client gets a timeout error. The call itself continues.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for calls that wait for a checkpoint.
pub const CHECKPOINT_CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// Interval of keep-alive pings on a silent connection.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// Time for the answer to a keep-alive ping.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Concurrent requests on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;

/// Returns a gRPC server with the keep-alive settings that all of our servers use.
pub fn grpc_server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
}

/// Returns the gRPC services of the client API, with health checks and reflection.
pub async fn grpc_router(api: Arc<dyn Api>, access: &Access) -> Routes {
    grpc::routes(api, access).await
}

/// Returns the details of an error that both surfaces send beside its message.
fn detail(error: &Error) -> ErrorDetail {
    ErrorDetail {
        code: error.code.as_str().to_string(),
        mistakes: error.mistakes.clone(),
        leader: error.leader.clone().unwrap_or_default(),
    }
}

/// Returns the status of an error, for gRPC, with its details.
fn to_status(error: &Error) -> Status {
    let code = match error.code {
        Code::InvalidRequest | Code::InvalidPipeline => tonic::Code::InvalidArgument,
        Code::JobNotFound | Code::CheckpointNotFound | Code::WorkerNotFound => tonic::Code::NotFound,
        Code::NameInUse => tonic::Code::AlreadyExists,
        Code::CheckpointDoesNotFit | Code::WrongState => tonic::Code::FailedPrecondition,
        Code::LimitReached => tonic::Code::ResourceExhausted,
        Code::NotLeader | Code::Unavailable => tonic::Code::Unavailable,
        Code::Unauthenticated => tonic::Code::Unauthenticated,
        Code::PermissionDenied => tonic::Code::PermissionDenied,
        Code::Internal => tonic::Code::Internal,
    };
    status::with_detail(code, &error.message, &detail(error))
}

#[cfg(test)]
mod tests;
