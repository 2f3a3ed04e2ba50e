//! Identifies the server behind an address that does not answer like a coordinator's gRPC port.
//!
//! A cluster has several ports, and they are easily confused. Called only after an error that no coordinator returns,
//! with short timeouts.

use std::time::Duration;

use millstream_proto::v1;
use millstream_proto::v1::exchange_service_client::ExchangeServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;

const TIMEOUT: Duration = Duration::from_secs(1);
/// Most bytes that are read of a response.
const RESPONSE_BYTES_MAX: u64 = 64 << 10;

/// Returns a message that names the port behind `server` and the one to use instead, if it is a port of a Millstream
/// process.
pub async fn identify(server: &str, channel: Channel) -> Option<String> {
    if let Ok(Some(worker)) = tokio::time::timeout(TIMEOUT, worker_name(channel)).await {
        return Some(format!(
            "{server} is the data port of worker `{worker}`; use a coordinator's gRPC port, 7070 by default (--server)"
        ));
    }
    let response = tokio::time::timeout(TIMEOUT, http_response(server)).await.ok()??;
    Some(http_port_message(server, &response))
}

async fn worker_name(channel: Channel) -> Option<String> {
    let who = ExchangeServiceClient::new(channel).who(v1::WhoRequest {}).await.ok()?;
    Some(who.into_inner().name)
}

/// Returns the response to an HTTP/1 request, with its head; `None` if the server does not speak HTTP.
async fn http_response(server: &str) -> Option<String> {
    let host = server.strip_prefix("http://")?;
    let mut stream = TcpStream::connect(host).await.ok()?;
    let request = format!("GET /api/v1/cluster HTTP/1.0\r\nhost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut response = Vec::new();
    stream.take(RESPONSE_BYTES_MAX).read_to_end(&mut response).await.ok()?;
    let response = String::from_utf8_lossy(&response).into_owned();
    response.starts_with("HTTP/1").then_some(response)
}

fn http_port_message(server: &str, response: &str) -> String {
    let body = response.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let info: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    match info["leader"].as_str() {
        Some("") => {
            format!("{server} is a coordinator's HTTP port; use its gRPC port, 7070 by default (--server)")
        }
        Some(leader) => {
            format!("{server} is a coordinator's HTTP port; the leader's gRPC port is {leader} (--server)")
        }
        None => format!(
            "{server} is an HTTP server, possibly a metrics port; use a coordinator's gRPC port, 7070 by default (--server)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_http_port_is_identified_and_the_grpc_port_is_named() {
        #[track_caller]
        fn check(response: &str, expected: &str) {
            let message = http_port_message("http://a:8080", response);
            assert!(message.contains(expected), "{message}");
        }
        check(
            "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"leader\":\"http://a:7070\"}",
            "the leader's gRPC port is http://a:7070",
        );
        check("HTTP/1.0 200 OK\r\n\r\n{\"leader\":\"\"}", "7070 by default");
        check(
            "HTTP/1.0 404 Not Found\r\n\r\n",
            "is an HTTP server, possibly a metrics port",
        );
    }
}
