//! The listening socket: who may open a websocket, and in which version.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use axum::{Extension, Router};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use ocpp_kit::Version;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::task::TaskTracker;

use crate::connection::{Edge, lock, serve};
use crate::tls;

/// Wait after the system refused to accept, usually for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Read and write buffers of a socket: OCPP messages are short and connections many.
const SOCKET_BUFFER: usize = 4 * 1024;

/// What is spoken, newest first: of the versions that a station offers, the first of these is taken.
const VERSIONS: [Version; 3] = [Version::V2_1, Version::V2_0_1, Version::V1_6];

#[derive(Debug, Clone)]
struct Desk {
    edge: Arc<Edge>,
    connections: TaskTracker,
}

/// Accepts connections until the edge stops, then waits until each has said goodbye.
pub(crate) async fn run(listener: TcpListener, edge: Arc<Edge>) {
    let stop = edge.stop.clone();
    let connections = TaskTracker::new();
    let desk = Desk {
        edge,
        connections: connections.clone(),
    };
    let router = Router::new()
        .route("/ocpp/{identity}", any(upgrade))
        .with_state(desk.clone());
    let handshakes = Arc::new(Semaphore::new(desk.edge.config.max_handshakes));
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            accepted = admitted(&listener, &handshakes) => accepted,
        };
        match accepted {
            Ok((stream, remote, permit)) => {
                let arrival = Arrival {
                    remote,
                    router: router.clone(),
                    edge: Arc::clone(&desk.edge),
                    permit,
                };
                connections.spawn(arrival.handshake(stream));
            }
            Err(error) => {
                tracing::error!(%error, "a connection cannot be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    connections.close();
    connections.wait().await;
}

/// The next connection, once there is room for its handshake.
async fn admitted(
    listener: &TcpListener,
    handshakes: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, Option<OwnedSemaphorePermit>)> {
    // Never closed, so never refused.
    let permit = Arc::clone(handshakes).acquire_owned().await.ok();
    let (stream, remote) = listener.accept().await?;
    Ok((stream, remote, permit))
}

/// Names in the certificate of a station; none without one.
#[derive(Debug, Clone)]
struct Named(Arc<[String]>);

/// A new socket until it is upgraded.
struct Arrival {
    remote: SocketAddr,
    router: Router,
    edge: Arc<Edge>,
    /// Its place among the handshakes, given up when it ends either way.
    permit: Option<OwnedSemaphorePermit>,
}

impl Arrival {
    async fn handshake(self, stream: TcpStream) {
        let (remote, stop) = (self.remote, self.edge.stop.clone());
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%remote, %error, "no delay cannot be set for {remote}: {error}");
        }
        tokio::select! {
            () = self.greet(stream) => {}
            () = stop.cancelled() => {}
        }
    }

    async fn greet(self, stream: TcpStream) {
        let (remote, edge) = (self.remote, Arc::clone(&self.edge));
        let Some(door) = &edge.guard.door else {
            return self.speak(stream, Named(Arc::default())).await;
        };
        let timeout = Duration::from_millis(edge.config.handshake_timeout_ms);
        match tokio::time::timeout(timeout, door.accept(stream)).await {
            Ok(Ok(stream)) => {
                let certificates = stream.get_ref().1.peer_certificates();
                let station = certificates.and_then(|chain| chain.first());
                let named = station.map(tls::names).unwrap_or_default();
                self.speak(stream, Named(named.into())).await;
            }
            Ok(Err(error)) => {
                metrics::counter!("shoal_edge_tls_refused_total").increment(1);
                tracing::warn!(%remote, %error, "TLS with {remote} failed: {error}");
            }
            Err(_) => tracing::debug!(%remote, "TLS with {remote} took too long"),
        }
    }

    /// Speaks HTTP until the socket is upgraded or times out.
    async fn speak(
        self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        named: Named,
    ) {
        let timeout = Duration::from_millis(self.edge.config.handshake_timeout_ms);
        let mut builder = auto::Builder::new(TokioExecutor::new()).http1_only();
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(timeout);
        let service = TowerToHyperService::new(self.router.layer(Extension(named)));
        let http = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        if let Err(error) = http.await {
            let remote = self.remote;
            tracing::debug!(%remote, error, "handshake of {remote} ended: {error}");
        }
        drop(self.permit);
    }
}

