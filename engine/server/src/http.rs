//! `--http`: `/metrics` for Prometheus, `/healthz` (the process lives), `/readyz` (the job runs).

use std::net::SocketAddr;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use millstream_cluster::{Phase, Progress};
use tokio::net::TcpListener;

/// Binds the address, so that a taken port is known before the job starts.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("error: --http {address}: {error}; choose another address\n"))
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, metrics: PrometheusHandle, progress: Progress) {
    let text = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let router = Router::new()
        .route("/metrics", get(move || async move { (text, metrics.render()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match progress.report().phase {
                    Phase::Running | Phase::Stopping => (StatusCode::OK, "ready\n"),
                    Phase::Starting => (StatusCode::SERVICE_UNAVAILABLE, "starting\n"),
                    Phase::Restarting => (StatusCode::SERVICE_UNAVAILABLE, "restarting\n"),
                    Phase::Ended => (StatusCode::SERVICE_UNAVAILABLE, "ended\n"),
                }
            }),
        );
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!("the HTTP server ended: {error}");
    }
}
