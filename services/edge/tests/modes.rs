//! Operation modes, needs that change during a stay and what each version can be told, played by a bare client.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::wildcard_enum_match_arm,
    reason = "a failed test says where"
)]

mod support;

use chrono::TimeDelta;
use fleet::setpoint::Outcome;
use fleet::{Curve, CurvePoint, Mode, Needs, Setpoint, Telemetry};
use serde_json::{Value, json};
use support::{Bench, Client, bench};
use units::Power;

const LIFE: TimeDelta = TimeDelta::seconds(60);

fn curve(points: &[(i32, i64)]) -> Curve {
    let point = |(at, watts): &(i32, i64)| CurvePoint {
        at: *at,
        power: Power::from_watts(*watts),
    };
    let points: Vec<_> = points.iter().map(point).collect();
    points.try_into().unwrap()
}

fn setpoint(bench: &Bench, id: &str, evse: &str, watts: i64, mode: Mode) -> Setpoint {
    Setpoint {
        mode,
        ..bench.setpoint(id, evse, watts, LIFE)
    }
}

/// The period of the profile that a set-point becomes, taken by the station.
async fn installed(bench: &Bench, station: &mut Client, setpoint: &Setpoint) -> Value {
    bench.command(setpoint).await;
    let (id, action, payload) = station.called().await;
    assert_eq!(action, "SetChargingProfile", "{payload}");
    station.answer(&id, json!({"status": "Accepted"})).await;
    bench.acknowledged(setpoint.id.as_str()).await;
    let profile = &payload["chargingProfile"];
    assert_eq!(
        profile["maxOfflineDuration"], 60,
        "it ends while offline too"
    );
    assert_eq!(profile["invalidAfterOfflineDuration"], true);
    assert_eq!(profile["chargingSchedule"][0]["duration"], 60);
    profile["chargingSchedule"][0]["chargingSchedulePeriod"][0].clone()
}

async fn two_way(bench: &Bench) -> Client {
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    station.agree2(1).await;
    station
}

#[tokio::test]
async fn each_mode_leaves_with_its_own_fields_and_no_others() {
    let bench = bench().await;
    let mut station = two_way(&bench).await;
    let droop = curve(&[(49_800, -8_000), (50_000, 0), (50_200, 8_000)]);
    let signal = curve(&[(-100, -5_000), (100, 5_000)]);
    let discharge = Power::from_watts(4_000);
    let cases = [
        (
            Mode::ChargingOnly,
            3_000,
            json!({"operationMode": "ChargingOnly", "limit": 3_000.0}),
        ),
        (Mode::Idle, 0, json!({"operationMode": "Idle"})),
        (
            Mode::LocalFrequency(droop),
            1_000,
            json!({"operationMode": "LocalFrequency", "v2xBaseline": 1_000, "v2xFreqWattCurve": [
                {"frequency": 49.8, "power": -8_000}, {"frequency": 50.0, "power": 0}, {"frequency": 50.2, "power": 8_000}]}),
        ),
        (
            Mode::CentralFrequency(signal),
            -500,
            json!({"operationMode": "CentralFrequency", "v2xBaseline": -500, "v2xSignalWattCurve": [
                {"signal": -100, "power": -5_000}, {"signal": 100, "power": 5_000}]}),
        ),
        (
            Mode::LocalLoadBalancing { discharge },
            7_000,
            json!({"operationMode": "LocalLoadBalancing", "limit": 7_000.0, "dischargeLimit": -4_000}),
        ),
        (
            Mode::CentralSetpoint,
            -2_000,
            json!({"operationMode": "CentralSetpoint", "setpoint": -2_000}),
        ),
    ];
    for (number, (mode, watts, mut wanted)) in cases.into_iter().enumerate() {
        wanted["startPeriod"] = json!(0);
        let id = format!("mode-{number}");
        let setpoint = setpoint(&bench, &id, "both-ways/1", watts, mode);
        let period = installed(&bench, &mut station, &setpoint).await;
        assert!(same(&period, &wanted), "{period} is not {wanted}");
    }
    bench.finish().await;
}

