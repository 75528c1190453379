//! TLS at the door: certificates from files, read again when they change; who a client certificate names.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use runtime::tls::{TlsError, certificates, private_key, unreadable};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, CertificateRevocationListDer};
use tokio_rustls::rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use tokio_rustls::server::TlsStream;

/// Where the certificates are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// Our certificate, with its chain, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, PEM.
    pub(crate) key: PathBuf,
    /// Who signs the certificates of stations, PEM; `None` where they have none.
    pub(crate) client_ca: Option<PathBuf>,
    /// Which of them are withdrawn, PEM; `None` where nobody keeps a list.
    pub(crate) client_crl: Option<PathBuf>,
}

/// The door. New connections get the newest certificate; those that are open keep theirs.
pub(crate) struct Door {
    files: Files,
    state: Mutex<State>,
}

struct State {
    acceptor: TlsAcceptor,
    changed: Vec<Option<SystemTime>>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Door with {:?}", self.files)
    }
}

impl Door {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub(crate) fn open(files: Files) -> Result<Self, TlsError> {
        let changed = files.changed();
        let acceptor = files.acceptor()?;
        let state = Mutex::new(State { acceptor, changed });
        Ok(Self { files, state })
    }

    /// Reads the files again if one of them changed.
    ///
    /// # Errors
    /// [`TlsError`]; the certificate used so far stays.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        let changed = self.files.changed();
        if self.lock().changed == changed {
            return Ok(false);
        }
        let acceptor = self.files.acceptor()?;
        *self.lock() = State { acceptor, changed };
        Ok(true)
    }

    /// Does the handshake of one connection.
    ///
    /// # Errors
    /// What the other side did wrong.
    pub(crate) async fn accept(&self, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        let acceptor = self.lock().acceptor.clone();
        acceptor.accept(stream).await
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files {
    /// When each file was written last; a missing one changes too.
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let all = [&self.certificate, &self.key].into_iter();
        let all = all.chain(&self.client_ca).chain(&self.client_crl);
        all.map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
            .collect()
    }

    fn withdrawn(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
        let Some(path) = &self.client_crl else {
            return Ok(Vec::new());
        };
        CertificateRevocationListDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|e| unreadable(path, "a list of withdrawn certificates", &e))
    }

    fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let unusable = |why: String| TlsError::Unusable {
            path: self.certificate.clone(),
            why,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        // OCPP 2.0.1 A00.FR.316: TLS 1.2 or newer.
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| unusable(e.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for root in certificates(path, "the authority of stations")? {
                    roots.add(root).map_err(|e| unusable(e.to_string()))?;
                }
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                        .with_crls(self.withdrawn()?)
                        .only_check_end_entity_revocation()
                        .build()
                        .map_err(|e| unusable(e.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let chain = certificates(&self.certificate, "a certificate")?;
        let key = private_key(&self.key)?;
        let mut config = builder
            .with_single_cert(chain, key)
            .map_err(|e| unusable(e.to_string()))?;
        // Stations stay for weeks, and after a restart no session of before is known: nothing to resume, nothing to keep.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Names in a client certificate: the common name, where OCPP puts the serial number of a station, and DNS names.
pub(crate) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    use x509_parser::extensions::GeneralName;
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else {
        return vec![];
    };
    let common = parsed.subject().iter_common_name();
    let mut names: Vec<String> = common
        .filter_map(|name| name.as_str().ok().map(str::to_owned))
        .collect();
    if let Ok(Some(others)) = parsed.subject_alternative_name() {
        let all = others.value.general_names.iter();
        names.extend(all.filter_map(|name| {
            if let GeneralName::DNSName(name) = name {
                Some((*name).to_owned())
            } else {
                None
            }
        }));
    }
    names
}
