//! Mutual TLS between services: one certificate per process, from files, read again when they change.
//!
//! Whoever asks and whoever answers shows a certificate of the same authority. Connections that are open keep the certificate they
//! began with.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use tokio_rustls::rustls::client::ClientConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};

/// What gRPC speaks over TLS.
const HTTP2: &[u8] = b"h2";

/// Where the certificates are, section `[tls]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files {
    /// Our certificate with its chain, PEM. It names the hosts under which this process is asked.
    pub certificate: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who signs the certificates of services, PEM.
    pub ca: PathBuf,
}

/// Files for TLS that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read or holds nothing of the kind.
    #[error("{}: {what} cannot be read: {why}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What was expected in it.
        what: &'static str,
        /// What was met.
        why: String,
    },
    /// The parts do not fit together.
    #[error("{}: {why}", path.display())]
    Unusable {
        /// The certificate.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
}

/// The certificate of this process, the newest there is.
pub struct Identity {
    files: Files,
    state: Mutex<State>,
}

#[derive(Clone)]
struct State {
    changed: Vec<Option<SystemTime>>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity of {}", self.files.certificate.display())
    }
}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub fn open(files: Files) -> Result<Self, TlsError> {
        let state = Mutex::new(files.read()?);
        Ok(Self { files, state })
    }

    /// For connections that come in: clients without a certificate of our authority are turned away.
    #[must_use]
    pub fn server(&self) -> Arc<ServerConfig> {
        self.newest().server
    }

    /// For connections that go out.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        self.newest().client
    }

    /// What the files say now; what they said before if they cannot be used.
    fn newest(&self) -> State {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = self.files.changed();
        if state.changed != changed {
            match self.files.read() {
                Ok(read) => {
                    tracing::info!(certificate = %self.files.certificate.display(), "a new certificate is used from now on");
                    *state = read;
                }
                Err(error) => {
                    metrics::counter!("shoal_certificates_refused_total").increment(1);
                    tracing::error!(%error, "the certificate used so far stays: {error}");
                    // Told once for each change.
                    state.changed = changed;
                }
            }
        }
        state.clone()
    }
}

impl Files {
    /// When each file was written last; a missing one changes too.
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let all = [&self.certificate, &self.key, &self.ca];
        let all = all.into_iter();
        all.map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
            .collect()
    }

    fn read(&self) -> Result<State, TlsError> {
        // Before they are read: a change in between is seen at the next look.
        let changed = self.changed();
        let unusable = |why: String| TlsError::Unusable {
            path: self.certificate.clone(),
            why,
        };
        let mut roots = RootCertStore::empty();
        for root in certificates(&self.ca, "the authority of services")? {
            roots.add(root).map_err(|e| unusable(e.to_string()))?;
        }
        let roots = Arc::new(roots);
        let chain = certificates(&self.certificate, "a certificate")?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|e| unusable(e.to_string()))?;
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| unusable(e.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain.clone(), private_key(&self.key)?)
            .map_err(|e| unusable(e.to_string()))?;
        server.alpn_protocols = vec![HTTP2.to_vec()];
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| unusable(e.to_string()))?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, private_key(&self.key)?)
            .map_err(|e| unusable(e.to_string()))?;
        client.alpn_protocols = vec![HTTP2.to_vec()];
        Ok(State {
            changed,
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }
}

/// The certificates of a PEM file, at least one.
///
/// # Errors
/// [`TlsError::Read`]; `what` says what was expected.
pub fn certificates(
    path: &Path,
    what: &'static str,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let all = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|e| unreadable(path, what, &e))?;
    if all.is_empty() {
        return Err(unreadable(path, what, &"it holds none"));
    }
    Ok(all)
}

/// The private key of a PEM file.
///
/// # Errors
/// [`TlsError::Read`].
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|e| unreadable(path, "a private key", &e))
}

/// A file that holds no `what`.
pub fn unreadable(path: &Path, what: &'static str, why: &impl ToString) -> TlsError {
    TlsError::Read {
        path: path.to_owned(),
        what,
        why: why.to_string(),
    }
}
