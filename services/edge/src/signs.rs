//! Signs over every border, version and mode: what goes out as a discharge is one, what comes in as a discharge is one, and
//! a zero limit is neither.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use fleet::{Curve, CurvePoint, Mode, Protocol, Setpoint, Telemetry};
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::types::Decimal;
use ocpp_kit::{RawValue, Version, v1_6};
use proptest::prelude::*;
use serde_json::{Value, json};
use units::{Energy, Power};
use wire::proto::telemetry::v1 as proto;

use crate::answer::Desk;
use crate::capability::Capabilities;
use crate::config::SupplyConfig;
use crate::orders::{Call, Effect, Target};
use crate::station::tests::station;
use crate::station::{Outlets, Said};
use crate::supply::{Rate, Supply};
use crate::tokens::Tokens;
use crate::{v2, v16, v21, v201};

const VERSIONS: [Version; 3] = [Version::V1_6, Version::V2_0_1, Version::V2_1];

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn power() -> impl Strategy<Value = Power> {
    prop_oneof![Just(0), -400_000_i64..400_000].prop_map(Power::from_watts)
}

fn curve() -> impl Strategy<Value = Curve> {
    prop::collection::btree_map(-100_000_i32..100_000, power(), 1..=20).prop_map(|points| {
        let points = points.into_iter();
        let points: Vec<_> = points.map(|(at, power)| CurvePoint { at, power }).collect();
        points.try_into().unwrap()
    })
}

fn mode() -> impl Strategy<Value = Mode> {
    prop_oneof![
        Just(Mode::CentralSetpoint),
        Just(Mode::ChargingOnly),
        Just(Mode::Idle),
        curve().prop_map(Mode::LocalFrequency),
        curve().prop_map(Mode::CentralFrequency),
        any::<i32>().prop_map(Mode::Signal),
        power().prop_map(|p| Mode::LocalLoadBalancing { discharge: p.abs() }),
    ]
}

fn mode_name() -> impl Strategy<Value = String> {
    mode().prop_map(|mode| mode.name().to_owned())
}

fn setpoint(power: Power, mode: Mode) -> Setpoint {
    Setpoint {
        id: "sp".parse().unwrap(),
        evse: "S/1".parse().unwrap(),
        power,
        mode,
        issued_at: at(),
        expires_at: at() + TimeDelta::seconds(60),
        signal: None,
        reason: String::new(),
    }
}

/// Numbers of the fields of that name, wherever they are.
fn numbers(value: &Value, name: &str) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(|v| numbers(v, name)).collect(),
        Value::Object(fields) => {
            let here = fields.iter().filter(|(key, _)| *key == name);
            let here = here.filter_map(|(_, v)| v.as_f64());
            here.chain(fields.values().flat_map(|v| numbers(v, name)))
                .collect()
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => vec![],
    }
}

/// The lowest power that a message allows, as its fields say by the standard.
fn lowest(message: &Value) -> f64 {
    let all = |name| numbers(message, name);
    let baseline = all("v2xBaseline").first().copied().unwrap_or(0.0);
    let curve = all("power").into_iter().map(|p| p + baseline);
    let told = all("setpoint").into_iter().chain(all("dischargeLimit"));
    // Without any of these a station only charges.
    let told: Vec<f64> = told.chain(curve).collect();
    told.into_iter().reduce(f64::min).unwrap_or(0.0)
}

/// Any supply with alternating current, from a low single phase to three high ones.
fn supply() -> impl Strategy<Value = Supply> {
    (1_u8..=3, 800_u32..=3_000)
        .prop_map(|(phases, decivolts)| Supply::try_new(phases, decivolts).unwrap())
}

fn target(version: Version) -> Target<'static> {
    Target::new(version, 1, "7", None)
}

/// What a station is told after it took `before`, as a message; `None` if it cannot be said.
fn told_next(before: &Setpoint, asked: &Setpoint) -> Option<(Effect, Value)> {
    let target = target(Version::V2_1);
    let first = Call::saying(before, target, None, at()).ok()?;
    let Effect::Installs(held) = first.effect else {
        return None;
    };
    let call = Call::saying(asked, target, Some(&held), at()).ok()?;
    Some((
        call.effect,
        serde_json::from_str(call.payload.get()).unwrap(),
    ))
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}

