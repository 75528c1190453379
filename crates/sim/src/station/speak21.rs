//! What a bidirectional station says and takes in OCPP 2.1.

use ::fleet::{Curve, CurvePoint, Needs};
use chrono::{DateTime, TimeDelta, Utc};
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::engine::IncomingRequest;
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::Ctx;
use ocpp_kit::types::Decimal;
use ocpp_kit::v2_1::{
    AFRRSignalResponse, Action, ChargingNeeds, ChargingProfile, ChargingProfileKind,
    ChargingRateUnit, ChargingSchedulePeriod, ControlMode, CsmsRequest, DCChargingParameters,
    EnergyTransferMode, GenericStatus, NotifyEVChargingNeedsRequest, OperationMode,
    UpdateDynamicScheduleRequest, UpdateDynamicScheduleResponse, V2XChargingParameters,
};
use units::{Energy, Power};

use super::run::{Dynamic, Mouth, Operation, Station, ocpp_time, watts};
use super::speak2::{self, PLACE, share_of, status_of, watt_hours};

/// Voltage of the direct-current side; only the power counts.
const VOLTS: i64 = 800;

/// What the vehicle told its charger, relative to the present state of its battery.
pub(super) async fn needs(mouth: &Mouth<'_>, needs: &Needs, at: DateTime<Utc>) {
    let (Some(stored), Some(capacity)) = (needs.stored, needs.capacity) else {
        return;
    };
    let mut dc = DCChargingParameters::new(
        Decimal::from_i64(needs.max_charge.watts() / VOLTS),
        Decimal::from_i64(VOLTS),
    );
    dc.ev_max_power = Some(Decimal::from_i64(needs.max_charge.watts()));
    dc.ev_energy_capacity = Some(watt_hours(capacity));
    dc.state_of_charge = Some(per_cent(stored, capacity));
    let mut v2x = V2XChargingParameters::new();
    v2x.max_charge_power = Some(Decimal::from_i64(needs.max_charge.watts()));
    v2x.max_discharge_power = Some(Decimal::from_i64(needs.max_discharge.watts()));
    v2x.ev_target_energy_request = Some(watt_hours(needs.energy));
    v2x.ev_min_energy_request = Some(watt_hours((needs.floor - stored).max(Energy::ZERO)));
    v2x.ev_max_energy_request = Some(watt_hours(capacity - stored));
    v2x.ev_min_v2_x_energy_request = Some(watt_hours(needs.floor - stored));
    v2x.ev_max_v2_x_energy_request = Some(watt_hours(capacity - stored));
    let mode = if needs.max_discharge > Power::ZERO {
        EnergyTransferMode::DCBPT
    } else {
        EnergyTransferMode::DC
    };
    let mut asked = ChargingNeeds::new(mode);
    asked.control_mode = Some(ControlMode::DynamicControl);
    asked.departure_time = needs.departure.map(ocpp_time);
    asked.dc_charging_parameters = Some(dc);
    asked.v2x_charging_parameters = Some(v2x);
    let mut request = NotifyEVChargingNeedsRequest::new(PLACE, asked);
    request.timestamp = Some(ocpp_time(at));
    mouth.call(request).await;
}

fn per_cent(stored: Energy, capacity: Energy) -> i32 {
    i32::try_from(share_of(stored, capacity, 100)).unwrap_or(100)
}

/// Takes a request of the other side.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "OCPP has dozens of actions; the others are those that 2.0.1 has too"
)]
pub(super) fn obey(
    station: &Station,
    ctx: &Ctx,
    request: &IncomingRequest,
    options: &DecodeOptions,
) -> Result<Box<RawValue>, CallError> {
    let action = Action::from_wire(&request.action)
        .ok_or_else(|| CallError::not_implemented(&request.action))?;
    match CsmsRequest::decode(action, &request.payload, options)? {
        CsmsRequest::UpdateDynamicSchedule(update) => {
            let taken = status_of(renew(station, &update));
            ctx.reply(&UpdateDynamicScheduleResponse::new(taken))
        }
        CsmsRequest::AFRRSignal(asked) => {
            let status = if signal(station, asked.signal) {
                GenericStatus::Accepted
            } else {
                GenericStatus::Rejected
            };
            ctx.reply(&AFRRSignalResponse::new(status))
        }
        CsmsRequest::SetVariableMonitoring(asked) if station.options.streams => {
            let answer = station.lock().monitors.set(asked);
            station.wake();
            ctx.reply(&answer)
        }
        CsmsRequest::ClearVariableMonitoring(asked) if station.options.streams => {
            let answer = station.lock().monitors.clear(&asked);
            station.wake();
            ctx.reply(&answer)
        }
        other => speak2::obey(station, ctx, other, install),
    }
}

