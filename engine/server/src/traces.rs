//! Export of traces of control operations to an OpenTelemetry collector: OTLP over gRPC, configured by `--traces` or by
//! OpenTelemetry's environment variables. A dedicated thread sends the spans from a bounded queue.

use std::env;
use std::fmt::Debug;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millstream_cluster::spans;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider;
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SdkTracerProvider, SpanData, SpanExporter};
use tracing::{Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

use crate::Failure;

/// Longest wait for the export of the last spans when the process ends.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Identity of the process in traces.
pub struct Role<'a> {
    /// Value of `service.name`, unless OTEL_SERVICE_NAME is set.
    pub service: &'static str,
    /// Value of `service.instance.id`; empty for none.
    pub instance: &'a str,
}

static PROVIDER: OnceLock<SdkTracerProvider> = OnceLock::new();

/// Returns true for spans of control operations, which belong to traces and not to the log.
pub fn is_control(metadata: &Metadata<'_>) -> bool {
    metadata.target() == spans::TARGET
}

/// Returns the layer that exports control operations, if an endpoint is configured. Must be called on the Tokio runtime
/// that sends them.
pub fn layer<S>(endpoint: Option<&str>, role: &Role<'_>) -> Result<Option<impl Layer<S> + use<S>>, Failure>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let Some(endpoint) = configured_endpoint(endpoint) else {
        return Ok(None);
    };
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(check_endpoint(&endpoint).map_err(Failure::Invalid)?)
        .build()
        .map_err(|error| Failure::Invalid(format!("error: traces to {endpoint}: {error}\n")))?;
    let provider = SdkTracerProvider::builder()
        .with_resource(resource(role))
        .with_batch_exporter(ReportingExporter {
            exporter,
            endpoint,
            is_failing: AtomicBool::new(false),
        })
        .build();
    let tracer = provider.tracer("millstream");
    if PROVIDER.set(provider).is_err() {
        return Err(Failure::Failed("error: traces were started twice\n".into()));
    }
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_location(false)
        .with_threads(false)
        .with_tracked_inactivity(false)
        .with_target(false);
    Ok(Some(layer.with_filter(filter_fn(is_control))))
}

/// Exports the remaining spans. Must be called while the Tokio runtime is running.
pub fn flush() {
    if let Some(provider) = PROVIDER.get()
        && let Err(error) = provider.shutdown_with_timeout(FLUSH_TIMEOUT)
    {
        tracing::debug!("the last spans were not sent: {error}");
    }
}

/// Returns the endpoint of the flag, else of the OpenTelemetry variables.
fn configured_endpoint(flag: Option<&str>) -> Option<String> {
    let variable = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let by_variable = || {
        if variable("OTEL_TRACES_EXPORTER").is_some_and(|exporter| exporter == "none") {
            return None;
        }
        variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").or_else(|| variable("OTEL_EXPORTER_OTLP_ENDPOINT"))
    };
    flag.map(str::to_string).or_else(by_variable)
}

/// Returns the endpoint if it is an `http` URL, else the error message.
fn check_endpoint(endpoint: &str) -> Result<String, String> {
    let url = url::Url::parse(endpoint);
    match url.as_ref().map(url::Url::scheme) {
        Ok("http") => Ok(endpoint.to_string()),
        Ok("https") => Err(format!(
            "error: traces to {endpoint}: this version does not support TLS; use a collector on this host or in this \
             cluster, as http://HOST:4317\n"
        )),
        _ => Err(format!(
            "error: traces to {endpoint}: not the address of a collector; use one such as http://localhost:4317 (OTLP over gRPC)\n"
        )),
    }
}

fn resource(role: &Role<'_>) -> Resource {
    let mut resource = Resource::builder();
    if env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(role.service);
    }
    resource = resource.with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if !role.instance.is_empty() {
        resource = resource.with_attribute(KeyValue::new("service.instance.id", role.instance.to_string()));
    }
    resource.build()
}

/// An exporter that logs when the collector becomes unreachable, and when it is reachable again.
#[derive(Debug)]
struct ReportingExporter<E> {
    exporter: E,
    endpoint: String,
    is_failing: AtomicBool,
}

impl<E: SpanExporter> SpanExporter for ReportingExporter<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let result = self.exporter.export(batch).await;
        match &result {
            Ok(()) if self.is_failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("traces are sent to {} again", self.endpoint);
            }
            Ok(()) => {}
            Err(error) => {
                metrics::counter!("millstream_spans_lost_total").increment(spans as u64);
                if !self.is_failing.swap(true, Ordering::Relaxed) {
                    tracing::warn!("traces cannot be sent to {}: {error}", self.endpoint);
                }
            }
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_that_cannot_be_used_is_refused_with_what_to_write_instead() {
        assert_eq!(
            check_endpoint("http://localhost:4317").as_deref(),
            Ok("http://localhost:4317")
        );
        for (endpoint, expected) in [
            ("https://collector:4317", "does not support TLS"),
            ("collector:4317", "not the address of a collector"),
            ("", "not the address of a collector"),
        ] {
            let refused = check_endpoint(endpoint).expect_err(endpoint);
            assert!(refused.contains(expected), "{refused}");
            assert!(refused.contains("http://"), "{refused}");
        }
    }
}
