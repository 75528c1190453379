//! gRPC between services: HTTP/2 over in-memory streams within one process, over TCP between processes.
//!
//! A [`Pipe`] is the client's end within a process, [`peer`] the one to another process: both hand out lazy tonic channels that
//! connect when first used and connect again after the server went away. A [`Listener`] is the server's end, of a pipe, of a
//! socket, or of both.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_health::ServingStatus;
use tower::service_fn;

use crate::tls::Identity;
use crate::traced::Traced;

/// Bytes that one direction of one connection holds before the writer waits.
const BUFFER_BYTES: usize = 256 * 1024;

/// Connections asked for and not yet accepted before the next one waits.
const BACKLOG: usize = 64;

/// HTTP/2 flow control per stream: one message of a large fleet passes without a round trip.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// How long calls in hand may take to finish after a stop; streams without an end are cut then.
const GRACE: Duration = Duration::from_secs(2);

/// Longest wait for a connection to another process.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);

/// Longest wait for the answer of another process, for a stream its beginning: no call waits for ever for a machine that is gone.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// How often a connection is asked whether it is alive, and how long it may take to say so: a stream that is silent for hours
/// notices a machine that is gone.
const ALIVE_EVERY: Duration = Duration::from_secs(5);

/// Wait after a connection that could not be accepted: too many files are open.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Calls of one connection that are worked on at once; more wait, so that memory is bounded.
const CALLS_AT_ONCE: usize = 256;

type Accept = mpsc::Sender<DuplexStream>;

/// The client's end of an in-memory gRPC connection.
#[derive(Debug, Clone)]
pub struct Pipe {
    name: Arc<str>,
    accept: Arc<Mutex<Accept>>,
}

/// The server's end. Besides what it is given it serves `grpc.health.v1`, and where types are named, reflection.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    doors: Vec<Incoming>,
    types: Option<&'static [u8]>,
}

#[derive(Debug)]
enum Incoming {
    Pipe(mpsc::Receiver<DuplexStream>),
    Socket(TcpListener),
    Secured(TcpListener, Arc<Identity>),
}

/// An address of another process that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It is none.
    #[error("met {0:?}, expected http://HOST:PORT or https://HOST:PORT")]
    NoAddress(String),
    /// It wants TLS, and there is no certificate.
    #[error("met {0:?}, which needs a certificate: tls.certificate is not set")]
    NoCertificate(String),
}

