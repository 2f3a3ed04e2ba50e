//! Streams of bytes between processes: TCP, unless something else was put in its place.
//!
//! Everything that is said between processes goes through here: clients are built in [`connect`](crate::connect),
//! servers take what [`listen`] lets in. A simulator brings a [`Network`] of its own, with [`replace`].

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::server::Connected;

/// A connection, both ways.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Duplex for T {}

/// What stands in for TCP.
#[async_trait]
pub trait Network: Send + Sync {
    /// To an address such as `http://10.0.0.1:7070`.
    async fn connect(&self, address: &str) -> io::Result<Box<dyn Duplex>>;

    /// Whoever connects to the address from now on.
    async fn listen(&self, address: SocketAddr) -> io::Result<BoxStream<'static, io::Result<Box<dyn Duplex>>>>;
}

static INSTEAD: OnceLock<Box<dyn Network>> = OnceLock::new();

/// Puts another network in place of TCP, for the whole process. Only the first call counts.
pub fn replace(network: Box<dyn Network>) {
    INSTEAD.get_or_init(|| network);
}

/// The network in place of TCP, if there is one.
pub fn instead() -> Option<&'static dyn Network> {
    INSTEAD.get().map(AsRef::as_ref)
}

/// An open port.
pub struct Listener {
    /// What it really listens at.
    pub address: SocketAddr,
    /// For a gRPC server.
    pub incoming: BoxStream<'static, io::Result<Accepted>>,
}

/// Opens a port. 0: any that is free.
pub async fn listen(address: SocketAddr) -> io::Result<Listener> {
    if let Some(network) = instead() {
        let incoming = network.listen(address).await?.map(|accepted| accepted.map(Accepted));
        return Ok(Listener {
            address,
            incoming: incoming.boxed(),
        });
    }
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let incoming = TcpListenerStream::new(listener).map(|accepted| {
        let stream = accepted?;
        // A small frame must not wait until the one before it is acknowledged. The server does not see to it.
        stream.set_nodelay(true)?;
        Ok(Accepted(Box::new(stream)))
    });
    Ok(Listener {
        address,
        incoming: incoming.boxed(),
    })
}

/// A connection that somebody else has opened.
pub struct Accepted(Box<dyn Duplex>);

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
        Pin::new(&mut self.0).poll_read(context, buffer)
    }
}

impl AsyncWrite for Accepted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(context)
    }
}
