//! Certificates for stations: what a station wants signed before its own expires (OCPP 2.1 A02 and A03, and the security
//! extension of 1.6).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use ocpp_kit::{RawValue, v1_6, v2_1};
use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SerialNumber,
};
use runtime::tls::{TlsError, certificates, unreadable};
use uuid::Uuid;
use x509_parser::parse_x509_certificate;

use crate::answer::{Answer, Desk, reply};
use crate::station::{Outlets, Said};

/// Longest chain that 1.6 and 2.x carry, `CertificateSigned.certificateChain`.
const LONGEST: usize = 10_000;

/// Where the authority is, and how long what it signs holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// Its certificate, followed by those between it and the root, PEM.
    pub(crate) certificate: PathBuf,
    /// Its key, PEM.
    pub(crate) key: PathBuf,
    /// Who may sign certificates of stations, PEM, where stations show one.
    pub(crate) client_ca: Option<PathBuf>,
    /// Life of a certificate.
    pub(crate) days: u16,
}

/// Signs certificates of stations.
pub(crate) struct Issuer {
    files: Files,
    state: Mutex<State>,
}

struct State {
    authority: rcgen::Issuer<'static, KeyPair>,
    /// The certificates that a station sends along with its own, PEM.
    chain: String,
    /// Last day of the authority itself.
    until: NaiveDate,
    changed: Vec<Option<SystemTime>>,
}

/// A signed certificate that its station is to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Signed {
    /// It and who signed it, PEM.
    pub(crate) chain: String,
    /// What the station calls its request, 2.1.
    pub(crate) request: Option<i32>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer with {:?}", self.files)
    }
}

impl Issuer {
    /// Reads the authority.
    ///
    /// # Errors
    /// [`TlsError`] naming the file.
    pub(crate) fn open(files: Files) -> Result<Self, TlsError> {
        let state = Mutex::new(files.read()?);
        Ok(Self { files, state })
    }

    /// Reads the authority again if its files changed.
    ///
    /// # Errors
    /// [`TlsError`]; the authority used so far stays.
    pub(crate) fn reload(&self) -> Result<bool, TlsError> {
        if self.lock().changed == self.files.changed() {
            return Ok(false);
        }
        let state = self.files.read()?;
        *self.lock() = state;
        Ok(true)
    }

    /// Signs what a station asks for: a certificate of its own identity, for its key, with which it can do nothing but connect.
    /// What else the request wants is left out.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn sign(
        &self,
        identity: &str,
        request: &str,
        now: DateTime<Utc>,
    ) -> Result<String, String> {
        let asked = CertificateSigningRequestParams::from_pem(request)
            .map_err(|error| format!("the request cannot be signed: {error}"))?;
        let named = asked.params.distinguished_name.get(&DnType::CommonName);
        if named.and_then(text).is_none_or(|name| name != identity) {
            return Err(format!(
                "the request names {}, expected {identity} as common name",
                named.and_then(text).unwrap_or("nobody")
            ));
        }
        let state = self.lock();
        let today = now.date_naive();
        let last = today + Days::new(u64::from(self.files.days));
        let last = last.min(state.until);
        if last <= today {
            return Err(format!("the authority itself holds until {}", state.until));
        }
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, identity.to_owned());
        params.serial_number = Some(SerialNumber::from(Uuid::new_v4().as_bytes().to_vec()));
        let part = |number: u32| u8::try_from(number).unwrap_or(1);
        let day = |date: NaiveDate| {
            rcgen::date_time_ymd(date.year(), part(date.month()), part(date.day()))
        };
        // A station's clock may be a little behind.
        params.not_before = day(today - Days::new(1));
        params.not_after = day(last);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let certificate = params
            .signed_by(&asked.public_key, &state.authority)
            .map_err(|error| format!("the certificate cannot be signed: {error}"))?;
        let chain = certificate.pem() + &state.chain;
        if chain.len() > LONGEST {
            return Err(format!(
                "certificate and chain have {} characters, expected at most {LONGEST}",
                chain.len()
            ));
        }
        Ok(chain)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn text(value: &rcgen::DnValue) -> Option<&str> {
    if let rcgen::DnValue::Utf8String(text) = value {
        Some(text)
    } else if let rcgen::DnValue::PrintableString(text) = value {
        Some(text.as_str())
    } else {
        None
    }
}

impl Files {
    fn changed(&self) -> Vec<Option<SystemTime>> {
        let all = [&self.certificate, &self.key].into_iter();
        all.chain(&self.client_ca)
            .map(|path| std::fs::metadata(path).and_then(|m| m.modified()).ok())
            .collect()
    }

