//! Outgoing connections: the one place where gRPC clients are built.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use millstream_proto::v1;
use millstream_proto::v1::cluster_service_client::ClusterServiceClient;
use millstream_proto::v1::exchange_service_client::ExchangeServiceClient;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::{Error, network};

/// Limit of the time to connect to a worker.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The same for a coordinator; there may be others to try.
const COORDINATOR_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Interval of pings; a peer that does not answer one within the timeout is gone.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Limit of the time in which a coordinator states whether it leads, unless the caller has another limit.
pub const PING_TIMEOUT: Duration = Duration::from_millis(800);
/// Limit of the time in which a worker states its identity.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(3);
/// Bytes in flight on one connection, enough for a fast network with high latency.
const WINDOW_BYTES: u32 = 16 << 20;

/// Connects to a worker's data port.
pub async fn worker(address: &str) -> Result<Channel, Error> {
    connect(address, "worker", CONNECT_TIMEOUT).await
}

/// Connects to a coordinator.
pub async fn coordinator(address: &str) -> Result<Channel, Error> {
    connect(address, "coordinator", COORDINATOR_CONNECT_TIMEOUT).await
}

/// The reason why a coordinator did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PingError {
    /// No answer in time: the host is unreachable, or the process has not run.
    #[error("not within {} ms", .0.as_millis())]
    Timeout(Duration),
    /// The connection or the call was refused.
    #[error("{0}")]
    Refused(String),
}

/// Asks a coordinator for its information. The connection is a new one, because one that hangs does not show which
/// coordinator leads.
pub async fn coordinator_info(address: &str, timeout: Duration) -> Result<v1::ClusterInfo, PingError> {
    let asked = async {
        let channel = coordinator(address).await.map_err(|error| error.to_string())?;
        let answer = ClusterServiceClient::new(channel)
            .info(v1::ClusterInfoRequest::default())
            .await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| status.to_string())
    };
    match tokio::time::timeout(timeout, asked).await {
        Ok(answer) => answer.map_err(PingError::Refused),
        Err(_) => Err(PingError::Timeout(timeout)),
    }
}

/// Asks for the identity of the worker at a data port. The connection is a new one, like that of another worker.
pub async fn worker_identity(address: &str) -> Result<v1::WhoResponse, String> {
    let asked = async {
        let channel = worker(address).await.map_err(|error| error.to_string())?;
        let answer = ExchangeServiceClient::new(channel).who(v1::WhoRequest {}).await;
        answer
            .map(tonic::Response::into_inner)
            .map_err(|status| format!("what listens at {address} is no worker: {}", status.message()))
    };
    tokio::time::timeout(IDENTITY_TIMEOUT, asked)
        .await
        .map_err(|_| format!("{address} does not answer within {} s", IDENTITY_TIMEOUT.as_secs()))?
}

/// Checks the form of an address; an error states why no network can reach it.
pub fn check_address(address: &str) -> Result<(), String> {
    let refused = |why: &str| Err(format!("not an address{why}; write one like http://host:7070"));
    let Ok(uri) = address.parse::<tonic::codegen::http::Uri>() else {
        return refused("");
    };
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") => return refused(": TLS is not spoken"),
        _ => return refused(""),
    }
    if uri.host().is_none_or(str::is_empty) || uri.path().len() > 1 || uri.query().is_some() {
        return refused("");
    }
    let port = uri
        .authority()
        .and_then(|authority| authority.as_str().rsplit_once(':'));
    if port.is_some_and(|(_, port)| !port.ends_with(']') && uri.port_u16().is_none_or(|port| port == 0)) {
        return refused(": there is no such port");
    }
    Ok(())
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
    let connected = match network::replacement() {
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

/// Returns the innermost cause of an error: the outermost one is no more than "transport error".
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_addresses_are_refused() {
        for good in [
            "http://host:7070",
            "http://10.0.0.1:7071/",
            "http://[::1]:7071",
            "http://host",
        ] {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        for bad in [
            "bogus://",
            "bogus://host:1",
            "host:7070",
            "host",
            "",
            "http://",
            "http://:7070",
            "https://host:7070",
            "http://host:99999",
            "http://host:0",
            "http://host:",
            "http://a b:7070",
            "http://host:7070/path",
        ] {
            assert!(check_address(bad).is_err(), "{bad}");
        }
    }
}