/// A channel to another process at `address`, like `http://127.0.0.1:9222`, that connects when first used; with `https`, both
/// sides show certificates. Calls that are not answered within half a minute end with `DEADLINE_EXCEEDED`; while nobody listens
/// they end with `UNAVAILABLE`.
///
/// # Errors
/// [`AddressError`] if it cannot be used.
pub fn peer(address: &str, identity: Option<&Arc<Identity>>) -> Result<Channel, AddressError> {
    let wrong = || AddressError::NoAddress(address.to_owned());
    let endpoint = Endpoint::from_shared(address.to_owned()).map_err(|_| wrong())?;
    let uri = endpoint.uri().clone();
    let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else {
        return Err(wrong());
    };
    let patient = |endpoint: Endpoint| {
        endpoint
            .connect_timeout(CONNECT_WITHIN)
            .timeout(ANSWER_WITHIN)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(ALIVE_EVERY)
            .keep_alive_timeout(ALIVE_EVERY)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(STREAM_WINDOW_BYTES)
    };
    match uri.scheme_str() {
        Some("http") => Ok(patient(endpoint).connect_lazy()),
        Some("https") => {
            let no_certificate = || AddressError::NoCertificate(address.to_owned());
            let identity = Arc::clone(identity.ok_or_else(no_certificate)?);
            let host = host.trim_matches(['[', ']']).to_owned();
            let name = ServerName::try_from(host.clone()).map_err(|_| wrong())?;
            let connector = service_fn(move |_| {
                let (identity, host, name) = (Arc::clone(&identity), host.clone(), name.clone());
                let secured = async move {
                    let socket = TcpStream::connect((host.as_str(), port)).await?;
                    socket.set_nodelay(true)?;
                    let connector = TlsConnector::from(identity.client());
                    connector.connect(name, socket).await.map(TokioIo::new)
                };
                async { tokio::time::timeout(CONNECT_WITHIN, secured).await? }
            });
            // TLS is the connector's: for what is above it the connection is a plain one.
            let plain = format!("http://{}", uri.authority().map_or("", |a| a.as_str()));
            let endpoint = Endpoint::from_shared(plain).map_err(|_| wrong())?;
            Ok(patient(endpoint).connect_with_connector_lazy(connector))
        }
        _ => Err(wrong()),
    }
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
        (pipe, Listener::of(name, Incoming::Pipe(incoming)))
    }

    /// A new server's end in place of the former one, for a service that is started again: channels handed out before
    /// connect to the new one.
    #[must_use]
    pub fn listen_again(&self) -> Listener {
        let (accept, incoming) = mpsc::channel(BACKLOG);
        *self.accept.lock().unwrap_or_else(PoisonError::into_inner) = accept;
        Listener::of(self.name.clone(), Incoming::Pipe(incoming))
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
    fn of(name: Arc<str>, door: Incoming) -> Self {
        Self {
            name,
            doors: vec![door],
            types: None,
        }
    }

    /// The server's end of a bound socket; `name` is for messages only.
    #[must_use]
    pub fn socket(name: &str, socket: TcpListener) -> Self {
        Self::of(name.into(), Incoming::Socket(socket))
    }

    /// Serves a bound socket as well; with a certificate only to those who show one of the same authority.
    #[must_use]
    pub fn and_socket(mut self, socket: TcpListener, identity: Option<&Arc<Identity>>) -> Self {
        self.doors.push(match identity {
            None => Incoming::Socket(socket),
            Some(identity) => Incoming::Secured(socket, Arc::clone(identity)),
        });
        self
    }

    /// Tells those who ask which types and services there are: `types` is an encoded `google.protobuf.FileDescriptorSet`.
    #[must_use]
    pub const fn telling(mut self, types: &'static [u8]) -> Self {
        self.types = Some(types);
        self
    }

    /// Serves `routes` until `stop`; then calls in hand get two seconds to finish.
    ///
    /// # Errors
    /// [`PipeError`] if the server ends otherwise.
    pub async fn serve(self, routes: Routes, stop: CancellationToken) -> Result<(), PipeError> {
        let Self { name, doors, types } = self;
        let (health, service) = tonic_health::server::health_reporter();
        let mut routes = routes.add_service(service);
        if let Some(types) = types {
            let reflection = tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(types)
                .build_v1();
            match reflection {
                Ok(reflection) => routes = routes.add_service(reflection),
                Err(error) => {
                    tracing::warn!(server = %name, "types of {name} are not told: {error}")
                }
            }
        }
        let router = routes.into_axum_router();
        let router = router.layer(axum::middleware::from_fn(crate::memory::admit));
        let routes = Routes::from(router).prepare();
        let mut open = tokio::task::JoinSet::new();
        for door in doors {
            open.spawn(serve_door(door, routes.clone(), stop.clone()));
        }
        let serving = async {
            let mut first = Ok(());
            while let Some(ended) = open.join_next().await {
                if let Ok(ended) = ended {
                    first = first.and(ended);
                }
            }
            first
        };
        let overdue = async {
            stop.cancelled().await;
            health
                .set_service_status("", ServingStatus::NotServing)
                .await;
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

async fn serve_door(
    door: Incoming,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let router = Server::builder()
        .concurrency_limit_per_connection(CALLS_AT_ONCE)
        .http2_keepalive_interval(Some(ALIVE_EVERY))
        .layer(tower::layer::layer_fn(Traced))
        .add_routes(routes);
    let stopped = stop.cancelled_owned();
    match door {
        Incoming::Pipe(incoming) => {
            let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
            router.serve_with_incoming_shutdown(incoming, stopped).await
        }
        Incoming::Socket(socket) => {
            let incoming = TcpIncoming::from(socket).with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, stopped).await
        }
        Incoming::Secured(socket, identity) => {
            let (shaken, incoming) = mpsc::channel(BACKLOG);
            let door = tokio::spawn(shake_hands(socket, identity, shaken));
            let incoming = ReceiverStream::new(incoming).map(Ok::<_, io::Error>);
            let served = router.serve_with_incoming_shutdown(incoming, stopped).await;
            door.abort();
            served
        }
    }
}

/// Accepts connections and does their handshakes, many at once, so that a slow one holds up no other.
async fn shake_hands(
    socket: TcpListener,
    identity: Arc<Identity>,
    shaken: mpsc::Sender<TlsStream<TcpStream>>,
) {
    let room = Arc::new(Semaphore::new(BACKLOG));
    while let Ok(permit) = Arc::clone(&room).acquire_owned().await {
        let accepted = tokio::select! {
            accepted = socket.accept() => accepted,
            () = shaken.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(ACCEPT_AGAIN).await;
                continue;
            }
        };
        let acceptor = TlsAcceptor::from(identity.server());
        let shaken = shaken.clone();
        tokio::spawn(async move {
            let _permit = permit;
            let _ = stream.set_nodelay(true);
            match tokio::time::timeout(CONNECT_WITHIN, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let _ = shaken.send(stream).await;
                }
                Ok(Err(error)) => {
                    metrics::counter!("shoal_grpc_handshakes_refused_total").increment(1);
                    tracing::warn!(%error, %from, "{from} was turned away: {error}");
                }
                Err(_) => tracing::warn!(%from, "{from} did not finish its handshake"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::Files;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_client::HealthClient;

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
        let served = tokio::spawn(listener.serve(Routes::default(), stop.clone()));
        asked.await.unwrap().unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_socket_is_served_as_a_pipe_is() {
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", socket.local_addr().unwrap());
        let stop = CancellationToken::new();
        let (pipe, listener) = Pipe::new("health");
        let served = listener
            .and_socket(socket, None)
            .serve(Routes::default(), stop.clone());
        let served = tokio::spawn(served);
        check(peer(&address, None).unwrap()).await.unwrap();
        check(pipe.channel()).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
    }

    #[test]
    fn what_is_no_address_is_said_to_be_none() {
        for wrong in [
            "",
            "here",
            "127.0.0.1:9222",
            "ftp://here:1",
            "http://here",
            "https://here:1",
        ] {
            let said = peer(wrong, None).unwrap_err().to_string();
            assert!(said.contains(&format!("{wrong:?}")), "{said}");
        }
    }

    /// Files with a certificate for 127.0.0.1 from an authority that is made anew unless one is given.
    fn files(
        dir: &std::path::Path,
        authority: &rcgen::Issuer<'_, rcgen::KeyPair>,
        ca: &str,
    ) -> Files {
        std::fs::create_dir_all(dir).unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, authority).unwrap();
        let files = Files {
            certificate: dir.join("tls.crt"),
            key: dir.join("tls.key"),
            ca: dir.join("ca.crt"),
        };
        std::fs::write(&files.certificate, certificate.pem()).unwrap();
        std::fs::write(&files.key, key.serialize_pem()).unwrap();
        std::fs::write(&files.ca, ca).unwrap();
        files
    }

    fn authority() -> (rcgen::Issuer<'static, rcgen::KeyPair>, String) {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        (rcgen::Issuer::new(params, key), pem)
    }

    #[tokio::test]
    async fn over_tls_only_those_with_a_certificate_of_our_authority_are_answered() {
        let dir = tempfile::tempdir().unwrap();
        let (ours, ca) = authority();
        let (theirs, their_ca) = authority();
        let served = files(&dir.path().join("server"), &ours, &ca);
        let identity = Arc::new(Identity::open(served).unwrap());
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        let stop = CancellationToken::new();
        let (_pipe, listener) = Pipe::new("secured");
        let listener = listener.and_socket(socket, Some(&identity));
        let served = tokio::spawn(listener.serve(Routes::default(), stop.clone()));

        let friend = files(&dir.path().join("friend"), &ours, &ca);
        let friend = Arc::new(Identity::open(friend).unwrap());
        let secured = format!("https://{address}");
        check(peer(&secured, Some(&friend)).unwrap()).await.unwrap();
        // A stranger that trusts us, and one that says nothing.
        let stranger = files(&dir.path().join("stranger"), &theirs, &their_ca);
        std::fs::write(&stranger.ca, &ca).unwrap();
        let stranger = Arc::new(Identity::open(stranger).unwrap());
        let refused = check(peer(&secured, Some(&stranger)).unwrap()).await;
        assert!(refused.is_err());
        let refused = check(peer(&format!("http://{address}"), None).unwrap()).await;
        assert!(refused.is_err());

        // A server of another authority is not spoken to.
        let changed = files(&dir.path().join("server"), &theirs, &ca);
        let later = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        let file = std::fs::File::options()
            .append(true)
            .open(&changed.certificate);
        file.unwrap().set_modified(later).unwrap();
        let refused = check(peer(&secured, Some(&friend)).unwrap()).await;
        assert!(refused.is_err());
        // A certificate that does not read leaves the one before in use.
        std::fs::write(&changed.key, "nothing").unwrap();
        files(&dir.path().join("friend"), &ours, &(ca.clone() + &their_ca));
        let file = std::fs::File::options()
            .append(true)
            .open(dir.path().join("friend/ca.crt"));
        file.unwrap().set_modified(later).unwrap();
        check(peer(&secured, Some(&friend)).unwrap()).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_channel_finds_the_server_again_after_it_went_away() {
        let (pipe, listener) = Pipe::new("health");
        let channel = pipe.channel();
        let stop = CancellationToken::new();
        let served = tokio::spawn(listener.serve(Routes::default(), stop.clone()));
        check(channel.clone()).await.unwrap();
        stop.cancel();
        served.await.unwrap().unwrap();

        let gone = check(channel.clone()).await.unwrap_err();
        assert_eq!(gone.code(), tonic::Code::Unavailable, "{gone}");

        let stop = CancellationToken::new();
        tokio::spawn(pipe.listen_again().serve(Routes::default(), stop.clone()));
        check(channel).await.unwrap();
        stop.cancel();
    }
}
