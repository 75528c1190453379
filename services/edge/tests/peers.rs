//! The independent Python package `ocpp` plays stations in all versions; it checks each frame that it receives against the
//! JSON schemas that it carries. `SHOAL_PYTHON` names a Python with `ocpp` and `websockets`; without it the test says so and
//! is skipped.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where, a skipped one why"
)]

mod support;

use std::io::Read as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use fleet::setpoint::Outcome;
use fleet::{CurvePoint, Mode, Reading, Setpoint, Telemetry};
use serde_json::{Value, json};
use shoal_edge::Config;
use support::{Bench, bench_with};
use units::{Energy, Power};

const LIFE: TimeDelta = TimeDelta::minutes(10);
/// Real time for a peer on a machine that does many other things.
const PATIENCE: Duration = Duration::from_secs(300);

/// A peer at work beside an edge.
struct Peer {
    bench: Bench,
    child: Child,
}

/// Starts a peer; `None` where there is no Python for it.
async fn peer(identity: &str, version: &str) -> Option<Peer> {
    let Some(python) = std::env::var_os("SHOAL_PYTHON") else {
        eprintln!(
            "skipped: SHOAL_PYTHON names no Python with the packages of xtask/requirements.txt"
        );
        return None;
    };
    // Asked what it can do, like any station.
    let bench = bench_with(Config::default()).await;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/station.py");
    let child = Command::new(python)
        .arg(script)
        .arg(format!("ws://{}/ocpp", bench.address))
        .args([identity, version])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let child = child.expect("SHOAL_PYTHON starts");
    Some(Peer { bench, child })
}

impl Peer {
    /// What the peer says when it is done.
    fn ended(&mut self) -> Value {
        let (mut said, mut errors) = (String::new(), String::new());
        let status = self.child.wait().unwrap();
        let (out, err) = (self.child.stdout.take(), self.child.stderr.take());
        out.unwrap().read_to_string(&mut said).unwrap();
        err.unwrap().read_to_string(&mut errors).unwrap();
        assert!(status.success(), "{errors}");
        serde_json::from_str(&said).expect("one JSON document")
    }