/// Meter values of outlet 1 as a station of that version says them, in watts or in kilowatts with three decimals.
fn sampled(version: Version, import: i64, export: i64, kilo: bool) -> Value {
    let text = |value: i64| {
        if kilo {
            format!("{}.{:03}", value / 1_000, value % 1_000)
        } else {
            value.to_string()
        }
    };
    let sample = |measurand: &str, value: i64, unit: &str| {
        let unit = if kilo {
            format!("k{unit}")
        } else {
            unit.to_owned()
        };
        if version == Version::V1_6 {
            json!({"measurand": measurand, "value": text(value), "unit": unit})
        } else {
            let number: Value = serde_json::from_str(&text(value)).unwrap();
            json!({"measurand": measurand, "value": number, "unitOfMeasure": {"unit": unit}})
        }
    };
    let values = json!([{"timestamp": "2026-06-09T12:00:00Z", "sampledValue": [
        sample("Power.Active.Import", import, "W"),
        sample("Power.Active.Export", export, "W"),
        sample("Energy.Active.Import.Register", import, "Wh"),
        sample("Energy.Active.Export.Register", export, "Wh"),
    ]}]);
    if version == Version::V1_6 {
        json!({"connectorId": 1, "meterValue": values})
    } else {
        json!({"evseId": 1, "meterValue": values})
    }
}

/// What a message of a station says.
fn said(version: Version, action: &str, message: &Value) -> Said {
    let mut outlets = Outlets::new(station(Protocol::Ocpp21, 1), &BTreeMap::new());
    let mut said = Said::default();
    let payload = raw(message);
    let (tokens, supply) = (Tokens::default(), SupplyConfig::default());
    let desk = Desk {
        now: at(),
        heartbeat_seconds: 300,
        tokens: &tokens,
        issuer: None,
        supply: &supply,
    };
    let answer = match version {
        Version::V1_6 => {
            let action = v1_6::Action::from_wire(action).unwrap();
            let options = DecodeOptions::strict();
            let request = v1_6::CsRequest::decode(action, &payload, &options).unwrap();
            v16::handle(&mut outlets, request, desk, &mut said)
        }
        Version::V2_0_1 => {
            let request = v201::decode(action, &payload).unwrap();
            v2::handle(&mut outlets, request, desk, &mut said)
        }
        Version::V2_1 => {
            let request = v21::decode(action, &payload).unwrap();
            v2::handle(&mut outlets, request, desk, &mut said)
        }
        other => panic!("OCPP {other} is not spoken here"),
    };
    answer.unwrap();
    said
}

