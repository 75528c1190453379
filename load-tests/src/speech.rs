//! What load-test stations say and take, in each version. 2.0.1 is spoken in the types of 2.1, which says the same in the
//! same words.

use chrono::{DateTime, TimeDelta, Utc};
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::rpc::CallError;
use ocpp_kit::types::{DateTime as OcppTime, Decimal};
use ocpp_kit::{RawValue, Version, v1_6, v2_1};
use serde::Serialize;
use units::Power;

use crate::life::{Event, Kind, span};
use crate::outlet::{Dynamic, Number, Order, Outlet};

/// Number of the only outlet.
const PLACE: i32 = 1;
/// The battery that vehicles speak of, in watt-hours.
const CAPACITY_WH: i64 = 100_000;
/// How full it is said to be, in percent.
const LEVEL: i32 = 50;
/// Voltage of the direct-current side; only the power counts.
const VOLTS: i64 = 800;
/// What a vehicle gives at most.
const MOST: i64 = 11_000;

/// A call ready for its frame.
pub(crate) type Call = (&'static str, Box<RawValue>);

fn call(action: &'static str, request: &impl Serialize) -> Option<Call> {
    let payload = serde_json::value::to_raw_value(request).ok()?;
    Some((action, payload))
}

/// The first thing said on every connection.
pub(crate) fn boot(version: Version) -> Option<Call> {
    if version == Version::V1_6 {
        let boot = v1_6::BootNotificationRequest::new("Shoal", "Load 1.6");
        return call("BootNotification", &boot);
    }
    let station = v2_1::ChargingStation::new("Load 2", "Shoal");
    let boot = v2_1::BootNotificationRequest::new(station, v2_1::BootReason::PowerUp);
    call("BootNotification", &boot)
}

/// The state of the outlet.
pub(crate) fn status(version: Version, plugged: bool, at: DateTime<Utc>) -> Option<Call> {
    if version == Version::V1_6 {
        let status = if plugged {
            v1_6::ChargePointStatus::Charging
        } else {
            v1_6::ChargePointStatus::Available
        };
        let error = v1_6::ChargePointErrorCode::NoError;
        let request = v1_6::StatusNotificationRequest::new(PLACE, error, status);
        return call("StatusNotification", &request);
    }
    let status = if plugged {
        v2_1::ConnectorStatus::Occupied
    } else {
        v2_1::ConnectorStatus::Available
    };
    let request = v2_1::StatusNotificationRequest::new(ocpp_time(at), status, PLACE, PLACE);
    call("StatusNotification", &request)
}

pub(crate) fn heartbeat(version: Version) -> Option<Call> {
    if version == Version::V1_6 {
        call("Heartbeat", &v1_6::HeartbeatRequest::new())
    } else {
        call("Heartbeat", &v2_1::HeartbeatRequest::new())
    }
}

/// Name that a 2.0.1 or 2.1 station gives to a stay.
pub(crate) fn transaction(event: &Event) -> String {
    format!("{}-{}", event.since.timestamp(), event.stay)
}

/// An event in words. `number` is the transaction as the other side numbered it, for 1.6.
pub(crate) fn tell(version: Version, event: &Event, number: Option<i32>) -> Option<Call> {
    if version == Version::V1_6 {
        tell16(event, number)
    } else {
        tell2(version, event)
    }
}

fn tell16(event: &Event, number: Option<i32>) -> Option<Call> {
    let (meter, at) = (event.meter, ocpp_time(event.meter.at));
    let register = meter.import_joules / 3_600;
    let whole = i32::try_from(register).unwrap_or(i32::MAX);
    match event.kind {
        // Not a word of 1.6.
        Kind::Needs => None,
        Kind::PluggedIn => {
            let start = v1_6::StartTransactionRequest::new(PLACE, "load", whole, at);
            call("StartTransaction", &start)
        }
        Kind::Left => {
            let mut stop = v1_6::StopTransactionRequest::new(whole, at, number?);
            stop.reason = Some(v1_6::Reason::EVDisconnected);
            call("StopTransaction", &stop)
        }
        Kind::Values => {
            let sample = |value: i64, measurand, unit| {
                let mut sample = v1_6::SampledValue::new(value.to_string());
                sample.measurand = Some(measurand);
                sample.unit = Some(unit);
                sample
            };
            let samples = vec![
                sample(
                    meter.power.watts().max(0),
                    v1_6::Measurand::PowerActiveImport,
                    v1_6::UnitOfMeasure::W,
                ),
                sample(
                    register,
                    v1_6::Measurand::EnergyActiveImportRegister,
                    v1_6::UnitOfMeasure::Wh,
                ),
            ];
            let values = vec![v1_6::MeterValue::new(at, samples)];
            let mut request = v1_6::MeterValuesRequest::new(PLACE, values);
            request.transaction_id = Some(number?);
            call("MeterValues", &request)
        }
    }
}

fn tell2(version: Version, event: &Event) -> Option<Call> {
    use v2_1::{TransactionEventEnum as Place, TriggerReason as Trigger};
    let (place, trigger) = match event.kind {
        Kind::Needs if version == Version::V2_1 => {
            return call("NotifyEVChargingNeeds", &needs(event));
        }
        Kind::Needs => return None,
        Kind::PluggedIn => (Place::Started, Trigger::CablePluggedIn),
        Kind::Values => (Place::Updated, Trigger::MeterValuePeriodic),
        Kind::Left => (Place::Ended, Trigger::EVDeparted),
    };
    let mut info = v2_1::Transaction::new(transaction(event));
    info.charging_state = Some(v2_1::ChargingState::Charging);
    let at = ocpp_time(event.meter.at);
    let mut request = v2_1::TransactionEventRequest::new(place, at, trigger, event.sequence, info);
    request.evse = Some(v2_1::EVSE::new(PLACE));
    if event.kind == Kind::PluggedIn {
        request.id_token = Some(v2_1::IdToken::new("load", "Central"));
    }
    request.meter_value = Some(vec![values2(event)]);
    call("TransactionEvent", &request)
}

fn values2(event: &Event) -> v2_1::MeterValue {
    let meter = event.meter;
    let sample = |value: Decimal, measurand, unit: &str| {
        let mut of = v2_1::UnitOfMeasure::new();
        of.unit = Some(unit.to_owned());
        let mut sample = v2_1::SampledValue::new(value);
        sample.measurand = Some(measurand);
        sample.unit_of_measure = Some(of);
        sample
    };
    let watts = |power: Power| Decimal::from_i64(power.watts().max(0));
    let watt_hours = |joules: i64| Decimal::new(joules * 10 / 36, 2);
    let samples = vec![
        sample(watts(meter.power), v2_1::Measurand::PowerActiveImport, "W"),
        sample(watts(-meter.power), v2_1::Measurand::PowerActiveExport, "W"),
        sample(
            watt_hours(meter.import_joules),
            v2_1::Measurand::EnergyActiveImportRegister,
            "Wh",
        ),
        sample(
            watt_hours(meter.export_joules),
            v2_1::Measurand::EnergyActiveExportRegister,
            "Wh",
        ),
    ];
    v2_1::MeterValue::new(samples, ocpp_time(meter.at))
}

/// A half full battery that may go down to a fifth and up to the top.
fn needs(event: &Event) -> v2_1::NotifyEVChargingNeedsRequest {
    let watt_hours = |percent: i64| Decimal::from_i64(CAPACITY_WH * percent / 100);
    let mut dc =
        v2_1::DCChargingParameters::new(Decimal::from_i64(MOST / VOLTS), Decimal::from_i64(VOLTS));
    dc.ev_max_power = Some(Decimal::from_i64(MOST));
    dc.ev_energy_capacity = Some(Decimal::from_i64(CAPACITY_WH));
    dc.state_of_charge = Some(LEVEL);
    let mut v2x = v2_1::V2XChargingParameters::new();
    v2x.max_charge_power = Some(Decimal::from_i64(MOST));
    v2x.max_discharge_power = Some(Decimal::from_i64(MOST));
    v2x.ev_target_energy_request = Some(watt_hours(30));
    v2x.ev_min_energy_request = Some(watt_hours(0));
    v2x.ev_max_energy_request = Some(watt_hours(50));
    v2x.ev_min_v2_x_energy_request = Some(watt_hours(-30));
    v2x.ev_max_v2_x_energy_request = Some(watt_hours(50));
    let mut asked = v2_1::ChargingNeeds::new(v2_1::EnergyTransferMode::DCBPT);
    asked.control_mode = Some(v2_1::ControlMode::DynamicControl);
    asked.departure_time = Some(ocpp_time(event.since + TimeDelta::hours(12)));
    asked.dc_charging_parameters = Some(dc);
    asked.v2x_charging_parameters = Some(v2x);
    let mut request = v2_1::NotifyEVChargingNeedsRequest::new(PLACE, asked);
    request.timestamp = Some(ocpp_time(event.meter.at));
    request
}

/// The number that the answer to a 1.6 start gives.
pub(crate) fn named(payload: &RawValue) -> Option<i32> {
    let answer: v1_6::StartTransactionResponse = serde_json::from_str(payload.get()).ok()?;
    Some(answer.transaction_id)
}

/// Takes a call: a profile, an update of one, or its end. Everything else is not supported.
///
/// # Errors
/// The error to answer with.
pub(crate) fn obey(
    version: Version,
    action: &str,
    payload: &RawValue,
    outlet: &mut Outlet,
    now: DateTime<Utc>,
    reaction: f64,
) -> Result<Box<RawValue>, CallError> {
    let from = now + span(reaction);
    if version == Version::V1_6 {
        obey16(action, payload, outlet, now, from)
    } else {
        obey2(action, payload, outlet, now, from)
    }
}

/// An answer as JSON; the empty object if it cannot be written.
fn reply(response: &impl Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(response).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others are refused by name"
)]
fn obey16(
    action: &str,
    payload: &RawValue,
    outlet: &mut Outlet,
    now: DateTime<Utc>,
    from: DateTime<Utc>,
) -> Result<Box<RawValue>, CallError> {
    let known =
        v1_6::Action::from_wire(action).ok_or_else(|| CallError::not_implemented(action))?;
    match v1_6::CsmsRequest::decode(known, payload, &DecodeOptions::strict())? {
        v1_6::CsmsRequest::SetChargingProfile(set) => {
            let profile = &set.cs_charging_profiles;
            let schedule = &profile.charging_schedule;
            let named = profile.transaction_id.map(|t| t.to_string());
            let ours = named.is_some() && (named == outlet.transaction || outlet.starting);
            let limit = match schedule.charging_schedule_period.as_slice() {
                [period] if ours && schedule.charging_rate_unit == v1_6::ChargingRateUnit::W => {
                    watts(period.limit)
                }
                _ => None,
            };
            let begins = schedule.start_schedule.and_then(our_time).unwrap_or(now);
            let taken = limit.is_some_and(|power| {
                let until = schedule
                    .duration
                    .map(|d| begins + TimeDelta::seconds(d.into()));
                outlet.order(now, Order { power, from, until })
            });
            let status = if taken {
                v1_6::ChargingProfileStatus::Accepted
            } else {
                v1_6::ChargingProfileStatus::Rejected
            };
            Ok(reply(&v1_6::SetChargingProfileResponse::new(status)))
        }
        v1_6::CsmsRequest::ClearChargingProfile(_) => {
            outlet.forget();
            let status = v1_6::ClearChargingProfileStatus::Accepted;
            Ok(reply(&v1_6::ClearChargingProfileResponse::new(status)))
        }
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others are refused by name"
)]
fn obey2(
    action: &str,
    payload: &RawValue,
    outlet: &mut Outlet,
    now: DateTime<Utc>,
    from: DateTime<Utc>,
) -> Result<Box<RawValue>, CallError> {
    let known =
        v2_1::Action::from_wire(action).ok_or_else(|| CallError::not_implemented(action))?;
    let status = |taken: bool| {
        if taken {
            v2_1::ChargingProfileStatus::Accepted
        } else {
            v2_1::ChargingProfileStatus::Rejected
        }
    };
    match v2_1::CsmsRequest::decode(known, payload, &DecodeOptions::strict())? {
        v2_1::CsmsRequest::SetChargingProfile(set) => {
            let taken = install(&set.charging_profile, outlet, now, from).is_some();
            Ok(reply(&v2_1::SetChargingProfileResponse::new(status(taken))))
        }
        v2_1::CsmsRequest::UpdateDynamicSchedule(update) => {
            let taken = renew(&update, outlet, now, from).is_some();
            let response = v2_1::UpdateDynamicScheduleResponse::new(status(taken));
            Ok(reply(&response))
        }
        v2_1::CsmsRequest::ClearChargingProfile(_) => {
            outlet.forget();
            let status = v2_1::ClearChargingProfileStatus::Accepted;
            Ok(reply(&v2_1::ClearChargingProfileResponse::new(status)))
        }
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

/// A profile of one period for the transaction in progress; `None` if it is none.
fn install(
    profile: &v2_1::ChargingProfile,
    outlet: &mut Outlet,
    now: DateTime<Utc>,
    from: DateTime<Utc>,
) -> Option<()> {
    let [schedule] = profile.charging_schedule.as_slice() else {
        return None;
    };
    let [period] = schedule.charging_schedule_period.as_slice() else {
        return None;
    };
    if profile.transaction_id != outlet.transaction
        || schedule.charging_rate_unit != v2_1::ChargingRateUnit::W
    {
        return None;
    }
    use v2_1::OperationMode as Mode;
    let (number, power) = match &period.operation_mode {
        Some(Mode::CentralSetpoint) => (Number::Setpoint, watts(period.setpoint?)?),
        None | Some(Mode::ChargingOnly | Mode::LocalLoadBalancing) => {
            (Number::Limit, watts(period.limit?)?)
        }
        Some(Mode::Idle) => (Number::None, Power::ZERO),
        // Without a frequency meter and without curves nothing else can be followed.
        Some(_) => return None,
    };
    let life = schedule.duration.map(|d| TimeDelta::seconds(d.into()));
    let dynamic = profile.charging_profile_kind == v2_1::ChargingProfileKind::Dynamic;
    let begins = schedule.start_schedule.and_then(our_time);
    let until = life.map(|life| begins.filter(|_| !dynamic).unwrap_or(now) + life);
    let taken = outlet.order(now, Order { power, from, until });
    outlet.dynamic = (taken && dynamic).then_some(Dynamic {
        id: profile.id,
        life,
        number,
    });
    taken.then_some(())
}

/// A new number for the installed profile; its life begins again.
fn renew(
    update: &v2_1::UpdateDynamicScheduleRequest,
    outlet: &mut Outlet,
    now: DateTime<Utc>,
    from: DateTime<Utc>,
) -> Option<()> {
    let dynamic = outlet
        .dynamic
        .filter(|d| d.id == update.charging_profile_id)?;
    let told = match dynamic.number {
        Number::Setpoint => update.schedule_update.setpoint,
        Number::Limit => update.schedule_update.limit,
        Number::None => None,
    };
    let power = watts(told?)?;
    let until = dynamic.life.map(|life| now + life);
    outlet
        .order(now, Order { power, from, until })
        .then_some(())
}

/// Our instant as OCPP writes it, to the microsecond.
fn ocpp_time(at: DateTime<Utc>) -> OcppTime {
    jiff::Timestamp::from_microsecond(at.timestamp_micros())
        .map_or(OcppTime::UNIX_EPOCH, OcppTime::from_timestamp)
}

fn our_time(at: OcppTime) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_micros(at.timestamp().as_microsecond())
}

fn watts(value: Decimal) -> Option<Power> {
    i64::try_from(value.round_to(0)?)
        .ok()
        .map(Power::from_watts)
}
