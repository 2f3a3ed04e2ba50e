//! Admission of calls: limits their number and duration, and counts them.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::Span;

use super::{CALL_TIMEOUT, CALLS_MAX, CHECKPOINT_CALL_TIMEOUT, STREAMS_MAX};
use crate::api::{Code, Error};
use crate::spans;

/// Admission to one surface (gRPC or REST). Cheap to clone.
#[derive(Clone)]
pub(super) struct Admission {
    surface: &'static str,
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// Trace parent of the next call; empty if the client sent none.
    trace_parent: String,
}

impl Admission {
    /// Returns the admission to a surface, whose name labels its metrics.
    pub(super) fn new(surface: &'static str) -> Self {
        Self {
            surface,
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            trace_parent: String::new(),
        }
    }

    /// Returns the admission for a call with this trace parent.
    pub(super) fn with_trace_parent(&self, trace_parent: Option<&str>) -> Self {
        Self {
            trace_parent: trace_parent.unwrap_or_default().to_string(),
            ..self.clone()
        }
    }

    fn span(&self, name: &'static str) -> Span {
        let span = tracing::info_span!(
            target: spans::TARGET,
            parent: None,
            "call",
            otel.name = name,
            otel.kind = "server",
            surface = self.surface,
        );
        spans::set_parent(&span, &self.trace_parent);
        span
    }

    /// Runs a call in a task of its own, which continues if the client disconnects.
    pub(super) async fn call<T: Send + 'static>(
        &self,
        name: &'static str,
        call: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let began = Instant::now();
        let permit = permit(&self.calls, "calls in progress", "CALLS_MAX", CALLS_MAX);
        let result = match permit {
            Err(error) => Err(error),
            Ok(permit) => run_detached(permit, name, spans::in_span(self.span(name), call)).await,
        };
        self.count(name, began, result.as_ref().err());
        result
    }

    /// Opens a stream, which counts against the limit until it is dropped.
    pub(super) async fn stream<T: Send + 'static>(
        &self,
        name: &'static str,
        open: impl Future<Output = Result<BoxStream<'static, T>, Error>> + Send + 'static,
    ) -> Result<BoxStream<'static, T>, Error> {
        let began = Instant::now();
        let result = match permit(&self.streams, "open streams", "STREAMS_MAX", STREAMS_MAX) {
            Err(error) => Err(error),
            Ok(permit) => with_timeout(name, CALL_TIMEOUT, spans::in_span(self.span(name), open))
                .await
                .map(|stream| {
                    let counted = stream.map(move |item| {
                        let _permit = &permit;
                        item
                    });
                    counted.boxed()
                }),
        };
        self.count(name, began, result.as_ref().err());
        result
    }

    fn count(&self, name: &'static str, began: Instant, error: Option<&Error>) {
        let code = error.map_or("ok", |error| error.code.as_str());
        let labels = [("surface", self.surface), ("call", name), ("code", code)];
        metrics::counter!("millstream_api_calls_total", &labels).increment(1);
        metrics::histogram!("millstream_api_call_seconds", "surface" => self.surface, "call" => name)
            .record(began.elapsed().as_secs_f64());
        if let Some(error) = error {
            tracing::debug!(surface = self.surface, call = name, code, "refused: {error}");
        }
    }
}

fn permit(semaphore: &Arc<Semaphore>, what: &str, limit: &str, max: usize) -> Result<OwnedSemaphorePermit, Error> {
    semaphore.clone().try_acquire_owned().map_err(|_| {
        let message = format!("{what} have reached their limit, {max} ({limit}); try again later");
        Error::new(Code::LimitReached, message)
    })
}

async fn run_detached<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    name: &'static str,
    call: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    let task = tokio::spawn(async move {
        let result = call.await;
        drop(permit);
        result
    });
    let timeout = match name {
        "stop" | "rescale" | "update" | "create_checkpoint" | "create_savepoint" => CHECKPOINT_CALL_TIMEOUT,
        _ => CALL_TIMEOUT,
    };
    let joined = async {
        task.await.unwrap_or_else(|error| {
            tracing::error!("the call `{name}` was aborted: {error}");
            let message = format!("the call `{name}` was aborted by an internal error; see the coordinator's log");
            Err(Error::new(Code::Internal, message))
        })
    };
    with_timeout(name, timeout, joined).await
}

async fn with_timeout<T>(
    name: &'static str,
    timeout: Duration,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    tokio::time::timeout(timeout, call).await.unwrap_or_else(|_| {
        let message = format!(
            "the call `{name}` had no answer within {} s; it may still take effect: check the present state before trying again",
            timeout.as_secs()
        );
        Err(Error::new(Code::Unavailable, message))
    })
}
