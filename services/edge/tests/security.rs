//! Who may come in: security profiles 1, 2 and 3, and what may be said over which connection.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

mod support;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use fleet::Protocol;
use fleet::setpoint::Outcome;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use runtime::Clock;
use serde_json::json;
use shoal_edge::{Config, Deps, Edge, Profile, Security, credentials_line};
use store::Store;
use support::{Bench, Client, PATIENCE, bench_with, evse, quiet, start_as_is};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;

const KEY: &str = "a-key-of-twenty-six-bytes-";

/// `identity:key` as the header of basic authentication.
fn basic(identity: &str, key: &str) -> String {
    format!(
        "Basic {}",
        BASE64_STANDARD.encode(format!("{identity}:{key}"))
    )
}

fn request(bench: &Bench, scheme: &str, identity: &str, header: Option<String>) -> Request {
    let port = bench.address.port();
    let url = format!("{scheme}://localhost:{port}/ocpp/{identity}");
    let mut request = url.into_client_request().unwrap();
    let headers = request.headers_mut();
    headers.insert("sec-websocket-protocol", "ocpp2.1".parse().unwrap());
    if let Some(header) = header {
        headers.insert("authorization", header.parse().unwrap());
    }
    request
}

async fn serve(security: Security) -> Bench {
    let store = Store::in_memory().await.unwrap();
    let evses = [
        evse("ST1", 1, Protocol::Ocpp21),
        evse("ST2", 1, Protocol::Ocpp21),
    ];
    store.tables().upsert_evses(&evses).await.unwrap();
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        security,
        ..quiet()
    };
    start_as_is(store, config, Clock::system()).await
}

/// Status of the refusal, or none if the station was let in.
async fn refused(bench: &Bench, request: Request) -> Option<u16> {
    use tokio_tungstenite::tungstenite::Error;
    let stream = TcpStream::connect(bench.address).await.unwrap();
    match client_async(request, stream).await {
        Ok(_) => None,
        Err(Error::Http(response)) => Some(response.status().as_u16()),
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn with_profile_1_a_station_needs_its_own_key_and_may_not_discharge() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    std::fs::write(
        &file,
        format!(
            "{}\n{}\n",
            credentials_line("ST1", KEY),
            credentials_line("ST2", "of-the-second-station")
        ),
    )
    .unwrap();
    let bench = serve(Security {
        profile: Profile::Basic,
        credentials: Some(file),
        ..Security::default()
    })
    .await;
    let ask = |identity, header| request(&bench, "ws", identity, header);
    assert_eq!(refused(&bench, ask("ST1", None)).await, Some(401));
    let wrong = basic("ST1", "a-key-of-somebody-else----");
    assert_eq!(refused(&bench, ask("ST1", Some(wrong))).await, Some(401));
    let other = basic("ST1", KEY);
    assert_eq!(
        refused(&bench, ask("ST2", Some(other.clone()))).await,
        Some(401)
    );
    assert_eq!(refused(&bench, ask("ST1", Some(other))).await, None);
    bench.finish().await;
}

#[tokio::test]
async fn discharge_is_refused_without_tls_unless_the_settings_say_so() {
    let bench = serve(Security::default()).await;
    let mut station = bench.connect("ST1", "ocpp2.1").await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    station.agree2(1).await;
    let life = TimeDelta::seconds(60);
    let why = bench.refused("out", "ST1/1", -5_000, life).await;
    assert!(why.contains("without TLS"), "{why}");
    bench
        .command(&bench.setpoint("in", "ST1/1", 5_000, life))
        .await;
    let (id, ..) = station.called().await;
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged("in").await.outcome, Outcome::Accepted);
    bench.finish().await;
}

#[tokio::test]
async fn a_socket_open_to_everybody_is_not_opened() {
    let store = Store::in_memory().await.unwrap();
    let config = Config {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..quiet()
    };
    let deps = Deps {
        clock: Clock::system(),
        log: store.log(),
        tables: store.tables(),
        latency: runtime::latency::Probe::new(),
    };
    let error = Edge::bind(config, deps).await.unwrap_err().to_string();
    assert!(error.contains("edge.security.profile is open"), "{error}");
}

/// An authority with the certificates that it signed, as files.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    root: CertificateDer<'static>,
}

