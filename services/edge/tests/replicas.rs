//! Several edges over one log: each set-point finds the edge that holds the station, and a station that moves is followed.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

mod support;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::setpoint::Outcome;
use fleet::{Needs, Session, SessionState, Telemetry};
use runtime::Clock;
use serde_json::json;
use shoal_edge::Config;
use store::Store;
use support::{Bench, Client, Host, PATIENCE, event2, start_as_is, stations};
use units::{Energy, Power};

const LIFE: TimeDelta = TimeDelta::seconds(600);

async fn replica(store: &Store) -> Bench {
    replica_at(store, Clock::system()).await
}

async fn replica_at(store: &Store, clock: Clock) -> Bench {
    let mut config = Config {
        replicas: true,
        listen: "127.0.0.1:0".parse().unwrap(),
        inquire: false,
        ..Config::default()
    };
    config.security.discharge_without_tls = true;
    start_as_is(store.clone(), config, clock).await
}

async fn two() -> (Bench, Bench) {
    let store = stations().await;
    (replica(&store).await, replica(&store).await)
}

/// What was said about a set-point, once both edges have passed it: each answers one for an outlet that nobody registered.
async fn outcomes(bench: &Bench, id: &str) -> Vec<Outcome> {
    let mark = format!("mark-{id}");
    bench
        .command(&bench.setpoint(&mark, "nowhere/1", 0, LIFE))
        .await;
    let answers = |told: &[Telemetry], id: &str| -> Vec<Outcome> {
        let acks = told.iter().filter_map(|t| match t {
            Telemetry::Acknowledged(ack) if ack.setpoint.as_str() == id => Some(ack.outcome),
            _ => None,
        });
        acks.collect()
    };
    bench
        .until(|told| (answers(told, &mark).len() == 2).then(|| answers(told, id)))
        .await
}

async fn takes(bench: &Bench, station: &mut Client, id: &str, evse: &str) -> serde_json::Value {
    bench.command(&bench.setpoint(id, evse, 5_000, LIFE)).await;
    let (call, action, payload) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    station.answer(&call, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged(id).await.outcome, Outcome::Accepted);
    assert_eq!(outcomes(bench, id).await, [Outcome::Accepted], "{id}");
    payload
}

/// A stay as ingest keeps it in the tables.
async fn keep(bench: &Bench, evse: &str, session: &str, at: DateTime<Utc>) {
    let needs = Needs {
        departure: None,
        energy: Energy::from_kwh(10.0),
        stored: None,
        capacity: None,
        max_charge: Power::from_kw(11.0),
        max_discharge: Power::ZERO,
        floor: Energy::ZERO,
    };
    let session = Session {
        id: session.parse().unwrap(),
        evse: evse.parse().unwrap(),
        site: "street-01".parse().unwrap(),
        vehicle: None,
        plugged_in: at,
        unplugged: None,
        needs: Some(needs),
    };
    let state = SessionState {
        session,
        added: Some(Energy::ZERO),
        soc: None,
    };
    bench.store.tables().upsert_session(&state).await.unwrap();
}

/// Whether a station was last said to be connected, and how often it was said.
fn presence(told: &[Telemetry], name: &str) -> Vec<bool> {
    let said = told.iter().filter_map(|t| match t {
        Telemetry::Connection {
            station, online, ..
        } if station.as_str() == name => Some(*online),
        _ => None,
    });
    said.collect()
}

#[tokio::test]
async fn a_set_point_finds_the_edge_that_holds_the_station_and_is_answered_once() {
    let (first, second) = two().await;
    let mut old = first.connect("one-way", "ocpp1.6").await;
    old.start16(first.clock.now()).await;
    let mut new = second.connect("both-ways", "ocpp2.1").await;
    new.event2("Started", "tx-1", second.clock.now()).await;
    takes(&first, &mut old, "one", "one-way/1").await;
    takes(&first, &mut new, "two", "both-ways/1").await;
    first.finish().await;
    second.finish().await;
}

