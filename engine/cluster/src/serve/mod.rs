//! The client API on the wire: gRPC and REST/JSON over one [`Api`].
//!
//! [`grpc_router`] and [`rest_router`] are two spellings of the same calls: both hand the request to the [`Api`] through
//! a gate that limits and times every call, and both write the same error, with its stable code. Neither decides
//! anything about jobs.
//!
//! A call that has begun is carried to its end even if its client goes away: a half-done submission would help nobody.

mod admission;
mod grpc;
mod http;
mod openapi;
mod rest;
mod routes;

use std::sync::Arc;
use std::time::Duration;

use millstream_proto::v1::ErrorDetail;
use tonic::service::Routes;

use crate::api::{Api, Error};

pub use http::serve as serve_http;
pub use rest::router as rest_router;

/// Largest request that is read, on either surface; a pipeline's text is at most half of it.
pub const REQUEST_BYTES_MAX: usize = 8 << 20;
/// Largest answer that is sent.
pub const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Time for the body of a request to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// Calls in progress at once, on one surface.
pub const CALLS_MAX: usize = 256;
/// Open streams of events or log lines at once, on one surface.
pub const STREAMS_MAX: usize = 1024;
/// After so long the client is told that the answer takes too long; what the call began goes on.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// The same for calls that wait for a checkpoint.
pub const CHECKPOINT_CALL_TIMEOUT: Duration = Duration::from_secs(600);
/// How often a silent connection is asked whether its other end is still there.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// How long it has to answer.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests at once on one connection.
const STREAMS_PER_CONNECTION_MAX: u32 = 1024;

/// How every gRPC server of ours is built: the one place for keep-alive and, one day, for TLS.
pub fn grpc_server() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(STREAMS_PER_CONNECTION_MAX)
}

/// The client API's gRPC services, with health and reflection beside them.
pub async fn grpc_router(api: Arc<dyn Api>) -> Routes {
    grpc::routes(api).await
}

/// An error as both surfaces write it, beside its message.
fn detail(error: &Error) -> ErrorDetail {
    ErrorDetail {
        code: error.code.as_str().to_string(),
        mistakes: error.mistakes.clone(),
        leader: error.leader.clone().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests;
