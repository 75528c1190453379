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
use units::Energy;

use support::{Bench, Client, bench_with, event2, quiet, start, start_as_is, stations};

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

/// Answers the question for streams with those statuses; the numbers of the monitors count from 11.
async fn monitored(station: &mut Client, statuses: &[&str]) -> Value {
    let (id, action, asked) = station.called().await;
    assert_eq!(action, "SetVariableMonitoring");
    let each = asked["setMonitoringData"].as_array().unwrap();
    assert_eq!(each.len(), statuses.len(), "{asked}");
    let results: Vec<Value> = (11..)
        .zip(each.iter().zip(statuses))
        .map(|(number, (one, status))| {
            let mut result = json!({"status": status, "type": one["type"], "severity": one["severity"],
                "component": one["component"], "variable": one["variable"]});
            if *status == "Accepted" {
                result["id"] = json!(number);
            }
            result
        })
        .collect();
    station
        .answer(&id, json!({"setMonitoringResult": results}))
        .await;
    asked
}

async fn stream(station: &mut Client, id: i32, monitor: i32) -> String {
    let stream = json!({"id": id, "variableMonitoringId": monitor, "params": {"interval": 10}});
    let stream = json!({"constantStreamData": stream});
    let answer = station.call("OpenPeriodicEventStream", stream).await;
    answer["status"].as_str().unwrap().to_owned()
}

/// Sends unconfirmed values of a stream.
async fn notify(station: &mut Client, id: i32, base: DateTime<Utc>, data: Value) {
    let sent = json!({"id": id, "pending": 0, "basetime": base.to_rfc3339(), "data": data});
    station
        .send(json!([6, "s", "NotifyPeriodicEventStream", sent]).to_string())
        .await;
}

#[tokio::test]
async fn a_member_of_the_pool_streams_registers_with_their_time_and_nobody_else_does() {
    let begin: DateTime<Utc> = "2026-06-09T20:30:00Z".parse().unwrap();
    let mut config = asking();
    config.ping_seconds = 1;
    let clock = Clock::accelerated(begin, 600.0);
    let bench = start(stations().await, config, clock, 0).await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.call("Heartbeat", json!({})).await;
    let (id, ..) = station.called().await;
    let answer = json!({"getVariableResult": [
        told("SampledDataCtrlr", "TxUpdatedInterval", "60"),
        told("MonitoringCtrlr", "MaxPeriodicEventStreams", "2"),
    ]});
    station.answer(&id, answer).await;
    let mut started = event2("Started", "tx-1", bench.clock.now());
    started["meterValue"] = json!([{"timestamp": bench.clock.now().to_rfc3339(), "sampledValue": [
        {"value": 40_000_000}, {"value": 7_000, "measurand": "Energy.Active.Export.Register"},
    ]}]);
    station.call("TransactionEvent", started).await;
    bench
        .command(&bench.setpoint("in", "both-ways/1", 5_000, TimeDelta::hours(1)))
        .await;
    let (id, action, _) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(sampled(&mut station, "Accepted").await, "10");
    // Two streams are enough for one of its two outlets.
    let asked = monitored(&mut station, &["Accepted", "Accepted"]).await;
    let export = &asked["setMonitoringData"][1];
    assert_eq!(export["component"]["evse"]["id"], 1, "{export}");
    assert_eq!(export["variable"]["name"], "EnergyExportRegister");
    assert_eq!(export["periodicEventStream"]["interval"], 10);
    assert_eq!(stream(&mut station, 3, 11).await, "Accepted");
    assert_eq!(stream(&mut station, 4, 12).await, "Accepted");
    assert_eq!(stream(&mut station, 5, 99).await, "Rejected");

    let base = bench.clock.now();
    notify(&mut station, 3, base, json!([{"t": 0.25, "v": "40000001"}])).await;
    notify(&mut station, 5, base, json!([{"t": 0, "v": "7"}])).await;
    notify(&mut station, 4, base, json!([{"t": 0.25, "v": "7.0005"}])).await;
    let reading = bench
        .until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::Reading(r) if r.at == base + TimeDelta::milliseconds(250) => {
                    Some(r.clone())
                }
                _ => None,
            })
        })
        .await;
    assert_eq!(reading.import_register, Some(Energy::from_wh(40_000_001)));
    assert_eq!(
        reading.export_register,
        Some(Energy::from_joules(25_201_800))
    );
    assert_eq!((reading.power, reading.soc), (None, None));
    assert_eq!(reading.session.unwrap().as_str(), "both-ways/1:tx-1");
    let refused: Vec<String> = bench
        .quarantined()
        .await
        .into_iter()
        .map(|q| q.reason)
        .collect();
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert!(
        refused[0].contains("monitor 99") && refused[1].contains("stream 5"),
        "{refused:?}"
    );

    // An hour and five minutes later it is no member any more.
    assert_eq!(sampled(&mut station, "Accepted").await, "60");
    let (id, action, asked) = station.called().await;
    assert_eq!(
        (action.as_str(), &asked["id"]),
        ("ClearVariableMonitoring", &json!([11, 12]))
    );
    let cleared = [11, 12].map(|id| json!({"status": "Accepted", "id": id}));
    station
        .answer(&id, json!({"clearMonitoringResult": cleared}))
        .await;
    assert_eq!(
        station
            .call("ClosePeriodicEventStream", json!({"id": 3}))
            .await,
        json!({})
    );
    bench.finish().await;
}

