//! HTTP/1 server that is robust against slow, silent and numerous clients.
//!
//! A connection is closed when the head of a request does not arrive in time or when the client does not read its
//! response. The number of connections is limited. Bodies are limited where they are read ([`super::rest`]).

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

/// Limit of connections to an HTTP port.
const LIMIT: ConnectionLimit = ConnectionLimit {
    name: "HTTP_CONNECTIONS_MAX",
    connections_max: 512,
    refusal: b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: text/plain\r\ncontent-length: 76\r\nconnection: close\r\n\r\n\
               there are too many connections (HTTP_CONNECTIONS_MAX); try again in a while\n",
};
/// The limit is at most an eighth of the process's open files. gRPC, which has its own limit, may use a half.
const FILES_DIVISOR: usize = 8;
/// Time for the head of a request to arrive after the connection was opened or the last response was sent. It bounds
/// idle connections, too.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Size limit of a request's head.
const HEADER_BYTES_MAX: usize = 64 << 10;
/// Time after which a connection that reads nothing of its response is closed.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);

/// Serves forever.
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

/// A connection that is closed if its other end reads nothing for too long.
struct Connection {
    stream: TcpStream,
    /// Timer that runs while nothing can be written.
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
