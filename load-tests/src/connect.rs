//! Opening a station's websocket: address, TLS, key, subprotocol.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use ocpp_kit::Version;
use ocpp_kit::transport::{BasicAuthPassword, basic_auth_header};
use ocpp_kit::types::Identity;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::failure::Failure;
use crate::scenario::Security;

/// Messages are short and stations many.
const BUFFER: usize = 2 * 1024;
/// Longest message of the other side.
const LONGEST: usize = 256 * 1024;

/// A byte stream, with or without TLS.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// An open websocket.
pub(crate) type Socket = WebSocketStream<Box<dyn Wire>>;

/// Why a connection was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Closed {
    /// The server answered with another status than 101.
    #[error("turned away with status {0}")]
    Refused(u16),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Websocket(Box<WsError>),
    #[error("{0}")]
    Input(String),
}

/// Where stations connect, and as whom.
#[derive(Debug)]
pub(crate) struct Target {
    urls: Vec<Place>,
    source: Option<IpAddr>,
    security: Security,
    passwords: HashMap<String, String>,
    tls: Option<Arc<ClientConfig>>,
}

#[derive(Debug)]
struct Place {
    /// With `{id}` where the identity goes.
    template: String,
    host: String,
    address: SocketAddr,
}

impl Target {
    /// Looks addresses up and reads certificates and keys. `process` numbers generator processes: towards a loopback
    /// address each connects from a loopback address of its own, since one has too few ports for all.
    ///
    /// # Errors
    /// Status 2 with the URL or file.
    pub(crate) async fn new(
        urls: &[String],
        security: &Security,
        process: usize,
    ) -> Result<Self, Failure> {
        let mut places = Vec::with_capacity(urls.len());
        for url in urls {
            places.push(place(url, security).await?);
        }
        let loopback = places.iter().all(|p| p.address.ip().is_loopback());
        let v4 = places.iter().all(|p| p.address.is_ipv4());
        let source = (loopback && v4).then(|| {
            let [high, low] = u16::try_from(process % 60_000 + 2)
                .unwrap_or(2)
                .to_be_bytes();
            IpAddr::V4(Ipv4Addr::new(127, 0, high, low))
        });
        let passwords = match &security.passwords {
            Some(file) => read_passwords(file)?,
            None => HashMap::new(),
        };
        let mutual = security.profile == 3;
        Ok(Self {
            urls: places,
            source,
            security: security.clone(),
            passwords,
            tls: (security.is_encrypted() && !mutual)
                .then(|| config(security, None))
                .transpose()?
                .map(Arc::new),
        })
    }

    /// Connects station `number`.
    ///
    /// # Errors
    /// [`Closed`].
    pub(crate) async fn open(
        &self,
        number: usize,
        identity: &str,
        version: Version,
    ) -> Result<Socket, Closed> {
        let place = &self.urls[number % self.urls.len()];
        let request = self.request(place, identity, version)?;
        let socket = if place.address.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0))?;
        }
        let stream = socket.connect(place.address).await?;
        stream.set_nodelay(true)?;
        let wire = self.wire(stream, place, identity).await?;
        let settings = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0)
            .max_message_size(Some(LONGEST))
            .max_frame_size(Some(LONGEST));
        match client_async_with_config(request, wire, Some(settings)).await {
            Ok((socket, _)) => Ok(socket),
            Err(WsError::Http(answer)) => Err(Closed::Refused(answer.status().as_u16())),
            Err(error) => Err(Closed::Websocket(Box::new(error))),
        }
    }

    async fn wire(
        &self,
        stream: TcpStream,
        place: &Place,
        identity: &str,
    ) -> Result<Box<dyn Wire>, Closed> {
        if !self.security.is_encrypted() {
            return Ok(Box::new(stream));
        }
        let tls = match &self.tls {
            Some(shared) => Arc::clone(shared),
            // With a certificate per station nothing is shared.
            None => config(&self.security, Some(identity))
                .map(Arc::new)
                .map_err(|e| Closed::Input(e.to_string()))?,
        };
        let name = ServerName::try_from(place.host.clone())
            .map_err(|e| Closed::Input(format!("host {}: {e}", place.host)))?;
        let stream = TlsConnector::from(tls).connect(name, stream).await?;
        Ok(Box::new(stream))
    }

    fn request(&self, place: &Place, identity: &str, version: Version) -> Result<Request, Closed> {
        let input = |what: &str| Closed::Input(format!("station {identity}: {what}"));
        let mut request = place
            .template
            .replace("{id}", identity)
            .into_client_request()
            .map_err(|e| Closed::Websocket(Box::new(e)))?;
        let headers = request.headers_mut();
        let protocol = version
            .subprotocol()
            .parse()
            .map_err(|_| input("no subprotocol"))?;
        headers.insert("sec-websocket-protocol", protocol);
        if matches!(self.security.profile, 1 | 2) {
            let pattern = self.security.password.as_deref();
            let password = self
                .passwords
                .get(identity)
                .cloned()
                .or_else(|| pattern.map(|p| p.replace("{id}", identity)))
                .ok_or_else(|| input("no password"))?;
            let name = Identity::new(identity).map_err(|e| input(&e.to_string()))?;
            let password = BasicAuthPassword::utf8(password).map_err(|e| input(&e.to_string()))?;
            let value = basic_auth_header(&name, &password)
                .parse()
                .map_err(|_| input("its key cannot be a header"))?;
            headers.insert("authorization", value);
        }
        Ok(request)
    }
}

