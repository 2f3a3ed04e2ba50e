//! Log lines on standard error: text for people, JSON for machines. `MILLSTREAM_LOG` filters (`info`, `debug`,
//! `millstream_runtime=trace`).

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::arguments::Log;

/// Writes log lines above the status line, where there is one.
pub fn start(log: Log, status: &crate::status::StatusLine) {
    let filter = EnvFilter::try_from_env("MILLSTREAM_LOG").unwrap_or_else(|_| EnvFilter::new("info,librdkafka=warn"));
    let status = status.clone();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(move || status.writer());
    match log {
        Log::Text => builder.compact().init(),
        Log::Json => builder.json().flatten_event(true).init(),
    }
}
