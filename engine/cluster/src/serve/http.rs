//! Serving HTTP/1 to whoever connects: slowly, not at all, or a thousand times.
//!
//! A connection that does not send a whole request's head in time is closed, be it the first or a later one, so is
//! one that does not take its answer, and there is a limit of connections. Bodies are limited where they are read
//! ([`super::rest`]).

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use futures::FutureExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Sleep;

use crate::network::{Acceptor, ConnectionLimit, ConnectionPermit};

/// Connections of an HTTP port at once.
const LIMIT: ConnectionLimit = ConnectionLimit {
    name: "HTTP_CONNECTIONS_MAX",
    connections_max: 512,
    refusal: b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 76\r\nconnection: close\r\n\r\n\
               there are too many connections (HTTP_CONNECTIONS_MAX); try again in a while\n",
};
/// At most an eighth of the files that a process may have open: gRPC, whose limit is its own, has a half.
const FILES_DIVISOR: usize = 8;
/// Time for the head of a request to arrive, from when the connection is open or the last answer was sent. So a
/// connection may be idle for this long, too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request's head.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// A connection that takes nothing of its answer for so long is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves for ever.
pub async fn serve(listener: TcpListener, router: Router) {
    let mut acceptor = Acceptor::new(listener, LIMIT.within_open_files(FILES_DIVISOR));
    let service = TowerToHyperService::new(router);
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX);
    loop {
        let (stream, counted) = acceptor.accept().await;
        let connection = Connection {
            stream,
            write_timeout: None,
            _counted: counted,
        };
        let (builder, service) = (builder.clone(), service.clone());
        tokio::spawn(async move {
            if let Err(error) = builder.serve_connection(TokioIo::new(connection), service).await {
                tracing::debug!("an HTTP connection ended: {error}");
            }
        });
    }
}

/// A connection that does not wait for ever until its other end takes something.
struct Connection {
    stream: TcpStream,
    /// While nothing can be written: until when that may last.
    write_timeout: Option<Pin<Box<Sleep>>>,
    _counted: ConnectionPermit,
}

impl Connection {
    fn check_write_timeout<T>(
        &mut self,
        context: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.write_timeout = None;
            return polled;
        }
        let timeout = self
            .write_timeout
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(WRITE_TIMEOUT)));
        match timeout.poll_unpin(context) {
            Poll::Ready(()) => {
                let message = format!("nothing was taken for {} s (WRITE_TIMEOUT)", WRITE_TIMEOUT.as_secs());
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.check_write_timeout(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.check_write_timeout(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.check_write_timeout(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.check_write_timeout(context, polled)
    }
}