#[tokio::test]
async fn a_station_that_connects_elsewhere_is_let_go_and_never_said_to_be_offline() {
    let (first, second) = two().await;
    let mut before = first.connect("both-ways", "ocpp2.1").await;
    before.event2("Started", "tx-1", first.clock.now()).await;
    keep(&first, "both-ways/1", "both-ways/1:tx-1", first.clock.now()).await;
    let mut after = second.connect("both-ways", "ocpp2.1").await;
    assert_eq!(before.closed().await, Some(1008));
    takes(&first, &mut after, "moved", "both-ways/1").await;
    assert_eq!(presence(&first.told().await, "both-ways"), [true, true]);
    first.finish().await;
    second.finish().await;
}

#[tokio::test]
async fn when_an_edge_dies_its_stations_go_on_at_another_with_their_stays() {
    let store = stations().await;
    let mut host = Host::new();
    let own = store.clone();
    let first = host.run(async move { replica(&own).await }).await;
    let second = replica(&store).await;
    let mut old = first.connect("one-way", "ocpp1.6").await;
    let number = old.start16(first.clock.now()).await;
    let mut new = first.connect("both-ways", "ocpp2.1").await;
    new.event2("Started", "tx-1", first.clock.now()).await;
    keep(&first, "both-ways/1", "both-ways/1:tx-1", first.clock.now()).await;
    host.kill();
    assert!(old.next().await.is_none() && new.next().await.is_none());
    let mut new = second.connect("both-ways", "ocpp2.1").await;
    // Nobody told the second edge of the stay but the tables.
    second
        .command(&second.setpoint("go", "both-ways/1", 4_000, LIFE))
        .await;
    let (id, _, set) = new.called().await;
    assert_eq!(set["chargingProfile"]["transactionId"], "tx-1");
    new.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(second.acknowledged("go").await.outcome, Outcome::Accepted);
    // The tables know nothing of this one yet, but its number says where and when it began.
    let mut old = second.connect("one-way", "ocpp1.6").await;
    let sample = json!([{"timestamp": second.clock.now().to_rfc3339(), "sampledValue": [{"value": "2000"}]}]);
    old.call(
        "MeterValues",
        json!({"connectorId": 1, "transactionId": number, "meterValue": sample}),
    )
    .await;
    second
        .command(&second.setpoint("on", "one-way/1", 4_000, LIFE))
        .await;
    let (id, _, set) = old.called().await;
    assert_eq!(set["csChargingProfiles"]["transactionId"], number);
    old.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(second.acknowledged("on").await.outcome, Outcome::Accepted);
    second.finish().await;
}

/// A clock by which a station has two seconds to come back.
fn hasty() -> Clock {
    Clock::accelerated("2026-06-09T20:30:00Z".parse().unwrap(), 10.0)
}

/// What is said about a set-point once somebody said something, and nobody adds to it for as long as it could take.
async fn said_at_last(bench: &Bench, id: &str) -> Vec<(Outcome, String)> {
    let ack = bench.acknowledged(id).await;
    let clock = bench.clock;
    clock
        .sleep_until(clock.now() + TimeDelta::seconds(60))
        .await;
    let told = bench.told().await.into_iter();
    let said = told.filter_map(|t| match t {
        Telemetry::Acknowledged(ack) if ack.setpoint.as_str() == id => {
            Some((ack.outcome, ack.detail))
        }
        _ => None,
    });
    assert_eq!(ack.setpoint.as_str(), id);
    said.collect()
}

