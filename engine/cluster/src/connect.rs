//! Connections of this process to others: the one place where a client is built.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use millstream_proto::v1;
use millstream_proto::v1::cluster_service_client::ClusterServiceClient;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{Error, network};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// There may be others to try.
const COORDINATOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A peer that does not answer pings for this long is gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a coordinator may take to say whether it leads.
const PING_TIMEOUT: Duration = Duration::from_millis(800);
/// What may be on its way on one connection, so that a fast network is not kept waiting for acknowledgements.
const WINDOW_BYTES: u32 = 16 << 20;

/// To a worker's data port.
pub async fn worker(address: &str) -> Result<Channel, Error> {
    connect(address, "worker", CONNECT_TIMEOUT).await
}

/// To a coordinator.
pub async fn coordinator(address: &str) -> Result<Channel, Error> {
    connect(address, "coordinator", COORDINATOR_CONNECT_TIMEOUT).await
}

/// What a coordinator says of itself; an answer that takes longer than [`PING_TIMEOUT`] is none. The connection is one of
/// its own: one that hangs says nothing about who leads.
pub async fn ask_who_leads(address: &str) -> Result<v1::ClusterInfo, String> {
    let asked = async {
        let channel = coordinator(address).await.map_err(|error| error.to_string())?;
        let answer = ClusterServiceClient::new(channel).info(v1::ClusterInfoRequest {}).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.to_string())
    };
    tokio::time::timeout(PING_TIMEOUT, asked)
        .await
        .map_err(|_| format!("not within {} ms", PING_TIMEOUT.as_millis()))?
}

async fn connect(address: &str, what: &str, timeout: Duration) -> Result<Channel, Error> {
    let endpoint = Endpoint::from_shared(address.to_string()).map_err(|error| {
        Error::Invalid(format!(
            "`{address}` is not the address of a {what}: {error}; write one like http://host:7070"
        ))
    })?;
    let endpoint = endpoint
        .connect_timeout(timeout)
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .initial_connection_window_size(WINDOW_BYTES)
        .initial_stream_window_size(WINDOW_BYTES)
        .tcp_nodelay(true);
    let connected = match network::instead() {
        None => endpoint.connect().await,
        Some(network) => {
            let address = address.to_string();
            let connector = service_fn(move |_| {
                let address = address.clone();
                async move { network.connect(&address).await.map(TokioIo::new) }
            });
            endpoint.connect_with_connector(connector).await
        }
    };
    connected.map_err(|error| Error::Failed(format!("the {what} at {address} cannot be reached: {}", cause(&error))))
}

/// What is at the bottom of an error: the top says no more than "transport error".
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
