//! Accepts connections within limits, so that clients cannot exhaust the file descriptors of the process.
//!
//! Each port has its own limit of connections, so that one port cannot starve the others; connections beyond it are
//! closed at once. While the process or the machine is out of file descriptors nothing can be accepted; accepting is
//! retried after a pause.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Pause before accepting is retried after an error.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Interval of warnings about the same port.
const WARN_INTERVAL: Duration = Duration::from_secs(10);

/// The limit of connections to a port.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimit {
    /// Name of the limit, for messages.
    pub name: &'static str,
    /// Largest number of connections.
    pub connections_max: usize,
    /// Bytes that a refused connection is sent before it is closed.
    pub refusal: &'static [u8],
}

impl ConnectionLimit {
    /// Returns this limit, but no more than a part of the open-file limit of this process.
    pub fn within_open_files(self, divisor: usize) -> Self {
        let connections_max = match open_files_max() {
            Some(files) => self.connections_max.min(files / divisor).max(1),
            None => self.connections_max,
        };
        Self {
            connections_max,
            ..self
        }
    }
}

/// Returns the soft limit of open files of this process (`ulimit -n`); `None` if it cannot be read.
fn open_files_max() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The permit of a connection, which counts against the limit of its port until it is dropped.
pub type ConnectionPermit = OwnedSemaphorePermit;

/// An open TCP port.
pub struct Acceptor {
    listener: TcpListener,
    limit: ConnectionLimit,
    permits: Arc<Semaphore>,
    warned_at: Option<Instant>,
}

impl Acceptor {
    /// Accepts connections at a port within a limit.
    pub fn new(listener: TcpListener, limit: ConnectionLimit) -> Self {
        Self {
            listener,
            limit,
            permits: Arc::new(Semaphore::new(limit.connections_max)),
            warned_at: None,
        }
    }

    /// Accepts the next connection. Errors are retried.
    pub async fn accept(&mut self) -> (TcpStream, ConnectionPermit) {
        loop {
            let (stream, peer) = match self.listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_connection(&error) => continue,
                Err(error) => {
                    self.warn(|port| format!("no connection can be accepted at {port} now: {error}"));
                    tokio::time::sleep(RETRY_PAUSE).await;
                    continue;
                }
            };
            let Ok(permit) = self.permits.clone().try_acquire_owned() else {
                let ConnectionLimit {
                    name,
                    connections_max,
                    refusal,
                } = self.limit;
                self.warn(|port| {
                    format!("{port} has {connections_max} connections, the most it may have ({name}); another, from {peer}, was closed")
                });
                // A client that does not read the refusal sees the closed connection.
                if let Err(error) = stream.try_write(refusal) {
                    tracing::debug!("the refusal could not be sent to {peer}: {error}");
                }
                continue;
            };
            // Small frames must not wait for acknowledgements (Nagle); servers do not set this.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!("{peer} has disconnected already: {error}");
                continue;
            }
            return (stream, permit);
        }
    }

    fn warn(&mut self, message: impl FnOnce(&str) -> String) {
        if self.warned_at.is_some_and(|at| at.elapsed() < WARN_INTERVAL) {
            return;
        }
        self.warned_at = Some(Instant::now());
        let port = self
            .listener
            .local_addr()
            .map_or("a port".into(), |address: SocketAddr| address.to_string());
        tracing::warn!("{}", message(&port));
    }
}

/// Returns true for errors of one connection, not of the port.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn connections_beyond_the_limit_are_refused_until_others_have_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limit = ConnectionLimit {
            name: "TEST_MAX",
            connections_max: 2,
            refusal: b"full\n",
        };
        let mut acceptor = Acceptor::new(listener, limit);
        let mut held = Vec::new();
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        for _ in 0..2 {
            held.push(acceptor.accept().await);
        }
        let mut refused = TcpStream::connect(address).await.unwrap();
        let accepting = tokio::spawn(async move { acceptor.accept().await });
        let mut told = String::new();
        refused.read_to_string(&mut told).await.unwrap();
        assert_eq!(told, "full\n");
        held.clear();
        let _next = TcpStream::connect(address).await.unwrap();
        drop(accepting.await.unwrap());
    }

    #[test]
    fn a_limit_is_a_part_of_the_open_files() {
        let files = open_files_max().expect("Linux says so");
        let limit = ConnectionLimit {
            name: "TEST_MAX",
            connections_max: usize::MAX,
            refusal: b"",
        };
        assert_eq!(limit.within_open_files(4).connections_max, files / 4);
        assert_eq!(limit.within_open_files(usize::MAX).connections_max, 1);
    }
}
