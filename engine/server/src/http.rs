//! `--http`: `/metrics` for Prometheus, `/healthz` (the process lives), `/readyz` (it does its work), and what a command
//! adds.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use tokio::net::TcpListener;

use crate::measure::Recorded;

/// Says whether the process does its work, in one word.
pub type Ready = Box<dyn Fn() -> (StatusCode, &'static str) + Send + Sync>;

/// Binds the address, so that a taken port is known before the job starts.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("error: --http {address}: {error}; choose another address\n"))
}

/// Serves until the process ends.
pub async fn serve(listener: TcpListener, metrics: Recorded, ready: Ready, routes: Router) {
    let text = [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    let ready = Arc::new(ready);
    let router = Router::new()
        .route("/metrics", get(move || async move { (text, metrics.render()) }))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(move || async move { ready() }))
        .merge(routes);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!("the HTTP server ended: {error}");
    }
}
