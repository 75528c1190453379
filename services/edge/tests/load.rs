//! How much a fleet costs: run by hand, `cargo test -p shoal-edge --test load -- --ignored --nocapture`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    clippy::float_cmp,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Europe::Amsterdam;
use fleet::{Protocol, Telemetry};
use runtime::Clock;
use shoal_edge::{Profile, Security, credentials_line};
use sim::fleet::{Fleet, Settings};
use sim::station::{Boxed, DriverApp, Options, Stated, Time, spawn_fleet};
use store::Store;
use support::{evse, quiet, start};

struct Fast(Clock);

impl Time for Fast {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }
    fn sleep_until(&self, at: DateTime<Utc>) -> Boxed<'_, ()> {
        Box::pin(self.0.sleep_until(at))
    }
}

struct Silent;

impl DriverApp for Silent {
    fn state(&self, _: Stated) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
}

/// Processor seconds of this process so far, from `/proc`: user and system ticks of a hundredth of a second.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
    ticks / 100.0
}

async fn play(cars: usize, buses: usize, speed: f64, real: Duration, period: TimeDelta) {
    let begin: DateTime<Utc> = "2026-06-09T04:00:00Z".parse().unwrap();
    let settings = Settings {
        seed: 1,
        cars,
        buses,
        zone: Amsterdam,
    };
    let fleet = Arc::new(Fleet::new(settings));
    let store = Store::in_memory().await.unwrap();
    store.tables().upsert_evses(fleet.evses()).await.unwrap();
    let clock = Clock::accelerated(begin, speed);
    let bench = start(store, quiet(), clock, 0).await;
    let mut options = Options::new(format!("ws://{}/ocpp", bench.address));
    options.sample_period = period;
    let time: Arc<dyn Time> = Arc::new(Fast(clock));
    let app: Arc<dyn DriverApp> = Arc::new(Silent);
    let (before, began) = (processor_seconds(), Instant::now());
    let until = begin + TimeDelta::days(5);
    let stations = spawn_fleet(&fleet, begin, until, &options, &time, &app).unwrap();
    tokio::time::sleep(real).await;
    let truth = stations.truth();
    let (spent, took) = (processor_seconds() - before, began.elapsed().as_secs_f64());
    let told = bench.told().await;
    let lag = bench.clock.now() - told.iter().rev().map(Telemetry::at).max().unwrap();
    println!(
        "{} stations at speed {speed}: {:.2} cores, {:.0} messages a second, {} records, failed {}, newest record {} s (simulated) old, short {}",
        fleet.evses().len(),
        spent / took,
        truth.messages as f64 / took,
        told.len(),
        truth.failed,
        lag.num_seconds(),
        truth.left_short,
    );
    assert_eq!(truth.failed, 0);
    assert_eq!(truth.left_short, 0);
    stations.stop().await;
    bench.finish().await;
}

/// Resident memory of this process in KiB, from `/proc`.
fn resident_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Stations that connect over TLS with their keys, say one heartbeat each and stay: in a process of their own, so that only the
/// edge is measured.
const IDLE: &str = r#"
import base64, socket, ssl, sys
port, count, key = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
stations = []
for number in range(count):
    name = f"idle-{number}"
    basic = base64.b64encode(f"{name}:{key}".encode()).decode()
    station = context.wrap_socket(socket.create_connection(("127.0.0.1", port)))
    station.sendall(
        f"GET /ocpp/{name} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        f"Sec-WebSocket-Protocol: ocpp2.1\r\nAuthorization: Basic {basic}\r\n\r\n".encode())
    answer = station.recv(4096)
    assert answer.startswith(b"HTTP/1.1 101"), answer
    text = b'[2,"1","Heartbeat",{}]'
    station.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    assert b"currentTime" in station.recv(4096)
    stations.append(station)
print("ready", flush=True)
sys.stdin.read()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures memory; wants Python and some thousands of file descriptors"]
async fn what_idle_stations_cost() {
    use std::io::{BufRead, BufReader};
    const COUNT: usize = 2_000;
    const KEY: &str = "a-key-of-twenty-six-bytes-";
    let dir = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), own.cert.pem()).unwrap();
    std::fs::write(dir.path().join("key.pem"), own.signing_key.serialize_pem()).unwrap();
    let names: Vec<_> = (0..COUNT).map(|n| format!("idle-{n}")).collect();
    let keys: Vec<_> = names.iter().map(|n| credentials_line(n, KEY)).collect();
    std::fs::write(dir.path().join("keys"), keys.join("\n")).unwrap();
    let store = Store::in_memory().await.unwrap();
    let evses: Vec<_> = names.iter().map(|n| evse(n, 1, Protocol::Ocpp21)).collect();
    store.tables().upsert_evses(&evses).await.unwrap();
    drop(evses);
    let empty = resident_kib();
    let mut config = quiet();
    config.security = Security {
        profile: Profile::TlsBasic,
        certificate: Some(dir.path().join("cert.pem")),
        key: Some(dir.path().join("key.pem")),
        credentials: Some(dir.path().join("keys")),
        ..Security::default()
    };
    let bench = start(store, config, Clock::system(), 0).await;
    let mut stations = std::process::Command::new("python3")
        .args(["-c", IDLE, &bench.address.port().to_string()])
        .args([&COUNT.to_string(), KEY])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(stations.stdout.take().unwrap()).lines();
    let ready = tokio::task::spawn_blocking(move || said.next()).await;
    assert_eq!(ready.unwrap().unwrap().unwrap(), "ready");
    let full = resident_kib();
    println!(
        "{COUNT} idle TLS stations: {:.1} KiB each, registration and key included",
        (full - empty) / COUNT as f64
    );
    stations.kill().unwrap();
    stations.wait().unwrap();
    bench.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures for a minute and a half; the figures depend on the machine"]
async fn what_a_fleet_costs() {
    play(
        200,
        30,
        2_400.0,
        Duration::from_secs(30),
        TimeDelta::minutes(60),
    )
    .await;
    play(
        200,
        30,
        1.0,
        Duration::from_secs(20),
        TimeDelta::seconds(10),
    )
    .await;
    play(
        1_900,
        100,
        1.0,
        Duration::from_secs(30),
        TimeDelta::seconds(60),
    )
    .await;
}
