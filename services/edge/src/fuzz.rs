//! Every parser of what comes from outside, fed with messages that were right until something broke them.
//!
//! A seeded mutation runner that needs no special toolchain: in the tests for about a minute in all; as often for each parser as
//! `SHOAL_FUZZ_RUNS` says on request, best with `--release`:
//! `SHOAL_FUZZ_RUNS=10000000 cargo test --release -p shoal-edge --lib fuzz`. What panics or hangs fails the test; the
//! seed and the input are printed.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, HeaderValue, Request, Uri};
use axum::routing::any;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use fleet::setpoint::Outcome;
use fleet::{Acknowledgement, Protocol, Setpoint, Telemetry};
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::rpc::Frame;
use ocpp_kit::{RawValue, Version, v1_6};
use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer,
};
use tower::Service;
use wire::proto::dispatch::v1 as proto;
use wire::proto::telemetry::v1 as telemetry;

use crate::answer::Desk;
use crate::capability::{Capabilities, Learner, Question};
use crate::config::{Config, SupplyConfig};
use crate::issuer::{self, Issuer};
use crate::security::{Guard, Profile, Security};
use crate::station::tests::station;
use crate::station::{Outlets, Said};
use crate::streams::Monitors;
use crate::supply::Supplies;
use crate::tokens::{self, Tokens};
use crate::{credentials, orders, tls, v2, v16, v21, v201};

const RUNS: u64 = 400_000;
/// Longest input; what is longer is cut before any parser sees it.
const LONGEST: usize = 8_192;

const FRAMES16: &[&str] = &[
    r#"[2,"1","BootNotification",{"chargePointVendor":"V","chargePointModel":"M"}]"#,
    r#"[2,"2","StartTransaction",{"connectorId":1,"idTag":"car-1","meterStart":1000,"timestamp":"2026-06-09T18:00:00Z"}]"#,
    r#"[2,"3","MeterValues",{"connectorId":1,"transactionId":812345,"meterValue":[{"timestamp":"2026-06-09T18:00:00Z","sampledValue":[{"value":"7.4","measurand":"Power.Active.Import","unit":"kW","phase":"L1"},{"value":"81","measurand":"SoC","unit":"Percent"}]}]}]"#,
    r#"[2,"4","StopTransaction",{"transactionId":812345,"meterStop":3500,"timestamp":"2026-06-09T20:00:00Z"}]"#,
    r#"[2,"5","StatusNotification",{"connectorId":1,"errorCode":"NoError","status":"Available"}]"#,
    r#"[3,"sp-1",{"status":"Accepted"}]"#,
    r#"[4,"sp-1","GenericError","no",{}]"#,
];
const FRAMES2: &[&str] = &[
    r#"[2,"1","BootNotification",{"reason":"PowerUp","chargingStation":{"model":"M","vendorName":"V"}}]"#,
    r#"[2,"2","TransactionEvent",{"eventType":"Started","timestamp":"2026-06-09T18:00:00Z","triggerReason":"CablePluggedIn","seqNo":0,"transactionInfo":{"transactionId":"tx-1"},"evse":{"id":1},"idToken":{"idToken":"car","type":"Central"},"meterValue":[{"timestamp":"2026-06-09T18:00:00Z","sampledValue":[{"value":7400.5,"measurand":"Power.Active.Export","unitOfMeasure":{"unit":"W","multiplier":3}}]}]}]"#,
    r#"[2,"3","NotifyEVChargingNeeds",{"evseId":1,"chargingNeeds":{"requestedEnergyTransfer":"DC","departureTime":"2026-06-10T05:00:00Z","dcChargingParameters":{"evMaxCurrent":30,"evMaxVoltage":400,"stateOfCharge":50,"evEnergyCapacity":60000,"energyAmount":9000},"v2xChargingParameters":{"maxDischargePower":9000,"evTargetEnergyRequest":15000,"evMinV2XEnergyRequest":-18100}}}]"#,
    r#"[2,"4","NotifyChargingLimit",{"evseId":1,"chargingLimit":{"chargingLimitSource":"SO"},"chargingSchedule":[{"id":1,"chargingRateUnit":"W","chargingSchedulePeriod":[{"startPeriod":0,"limit":4200}]}]}]"#,
    r#"[2,"4a","NotifyChargingLimit",{"evseId":1,"chargingLimit":{"chargingLimitSource":"EMS"},"chargingSchedule":[{"id":1,"chargingRateUnit":"A","chargingSchedulePeriod":[{"startPeriod":0,"limit":16.5,"numberPhases":3}]}]}]"#,
    r#"[2,"7a","MeterValues",{"evseId":1,"meterValue":[{"timestamp":"2026-06-09T18:00:00Z","sampledValue":[{"value":231.5,"measurand":"Voltage","phase":"L1-N","unitOfMeasure":{"unit":"V"}}]}]}]"#,
    r#"[2,"5","NotifyPriorityCharging",{"transactionId":"tx-1","activated":true}]"#,
    r#"[2,"6","PullDynamicScheduleUpdate",{"chargingProfileId":1}]"#,
    r#"[2,"7","MeterValues",{"evseId":1,"meterValue":[{"timestamp":"1970-01-01T00:00:00Z","sampledValue":[{"value":-1e300}]}]}]"#,
    r#"[3,"sp-1",{"status":"Rejected","statusInfo":{"reasonCode":"NoMood"}}]"#,
    r#"[5,"x","InternalError","",{}]"#,
    r#"[2,"9","MeterValues",{"evseId":1,"meterValue":[{"timestamp":"2026-06-09T18:00:00Z","sampledValue":[{"value":1500}]}]}]"#,
    r#"[2,"8","OpenPeriodicEventStream",{"constantStreamData":{"id":1,"variableMonitoringId":1,"params":{"interval":10}}}]"#,
    r#"[2,"10","NotifyMonitoringReport",{"requestId":1,"seqNo":0,"generatedAt":"2026-06-09T18:00:00Z","monitor":[{"component":{"name":"FiscalMetering","evse":{"id":1}},"variable":{"name":"EnergyImportRegister"},"variableMonitoring":[{"id":1,"transaction":true,"value":1,"type":"PeriodicClockAligned","severity":8,"eventNotificationType":"CustomMonitor"}]}]}]"#,
    r#"[6,"s","NotifyPeriodicEventStream",{"data":[{"t":0.5,"v":"1500.25"}],"id":1,"pending":0,"basetime":"2026-06-09T18:00:00Z"}]"#,
];
/// Fragments that break things: limits of numbers, depth, odd text.
const ODD: &[&str] = &[
    "9223372036854775808",
    "-0",
    "1e999",
    "0.0000000000000000001",
    "null",
    "[[[[[[[[",
    "{}",
    "\\ud800",
    "\u{0}",
    "\"\"",
    "2100-02-30T25:61:61Z",
    "-262143-01-01T00:00:00Z",
    "99999999999999999999999999",
    "true",
    "\u{1f697}",
];

