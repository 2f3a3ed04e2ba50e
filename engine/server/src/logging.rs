//! Log lines on standard error, as text or JSON. `MILLSTREAM_LOG` filters them (`info`, `debug`,
//! `millstream_runtime=trace`). Lines about a job's tasks are also stored in the worker's [`LogBuffer`].

use std::fmt::Write;
use std::io::IsTerminal;

use millstream_cluster::worker::LogBuffer;
use millstream_connectors::redaction::redact;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::Failure;
use crate::arguments::{LogFormat, Observability};
use crate::traces::{self, Role};

/// Starts logging and, where configured, tracing. Log lines are written above the status line; lines about tasks are
/// also stored in `buffer`. Must be called on the Tokio runtime, on which traces are exported.
pub fn start(
    observability: &Observability,
    role: &Role<'_>,
    status: &crate::status_line::StatusLine,
    log_buffer: Option<LogBuffer>,
) -> Result<(), Failure> {
    let status = status.clone();
    let lines = fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || status.writer());
    let registry = tracing_subscriber::registry()
        .with(traces::layer(observability.traces.as_deref(), role)?)
        .with(log_buffer.map(|log_buffer| TaskLogLayer(log_buffer).with_filter(log_filter())));
    match observability.log {
        LogFormat::Text => registry.with(lines.compact().with_filter(log_filter())).init(),
        LogFormat::Json => registry
            .with(lines.json().flatten_event(true).with_filter(log_filter()))
            .init(),
    }
    Ok(())
}

/// Returns the filter of log lines: `MILLSTREAM_LOG`, without the spans of control operations.
fn log_filter<S: Subscriber>() -> impl Filter<S> {
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new("info,librdkafka=warn"));
    filter.and(filter_fn(|metadata| !traces::is_control(metadata)))
}

/// Stores events inside the span of a job's tasks in the log buffer.
struct TaskLogLayer(LogBuffer);

/// Name of the job of a span.
struct Job(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for TaskLogLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut job = FieldText::named("job");
        attributes.record(&mut job);
        if let (false, Some(span)) = (job.text.is_empty(), context.span(id)) {
            span.extensions_mut().insert(Job(job.text));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warn",
            Level::INFO => "info",
            _ => return,
        };
        let Some(scope) = context.event_scope(event) else {
            return;
        };
        for span in scope {
            if let Some(Job(job)) = span.extensions().get() {
                let mut text = FieldText::default();
                event.record(&mut text);
                return self.0.write(job, level, &redact(&text.text));
            }
        }
    }
}

/// Text of an event followed by its fields, or the value of one field.
#[derive(Default)]
struct FieldText {
    only: Option<&'static str>,
    text: String,
}

impl FieldText {
    fn named(name: &'static str) -> Self {
        Self {
            only: Some(name),
            text: String::new(),
        }
    }

    fn add(&mut self, field: &Field, value: std::fmt::Arguments<'_>) {
        let written = match (self.only, field.name()) {
            (Some(only), name) if only == name => write!(self.text, "{value}"),
            (Some(_), _) => Ok(()),
            (None, "message") => {
                self.text.insert_str(0, &value.to_string());
                Ok(())
            }
            (None, name) => write!(self.text, " {name}={value}"),
        };
        written.expect("writing into a string cannot fail");
    }
}

impl Visit for FieldText {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format_args!("{value:?}"));
    }
}