/// A dynamic profile of one period for the transaction in progress.
fn install(station: &Station, profile: &ChargingProfile) -> bool {
    let [schedule] = profile.charging_schedule.as_slice() else {
        return false;
    };
    let [period] = schedule.charging_schedule_period.as_slice() else {
        return false;
    };
    let (mut state, now) = station.look();
    if profile.charging_profile_kind != ChargingProfileKind::Dynamic
        || schedule.charging_rate_unit != ChargingRateUnit::W
        || profile.transaction_id != state.transaction
    {
        return false;
    }
    let Some((operation, power)) = operation(station, period, now) else {
        return false;
    };
    let life = schedule.duration.map(|d| TimeDelta::seconds(d.into()));
    let until = life.map(|life| now + life);
    state.dynamic = Some(Dynamic {
        id: profile.id,
        life,
        operation,
        until,
    });
    station.obey(&mut state, now, power, until)
}

/// The operation of a period and the power it begins with; `None` for a mode that this station does not have, or one
/// without the fields that it needs.
fn operation(
    station: &Station,
    period: &ChargingSchedulePeriod,
    now: DateTime<Utc>,
) -> Option<(Operation, Power)> {
    let baseline = period.v2x_baseline.map_or(Some(Power::ZERO), watts);
    let limit = || period.limit.and_then(watts).filter(|p| !p.is_export());
    match &period.operation_mode {
        Some(OperationMode::CentralSetpoint) => {
            Some((Operation::Setpoint, period.setpoint.and_then(watts)?))
        }
        // Nobody else is behind the fuse of a simulated site: what may be charged is charged.
        None | Some(OperationMode::ChargingOnly | OperationMode::LocalLoadBalancing) => {
            Some((Operation::Limit, limit()?))
        }
        Some(OperationMode::Idle) => Some((Operation::Idle, Power::ZERO)),
        Some(OperationMode::CentralFrequency) => {
            let points = period.v2x_signal_watt_curve.iter().flatten();
            let curve = curve(points.map(|p| Some((p.signal, watts(p.power)?))))?;
            let (baseline, at_rest) = (baseline?, curve.power(0));
            Some((Operation::Signal(baseline, curve), baseline + at_rest))
        }
        Some(OperationMode::LocalFrequency) => {
            let meter = station.options.frequency.as_ref()?;
            let points = period.v2x_freq_watt_curve.iter().flatten();
            let curve = curve(points.map(|p| {
                let millihertz = p.frequency.checked_pow10(3)?.round_to(0)?;
                Some((
                    i32::try_from(i64::try_from(millihertz).ok()?).ok()?,
                    watts(p.power)?,
                ))
            }))?;
            let (baseline, power) = (baseline?, curve.power((meter.0)(now)));
            Some((Operation::Frequency(baseline, curve), baseline + power))
        }
        Some(_) => None,
    }
}

fn curve(points: impl Iterator<Item = Option<(i32, Power)>>) -> Option<Curve> {
    let points: Option<Vec<CurvePoint>> = points
        .map(|point| point.map(|(at, power)| CurvePoint { at, power }))
        .collect();
    points?.try_into().ok()
}

/// A new value for the installed profile; its life begins again.
fn renew(station: &Station, update: &UpdateDynamicScheduleRequest) -> bool {
    let (mut state, now) = station.look();
    let Some(dynamic) = &mut state.dynamic else {
        return false;
    };
    if dynamic.id != update.charging_profile_id {
        return false;
    }
    let told = match dynamic.operation {
        Operation::Setpoint => update.schedule_update.setpoint,
        Operation::Limit => update.schedule_update.limit,
        Operation::Idle | Operation::Signal(..) | Operation::Frequency(..) => None,
    };
    let Some(power) = told.and_then(watts) else {
        return false;
    };
    dynamic.until = dynamic.life.map(|life| now + life);
    let until = dynamic.until;
    station.obey(&mut state, now, power, until)
}

/// A balancing signal, where a curve translates it; the profile's life goes on.
fn signal(station: &Station, value: i32) -> bool {
    let (mut state, now) = station.look();
    let Some(dynamic) = &state.dynamic else {
        return false;
    };
    let Operation::Signal(baseline, curve) = &dynamic.operation else {
        return false;
    };
    let (power, until) = (*baseline + curve.power(value), dynamic.until);
    until.is_none_or(|until| now < until) && station.obey(&mut state, now, power, until)
}
