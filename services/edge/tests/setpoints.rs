//! Set-points on their way to a station, played by a bare client.

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

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::Telemetry;
use fleet::setpoint::Outcome;
use runtime::Clock;
use serde_json::json;
use shoal_edge::Config;
use support::{bench, bench_with, quiet, sessions, start};
use tokio::net::TcpSocket;
use tokio_tungstenite::client_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const LIFE: TimeDelta = TimeDelta::seconds(60);

fn number(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap()
}

#[tokio::test]
async fn a_two_way_station_gets_a_signed_setpoint_then_updates_of_one_number() {
    let bench = bench().await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    station.agree2(1).await;
    bench.probe.started("signal-1");

    bench
        .command(&bench.setpoint("a", "both-ways/1", -7_400, LIFE))
        .await;
    let (id, action, payload) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    let profile = &payload["chargingProfile"];
    assert_eq!(profile["chargingProfilePurpose"], "TxProfile");
    assert_eq!(profile["chargingProfileKind"], "Dynamic");
    assert_eq!(profile["transactionId"], "tx-1");
    let schedule = &profile["chargingSchedule"][0];
    assert_eq!(
        (&schedule["duration"], &schedule["chargingRateUnit"]),
        (&json!(60), &json!("W"))
    );
    let period = &schedule["chargingSchedulePeriod"][0];
    assert_eq!(period["operationMode"], "CentralSetpoint");
    assert!(
        (number(&period["setpoint"]) + 7_400.0).abs() < 1e-9,
        "discharge is negative: {period}"
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    let ack = bench.acknowledged("a").await;
    assert_eq!(
        (ack.outcome, ack.signal.unwrap().as_str()),
        (Outcome::Accepted, "signal-1")
    );
    assert!(ack.sent_at <= ack.answered_at);
    assert_eq!(bench.probe.quantiles().writes, 1);

    bench
        .command(&bench.setpoint("b", "both-ways/1", 3_000, LIFE))
        .await;
    let (id, action, payload) = station.called().await;
    assert_eq!(action, "UpdateDynamicSchedule");
    assert_eq!(payload["chargingProfileId"], profile["id"]);
    assert!((number(&payload["scheduleUpdate"]["setpoint"]) - 3_000.0).abs() < 1e-9);
    let pulled = station
        .call("PullDynamicScheduleUpdate", json!({"chargingProfileId": 1}))
        .await;
    assert!((number(&pulled["scheduleUpdate"]["setpoint"]) - 3_000.0).abs() < 1e-9);

    // A station that lost the profile gets it again.
    station.answer(&id, json!({"status": "Rejected"})).await;
    let (id, action, _) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    let refusal = json!({"status": "Rejected", "statusInfo": {"reasonCode": "NoMood"}});
    station.answer(&id, refusal).await;
    let ack = bench.acknowledged("b").await;
    assert_eq!(ack.outcome, Outcome::Rejected);
    assert!(ack.detail.contains("NoMood"), "{}", ack.detail);
    bench.finish().await;
}

#[tokio::test]
async fn one_call_at_a_time_and_the_newest_setpoint_replaces_the_one_that_waits() {
    let bench = bench().await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    for (name, watts) in [("a", 1_000), ("b", 2_000), ("b", 2_000), ("c", 3_000)] {
        bench
            .command(&bench.setpoint(name, "both-ways/1", watts, LIFE))
            .await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (id, ..) = station.called().await;
    // Nothing else is sent while the first is not answered.
    station.call("Heartbeat", json!({})).await;
    station.answer(&id, json!({"status": "Accepted"})).await;
    let (id, _, payload) = station.called().await;
    assert!(
        (number(&payload["scheduleUpdate"]["setpoint"]) - 3_000.0).abs() < 1e-9,
        "{payload}"
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    bench.acknowledged("c").await;
    let told = bench.told().await;
    let acks = told
        .iter()
        .filter(|t| matches!(t, Telemetry::Acknowledged(_)))
        .count();
    assert_eq!(acks, 2, "the replaced one was never sent");
    bench
        .command(&bench.setpoint("c", "both-ways/1", 3_000, LIFE))
        .await;
    station.call("Heartbeat", json!({})).await;
    bench.finish().await;
}

#[tokio::test]
async fn a_one_way_station_gets_a_limit_and_is_never_asked_to_discharge() {
    let bench = bench().await;
    let mut station = bench.connect("one-way", "ocpp1.6").await;
    let transaction = station.start16(bench.clock.now()).await;
    bench
        .command(&bench.setpoint("down", "one-way/1", -4_000, LIFE))
        .await;
    let ack = bench.acknowledged("down").await;
    assert_eq!(ack.outcome, Outcome::Rejected);
    assert!(
        ack.detail.contains("discharge, which OCPP 1.6 cannot say"),
        "{}",
        ack.detail
    );
    bench
        .command(&bench.setpoint("up", "one-way/1", 5_000, LIFE))
        .await;
    let (id, action, payload) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    let profile = &payload["csChargingProfiles"];
    assert_eq!(profile["chargingProfilePurpose"], "TxProfile");
    assert_eq!(profile["transactionId"], json!(transaction));
    let schedule = &profile["chargingSchedule"];
    assert!(
        (59..=60).contains(&schedule["duration"].as_i64().unwrap()),
        "{schedule}"
    );
    assert_eq!(
        schedule["chargingSchedulePeriod"][0]["limit"].to_string(),
        "5000.0"
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged("up").await.outcome, Outcome::Accepted);
    bench.finish().await;
}

#[tokio::test]
async fn what_cannot_be_delivered_is_said() {
    let config = Config {
        call_timeout_ms: 200,
        ..quiet()
    };
    let bench = bench_with(config).await;
    bench
        .command(&bench.setpoint("stranger", "nowhere/1", 1, LIFE))
        .await;
    assert!(
        bench
            .acknowledged("stranger")
            .await
            .detail
            .contains("not registered")
    );
    bench
        .command(&bench.setpoint("offline", "one-way/1", 1, LIFE))
        .await;
    assert!(
        bench
            .acknowledged("offline")
            .await
            .detail
            .contains("not connected")
    );
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.call("Heartbeat", json!({})).await;
    bench
        .command(&bench.setpoint("empty", "both-ways/1", 1, LIFE))
        .await;
    let empty = bench.acknowledged("empty").await;
    assert_eq!(
        (empty.outcome, empty.detail.as_str()),
        (Outcome::Rejected, "no vehicle is plugged in")
    );
    station.event2("Started", "tx-1", bench.clock.now()).await;
    bench
        .command(&bench.setpoint("late", "both-ways/1", 1, TimeDelta::seconds(-1)))
        .await;
    let late = bench.acknowledged("late").await;
    assert_eq!(late.outcome, Outcome::Unreachable);
    assert!(late.detail.contains("expired"), "{}", late.detail);
    bench
        .command(&bench.setpoint("unheard", "both-ways/1", 1, LIFE))
        .await;
    station.called().await;
    let unheard = bench.acknowledged("unheard").await;
    assert!(
        unheard.detail.contains("did not answer in time"),
        "{}",
        unheard.detail
    );
    bench
        .command(&bench.setpoint("cut", "both-ways/1", 1, LIFE))
        .await;
    station.called().await;
    drop(station);
    let cut = bench.acknowledged("cut").await;
    assert_eq!(cut.outcome, Outcome::Unreachable);
    bench.finish().await;
}

#[tokio::test]
async fn the_newest_connection_of_a_station_wins() {
    let bench = bench().await;
    let mut old = bench.connect("both-ways", "ocpp2.1").await;
    old.event2("Started", "tx-1", bench.clock.now()).await;
    let mut new = bench.connect("both-ways", "ocpp2.1").await;
    assert_eq!(old.closed().await, Some(1008));
    new.call("Heartbeat", json!({})).await;
    bench
        .command(&bench.setpoint("a", "both-ways/1", 1_000, LIFE))
        .await;
    let (id, ..) = new.called().await;
    new.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged("a").await.outcome, Outcome::Accepted);
    let online: Vec<bool> = bench
        .told()
        .await
        .iter()
        .filter_map(|t| match t {
            Telemetry::Connection { online, .. } => Some(*online),
            _ => None,
        })
        .collect();
    assert_eq!(online, [true, true], "the station never went offline");
    let told = bench.finish().await;
    drop(told);
}

#[tokio::test]
async fn a_restart_forgets_no_transaction() {
    let first = bench().await;
    let begun: DateTime<Utc> = "2026-06-09T18:00:00Z".parse().unwrap();
    let mut station = first.connect("one-way", "ocpp1.6").await;
    let transaction = station.start16(begun).await;
    let again = station.start16(begun).await;
    assert_eq!(transaction, again, "a start sent twice is the same start");
    let told = first.told().await;
    assert_eq!(sessions(&told).len(), 1);
    let port = first.address.port();
    let store = first.finish().await;

    let second = start(store, quiet(), Clock::system(), port).await;
    let mut station = second.connect("one-way", "ocpp1.6").await;
    let stop = json!({"transactionId": transaction, "meterStop": 3_500, "timestamp": "2026-06-09T20:00:00Z"});
    station.call("StopTransaction", stop).await;
    let told = second.told().await;
    let ended = told.iter().find_map(|t| match t {
        Telemetry::Unplugged { session, .. } => Some(session.to_string()),
        _ => None,
    });
    assert_eq!(sessions(&told).into_iter().next(), ended);
    second.finish().await;
}

#[tokio::test]
async fn needs_of_a_vehicle_reach_the_log_in_our_signs_and_units() {
    let bench = bench().await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    let asked = json!({"evseId": 1, "chargingNeeds": {
        "requestedEnergyTransfer": "DC_BPT", "departureTime": "2026-06-10T05:00:00Z",
        "dcChargingParameters": {"evMaxCurrent": 30, "evMaxVoltage": 400, "stateOfCharge": 50, "evEnergyCapacity": 60000},
        "v2xChargingParameters": {"maxChargePower": 11000, "maxDischargePower": 9000, "evTargetEnergyRequest": 15000.5,
            "evMaxEnergyRequest": 29900, "evMinV2XEnergyRequest": -18100},
    }});
    let answer = station.call("NotifyEVChargingNeeds", asked).await;
    assert_eq!(answer["status"], "Processing");
    let needs = bench
        .until(|told| {
            told.iter().find_map(|t| match t {
                Telemetry::Needs { needs, session, .. }
                    if session.as_str() == "both-ways/1:tx-1" =>
                {
                    Some(needs.clone())
                }
                _ => None,
            })
        })
        .await;
    assert_eq!(needs.energy.joules(), 54_001_800);
    assert_eq!(needs.stored.unwrap(), units::Energy::from_wh(30_100));
    assert_eq!(needs.floor, units::Energy::from_wh(12_000));
    assert_eq!(needs.max_discharge.watts(), 9_000);
    bench.finish().await;
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_cut_off_and_the_others_are_served() {
    let config = Config {
        write_timeout_ms: 300,
        // Read as fast as it comes, so that the answers fill what the sockets hold.
        messages_per_second: 1_000_000,
        ..quiet()
    };
    let bench = bench_with(config).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(bench.address).await.unwrap();
    let mut request = format!("ws://{}/ocpp/one-way", bench.address)
        .into_client_request()
        .unwrap();
    request
        .headers_mut()
        .insert("sec-websocket-protocol", "ocpp1.6".parse().unwrap());
    let (mut deaf, _) = client_async(request, stream).await.unwrap();
    let talking = async {
        use futures_util::SinkExt;
        let mut count = 0_u32;
        while deaf
            .send(Message::text(r#"[2,"x","Heartbeat",{}]"#))
            .await
            .is_ok()
        {
            count += 1;
        }
        count
    };
    let count = tokio::time::timeout(Duration::from_secs(60), talking)
        .await
        .expect("cut off");
    assert!(count > 0);
    let mut other = bench.connect("both-ways", "ocpp2.1").await;
    other.call("Heartbeat", json!({})).await;
    bench.finish().await;
}