async fn upgrade(
    State(desk): State<Desk>,
    Path(identity): Path<String>,
    Extension(named): Extension<Named>,
    headers: HeaderMap,
    upgrade: WebSocketUpgrade,
) -> Response {
    let edge = Arc::clone(&desk.edge);
    let shown: String = identity.chars().take(64).collect();
    if edge.stop.is_cancelled() || edge.switchboard.len() >= edge.config.max_connections {
        tracing::warn!(
            station.id = shown,
            "station {shown} refused: all {} connections are in use",
            edge.config.max_connections
        );
        return (
            StatusCode::SERVICE_UNAVAILABLE,
            "all connections are in use\n",
        )
            .into_response();
    }
    if runtime::memory::is_short() {
        runtime::memory::refused("station");
        tracing::warn!(
            station.id = shown,
            "station {shown} refused: memory is short"
        );
        return (StatusCode::SERVICE_UNAVAILABLE, "memory is short\n").into_response();
    }
    if let Err(why) = edge.guard.admit(&identity, &headers, &named.0).await {
        metrics::counter!("shoal_edge_unauthorised_total").increment(1);
        tracing::warn!(station.id = shown, "station {shown} refused: {why}");
        return (StatusCode::UNAUTHORIZED, format!("refused: {why}\n")).into_response();
    }
    let outlets = match edge.registry.station(&identity).await {
        Ok(Some(outlets)) => outlets,
        Ok(None) => {
            metrics::counter!("shoal_edge_unknown_stations_total").increment(1);
            tracing::warn!(
                station.id = shown,
                "station {shown} refused: it is not registered"
            );
            return (
                StatusCode::NOT_FOUND,
                "this charge point is not registered\n",
            )
                .into_response();
        }
        Err(error) => {
            tracing::error!(station.id = shown, %error, "station {shown} refused: registrations cannot be read: {error}");
            return (
                StatusCode::SERVICE_UNAVAILABLE,
                "registrations cannot be read\n",
            )
                .into_response();
        }
    };
    if edge.config.replicas
        && let Err(error) = edge.registry.welcome(&outlets).await
    {
        tracing::warn!(station.id = shown, %error, "stays of {shown} cannot be looked up: {error}");
    }
    let upgrade = upgrade
        .protocols(VERSIONS.map(Version::subprotocol))
        .read_buffer_size(SOCKET_BUFFER)
        .write_buffer_size(SOCKET_BUFFER)
        .max_message_size(edge.config.buffer_limit_bytes)
        .max_frame_size(edge.config.buffer_limit_bytes);
    let selected = upgrade.selected_protocol().and_then(|p| p.to_str().ok());
    let version = selected.and_then(Version::from_subprotocol);
    let task = desk.connections.token();
    upgrade.on_upgrade(move |socket| async move {
        let _task = task;
        match version {
            Some(version) => {
                let registered = lock(&outlets).station.protocol;
                if registered.name() != version.subprotocol() {
                    tracing::warn!(
                        station.id = shown,
                        "station {shown} speaks {}, registered is {}",
                        version.subprotocol(),
                        registered.name()
                    );
                }
                serve(edge, outlets, version, socket).await;
            }
            None => wrong_subprotocol(&shown, socket).await,
        }
    })
}

/// OCPP 2.1 part 4, 3.1.1: the handshake is completed without a subprotocol and the connection closed at once.
async fn wrong_subprotocol(identity: &str, mut socket: WebSocket) {
    tracing::warn!(
        station.id = identity,
        "station {identity} refused: it offers none of the subprotocols ocpp2.1, ocpp2.0.1 and ocpp1.6"
    );
    metrics::counter!("shoal_edge_wrong_subprotocol_total").increment(1);
    let close = CloseFrame {
        code: close_code::PROTOCOL,
        reason: "expected subprotocol ocpp2.1, ocpp2.0.1 or ocpp1.6".into(),
    };
    // The client may be gone already.
    let _ = socket.send(Message::Close(Some(close))).await;
}