proptest! {
    #[test]
    fn what_leaves_allows_exactly_the_discharge_that_was_asked_for(
        power in power(), mode in mode(), version in prop::sample::select(VERSIONS.to_vec()),
    ) {
        let asked = setpoint(power, mode);
        let call = Call::saying(&asked, target(version), None, at());
        let Ok(call) = call else {
            return Ok(());
        };
        let message: Value = serde_json::from_str(call.payload.get()).unwrap();
        let wanted = asked.mode.lowest(power).watts();
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let wanted = wanted as f64;
        if version == Version::V2_1 {
            prop_assert!((lowest(&message) - wanted).abs() < 1e-6, "{message} is not {wanted}");
        } else {
            // A set-point is said as a limit: never with a sign, and never where a discharge was asked for.
            prop_assert!(wanted >= 0.0, "{message}");
            prop_assert_eq!(numbers(&message, "limit").len(), 1);
        }
        prop_assert!(numbers(&message, "limit").iter().all(|limit| *limit >= 0.0), "{message}");
        prop_assert!(numbers(&message, "dischargeLimit").iter().all(|limit| *limit <= 0.0), "{message}");
    }

    #[test]
    fn an_update_of_a_profile_allows_exactly_the_discharge_that_was_asked_for(
        before in power(), power in power(), first in mode(), mode in mode(), same in any::<bool>(),
    ) {
        let mode = if same { first.clone() } else { mode };
        let asked = setpoint(power, mode);
        let Some((effect, message)) = told_next(&setpoint(before, first), &asked) else {
            return Ok(());
        };
        // A signal has no power of its own: the curve it moves was checked when it was installed.
        if effect == Effect::Signals {
            return Ok(());
        }
        #[expect(clippy::cast_precision_loss, reason = "far below 2^53")]
        let wanted = asked.mode.lowest(power).watts() as f64;
        prop_assert!((lowest(&message) - wanted).abs() < 1e-6, "{message} is not {wanted}");
    }

    #[test]
    fn a_set_point_fitted_to_a_station_keeps_its_sign(
        power in power(), mode in mode(), discharge in any::<bool>(), modes in prop::collection::vec(mode_name(), 0..3),
    ) {
        let known = Capabilities {
            discharge: Some(discharge),
            modes: Some(modes),
            ..Capabilities::default()
        };
        let asked = setpoint(power, mode);
        let fitted = known.fitted(asked.clone());
        prop_assert_eq!(fitted.power, asked.power);
        let (fitted_to, wanted) = (fitted.mode.lowest(power), asked.mode.lowest(power));
        prop_assert_eq!(fitted_to.is_export(), wanted.is_export());
        if known.permit(&fitted).is_ok() {
            prop_assert!(discharge || !fitted_to.is_export());
        }
    }

    #[test]
    fn versions_without_discharge_refuse_every_set_point_that_could_lead_to_one(
        power in power(), mode in mode(), newer in any::<bool>(),
    ) {
        let version = if newer { Version::V2_0_1 } else { Version::V1_6 };
        let asked = setpoint(power, mode);
        if asked.mode.lowest(power).is_export() {
            prop_assert!(Call::saying(&asked, target(version), None, at()).is_err());
        }
    }

    #[test]
    fn a_limit_in_amperes_is_at_most_what_was_asked_for_and_never_a_discharge(
        power in power(), mode in mode(), newer in any::<bool>(), supply in supply(),
    ) {
        let version = if newer { Version::V2_0_1 } else { Version::V1_6 };
        let target = target(version).rated(Rate::Amperes(supply));
        let asked = setpoint(power, mode);
        let call = Call::saying(&asked, target, None, at());
        if asked.mode.lowest(power).is_export() {
            prop_assert!(call.is_err());
            return Ok(());
        }
        let Ok(call) = call else {
            return Ok(());
        };
        let message: Value = serde_json::from_str(call.payload.get()).unwrap();
        prop_assert!(call.payload.get().contains("\"chargingRateUnit\":\"A\""), "{message}");
        prop_assert_eq!(numbers(&message, "numberPhases"), [f64::from(supply.phases())]);
        let limits = numbers(&message, "limit");
        let [limit] = limits.as_slice() else {
            return Err(TestCaseError::fail(format!("{message}")));
        };
        let deciamperes = limit * 10.0;
        prop_assert!((deciamperes - deciamperes.round()).abs() < 1e-6, "one decimal: {message}");
        #[expect(clippy::cast_possible_truncation, reason = "a few thousand")]
        let deciamperes = deciamperes.round() as i64;
        let step = supply.centiwatts_per_deciampere();
        let (told, wanted) = (deciamperes * step, power.watts() * 100);
        prop_assert!((0..=wanted).contains(&told), "{told} of {wanted} centiwatts: {message}");
        prop_assert!(wanted - told < step, "a step lower than it could be: {message}");
    }

    #[test]
    fn a_limit_of_others_in_amperes_lets_no_more_through_than_its_power(
        deciamperes in 0_i64..5_000, supply in supply(), out in any::<bool>(),
    ) {
        let sign = if out { -1 } else { 1 };
        let power = crate::sign::power_of_current(Decimal::new(sign * deciamperes, 1), supply);
        if out && deciamperes > 0 {
            prop_assert!(power.is_err(), "a current has no direction");
            return Ok(());
        }
        let exact = deciamperes * supply.centiwatts_per_deciampere();
        let power = power.unwrap().watts() * 100;
        prop_assert!((0..=exact).contains(&power) && exact - power < 100, "{power} of {exact}");
    }

    #[test]
    fn a_zero_limit_is_never_a_discharge(version in prop::sample::select(VERSIONS.to_vec()), limit in any::<bool>()) {
        let mode = if limit { Mode::ChargingOnly } else { Mode::Idle };
        let call = Call::saying(&setpoint(Power::ZERO, mode), target(version), None, at()).unwrap();
        let message: Value = serde_json::from_str(call.payload.get()).unwrap();
        prop_assert!(lowest(&message).abs() < 1e-9, "{message}");
        prop_assert!(numbers(&message, "limit").iter().all(|limit| limit.abs() < 1e-9));
    }

    #[test]
    fn what_a_meter_says_arrives_with_its_sign(
        import in 0_i64..400_000, export in 0_i64..400_000, kilo in any::<bool>(),
        version in prop::sample::select(VERSIONS.to_vec()),
    ) {
        let told = said(version, "MeterValues", &sampled(version, import, export, kilo));
        let [Telemetry::Reading(reading)] = told.events.as_slice() else {
            return Err(TestCaseError::fail(format!("{told:?}")));
        };
        let logged = wire::encode(&proto::Telemetry::from(&told.events[0]));
        let logged = wire::decode::<proto::Telemetry>(&logged).unwrap();
        prop_assert_eq!(&Telemetry::try_from(logged).unwrap(), &told.events[0]);
        prop_assert_eq!(reading.power, Some(Power::from_watts(import - export)));
        prop_assert_eq!(reading.import_register, Some(Energy::from_wh(import)));
        prop_assert_eq!(reading.export_register, Some(Energy::from_wh(export)));
    }
}