/// A certificate and its key.
type Identity = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
            .distinguished_name
            .push(DnType::CommonName, "Authority of the test");
        let key = KeyPair::generate().unwrap();
        let root = params.self_signed(&key).unwrap();
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("ca.pem"), root.pem()).unwrap();
        std::fs::write(dir.path().join("ca-key.pem"), key.serialize_pem()).unwrap();
        let der = root.der().clone();
        Self {
            dir,
            issuer: Issuer::new(params, key),
            root: der,
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate for a server or a station, written where the edge looks for its own if it is for `localhost`.
    fn sign(&self, name: &str, years: (i32, i32)) -> Identity {
        let dns = if name == "localhost" {
            vec![name.to_owned()]
        } else {
            vec![]
        };
        let mut params = CertificateParams::new(dns).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.serial_number = Some(SerialNumber::from(name.as_bytes().to_vec()));
        params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
        params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        if name == "localhost" {
            std::fs::write(self.path("key.pem"), key.serialize_pem()).unwrap();
            std::fs::write(self.path("cert.pem"), certificate.pem()).unwrap();
        }
        let private = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        (certificate.der().clone(), private)
    }

    /// Withdraws the certificates of one station.
    fn withdraw(&self, name: &str) {
        let revoked = RevokedCertParams {
            serial_number: SerialNumber::from(name.as_bytes().to_vec()),
            revocation_time: rcgen::date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2021, 1, 1),
            next_update: rcgen::date_time_ymd(2090, 1, 1),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).unwrap();
        std::fs::write(self.path("withdrawn.pem"), list.pem().unwrap()).unwrap();
    }

    fn security(&self, profile: Profile) -> Security {
        Security {
            profile,
            certificate: Some(self.path("cert.pem")),
            key: Some(self.path("key.pem")),
            client_ca: Some(self.path("ca.pem")),
            credentials: Some(self.path("keys")),
            ..Security::default()
        }
    }

    /// Connects over TLS; the error says where it ended.
    async fn connect(
        &self,
        bench: &Bench,
        request: Request,
        own: Option<Identity>,
    ) -> Result<(Client, CertificateDer<'static>), String> {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match own {
            Some((certificate, key)) => builder
                .with_client_auth_cert(vec![certificate], key)
                .unwrap(),
            None => builder.with_no_client_auth(),
        };
        let stream = TcpStream::connect(bench.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let tls = connector
            .connect(name, stream)
            .await
            .map_err(|e| e.to_string())?;
        let server = tls.get_ref().1.peer_certificates().unwrap()[0]
            .clone()
            .into_owned();
        let (socket, _) = client_async(request, tls)
            .await
            .map_err(|e| e.to_string())?;
        Ok((Client::over(socket), server))
    }
}

const VALID: (i32, i32) = (2020, 2090);

#[tokio::test]
async fn with_profile_2_a_station_comes_over_tls_with_its_key_and_may_discharge() {
    let authority = Authority::new();
    authority.sign("localhost", VALID);
    std::fs::write(authority.path("keys"), credentials_line("ST1", KEY)).unwrap();
    let bench = serve(authority.security(Profile::TlsBasic)).await;
    let keyless = request(&bench, "wss", "ST1", None);
    let error = authority
        .connect(&bench, keyless, None)
        .await
        .err()
        .unwrap();
    assert!(error.contains("401"), "{error}");
    let right = request(&bench, "wss", "ST1", Some(basic("ST1", KEY)));
    let (mut station, _) = authority.connect(&bench, right, None).await.unwrap();
    station.event2("Started", "tx-1", bench.clock.now()).await;
    station.agree2(1).await;
    let out = bench.setpoint("out", "ST1/1", -5_000, TimeDelta::seconds(60));
    bench.command(&out).await;
    let (id, ..) = station.called().await;
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged("out").await.outcome, Outcome::Accepted);
    bench.finish().await;
}

#[tokio::test]
async fn with_profile_3_the_certificate_is_the_identity() {
    let authority = Authority::new();
    authority.sign("localhost", VALID);
    let bench = serve(authority.security(Profile::MutualTls)).await;
    let ask = || request(&bench, "wss", "ST1", None);
    let own = authority.sign("ST1", VALID);
    let (mut station, _) = authority.connect(&bench, ask(), Some(own)).await.unwrap();
    station.call("Heartbeat", json!({})).await;
    let other = authority.sign("ST2", VALID);
    let error = authority
        .connect(&bench, ask(), Some(other))
        .await
        .err()
        .unwrap();
    assert!(error.contains("401"), "{error}");
    let expired = authority.sign("ST1", (2020, 2021));
    assert!(
        authority
            .connect(&bench, ask(), Some(expired))
            .await
            .is_err()
    );
    assert!(authority.connect(&bench, ask(), None).await.is_err());
    let stranger = Authority::new().sign("ST1", VALID);
    assert!(
        authority
            .connect(&bench, ask(), Some(stranger))
            .await
            .is_err()
    );
    // The others notice nothing.
    station.call("Heartbeat", json!({})).await;
    bench.finish().await;
}

