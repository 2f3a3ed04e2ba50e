//! Streams of bytes between processes: TCP, or a replacement.
//!
//! All communication between processes goes through this module: clients are built in [`connect`](crate::connect),
//! servers take connections from [`listen`]. A simulator installs a [`Network`] of its own with [`replace`].

mod accept;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::time::Sleep;
use tonic::transport::server::Connected;

pub use accept::{Acceptor, ConnectionLimit, ConnectionPermit};

/// Limit of connections to a gRPC port: each worker has one to the coordinator and one to each other worker, each
/// client one or two for a moment.
const GRPC_LIMIT: ConnectionLimit = ConnectionLimit {
    name: "GRPC_CONNECTIONS_MAX",
    connections_max: 4096,
    // HTTP/2 has no refusal.
    refusal: b"",
};
/// Part of the open-file limit that a port may use: a half.
const GRPC_FILES_DIVISOR: usize = 2;
/// Limit of the time in which a connection sends the preface of HTTP/2 (RFC 9113, section 3.4). After that it is
/// pinged.
const PREFACE_TIMEOUT: Duration = Duration::from_secs(10);
/// Length of the preface.
const PREFACE_BYTES: usize = 24;

/// A bidirectional connection.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// A replacement for TCP.
#[async_trait]
pub trait Network: Send + Sync {
    /// Connects to an address such as `http://10.0.0.1:7070`.
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Duplex>>;

    /// Opens a port and returns its connections.
    async fn listen(&self, address: SocketAddr) -> io::Result<BoxStream<'static, io::Result<Box<dyn Duplex>>>>;
}

static REPLACEMENT: OnceLock<Box<dyn Network>> = OnceLock::new();

/// Replaces TCP for the whole process. Only the first call has an effect.
pub fn replace(network: Box<dyn Network>) {
    REPLACEMENT.get_or_init(|| network);
}

/// Returns the network that replaces TCP, if there is one.
pub fn replacement() -> Option<&'static dyn Network> {
    REPLACEMENT.get().map(AsRef::as_ref)
}

/// An open port.
pub struct Listener {
    /// The address, with the port that the system has chosen if 0 was asked for.
    pub address: SocketAddr,
    /// The connections, for a gRPC server.
    pub incoming: BoxStream<'static, io::Result<Accepted>>,
}

/// Opens a port; port 0 lets the system choose one.
pub async fn listen(address: SocketAddr) -> io::Result<Listener> {
    if let Some(network) = replacement() {
        let incoming = network.listen(address).await?.map(|accepted| {
            Ok(Accepted {
                stream: accepted?,
                preface: None,
                _permit: None,
            })
        });
        return Ok(Listener {
            address,
            incoming: incoming.boxed(),
        });
    }
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let acceptor = Acceptor::new(listener, GRPC_LIMIT.within_open_files(GRPC_FILES_DIVISOR));
    let incoming = stream::unfold(acceptor, async |mut acceptor| {
        let (stream, counted) = acceptor.accept().await;
        let accepted = Accepted {
            stream: Box::new(stream),
            preface: Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(PREFACE_TIMEOUT)))),
            _permit: Some(counted),
        };
        Some((Ok(accepted), acceptor))
    });
    Ok(Listener {
        address,
        incoming: incoming.boxed(),
    })
}

/// An accepted connection.
pub struct Accepted {
    stream: Box<dyn Duplex>,
    /// The missing bytes of the preface, and its timeout.
    preface: Option<(usize, Pin<Box<Sleep>>)>,
    _permit: Option<ConnectionPermit>,
}

impl Accepted {
    /// Counts the bytes of the preface that were read. An error means that it is late.
    fn await_preface(&mut self, context: &mut Context<'_>, read_bytes: usize) -> io::Result<()> {
        let Some((missing_bytes, timeout)) = &mut self.preface else {
            return Ok(());
        };
        *missing_bytes = missing_bytes.saturating_sub(read_bytes);
        if *missing_bytes == 0 {
            self.preface = None;
        } else if timeout.as_mut().poll(context).is_ready() {
            let message = format!("no request within {} s (PREFACE_TIMEOUT)", PREFACE_TIMEOUT.as_secs());
            return Err(io::Error::new(io::ErrorKind::TimedOut, message));
        }
        Ok(())
    }
}

impl Connected for Accepted {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Accepted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        let read_bytes = buffer.filled().len() - before;
        if let Err(error) = self.await_preface(context, read_bytes) {
            return Poll::Ready(Err(error));
        }
        polled
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