/// `SplitMix64`: a seed in, the same sequence out.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.roll() % u64::try_from(bound.max(1)).unwrap()).unwrap()
    }

    /// One to eight changes of an input: bytes changed, cut, doubled, taken from elsewhere, odd values for numbers.
    fn break_up(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            let at = self.below(input.len() + 1);
            let end = (at + self.below(12)).min(input.len());
            match self.below(7) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 => drop(input.drain(at..end)),
                2 => {
                    let piece = input[at..end].to_vec();
                    input.splice(at..at, piece);
                }
                3 => {
                    let other = &seeds[self.below(seeds.len())];
                    let from = self.below(other.len());
                    let to = (from + self.below(64)).min(other.len());
                    input.splice(at..end, other[from..to].iter().copied());
                }
                4 => {
                    let odd = ODD[self.below(ODD.len())].bytes();
                    input.splice(at..end, odd);
                }
                5 => self.change_number(&mut input),
                _ => input.truncate(at.max(1)),
            }
        }
        input.truncate(LONGEST);
        input
    }

    /// A number becomes an odd one, which leaves the message well formed.
    fn change_number(&mut self, input: &mut Vec<u8>) {
        let digits: Vec<usize> = (0..input.len())
            .filter(|n| input[*n].is_ascii_digit())
            .collect();
        if digits.is_empty() {
            return;
        }
        let begin = digits[self.below(digits.len())];
        let end = (begin..input.len()).find(|n| !input[*n].is_ascii_digit());
        let odd = ODD[self.below(4)].bytes();
        input.splice(begin..end.unwrap_or(input.len()), odd);
    }
}

fn runs() -> u64 {
    let asked = std::env::var_os("SHOAL_FUZZ_RUNS");
    let asked = asked.and_then(|runs| runs.into_string().ok()?.parse().ok());
    asked.unwrap_or(RUNS)
}