/// A request for a certificate of a name, and the key that goes with it.
fn requested(name: &str) -> (KeyPair, String) {
    let mut params = CertificateParams::new(Vec::<String>::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    let pem = params.serialize_request(&key).unwrap().pem().unwrap();
    (key, pem)
}

#[tokio::test]
async fn a_station_gets_a_new_certificate_and_comes_back_with_it() {
    let authority = Authority::new();
    authority.sign("localhost", VALID);
    let bench = serve(Security {
        issuer: Some(authority.path("ca.pem")),
        issuer_key: Some(authority.path("ca-key.pem")),
        ..authority.security(Profile::MutualTls)
    })
    .await;
    let own = authority.sign("ST1", VALID);
    let ask = || request(&bench, "wss", "ST1", None);
    let (mut station, _) = authority.connect(&bench, ask(), Some(own)).await.unwrap();
    // Neither another's name, nor a text that is no request, nor a vehicle's certificate.
    let (_, foreign) = requested("ST2");
    let (key, pem) = requested("ST1");
    for refused in [
        json!({"csr": foreign}),
        json!({"csr": "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"}),
        json!({"csr": pem, "certificateType": "V2GCertificate"}),
    ] {
        let answer = station.call("SignCertificate", refused).await;
        assert_eq!(answer["status"], "Rejected", "{answer}");
    }
    let wanted =
        json!({"csr": pem, "certificateType": "ChargingStationCertificate", "requestId": 7});
    assert_eq!(
        station.call("SignCertificate", wanted).await["status"],
        "Accepted"
    );
    let (id, action, signed) = station.called().await;
    assert_eq!(
        (&*action, &signed["requestId"]),
        ("CertificateSigned", &json!(7))
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    station.call("Heartbeat", json!({})).await;
    let chain = signed["certificateChain"].as_str().unwrap();
    let certificate = CertificateDer::from_pem_slice(chain.as_bytes()).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let renewed = authority.connect(&bench, ask(), Some((certificate, key)));
    let (mut again, _) = renewed.await.unwrap();
    again.call("Heartbeat", json!({})).await;
    let reasons: Vec<String> = bench
        .quarantined()
        .await
        .into_iter()
        .map(|q| q.reason)
        .collect();
    for part in [
        "the request names ST2, expected ST1",
        "cannot be signed",
        "ChargingStationCertificate",
    ] {
        assert!(
            reasons.iter().any(|r| r.contains(part)),
            "{part}: {reasons:?}"
        );
    }
    bench.finish().await;
}

#[tokio::test]
async fn an_authority_that_no_station_would_be_let_in_by_is_refused() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    authority.sign("localhost", VALID);
    let mutual = authority.security(Profile::MutualTls);
    let with = |issuer: PathBuf, key: PathBuf| Security {
        issuer: Some(issuer),
        issuer_key: Some(key),
        ..mutual.clone()
    };
    let cases = [
        (
            with(authority.path("ca.pem"), stranger.path("ca-key.pem")),
            "is not the certificate of the key",
        ),
        (
            with(stranger.path("ca.pem"), stranger.path("ca-key.pem")),
            "vouches for it",
        ),
        (
            with(authority.path("cert.pem"), authority.path("key.pem")),
            "is not an authority",
        ),
        (
            Security {
                issuer: Some(authority.path("ca.pem")),
                ..mutual.clone()
            },
            "edge.security.issuer_key is missing",
        ),
        (
            Security {
                issuer: Some(authority.path("ca.pem")),
                issuer_key: Some(authority.path("ca-key.pem")),
                ..Security::default()
            },
            "expected with profile tls-basic or mutual-tls",
        ),
    ];
    for (security, part) in cases {
        let config = Config {
            security,
            ..quiet()
        };
        let error = shoal_edge::check_security(&config).unwrap_err().to_string();
        assert!(error.contains(part), "{part}: {error}");
    }
}

#[tokio::test]
async fn a_certificate_that_was_withdrawn_does_not_let_its_station_in() {
    let authority = Authority::new();
    authority.sign("localhost", VALID);
    authority.withdraw("ST1");
    let bench = serve(Security {
        client_crl: Some(authority.path("withdrawn.pem")),
        ..authority.security(Profile::MutualTls)
    })
    .await;
    let ask = |identity| request(&bench, "wss", identity, None);
    let gone = authority.sign("ST1", VALID);
    let refused = authority.connect(&bench, ask("ST1"), Some(gone)).await;
    assert!(refused.is_err());
    let other = authority.sign("ST2", VALID);
    let (mut station, _) = authority
        .connect(&bench, ask("ST2"), Some(other))
        .await
        .unwrap();
    station.call("Heartbeat", json!({})).await;
    bench.finish().await;
}

/// Everything that is logged, at the finest level.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Heard {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_key_gets_into_the_log_right_or_wrong() {
    let heard = Heard::default();
    let writer = heard.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let logging = tracing::subscriber::set_default(subscriber);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys");
    let line = credentials_line("ST1", KEY);
    std::fs::write(&file, &line).unwrap();
    let bench = serve(Security {
        profile: Profile::Basic,
        credentials: Some(file),
        ..Security::default()
    })
    .await;
    // The client of the test may say what it sends: only what the server says is looked at.
    const WRONG: &str = "a-key-of-somebody-else----";
    for key in [WRONG, KEY] {
        let mut stream = TcpStream::connect(bench.address).await.unwrap();
        let header = basic("ST1", key);
        let request = format!(
            "GET /ocpp/ST1 HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             Sec-WebSocket-Protocol: ocpp2.1\r\nAuthorization: {header}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.unwrap();
        let status = if key == KEY { "101" } else { "401" };
        assert_eq!(&answer[9..], status.as_bytes());
    }
    bench.finish().await;
    drop(logging);
    let log = String::from_utf8(heard.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("station ST1 refused"), "{log}");
    for key in [KEY, WRONG] {
        let header = basic("ST1", key);
        for secret in [key, header.as_str(), header.trim_start_matches("Basic ")] {
            assert!(!log.contains(secret), "{log}");
        }
    }
    assert!(!log.contains(line.rsplit(':').next().unwrap()), "{log}");
}

/// Lets a file look as if it was written some seconds later: a quick test writes twice within one tick.
fn later(path: &Path) {
    let file = std::fs::File::options().write(true).open(path).unwrap();
    let written = file.metadata().unwrap().modified().unwrap();
    file.set_modified(written + Duration::from_secs(5)).unwrap();
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart_and_open_connections_stay() {
    let authority = Authority::new();
    let (first, _) = authority.sign("localhost", VALID);
    let bench = serve(authority.security(Profile::MutualTls)).await;
    let ask = |identity| request(&bench, "wss", identity, None);
    let own = authority.sign("ST1", VALID);
    let (mut old, served) = authority
        .connect(&bench, ask("ST1"), Some(own))
        .await
        .unwrap();
    assert_eq!(served, first);
    let (second, _) = authority.sign("localhost", VALID);
    later(&authority.path("cert.pem"));
    let since = Instant::now();
    loop {
        let own = authority.sign("ST2", VALID);
        let (_, served) = authority
            .connect(&bench, ask("ST2"), Some(own))
            .await
            .unwrap();
        if served == second {
            break;
        }
        assert!(since.elapsed() < PATIENCE, "still the old certificate");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    old.call("Heartbeat", json!({})).await;
    bench.finish().await;
}

#[tokio::test]
async fn a_station_that_sends_too_much_is_read_later_and_nothing_is_lost() {
    let config = Config {
        messages_per_second: 50,
        message_burst: 10,
        ..quiet()
    };
    let bench = bench_with(config).await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    let begun = Instant::now();
    for number in 0..40 {
        station
            .send(json!([2, format!("h{number}"), "Heartbeat", {}]).to_string())
            .await;
    }
    for number in 0..40 {
        let answer = station.next().await.unwrap();
        assert_eq!(
            (&answer[0], &answer[1]),
            (&json!(3), &json!(format!("h{number}")))
        );
    }
    // Thirty beyond the burst at fifty a second.
    assert!(
        begun.elapsed() >= Duration::from_millis(550),
        "{:?}",
        begun.elapsed()
    );
    bench.finish().await;
}