async fn place(url: &str, security: &Security) -> Result<Place, Failure> {
    let refuse = |expected: &str| Failure::Input(format!("--url: met {url}, expected {expected}"));
    let scheme = if security.is_encrypted() {
        "wss://"
    } else {
        "ws://"
    };
    let rest = url.strip_prefix(scheme).ok_or_else(|| {
        refuse(&format!(
            "{scheme}HOST:PORT/PATH with security.profile {}",
            security.profile
        ))
    })?;
    if !rest.contains("{id}") {
        return Err(refuse("{id} where the identity goes"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let default_port = if security.is_encrypted() { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            (host, port.parse().map_err(|_| refuse("a port number"))?)
        }
        _ => (authority, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let mut found = lookup_host((host, port))
        .await
        .map_err(|e| refuse(&format!("a host that can be found ({e})")))?;
    let address = found
        .next()
        .ok_or_else(|| refuse("a host with an address"))?;
    Ok(Place {
        template: url.to_owned(),
        host: host.to_owned(),
        address,
    })
}

/// TLS as a client: the CA given, and the certificate of the station in profile 3.
fn config(security: &Security, identity: Option<&str>) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    let Some(ca) = &security.ca else {
        return Err(Failure::Input(format!(
            "security.ca: missing, expected with profile {}",
            security.profile
        )));
    };
    for certificate in certificates(ca)? {
        let added = roots.add(certificate);
        added.map_err(|e| Failure::Input(format!("{}: {e}", ca.display())))?;
    }
    let config = ClientConfig::builder().with_root_certificates(roots);
    let (Some(identity), Some(certificate), Some(key)) =
        (identity, &security.certificate, &security.key)
    else {
        return Ok(config.with_no_client_auth());
    };
    let certificate = certificate.replace("{id}", identity);
    let key = key.replace("{id}", identity);
    let chain = certificates(Path::new(&certificate))?;
    let private = PrivateKeyDer::from_pem_file(&key)
        .map_err(|e| Failure::Input(format!("{key}: {e}, expected a private key in PEM")))?;
    config
        .with_client_auth_cert(chain, private)
        .map_err(|e| Failure::Input(format!("{certificate}: {e}")))
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let refuse = |error: &dyn std::fmt::Display| {
        Failure::Input(format!(
            "{}: {error}, expected certificates in PEM",
            file.display()
        ))
    };
    let read = CertificateDer::pem_file_iter(file).map_err(|e| refuse(&e))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|e| refuse(&e))?;
    if all.is_empty() {
        return Err(refuse(&"no certificate"));
    }
    Ok(all)
}

fn read_passwords(file: &Path) -> Result<HashMap<String, String>, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file)
        .map_err(|e| Failure::Input(format!("{shown}: not readable: {e}")))?;
    let lines = (1..).zip(text.lines());
    let lines = lines.filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
    lines
        .map(|(number, line)| {
            line.split_once(' ')
                .map(|(id, password)| (id.to_owned(), password.trim().to_owned()))
                // The line is not shown: it may be a key.
                .ok_or_else(|| {
                    Failure::Input(format!(
                        "{shown}:{number}: met one word, expected an identity and its key"
                    ))
                })
        })
        .collect()
}