/// Feeds a parser; a panic names the run, which is the seed.
fn feed(seeds: &[Vec<u8>], mut parser: impl FnMut(&[u8])) {
    let (runs, since) = (runs(), std::time::Instant::now());
    for run in 0..runs {
        let input = Dice(run).break_up(seeds);
        let parsed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| parser(&input)));
        assert!(
            parsed.is_ok(),
            "run {run}: {}",
            String::from_utf8_lossy(&input)
        );
    }
    let thread = std::thread::current();
    let (name, took) = (thread.name().unwrap_or("a parser"), since.elapsed());
    eprintln!("{name}: {runs} runs in {took:.0?}");
}

fn texts(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A station that goes on living through everything it is said to say.
fn talk(version: Version, seeds: &[&str]) {
    let mut outlets = Outlets::new(station(Protocol::Ocpp21, 2), &BTreeMap::new());
    outlets.streams = crate::streams::tests::monitored();
    outlets.known.streams = Some(2);
    outlets.known.watts = Some(false);
    let (tokens, supply) = (Tokens::default(), SupplyConfig::default());
    let desk = Desk {
        now: now(),
        heartbeat_seconds: 300,
        tokens: &tokens,
        supply: &supply,
        issuer: None,
    };
    feed(&texts(seeds), |input| {
        let Ok(text) = std::str::from_utf8(input) else {
            return;
        };
        match Frame::parse(text, version) {
            Ok(Frame::Call {
                action, payload, ..
            }) => {
                let mut said = Said::default();
                let request = match version {
                    Version::V1_6 => {
                        let Some(action) = v1_6::Action::from_wire(&action) else {
                            return;
                        };
                        let options = DecodeOptions::strict();
                        if let Ok(request) = v1_6::CsRequest::decode(action, &payload, &options) {
                            let _ = v16::handle(&mut outlets, request, desk, &mut said);
                        }
                        return;
                    }
                    Version::V2_0_1 => v201::decode(&action, &payload),
                    Version::V2_1 => v21::decode(&action, &payload),
                    other => panic!("OCPP {other} is not spoken here"),
                };
                if let Ok(request) = request {
                    let _ = v2::handle(&mut outlets, request, desk, &mut said);
                    for event in &said.events {
                        let _ = crate::outbox::record(event);
                    }
                }
            }
            Ok(Frame::CallResult { payload, .. }) => {
                let _ = orders::outcome(version, &orders::Effect::Limits, &payload);
                let _ = orders::outcome(version, &orders::Effect::Signals, &payload);
            }
            Ok(Frame::Send {
                action, payload, ..
            }) => {
                let mut said = Said::default();
                v21::unconfirmed(&mut outlets, &action, &payload, &mut said);
            }
            Ok(_) => {}
            Err(error) => {
                let _ = (error.reply(version), error.reply_id(), error.to_string());
            }
        }
    });
}

#[test]
fn fuzz_what_1_6_stations_say() {
    talk(Version::V1_6, FRAMES16);
}

#[test]
fn fuzz_what_2_0_1_stations_say() {
    talk(Version::V2_0_1, FRAMES2);
}

#[test]
fn fuzz_what_2_1_stations_say() {
    talk(Version::V2_1, FRAMES2);
}

#[test]
fn fuzz_setpoints_from_the_log() {
    let bare = proto::Setpoint {
        id: "sp".into(),
        evse_id: "S/1".into(),
        power_watts: Some(-7_400),
        issued_at_micros: 1_800_000_000_000_000,
        expires_at_micros: 1_800_000_060_000_000,
        signal_id: Some("signal".into()),
        reason: "test".into(),
        mode: None,
        term: Some(proto::Term {
            office: "dispatch/NL".into(),
            number: 2,
        }),
        traceparent: None,
    };
    let points = vec![proto::mode::Point {
        at: 1,
        power_watts: 5,
    }];
    let curve = proto::mode::Mode::LocalFrequency(proto::mode::Curve { points });
    let armed = proto::Setpoint {
        mode: Some(proto::Mode { mode: Some(curve) }),
        ..bare.clone()
    };
    let seeds = [wire::encode(&bare).to_vec(), wire::encode(&armed).to_vec()];
    feed(&seeds, |input| {
        let decoded = wire::decode::<proto::Setpoint>(input).and_then(Setpoint::try_from);
        if let Ok(setpoint) = decoded {
            for version in [Version::V1_6, Version::V2_0_1, Version::V2_1] {
                let target = orders::Target::new(version, 1, "7", None);
                let _ = orders::Call::saying(&setpoint, target, None, now());
            }
        }
    });
}

#[test]
fn fuzz_what_other_edges_say_on_the_log() {
    let said = [
        Telemetry::Connection {
            station: "S".parse().unwrap(),
            evses: vec!["S/1".parse().unwrap()],
            online: true,
            at: now(),
        },
        Telemetry::Acknowledged(Acknowledgement {
            setpoint: "sp".parse().unwrap(),
            evse: "S/1".parse().unwrap(),
            signal: None,
            outcome: Outcome::Unreachable,
            detail: "gone".to_owned(),
            sent_at: now(),
            answered_at: now(),
        }),
    ];
    let seeds = said.map(|told| wire::encode(&telemetry::Telemetry::from(&told)).to_vec());
    feed(&seeds, |input| {
        let _ = wire::decode::<telemetry::Telemetry>(input).and_then(Telemetry::try_from);
    });
}

#[test]
fn fuzz_files_of_credentials() {
    let hash = "$argon2id$v=19$m=64,t=1,p=1$MDEyMzQ1Njc4OWFiY2RlZg$q7e6m0X0S2y1Qh5iVQ2pYw";
    let seeds = [format!("# keys\nST1 {hash}\nST2 {hash}\n").into_bytes()];
    feed(&seeds, |input| {
        let text = String::from_utf8_lossy(input);
        let _ = credentials::parse(std::path::Path::new("keys"), &text);
    });
}

#[test]
fn fuzz_files_of_tokens() {
    let seeds = texts(&["# depot\nbus-17\nbus-18\n"]);
    feed(&seeds, |input| {
        let _ = tokens::parse(
            std::path::Path::new("tokens"),
            &String::from_utf8_lossy(input),
        );
    });
}

#[test]
fn fuzz_answers_of_stations_about_themselves() {
    let seeds = texts(&[
        r#"{"configurationKey":[{"key":"SupportedFeatureProfiles","readonly":true,"value":"Core,SmartCharging"},{"key":"ChargeProfileMaxStackLevel","readonly":true,"value":"1"}],"unknownKey":["x"]}"#,
        r#"{"getVariableResult":[{"attributeStatus":"Accepted","attributeValue":"A,W","component":{"name":"SmartChargingCtrlr"},"variable":{"name":"RateUnit"}}]}"#,
        r#"{"setVariableResult":[{"attributeStatus":"Accepted","component":{"name":"SampledDataCtrlr"},"variable":{"name":"TxUpdatedInterval"}}]}"#,
        r#"{"setMonitoringResult":[{"status":"Accepted","id":1,"type":"PeriodicClockAligned","severity":8,"component":{"name":"FiscalMetering","evse":{"id":1}},"variable":{"name":"EnergyImportRegister"}}]}"#,
        r#"{"clearMonitoringResult":[{"status":"Accepted","id":1}]}"#,
        r#"{"getVariableResult":[{"attributeStatus":"Accepted","attributeValue":"3","component":{"name":"EVSE","evse":{"id":1}},"variable":{"name":"SupplyPhases"}},{"attributeStatus":"Accepted","attributeValue":"230","component":{"name":"ElectricalFeed"},"variable":{"name":"ACVoltage"}}]}"#,
        r#"{"status":"Accepted"}"#,
    ]);
    let mut known = Capabilities::default();
    let (mut monitors, mut supplies) = (Monitors::default(), Supplies::default());
    feed(&seeds, |input| {
        let Ok(payload) = serde_json::from_slice::<Box<RawValue>>(input) else {
            return;
        };
        for version in [Version::V1_6, Version::V2_0_1, Version::V2_1] {
            let questions = [
                Question::Capabilities,
                Question::Sample(10),
                Question::Stream,
                Question::Unstream,
                Question::Monitors,
                Question::Supply,
            ];
            for question in questions {
                let learner = Learner {
                    known: &mut known,
                    monitors: &mut monitors,
                    supplies: &mut supplies,
                };
                let _ = question.answered(version, &payload, learner);
            }
        }
    });
}

#[test]
fn fuzz_certificates_of_stations() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["station".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    feed(&[certificate.der().to_vec()], |input| {
        let _ = tls::names(&input.to_vec().into());
    });
}

#[test]
fn fuzz_requests_for_certificates() {
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair};
    let folder = tempfile::tempdir().unwrap();
    let key = KeyPair::generate().unwrap();
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let (certificate, secret) = (folder.path().join("ca.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, authority.self_signed(&key).unwrap().pem()).unwrap();
    std::fs::write(&secret, key.serialize_pem()).unwrap();
    let files = issuer::Files {
        certificate,
        key: secret,
        client_ca: None,
        days: 30,
    };
    let issuer = Issuer::open(files).unwrap();
    let mut asked = CertificateParams::new(vec!["S".to_owned()]).unwrap();
    asked.distinguished_name.push(DnType::CommonName, "S");
    let asked = asked.serialize_request(&KeyPair::generate().unwrap());
    let asked = asked.unwrap();
    // As it comes, and with what is inside broken: the text around it is as it should be then.
    let seeds = [asked.der().to_vec(), asked.pem().unwrap().into_bytes()];
    assert!(issuer.sign("S", &asked.pem().unwrap(), now()).is_ok());
    feed(&seeds, |input| {
        let inside = BASE64_STANDARD.encode(input);
        let wrapped = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{inside}\n-----END CERTIFICATE REQUEST-----\n"
        );
        let _ = issuer.sign("S", &wrapped, now());
        if let Ok(text) = std::str::from_utf8(input) {
            let _ = issuer.sign("S", text, now());
        }
    });
}

#[test]
fn fuzz_files_of_certificates() {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["station".to_owned()]).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let list = "-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n";
    let seeds = texts(&[&certificate.pem(), &key.serialize_pem(), list]);
    feed(&seeds, |input| {
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(input).flatten() {
            let _ = roots.add(root);
        }
        let _ = CertificateRevocationListDer::pem_slice_iter(input).count();
        let _ = PrivateKeyDer::from_pem_slice(input);
    });
}