#[tokio::test]
async fn a_station_that_kept_its_monitors_from_another_edge_streams_again() {
    let bench = bench_with(asking()).await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.call("Heartbeat", json!({})).await;
    let (id, ..) = station.called().await;
    let answer = json!({"getVariableResult": [
        told("SampledDataCtrlr", "TxUpdatedInterval", "10"),
        told("MonitoringCtrlr", "MaxPeriodicEventStreams", "2"),
    ]});
    station.answer(&id, answer).await;
    assert_eq!(sampled(&mut station, "Rejected").await, "60");
    station.event2("Started", "tx-1", bench.clock.now()).await;
    bench
        .command(&bench.setpoint("in", "both-ways/1", 5_000, LIFE))
        .await;
    let (id, action, _) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    station.answer(&id, json!({"status": "Accepted"})).await;
    monitored(&mut station, &["Duplicate", "Duplicate"]).await;
    let (id, action, asked) = station.called().await;
    assert_eq!(action, "GetMonitoringReport");
    assert_eq!(
        asked["componentVariable"][1]["variable"]["name"],
        "EnergyExportRegister"
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    let kept = |number: i32, variable: &str| {
        json!({"component": {"name": "FiscalMetering", "evse": {"id": 1}}, "variable": {"name": variable},
        "variableMonitoring": [
            {"id": number, "transaction": true, "value": 1, "type": "PeriodicClockAligned", "severity": 8,
                "eventNotificationType": "CustomMonitor"},
            {"id": 99, "transaction": true, "value": 1, "type": "UpperThreshold", "severity": 2,
                "eventNotificationType": "HardWiredMonitor"},
        ]})
    };
    let report = |part: i32, last: bool, monitor: Value| {
        json!({"requestId": asked["requestId"], "seqNo": part, "tbc": !last, "generatedAt": bench.clock.now().to_rfc3339(),
            "monitor": [monitor]})
    };
    let first = report(0, false, kept(21, "EnergyImportRegister"));
    station.call("NotifyMonitoringReport", first).await;
    let last = report(1, true, kept(22, "EnergyExportRegister"));
    station.call("NotifyMonitoringReport", last).await;
    let asked = monitored(&mut station, &["Accepted", "Accepted"]).await;
    let numbers = asked["setMonitoringData"].as_array().unwrap().iter();
    let numbers: Vec<_> = numbers.map(|one| one["id"].as_i64()).collect();
    assert_eq!(numbers, [Some(21), Some(22)], "replaced, not set anew");
    assert_eq!(stream(&mut station, 3, 22).await, "Accepted");
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