#[tokio::test]
async fn a_set_point_for_a_station_that_no_edge_holds_is_said_undelivered_once() {
    let (store, clock) = (stations().await, hasty());
    let first = replica_at(&store, clock).await;
    let second = replica_at(&store, clock).await;
    // One station was here and left, the other was never seen.
    let mut gone = first.connect("one-way", "ocpp1.6").await;
    gone.start16(clock.now()).await;
    drop(gone);
    first
        .until(|told| (presence(told, "one-way") == [true, false]).then_some(()))
        .await;
    for evse in ["one-way/1", "both-ways/1"] {
        first
            .command(&first.setpoint(evse, evse, 4_000, LIFE))
            .await;
    }
    for evse in ["one-way/1", "both-ways/1"] {
        let said = said_at_last(&first, evse).await;
        let [(Outcome::Unreachable, why)] = said.as_slice() else {
            panic!("{evse}: {said:?}");
        };
        assert!(why.contains("not connected to any edge"), "{why}");
    }
    first.finish().await;
    second.finish().await;
}

#[tokio::test]
async fn a_station_that_comes_back_to_another_edge_in_time_gets_its_set_point() {
    let (store, clock) = (stations().await, hasty());
    let first = replica_at(&store, clock).await;
    let second = replica_at(&store, clock).await;
    let mut old = first.connect("both-ways", "ocpp2.1").await;
    old.event2("Started", "tx-1", clock.now()).await;
    keep(&first, "both-ways/1", "both-ways/1:tx-1", clock.now()).await;
    // Told over a connection that ends before it is answered.
    first
        .command(&first.setpoint("go", "both-ways/1", 4_000, LIFE))
        .await;
    let (_, action, _) = old.called().await;
    assert_eq!(action, "SetChargingProfile");
    drop(old);
    let mut new = second.connect("both-ways", "ocpp2.1").await;
    let (id, action, _) = new.called().await;
    assert_eq!(action, "SetChargingProfile");
    new.answer(&id, json!({"status": "Accepted"})).await;
    let said = said_at_last(&second, "go").await;
    assert_eq!(said, [(Outcome::Accepted, String::new())]);
    first.finish().await;
    second.finish().await;
}

#[tokio::test]
async fn a_rolling_restart_loses_no_event_of_a_transaction() {
    let (mut serving, mut other) = two().await;
    let store = serving.store.clone();
    let began = serving.clock.now();
    let mut told = 0;
    // Stations send again what was not answered, wherever they come to.
    for round in 0..4 {
        let mut station = serving.connect("both-ways", "ocpp2.1").await;
        let kind = ["Started", "Updated", "Updated", "Ended"][round];
        let at = began + TimeDelta::seconds(i64::try_from(round).unwrap());
        let mut event = event2(kind, "tx-1", at);
        event["meterValue"] = json!([{"timestamp": at.to_rfc3339(), "sampledValue": [{"value": 1_000 + 100 * round}]}]);
        station
            .send(json!([2, format!("e{round}"), "TransactionEvent", event]).to_string())
            .await;
        // The edge goes down with the event in hand.
        serving.stop.cancel();
        let mut answered = false;
        while let Some(frame) = station.next().await {
            answered |= frame[1] == json!(format!("e{round}"));
        }
        let ended = tokio::time::timeout(PATIENCE, &mut serving.running).await;
        ended.unwrap().unwrap().unwrap();
        let next = replica(&store).await;
        serving = std::mem::replace(&mut other, next);
        if !answered {
            let mut again = serving.connect("both-ways", "ocpp2.1").await;
            again.call("TransactionEvent", event).await;
        }
        told += 1;
    }
    let all = serving.told().await;
    let begun = all.iter().any(|t| matches!(t, Telemetry::PluggedIn { session, .. } if session.as_str() == "both-ways/1:tx-1"));
    let over = all.iter().any(|t| matches!(t, Telemetry::Unplugged { session, .. } if session.as_str() == "both-ways/1:tx-1"));
    assert!(begun && over, "{all:?}");
    for round in 0..told {
        let register = Energy::from_wh(1_000 + 100 * round);
        let read = |t: &Telemetry| matches!(t, Telemetry::Reading(r) if r.import_register == Some(register));
        assert!(all.iter().any(read), "{round}: {all:?}");
    }
    serving.finish().await;
    other.finish().await;
}
