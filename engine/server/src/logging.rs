//! Log lines on standard error: text for people, JSON for machines. `MILLSTREAM_LOG` filters (`info`, `debug`,
//! `millstream_runtime=trace`). What is logged about a job's tasks goes into the worker's [`LogBuffer`] as well.

use std::fmt::Write;
use std::io::IsTerminal;

use millstream_cluster::worker::LogBuffer;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{FilterExt, filter_fn};
use tracing_subscriber::layer::{Context, Filter, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, fmt};

use crate::Failure;
use crate::arguments::{Log, Telling};
use crate::traces::{self, Role};

/// Writes log lines above the status line, where there is one; those about tasks also into the book, if there is one. To
/// be called on the runtime: it carries traces, where they are wanted.
pub fn start(
    telling: &Telling,
    role: &Role<'_>,
    status: &crate::status::StatusLine,
    log_buffer: Option<LogBuffer>,
) -> Result<(), Failure> {
    let status = status.clone();
    let lines = fmt::layer()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || status.writer());
    let registry = tracing_subscriber::registry()
        .with(traces::layer(telling.traces.as_deref(), role)?)
        .with(log_buffer.map(|log_buffer| AboutTasks(log_buffer).with_filter(of_interest())));
    match telling.log {
        Log::Text => registry.with(lines.compact().with_filter(of_interest())).init(),
        Log::Json => registry
            .with(lines.json().flatten_event(true).with_filter(of_interest()))
            .init(),
    }
    Ok(())
}

/// What people want to read.
fn of_interest<S: Subscriber>() -> impl Filter<S> {
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new("info,librdkafka=warn"));
    filter.and(filter_fn(|metadata| !traces::is_control(metadata)))
}

/// Hands lines about tasks on: those inside a span of a job's tasks.
struct AboutTasks(LogBuffer);

/// The job of a span.
struct Job(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for AboutTasks {
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
                return self.0.write(job, level, &text.text);
            }
        }
    }
}

/// The text of an event, its fields behind it; or the value of one field only.
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
