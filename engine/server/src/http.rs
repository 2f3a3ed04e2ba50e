//! `--http`: `/metrics` for Prometheus, `/healthz` (the process lives), `/readyz` (it does its work), and what a command
//! adds.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use millstream_cluster::serve::serve_http;
use tokio::net::TcpListener;

use crate::measure::Recorded;

/// Says what the process is doing, or why it does not do its work.
pub type Ready = Box<dyn Fn() -> Result<&'static str, String> + Send + Sync>;

/// Binds the address, so that a taken port is known before the job starts.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("error: --http {address}: {error}; choose another address\n"))
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, metrics: Recorded, ready: Ready, routes: Router) {
    let text = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let ready = Arc::new(move || match ready() {
        Ok(doing) => (StatusCode::OK, format!("{doing}\n")),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    });
    let router = Router::new()
        .route("/metrics", get(move || async move { (text, metrics.render()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready() }))
        .merge(routes);
    serve_http(listener, router).await;
}
