//! What the versions have in common and where they differ, played by a bare client.

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
use fleet::{Reading, Telemetry};
use serde_json::{Value, json};
use support::{Bench, Client, bench, event2};
use units::{Energy, Power};

const LIFE: TimeDelta = TimeDelta::seconds(60);

fn sampled(at: DateTime<Utc>, watts: i64, register_wh: i64) -> Value {
    let sample = |measurand: &str, value: i64, unit: &str| json!({"measurand": measurand, "value": value, "unitOfMeasure": {"unit": unit}});
    json!({"timestamp": at.to_rfc3339(), "sampledValue": [
        sample("Power.Active.Import", watts, "W"),
        sample("Energy.Active.Import.Register", register_wh, "Wh"),
    ]})
}

async fn tell(client: &mut Client, kind: &str, transaction: &str, at: DateTime<Utc>, wh: i64) {
    let mut event = event2(kind, transaction, at);
    event["meterValue"] = json!([sampled(at, 7_000, wh)]);
    client.call("TransactionEvent", event).await;
}

async fn readings(bench: &Bench) -> Vec<Reading> {
    let told = bench.told().await;
    let readings = told.into_iter().filter_map(|t| match t {
        Telemetry::Reading(reading) => Some(reading),
        _ => None,
    });
    readings.collect()
}

/// Beginnings and ends of stays in the order told.
async fn stays(bench: &Bench) -> Vec<(String, bool, DateTime<Utc>)> {
    let told = bench.told().await;
    let stays = told.iter().filter_map(|t| match t {
        Telemetry::PluggedIn { session, at, .. } => Some((session.to_string(), true, *at)),
        Telemetry::Unplugged { session, at, .. } => Some((session.to_string(), false, *at)),
        _ => None,
    });
    stays.collect()
}

#[tokio::test]
async fn a_2_0_1_station_boots_charges_and_is_limited() {
    let bench = bench().await;
    let mut station = bench.connect("limited", "ocpp2.0.1").await;
    let boot = json!({"reason": "PowerUp", "chargingStation": {"model": "M", "vendorName": "V"}});
    let booted = station.call("BootNotification", boot).await;
    assert_eq!(booted["status"], "Accepted");
    let now = bench.clock.now();
    let status = json!({"timestamp": now.to_rfc3339(), "connectorStatus": "Occupied", "evseId": 1, "connectorId": 1});
    assert_eq!(station.call("StatusNotification", status).await, json!({}));
    tell(&mut station, "Started", "tx-1", now, 5_000).await;

    bench
        .command(&bench.setpoint("down", "limited/1", -4_000, LIFE))
        .await;
    let refused = bench.acknowledged("down").await;
    assert_eq!(refused.outcome, Outcome::Rejected);
    assert!(
        refused
            .detail
            .contains("discharge, which OCPP 2.0.1 cannot say"),
        "{}",
        refused.detail
    );
    bench
        .command(&bench.setpoint("up", "limited/1", 5_000, LIFE))
        .await;
    let (id, action, payload) = station.called().await;
    assert_eq!(
        (action.as_str(), &payload["evseId"]),
        ("SetChargingProfile", &json!(1))
    );
    let profile = &payload["chargingProfile"];
    assert_eq!(profile["chargingProfilePurpose"], "TxProfile");
    assert_eq!(profile["chargingProfileKind"], "Absolute");
    assert_eq!(profile["transactionId"], "tx-1");
    let schedule = &profile["chargingSchedule"][0];
    assert!(
        (59..=60).contains(&schedule["duration"].as_i64().unwrap()),
        "{schedule}"
    );
    let period = &schedule["chargingSchedulePeriod"][0];
    assert_eq!(
        period,
        &json!({"startPeriod": 0, "limit": 5_000.0}),
        "nothing that only 2.1 knows"
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged("up").await.outcome, Outcome::Accepted);

    let needs = json!({"evseId": 1, "chargingNeeds": {
        "requestedEnergyTransfer": "AC_three_phase", "departureTime": "2026-06-10T05:00:00Z",
        "acChargingParameters": {"energyAmount": 12_000, "evMinCurrent": 6, "evMaxCurrent": 16, "evMaxVoltage": 230},
    }});
    let answer = station.call("NotifyEVChargingNeeds", needs).await;
    assert_eq!(answer["status"], "Processing");
    tell(&mut station, "Ended", "tx-1", now + LIFE, 5_100).await;
    let told = bench.told().await;
    let needs = told.iter().find_map(|t| match t {
        Telemetry::Needs { needs, .. } => Some(needs),
        _ => None,
    });
    let needs = needs.expect("needs on the log");
    assert_eq!(
        (needs.energy, needs.max_discharge, needs.stored),
        (Energy::from_wh(12_000), Power::ZERO, None)
    );
    assert_eq!(stays(&bench).await.len(), 2);
    let registers: Vec<_> = readings(&bench).await;
    let read: Vec<_> = registers
        .iter()
        .map(|r| r.import_register.unwrap())
        .collect();
    assert_eq!(read, [Energy::from_wh(5_000), Energy::from_wh(5_100)]);
    bench.finish().await;
}

