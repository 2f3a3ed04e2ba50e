//! Spans of control operations for OpenTelemetry: a client's call, a deployment, a checkpoint. Rows are never traced.
//!
//! The spans are spans of `tracing` under a target of their own ([`TARGET`]), which log lines leave out. Without an
//! exporter they cost nothing. Between processes the position of a span in its trace travels as W3C `traceparent`:
//! from a client in the header of that name, from the coordinator to its workers in the order.

use std::collections::HashMap;
use std::fmt::Display;

use opentelemetry::propagation::TextMapPropagator;
use opentelemetry::trace::Status;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::{OpenTelemetrySpanExt, SetParentError};

/// The target of all spans and events that are for traces only.
pub const TARGET: &str = "millstream::control";
/// The header of HTTP and gRPC that names the span which caused a call.
pub const TRACE_PARENT_HEADER: &str = "traceparent";

/// Creates a span for a step of the operation whose span is entered.
macro_rules! span {
    ($name:literal $(, $($field:tt)*)?) => {
        tracing::info_span!(target: $crate::spans::TARGET, $name $(, $($field)*)?)
    };
}
pub(crate) use span;

/// Returns the position of a span in its trace; empty if no exporter is installed.
pub fn trace_parent(span: &Span) -> String {
    let mut carrier = HashMap::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut carrier);
    carrier.remove(TRACE_PARENT_HEADER).unwrap_or_default()
}

/// Makes a span a child of the one at this position. The span starts a trace of its own if the position is empty or
/// cannot be read.
pub fn set_parent(span: &Span, trace_parent: &str) {
    if trace_parent.is_empty() || span.is_disabled() {
        return;
    }
    let carrier = HashMap::from([(TRACE_PARENT_HEADER.to_string(), trace_parent.to_string())]);
    let parent = TraceContextPropagator::new().extract(&carrier);
    match span.set_parent(parent) {
        Ok(()) | Err(SetParentError::LayerNotFound | SetParentError::SpanDisabled) => {}
        Err(error) => tracing::debug!("a span starts a trace of its own: {error}"),
    }
}

/// Marks the operation of a span as failed.
pub fn set_error(span: &Span, error: &impl Display) {
    span.set_status(Status::error(error.to_string()));
}

/// Runs an operation in a span, and records its error there.
pub async fn in_span<T, E: Display>(span: Span, operation: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    let result = tracing::Instrument::instrument(operation, span.clone()).await;
    if let Err(error) = &result {
        set_error(&span, error);
    }
    result
}
