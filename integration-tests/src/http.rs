//! A minimal HTTP client for tests: one request per connection.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// Time for a response.
const TIMEOUT: Duration = Duration::from_secs(60);

/// A response.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status code.
    pub status: u16,
    /// Head without the status line: a header per line.
    pub head: String,
    /// Body.
    pub body: String,
}

impl Response {
    /// Returns the value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let named = |line: &str| {
            let (key, _) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then_some(key.len() + 1)
        };
        let mut lines = self.head.lines();
        lines.find_map(|line| Some(line[named(line)?..].trim()))
    }
}

/// Sends a request to a port of this machine. The error says which part failed.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Response, String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).map_err(|e| format!("port {port}: {e}"))?;
    stream.set_read_timeout(Some(TIMEOUT)).map_err(|e| e.to_string())?;
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\nHost: test\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    // A server may answer and close before it has read a body that it refuses.
    let sent = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body));
    let mut bytes = Vec::new();
    let received = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes);
    let parsed = text.split_once("\r\n\r\n").and_then(|(head, body)| {
        let (line, head) = head.split_once("\r\n").unwrap_or((head, ""));
        Some(Response {
            status: line.split(' ').nth(1)?.parse().ok()?,
            head: head.to_string(),
            body: body.to_string(),
        })
    });
    parsed.ok_or_else(|| format!("{method} {path}: no response: sent {sent:?}, received {received:?}: {text}"))
}

/// Sends JSON by POST.
pub fn post_json(port: u16, path: &str, body: &str) -> Result<Response, String> {
    request(
        port,
        "POST",
        path,
        &[("Content-Type", "application/json")],
        body.as_bytes(),
    )
}
