//! Who may come in and what they may be told: the security profiles of OCPP.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use ocpp_kit::transport::Credentials as Header;
use runtime::tls::TlsError;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::credentials::{Credentials, CredentialsError};
use crate::issuer::{self, Issuer};
use crate::tls::{Door, Files};
use crate::tokens::{Tokens, TokensError};

/// Real time between looks at the files of keys and certificates.
const LOOK: Duration = Duration::from_secs(5);

/// Life of a certificate that is signed for a station; what browsers allow servers, too.
const ISSUED_DAYS: u16 = 398;

/// Security profile, OCPP 2.0.1 part 2 A00 and the security extension of 1.6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// No authentication at all: only on a loopback address, for simulators and behind a proxy on the same machine that
    /// authenticates.
    #[default]
    Open,
    /// Profile 1: a key, no TLS.
    Basic,
    /// Profile 2: TLS and a key.
    TlsBasic,
    /// Profile 3: TLS with a certificate of the station, which names its identity.
    MutualTls,
}

impl Profile {
    pub(crate) const fn is_encrypted(self) -> bool {
        matches!(self, Self::TlsBasic | Self::MutualTls)
    }

    const fn wants_key(self) -> bool {
        matches!(self, Self::Basic | Self::TlsBasic)
    }
}

/// Settings of security, below `edge.security`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Security {
    /// Profile; the whole socket has one.
    pub profile: Profile,
    /// File of stations and their hashed keys, one `IDENTITY HASH` per line; for `basic` and `tls-basic`. The hash is
    /// `sha256:SALT:DIGEST` of a generated key (see [`crate::credentials_line`]) or `$argon2id$...` of one that a person chose.
    pub credentials: Option<PathBuf>,
    /// Certificate with its chain, PEM; for `tls-basic` and `mutual-tls`.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM.
    pub key: Option<PathBuf>,
    /// Who signs the certificates of stations, PEM; for `mutual-tls`.
    pub client_ca: Option<PathBuf>,
    /// Certificates of stations that are withdrawn, PEM; for `mutual-tls`. Once there is a list, a station whose issuer is not
    /// in it is refused.
    pub client_crl: Option<PathBuf>,
    /// File of tokens that may charge, one a line; without it every token is accepted, as where the operator's own system
    /// decides. A refused token is answered as invalid; the station then stops the transaction as it is configured.
    pub id_tokens: Option<PathBuf>,
    /// Certificate of an authority that signs certificates of stations, followed by those between it and the root, PEM. With it,
    /// `SignCertificate` of a station is answered with a certificate of its identity.
    pub issuer: Option<PathBuf>,
    /// Its private key, PEM.
    pub issuer_key: Option<PathBuf>,
    /// How long a signed certificate holds, in days; 398 if none is set.
    pub issued_days: Option<u16>,
    /// Allows set-points that discharge vehicles over connections without TLS. For simulators, and for a proxy that ends TLS.
    pub discharge_without_tls: bool,
}

impl Security {
    /// Who signs certificates of stations, if anybody does.
    fn issuer(&self) -> Result<Option<Issuer>, SecurityError> {
        let (certificate, key) = match (&self.issuer, &self.issuer_key) {
            (None, None) if self.issued_days.is_none() => return Ok(None),
            (Some(certificate), Some(key)) => (certificate.clone(), key.clone()),
            (Some(_), None) => return Err(SecurityError::Alone("issuer_key")),
            (None, _) => return Err(SecurityError::Alone("issuer")),
        };
        if !self.profile.is_encrypted() {
            return Err(SecurityError::Unencrypted);
        }
        let days = self.issued_days.unwrap_or(ISSUED_DAYS);
        if days == 0 {
            return Err(SecurityError::Days);
        }
        let mutual = self.profile == Profile::MutualTls;
        let issuer = Issuer::open(issuer::Files {
            certificate,
            key,
            client_ca: self.client_ca.clone().filter(|_| mutual),
            days,
        })?;
        Ok(Some(issuer))
    }
}

/// Security that cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SecurityError {
    /// A profile without what it needs.
    #[error("edge.security.{key} is missing, expected with profile {profile}")]
    Missing {
        /// Key below `edge.security`.
        key: &'static str,
        /// Profile as set.
        profile: &'static str,
    },
    /// No authentication where anybody could connect.
    #[error(
        "edge.security.profile is open at {listen}, expected a loopback address or profile basic, tls-basic or mutual-tls"
    )]
    OpenToAll {
        /// Address as set.
        listen: SocketAddr,
    },
    /// An authority that lacks a part.
    #[error("edge.security.{0} is missing, expected with issuer, issuer_key or issued_days")]
    Alone(&'static str),
    /// An authority where anybody could ask.
    #[error("edge.security.issuer is set, expected with profile tls-basic or mutual-tls alone")]
    Unencrypted,
    /// Certificates that hold for no day.
    #[error("edge.security.issued_days is 0, expected at least 1")]
    Days,
    /// Keys.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// Certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
}

