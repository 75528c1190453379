//! What a bidirectional station says and takes in OCPP 2.1.

use ::fleet::Needs;
use chrono::{DateTime, TimeDelta, Utc};
use ocpp_kit::RawValue;
use ocpp_kit::decode::DecodeOptions;
use ocpp_kit::engine::IncomingRequest;
use ocpp_kit::rpc::CallError;
use ocpp_kit::transport::Ctx;
use ocpp_kit::types::Decimal;
use ocpp_kit::v2_1::{
    Action, ChargingNeeds, ChargingProfile, ChargingProfileKind, ChargingProfileStatus,
    ChargingRateUnit, ClearChargingProfileResponse, ClearChargingProfileStatus, ControlMode,
    CsmsRequest, DCChargingParameters, EnergyTransferMode, NotifyEVChargingNeedsRequest,
    OperationMode, SetChargingProfileResponse, UpdateDynamicScheduleRequest,
    UpdateDynamicScheduleResponse, V2XChargingParameters,
};
use units::{Energy, Power};

use super::run::{Dynamic, Mouth, Station, ocpp_time, watts};
use super::speak2::{PLACE, share_of, watt_hours};

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
    reason = "OCPP has dozens of actions; the others are refused by name"
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
        CsmsRequest::SetChargingProfile(set) => {
            let taken = set.evse_id == PLACE && install(station, &set.charging_profile);
            ctx.reply(&SetChargingProfileResponse::new(status_of(taken)))
        }
        CsmsRequest::UpdateDynamicSchedule(update) => {
            let taken = renew(station, &update);
            ctx.reply(&UpdateDynamicScheduleResponse::new(status_of(taken)))
        }
        CsmsRequest::ClearChargingProfile(_) => {
            station.release();
            let status = ClearChargingProfileStatus::Accepted;
            ctx.reply(&ClearChargingProfileResponse::new(status))
        }
        other => Err(CallError::not_supported(other.action().as_str())),
    }
}

fn status_of(taken: bool) -> ChargingProfileStatus {
    if taken {
        ChargingProfileStatus::Accepted
    } else {
        ChargingProfileStatus::Rejected
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
    let charging_only = match &period.operation_mode {
        Some(OperationMode::CentralSetpoint) => false,
        None | Some(OperationMode::ChargingOnly) => true,
        Some(_) => return false,
    };
    let (mut state, now) = station.look();
    if profile.charging_profile_kind != ChargingProfileKind::Dynamic
        || schedule.charging_rate_unit != ChargingRateUnit::W
        || profile.transaction_id != state.transaction
    {
        return false;
    }
    let told = if charging_only {
        period.limit
    } else {
        period.setpoint
    };
    let Some(power) = told.and_then(watts) else {
        return false;
    };
    let life = schedule.duration.map(|d| TimeDelta::seconds(d.into()));
    state.dynamic = Some(Dynamic {
        id: profile.id,
        life,
        charging_only,
    });
    station.obey(&mut state, now, power, life.map(|l| now + l))
}

/// A new value for the installed profile; its life begins again.
fn renew(station: &Station, update: &UpdateDynamicScheduleRequest) -> bool {
    let (mut state, now) = station.look();
    let Some(dynamic) = state.dynamic.clone() else {
        return false;
    };
    if dynamic.id != update.charging_profile_id {
        return false;
    }
    let told = &update.schedule_update;
    let told = if dynamic.charging_only {
        told.limit
    } else {
        told.setpoint
    };
    let Some(power) = told.and_then(watts) else {
        return false;
    };
    station.obey(&mut state, now, power, dynamic.life.map(|l| now + l))
}
