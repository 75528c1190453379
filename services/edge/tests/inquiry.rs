//! What stations are asked beside set-points, and who may charge at them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

mod support;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::Telemetry;
use fleet::setpoint::Outcome;
use runtime::Clock;
use serde_json::{Value, json};
use shoal_edge::{Config, Security};
use support::{Bench, Client, bench_with, event2, quiet, start_as_is, stations};

const LIFE: TimeDelta = TimeDelta::seconds(600);

fn asking() -> Config {
    Config {
        inquire: true,
        ..Config::default()
    }
}

fn named(component: &str, variable: &str) -> Value {
    json!({"component": {"name": component}, "variable": {"name": variable}})
}

fn told(component: &str, variable: &str, value: &str) -> Value {
    let mut told = named(component, variable);
    told["attributeStatus"] = json!("Accepted");
    told["attributeValue"] = json!(value);
    told
}

/// Answers a question about sampling and returns the seconds asked for.
async fn sampled(station: &mut Client, status: &str) -> String {
    let (id, action, asked) = station.called().await;
    assert_eq!(action, "SetVariables");
    let data = &asked["setVariableData"][0];
    assert_eq!(data["component"]["name"], "SampledDataCtrlr");
    let mut result = named("SampledDataCtrlr", "TxUpdatedInterval");
    result["attributeStatus"] = json!(status);
    station
        .answer(&id, json!({"setVariableResult": [result]}))
        .await;
    data["attributeValue"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_a_station_says_it_can_is_kept_and_heeded() {
    let bench = bench_with(asking()).await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.call("Heartbeat", json!({})).await;
    let (id, action, asked) = station.called().await;
    assert_eq!(action, "GetVariables");
    let asked = asked["getVariableData"].as_array().unwrap();
    assert!(
        asked.contains(&named("V2XChargingCtrlr", "Enabled")),
        "{asked:?}"
    );
    let answer = json!({"getVariableResult": [
        told("SmartChargingCtrlr", "ProfileStackLevel", "0"),
        told("SampledDataCtrlr", "TxUpdatedInterval", "60"),
        told("V2XChargingCtrlr", "Enabled", "false"),
    ]});
    station.answer(&id, answer).await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    station.agree2(1).await;
    let why = bench.refused("out", "both-ways/1", -5_000, LIFE).await;
    assert!(why.contains("does not discharge"), "{why}");
    bench
        .command(&bench.setpoint("in", "both-ways/1", 5_000, LIFE))
        .await;
    let (id, _, set) = station.called().await;
    let profile = &set["chargingProfile"];
    assert_eq!(profile["stackLevel"], 0);
    let period = &profile["chargingSchedule"][0]["chargingSchedulePeriod"][0];
    assert_eq!(period["operationMode"], "ChargingOnly", "{period}");
    assert!(period["setpoint"].is_null(), "{period}");
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged("in").await.outcome, Outcome::Accepted);
    assert_eq!(
        sampled(&mut station, "Accepted").await,
        "10",
        "a member of the pool now"
    );
    bench.finish().await;
}

#[tokio::test]
async fn a_station_that_leaves_the_pool_samples_seldom_again() {
    let begin: DateTime<Utc> = "2026-06-09T20:30:00Z".parse().unwrap();
    let mut config = asking();
    config.ping_seconds = 1;
    config.security.discharge_without_tls = true;
    let clock = Clock::accelerated(begin, 600.0);
    let bench = start_as_is(stations().await, config, clock).await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.call("Heartbeat", json!({})).await;
    let (id, ..) = station.called().await;
    station
        .answer(
            &id,
            json!({"getVariableResult": [told("SampledDataCtrlr", "TxUpdatedInterval", "60")]}),
        )
        .await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    bench
        .command(&bench.setpoint("in", "both-ways/1", 5_000, TimeDelta::hours(1)))
        .await;
    let (id, action, _) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(sampled(&mut station, "Accepted").await, "10");
    // An hour and five minutes are six seconds and a half here.
    assert_eq!(sampled(&mut station, "Accepted").await, "60");
    bench.finish().await;
}

#[tokio::test]
async fn a_station_that_refuses_or_ignores_questions_is_served_all_the_same() {
    let bench = bench_with(Config {
        call_timeout_ms: 500,
        ..asking()
    })
    .await;
    let mut refuses = bench.connect("one-way", "ocpp1.6").await;
    refuses.call("Heartbeat", json!({})).await;
    for expected in ["GetConfiguration", "ChangeConfiguration"] {
        let (id, action, _) = refuses.called().await;
        assert_eq!(action, expected);
        refuses
            .send(json!([4, id, "NotSupported", "", {}]).to_string())
            .await;
    }
    let mut ignores = bench.connect("limited", "ocpp2.0.1").await;
    ignores.call("Heartbeat", json!({})).await;
    assert_eq!(ignores.called().await.1, "GetVariables");
    refuses.start16(bench.clock.now()).await;
    ignores.event2("Started", "tx-1", bench.clock.now()).await;
    for (name, station) in [("one-way", &mut refuses), ("limited", &mut ignores)] {
        let setpoint = bench.setpoint(name, &format!("{name}/1"), 5_000, LIFE);
        bench.command(&setpoint).await;
        let (id, action, _) = station.called().await;
        assert_eq!(action, "SetChargingProfile");
        station.answer(&id, json!({"status": "Accepted"})).await;
        assert_eq!(bench.acknowledged(name).await.outcome, Outcome::Accepted);
    }
    bench.finish().await;
}

/// Who is plugged in, as far as it is known.
async fn vehicle(bench: &Bench, evse: &str) -> Option<String> {
    bench
        .until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::PluggedIn {
                    evse: at, vehicle, ..
                } if at.as_str() == evse => Some(vehicle.as_ref().map(ToString::to_string)),
                _ => None,
            })
        })
        .await
}

#[tokio::test]
async fn with_a_list_only_its_tokens_charge_and_others_name_nobody() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tokens");
    std::fs::write(&file, "# depot\ncar-0002\n").unwrap();
    let bench = bench_with(Config {
        security: Security {
            id_tokens: Some(file),
            ..Security::default()
        },
        ..quiet()
    })
    .await;
    let mut old = bench.connect("one-way", "ocpp1.6").await;
    for (token, status) in [("CAR-0002", "Accepted"), ("car-0001", "Invalid")] {
        let answer = old.call("Authorize", json!({"idTag": token})).await;
        assert_eq!(answer["idTagInfo"]["status"], status);
    }
    let start = json!({"connectorId": 1, "idTag": "car-0001", "meterStart": 0, "timestamp": bench.clock.now().to_rfc3339()});
    let started = old.call("StartTransaction", start).await;
    assert_eq!(started["idTagInfo"]["status"], "Invalid");
    assert_eq!(vehicle(&bench, "one-way/1").await, None);
    let mut new = bench.connect("both-ways", "ocpp2.1").await;
    let answer = new
        .call(
            "Authorize",
            json!({"idToken": {"idToken": "car-0001", "type": "ISO14443"}}),
        )
        .await;
    assert_eq!(answer["idTokenInfo"]["status"], "Invalid");
    let started = new
        .call(
            "TransactionEvent",
            event2("Started", "tx-1", bench.clock.now()),
        )
        .await;
    assert_eq!(started["idTokenInfo"]["status"], "Accepted");
    assert_eq!(
        vehicle(&bench, "both-ways/1").await.as_deref(),
        Some("car-0002")
    );
    bench.finish().await;
}