/// Equal JSON, where 3000 and 3000.0 are the same number.
fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(l), Value::Number(r)) => {
            (l.as_f64().unwrap() - r.as_f64().unwrap()).abs() < 1e-9
        }
        (Value::Array(l), Value::Array(r)) => {
            l.len() == r.len() && l.iter().zip(r).all(|(l, r)| same(l, r))
        }
        (Value::Object(l), Value::Object(r)) => {
            l.len() == r.len() && l.iter().all(|(k, v)| r.get(k).is_some_and(|r| same(v, r)))
        }
        _ => left == right,
    }
}

#[tokio::test]
async fn a_signal_goes_to_the_curve_or_where_there_is_none_as_the_power_it_comes_to() {
    let bench = bench().await;
    let mut station = two_way(&bench).await;
    let signal =
        |id: &str, value, watts| setpoint(&bench, id, "both-ways/1", watts, Mode::Signal(value));
    bench.command(&signal("bare", -40, -2_000)).await;
    let (id, action, payload) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    let period = &payload["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0];
    assert_eq!(period["setpoint"].as_f64(), Some(-2_000.0));
    station.answer(&id, json!({"status": "Accepted"})).await;
    bench.acknowledged("bare").await;

    let central = Mode::CentralFrequency(curve(&[(-100, -5_000), (100, 5_000)]));
    let armed = setpoint(&bench, "armed", "both-ways/1", 0, central);
    installed(&bench, &mut station, &armed).await;
    bench.command(&signal("first", -40, -2_000)).await;
    let (id, action, payload) = station.called().await;
    assert_eq!(
        (action.as_str(), &payload["signal"]),
        ("AFRRSignal", &json!(-40))
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(bench.acknowledged("first").await.outcome, Outcome::Accepted);

    // A station that lost its curve is told the power instead.
    bench.command(&signal("second", 20, 1_000)).await;
    let (id, action, _) = station.called().await;
    assert_eq!(action, "AFRRSignal");
    station.answer(&id, json!({"status": "Rejected"})).await;
    let (id, action, _) = station.called().await;
    assert_eq!(action, "SetChargingProfile");
    station.answer(&id, json!({"status": "Accepted"})).await;
    assert_eq!(
        bench.acknowledged("second").await.outcome,
        Outcome::Accepted
    );
    bench.finish().await;
}

#[tokio::test]
async fn limits_are_renewed_by_one_number_and_pulled_from_the_same_place() {
    let bench = bench().await;
    let mut station = two_way(&bench).await;
    let limit = |id: &str, watts| setpoint(&bench, id, "both-ways/1", watts, Mode::ChargingOnly);
    installed(&bench, &mut station, &limit("a", 3_000)).await;
    bench.command(&limit("b", 0)).await;
    let (id, action, payload) = station.called().await;
    assert_eq!(action, "UpdateDynamicSchedule");
    let update = &payload["scheduleUpdate"];
    assert!(
        same(update, &json!({"limit": 0})),
        "a zero limit stays one: {update}"
    );
    station.answer(&id, json!({"status": "Accepted"})).await;
    bench.acknowledged("b").await;
    let pull = json!({"chargingProfileId": 1});
    let pulled = station.call("PullDynamicScheduleUpdate", pull).await;
    assert!(same(&pulled["scheduleUpdate"], &json!({"limit": 0})));
    bench.finish().await;
}

#[tokio::test]
async fn modes_that_a_version_cannot_say_are_refused_by_name() {
    let bench = bench().await;
    let mut old = bench.connect("one-way", "ocpp1.6").await;
    old.start16(bench.clock.now()).await;
    let mut newer = bench.connect("limited", "ocpp2.0.1").await;
    newer.event2("Started", "tx-1", bench.clock.now()).await;
    for (evse, version) in [("one-way/1", "1.6"), ("limited/1", "2.0.1")] {
        let droop = Mode::LocalFrequency(curve(&[(49_800, -8_000)]));
        let id = format!("droop-{version}");
        bench
            .command(&setpoint(&bench, &id, evse, 9_000, droop))
            .await;
        let ack = bench.acknowledged(&id).await;
        assert_eq!(ack.outcome, Outcome::Rejected);
        let why = format!("LocalFrequency is a mode that OCPP {version} cannot say");
        assert_eq!(ack.detail, why);
    }
    // Idle is a limit of zero there.
    let idle = setpoint(&bench, "idle", "limited/1", 0, Mode::Idle);
    bench.command(&idle).await;
    let (_, _, payload) = newer.called().await;
    let period = &payload["chargingProfile"]["chargingSchedule"][0]["chargingSchedulePeriod"][0];
    assert_eq!(period["limit"].as_f64(), Some(0.0));
    bench.finish().await;
}

async fn needs(bench: &Bench, count: usize) -> Needs {
    bench
        .until(|told| {
            let mut needs = told.iter().filter_map(|t| match t {
                Telemetry::Needs { needs, .. } => Some(needs.clone()),
                _ => None,
            });
            needs.nth(count - 1)
        })
        .await
}

#[tokio::test]
async fn a_driver_in_a_hurry_and_a_limit_from_elsewhere_change_the_needs_at_once() {
    let bench = bench().await;
    let mut station = two_way(&bench).await;
    let before = needs(&bench, 1).await;
    assert!(before.max_discharge > Power::ZERO);
    let hurry = |activated: bool| json!({"transactionId": "tx-1", "activated": activated});
    station.call("NotifyPriorityCharging", hurry(true)).await;
    let hurried = needs(&bench, 2).await;
    assert!(
        hurried.departure.unwrap() <= bench.clock.now(),
        "no slack is left"
    );
    assert_eq!(hurried.max_discharge, Power::ZERO);
    let refused = setpoint(&bench, "late", "both-ways/1", -1_000, Mode::CentralSetpoint);
    bench.command(&refused).await;
    let ack = bench.acknowledged("late").await;
    assert_eq!(ack.outcome, Outcome::Rejected, "{}", ack.detail);
    station.call("NotifyPriorityCharging", hurry(false)).await;
    assert_eq!(needs(&bench, 3).await, before);

    let limit = |unit: &str, limits: [i32; 2]| {
        let periods = [(0, limits[0]), (900, limits[1])]
            .map(|(start, limit)| json!({"startPeriod": start, "limit": limit}));
        json!({"evseId": 1, "chargingLimit": {"chargingLimitSource": "SO", "isGridCritical": true}, "chargingSchedule": [
            {"id": 1, "chargingRateUnit": unit, "chargingSchedulePeriod": periods}]})
    };
    station
        .call("NotifyChargingLimit", limit("W", [4_200, 6_000]))
        .await;
    let dimmed = needs(&bench, 4).await;
    assert_eq!(
        dimmed.max_charge,
        Power::from_watts(4_200),
        "the lowest of its periods"
    );
    let cleared = json!({"chargingLimitSource": "SO", "evseId": 1});
    station.call("ClearedChargingLimit", cleared).await;
    assert_eq!(needs(&bench, 5).await, before);
    station
        .call("NotifyChargingLimit", limit("A", [16, 6]))
        .await;
    let dimmed = needs(&bench, 6).await;
    assert_eq!(
        dimmed.max_charge,
        Power::from_watts(6 * 3 * 230),
        "three phases of 230 V, as nobody says otherwise"
    );
    let broken = limit("A", [16, -6]);
    station.call("NotifyChargingLimit", broken).await;
    let kept = bench.quarantined().await;
    assert!(
        kept.iter().any(|q| q.reason.contains("-6 is negative")),
        "{kept:?}"
    );
    bench.finish().await;
}

#[tokio::test]
async fn discharge_is_refused_until_the_vehicle_agreed_and_beyond_the_outlet() {
    let bench = bench().await;
    let mut station = bench.connect("both-ways", "ocpp2.1").await;
    station.event2("Started", "tx-1", bench.clock.now()).await;
    let droop = || Mode::LocalFrequency(curve(&[(49_800, -8_000), (50_000, 0)]));
    for (id, watts, mode) in [("a", -1, Mode::CentralSetpoint), ("b", 500, droop())] {
        bench
            .command(&setpoint(&bench, id, "both-ways/1", watts, mode))
            .await;
        let ack = bench.acknowledged(id).await;
        assert_eq!(ack.outcome, Outcome::Rejected);
        assert!(
            ack.detail.contains("has not agreed to discharge"),
            "{}",
            ack.detail
        );
    }
    station.agree2(1).await;
    let beyond = setpoint(&bench, "c", "both-ways/1", -30_000, Mode::CentralSetpoint);
    bench.command(&beyond).await;
    let ack = bench.acknowledged("c").await;
    assert!(ack.detail.contains("more than"), "{}", ack.detail);
    let period = setpoint(&bench, "d", "both-ways/1", -9_000, Mode::CentralSetpoint);
    installed(&bench, &mut station, &period).await;
    bench.finish().await;
}
