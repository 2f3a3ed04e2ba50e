//! The HTTP port: `/metrics` for Prometheus, `/healthz` (the process is alive), `/readyz` (the process does its work),
//! and the routes that a command adds.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use millstream_cluster::serve::serve_http;
use tokio::net::TcpListener;

use crate::recorder::MetricsHandle;

/// Returns the state of a process that does its work, or the reason why it does not.
pub type Ready = Box<dyn Fn() -> Result<&'static str, String> + Send + Sync>;

/// Binds the address before the job starts, so that a port in use is reported first.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address)
        .await
        .map_err(|error| format!("error: --http {address}: {error}; choose another address\n"))
}

/// Serves requests until the process ends.
pub async fn serve(listener: TcpListener, metrics: MetricsHandle, ready: Ready, routes: Router) {
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