/// Security at work.
#[derive(Debug)]
pub(crate) struct Guard {
    profile: Profile,
    discharge: bool,
    credentials: Option<Credentials>,
    pub(crate) door: Option<Door>,
    pub(crate) tokens: Tokens,
    pub(crate) issuer: Option<Issuer>,
}

/// Why somebody is not let in. Says nothing about keys.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Unauthorised {
    #[error("it authenticates under another name")]
    OtherName,
    #[error("it gives no key, or not the right one")]
    Key,
    #[error("its certificate names somebody else")]
    Certificate,
}

/// Reads keys and certificates as the service does when it starts, and forgets them.
///
/// # Errors
/// [`SecurityError`] naming the key of the configuration, or the file and line.
pub fn check_security(config: &crate::Config) -> Result<(), SecurityError> {
    Guard::new(&config.security, config.listen).map(drop)
}

impl Guard {
    /// Reads keys and certificates.
    ///
    /// # Errors
    /// [`SecurityError`] naming the key of the configuration, or the file and line.
    pub(crate) fn new(settings: &Security, listen: SocketAddr) -> Result<Self, SecurityError> {
        let profile = settings.profile;
        if profile == Profile::Open && !listen.ip().is_loopback() {
            return Err(SecurityError::OpenToAll { listen });
        }
        let name = match profile {
            Profile::Open => "open",
            Profile::Basic => "basic",
            Profile::TlsBasic => "tls-basic",
            Profile::MutualTls => "mutual-tls",
        };
        let needed = |key, path: &Option<PathBuf>| {
            path.clone()
                .ok_or(SecurityError::Missing { key, profile: name })
        };
        let credentials = if profile.wants_key() {
            let path = needed("credentials", &settings.credentials)?;
            Some(Credentials::open(&path)?)
        } else {
            None
        };
        let door = if profile.is_encrypted() {
            let client_ca = (profile == Profile::MutualTls)
                .then(|| needed("client_ca", &settings.client_ca))
                .transpose()?;
            Some(Door::open(Files {
                certificate: needed("certificate", &settings.certificate)?,
                key: needed("key", &settings.key)?,
                client_ca,
                client_crl: settings.client_crl.clone(),
            })?)
        } else {
            None
        };
        Ok(Self {
            profile,
            discharge: profile.is_encrypted() || settings.discharge_without_tls,
            credentials,
            door,
            tokens: Tokens::open(settings.id_tokens.as_deref())?,
            issuer: settings.issuer()?,
        })
    }

    /// True if set-points may discharge vehicles over these connections.
    pub(crate) const fn allows_discharge(&self) -> bool {
        self.discharge
    }

    /// Checks that a station is who it says. `named` are the names in its certificate.
    ///
    /// # Errors
    /// [`Unauthorised`] saying why not.
    pub(crate) async fn admit(
        &self,
        identity: &str,
        headers: &HeaderMap,
        named: &[String],
    ) -> Result<(), Unauthorised> {
        let header = headers.get(AUTHORIZATION).and_then(|h| h.to_str().ok());
        let given = header.map(Header::from_authorization_header);
        // OCPP 2.1 A00.FR.204: who authenticates does so under the identity of the address.
        if let Some(Header::Basic { user, .. }) = &given
            && user != identity
        {
            return Err(Unauthorised::OtherName);
        }
        if self.profile == Profile::MutualTls && !named.iter().any(|name| name == identity) {
            return Err(Unauthorised::Certificate);
        }
        let Some(credentials) = &self.credentials else {
            return Ok(());
        };
        match given {
            Some(Header::Basic { password, .. })
                if credentials.check(identity, &password).await =>
            {
                Ok(())
            }
            _ => Err(Unauthorised::Key),
        }
    }

    /// Reads keys and certificates again when their files change, until `stop`. What cannot be read is said, and what
    /// was known stays.
    pub(crate) async fn watch(self: Arc<Self>, stop: CancellationToken) {
        while tokio::time::timeout(LOOK, stop.cancelled()).await.is_err() {
            let guard = Arc::clone(&self);
            // Files may be far away.
            if let Err(error) = tokio::task::spawn_blocking(move || guard.look()).await {
                tracing::error!(%error, "keys and certificates could not be looked at: {error}");
            }
        }
    }

    fn look(&self) {
        if let Some(Err(error)) = self.credentials.as_ref().map(Credentials::reload) {
            tracing::error!(%error, "keys of stations stay as they were: {error}");
        }
        if let Err(error) = self.tokens.reload() {
            tracing::error!(%error, "tokens that may charge stay as they were: {error}");
        }
        if let Some(Err(error)) = self.issuer.as_ref().map(Issuer::reload) {
            tracing::error!(%error, "the authority that signs for stations stays as it was: {error}");
        }
        match self.door.as_ref().map(Door::reload) {
            Some(Ok(true)) => tracing::info!("new connections get the new certificate"),
            Some(Err(error)) => {
                tracing::error!(%error, "the certificate stays as it was: {error}");
            }
            Some(Ok(false)) | None => {}
        }
    }
}
