//! The admin port: is the process alive, is it ready, what does it measure.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Readiness of the parts of a process; the process is ready when all of them are. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, bool>>>,
}

impl Health {
    /// Names a part that is not ready yet.
    pub fn expect(&self, part: &str) {
        self.set(part, false);
    }

    /// Says whether `part` can do its work now.
    pub fn set(&self, part: &str, ready: bool) {
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(part.to_owned(), ready);
    }

    /// Names of the parts that are not ready, in order.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = parts.iter().filter(|(_, ready)| !**ready);
        waiting.map(|(part, _)| part.clone()).collect()
    }
}

/// The routes `/livez`, `/readyz` and `/metrics`, for a port of their own or to be merged into another server.
pub fn routes(health: Health, metrics: PrometheusHandle) -> Router {
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .with_state(health)
        .merge(
            Router::new()
                .route("/metrics", get(measured))
                .with_state(metrics),
        )
}

/// Serves [`routes`] on `listener` until `stop`.
///
/// # Errors
/// [`std::io::Error`] if the socket is lost.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> std::io::Result<()> {
    axum::serve(listener, routes(health, metrics))
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
}

async fn ready(State(health): State<Health>) -> impl IntoResponse {
    let waiting = health.waiting_for();
    if waiting.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("waiting for {}\n", waiting.join(", ")),
        )
    }
}

async fn measured(State(metrics): State<PrometheusHandle>) -> impl IntoResponse {
    metrics.run_upkeep();
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        metrics.render(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn ask(address: std::net::SocketAddr, path: &str) -> String {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn ready_only_when_every_part_is() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let health = Health::default();
        health.expect("log");
        let stop = CancellationToken::new();
        let metrics = crate::telemetry::metrics().unwrap();
        metrics::counter!("shoal_admin_test_total").increment(3);
        let served = tokio::spawn(serve(listener, health.clone(), metrics, stop.clone()));

        assert!(ask(address, "/livez").await.starts_with("HTTP/1.1 200"));
        let waiting = ask(address, "/readyz").await;
        assert!(waiting.starts_with("HTTP/1.1 503") && waiting.contains("waiting for log"));
        health.set("log", true);
        assert!(ask(address, "/readyz").await.starts_with("HTTP/1.1 200"));
        assert!(
            ask(address, "/metrics")
                .await
                .contains("shoal_admin_test_total 3")
        );
        stop.cancel();
        served.await.unwrap().unwrap();
    }
}
