//! What listens at an address that does not answer as a coordinator's gRPC port does.
//!
//! A cluster has several ports, and the one next to it is easily given. Looked at only when a call has failed in a way that
//! no coordinator answers, and briefly.

use std::time::Duration;

use millstream_proto::v1;
use millstream_proto::v1::exchange_service_client::ExchangeServiceClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::transport::Channel;

const PATIENCE: Duration = Duration::from_secs(1);
/// Of an answer, what is read.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// Says which port it is, if it is one of ours, and where to go instead.
pub async fn what_listens(server: &str, channel: Channel) -> Option<String> {
    if let Ok(Some(worker)) = tokio::time::timeout(PATIENCE, worker(channel)).await {
        return Some(format!(
            "{server} is the port of worker `{worker}`, where other workers send rows; give a coordinator's gRPC port, 7070 by \
             default (--server)"
        ));
    }
    let answer = tokio::time::timeout(PATIENCE, http(server)).await.ok()??;
    Some(of_http(server, &answer))
}

async fn worker(channel: Channel) -> Option<String> {
    let who = ExchangeServiceClient::new(channel).who(v1::WhoRequest {}).await.ok()?;
    Some(who.into_inner().name)
}

/// The answer to a question in HTTP/1, as it came; `None`: none came.
async fn http(server: &str) -> Option<String> {
    let host = server.strip_prefix("http://")?;
    let mut stream = TcpStream::connect(host).await.ok()?;
    let question = format!("GET /api/v1/cluster HTTP/1.0\r\nhost: {host}\r\n\r\n");
    stream.write_all(question.as_bytes()).await.ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await.ok()?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    answer.starts_with("HTTP/1").then_some(answer)
}

fn of_http(server: &str, answer: &str) -> String {
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let info: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    match info["leader"].as_str() {
        Some("") => {
            format!("{server} is a coordinator's HTTP port; its gRPC port is another, 7070 by default (--server)")
        }
        Some(leader) => {
            format!("{server} is a coordinator's HTTP port; the gRPC port of the one that leads is {leader} (--server)")
        }
        None => format!(
            "{server} speaks HTTP, as the port for metrics does, and not gRPC; give a coordinator's gRPC port, 7070 by default \
             (--server)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_coordinators_http_port_says_where_to_go() {
        #[track_caller]
        fn check(answer: &str, expected: &str) {
            let said = of_http("http://a:8080", answer);
            assert!(said.contains(expected), "{said}");
        }
        check(
            "HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{\"leader\":\"http://a:7070\"}",
            "the gRPC port of the one that leads is http://a:7070",
        );
        check("HTTP/1.0 200 OK\r\n\r\n{\"leader\":\"\"}", "7070 by default");
        check(
            "HTTP/1.0 404 Not Found\r\n\r\n",
            "speaks HTTP, as the port for metrics does",
        );
    }
}