    /// Waits until the log has something; a peer that gave up says why.
    async fn told<T>(&mut self, met: impl Fn(&Telemetry) -> Option<T>) -> T {
        let since = Instant::now();
        loop {
            // Asked before the log is read: what a peer said before it ended is on the log.
            let ended = self.child.try_wait().unwrap();
            if let Some(found) = self.bench.told().await.iter().find_map(&met) {
                return found;
            }
            if ended.is_some() || since.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                let said = self.ended();
                panic!("the peer ended too soon: {said}");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn done(&mut self) -> Value {
        while self.child.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.ended()
    }
}

async fn command(peer: &mut Peer, setpoint: Setpoint) {
    peer.bench.command(&setpoint).await;
    let outcome = peer.told(|t| match t {
        Telemetry::Acknowledged(ack) if ack.setpoint == setpoint.id => {
            Some((ack.outcome, ack.detail.clone()))
        }
        _ => None,
    });
    let (outcome, detail) = outcome.await;
    assert_eq!(outcome, Outcome::Accepted, "{}: {detail}", setpoint.id);
}

async fn readings(bench: &Bench) -> Vec<Reading> {
    let told = bench.told().await.into_iter();
    let readings = told.filter_map(|t| match t {
        Telemetry::Reading(reading) => Some(reading),
        _ => None,
    });
    readings.collect()
}

/// One stay that began and ended, whose registers are all there in spite of the lost connection.
async fn one_whole_stay(bench: &Bench) {
    let told = bench.told().await;
    let begun = told
        .iter()
        .filter(|t| matches!(t, Telemetry::PluggedIn { .. }))
        .count();
    let ended = told
        .iter()
        .filter(|t| matches!(t, Telemetry::Unplugged { .. }))
        .count();
    assert_eq!((begun, ended), (1, 1), "{told:#?}");
    let all = readings(bench).await;
    let mut registers: Vec<_> = all
        .iter()
        .filter_map(|r| Some((r.at, r.import_register?)))
        .collect();
    registers.sort();
    assert!(registers.is_sorted_by_key(|(_, register)| *register));
    for wh in [5_000, 5_250, 5_300, 5_400, 5_500] {
        let register = Energy::from_wh(wh);
        assert!(registers.iter().any(|(_, r)| *r == register), "{wh} Wh");
    }
    assert!(all.iter().all(|r| r.session.is_some()), "{all:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_1_6_station_charges_within_a_limit() {
    let Some(mut peer) = peer("one-way", "1.6").await else {
        return;
    };
    let metered = peer.told(|t| match t {
        Telemetry::Reading(reading) => reading.power,
        _ => None,
    });
    assert_eq!(metered.await, Power::from_watts(7_000));
    let limit = peer.bench.setpoint("limit", "one-way/1", 4_000, LIFE);
    command(&mut peer, limit).await;
    let said = peer.done().await;
    assert_eq!(said["taken"], json!({"SetChargingProfile": 1}));
    one_whole_stay(&peer.bench).await;
    peer.bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_2_0_1_station_states_needs_and_charges_within_a_limit() {
    let Some(mut peer) = peer("limited", "2.0.1").await else {
        return;
    };
    let needs = peer
        .told(|t| match t {
            Telemetry::Needs { needs, .. } => Some(needs.clone()),
            _ => None,
        })
        .await;
    assert_eq!(needs.energy, Energy::from_wh(12_000));
    let limit = peer.bench.setpoint("limit", "limited/1", 4_000, LIFE);
    command(&mut peer, limit).await;
    let said = peer.done().await;
    assert_eq!(said["taken"], json!({"SetChargingProfile": 1}));
    one_whole_stay(&peer.bench).await;
    peer.bench.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_independent_2_1_station_discharges_follows_a_signal_and_hurries() {
    let Some(mut peer) = peer("both-ways", "2.1").await else {
        return;
    };
    let agreed = peer.told(|t| match t {
        Telemetry::Needs { needs, .. } => Some(needs.max_discharge),
        _ => None,
    });
    assert_eq!(agreed.await, Power::from_watts(9_000));
    let evse = "both-ways/1";
    let out = peer.bench.setpoint("out", evse, -7_400, LIFE);
    command(&mut peer, out).await;
    let discharged = peer.told(|t| match t {
        Telemetry::Reading(reading) => reading.power.filter(|p| p.is_export()),
        _ => None,
    });
    assert_eq!(discharged.await, Power::from_watts(-7_400));
    let inward = peer.bench.setpoint("in", evse, 3_000, LIFE);
    command(&mut peer, inward).await;
    peer.told(|t| match t {
        Telemetry::Reading(reading) => {
            (reading.power == Some(Power::from_watts(3_000))).then_some(())
        }
        _ => None,
    })
    .await;
    let points = [(-100, -5_000), (0, 0), (100, 5_000)].map(|(at, watts)| CurvePoint {
        at,
        power: Power::from_watts(watts),
    });
    let curve = points.to_vec().try_into().unwrap();
    let armed = Setpoint {
        mode: Mode::CentralFrequency(curve),
        ..peer.bench.setpoint("armed", evse, 1_000, LIFE)
    };
    command(&mut peer, armed).await;
    let signal = Setpoint {
        mode: Mode::Signal(-40),
        ..peer.bench.setpoint("signal", evse, -1_000, LIFE)
    };
    command(&mut peer, signal).await;
    let said = peer.done().await;
    let taken = json!({"SetChargingProfile": 2, "UpdateDynamicSchedule": 1, "AFRRSignal": 1});
    assert_eq!(said["taken"], taken);
    for action in ["GetVariables", "SetVariables", "SetVariableMonitoring"] {
        assert!(said["asked"][action].is_u64(), "{action}: {said}");
    }
    let hurried = peer.told(|t| match t {
        Telemetry::Needs { needs, .. } => (needs.max_discharge == Power::ZERO).then_some(()),
        _ => None,
    });
    hurried.await;
    one_whole_stay(&peer.bench).await;
    peer.bench.finish().await;
}