#[test]
fn fuzz_paths_and_keys_of_those_who_come_in() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let line = crate::credentials_line("ST1", "a-key-of-thirty-two-characters!!");
    std::fs::write(&keys, line).unwrap();
    let settings = Security {
        profile: Profile::Basic,
        credentials: Some(keys),
        ..Security::default()
    };
    let guard = Guard::new(&settings, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let admit = async |State(guard): State<Arc<Guard>>,
                       Path(identity): Path<String>,
                       headers: HeaderMap| {
        guard
            .admit(&identity, &headers, &[])
            .await
            .is_ok()
            .to_string()
    };
    let mut router = Router::new()
        .route("/ocpp/{identity}", any(admit))
        .with_state(Arc::new(guard));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let seeds = texts(&[
        "/ocpp/ST1\nBasic U1QxOmEta2V5LW9mLXRoaXJ0eS10d28tY2hhcmFjdGVycyEh",
        "/ocpp/ST%311?x=1\nBasic Og==",
        "/ocpp/%ff%00\nBearer x",
    ]);
    feed(&seeds, |input| {
        let cut = input
            .iter()
            .position(|byte| *byte == b'\n')
            .unwrap_or(input.len());
        let (target, header) = input.split_at(cut);
        let header = HeaderValue::from_bytes(header.strip_prefix(b"\n").unwrap_or_default());
        let (Ok(uri), Ok(header)) = (Uri::try_from(target), header) else {
            return;
        };
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = uri;
        request.headers_mut().insert(AUTHORIZATION, header);
        let answer = runtime.block_on(router.call(request)).unwrap();
        assert!(!answer.status().is_server_error(), "{}", answer.status());
    });
}

/// The whole of a file, as a value of one variable is read by the same parser.
#[test]
fn fuzz_settings() {
    #[derive(Debug, Default, serde::Deserialize)]
    #[serde(deny_unknown_fields, default)]
    struct Settings {
        edge: Config,
    }
    let seeds = texts(&[
        "EDGE\n{ listen = \"127.0.0.1:9220\", ping_seconds = 60, supply = { volts = 230, phases = 3 } }",
        "EDGE__SECURITY\n{ profile = \"tls-basic\", credentials = \"keys\", discharge_without_tls = false }",
        "EDGE__LISTEN\n0.0.0.0:9220",
        "EDGE__MESSAGE_BURST\n1\n[edge]\nreplicas = true # both\nx = [1, '''a''']",
    ]);
    feed(&seeds, |input| {
        let text = String::from_utf8_lossy(input);
        let (name, value) = text.split_once('\n').unwrap_or((&text, ""));
        let set = [(format!("SHOAL_{name}"), value.to_owned())];
        match runtime::config::load_from::<Settings>(None, set) {
            Ok(settings) => {
                let _ = settings.edge.validate();
            }
            Err(error) => drop(error.to_string()),
        }
    });
}