    fn read(&self) -> Result<State, TlsError> {
        let changed = self.changed();
        let unusable = |why: String| TlsError::Unusable {
            path: self.certificate.clone(),
            why,
        };
        let chain = certificates(&self.certificate, "the authority that signs for stations")?;
        let first = chain
            .first()
            .ok_or_else(|| unusable("holds no certificate".to_owned()))?;
        let pem = std::fs::read_to_string(&self.key)
            .map_err(|error| unreadable(&self.key, "a private key", &error))?;
        let key = KeyPair::from_pem(&pem)
            .map_err(|error| unreadable(&self.key, "a private key", &error))?;
        let (_, parsed) =
            parse_x509_certificate(first).map_err(|error| unusable(error.to_string()))?;
        if !parsed.is_ca() {
            return Err(unusable("is not an authority".to_owned()));
        }
        if *parsed.public_key().subject_public_key.data != *key.public_key_raw() {
            return Err(unusable(format!(
                "is not the certificate of the key in {}",
                self.key.display()
            )));
        }
        if let Some(path) = &self.client_ca
            && !vouched(path, &parsed)?
        {
            return Err(unusable(format!(
                "nobody in {} vouches for it, so that no station would be let in with what it signs",
                path.display()
            )));
        }
        let until = DateTime::from_timestamp(parsed.validity().not_after.timestamp(), 0)
            .unwrap_or(DateTime::<Utc>::MAX_UTC);
        // A root is known to whoever trusts it.
        let along = if parsed.subject() == parsed.issuer() {
            String::new()
        } else {
            std::fs::read_to_string(&self.certificate)
                .map_err(|error| unreadable(&self.certificate, "a certificate", &error))?
        };
        let authority = rcgen::Issuer::from_ca_cert_der(first, key)
            .map_err(|error| unusable(error.to_string()))?;
        Ok(State {
            authority,
            chain: along,
            until: until.date_naive(),
            changed,
        })
    }
}

/// Whether one of the authorities in a file is that one, or signed it.
fn vouched(
    path: &Path,
    authority: &x509_parser::certificate::X509Certificate<'_>,
) -> Result<bool, TlsError> {
    let known = certificates(path, "the authority of stations")?;
    let known: Vec<_> = known
        .iter()
        .filter_map(|der| parse_x509_certificate(der).ok())
        .collect();
    Ok(known.iter().any(|(_, root)| {
        let key = root.public_key();
        key == authority.public_key() || authority.verify_signature(Some(key)).is_ok()
    }))
}

/// Answers a station that wants a certificate signed. What was signed follows once the answer is on the wire.
fn asked(
    outlets: &Outlets,
    issuer: &Issuer,
    request: &str,
    number: Option<i32>,
    desk: Desk<'_>,
    said: &mut Said,
) -> bool {
    match issuer.sign(outlets.station.id.as_str(), request, desk.now) {
        Ok(chain) => {
            metrics::counter!("shoal_edge_certificates_signed_total").increment(1);
            said.then.signed = Some(Box::new(Signed {
                chain,
                request: number,
            }));
            true
        }
        Err(why) => {
            said.refused.push(why);
            false
        }
    }
}

/// A request of 1.6; `None` if nobody signs here.
pub(crate) fn asked16(
    outlets: &Outlets,
    request: &v1_6::SignCertificateRequest,
    desk: Desk<'_>,
    said: &mut Said,
) -> Option<Answer> {
    let taken = asked(outlets, desk.issuer?, &request.csr, None, desk, said);
    Some(reply(&v1_6::SignCertificateResponse::new(if taken {
        v1_6::GenericStatus::Accepted
    } else {
        v1_6::GenericStatus::Rejected
    })))
}

/// A request of 2.0.1 or 2.1; `None` if nobody signs here.
pub(crate) fn asked2(
    outlets: &Outlets,
    request: &v2_1::SignCertificateRequest,
    desk: Desk<'_>,
    said: &mut Said,
) -> Option<Answer> {
    let issuer = desk.issuer?;
    let kind = request.certificate_type.as_ref();
    let ours =
        kind.is_none_or(|kind| *kind == v2_1::CertificateSigningUse::ChargingStationCertificate);
    let taken = if ours {
        let (csr, number) = (&request.csr, request.request_id);
        asked(outlets, issuer, csr, number, desk, said)
    } else {
        said.refused.push(
            "expected ChargingStationCertificate: vehicles' certificates come from elsewhere"
                .to_owned(),
        );
        false
    };
    Some(reply(&v2_1::SignCertificateResponse::new(if taken {
        v2_1::GenericStatus::Accepted
    } else {
        v2_1::GenericStatus::Rejected
    })))
}

impl Signed {
    /// The call that tells a station what was signed.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub(crate) fn call(&self, version: ocpp_kit::Version) -> Result<Box<RawValue>, String> {
        let written = if version == ocpp_kit::Version::V1_6 {
            serde_json::value::to_raw_value(&v1_6::CertificateSignedRequest::new(&*self.chain))
        } else {
            let mut request = v2_1::CertificateSignedRequest::new(&*self.chain);
            request.certificate_type =
                Some(v2_1::CertificateSigningUse::ChargingStationCertificate);
            request.request_id = self.request;
            serde_json::value::to_raw_value(&request)
        };
        written.map_err(|error| error.to_string())
    }
}
