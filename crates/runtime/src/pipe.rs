//! gRPC between services: HTTP/2 over in-memory streams within one process, over TCP between processes.
//!
//! A [`Pipe`] is the client's end within a process: it hands out lazy tonic channels that connect when first used and connect
//! again after the server went away. A [`Listener`] is the server's end, of a pipe or of a socket.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

/// Bytes that one direction of one connection holds before the writer waits.
const BUFFER_BYTES: usize = 256 * 1024;

/// Connections asked for and not yet accepted before the next one waits.
const BACKLOG: usize = 64;

/// HTTP/2 flow control per stream: one message of a large fleet passes without a round trip.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// How long calls in hand may take to finish after a stop; streams without an end are cut then.
const GRACE: Duration = Duration::from_secs(2);

type Accept = mpsc::Sender<DuplexStream>;

/// The client's end of an in-memory gRPC connection.
#[derive(Debug, Clone)]
pub struct Pipe {
    name: Arc<str>,
    accept: Arc<Mutex<Accept>>,
}

/// The server's end.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    incoming: Incoming,
}

#[derive(Debug)]
enum Incoming {
    Pipe(mpsc::Receiver<DuplexStream>),
    Socket(TcpListener),
}

/// A server that ended with an error.
#[derive(Debug, thiserror::Error)]
#[error("gRPC server {name}")]
pub struct PipeError {
    name: Arc<str>,
    #[source]
    source: tonic::transport::Error,
}

impl Pipe {
    /// Both ends of a pipe called `name` (for messages only).
    #[must_use]
    pub fn new(name: &str) -> (Self, Listener) {
        let (accept, incoming) = mpsc::channel(BACKLOG);
        let name: Arc<str> = name.into();
        let pipe = Self {
            name: name.clone(),
            accept: Arc::new(Mutex::new(accept)),
        };
        let incoming = Incoming::Pipe(incoming);
        (pipe, Listener { name, incoming })
    }

    /// A new server's end in place of the former one, for a service that is started again: channels handed out before
    /// connect to the new one.
    #[must_use]
    pub fn listen_again(&self) -> Listener {
        let (accept, incoming) = mpsc::channel(BACKLOG);
        *self.accept.lock().unwrap_or_else(PoisonError::into_inner) = accept;
        Listener {
            name: self.name.clone(),
            incoming: Incoming::Pipe(incoming),
        }
    }

    /// A channel that connects when first used. While the server has not started, calls wait; once it is gone, they end
    /// with `UNAVAILABLE`.
    #[must_use]
    pub fn channel(&self) -> Channel {
        let pipe = self.clone();
        let connector = service_fn(move |_| {
            let pipe = pipe.clone();
            async move { pipe.connect().await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://pipe.invalid")
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES)
            .connect_with_connector_lazy(connector)
    }

    async fn connect(&self) -> io::Result<DuplexStream> {
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let accept = self
            .accept
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        accept.send(theirs).await.map_err(|_| {
            io::Error::new(
                io::ErrorKind::ConnectionRefused,
                format!("nobody serves pipe {}", self.name),
            )
        })?;
        Ok(ours)
    }
}

impl Listener {
    /// The server's end of a bound socket; `name` is for messages only.
    #[must_use]
    pub fn socket(name: &str, socket: TcpListener) -> Self {
        Self {
            name: name.into(),
            incoming: Incoming::Socket(socket),
        }
    }

    /// Serves `router` until `stop`; then calls in hand get two seconds to finish.
    ///
    /// # Errors
    /// [`PipeError`] if the server ends otherwise.
    pub async fn serve(self, router: Router, stop: CancellationToken) -> Result<(), PipeError> {
        let name = self.name;
        let stopped = stop.clone().cancelled_owned();
        let serving = async {
            match self.incoming {
                Incoming::Pipe(incoming) => {
                    let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
                    router.serve_with_incoming_shutdown(incoming, stopped).await
                }
                Incoming::Socket(socket) => {
                    let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
                    router.serve_with_incoming_shutdown(incoming, stopped).await
                }
            }
        };
        let overdue = async {
            stop.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            ended = serving => ended.map_err(|source| PipeError { name, source }),
            () = overdue => {
                tracing::warn!(server = %name, "calls of {name} did not end within {GRACE:?} and were cut");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::transport::Server;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

    async fn router() -> Router {
        let (_, health) = tonic_health::server::health_reporter();
        Server::builder().add_service(health)
    }

    async fn check(channel: Channel) -> Result<(), tonic::Status> {
        let request = HealthCheckRequest {
            service: String::new(),
        };
        HealthClient::new(channel).check(request).await.map(drop)
    }

    #[tokio::test]
    async fn a_call_waits_for_the_server_and_is_answered() {
        let (pipe, listener) = Pipe::new("health");
        let asked = tokio::spawn(check(pipe.channel()));
        tokio::time::sleep(Duration::from_millis(20)).await;
        let stop = CancellationToken::new();
        let served = tokio::spawn(listener.serve(router().await, stop.clone()));
        asked.await.unwrap().unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_socket_is_served_as_a_pipe_is() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        let stop = CancellationToken::new();
        let listener = Listener::socket("health", socket);
        let served = tokio::spawn(listener.serve(router().await, stop.clone()));
        let channel = Endpoint::try_from(address).unwrap().connect_lazy();
        check(channel).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_channel_finds_the_server_again_after_it_went_away() {
        let (pipe, listener) = Pipe::new("health");
        let channel = pipe.channel();
        let stop = CancellationToken::new();
        let served = tokio::spawn(listener.serve(router().await, stop.clone()));
        check(channel.clone()).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();

        let gone = check(channel.clone()).await.unwrap_err();
        assert_eq!(gone.code(), tonic::Code::Unavailable, "{gone}");

        let stop = CancellationToken::new();
        tokio::spawn(pipe.listen_again().serve(router().await, stop.clone()));
        check(channel).await.unwrap();
        stop.cancel();
    }
}