#[tokio::test]
async fn what_only_2_1_knows_is_refused_in_2_0_1() {
    let bench = bench().await;
    let mut station = bench.connect("limited", "ocpp2.0.1").await;
    let pull = json!({"chargingProfileId": 1});
    let answer = station.ask("PullDynamicScheduleUpdate", pull).await;
    assert_eq!(
        (&answer[0], &answer[2]),
        (&json!(4), &json!("NotImplemented"))
    );
    tell(&mut station, "Started", "tx-1", bench.clock.now(), 0).await;
    let dc = json!({"evMaxCurrent": 30, "evMaxVoltage": 400, "stateOfCharge": 50, "evEnergyCapacity": 60_000, "energyAmount": 9_000});
    let v2x = json!({"maxDischargePower": 9_000, "evTargetEnergyRequest": 15_000, "evMinV2XEnergyRequest": -18_100});
    let mut needs = json!({"evseId": 1, "chargingNeeds": {
        "requestedEnergyTransfer": "DC", "dcChargingParameters": dc, "v2xChargingParameters": v2x,
    }});
    station.call("NotifyEVChargingNeeds", needs.clone()).await;
    let told = bench.told().await;
    let believed = told.iter().find_map(|t| match t {
        Telemetry::Needs { needs, .. } => Some((needs.energy, needs.max_discharge)),
        _ => None,
    });
    assert_eq!(believed, Some((Energy::from_wh(9_000), Power::ZERO)));
    needs["chargingNeeds"]["requestedEnergyTransfer"] = json!("DC_BPT");
    let answer = station.ask("NotifyEVChargingNeeds", needs).await;
    assert_eq!(answer[0], json!(4), "{answer}");
    bench.finish().await;
}

#[tokio::test]
async fn messages_that_come_late_and_out_of_order_find_their_stay() {
    for (identity, version) in [("limited", "ocpp2.0.1"), ("both-ways", "ocpp2.1")] {
        let bench = bench().await;
        let mut station = bench.connect(identity, version).await;
        let zero = bench.clock.now() - TimeDelta::hours(3);
        let at = |minutes| zero + TimeDelta::minutes(minutes);
        // What happened offline is replayed: an end before a value, a beginning after its end.
        tell(&mut station, "Started", "a", at(0), 1_000).await;
        tell(&mut station, "Ended", "a", at(30), 4_000).await;
        tell(&mut station, "Updated", "a", at(15), 2_500).await;
        tell(&mut station, "Ended", "b", at(60), 6_000).await;
        tell(&mut station, "Started", "b", at(40), 4_000).await;
        tell(&mut station, "Started", "c", at(90), 6_000).await;
        tell(&mut station, "Updated", "b", at(50), 5_000).await;
        let name = |transaction: &str| format!("{identity}/1:{transaction}");
        let told = stays(&bench).await;
        let wanted = [
            (name("a"), true, at(0)),
            (name("a"), false, at(30)),
            (name("b"), false, at(60)),
            (name("b"), true, at(40)),
            (name("b"), false, at(60)),
            (name("c"), true, at(90)),
        ];
        assert_eq!(told, wanted, "{version}");
        let belongs: Vec<_> = readings(&bench)
            .await
            .into_iter()
            .map(|r| (r.session.unwrap().to_string(), r.at))
            .collect();
        assert!(belongs.contains(&(name("a"), at(15))), "{belongs:?}");
        assert!(belongs.contains(&(name("b"), at(50))), "{belongs:?}");

        // The stay in progress is still the one that is told what to do.
        let evse = format!("{identity}/1");
        bench
            .command(&bench.setpoint("s", &evse, 3_000, LIFE))
            .await;
        let (_, _, payload) = station.called().await;
        assert_eq!(payload["chargingProfile"]["transactionId"], "c");
        bench.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setpoint_never_overtakes_the_answer_that_names_its_transaction() {
    const STARTS: i64 = 40;
    let bench = bench().await;
    let mut station = bench.connect("one-way", "ocpp1.6").await;
    let mut log = bench
        .store
        .log()
        .tail(store::topic::READINGS)
        .await
        .unwrap();
    let begin = bench.clock.now() - TimeDelta::hours(1);
    for number in 0..STARTS {
        let at = begin + TimeDelta::seconds(number);
        let start = json!({"connectorId": 1, "idTag": "car-0001", "meterStart": 1_000, "timestamp": at.to_rfc3339()});
        station
            .send(json!([2, format!("s{number}"), "StartTransaction", start]).to_string())
            .await;
        // A dispatcher in a hurry: the moment the log knows of the stay, it is told what to do.
        loop {
            let batch = log.next_batch(16).await.unwrap();
            let begun = batch.iter().any(|record| {
                let message =
                    wire::decode::<wire::proto::telemetry::v1::Telemetry>(&record.payload);
                matches!(
                    Telemetry::try_from(message.unwrap()),
                    Ok(Telemetry::PluggedIn { .. })
                )
            });
            if begun {
                break;
            }
        }
        let name = format!("hurry-{number}");
        bench
            .command(&bench.setpoint(&name, "one-way/1", 4_000, LIFE))
            .await;
        let answer = station.next().await.expect("an answer");
        assert_eq!(
            (&answer[0], &answer[1]),
            (&json!(3), &json!(format!("s{number}"))),
            "the answer comes first: {answer}"
        );
        let (id, _, payload) = station.called().await;
        assert_eq!(
            payload["csChargingProfiles"]["transactionId"],
            answer[2]["transactionId"]
        );
        station.answer(&id, json!({"status": "Accepted"})).await;
        bench.acknowledged(&name).await;
    }
    bench.finish().await;
}
